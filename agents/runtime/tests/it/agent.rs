//! R1 and R9 through the agent's own loop: what starts, how often, and what is said about it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chiffon_schemas::{AgentMessage, AttemptKey, Fence, Report, ReportBody, ToAgent, Unreported, Verdict};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::process::{key, until};
use super::world::{Doing, World, boot, fence, order};

#[tokio::test]
async fn an_order_is_claimed_granted_run_and_reported_in_order() {
    let mut world = World::new(Doing::AtOnce);
    let hello = world.start().await;
    assert_eq!((hello.ansible_core.as_deref(), hello.settled.len()), (Some("2.19.14"), 0));
    let key = key(1);
    world.begin(&key, 1).await;
    let (last, outcome) = world.over(&key).await;
    assert_eq!(outcome.verdict, Verdict::Succeeded);
    let seqs: Vec<u64> = world.reports.iter().map(|report| report.seq).collect();
    assert_eq!(seqs, (1..=last.seq).collect::<Vec<_>>());
    let texts: Vec<(u64, &str)> = world
        .reports
        .iter()
        .filter_map(|report| match &report.body {
            ReportBody::Log { chunk, text } => Some((*chunk, text.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(texts, [(0, "PLAY RECAP\n")]);
    let digest: String = Sha256::digest("PLAY RECAP\n").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((outcome.log.sha256, outcome.log.chunks, outcome.log.incomplete), (digest, 1, false));
    let shown = |message: &AgentMessage| matches!(message, AgentMessage::Progress { status, .. } if status == "ok");
    assert!(world.heard.iter().any(shown));
    assert!(world.reports.iter().all(|report| report.fence == fence(1)));
    world.send(ToAgent::Stored { key, seq: last.seq }).await;
    world.settled().await;
    world.stop().await.unwrap();
    let left: Vec<_> = walk(&world.settings.journal);
    assert_eq!(left, ["journal.jsonl", "lock"]);
}

/// The files under a folder, by name.
fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .flat_map(|entry| match entry.path().is_dir() {
            true => walk(&entry.path()),
            false => vec![entry.file_name().into_string().unwrap()],
        })
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn r1_repeated_orders_and_grants_start_once_and_are_answered_with_the_end() {
    let mut world = World::new(Doing::UntilLetGo);
    world.start().await;
    let key = key(1);
    world.begin(&key, 1).await;
    for _ in 0..3 {
        world.order(&key).await;
        world.grant(&key, 1).await;
        world.grant(&key, 2).await;
    }
    world.settled().await;
    world.work.go.add_permits(1);
    let (last, _) = world.over(&key).await;
    world.send(ToAgent::Stored { key: key.clone(), seq: last.seq }).await;
    for _ in 0..2 {
        world.order(&key).await;
        let (again, outcome) = world.over(&key).await;
        assert_eq!((again.seq, outcome.verdict), (last.seq, Verdict::Succeeded));
        world.grant(&key, 3).await;
        world.over(&key).await;
    }
    world.settled().await;
    assert_eq!(world.work.starts_of(&key), 1);
}

/// Seconds that the machine has slept, for the test below.
static SLEPT: AtomicU64 = AtomicU64::new(0);

fn uptime() -> Duration {
    chiffon_runtime::uptime() + Duration::from_secs(SLEPT.load(Ordering::SeqCst))
}

/// While an agent slept its attempt may have been given up, and done elsewhere: what was granted to it then is void.
#[tokio::test]
async fn r1_a_grant_that_waited_for_a_sleeper_starts_nothing() {
    let mut world = World::new(Doing::AtOnce);
    world.settings.uptime = uptime;
    world.start().await;
    let (key, before) = (key(1), world.settings.boot.clone());
    world.order(&key).await;
    world.claim(&key).await;
    SLEPT.store(24 * 3600, Ordering::SeqCst);
    world.grant_for(&key, fence(1), before.clone()).await;
    let hello = world.expect(|message| match message {
        AgentMessage::Hello(hello) => Some(hello.clone()),
        _ => None,
    });
    let hello = hello.await;
    assert!(world.boot != before, "another life goes on");
    assert_eq!((hello.settled.len(), hello.ended.len()), (1, 0));
    assert!(!hello.settled[0].started);
    world.claim(&key).await;
    world.settled().await;
    assert_eq!(world.work.starts_of(&key), 0, "the old grant started nothing");
    world.grant_for(&key, fence(2), before).await;
    world.settled().await;
    assert_eq!(world.work.starts_of(&key), 0, "nor does another one for the life before");
    let now = world.boot.clone();
    world.grant_for(&key, fence(2), now).await;
    world.over(&key).await;
    assert_eq!(world.work.starts_of(&key), 1);
    world.stop().await.unwrap();
}

/// An agent with one place, which the first of two that were granted has; the second waits for it.
async fn one_runs_and_one_waits(world: &mut World) -> (AttemptKey, AttemptKey) {
    world.settings.parallel = 1;
    world.start().await;
    let (first, second) = (key(1), key(2));
    for key in [&first, &second] {
        world.order(key).await;
        world.claim(key).await;
    }
    world.grant(&first, 1).await;
    world.started(&first).await;
    world.grant(&second, 2).await;
    world.settled().await;
    (first, second)
}

/// Seconds that the machine has slept, for the test below.
static SLEPT_AT_WORK: AtomicU64 = AtomicU64::new(0);

/// Nor does the end of what ran through the sleep start what was granted before it.
#[tokio::test]
async fn r1_a_grant_that_waited_for_a_place_through_a_sleep_starts_nothing() {
    let mut world = World::new(Doing::UntilLetGo);
    world.settings.uptime = || chiffon_runtime::uptime() + Duration::from_secs(SLEPT_AT_WORK.load(Ordering::SeqCst));
    let (first, second) = one_runs_and_one_waits(&mut world).await;
    SLEPT_AT_WORK.store(24 * 3600, Ordering::SeqCst);
    world.work.go.add_permits(1);
    world.over(&first).await;
    world.settled().await;
    assert_eq!(world.work.starts_of(&second), 0);
    world.stop().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_is_not_known_introduces_itself() {
    let mut world = World::new(Doing::AtOnce);
    let first = world.start().await;
    for _ in 0..2 {
        world.send(ToAgent::Introduce {}).await;
        let again = world.expect(|message| match message {
            AgentMessage::Hello(hello) => Some(hello.clone()),
            _ => None,
        });
        assert_eq!(again.await, first);
    }
    world.stop().await.unwrap();
}

#[tokio::test]
async fn s12_a_grant_for_another_order_starts_nothing() {
    let mut world = World::new(Doing::AtOnce);
    world.start().await;
    let key = key(1);
    world.order(&key).await;
    world.claim(&key).await;
    let mut wider = order(key.clone());
    wider.step.limit.push(chiffon_schemas::Host::parse("nas02").unwrap());
    world.grant_of(wider.digest(), &key, fence(1), world.settings.boot.clone()).await;
    assert!(world.decline(&key).await.contains("another order"));
    world.settled().await;
    assert_eq!(world.work.starts_of(&key), 0);
}

#[tokio::test]
async fn r1_grants_that_are_stale_foreign_or_unknown_start_nothing() {
    let mut world = World::new(Doing::AtOnce);
    world.start().await;
    let (first, second, third) = (key(1), key(2), key(3));
    world.begin(&first, 5).await;
    world.over(&first).await;
    world.order(&second).await;
    world.claim(&second).await;
    world.grant_for(&second, fence(6), boot(77)).await;
    world.grant(&second, 5).await;
    assert!(world.decline(&second).await.contains("stale"));
    world.grant(&second, 4).await;
    assert!(world.decline(&second).await.contains("stale"));
    world.grant_for(&second, Fence { incarnation: 2, counter: 1 }, world.settings.boot.clone()).await;
    assert!(world.decline(&second).await.contains("a person must confirm"));
    world.grant(&third, 9).await;
    assert!(world.decline(&third).await.contains("no such order"));
    world.settled().await;
    assert_eq!((world.work.starts_of(&second), world.work.starts_of(&third)), (0, 0));
    world.grant(&second, 6).await;
    world.over(&second).await;
    assert_eq!(world.work.starts_of(&second), 1);
}

#[tokio::test]
async fn r1_what_had_started_is_lost_after_a_crash_and_never_starts_again() {
    let mut world = World::new(Doing::UntilLetGo);
    world.start().await;
    let key = key(1);
    world.begin(&key, 1).await;
    until("it runs", || world.work.running.load(Ordering::SeqCst) == 1).await;
    let old = world.settings.boot.clone();
    world.kill().await;
    let left = world.settings.journal.join("work/left-behind");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("decrypted"), "a secret").unwrap();
    for _ in 0..2 {
        let hello = world.start().await;
        assert_eq!(hello.settled.len(), 1);
        assert!(!left.exists(), "what a killed life left is removed");
        let settled = &hello.settled[0];
        assert_eq!((&settled.key, settled.fence, settled.started, settled.clean), (&key, Some(fence(1)), true, true));
        let (last, outcome) = world.over(&key).await;
        assert_eq!((last.seq, outcome.verdict), (2, Verdict::Lost));
        world.order(&key).await;
        world.grant_for(&key, fence(1), old.clone()).await;
        world.grant(&key, 2).await;
        world.settled().await;
        assert_eq!(world.work.starts_of(&key), 1);
        world.kill().await;
    }
    world.start().await;
    world.over(&key).await;
    // The reconciler had stored more than this side still knew: the end takes a number above that.
    world.send(ToAgent::Stored { key: key.clone(), seq: 40 }).await;
    let (last, _) = loop {
        let over = world.over(&key).await;
        if over.0.seq > 2 {
            break over;
        }
    };
    assert_eq!(last.seq, 41);
    world.send(ToAgent::Stored { key: key.clone(), seq: 41 }).await;
    world.settled().await;
    world.kill().await;
    assert!(world.start().await.settled.is_empty());
    // A reconciler that forgot: the journal did not.
    world.order(&key).await;
    assert!(world.decline(&key).await.contains("finished"));
}

#[tokio::test]
async fn r1_what_was_granted_and_not_started_is_said_to_be_so_and_can_be_ordered_again() {
    let mut world = World::new(Doing::UntilLetGo);
    let (first, second) = one_runs_and_one_waits(&mut world).await;
    let old = world.settings.boot.clone();
    world.kill().await;
    let hello = world.start().await;
    let of_second = hello.settled.iter().find(|settled| settled.key == second).unwrap();
    assert_eq!((of_second.fence, of_second.started, of_second.clean), (Some(fence(2)), false, true));
    world.grant_for(&second, fence(2), old).await;
    world.settled().await;
    assert_eq!(world.work.starts_of(&second), 0);
    world.begin(&second, 3).await;
    world.work.go.add_permits(1);
    world.over(&second).await;
    assert_eq!((world.work.starts_of(&first), world.work.starts_of(&second)), (1, 1));
}

#[tokio::test]
async fn r1_reports_that_were_not_stored_are_replayed_by_the_next_life() {
    let mut world = World::new(Doing::AtOnce);
    world.start().await;
    let key = key(1);
    world.begin(&key, 1).await;
    let (last, outcome) = world.over(&key).await;
    let first_time = std::mem::take(&mut world.reports);
    world.kill().await;
    let hello = world.start().await;
    assert_eq!(hello.ended, [Unreported { key: key.clone(), fence: fence(1) }], "nobody has to take it for lost");
    assert!(hello.settled.is_empty());
    assert_eq!(world.over(&key).await, (last, outcome));
    assert_eq!(world.reports, first_time);
}

/// What a disk lost of the reports does not hold up the end, which is in the journal.
#[tokio::test]
async fn r3_an_end_is_reported_also_where_reports_before_it_are_gone() {
    for damage in [b"".as_slice(), b"{\"seq\":2,\"body\":{\"type\":\"log\",\"chu\0\0\0\0\0\0\n"] {
        let mut world = World::new(Doing::AtOnce);
        world.start().await;
        let key = key(1);
        world.begin(&key, 1).await;
        let (last, mut outcome) = world.over(&key).await;
        world.kill().await;
        std::fs::write(world.spool(), damage).unwrap();
        world.reports.clear();
        world.start().await;
        let (again, said) = world.over(&key).await;
        outcome.log.incomplete = true;
        assert_eq!((again.seq, said), (last.seq, outcome), "and the log is said not to be whole");
        let seqs: Vec<u64> = world.reports.iter().map(|report| report.seq).collect();
        assert_eq!(seqs, (1..=last.seq).collect::<Vec<_>>(), "no number is left out");
    }
}

#[tokio::test]
async fn r3_a_damaged_report_costs_those_after_it_nothing() {
    let mut world = World::new(Doing::Talking);
    world.settings.replay_after = Duration::from_millis(20);
    world.start().await;
    let key = key(1);
    world.begin(&key, 1).await;
    world.expect(|message| matches!(message, AgentMessage::Report(report) if report.seq == 6).then_some(())).await;
    // The fourth report's line, of the same length and no JSON any more.
    let path = world.spool();
    let text = std::fs::read_to_string(&path).unwrap();
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"\0\0\0\0", ends[1] as u64).unwrap();
    world.reports.clear();
    world.send(ToAgent::Cancel { key: key.clone() }).await;
    let (last, outcome) = loop {
        let (last, outcome) = world.over(&key).await;
        if outcome.log.incomplete {
            break (last, outcome);
        }
    };
    assert_eq!(outcome.verdict, Verdict::Cancelled);
    let empty = |report: &&Report| matches!(&report.body, ReportBody::Log { text, .. } if text.is_empty());
    let empties: Vec<u64> = world.reports.iter().filter(empty).map(|report| report.seq).collect();
    assert!(!empties.is_empty() && empties.iter().all(|seq| *seq == 4), "{empties:?} of {}", last.seq);
}

#[tokio::test]
async fn reports_are_sent_again_until_they_are_stored() {
    let mut world = World::new(Doing::AtOnce);
    world.settings.replay_after = Duration::from_millis(20);
    world.start().await;
    let key = key(1);
    world.begin(&key, 1).await;
    for _ in 0..3 {
        world.over(&key).await;
    }
    assert!(world.reports.iter().filter(|report| report.seq == 1).count() >= 3);
    let last = world.reports.iter().map(|report| report.seq).max().unwrap();
    world.send(ToAgent::Stored { key: key.clone(), seq: last }).await;
    world.settled().await;
}

#[tokio::test]
async fn r9_a_cancel_is_answered_at_each_stage() {
    let mut world = World::new(Doing::UntilLetGo);
    world.settings.parallel = 1;
    world.start().await;
    let cancel = |key: &AttemptKey| ToAgent::Cancel { key: key.clone() };

    let unknown = key(1);
    world.send(cancel(&unknown)).await;
    assert!(world.decline(&unknown).await.contains("no such order"));

    let unclaimed = key(2);
    world.work.checks.forget_permits(1_000_000);
    world.order(&unclaimed).await;
    world.send(cancel(&unclaimed)).await;
    assert!(world.decline(&unclaimed).await.contains("before it was claimed"));
    world.work.checks.add_permits(1_000);
    world.grant(&unclaimed, 1).await;
    world.decline(&unclaimed).await;

    let crossed = key(3);
    world.order(&crossed).await;
    world.claim(&crossed).await;
    world.send(cancel(&crossed)).await;
    assert!(world.decline(&crossed).await.contains("before it was granted"));
    world.grant(&crossed, 2).await;
    let (last, outcome) = world.over(&crossed).await;
    assert_eq!((last.seq, last.fence, outcome.verdict), (1, fence(2), Verdict::Cancelled));

    let (running, waiting) = (key(4), key(5));
    for key in [&running, &waiting] {
        world.order(key).await;
        world.claim(key).await;
    }
    world.grant(&running, 3).await;
    world.started(&running).await;
    world.grant(&waiting, 4).await;
    world.send(cancel(&waiting)).await;
    assert_eq!(world.over(&waiting).await.1.verdict, Verdict::Cancelled);

    world.send(cancel(&running)).await;
    let (last, outcome) = world.over(&running).await;
    assert_eq!(outcome.verdict, Verdict::Cancelled);
    world.send(cancel(&running)).await;
    assert_eq!(world.over(&running).await.0, last);
    let starts: Vec<usize> = [&unclaimed, &crossed, &waiting, &running].map(|key| world.work.starts_of(key)).to_vec();
    assert_eq!(starts, [0, 0, 0, 1]);
}

#[tokio::test]
async fn an_order_that_the_work_refuses_is_declined_with_its_reason() {
    let mut world = World::new(Doing::AtOnce);
    *world.work.refuse.lock().unwrap() = Some("the commit is not on main".to_owned());
    world.start().await;
    let key = key(1);
    world.order(&key).await;
    assert_eq!(world.decline(&key).await, "the commit is not on main");
    *world.work.refuse.lock().unwrap() = None;
    world.begin(&key, 1).await;
    world.over(&key).await;
}

#[tokio::test]
async fn a_refused_claim_is_forgotten() {
    let mut world = World::new(Doing::AtOnce);
    world.start().await;
    let key = key(1);
    world.order(&key).await;
    world.claim(&key).await;
    world.send(ToAgent::Refuse { key: key.clone(), reason: "late".to_owned() }).await;
    world.grant(&key, 1).await;
    assert!(world.decline(&key).await.contains("no such order"));
    assert_eq!(world.work.starts_of(&key), 0);
}

#[tokio::test]
async fn no_more_run_at_once_than_allowed() {
    let mut world = World::new(Doing::UntilLetGo);
    world.settings.parallel = 2;
    world.start().await;
    let keys: Vec<AttemptKey> = (1..=6).map(key).collect();
    for key in &keys {
        world.order(key).await;
    }
    let mut over = 0;
    let mut counter = 0;
    while over < keys.len() {
        let next = world.expect(|message| match message {
            AgentMessage::Claim { key } => Some(Some(key.clone())),
            AgentMessage::Report(report) => matches!(report.body, ReportBody::Over(_)).then_some(None),
            _ => None,
        });
        match next.await {
            Some(key) => {
                counter += 1;
                world.grant(&key, counter).await;
                world.work.go.add_permits(1);
            }
            None => over += 1,
        }
    }
    assert!(world.work.most.load(Ordering::SeqCst) <= 2);
    assert!(keys.iter().all(|key| world.work.starts_of(key) == 1));
}

#[tokio::test]
async fn a_panic_in_the_work_is_a_failed_attempt_and_the_agent_lives_on() {
    let mut world = World::new(Doing::Failing);
    world.start().await;
    world.begin(&key(1), 1).await;
    let (_, outcome) = world.over(&key(1)).await;
    assert_eq!(outcome.verdict, Verdict::Failed);
    *world.work.doing.lock().unwrap() = Doing::AtOnce;
    world.begin(&key(2), 2).await;
    assert_eq!(world.over(&key(2)).await.1.verdict, Verdict::Succeeded);
}

#[tokio::test]
async fn a_link_that_takes_nothing_holds_the_work_back_and_can_be_cancelled() {
    let mut world = World::new(Doing::Talking);
    world.settings.spool_bytes = 1024 * 1024;
    world.start().await;
    let key = key(1);
    world.begin(&key, 1).await;
    // Nobody receives: the spool, the channel and one write are taken, and no more whatever the work would like.
    until("the spool is full", || world.work.written.load(Ordering::SeqCst) >= 1024 * 1024).await;
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let taken = world.work.written.load(Ordering::SeqCst);
    assert!(taken <= 2 * 1024 * 1024, "{taken} bytes were taken");
    world.send(ToAgent::Cancel { key: key.clone() }).await;
    let (report, outcome) = world.over(&key).await;
    assert_eq!(outcome.verdict, Verdict::Cancelled);
    // Nothing of it is missing, and the digest says so.
    let mut log = Sha256::new();
    let (mut bytes, mut seq) = (0, 0);
    for report in world.reports.iter().filter(|report| report.key == key) {
        assert_eq!(report.seq, seq + 1);
        seq = report.seq;
        if let ReportBody::Log { text, .. } = &report.body {
            log.update(text);
            bytes += text.len() as u64;
        }
    }
    let digest: String = log.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((report.seq, outcome.log.bytes, outcome.log.sha256), (seq, bytes, digest));
    assert!(!outcome.log.incomplete);
}

#[tokio::test]
async fn r9_a_stopping_agent_cancels_what_runs_and_its_end_outlives_it() {
    let mut world = World::new(Doing::UntilLetGo);
    world.start().await;
    let key = key(1);
    world.begin(&key, 1).await;
    until("it runs", || world.work.running.load(Ordering::SeqCst) == 1).await;
    world.stop().await.unwrap();
    assert_eq!(world.work.running.load(Ordering::SeqCst), 0);
    world.settings.boot = boot(9);
    assert!(world.start().await.settled.is_empty());
    assert_eq!(world.over(&key).await.1.verdict, Verdict::Cancelled);
}

#[tokio::test]
async fn heartbeats_go_on_and_claims_are_said_again() {
    let mut world = World::new(Doing::AtOnce);
    world.settings.heartbeat = Duration::from_millis(10);
    world.start().await;
    world.order(&key(1)).await;
    for _ in 0..3 {
        world.claim(&key(1)).await;
        world.expect(|message| matches!(message, AgentMessage::Heartbeat {}).then_some(())).await;
    }
}

#[derive(Debug, Clone)]
enum Event {
    Order(u32),
    /// A grant with a fence above all others.
    Grant(u32),
    /// A grant sent before, of whatever life.
    Repeat(usize),
    Cancel(u32),
    Refuse(u32),
    Stored(u32, u64),
    LetGo,
    Crash,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let number = 1..4_u32;
    let event = prop_oneof![
        4 => number.clone().prop_map(Event::Order),
        4 => number.clone().prop_map(Event::Grant),
        3 => (0..20_usize).prop_map(Event::Repeat),
        1 => number.clone().prop_map(Event::Cancel),
        1 => number.clone().prop_map(Event::Refuse),
        2 => (number, 0..5_u64).prop_map(|(number, seq)| Event::Stored(number, seq)),
        2 => Just(Event::LetGo),
        1 => Just(Event::Crash),
    ];
    proptest::collection::vec(event, 1..40)
}

/// Plays a sequence; gives how many attempts started. No attempt may start twice, since a reconciler that grants an
/// attempt again after its start is the very thing that the journal guards against.
async fn play(events: Vec<Event>) -> usize {
    let mut world = World::new(Doing::UntilLetGo);
    world.start().await;
    let mut grants = Vec::new();
    for event in events {
        match event {
            Event::Order(number) => world.order(&key(number)).await,
            Event::Grant(number) => {
                let grant = (key(number), fence(grants.len() as u64 + 1), world.settings.boot.clone());
                grants.push(grant.clone());
                world.grant_for(&grant.0, grant.1, grant.2).await;
            }
            Event::Repeat(at) if !grants.is_empty() => {
                let (key, fence, boot) = grants[at % grants.len()].clone();
                world.grant_for(&key, fence, boot).await;
            }
            Event::Repeat(_) => {}
            Event::Cancel(number) => world.send(ToAgent::Cancel { key: key(number) }).await,
            Event::Refuse(number) => {
                world.send(ToAgent::Refuse { key: key(number), reason: "no".to_owned() }).await;
            }
            // Numbers that no agent has reported are a broken reconciler's; only those that were heard are stored.
            Event::Stored(number, seq) => {
                let heard =
                    world.reports.iter().filter(|report| report.key == key(number)).map(|report| report.seq).max();
                if let Some(heard) = heard {
                    world.send(ToAgent::Stored { key: key(number), seq: seq.min(heard) }).await;
                }
            }
            Event::LetGo => world.work.go.add_permits(1),
            Event::Crash => {
                world.kill().await;
                world.start().await;
            }
        }
        // Twice: the check of an order answers through a task of its own.
        world.settled().await;
        world.settled().await;
    }
    let starts = world.work.starts.lock().unwrap().clone();
    for (key, markers) in &starts {
        assert_eq!(markers.len(), 1, "{key} started more than once: {markers:?}");
    }
    starts.len()
}

#[test]
fn r1_no_sequence_of_messages_and_crashes_starts_an_attempt_twice() {
    let started = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 64, ..ProptestConfig::default() });
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runner
        .run(&events(), |events| {
            started.set(started.get() + runtime().block_on(play(events)));
            Ok(())
        })
        .unwrap();
    assert!(started.get() > 30, "only {} attempts started: the sequences say too little", started.get());
}

#[test]
fn the_protocols_page_names_the_usual_times_and_bounds() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md")).unwrap();
    let usual = chiffon_runtime::Settings::new(key(1).step, boot(1), "journal".into());
    for said in [
        format!("| between two heartbeats | {} s ", usual.heartbeat.as_secs()),
        format!("| reports not confirmed | {} s |", usual.replay_after.as_secs()),
        format!("| the line took nothing | {} s |", usual.retry.as_secs()),
        format!("| orphans of an earlier life, to end themselves | {} s |", usual.grace.as_secs()),
        format!("`chiffon-agent`: {} MiB an attempt", usual.spool_bytes >> 20),
        format!("| a piece of a log | 64 KiB ({} bytes)", chiffon_runtime::MAX_CHUNK_BYTES),
    ] {
        assert!(page.contains(&said), "the page does not say: {said}");
    }
}
