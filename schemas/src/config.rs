//! The configuration, `chiffon.yaml`: what Chiffon watches, what it runs, and what the owner allows.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiVersion, Host, Name, RepoPath};

/// The kind field of the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConfigKind {
    /// `kind: Config`.
    #[default]
    Config,
}

/// The configuration file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigFile {
    /// The version of this document: `chiffon/v1`.
    pub api_version: ApiVersion,
    /// The kind of this document: `Config`.
    pub kind: ConfigKind,
    /// The settings.
    pub spec: ConfigSpec,
}

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigSpec {
    /// The name of the requests repository in records.
    #[serde(default = "default_name")]
    pub name: Name,
    /// The bare requests repository; relative to this file.
    #[serde(default = "default_requests")]
    pub requests: PathBuf,
    /// The infra repository that plans are made for.
    pub infra: InfraSpec,
    /// How playbooks are run.
    #[serde(default)]
    pub ansible: AnsibleSpec,
    /// The agent inside this process.
    #[serde(default)]
    pub agent: AgentSpec,
    /// Where records are kept.
    #[serde(default)]
    pub store: StoreSpec,
    /// Seconds between two looks at everything, beside every wake-up.
    #[serde(default = "default_poll")]
    #[schemars(range(min = 1, max = 3600))]
    pub poll_secs: u32,
    /// What the owner allows.
    #[serde(default)]
    pub policy: PolicySpec,
}

/// The infra repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InfraSpec {
    /// Its name in plans.
    pub name: Name,
    /// A path on this machine, or an https or ssh address.
    pub url: String,
    /// The branch whose content counts.
    #[serde(default = "default_branch")]
    pub branch: String,
    /// The inventory inside it, a file or a folder (which ends in `/`).
    pub inventory: RepoPath,
}

/// How playbooks are run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnsibleSpec {
    /// The `ansible-playbook` to run; the first on `PATH` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playbook: Option<PathBuf>,
    /// A file that holds the vault password; relative to this file. Read by the agent alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_password_file: Option<PathBuf>,
    /// The ssh agent's socket that playbooks may use; none where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_auth_sock: Option<PathBuf>,
}

/// The agent inside this process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// Its name in records.
    #[serde(default = "default_agent")]
    pub name: Name,
    /// Playbooks that it runs at a time.
    #[serde(default = "default_parallel")]
    #[schemars(range(min = 1, max = 64))]
    pub parallel: u32,
}

impl Default for AgentSpec {
    fn default() -> Self {
        Self { name: default_agent(), parallel: default_parallel() }
    }
}

/// Where records are kept: a SQLite file in the state folder, unless a PostgreSQL database is named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSpec {
    /// A PostgreSQL database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresSpec>,
    /// Days for which the text of logs is kept; results and events are kept for ever.
    #[schemars(range(min = 1, max = 36500))]
    pub log_days: u32,
}

impl Default for StoreSpec {
    fn default() -> Self {
        Self { postgres: None, log_days: 90 }
    }
}

/// A PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresSpec {
    /// `postgres://user@host:5432/database`, without a password.
    pub url: String,
    /// A file that holds the password; relative to this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// A file with the certificate of the authority that the server's is signed by; the system's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Takes a server on another machine without TLS, or with a certificate that nobody vouches for.
    #[serde(default)]
    pub insecure_tls: bool,
}

/// What the owner allows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySpec {
    /// Hosts that no plan may touch.
    pub deny_hosts: Vec<Host>,
    /// Playbooks that no plan may run.
    pub deny_playbooks: Vec<RepoPath>,
    /// The most hosts that one plan may touch.
    #[schemars(range(min = 1))]
    pub max_hosts: usize,
    /// The longest that one step may take, in seconds.
    #[schemars(range(min = 1, max = 86400))]
    pub max_timeout_secs: u32,
    /// Days until an offer expires.
    #[schemars(range(min = 1, max = 365))]
    pub offer_days: u32,
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self {
            deny_hosts: Vec::new(),
            deny_playbooks: Vec::new(),
            max_hosts: 50,
            max_timeout_secs: 4 * 3_600,
            offer_days: 14,
        }
    }
}

fn default_name() -> Name {
    Name::parse("requests").expect("a constant name")
}

fn default_requests() -> PathBuf {
    PathBuf::from("requests.git")
}

fn default_branch() -> String {
    "main".to_owned()
}

fn default_agent() -> Name {
    Name::parse("local").expect("a constant name")
}

fn default_parallel() -> u32 {
    2
}

fn default_poll() -> u32 {
    30
}
