//! What people ask of a long history is found by indexes, not by reading all of it: the plans over a million events.

use chiffon_store::EventFilter;
use chiffon_store::conformance::{Bed, at, host, kuma, name};

use crate::postgres::OneDatabase;

const EVENTS: i64 = 1_000_000;

/// A million events over ten years: of 2 000 requests, 500 services and 200 hosts, one in a hundred a failure.
const FILL: &str = "
    -- Without a look at foreign keys for each of three million rows.
    SET session_replication_role = replica;
    INSERT INTO requests (repository_id, name, path, file, oid, priority, since)
    SELECT 1, 'request-' || n, 'requests/request-' || n || '.yaml', 'valid', repeat('0', 40), 3, now()
    FROM generate_series(1, 2000) AS n;

    INSERT INTO events (id, repository_id, kind, request, hosts, services, summary, detail, at)
    SELECT gen_random_uuid(), 1,
        CASE WHEN n % 100 = 0 THEN 'run-failed' WHEN n % 5 = 0 THEN 'run-succeeded' ELSE 'plan-offered' END,
        'request-' || n % 2000 + 1, ARRAY['host-' || n % 200], ARRAY['service-' || n % 500], 'event ' || n, '{}',
        to_timestamp(1500000000 + n * 315::double precision)
    FROM generate_series(1, 1000000) AS n;
    INSERT INTO event_hosts SELECT repository_id, hosts[1], seq FROM events;
    INSERT INTO event_services SELECT repository_id, services[1], seq FROM events;
    ANALYZE;
";

#[tokio::test]
async fn questions_about_a_million_events_are_answered_by_indexes() {
    let data = OneDatabase::new().await;
    let bed = Bed::new(&data).await;
    sqlx::raw_sql(FILL).execute(&mut data.raw().await).await.unwrap();
    let week = 86_400 * 7;
    let last = 1_500_000_000 + EVENTS * 315;
    let none = EventFilter::default;
    let questions = [
        (
            "all failures in the last week",
            EventFilter {
                kinds: vec!["run-failed".to_owned()],
                since: Some(chiffon_schemas::Timestamp::from_secs(last - week)),
                ..none()
            },
            20,
        ),
        ("all changes to a service", EventFilter { service: Some("service-7".to_owned()), ..none() }, 2_000),
        (
            "the last changes to a service",
            EventFilter { service: Some("service-7".to_owned()), limit: Some(20), ..none() },
            20,
        ),
        ("all that happened on a host", EventFilter { host: Some(host("host-7")), limit: Some(50), ..none() }, 50),
        ("all of a request", EventFilter { request: Some(name("request-7")), ..none() }, 500),
        ("the last ones", EventFilter { limit: Some(50), ..none() }, 50),
        ("the last week", EventFilter { since: Some(at(0)), limit: Some(50), ..none() }, 50),
    ];
    for (what, filter, count) in questions {
        let plan = data.store.explain_events(bed.repository, &filter).await.unwrap();
        assert!(!plan.contains("Seq Scan"), "{what}:\n{plan}");
        let found = bed.store.events(bed.repository, &filter).await.unwrap();
        assert_eq!(found.len(), count, "{what}:\n{plan}");
        assert!(found.windows(2).all(|pair| pair[0].at >= pair[1].at), "{what}: newest first");
    }
    assert!(bed.store.facts(bed.repository, &kuma()).await.unwrap().is_none());
}
