//! Events: appended with their change or not at all, in order, once, and never changed.

use chiffon_core::facts::Event;
use chiffon_schemas::{EventId, Name, Oid};
use serde_json::json;

use super::bed::{Bed, Fixture, kuma};
use super::sample::{at, host, hosts, name, oid};
use crate::{Change, EventFilter};

async fn waiting(bed: &Bed<'_>) -> Vec<Event> {
    bed.store.unaudited(bed.repository, 1000).await.expect("events")
}

async fn filtered(bed: &Bed<'_>, filter: EventFilter) -> Vec<String> {
    let events = bed.store.events(bed.repository, &filter).await.expect("events");
    events.into_iter().map(|event| event.kind).collect()
}

async fn audit(bed: &Bed<'_>) -> Option<Oid> {
    bed.store.cursor(bed.repository).await.expect("a cursor").audit
}

fn ids(events: &[Event]) -> Vec<EventId> {
    events.iter().map(|event| event.id.clone()).collect()
}

/// Every field of an event comes back, present or absent.
pub async fn an_event_comes_back_whole(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let mut full = bed.event("plan-offered");
    full.summary = "„é“ \u{1b}[0m '; DROP TABLE events; --\n".to_owned();
    full.detail = json!({"a": [null, 0.1, {"b": u64::MAX}], "\u{0}": "\u{2028}"});
    (full.hosts, full.at) = (hosts(&["a", "fe80::1", "z"]), at(-5));
    let mut bare = bed.event("rebuilt");
    (bare.request, bare.request_oid, bare.plan, bare.run) = (None, None, None, None);
    (bare.hosts, bare.services, bare.detail) = (Vec::new(), Vec::new(), json!(null));
    let both = [full, bare];
    bed.append(&both, 0).await;
    assert_eq!(waiting(&bed).await, both);
    let again = fixture.reopen().await;
    assert_eq!(again.unaudited(bed.repository, 10).await.expect("events"), both);
}

/// Events come in the order in which they were appended, whatever their ids and times say.
pub async fn events_keep_their_order(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let mut events = ["a", "b", "c", "d", "e"].map(|kind| bed.event(kind));
    events.swap(0, 3);
    events[1].at = at(-100);
    for pair in events.chunks(2) {
        bed.append(pair, 0).await;
    }
    assert_eq!(waiting(&bed).await, events);
    assert_eq!(bed.kinds().await, events.each_ref().map(|event| event.kind.clone()));
    assert_eq!(bed.store.unaudited(bed.repository, 2).await.expect("events"), events[..2]);
}

/// An event that is there already is not appended again, nor is anything that came with it.
pub async fn an_event_is_appended_at_most_once(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.request(&kuma()).await;
    let event = bed.event("first");
    bed.append(std::slice::from_ref(&event), 0).await;
    let before = bed.everything().await;
    let messages = [(name("infra"), super::bed::message(&super::sample::run_id(1), 1))];
    let mut again = [bed.event("new"), event];
    again[1].summary = "another".to_owned();
    let change = Change::ReplanAsked { name: kuma(), after: 3 };
    bed.store.apply(bed.repository, change, &again, &messages, at(1)).await.expect_err("it is there");
    assert_eq!(bed.everything().await, before);
}

/// A change whose last event can't be appended is not done, and a grant in it gives out no fence.
pub async fn r3_a_change_and_its_events_are_one(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = bed.in_state(chiffon_schemas::AttemptState::Claimed).await;
    let known = waiting(&bed).await.remove(0);
    let before = bed.everything().await;
    let change = super::bed::granted(&kuma(), &key, &["nas01"]);
    let events = [bed.event("granted"), known];
    bed.store.apply(bed.repository, change.clone(), &events, &[], at(1)).await.expect_err("it is there");
    assert_eq!(bed.everything().await, before);
    bed.apply(change).await;
}

/// Until they are marked the same events come again; what was marked does not, and the cursor moved with it.
pub async fn r3_events_come_again_until_they_are_on_a_commit(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let events = ["a", "b", "c"].map(|kind| bed.event(kind));
    bed.append(&events, 0).await;
    for _ in 0..2 {
        // The process ended between the commit and the mark.
        let again = fixture.reopen().await;
        assert_eq!(again.unaudited(bed.repository, 10).await.expect("events"), events);
        assert_eq!(audit(&bed).await, None);
    }
    bed.store.audited(bed.repository, &ids(&events[..2]), &oid(5)).await.expect("marked");
    assert_eq!(waiting(&bed).await, events[2..]);
    assert_eq!(audit(&bed).await, Some(oid(5)));
    bed.store.audited(bed.repository, &ids(&events[2..]), &oid(6)).await.expect("marked");
    assert!(waiting(&bed).await.is_empty());
    assert_eq!(audit(&bed).await, Some(oid(6)));
    assert_eq!(bed.kinds().await, ["a", "b", "c"]);
    let cursor = fixture.reopen().await.cursor(bed.repository).await.expect("a cursor");
    assert_eq!((cursor.audit, cursor.main, cursor.infra), (Some(oid(6)), None, None));
}

/// A mark that is made again is harmless: what is on a commit stays there.
pub async fn marking_events_again_is_harmless(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let events = ["a", "b"].map(|kind| bed.event(kind));
    bed.append(&events, 0).await;
    for _ in 0..2 {
        bed.store.audited(bed.repository, &ids(&events[..1]), &oid(5)).await.expect("marked");
    }
    bed.store.audited(bed.repository, &[], &oid(7)).await.expect("a commit without events of ours");
    assert_eq!(waiting(&bed).await, events[1..]);
    assert_eq!(audit(&bed).await, Some(oid(7)));
}

/// The infra branch has its own cursor.
pub async fn the_infra_cursor_moves_alone(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.request(&kuma()).await;
    let main = bed.store.cursor(bed.repository).await.expect("a cursor").main;
    for number in [3, 4] {
        bed.apply(Change::InfraSeen { commit: oid(number) }).await;
        let cursor = bed.store.cursor(bed.repository).await.expect("a cursor");
        assert_eq!((cursor.main, cursor.infra), (main.clone(), Some(oid(number))));
    }
}

async fn history(bed: &Bed<'_>) {
    let made = |kind: &str, request: Option<Name>, on: &[&str], services: &[&str], secs| {
        let mut event = bed.event(kind);
        (event.request, event.hosts, event.at) = (request, hosts(on), at(secs));
        event.services = services.iter().map(|service| (*service).to_owned()).collect();
        event.run = (kind != "three").then(|| super::sample::run_id(if kind == "four" { 2 } else { 1 }));
        event
    };
    let events = [
        made("one", Some(kuma()), &["a", "b"], &["kuma"], 10),
        made("two", Some(name("other")), &["b"], &["kuma", "dns"], 20),
        made("three", None, &[], &[], 30),
        made("four", Some(kuma()), &["a"], &["dns"], 40),
        made("two", Some(kuma()), &["c", "c"], &["a'b", "a'b"], 15),
    ];
    bed.append(&events, 0).await;
}

/// Without a filter everything comes, newest first.
pub async fn events_come_newest_first(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    history(&bed).await;
    assert_eq!(filtered(&bed, EventFilter::default()).await, ["two", "four", "three", "two", "one"]);
    let other = Bed::at(fixture.store(), "other").await;
    assert!(filtered(&other, EventFilter::default()).await.is_empty());
}

/// Each field narrows the list by itself.
pub async fn each_field_of_a_filter_narrows(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    history(&bed).await;
    let none = EventFilter::default;
    assert_eq!(filtered(&bed, EventFilter { request: Some(kuma()), ..none() }).await, ["two", "four", "one"]);
    assert_eq!(filtered(&bed, EventFilter { host: Some(host("b")), ..none() }).await, ["two", "one"]);
    assert_eq!(filtered(&bed, EventFilter { run: Some(super::sample::run_id(2)), ..none() }).await, ["four"]);
    assert_eq!(filtered(&bed, EventFilter { host: Some(host("c")), ..none() }).await, ["two"]);
    let of_service = |service: &str| EventFilter { service: Some(service.to_owned()), ..none() };
    assert_eq!(filtered(&bed, of_service("dns")).await, ["four", "two"]);
    assert_eq!(filtered(&bed, of_service("a'b")).await, ["two"]);
    for nobodys in ["dn", "%", "' OR 1=1 --", ""] {
        assert!(filtered(&bed, of_service(nobodys)).await.is_empty(), "{nobodys}");
    }
    let of_kinds =
        |kinds: &[&str]| EventFilter { kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(), ..none() };
    assert_eq!(filtered(&bed, of_kinds(&["two"])).await, ["two", "two"]);
    assert_eq!(filtered(&bed, of_kinds(&["one", "four", "none"])).await, ["four", "one"]);
    assert_eq!(filtered(&bed, EventFilter { since: Some(at(20)), ..none() }).await, ["four", "three", "two"]);
    assert_eq!(filtered(&bed, EventFilter { limit: Some(2), ..none() }).await, ["two", "four"]);
    assert!(filtered(&bed, EventFilter { limit: Some(0), ..none() }).await.is_empty());
}

/// All fields together narrow to what fits each of them; the limit counts what is left.
pub async fn the_fields_of_a_filter_narrow_together(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    history(&bed).await;
    let all = EventFilter {
        request: Some(kuma()),
        run: Some(super::sample::run_id(1)),
        service: Some("kuma".to_owned()),
        host: Some(host("a")),
        kinds: vec!["one".to_owned(), "two".to_owned()],
        since: Some(at(10)),
        limit: Some(1),
    };
    assert_eq!(filtered(&bed, all.clone()).await, ["one"]);
    let but = [
        EventFilter { request: Some(name("other")), ..all.clone() },
        EventFilter { run: Some(super::sample::run_id(2)), ..all.clone() },
        EventFilter { service: Some("dns".to_owned()), ..all.clone() },
        EventFilter { host: Some(host("c")), ..all.clone() },
        EventFilter { kinds: vec!["four".to_owned()], ..all.clone() },
        EventFilter { since: Some(at(11)), ..all.clone() },
    ];
    for filter in but {
        assert!(filtered(&bed, filter.clone()).await.is_empty(), "{filter:?}");
    }
    let two =
        EventFilter { kinds: vec!["two".to_owned()], limit: Some(1), request: Some(kuma()), ..EventFilter::default() };
    assert_eq!(filtered(&bed, two).await, ["two"]);
}
