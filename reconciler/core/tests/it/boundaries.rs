//! Moments at which an answer changes, to the second, and when to look again.

use chiffon_core::facts::RefusalReason;
use chiffon_core::{Action, Freshness, PlanningReason, State, ansible_core, retry_refused};
use chiffon_schemas::{BootId, RunState, Timestamp};

use crate::model::Model;
use crate::plans::name;

const KUMA: &str = "kuma";

/// A request whose offer is open.
fn offered() -> Model {
    let mut model = Model::default();
    model.happen("push", &name(KUMA), 0);
    model.settle(&name(KUMA));
    model
}

/// A request whose first step was granted.
fn granted() -> Model {
    let mut model = offered();
    for event in ["merge", "claim"] {
        model.happen(event, &name(KUMA), 0);
        model.settle(&name(KUMA));
    }
    model
}

fn expires(model: &Model) -> Timestamp {
    model.facts[&name(KUMA)].offers[0].plan.metadata.expires
}

fn actions(model: &Model) -> Vec<Action> {
    model.decision(&name(KUMA)).actions
}

#[test]
fn a_merge_in_the_last_second_approves_and_one_later_does_not() {
    let mut model = offered();
    model.happen("merge", &name(KUMA), 0);
    model.world.now = expires(&model);
    assert!(matches!(actions(&model)[..], [Action::Approve { .. }]));
    model.world.now = expires(&model).plus_secs(1);
    assert!(matches!(actions(&model)[0], Action::Refuse { reason: RefusalReason::Expired, .. }));
}

#[test]
fn an_open_offer_is_looked_at_again_when_it_has_expired() {
    let mut model = offered();
    let decision = model.decision(&name(KUMA));
    assert_eq!((decision.actions.len(), decision.look_again), (0, Some(expires(&model).plus_secs(1))));
    model.world.now = expires(&model);
    assert!(actions(&model).is_empty());
    model.world.now = expires(&model).plus_secs(1);
    assert!(matches!(actions(&model)[..], [Action::Close { .. }]));
}

#[test]
fn an_approved_run_may_begin_in_the_last_second() {
    let mut model = offered();
    model.happen("merge", &name(KUMA), 0);
    model.settle(&name(KUMA));
    model.world.now = expires(&model);
    model.heartbeat();
    model.happen("claim", &name(KUMA), 0);
    assert!(matches!(actions(&model)[..], [Action::Grant { .. }]));
    model.world.now = expires(&model).plus_secs(1);
    model.heartbeat();
    assert!(matches!(actions(&model)[..], [Action::Drop { .. }, Action::Void { reason: RefusalReason::Expired }]));
}

#[test]
fn r4_an_agent_is_silent_from_the_first_second_after_its_time() {
    let mut model = granted();
    let silence = i64::from(model.world.policy.agent_silence_secs);
    let heard = model.world.agents[&name("local")].heard;
    let decision = model.decision(&name(KUMA));
    assert_eq!(decision.look_again, Some(heard.plus_secs(silence + 1)));
    model.world.now = heard.plus_secs(silence);
    assert!(actions(&model).is_empty(), "{:?}", actions(&model));
    model.world.now = heard.plus_secs(silence + 1);
    assert!(matches!(actions(&model)[..], [Action::Lose { .. }]));
}

#[test]
fn a_pause_holds_until_its_second_and_no_longer() {
    let mut model = offered();
    model.happen("pause", &name(KUMA), 1);
    model.happen("merge", &name(KUMA), 0);
    model.settle(&name(KUMA));
    let until = model.facts[&name(KUMA)].pause.as_ref().unwrap().until;
    model.world.now = until.plus_secs(-1);
    model.heartbeat();
    assert!(matches!(model.state(&name(KUMA)), State::Paused(_)));
    assert_eq!(model.decision(&name(KUMA)).look_again, Some(until));
    model.world.now = until;
    model.heartbeat();
    assert_eq!(model.state(&name(KUMA)), State::Queued);
}

#[test]
fn a_retry_is_allowed_in_the_last_second_only_of_what_ended_badly() {
    let mut model = granted();
    model.happen("end-failed", &name(KUMA), 0);
    model.settle(&name(KUMA));
    let run = model.facts[&name(KUMA)].run.clone().unwrap();
    let mut world = model.world.clone();
    world.now = run.plan.metadata.expires;
    let facts = model.facts[&name(KUMA)].clone();
    let refused = |world: &_, freshness| retry_refused(&facts, &run, world, freshness);
    assert_eq!(refused(&world, Freshness::Fresh), None);
    assert!(refused(&world, Freshness::Stale).unwrap().contains("has changed"));
    assert!(refused(&world, Freshness::Unknown).unwrap().contains("can't be read"));
    world.now = run.plan.metadata.expires.plus_secs(1);
    assert!(refused(&world, Freshness::Fresh).unwrap().contains("expired"));
    for (state, word) in [(None, "not over"), (Some(RunState::Succeeded), "succeeded")] {
        let other = chiffon_core::facts::Run { state, ..run.clone() };
        assert!(retry_refused(&facts, &other, &model.world, Freshness::Fresh).unwrap().contains(word));
    }
}

#[test]
fn a_later_offer_that_was_closed_tells_more_than_the_run_before_it() {
    let mut model = granted();
    for event in ["end-ok", "claim", "end-ok", "replan", "reject"] {
        model.happen(event, &name(KUMA), 0);
        model.settle(&name(KUMA));
    }
    assert_eq!(model.state(&name(KUMA)), State::Rejected);
    model.happen("replan", &name(KUMA), 0);
    assert_eq!(model.state(&name(KUMA)), State::Planning(PlanningReason::ChangeAskedFor));
}

#[test]
fn what_somebody_should_look_at_is_told_from_what_goes_on_by_itself() {
    let attention = |state: &State| state.needs_attention();
    for state in [State::Failed, State::Lost, State::Refused(RefusalReason::NotOffered)] {
        assert!(attention(&state), "{state:?}");
    }
    for state in [State::Proposed, State::Queued, State::Running, State::Succeeded, State::Rejected, State::Cancelled] {
        assert!(!attention(&state), "{state:?}");
    }
}

#[test]
fn a_plan_is_made_for_what_an_agent_that_is_there_would_run() {
    let mut model = Model::default();
    model.world.agents.clear();
    assert_eq!(ansible_core(&model.world), None);
    model.lives(BootId::parse(format!("{:026}", 7)).unwrap());
    let silence = i64::from(model.world.policy.agent_silence_secs);
    let mut known = model.world.agents.values().next().unwrap().clone();
    for (agent, version) in [("a", "2.14.1"), ("b", "2.19.3"), ("c", "2.20.0")] {
        known.ansible_core = Some(version.to_owned());
        model.world.agents.insert(name(agent), known.clone());
    }
    assert_eq!(ansible_core(&model.world), Some("2.14.1"), "of equal ones the first by name, and none without one");
    model.world.now = model.world.now.plus_secs(silence + 1);
    assert_eq!(ansible_core(&model.world), Some("2.14.1"), "of silent ones too");
    model.world.agents.get_mut(&name("b")).unwrap().heard = model.world.now;
    assert_eq!(ansible_core(&model.world), Some("2.19.3"));
}
