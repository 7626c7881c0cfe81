//! Agents in processes of their own, over a real broker.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use chiffon_tests::{Background, Bed, Merge};
use serde_json::{Value, json};

/// Puts other text into the home's configuration; what it was.
#[track_caller]
fn replace(bed: &Bed, old: &str, new: &str) -> String {
    let path = bed.home().join("chiffon.yaml");
    let before = fs::read_to_string(&path).unwrap();
    assert!(before.contains(old), "{before}");
    fs::write(path, before.replace(old, new)).unwrap();
    before
}

/// A port that nobody listens at.
fn closed() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn the_story_is_the_same_with_an_agent_on_a_broker() {
    let bed = Bed::new();
    bed.join_broker();
    let mut up = bed.up();
    bed.enrol("nas01");
    let agent = bed.start_agent("nas01");
    bed.push_request("faulty", "Deploy the faulty one");
    up.wait_for("faulty: proposed");
    bed.approve("faulty", Merge::Commit);
    up.wait_for("faulty: failed: beta: need a mended part");
    fs::write(bed.infra.effects.join("mended"), "").unwrap();
    bed.chiffon(&["retry", "faulty"]).ends(0);
    up.wait_for("faulty: succeeded");
    let mut lines = bed.infra.lines("faulty");
    lines.sort();
    assert_eq!(lines, ["alpha", "beta", "beta"], "alpha is not run again");
    let log = bed.chiffon(&["log", "faulty"]).ends(0).out;
    assert!(log.contains("PLAY RECAP"), "{log}");
    agent.signal("TERM");
    assert_eq!(agent.end(), 0);
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn the_endpoint_says_that_it_lives_and_refuses_what_is_no_enrolment() {
    let bed = Bed::new();
    bed.join_broker();
    let up = bed.up();
    let page = bed.page("/livez").unwrap();
    assert!(page.starts_with("HTTP/1.1 200 ") && page.ends_with(r#"{"alive":true}"#), "{page}");
    let long = format!(r#"{{"invitation": "{}"}}"#, "x".repeat(4096));
    for (body, status) in [("no JSON", 400), ("{}", 400), (&long, 400), (r#"{"invitation": "never-made"}"#, 404)] {
        let page = bed.post("/v1/enrolments", body).unwrap();
        assert!(page.starts_with(&format!("HTTP/1.1 {status} ")) && page.contains(r#"{"error":"#), "{body}: {page}");
    }
    let page = bed.page("/v1/enrolments").unwrap();
    assert!(page.starts_with("HTTP/1.1 405 "), "{page}");
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn a_token_is_good_until_its_enrolment_is_done() {
    let bed = Bed::new();
    bed.join_broker();
    let up = bed.up();
    let invited = bed.chiffon(&["agent", "invite", "nas01", "--json"]).ends(0).json();
    let (url, token) = (invited["url"].as_str().unwrap(), invited["token"].as_str().unwrap());
    let said = bed.agent("nas01", &["enrol", url, token]).ends(1).err;
    assert!(said.contains("again with --requests PATH|URL and --infra PATH|URL"), "{said}");
    let kept = bed.agent_home("nas01").join("state/enrolment");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    // Another token does not open it, and goes its own way.
    let other = bed.chiffon(&["agent", "invite", "nas02", "--json"]).ends(0).json();
    bed.enrol_with("nas02", url, other["token"].as_str().unwrap()).ends(0);
    up.signal("TERM");
    assert_eq!(up.end(), 0);
    // Nobody is asked any more.
    let said = bed.enrol_with("nas01", url, &format!("{token}\r\n")).ends(0).out;
    let dir = bed.agent_home("nas01").display().to_string();
    assert!(said.contains(&format!("chiffon-agent --dir {dir} doctor")), "{said}");
    assert!(!kept.exists());
    bed.agent("nas01", &["doctor"]).ends(0);
}

/// It may have been overtaken by a later one on its way, and be below what the agent has seen.
#[test]
fn r4_a_grant_that_is_declined_is_given_once_more_and_then_has_to_be_looked_at() {
    let bed = Bed::new();
    bed.join_broker();
    let mut up = bed.up();
    bed.enrol("one");
    let boot = "01J00000000000000000000001";
    let say = |message: Value| bed.say_as("one", &json!({ "agent": "one", "boot": boot, "message": message }));
    say(json!({ "type": "hello", "kind": "infra", "ansible_core": "2.19.14" }));
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    bed.approve("journal", Merge::Commit);
    up.wait_for("journal: queued");
    let run = bed.status("journal")["run"].clone();
    let step = &run["attempts"][0]["step"];
    let key = json!({ "run": run["id"], "plan": run["plan"], "mode": "apply", "step": step, "attempt": 1 });
    let is = |state: &str| bed.status("journal")["run"]["attempts"][0]["state"] == state;
    let fence = || bed.status("journal")["run"]["attempts"][0]["fence"].clone();
    let reason = "the fence 1.1 is stale: 1.2 was seen";
    let decline = |fence: &Value| say(json!({ "type": "decline", "key": key, "reason": reason, "fence": fence }));
    say(json!({ "type": "claim", "key": key }));
    bed.wait_until("it is granted", || is("granted"));
    let first = fence();
    decline(&first);
    // As often as it is said, it is said of that grant alone.
    decline(&first);
    bed.wait_until("it is ordered once more", || is("ordered"));
    say(json!({ "type": "claim", "key": key }));
    bed.wait_until("it is granted once more", || is("granted"));
    let second = fence();
    assert_ne!(second, first, "under a new fence");
    decline(&first);
    decline(&second);
    up.wait_for("journal: failed: the agent declined the order: the fence 1.1 is stale");
    assert_eq!(bed.count("order-declined"), 2);
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn s12_who_came_in_with_rotated_credentials_goes_out_and_stays_out() {
    let bed = Bed::new();
    bed.join_broker();
    let up = bed.up();
    bed.enrol("nas01");
    let mut agent = bed.start_agent("nas01");
    let rotated = bed.chiffon(&["agent", "rotate", "nas01", "--json"]).ends(0).json();
    agent.wait_for_part("does not take the user");
    agent.signal("TERM");
    assert_eq!(agent.end(), 0);
    let said = bed.agent("nas01", &["doctor"]).ends(3).out;
    assert!(said.contains("wrong name or password"), "{said}");
    bed.enrol_with("nas01", rotated["url"].as_str().unwrap(), rotated["token"].as_str().unwrap()).ends(0);
    let agent = bed.start_agent("nas01");
    for program in [agent, up] {
        program.signal("TERM");
        assert_eq!(program.end(), 0);
    }
}

#[test]
fn what_an_agent_would_refuse_is_refused_when_it_is_invited() {
    let bed = Bed::new();
    bed.join_broker();
    let before =
        replace(&bed, "    management:\n", "    for_agents: {amqp_url: 'amqp://broker.lan/v'}\n    management:\n");
    let said = bed.chiffon(&["agent", "invite", "nas01"]).ends(1).err;
    assert!(said.contains("`bus.for_agents.amqp_url`") && said.contains("in the clear"), "{said}");
    assert_eq!(bed.chiffon(&["agent", "list", "--json"]).ends(0).json()["agents"], json!([]));
    let said = bed.chiffon(&["doctor"]).ends(3).out;
    assert!(said.contains("FAIL line from agents to the broker: `bus.for_agents.amqp_url`"), "{said}");
    replace(&bed, "password_file: broker-password", "password_file: broker-password\n      insecure_tls: true");
    let said = bed.chiffon(&["doctor"]).ends(3).out;
    assert!(said.contains("FAIL line from agents to the broker: insecure"), "{said}");
    bed.chiffon(&["agent", "invite", "nas01"]).ends(0);
    fs::write(bed.home().join("chiffon.yaml"), before).unwrap();
    bed.chiffon(&["doctor"]).ends(0);
}

#[test]
fn s14_doctor_shows_an_insecure_line_to_the_management() {
    let bed = Bed::new();
    let broker = bed.join_broker();
    replace(&bed, "management-password", "management-password\n      insecure_tls: true");
    bed.chiffon(&["doctor"]).ends(0);
    replace(&bed, broker.management(), "http://admin@broker.lan:15672");
    let said = bed.chiffon(&["doctor"]).ends(3).out;
    assert!(said.contains("FAIL line to the broker's management: insecure"), "{said}");
}

#[test]
fn doctor_goes_without_the_password_of_the_management() {
    let bed = Bed::new();
    let broker = bed.join_broker();
    let secret = bed.home().join("management-password");
    fs::remove_file(&secret).unwrap();
    let said = bed.chiffon(&["doctor"]).ends(0).out;
    assert!(said.contains("ok   line to the broker's management") && said.contains("is not here"), "{said}");
    let before = replace(&bed, broker.management(), "http://admin@broker.lan:15672");
    let said = bed.chiffon(&["doctor"]).ends(3).out;
    assert!(said.contains("FAIL line to the broker's management") && said.contains("in the clear"), "{said}");
    fs::write(bed.home().join("chiffon.yaml"), before).unwrap();
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let said = bed.chiffon(&["doctor"]).ends(3).out;
    assert!(said.contains("FAIL line to the broker's management") && said.contains("others can read"), "{said}");
}

#[test]
fn a_revocation_that_the_broker_did_not_hear_is_said_again() {
    let bed = Bed::new();
    let broker = bed.join_broker();
    let up = bed.up();
    bed.enrol("nas01");
    let before = replace(&bed, broker.management(), &format!("http://guest@{}", closed()));
    let said = bed.chiffon(&["agent", "revoke", "nas01"]).ends(1).err;
    assert!(said.contains("say `chiffon agent revoke nas01` again"), "{said}");
    bed.agent("nas01", &["doctor"]).ends(0);
    fs::write(bed.home().join("chiffon.yaml"), before).unwrap();
    bed.chiffon(&["agent", "revoke", "nas01"]).ends(0);
    let said = bed.agent("nas01", &["doctor"]).ends(3).out;
    assert!(said.contains("does not take the user"), "{said}");
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn a_management_that_does_not_take_the_user_says_what_to_look_at() {
    let bed = Bed::new();
    bed.join_broker();
    fs::write(bed.home().join("management-password"), "wrong").unwrap();
    let said = bed.chiffon(&["broker", "setup"]).ends(1).err;
    assert!(said.contains("`password_file`") && said.contains("tag administrator"), "{said}");
}

#[test]
fn doctor_makes_no_signing_key() {
    let bed = Bed::new();
    bed.join_broker();
    let key = bed.home().join("state/signing-key");
    fs::remove_file(&key).unwrap();
    let said = bed.chiffon(&["doctor"]).ends(3).out;
    assert!(said.contains("FAIL signing key: ") && said.contains("`chiffon broker setup` makes it"), "{said}");
    assert!(!key.exists());
}

#[test]
fn what_runs_goes_on_while_the_reconciler_is_away() {
    let bed = Bed::new();
    bed.join_broker();
    let mut up = bed.up();
    bed.enrol("one");
    let agent = bed.start_agent("one");
    bed.push_request("slow", "Deploy the slow one");
    up.wait_for("slow: proposed");
    bed.approve("slow", Merge::Commit);
    up.wait_for("slow: running");
    bed.wait_until("the task waits", || bed.infra.slow_is_alive());
    up.signal("TERM");
    up.wait_for("stopping; slow goes on at its agent");
    assert_eq!(up.end(), 0);
    assert!(bed.infra.slow_is_alive());
    bed.infra.open_gate();
    bed.wait_until("it ended without a reconciler", || !bed.infra.slow_is_alive());
    let mut up = bed.up();
    up.wait_for("slow: succeeded");
    assert_eq!(bed.infra.lines("slow").len(), 1);
    for program in [agent, up] {
        program.signal("TERM");
        assert_eq!(program.end(), 0);
    }
}

#[test]
fn the_last_signal_ends_a_process_that_hangs() {
    // It takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bed = Bed::new();
    bed.keep_records_at(&format!("postgres://chiffon@{}/chiffon", silent.local_addr().unwrap()));
    let up = Background::start(bed.command(&["--dir", "home", "up"]));
    let _line = silent.accept().unwrap();
    // More than three: the kernel makes one of two that come at the same moment.
    for _ in 0..20 {
        up.signal("TERM");
    }
    assert_eq!(up.end(), 1);
}
