//! What the repository promises of itself: who may know whom, and documents that name what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use chiffon_tests::{chiffon, root};
use serde_json::Value;

/// DESIGN's table of who may know whom.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let all = [
        "chiffon-schemas",
        "chiffon-requests",
        "chiffon-core",
        "chiffon-store",
        "chiffon-forge",
        "chiffon-planner",
        "chiffon-link",
        "chiffon-runtime",
        "chiffon-infra",
        "chiffon-trace",
        "chiffon-web",
    ];
    BTreeMap::from([
        ("chiffon-schemas", vec![]),
        ("chiffon-requests", vec!["chiffon-schemas"]),
        ("chiffon-core", vec!["chiffon-schemas"]),
        ("chiffon-store", vec!["chiffon-core", "chiffon-schemas"]),
        ("chiffon-forge", vec!["chiffon-core", "chiffon-requests", "chiffon-schemas"]),
        ("chiffon-planner", vec!["chiffon-core", "chiffon-requests", "chiffon-schemas"]),
        ("chiffon-link", vec!["chiffon-schemas"]),
        ("chiffon-runtime", vec!["chiffon-link", "chiffon-requests", "chiffon-schemas"]),
        ("chiffon-trace", vec!["chiffon-schemas"]),
        ("chiffon-infra", vec!["chiffon-runtime", "chiffon-link", "chiffon-requests", "chiffon-schemas"]),
        ("chiffon-web", vec!["chiffon-core", "chiffon-schemas", "chiffon-store"]),
        (
            "chiffon-agent",
            vec![
                "chiffon-infra",
                "chiffon-link",
                "chiffon-requests",
                "chiffon-runtime",
                "chiffon-schemas",
                "chiffon-trace",
            ],
        ),
        ("chiffon", all.to_vec()),
        // The test forge hashes as git does; what it answers is judged by the port's conformance suite, a test.
        ("chiffon-tests", vec!["chiffon-schemas"]),
        ("chiffon-bench", vec!["chiffon-core", "chiffon-link", "chiffon-runtime", "chiffon-schemas", "chiffon-store"]),
    ])
}

#[test]
fn nobody_knows_more_than_the_design_allows() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed = allowed();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let may = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        seen.insert(name);
        for dependency in package["dependencies"].as_array().unwrap() {
            let other = dependency["name"].as_str().unwrap();
            let for_tests = dependency["kind"] == "dev";
            let ours = other == "chiffon" || other.starts_with("chiffon-");
            assert!(!ours || for_tests || may.contains(&other), "{name} knows {other}");
            assert!(other != "chiffon-tests", "{name} depends on tests/");
        }
    }
    assert_eq!(seen.len(), allowed.len(), "{seen:?}");
}

#[test]
fn core_stays_free_of_the_outside() {
    let text = std::fs::read_to_string(root().join("reconciler/core/Cargo.toml")).unwrap();
    for outside in ["tokio", "sqlx", "gix", "octocrab", "lapin", "axum", "notify", "rustix"] {
        assert!(!text.contains(outside), "core depends on {outside}");
    }
}

/// How the paths of this repository begin.
const FOLDERS: [&str; 9] =
    ["schemas/", "requests/", "reconciler/", "agents/", "hooks/", "tests/", "docs/", "deploy/", "migrations/"];

#[test]
fn every_path_that_a_document_names_is_there() {
    let mut documents = vec!["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/commands.md", "docs/asking.md"];
    documents.extend([
        "docs/agents.md",
        "docs/forges.md",
        "docs/operations.md",
        "docs/protocol.md",
        "deploy/README.md",
        "tests/bench/README.md",
    ]);
    for document in documents {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for word in text.split(['`', '(', ')', ' ', '\n']) {
            let is_path = FOLDERS.iter().any(|folder| word.starts_with(folder));
            let is_ours = is_path && !word.contains(['<', '*', '$', '…', '{']) && !word.ends_with(".git");
            let of_a_user = word.starts_with("requests/") && word.ends_with(".yaml");
            if is_ours && !of_a_user {
                let path = word.trim_end_matches(['.', ',', ':', ';']);
                assert!(root().join(path).exists(), "{document} names {path}");
            }
        }
    }
}

#[test]
fn an_agent_of_another_language_is_short() {
    let text = std::fs::read_to_string(root().join("tests/protocol/agent.py")).unwrap();
    assert!(text.lines().count() <= 150, "{} lines", text.lines().count());
}

#[test]
fn every_command_and_flag_that_a_document_names_is_there() {
    let help = |arguments: &[&str]| {
        let output = Command::new(chiffon()).args(arguments).arg("--help").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let commands = help(&[]);
    let documents =
        ["README.md", "docs/commands.md", "docs/asking.md", "docs/forges.md", "requests/template/README.md"];
    for document in documents {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for line in text.lines() {
            let Some((_, rest)) = line.split_once("chiffon ") else { continue };
            let mut words = rest.split([' ', '`', '|']).filter(|word| !word.is_empty());
            let Some(command) = words.next().filter(|word| word.chars().all(|c| c.is_ascii_lowercase())) else {
                continue;
            };
            let is_command = commands.lines().any(|line| line.trim_start().starts_with(&format!("{command} ")));
            // Prose: "Chiffon understands …" is no command.
            if !is_command {
                assert!(!line.contains(&format!("`chiffon {command}`")), "{document} names `chiffon {command}`");
                continue;
            }
            // One that is made of others has their flags.
            let own = help(&[command]);
            let below = words.clone().next().filter(|word| own.contains(&format!("\n  {word} ")));
            let flags = below.map_or(own, |below| help(&[command, below]));
            for flag in words.filter(|word| word.starts_with("--")) {
                let flag = flag.trim_end_matches([',', ';', '.', ':']);
                assert!(flags.contains(flag), "{document}: chiffon {command} has no {flag}");
            }
        }
    }
}
