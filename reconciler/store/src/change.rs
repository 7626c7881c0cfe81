//! What can be changed in the store: one change at a time, done whole or not at all.

use chiffon_core::facts::{AgentFacts, Offer, OfferState, Pause, Pull, Refusal, RequestFile, Run, Unplanned};
use chiffon_schemas::{AttemptKey, AttemptState, BootId, Fence, Host, Name, Oid, Outcome, RepoPath, RunId, RunState};

/// One change, done whole or not at all, together with its events. What names a run is refused in another repository
/// than the run's.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// `main` moved: the files that differ. Also moves the cursor, from `from`.
    MainSeen {
        /// The cursor before.
        from: Option<Oid>,
        /// The new tip.
        main: Oid,
        /// Request files that were added, changed or removed.
        requests: Vec<SeenRequest>,
        /// Plan files that were added, changed or removed (`None`).
        plans: Vec<(Name, Option<Oid>)>,
    },
    /// Every file under `requests/` and `plans/` that is not read and belongs to no request: path and why. The whole
    /// list, in place of the one before.
    FilesRefused {
        /// Path and reason, sorted by path.
        files: Vec<(String, String)>,
    },
    /// The infra branch moved.
    InfraSeen {
        /// The new tip.
        commit: Oid,
    },
    /// A plan is offered. Condition: no offer of this request but `replaces` is open, and its revision is the last
    /// plus one. Clears `unplanned` and `replan_after`; closes `replaces` as `replaced`.
    OfferRecorded {
        /// The request.
        name: Name,
        /// The open offer that this one, made of a person's edit, takes the place of.
        replaces: Option<Oid>,
        /// The offer; its state is open.
        offer: Box<Offer>,
    },
    /// The plan branch shows the offer. Condition: the offer exists.
    OfferShown {
        /// The request.
        name: Name,
        /// The plan's blob.
        plan: Oid,
        /// The commit of the plan branch.
        commit: Oid,
    },
    /// An open offer is closed. Condition: it is open.
    OfferClosed {
        /// The request.
        name: Name,
        /// The plan's blob.
        plan: Oid,
        /// Why; not `Open`.
        state: OfferState,
    },
    /// Planning ended without an offer. Clears `replan_after`.
    Unplanned {
        /// The request.
        name: Name,
        /// Why.
        unplanned: Unplanned,
    },
    /// An open offer is approved: closes it and creates the run. Condition: it is open.
    Approved {
        /// The request.
        name: Name,
        /// The new run, without attempts.
        run: Box<Run>,
    },
    /// Something on `main` is refused.
    Refused {
        /// The request.
        name: Name,
        /// What and why.
        refusal: Refusal,
    },
    /// An attempt is ordered: a new row in state `ordered`. Condition: that attempt does not exist yet.
    Ordered {
        /// The request.
        name: Name,
        /// The attempt.
        key: AttemptKey,
        /// The round.
        round: u32,
        /// The hosts, sorted.
        hosts: Vec<Host>,
        /// The agent.
        agent: Name,
    },
    /// An attempt that was not granted is ordered again, perhaps from another agent. Condition: its state is `from`, which
    /// is `ordered` or `claimed`. Clears the agent's life.
    Reordered {
        /// The attempt.
        key: AttemptKey,
        /// The state before.
        from: AttemptState,
        /// The agent that is to do it.
        agent: Name,
    },
    /// A claim is granted: takes the locks of `hosts` for the run, all at once, and gives out the next fence. Condition:
    /// state `claimed` by `boot`; every host free or held by this run, else `Error::Locked`. The grant itself goes
    /// into the agent's outbox in the same transaction, and the fence into `detail.fence` of each event.
    Granted {
        /// The request.
        name: Name,
        /// The attempt.
        key: AttemptKey,
        /// The life that claimed.
        boot: BootId,
        /// The hosts to lock: the attempt's and those it delegates to, sorted.
        hosts: Vec<Host>,
        /// The digest of the order that the grant is for.
        order: String,
    },
    /// An attempt moves. Condition: its state is `from`, its fence (where one is given) is this one, `from.allows(to)`,
    /// and `to` is not `granted`, which only [`Change::Granted`] does. `ordered` clears agent life, fence and outcome.
    /// Where the run is over and nothing of it is lost any more, its locks are freed.
    Moved {
        /// The attempt.
        key: AttemptKey,
        /// The state before.
        from: AttemptState,
        /// The state after.
        to: AttemptState,
        /// The fence that a report carried.
        fence: Option<Fence>,
        /// The life that claims.
        boot: Option<BootId>,
        /// How it ended.
        outcome: Option<Box<Outcome>>,
    },
    /// A run is over (for this round). Condition: it is not over yet. Frees its locks, unless an attempt of it is lost.
    RunFinished {
        /// The run.
        run: RunId,
        /// How.
        state: RunState,
        /// It was refused before its first grant.
        voided: bool,
    },
    /// A person or a late report said how a `lost` run ended. Condition: it is `lost`. Frees its locks.
    RunResolved {
        /// The run.
        run: RunId,
        /// How.
        state: RunState,
    },
    /// A finished run goes on with another round; forgets that a cancel was asked for. Condition: it is over.
    RunReopened {
        /// The run.
        run: RunId,
        /// The new round: the last plus one.
        round: u32,
    },
    /// A person asked to stop the run. Condition: it is not over.
    CancelAsked {
        /// The run.
        run: RunId,
    },
    /// A person paused (`Some`) or resumed (`None`) a request.
    PauseSet {
        /// The request.
        name: Name,
        /// The pause.
        pause: Option<Pause>,
    },
    /// The forge said something of the pull request of a request's plan branch.
    PullSeen {
        /// The request.
        name: Name,
        /// What it said.
        pull: Box<Pull>,
    },
    /// A person asked for another plan than the one of this revision.
    ReplanAsked {
        /// The request.
        name: Name,
        /// The last revision so far.
        after: u32,
    },
    /// A host's lock is freed by a person. Condition: it is held.
    Unlocked {
        /// The host.
        host: Host,
    },
    /// Nothing but its events: something happened that changes no row.
    Noted,
    /// An agent was heard of.
    AgentHeard {
        /// Its name.
        agent: Name,
        /// What is known.
        facts: AgentFacts,
        /// Attempts that were granted to earlier lives of it, with their fences, and whose ends this life will report: they
        /// are this life's from now on. Those that are over, or under another fence, stay as they are.
        ended: Vec<(AttemptKey, Fence)>,
    },
}

impl Change {
    /// Whether the [`Ground`] may be another one afterwards.
    pub fn alters_ground(&self) -> bool {
        match self {
            Self::MainSeen { .. }
            | Self::InfraSeen { .. }
            | Self::Ordered { .. }
            | Self::Reordered { .. }
            | Self::Granted { .. }
            | Self::RunFinished { .. }
            | Self::RunResolved { .. }
            | Self::Unlocked { .. }
            | Self::AgentHeard { .. } => true,
            Self::Moved { from, to, .. } => from.is_final() || to.is_final(),
            Self::FilesRefused { .. }
            | Self::OfferRecorded { .. }
            | Self::OfferShown { .. }
            | Self::OfferClosed { .. }
            | Self::Unplanned { .. }
            | Self::Approved { .. }
            | Self::Refused { .. }
            | Self::RunReopened { .. }
            | Self::CancelAsked { .. }
            | Self::PauseSet { .. }
            | Self::PullSeen { .. }
            | Self::ReplanAsked { .. }
            | Self::Noted => false,
        }
    }
}

/// A request file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// The request's name.
    pub name: Name,
    /// Its path.
    pub path: RepoPath,
    /// What is there now.
    pub file: RequestFile,
}
