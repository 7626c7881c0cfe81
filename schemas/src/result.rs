//! The result: what a run did, written to `results/` on the audit branch, never rewritten.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ApiVersion, AttemptState, Fence, Host, Mode, Name, Oid, RepoPath, RunId, Timestamp};

/// The kind field of a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResultKind {
    /// `kind: Result`.
    #[default]
    Result,
}

/// What one round of a run's attempts did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunResult {
    /// The version of this document: `chiffon/v1`.
    pub api_version: ApiVersion,
    /// The kind of this document: `Result`.
    pub kind: ResultKind,
    /// What happened.
    pub spec: RunResultSpec,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunResultSpec {
    /// The request's name.
    pub request: Name,
    /// The plan's blob.
    pub plan: Oid,
    /// The run.
    pub run: RunId,
    /// Whether it was to change anything; of a `check` run, what it says was changed would have been.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
    /// The final state.
    pub state: RunState,
    /// Who approved, and how that is known.
    pub approval: ApprovalRecord,
    /// When the run's first attempt was granted; absent where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it became final.
    pub finished: Timestamp,
    /// Each step with its attempts, in the plan's order.
    pub steps: Vec<StepResult>,
    /// Why it failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What would make the next run better.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suggestions: Vec<String>,
}

/// The states in which a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Every step succeeded.
    Succeeded,
    /// A step failed.
    Failed,
    /// A person stopped it, and that it stopped was verified.
    Cancelled,
    /// The agent vanished in mid-step, or a process could not be seen to end.
    Lost,
}

impl RunState {
    /// The word for people and for trailers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }
}

/// Who approved, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRecord {
    /// The commit of `main` that put the offered blob at its path; where policy approved, the one of `chiffon/audit` that
    /// held the offer.
    pub commit: Oid,
    /// Who: on a forge the account that merged the pull request; else what that commit says of its committer,
    /// `Name <mail>`, absent after a fast-forward, where the commit is Chiffon's own and git does not say who pushed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Accounts that approved the merged commit beside who merged, on a forge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<String>,
    /// The pull request, on a forge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<u64>,
    /// How that is known.
    pub established: Established,
    /// Digest of `chiffon.yaml` when the approval was seen.
    pub config_digest: String,
}

/// How it is known who approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Established {
    /// Git says so; nobody proved it.
    Claimed,
    /// The forge says so, which knows its accounts.
    Forge,
    /// The merge is signed by a listed key, and the forge says so as well.
    Signed,
    /// Nobody did: `policy.exempt_check_runs` lets plans in mode `check` begin by themselves.
    Policy,
}

/// A step and its attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepResult {
    /// The step.
    pub id: Name,
    /// Its playbook.
    pub playbook: RepoPath,
    /// Its attempts, oldest first; empty where it was never granted.
    pub attempts: Vec<AttemptResult>,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttemptResult {
    /// Its number in the step, from 1.
    pub attempt: u32,
    /// Its state when this was written.
    pub state: AttemptState,
    /// The agent that held the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Name>,
    /// The grant's fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// How it ended, as the agent saw it; absent where no agent said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// How an attempt ended, as the agent saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// One line that says why, where the verdict is not `succeeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The exit status of the playbook's process; absent where it never started or a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Host → Ansible's counts; empty where no recap was seen.
    pub recap: BTreeMap<Host, Recap>,
    /// Tasks that changed something, in order, at most 500.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<ChangedTask>,
    /// The first cause of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Of an attempt that failed: the hosts on which every play came to its end all the same. A retry leaves them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<Host>,
    /// Hosts on which work was cut off and whose remote end was not verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interrupted: Vec<Host>,
    /// Milliseconds from start to end.
    pub duration_ms: u64,
    /// What the playbook's processes used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The log as it left the agent.
    pub log: LogDigest,
    /// The full version of ansible-core that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ansible_core: Option<String>,
    /// What would make the next run better.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suggestions: Vec<String>,
}

/// The agent's verdict on an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Exit status 0, a recap, at least one host, every planned host without failure or loss (N3).
    Succeeded,
    /// Anything else that ended by itself or by its time-out.
    Failed,
    /// Stopped on demand, and verified: no process of the attempt is alive on the controller (R9).
    Cancelled,
    /// A process could not be seen to end, or nobody knows how far it came.
    Lost,
}

/// Ansible's counts for one host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recap {
    /// Tasks that ran without a failure, changed ones included, as Ansible counts.
    pub ok: u32,
    /// Tasks that changed something.
    pub changed: u32,
    /// Tasks that could not reach the host.
    pub unreachable: u32,
    /// Tasks that failed.
    pub failed: u32,
    /// Tasks that were skipped.
    pub skipped: u32,
    /// Failures that a rescue block caught.
    pub rescued: u32,
    /// Failures that the playbook ignores.
    pub ignored: u32,
}

/// A task that changed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangedTask {
    /// The host.
    pub host: Host,
    /// Role and name, as Ansible prints it.
    pub task: String,
}

/// Why a run failed: the first cause, not the last symptom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The host; absent where it was no host's (a playbook that can't be read, say).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// The task; absent where none had begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The cause in one line.
    pub cause: String,
    /// The lines of the log around it, secrets removed, at most 2 KiB.
    pub excerpt: String,
    /// What had been done before: `host: task`.
    pub done: Vec<String>,
    /// What was not started: hosts or steps.
    pub not_started: Vec<String>,
    /// Whether running the unfinished hosts again can be expected to do no harm.
    pub retry_safe: bool,
}

/// What an attempt's processes used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// CPU time in user and kernel mode, in milliseconds.
    pub cpu_ms: u64,
    /// The largest resident size of any one process, in KiB.
    pub max_rss_kib: u64,
}

/// The log as it left the agent: secrets removed, marks where text was cut.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogDigest {
    /// SHA-256 over all chunks in order, lower-case hexadecimal.
    pub sha256: String,
    /// Bytes in all chunks.
    pub bytes: u64,
    /// How many chunks.
    pub chunks: u64,
    /// Whether something was cut or is missing; the log says where.
    pub incomplete: bool,
}
