//! The store port: what every adapter must do, and what makes two of them equal.
//!
//! The store is the only authority on offers, runs, attempts, locks and fences. Every change is one transaction
//! that also appends its events, so that nothing is decided without being remembered.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chiffon_core::facts::{
    AgentFacts, Event, LockHolder, Offer, OfferState, Pause, Pull, Refusal, RequestFacts, RequestFile, Run, Unplanned,
};
use chiffon_schemas::{
    AttemptKey, AttemptState, BootId, Direction, EventId, Fence, Host, Json, Name, Oid, Outcome, RepoPath, RunId,
    RunState, Timestamp, ToAgent,
};

/// A requests repository in the store's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryId(pub i64);

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The change's condition no longer holds: somebody was faster. Look again and decide anew.
    #[error("{what} is no longer as expected: {found}")]
    Conflict {
        /// What was expected to be so.
        what: String,
        /// What was found.
        found: String,
    },
    /// A host is locked by somebody else.
    #[error("host {host} is locked by {} ({})", holder.request, holder.run)]
    Locked {
        /// The host.
        host: Host,
        /// Who holds it.
        holder: LockHolder,
    },
    /// A row that can't be what it is; names table, column and row.
    #[error("{table}.{column} of row {row} can't be read: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key, as text.
        row: String,
        /// Why.
        reason: String,
    },
    /// The database itself.
    #[error("the database did not answer as it should")]
    Database(#[from] sqlx::Error),
    /// Another reconciler leads by now: nothing was changed.
    #[error("another reconciler has taken over")]
    Deposed,
    /// The server's address can't be used.
    #[error("the address of the database can't be used: {reason}")]
    Address {
        /// Why, as a sentence's end.
        reason: String,
    },
    /// The schema could not be brought up to date.
    #[error("the database could not be migrated")]
    Migrate(#[source] sqlx::migrate::MigrateError),
}

impl Error {
    /// Whether it lies in what was to be written or read, so that the same will fail again.
    pub fn is_of_the_data(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::Corrupt { .. } => true,
            // Classes of SQLSTATE: data exception, integrity violation.
            Self::Database(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| ["22", "23"].iter().any(|class| code.starts_with(class)))
            }
            Self::Database(sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }) => true,
            Self::Database(_) | Self::Locked { .. } | Self::Deposed | Self::Address { .. } | Self::Migrate(_) => false,
        }
    }

    /// Whether the server may take the same later: it can't be reached, is starting, stopping or full.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                // Classes of SQLSTATE: connection exception, a transaction that has to be repeated, a lock that can't be
                // had, insufficient resources, operator intervention; and a transaction that stood still for too long.
                let classes = ["08", "40", "53", "55", "57", "25P03"];
                error.code().is_some_and(|code| classes.iter().any(|class| code.starts_with(class)))
            }
            Self::Database(sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) => true,
            Self::Database(_)
            | Self::Conflict { .. }
            | Self::Locked { .. }
            | Self::Corrupt { .. }
            | Self::Deposed
            | Self::Address { .. }
            | Self::Migrate(_) => false,
        }
    }
}

/// What was last seen of the git side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The tip of `main`.
    pub main: Option<Oid>,
    /// The tip of the infra repository's branch.
    pub infra: Option<Oid>,
    /// The tip of the audit branch, as we wrote it.
    pub audit: Option<Oid>,
}

/// A request as it was at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its change counter then, to hand to [`Store::settle`]: it rises with every change of anything below.
    pub version: i64,
    /// Its facts, without what only git knows (`plan_branch` is `None`).
    pub facts: RequestFacts,
}

/// What all requests of a repository share.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ground {
    /// What was last seen of the git side.
    pub cursor: Cursor,
    /// Held locks.
    pub locks: BTreeMap<Host, LockHolder>,
    /// Agents that were heard of.
    pub agents: BTreeMap<Name, AgentFacts>,
    /// How many attempts that are not over each agent has; those without one are left out.
    pub load: BTreeMap<Name, u32>,
}

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

/// What a change did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The fence that was given out, for `Granted`.
    pub fence: Option<Fence>,
}

/// How many messages that were put aside are kept; beyond that the oldest goes.
pub const MAX_PARKED: u32 = 1000;

/// A message of the bus that nobody could use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewParked {
    /// Whom it came from or was for.
    pub agent: Name,
    /// Which way it went.
    pub direction: Direction,
    /// Why it was put aside, in words.
    pub reason: String,
    /// Its beginning, as text.
    pub head: String,
    /// Its whole size in bytes.
    pub size: usize,
}

/// A message that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Its row.
    pub id: i64,
    /// When that was seen.
    pub at: Timestamp,
    /// The message.
    pub message: NewParked,
}

/// An invitation of an agent to the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The agent.
    pub agent: Name,
    /// SHA-256 of what names the invitation, in hexadecimal.
    pub token: String,
    /// The agent's credentials, sealed with a key that only the invitation's token holds.
    pub sealed: String,
    /// When it ends.
    pub expires: Timestamp,
    /// The broker's own hash of the agent's password.
    pub password_hash: String,
}

/// What is known of an agent's place on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The agent.
    pub agent: Name,
    /// When it was invited last.
    pub invited: Timestamp,
    /// When that invitation ends.
    pub expires: Timestamp,
    /// When it came with that invitation.
    pub enrolled: Option<Timestamp>,
    /// When it was sent away.
    pub revoked: Option<Timestamp>,
    /// The broker's own hash of its password, with which its user is made again on a broker that was emptied.
    pub password_hash: String,
}

/// How much of everything there is at a moment, for those who watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels {
    /// Messages that wait for the bus.
    pub outbox: u64,
    /// Events that are on no audit commit yet.
    pub unaudited: u64,
    /// Messages that were put aside.
    pub parked: u64,
    /// Hosts that are locked.
    pub locks: u64,
    /// Commands without an answer.
    pub commands: u64,
    /// Attempts that are not over, by their state.
    pub attempts: BTreeMap<AttemptState, u64>,
}

/// A message on its way to an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Its row.
    pub id: i64,
    /// To whom.
    pub agent: Name,
    /// What.
    pub message: ToAgent,
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Its place in the whole of the run, rising; what `read_log` continues from.
    pub position: i64,
    /// The step.
    pub step: Name,
    /// The attempt.
    pub attempt: u32,
    /// Its number in the attempt, from 0.
    pub chunk: u64,
    /// Its text.
    pub text: String,
}

/// Something that a person typed, on its way to the reconciler.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Its row.
    pub id: i64,
    /// What: the command as JSON (`{"cancel": {"name": "kuma"}}`).
    pub command: Json,
    /// When it was typed.
    pub at: Timestamp,
    /// What became of it; absent while it waits.
    pub answer: Option<Json>,
}

/// What a list of past events is narrowed to. Absent fields narrow nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only this request.
    pub request: Option<Name>,
    /// Only this run.
    pub run: Option<RunId>,
    /// Only with this service.
    pub service: Option<String>,
    /// Only on this host.
    pub host: Option<Host>,
    /// Only of these kinds.
    pub kinds: Vec<String>,
    /// Only at or after this time.
    pub since: Option<Timestamp>,
    /// At most this many, newest first.
    pub limit: Option<u32>,
}

/// What became of an agent's report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is stored now, or was before: confirm up to this sequence number.
    Stored(u64),
    /// Its fence is not the attempt's: never stored, and to be said aloud.
    WrongFence,
    /// The attempt is another agent's: never stored, and to be put aside (S12).
    Foreign,
    /// Something before it is missing: confirm only up to this number; the rest is replayed.
    Gap(u64),
}

/// Who acts for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leading {
    /// This handle, from now on.
    Ours,
    /// Another one, which people know by this name.
    Theirs(String),
}

/// What every adapter must do.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The id of a repository by its name; made on first use.
    async fn repository(&self, name: &Name) -> Result<RepositoryId, Error>;

    /// Leads a repository, or goes on leading it, for so many seconds by the store's clock. From then on what this handle
    /// changes there is refused as [`Error::Deposed`] as soon as another one leads (R8). A handle that never led is not
    /// asked: people's commands need no leader.
    ///
    /// Who asks in the same `holder`'s name takes over at once: the caller knows that no other one of that name lives.
    /// `name` is for people.
    async fn lead(&self, repository: RepositoryId, holder: &str, name: &str, secs: u32) -> Result<Leading, Error>;

    /// What was last seen of the git side.
    async fn cursor(&self, repository: RepositoryId) -> Result<Cursor, Error>;

    /// Does one change and appends its events, in one transaction at time `now`. `messages` go to agents' outboxes in
    /// the same transaction.
    async fn apply(
        &self,
        repository: RepositoryId,
        change: Change,
        events: &[Event],
        messages: &[(Name, ToAgent)],
        now: Timestamp,
    ) -> Result<Applied, Error>;

    /// One request as it is now.
    async fn seen(&self, repository: RepositoryId, name: &Name) -> Result<Option<Seen>, Error>;

    /// The request that a run belongs to, as it is now, and its repository.
    async fn seen_by_run(&self, run: &RunId) -> Result<Option<(RepositoryId, Seen)>, Error>;

    /// The facts of one request alone.
    async fn facts(&self, repository: RepositoryId, name: &Name) -> Result<Option<RequestFacts>, Error> {
        Ok(self.seen(repository, name).await?.map(|seen| seen.facts))
    }

    /// What all requests share, at one moment.
    async fn ground(&self, repository: RepositoryId) -> Result<Ground, Error>;

    /// Requests to be looked at and their change counters, by priority and then by `since`: those with an open offer, a
    /// run that is not over or a pause, and those of which anything changed since [`Store::settle`] was called.
    async fn active(&self, repository: RepositoryId) -> Result<Vec<(Name, i64)>, Error>;

    /// Marks that the request was looked at after its last change and nothing was left to do; any later change of
    /// its rows makes it active again.
    async fn settle(&self, repository: RepositoryId, name: &Name, seen: i64) -> Result<(), Error>;

    /// Every request; archived ones (file absent, nothing under way, no refused plan left on `main`) only where
    /// `archived`.
    async fn names(&self, repository: RepositoryId, archived: bool) -> Result<Vec<Name>, Error>;

    /// Files of `main` that are not read and belong to no request: path and why, sorted by path.
    async fn refused_files(&self, repository: RepositoryId) -> Result<Vec<(String, String)>, Error>;

    /// When a run's first attempt was granted; `None` where none was.
    async fn first_grant(&self, run: &RunId) -> Result<Option<Timestamp>, Error>;

    /// Held locks.
    async fn locks(&self, repository: RepositoryId) -> Result<BTreeMap<Host, LockHolder>, Error>;

    /// Agents that were heard of.
    async fn agents(&self) -> Result<BTreeMap<Name, AgentFacts>, Error>;

    /// Stores the sequence number of an agent's report, and its log chunk where it is one: once, however often it
    /// arrives, and only from the agent that the attempt was given to.
    async fn report(
        &self,
        agent: &Name,
        key: &AttemptKey,
        fence: Fence,
        seq: u64,
        log: Option<(u64, &str)>,
        now: Timestamp,
    ) -> Result<Accepted, Error>;

    /// Log chunks of a run after a position, at most `limit`, in order.
    async fn read_log(&self, run: &RunId, after: i64, limit: u32) -> Result<Vec<LogChunk>, Error>;

    /// Drops log text that is older than `before`: of runs that were over by then, in pieces as large as the adapter
    /// likes, never of a run that goes on. How many pieces went.
    async fn forget_logs(&self, before: Timestamp) -> Result<u64, Error>;

    /// Puts messages into agents' outboxes (those that follow no change of their own).
    async fn send(&self, messages: &[(Name, ToAgent)], now: Timestamp) -> Result<(), Error>;

    /// Keeps a message that was put aside (R7), and of all of them the newest [`MAX_PARKED`].
    async fn park(&self, parked: &NewParked, now: Timestamp) -> Result<(), Error>;

    /// Every message that was put aside, newest first.
    async fn parked(&self) -> Result<Vec<Parked>, Error>;

    /// Forgets messages that were put aside, up to this row; how many.
    async fn forget_parked(&self, up_to: i64) -> Result<u64, Error>;

    /// How many attempts that are not over each agent has; those without one are left out.
    async fn load(&self) -> Result<BTreeMap<Name, u32>, Error>;

    /// How much of everything there is now.
    async fn levels(&self, repository: RepositoryId) -> Result<Levels, Error>;

    /// Invites an agent, for the first time or again: an earlier invitation of it ends, and so does its place.
    async fn invite(&self, invitation: &Invitation, now: Timestamp) -> Result<(), Error>;

    /// Takes an invitation that is named by the SHA-256 of a token's name: whose it is, and what was sealed for it. Once;
    /// `None` where it is over, used, or was never there.
    async fn redeem(&self, token: &str, now: Timestamp) -> Result<Option<(Name, String)>, Error>;

    /// Every agent that was ever invited.
    async fn enrolments(&self) -> Result<Vec<Enrolment>, Error>;

    /// Sends an agent away, ends its invitation and drops what waits for it; whether it had a place or one waited for it.
    async fn revoke(&self, agent: &Name, now: Timestamp) -> Result<bool, Error>;

    /// Messages that wait to be published and come after the row `after`, oldest first, at most `limit`.
    async fn outgoing(&self, after: i64, limit: u32) -> Result<Vec<Outgoing>, Error>;

    /// Marks messages as confirmed by the bus.
    async fn sent(&self, ids: &[i64]) -> Result<(), Error>;

    /// Events that are on no audit commit yet, oldest first, at most `limit`.
    async fn unaudited(&self, repository: RepositoryId, limit: u32) -> Result<Vec<Event>, Error>;

    /// Marks events as written by `commit` and moves the audit cursor there, in one transaction.
    async fn audited(&self, repository: RepositoryId, events: &[EventId], commit: &Oid) -> Result<(), Error>;

    /// Past events, newest first.
    async fn events(&self, repository: RepositoryId, filter: &EventFilter) -> Result<Vec<Event>, Error>;

    /// Durations in milliseconds and success of past attempts of a playbook, newest first, at most `limit`.
    async fn history(
        &self,
        repository: RepositoryId,
        playbook: &RepoPath,
        limit: u32,
    ) -> Result<Vec<(u64, bool)>, Error>;

    /// Waits until somebody says that there is something to look at; it may never come, and may come for nothing: looking
    /// from time to time is enough. One waits at a time.
    async fn woken(&self);

    /// Leaves a command for the reconciler.
    async fn command(&self, repository: RepositoryId, command: &Json, now: Timestamp) -> Result<i64, Error>;

    /// Commands that wait, oldest first.
    async fn commands(&self, repository: RepositoryId) -> Result<Vec<Command>, Error>;

    /// One command, with its answer where there is one.
    async fn command_by_id(&self, id: i64) -> Result<Option<Command>, Error>;

    /// Answers a command.
    async fn answer(&self, id: i64, answer: &Json) -> Result<(), Error>;
}
