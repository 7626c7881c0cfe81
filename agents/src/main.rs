//! The `chiffon-agent` command: an agent in a process of its own, that takes orders over a broker and trusts git alone.

mod cli;
mod doctor;
mod enrol;
mod environment;
mod fetching;
mod home;
mod output;
mod redeeming;
mod up;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{Cli, Command};
use environment::Environment;
use home::Home;
use output::Output;

fn main() -> ExitCode {
    let environment = Environment::read();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && std::env::args().any(|argument| argument == "--json") => {
            let text = error.render().to_string();
            Output::new(true).failure(text.strip_prefix("error: ").unwrap_or(&text).trim_end());
            return ExitCode::from(2);
        }
        Err(error) => error.exit(),
    };
    let output = Output::new(cli.json);
    log_to_stderr(&environment);
    match run(cli, &environment, &output) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            output.failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs one command; `false` where something needs a person's look.
fn run(cli: Cli, environment: &Environment, output: &Output) -> Result<bool> {
    let home = Home::at(cli.dir.as_deref(), environment)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        match cli.command {
            Command::Enrol(args) => enrol::run(&args, cli.dir.as_deref(), &home, environment, output).await,
            Command::Up => up::run(&home, environment, output).await,
            Command::Doctor => doctor::run(&home, environment, output).await,
        }
    })
}

/// What the process's own log says unless asked. What lapin finds wrong with a line we say ourselves, in words.
const LOG_FILTER: &str = "warn,lapin=off";

/// The process's own log goes to stderr.
fn log_to_stderr(environment: &Environment) {
    let filter = environment.log.as_deref().unwrap_or(LOG_FILTER);
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOG_FILTER));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
