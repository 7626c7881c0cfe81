//! The plan: the approved part. Same snapshot, same bytes; its git object id is its identity.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiVersion, Host, Json, Name, Oid, RepoPath, Timestamp};

/// The kind field of a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlanKind {
    /// `kind: Plan`.
    #[default]
    Plan,
}

/// Ordered steps, with everything that they read pinned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// The version of this document: `chiffon/v1`.
    pub api_version: ApiVersion,
    /// The kind of this document: `Plan`.
    pub kind: PlanKind,
    /// Which plan this is.
    pub metadata: PlanMetadata,
    /// What it does.
    pub spec: PlanSpec,
}

/// Which plan this is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanMetadata {
    /// The request's name.
    pub name: Name,
    /// Offers of this request so far plus one: offered bytes are always new.
    #[schemars(range(min = 1))]
    pub revision: u32,
    /// The request that this plan answers.
    pub request: RequestRef,
    /// After this time the plan can't be approved any more.
    pub expires: Timestamp,
}

/// A request file, pinned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestRef {
    /// Its path on `main`.
    pub path: RepoPath,
    /// Its blob.
    pub oid: Oid,
}

/// What the plan does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanSpec {
    /// One line for people.
    #[schemars(length(max = 400))]
    pub summary: String,
    /// Who planned, and why this way.
    pub planner: PlannedBy,
    /// The infra repository, pinned.
    pub infra: InfraRef,
    /// The tools that the plan was made for.
    pub tools: Tools,
    /// Whether it is to change anything.
    pub mode: Mode,
    /// What the plan depends on: files as blobs, folders (ending in `/`) as trees, and paths that must stay
    /// absent. It is stale when one of these changes, and only then.
    pub reads: BTreeMap<RepoPath, Pin>,
    /// The steps, in an order that satisfies every `needs`.
    #[schemars(length(min = 1, max = 64))]
    pub steps: Vec<Step>,
    /// How dangerous it is, by rules.
    pub risk: Risk,
    /// What it touches.
    pub touches: Touches,
    /// How to undo it.
    pub undo: Undo,
    /// What the planner took for granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumptions: Vec<String>,
}

/// Who planned, and why this way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedBy {
    /// The kind of planner.
    pub kind: PlannerKind,
    /// Why this planner and this result, in words.
    pub reason: String,
    /// What it cost, in millionths of a US dollar.
    pub cost_microusd: u64,
    /// The plan that this one takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<Oid>,
}

/// The kinds of planner that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PlannerKind {
    /// Deterministic, from the catalogue alone; no model.
    Catalogue,
    /// A person edited the plan on its branch.
    Person,
    /// It takes back what an earlier plan did, with the playbook that that plan named.
    Undo,
}

/// The infra repository, pinned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InfraRef {
    /// Its name in `chiffon.yaml`.
    pub repository: Name,
    /// The commit whose checkout runs.
    pub commit: Oid,
    /// That commit's tree.
    pub tree: Oid,
    /// The inventory file or folder inside it.
    pub inventory: RepoPath,
}

/// The tools that the plan was made for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    /// Major and minor version of ansible-core: `2.19`.
    #[schemars(extend("pattern" = r"^[0-9]+\.[0-9]+$"))]
    pub ansible_core: String,
}

/// Whether a plan is to change anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is.
    #[default]
    Apply,
    /// It runs with `--check --diff`, to see what would be changed. Lookups, and tasks with `check_mode: false`, run for
    /// real all the same, so that it is an execution like any other (N4).
    Check,
}

impl Mode {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Check => "check",
        }
    }

    /// Whether it is the one that a request has which names none.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The rules for what may run for real in a check run as well: tasks that say so, what nobody could read, and code that
/// Ansible runs while it works out what a task would do.
const RUNS_IN_CHECKS: [&str; 4] = ["escapes-check-mode", "own-plugins", "unknown-include", "uses-lookups"];

impl Plan {
    /// Whether an owner may let it begin without anybody's approval: one in mode `check`, of which nothing may run for real,
    /// and that neither a person wrote on its branch, where nobody has to merge anything, nor takes something back.
    pub fn may_be_exempt(&self) -> bool {
        self.spec.mode == Mode::Check && self.spec.planner.kind == PlannerKind::Catalogue && !self.runs_in_check()
    }

    /// Whether something of it may run for real in a check run as well.
    pub fn runs_in_check(&self) -> bool {
        self.spec.risk.rules.iter().any(|rule| RUNS_IN_CHECKS.contains(&rule.as_str()))
    }
}

/// What a path of the infra repository must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^(absent|[0-9a-f]{40}|[0-9a-f]{64})$"))]
pub enum Pin {
    /// There must be nothing.
    Absent,
    /// This blob or tree.
    Object(Oid),
}

impl TryFrom<String> for Pin {
    type Error = crate::InvalidId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "absent" { Ok(Self::Absent) } else { Oid::parse(text).map(Self::Object) }
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> String {
        match pin {
            Pin::Absent => "absent".to_owned(),
            Pin::Object(oid) => oid.into(),
        }
    }
}

/// One playbook run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name inside the plan.
    pub id: Name,
    /// Steps that must have succeeded before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Name>,
    /// The kind of agent that does it.
    pub agent: AgentKind,
    /// The playbook's path in the infra repository.
    pub playbook: RepoPath,
    /// Tags to run; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The hosts, resolved: never empty, never a pattern, sorted.
    #[schemars(length(min = 1, max = 1024))]
    pub limit: Vec<Host>,
    /// Variables, as inert data.
    pub vars: BTreeMap<String, Json>,
    /// Where values of `vars` that nobody typed were found: variable → `file:line`, one for each item.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub found: BTreeMap<String, Vec<String>>,
    /// The longest it may take, in seconds.
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_secs: u32,
}

/// The kinds of agent that a step can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AgentKind {
    /// Runs Ansible playbooks.
    Infra,
}

/// How dangerous a plan is, by rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Risk {
    /// The highest level of all rules that apply.
    pub level: RiskLevel,
    /// The names of those rules, sorted.
    pub rules: Vec<String>,
}

/// Levels of risk, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RiskLevel {
    /// Nothing that a person would wish to have looked at twice.
    Low,
    /// A service may be interrupted, or something is exposed.
    Medium,
    /// Something may be lost or locked out, or can't be foreseen.
    High,
}

/// What a plan touches. Every list is sorted and without repeats.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Touches {
    /// Hosts that are changed, static `delegate_to` targets included; all of them are locked by the run.
    pub hosts: Vec<Host>,
    /// Services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Ports that may be opened: `nas01:3001/tcp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Names of secrets that the playbooks use; never values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

/// How to undo a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Undo {
    /// A playbook that removes what this one made.
    Playbook {
        /// Its path.
        playbook: RepoPath,
        /// Whether Chiffon has ever seen it succeed on these hosts.
        tested: bool,
    },
    /// There is no known way; the reason in words.
    None {
        /// Why not.
        reason: String,
    },
}
