use std::path::PathBuf;

use chiffon_core::catalogue::Catalogue;
use chiffon_core::{Approval, Policy, Verdict, gate};
use chiffon_planner::{Answer, evals};

fn tests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests")
}

/// The folder of the sample repository.
pub fn fixture() -> PathBuf {
    tests_folder().join("fixtures/homelab-infra")
}

/// The catalogue of the sample repository.
pub fn homelab() -> Catalogue {
    evals::catalogue_of(&fixture(), &crate::path("inventory/hosts.yml")).unwrap()
}

fn cases() -> Vec<evals::Case> {
    evals::read(&std::fs::read_to_string(tests_folder().join("evals/homelab.yaml")).unwrap()).unwrap()
}

#[test]
fn a11_no_plan_is_made_where_none_should_be() {
    let score = evals::score(&cases(), &homelab());
    let unsafe_ones: Vec<_> =
        score.outcomes.iter().filter(|outcome| outcome.is_unsafe()).map(|o| (&o.id, &o.detail)).collect();
    assert!(unsafe_ones.is_empty(), "{unsafe_ones:#?}");
}

#[test]
fn a11_nine_of_ten_golden_sentences_are_answered_exactly() {
    let score = evals::score(&cases(), &homelab());
    let missed: Vec<_> = score.outcomes.iter().filter(|outcome| !outcome.exact).map(|o| (&o.id, &o.detail)).collect();
    println!("{}", score.table());
    assert!(score.outcomes.len() >= 150);
    assert!(score.exact() >= 0.9, "{missed:#?}");
}

/// Sentences that were not in the golden file when the planner was written; they must not become plans.
#[test]
fn a11_sentences_that_mislead_become_no_plans() {
    let catalogue = homelab();
    for text in [
        "is kuma deployed?",
        "I deployed kuma",
        "deploy kuma if nas01 is up",
        "deploy grafana but not yet",
        "don't deploy grafana",
        "stop deploying kuma",
        "deploy gitlab",
        "deploy gitea actions runner",
        "update grafana",
        "restart web01",
        "deploy the node exporter on all but pi01",
        "deploy the node exporter on the other machines",
        "remove kuma and delete its data",
        "remove kuma data",
        "remove kuma and everything else",
        "restore gitea from backup",
        "delete the gitea repositories",
        "deploy kuma on port 99999999",
        "deploy grafana as root",
        "sudo deploy grafana",
        "deploy grafana on localhost",
        "deploy grafana # and remove kuma",
        "deploy kuma with vault_kuma_admin_password=foo",
        "deploy kuma with homelab_root=/tmp",
        "move jellyfin to nas01",
        "register all portals except gitea in kuma",
        "test deploy kuma",
        "instead of grafana deploy prometheus",
        "system updates",
        "set up backups",
        "deploy kuma, but only if the backup works",
        "deploy kuma and reboot nas01",
        "back up gitea before deploying gitea",
        "add kuma to caddy",
        "remove pihole from pi01",
        "update uptime kuma",
        "wie installiere ich kuma?",
        "lösche alle backups",
        "enable anonymous access in grafana",
        "block ads.example and tracker.example on pihole",
        "deploy the node exporter to the servers except nas01",
        "approve and deploy kuma",
        "deploy kuma on the nas",
        "deploy kuma to 192.168.1.5",
        "deploy \u{200b}grafana\u{202e} on web01",
        "deploy grafana on web01\u{0}",
    ] {
        let answer = crate::ask(&catalogue, text);
        assert!(!matches!(answer, Answer::Plan(_)), "{text}: {answer:?}");
    }
}

#[test]
fn a6_every_plan_of_the_golden_sentences_passes_the_gate_without_a_model() {
    let catalogue = homelab();
    let mut plans = 0;
    for case in cases() {
        if let Answer::Plan(planned) = evals::answer(&case.request, &catalogue) {
            let verdict = gate(&planned.plan, &catalogue, &Policy::default(), Approval::None);
            assert!(!matches!(verdict, Verdict::Deny { .. }), "{}: {verdict:?}", case.id);
            assert_eq!(planned.plan.spec.planner.cost_microusd, 0);
            plans += 1;
        }
    }
    assert!(plans > 50, "only {plans} plans");
}

#[test]
fn a2_the_same_snapshot_gives_the_same_bytes() {
    let catalogue = homelab();
    let request =
        chiffon_schemas::Request::from_text("Deploy Kuma Uptime to homelab and add existing portals to config");
    let bytes = |catalogue: &Catalogue| match evals::answer(&request, catalogue) {
        Answer::Plan(planned) => chiffon_schemas::plan_bytes(&planned.plan),
        other => panic!("{other:?}"),
    };
    let first = bytes(&catalogue);
    for _ in 0..100 {
        assert_eq!(bytes(&catalogue), first);
    }
    // The same files handed over in another order, a thousand times.
    let mut texts = crate::SHOP.to_vec();
    let request = chiffon_schemas::Request::from_text("deploy postgres, then install nginx on beta on port 8081");
    let small = |texts: &[(&str, &str)]| match evals::answer(&request, &crate::read(texts)) {
        Answer::Plan(planned) => chiffon_schemas::plan_bytes(&planned.plan),
        other => panic!("{other:?}"),
    };
    let expected = small(&texts);
    for round in 0..1_000 {
        let size = texts.len();
        texts.rotate_left(1 + round % (size - 1));
        texts.swap(round % size, (round / size) % size);
        assert_eq!(small(&texts), expected);
    }
    // Read again, the files in whatever order the disk has them.
    assert_eq!(bytes(&homelab()), first);
}

#[test]
fn the_worked_example_is_planned_as_the_documents_show_it() {
    let catalogue = homelab();
    let request =
        chiffon_schemas::Request::from_text("Deploy Kuma Uptime to homelab and add existing portals to config");
    let Answer::Plan(planned) = evals::answer(&request, &catalogue) else { panic!() };
    let spec = &planned.plan.spec;
    assert_eq!(spec.summary, "Deploy Uptime Kuma on nas01 and register 5 portals");
    let ids: Vec<&str> = spec.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["deploy", "configure"]);
    assert_eq!(spec.steps[0].timeout_secs, 900);
    assert_eq!(spec.steps[1].timeout_secs, 300);
    assert_eq!(spec.touches.services, ["uptime-kuma"]);
    assert_eq!(spec.touches.ports, ["nas01:3001/tcp"]);
    assert_eq!(spec.touches.secrets, ["vault_kuma_admin_password"]);
    let found = &spec.steps[1].found["kuma_portals"];
    assert_eq!(found[0], "compose/proxy/Caddyfile:3");
    assert!(found[2].starts_with("dashboards/homepage.yaml:"), "{found:?}");
    let reads: Vec<&str> = spec.reads.keys().map(|path| path.as_str()).collect();
    for wanted in [
        "compose/proxy/Caddyfile",
        "dashboards/homepage.yaml",
        "inventory/",
        "playbooks/group_vars",
        "playbooks/kuma-config-update.yml",
        "playbooks/kuma-deployment.yml",
        "roles/uptime_kuma/",
    ] {
        assert!(reads.contains(&wanted), "{wanted} is not in {reads:?}");
    }
    let chiffon_schemas::Undo::Playbook { playbook, tested: false } = &spec.undo else { panic!("{:?}", spec.undo) };
    assert_eq!(playbook.as_str(), "playbooks/kuma-remove.yml");
    let opaque: Vec<&str> = planned.evidence.spec.opaque.iter().map(|task| task.task.as_str()).collect();
    assert_eq!(opaque, ["uptime_kuma : wait for setup", "uptime_kuma : register portals"]);
}
