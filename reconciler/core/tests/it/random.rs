//! Random lives of two requests: events in any order, repeated and unseen, and a driver that dies between any two of
//! its actions. Whatever happens, nothing runs that was not merged, nothing runs twice, and nothing is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::facts::OfferState;
use chiffon_core::{Action, State};
use chiffon_schemas::{AttemptState, Host, Name, Oid, RunId};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use crate::events::EVENTS;
use crate::model::{Did, MAX_ROUNDS, Model};
use crate::plans::name;

/// What happens at one moment: an event for one of two requests, and then how many actions the driver lives for.
#[derive(Debug, Clone)]
struct Moment {
    event: &'static str,
    second: bool,
    number: i64,
    /// Nobody looks after it; `Some(n)`: the driver dies after n actions; `None`: it comes to rest.
    lives: Option<usize>,
    again: bool,
}

fn moment() -> impl Strategy<Value = Moment> {
    // Half of all events are of the kind that brings a request forward, or lives would hardly ever get far.
    let forward = proptest::sample::select(vec!["push", "merge", "claim", "start", "end-ok", "heartbeat"]);
    let whatever = proptest::sample::select(EVENTS.to_vec());
    let lives = prop_oneof![3 => Just(None), 2 => (0..4_usize).prop_map(Some)];
    (prop_oneof![forward, whatever], any::<bool>(), 1..20_i64, lives, any::<bool>())
        .prop_map(|(event, second, number, lives, again)| Moment { event, second, number, lives, again })
}

/// What was seen so far, for judging what comes.
#[derive(Default)]
struct Seen {
    approved: BTreeSet<Oid>,
    closed: BTreeMap<Oid, OfferState>,
}

impl Seen {
    /// What must hold after every single action.
    fn judge(&mut self, model: &Model) -> TestCaseResult {
        for facts in model.facts.values() {
            let open = facts.offers.iter().filter(|offer| offer.is_open()).count();
            prop_assert!(open <= 1, "two offers are open");
            for offer in &facts.offers {
                if let Some(before) = self.closed.get(&offer.plan_oid) {
                    prop_assert_eq!(*before, offer.state, "a closed offer changed");
                }
                if !offer.is_open() {
                    self.closed.insert(offer.plan_oid.clone(), offer.state);
                }
            }
        }
        judge_attempts(model)
    }

    /// S2: only what an open offer's blob on `main` approved is ordered, and each offer once.
    fn judge_action(&mut self, model: &Model, name: &Name, action: &Action) -> TestCaseResult {
        let facts = &model.facts[name];
        match action {
            Action::Approve { plan } => {
                prop_assert_eq!(facts.plan_on_main.as_ref(), Some(plan), "approved without being on main");
                let offer = facts.offers.iter().find(|offer| &offer.plan_oid == plan);
                let offer = offer.ok_or_else(|| TestCaseError::fail("approved without an offer"))?;
                prop_assert!(offer.is_open() && model.world.now <= offer.plan.metadata.expires);
                prop_assert!(facts.is_of_now(&offer.plan), "the request changed since");
                prop_assert!(self.approved.insert(plan.clone()), "approved twice");
            }
            Action::Order { .. } | Action::Grant { .. } => {
                let run = facts.run.as_ref().ok_or_else(|| TestCaseError::fail("no run"))?;
                prop_assert!(self.approved.contains(&run.plan_oid), "ordered without an approval");
                prop_assert!(run.state.is_none() && !run.cancel && !run.voided);
                let first = !run.begun() && matches!(action, Action::Grant { .. });
                prop_assert!(!first || model.world.now <= run.plan.metadata.expires, "granted after its expiry");
            }
            _ => {}
        }
        Ok(())
    }
}

/// R1 and R4: one live attempt a step, one grant an attempt's life, one run a host, and a lost one keeps its hosts.
fn judge_attempts(model: &Model) -> TestCaseResult {
    let mut busy: BTreeMap<&Host, &RunId> = BTreeMap::new();
    for facts in model.facts.values() {
        let Some(run) = &facts.run else { continue };
        for step in &run.plan.spec.steps {
            let live = run.attempts_of(&step.id).filter(|attempt| !attempt.state.is_final()).count();
            prop_assert!(live <= 1, "two live attempts of {}", step.id);
        }
        for attempt in run.attempts.iter().filter(|attempt| attempt.state.holds_locks()) {
            prop_assert!(attempt.fence.is_some(), "it may run, without a grant");
            for host in &attempt.hosts {
                let holder = model.world.locks.get(host).map(|holder| &holder.run);
                prop_assert_eq!(
                    holder,
                    Some(&run.id),
                    "{} may run on a host that is not its own",
                    attempt.step.clone()
                );
                let other = busy.insert(host, &run.id);
                prop_assert!(other.is_none_or(|other| other == &run.id), "two runs on {host}");
            }
        }
    }
    Ok(())
}

/// The driver looks and acts; it dies after `lives` actions, where that is said.
fn drive(model: &mut Model, seen: &mut Seen, lives: Option<usize>) -> TestCaseResult {
    let mut left = lives.unwrap_or(usize::MAX);
    let names: Vec<Name> = model.facts.keys().cloned().collect();
    for name in names {
        let mut rounds = 0;
        loop {
            rounds += 1;
            prop_assert!(rounds <= MAX_ROUNDS, "{name} does not come to rest");
            let decision = model.decision(&name);
            prop_assert_eq!(&decision, &model.decision(&name), "the same facts, another decision");
            let mut acted = 0;
            for action in decision.actions {
                if left == 0 {
                    return Ok(());
                }
                seen.judge_action(model, &name, &action)?;
                if model.carry_out(&name, &action) == Did::Done {
                    (acted, left) = (acted + 1, left - 1);
                }
                seen.judge(model)?;
            }
            if acted == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Every fence once, rising; every history a path of the allowed graph, granted again only after it was ordered again.
fn judge_whole(model: &Model) -> TestCaseResult {
    let fences: Vec<_> = model.grants.iter().map(|grant| grant.3).collect();
    prop_assert!(fences.windows(2).all(|pair| pair[0] < pair[1]), "fences do not rise");
    let mut last: BTreeMap<(&RunId, &Name, u32), AttemptState> = BTreeMap::new();
    for (run, step, number, state) in &model.history {
        let before = last.insert((run, step, *number), *state);
        match before {
            None => prop_assert_eq!(*state, AttemptState::Ordered),
            Some(before) => prop_assert!(before.allows(*state), "{before:?} to {state:?}"),
        }
    }
    Ok(())
}

/// Where all is quiet and everybody does their part, each request ends where a person can see why.
fn ends_visibly(model: &mut Model, seen: &mut Seen) -> TestCaseResult {
    model.happen("infra-back", &name("first"), 0);
    for request in ["first", "second"].map(name) {
        if model.facts.contains_key(&request) {
            model.happen("resume", &request, 0);
            model.happen("resolve-failed", &request, 0);
        }
    }
    for _ in 0..40 {
        model.heartbeat();
        drive(model, seen, None)?;
        for request in ["first", "second"].map(name) {
            for event in ["claim", "start", "end-ok", "resolve-failed"] {
                model.happen(event, &request, 0);
            }
        }
    }
    drive(model, seen, None)?;
    for name in model.facts.keys() {
        let state = model.state(name);
        let waits =
            matches!(state, State::Planning(_) | State::Queued | State::Running | State::Paused(_) | State::Lost);
        prop_assert!(!waits, "{name} ends as {state:?}, which nobody ends");
        prop_assert!(model.decision(name).actions.is_empty());
    }
    prop_assert!(model.world.locks.is_empty(), "locks are left: {:?}", model.world.locks);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn r1_s2_r4_any_order_of_events_with_crashes_anywhere(moments in proptest::collection::vec(moment(), 1..60)) {
        let mut model = Model::default();
        let mut seen = Seen::default();
        model.happen("push", &name("first"), 0);
        for moment in moments {
            let request = name(if moment.second { "second" } else { "first" });
            model.happen(moment.event, &request, moment.number);
            if moment.again {
                model.happen(moment.event, &request, moment.number);
            }
            seen.judge(&model)?;
            drive(&mut model, &mut seen, moment.lives)?;
        }
        judge_whole(&model)?;
        ends_visibly(&mut model, &mut seen)?;
        judge_whole(&model)?;
    }
}
