//! The keys of `--json`: compared with `keys.txt`, so that none is renamed or removed without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use chiffon_tests::{Bed, Merge, Said};
use serde_json::Value;

/// Maps whose keys are data: a file's path, a variable, a question's id.
const DATA: [&str; 4] = ["reads", "vars", "found", "answers"];
/// A map whose keys are hosts.
const HOSTS: &str = "recap";

/// Command → the paths of all keys that its output ever had.
#[derive(Debug, Default)]
struct Keys(BTreeMap<&'static str, BTreeSet<String>>);

impl Keys {
    /// Takes one value in.
    fn add(&mut self, command: &'static str, value: &Value) {
        paths(value, "", self.0.entry(command).or_default());
    }

    /// Runs `chiffon --json …` and takes its stdout in.
    #[track_caller]
    fn run(&mut self, command: &'static str, bed: &Bed, arguments: &[&str], status: i32) -> Value {
        let said = bed.chiffon(&[&["--json"], arguments].concat()).ends(status);
        assert_eq!(said.err, "", "progress has no place beside JSON");
        let value = said.json();
        self.add(command, &value);
        value
    }

    /// Runs a command that writes one object a line.
    #[track_caller]
    fn lines(&mut self, command: &'static str, bed: &Bed, arguments: &[&str], status: i32) {
        let said = bed.chiffon(&[&["--json"], arguments].concat()).ends(status);
        assert!(!said.out.is_empty(), "{}", said.err);
        for line in said.out.lines() {
            self.add(command, &serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (command, keys) in &self.0 {
            text.push_str(&format!("{command}\n"));
            for key in keys {
                text.push_str(&format!("  {key}\n"));
            }
        }
        text
    }
}

/// `spec.steps[].id` for every key that there is.
fn paths(value: &Value, before: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            let last = before.rsplit('.').next().unwrap_or_default();
            if DATA.contains(&last) {
                return;
            }
            for (key, value) in map {
                let key = if last == HOSTS { "*" } else { key };
                let path = if before.is_empty() { key.to_owned() } else { format!("{before}.{key}") };
                found.insert(path.clone());
                paths(value, &path, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| paths(value, &format!("{before}[]"), found)),
        _ => {}
    }
}

/// Offers, questions, refusals: what has not run.
fn before_runs(keys: &mut Keys, bed: &Bed) {
    let said: Said = bed.command(&["init", "other", "--infra", "infra", "--json"]).output().unwrap().into();
    keys.add("init", &said.ends(0).json());
    keys.run("request", bed, &["request", "Deploy the journal", "--name", "journal", "--target", "alpha"], 0);
    bed.git(&["pull", "--quiet", "origin", "main"]);
    bed.push_request("vague", "Deploy the journal or the gazette");
    bed.push_request("weather", "What will the weather be like tomorrow?");
    keys.lines("up --once", bed, &["up", "--once"], 3);
    keys.run("status", bed, &["status"], 0);
    keys.run("status NAME", bed, &["status", "journal"], 0);
    keys.run("status NAME", bed, &["status", "weather"], 3);
    keys.run("plan", bed, &["plan", "journal"], 0);
    keys.run("reject", bed, &["reject", "journal", "--reason", "no"], 0);
    bed.up_once().ends(3);
    keys.run("plan --again", bed, &["plan", "journal", "--again"], 0);
    bed.up_once().ends(3);
    keys.run("pause", bed, &["pause", "journal", "--reason", "x", "--until", "12h"], 0);
    keys.run("resume", bed, &["resume", "journal"], 0);
    bed.up_once().ends(3);
    keys.run("approve", bed, &["approve", "journal"], 0);
    fs::write(bed.path().join("wrong.yaml"), "kind: Request\nspec:\n  txt: x\n").unwrap();
    keys.run("validate", bed, &["validate", "wrong.yaml"], 3);
    let config = bed.home().join("chiffon.yaml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("ansible-playbook", "ansible-nowhere")).unwrap();
    keys.run("doctor", bed, &["doctor"], 3);
    fs::write(&config, text).unwrap();
}

/// Runs that end well, that fail, and that are lost.
fn runs(keys: &mut Keys, bed: &Bed) {
    keys.lines("up --once", bed, &["up", "--once"], 3);
    keys.run("status NAME", bed, &["status", "journal"], 0);
    keys.lines("log", bed, &["log", "journal"], 0);
    bed.git(&["pull", "--quiet", "--no-edit", "origin", "main"]);
    bed.ask_and_approve("faulty", "Deploy the faulty one");
    bed.up_once().ends(3);
    keys.run("status NAME", bed, &["status", "faulty"], 3);
    keys.run("retry", bed, &["retry", "faulty"], 0);
    bed.up_once().ends(3);

    bed.push_request("slow", "Deploy the slow one");
    bed.up_once().ends(3);
    let mut up = bed.up();
    bed.approve("slow", Merge::Commit);
    up.wait_for("slow: running");
    up.wait_for("  alpha: begin");
    up.signal("KILL");
    assert_eq!(up.end(), -1);
    fs::write(bed.infra.effects.join("gate"), "").unwrap();
    bed.up_once().ends(3);
    keys.run("status NAME", bed, &["status", "slow"], 3);
    let near = bed.chiffon(&["unlock", "alpah"]).ends(1);
    assert!(near.err.contains("host `alpah` is not locked: did you mean `alpha`?"), "{}", near.err);
    keys.run("unlock", bed, &["unlock", "alpha"], 0);
    keys.run("resolve", bed, &["resolve", "slow", "--failed"], 0);
    keys.run("cancel", bed, &["cancel", "slow"], 0);
    let up = bed.up();
    keys.run("cancel", bed, &["cancel", "slow"], 1);
    up.signal("TERM");
    up.end();
    keys.run("audit", bed, &["audit"], 0);
    keys.run("parked", bed, &["parked"], 0);
}

/// What only the homelab has: questions, and a plan with everything in it.
fn questions(keys: &mut Keys) {
    let bed = Bed::homelab();
    bed.push_request("monitoring", "deploy monitoring");
    bed.up_once().ends(3);
    keys.run("status NAME", &bed, &["status", "monitoring"], 3);
    let asked = keys.run("answer", &bed, &["answer", "monitoring"], 3);
    let answer = format!("{}=playbooks/grafana-deployment.yml", asked["questions"][0]["id"].as_str().unwrap());
    keys.run("answer", &bed, &["answer", "monitoring", &answer], 0);
    bed.git(&["pull", "--quiet", "origin", "main"]);
    bed.push_request("kuma", "Deploy Kuma Uptime to homelab and add existing portals to config");
    bed.up_once().ends(0);
    keys.run("plan", &bed, &["plan", "kuma"], 0);
}

/// A broker, and the places of agents on it.
fn agents(keys: &mut Keys) {
    let bed = Bed::new();
    let broker = bed.join_broker();
    keys.run("broker setup", &bed, &["broker", "setup"], 0);
    keys.run("agent invite", &bed, &["agent", "invite", "nas01"], 0);
    keys.run("agent rotate", &bed, &["agent", "rotate", "nas01"], 0);
    keys.run("agent list", &bed, &["agent", "list"], 0);
    keys.run("agent revoke", &bed, &["agent", "revoke", "nas01"], 0);
    let mut up = bed.up();
    bed.wait_until("the bus works", || bed.page("/readyz").is_some_and(|page| page.starts_with("HTTP/1.1 200 ")));
    broker.say_nonsense("nas01");
    up.wait_for("error: a message of the bus was put aside (nas01): ");
    assert!(up.seen().last().unwrap().ends_with("; `chiffon parked` shows them all"), "{:?}", up.seen());
    let invited = bed.chiffon(&["agent", "invite", "nas02", "--json"]).ends(0).json();
    let (url, token) = (invited["url"].as_str().unwrap(), invited["token"].as_str().unwrap());
    let (requests, infra) = (bed.requests(), &bed.infra.folder);
    let mut enrol = vec!["--json", "enrol", url, token, "--requests", requests.to_str().unwrap()];
    enrol.extend(["--infra", infra.to_str().unwrap(), "--ansible-playbook", "/nowhere/ansible-playbook"]);
    keys.add("chiffon-agent enrol", &bed.agent("nas02", &enrol).ends(0).json());
    keys.add("chiffon-agent doctor", &bed.agent("nas02", &["--json", "doctor"]).ends(3).json());
    up.signal("TERM");
    up.end();
    keys.run("parked", &bed, &["parked"], 3);
}

/// What a person with access to the machine can bring to main past the hooks.
fn refused(keys: &mut Keys) {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.remove_hooks();
    bed.merge("journal", Merge::Commit);
    let plan = bed.read("plans/journal.yaml");
    bed.write("plans/journal.yaml", &plan.replace("timeout_secs: ", "timeout_secs: 1"));
    bed.write("requests/Not A Name.yaml", &bed.read("requests/journal.yaml"));
    bed.push("an edited merge");
    keys.lines("up --once", &bed, &["up", "--once"], 3);
    keys.run("status", &bed, &["status"], 0);
    keys.run("status NAME", &bed, &["status", "journal"], 0);
}

#[test]
fn every_command_has_json_with_stable_keys() {
    let mut keys = Keys::default();
    let bed = Bed::new();
    before_runs(&mut keys, &bed);
    runs(&mut keys, &bed);
    questions(&mut keys);
    refused(&mut keys);
    agents(&mut keys);
    let found = keys.text();
    let golden = include_str!("keys.txt");
    if found != golden {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("keys.txt");
        fs::write(&path, &found).unwrap();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (found, golden) = (lines(&found), lines(golden));
        let new: Vec<&String> = found.iter().filter(|line| !golden.contains(line)).collect();
        let gone: Vec<&String> = golden.iter().filter(|line| !found.contains(line)).collect();
        panic!("keys.txt differs; what was found is in {}\nnew: {new:#?}\ngone: {gone:#?}", path.display());
    }
}

#[test]
fn errors_under_json_are_json() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    let commands: [&[&str]; 18] = [
        &["init", "home", "--infra", "infra"],
        &["request", "Deploy it", "--name", "journal"],
        &["status", "x"],
        &["plan", "x"],
        &["approve", "x"],
        &["reject", "x", "--reason", "y"],
        &["answer", "journal"],
        &["log", "journal"],
        &["cancel", "x"],
        &["retry", "x"],
        &["pause", "journal", "--reason", "y", "--until", "z"],
        &["resume", "x"],
        &["unlock", "x"],
        &["resolve", "x", "--failed"],
        &["validate", "x.yaml"],
        &["audit", "--status", "x"],
        &["audit", "--since", "x"],
        &["audit", "--host", "a b"],
    ];
    for arguments in commands {
        let said = bed.chiffon(&[&["--json"], arguments].concat()).ends(1);
        assert_eq!(said.out, "", "{arguments:?}");
        let error: Value = serde_json::from_str(&said.err).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["causes", "error"], "{arguments:?}");
        assert!(!error["error"].as_str().unwrap().is_empty());
    }
}

#[test]
fn an_up_that_can_not_start_says_so_in_json() {
    let bed = Bed::new();
    fs::write(bed.home().join("chiffon.yaml"), "kind: Konfig\n").unwrap();
    let said = bed.chiffon(&["--json", "up", "--once"]).ends(1);
    let error: Value = serde_json::from_str(&said.err).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert!(error["error"].as_str().unwrap().contains("chiffon.yaml"), "{error}");
}

#[test]
fn an_up_that_fails_says_so_in_json() {
    let bed = Bed::new();
    fs::write(bed.requests().join("refs/heads/main"), "no object\n").unwrap();
    assert!(bed.up_once().ends(1).err.starts_with("error: "));
    let said = bed.chiffon(&["--json", "up", "--once"]).ends(1);
    let error: Value = serde_json::from_str(&said.err).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert!(!error["error"].as_str().unwrap().is_empty(), "{error}");
}

#[test]
fn wrong_usage_under_json_is_json() {
    let bed = Bed::new();
    let said = bed.chiffon(&["--json", "status", "--nonsense"]).ends(2);
    let error: Value = serde_json::from_str(&said.err).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert!(error["error"].as_str().unwrap().contains("--nonsense"), "{error}");
}
