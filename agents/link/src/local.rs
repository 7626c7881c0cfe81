//! The bus inside one process: the same semantics as the remote one, without a service.
//!
//! Queues are bounded, and a sender that meets a full one waits and then hears that the bus is blocked. Nothing here
//! outlives the process: reconciler and agent die together, and both settle from their own records.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chiffon_schemas::{FromAgent, Name, ToAgent};
use tokio::sync::{Notify, watch};

use crate::{Delivery, Depth, Direction, Error, Hub, KeyError, Link, Parked, Receipt, Signer, Verifier, wire};

/// How many messages are kept aside for a person; beyond that the oldest goes, with a line in the log.
const MAX_PARKED: usize = 256;

/// How much of a message that was put aside is kept, in bytes.
const PARKED_HEAD: usize = 4 * 1024;

/// The bounds of the in-process bus.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Messages that one queue holds, unacknowledged ones included. Full queues hold senders back.
    pub queue: usize,
    /// How long a sender waits for room before it hears that the bus is blocked.
    pub blocked_after: Duration,
}

impl Default for Limits {
    /// 64 messages, at worst 64 MiB a queue and far less in practice; 10 s, after which health must say so (R5).
    fn default() -> Self {
        Self { queue: 64, blocked_after: Duration::from_secs(10) }
    }
}

/// The reconciler's end. Dropping it closes the bus.
#[derive(Debug)]
pub struct LocalHub {
    bus: Arc<Bus>,
    signer: Signer,
    /// There never is any.
    trouble: watch::Sender<Option<String>>,
}

/// One agent's end.
#[derive(Debug)]
pub struct LocalLink {
    bus: Arc<Bus>,
    agent: Name,
    verifier: Verifier,
    queue: Arc<Queue>,
    /// Which link of this agent it is; only the latest receives.
    turn: u64,
}

#[derive(Debug)]
struct Bus {
    limits: Limits,
    to_hub: Arc<Queue>,
    agents: Mutex<HashMap<Name, Arc<Queue>>>,
    parked: Mutex<VecDeque<Parked>>,
}

#[derive(Debug)]
struct Queue {
    direction: Direction,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Item>,
    unacknowledged: usize,
    next: u64,
    turn: u64,
    closed: bool,
}

#[derive(Debug, Clone)]
struct Item {
    number: u64,
    agent: Name,
    bytes: Arc<[u8]>,
    tries: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change below is complete before anything can panic, so a poisoned lock still guards whole data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LocalHub {
    /// An empty bus, with a key of its own: nobody else is on it.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn new(limits: Limits) -> Result<Self, KeyError> {
        let to_hub = Arc::new(Queue::new(Direction::FromAgent));
        let bus = Arc::new(Bus { limits, to_hub, agents: Mutex::default(), parked: Mutex::default() });
        Ok(Self { bus, signer: Signer::generate()?, trouble: watch::Sender::new(None) })
    }

    /// Signs what goes to agents.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Makes an agent known and gives its end; an earlier end of the same agent hears that it is closed.
    ///
    /// What waits for the agent stays and comes to the new end.
    pub fn attach(&self, agent: &Name) -> LocalLink {
        let mut agents = lock(&self.bus.agents);
        let queue = agents.entry(agent.clone()).or_insert_with(|| Arc::new(Queue::new(Direction::ToAgent)));
        let queue = Arc::clone(queue);
        let turn = queue.take_over(lock(&self.bus.to_hub.state).closed);
        let verifier = self.signer.verifier();
        LocalLink { bus: Arc::clone(&self.bus), agent: agent.clone(), verifier, queue, turn }
    }

    /// Ends the bus: everybody who waits or comes later hears that it is closed.
    pub fn close(&self) {
        self.bus.to_hub.close();
        lock(&self.bus.agents).values().for_each(|queue| queue.close());
    }

    /// Puts bytes on the bus as they are, as a stranger could on a remote one: for tests of what is refused.
    #[cfg(feature = "conformance")]
    pub async fn inject(&self, direction: Direction, agent: &Name, bytes: Vec<u8>) -> Result<(), Error> {
        let queue = match direction {
            Direction::FromAgent => Arc::clone(&self.bus.to_hub),
            Direction::ToAgent => self.bus.queue_of(agent)?,
        };
        queue.put(agent, bytes, self.bus.limits).await
    }
}

impl Drop for LocalHub {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait::async_trait]
impl Hub for LocalHub {
    async fn send(&self, agent: &Name, message: &ToAgent) -> Result<(), Error> {
        let queue = self.bus.queue_of(agent)?;
        queue.put(agent, wire::seal(&self.signer, agent, message)?, self.bus.limits).await
    }

    async fn receive(&self) -> Result<Delivery<FromAgent>, Error> {
        loop {
            let (item, receipt) = self.bus.take(&self.bus.to_hub, 0).await?;
            match wire::decode(&item.bytes) {
                Ok(message) if message.agent == item.agent => {
                    return Ok(Delivery::new(message, item.tries, Box::new(receipt)));
                }
                Ok(message) => {
                    Box::new(receipt).park(format!("foreign: it names the agent `{}`", message.agent)).await?;
                }
                Err(reason) => Box::new(receipt).park(reason).await?,
            }
        }
    }

    async fn next_parked(&self) -> Result<Option<Delivery<Parked>>, Error> {
        let Some(parked) = lock(&self.bus.parked).pop_front() else { return Ok(None) };
        let receipt = ParkedReceipt { bus: Arc::clone(&self.bus), parked: Some(parked.clone()) };
        Ok(Some(Delivery::new(parked, 1, Box::new(receipt))))
    }

    async fn depths(&self) -> Vec<Depth> {
        let depth = |queue: String, of: &Queue| Depth {
            queue,
            messages: u64::try_from(lock(&of.state).waiting.len()).unwrap_or(u64::MAX),
        };
        let mut depths = vec![depth("reports".to_owned(), &self.bus.to_hub)];
        depths.extend(lock(&self.bus.agents).iter().map(|(agent, queue)| depth(format!("work.{agent}"), queue)));
        depths
    }

    fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// An agent in this process is known once it is attached.
    async fn admit(&self, _: &BTreeSet<Name>) {}
}

#[async_trait::async_trait]
impl Link for LocalLink {
    async fn send(&self, message: &FromAgent) -> Result<(), Error> {
        if message.agent != self.agent {
            return Err(Error::Foreign { agent: self.agent.clone(), claimed: message.agent.clone() });
        }
        if lock(&self.queue.state).turn != self.turn {
            return Err(Error::Closed);
        }
        self.bus.to_hub.put(&self.agent, wire::encode(message)?, self.bus.limits).await
    }

    async fn receive(&self) -> Result<Delivery<ToAgent>, Error> {
        loop {
            let (item, receipt) = self.bus.take(&self.queue, self.turn).await?;
            match wire::open(&self.verifier, &self.agent, &item.bytes) {
                Ok(message) => return Ok(Delivery::new(message, item.tries, Box::new(receipt))),
                Err(reason) => Box::new(receipt).park(reason).await?,
            }
        }
    }
}

impl Bus {
    fn queue_of(&self, agent: &Name) -> Result<Arc<Queue>, Error> {
        let queue = lock(&self.agents).get(agent).map(Arc::clone);
        queue.ok_or_else(|| Error::Unroutable { agent: agent.clone() })
    }

    async fn take(self: &Arc<Self>, queue: &Arc<Queue>, turn: u64) -> Result<(Item, LocalReceipt), Error> {
        let item = queue.take(turn).await?;
        let receipt = LocalReceipt { bus: Arc::clone(self), queue: Arc::clone(queue), item: Some(item.clone()) };
        Ok((item, receipt))
    }

    fn park(&self, direction: Direction, item: &Item, reason: String) {
        tracing::warn!(agent = %item.agent, ?direction, reason, "a message was put aside");
        let mut parked = lock(&self.parked);
        if parked.len() == MAX_PARKED {
            parked.pop_front();
            tracing::error!(limit = MAX_PARKED, "too many messages were put aside; the oldest is gone");
        }
        let head = item.bytes[..item.bytes.len().min(PARKED_HEAD)].to_vec();
        parked.push_back(Parked { agent: item.agent.clone(), direction, reason, head, size: item.bytes.len() });
    }
}

impl Queue {
    fn new(direction: Direction) -> Self {
        Self { direction, state: Mutex::default(), changed: Notify::new() }
    }

    /// Runs a step until it gives something, again after every change.
    async fn when<T>(&self, mut step: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a change between look and wait is not missed.
            changed.as_mut().enable();
            if let Some(found) = step(&mut lock(&self.state)) {
                return found;
            }
            changed.await;
        }
    }

    async fn put(&self, agent: &Name, bytes: Vec<u8>, limits: Limits) -> Result<(), Error> {
        let bytes: Arc<[u8]> = bytes.into();
        let put = self.when(|state| {
            if state.closed {
                return Some(Err(Error::Closed));
            }
            (state.waiting.len() + state.unacknowledged < limits.queue).then(|| {
                let number = state.next;
                state.next += 1;
                state.waiting.push_back(Item { number, agent: agent.clone(), bytes: Arc::clone(&bytes), tries: 0 });
                Ok(())
            })
        });
        let put = tokio::time::timeout(limits.blocked_after, put).await;
        self.changed.notify_waiters();
        put.unwrap_or(Err(Error::Blocked { waited: limits.blocked_after }))
    }

    async fn take(&self, turn: u64) -> Result<Item, Error> {
        self.when(|state| {
            if state.closed || state.turn != turn {
                return Some(Err(Error::Closed));
            }
            let mut item = state.waiting.pop_front()?;
            state.unacknowledged += 1;
            item.tries += 1;
            Some(Ok(item))
        })
        .await
    }

    /// The message is settled, or comes again at its old place.
    fn settle(&self, again: Option<Item>) {
        let mut state = lock(&self.state);
        state.unacknowledged -= 1;
        if let Some(item) = again {
            let at = state.waiting.partition_point(|waiting| waiting.number < item.number);
            state.waiting.insert(at, item);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn take_over(&self, closed: bool) -> u64 {
        let mut state = lock(&self.state);
        state.turn += 1;
        state.closed |= closed;
        let turn = state.turn;
        drop(state);
        self.changed.notify_waiters();
        turn
    }

    fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_waiters();
    }
}

struct LocalReceipt {
    bus: Arc<Bus>,
    queue: Arc<Queue>,
    item: Option<Item>,
}

#[async_trait::async_trait]
impl Receipt for LocalReceipt {
    async fn ack(mut self: Box<Self>) -> Result<(), Error> {
        if self.item.take().is_some() {
            self.queue.settle(None);
        }
        Ok(())
    }

    async fn park(mut self: Box<Self>, reason: String) -> Result<(), Error> {
        if let Some(item) = self.item.take() {
            self.bus.park(self.queue.direction, &item, reason);
            self.queue.settle(None);
        }
        Ok(())
    }
}

struct ParkedReceipt {
    bus: Arc<Bus>,
    parked: Option<Parked>,
}

#[async_trait::async_trait]
impl Receipt for ParkedReceipt {
    async fn ack(mut self: Box<Self>) -> Result<(), Error> {
        self.parked = None;
        Ok(())
    }

    async fn park(self: Box<Self>, _reason: String) -> Result<(), Error> {
        // It is put aside already.
        Ok(())
    }
}

impl Drop for ParkedReceipt {
    fn drop(&mut self) {
        if let Some(parked) = self.parked.take() {
            lock(&self.bus.parked).push_front(parked);
        }
    }
}

impl Drop for LocalReceipt {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            self.queue.settle(Some(item));
        }
    }
}
