use std::collections::BTreeMap;
use std::process::Command;

use chiffon_tests::{Background, Bed, Merge, root};

/// One request each, merged one way each: each runs exactly once.
#[test]
fn s2_every_way_to_merge_approves_exactly_once() {
    let bed = Bed::new();
    let ways = [
        ("fast-forward", Merge::FastForward),
        ("merge", Merge::Commit),
        ("squash", Merge::Squash),
        ("rebase", Merge::Rebase),
    ];
    for (number, (name, how)) in ways.into_iter().enumerate() {
        bed.push_request(name, "Deploy the journal");
        bed.up_once().ends(0);
        assert_eq!(bed.state(name), "proposed", "{}", bed.status(name));
        assert_eq!(bed.infra.lines("journal").len(), number, "nothing runs before the merge");
        bed.approve(name, how);
        bed.up_once().ends(0);
        assert_eq!(bed.state(name), "succeeded", "{}", bed.status(name));
        bed.up_once().ends(0);
        assert_eq!(bed.infra.lines("journal").len(), number + 1, "{name} runs once");
    }
    let by = |name: &str| bed.status(name)["run"]["approval"]["by"].clone();
    assert_eq!(by("merge"), "Pat <pat@localhost>");
    assert!(by("fast-forward").is_null(), "after a fast-forward git does not say who pushed");
}

/// The sentence of the demo over the sample homelab: the exact files, and nothing more when it runs again.
#[test]
fn the_sentence_of_the_demo_makes_exactly_the_files_of_the_oracle() {
    let bed = Bed::homelab();
    let text = "Deploy Kuma Uptime to homelab and add existing portals to config";
    bed.ask_and_approve("uptime-kuma", text);
    bed.up_once().ends(0);
    assert_eq!(bed.state("uptime-kuma"), "succeeded", "{}", bed.status("uptime-kuma"));
    let oracle = root().join("tests/fixtures/homelab-infra.oracle/kuma-config-update.txt");
    let expected = std::fs::read_to_string(oracle).unwrap();
    assert_eq!(tree(&bed), expected);

    bed.ask_and_approve("again", text);
    bed.up_once().ends(0);
    assert_eq!(tree(&bed), expected);
    let changed: u64 = recap(&bed, "again").values().sum();
    assert_eq!(changed, 0, "the second run changes nothing");
    let everything = bed.bare_git(&["log", "-p", "--all"]);
    assert!(!everything.contains("kuma-s3cret"), "a vaulted value is in git");
}

/// The same with reconciler, two agents, broker and database as separate processes, one agent killed in mid-run.
#[test]
fn the_sentence_of_the_demo_survives_an_agent_that_is_killed() {
    let bed = Bed::homelab().on_postgres();
    bed.join_broker();
    bed.configure("  policy:\n    agent_silence_secs: 5\n");
    let mut up = bed.up();
    for agent in ["one", "two"] {
        bed.enrol(agent);
        bed.let_speak_often(agent);
    }
    let mut command = bed.agent_command("one", &["up"]);
    command.env("CHIFFON_CRASH_AT", "agent-process-started");
    let mut one = Background::start(command);
    one.wait_for("ready");
    bed.push_request("uptime-kuma", "Deploy Kuma Uptime to homelab and add existing portals to config");
    up.wait_for("uptime-kuma: proposed");
    bed.approve("uptime-kuma", Merge::Commit);
    assert_eq!(one.end(), -1, "it is killed when its playbook has begun");
    let two = bed.start_agent("two");
    up.wait_for("uptime-kuma: lost: the agent one vanished in mid-step");
    bed.chiffon(&["resolve", "uptime-kuma", "--retry"]).ends(0);
    up.wait_for("uptime-kuma: succeeded");
    let oracle = root().join("tests/fixtures/homelab-infra.oracle/kuma-config-update.txt");
    assert_eq!(tree(&bed), std::fs::read_to_string(oracle).unwrap());
    let page = bed.bare_git(&["show", "chiffon/audit:status/uptime-kuma.md"]);
    assert!(page.starts_with("# uptime-kuma: succeeded\n"), "{page}");
    assert_eq!(bed.count("attempt-lost"), 1, "and it is remembered: {:?}", bed.kinds());
    for program in [two, up] {
        program.signal("TERM");
        assert_eq!(program.end(), 0);
    }
}

fn tree(bed: &Bed) -> String {
    let script = root().join("tests/fixtures/tree.py");
    let output = Command::new("python3").arg(script).arg(bed.path().join("hosts")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Host and step → changed tasks.
fn recap(bed: &Bed, name: &str) -> BTreeMap<String, u64> {
    let status = bed.status(name);
    let attempts = status["run"]["attempts"].as_array().unwrap().clone();
    let mut changed = BTreeMap::new();
    for attempt in attempts {
        for (host, counts) in attempt["outcome"]["recap"].as_object().unwrap() {
            changed.insert(format!("{host}/{}", attempt["step"]), counts["changed"].as_u64().unwrap());
        }
    }
    changed
}

#[test]
fn the_record_in_git_answers_without_chiffon() {
    let bed = Bed::new();
    bed.ask_and_approve("journal", "Deploy the journal");
    bed.up_once().ends(0);
    let page = bed.bare_git(&["show", "chiffon/audit:status/journal.md"]);
    assert!(page.starts_with("# journal: succeeded\n"), "{page}");
    let found = bed.bare_git(&["log", "--format=%s", "--grep=^Chiffon-Host: alpha$", "chiffon/audit"]);
    assert!(found.lines().any(|line| line.starts_with("journal: succeeded on alpha in ")), "{found}");
    let files = bed.bare_git(&["ls-tree", "-r", "--name-only", "chiffon/audit"]);
    let results: Vec<&str> = files.lines().filter(|path| path.ends_with("/result-1.yaml")).collect();
    assert_eq!(results.len(), 1, "{files}");
    assert!(!files.lines().any(|path| path.starts_with("offers/")), "no offer is open: {files}");
    let kinds = bed.kinds();
    assert_eq!(kinds, ["plan-offered", "plan-approved", "attempt-granted", "run-succeeded"]);
    let result = bed.bare_git(&["show", &format!("chiffon/audit:{}", results[0])]);
    for part in ["state: succeeded", "playbook: playbooks/journal-deployment.yml", "established: claimed", "sha256: "] {
        assert!(result.contains(part), "{part}: {result}");
    }
}

#[test]
fn r10_our_own_commits_make_no_requests() {
    let bed = Bed::new();
    bed.ask_and_approve("journal", "Deploy the journal");
    bed.up_once().ends(0);
    let before = bed.chiffon(&["status", "--all", "--json"]).json()["requests"].as_array().unwrap().len();
    // A person's request counts whatever name its author goes by.
    bed.write("requests/by-chiffon.yaml", "apiVersion: chiffon/v1\nkind: Request\nspec: {text: Deploy the gazette}\n");
    bed.git(&["add", "--all"]);
    bed.git(&[
        "-c",
        "user.name=Chiffon",
        "commit",
        "--quiet",
        "--author=Chiffon <chiffon@localhost>",
        "--message",
        "x",
    ]);
    bed.git(&["push", "--quiet", "origin", "HEAD:main"]);
    for _ in 0..3 {
        bed.up_once().ends(0);
    }
    let after = bed.chiffon(&["status", "--all", "--json"]).json()["requests"].as_array().unwrap().len();
    assert_eq!(after, before + 1);
    assert_eq!(bed.state("by-chiffon"), "proposed");
}

#[test]
fn a_person_needs_only_the_command() {
    let bed = Bed::new();
    let mut up = bed.up();
    bed.chiffon(&["request", "Deploy the journal", "--name", "journal", "--wait"]).ends(0);
    let shown = bed.chiffon(&["plan", "journal"]).ends(0).out;
    assert!(shown.contains("> Deploy the journal"), "{shown}");
    bed.chiffon(&["approve", "journal"]).ends(0);
    let log = bed.chiffon(&["log", "journal", "--follow"]).ends(0).out;
    assert!(log.contains("PLAY RECAP"), "{log}");
    up.wait_for("journal: succeeded");
    let audit = bed.chiffon(&["audit", "--status", "succeeded", "--since", "1d", "--json"]).ends(0).json();
    assert_eq!(audit["events"].as_array().unwrap().len(), 1);
    bed.git(&["fetch", "--quiet"]);
    assert_eq!(
        bed.git(&["log", "-1", "--format=%an %P", "origin/main"]).split(' ').count(),
        3,
        "a merge, by the person"
    );
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}
