//! The `chiffon` command: configuration, driver loop, outbox relay, lifecycle and command line.

mod amend;
mod bus;
mod cli;
mod commands;
mod config;
mod driver;
mod environment;
mod events;
mod forge;
mod home;
mod mirror;
mod output;
mod proof;
mod store;
mod up;

use std::process::ExitCode;

pub use cli::Cli;
pub use environment::Environment;

use output::Output;

/// Runs one command and says how it ended, for `main`.
pub fn run(cli: Cli, environment: Environment) -> ExitCode {
    let output = Output::new(cli.json, cli.color, &environment);
    log_to_stderr(&environment);
    match commands::dispatch(cli, environment, &output) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            output.error(&error);
            ExitCode::from(commands::Exit::Error.code())
        }
    }
}

/// Says as JSON what is wrong with a command line: exit status 2, as clap has it.
pub fn wrong_usage(text: &str) -> ExitCode {
    let value = serde_json::json!({ "error": text, "causes": [] });
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{value}\n").as_bytes());
    ExitCode::from(2)
}

/// What the process's own log says unless asked. What lapin finds wrong with a line we say ourselves, in words.
const LOG_FILTER: &str = "warn,lapin=off";

/// The process's own log goes to stderr.
fn log_to_stderr(environment: &Environment) {
    let filter = environment.log.as_deref().unwrap_or(LOG_FILTER);
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOG_FILTER));
    // A second call in one process (tests) keeps the first log.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}
