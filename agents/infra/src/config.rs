//! What the operator of an infra agent sets.

use std::path::PathBuf;
use std::time::Duration;

/// The settings of an infra agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsibleConfig {
    /// The program `ansible-playbook`, as an absolute path.
    pub ansible_playbook: PathBuf,
    /// The requests repository, bare; the agent reads it, and fetches nothing into it.
    pub requests_repo: PathBuf,
    /// The branch whose commits approve: `main`.
    pub main_branch: String,
    /// The infra repository or the agent's own mirror of it.
    pub infra_repo: PathBuf,
    /// The branch of it that plans are made for.
    pub infra_branch: String,
    /// Takes plans in mode `check` that nobody merged, from the audit branch of the requests repository.
    pub exempt_check_runs: bool,
    /// The file that holds the vault password; a plain file, never a program.
    pub vault_password_file: Option<PathBuf>,
    /// The socket of an ssh agent that ssh may ask; without one it has only the keys of the account.
    pub ssh_auth_sock: Option<PathBuf>,
    /// A folder for what the agent remembers about the program: its version.
    pub state_folder: PathBuf,
    /// The most bytes of log that one attempt may send; what exceeds it is cut out before the end, with a mark.
    pub log_cap_bytes: u64,
    /// How long the processes of an attempt may take to end themselves before they are killed.
    pub grace: Duration,
}

impl AnsibleConfig {
    /// The default of `log_cap_bytes`: 64 MiB, about six hundred thousand lines.
    pub const LOG_CAP_BYTES: u64 = 64 * 1024 * 1024;

    /// The default of `grace`: ansible-playbook ends its workers in well under this.
    pub const GRACE: Duration = Duration::from_secs(5);
}
