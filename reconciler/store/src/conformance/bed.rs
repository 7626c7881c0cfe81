//! A store with one request in it, and words for bringing it on.

use std::sync::atomic::{AtomicU64, Ordering};

use chiffon_core::facts::{Attempt, Event, Offer, RequestFacts, RequestFile, Run};
use chiffon_schemas::{
    AttemptKey, AttemptState, EventId, Fence, Json, Mode, Name, Oid, RunId, RunState, ToAgent, Verdict, ulid,
};

use super::sample::{at, boot, hosts, name, offer, oid, outcome, path, plan_oid, run, run_id};
use crate::{Applied, Change, Error, EventFilter, Ground, RepositoryId, SeenRequest, Store};

/// A store to test: fresh, and nobody else's.
#[async_trait::async_trait]
pub trait Fixture: Send + Sync {
    /// A handle on the data.
    fn store(&self) -> &dyn Store;
    /// Another handle on the same data, as a process has it that starts later.
    async fn reopen(&self) -> Box<dyn Store>;
}

/// Numbers that never come twice in this process, for ids.
static NEXT: AtomicU64 = AtomicU64::new(1_000_000);

fn next() -> u64 {
    NEXT.fetch_add(1, Ordering::SeqCst)
}

/// A store and one of its repositories.
pub struct Bed<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// The repository.
    pub repository: RepositoryId,
}

/// The request that most tests are about.
pub fn kuma() -> Name {
    name("kuma")
}

/// A change of a request's file.
pub fn seen(request: &Name, file: RequestFile) -> SeenRequest {
    SeenRequest { name: request.clone(), path: path(&format!("requests/{request}.yaml")), file }
}

/// An attempt at a step of [`super::sample::plan`].
pub fn key(run: &RunId, step: &str, attempt: u32) -> AttemptKey {
    AttemptKey { run: run.clone(), plan: plan_oid(1), mode: Mode::Apply, step: name(step), attempt }
}

/// A move without fence, life and outcome.
pub fn moved(key: &AttemptKey, from: AttemptState, to: AttemptState) -> Change {
    Change::Moved { key: key.clone(), from, to, fence: None, boot: None, outcome: None }
}

/// The order of an attempt in round 1.
pub fn ordered(request: &Name, key: &AttemptKey) -> Change {
    Change::Ordered {
        name: request.clone(),
        key: key.clone(),
        round: 1,
        hosts: hosts(&["nas01", "nas02"]),
        agent: name("infra"),
    }
}

/// The grant of an attempt to the life that [`Bed::walk`] claims with.
pub fn granted(request: &Name, key: &AttemptKey, on: &[&str]) -> Change {
    Change::Granted { name: request.clone(), key: key.clone(), boot: boot(1), hosts: hosts(on), order: "0".repeat(64) }
}

/// The end of a started attempt.
pub fn ended(key: &AttemptKey, fence: Fence, to: AttemptState) -> Change {
    let verdict = match to {
        AttemptState::Succeeded => Verdict::Succeeded,
        AttemptState::Cancelled => Verdict::Cancelled,
        AttemptState::Lost => Verdict::Lost,
        _ => Verdict::Failed,
    };
    Change::Moved {
        key: key.clone(),
        from: AttemptState::Started,
        to,
        fence: Some(fence),
        boot: None,
        outcome: (to != AttemptState::Lost).then(|| Box::new(outcome(verdict, 1234))),
    }
}

/// A message.
pub fn message(run: &RunId, seq: u64) -> ToAgent {
    ToAgent::Stored { key: key(run, "site", 1), seq }
}

impl<'a> Bed<'a> {
    /// The repository `home` of the fixture's store.
    pub async fn new(fixture: &'a dyn Fixture) -> Self {
        Self::at(fixture.store(), "home").await
    }

    /// A repository by its name.
    pub async fn at(store: &'a dyn Store, repository: &str) -> Self {
        let repository = store.repository(&name(repository)).await.expect("a repository");
        Self { store, repository }
    }

    /// An event that is like no other.
    pub fn event(&self, kind: &str) -> Event {
        let number = next();
        Event {
            id: EventId::parse(ulid(number, 3)).expect("a valid event id"),
            kind: kind.to_owned(),
            request: Some(kuma()),
            request_oid: Some(oid(1)),
            plan: Some(plan_oid(1)),
            run: Some(run_id(1)),
            hosts: hosts(&["nas01"]),
            services: vec!["kuma".to_owned()],
            summary: format!("{kind} of kuma"),
            detail: serde_json::json!({"n": number}),
            at: at(0),
        }
    }

    /// Does a change with one event, at the beginning of time.
    pub async fn apply(&self, change: Change) -> Applied {
        self.apply_at(change, 0).await
    }

    /// Does a change with one event, so many seconds later; what it says of the ground is true.
    pub async fn apply_at(&self, change: Change, secs: i64) -> Applied {
        let (shown, alters) = (format!("{change:?}"), change.alters_ground());
        let before = self.ground().await;
        let event = self.event("changed");
        match self.store.apply(self.repository, change, &[event], &[], at(secs)).await {
            Ok(applied) => {
                assert!(alters || self.ground().await == before, "the ground is another one: {shown}");
                applied
            }
            Err(error) => panic!("{error}: {shown}"),
        }
    }

    async fn ground(&self) -> Ground {
        self.store.ground(self.repository).await.expect("the ground")
    }

    /// Has a change refused, and sees that nothing of it, of its event or of its message is left.
    pub async fn refused(&self, change: Change) -> Error {
        let shown = format!("{change:?}");
        let before = self.everything().await;
        let event = self.event("never");
        let messages = [(name("infra"), message(&run_id(9), 9))];
        let done = self.store.apply(self.repository, change, &[event], &messages, at(999)).await;
        let error = done.expect_err(&format!("this must be refused: {shown}"));
        assert_eq!(self.everything().await, before, "something is left of {shown}");
        error
    }

    /// Has a change refused with a conflict that names what.
    pub async fn conflict(&self, change: Change, names: &str) {
        let shown = format!("{change:?}");
        match self.refused(change).await {
            Error::Conflict { what, found } => {
                assert!(what.contains(names), "`{what}` ({found}) does not name `{names}`: {shown}");
                assert!(!found.is_empty(), "it must say what was found: {shown}");
            }
            other => panic!("not a conflict but {other:?}: {shown}"),
        }
    }

    /// All that can be asked of the store about this repository, as text.
    pub async fn everything(&self) -> String {
        let (store, repository) = (self.store, self.repository);
        let mut all = format!("{:#?}", store.cursor(repository).await.expect("a cursor"));
        for request in store.names(repository, true).await.expect("names") {
            let seen = store.seen(repository, &request).await.expect("a request");
            let facts = seen.as_ref().map(|seen| &seen.facts);
            if let Some(run) = facts.and_then(|facts| facts.run.as_ref()) {
                let log = store.read_log(&run.id, 0, 1000).await.expect("a log");
                let first = store.first_grant(&run.id).await.expect("a time");
                all += &format!("{log:#?} {first:?}");
            }
            all += &format!("{seen:#?}");
        }
        let events = store.events(repository, &EventFilter::default()).await.expect("events");
        let waiting = store.unaudited(repository, 1000).await.expect("events");
        let locks = store.locks(repository).await.expect("locks");
        let active = store.active(repository).await.expect("active ones");
        let agents = store.agents().await.expect("agents");
        let outgoing = store.outgoing(0, 1000).await.expect("messages");
        let files = store.refused_files(repository).await.expect("files");
        let commands = store.commands(repository).await.expect("commands");
        all + &format!("{events:#?} {waiting:?} {locks:#?} {active:?} {agents:#?} {outgoing:#?} {files:?} {commands:?}")
    }

    /// The change counter of a request; 0 where there is none.
    pub async fn version(&self, request: &Name) -> i64 {
        self.store.seen(self.repository, request).await.expect("a request").map_or(0, |seen| seen.version)
    }

    /// The names of what is to be looked at.
    pub async fn active(&self) -> Vec<Name> {
        let active = self.store.active(self.repository).await.expect("active ones");
        active.into_iter().map(|(name, _)| name).collect()
    }

    /// The repository and the request that a run belongs to.
    pub async fn request_of(&self, run: &RunId) -> Option<(RepositoryId, Name)> {
        let found = self.store.seen_by_run(run).await.expect("an answer");
        found.map(|(repository, seen)| (repository, seen.facts.name))
    }

    /// The facts of a request that is there.
    pub async fn facts(&self, request: &Name) -> RequestFacts {
        self.store.facts(self.repository, request).await.expect("facts").expect("the request is there")
    }

    /// The last run of the request `kuma`.
    pub async fn run(&self) -> Run {
        self.facts(&kuma()).await.run.expect("there is a run")
    }

    /// One attempt of the last run of `kuma`.
    pub async fn attempt(&self, key: &AttemptKey) -> Attempt {
        let run = self.run().await;
        let found = run.attempts.into_iter().find(|one| one.step == key.step && one.number == key.attempt);
        found.expect("the attempt is there")
    }

    /// Moves `main` on, with one request file.
    pub async fn file(&self, request: &Name, file: RequestFile, secs: i64) {
        let change = self.main_seen(vec![seen(request, file)], Vec::new()).await;
        self.apply_at(change, secs).await;
    }

    /// `main` moves from where it is.
    pub async fn main_seen(&self, requests: Vec<SeenRequest>, plans: Vec<(Name, Option<Oid>)>) -> Change {
        let from = self.store.cursor(self.repository).await.expect("a cursor").main;
        let main = oid(u32::try_from(next()).expect("it is small"));
        Change::MainSeen { from, main, requests, plans }
    }

    /// A request that can be read.
    pub async fn request(&self, request: &Name) {
        self.file(request, RequestFile::Valid { oid: oid(1), priority: 3 }, 0).await;
    }

    /// A request with an open offer of a revision.
    pub async fn offered(&self, request: &Name) -> Offer {
        self.request(request).await;
        let offer = offer(request, 1);
        self.apply(recorded(request, &offer)).await;
        offer
    }

    /// A request with a run that goes on.
    pub async fn running(&self, request: &Name, number: u64) -> RunId {
        self.running_in(Mode::Apply, request, number).await
    }

    /// A request with a run in a mode that goes on.
    pub async fn running_in(&self, mode: Mode, request: &Name, number: u64) -> RunId {
        self.request(request).await;
        let mut offer = offer(request, 1);
        offer.plan.spec.mode = mode;
        self.apply(recorded(request, &offer)).await;
        let id = run_id(number);
        self.apply(Change::Approved { name: request.clone(), run: Box::new(run(&id, &offer)) }).await;
        id
    }

    /// Ends the run of an attempt, so that its locks are free.
    pub async fn over(&self, key: &AttemptKey) {
        self.apply(Change::RunFinished { run: key.run.clone(), state: RunState::Failed, voided: false }).await;
    }

    /// A run of `kuma` with an attempt at `site` in some state, which locks `nas01` and `nas02` where it may.
    pub async fn in_state(&self, state: AttemptState) -> AttemptKey {
        let key = key(&self.running(&kuma(), 1).await, "site", 1);
        self.apply(ordered(&kuma(), &key)).await;
        self.walk(&kuma(), &key, state).await;
        key
    }

    /// Brings an ordered attempt to a state, and says under which fence.
    pub async fn walk(&self, request: &Name, key: &AttemptKey, to: AttemptState) -> Option<Fence> {
        use AttemptState::{Claimed, Granted, Ordered, Started};
        if to == Ordered {
            return None;
        }
        let claim = Change::Moved {
            key: key.clone(),
            from: Ordered,
            to: Claimed,
            fence: None,
            boot: Some(boot(1)),
            outcome: None,
        };
        self.apply(claim).await;
        if to == Claimed {
            return None;
        }
        let fence = self.apply(granted(request, key, &["nas01", "nas02"])).await.fence.expect("a grant has a fence");
        if to == Granted {
            return Some(fence);
        }
        self.apply(moved(key, Granted, Started)).await;
        if to != Started {
            self.apply(ended(key, fence, to)).await;
        }
        Some(fence)
    }

    /// The run is over.
    pub async fn finish(&self, run: &RunId, state: RunState) {
        self.apply_at(Change::RunFinished { run: run.clone(), state, voided: false }, 70).await;
    }

    /// Appends an event without any other change: an agent was heard of.
    pub async fn append(&self, events: &[Event], secs: i64) {
        let facts = chiffon_core::facts::AgentFacts {
            kind: chiffon_schemas::AgentKind::Infra,
            boot: boot(1),
            heard: at(secs),
            ansible_core: Some("2.19.3".to_owned()),
        };
        let change = Change::AgentHeard { agent: name("infra"), facts, ended: Vec::new() };
        self.store.apply(self.repository, change, events, &[], at(secs)).await.expect("appended");
    }

    /// The kinds of events, oldest first.
    pub async fn kinds(&self) -> Vec<String> {
        let mut events = self.store.events(self.repository, &EventFilter::default()).await.expect("events");
        events.reverse();
        events.into_iter().map(|event| event.kind).collect()
    }
}

/// An offer is recorded in no other's place.
pub fn recorded(request: &Name, offer: &Offer) -> Change {
    Change::OfferRecorded { name: request.clone(), replaces: None, offer: Box::new(offer.clone()) }
}

/// A text as a JSON command.
pub fn command(text: &str) -> Json {
    serde_json::json!({ "cancel": { "name": text } })
}
