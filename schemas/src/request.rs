//! The request: a sentence that a person pushed to `requests/` on `main`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Host, Json, Mode};

/// The version that every document carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only version so far.
    #[default]
    #[serde(rename = "chiffon/v1")]
    V1,
}

/// The kind field of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RequestKind {
    /// `kind: Request`.
    #[default]
    Request,
}

/// A change that somebody wants, in words. Its name is its file name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// The version of this document: `chiffon/v1`.
    pub api_version: ApiVersion,
    /// The kind of this document: `Request`.
    pub kind: RequestKind,
    /// What is wanted.
    pub spec: RequestSpec,
}

/// What is wanted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestSpec {
    /// The sentence, in your own words.
    #[schemars(length(min = 1, max = 4000))]
    pub text: String,
    /// Sentences that amend the first, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub changes: Vec<String>,
    /// Hosts or groups of the inventory that the change is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub targets: Vec<Host>,
    /// Values for variables of the playbooks; they win over what the sentence says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, Json>,
    /// Answers to questions that Chiffon asked, by the question's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<String, String>,
    /// The service that the sentence is about, where words alone leave it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `check` runs the playbooks with `--check --diff`, to see what they would change; take it out to have it done.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
    /// From 1 to 5; 5 is the most urgent and runs first.
    #[serde(default = "default_priority", skip_serializing_if = "is_default_priority")]
    #[schemars(range(min = 1, max = 5))]
    pub priority: u8,
    /// The longest that any one step may take, in seconds; it only ever shortens the planner's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_secs: Option<u32>,
    /// Labels of your own; Chiffon carries them into the record and reads nothing from them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Fields of a request that are agreed but not built: using one is an error that says so, never ignored.
pub const NOT_BUILT_YET: [&str; 3] = ["schedule", "resources", "value"];

/// The priority of a request that names none.
pub const DEFAULT_PRIORITY: u8 = 3;

fn default_priority() -> u8 {
    DEFAULT_PRIORITY
}

fn is_default_priority(priority: &u8) -> bool {
    *priority == DEFAULT_PRIORITY
}

impl Request {
    /// A request that is only a sentence.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self {
            api_version: ApiVersion::V1,
            kind: RequestKind::Request,
            spec: RequestSpec { text: text.into(), priority: DEFAULT_PRIORITY, ..RequestSpec::default() },
        }
    }
}
