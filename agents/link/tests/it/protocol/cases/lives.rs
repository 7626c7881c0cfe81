//! What an agent knows after it was killed, and what a broken line does not end.

use chiffon_schemas::{AgentMessage, Grant, ToAgent, Verdict};

use super::super::reconciler::Reconciler;
use super::{claimed_anew, claims, is_empty, verdict, word};

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

pub async fn a_life_that_is_not_known_introduces_itself_again(mut play: Reconciler) {
    let first = play.hello().await;
    for _ in 0..2 {
        play.send(ToAgent::Introduce {}).await;
        assert_eq!(play.hello().await, first);
    }
    let order = play.lab.order("first", 1);
    play.run(&order).await;
    play.send(ToAgent::Introduce {}).await;
    assert_eq!(play.hello().await, first, "of this life it says nothing");
}

pub async fn r1_an_agent_that_was_killed_at_work_never_starts_again_and_says_so(mut play: Reconciler) {
    play.lab.hold();
    let order = play.lab.order("first", 1);
    let grant = play.order_and_grant(&order).await;
    let (_, started) = play.report(&order.key).await;
    assert_eq!((started.seq, word(&started)), (1, "started"));
    play.at_work("first").await;
    play.kill();
    // No delivery is held while something runs.
    play.all_acknowledged().await;
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
