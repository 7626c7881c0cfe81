use chiffon_planner::{About, Answer, Question, plan_from_steps};
use chiffon_schemas::{Host, Json, PlannedBy, PlannerKind, Request, Step};
use proptest::prelude::*;

use crate::golden::homelab;
use crate::{SHOP, answer, ask, read};

fn steps(answer: Answer) -> Vec<Step> {
    match answer {
        Answer::Plan(planned) => planned.plan.spec.steps,
        other => panic!("{other:?}"),
    }
}

fn questions(answer: Answer) -> Vec<Question> {
    match answer {
        Answer::Questions(questions) => questions,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_repository_of_another_kind_is_planned_with_as_well() {
    let shop = read(SHOP);
    let found = steps(ask(&shop, "install nginx on alpha on port 8081 with 8 workers"));
    assert_eq!(found[0].playbook.as_str(), "playbooks/nginx.yml");
    assert_eq!(found[0].limit, [Host::parse("alpha").unwrap()]);
    assert_eq!(found[0].vars["nginx_port"], 8081);
    assert_eq!(found[0].vars["nginx_workers"], 8);
    assert_eq!(steps(ask(&shop, "restart postgres"))[0].playbook.as_str(), "playbooks/postgres-restart.yml");
    assert!(matches!(ask(&shop, "restart nginx"), Answer::Nothing { .. }));
}

#[test]
fn questions_are_answered_by_their_ids_and_other_answers_are_refused() {
    let catalogue = homelab();
    let asked = questions(ask(&catalogue, "restore web01 with restic"));
    assert_eq!((asked[0].id.as_str(), asked[0].about), ("var-restic-snapshot", About::Variable));
    let mut request = Request::from_text("restore web01 with restic");
    request.spec.answers.insert("var-restic-snapshot".to_owned(), "latest".to_owned());
    assert_eq!(steps(answer(&catalogue, &request))[0].vars["restic_snapshot"], "latest");
    request.spec.answers.insert("var-restic-snapshots".to_owned(), "x".to_owned());
    let Answer::Invalid(problems) = answer(&catalogue, &request) else { panic!() };
    assert!(problems[0].to_string().contains("did you mean `var-restic-snapshot`"), "{}", problems[0]);

    let asked = questions(ask(&catalogue, "update the dashboard"));
    let mut request = Request::from_text("update the dashboard");
    request.spec.answers.insert(asked[0].id.clone(), "playbooks/grafana-dashboards-update.yml".to_owned());
    assert_eq!(steps(answer(&catalogue, &request))[0].playbook.as_str(), "playbooks/grafana-dashboards-update.yml");
    request.spec.answers.insert(asked[0].id.clone(), "playbooks/kuma-remove.yml".to_owned());
    assert!(matches!(answer(&catalogue, &request), Answer::Invalid(_)));

    let asked = questions(ask(&catalogue, "deploy the node exporter on nas1"));
    let mut request = Request::from_text("deploy the node exporter on nas1");
    request.spec.answers.insert(asked[0].id.clone(), "nas01".to_owned());
    assert_eq!(steps(answer(&catalogue, &request))[0].limit, [Host::parse("nas01").unwrap()]);
}

#[test]
fn later_sentences_amend_earlier_ones() {
    let catalogue = homelab();
    let mut request = Request::from_text("deploy pihole");
    request.spec.changes =
        vec!["only on pi02".to_owned(), "use port 8099".to_owned(), "also deploy grafana".to_owned()];
    let found = steps(answer(&catalogue, &request));
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].limit, [Host::parse("pi02").unwrap()]);
    assert_eq!(found[0].vars["pihole_port"], 8099);
    assert_eq!(found[1].playbook.as_str(), "playbooks/grafana-deployment.yml");
}

#[test]
fn n1_variables_of_the_request_must_be_declared_typed_and_plain() {
    let catalogue = homelab();
    for (name, value) in [
        ("grafana_colour", Json::from("x")),
        ("grafana_port", Json::from("{{ 1 }}")),
        ("grafana_port", Json::from("text")),
        ("ansible_connection", Json::from("ssh")),
        ("kuma_port", Json::from(3)),
        ("grafana_theme", Json::from("blue")),
    ] {
        let mut request = Request::from_text("deploy grafana");
        request.spec.vars.insert(name.to_owned(), value.clone());
        assert!(matches!(answer(&catalogue, &request), Answer::Invalid(_)), "{name}={value}");
    }
}

#[test]
fn a_port_that_the_sentence_chooses_is_the_one_that_is_touched() {
    let Answer::Plan(planned) = ask(&homelab(), "deploy uptime kuma on port 3005") else { panic!() };
    assert_eq!(planned.plan.spec.touches.ports, ["nas01:3005/tcp"]);
}

#[test]
fn time_limits_are_only_ever_shortened() {
    let catalogue = homelab();
    for (asked, expected) in [(None, 900), (Some(60), 60), (Some(86_400), 900)] {
        let mut request = Request::from_text("deploy grafana");
        request.spec.timeout_secs = asked;
        assert_eq!(steps(answer(&catalogue, &request))[0].timeout_secs, expected);
    }
}

#[test]
fn the_service_field_settles_what_words_leave_open() {
    let catalogue = homelab();
    let mut request = Request::from_text("make a backup");
    request.spec.service = Some("gitea".to_owned());
    assert_eq!(steps(answer(&catalogue, &request))[0].playbook.as_str(), "playbooks/gitea-backup.yml");
    request.spec.service = Some("giteaa".to_owned());
    let Answer::Invalid(problems) = answer(&catalogue, &request) else { panic!() };
    assert!(problems[0].to_string().contains("`gitea`"), "{}", problems[0]);
}

#[test]
fn steps_that_a_person_wrote_keep_and_everything_else_is_worked_out_again() {
    let catalogue = homelab();
    let request = Request::from_text("deploy grafana");
    let Answer::Plan(planned) = answer(&catalogue, &request) else { panic!() };
    let name = planned.plan.metadata.name.clone();
    let input = chiffon_planner::Input {
        name: &name,
        request: &request,
        request_ref: planned.plan.metadata.request.clone(),
        revision: 2,
        catalogue: &catalogue,
        offer_days: 14,
        max_timeout_secs: 3_600,
        now: chiffon_schemas::Timestamp::from_secs(0),
        tools: planned.plan.spec.tools.clone(),
    };
    let mut edited = planned.plan.spec.steps.clone();
    edited[0].timeout_secs = 77;
    let by = || PlannedBy { kind: PlannerKind::Person, reason: "edited".to_owned(), cost_microusd: 0, undoes: None };
    let again = plan_from_steps(&input, edited.clone(), by(), None).unwrap();
    let named = plan_from_steps(&input, edited.clone(), by(), Some("In my words".to_owned())).unwrap();
    assert_eq!(named.plan.spec.summary, "In my words");
    assert_eq!(again.plan.spec.steps, edited);
    assert_eq!(again.plan.spec.planner.kind, PlannerKind::Person);
    assert_eq!(again.plan.spec.reads, planned.plan.spec.reads);
    edited[0].playbook = crate::path("playbooks/nowhere.yml");
    assert!(plan_from_steps(&input, edited, by(), None).unwrap_err().contains("not in the catalogue"));
}

/// Every atom of a plan is in the catalogue (A1): whatever the sentence.
fn check(answer: &Answer, catalogue: &chiffon_core::catalogue::Catalogue) {
    let Answer::Plan(planned) = answer else { return };
    for step in &planned.plan.spec.steps {
        let entry = catalogue.entry(&step.playbook).unwrap();
        assert!(entry.unreadable.is_none());
        assert!(!step.limit.is_empty() && step.limit.iter().all(|host| entry.hosts().contains(host)));
        for (name, value) in &step.vars {
            assert!(entry.variables[name].kind.accepts(value), "{name}={value}");
            assert!(chiffon_core::refused_name(name).is_none() && chiffon_core::refused_value(value).is_none());
        }
        for (name, variable) in &entry.variables {
            assert!(!variable.required || step.vars.contains_key(name));
        }
    }
}

const WORDS: &[&str] = &[
    "deploy",
    "remove",
    "update",
    "kuma",
    "uptime",
    "grafana",
    "on",
    "nas01",
    "web01",
    "and",
    "then",
    ",",
    "port",
    "3000",
    "theme",
    "light",
    "with",
    "=",
    "existing",
    "portals",
    "the",
    "all",
    "not",
    "one of",
    "raspberries",
    "restore",
    "latest",
    "snapshot",
    "pihole",
    "block",
    "domain",
    "a.b",
    "x:1",
    "\"q w\"",
    "config",
    "{{ x }}",
    "homelab",
    "backup",
    "gitea",
    "to",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a1_any_text_gives_a_plan_of_the_catalogue_or_none(text in "\\PC{0,120}") {
        let catalogue = read(SHOP);
        check(&ask(&catalogue, &text), &catalogue);
    }

    #[test]
    fn a1_any_words_give_a_plan_of_the_catalogue_or_none(words in prop::collection::vec(prop::sample::select(WORDS), 1..14)) {
        thread_local! { static CATALOGUE: chiffon_core::catalogue::Catalogue = homelab(); }
        CATALOGUE.with(|catalogue| check(&ask(catalogue, &words.join(" ")), catalogue));
    }
}
