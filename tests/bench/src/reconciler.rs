//! The reconciler's loop without its git side: the store's calls of a tick and of each message in the driver's order
//! (`reconciler/src/driver`), decided by the real `decide`. Where the driver would write the audit branch, only the
//! rows are written.

mod act;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chiffon_core::facts::{AgentFacts, Attempt, Event, Run, World};
use chiffon_core::{Freshness, Policy, decide};
use chiffon_link::amqp::{AmqpHub, Settings};
use chiffon_link::{Hub, Signer};
use chiffon_schemas::{
    AgentMessage, AttemptKey, AttemptState, BootId, Fence, FromAgent, Hello, Name, Report, ReportBody, RunId,
    Timestamp, ToAgent,
};
use chiffon_store::{Accepted, Change, Postgres, RepositoryId, Seen, Store};
use tokio::process::Child;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::agent::{self, Options};
use crate::clock;
use crate::places::Broker;

/// As many messages, and events, as the driver takes at a time.
const BATCH: u32 = 64;

/// As many messages as the driver takes in before it looks.
const AT_ONCE: usize = 32;

/// What a message brought.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing that is decided on.
    Nothing,
    /// Something to look at.
    Look,
    /// The outcome of a run's step is a row.
    Recorded {
        /// The run.
        run: RunId,
        /// How many chunks its log has.
        chunks: u64,
    },
}

/// Where the time of steps goes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Spent {
    /// Looking, deciding and acting.
    pub ticks: Duration,
    /// Taking messages in.
    pub messages: Duration,
    /// Waiting for the agent and the broker.
    pub waiting: Duration,
}

/// A reconciler with one agent in a process of its own.
pub struct Reconciler {
    pub store: Postgres,
    pub repository: RepositoryId,
    hub: AmqpHub,
    begun: Timestamp,
    /// Active requests as they were seen last, and whether they were at rest then.
    known: Mutex<BTreeMap<Name, (Arc<Seen>, bool)>>,
    /// What all requests share, as it was in this tick after the last change.
    ground: Mutex<Option<Arc<World>>>,
    /// When what was put aside was looked for.
    parked_looked: Mutex<Option<Timestamp>>,
    /// Every event is marked.
    all_audited: AtomicBool,
    /// Where the time went so far.
    spent: Mutex<Spent>,
    /// Ends with this.
    pub agent: Child,
}

impl Reconciler {
    /// Starts the agent, and waits until it is heard.
    ///
    /// # Errors
    /// A service does not answer.
    pub async fn start(store: Postgres, broker: &Broker, folder: &Path, parallel: usize, lines: usize) -> Result<Self> {
        let repository = store.repository(&Name::parse("home").expect("a constant name")).await?;
        let hub =
            AmqpHub::new(broker.server()?, Settings::default(), Signer::generate()?, BTreeSet::from([agent::name()]));
        hub.connected().await?;
        let agent = Options::spawn(broker, hub.signer(), folder.join("agent"), parallel, lines)?;
        let reconciler = Self {
            store,
            repository,
            hub,
            begun: clock::now(),
            known: Mutex::default(),
            ground: Mutex::default(),
            parked_looked: Mutex::default(),
            all_audited: AtomicBool::new(false),
            spent: Mutex::default(),
            agent,
        };
        reconciler.take().await?;
        Ok(reconciler)
    }

    /// Puts a request with a merged plan there and approves it; the run.
    ///
    /// # Errors
    /// The store failed.
    pub async fn approve(&self, number: usize) -> Result<Run> {
        let before = number.checked_sub(1);
        for change in crate::sample::merged(number, before)? {
            self.apply(change, &[], &[]).await?;
        }
        let (run, change) = crate::sample::approved(number)?;
        self.apply(change, &[], &[]).await?;
        Ok(run)
    }

    /// Where the time went since this was asked last.
    pub async fn spent(&self) -> Spent {
        std::mem::take(&mut *self.spent.lock().await)
    }

    async fn apply(&self, change: Change, events: &[Event], messages: &[(Name, ToAgent)]) -> Result<()> {
        if change.alters_ground() {
            *self.ground.lock().await = None;
        }
        if !events.is_empty() {
            self.all_audited.store(false, Ordering::Relaxed);
        }
        Ok(self.store.apply(self.repository, change, events, messages, clock::now()).await.map(drop)?)
    }

    /// Waits for a message and takes in what waits with it; what they brought.
    ///
    /// # Errors
    /// A service failed.
    pub async fn take(&self) -> Result<Vec<News>> {
        let begun = Instant::now();
        let mut next = Some(self.hub.receive().await?);
        let arrived = Instant::now();
        let (mut news, mut stored, mut taken) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(delivery) = next.take() {
            news.push(self.take_one(delivery.message.clone(), &mut stored).await?);
            taken.push(delivery);
            if taken.len() < AT_ONCE {
                next = tokio::time::timeout(Duration::ZERO, self.hub.receive()).await.ok().transpose()?;
            }
        }
        let (_, error) = self.hub.send_all(&agent::name(), &stored.iter().collect::<Vec<_>>()).await;
        error.map_or(Ok(()), Err)?;
        for delivery in taken {
            delivery.ack().await?;
        }
        let mut spent = self.spent.lock().await;
        spent.waiting += arrived - begun;
        spent.messages += arrived.elapsed();
        Ok(news)
    }

    async fn take_one(&self, message: FromAgent, stored: &mut Vec<ToAgent>) -> Result<News> {
        let FromAgent { agent, boot, message } = message;
        match message {
            AgentMessage::Hello(hello) => self.hello(agent, boot, hello).await,
            AgentMessage::Heartbeat {} => self.heard(agent).await,
            AgentMessage::Progress { .. } => Ok(News::Nothing),
            AgentMessage::Claim { key } => self.claim(&key, boot).await,
            AgentMessage::Decline { reason, .. } => bail!("the agent declined: {reason}"),
            AgentMessage::Report(report) => self.report(&agent, report, stored).await,
        }
    }

    async fn hello(&self, agent: Name, boot: BootId, hello: Hello) -> Result<News> {
        let facts = AgentFacts { kind: hello.kind, boot, heard: clock::now(), ansible_core: hello.ansible_core };
        self.apply(Change::AgentHeard { agent, facts, ended: Vec::new() }, &[], &[]).await?;
        Ok(News::Look)
    }

    async fn heard(&self, agent: Name) -> Result<News> {
        let known = self.store.agents().await?.remove(&agent).context("an agent that is known")?;
        let facts = AgentFacts { heard: clock::now(), ..known };
        self.apply(Change::AgentHeard { agent, facts, ended: Vec::new() }, &[], &[]).await?;
        Ok(News::Nothing)
    }

    async fn claim(&self, key: &AttemptKey, boot: BootId) -> Result<News> {
        // A claim is said again with each heartbeat until it is granted.
        if self.attempt(key).await?.state != AttemptState::Ordered {
            return Ok(News::Nothing);
        }
        let change = Change::Moved {
            key: key.clone(),
            from: AttemptState::Ordered,
            to: AttemptState::Claimed,
            fence: None,
            boot: Some(boot),
            outcome: None,
        };
        self.apply(change, &[], &[]).await?;
        Ok(News::Look)
    }

    async fn report(&self, agent: &Name, report: Report, stored: &mut Vec<ToAgent>) -> Result<News> {
        let log = match &report.body {
            ReportBody::Log { chunk, text } => Some((*chunk, text.as_str())),
            ReportBody::Started {} | ReportBody::Over(_) => None,
        };
        let accepted = self.store.report(agent, &report.key, report.fence, report.seq, log, clock::now()).await?;
        let Accepted::Stored(seq) = accepted else { bail!("report {}: {accepted:?}", report.seq) };
        let news = match report.body {
            ReportBody::Log { .. } => News::Nothing,
            ReportBody::Started {} => {
                self.moved(&report.key, AttemptState::Granted, AttemptState::Started, report.fence, None).await?;
                News::Nothing
            }
            ReportBody::Over(outcome) => {
                self.attempt(&report.key).await?;
                let (to, chunks) = (AttemptState::Succeeded, outcome.log.chunks);
                self.moved(&report.key, AttemptState::Started, to, report.fence, Some(outcome)).await?;
                News::Recorded { run: report.key.run.clone(), chunks }
            }
        };
        match stored.last_mut() {
            Some(ToAgent::Stored { key, seq: last }) if *key == report.key => *last = seq,
            _ => stored.push(ToAgent::Stored { key: report.key, seq }),
        }
        Ok(news)
    }

    async fn moved(
        &self,
        key: &AttemptKey,
        from: AttemptState,
        to: AttemptState,
        fence: Fence,
        outcome: Option<Box<chiffon_schemas::Outcome>>,
    ) -> Result<()> {
        let change = Change::Moved { key: key.clone(), from, to, fence: Some(fence), boot: None, outcome };
        match self.apply(change, &[], &[]).await {
            // A report that came again changes nothing.
            Err(error) if matches!(error.downcast_ref(), Some(chiffon_store::Error::Conflict { .. })) => Ok(()),
            done => done,
        }
    }

    async fn attempt(&self, key: &AttemptKey) -> Result<Attempt> {
        let (_, seen) = self.store.seen_by_run(&key.run).await?.context("a run that is known")?;
        let run = seen.facts.run.filter(|run| run.id == key.run).context("the last run")?;
        run.attempts.into_iter().find(|attempt| attempt.number == key.attempt).context("an attempt that is known")
    }

    /// Looks at what is active. Each run has a host of its own here, so that nobody waits for what another one frees.
    ///
    /// # Errors
    /// A service failed, or something else is decided than was to come.
    pub async fn tick(&self) -> Result<()> {
        let begun = Instant::now();
        *self.ground.lock().await = None;
        self.store.enrolments().await?;
        self.world().await?;
        self.drain_audit().await?;
        self.store.commands(self.repository).await?;
        for (name, version) in self.store.active(self.repository).await? {
            let mut known = Some(version);
            while self.settle(&name, known.take()).await? {}
        }
        self.relay().await?;
        // At most once a second.
        if self.parked_looked.lock().await.replace(clock::now()) != Some(clock::now()) {
            self.hub.next_parked().await?;
        }
        self.drain_audit().await?;
        self.store.refused_files(self.repository).await?;
        self.spent.lock().await.ticks += begun.elapsed();
        Ok(())
    }

    /// One round for one request; whether there was anything to do.
    async fn settle(&self, name: &Name, version: Option<i64>) -> Result<bool> {
        let Some((seen, at_rest)) = self.seen(name, version).await? else { return Ok(false) };
        let decision = decide(&seen.facts, &*self.world().await?, Freshness::Fresh);
        if decision.actions.is_empty() {
            if !at_rest {
                self.store.settle(self.repository, name, seen.version).await?;
                self.known.lock().await.insert(name.clone(), (seen, true));
            }
            return Ok(false);
        }
        for action in decision.actions {
            self.act(&seen.facts, action).await?;
        }
        Ok(true)
    }

    /// A request, asked for anew where its change counter is not this one; and whether it was at rest.
    async fn seen(&self, name: &Name, version: Option<i64>) -> Result<Option<(Arc<Seen>, bool)>> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.get(name).filter(|(seen, _)| Some(seen.version) == version) {
            return Ok(Some(known.clone()));
        }
        let Some(seen) = self.store.seen(self.repository, name).await?.map(Arc::new) else { return Ok(None) };
        known.insert(name.clone(), (seen.clone(), false));
        Ok(Some((seen, false)))
    }

    async fn world(&self) -> Result<Arc<World>> {
        let mut known = self.ground.lock().await;
        let now = clock::now();
        if let Some(world) = known.as_ref().filter(|world| world.now == now) {
            return Ok(Arc::clone(world));
        }
        let ground = self.store.ground(self.repository).await?;
        let world = Arc::new(World {
            now,
            listening_since: self.begun,
            infra: ground.cursor.infra,
            locks: ground.locks,
            agents: ground.agents,
            load: ground.load,
            policy: Policy::default(),
            forge: None,
        });
        *known = Some(Arc::clone(&world));
        Ok(world)
    }
}
