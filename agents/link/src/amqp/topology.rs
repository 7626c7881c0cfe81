//! What lies on the broker: four exchanges, a queue for each agent, and the reconciler's for reports, for signs of life and
//! for what was put aside.
//!
//! Names carry a version, since a queue can't be declared again with other arguments. The routing key of every message
//! is the name of the agent that it is for or comes from; the broker's permissions make that true (S12).
//!
//! ```text
//! chiffon.v1.work (direct)   ── nas01 ─→ work.v1.nas01   read by the agent nas01 alone
//! chiffon.v1.reports (topic) ── # ─────→ reports.v1      read by the reconciler
//! chiffon.v1.live (topic)    ── # ─────→ live.v1         signs of life: the newest minute, gone with the broker
//! chiffon.v1.parked (topic)  ── # ─────→ parked.v1       what can't be used or was delivered too often
//! ```

use chiffon_schemas::Name;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::Depth;

/// To agents; the key is the agent.
pub const WORK: &str = "chiffon.v1.work";
/// From agents; the key is the agent, as its permissions demand.
pub const REPORTS: &str = "chiffon.v1.reports";
/// Signs of life of agents; the key is the agent.
pub const LIVE: &str = "chiffon.v1.live";
/// Put aside; the key is the agent that it was for or came from.
pub const PARKED: &str = "chiffon.v1.parked";
/// The reconciler's queue.
pub const REPORTS_QUEUE: &str = "reports.v1";
/// Where the reconciler hears them.
pub const LIVE_QUEUE: &str = "live.v1";
/// What waits for a person.
pub const PARKED_QUEUE: &str = "parked.v1";
/// How the queues of agents begin.
const WORK_QUEUE: &str = "work.v1.";

/// After so many deliveries that nobody settled, the broker itself puts a message aside: a net below the receivers, who
/// put aside what they can't use at once, and a limit that restarts of a receiver don't reach.
const DELIVERY_LIMIT: i64 = 20;

/// How many messages wait for a person before the oldest goes.
const MAX_PARKED: i64 = 256;

/// How many signs of life wait for a reconciler that is away, and for how long, in milliseconds: older ones say nothing.
const MAX_LIVE: i64 = 1024;
const LIVE_MS: i64 = 60_000;

/// How many messages a queue takes before its senders are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// For each agent. Orders are small and few; what waits beyond them waits in the store.
    pub work: u32,
    /// For the reconciler.
    pub reports: u32,
}

impl Default for Bounds {
    /// 256 for each agent; 1024 for the reconciler, at 64 KiB a chunk of a log 64 MiB.
    fn default() -> Self {
        Self { work: 256, reports: 1024 }
    }
}

/// An agent's queue.
pub fn work_queue(agent: &Name) -> String {
    format!("{WORK_QUEUE}{agent}")
}

/// The agent that a work queue belongs to.
pub fn agent_of(queue: &str) -> Option<Name> {
    Name::parse(queue.strip_prefix(WORK_QUEUE)?).ok()
}

/// Declares everything that does not belong to one agent.
pub async fn declare(channel: &Channel, bounds: Bounds) -> lapin::Result<()> {
    exchange(channel, WORK, ExchangeKind::Direct).await?;
    exchange(channel, REPORTS, ExchangeKind::Topic).await?;
    exchange(channel, PARKED, ExchangeKind::Topic).await?;
    let mut parked = quorum();
    put(&mut parked, "x-max-length", AMQPValue::LongLongInt(MAX_PARKED));
    put(&mut parked, "x-overflow", text("drop-head"));
    queue(channel, PARKED_QUEUE, parked).await?;
    bind(channel, PARKED_QUEUE, PARKED, "#").await?;
    exchange(channel, LIVE, ExchangeKind::Topic).await?;
    let mut live = FieldTable::default();
    put(&mut live, "x-max-length", AMQPValue::LongLongInt(MAX_LIVE));
    put(&mut live, "x-overflow", text("drop-head"));
    put(&mut live, "x-message-ttl", AMQPValue::LongLongInt(LIVE_MS));
    put(&mut live, "x-single-active-consumer", AMQPValue::Boolean(true));
    queue(channel, LIVE_QUEUE, live).await?;
    bind(channel, LIVE_QUEUE, LIVE, "#").await?;
    queue(channel, REPORTS_QUEUE, bounded(bounds.reports)).await?;
    bind(channel, REPORTS_QUEUE, REPORTS, "#").await
}

/// Declares an agent's queue.
pub async fn declare_agent(channel: &Channel, agent: &Name, bounds: Bounds) -> lapin::Result<()> {
    let name = work_queue(agent);
    queue(channel, &name, bounded(bounds.work)).await?;
    bind(channel, &name, WORK, agent.as_str()).await
}

/// How many messages wait in each queue.
pub async fn depths(channel: &Channel, agents: Vec<String>) -> Vec<Depth> {
    let ours = [REPORTS_QUEUE, LIVE_QUEUE, PARKED_QUEUE].map(str::to_owned);
    let mut depths = Vec::new();
    for queue in ours.into_iter().chain(agents) {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let Ok(found) = channel.queue_declare(short(&queue), options, FieldTable::default()).await else { break };
        depths.push(Depth { queue, messages: u64::from(found.message_count()) });
    }
    depths
}

/// A queue that refuses what it has no room for, gives messages to one reader at a time, and puts aside what comes back
/// too often.
fn bounded(messages: u32) -> FieldTable {
    let mut arguments = quorum();
    put(&mut arguments, "x-max-length", AMQPValue::LongLongInt(i64::from(messages)));
    put(&mut arguments, "x-overflow", text("reject-publish"));
    put(&mut arguments, "x-single-active-consumer", AMQPValue::Boolean(true));
    put(&mut arguments, "x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT));
    put(&mut arguments, "x-dead-letter-exchange", text(PARKED));
    // Without it the broker may drop what it puts aside.
    put(&mut arguments, "x-dead-letter-strategy", text("at-least-once"));
    arguments
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    put(&mut arguments, "x-queue-type", text("quorum"));
    arguments
}

fn put(arguments: &mut FieldTable, key: &str, value: AMQPValue) {
    arguments.insert(short(key), value);
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// A name on the wire. Names of agents are at most 63 letters, so none is cut.
pub fn short(text: &str) -> ShortString {
    text.into()
}

async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(short(name), kind, options, FieldTable::default()).await
}

async fn queue(channel: &Channel, name: &str, arguments: FieldTable) -> lapin::Result<()> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(short(name), options, arguments).await.map(drop)
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let arguments = FieldTable::default();
    channel.queue_bind(short(queue), short(exchange), short(key), QueueBindOptions::default(), arguments).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocols_page_says_what_lies_on_the_broker() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");
        let page = std::fs::read_to_string(path).unwrap();
        let Bounds { work, reports } = Bounds::default();
        for said in [
            format!("| `{WORK}` | direct | the agent | `{WORK_QUEUE}<agent>` |"),
            format!("| `{REPORTS}` | topic | the agent | `{REPORTS_QUEUE}` |"),
            format!(
                "| `{LIVE}` | topic | the agent | `{LIVE_QUEUE}`: the newest {MAX_LIVE} of the last {} s",
                LIVE_MS / 1000
            ),
            format!("| `{PARKED}` | topic | the agent | `{PARKED_QUEUE}`: the newest {MAX_PARKED} "),
            format!("room for {work} and {reports} messages"),
            format!("| {work}, {reports}, {MAX_LIVE}, {MAX_PARKED} messages |"),
            format!("| deliveries of one message that nobody settled | {DELIVERY_LIMIT} |"),
            format!("1 MiB ({} bytes)", crate::MAX_MESSAGE_BYTES),
            format!("| parked: the head, the reason | {} bytes, ", super::super::parked::HEAD),
        ] {
            assert!(page.contains(&said), "the page does not say: {said}");
        }
    }
}
