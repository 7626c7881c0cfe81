//! The command line: what can be typed, and nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Does on this machine what was merged: takes orders from a Chiffon reconciler over a broker, and checks each in git.
#[derive(Debug, Parser)]
#[command(
    name = "chiffon-agent",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "Exit status: 0 done, 1 error, 2 wrong usage, 3 something needs a look.")]
pub struct Cli {
    /// The agent's folder [default: CHIFFON_AGENT_DIR, or ~/.chiffon-agent]
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print JSON with stable keys instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take an invitation: get a name, a key to believe and a place on the broker
    Enrol(Enrol),
    /// Take orders until told to stop
    Up,
    /// Check that everything the agent needs is there
    Doctor,
}

/// `chiffon-agent enrol`.
#[derive(Debug, Args)]
pub struct Enrol {
    /// Where the reconciler answers: https://HOST:PORT, or http:// on this machine
    pub url: String,
    /// The token that `chiffon agent invite` printed, or - to read it from stdin
    pub token: String,
    /// The requests repository, as this machine reaches it [default: what the reconciler says]
    #[arg(long, value_name = "PATH|URL")]
    pub requests: Option<String>,
    /// The infra repository, as this machine reaches it [default: what the reconciler says]
    #[arg(long, value_name = "PATH|URL")]
    pub infra: Option<String>,
    /// The certificate, in PEM, of the authority that signed the reconciler's [default: the system's authorities]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The ansible-playbook to run [default: the first on PATH]
    #[arg(long, value_name = "PATH")]
    pub ansible_playbook: Option<PathBuf>,
    /// A file with the vault password
    #[arg(long, value_name = "PATH")]
    pub vault_password_file: Option<PathBuf>,
}
