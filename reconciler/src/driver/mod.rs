//! The driver: looks at what is, asks `core::decide` for the next steps, and carries them out.
//!
//! One tick reads git, commands and agents' messages, then brings every active request to rest. A tick has no input:
//! whatever woke it only said when to look. Effects follow one order: row and outbox in one transaction, then the
//! audit commit, then anything that others see. A grant alone goes out beside its commit: what approved it was
//! committed before, and what is approved without a result is never run again by itself.

mod act;
mod agents;
mod audit;
mod commands;
mod comments;
mod error;
mod forge;
mod ingest;
mod look;
pub(crate) mod main_branch;
pub(crate) mod pages;
mod planning;
mod relay;
mod reports;
mod results;
mod undo;
mod view;
mod writing;

pub use comments::Comment;
pub use error::Error;
pub use forge::{ForgeJob, ForgeNews};
pub use ingest::Fetched;
pub use view::{STICKY, View, all_labels};
pub use writing::{Write, Written};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use chiffon_core::catalogue::Catalogue;
use chiffon_core::facts::{LockHolder, RequestFacts, Run, World};
use chiffon_core::{Action, Decision, Freshness, State, Waiting};
use chiffon_forge::Plain;
use chiffon_link::Hub;
use chiffon_requests::{Locks, RefName, Repo};
use chiffon_schemas::{
    AttemptKey, AttemptState, BootId, Evidence, Host, Name, Oid, Recorder, Span, Timestamp, TraceParent,
};
use chiffon_store::{Ground, NewParked, RepositoryId, Seen, Store};

use crate::config::Config;
use crate::environment::{self, Environment};
use crate::home::Home;

/// More rounds than this for one request in one tick would mean that decisions chase each other.
const MAX_ROUNDS: usize = 32;

/// How long after a request was in trouble it is looked at again.
const TROUBLE_SECS: i64 = 30;

/// What a tick did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tick {
    /// How many actions were carried out.
    pub actions: usize,
    /// When to look again at the latest.
    pub look_again: Option<Timestamp>,
    /// Requests that could not be brought to rest, and why; the others were.
    pub troubles: BTreeMap<Name, String>,
    /// How many messages the bus took since the last time.
    pub sent: u64,
    /// Messages that nobody could use, since the last time.
    pub parked: Vec<NewParked>,
}

/// An active request as it was seen last, with its plan branch.
struct Known {
    seen: Arc<Seen>,
    /// The store was told that nothing is left to do.
    at_rest: bool,
}

/// What all requests share, as it was in this tick after the last change of ours.
#[derive(Default)]
struct Shared {
    ground: Option<Arc<Ground>>,
    /// Put together of the ground.
    world: Option<Arc<World>>,
}

/// Looks, decides and acts. There is one for each requests repository.
pub struct Driver {
    home: Home,
    environment: Environment,
    config: Config,
    repository: RepositoryId,
    requests: Repo,
    infra: Option<Repo>,
    plain: Plain,
    /// The forge, where the requests repository is a copy of one of its.
    forge: Option<forge::ForgeSide>,
    store: Arc<dyn Store>,
    hub: Arc<dyn Hub>,
    catalogue: Option<(Oid, Arc<Catalogue>)>,
    evidence: BTreeMap<Oid, Evidence>,
    freshness: BTreeMap<(Oid, Oid), Freshness>,
    infra_error: Option<String>,
    /// Which attempts were told to stop, and when last.
    stops_sent: BTreeMap<AttemptKey, Timestamp>,
    looks: BTreeMap<Name, Timestamp>,
    troubles: BTreeMap<Name, String>,
    /// Nothing new begins: what runs comes to its end, and the rest waits for the next start.
    winding_down: bool,
    listening_since: Timestamp,
    logs_forgotten: Option<Timestamp>,
    /// A command of this tick wrote to `main`.
    wrote_main: bool,
    tick_began: Timestamp,
    states: Option<BTreeMap<Name, (State, String)>>,
    audit_checked: bool,
    /// Active requests as they were seen last: read again where their change counter is another one.
    known: BTreeMap<Name, Known>,
    shared: Mutex<Shared>,
    /// Every event of this driver is on the audit branch, and what it found there at its start as well.
    all_audited: AtomicBool,
    /// Reports that are stored and of which their agents are not told yet.
    stored: Vec<(Name, AttemptKey, u64)>,
    /// When what was put aside on the bus was looked for.
    parked_looked: Option<Timestamp>,
    /// A run ended in this tick.
    freed_hosts: bool,
    /// Who waits for hosts that another one holds, of those that this pass looked at.
    wait_for_hosts: Vec<Name>,
    /// Hosts that a more urgent run was ordered for in this pass and does not hold yet: nobody after it may take them.
    reserved: BTreeMap<Host, LockHolder>,
    /// Agents that the bus knows.
    admitted: BTreeSet<Name>,
    /// Agents whose queue took nothing lately, and until when they are left alone.
    unreached: BTreeMap<Name, Timestamp>,
    /// Agents to which no hints are offered, and until when.
    deaf: BTreeMap<Name, Timestamp>,
    /// Lives of agents that another one followed, and since when.
    superseded: BTreeMap<(Name, BootId), Timestamp>,
    /// Agents whose name two processes use, and when that was said last.
    suspected: BTreeMap<Name, Timestamp>,
    /// When agents were asked for their hello last.
    asked: BTreeMap<Name, Timestamp>,
    /// Attempts whose grant was declined, and that were ordered once more.
    declined: BTreeSet<AttemptKey>,
    /// Attempts of which it is recorded that a report under a stale fence was refused.
    refused: BTreeSet<AttemptKey>,
    /// Attempts that are not in the store, and of which a report was put aside.
    unknown: BTreeSet<AttemptKey>,
    /// Messages that the driver put aside, and that nobody was told of yet.
    put_aside: Vec<NewParked>,
    /// Messages that the bus took since the last tick.
    sent: u64,
    recorder: Recorder,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("home", &self.home).finish_non_exhaustive()
    }
}

/// Runs blocking git work on this thread without holding up the runtime's others.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

impl Driver {
    /// A driver over a home, its store and the bus.
    ///
    /// # Errors
    /// The requests repository can't be opened, or the store fails.
    pub async fn new(
        home: Home,
        environment: Environment,
        config: Config,
        store: Arc<dyn Store>,
        hub: Arc<dyn Hub>,
    ) -> Result<Self, Error> {
        let requests = blocking(|| Repo::open(&config.requests))?;
        say_removed(&requests.clear_locks(Locks::Own));
        let repository = store.repository(&config.spec.name).await?;
        Ok(Self {
            plain: Plain::new(requests.clone()),
            forge: None,
            home,
            environment,
            config,
            repository,
            requests,
            infra: None,
            store,
            hub,
            catalogue: None,
            evidence: BTreeMap::new(),
            freshness: BTreeMap::new(),
            infra_error: None,
            stops_sent: BTreeMap::new(),
            looks: BTreeMap::new(),
            troubles: BTreeMap::new(),
            winding_down: false,
            listening_since: environment::now(),
            logs_forgotten: None,
            wrote_main: false,
            tick_began: environment::now(),
            states: None,
            audit_checked: false,
            known: BTreeMap::new(),
            shared: Mutex::default(),
            all_audited: AtomicBool::new(false),
            stored: Vec::new(),
            parked_looked: None,
            freed_hosts: false,
            wait_for_hosts: Vec::new(),
            reserved: BTreeMap::new(),
            admitted: BTreeSet::new(),
            unreached: BTreeMap::new(),
            deaf: BTreeMap::new(),
            superseded: BTreeMap::new(),
            suspected: BTreeMap::new(),
            asked: BTreeMap::new(),
            declined: BTreeSet::new(),
            refused: BTreeSet::new(),
            unknown: BTreeSet::new(),
            put_aside: Vec::new(),
            sent: 0,
            recorder: Recorder::nobody(),
        })
    }

    /// Where spans of runs go from now on.
    pub fn record(&mut self, recorder: Recorder) {
        self.recorder = recorder;
    }

    /// The requests repository is a copy of a forge's from now on: what is to be done there goes to `jobs`.
    pub fn on_forge(&mut self, base: String, jobs: tokio::sync::mpsc::UnboundedSender<ForgeJob>) {
        self.plain = Plain::copy(self.requests.clone());
        self.forge = Some(forge::ForgeSide::new(base, jobs));
    }

    /// Takes a new configuration; the next tick works by it.
    pub fn reconfigure(&mut self, config: Config) {
        self.catalogue = None;
        self.config = config;
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Why the infra repository can't be read, where it can't.
    pub fn infra_trouble(&self) -> Option<String> {
        self.infra_error.clone()
    }

    /// Begins nothing new from now on; what runs comes to its end.
    pub fn wind_down(&mut self) {
        self.winding_down = true;
    }

    /// Nobody listened to agents until now: from now on counts who is silent.
    pub fn was_deaf(&mut self) {
        self.listening_since = environment::now();
    }

    /// Looks at everything once and brings every active request to rest.
    ///
    /// # Errors
    /// A person has to look, or the store or a repository failed. Nothing is lost by that: the next tick begins anew.
    pub async fn tick(&mut self) -> Result<Tick, Error> {
        self.tick_began = environment::now();
        self.forget_ground();
        self.admit_agents().await?;
        self.check_audit().await?;
        // What an earlier tick decided is on the audit branch before anything new is decided.
        self.drain_audit().await?;
        let settled = self.read_and_settle().await;
        // Agents begin to work while the record is written: an order is only looked at, and of a grant the approval is on
        // the audit branch since the tick before.
        self.relay().await?;
        let (parked, parked_due) = self.look_for_parked().await?;
        self.drain_audit().await?;
        // What has no pull request is told there by its record alone.
        self.push_audit()?;
        let now = environment::now();
        let sent = std::mem::take(&mut self.sent);
        let look_again = self.looks.values().copied().chain(parked_due).min().map(|at| at.max(now));
        Ok(Tick { actions: settled?, look_again, troubles: self.troubles.clone(), sent, parked })
    }

    async fn read_and_settle(&mut self) -> Result<usize, Error> {
        self.ingest_main().await?;
        let taken = self.take_commands().await?;
        // Nobody else tells us of what we wrote ourselves.
        if std::mem::take(&mut self.wrote_main) {
            self.ingest_main().await?;
        }
        Ok(taken + self.settle_all().await?)
    }

    /// Brings every active request to rest, the most urgent first. Where a run's end frees hosts, those before it that wait
    /// for hosts are looked at again first, so that they go to the most urgent of all that wait.
    async fn settle_all(&mut self) -> Result<usize, Error> {
        let mut done = 0;
        self.forget_reserved();
        self.wait_for_hosts.clear();
        let mut names = self.active().await?;
        while let Some((name, version)) = names.pop_front() {
            match self.settle_request(&name, version).await {
                Ok(count) => {
                    done += count;
                    self.troubles.remove(&name);
                }
                Err(error) if error.is_of_one_request() => {
                    self.looks.insert(name.clone(), environment::now().plus_secs(TROUBLE_SECS));
                    self.troubles.insert(name.clone(), crate::commands::chain(&error));
                }
                Err(error) => return Err(error),
            }
            if std::mem::take(&mut self.freed_hosts) {
                for name in std::mem::take(&mut self.wait_for_hosts).into_iter().rev() {
                    names.push_front((name, None));
                }
            }
        }
        self.forget_reserved();
        Ok(done)
    }

    /// What is to be looked at, with change counters.
    async fn active(&mut self) -> Result<VecDeque<(Name, Option<i64>)>, Error> {
        let active = self.store.active(self.repository).await?;
        let names: BTreeSet<&Name> = active.iter().map(|(name, _)| name).collect();
        self.known.retain(|name, _| names.contains(name));
        Ok(active.into_iter().map(|(name, version)| (name, Some(version))).collect())
    }

    /// Brings one request to rest. Only where its change counter is another than it was is it read.
    async fn settle_request(&mut self, name: &Name, mut version: Option<i64>) -> Result<usize, Error> {
        let mut done = 0;
        for _ in 0..MAX_ROUNDS {
            let Some(seen) = self.seen(name, version.take()).await? else { return Ok(done) };
            let facts = &seen.facts;
            let world = self.world().await?;
            let freshness = self.freshness_of(facts, &world);
            let mut decision = chiffon_core::decide(facts, &world, freshness);
            if self.winding_down {
                decision.actions.retain(|action| !begins(action));
            }
            self.remember_look(name, &decision);
            let state = chiffon_core::state(facts, &world);
            let waits = matches!(state, State::Paused(Waiting::HostLocked { .. }));
            if waits && self.wait_for_hosts.last() != Some(name) {
                self.wait_for_hosts.push(name.clone());
            }
            let reserves = to_reserve(facts, &state);
            let shown = self.show_on_forge(facts, &state, freshness).await?;
            self.remember_state(facts, state);
            if decision.actions.is_empty() {
                drop(world);
                self.reserve(reserves);
                // What waits for the next start is looked at again then.
                if shown && !self.winding_down {
                    self.settle(name).await?;
                }
                return Ok(done);
            }
            tracing::debug!(request = %name, why = %decision.why, "decided");
            let mut acted = 0;
            for action in decision.actions {
                let (word, began_ms) = (span_of(&action), self.recorder.now());
                match self.act(facts, &world, action).await {
                    Ok(did) => {
                        acted += usize::from(did);
                        self.record_action(facts, word, began_ms);
                    }
                    Err(error) => {
                        // Somebody was faster: what is now decides anew.
                        let Some(found) = error.is_race() else { return Err(error) };
                        tracing::debug!(request = %name, found, "looked again");
                        acted += 1;
                        break;
                    }
                }
            }
            done += acted;
            if acted == 0 {
                return Ok(done);
            }
        }
        tracing::warn!(request = %name, "did not come to rest in one tick");
        Ok(done)
    }

    /// What was done about a run, for its trace.
    fn record_action(&self, facts: &RequestFacts, word: Option<&'static str>, began_ms: u64) {
        let (Some(name), Some(run)) = (word, &facts.run) else { return };
        self.recorder.take(|| {
            let parent = TraceParent::of_run(&run.id);
            let at = parent.child(&format!("{name} {began_ms}"));
            let facts = vec![("chiffon.request", facts.name.to_string())];
            Span { name, at, parent: Some(parent), began_ms, ended_ms: self.recorder.now(), facts, failure: None }
        });
    }

    fn remember_look(&mut self, name: &Name, decision: &Decision) {
        match decision.look_again {
            Some(at) => {
                self.looks.insert(name.clone(), at);
            }
            None => {
                self.looks.remove(name);
            }
        }
    }

    /// Requests of which an agent may be at work now.
    ///
    /// # Errors
    /// The store failed.
    pub async fn at_work(&self) -> Result<Vec<Name>, Error> {
        let mut at_work = Vec::new();
        for (name, _) in self.store.active(self.repository).await? {
            let facts = self.store.facts(self.repository, &name).await?;
            if facts.and_then(|facts| facts.run).is_some_and(|run| is_at_work(&run)) {
                at_work.push(name);
            }
        }
        Ok(at_work)
    }

    /// Asks every run to stop of which an agent may be at work now. One that has not begun waits for the next start.
    ///
    /// # Errors
    /// The store failed.
    pub async fn cancel_all(&mut self) -> Result<(), Error> {
        for name in self.at_work().await? {
            let Some(facts) = self.store.facts(self.repository, &name).await? else { continue };
            if facts.run.as_ref().is_some_and(|run| !run.cancel) {
                self.cancel(&facts).await?;
            }
        }
        Ok(())
    }

    /// `main` of the requests repository.
    pub(crate) fn main(&self) -> RefName {
        RefName::branch("main").expect("a constant branch name")
    }
}

/// Why a request is in a state, and what a person would do next.
pub fn words(state: &State, facts: &RequestFacts) -> (String, String) {
    (pages::why(state, facts), pages::next(state, facts))
}

/// The hosts of a run that waits for nothing but its agent's claim.
fn to_reserve(facts: &RequestFacts, state: &State) -> BTreeMap<Host, LockHolder> {
    let Some(run) = facts.run.as_ref().filter(|_| *state == State::Queued) else { return BTreeMap::new() };
    let Some(attempt) = run.attempts.iter().rev().find(|attempt| attempt.round == run.round) else {
        return BTreeMap::new();
    };
    let holder = LockHolder {
        request: facts.name.clone(),
        run: run.id.clone(),
        step: attempt.step.clone(),
        attempt: attempt.number,
    };
    run.plan.spec.touches.hosts.iter().map(|host| (host.clone(), holder.clone())).collect()
}

/// How an action is called in a trace, where it is about a run.
fn span_of(action: &Action) -> Option<&'static str> {
    match action {
        Action::Order { .. } => Some("order"),
        Action::Reorder { .. } => Some("order again"),
        Action::Grant { .. } => Some("grant"),
        Action::Stop { .. } => Some("stop"),
        Action::Lose { .. } => Some("lose"),
        Action::Finish { .. } => Some("finish"),
        Action::Plan { .. }
        | Action::Approve { .. }
        | Action::TakeEdit { .. }
        | Action::Show { .. }
        | Action::Propose { .. }
        | Action::AskForge
        | Action::Close { .. }
        | Action::RemoveBranch
        | Action::Refuse { .. }
        | Action::Drop { .. }
        | Action::Void { .. }
        | Action::EndPause => None,
    }
}

/// Whether an action begins something that was not under way.
fn begins(action: &Action) -> bool {
    match action {
        Action::Plan { .. } | Action::Approve { .. } | Action::Order { .. } | Action::Grant { .. } => true,
        Action::TakeEdit { .. }
        | Action::Show { .. }
        | Action::Propose { .. }
        | Action::AskForge
        | Action::Close { .. }
        | Action::RemoveBranch
        | Action::Refuse { .. }
        | Action::Drop { .. }
        | Action::Stop { .. }
        | Action::Reorder { .. }
        | Action::Lose { .. }
        | Action::Finish { .. }
        | Action::Void { .. }
        | Action::EndPause => false,
    }
}

fn is_at_work(run: &Run) -> bool {
    let working = |state: AttemptState| matches!(state, AttemptState::Granted | AttemptState::Started);
    run.state.is_none() && run.attempts.iter().any(|attempt| working(attempt.state))
}

fn say_removed(locks: &[String]) {
    for path in locks {
        tracing::warn!(%path, "removed a lock that a killed process left behind");
    }
}
