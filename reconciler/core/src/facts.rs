//! Facts about one request: what git and the store hold. Everything that a request *is* follows from these.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_schemas::{
    AgentKind, ApprovalRecord, AttemptState, BootId, Established, EventId, Fence, Host, Name, Oid, Outcome, Plan,
    PlannerKind, RepoPath, RunId, RunState, Timestamp,
};
use serde::{Deserialize, Serialize};

pub use crate::pull::{Answer, ForgeFacts, Pull, PullState};

/// Everything known about one request.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestFacts {
    /// Its name.
    pub name: Name,
    /// Its file on `main`, or where it was last.
    pub path: RepoPath,
    /// What is at that path now.
    pub file: RequestFile,
    /// When this content was first seen.
    pub since: Timestamp,
    /// The blob at the plan's path on `main`.
    pub plan_on_main: Option<Oid>,
    /// What `chiffon/plan/<name>` holds.
    pub plan_branch: Option<PlanBranch>,
    /// The pull request of that branch, as the forge said last; absent without a forge.
    pub pull: Option<Pull>,
    /// Every offer ever recorded, by revision; at most one is open.
    pub offers: Vec<Offer>,
    /// The last planning that ended without an offer.
    pub unplanned: Option<Unplanned>,
    /// The last refusal.
    pub refusal: Option<Refusal>,
    /// The last run.
    pub run: Option<Run>,
    /// A person's pause.
    pub pause: Option<Pause>,
    /// A person asked for a new plan after this revision.
    pub replan_after: Option<u32>,
}

impl RequestFacts {
    /// Whether a plan is of the request as it is now: the same content at the same path.
    pub fn is_of_now(&self, plan: &Plan) -> bool {
        let request = &plan.metadata.request;
        self.file.oid() == Some(&request.oid) && self.path == request.path
    }
}

/// What is at a request's path on `main`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestFile {
    /// A request that can be read.
    Valid {
        /// Its blob.
        oid: Oid,
        /// From 1 to 5; 5 first.
        priority: u8,
    },
    /// Something that can't be read; the findings in words.
    Invalid {
        /// Its blob.
        oid: Oid,
        /// The findings.
        findings: String,
    },
    /// Nothing.
    Absent,
}

impl RequestFile {
    /// The blob that is there.
    pub fn oid(&self) -> Option<&Oid> {
        match self {
            Self::Valid { oid, .. } | Self::Invalid { oid, .. } => Some(oid),
            Self::Absent => None,
        }
    }
}

/// What a plan branch holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanBranch {
    /// Its tip.
    pub tip: Oid,
    /// The blob at the plan's path there.
    pub plan: Option<Oid>,
}

/// One plan that Chiffon proposed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The plan's blob.
    pub plan_oid: Oid,
    /// The plan itself.
    pub plan: Plan,
    /// Where it lies.
    pub path: RepoPath,
    /// `main` when it was recorded: a blob that `main` held then approves nothing.
    pub main: Option<Oid>,
    /// The commit of the plan branch that shows it; absent until the branch was moved.
    pub branch_commit: Option<Oid>,
    /// When it was recorded.
    pub at: Timestamp,
    /// Open, or why not.
    pub state: OfferState,
}

impl Offer {
    /// Its revision.
    pub fn revision(&self) -> u32 {
        self.plan.metadata.revision
    }

    /// Whether it may be approved.
    pub fn is_open(&self) -> bool {
        self.state == OfferState::Open
    }

    /// Whether a person wrote its steps.
    pub fn by_person(&self) -> bool {
        self.plan.spec.planner.kind == PlannerKind::Person
    }
}

/// Open, or why not. A closed offer is never opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OfferState {
    /// It may be approved.
    Open,
    /// It was, and a run exists.
    Approved,
    /// A person closed it.
    Rejected,
    /// The request was deleted.
    Withdrawn,
    /// The request changed.
    Edited,
    /// What it reads changed.
    Stale,
    /// Its time is over.
    Expired,
    /// A person edited the plan on its branch, and a new offer was made of that.
    Replaced,
    /// A change was asked for.
    ChangeAskedFor,
    /// What was merged was refused, and a new offer is due.
    Refused,
}

impl OfferState {
    /// The word, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
            Self::Edited => "edited",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Replaced => "replaced",
            Self::ChangeAskedFor => "change-asked-for",
            Self::Refused => "refused",
        }
    }

    /// The state for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Open,
            Self::Approved,
            Self::Rejected,
            Self::Withdrawn,
            Self::Edited,
            Self::Stale,
            Self::Expired,
            Self::Replaced,
            Self::ChangeAskedFor,
            Self::Refused,
        ]
        .into_iter()
        .find(|state| state.as_str() == word)
    }
}

/// A planning that ended without an offer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unplanned {
    /// The request's blob that was planned.
    pub request: Oid,
    /// The infra commit that it was planned against; absent where none could be read.
    pub infra: Option<Oid>,
    /// Why there is no plan.
    pub reason: Blocked,
    /// When.
    pub at: Timestamp,
}

/// Why a request is blocked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Blocked {
    /// Questions that only the person can answer, three at most.
    Questions {
        /// The questions.
        questions: Vec<Question>,
    },
    /// Nothing in the catalogue fits.
    NothingFits {
        /// Why, in a sentence.
        reason: String,
        /// The nearest entries: playbook and title.
        nearest: Vec<(RepoPath, String)>,
    },
    /// The request names something that is not there, or can't be read; the findings in words.
    Invalid {
        /// The findings.
        findings: String,
    },
    /// The gate denies the plan; the reasons.
    Denied {
        /// The reasons.
        reasons: Vec<String>,
    },
    /// The infra repository can't be read; why.
    Infra {
        /// Why.
        reason: String,
    },
    /// A person's edit of the plan on its branch can't be offered; why.
    Edit {
        /// Why.
        reason: String,
        /// The edited blob, so that the same edit is judged once.
        blob: Option<Oid>,
    },
    /// What an edited plan read has changed; a person decides.
    EditedPlanStale,
}

/// A question to the person who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The key for `spec.answers`.
    pub id: String,
    /// The question.
    pub text: String,
    /// Answers to choose from, with what each means; empty where any value will do.
    pub choices: Vec<(String, String)>,
}

/// Something reached `main` that may not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The blob at the plan's path on `main`.
    pub blob: Oid,
    /// Why.
    pub reason: RefusalReason,
    /// When it was seen.
    pub at: Timestamp,
    /// What exactly, where the reason alone does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Why what reached `main` may not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalReason {
    /// It was never offered.
    NotOffered,
    /// The plan was edited inside the merge: not the bytes that were on offer.
    EditedInMerge,
    /// Its offer was closed before.
    Closed,
    /// It ran already.
    Used,
    /// What it reads has changed.
    Stale,
    /// The request changed after the offer.
    Edited,
    /// Its time is over.
    Expired,
    /// The gate denies it.
    Denied,
    /// It reached `main` otherwise than by the merge of its pull request.
    NotThroughPull,
    /// Who merged it may not approve it, or not alone.
    NotAllowed,
}

impl RefusalReason {
    /// The word, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotOffered => "not-offered",
            Self::EditedInMerge => "edited-in-merge",
            Self::Closed => "closed",
            Self::Used => "used",
            Self::Stale => "stale",
            Self::Edited => "edited",
            Self::Expired => "expired",
            Self::Denied => "denied",
            Self::NotThroughPull => "not-through-pull",
            Self::NotAllowed => "not-allowed",
        }
    }

    /// The reason for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::NotOffered,
            Self::EditedInMerge,
            Self::Closed,
            Self::Used,
            Self::Stale,
            Self::Edited,
            Self::Expired,
            Self::Denied,
            Self::NotThroughPull,
            Self::NotAllowed,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == word)
    }

    /// Whether a new plan is made at once; other refusals last until `main` changes.
    pub fn plans_again(self) -> bool {
        match self {
            Self::Stale | Self::Edited | Self::Expired | Self::EditedInMerge => true,
            Self::NotOffered | Self::Closed | Self::Used | Self::Denied | Self::NotThroughPull | Self::NotAllowed => {
                false
            }
        }
    }
}

/// A person's pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Why.
    pub reason: String,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// The execution of one approved plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The plan's blob.
    pub plan_oid: Oid,
    /// The plan.
    pub plan: Plan,
    /// Where the plan lies on `main`.
    pub plan_path: RepoPath,
    /// Who approved, and how that is known.
    pub approval: ApprovalRecord,
    /// When the approval was seen.
    pub approved_at: Timestamp,
    /// 1, and one more with each retry.
    pub round: u32,
    /// A person asked to stop.
    pub cancel: bool,
    /// The final state of this round; absent while it goes on.
    pub state: Option<RunState>,
    /// When it became final.
    pub finished_at: Option<Timestamp>,
    /// It was refused before its first grant; it never counts as a run of the request.
    pub voided: bool,
    /// Every attempt of every step, in the order of the plan's steps and then by number.
    pub attempts: Vec<Attempt>,
}

impl Run {
    /// The attempts of a step, oldest first.
    pub fn attempts_of<'a>(&'a self, step: &'a Name) -> impl DoubleEndedIterator<Item = &'a Attempt> {
        self.attempts.iter().filter(move |attempt| &attempt.step == step)
    }

    /// Whether nobody approved it: policy let it begin.
    pub fn by_policy(&self) -> bool {
        self.approval.established == Established::Policy
    }

    /// Whether any attempt was ever granted.
    pub fn begun(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.fence.is_some())
    }

    /// The hosts of a step on which it has not succeeded yet, sorted.
    pub fn unfinished(&self, step: &Name) -> Vec<Host> {
        let Some(planned) = self.plan.spec.steps.iter().find(|planned| &planned.id == step) else {
            return Vec::new();
        };
        let mut left: BTreeSet<&Host> = planned.limit.iter().collect();
        for attempt in self.attempts_of(step) {
            for host in attempt.finished_hosts() {
                left.remove(host);
            }
        }
        left.into_iter().cloned().collect()
    }
}

/// One attempt at one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The step.
    pub step: Name,
    /// Its number in the step, from 1.
    pub number: u32,
    /// The round that it belongs to.
    pub round: u32,
    /// The hosts that it is for, sorted.
    pub hosts: Vec<Host>,
    /// Its state.
    pub state: AttemptState,
    /// The agent that it was ordered from.
    pub agent: Name,
    /// The life of the agent that claimed it.
    pub boot: Option<BootId>,
    /// The grant's fence.
    pub fence: Option<Fence>,
    /// When it last changed.
    pub since: Timestamp,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

impl Attempt {
    /// The hosts on which this attempt brought the step to its end: all of them where it succeeded, and where it failed
    /// those of which its agent can prove it. A recap without failures proves nothing: a play that was broken off leaves
    /// the others' counts clean.
    pub fn finished_hosts(&self) -> Vec<&Host> {
        match (self.state, &self.outcome) {
            (AttemptState::Succeeded, _) => self.hosts.iter().collect(),
            (AttemptState::Failed, Some(outcome)) => {
                self.hosts.iter().filter(|host| outcome.finished.contains(*host)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// What all requests share at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// Since when agents have been listened to without a break: what they said before may still be unheard.
    pub listening_since: Timestamp,
    /// The tip of the infra repository's branch; absent where it can't be read.
    pub infra: Option<Oid>,
    /// Held host locks: host → holder.
    pub locks: BTreeMap<Host, LockHolder>,
    /// Agents that were heard of, by name.
    pub agents: BTreeMap<Name, AgentFacts>,
    /// How many attempts that are not over each agent has; those without one are left out.
    pub load: BTreeMap<Name, u32>,
    /// Days, limits and denials.
    pub policy: crate::Policy,
    /// The forge that plans are merged on; absent without one.
    pub forge: Option<ForgeFacts>,
}

/// Who holds a host's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// The request.
    pub request: Name,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: Name,
    /// The attempt's number.
    pub attempt: u32,
}

/// What is known of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFacts {
    /// Its kind.
    pub kind: AgentKind,
    /// Its current life.
    pub boot: BootId,
    /// When it was last heard of, by the reconciler's clock.
    pub heard: Timestamp,
    /// The full version of ansible-core that it would run.
    pub ansible_core: Option<String>,
}

/// What happened, to be kept for ever: a row, and then a commit on the audit branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// What kind of thing: `plan-offered`, `run-succeeded`.
    pub kind: String,
    /// The request that it is about; absent for what concerns the whole repository.
    pub request: Option<Name>,
    /// The request's blob.
    pub request_oid: Option<Oid>,
    /// The plan's blob.
    pub plan: Option<Oid>,
    /// The run.
    pub run: Option<RunId>,
    /// Hosts, sorted.
    pub hosts: Vec<Host>,
    /// Services, sorted.
    pub services: Vec<String>,
    /// One line for people.
    pub summary: String,
    /// All that a rebuild needs, by kind.
    pub detail: chiffon_schemas::Json,
    /// When.
    pub at: Timestamp,
}
