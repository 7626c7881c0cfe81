//! What an agent does upon each message and event. One task works here, so that nothing overtakes the journal.
//!
//! Every message may come twice, late or out of order; the journal alone decides what follows. Nothing starts unless
//! the journal, on the disk, says so first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chiffon_link::Link;
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{
    AgentKind, AgentMessage, AttemptKey, Fence, Grant, Hello, LogDigest, Order, Outcome, Span, ToAgent, TraceParent,
    Verdict,
};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::attempt::{Attempt, unstarted, work_folder};
use crate::courier::{Courier, Last, Orders, Voice};
use crate::journal::{Clean, Durability, Entry, Journal, Record, Stage};
use crate::spool::{self, Spool};
use crate::{Error, Marker, Settings, Work};

mod rousing;

/// Messages that wait while the link takes nothing; beyond that they are dropped, since all of them are said again.
const MOUTH: usize = 256;

/// Attempts that are over and confirmed are remembered up to this number, so that late repeats are answered from
/// memory; older ones are answered by the reconciler, which refuses their claim.
const REMEMBERED: usize = 64;

/// How many more reports are confirmed before the journal notes it: a note costs a line, a lost one costs repeats.
const NOTE_EVERY: u64 = 256;

/// What a task of the agent says when it ends.
#[derive(Debug)]
pub(crate) enum Event {
    /// An order was checked.
    Checked { key: AttemptKey, result: Result<(), String> },
    /// An attempt ran.
    Ended { key: AttemptKey, outcome: Box<Outcome> },
}

/// An attempt whose reports are carried.
struct Carried {
    orders: Orders,
    spool: Option<Arc<Spool>>,
    /// Present while it runs.
    cancel: Option<watch::Sender<bool>>,
    noted: u64,
}

/// The agent's state beside its journal.
pub(crate) struct Desk {
    settings: Settings,
    journal: Arc<Mutex<Journal>>,
    work: Arc<dyn Work>,
    voice: Voice,
    mouth: mpsc::Sender<AgentMessage>,
    /// Signs of life have a way of their own: nothing that waits for room holds them up.
    pulse: mpsc::Sender<AgentMessage>,
    events: mpsc::Sender<Event>,
    /// Ends with this: couriers, attempts, checks and the mouth.
    tasks: JoinSet<()>,
    checks: HashMap<AttemptKey, AbortHandle>,
    /// Checked, and waiting for a free place before the grant is asked for.
    to_claim: VecDeque<AttemptKey>,
    /// Cancelled between claim and grant: a grant that crosses the cancel starts nothing.
    cancelled: HashSet<AttemptKey>,
    /// Granted, and waiting for a free place.
    to_start: VecDeque<AttemptKey>,
    carried: HashMap<AttemptKey, Carried>,
    running: usize,
    done: VecDeque<AttemptKey>,
    /// Nothing new is claimed.
    winding_down: bool,
    /// What this life said first. What it says of earlier lives stays true, and of this one it says nothing.
    hello: Option<Hello>,
    /// The spans that orders were sent in.
    parents: HashMap<AttemptKey, TraceParent>,
}

impl Desk {
    pub fn new(
        settings: Settings,
        journal: Journal,
        work: Arc<dyn Work>,
        voice: Voice,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let (mouth, said) = mpsc::channel(MOUTH);
        let mut tasks = JoinSet::new();
        let (pulse, beats) = mpsc::channel(1);
        tasks.spawn(speak(voice.clone(), said));
        tasks.spawn(speak(voice.clone(), beats));
        Self {
            settings,
            journal: Arc::new(Mutex::new(journal)),
            work,
            voice,
            mouth,
            pulse,
            events,
            tasks,
            checks: HashMap::new(),
            to_claim: VecDeque::new(),
            cancelled: HashSet::new(),
            to_start: VecDeque::new(),
            carried: HashMap::new(),
            running: 0,
            done: VecDeque::new(),
            winding_down: false,
            hello: None,
            parents: HashMap::new(),
        }
    }

    /// Claims nothing more from now on; what is granted runs to its end.
    pub fn wind_down(&mut self) {
        self.winding_down = true;
    }

    /// Whether something runs, or is granted and waits for a free place.
    pub fn is_at_work(&self) -> bool {
        self.running > 0 || !self.to_start.is_empty()
    }

    pub fn records(&self) -> Vec<(AttemptKey, Record)> {
        self.journal().records().map(|(key, record)| (key.clone(), record.clone())).collect()
    }

    pub fn folder(&self) -> &Path {
        &self.settings.journal
    }

    pub fn grace(&self) -> Duration {
        self.settings.grace
    }

    pub fn work(&self) -> &dyn Work {
        &*self.work
    }

    pub fn ability(&self) -> (AgentKind, Option<String>) {
        (self.work.kind(), self.work.ansible_core())
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        // A panic inside leaves at worst an entry that is written and not yet believed; the next life reads it.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, key: &AttemptKey) -> Option<Record> {
        self.journal().get(key).cloned()
    }

    /// Writes to the journal; a sync does not hold up the other tasks.
    pub async fn write(&self, entries: Vec<Entry>, durability: Durability) -> Result<(), Error> {
        if durability == Durability::Lazy {
            return self.journal().append(&entries, durability);
        }
        let journal = Arc::clone(&self.journal);
        let write = move || journal.lock().unwrap_or_else(PoisonError::into_inner).append(&entries, durability);
        tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| {
            let path = self.settings.journal.clone();
            Err(Error::File { what: "write", path, source: std::io::Error::other(error) })
        })
    }

    fn say(&self, message: AgentMessage) {
        if self.mouth.try_send(message).is_err() {
            tracing::warn!("the link takes nothing; a message is dropped, it will be said again");
        }
    }

    fn decline(&self, key: AttemptKey, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::info!(attempt = %key, reason, "declined");
        self.say(AgentMessage::Decline { key, reason, fence: None });
    }

    fn decline_grant(&self, key: AttemptKey, fence: Fence, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::info!(attempt = %key, %fence, reason, "a grant is declined");
        self.say(AgentMessage::Decline { key, reason, fence: Some(fence) });
    }

    /// Says that the agent lives, and asks again for grants that did not come.
    pub fn beat(&self) {
        // One that is still on its way says all that another would.
        let _ = self.pulse.try_send(AgentMessage::Heartbeat {});
        if self.mouth.capacity() < MOUTH / 2 {
            return;
        }
        let claimed = |(key, record): (&AttemptKey, &Record)| {
            (record.stage == Stage::Claimed && !self.cancelled.contains(key)).then(|| key.clone())
        };
        let claims: Vec<AttemptKey> = self.journal().records().filter_map(claimed).collect();
        claims.into_iter().for_each(|key| self.say(AgentMessage::Claim { key }));
    }

    /// Takes up what earlier lives left, once this one has said hello.
    pub async fn resume(&mut self, hello: Hello) -> Result<(), Error> {
        self.hello = Some(hello);
        for (key, record) in self.records() {
            match record.stage {
                Stage::Ordered => self.check(record.order),
                Stage::Claimed => self.say(AgentMessage::Claim { key }),
                // Granted to an earlier life: only a new order can make use of it.
                Stage::Granted { .. } | Stage::Started { .. } => {}
                Stage::Over { fence, seq, mut outcome, started, .. } => {
                    let opened = started.then(|| Spool::open(spool::path(self.folder(), &key, fence)));
                    let spool = match opened.transpose() {
                        Ok(opened) => opened.map(|(spool, found)| {
                            outcome.log.incomplete |= found != LogDigest { incomplete: false, ..outcome.log.clone() };
                            Arc::new(spool)
                        }),
                        // The end counts all the same.
                        Err(error) => {
                            tracing::error!(attempt = %key, %error, "what it had to report besides its end is gone");
                            outcome.log.incomplete = true;
                            None
                        }
                    };
                    self.carry(key, fence, spool, record.reported, Some(Last { seq, outcome }), None);
                }
            }
        }
        Ok(())
    }

    /// Handles a message, which may have been sent in a span.
    pub async fn message(&mut self, message: ToAgent, trace: Option<TraceParent>) -> Result<(), Error> {
        if let (ToAgent::Order(order), Some(trace)) = (&message, trace) {
            self.parents.insert(order.key.clone(), trace);
        }
        match message {
            ToAgent::Order(order) => self.order(order).await,
            ToAgent::Grant(grant) => self.grant(grant).await,
            ToAgent::Refuse { key, reason } => self.refuse(key, reason).await,
            ToAgent::Cancel { key } => self.cancel(key).await,
            ToAgent::Introduce {} => {
                self.hello.clone().into_iter().for_each(|hello| self.say(AgentMessage::Hello(hello)));
                Ok(())
            }
            ToAgent::Stored { key, seq } => self.stored(key, seq).await,
        }
    }

    async fn order(&mut self, order: Box<Order>) -> Result<(), Error> {
        let key = order.key.clone();
        match self.record(&key).map(|record| (record.stage, record.order)) {
            None => {
                let finished = self.journal().is_finished(&key);
                if finished {
                    self.decline(key, "this agent has finished this very attempt before");
                    return Ok(());
                }
            }
            // Being checked, or waiting for a free place.
            Some((Stage::Ordered, _)) => return Ok(()),
            Some((Stage::Claimed, known)) => {
                if known != order {
                    tracing::warn!(attempt = %key, "another order under the same key is ignored");
                }
                self.cancelled.remove(&key);
                self.say(AgentMessage::Claim { key });
                return Ok(());
            }
            Some((Stage::Granted { boot, .. }, _)) if boot == self.settings.boot => return Ok(()),
            // Granted to an earlier life that never started it, and ordered again.
            Some((Stage::Granted { .. }, _)) => {}
            Some((Stage::Started { .. } | Stage::Over { .. }, _)) => {
                self.replay(&key);
                return Ok(());
            }
        }
        self.write(vec![Entry::Ordered { order: order.clone() }], Durability::Synced).await?;
        crash_point("agent-journalled-order");
        self.check(order);
        Ok(())
    }

    /// The span that what is done about an attempt is a part of: its order's, or after a restart its run's.
    fn parent(&self, key: &AttemptKey) -> TraceParent {
        self.parents.get(key).copied().unwrap_or_else(|| TraceParent::of_run(&key.run))
    }

    /// Has the order checked beside everything else: git may take its time.
    fn check(&mut self, order: Box<Order>) {
        let (work, events, key) = (Arc::clone(&self.work), self.events.clone(), order.key.clone());
        let (recorder, parent) = (self.settings.recorder.clone(), self.parent(&key));
        let task = self.tasks.spawn(async move {
            let (key, began_ms) = (order.key.clone(), recorder.now());
            let mut check = JoinSet::new();
            check.spawn(async move { work.check(&order).await });
            let result = match check.join_next().await {
                Some(Ok(result)) => result,
                Some(Err(_)) | None => Err("the agent's own code failed while it checked the order".to_owned()),
            };
            recorder.take(|| span("check", &key, parent, began_ms, recorder.now(), result.as_ref().err().cloned()));
            // Only a stopping agent does not listen any more; the order is in its journal.
            let _ = events.send(Event::Checked { key, result }).await;
        });
        self.checks.insert(key, task);
    }

    pub async fn event(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Checked { key, result } => {
                self.checks.remove(&key);
                let ordered = self.record(&key).is_some_and(|record| record.stage == Stage::Ordered);
                match result {
                    _ if !ordered => Ok(()),
                    Ok(()) => {
                        self.to_claim.push_back(key);
                        self.fill().await
                    }
                    Err(reason) => {
                        self.write(vec![Entry::Forgotten { key: key.clone() }], Durability::Lazy).await?;
                        self.decline(key, reason);
                        Ok(())
                    }
                }
            }
            Event::Ended { key, outcome } => {
                self.running -= 1;
                self.ended(key, outcome).await?;
                self.fill().await
            }
        }
    }

    /// Gives free places to those who wait: first to the granted, whose hosts are locked already.
    async fn fill(&mut self) -> Result<(), Error> {
        while self.running < self.settings.parallel
            && let Some(key) = self.to_start.pop_front()
        {
            if let Some(Record { stage: Stage::Granted { fence, boot }, order, .. }) = self.record(&key)
                && boot == self.settings.boot
            {
                self.start(order, fence, Vec::new()).await?;
            }
        }
        while !self.winding_down
            && self.running + self.to_start.len() < self.settings.parallel
            && let Some(key) = self.to_claim.pop_front()
        {
            if self.record(&key).is_some_and(|record| record.stage == Stage::Ordered) {
                self.write(vec![Entry::Claimed { key: key.clone() }], Durability::Lazy).await?;
                crash_point("agent-journalled-claim");
                self.say(AgentMessage::Claim { key });
            }
        }
        Ok(())
    }

    async fn grant(&mut self, grant: Grant) -> Result<(), Error> {
        let Grant { key, boot, fence, order, at: _ } = grant;
        if boot != self.settings.boot {
            tracing::warn!(attempt = %key, %fence, "a grant for another life of this agent is ignored");
            return Ok(());
        }
        let Some(record) = self.record(&key) else {
            self.decline_grant(key, fence, "this agent's journal has no such order");
            return Ok(());
        };
        if record.order.digest() != order {
            self.decline_grant(key, fence, "the grant is for another order than this agent's journal holds");
            return Ok(());
        }
        match record.stage {
            Stage::Claimed => {}
            // It answers a claim that was made before the order came again; the next claim brings it once more.
            Stage::Ordered => return Ok(()),
            Stage::Granted { .. } => return Ok(()),
            Stage::Started { .. } | Stage::Over { .. } => {
                self.replay(&key);
                return Ok(());
            }
        }
        let admitted = self.journal().admits(fence);
        if let Err(reason) = admitted {
            self.decline_grant(key, fence, reason);
            return Ok(());
        }
        let granted = Entry::Granted { key: key.clone(), fence, boot };
        if self.cancelled.remove(&key) {
            return self
                .end_unstarted(key, fence, vec![granted], Verdict::Cancelled, "cancelled before it started")
                .await;
        }
        if self.running >= self.settings.parallel {
            self.write(vec![granted], Durability::Synced).await?;
            self.to_start.push_back(key);
            return Ok(());
        }
        self.start(record.order, fence, vec![granted]).await
    }

    /// Writes down that it starts, and only then starts it.
    async fn start(&mut self, order: Box<Order>, fence: Fence, mut entries: Vec<Entry>) -> Result<(), Error> {
        let key = order.key.clone();
        let spool = match Spool::open(spool::path(self.folder(), &key, fence)) {
            Ok((spool, _)) => Arc::new(spool),
            Err(error) => {
                let reason = format!("its reports can't be kept: {error}");
                return self.end_unstarted(key, fence, entries, Verdict::Failed, &reason).await;
            }
        };
        entries.push(Entry::Started { key: key.clone() });
        self.write(entries, Durability::Synced).await?;
        crash_point("agent-journalled-started");
        let (cancel, cancelled) = watch::channel(false);
        self.carry(key.clone(), fence, Some(Arc::clone(&spool)), 0, None, Some(cancel));
        let attempt = Attempt {
            work: Arc::clone(&self.work),
            marker: Marker::new(&key, fence),
            work_folder: work_folder(self.folder(), &key, fence),
            order,
            spool,
            spool_bytes: self.settings.spool_bytes,
            cancel: cancelled,
            grace: self.settings.grace,
            mouth: self.mouth.clone(),
        };
        let events = self.events.clone();
        self.running += 1;
        let (recorder, parent) = (self.settings.recorder.clone(), self.parent(&key));
        self.tasks.spawn(async move {
            let began_ms = recorder.now();
            let outcome = Box::new(attempt.run().await);
            let failure =
                (outcome.verdict != Verdict::Succeeded).then(|| format!("{:?}", outcome.verdict).to_lowercase());
            recorder.take(|| span("attempt", &key, parent, began_ms, recorder.now(), failure));
            let _ = events.send(Event::Ended { key, outcome }).await;
        });
        Ok(())
    }

    async fn ended(&mut self, key: AttemptKey, outcome: Box<Outcome>) -> Result<(), Error> {
        self.parents.remove(&key);
        crash_point("agent-playbook-ended");
        let Some(carried) = self.carried.get_mut(&key) else { return Ok(()) };
        carried.cancel = None;
        let spool = carried.spool.clone();
        let seq = spool.as_ref().map_or(spool::FIRST_SEQ, |spool| spool.next_seq());
        // The log comes before the verdict, on the disk too. Failing that, the verdict still counts.
        if let Some(spool) = spool.filter(|_| seq > spool::FIRST_SEQ)
            && let Ok(Err(error)) = tokio::task::spawn_blocking(move || spool.sync()).await
        {
            tracing::warn!(attempt = %key, %error, "the log may not outlive a power cut");
        }
        let entry = Entry::Over { key: key.clone(), seq, outcome: outcome.clone(), settled: None };
        self.write(vec![entry], Durability::Synced).await?;
        crash_point("agent-journalled-end");
        if let Some(carried) = self.carried.get(&key) {
            carried.orders.last.send_replace(Some(Last { seq, outcome }));
        }
        Ok(())
    }

    /// Ends a granted attempt that did not start, and reports that as its first and last.
    async fn end_unstarted(
        &mut self,
        key: AttemptKey,
        fence: Fence,
        mut entries: Vec<Entry>,
        verdict: Verdict,
        reason: &str,
    ) -> Result<(), Error> {
        let outcome = Box::new(unstarted(verdict, reason.to_owned(), &*self.work));
        entries.push(Entry::Over { key: key.clone(), seq: 1, outcome: outcome.clone(), settled: None });
        self.write(entries, Durability::Synced).await?;
        self.carry(key, fence, None, 0, Some(Last { seq: 1, outcome }), None);
        Ok(())
    }

    fn carry(
        &mut self,
        key: AttemptKey,
        fence: Fence,
        spool: Option<Arc<Spool>>,
        confirmed: u64,
        last: Option<Last>,
        cancel: Option<watch::Sender<bool>>,
    ) {
        let (courier, orders) = Courier::new(self.voice.clone(), key.clone(), fence, spool.clone(), confirmed, last);
        self.tasks.spawn(courier.run());
        self.carried.insert(key, Carried { orders, spool, cancel, noted: confirmed });
    }

    fn replay(&self, key: &AttemptKey) {
        if let Some(carried) = self.carried.get(key) {
            carried.orders.again.notify_one();
        }
    }

    async fn refuse(&mut self, key: AttemptKey, reason: String) -> Result<(), Error> {
        let mine = &self.settings.boot;
        let forget = match self.record(&key).map(|record| record.stage) {
            Some(Stage::Ordered | Stage::Claimed) => true,
            // A refusal of an earlier claim that crossed the grant of a later one says nothing about the grant.
            Some(Stage::Granted { boot, .. }) => boot != *mine,
            Some(Stage::Started { .. } | Stage::Over { .. }) | None => false,
        };
        if forget {
            tracing::info!(attempt = %key, reason, "refused");
            self.forget(key).await?;
        }
        Ok(())
    }

    async fn forget(&mut self, key: AttemptKey) -> Result<(), Error> {
        if let Some(check) = self.checks.remove(&key) {
            check.abort();
        }
        self.cancelled.remove(&key);
        self.to_claim.retain(|waiting| *waiting != key);
        self.write(vec![Entry::Forgotten { key }], Durability::Lazy).await?;
        self.fill().await
    }

    async fn cancel(&mut self, key: AttemptKey) -> Result<(), Error> {
        match self.record(&key).map(|record| record.stage) {
            None => self.decline(key, "cancelled: this agent's journal has no such order"),
            Some(Stage::Ordered) => {
                self.forget(key.clone()).await?;
                self.decline(key, "cancelled before it was claimed");
            }
            Some(Stage::Claimed) => {
                self.cancelled.insert(key.clone());
                self.decline(key, "cancelled before it was granted");
            }
            Some(Stage::Granted { fence, boot }) if boot == self.settings.boot => {
                self.to_start.retain(|waiting| *waiting != key);
                let reason = "cancelled before it started";
                self.end_unstarted(key, fence, Vec::new(), Verdict::Cancelled, reason).await?;
                self.fill().await?;
            }
            Some(Stage::Granted { .. }) => {
                self.forget(key.clone()).await?;
                self.decline(key, "cancelled: it was granted to an earlier life of this agent and never started");
            }
            Some(Stage::Started { .. } | Stage::Over { .. }) => match self.carried.get(&key) {
                Some(Carried { cancel: Some(cancel), .. }) => drop(cancel.send_replace(true)),
                _ => self.replay(&key),
            },
        }
        Ok(())
    }

    async fn stored(&mut self, key: AttemptKey, seq: u64) -> Result<(), Error> {
        let Some(mut record) = self.record(&key) else { return Ok(()) };
        let Some(carried) = self.carried.get_mut(&key) else { return Ok(()) };
        if let Stage::Over { seq: last, outcome, settled: Some(clean), .. } = &record.stage
            && seq > *last
            && !record.is_done()
        {
            // A power cut took reports that had been stored: the end must have a number of its own.
            let (seq, outcome, clean) = (seq + 1, outcome.clone(), *clean);
            carried.orders.confirmed.send_replace(seq - 1);
            carried.orders.last.send_replace(Some(Last { seq, outcome: outcome.clone() }));
            return self.write(vec![renumbered(key, seq, outcome, clean)], Durability::Synced).await;
        }
        carried.orders.confirmed.send_if_modified(|old| {
            let more = seq > *old;
            *old = seq.max(*old);
            more
        });
        if let Some(spool) = &carried.spool {
            spool.confirm(seq);
        }
        record.reported = record.reported.max(seq);
        let first_time = !self.done.contains(&key);
        if seq >= carried.noted + NOTE_EVERY || (record.is_done() && first_time) {
            carried.noted = seq;
            self.write(vec![Entry::Reported { key: key.clone(), seq }], Durability::Lazy).await?;
        }
        if record.is_done() && first_time {
            crash_point("agent-end-stored");
            if let Some(spool) = self.carried.get_mut(&key).and_then(|carried| carried.spool.take()) {
                spool.remove();
            }
            self.done.push_back(key);
            while self.done.len() > REMEMBERED
                && let Some(oldest) = self.done.pop_front()
            {
                self.release(oldest).await?;
            }
        }
        Ok(())
    }

    /// Forgets an attempt that is over and confirmed.
    async fn release(&mut self, key: AttemptKey) -> Result<(), Error> {
        self.carried.remove(&key);
        self.write(vec![Entry::Forgotten { key }], Durability::Lazy).await
    }

    /// Cancels what runs, waits for its end, and for a while for the last reports to be stored.
    pub async fn farewell(
        &mut self,
        link: &dyn Link,
        events: &mut mpsc::Receiver<Event>,
        patience: Duration,
    ) -> Result<(), Error> {
        self.to_claim.clear();
        self.to_start.clear();
        for carried in self.carried.values() {
            if let Some(cancel) = &carried.cancel {
                cancel.send_replace(true);
            }
        }
        let mut result = Ok(());
        while self.running > 0
            && let Some(event) = events.recv().await
        {
            if let Event::Ended { key, outcome } = event {
                self.running -= 1;
                // The others must end, and be seen to end, even when the journal fails.
                result = result.and(self.ended(key, outcome).await);
            }
        }
        let _ = tokio::time::timeout(patience, self.hear_last(link)).await;
        for key in std::mem::take(&mut self.done) {
            let _ = self.release(key).await;
        }
        result
    }

    async fn hear_last(&mut self, link: &dyn Link) {
        // Kept and not acknowledged: what is not for the end comes again in the next life.
        let mut held = Vec::new();
        while self.done.len() < self.carried.len()
            && let Ok(delivery) = link.receive().await
        {
            match &delivery.message {
                ToAgent::Stored { key, seq } => {
                    let (key, seq) = (key.clone(), *seq);
                    if self.stored(key, seq).await.is_err() || delivery.ack().await.is_err() {
                        return;
                    }
                }
                _ => held.push(delivery),
            }
        }
    }
}

fn renumbered(key: AttemptKey, seq: u64, outcome: Box<Outcome>, clean: Clean) -> Entry {
    Entry::Over { key, seq, outcome, settled: Some(clean) }
}

/// Says what it is given, one after the other.
async fn speak(voice: Voice, mut said: mpsc::Receiver<AgentMessage>) {
    while let Some(message) = said.recv().await {
        voice.say(message).await;
    }
}

/// Something about an attempt that took time. The attempt itself is the span that its messages are sent in.
fn span(
    name: &'static str,
    key: &AttemptKey,
    parent: TraceParent,
    began_ms: u64,
    ended_ms: u64,
    failure: Option<String>,
) -> Span {
    let attempt = TraceParent::of_attempt(key);
    let at = if name == "attempt" { attempt } else { attempt.child(name) };
    let facts = vec![("chiffon.step", key.step.to_string()), ("chiffon.attempt", key.attempt.to_string())];
    Span { name, at, parent: Some(parent), began_ms, ended_ms, facts, failure }
}
