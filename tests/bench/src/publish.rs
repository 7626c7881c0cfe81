//! B5: our hub's `send` beside the bare client on the same type of queue.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use chiffon_link::amqp::{AmqpHub, Bounds, Settings};
use chiffon_link::{Hub as _, Signer};
use chiffon_schemas::{AttemptKey, Mode, Name, Oid, ToAgent};
use futures_util::stream::{self, StreamExt as _};
use lapin::options::QueuePurgeOptions;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::places::Broker;
use crate::{clock, floor, stats};

/// Messages whose confirms are awaited at once.
const FLIGHT: usize = 256;

/// What a message has beside its text: the envelope, the key and the signature.
const AROUND: usize = 440;

/// What to measure.
#[derive(Debug, Deserialize)]
pub struct Options {
    broker: Broker,
    messages: usize,
    rounds: usize,
}

/// Messages a second, and ours as a part of the bare client's: medians over rounds in which each comes in turn.
///
/// # Errors
/// The broker failed.
pub async fn measure(options: Options) -> Result<Value> {
    let Options { broker, messages, rounds } = options;
    let agent = Name::parse("sink").expect("a constant name");
    let bounds = Bounds { work: u32::try_from(messages)? * 2, ..Bounds::default() };
    let settings = Settings { bounds, ..Settings::default() };
    let hub = AmqpHub::new(broker.server()?, settings, Signer::generate()?, BTreeSet::from([agent.clone()]));
    hub.connected().await?;
    let connection = broker.connect().await?;
    let channel = floor::channel(&connection).await?;
    let (mut ours, mut quorum, mut classic, mut ratio) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let mut rates = Vec::new();
        for kind in ["quorum", "classic"] {
            let queue = format!("floor.{kind}");
            floor::queue(&channel, &queue, kind).await?;
            rates.push(stats::rate(messages, floor::flood(&channel, &queue, messages, FLIGHT).await?));
            channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await?;
        }
        let rate = stats::rate(messages, flood(&hub, &agent, messages).await?);
        channel.queue_purge("work.v1.sink".into(), QueuePurgeOptions::default()).await?;
        // The first round warms everything up.
        if round > 0 {
            ours.push(rate);
            ratio.push(rate / rates[0]);
            quorum.push(rates[0]);
            classic.push(rates[1]);
        }
    }
    let median = stats::median;
    Ok(json!({ "ours": median(&ours), "quorum": median(&quorum), "classic": median(&classic), "ratio": median(&ratio) }))
}

async fn flood(hub: &AmqpHub, agent: &Name, messages: usize) -> Result<Duration> {
    let key = AttemptKey {
        run: clock::run_id(),
        plan: Oid::parse("a".repeat(40)).expect("40 digits are an object id"),
        mode: Mode::Apply,
        step: Name::parse("site").expect("a constant name"),
        attempt: 1,
    };
    let message = ToAgent::Refuse { key, reason: "x".repeat(floor::BYTES - AROUND) };
    let begun = Instant::now();
    let mut sending = stream::iter(0..messages).map(|_| hub.send(agent, &message)).buffer_unordered(FLIGHT);
    while let Some(sent) = sending.next().await {
        sent?;
    }
    Ok(begun.elapsed())
}
