//! Locks: taken by a run all at once or not at all, and kept as long as something of it may still run.

use chiffon_core::facts::LockHolder;
use chiffon_schemas::{AttemptKey, AttemptState, Name, RunState};

use super::bed::{Bed, Fixture, granted, key, kuma, moved, ordered};
use super::sample::{boot, host, hosts, name};
use crate::{Change, Error};
use AttemptState::{Cancelled, Claimed, Failed, Granted, Lost, Ordered, Started, Succeeded};

async fn claimed(bed: &Bed<'_>, request: &Name, number: u64) -> AttemptKey {
    let key = key(&bed.running(request, number).await, "site", 1);
    bed.apply(ordered(request, &key)).await;
    bed.walk(request, &key, Claimed).await;
    key
}

async fn locked(bed: &Bed<'_>) -> Vec<(String, LockHolder)> {
    let locks = bed.store.locks(bed.repository).await.expect("locks");
    locks.into_iter().map(|(host, holder)| (host.to_string(), holder)).collect()
}

fn held_by(request: &Name, key: &AttemptKey) -> LockHolder {
    LockHolder { request: request.clone(), run: key.run.clone(), step: key.step.clone(), attempt: key.attempt }
}

/// A grant takes the lock of each host that it names, and of no other.
pub async fn a_grant_locks_its_hosts(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = claimed(&bed, &kuma(), 1).await;
    assert!(locked(&bed).await.is_empty(), "a claim locks nothing");
    bed.apply(granted(&kuma(), &key, &["a", "b", "fe80::1"])).await;
    let holder = held_by(&kuma(), &key);
    let expected = ["a", "b", "fe80::1"].map(|host| (host.to_owned(), holder.clone()));
    assert_eq!(locked(&bed).await, expected);
    let again = fixture.reopen().await;
    assert_eq!(again.locks(bed.repository).await.expect("locks").len(), 3);
}

/// Where one host is locked, none is taken, and the answer names the host and who holds it.
pub async fn r1_locks_are_taken_all_at_once_or_not_at_all(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let first = claimed(&bed, &kuma(), 1).await;
    bed.apply(granted(&kuma(), &first, &["m"])).await;
    let other = name("other");
    let second = claimed(&bed, &other, 2).await;
    for on in [&["a", "m", "z"][..], &["m"], &["a", "b", "m"], &["m", "z"]] {
        match bed.refused(granted(&other, &second, on)).await {
            Error::Locked { host: locked, holder } => {
                assert_eq!((locked, holder), (host("m"), held_by(&kuma(), &first)));
            }
            error => panic!("not locked but {error:?}"),
        }
        assert_eq!(locked(&bed).await, [("m".to_owned(), held_by(&kuma(), &first))]);
    }
    bed.apply(granted(&other, &second, &["a", "z"])).await;
    bed.apply(moved(&first, Granted, Failed)).await;
    bed.apply(finished(&first, RunState::Failed)).await;
    assert_eq!(locked(&bed).await.iter().map(|(host, _)| host.as_str()).collect::<Vec<_>>(), ["a", "z"]);
}

/// A run's later attempts find its locks their own; the first one's name stays on them.
pub async fn attempts_of_one_run_share_its_locks(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let first = claimed(&bed, &kuma(), 1).await;
    bed.apply(granted(&kuma(), &first, &["a"])).await;
    let second = key(&first.run, "site", 2);
    bed.apply(ordered(&kuma(), &second)).await;
    bed.walk(&kuma(), &second, Claimed).await;
    bed.apply(granted(&kuma(), &second, &["a", "b"])).await;
    let expected = [("a".to_owned(), held_by(&kuma(), &first)), ("b".to_owned(), held_by(&kuma(), &second))];
    assert_eq!(locked(&bed).await, expected);
}

/// Between two attempts of a run its hosts stay its own; the end of the run frees them.
pub async fn the_end_of_the_run_frees_the_locks(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let mut number = 0;
    for from in [Granted, Started] {
        for to in [Succeeded, Failed, Cancelled].into_iter().filter(|to| from.allows(*to)) {
            number += 1;
            let request = name(&format!("request-{number}"));
            let key = key(&bed.running(&request, number).await, "site", 1);
            bed.apply(ordered(&request, &key)).await;
            bed.walk(&request, &key, from).await;
            bed.apply(moved(&key, from, to)).await;
            assert_eq!(locked(&bed).await.len(), 2, "{from:?} to {to:?}: the run goes on");
            bed.apply(finished(&key, RunState::Failed)).await;
            assert!(locked(&bed).await.is_empty(), "{from:?} to {to:?}");
        }
    }
}

/// The end of a lost run frees nothing, until nothing of it is lost any more.
pub async fn r4_the_end_of_a_lost_run_frees_nothing(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = bed.in_state(Lost).await;
    bed.apply(finished(&key, RunState::Lost)).await;
    assert_eq!(locked(&bed).await.len(), 2);
    bed.apply(moved(&key, Lost, Failed)).await;
    assert!(locked(&bed).await.is_empty());
}

fn finished(key: &AttemptKey, state: RunState) -> Change {
    Change::RunFinished { run: key.run.clone(), state, voided: false }
}

/// A lost attempt may still run somewhere: nobody else gets its hosts.
pub async fn r4_a_lost_attempt_keeps_its_locks(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    for (number, from) in (1..).zip([Granted, Started]) {
        let request = name(&format!("request-{number}"));
        let lost = key(&bed.running(&request, number).await, "site", 1);
        bed.apply(ordered(&request, &lost)).await;
        bed.walk(&request, &lost, from).await;
        bed.apply(moved(&lost, from, Lost)).await;
        assert_eq!(locked(&bed).await.len(), 2);
        let waiting = name(&format!("waiting-{number}"));
        let other = claimed(&bed, &waiting, number + 10).await;
        let error = bed.refused(granted(&waiting, &other, &["nas02"])).await;
        assert!(matches!(error, Error::Locked { holder, .. } if holder == held_by(&request, &lost)));
        bed.apply(finished(&lost, RunState::Lost)).await;
        bed.apply(moved(&lost, Lost, Failed)).await;
        bed.apply(granted(&waiting, &other, &["nas02"])).await;
        bed.apply(moved(&other, Granted, Failed)).await;
        bed.apply(finished(&other, RunState::Failed)).await;
    }
}

/// A returned attempt, granted again, takes its own locks anew.
pub async fn an_attempt_that_never_started_can_be_granted_again(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = bed.in_state(Granted).await;
    bed.apply(moved(&key, Granted, Lost)).await;
    bed.apply(moved(&key, Lost, Ordered)).await;
    bed.walk(&kuma(), &key, Granted).await;
    assert_eq!(locked(&bed).await.len(), 2);
}

/// A person frees a held lock, and a free one can't be freed; the others stay.
pub async fn a_person_frees_one_lock(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let other = Bed::at(fixture.store(), "other").await;
    let key = bed.in_state(Lost).await;
    bed.conflict(Change::Unlocked { host: host("nas03") }, "nas03").await;
    other.conflict(Change::Unlocked { host: host("nas01") }, "nas01").await;
    bed.apply(Change::Unlocked { host: host("nas01") }).await;
    assert_eq!(locked(&bed).await, [("nas02".to_owned(), held_by(&kuma(), &key))]);
    bed.conflict(Change::Unlocked { host: host("nas01") }, "nas01").await;
}

/// A lock that a person freed and another took is not freed by the one that had it.
pub async fn an_end_frees_only_its_own_locks(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let lost = bed.in_state(Lost).await;
    bed.apply(Change::Unlocked { host: host("nas01") }).await;
    let other = name("other");
    let second = claimed(&bed, &other, 2).await;
    bed.apply(granted(&other, &second, &["nas01"])).await;
    bed.apply(finished(&lost, RunState::Lost)).await;
    bed.apply(moved(&lost, Lost, Failed)).await;
    assert_eq!(locked(&bed).await, [("nas01".to_owned(), held_by(&other, &second))]);
}

/// Whoever asks for a grant that it may not have takes no lock, free or not.
pub async fn a_refused_grant_locks_nothing(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = claimed(&bed, &kuma(), 1).await;
    let stranger = Change::Granted {
        name: kuma(),
        key: key.clone(),
        boot: boot(2),
        hosts: hosts(&["a", "b"]),
        order: "0".repeat(64),
    };
    bed.conflict(stranger, &key.to_string()).await;
    assert!(locked(&bed).await.is_empty());
}
