//! The configuration of an agent in a process of its own, `agent.yaml`: who it is, what it believes, and how it works.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AmqpSpec, AnsibleSpec, ApiVersion, Name, TracesSpec};

/// The kind field of an agent's configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AgentFileKind {
    /// `kind: Agent`.
    #[default]
    Agent,
}

/// The configuration file of an agent. `chiffon-agent enrol` writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentFile {
    /// The version of this document: `chiffon/v1`.
    pub api_version: ApiVersion,
    /// The kind of this document: `Agent`.
    pub kind: AgentFileKind,
    /// The settings.
    pub spec: AgentFileSpec,
}

/// The settings of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentFileSpec {
    /// Its name in records and on the broker.
    pub name: Name,
    /// The broker.
    pub amqp: AmqpSpec,
    /// What the reconciler's signatures are verified with: an Ed25519 key, 32 bytes in base64. Nothing else is believed.
    pub reconciler_key: String,
    /// The requests repository, which this agent reads for itself.
    pub requests: MirrorSpec,
    /// The infra repository, which this agent reads for itself.
    pub infra: MirrorSpec,
    /// How playbooks are run.
    #[serde(default)]
    pub ansible: AnsibleSpec,
    /// Takes plans in mode `check` that nobody merged, where the reconciler's own policy exempts them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exempt_check_runs: bool,
    /// Where spans of runs go; nowhere unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces: Option<TracesSpec>,
    /// Seconds between two signs of life; the reconciler's `agent_silence_secs` is several times that.
    #[serde(default = "default_heartbeat")]
    #[schemars(range(min = 1, max = 30))]
    pub heartbeat_secs: u32,
    /// Playbooks that it runs at a time.
    #[serde(default = "default_parallel")]
    #[schemars(range(min = 1, max = 64))]
    pub parallel: u32,
}

/// A repository that an agent keeps a copy of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorSpec {
    /// A path on this machine, or an https or ssh address.
    pub url: String,
    /// The branch whose content counts.
    #[serde(default = "default_branch")]
    pub branch: String,
}

/// What an agent gets when it enrols. Travels sealed, with the key of the invitation's token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Its name.
    pub agent: Name,
    /// The broker, with the agent's own user and without its password.
    pub amqp_url: String,
    /// The password of that user.
    pub password: String,
    /// The certificate, in PEM, of the authority that the broker's is signed by; the system's count in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// A person said that the line to the broker need not be safe.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_tls: bool,
    /// What the reconciler's signatures are verified with: an Ed25519 key, 32 bytes in base64.
    pub reconciler_key: String,
    /// The requests repository's address, where agents are to use one that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<String>,
    /// Where the infra repository is found.
    pub infra: InfraSource,
}

/// Where an infra repository is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InfraSource {
    /// Its address, where it is one that other machines can use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The branch whose content counts.
    pub branch: String,
}

fn default_branch() -> String {
    "main".to_owned()
}

fn default_heartbeat() -> u32 {
    10
}

fn default_parallel() -> u32 {
    2
}
