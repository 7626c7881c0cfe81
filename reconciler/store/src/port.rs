//! The store port: what every adapter must do, and what makes two of them equal.
//!
//! The store is the only authority on offers, runs, attempts, locks and fences. Every change is one transaction
//! that also appends its events, so that nothing is decided without being remembered.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chiffon_core::facts::{AgentFacts, Event, LockHolder, RequestFacts};
use chiffon_schemas::{
    AttemptKey, AttemptState, Direction, EventId, Fence, Host, Json, Mode, Name, Oid, RepoPath, RunId, Timestamp,
    ToAgent,
};

use crate::Change;

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
    /// run that is not over, a last one that failed, or a pause, and those of which anything changed since
    /// [`Store::settle`] was called.
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

    /// Durations in milliseconds and success of past attempts of a playbook in a mode, newest first, at most `limit`.
    async fn history(
        &self,
        repository: RepositoryId,
        playbook: &RepoPath,
        mode: Mode,
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
