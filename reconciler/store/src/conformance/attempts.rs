//! Attempts: the allowed ways between their states, and the fences that go with a grant.

use std::collections::BTreeSet;

use chiffon_core::facts::Attempt;
use chiffon_schemas::{AttemptKey, AttemptState, Fence, Name, RunState, ToAgent};

use super::bed::{Bed, Fixture, ended, granted, key, kuma, moved, ordered};
use super::sample::{at, boot, hosts, name, run_id};
use crate::{Accepted, Applied, Change, Error};
use AttemptState::{Claimed, Failed, Granted, Lost, Ordered, Started, Succeeded};

/// A new attempt is ordered, with everything that the order says.
pub async fn an_order_comes_back_whole(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = key(&bed.running(&kuma(), 1).await, "site", 1);
    assert_eq!(bed.apply_at(ordered(&kuma(), &key), 5).await, Applied::default());
    let attempt = bed.attempt(&key).await;
    assert_eq!((attempt.state, attempt.number, attempt.round, attempt.since), (Ordered, 1, 1, at(5)));
    assert_eq!((attempt.hosts, attempt.agent), (hosts(&["nas01", "nas02"]), name("infra")));
    assert_eq!((attempt.boot, attempt.fence, attempt.outcome), (None, None, None));
}

/// An attempt is ordered once, whatever became of it.
pub async fn r1_an_attempt_is_ordered_once(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let first = bed.in_state(Ordered).await;
    bed.conflict(ordered(&kuma(), &first), &first.to_string()).await;
    bed.walk(&kuma(), &first, Failed).await;
    bed.conflict(ordered(&kuma(), &first), &first.to_string()).await;
    bed.apply(ordered(&kuma(), &key(&first.run, "site", 2))).await;
    bed.apply(ordered(&kuma(), &key(&first.run, "dns", 1))).await;
    assert_eq!(bed.run().await.attempts.len(), 3);
}

/// Only a run that goes on, in its present round, orders attempts.
pub async fn r1_a_run_that_is_over_orders_nothing(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let run = bed.running(&kuma(), 1).await;
    let in_round = |round| match ordered(&kuma(), &key(&run, "site", 1)) {
        Change::Ordered { name, key, hosts, agent, .. } => Change::Ordered { name, key, round, hosts, agent },
        other => other,
    };
    bed.conflict(in_round(2), run.as_str()).await;
    for state in [RunState::Succeeded, RunState::Lost] {
        bed.finish(&run, state).await;
        bed.conflict(in_round(bed.run().await.round), run.as_str()).await;
        let round = bed.run().await.round + 1;
        bed.apply(Change::RunReopened { run: run.clone(), round }).await;
    }
    bed.conflict(in_round(2), run.as_str()).await;
    bed.apply(in_round(3)).await;
    assert_eq!(bed.attempt(&key(&run, "site", 1)).await.round, 3);
}

/// A run that is not there orders nothing, and is named.
pub async fn an_order_of_an_unknown_run_is_a_conflict(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.request(&kuma()).await;
    bed.conflict(ordered(&kuma(), &key(&run_id(7), "site", 1)), run_id(7).as_str()).await;
}

/// A run's attempts come in the order of the plan's steps, and then by number.
pub async fn attempts_come_in_the_order_of_the_plan(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let run = bed.running(&kuma(), 1).await;
    for (step, attempt) in [("dns", 1), ("site", 2), ("dns", 10), ("site", 1), ("dns", 2)] {
        bed.apply(ordered(&kuma(), &key(&run, step, attempt))).await;
    }
    let attempts = bed.run().await.attempts;
    let order: Vec<_> = attempts.iter().map(|one| (one.step.as_str(), one.number)).collect();
    assert_eq!(order, [("site", 1), ("site", 2), ("dns", 1), ("dns", 2), ("dns", 10)]);
}

/// From every state to every state: only the allowed ways are gone.
pub async fn r6_an_attempt_moves_only_along_the_allowed_graph(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let mut number = 0;
    for state in AttemptState::ALL {
        for to in AttemptState::ALL.into_iter().filter(|to| (state, *to) != (Claimed, Granted)) {
            number += 1;
            let (request, key) = walked(&bed, number, state).await;
            let done = bed.store.apply(bed.repository, moved(&key, state, to), &[], &[], at(44)).await;
            let attempt = bed.facts(&request).await.run.expect("a run").attempts.remove(0);
            if state.allows(to) {
                assert_eq!((done.is_ok(), attempt.state, attempt.since), (true, to, at(44)), "{state:?} to {to:?}");
            } else {
                let named = matches!(&done, Err(Error::Conflict { what, .. }) if what.contains(&key.to_string()));
                assert!(named && attempt.state == state, "{state:?} to {to:?}: {done:?}");
            }
            free_all(&bed).await;
        }
    }
}

/// Nobody moves an attempt from where it is not, though the way would be allowed.
pub async fn r6_an_attempt_moves_only_from_where_it_is(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    for (number, state) in (1..).zip(AttemptState::ALL) {
        let (_, key) = walked(&bed, number, state).await;
        for from in AttemptState::ALL.into_iter().filter(|from| *from != state) {
            for to in AttemptState::ALL {
                let done = bed.store.apply(bed.repository, moved(&key, from, to), &[], &[], at(44)).await;
                let named = matches!(&done, Err(Error::Conflict { what, .. }) if what.contains(&key.to_string()));
                assert!(named, "{from:?} to {to:?} in {state:?}: {done:?}");
            }
        }
        bed.conflict(moved(&key, if state == Lost { Started } else { Lost }, Failed), &key.to_string()).await;
        free_all(&bed).await;
    }
}

/// A request with an attempt in some state.
async fn walked(bed: &Bed<'_>, number: u64, state: AttemptState) -> (Name, AttemptKey) {
    let request = name(&format!("request-{number}"));
    let key = key(&bed.running(&request, number).await, "site", 1);
    bed.apply(ordered(&request, &key)).await;
    bed.walk(&request, &key, state).await;
    (request, key)
}

/// Makes room for the next one.
async fn free_all(bed: &Bed<'_>) {
    for host in bed.store.locks(bed.repository).await.expect("locks").into_keys() {
        bed.apply(Change::Unlocked { host }).await;
    }
}

/// What is granted has a fence and its locks: no plain move makes a grant.
pub async fn r1_only_a_grant_grants(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = bed.in_state(Claimed).await;
    bed.conflict(moved(&key, Claimed, Granted), &key.to_string()).await;
}

/// An attempt that is not there does not move.
pub async fn an_unknown_attempt_does_not_move(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let there = bed.in_state(Claimed).await;
    for unknown in [key(&there.run, "site", 2), key(&there.run, "dns", 1), key(&run_id(2), "site", 1)] {
        bed.conflict(moved(&unknown, Ordered, Claimed), &unknown.to_string()).await;
        bed.conflict(granted(&kuma(), &unknown, &[]), &unknown.to_string()).await;
    }
}

/// A grant of an attempt that is not there is a conflict that names it, whichever hosts it would lock.
pub async fn a_grant_of_an_unknown_attempt_is_a_conflict(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let unknown = key(&bed.in_state(Claimed).await.run, "site", 2);
    bed.conflict(granted(&kuma(), &unknown, &["nas01"]), &unknown.to_string()).await;
}

/// A claim names the life that claimed; back at `ordered` nobody has it.
pub async fn a_claim_is_of_one_life(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = bed.in_state(Claimed).await;
    assert_eq!(bed.attempt(&key).await.boot, Some(boot(1)));
    let to_another = Change::Granted {
        name: kuma(),
        key: key.clone(),
        boot: boot(2),
        hosts: hosts(&["nas01"]),
        order: "0".repeat(64),
    };
    bed.conflict(to_another, &key.to_string()).await;
    bed.apply(moved(&key, Claimed, Ordered)).await;
    assert_eq!(bed.attempt(&key).await.boot, None);
    bed.conflict(granted(&kuma(), &key, &["nas01"]), &key.to_string()).await;
}

/// What nobody was granted goes to another agent, and its claim counts no more.
pub async fn r4_an_order_goes_to_another_agent_before_its_grant(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = bed.in_state(Claimed).await;
    let to = |from, agent: &str| Change::Reordered { key: key.clone(), from, agent: name(agent) };
    bed.conflict(to(Ordered, "other"), &key.to_string()).await;
    bed.apply(to(Claimed, "other")).await;
    let attempt = bed.attempt(&key).await;
    assert_eq!((attempt.state, attempt.agent, attempt.boot), (Ordered, name("other"), None));
    bed.apply(to(Ordered, "infra")).await;
    assert_eq!(bed.attempt(&key).await.agent, name("infra"));
    bed.conflict(granted(&kuma(), &key, &["nas01"]), &key.to_string()).await;
    let fence = bed.walk(&kuma(), &key, Granted).await;
    for from in [Ordered, Claimed, Granted] {
        bed.conflict(to(from, "other"), &key.to_string()).await;
    }
    let attempt = bed.attempt(&key).await;
    assert_eq!((attempt.state, attempt.fence, attempt.agent), (Granted, fence, name("infra")));
}

/// A grant is for what is claimed, and once; the message to the agent is part of it.
pub async fn r1_a_grant_is_given_once_and_sent_with_its_fence(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = bed.in_state(Claimed).await;
    let events = [bed.event("granted"), bed.event("other"), bed.event("bare")];
    let mut bare = events.clone();
    bare[2].detail = serde_json::json!("no map");
    let change = granted(&kuma(), &key, &["nas01", "nas02"]);
    let applied = bed.store.apply(bed.repository, change.clone(), &bare, &[], at(20)).await.expect("granted");
    let fence = applied.fence.expect("a fence");
    let attempt = bed.attempt(&key).await;
    assert_eq!((attempt.state, attempt.fence, attempt.since), (Granted, Some(fence), at(20)));

    let outgoing = bed.store.outgoing(0, 10).await.expect("messages");
    let grant = chiffon_schemas::Grant { key: key.clone(), boot: boot(1), fence, order: "0".repeat(64), at: at(20) };
    let sent: Vec<_> = outgoing.into_iter().map(|one| (one.agent, one.message)).collect();
    assert_eq!(sent, [(name("infra"), ToAgent::Grant(grant))]);

    let stored = bed.store.unaudited(bed.repository, 100).await.expect("events");
    let fence_of = |kind: &str| {
        let event = stored.iter().find(|event| event.kind == kind).expect("it was appended");
        serde_json::from_value::<Fence>(event.detail["fence"].clone()).ok()
    };
    assert_eq!((fence_of("granted"), fence_of("other"), fence_of("bare")), (Some(fence), Some(fence), None));
    assert_eq!(stored.last().expect("an event").detail, serde_json::json!("no map"));

    for state in [Granted, Started, Succeeded] {
        bed.conflict(change.clone(), &key.to_string()).await;
        match state {
            Granted => bed.apply(moved(&key, Granted, Started)).await,
            Started => bed.apply(ended(&key, fence, Succeeded)).await,
            _ => Applied::default(),
        };
    }
    assert_eq!(bed.store.outgoing(0, 10).await.expect("messages").len(), 1);
}

/// No change but a grant gives out a fence.
pub async fn only_grants_give_out_fences(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = bed.in_state(Ordered).await;
    assert_eq!(bed.apply(moved(&key, Ordered, Claimed)).await.fence, None);
    assert_eq!(
        bed.apply(Change::Refused {
            name: kuma(),
            refusal: chiffon_core::facts::Refusal {
                blob: super::sample::oid(1),
                reason: chiffon_core::facts::RefusalReason::Used,
                at: at(0),
                why: None,
            },
        })
        .await
        .fence,
        None
    );
}

/// Fences rise with every grant, through whichever handle, and none is given twice: not after a change that failed,
/// not after a grant was taken back, not after another start.
pub async fn r11_fences_never_come_twice_and_rise(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let mut given: Vec<Fence> = Vec::new();
    for number in 1..=6 {
        let again = fixture.reopen().await;
        let other = Bed::at(again.as_ref(), if number % 3 == 0 { "other" } else { "later" }).await;
        let bed = if number % 2 == 0 { &bed } else { &other };
        let request = name(&format!("request-{number}"));
        let key = key(&bed.running(&request, number).await, "site", 1);
        bed.apply(ordered(&request, &key)).await;
        bed.walk(&request, &key, Claimed).await;
        let to_another = Change::Granted {
            name: request.clone(),
            key: key.clone(),
            boot: boot(2),
            hosts: hosts(&["a"]),
            order: "0".repeat(64),
        };
        bed.conflict(to_another, &key.to_string()).await;
        for _ in 0..2 {
            let fence = bed.apply(granted(&request, &key, &[])).await.fence.expect("a fence");
            assert!(given.iter().all(|before| *before < fence), "{fence} after {given:?}");
            given.push(fence);
            bed.apply(moved(&key, Granted, Lost)).await;
            bed.apply(moved(&key, Lost, Ordered)).await;
            bed.walk(&request, &key, Claimed).await;
        }
    }
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 12);
}

/// A report's move is made only under the attempt's own fence.
pub async fn r4_a_stale_fence_moves_nothing(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = bed.in_state(Claimed).await;
    let fence = bed.apply(granted(&kuma(), &key, &["nas01"])).await.fence.expect("a fence");
    let started = |fence| Change::Moved {
        key: key.clone(),
        from: Granted,
        to: Started,
        fence: Some(fence),
        boot: None,
        outcome: None,
    };
    let wrong = [
        Fence { counter: fence.counter - 1, ..fence },
        Fence { counter: fence.counter + 1, ..fence },
        Fence { incarnation: fence.incarnation + 1, ..fence },
        Fence { incarnation: 0, counter: 0 },
    ];
    for other in wrong {
        bed.conflict(started(other), &key.to_string()).await;
    }
    bed.apply(started(fence)).await;
    assert_eq!(bed.attempt(&key).await.state, Started);
}

/// A fence is nothing before there is one.
pub async fn r4_a_fence_before_the_grant_moves_nothing(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = bed.in_state(Claimed).await;
    let fence = Some(Fence { incarnation: 1, counter: 1 });
    let change = Change::Moved { key: key.clone(), from: Claimed, to: Failed, fence, boot: None, outcome: None };
    bed.conflict(change, &key.to_string()).await;
}

/// A late result is accepted by its fence; after it went back to `ordered` the old fence is worth nothing.
pub async fn r4_what_was_lost_is_settled_by_its_fence(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = bed.in_state(Lost).await;
    let fence = bed.attempt(&key).await.fence.expect("lost, and still fenced");
    let settled = |fence| Change::Moved {
        key: key.clone(),
        from: Lost,
        to: Succeeded,
        fence: Some(fence),
        boot: None,
        outcome: None,
    };
    bed.conflict(settled(Fence { counter: fence.counter + 1, ..fence }), &key.to_string()).await;
    bed.apply(moved(&key, Lost, Ordered)).await;
    let attempt = bed.attempt(&key).await;
    assert_eq!((attempt.state, attempt.boot, attempt.fence), (Ordered, None, None));
    let late = bed.store.report(&name("infra"), &key, fence, 1, None, at(0)).await.expect("an answer");
    assert_eq!(late, Accepted::WrongFence);
    let next = bed.walk(&kuma(), &key, Started).await.expect("a fence");
    assert!(next > fence);
    bed.conflict(ended(&key, fence, Succeeded), &key.to_string()).await;
    bed.apply(ended(&key, next, Succeeded)).await;
}

/// An attempt that moves on keeps its life, its fence and how it ended.
pub async fn moving_on_keeps_what_is_known(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = bed.in_state(Failed).await;
    let attempt = bed.attempt(&key).await;
    assert_eq!(attempt.boot, Some(boot(1)));
    assert!(attempt.fence.is_some() && attempt.outcome.is_some());
    assert!(bed.run().await.begun());
    let error = bed.refused(moved(&key, Failed, Succeeded)).await;
    assert!(matches!(error, Error::Conflict { .. }));
}

/// What an earlier life of an agent was granted is the new one's where that has its end, under the same fence.
pub async fn r4_a_new_life_takes_over_what_it_will_report(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = bed.in_state(Started).await;
    let fence = bed.attempt(&key).await.fence.expect("a started attempt has a fence");
    let heard = |agent: &str, life, fence| {
        let facts = chiffon_core::facts::AgentFacts {
            kind: chiffon_schemas::AgentKind::Infra,
            boot: boot(life),
            heard: at(50),
            ansible_core: None,
        };
        Change::AgentHeard { agent: name(agent), facts, ended: vec![(key.clone(), fence)] }
    };
    let stale = Fence { counter: fence.counter + 1, ..fence };
    for change in [heard("infra", 2, stale), heard("another", 3, fence)] {
        bed.apply(change).await;
        assert_eq!(bed.attempt(&key).await.boot, Some(boot(1)));
    }
    let (before, version) = (bed.attempt(&key).await, bed.version(&kuma()).await);
    bed.apply(heard("infra", 4, fence)).await;
    assert_eq!(bed.attempt(&key).await, Attempt { boot: Some(boot(4)), ..before });
    assert!(bed.version(&kuma()).await > version, "that is a change of its request");
    bed.apply(moved(&key, Started, Lost)).await;
    bed.apply(heard("infra", 5, fence)).await;
    assert_eq!(bed.attempt(&key).await.boot, Some(boot(4)), "what is over stays as it is");
}
