//! The table of N3: what was seen on the left, the verdict on the right.

use serde_json::json;

use super::*;
use crate::events::Event;

fn host(name: &str) -> Host {
    Host::parse(name).unwrap()
}

/// A story from the callback's own words; `seq` is filled in.
fn story(events: Vec<serde_json::Value>) -> Story {
    let mut story = Story::default();
    for (at, mut event) in events.into_iter().enumerate() {
        event["seq"] = json!(at + 1);
        story.take(serde_json::from_value::<Event>(event).unwrap());
    }
    story
}

fn start(host: &str, task: &str) -> serde_json::Value {
    json!({ "event": "start", "host": host, "task": task })
}

fn result(host: &str, task: &str, action: &str, status: &str) -> serde_json::Value {
    let msg = matches!(status, "failed" | "unreachable").then(|| format!("{task} went wrong"));
    json!({ "event": "host", "host": host, "task": task, "action": action, "status": status, "ignored": false,
            "secs": 0.1, "msg": msg })
}

fn recap(hosts: &[(&str, u32, u32, u32)]) -> serde_json::Value {
    let finished: Vec<&str> = hosts.iter().filter(|(_, failed, ..)| *failed == 0).map(|(host, ..)| *host).collect();
    let hosts: serde_json::Map<String, serde_json::Value> = hosts
        .iter()
        .map(|(host, failures, unreachable, rescued)| {
            let counts = json!({ "ok": 1, "failures": failures, "unreachable": unreachable, "changed": 0,
                                 "skipped": 0, "rescued": rescued, "ignored": 0 });
            ((*host).to_owned(), counts)
        })
        .collect();
    json!({ "event": "recap", "hosts": hosts, "finished": finished })
}

fn secrets() -> serde_json::Value {
    json!({ "event": "secrets", "values": [] })
}

fn judged(planned: &[Host], exit: Exit, stopped: Stopped, story: &Story) -> Outcome {
    outcome(&Seen {
        planned,
        exit,
        stopped,
        survivors: &[],
        story,
        first_error: None,
        excerpt: "",
        duration_ms: 1,
        usage: None,
        ansible_core: None,
    })
}

#[test]
fn n3_success_needs_status_zero_and_a_recap_with_exactly_the_planned_hosts_all_well() {
    let planned = [host("a"), host("b")];
    let well = story(vec![secrets(), recap(&[("a", 0, 0, 0), ("b", 0, 0, 0)])]);
    assert_eq!(judged(&planned, Exit::Status(0), Stopped::No, &well).verdict, Verdict::Succeeded);
    let no_recap = story(vec![secrets()]);
    let empty = story(vec![secrets(), json!({ "event": "no_hosts_matched" }), recap(&[])]);
    let one = story(vec![secrets(), recap(&[("a", 0, 0, 0)])]);
    let extra = story(vec![secrets(), recap(&[("a", 0, 0, 0), ("b", 0, 0, 0), ("c", 0, 0, 0)])]);
    let failed = story(vec![secrets(), recap(&[("a", 0, 0, 0), ("b", 1, 0, 0)])]);
    let unreachable = story(vec![secrets(), recap(&[("a", 0, 0, 0), ("b", 0, 1, 0)])]);
    let strange = story(vec![secrets(), recap(&[("a", 0, 0, 0), ("b", 0, 0, 0), ("c d", 0, 0, 0)])]);
    let cases = [
        (Exit::Status(2), &well, "status 2"),
        (Exit::Signalled, &well, "signal"),
        (Exit::Status(0), &no_recap, "without a recap"),
        (Exit::Status(0), &empty, "no host matched"),
        (Exit::Status(0), &one, "nothing ran on b"),
        (Exit::Status(0), &extra, "not in the plan: c"),
        (Exit::Status(0), &strange, "not in the plan: c d"),
        (Exit::Status(0), &failed, "failed on b"),
        (Exit::Status(0), &unreachable, "failed on b"),
    ];
    for (exit, story, why) in cases {
        let outcome = judged(&planned, exit, Stopped::No, story);
        assert_eq!(outcome.verdict, Verdict::Failed, "{why}");
        let reason = outcome.reason.unwrap();
        assert!(reason.contains(why), "{reason} does not say {why}");
        assert_eq!(outcome.failure.unwrap().cause, reason);
    }
}

#[test]
fn r9_a_survivor_makes_it_lost_and_a_stop_never_a_success() {
    let planned = [host("a")];
    let well = story(vec![secrets(), start("a", "t"), result("a", "t", "copy", "ok"), recap(&[("a", 0, 0, 0)])]);
    assert_eq!(judged(&planned, Exit::Status(0), Stopped::Cancelled, &well).verdict, Verdict::Cancelled);
    let late = judged(&planned, Exit::Status(0), Stopped::TimedOut(9), &well);
    assert_eq!((late.verdict, late.reason.as_deref()), (Verdict::Failed, Some("timed out after 9 s")));
    let survivors = ["7 (ssh)".to_owned()];
    let seen = Seen {
        planned: &planned,
        exit: Exit::Signalled,
        stopped: Stopped::Cancelled,
        survivors: &survivors,
        story: &well,
        first_error: None,
        excerpt: "",
        duration_ms: 1,
        usage: None,
        ansible_core: None,
    };
    let lost = outcome(&seen);
    assert_eq!(lost.verdict, Verdict::Lost);
    assert!(lost.reason.unwrap().contains("7 (ssh)"));
}

#[test]
fn a_stop_lists_the_hosts_whose_task_had_not_ended() {
    let planned = [host("a"), host("b"), host("c")];
    let story = story(vec![secrets(), start("a", "t"), start("b", "t"), result("a", "t", "copy", "ok")]);
    let outcome = judged(&planned, Exit::Signalled, Stopped::TimedOut(5), &story);
    assert_eq!(outcome.interrupted, [host("b")]);
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.host, failure.task.as_deref()), (Some(host("b")), Some("t")));
    assert_eq!(failure.not_started, ["c"]);
    assert!(!failure.retry_safe);
}

#[test]
fn a_failure_names_the_first_cause_not_the_rescued_nor_the_last() {
    let planned = [host("a"), host("b")];
    let story = story(vec![
        secrets(),
        result("a", "made a file", "copy", "changed"),
        result("a", "rescued", "get_url", "failed"),
        result("a", "the cause", "apt", "failed"),
        result("a", "in always", "service", "failed"),
        recap(&[("a", 1, 0, 1), ("b", 0, 0, 0)]),
    ]);
    let failure = judged(&planned, Exit::Status(2), Stopped::No, &story).failure.unwrap();
    assert_eq!(failure.task.as_deref(), Some("the cause"));
    assert_eq!(failure.cause, "the cause went wrong");
    assert_eq!(failure.done, ["a: made a file"]);
    assert_eq!(failure.not_started, ["b"]);
    assert!(failure.retry_safe);
}

#[test]
fn a_command_on_an_unfinished_host_makes_a_retry_unsafe() {
    let planned = [host("a"), host("b")];
    let with = |command_on: &str| {
        story(vec![
            secrets(),
            result(command_on, "appended", "ansible.builtin.shell", "changed"),
            result("b", "broke", "copy", "failed"),
            recap(&[("a", 0, 0, 0), ("b", 1, 0, 0)]),
        ])
    };
    let safe = |story: &Story| judged(&planned, Exit::Status(2), Stopped::No, story).failure.unwrap().retry_safe;
    assert!(safe(&with("a")));
    assert!(!safe(&with("b")));
}

#[test]
fn n7_a_gap_in_the_events_is_said() {
    let mut story = Story::default();
    story.take(Event { seq: 2, body: crate::events::Body::Secrets { values: Vec::new() } });
    assert!(story.gaps);
    let outcome = judged(&[host("a")], Exit::Status(0), Stopped::No, &story);
    assert!(outcome.log.incomplete);
}

#[test]
fn changed_tasks_are_listed_up_to_500() {
    let mut events = vec![secrets()];
    events.extend((0..600).map(|n| result("a", &format!("t{n}"), "copy", "changed")));
    events.push(recap(&[("a", 0, 0, 0)]));
    let outcome = judged(&[host("a")], Exit::Status(0), Stopped::No, &story(events));
    assert_eq!(outcome.changed.len(), 500);
    assert_eq!(outcome.changed[0].task, "t0");
}
