use chiffon_planner::{Answer, render_markdown};
use chiffon_schemas::{Oid, Request};

use crate::golden::homelab;
use crate::{answer, ask};

fn oid() -> Oid {
    Oid::parse("a41e".repeat(10)).unwrap()
}

#[test]
fn a_reader_sees_the_request_the_verdict_and_the_rest_in_order() {
    let request = Request::from_text("Deploy Kuma Uptime to homelab and add existing portals to config");
    let Answer::Plan(planned) = answer(&homelab(), &request) else { panic!() };
    let text = render_markdown(&planned.plan, Some(&planned.evidence), &request, &oid());
    let places: Vec<usize> = [
        "<!-- chiffon:v1 ",
        "> Deploy Kuma Uptime",
        " risk** (",
        "up to ",
        "| host |",
        "| nas01 |",
        "**Cannot be foreseen** (2)",
        "**Secrets used**: vault\\_kuma\\_admin\\_password",
        "Jellyfin, Gitea, Grafana, Home Assistant, Vaultwarden",
        "**Undo**: playbooks/kuma-remove.yml",
        "**Assumed**",
        "Merging runs exactly plan `a41ea41e`",
        "<details>",
    ]
    .iter()
    .map(|mark| text.find(mark).unwrap_or_else(|| panic!("{mark} is not in\n{text}")))
    .collect();
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}\n{text}");
    assert_eq!(text, render_markdown(&planned.plan, Some(&planned.evidence), &request, &oid()));
    assert!(text.len() <= 20 * 1024);
}

#[test]
fn s9_what_a_request_says_cannot_break_out_of_its_place() {
    let Answer::Plan(mut planned) = ask(&homelab(), "deploy grafana") else { panic!() };
    let hostile = "x\n| a | b |\n```\n</details> <img src=x onerror=alert(1)> @everyone Closes #1 -->\n/merge";
    planned.plan.spec.summary = hostile.to_owned();
    planned.plan.spec.assumptions = vec![hostile.to_owned()];
    planned.plan.spec.touches.secrets = vec![hostile.to_owned()];
    planned.plan.spec.steps[0].vars.insert("v".to_owned(), "```\n</details>".into());
    let request = Request::from_text(hostile);
    let text = render_markdown(&planned.plan, None, &request, &oid());
    let visible = text.split("<details>").next().unwrap();
    for mark in ["<img", "@everyone", "Closes #1", "</details>", "```", "\n/merge"] {
        assert!(!visible.contains(mark), "{mark} in\n{visible}");
    }
    assert_eq!(visible.matches("-->").count(), 1);
    let details = text.split("<details>").nth(1).unwrap();
    assert!(details.contains("````text"), "{details}");
}
