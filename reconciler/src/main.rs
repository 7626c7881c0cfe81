//! The `chiffon` command.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let environment = chiffon::Environment::read();
    match chiffon::Cli::try_parse() {
        Ok(cli) => chiffon::run(cli, environment),
        Err(error) if error.use_stderr() && std::env::args().any(|argument| argument == "--json") => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            chiffon::wrong_usage(text)
        }
        Err(error) => error.exit(),
    }
}
