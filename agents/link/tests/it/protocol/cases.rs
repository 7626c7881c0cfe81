//! What every agent must do, whatever it is written in.

use chiffon_link::{Direction, Parked};
use chiffon_schemas::{
    AgentMessage, AttemptKey, BootId, Fence, Grant, Hello, Oid, Order, Report, ReportBody, ToAgent, Verdict, digest,
};
use serde_json::{Value, json};

use super::reconciler::{Reconciler, as_text, sealed};

/// What a report says, in a word.
fn word(report: &Report) -> &'static str {
    match &report.body {
        ReportBody::Started => "started",
        ReportBody::Log { .. } => "log",
        ReportBody::Over(_) => "over",
    }
}

fn verdict(report: &Report) -> Verdict {
    match &report.body {
        ReportBody::Over(outcome) => outcome.verdict,
        other => panic!("{other:?} is no end"),
    }
}

/// Nothing is known of attempts.
fn is_empty(hello: &Hello) -> bool {
    hello.settled.is_empty() && hello.ended.is_empty()
}

fn claims(play: &Reconciler, wanted: &AttemptKey) -> usize {
    play.count(|said| matches!(said, AgentMessage::Claim { key } if key == wanted))
}

fn reports(play: &Reconciler, wanted: &AttemptKey) -> usize {
    play.count(|said| matches!(said, AgentMessage::Report(report) if report.key == *wanted))
}

pub async fn a_life_begins_with_hello_and_goes_on_with_heartbeats(mut play: Reconciler) {
    let (boot, hello) = play.hello().await;
    assert!(is_empty(&hello), "{hello:?}");
    assert_eq!(play.count(|_| true), 1, "hello is the first word");
    for _ in 0..2 {
        assert_eq!(play.heartbeat().await, boot);
    }
    play.kill();
    play.start();
    let (next, hello) = play.hello().await;
    assert!(next != boot && is_empty(&hello), "{hello:?}");
    play.until("heartbeat of the new life", |said| (said.boot == next).then_some(())).await;
}

pub async fn an_order_is_claimed_and_nothing_starts_without_a_grant(mut play: Reconciler) {
    let (boot, _) = play.hello().await;
    let order = play.lab.order("first", 1);
    play.order(&order).await;
    assert_eq!(play.claim(&order).await, boot);
    // It asks again for as long as it has no answer.
    assert_eq!(play.claim(&order).await, boot);
    assert_eq!((play.lab.starts("first"), reports(&play, &order.key)), (0, 0));
}

pub async fn r1_orders_and_grants_that_are_repeated_start_once(mut play: Reconciler) {
    let order = play.lab.order("first", 1);
    for _ in 0..3 {
        play.order(&order).await;
    }
    let boot = play.claim(&order).await;
    let grant = ToAgent::Grant(play.grant(&order, &boot));
    for _ in 0..3 {
        play.send(grant.clone()).await;
        play.order(&order).await;
    }
    let end = play.reports_of(&order.key).await.pop().unwrap();
    // Over and not stored: whoever asks again hears the end again.
    for again in [ToAgent::Order(Box::new(order.clone())), grant] {
        play.send(again).await;
        let repeated = play.reports_of(&order.key).await.pop().unwrap();
        assert_eq!(repeated, end);
    }
    play.stored(&order.key, end.seq).await;
    let other = play.lab.order("second", 1);
    play.run(&other).await;
    assert_eq!((play.lab.starts("first"), play.lab.starts("second")), (1, 1));
}

pub async fn reports_rise_from_started_over_the_log_to_the_end(mut play: Reconciler) {
    let order = play.lab.order("first", 1);
    let grant = play.order_and_grant(&order).await;
    let reports = play.reports_of(&order.key).await;
    let (mut log, mut chunks) = (String::new(), 0);
    for (report, seq) in reports.iter().zip(1..) {
        assert_eq!((report.seq, report.fence), (seq, grant.fence));
        match &report.body {
            ReportBody::Log { chunk, text } => {
                assert_eq!(*chunk, chunks);
                assert!(text.len() <= 64 * 1024);
                chunks += 1;
                log.push_str(text);
            }
            ReportBody::Started | ReportBody::Over(_) => assert!(seq == 1 || seq == reports.len() as u64),
        }
    }
    assert_eq!(word(&reports[0]), "started");
    let ReportBody::Over(outcome) = &reports.last().unwrap().body else { panic!("no end") };
    assert_eq!(outcome.verdict, Verdict::Succeeded, "{:?}", play.life.as_ref().map(super::subject::Life::log));
    assert!(chunks > 0);
    assert_eq!((&outcome.log.sha256, outcome.log.chunks), (&digest(log.as_bytes()), chunks));
    assert_eq!((outcome.log.bytes, outcome.log.incomplete), (log.len() as u64, false));
    assert_eq!(play.lab.starts("first"), 1);
}

pub async fn r1_a_grant_of_another_life_or_order_starts_nothing(mut play: Reconciler) {
    let (order, other) = (play.lab.order("first", 1), play.lab.order("second", 1));
    play.order(&order).await;
    let boot = play.claim(&order).await;
    let stranger = BootId::parse("01J00000000000000000000009").unwrap();
    let grant = play.grant(&order, &stranger);
    play.send(ToAgent::Grant(grant)).await;
    let wrong = Grant { order: digest(as_text(&other).as_bytes()), ..play.grant(&order, &boot) };
    play.send(ToAgent::Grant(wrong)).await;
    // The first of the two was heard by the time that the second is answered.
    play.decline(&order.key).await;
    let unknown = play.grant(&other, &boot);
    play.send(ToAgent::Grant(unknown)).await;
    play.decline(&other.key).await;
    assert_eq!((play.lab.starts("first"), play.lab.starts("second"), reports(&play, &order.key)), (0, 0, 0));
}

pub async fn r4_a_stale_fence_starts_nothing(mut play: Reconciler) {
    let (order, next) = (play.lab.order("first", 1), play.lab.order("second", 1));
    play.order(&order).await;
    let boot = play.claim(&order).await;
    let fence = |incarnation, counter| Fence { incarnation, counter };
    let grant = play.grant_with(&order, &boot, fence(1, 5));
    play.send(ToAgent::Grant(grant)).await;
    let end = play.reports_of(&order.key).await.pop().unwrap();
    play.stored(&order.key, end.seq).await;
    play.order(&next).await;
    play.claim(&next).await;
    for stale in [fence(1, 4), fence(1, 5), fence(2, 6), fence(0, 6)] {
        let grant = play.grant_with(&next, &boot, stale);
        play.send(ToAgent::Grant(grant)).await;
        play.decline(&next.key).await;
    }
    // The highest fence outlives the agent.
    play.kill();
    play.start();
    play.hello().await;
    let boot = play.until("claim of the new life", |said| claimed_anew(said, &next.key, &boot)).await;
    let grant = play.grant_with(&next, &boot, fence(1, 5));
    play.send(ToAgent::Grant(grant)).await;
    play.decline(&next.key).await;
    assert_eq!((play.lab.starts("second"), reports(&play, &next.key)), (0, 0));
    let grant = play.grant_with(&next, &boot, fence(1, 6));
    play.send(ToAgent::Grant(grant)).await;
    assert_eq!(play.reports_of(&next.key).await.pop().unwrap().fence, fence(1, 6));
    assert_eq!(play.lab.starts("second"), 1);
}

/// A claim by another life than that one.
fn claimed_anew(said: &chiffon_schemas::FromAgent, wanted: &AttemptKey, before: &BootId) -> Option<BootId> {
    match &said.message {
        AgentMessage::Claim { key } if key == wanted && said.boot != *before => Some(said.boot.clone()),
        _ => None,
    }
}

/// Checks that something was parked for this reason, as it should be.
fn parked_so(parked: &Parked, reason: &str, bytes: &[u8]) {
    assert!(parked.reason.starts_with(reason), "`{}` instead of `{reason}…`", parked.reason);
    assert_eq!((parked.agent.as_str(), parked.direction), ("nas01", Direction::ToAgent));
    assert_eq!(parked.size, bytes.len(), "{}", parked.reason);
    assert_eq!(parked.head, bytes[..bytes.len().min(4096)], "{}", parked.reason);
}

pub async fn s12_what_is_not_signed_for_this_agent_is_parked_and_nothing_is_claimed(mut play: Reconciler) {
    let forged = play.lab.order("first", 1);
    let text = as_text(&forged);
    let good: Value = serde_json::from_slice(&play.seal(&text)).unwrap();
    let with = |field: &str, value: Value| {
        let mut envelope = good.clone();
        envelope[field] = value;
        envelope.to_string().into_bytes()
    };
    let unsigned = json!({ "v": 1, "message": serde_json::from_str::<Value>(&text).unwrap() });
    let forgeries = [
        (unsigned.to_string().into_bytes(), "malformed"),
        (sealed([8; 32], "nas01", &text), "forged"),
        (sealed([7; 32], "nas02", &text), "forged"),
        (with("signed", Value::from(text.replace("\"attempt\":1", "\"attempt\":2"))), "forged"),
        (with("signed", Value::from(format!("{text} "))), "forged"),
        (with("signature", Value::from("")), "forged"),
        (with("signature", Value::from("no base64!")), "forged"),
    ];
    for (bytes, reason) in &forgeries {
        play.inject(bytes).await;
        parked_so(&play.parked().await, reason, bytes);
    }
    let order = play.lab.order("second", 1);
    play.order(&order).await;
    play.claim(&order).await;
    assert_eq!(claims(&play, &forged.key), 0);
    assert_eq!(play.lab.starts("first"), 0);
}

pub async fn r7_what_cannot_be_read_is_parked_with_its_reason(mut play: Reconciler) {
    let order = as_text(&play.lab.order("first", 1));
    let mut more: Value = serde_json::from_str(&order).unwrap();
    more["more"] = Value::from(1);
    let mut less: Value = serde_json::from_str(&order).unwrap();
    less.as_object_mut().unwrap().remove("approved_by");
    let mut later: Value = serde_json::from_slice(&play.seal(&order)).unwrap();
    later["v"] = Value::from(2);
    let mut wider: Value = serde_json::from_slice(&play.seal(&order)).unwrap();
    wider["more"] = Value::from(1);
    let unreadable = [
        (b"no JSON".to_vec(), "malformed"),
        (vec![0xff, 0xfe, 0], "malformed"),
        (b"[1]".to_vec(), "malformed"),
        (b"{}".to_vec(), "malformed"),
        (b"{\"v\":\"1\"}".to_vec(), "malformed"),
        (b"{\"v\":1}".to_vec(), "malformed"),
        (wider.to_string().into_bytes(), "malformed"),
        (play.seal("no JSON"), "malformed"),
        (play.seal("{\"type\":\"dance\"}"), "malformed"),
        (play.seal(&more.to_string()), "malformed"),
        (play.seal(&less.to_string()), "malformed"),
        (b"{\"v\":2,\"anything\":[]}".to_vec(), "unknown version"),
        (later.to_string().into_bytes(), "unknown version"),
        (vec![b'x'; 1024 * 1024 + 1], "oversized"),
        (vec![b' '; 1024 * 1024], "malformed"),
    ];
    for (bytes, reason) in &unreadable {
        play.inject(bytes).await;
        parked_so(&play.parked().await, reason, bytes);
    }
    // Whoever reads after them is not held up.
    let order = play.lab.order("second", 1);
    play.order(&order).await;
    play.claim(&order).await;
    assert_eq!(play.lab.starts("first"), 0);
}

pub async fn reports_are_sent_again_until_they_are_stored(mut play: Reconciler) {
    let order = play.lab.order("first", 1);
    play.order_and_grant(&order).await;
    let said = play.reports_of(&order.key).await;
    // Nothing is stored: all of it comes again, the same.
    assert_eq!(play.reports_of(&order.key).await, said);
    play.stored(&order.key, 1).await;
    play.order(&order).await;
    let rest = play.reports_of(&order.key).await;
    assert_eq!(rest[..], said[1..], "from the first that is not stored");
    play.stored(&order.key, said.last().unwrap().seq).await;
    // What was heard of before the next order is claimed was heard.
    let next = play.lab.order("second", 1);
    play.order(&next).await;
    play.claim(&next).await;
    play.kill();
    play.start();
    let (_, hello) = play.hello().await;
    assert!(hello.ended.is_empty(), "{hello:?}");
    assert_eq!(hello.settled.iter().map(|settled| &settled.key).collect::<Vec<_>>(), [&next.key]);
    assert_eq!(play.lab.starts("first"), 1);
}

pub async fn r1_an_agent_that_was_killed_at_work_never_starts_again_and_says_so(mut play: Reconciler) {
    play.lab.hold();
    let order = play.lab.order("first", 1);
    let grant = play.order_and_grant(&order).await;
    let (_, started) = play.report(&order.key).await;
    assert_eq!((started.seq, word(&started)), (1, "started"));
    while play.lab.starts("first") == 0 {
        play.heartbeat().await;
    }
    play.kill();
    play.start();
    let (boot, hello) = play.hello().await;
    let claimed = claims(&play, &order.key);
    assert_eq!((hello.settled.len(), hello.ended.len()), (1, 0), "{hello:?}");
    let settled = &hello.settled[0];
    assert_eq!((&settled.key, settled.fence), (&order.key, Some(grant.fence)));
    assert!(settled.started && settled.clean, "{settled:?}");
    // Neither the order, nor its grant, nor the same grant for this life begins it anew.
    play.order(&order).await;
    play.send(ToAgent::Grant(grant.clone())).await;
    play.send(ToAgent::Grant(Grant { boot: boot.clone(), ..grant.clone() })).await;
    let newer = play.grant(&order, &boot);
    play.send(ToAgent::Grant(newer)).await;
    let end = play.reports_of(&order.key).await.pop().unwrap();
    assert_eq!((end.fence, verdict(&end)), (grant.fence, Verdict::Lost));
    assert!(end.seq > 1, "`started` has the number 1");
    play.stored(&order.key, end.seq).await;
    // It is done with: the next attempt at the same step is another one.
    play.lab.release();
    let retry = play.lab.order("first", 2);
    play.run(&retry).await;
    assert_eq!((play.lab.starts("first"), claims(&play, &order.key)), (2, claimed));
    play.kill();
    play.start();
    let (_, hello) = play.hello().await;
    assert!(hello.settled.is_empty(), "{hello:?}");
}

pub async fn an_agent_that_was_killed_after_its_claim_claims_again(mut play: Reconciler) {
    let order = play.lab.order("first", 1);
    play.order(&order).await;
    let boot = play.claim(&order).await;
    play.kill();
    let grant = play.grant(&order, &boot);
    play.send(ToAgent::Grant(grant)).await;
    play.start();
    let (next, hello) = play.hello().await;
    let settled = &hello.settled;
    assert_eq!((settled.len(), &settled[0].key, settled[0].fence), (1, &order.key, None), "{hello:?}");
    assert!(!settled[0].started && settled[0].clean, "{hello:?}");
    let again = play.until("claim of the new life", |said| claimed_anew(said, &order.key, &boot)).await;
    assert_eq!(again, next);
    assert_eq!(play.lab.starts("first"), 0, "the grant was for the life that is gone");
    let grant = play.grant(&order, &next);
    play.send(ToAgent::Grant(grant)).await;
    assert_eq!(verdict(play.reports_of(&order.key).await.last().unwrap()), Verdict::Succeeded);
    assert_eq!(play.lab.starts("first"), 1);
}

pub async fn an_end_that_was_not_stored_outlives_its_agent(mut play: Reconciler) {
    let order = play.lab.order("first", 1);
    let grant = play.order_and_grant(&order).await;
    let said = play.reports_of(&order.key).await;
    play.kill();
    play.start();
    let (boot, hello) = play.hello().await;
    assert_eq!((hello.settled.len(), hello.ended.len()), (0, 1), "{hello:?}");
    assert_eq!((&hello.ended[0].key, hello.ended[0].fence), (&order.key, grant.fence));
    let (by, report) = play.report(&order.key).await;
    assert_eq!((by, &report), (boot, &said[0]));
    assert_eq!(play.reports_of(&order.key).await[..], said[1..]);
    assert_eq!(play.lab.starts("first"), 1);
}

pub async fn r9_a_cancel_stops_what_runs(mut play: Reconciler) {
    play.lab.hold();
    let order = play.lab.order("first", 1);
    play.order_and_grant(&order).await;
    play.report(&order.key).await;
    while play.lab.starts("first") == 0 {
        play.heartbeat().await;
    }
    for _ in 0..2 {
        play.cancel(&order.key).await;
    }
    let end = play.reports_of(&order.key).await.pop().unwrap();
    assert_eq!(verdict(&end), Verdict::Cancelled);
    // Once more, as if the answer had been lost.
    play.cancel(&order.key).await;
    assert_eq!(play.reports_of(&order.key).await.pop(), Some(end));
    assert_eq!(play.lab.starts("first"), 1);
}

pub async fn a_cancel_that_crosses_the_grant_starts_nothing(mut play: Reconciler) {
    let order = play.lab.order("first", 1);
    play.order(&order).await;
    let boot = play.claim(&order).await;
    play.cancel(&order.key).await;
    let grant = play.grant(&order, &boot);
    play.send(ToAgent::Grant(grant.clone())).await;
    play.decline(&order.key).await;
    let (_, end) = play.report(&order.key).await;
    assert_eq!((end.seq, end.fence, verdict(&end)), (1, grant.fence, Verdict::Cancelled));
    assert_eq!(play.lab.starts("first"), 0);
}

pub async fn what_is_refused_is_forgotten(mut play: Reconciler) {
    let order = play.lab.order("first", 1);
    play.order(&order).await;
    let boot = play.claim(&order).await;
    play.send(ToAgent::Refuse { key: order.key.clone(), reason: "somebody else has it".to_owned() }).await;
    let grant = play.grant(&order, &boot);
    play.send(ToAgent::Grant(grant)).await;
    play.decline(&order.key).await;
    assert_eq!(play.lab.starts("first"), 0);
    play.kill();
    play.start();
    let (_, hello) = play.hello().await;
    assert!(is_empty(&hello), "{hello:?}");
    // Forgotten is not finished: the same attempt can be ordered again.
    play.run(&order).await;
    assert_eq!(play.lab.starts("first"), 1);
}

pub async fn words_about_unknown_attempts_are_harmless(mut play: Reconciler) {
    let (unknown, order) = (play.lab.order("first", 9).key, play.lab.order("second", 1));
    play.stored(&unknown, 7).await;
    play.send(ToAgent::Refuse { key: unknown.clone(), reason: "it never was".to_owned() }).await;
    play.cancel(&unknown).await;
    play.decline(&unknown).await;
    play.run(&order).await;
    assert_eq!((reports(&play, &unknown), claims(&play, &unknown)), (0, 0));
}

pub async fn r5_a_broken_line_ends_no_life(mut play: Reconciler) {
    let (boot, _) = play.hello().await;
    play.lab.hold();
    let order = play.lab.order("first", 1);
    play.order_and_grant(&order).await;
    play.report(&order.key).await;
    play.disconnect().await;
    play.lab.release();
    let end = play.reports_of(&order.key).await.pop().unwrap();
    assert_eq!(verdict(&end), Verdict::Succeeded);
    play.stored(&order.key, end.seq).await;
    let next = play.lab.order("second", 1);
    play.order(&next).await;
    assert_eq!(play.claim(&next).await, boot);
    assert_eq!(play.count(|said| matches!(said, AgentMessage::Hello(_))), 1);
    assert_eq!(play.lab.starts("first"), 1);
}

/// An object that no repository has.
fn nowhere() -> Oid {
    Oid::parse("7".repeat(40)).unwrap()
}

/// An order that the approving commit, the plan or its pins do not bear out.
pub async fn s1_an_order_that_git_does_not_bear_out_is_declined(mut play: Reconciler) {
    type Change = fn(&mut Order);
    let changes: [(Change, &str); 4] = [
        (|order| order.approved_by = nowhere(), ""),
        (|order| order.key.plan = nowhere(), "does not hold plan"),
        (|order| order.step.timeout_secs += 1, "`timeout_secs`"),
        (|order| order.infra.commit = nowhere(), "the order names"),
    ];
    for ((change, words), attempt) in changes.into_iter().zip(1..) {
        let mut order = play.lab.order("first", attempt);
        change(&mut order);
        play.order(&order).await;
        let reason = play.decline(&order.key).await;
        assert!(reason.contains(words), "{reason}");
        assert_eq!(claims(&play, &order.key), 0);
    }
    assert_eq!(play.lab.starts("first"), 0);
}
