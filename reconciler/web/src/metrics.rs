//! `GET /metrics`: what the loop counts, and what the store holds at that moment, as Prometheus reads it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chiffon_core::facts::AgentFacts;
use chiffon_schemas::{Direction, Name, Timestamp};
use chiffon_store::Levels;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::Context;
use crate::health::{self, Part};

/// Upper bounds of a tick's seconds: one that changes nothing takes a millisecond, one that plans some hundred.
const TICK_SECONDS: [f64; 9] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDirection {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAgent {
    agent: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPart {
    part: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLoop {
    r#loop: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQueue {
    queue: String,
}

/// A turn of something that goes on again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// A look at everything, whatever woke it.
    Look,
    /// The lease of who leads is renewed.
    Lease,
    /// The infra repository is fetched.
    Fetch,
}

impl Turn {
    fn as_str(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Lease => "lease",
            Self::Fetch => "fetch",
        }
    }
}

/// What the loop counts.
#[derive(Debug)]
pub struct Metrics {
    ticks: Histogram,
    errors: Counter,
    actions: Counter,
    messages: Family<OfDirection, Counter>,
    turns: Family<OfLoop, Counter>,
    sampled: Mutex<Sampled>,
}

/// What the loop said last.
#[derive(Debug, Default)]
struct Sampled {
    requests: BTreeMap<&'static str, i64>,
    queues: Vec<(String, u64)>,
    turned: BTreeMap<Turn, Instant>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            ticks: Histogram::new(TICK_SECONDS),
            errors: Counter::default(),
            actions: Counter::default(),
            messages: Family::default(),
            turns: Family::default(),
            sampled: Mutex::default(),
        }
    }
}

impl Metrics {
    /// A tick ended.
    pub fn ticked(&self, seconds: f64, actions: usize) {
        self.ticks.observe(seconds);
        self.actions.inc_by(u64::try_from(actions).unwrap_or(u64::MAX));
    }

    /// Something failed and was said.
    pub fn failed(&self) {
        self.errors.inc();
    }

    /// Messages went over the bus.
    pub fn carried(&self, direction: Direction, count: u64) {
        self.messages.get_or_create(&OfDirection { direction: direction.as_str() }).inc_by(count);
    }

    /// How many requests stand where.
    pub fn stand(&self, requests: BTreeMap<&'static str, i64>) {
        self.sampled().requests = requests;
    }

    /// How many messages wait in each queue of the bus.
    pub fn wait(&self, queues: Vec<(String, u64)>) {
        self.sampled().queues = queues;
    }

    /// A loop has turned.
    pub fn turned(&self, of: Turn) {
        self.turns.get_or_create(&OfLoop { r#loop: of.as_str() }).inc();
        self.sampled().turned.insert(of, Instant::now());
    }

    fn sampled(&self) -> MutexGuard<'_, Sampled> {
        // Every change is complete before anything can panic.
        self.sampled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is counted, in a registry of its own, so that what is read at this moment has a place in it.
    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("chiffon");
        registry.register("tick_seconds", "How long a look at everything takes", self.ticks.clone());
        registry.register("errors", "What failed and was said", self.errors.clone());
        registry.register("actions", "Decisions that were carried out", self.actions.clone());
        registry.register("bus_messages", "Messages that went over the bus", self.messages.clone());
        registry.register("loop_turns", "How often a loop has turned", self.turns.clone());
        let sampled = self.sampled();
        let requests = Family::<OfState, Gauge>::default();
        for (state, count) in &sampled.requests {
            requests.get_or_create(&OfState { state }).set(*count);
        }
        registry.register("requests", "Requests by their state", requests);
        let queues = Family::<OfQueue, Gauge>::default();
        for (queue, messages) in &sampled.queues {
            queues.get_or_create(&OfQueue { queue: queue.clone() }).set(i64::try_from(*messages).unwrap_or(i64::MAX));
        }
        registry.register("queue_messages", "Messages that wait in a queue of the bus", queues);
        let idle = Family::<OfLoop, Gauge<f64, AtomicU64>>::default();
        for (of, at) in &sampled.turned {
            idle.get_or_create(&OfLoop { r#loop: of.as_str() }).set(at.elapsed().as_secs_f64());
        }
        registry.register("loop_idle_seconds", "How long ago a loop has turned", idle);
        registry
    }
}

pub(crate) async fn page(State(context): State<Context>) -> Response {
    let mut registry = context.metrics.registry();
    let missing = Family::<OfPart, Gauge>::default();
    let mut parts = health::missing(&context).await;
    // What the loop counts is shown also while the store is away.
    let held = match parts.get(&Part::Store) {
        Some(_) => None,
        None => match tokio::time::timeout(health::ANSWER_WITHIN, Held::read(&context)).await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => parts.insert(Part::Store, error.to_string()).and(None),
            Err(_) => parts.insert(Part::Store, "it does not answer in time".to_owned()).and(None),
        },
    };
    if let Some(held) = held {
        held.register(&mut registry, (context.now)());
    }
    for part in parts.keys() {
        missing.get_or_create(&OfPart { part: part.as_str() }).set(1);
    }
    registry.register("missing", "Parts that are missing; none where it is ready", missing);
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// What the store holds now.
struct Held {
    levels: Levels,
    agents: BTreeMap<Name, AgentFacts>,
}

impl Held {
    /// Reads it; `None` where the store is not open yet.
    async fn read(context: &Context) -> Result<Option<Self>, chiffon_store::Error> {
        let Some((store, repository)) = context.store.get() else { return Ok(None) };
        Ok(Some(Self { levels: store.levels(*repository).await?, agents: store.agents().await? }))
    }

    fn register(self, registry: &mut Registry, now: Timestamp) {
        let Self { levels, agents } = self;
        gauge(registry, "outbox_messages", "Messages that wait for the bus to take them", levels.outbox);
        gauge(registry, "audit_events", "Events that wait to be on the audit branch", levels.unaudited);
        gauge(registry, "parked_messages", "Messages that nobody could use", levels.parked);
        gauge(registry, "locked_hosts", "Hosts that a run holds", levels.locks);
        gauge(registry, "open_commands", "Commands of people that wait for an answer", levels.commands);
        let attempts = Family::<OfState, Gauge>::default();
        for (state, count) in &levels.attempts {
            attempts.get_or_create(&OfState { state: state.as_str() }).set(i64::try_from(*count).unwrap_or(0));
        }
        registry.register("attempts", "Attempts that are not over, by their state", attempts);
        let silence = Family::<OfAgent, Gauge<f64, AtomicU64>>::default();
        for (agent, facts) in agents {
            silence.get_or_create(&of_agent(&agent)).set((now.secs() - facts.heard.secs()).max(0) as f64);
        }
        registry.register("agent_silence_seconds", "How long ago an agent was heard", silence);
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

fn of_agent(agent: &Name) -> OfAgent {
    OfAgent { agent: agent.to_string() }
}
