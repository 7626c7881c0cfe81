//! The wall clock and ids, which the reconciler's own code takes from its environment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use chiffon_schemas::{EventId, RunId, Timestamp, ulid};

/// Ids made so far.
static MADE: AtomicU64 = AtomicU64::new(0);

#[expect(clippy::disallowed_methods, reason = "the one file of the benchmark that reads the wall clock")]
fn millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time, in whole seconds.
pub fn now() -> Timestamp {
    Timestamp::from_secs(i64::try_from(millis() / 1000).unwrap_or(i64::MAX))
}

fn new_ulid() -> String {
    ulid(millis(), u128::from(MADE.fetch_add(1, Ordering::SeqCst)))
}

/// A new run's id.
pub fn run_id() -> RunId {
    RunId::parse(new_ulid()).expect("a ULID is a run id")
}

/// A new event's id.
pub fn event_id() -> EventId {
    EventId::parse(new_ulid()).expect("a ULID is an event id")
}
