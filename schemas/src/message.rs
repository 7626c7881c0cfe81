//! The messages between reconciler and agents: claim → grant → run → report.
//!
//! The store is the only authority; the bus carries hints and bytes. Any message may arrive twice, late, or not
//! at all, and every receiver is written for that. What goes to an agent is signed by the reconciler (S12).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AgentKind, BootId, Fence, Host, InfraRef, InvalidId, Mode, Name, Oid, Outcome, RepoPath, RunId, Step, Timestamp,
};

/// Which attempt: (plan object id, mode, step, attempt) is the idempotency key, the run is where it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttemptKey {
    /// The run.
    pub run: RunId,
    /// The plan's blob.
    pub plan: Oid,
    /// The mode.
    pub mode: Mode,
    /// The step.
    pub step: Name,
    /// The attempt's number, from 1.
    pub attempt: u32,
}

impl std::fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.run, self.step, self.attempt)
    }
}

/// From the reconciler to one agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToAgent {
    /// Work to claim; never to start.
    Order(Box<Order>),
    /// The claim is granted: start.
    Grant(Grant),
    /// The claim is not granted: forget the order.
    Refuse {
        /// The attempt.
        key: AttemptKey,
        /// Why, for the agent's log.
        reason: String,
    },
    /// Stop this attempt, verify, and report.
    Cancel {
        /// The attempt.
        key: AttemptKey,
    },
    /// The reconciler does not know this life of the agent: say hello again.
    Introduce {},
    /// Reports up to and including this sequence number are stored.
    Stored {
        /// The attempt.
        key: AttemptKey,
        /// The sequence number.
        seq: u64,
    },
}

impl ToAgent {
    /// The attempt that it is about, where it is about one.
    pub fn key(&self) -> Option<&AttemptKey> {
        match self {
            Self::Order(order) => Some(&order.key),
            Self::Grant(grant) => Some(&grant.key),
            Self::Refuse { key, .. } | Self::Cancel { key } | Self::Stored { key, .. } => Some(key),
            Self::Introduce {} => None,
        }
    }
}

/// Work to claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Which attempt.
    pub key: AttemptKey,
    /// The commit of `main` that approved; the agent refuses unless it is `main` or an ancestor of it and holds
    /// the plan's blob at `plan_path`. In mode `check` it may be a commit of `chiffon/audit`, where the agent's own
    /// configuration allows that.
    pub approved_by: Oid,
    /// Where the plan lies in that commit.
    pub plan_path: RepoPath,
    /// The infra repository, pinned; must equal the plan's.
    pub infra: InfraRef,
    /// The step, as in the plan, except that `limit` holds only the hosts that are unfinished.
    pub step: Step,
}

impl Order {
    /// SHA-256 over the order as it travels, in lower-case hexadecimal: what a grant names.
    pub fn digest(&self) -> String {
        let message = ToAgent::Order(Box::new(self.clone()));
        crate::digest(&serde_json::to_vec(&message).expect("an order is plain data"))
    }
}

/// Leave to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Which attempt.
    pub key: AttemptKey,
    /// The life of the agent that claimed; another life must not use it.
    pub boot: BootId,
    /// The fence that every report must carry.
    pub fence: Fence,
    /// SHA-256 over the text of the order's message, as it was signed, in lower-case hexadecimal.
    pub order: String,
    /// When it was granted, by the store's clock.
    pub at: Timestamp,
}

/// From an agent to the reconciler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FromAgent {
    /// Who says it.
    pub agent: Name,
    /// Which life of it.
    pub boot: BootId,
    /// What it says.
    pub message: AgentMessage,
}

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AgentMessage {
    /// It started, its journal is settled, and this is what it can do.
    Hello(Hello),
    /// It lives.
    Heartbeat {},
    /// It has the order in its journal and asks for the grant.
    Claim {
        /// The attempt.
        key: AttemptKey,
    },
    /// It will not do this order; the reconciler decides what follows.
    Decline {
        /// The attempt.
        key: AttemptKey,
        /// Why, in words: a refused check of git, say.
        reason: String,
        /// The fence of the grant that is declined, where it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fence: Option<Fence>,
    },
    /// A task ended on a host. For those who watch: never numbered, stored or sent again, and never part of a verdict.
    Progress {
        /// The attempt.
        key: AttemptKey,
        /// The host.
        host: Host,
        /// The task.
        task: String,
        /// ok, changed, failed, skipped, unreachable.
        status: String,
    },
    /// Something about a granted attempt.
    Report(Report),
}

impl AgentMessage {
    /// The attempt that it is about, where it is about one.
    pub fn key(&self) -> Option<&AttemptKey> {
        match self {
            Self::Claim { key } | Self::Decline { key, .. } | Self::Progress { key, .. } => Some(key),
            Self::Report(report) => Some(&report.key),
            Self::Hello(_) | Self::Heartbeat {} => None,
        }
    }
}

/// What an agent can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Its kind.
    pub kind: AgentKind,
    /// The full version of ansible-core that it would run; absent where none was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ansible_core: Option<String>,
    /// What its journal says of attempts that no life of it brought to an end: those that it was ordered or claimed, with
    /// no fence; those that it was granted; and those that had started, which this life ends as lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<Settled>,
    /// Attempts of earlier lives whose ends are in the journal: this life reports them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Unreported>,
}

/// What a returning agent's journal says of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// The attempt.
    pub key: AttemptKey,
    /// The grant's fence, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// Whether the journal says that it started. `false` proves that nothing ran.
    pub started: bool,
    /// Whether the sweep found no process of it alive.
    pub clean: bool,
}

/// An attempt whose end is in the agent's journal and was not stored yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unreported {
    /// The attempt.
    pub key: AttemptKey,
    /// The grant's fence.
    pub fence: Fence,
}

/// Something about a granted attempt. Replayed until `Stored` confirms its sequence number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The attempt.
    pub key: AttemptKey,
    /// The grant's fence.
    pub fence: Fence,
    /// Rises by one from 1 within (key, fence); the receiver drops repeats and asks for nothing: gaps are replayed.
    pub seq: u64,
    /// What happened.
    pub body: ReportBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ReportBody {
    /// The journal says `started`; the process follows.
    Started {},
    /// A piece of the log, secrets removed, whole UTF-8; chunks are numbered from 0 without gaps.
    Log {
        /// The chunk's number.
        chunk: u64,
        /// Its text.
        text: String,
    },
    /// It is over; the last report of an attempt.
    Over(Box<Outcome>),
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From an agent to the reconciler.
    FromAgent,
    /// From the reconciler to an agent.
    ToAgent,
}

impl Direction {
    /// `from-agent` or `to-agent`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FromAgent => "from-agent",
            Self::ToAgent => "to-agent",
        }
    }

    /// Reads what [`Direction::as_str`] gave.
    ///
    /// # Errors
    /// It is no direction.
    pub fn parse(text: impl AsRef<str>) -> Result<Self, InvalidId> {
        match text.as_ref() {
            "from-agent" => Ok(Self::FromAgent),
            "to-agent" => Ok(Self::ToAgent),
            other => Err(InvalidId { text: other.to_owned(), what: "a direction", rule: "`from-agent` or `to-agent`" }),
        }
    }
}
