//! What people ask of a history of a million events, through the store's own query.

use anyhow::{Result, ensure};
use chiffon_schemas::{Name, Timestamp};
use chiffon_store::{EventFilter, Store as _};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::Executor as _;
use tokio::time::Instant;

use crate::{places, stats};

/// What to measure.
#[derive(Debug, Deserialize)]
pub struct Options {
    postgres: String,
    rounds: usize,
}

/// The first event, and the seconds between two: a million are ten years.
const FIRST: i64 = 1_500_000_000;
const APART: i64 = 315;
const EVENTS: i64 = 1_000_000;

/// Of 2 000 requests, 500 services and 200 hosts; one in a hundred is a failure.
const FILL: &str = "
    -- Without a look at foreign keys for each of three million rows.
    SET session_replication_role = replica;
    INSERT INTO requests (repository_id, name, path, file, oid, priority, since)
    SELECT 1, 'request-' || n, 'requests/request-' || n || '.yaml', 'valid', repeat('0', 40), 3, now()
    FROM generate_series(1, 2000) AS n;
    INSERT INTO events (id, repository_id, kind, request, hosts, services, summary, detail, at, audit_commit)
    SELECT gen_random_uuid(), 1,
        CASE WHEN n % 100 = 0 THEN 'run-failed' WHEN n % 5 = 0 THEN 'run-succeeded' ELSE 'plan-offered' END,
        'request-' || n % 2000 + 1, ARRAY['host-' || n % 200], ARRAY['service-' || n % 500], 'event ' || n, '{}',
        to_timestamp(1500000000 + n * 315::double precision), repeat('a', 40)
    FROM generate_series(1, 1000000) AS n;
    INSERT INTO event_hosts SELECT repository_id, hosts[1], seq FROM events;
    INSERT INTO event_services SELECT repository_id, services[1], seq FROM events;
    ANALYZE;
";

/// Milliseconds of each question, the first time and the median of some.
///
/// # Errors
/// The database failed, or answers something else.
pub async fn measure(options: Options) -> Result<Value> {
    let (server, store) = places::new_store(&options.postgres).await?;
    let repository = store.repository(&Name::parse("home").expect("a constant name")).await?;
    places::connect(&server.url).await?.execute(FILL).await?;
    let week = FIRST + EVENTS * APART - 7 * 86_400;
    let failures = EventFilter {
        kinds: vec!["run-failed".to_owned()],
        since: Some(Timestamp::from_secs(week)),
        ..EventFilter::default()
    };
    let changes = EventFilter { service: Some("service-7".to_owned()), ..EventFilter::default() };
    let mut said = Vec::new();
    for (what, filter, count) in
        [("all failures in the last week", failures, 20), ("all changes to service X", changes, 2000)]
    {
        let mut times = Vec::new();
        for _ in 0..=options.rounds {
            let begun = Instant::now();
            let found = store.events(repository, &filter).await?;
            times.push(begun.elapsed());
            ensure!(found.len() == count, "{what}: {} are found", found.len());
        }
        let first = times[0].as_secs_f64() * 1000.0;
        said.push(json!({ "what": what, "rows": count, "ms": stats::percentile(&times, 50), "first_ms": first }));
    }
    Ok(Value::Array(said))
}
