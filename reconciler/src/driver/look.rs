//! Looks: at a request, at what all requests share, and at what git says of a plan's ground.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use chiffon_core::facts::{LockHolder, RequestFacts, World};
use chiffon_core::{Freshness, State};
use chiffon_requests::Repo;
use chiffon_schemas::{Host, Name, Oid, Pin, RepoPath};
use chiffon_store::{Cursor, Ground, Seen};

use super::{Driver, Error, Known, Shared, blocking, pages};
use crate::environment;

/// Longer than this without listening, and what agents said in the meantime may be unheard.
const DEAF_SECS: i64 = 5;

impl Driver {
    /// The facts of a request, with what only git knows, and the world.
    pub(crate) async fn look_at(&self, name: &Name) -> Result<Option<(RequestFacts, World)>, Error> {
        let Some(mut facts) = self.store.facts(self.repository, name).await? else { return Ok(None) };
        self.look_at_branch(&mut facts)?;
        Ok(Some((facts, World::clone(&*self.world().await?))))
    }

    /// What only git knows of a request.
    pub(super) fn look_at_branch(&self, facts: &mut RequestFacts) -> Result<(), Error> {
        let plan_path = chiffon_requests::plan_path(&facts.path);
        facts.plan_branch = blocking(|| self.plain.plan_branch(&facts.name, &plan_path))?;
        Ok(())
    }

    /// A request as it is, with what only git knows; where its change counter is still `version` without asking the store
    /// anew.
    pub(super) async fn seen(&mut self, name: &Name, version: Option<i64>) -> Result<Option<Arc<Seen>>, Error> {
        if self.known.get(name).is_none_or(|known| Some(known.seen.version) != version) {
            let Some(seen) = self.store.seen(self.repository, name).await? else {
                self.known.remove(name);
                return Ok(None);
            };
            self.known.insert(name.clone(), Known { seen: Arc::new(seen), at_rest: false });
        }
        let Some(known) = self.known.get_mut(name) else { return Ok(None) };
        let facts = &known.seen.facts;
        let branch = blocking(|| self.plain.plan_branch(name, &chiffon_requests::plan_path(&facts.path)))?;
        if branch != facts.plan_branch {
            Arc::make_mut(&mut known.seen).facts.plan_branch = branch;
        }
        Ok(Some(Arc::clone(&known.seen)))
    }

    /// Remembers that nothing was left to do of a request as it was seen last.
    pub(super) async fn settle(&mut self, name: &Name) -> Result<(), Error> {
        let Some(known) = self.known.get_mut(name).filter(|known| !known.at_rest) else { return Ok(()) };
        self.store.settle(self.repository, name, known.seen.version).await?;
        known.at_rest = true;
        Ok(())
    }

    /// Asks anew what all requests share, the next time that it is needed.
    pub(super) fn forget_ground(&self) {
        *self.shared() = Shared::default();
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all requests share, as it was in this tick after the last change of ours.
    async fn ground(&self) -> Result<Arc<Ground>, Error> {
        let known = self.shared().ground.clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let ground = Arc::new(self.store.ground(self.repository).await?);
        *self.shared() = Shared { ground: Some(Arc::clone(&ground)), world: None };
        Ok(ground)
    }

    /// What was last seen of the git side. Nobody but this driver moves it.
    pub(super) async fn cursor(&self) -> Result<Cursor, Error> {
        Ok(self.ground().await?.cursor.clone())
    }

    /// The audit branch was moved to a commit, and that is a row.
    pub(super) fn audit_moved(&self, commit: &Oid) {
        if let Some(ground) = &mut self.shared().ground {
            Arc::make_mut(ground).cursor.audit = Some(commit.clone());
        }
    }

    /// What all requests share: put together once for as long as nothing of it changes, since there may be many requests.
    pub(crate) async fn world(&self) -> Result<Arc<World>, Error> {
        let ground = self.ground().await?;
        let now = environment::now();
        // A tick that takes long does not listen either.
        let listening_since = if now > self.tick_began.plus_secs(DEAF_SECS) { now } else { self.listening_since };
        let mut shared = self.shared();
        if let Some(known) = &shared.world
            && (known.now, known.listening_since) == (now, listening_since)
        {
            return Ok(Arc::clone(known));
        }
        let world = Arc::new(World {
            now,
            listening_since,
            infra: ground.cursor.infra.clone().filter(|_| self.infra_error.is_none()),
            locks: self.reserved.clone().into_iter().chain(ground.locks.clone()).collect(),
            agents: ground.agents.clone(),
            load: ground.load.clone(),
            policy: self.config.policy.clone(),
            forge: self.forge.as_ref().map(|forge| forge.facts.clone()),
        });
        shared.world = Some(Arc::clone(&world));
        Ok(world)
    }

    /// Keeps hosts for who waits for nothing but a claim, through the rest of this pass.
    pub(super) fn reserve(&mut self, hosts: BTreeMap<Host, LockHolder>) {
        for (host, holder) in hosts {
            if let Some(world) = &mut self.shared().world {
                Arc::make_mut(world).locks.entry(host.clone()).or_insert_with(|| holder.clone());
            }
            self.reserved.entry(host).or_insert(holder);
        }
    }

    /// Nothing is kept for anybody: a new pass begins.
    pub(super) fn forget_reserved(&mut self) {
        self.reserved.clear();
        self.shared().world = None;
    }

    /// How fresh the plan is whose ground matters; a request without one has nothing to be stale.
    pub(super) fn freshness_of(&mut self, facts: &RequestFacts, world: &World) -> Freshness {
        chiffon_core::ground_of(facts)
            .map_or(Freshness::Fresh, |(oid, plan)| self.freshness(oid, &plan.spec.reads, world.infra.as_ref()))
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

    pub(super) fn remember_state(&mut self, facts: &RequestFacts, state: State) {
        if let Some(states) = &mut self.states {
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
            let names = self.store.names(self.repository, false).await?;
            self.states = Some(BTreeMap::new());
            for name in names {
                match self.look_at(&name).await {
                    Ok(Some((facts, world))) => self.remember_state(&facts, chiffon_core::state(&facts, &world)),
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
