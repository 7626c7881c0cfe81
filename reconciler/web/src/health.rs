//! Whether the reconciler lives, and whether it is ready; where it is not, what is missing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::Context;

/// The loop turns at least once a poll; one that did not for so long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(300);

/// How long the store may take to answer, for whoever asks how it stands.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What must be there before anything can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The store is open and takes changes.
    Store,
    /// No other reconciler leads.
    Leader,
    /// The bus takes messages.
    Bus,
    /// The infra repository was read.
    Infra,
    /// The last look at everything came to its end.
    Work,
    /// The first tick is done.
    FirstTick,
}

impl Part {
    /// Its name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Leader => "leader",
            Self::Bus => "bus",
            Self::Infra => "infra",
            Self::Work => "work",
            Self::FirstTick => "first-tick",
        }
    }
}

/// What the loop says of itself.
#[derive(Debug)]
pub struct Health {
    state: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    missing: BTreeMap<Part, String>,
    turned: Instant,
}

impl Default for Health {
    /// Nothing is there yet.
    fn default() -> Self {
        let missing = [
            (Part::Store, "not open yet"),
            (Part::Leader, "not known yet"),
            (Part::Infra, "not read yet"),
            (Part::FirstTick, "not done yet"),
        ];
        let missing = missing.into_iter().map(|(part, why)| (part, why.to_owned())).collect();
        Self { state: Mutex::new(Known { missing, turned: Instant::now() }) }
    }
}

impl Health {
    fn state(&self) -> MutexGuard<'_, Known> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part is there, or is missing for this reason.
    pub fn set(&self, part: Part, missing: Option<String>) {
        let mut state = self.state();
        match missing {
            Some(why) => state.missing.insert(part, why),
            None => state.missing.remove(&part),
        };
    }

    /// The loop has turned.
    pub fn turned(&self) {
        self.state().turned = Instant::now();
    }

    /// What is missing, and why.
    pub fn missing(&self) -> BTreeMap<Part, String> {
        self.state().missing.clone()
    }

    fn hangs(&self) -> bool {
        self.state().turned.elapsed() > HANGS_AFTER
    }
}

/// `GET /livez`: 200 while the loop turns.
pub(crate) async fn livez(State(context): State<Context>) -> (StatusCode, Json<Value>) {
    let alive = !context.health.hangs();
    (status(alive), Json(json!({ "alive": alive })))
}

/// `GET /readyz`: 200 once everything is there; else 503, and what is missing.
pub(crate) async fn readyz(State(context): State<Context>) -> (StatusCode, Json<Value>) {
    let missing = missing(&context).await;
    let list: Vec<Value> = missing.iter().map(|(part, why)| json!({ "what": part.as_str(), "why": why })).collect();
    (status(missing.is_empty()), Json(json!({ "ready": missing.is_empty(), "missing": list })))
}

/// What is missing now: what the loop knows, and whether the store answers this very moment.
pub(crate) async fn missing(context: &Context) -> BTreeMap<Part, String> {
    let mut missing = context.health.missing();
    if let Some((store, repository)) = context.store.get().filter(|_| !missing.contains_key(&Part::Store)) {
        let why = match tokio::time::timeout(ANSWER_WITHIN, store.cursor(*repository)).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("it does not answer in {} s", ANSWER_WITHIN.as_secs())),
        };
        missing.extend(why.map(|why| (Part::Store, why)));
    }
    missing
}

fn status(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
