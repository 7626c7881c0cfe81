//! Random lives of two requests: events in any order, repeated and unseen, and a driver that dies between any two of
//! its actions. Whatever happens, nothing runs that was not merged, nothing runs twice, and nothing is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::facts::{Attempt, OfferState, Run};
use chiffon_core::{Action, State};
use chiffon_schemas::{AttemptState, Host, Mode, Name, Oid, PlannerKind, RunId};
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

/// Moments of which most put one plan or another onto `main`.
fn merging() -> impl Strategy<Value = Moment> {
    let merges = ["merge", "merge-edited", "merge-foreign", "merge-closed", "merge-used", "revert"];
    let others = [
        "push",
        "push",
        "edit",
        "delete",
        "move",
        "edit-branch",
        "replan",
        "reject",
        "infra-moves",
        "days",
        "claim",
        "end-ok",
        "end-ok",
        "cancel",
        "retry",
        "resume",
        "heartbeat",
        "heartbeat",
    ];
    let event = prop_oneof![proptest::sample::select(merges.to_vec()), proptest::sample::select(others.to_vec())];
    let lives = prop_oneof![3 => Just(None), 2 => (0..4_usize).prop_map(Some)];
    (event, any::<bool>(), 1..20_i64, lives).prop_map(|(event, second, number, lives)| Moment {
        event,
        second,
        number,
        lives,
        again: false,
    })
}

/// What was seen so far, for judging what comes.
#[derive(Default)]
pub struct Seen {
    approved: BTreeSet<Oid>,
    closed: BTreeMap<Oid, OfferState>,
}

impl Seen {
    /// What must hold after every single action.
    pub fn judge(&mut self, model: &Model) -> TestCaseResult {
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

    /// S2: only what an open offer's blob on `main` approved is ordered, or a check that policy exempts, and each offer once.
    fn judge_action(&mut self, model: &Model, name: &Name, action: &Action) -> TestCaseResult {
        let facts = &model.facts[name];
        match action {
            Action::Approve { plan } => {
                let offer = facts.offers.iter().find(|offer| &offer.plan_oid == plan);
                let offer = offer.ok_or_else(|| TestCaseError::fail("approved without an offer"))?;
                let merged = facts.plan_on_main.as_ref() == Some(plan);
                let spec = &offer.plan.spec;
                let exempt = model.world.policy.exempt_check_runs
                    && spec.mode == Mode::Check
                    && spec.planner.kind == PlannerKind::Catalogue;
                prop_assert!(merged || exempt, "approved without being on main");
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
                judge_order(run, action)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// What is ordered is next: all that it needs is done, its hosts are idle and unfinished, and nothing of this round failed.
fn judge_order(run: &Run, action: &Action) -> TestCaseResult {
    let badly = |attempt: &&Attempt| attempt.state.is_final() && attempt.state != AttemptState::Succeeded;
    prop_assert!(!run.attempts.iter().any(|attempt| attempt.round == run.round && badly(&attempt)), "after a failure");
    let Action::Order { step, hosts, .. } = action else { return Ok(()) };
    let planned = run.plan.spec.steps.iter().find(|planned| &planned.id == step);
    let planned = planned.ok_or_else(|| TestCaseError::fail("no such step"))?;
    for need in &planned.needs {
        prop_assert!(chiffon_core::step_succeeded(run, need), "{step} before {need}");
    }
    prop_assert_eq!(hosts, &run.unfinished(step));
    let live = run.attempts.iter().filter(|attempt| !attempt.state.is_final());
    for busy in live.flat_map(|attempt| &attempt.hosts) {
        prop_assert!(!planned.limit.contains(busy), "{step} while another step is on {busy}");
    }
    Ok(())
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
        // What a person freed is the person's to answer for.
        let freed = |state| state == AttemptState::Lost && model.unlocked.contains(&run.id);
        for attempt in run.attempts.iter().filter(|attempt| attempt.state.holds_locks() && !freed(attempt.state)) {
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
pub fn drive(model: &mut Model, seen: &mut Seen, lives: Option<usize>) -> TestCaseResult {
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
pub fn judge_whole(model: &Model) -> TestCaseResult {
    let fences: Vec<_> = model.grants.iter().map(|grant| grant.3).collect();
    prop_assert!(fences.windows(2).all(|pair| pair[0] < pair[1]), "fences do not rise");
    let mut last: BTreeMap<(&RunId, &Name, u32), AttemptState> = BTreeMap::new();
    for (run, step, number, state) in &model.history {
        let before = last.insert((run, step, *number), *state);
        match before {
            None => prop_assert_eq!(*state, AttemptState::Ordered),
            // An order that goes to another agent is an order still.
            Some(AttemptState::Ordered) if *state == AttemptState::Ordered => {}
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
    model.happen("agent-restarts", &name("first"), 0);
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
            for _ in 0..=usize::from(moment.again) {
                model.happen(moment.event, &request, moment.number);
            }
            seen.judge(&model)?;
            drive(&mut model, &mut seen, moment.lives)?;
        }
        judge_whole(&model)?;
        ends_visibly(&mut model, &mut seen)?;
        judge_whole(&model)?;
    }

    #[test]
    fn s2_nothing_is_ordered_whose_blob_was_not_on_main_while_its_offer_was_open(
        moments in proptest::collection::vec(merging(), 10..60),
    ) {
        let mut model = Model::default();
        let mut seen = Seen::default();
        model.happen("push", &name("first"), 0);
        // What people approved, as seen from outside of every decision.
        let mut approved: BTreeSet<Oid> = BTreeSet::new();
        for moment in moments {
            let request = name(if moment.second { "second" } else { "first" });
            model.happen(moment.event, &request, moment.number);
            let on_offer = model.facts.values().flat_map(|facts| {
                let now = model.world.now;
                facts.offers.iter().filter(move |offer| {
                    facts.plan_on_main.as_ref() == Some(&offer.plan_oid)
                        && offer.is_open()
                        && now <= offer.plan.metadata.expires
                })
            });
            approved.extend(on_offer.map(|offer| offer.plan_oid.clone()));
            drive(&mut model, &mut seen, moment.lives)?;
            for facts in model.facts.values() {
                let Some(run) = &facts.run else { continue };
                prop_assert!(approved.contains(&run.plan_oid), "a run of what nobody merged: {:?}", run.plan_oid);
            }
            let runs: BTreeSet<&RunId> = model.history.iter().map(|(run, ..)| run).collect();
            prop_assert!(runs.len() <= approved.len(), "more runs than merges");
        }
    }
}
