//! The driver: looks at what is, asks `core::decide` for the next steps, and carries them out.
//!
//! One tick reads git, commands and agents' messages, then brings every active request to rest. A tick has no input:
//! whatever woke it only said when to look. Effects follow one order: row and outbox in one transaction, then the
//! audit commit, then anything that others see. A grant alone goes out beside its commit: what approved it was
//! committed before, and what is approved without a result is never run again by itself.

mod act;
mod agents;
mod audit;
pub(crate) mod commands;
mod ingest;
pub(crate) mod main_branch;
pub(crate) mod pages;
mod planning;
mod results;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use chiffon_core::catalogue::Catalogue;
use chiffon_core::facts::{LockHolder, RequestFacts, World};
use chiffon_core::{Decision, Freshness, State};
use chiffon_forge::Plain;
use chiffon_link::Hub;
use chiffon_requests::{Locks, RefName, Repo};
use chiffon_schemas::{AttemptKey, Evidence, Host, Name, Oid, Pin, RepoPath, Timestamp};
use chiffon_store::{RepositoryId, Store};

use crate::config::Config;
use crate::environment::{self, Environment};
use crate::home::Home;

/// More rounds than this for one request in one tick would mean that decisions chase each other.
const MAX_ROUNDS: usize = 32;

/// Why a tick did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A person has to look before anything goes on.
    #[error("{0}")]
    Stalled(String),
    /// The store failed; the next tick tries again.
    #[error("the store failed")]
    Store(#[from] chiffon_store::Error),
    /// A repository failed; the next tick tries again.
    #[error("a git repository failed")]
    Git(#[from] chiffon_requests::Error),
    /// Showing a plan failed; the next tick tries again.
    #[error("the plan could not be shown")]
    Forge(#[from] chiffon_forge::Error),
}

/// What a tick did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tick {
    /// How many actions were carried out.
    pub actions: usize,
    /// When to look again at the latest.
    pub look_again: Option<Timestamp>,
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
    store: Arc<dyn Store>,
    hub: Arc<dyn Hub>,
    catalogue: Option<(Oid, Arc<Catalogue>)>,
    evidence: BTreeMap<Oid, Evidence>,
    freshness: BTreeMap<(Oid, Oid), Freshness>,
    infra_error: Option<String>,
    stops_sent: HashSet<AttemptKey>,
    looks: BTreeMap<Name, Timestamp>,
    states: Option<BTreeMap<Name, (State, String)>>,
    audit_checked: bool,
    /// A run ended in this tick.
    freed_hosts: bool,
    /// Hosts that a more urgent run was ordered for in this pass and does not hold yet: nobody after it may take them.
    reserved: BTreeMap<Host, LockHolder>,
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
            stops_sent: HashSet::new(),
            looks: BTreeMap::new(),
            states: None,
            audit_checked: false,
            freed_hosts: false,
            reserved: BTreeMap::new(),
        })
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

    /// Looks at everything once and brings every active request to rest. `fetch` says whether the infra repository
    /// is asked for news too, which for a remote one costs a round trip.
    ///
    /// # Errors
    /// A person has to look, or the store or a repository failed. Nothing is lost by that: the next tick begins anew.
    pub async fn tick(&mut self, fetch: Fetch) -> Result<Tick, Error> {
        self.check_audit().await?;
        // What an earlier tick decided is on the audit branch before anything new is decided.
        self.drain_audit().await?;
        if fetch == Fetch::Yes || self.infra.is_none() {
            say_removed(&blocking(|| self.requests.clear_locks(Locks::PlanBranches)));
            self.fetch_infra().await?;
        }
        self.ingest_main().await?;
        let mut tick = Tick { actions: self.take_commands().await?, look_again: None };
        tick.actions += self.settle_all().await?;
        // Agents begin to work while the record is written: an order is only looked at, and of a grant the approval is on
        // the audit branch since the tick before.
        self.relay().await?;
        self.drain_audit().await?;
        let now = environment::now();
        tick.look_again = self.looks.values().min().map(|at| (*at).max(now));
        Ok(tick)
    }

    /// Brings every active request to rest, the most urgent first. Where a run's end frees hosts, it begins anew, so
    /// that they go to the most urgent of those that wait.
    async fn settle_all(&mut self) -> Result<usize, Error> {
        let mut done = 0;
        self.reserved.clear();
        let mut names = self.store.active(self.repository).await?.into_iter();
        while let Some(name) = names.next() {
            done += self.settle_request(&name).await?;
            if std::mem::take(&mut self.freed_hosts) {
                self.reserved.clear();
                names = self.store.active(self.repository).await?.into_iter();
            }
        }
        self.reserved.clear();
        Ok(done)
    }

    /// Brings one request to rest.
    async fn settle_request(&mut self, name: &Name) -> Result<usize, Error> {
        let mut done = 0;
        for _ in 0..MAX_ROUNDS {
            let seen = self.store.version(self.repository, name).await?;
            let Some((facts, world)) = self.look_at(name).await? else { return Ok(done) };
            let decision = self.decision(&facts, &world)?;
            self.remember_look(name, &decision);
            self.remember_state(&facts, &world);
            if decision.actions.is_empty() {
                self.reserve(&facts, &world);
                self.store.settle(self.repository, name, seen).await?;
                return Ok(done);
            }
            tracing::debug!(request = %name, why = %decision.why, "decided");
            let mut acted = 0;
            for action in decision.actions {
                match self.act(&facts, &world, action).await {
                    Ok(did) => acted += usize::from(did),
                    // Somebody was faster: what is now decides anew.
                    Err(Error::Store(chiffon_store::Error::Conflict { what, found })) => {
                        tracing::debug!(request = %name, what, found, "looked again");
                        acted += 1;
                        break;
                    }
                    Err(error) => return Err(error),
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

    /// Keeps the hosts of a run that waits for nothing but its agent's claim for it, through the rest of this pass.
    fn reserve(&mut self, facts: &RequestFacts, world: &World) {
        let Some(run) = facts.run.as_ref().filter(|_| chiffon_core::state(facts, world) == State::Queued) else {
            return;
        };
        let Some(attempt) = run.attempts.iter().rev().find(|attempt| attempt.round == run.round) else { return };
        for host in &run.plan.spec.touches.hosts {
            self.reserved.entry(host.clone()).or_insert_with(|| LockHolder {
                request: facts.name.clone(),
                run: run.id.clone(),
                step: attempt.step.clone(),
                attempt: attempt.number,
            });
        }
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

    /// The facts of a request, with what only git knows, and the world.
    pub(crate) async fn look_at(&self, name: &Name) -> Result<Option<(RequestFacts, World)>, Error> {
        let Some(mut facts) = self.store.facts(self.repository, name).await? else { return Ok(None) };
        let plan_path = chiffon_requests::plan_path(&facts.path);
        facts.plan_branch = blocking(|| self.plain.plan_branch(name, &plan_path))?;
        Ok(Some((facts, self.world().await?)))
    }

    /// What all requests share.
    pub(crate) async fn world(&self) -> Result<World, Error> {
        let cursor = self.store.cursor(self.repository).await?;
        Ok(World {
            now: environment::now(),
            infra: if self.infra_error.is_some() { None } else { cursor.infra },
            locks: self.reserved.clone().into_iter().chain(self.store.locks(self.repository).await?).collect(),
            agents: self.store.agents().await?,
            policy: self.config.policy.clone(),
        })
    }

    fn decision(&mut self, facts: &RequestFacts, world: &World) -> Result<Decision, Error> {
        let freshness = match chiffon_core::open_offer(facts) {
            Some(offer) => self.freshness(&offer.plan_oid, &offer.plan.spec.reads, world.infra.as_ref()),
            None => Freshness::Fresh,
        };
        Ok(chiffon_core::decide(facts, world, freshness))
    }

    /// Whether everything that a plan reads is as it was, at the tip of the infra branch.
    pub(crate) fn freshness(&mut self, plan: &Oid, reads: &BTreeMap<RepoPath, Pin>, infra: Option<&Oid>) -> Freshness {
        let (Some(tip), Some(repo)) = (infra, &self.infra) else { return Freshness::Unknown };
        let key = (plan.clone(), tip.clone());
        if let Some(known) = self.freshness.get(&key) {
            return *known;
        }
        let answer = blocking(|| reads_hold(repo, tip, reads));
        let freshness = match answer {
            Ok(true) => Freshness::Fresh,
            Ok(false) => Freshness::Stale,
            Err(_) => return Freshness::Unknown,
        };
        // Only the last tip is asked about again.
        self.freshness.retain(|(_, known), _| known == tip);
        self.freshness.insert(key, freshness);
        freshness
    }

    fn remember_state(&mut self, facts: &RequestFacts, world: &World) {
        if let Some(states) = &mut self.states {
            let state = chiffon_core::state(facts, world);
            let why = pages::why(&state, facts);
            states.insert(facts.name.clone(), (state, why));
        }
    }

    /// Every request that is not archived, with its state and why it is so: read whole once, and then kept by what
    /// each tick finds, so that a tick costs what is active and not what there is.
    ///
    /// # Errors
    /// The store or the repository failed.
    pub async fn states(&mut self) -> Result<&BTreeMap<Name, (State, String)>, Error> {
        if self.states.is_none() {
            self.states = Some(BTreeMap::new());
            for name in self.store.names(self.repository, false).await? {
                match self.look_at(&name).await {
                    Ok(Some((facts, world))) => self.remember_state(&facts, &world),
                    Ok(None) => {}
                    Err(error) => {
                        self.states = None;
                        return Err(error);
                    }
                }
            }
        }
        Ok(self.states.get_or_insert_default())
    }

    /// Asks every run that is under way to stop.
    ///
    /// # Errors
    /// The store failed.
    pub async fn cancel_all(&mut self) -> Result<(), Error> {
        for name in self.store.active(self.repository).await? {
            let Some(facts) = self.store.facts(self.repository, &name).await? else { continue };
            if facts.run.as_ref().is_some_and(|run| run.state.is_none() && !run.cancel) {
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

/// Whether a tick asks the infra repository for news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// It does.
    Yes,
    /// It takes what is there.
    No,
}

fn say_removed(locks: &[String]) {
    for path in locks {
        tracing::warn!(%path, "removed a lock that a killed process left behind");
    }
}

/// Whether every pin holds at a commit.
fn reads_hold(repo: &Repo, commit: &Oid, reads: &BTreeMap<RepoPath, Pin>) -> Result<bool, chiffon_requests::Error> {
    for (path, pin) in reads {
        let found = repo.entry_at(commit, path)?.map(|entry| entry.oid);
        let holds = match pin {
            Pin::Absent => found.is_none(),
            Pin::Object(oid) => found.as_ref() == Some(oid),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}
