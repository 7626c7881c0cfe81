//! The command line: what can be typed, and nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Turns a sentence into a reviewed, executed and remembered infrastructure change.
#[derive(Debug, Parser)]
#[command(
    name = "chiffon",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit status: 0 done or at rest, 1 error, 2 wrong usage, 3 something is blocked, refused, failed or lost."
)]
pub struct Cli {
    /// The folder that `chiffon init` made [default: found from here upwards, or CHIFFON_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print JSON with stable keys instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Colour the output
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: When,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a folder with a requests repository, hooks and configuration
    Init(Init),
    /// Watch the requests repository, and plan, run and record
    Up(Up),
    /// Ask for a change in words: commits and pushes a request
    Request(Request),
    /// Show where requests stand
    Status(Status),
    /// Show a plan as its reviewer sees it
    Plan(Plan),
    /// Merge a plan into main, as you
    Approve(Approve),
    /// Close an open offer
    Reject(Reject),
    /// Answer questions of a blocked request
    Answer(Answer),
    /// Show what a run printed
    Log(Log),
    /// Stop a run, and verify that it stopped
    Cancel(Named),
    /// Run the unfinished hosts of a failed run again, under the same plan
    Retry(Named),
    /// Offer a plan that takes back what the last run did
    Undo(Named),
    /// Hold a request back for a while
    Pause(Pause),
    /// End a pause
    Resume(Named),
    /// Free the lock that a lost attempt holds on a host
    Unlock(Unlock),
    /// Say how a lost run ended, after looking at the host
    Resolve(Resolve),
    /// Check request and plan files
    Validate(Validate),
    /// Check that everything Chiffon needs is there
    Doctor(Doctor),
    /// Make a repository on a forge ready: labels, webhook, and the rule of main
    Forge(Forge),
    /// List what was decided and done
    Audit(Audit),
    /// List messages of the bus that nobody could use
    Parked(Parked),
    /// Make a token by which a person asks over HTTP
    Token(Token),
    /// Make a place for Chiffon on a RabbitMQ broker
    Broker(Broker),
    /// Invite agents to the broker, list them, and send them away
    Agent(Agent),
    /// Called by git hooks
    #[command(hide = true)]
    Hook(Hook),
}

/// `chiffon init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The folder to make
    pub folder: PathBuf,
    /// Your Ansible repository: a path or an address
    #[arg(long, value_name = "PATH|URL")]
    pub infra: String,
    /// The inventory inside it [default: the one it has]
    #[arg(long, value_name = "PATH")]
    pub inventory: Option<String>,
    /// The branch of it that counts [default: the one that it has checked out]
    #[arg(long, value_name = "BRANCH")]
    pub branch: Option<String>,
    /// The ansible-playbook to run [default: the first on PATH]
    #[arg(long, value_name = "PATH")]
    pub ansible_playbook: Option<PathBuf>,
    /// A file with the vault password, for the agent alone
    #[arg(long, value_name = "PATH")]
    pub vault_password_file: Option<PathBuf>,
}

/// `chiffon up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Do all that can be done now, wait for the runs that were started, and exit
    #[arg(long)]
    pub once: bool,
    /// Say only what needs attention
    #[arg(long, short)]
    pub quiet: bool,
}

/// `chiffon doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Try out on the forge that Chiffon's account can't merge: opens a pull request and closes it again
    #[arg(long)]
    pub prove: bool,
}

/// `chiffon forge`.
#[derive(Debug, Args)]
pub struct Forge {
    /// What to do
    #[command(subcommand)]
    pub what: ForgeCommand,
}

/// What to do with the forge.
#[derive(Debug, Subcommand)]
pub enum ForgeCommand {
    /// Make labels, the webhook and the rule of main, and prove them; harmless where they are there
    Setup(ForgeSetup),
}

/// `chiffon forge setup`.
#[derive(Debug, Args)]
pub struct ForgeSetup {
    /// A file with the token of somebody who administers the repository [default: CHIFFON_FORGE_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Where the forge reaches Chiffon's webhook [default: made from `web.url`]
    #[arg(long, value_name = "URL")]
    pub hook: Option<String>,
    /// Leave the rules of main as they are
    #[arg(long)]
    pub no_rule: bool,
}

/// `chiffon parked`.
#[derive(Debug, Args)]
pub struct Parked {
    /// Forget them, once they were shown
    #[arg(long)]
    pub forget: bool,
}

/// `chiffon token`.
#[derive(Debug, Args)]
pub struct Token {
    /// The person's name, as commits are to have it
    pub name: String,
    /// The person's address, as commits are to have it
    #[arg(long, value_name = "ADDRESS")]
    pub email: String,
}

/// `chiffon request`.
#[derive(Debug, Args)]
pub struct Request {
    /// What you want, in your own words
    pub text: String,
    /// The request's name [default: made from the words]
    #[arg(long)]
    pub name: Option<String>,
    /// A host or group that it is for; may be given several times
    #[arg(long = "target", value_name = "HOST|GROUP")]
    pub targets: Vec<String>,
    /// A variable; may be given several times
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub vars: Vec<String>,
    /// Only see what it would change: a check run, by which nothing is done
    #[arg(long)]
    pub check: bool,
    /// Wait for the plan and show it
    #[arg(long)]
    pub wait: bool,
}

/// `chiffon status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Only this request, with details
    pub name: Option<String>,
    /// Archived ones too
    #[arg(long)]
    pub all: bool,
}

/// `chiffon plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// The request
    pub name: String,
    /// Show the YAML that would run instead of its rendering
    #[arg(long)]
    pub yaml: bool,
    /// Have another plan made
    #[arg(long, conflicts_with = "yaml")]
    pub again: bool,
}

/// A command that only takes a name.
#[derive(Debug, Args)]
pub struct Named {
    /// The request
    pub name: String,
}

/// `chiffon approve`.
#[derive(Debug, Args)]
pub struct Approve {
    /// The request
    pub name: String,
    /// A file with your own token of the forge, which merges the pull request as you [default: CHIFFON_FORGE_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// `chiffon reject`.
#[derive(Debug, Args)]
pub struct Reject {
    /// The request
    pub name: String,
    /// Why; it is recorded
    #[arg(long)]
    pub reason: String,
}

/// `chiffon answer`.
#[derive(Debug, Args)]
pub struct Answer {
    /// The request
    pub name: String,
    /// Answers, as ID=VALUE; with none, the questions are shown
    #[arg(value_name = "ID=VALUE")]
    pub answers: Vec<String>,
}

/// `chiffon log`.
#[derive(Debug, Args)]
pub struct Log {
    /// The request
    pub name: String,
    /// Wait for more until the run is over
    #[arg(long, short)]
    pub follow: bool,
}

/// `chiffon pause`.
#[derive(Debug, Args)]
pub struct Pause {
    /// The request
    pub name: String,
    /// Why; it is shown to everybody who asks
    #[arg(long)]
    pub reason: String,
    /// Until when: 2026-12-06T09:00:00Z, or 30m, 12h, 3d from now
    #[arg(long, value_name = "TIME")]
    pub until: String,
}

/// `chiffon unlock`.
#[derive(Debug, Args)]
pub struct Unlock {
    /// The host
    pub host: String,
}

/// `chiffon resolve`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("how").required(true))]
pub struct Resolve {
    /// The request
    pub name: String,
    /// The work is done
    #[arg(long, group = "how")]
    pub succeeded: bool,
    /// It is not, and stays so
    #[arg(long, group = "how")]
    pub failed: bool,
    /// It is not; run it again
    #[arg(long, group = "how")]
    pub retry: bool,
}

/// `chiffon validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// Files to check
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `chiffon audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// Only what touched this service
    #[arg(long)]
    pub service: Option<String>,
    /// Only what touched this host
    #[arg(long)]
    pub host: Option<String>,
    /// Only runs that ended so: succeeded, failed, cancelled or lost
    #[arg(long)]
    pub status: Option<String>,
    /// Only since: 2026-12-06T09:00:00Z, or 12h, 7d ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
}

/// `chiffon broker`.
#[derive(Debug, Args)]
pub struct Broker {
    /// What to do
    #[command(subcommand)]
    pub what: BrokerCommand,
}

/// What to do with the broker.
#[derive(Debug, Subcommand)]
pub enum BrokerCommand {
    /// Make the virtual host and the reconciler's user with their permissions; harmless where they are there
    Setup,
}

/// `chiffon agent`.
#[derive(Debug, Args)]
pub struct Agent {
    /// What to do
    #[command(subcommand)]
    pub what: AgentCommand,
}

/// What to do with agents.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Make a place for an agent, and print the token that it enrols with
    Invite(Invite),
    /// List agents: their places, and when they were heard
    List,
    /// Give an agent new credentials; the old ones end at once, and it enrols again
    Rotate(Invite),
    /// Send an agent away: its credentials end at once
    Revoke(OfAgent),
}

/// `chiffon agent invite` and `chiffon agent rotate`.
#[derive(Debug, Args)]
pub struct Invite {
    /// The agent
    pub name: String,
    /// How long the token can be used
    #[arg(long, value_name = "SPAN", default_value = "1d")]
    pub valid: String,
}

/// A command that only takes an agent's name.
#[derive(Debug, Args)]
pub struct OfAgent {
    /// The agent
    pub name: String,
}

/// `chiffon hook`.
#[derive(Debug, Args)]
pub struct Hook {
    /// Which hook
    #[command(subcommand)]
    pub which: WhichHook,
}

/// Which hook.
#[derive(Debug, Subcommand)]
pub enum WhichHook {
    /// Refuses what must not be pushed
    PreReceive,
}
