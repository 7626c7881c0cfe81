//! SIGKILL at every named crash point of the embedded path, once and twice: nothing starts twice, nothing is lost.

use std::collections::BTreeSet;

use chiffon_tests::blow::{Blow, Ground};
use chiffon_tests::crash::{Case, POINTS, Point};
use chiffon_tests::{Bed, Merge};

/// The points of one process that holds reconciler and agent.
fn embedded() -> impl Iterator<Item = &'static Point> {
    POINTS.iter().filter(|point| !point.only_apart)
}

#[test]
fn every_crash_point_is_reached_in_one_undisturbed_life_of_a_request() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    assert!(!bed.up_once_killed_at("none"));
    bed.approve("journal", Merge::Commit);
    assert!(!bed.up_once_killed_at("none"));
    let reached: BTreeSet<String> = bed.crash_log().into_iter().collect();
    let known: BTreeSet<String> = embedded().map(|point| point.name.to_owned()).collect();
    assert_eq!(reached, known);
    let source = std::fs::read_to_string(chiffon_tests::root().join("schemas/src/crash.rs")).unwrap();
    let listed = source.split_once("CRASH_POINTS: &[&str] = &[").unwrap().1.split_once("];").unwrap().0;
    let listed: BTreeSet<String> = listed.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(listed, POINTS.iter().map(|point| point.name.to_owned()).collect());
}

#[test]
fn r1_a_kill_at_any_point_once_starts_nothing_twice_and_loses_nothing() {
    for point in embedded() {
        killed(&Bed::new(), point, 1);
    }
}

/// A slice: `make crash` runs them all.
#[test]
fn r1_a_kill_at_a_point_twice_starts_nothing_twice_and_loses_nothing() {
    for point in embedded().step_by(3) {
        killed(&Bed::new(), point, 2);
    }
}

/// A slice: `make crash` runs them all.
#[test]
fn r1_a_kill_at_a_point_with_records_in_postgres_starts_nothing_twice_and_loses_nothing() {
    for point in embedded().skip(1).step_by(4) {
        killed(&Bed::new().on_postgres(), point, 1);
    }
}

/// A slice: `make crash` runs them all.
#[test]
fn r1_a_kill_of_one_of_several_processes_starts_nothing_twice_and_loses_nothing() {
    for (seed, point) in POINTS.iter().skip(2).step_by(5).enumerate() {
        let outcome = Case { point: *point, blow: Blow::Kill, times: 1 + seed % 2, seed }.run_apart();
        assert!(outcome.is_good(), "{}: {outcome:?}", point.name);
    }
}

/// A slice of what befalls services and sleepers: `make crash` has all points.
fn struck(blow: Blow, points: &[&str]) {
    let mut ground = Ground::new();
    for (seed, name) in points.iter().enumerate() {
        let point = *POINTS.iter().find(|point| point.name == *name).unwrap();
        let outcome = Case { point, blow, times: 1, seed }.run_on(&mut ground);
        assert!(outcome.is_good(), "{name} {}: {outcome:#?}", blow.word());
    }
}

#[test]
fn r6_a_database_that_is_cut_at_a_transition_costs_nothing() {
    struck(
        Blow::Database,
        &["order-recorded", "messages-marked", "claim-recorded", "grant-recorded", "start-recorded", "end-recorded"],
    );
}

#[test]
fn r5_a_broker_that_is_killed_at_a_point_loses_nothing() {
    struck(Blow::Broker, &["messages-sent", "report-stored"]);
}

#[test]
fn r5_a_broker_that_is_emptied_at_a_point_loses_nothing() {
    struck(Blow::EmptyBroker, &["messages-marked", "agent-journalled-claim"]);
}

#[test]
fn r4_an_agent_that_sleeps_at_a_point_starts_nothing_twice() {
    struck(Blow::Sleep, &["agent-journalled-started"]);
}

#[test]
fn r8_a_reconciler_that_sleeps_at_a_point_is_deposed_and_changes_nothing_more() {
    struck(Blow::Sleep, &["approval-recorded", "grant-recorded"]);
}

/// One request's life in which Chiffon is killed at a point up to `times` times in a row.
fn killed(bed: &Bed, point: &Point, times: usize) {
    let (passed, point, may_lose) = (point.passed, point.name, point.may_lose);
    bed.push_request("journal", "Deploy the journal");
    let mut kills = 0;
    let once = |kills: &mut usize| {
        while *kills < times && bed.up_once_killed_at(if *kills > 0 && passed { "any" } else { point }) {
            *kills += 1;
        }
        bed.up_once();
    };
    once(&mut kills);
    assert_eq!(bed.state("journal"), "proposed", "{point}: {}", bed.status("journal"));
    assert_eq!(bed.count("plan-offered"), 1, "{point}");
    bed.approve("journal", Merge::Commit);
    once(&mut kills);
    assert_eq!(kills, times, "{point} was reached too seldom");
    let state = bed.state("journal");
    assert!(state == "succeeded" || (may_lose && state == "lost"), "{point}: {}", bed.status("journal"));
    let lines = bed.infra.lines("journal").len();
    assert!(lines <= 1, "{point}: it ran {lines} times");
    assert!(state == "lost" || lines == 1, "{point}: {state}, but it ran {lines} times");
    assert_eq!(bed.count("plan-approved"), 1, "{point}");
    assert_eq!(bed.count(&format!("run-{state}")), 1, "{point}: {:?}", bed.kinds());
    // What is in the database is on the audit branch, and a restart changes nothing more.
    let before = (bed.audit_tip(), bed.status("journal")["run"].clone());
    bed.up_once();
    assert_eq!((bed.audit_tip(), bed.status("journal")["run"].clone()), before, "{point}");
    let ids = bed.bare_git(&["log", "--format=%(trailers:key=Chiffon-Event,valueonly)", "chiffon/audit"]);
    let ids: Vec<&str> = ids.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{point}: an event is recorded twice");
    if state == "lost" {
        resolved(bed, point);
    }
}

/// A lost run keeps its host until a person has looked; then it goes on.
fn resolved(bed: &Bed, point: &str) {
    let mut up = bed.up();
    bed.push_request("other", "Deploy the journal");
    up.wait_for("other: proposed");
    bed.approve("other", Merge::Commit);
    up.wait_for("other: paused: waiting for alpha: locked by journal");
    let before = bed.infra.lines("journal").len();
    bed.chiffon(&["resolve", "journal", "--retry"]).ends(0);
    up.wait_for("other: succeeded");
    // Either may get the host first.
    if bed.state("journal") != "succeeded" {
        up.wait_for("journal: succeeded");
    }
    assert_eq!(bed.infra.lines("journal").len(), before + 2, "{point}");
    assert_eq!(bed.state("journal"), "succeeded", "{point}");
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn r1_a_kill_in_mid_run_makes_the_attempt_lost_and_ends_what_it_left_behind() {
    let bed = Bed::new();
    let mut up = bed.up();
    bed.push_request("slow", "Deploy the slow one");
    up.wait_for("slow: proposed");
    bed.approve("slow", Merge::Commit);
    up.wait_for("slow: running");
    bed.wait_until("the task waits", || bed.infra.slow_is_alive());
    up.signal("KILL");
    assert_eq!(up.end(), -1);
    bed.up_once().ends(3);
    assert_eq!(bed.state("slow"), "lost");
    assert!(!bed.infra.slow_is_alive(), "what the dead agent had started is ended");
    assert_eq!(bed.infra.lines("slow").len(), 1);
    let said = bed.chiffon(&["status", "slow"]).out;
    assert!(said.contains("chiffon resolve slow"), "{said}");
    assert_eq!(bed.count("attempt-lost"), 1);
    let results = || bed.bare_git(&["ls-tree", "-r", "chiffon/audit", "results"]);
    let lost = results();
    assert!(lost.trim_end().ends_with("/result-1.yaml"), "{lost}");
    let mut up = bed.up();
    bed.chiffon(&["resolve", "slow", "--failed"]).ends(0);
    up.wait_for("slow: failed");
    let both = results();
    assert!(both.starts_with(lost.trim_end()), "what was recorded is never rewritten: {both}");
    assert!(both.trim_end().ends_with("/result-2.yaml"), "{both}");
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}
