//! What starts an attempt, and what does not: orders, grants, cancels and refusals.

use chiffon_schemas::{BootId, Fence, Grant, Oid, Order, ToAgent, Verdict, digest};

use super::super::reconciler::{Reconciler, as_text};
use super::{claimed_anew, claims, is_empty, reported, verdict};

pub async fn an_order_is_claimed_and_nothing_starts_without_a_grant(mut play: Reconciler) {
    let (boot, _) = play.hello().await;
    let order = play.lab.order("first", 1);
    play.order(&order).await;
    assert_eq!(play.claim(&order).await, boot);
    // It asks again for as long as it has no answer.
    assert_eq!(play.claim(&order).await, boot);
    assert_eq!((play.lab.starts("first"), reported(&play, &order.key)), (0, 0));
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
    assert_eq!((play.lab.starts("first"), play.lab.starts("second"), reported(&play, &order.key)), (0, 0, 0));
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
        let (_, declined) = play.decline(&next.key).await;
        assert_eq!(declined, Some(stale), "it says which grant it declines");
    }
    // The highest fence outlives the agent.
    play.kill();
    play.start();
    play.hello().await;
    let boot = play.until("claim of the new life", |said| claimed_anew(said, &next.key, &boot)).await;
    let grant = play.grant_with(&next, &boot, fence(1, 5));
    play.send(ToAgent::Grant(grant)).await;
    play.decline(&next.key).await;
    assert_eq!((play.lab.starts("second"), reported(&play, &next.key)), (0, 0));
    let grant = play.grant_with(&next, &boot, fence(1, 6));
    play.send(ToAgent::Grant(grant)).await;
    assert_eq!(play.reports_of(&next.key).await.pop().unwrap().fence, fence(1, 6));
    assert_eq!(play.lab.starts("second"), 1);
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

pub async fn r9_a_cancel_stops_what_runs(mut play: Reconciler) {
    play.lab.hold();
    let order = play.lab.order("first", 1);
    play.order_and_grant(&order).await;
    play.report(&order.key).await;
    play.at_work("first").await;
    for _ in 0..2 {
        play.cancel(&order.key).await;
    }
    let end = play.reports_of(&order.key).await.pop().unwrap();
    assert_eq!(verdict(&end), Verdict::Cancelled, "{end:#?}");
    // Once more, as if the answer had been lost.
    play.cancel(&order.key).await;
    assert_eq!(play.reports_of(&order.key).await.pop(), Some(end));
    assert_eq!(play.lab.starts("first"), 1);
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
    assert_eq!((reported(&play, &unknown), claims(&play, &unknown)), (0, 0));
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
        let (reason, _) = play.decline(&order.key).await;
        assert!(reason.contains(words), "{reason}");
        assert_eq!(claims(&play, &order.key), 0);
    }
    assert_eq!(play.lab.starts("first"), 0);
}
