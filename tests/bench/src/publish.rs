//! B5: both ends of our link beside the bare client, into the same queue. What the reconciler sends is signed.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use chiffon_link::amqp::{AmqpHub, AmqpLink, Bounds, Settings};
use chiffon_link::{Hub as _, Link as _, Signer};
use chiffon_runtime::new_boot;
use chiffon_schemas::{AgentMessage, AttemptKey, FromAgent, Mode, Name, Oid, ToAgent};
use futures_util::stream::{self, StreamExt as _};
use lapin::options::QueuePurgeOptions;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::places::Broker;
use crate::{clock, floor, stats};

/// Messages whose confirms are awaited at once.
const FLIGHT: usize = 256;

/// The queue of the agent that they are for.
const QUEUE: &str = "work.v1.sink";

/// What a message has beside its text: the envelope, the key and the signature.
const AROUND: usize = 440;

/// What to measure.
#[derive(Debug, Deserialize)]
pub struct Options {
    broker: Broker,
    messages: usize,
    rounds: usize,
}

/// Messages a second: of both ends of the link, and of the bare client into the same queue, a quorum queue without bounds and a classic one.
/// Medians over rounds in which each comes in turn.
///
/// # Errors
/// The broker failed.
pub async fn measure(options: Options) -> Result<Value> {
    let Options { broker, messages, rounds } = options;
    let agent = Name::parse("sink").expect("a constant name");
    let bounds = Bounds { work: u32::try_from(messages)? * 2, reports: u32::try_from(messages)? * 2 };
    let settings = Settings { bounds, ..Settings::default() };
    let hub = AmqpHub::new(broker.server()?, settings, Signer::generate()?, BTreeSet::from([agent.clone()]));
    hub.connected().await?;
    let link = AmqpLink::new(broker.server()?, settings, agent.clone(), hub.signer().verifier());
    let connection = broker.connect().await?;
    let channel = floor::channel(&connection).await?;
    let places = [
        ("chiffon.v1.work", "sink", QUEUE),
        ("", "floor.quorum", "floor.quorum"),
        ("", "floor.classic", "floor.classic"),
    ];
    let (mut ours, mut reports, mut raw) = (Vec::new(), Vec::new(), [const { Vec::new() }; 3]);
    let reason = "x".repeat(floor::BYTES - AROUND);
    let order = ToAgent::Refuse { key: key(), reason: reason.clone() };
    let message = AgentMessage::Decline { key: key(), reason, fence: None };
    let report = FromAgent { agent: agent.clone(), boot: new_boot(), message };
    for round in 0..=rounds {
        let mut rates = Vec::new();
        floor::queue(&channel, "floor.quorum", "quorum").await?;
        floor::queue(&channel, "floor.classic", "classic").await?;
        for (exchange, key, queue) in places {
            let took = floor::flood(&channel, (exchange, key), messages, FLIGHT).await?;
            rates.push(stats::rate(messages, took));
            channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
        }
        let order = stats::rate(messages, flood(messages, || hub.send(&agent, &order)).await?);
        channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default()).await?;
        let report = stats::rate(messages, flood(messages, || link.send(&report)).await?);
        channel.queue_purge("reports.v1".into(), QueuePurgeOptions::default()).await?;
        // The first round warms everything up.
        if round > 0 {
            ours.push(order);
            reports.push(report);
            raw.iter_mut().zip(rates).for_each(|(all, rate)| all.push(rate));
        }
    }
    let [same, quorum, classic] = raw.map(|rates| stats::median(&rates));
    let (ours, reports) = (stats::median(&ours), stats::median(&reports));
    Ok(json!({ "ours": ours, "reports": reports, "same": same, "quorum": quorum, "classic": classic }))
}

/// So many messages, and how long until the last is confirmed.
async fn flood<F: Future<Output = Result<(), chiffon_link::Error>>>(
    messages: usize,
    send: impl Fn() -> F,
) -> Result<Duration> {
    let begun = Instant::now();
    let mut sending = stream::iter(0..messages).map(|_| send()).buffer_unordered(FLIGHT);
    while let Some(sent) = sending.next().await {
        sent?;
    }
    Ok(begun.elapsed())
}

fn key() -> AttemptKey {
    AttemptKey {
        run: clock::run_id(),
        plan: Oid::parse("a".repeat(40)).expect("40 digits are an object id"),
        mode: Mode::Apply,
        step: Name::parse("site").expect("a constant name"),
        attempt: 1,
    }
}
