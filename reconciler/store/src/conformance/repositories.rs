//! Several requests repositories in one store: nothing in one is seen or changed through another.

use chiffon_core::facts::Pause;
use chiffon_schemas::{AttemptState, RunState};

use super::bed::{Bed, Fixture, command, key, kuma, moved, ordered};
use super::sample::{at, name, oid, run_id};
use crate::{Change, Error, EventFilter};

/// A repository's id is the same at every call; two names have two.
pub async fn a_repository_keeps_its_id(fixture: &dyn Fixture) {
    let store = fixture.store();
    let (one, two) = (name("one"), name("two"));
    let first = store.repository(&one).await.expect("an id");
    assert_ne!(store.repository(&two).await.expect("an id"), first);
    assert_eq!(store.repository(&one).await.expect("an id"), first);
    assert_eq!(fixture.reopen().await.repository(&one).await.expect("an id"), first);
}

/// Requests of one name in two repositories share nothing: all that happens in one leaves the other as it was.
pub async fn repositories_share_nothing_but_their_names(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let other = Bed::at(fixture.store(), "other").await;
    let here = bed.running(&kuma(), 1).await;
    let first = key(&here, "site", 1);
    bed.apply(ordered(&kuma(), &first)).await;
    bed.walk(&kuma(), &first, AttemptState::Started).await;
    let mine = bed.everything().await;
    let untouched = async |what: &str| {
        // The outbox is the agents', not a repository's: only what was there before is left in it.
        let sent: Vec<_> =
            bed.store.outgoing(0, 10).await.expect("messages").iter().skip(1).map(|one| one.id).collect();
        bed.store.sent(&sent).await.expect("marked");
        assert_eq!(bed.everything().await, mine, "{what}");
    };

    let there = other.running(&kuma(), 2).await;
    let second = key(&there, "site", 1);
    other.apply(ordered(&kuma(), &second)).await;
    // The same hosts: inventories of two repositories may use one name for two machines.
    other.walk(&kuma(), &second, AttemptState::Started).await;
    untouched("a run goes on there").await;
    let locks = other.store.locks(other.repository).await.expect("locks");
    assert!(locks.len() == 2 && locks.values().all(|holder| holder.run == there), "{locks:?}");
    let waiting = other.store.unaudited(other.repository, 100).await.expect("events");
    assert_eq!(waiting, {
        let mut events = other.store.events(other.repository, &EventFilter::default()).await.expect("events");
        events.reverse();
        events
    });

    other.apply(moved(&second, AttemptState::Started, AttemptState::Failed)).await;
    untouched("its locks are freed there").await;
    let pause = Pause { reason: "holidays".to_owned(), until: at(86_400) };
    other.apply(Change::InfraSeen { commit: oid(4) }).await;
    other.apply(Change::PauseSet { name: kuma(), pause: Some(pause) }).await;
    other.finish(&there, RunState::Failed).await;
    let ids: Vec<_> = waiting.into_iter().map(|event| event.id).collect();
    other.store.audited(other.repository, &ids, &oid(5)).await.expect("marked");
    other.store.command(other.repository, &command("kuma"), at(1)).await.expect("left");
    let version = other.version(&kuma()).await;
    other.store.settle(other.repository, &kuma(), version).await.expect("settled");
    untouched("all is done there").await;

    assert_eq!(bed.request_of(&here).await, Some((bed.repository, kuma())));
    assert_eq!(bed.request_of(&there).await, Some((other.repository, kuma())));
    assert_eq!(bed.request_of(&run_id(3)).await, None);
}

/// One repository's mistake can't move the audit branch of another.
pub async fn events_of_another_repository_are_not_marked(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let other = Bed::at(fixture.store(), "other").await;
    bed.request(&kuma()).await;
    let waiting = bed.store.unaudited(bed.repository, 10).await.expect("events");
    let ids: Vec<_> = waiting.iter().map(|event| event.id.clone()).collect();
    let _ = other.store.audited(other.repository, &ids, &oid(5)).await;
    assert_eq!(bed.store.unaudited(bed.repository, 10).await.expect("events"), waiting);
    assert_eq!(bed.store.cursor(bed.repository).await.expect("a cursor").audit, None);
}

/// A change in one repository never touches a run of another.
pub async fn a_run_is_changed_only_in_its_own_repository(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let other = Bed::at(fixture.store(), "other").await;
    other.request(&kuma()).await;
    let run = bed.running(&kuma(), 1).await;
    let before = bed.everything().await;
    let finished = Change::RunFinished { run: run.clone(), state: RunState::Failed, voided: false };
    for change in [ordered(&kuma(), &key(&run, "site", 1)), Change::CancelAsked { run: run.clone() }, finished] {
        assert!(matches!(other.refused(change).await, Error::Conflict { .. }));
        assert_eq!(bed.everything().await, before);
    }
}
