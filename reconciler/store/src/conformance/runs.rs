//! Runs: finished once a round, resolved only where lost, reopened only where over.

use chiffon_schemas::{AttemptKey, AttemptState, Mode, RunId, RunState, Verdict};

use super::bed::{Bed, Fixture, ended, key, kuma, moved, ordered};
use super::sample::{at, name, outcome, path, run, run_id};
use crate::Change;

const STATES: [RunState; 4] = [RunState::Succeeded, RunState::Failed, RunState::Cancelled, RunState::Lost];

fn finished(run: &RunId, state: RunState, voided: bool) -> Change {
    Change::RunFinished { run: run.clone(), state, voided }
}

fn resolved(run: &RunId, state: RunState) -> Change {
    Change::RunResolved { run: run.clone(), state }
}

fn reopened(run: &RunId, round: u32) -> Change {
    Change::RunReopened { run: run.clone(), round }
}

fn cancel(run: &RunId) -> Change {
    Change::CancelAsked { run: run.clone() }
}

/// A run with an attempt that failed comes back with every field, also to another process.
pub async fn a_run_comes_back_whole(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let first = bed.in_state(AttemptState::Failed).await;
    bed.finish(&first.run, RunState::Failed).await;
    let again = fixture.reopen().await;
    let facts = again.facts(bed.repository, &kuma()).await.expect("facts").expect("it is there");
    let stored = facts.run.expect("a run");
    assert_eq!(stored.attempts.len(), 1);
    assert_eq!(stored.attempts[0].outcome, Some(outcome(Verdict::Failed, 1234)));
    let mut expected = run(&run_id(1), &facts.offers[0]);
    (expected.state, expected.finished_at) = (Some(RunState::Failed), Some(at(70)));
    expected.attempts.clone_from(&stored.attempts);
    assert_eq!(stored, expected);
}

/// An approval of which git does not say whose it was comes back so.
pub async fn an_approval_by_nobody_known_comes_back_so(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let mut run = run(&run_id(1), &bed.offered(&kuma()).await);
    run.approval.by = None;
    bed.apply(Change::Approved { name: kuma(), run: Box::new(run.clone()) }).await;
    assert_eq!(bed.run().await, run);
}

/// In each state in which it can end, a run ends once.
pub async fn a_run_ends_once(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    for (number, state) in (1..).zip(STATES) {
        let request = name(state.as_str());
        let run = bed.running(&request, number).await;
        bed.apply_at(finished(&run, state, false), 70).await;
        let stored = bed.facts(&request).await.run.expect("a run");
        assert_eq!((stored.state, stored.finished_at, stored.voided), (Some(state), Some(at(70)), false));
        for again in STATES {
            bed.conflict(finished(&run, again, false), run.as_str()).await;
        }
    }
}

/// A run that was refused before its first grant says so.
pub async fn a_voided_run_says_so(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let run = bed.running(&kuma(), 1).await;
    bed.apply(finished(&run, RunState::Failed, true)).await;
    assert!(bed.run().await.voided);
}

/// A person decides about a lost run, and about no other.
pub async fn only_a_lost_run_is_resolved(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    for (number, state) in (1..).zip(STATES) {
        let request = name(state.as_str());
        let run = bed.running(&request, number).await;
        bed.conflict(resolved(&run, RunState::Failed), run.as_str()).await;
        bed.apply(finished(&run, state, false)).await;
        if state != RunState::Lost {
            bed.conflict(resolved(&run, RunState::Failed), run.as_str()).await;
            continue;
        }
        bed.apply_at(resolved(&run, RunState::Succeeded), 90).await;
        let stored = bed.facts(&request).await.run.expect("a run");
        assert_eq!((stored.state, stored.finished_at), (Some(RunState::Succeeded), Some(at(90))));
        bed.conflict(resolved(&run, RunState::Failed), run.as_str()).await;
    }
}

/// A run that is over goes on in the next round, and has forgotten that it was to stop.
pub async fn a_run_that_is_over_is_reopened_in_the_next_round(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let run = bed.running(&kuma(), 1).await;
    bed.conflict(reopened(&run, 2), run.as_str()).await;
    bed.apply(cancel(&run)).await;
    bed.finish(&run, RunState::Cancelled).await;
    for wrong in [0, 1, 3] {
        bed.conflict(reopened(&run, wrong), run.as_str()).await;
    }
    bed.apply(reopened(&run, 2)).await;
    let stored = bed.run().await;
    assert_eq!((stored.state, stored.finished_at, stored.round, stored.cancel), (None, None, 2, false));
    bed.conflict(reopened(&run, 3), run.as_str()).await;
    bed.finish(&run, RunState::Failed).await;
    bed.apply(reopened(&run, 3)).await;
    assert_eq!(bed.run().await.round, 3);
}

/// A run that goes on can be asked to stop, as often as one likes; one that is over can't.
pub async fn a_run_is_asked_to_stop_while_it_goes_on(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let run = bed.running(&kuma(), 1).await;
    for _ in 0..2 {
        bed.apply(cancel(&run)).await;
        assert!(bed.run().await.cancel);
    }
    bed.finish(&run, RunState::Failed).await;
    bed.conflict(cancel(&run), run.as_str()).await;
}

/// What names a run that is not there is a conflict that names it.
pub async fn an_unknown_run_is_not_changed(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.running(&kuma(), 1).await;
    let unknown = run_id(2);
    bed.conflict(finished(&unknown, RunState::Failed, false), unknown.as_str()).await;
    bed.conflict(resolved(&unknown, RunState::Failed), unknown.as_str()).await;
    bed.conflict(reopened(&unknown, 2), unknown.as_str()).await;
    bed.conflict(cancel(&unknown), unknown.as_str()).await;
}

/// The facts hold the last run, though earlier ones are kept.
pub async fn the_last_run_is_the_one_of_the_facts(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let first = bed.running(&kuma(), 5).await;
    bed.finish(&first, RunState::Failed).await;
    let offer = super::sample::offer(&kuma(), 2);
    bed.apply(super::bed::recorded(&kuma(), &offer)).await;
    let second = run(&run_id(6), &offer);
    bed.apply(Change::Approved { name: kuma(), run: Box::new(second.clone()) }).await;
    assert_eq!(bed.run().await, second);
    assert_eq!(bed.request_of(&first).await, Some((bed.repository, kuma())));
}

/// When the first attempt was granted is known as soon as one was, and stays.
pub async fn the_first_grant_is_remembered(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let first = bed.in_state(AttemptState::Claimed).await;
    let time = async || bed.store.first_grant(&first.run).await.expect("a time");
    assert_eq!(time().await, None);
    bed.apply_at(super::bed::granted(&kuma(), &first, &["nas01"]), 33).await;
    assert_eq!(time().await, Some(at(33)));
    bed.apply_at(moved(&first, AttemptState::Granted, AttemptState::Failed), 40).await;
    let second = key(&first.run, "dns", 1);
    bed.apply_at(ordered(&kuma(), &second), 50).await;
    bed.walk(&kuma(), &second, AttemptState::Started).await;
    assert_eq!(bed.store.first_grant(&run_id(9)).await.expect("a time"), None);
}

/// Past durations of a playbook are found by it, newest first, of every run in a mode of this repository and no other.
pub async fn history_is_found_by_playbook(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let other = Bed::at(fixture.store(), "other").await;
    let mut number = 10;
    let mut past = async |bed: &Bed<'_>, mode, step, to, duration_ms, secs| {
        number += 1;
        let request = name(&format!("request-{number}"));
        let key = AttemptKey { mode, ..key(&bed.running_in(mode, &request, number).await, step, 1) };
        bed.apply(ordered(&request, &key)).await;
        let fence = bed.walk(&request, &key, AttemptState::Started).await.expect("a fence");
        let Change::Moved { outcome: Some(mut end), .. } = ended(&key, fence, to) else {
            panic!("it has an outcome");
        };
        end.duration_ms = duration_ms;
        let from = AttemptState::Started;
        let change = Change::Moved { key: key.clone(), from, to, fence: Some(fence), boot: None, outcome: Some(end) };
        bed.apply_at(change, secs).await;
        bed.over(&key).await;
    };
    past(&bed, Mode::Apply, "site", AttemptState::Succeeded, 10, 300).await;
    past(&bed, Mode::Apply, "site", AttemptState::Failed, 20, 100).await;
    past(&bed, Mode::Apply, "site", AttemptState::Succeeded, 30, 200).await;
    past(&bed, Mode::Apply, "dns", AttemptState::Succeeded, 40, 200).await;
    past(&bed, Mode::Check, "site", AttemptState::Succeeded, 5, 400).await;
    past(&other, Mode::Apply, "site", AttemptState::Succeeded, 50, 200).await;
    bed.in_state(AttemptState::Lost).await;
    let found = async |bed: &Bed<'_>, mode, playbook, limit| {
        bed.store.history(bed.repository, &path(playbook), mode, limit).await.expect("a history")
    };
    let history = async |bed: &Bed<'_>, playbook, limit| found(bed, Mode::Apply, playbook, limit).await;
    assert_eq!(history(&bed, "playbooks/kuma.yml", 10).await, [(10, true), (30, true), (20, false)]);
    assert_eq!(history(&bed, "playbooks/kuma.yml", 2).await, [(10, true), (30, true)]);
    assert_eq!(history(&bed, "playbooks/dns.yml", 10).await, [(40, true)]);
    assert_eq!(history(&other, "playbooks/kuma.yml", 10).await, [(50, true)]);
    assert_eq!(found(&bed, Mode::Check, "playbooks/kuma.yml", 10).await, [(5, true)]);
    assert!(history(&bed, "playbooks/kuma", 10).await.is_empty());
    assert!(history(&bed, "playbooks/kuma.yml", 0).await.is_empty());
}
