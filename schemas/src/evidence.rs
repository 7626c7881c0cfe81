//! Evidence and forecast: what can be foreseen about a plan. Not part of the plan, since it depends on history.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiVersion, Host, Oid};

/// The kind field of evidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EvidenceKind {
    /// `kind: Evidence`.
    #[default]
    Evidence,
}

/// What is foreseen of one plan; renewed without touching the plan or its approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evidence {
    /// The version of this document: `chiffon/v1`.
    pub api_version: ApiVersion,
    /// The kind of this document: `Evidence`.
    pub kind: EvidenceKind,
    /// What is foreseen.
    pub spec: EvidenceSpec,
}

/// What is foreseen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceSpec {
    /// The plan's blob.
    pub plan: Oid,
    /// How it was gained.
    pub mode: EvidenceMode,
    /// Host → what is foreseen there.
    pub hosts: BTreeMap<Host, HostEvidence>,
    /// Tasks that reading alone cannot foresee, in the order of the playbooks.
    pub opaque: Vec<OpaqueTask>,
    /// What earlier runs of the same steps say; absent where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
}

/// How evidence was gained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EvidenceMode {
    /// By reading the playbooks.
    Static,
}

/// What is foreseen on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostEvidence {
    /// Tasks that may run there.
    pub tasks: u32,
    /// Those of them whose effect check mode could foresee.
    pub foreseen: u32,
}

/// A task that reading alone cannot foresee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpaqueTask {
    /// Role and name, as Ansible prints it: `uptime_kuma : register portals`.
    pub task: String,
    /// Why: the module, or what it waits for.
    pub why: String,
}

/// What earlier runs say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forecast {
    /// Median seconds.
    pub secs_p50: u32,
    /// Seconds that nine of ten runs stayed under.
    pub secs_p90: u32,
    /// Failed runs of all runs, 0 to 1.
    pub failure_rate: f64,
    /// How many runs this rests on.
    pub runs: u32,
}
