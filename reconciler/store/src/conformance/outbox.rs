//! The outbox of the bus: every message waits until it is marked, in the order in which it was put there.

use chiffon_schemas::{Direction, Name, ToAgent};

use super::bed::{Bed, Fixture, kuma, message};
use super::sample::{at, name, run_id};
use crate::{Change, MAX_PARKED, NewParked, Outgoing};

fn numbered(agent: &str, seq: u64) -> (Name, ToAgent) {
    (name(agent), message(&run_id(1), seq))
}

async fn waiting(bed: &Bed<'_>) -> Vec<Outgoing> {
    bed.store.outgoing(0, 1000).await.expect("messages")
}

fn plain(messages: &[Outgoing]) -> Vec<(Name, ToAgent)> {
    messages.iter().map(|one| (one.agent.clone(), one.message.clone())).collect()
}

/// Messages wait in order, for whichever agent and however they came; each handle sees them.
pub async fn messages_wait_in_the_order_in_which_they_were_sent(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.request(&kuma()).await;
    let all: Vec<_> = (0..6).map(|seq| numbered(if seq % 2 == 0 { "b" } else { "a" }, seq)).collect();
    bed.store.send(&all[..2], at(9)).await.expect("sent");
    let change = Change::ReplanAsked { name: kuma(), after: 0 };
    bed.store.apply(bed.repository, change, &[], &all[2..4], at(1)).await.expect("applied");
    bed.store.send(&all[4..], at(5)).await.expect("sent");
    bed.store.send(&[], at(5)).await.expect("nothing to send");
    assert_eq!(plain(&waiting(&bed).await), all);
    assert_eq!(plain(&fixture.reopen().await.outgoing(0, 1000).await.expect("messages")), all);
    assert_eq!(plain(&bed.store.outgoing(0, 2).await.expect("messages")), all[..2]);
    assert!(bed.store.outgoing(0, 0).await.expect("messages").is_empty());
    let second = waiting(&bed).await[1].id;
    assert_eq!(plain(&bed.store.outgoing(second, 3).await.expect("messages")), all[2..5]);
}

/// Every kind of message comes back as it was.
pub async fn messages_come_back_whole(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = super::bed::key(&run_id(1), "site", 1);
    let plan = super::sample::plan(&kuma(), 1);
    let order = chiffon_schemas::Order {
        key: key.clone(),
        approved_by: super::sample::oid(5),
        plan_path: super::sample::path("plans/kuma.yaml"),
        infra: plan.spec.infra.clone(),
        step: plan.spec.steps[0].clone(),
    };
    let fence = chiffon_schemas::Fence { incarnation: 1, counter: u64::MAX };
    let messages = [
        ToAgent::Order(Box::new(order)),
        ToAgent::Grant(chiffon_schemas::Grant {
            key: key.clone(),
            boot: super::sample::boot(1),
            fence,
            order: "0".repeat(64),
            at: at(3),
        }),
        ToAgent::Refuse { key: key.clone(), reason: "é\u{1b}\n".to_owned() },
        ToAgent::Cancel { key: key.clone() },
        ToAgent::Stored { key, seq: u64::MAX },
    ];
    let messages = messages.map(|message| (name("infra"), message));
    bed.store.send(&messages, at(1)).await.expect("sent");
    assert_eq!(plain(&waiting(&bed).await), messages);
}

/// What is marked is gone; what is not waits on, in its place. Marking twice, or what never was, is harmless.
pub async fn r5_a_message_waits_until_it_is_marked(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let all: Vec<_> = (0..4).map(|seq| numbered("a", seq)).collect();
    bed.store.send(&all, at(1)).await.expect("sent");
    let ids: Vec<_> = waiting(&bed).await.iter().map(|one| one.id).collect();
    bed.store.sent(&[ids[0], ids[2]]).await.expect("marked");
    for _ in 0..2 {
        assert_eq!(plain(&waiting(&bed).await), [all[1].clone(), all[3].clone()]);
        bed.store.sent(&[ids[0], i64::MAX]).await.expect("marked");
        bed.store.sent(&[]).await.expect("nothing to mark");
    }
    assert_eq!(plain(&fixture.reopen().await.outgoing(0, 10).await.expect("messages")).len(), 2);
}

/// A mark that comes late, or twice, never hits a message that was put there since: ids are not given again.
pub async fn r5_a_late_mark_loses_no_later_message(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.store.send(&[numbered("a", 1)], at(1)).await.expect("sent");
    let first: Vec<_> = waiting(&bed).await.iter().map(|one| one.id).collect();
    bed.store.sent(&first).await.expect("marked");
    bed.store.send(&[numbered("a", 2)], at(1)).await.expect("sent");
    bed.store.sent(&first).await.expect("marked again, its answer was lost");
    assert_eq!(plain(&waiting(&bed).await), [numbered("a", 2)]);
}

/// Messages that were put aside are kept as they were, newest first, up to a number, until a person has seen them.
pub async fn r7_what_was_put_aside_comes_back_whole_and_is_bounded(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let parked = |number: u32, direction| NewParked {
        agent: name("infra"),
        direction,
        reason: format!("malformed: \u{1b}'; -- é\u{f8ff} {number}"),
        head: "{\"\0".to_owned(),
        size: usize::MAX >> 1,
    };
    for number in 0..MAX_PARKED + 2 {
        let direction = if number % 2 == 0 { Direction::FromAgent } else { Direction::ToAgent };
        bed.store.park(&parked(number, direction), at(i64::from(number))).await.expect("kept");
    }
    let all = fixture.reopen().await.parked().await.expect("all");
    assert_eq!(all.len(), MAX_PARKED as usize);
    let newest = MAX_PARKED + 1;
    assert_eq!((all[0].at, &all[0].message), (at(i64::from(newest)), &parked(newest, Direction::ToAgent)));
    assert_eq!(all.last().expect("there are some").message, parked(2, Direction::FromAgent));
    assert_eq!(bed.store.forget_parked(all[3].id).await.expect("forgotten"), u64::from(MAX_PARKED) - 3);
    assert_eq!(bed.store.parked().await.expect("the rest"), all[..3]);
}
