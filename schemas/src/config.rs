//! The configuration, `chiffon.yaml`: what Chiffon watches, what it runs, and what the owner allows.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiVersion, Host, Name, RepoPath, RiskLevel};

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
    /// The agent inside this process, where no bus is named.
    #[serde(default)]
    pub agent: AgentSpec,
    /// How agents in other processes are reached.
    #[serde(default, skip_serializing_if = "BusSpec::is_embedded")]
    pub bus: BusSpec,
    /// The forge that the requests repository lives on; `requests` is a copy then, which Chiffon makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forge: Option<ForgeSpec>,
    /// Where records are kept.
    #[serde(default)]
    pub store: StoreSpec,
    /// What is answered over HTTP; nothing where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<WebSpec>,
    /// Where spans of runs go; nowhere unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces: Option<TracesSpec>,
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

/// How agents are reached: inside this process, unless a RabbitMQ broker is named.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BusSpec {
    /// A RabbitMQ broker; agents are processes of their own then, `chiffon-agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amqp: Option<AmqpSpec>,
    /// What agents are told when they enrol, where it differs from what this process uses.
    pub for_agents: ForAgentsSpec,
    /// The broker's management, for `chiffon broker` and `chiffon agent` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management: Option<ManagementSpec>,
}

impl BusSpec {
    /// Whether there is none but the one inside this process.
    pub fn is_embedded(&self) -> bool {
        self == &Self::default()
    }
}

/// Addresses as other machines use them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForAgentsSpec {
    /// The broker: `amqps://host:5671/vhost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amqp_url: Option<String>,
    /// The requests repository: an https or ssh address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_url: Option<String>,
    /// The infra repository, where `infra.url` is a path on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infra_url: Option<String>,
}

/// A RabbitMQ broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AmqpSpec {
    /// `amqps://user@host:5671/vhost`, without a password.
    pub url: String,
    /// A file that holds the password; relative to this file.
    pub password_file: PathBuf,
    /// A file with the certificate of the authority that the broker's is signed by; the system's count in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Takes a broker on another machine without TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_tls: bool,
}

/// The management of a RabbitMQ broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManagementSpec {
    /// `https://user@host:15671`, without a password; a user with the tag `administrator`.
    pub url: String,
    /// A file that holds the password; relative to this file. Only who sets up the broker or agents has to read it.
    pub password_file: PathBuf,
    /// A file with the certificate of the authority that the broker's is signed by; the system's count in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Takes a broker on another machine without TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_tls: bool,
}

/// A forge, where plans are pull requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgeSpec {
    /// Which kind.
    pub kind: ForgeKind,
    /// Where it is: `https://git.example`. GitHub's own where absent; of an Enterprise Server the address of its API,
    /// `https://host/api/v3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The requests repository there: `owner/name`.
    pub repository: String,
    /// How git reaches it, where that is not `url` and the repository's name: an https or ssh address, or a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_url: Option<String>,
    /// A file that holds the token of an account of Chiffon's own; relative to this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// A GitHub App in place of an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppSpec>,
    /// A file with the secret that webhooks are signed with; without it none are taken, and polling is all there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret_file: Option<PathBuf>,
    /// A file with the certificate of the authority that the forge's is signed by; the system's count in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Takes a forge on another machine without TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_tls: bool,
}

/// A GitHub App that is installed on the requests repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppSpec {
    /// Its number, from its page.
    pub id: u64,
    /// A file that holds its private key, as GitHub gives it; relative to the configuration.
    pub key_file: PathBuf,
}

/// The kinds of forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForgeKind {
    /// Gitea.
    Gitea,
    /// Forgejo, which speaks as Gitea does.
    Forgejo,
    /// GitHub, or GitHub Enterprise Server.
    GitHub,
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

/// What is answered over HTTP: health, metrics, and agents that enrol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebSpec {
    /// The address to listen on, like `127.0.0.1:7440`. One that other machines reach needs `tls`.
    pub listen: String,
    /// How others reach it, like `https://chiffon.lan:7440`, where that is not `listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Names by which others reach it beside the one in `url`; `localhost` and addresses need none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The certificate that it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Who may ask for something over HTTP: `chiffon token` makes an entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenSpec>,
}

/// A token by which a person asks over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// The person's name, as commits have it.
    pub name: String,
    /// The person's address, as commits have it.
    pub email: String,
    /// The token's SHA-256 in lower-case hexadecimal; the token itself is written nowhere.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
}

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// `POST /api/v1/chat`: requests, answers, changes, and how they stand.
    Chat,
}

impl Scope {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
        }
    }
}

/// Where spans of runs go: a collector of OpenTelemetry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TracesSpec {
    /// Its address for OTLP over HTTP, like `http://127.0.0.1:4318`.
    pub otlp_url: String,
    /// A file with the certificate of the authority that the collector's is signed by; the system's count in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Takes a collector on another machine without TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_tls: bool,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSpec {
    /// The certificate and those that lead to its authority, in PEM; relative to this file.
    pub cert_file: PathBuf,
    /// Its key, in PEM; relative to this file.
    pub key_file: PathBuf,
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
    /// Seconds without a word from an agent, after which what it was granted is lost.
    #[schemars(range(min = 5, max = 3600))]
    pub agent_silence_secs: u32,
    /// Days until an offer expires.
    #[schemars(range(min = 1, max = 365))]
    pub offer_days: u32,
    /// Who may approve which plans, on a forge: every rule that is for a plan has to be kept. Where none is, anybody with
    /// write access is enough, but never the account of Chiffon itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approval: Vec<ApprovalSpec>,
    /// Lets plans in mode `check` begin without anybody's approval, but for those of which something may run for real and
    /// those that a person edited. An agent on another machine has to allow it as well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exempt_check_runs: bool,
    /// Takes only merges that are signed by a key of this file, in the form of git's `gpg.ssh.allowedSignersFile`;
    /// relative to this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_signers_file: Option<PathBuf>,
}

/// Who may approve plans of a kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApprovalSpec {
    /// For plans of this risk or a higher one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<RiskLevel>,
    /// For plans that touch one of these hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Host>,
    /// For plans that touch one of these services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// The accounts that may; anybody with write access where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
    /// How many of them it takes, who merges included; 1 where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub count: Option<u8>,
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self {
            deny_hosts: Vec::new(),
            deny_playbooks: Vec::new(),
            max_hosts: 50,
            max_timeout_secs: 4 * 3_600,
            agent_silence_secs: 90,
            offer_days: 14,
            approval: Vec::new(),
            exempt_check_runs: false,
            allowed_signers_file: None,
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
