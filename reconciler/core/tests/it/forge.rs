//! What a plan on `main` means where there is a forge.

use std::collections::BTreeSet;

use chiffon_core::facts::{ForgeFacts, Pull, PullState, RefusalReason};
use chiffon_core::{Action, State};
use chiffon_schemas::Oid;

use crate::model::Model;
use crate::plans::name;

const KUMA: &str = "kuma";

/// An open offer that its pull request shows.
fn proposed() -> Model {
    let mut model = Model::default();
    model.world.forge = Some(ForgeFacts { bot: Some("chiffon-bot".to_owned()), base: "main".to_owned() });
    model.happen("push", &name(KUMA), 0);
    model.settle(&name(KUMA));
    let plan = model.facts[&name(KUMA)].offers[0].plan_oid.clone();
    let pull = Pull {
        number: 4,
        url: "https://forge.example/ops/requests/pulls/4".to_owned(),
        plan,
        state: PullState::Open,
        base: "main".to_owned(),
        head: "chiffon/plan/kuma".to_owned(),
        head_commit: None,
        foreign: false,
        carried: true,
        approved_by: BTreeSet::new(),
        may_write: true,
        denied: 0,
        shown: None,
        heard: 0,
        answers: Vec::new(),
    };
    model.facts.get_mut(&name(KUMA)).unwrap().pull = Some(pull);
    model
}

/// As [`proposed`], with the plan on `main`.
fn on_main() -> Model {
    let mut model = proposed();
    model.happen("merge", &name(KUMA), 0);
    model
}

fn pull(model: &mut Model) -> &mut Pull {
    model.facts.get_mut(&name(KUMA)).unwrap().pull.as_mut().unwrap()
}

fn merged_by(login: &str) -> PullState {
    PullState::Merged { commit: Some(Oid::parse("c".repeat(40)).unwrap()), by: Some(login.to_owned()) }
}

fn actions(model: &Model) -> Vec<Action> {
    model.decision(&name(KUMA)).actions
}

fn refusal(model: &Model) -> (RefusalReason, String) {
    match &actions(model)[..] {
        [Action::Refuse { reason, why, .. }, Action::Close { .. }] => (*reason, why.clone().unwrap_or_default()),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn s2_a_plan_on_main_waits_for_the_forge_to_say_who_merged_it() {
    let mut model = on_main();
    assert_eq!(actions(&model), [Action::AskForge]);
    pull(&mut model).state = merged_by("ann");
    model.world.forge.as_mut().unwrap().bot = None;
    assert_eq!(actions(&model), [Action::AskForge], "nobody knows yet who must not");
    model.world.forge.as_mut().unwrap().bot = Some("chiffon-bot".to_owned());
    assert!(matches!(actions(&model)[..], [Action::Approve { .. }]));
}

#[test]
fn s2_what_was_pushed_past_its_pull_request_is_refused_once_the_forge_is_sure() {
    let mut model = on_main();
    pull(&mut model).denied = 7;
    assert_eq!(actions(&model), [Action::AskForge]);
    pull(&mut model).denied = 8;
    assert_eq!(refusal(&model).0, RefusalReason::NotThroughPull);
    model.settle(&name(KUMA));
    assert!(matches!(model.state(&name(KUMA)), State::Refused(RefusalReason::NotThroughPull)));
}

#[test]
fn s2_the_bot_and_strangers_approve_nothing_and_the_refusal_says_why() {
    let mut model = on_main();
    pull(&mut model).state = merged_by("chiffon-bot");
    let (reason, why) = refusal(&model);
    assert_eq!(reason, RefusalReason::NotAllowed);
    assert!(why.contains("Chiffon itself"), "{why}");
    pull(&mut model).state = merged_by("ann");
    pull(&mut model).may_write = false;
    assert!(refusal(&model).1.contains("no write access"));
    pull(&mut model).may_write = true;
    pull(&mut model).base = "staging".to_owned();
    assert!(refusal(&model).1.contains("merged into `staging`"));
}

#[test]
fn s2_the_pull_request_of_another_plan_vouches_for_nothing() {
    let mut model = on_main();
    pull(&mut model).state = merged_by("ann");
    pull(&mut model).plan = Oid::parse("d".repeat(40)).unwrap();
    assert_eq!(actions(&model), [Action::AskForge]);
}

#[test]
fn an_offer_is_proposed_until_an_open_pull_request_shows_it() {
    let mut model = proposed();
    model.facts.get_mut(&name(KUMA)).unwrap().pull = None;
    assert!(matches!(actions(&model)[..], [Action::Propose { .. }]));
    let mut model = proposed();
    pull(&mut model).plan = Oid::parse("d".repeat(40)).unwrap();
    for state in [PullState::Open, merged_by("ann")] {
        pull(&mut model).state = state;
        assert!(matches!(actions(&model)[..], [Action::Propose { .. }]), "that of an earlier offer");
    }
}

#[test]
fn closing_a_pull_request_rejects_what_it_showed_and_nothing_else() {
    let mut model = proposed();
    assert_eq!(actions(&model), []);
    pull(&mut model).state = PullState::Closed;
    assert!(matches!(actions(&model)[..], [Action::Close { .. }]));
    model.settle(&name(KUMA));
    assert!(matches!(model.state(&name(KUMA)), State::Rejected));
    let mut model = proposed();
    pull(&mut model).state = PullState::Closed;
    pull(&mut model).plan = Oid::parse("d".repeat(40)).unwrap();
    assert!(matches!(actions(&model)[..], [Action::Propose { .. }]), "it showed an earlier one");
}

/// Without its branch the forge would close a pull request, and with it what was said there.
#[test]
fn the_branch_of_an_open_pull_request_stays_while_another_plan_is_made() {
    let mut model = proposed();
    model.happen("edit", &name(KUMA), 0);
    model.happen("planner-asks", &name(KUMA), 0);
    let done = model.settle(&name(KUMA));
    assert!(matches!(done[..], [Action::Close { .. }, Action::Plan { .. }]), "{done:?}");
    assert!(matches!(model.state(&name(KUMA)), State::Blocked(_)));
    model.happen("planner-plans", &name(KUMA), 0);
    model.happen("edit", &name(KUMA), 0);
    let done = model.settle(&name(KUMA));
    assert!(matches!(done[..], [Action::Plan { .. }, Action::Show { .. }, ..]), "{done:?}");
    model.happen("delete", &name(KUMA), 0);
    let done = model.settle(&name(KUMA));
    assert!(matches!(done[..], [Action::Close { .. }, Action::RemoveBranch]), "{done:?}");
    // A closed one shows nothing any more.
    let mut model = proposed();
    pull(&mut model).state = PullState::Closed;
    pull(&mut model).plan = Oid::parse("d".repeat(40)).unwrap();
    model.happen("edit", &name(KUMA), 0);
    let done = model.settle(&name(KUMA));
    assert!(done.contains(&Action::RemoveBranch), "{done:?}");
}
