//! `GET /metrics`: what the loop counts, and what the store holds at that moment, as Prometheus reads it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chiffon_schemas::{Direction, Name};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::Context;

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

/// What the loop counts.
#[derive(Debug)]
pub struct Metrics {
    ticks: Histogram,
    errors: Counter,
    actions: Counter,
    messages: Family<OfDirection, Counter>,
    requests: std::sync::Mutex<BTreeMap<&'static str, i64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            ticks: Histogram::new(TICK_SECONDS),
            errors: Counter::default(),
            actions: Counter::default(),
            messages: Family::default(),
            requests: std::sync::Mutex::default(),
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
        *self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = requests;
    }

    /// Everything that is counted, in a registry of its own, so that what is read at this moment has a place in it.
    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("chiffon");
        registry.register("tick_seconds", "How long a look at everything takes", self.ticks.clone());
        registry.register("errors", "What failed and was said", self.errors.clone());
        registry.register("actions", "Decisions that were carried out", self.actions.clone());
        registry.register("bus_messages", "Messages that went over the bus", self.messages.clone());
        let requests = Family::<OfState, Gauge>::default();
        let stand = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (state, count) in &*stand {
            requests.get_or_create(&OfState { state }).set(*count);
        }
        drop(stand);
        registry.register("requests", "Requests by their state", requests);
        registry
    }
}

pub(crate) async fn page(State(context): State<Context>) -> Response {
    let mut registry = context.metrics.registry();
    let missing = Family::<OfPart, Gauge>::default();
    for part in context.health.missing().keys() {
        missing.get_or_create(&OfPart { part: part.as_str() }).set(1);
    }
    registry.register("missing", "Parts that are missing; none where it is ready", missing);
    if let Err(error) = of_store(&context, &mut registry).await {
        tracing::warn!(%error, "metrics of the store can't be read");
        return (StatusCode::SERVICE_UNAVAILABLE, "the store failed\n").into_response();
    }
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// What the store holds now.
async fn of_store(context: &Context, registry: &mut Registry) -> Result<(), chiffon_store::Error> {
    let Some((store, repository)) = context.store.get() else { return Ok(()) };
    let now = (context.now)();
    let levels = store.levels(*repository).await?;
    let gauge = |registry: &mut Registry, name: &str, help: &str, value: u64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
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
    for (agent, facts) in store.agents().await? {
        silence.get_or_create(&of_agent(&agent)).set((now.secs() - facts.heard.secs()).max(0) as f64);
    }
    registry.register("agent_silence_seconds", "How long ago an agent was heard", silence);
    Ok(())
}

fn of_agent(agent: &Name) -> OfAgent {
    OfAgent { agent: agent.to_string() }
}
