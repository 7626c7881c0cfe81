//! The `chiffon` command.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let environment = chiffon::Environment::read();
    let cli = chiffon::Cli::parse();
    chiffon::run(cli, environment)
}
