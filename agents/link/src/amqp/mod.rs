//! The bus over RabbitMQ: quorum queues, confirmed and persistent messages, one supervised session for each end.
//!
//! A confirmed message outlives a restart of the broker. What could not be confirmed in time is an error, and may have
//! been taken all the same. Broker and sessions may come and go: a receiver waits, and only [`AmqpHub::close`] ends it.

mod inbox;
#[cfg(feature = "management")]
pub mod management;
mod parked;
mod server;
mod session;
mod topology;
mod trouble;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chiffon_schemas::{AgentMessage, FromAgent, Name, ToAgent, TraceParent};
use futures_util::future::join_all;
use lapin::options::{BasicAckOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, PublisherConfirm};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Delivery, Depth, Direction, Error, Hub, Link, Parked, Receipt, Signer, Verifier, wire};
use inbox::Item;
use session::{End, Live, Shared, supervise};
use topology::short;

pub use server::{BadAddress, BadSettings, Server};
pub use topology::Bounds;

/// Persistent, in the words of AMQP.
const PERSISTENT: u8 = 2;

/// The pauses before a message that a full queue refused is offered again.
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LONGEST_RETRY: Duration = Duration::from_millis(500);

/// How long the broker may take to answer a question beside the messages. One that blocks its senders reads nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long it is waited until a word that something is settled is written to the line.
const WRITTEN_WITHIN: Duration = Duration::from_millis(100);

/// How an end of the bus behaves.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long a sender waits for the broker before it hears that the bus is blocked.
    pub blocked_after: Duration,
    /// What the queues take. Both ends of all agents use the same.
    pub bounds: Bounds,
}

impl Default for Settings {
    /// 10 s, after which health must say so (R5).
    fn default() -> Self {
        Self { blocked_after: Duration::from_secs(10), bounds: Bounds::default() }
    }
}

/// The reconciler's end. Dropping it closes it.
#[derive(Debug)]
pub struct AmqpHub {
    bus: Bus,
    signer: Signer,
}

/// One agent's end. Dropping it closes it.
#[derive(Debug)]
pub struct AmqpLink {
    bus: Bus,
    agent: Name,
    verifier: Verifier,
}

#[derive(Debug, Clone)]
struct Bus {
    shared: Arc<Shared>,
    blocked_after: Duration,
}

impl AmqpHub {
    /// Begins to connect, and declares what lies on the broker, with a queue for each of these agents. Returns at once:
    /// a broker that is away is waited for. The signer's key is what agents were told to believe.
    pub fn new(server: Server, settings: Settings, signer: Signer, agents: BTreeSet<Name>) -> Self {
        Self { bus: Bus::new(server, settings, End::Hub, agents), signer }
    }

    /// Signs what goes to agents.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Ends this end of the bus; everybody who waits hears it.
    pub fn close(&self) {
        self.bus.shared.close();
    }

    /// Waits until there is a session.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn connected(&self) -> Result<(), Error> {
        self.bus.live().await.map(drop)
    }
}

impl AmqpHub {
    /// Offers messages all at once; how many from the first on were taken.
    async fn offer_all(&self, agent: &Name, messages: &[&ToAgent], until: Instant) -> usize {
        let mut offered = Vec::with_capacity(messages.len());
        let offering = async {
            let Ok(live) = self.bus.live().await else { return };
            for message in messages {
                let Ok((bytes, headers)) = self.sealed(agent, message) else { return };
                let properties = properties(headers);
                // A line that is blocked in the midst of it takes nothing until it is free again.
                let Some(confirm) = begin(&live, topology::WORK, agent, &bytes, &properties).await else { return };
                offered.push(confirm);
            }
        };
        let _ = tokio::time::timeout_at(until, offering).await;
        // All of them, also after one that was refused: the channel keeps what nobody waits for.
        let answers =
            join_all(offered.into_iter().map(|confirm| tokio::time::timeout_at(until, answer(confirm)))).await;
        answers.iter().take_while(|answer| matches!(answer, Ok(Answer::Taken))).count()
    }

    /// Sends one message, and gives up at that time.
    async fn send_until(&self, agent: &Name, message: &ToAgent, until: Instant) -> Result<(), Error> {
        if !self.bus.shared.agents().contains(agent) {
            return Err(Error::Unroutable { agent: agent.clone() });
        }
        let (bytes, headers) = self.sealed(agent, message)?;
        self.bus.publish(topology::WORK, agent, &bytes, headers, until).await
    }

    /// A message as it goes over the bus: signed, and with the trace of its run.
    fn sealed(&self, agent: &Name, message: &ToAgent) -> Result<(Vec<u8>, FieldTable), Error> {
        let bytes = wire::seal(&self.signer, agent, message)?;
        Ok((bytes, traced(message.key().map(|key| TraceParent::of_run(&key.run)))))
    }
}

impl AmqpLink {
    /// Begins to connect. Returns at once: a broker that is away is waited for. Only what the verifier vouches for
    /// arrives.
    pub fn new(server: Server, settings: Settings, agent: Name, verifier: Verifier) -> Self {
        let bus = Bus::new(server, settings, End::Agent(agent.clone()), BTreeSet::new());
        Self { bus, agent, verifier }
    }

    /// Whose end it is.
    pub fn agent(&self) -> &Name {
        &self.agent
    }

    /// Why nothing goes over the bus just now, in words, and each change of that.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.bus.shared.trouble.subscribe()
    }

    /// Ends this end of the bus; everybody who waits hears it.
    pub fn close(&self) {
        self.bus.shared.close();
    }
}

impl Drop for AmqpHub {
    fn drop(&mut self) {
        self.close();
    }
}

impl Drop for AmqpLink {
    fn drop(&mut self) {
        self.close();
    }
}

/// Connects to a broker once and hangs up.
///
/// # Errors
/// What is wrong, in words that say what to do.
pub async fn probe(server: &Server) -> Result<(), String> {
    session::probe(server).await
}

#[async_trait::async_trait]
impl Hub for AmqpHub {
    async fn send(&self, agent: &Name, message: &ToAgent) -> Result<(), Error> {
        self.send_until(agent, message, self.bus.patience()).await
    }

    /// All of them are published before the first is confirmed: a confirm takes as long as a disk does. Together they wait
    /// as long as one would.
    async fn send_all(&self, agent: &Name, messages: &[&ToAgent]) -> (usize, Option<Error>) {
        let until = self.bus.patience();
        let mut sent = 0;
        if messages.len() > 1 && self.bus.shared.agents().contains(agent) {
            sent = self.offer_all(agent, messages, until).await;
        }
        // What was not taken at once is offered again one by one, while there is time.
        for message in &messages[sent..] {
            if let Err(error) = self.send_until(agent, message, until).await {
                return (sent, Some(error));
            }
            sent += 1;
        }
        (sent, None)
    }

    async fn receive(&self) -> Result<Delivery<FromAgent>, Error> {
        loop {
            let item = self.bus.shared.inbox.take().await.ok_or(Error::Closed)?;
            let receipt = AmqpReceipt::new(self.bus.clone(), Direction::FromAgent, item);
            match wire::decode(receipt.bytes()) {
                Ok(message) if message.agent == *receipt.agent() => return Ok(receipt.delivery(message)),
                Ok(message) => put_aside(receipt, format!("foreign: it names the agent `{}`", message.agent)).await,
                Err(reason) => put_aside(receipt, reason).await,
            }
        }
    }

    async fn next_parked(&self) -> Result<Option<Delivery<Parked>>, Error> {
        let live = self.bus.shared.live.borrow().clone();
        // While there is no session there is nothing to see, and a blocked one is not read by the broker at all.
        let Some(live) = live.filter(|_| self.bus.shared.trouble.borrow().is_none()) else { return Ok(None) };
        let next = tokio::time::timeout(ANSWER_WITHIN, parked::next(&live)).await;
        Ok(next.unwrap_or(None))
    }

    fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.bus.shared.trouble.subscribe()
    }

    /// A queue that somebody deleted ends the session, and the next one makes it anew.
    async fn depths(&self) -> Vec<Depth> {
        let live = self.bus.shared.live.borrow().clone();
        let Some(live) = live.filter(|_| self.bus.shared.trouble.borrow().is_none()) else { return Vec::new() };
        let agents: Vec<String> = self.bus.shared.agents().iter().map(topology::work_queue).collect();
        let depths = topology::depths(&live.control, agents);
        tokio::time::timeout(ANSWER_WITHIN, depths).await.unwrap_or_default()
    }

    /// Those that are new get their queues now, or as soon as the broker is there. The queues of the others stay until
    /// somebody deletes them.
    async fn admit(&self, agents: &BTreeSet<Name>) {
        let before = std::mem::replace(&mut *self.bus.shared.agents(), agents.clone());
        let live = self.bus.shared.live.borrow().clone();
        if let Some(live) = live {
            for agent in agents.difference(&before) {
                self.bus.declare(&live, agent).await;
            }
        }
    }
}

#[async_trait::async_trait]
impl Link for AmqpLink {
    async fn send(&self, message: &FromAgent) -> Result<(), Error> {
        if message.agent != self.agent {
            return Err(Error::Foreign { agent: self.agent.clone(), claimed: message.agent.clone() });
        }
        let bytes = wire::encode(message)?;
        // What is said again soon, and is worth nothing later, must not take the room of what has to arrive.
        let exchange = match &message.message {
            AgentMessage::Heartbeat {} | AgentMessage::Progress { .. } => topology::LIVE,
            _ => topology::REPORTS,
        };
        let trace = message.message.key().map(TraceParent::of_attempt);
        self.bus.publish(exchange, &self.agent, &bytes, traced(trace), self.bus.patience()).await
    }

    async fn receive(&self) -> Result<Delivery<ToAgent>, Error> {
        loop {
            let item = self.bus.shared.inbox.take().await.ok_or(Error::Closed)?;
            let receipt = AmqpReceipt::new(self.bus.clone(), Direction::ToAgent, item);
            match wire::open(&self.verifier, &self.agent, receipt.bytes()) {
                Ok(message) => return Ok(receipt.delivery(message)),
                Err(reason) => put_aside(receipt, reason).await,
            }
        }
    }
}

/// The headers of a message that is sent in a span.
fn traced(trace: Option<TraceParent>) -> FieldTable {
    let mut headers = FieldTable::default();
    if let Some(trace) = trace {
        headers.insert(short(TraceParent::HEADER), AMQPValue::LongString(trace.to_string().into()));
    }
    headers
}

/// What the broker said of a message.
enum Answer {
    /// It is on the disks of the queue's majority.
    Taken,
    /// The queue has no room.
    Full,
    /// No queue takes it.
    Returned,
    /// The session broke, and nobody knows.
    Unknown,
}

impl Bus {
    fn new(server: Server, settings: Settings, end: End, agents: BTreeSet<Name>) -> Self {
        let shared = Shared::new(server, end, settings.bounds, agents);
        tokio::spawn(supervise(Arc::clone(&shared)));
        Self { shared, blocked_after: settings.blocked_after }
    }

    /// The present session, as soon as there is one that is not blocked.
    async fn live(&self) -> Result<Arc<Live>, Error> {
        if let Some(live) = self.shared.free() {
            return Ok(live);
        }
        let (mut live, mut trouble) = (self.shared.live.subscribe(), self.shared.trouble.subscribe());
        let mut closed = self.shared.closed.subscribe();
        let found = async {
            loop {
                // What is offered to a blocked line is kept in memory and sent later: nothing is.
                let free = trouble.borrow_and_update().is_none();
                if let Some(live) = live.borrow_and_update().clone().filter(|_| free) {
                    return live;
                }
                tokio::select! {
                    _ = live.changed() => {}
                    _ = trouble.changed() => {}
                }
            }
        };
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(Error::Closed),
            live = found => Ok(live),
        }
    }

    /// When a sender that begins now gives up.
    fn patience(&self) -> Instant {
        Instant::now() + self.blocked_after
    }

    /// Sends until the broker has it for good, over as many sessions as it takes, and gives up at that time.
    async fn publish(
        &self,
        exchange: &str,
        key: &Name,
        bytes: &[u8],
        headers: FieldTable,
        until: Instant,
    ) -> Result<(), Error> {
        let properties = properties(headers);
        let sending = async {
            let mut pause = FIRST_RETRY;
            loop {
                let live = self.live().await?;
                match offer(&live, exchange, key, bytes, &properties).await {
                    Answer::Taken => return Ok(()),
                    Answer::Returned => self.lost_queue(&live, key).await?,
                    Answer::Full | Answer::Unknown => {}
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_RETRY);
            }
        };
        let sent = tokio::time::timeout_at(until, sending).await;
        sent.unwrap_or(Err(Error::Blocked { waited: self.blocked_after }))
    }

    /// No queue took a message: that of an agent which somebody deleted is made anew, and an agent waits until the
    /// reconciler has made its own.
    async fn lost_queue(&self, live: &Live, agent: &Name) -> Result<(), Error> {
        if matches!(self.shared.end, End::Hub) {
            if !self.shared.agents().contains(agent) {
                return Err(Error::Unroutable { agent: agent.clone() });
            }
            self.declare(live, agent).await;
        }
        Ok(())
    }

    async fn declare(&self, live: &Live, agent: &Name) {
        let declared = topology::declare_agent(&live.control, agent, self.shared.bounds);
        match tokio::time::timeout(ANSWER_WITHIN, declared).await {
            Ok(Ok(())) => {}
            // The session ends with its channel, and the next one says what is wrong.
            Ok(Err(error)) => {
                let reason = trouble::declaring(&self.shared.server, &error);
                tracing::warn!(%agent, reason, "the agent's queue could not be declared");
            }
            // A blocked line: it is declared when the first message finds that it is not there.
            Err(_) => tracing::debug!(%agent, "the broker did not answer"),
        }
    }
}

fn properties(headers: FieldTable) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(short("application/json"))
        .with_headers(headers)
}

async fn offer(live: &Live, exchange: &str, key: &Name, bytes: &[u8], properties: &BasicProperties) -> Answer {
    match begin(live, exchange, key, bytes, properties).await {
        Some(confirm) => answer(confirm).await,
        None => Answer::Unknown,
    }
}

/// Puts a message on the line; what it will be confirmed by.
async fn begin(
    live: &Live,
    exchange: &str,
    key: &Name,
    bytes: &[u8],
    properties: &BasicProperties,
) -> Option<PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (exchange, key) = (short(exchange), short(key.as_str()));
    live.publish.basic_publish(exchange, key, options, bytes, properties.clone()).await.ok()
}

async fn answer(confirm: PublisherConfirm) -> Answer {
    match confirm.await {
        Ok(Confirmation::Ack(None)) => Answer::Taken,
        Ok(Confirmation::Ack(Some(_))) => Answer::Returned,
        Ok(Confirmation::Nack(_)) => Answer::Full,
        Ok(Confirmation::NotRequested) | Err(_) => Answer::Unknown,
    }
}

/// A delivery that is not settled.
struct AmqpReceipt {
    bus: Bus,
    direction: Direction,
    /// Gone once it is settled.
    item: Option<Item>,
}

impl AmqpReceipt {
    fn new(bus: Bus, direction: Direction, item: Item) -> Box<Self> {
        Box::new(Self { bus, direction, item: Some(item) })
    }

    fn item(&self) -> &Item {
        self.item.as_ref().expect("it is taken only by what settles it, which ends the receipt")
    }

    fn bytes(&self) -> &[u8] {
        &self.item().bytes
    }

    fn agent(&self) -> &Name {
        &self.item().agent
    }

    fn delivery<T>(self: Box<Self>, message: T) -> Delivery<T> {
        let (tries, trace) = (self.item().tries, self.item().trace);
        Delivery::new(message, tries, self).within(trace)
    }
}

/// Puts a message aside; where that fails it comes again with the next session. Who waits for it may stop waiting, which
/// must not put it aside twice: so it goes on by itself.
async fn put_aside(receipt: Box<AmqpReceipt>, reason: String) {
    let parked = tokio::spawn(async move {
        if let Err(error) = receipt.park(reason).await {
            tracing::debug!(%error, "a message could not be put aside; it comes again");
        }
    });
    if let Err(error) = parked.await {
        tracing::debug!(%error, "a message was not put aside; it comes again");
    }
}

#[async_trait::async_trait]
impl Receipt for AmqpReceipt {
    async fn ack(mut self: Box<Self>) -> Result<(), Error> {
        let Some(item) = self.item.take() else { return Ok(()) };
        // A blocked line is not written to until it is free: the word goes out then, and nobody waits for that.
        match tokio::time::timeout(WRITTEN_WITHIN, item.acker.ack(BasicAckOptions::default())).await {
            Ok(Ok(true)) => Ok(()),
            _ => Err(Error::Unheard),
        }
    }

    async fn park(mut self: Box<Self>, reason: String) -> Result<(), Error> {
        let item = self.item();
        tracing::warn!(agent = %item.agent, direction = ?self.direction, reason, "a message was put aside");
        let headers = parked::headers(self.direction, &reason, item.bytes.len());
        let head = parked::head(&item.bytes);
        self.bus.publish(topology::PARKED, &item.agent, head, headers, self.bus.patience()).await?;
        self.ack().await
    }
}

impl Drop for AmqpReceipt {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            self.bus.shared.inbox.put_back(item);
        }
    }
}
