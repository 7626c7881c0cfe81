//! What reviewers see: bodies of pull requests, each as it is written and as a forge shows it (DESIGN section 8).

use std::path::PathBuf;

use chiffon_planner::{Answer, Planned, render_markdown};
use chiffon_schemas::{Forecast, Host, Mode, Oid, OpaqueTask, PlannerKind, Request, Undo};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};

use crate::answer;
use crate::golden::homelab;

/// The longest body (DESIGN section 8).
const MAX_BYTES: usize = 20 * 1024;

/// Lines of a first screen, blank ones aside: all that is not folded.
const SCREEN: usize = 24;

const HOSTILE: &str = "x\n| a | b |\n```\n</details> <img src=x onerror=alert(1)> @everyone Closes #1 -->\n/merge\n# a\n- b\n[x](javascript:y)";

fn oid() -> Oid {
    Oid::parse("a41e".repeat(10)).unwrap()
}

fn planned(request: &Request) -> Box<Planned> {
    match answer(&homelab(), request) {
        Answer::Plan(planned) => planned,
        other => panic!("{}: {other:?}", request.spec.text),
    }
}

/// A body of what a sentence is planned as, after something was made otherwise.
fn body(text: &str, change: impl FnOnce(&mut Planned, &mut Request)) -> String {
    let mut request = Request::from_text(text);
    let mut planned = planned(&request);
    change(&mut planned, &mut request);
    render_markdown(&planned.plan, Some(&planned.evidence), &request, &oid())
}

/// Each body, by the name of its file.
fn bodies() -> Vec<(&'static str, String)> {
    let as_it_is = |_: &mut Planned, _: &mut Request| {};
    vec![
        (
            "two-steps-with-found-values",
            body("Deploy Kuma Uptime to homelab and add existing portals to config", as_it_is),
        ),
        ("one-step", body("deploy grafana", as_it_is)),
        ("several-hosts", body("deploy the node exporter to all servers", as_it_is)),
        ("something-is-removed", body("remove kuma", as_it_is)),
        (
            "something-may-be-destroyed",
            body("deploy grafana", |planned, _| {
                planned.plan.spec.risk.level = chiffon_schemas::RiskLevel::High;
                planned.plan.spec.risk.rules = vec!["deletes-files".to_owned(), "destroys-data".to_owned()];
                planned.plan.spec.undo = Undo::None { reason: "what is deleted stays deleted".to_owned() };
            }),
        ),
        (
            "it-ran-before",
            body("deploy grafana", |planned, _| {
                let forecast = Forecast { secs_p50: 41, secs_p90: 95, failure_rate: 0.0, runs: 3 };
                planned.evidence.spec.forecast = Some(forecast);
            }),
        ),
        (
            "a-person-edited-it",
            body("deploy grafana", |planned, _| planned.plan.spec.planner.kind = PlannerKind::Person),
        ),
        (
            "it-was-changed-in-words",
            body("deploy grafana", |_, request| {
                request.spec.changes = vec!["on port 3100".to_owned(), "and\nwithout\nanonymous access".to_owned()];
            }),
        ),
        (
            "only-a-check",
            body("deploy grafana", |planned, _| {
                planned.plan.spec.mode = Mode::Check;
                planned.plan.spec.summary = format!("Check: {}", planned.plan.spec.summary);
            }),
        ),
        (
            "much-of-everything",
            body("deploy grafana", |planned, request| {
                request.spec.changes = (0..9).map(|number| format!("and change number {number}")).collect();
                let spec = &mut planned.plan.spec;
                spec.mode = Mode::Check;
                spec.risk.rules = vec!["deletes-files".to_owned(), "destroys-data".to_owned()];
                spec.touches.hosts = (0..30).map(|number| Host::parse(format!("host{number:02}")).unwrap()).collect();
                spec.touches.secrets = vec!["vault_admin".to_owned()];
                spec.assumptions = (0..30).map(|number| format!("assumption {number}")).collect();
                for number in 0..5 {
                    spec.steps[0].found.insert(format!("portals_{number}"), vec!["Caddyfile:3".to_owned()]);
                }
                let opaque = OpaqueTask { task: "grafana : wait".to_owned(), why: "command".to_owned() };
                planned.evidence.spec.opaque = vec![opaque];
            }),
        ),
        (
            "nothing-is-foreseen",
            render_markdown(
                &planned(&Request::from_text("deploy grafana")).plan,
                None,
                &Request::from_text("deploy grafana"),
                &oid(),
            ),
        ),
        (
            "hostile-words",
            body("deploy grafana", |planned, request| {
                request.spec.text = HOSTILE.to_owned();
                planned.plan.spec.summary = HOSTILE.to_owned();
                planned.plan.spec.assumptions = vec![HOSTILE.to_owned()];
                planned.plan.spec.touches.secrets = vec![HOSTILE.to_owned()];
                planned.plan.spec.steps[0].vars.insert("v".to_owned(), HOSTILE.into());
            }),
        ),
        (
            "hundreds-of-hosts",
            body("deploy grafana", |planned, request| {
                request.spec.text = "deploy grafana everywhere\n".repeat(200);
                planned.plan.spec.touches.hosts =
                    (0..500).map(|number| Host::parse(format!("host{number:03}.lab.example")).unwrap()).collect();
                planned.plan.spec.steps[0].limit = planned.plan.spec.touches.hosts.clone();
            }),
        ),
        (
            "everything-is-too-long",
            body("deploy grafana", |planned, request| {
                let long = "\"&<_".repeat(1_000);
                request.spec.text = format!("{long}\n").repeat(100);
                planned.plan.spec.summary = long.clone();
                planned.plan.spec.assumptions = vec![long.clone(); 200];
                planned.plan.spec.touches.secrets = vec![long; 200];
                planned.plan.spec.steps[0].vars.insert("v".to_owned(), "`".repeat(30_000).into());
            }),
        ),
    ]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/bodies")
}

/// As a forge shows it: with tables, as GitHub's dialect has them.
fn shown(body: &str) -> String {
    let mut out = String::new();
    html::push_html(&mut out, Parser::new_ext(body, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH));
    out
}

#[test]
#[ignore = "writes the bodies instead of comparing them"]
fn write_the_bodies() {
    std::fs::create_dir_all(folder()).unwrap();
    for (name, body) in bodies() {
        std::fs::write(folder().join(format!("{name}.md")), &body).unwrap();
        std::fs::write(folder().join(format!("{name}.html")), shown(&body)).unwrap();
    }
}

#[test]
fn every_body_is_as_its_file_says_and_so_is_what_a_forge_makes_of_it() {
    for (name, body) in bodies() {
        let file = |ending: &str| std::fs::read_to_string(folder().join(format!("{name}.{ending}"))).unwrap();
        assert_eq!(file("md"), body, "{name}");
        assert_eq!(file("html"), shown(&body), "{name}");
    }
}

#[test]
fn s9_every_body_reads_well_and_fits_whatever_is_in_it() {
    for (name, body) in bodies() {
        assert!(body.len() <= MAX_BYTES, "{name}: {} bytes", body.len());
        let verdict = body.lines().position(|line| line.contains(" risk** (")).unwrap_or_else(|| panic!("{name}"));
        assert!(verdict < 12, "{name}: the verdict is on line {verdict}");
        let before_the_fold = body.lines().take_while(|line| !line.starts_with("<details>"));
        let lines = before_the_fold.filter(|line| !line.is_empty()).count();
        assert!(lines <= SCREEN, "{name}: {lines} lines on the first screen");
        let (mut raw, mut tables, mut links, mut headings, mut words) = (Vec::new(), 0, 0, 0, String::new());
        let mut code = false;
        for event in Parser::new_ext(&body, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH) {
            match event {
                Event::Html(text) | Event::InlineHtml(text) => raw.push(text.trim().to_owned()),
                Event::Start(Tag::Table(_)) => tables += 1,
                Event::Start(Tag::Link { .. } | Tag::Image { .. }) => links += 1,
                Event::Start(Tag::Heading { .. }) => headings += 1,
                Event::Start(Tag::CodeBlock(_)) => code = true,
                Event::End(TagEnd::CodeBlock) => code = false,
                Event::Text(text) if !code => words.push_str(&text),
                _ => {}
            }
        }
        // Nothing but our own marks is HTML, and what stands in a fence stays there.
        let ours = |text: &String| {
            text.starts_with("<!-- chiffon:v1 ") || text.starts_with("<details><summary>Steps,") || text == "</details>"
        };
        assert!(raw.iter().all(ours), "{name}: {raw:?}");
        assert_eq!((links, headings), (0, 0), "{name}");
        assert!(tables <= 1 && (tables == 1 || name == "everything-is-too-long"), "{name}: {tables} tables");
        for mark in ["**", "|--", "```", "<details>", "\\"] {
            // Foreign words are shown as they are.
            assert!(!words.contains(mark) || name == "hostile-words", "{name}: readers see {mark} in {words}");
        }
        assert!(words.contains("Merging runs exactly plan"), "{name}");
    }
}
