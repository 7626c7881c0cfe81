//! Runs that fail, hang, wait, flood, print secrets or are stopped.

use std::os::unix::fs::PermissionsExt;

use chiffon_tests::{Background, Bed, Merge, is_alive, root};
use serde_json::Value;

/// Variables that are encrypted with the sample homelab's password.
const VAULTED: &str = "tests/fixtures/homelab-infra/inventory/group_vars/uptime_kuma.yml";

/// A request's plan is merged and its run goes on, with `chiffon up` in the background.
fn running(bed: &Bed, up: &mut Background, name: &str, text: &str) {
    bed.push_request(name, text);
    up.wait_for(&format!("{name}: proposed"));
    bed.approve(name, Merge::Commit);
    up.wait_for(&format!("{name}: running"));
}

fn stop(up: Background) {
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn a_retry_runs_the_unfinished_hosts_only_under_the_same_plan() {
    let bed = Bed::new();
    bed.ask_and_approve("faulty", "Deploy the faulty one");
    let said = bed.up_once().ends(3);
    assert!(said.out.contains("faulty: failed: beta: need a mended part"), "{}", said.out);
    let status = bed.status("faulty");
    assert_eq!(status["failure"]["host"], "beta");
    assert!(status["next"].as_str().unwrap().contains("chiffon retry faulty"), "{status}");
    std::fs::write(bed.infra.effects.join("mended"), "").unwrap();
    let mut up = bed.up();
    bed.chiffon(&["retry", "faulty"]).ends(0);
    up.wait_for("faulty: succeeded");
    let mut lines = bed.infra.lines("faulty");
    lines.sort();
    assert_eq!(lines, ["alpha", "beta", "beta"], "alpha is not run again");
    let status = bed.status("faulty");
    assert_eq!(status["run"]["round"], 2);
    let files = bed.bare_git(&["ls-tree", "-r", "--name-only", "chiffon/audit", "results"]);
    let results: Vec<&str> = files.lines().collect();
    assert!(results[0].ends_with("result-1.yaml") && results[1].ends_with("result-2.yaml"), "{files}");
    assert_eq!(results[0].replace("result-1", ""), results[1].replace("result-2", ""), "one run, two results");
    let said = bed.chiffon(&["retry", "faulty"]).ends(1);
    assert!(said.out.contains("it succeeded"), "{}", said.out);
    stop(up);
}

#[test]
fn two_requests_for_one_host_run_one_after_the_other_and_the_holder_is_shown() {
    let bed = Bed::new();
    let mut up = bed.up();
    running(&bed, &mut up, "first", "Deploy the slow one");
    bed.push_request("second", "Deploy the journal");
    up.wait_for("second: proposed");
    bed.approve("second", Merge::Commit);
    up.wait_for("second: paused: waiting for alpha: locked by first");
    let said = bed.chiffon(&["status"]).ends(0).out;
    assert!(said.contains("locked by first"), "{said}");
    assert!(bed.infra.lines("journal").is_empty());
    let said = bed.chiffon(&["unlock", "alpha"]).ends(1).out;
    assert!(said.contains("still running on alpha"), "{said}");
    // Another host is not held up.
    bed.push_request("third", "Deploy the gazette");
    up.wait_for("third: proposed");
    bed.infra.open_gate();
    up.wait_for("second: succeeded");
    assert_eq!(bed.infra.lines("journal").len(), 1);
    stop(up);
}

#[test]
fn the_more_urgent_of_two_waiting_requests_goes_first() {
    let bed = Bed::new();
    let mut up = bed.up();
    running(&bed, &mut up, "first", "Deploy the slow one");
    for (name, priority) in [("a-calm", 2), ("b-urgent", 5)] {
        bed.write(
            &format!("requests/{name}.yaml"),
            &format!(
                "apiVersion: chiffon/v1\nkind: Request\nspec: {{text: Deploy the journal, priority: {priority}}}\n"
            ),
        );
        bed.push(name);
        up.wait_for(&format!("{name}: proposed"));
        bed.approve(name, Merge::Commit);
        up.wait_for(&format!("{name}: paused"));
    }
    bed.infra.open_gate();
    up.wait_for("a-calm: succeeded");
    let order: Vec<String> = bed.history().into_iter().filter(|line| line.contains(": succeeded on")).collect();
    let names: Vec<&str> = order.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names, ["first", "b-urgent", "a-calm"]);
    stop(up);
}

#[test]
fn r9_a_cancelled_run_is_verified_and_leaves_no_process() {
    let bed = Bed::homelab();
    let mut up = bed.up();
    running(&bed, &mut up, "drill", "run the trouble drill that hangs");
    up.wait_for("  nas01: create the drill folder");
    let folder = bed.path().join("hosts/nas01/drill");
    // The last thing that the task writes before it hangs.
    bed.wait_until("the task hangs", || is_alive(&folder.join("hang.pid")));
    bed.chiffon(&["cancel", "drill"]).ends(0);
    up.wait_for("drill: cancelled");
    for file in ["hang.pid", "child.pid", "detached.pid"] {
        assert!(folder.join(file).is_file() && !is_alive(&folder.join(file)), "{file} is still alive");
    }
    assert!(!folder.join("ended").exists());
    let status = bed.status("drill");
    let attempt = &status["run"]["attempts"][0];
    assert_eq!(
        (&attempt["state"], &attempt["outcome"]["interrupted"]),
        (&"cancelled".into(), &serde_json::json!(["nas01"]))
    );
    assert_eq!(bed.count("run-cancelled"), 1);
    stop(up);
}

#[test]
fn r9_a_cancel_before_the_grant_starts_nothing() {
    let bed = Bed::new();
    let mut up = bed.up();
    running(&bed, &mut up, "first", "Deploy the slow one");
    bed.push_request("second", "Deploy the journal");
    up.wait_for("second: proposed");
    bed.approve("second", Merge::Commit);
    up.wait_for("second: paused");
    bed.chiffon(&["cancel", "second"]).ends(0);
    up.wait_for("second: cancelled");
    bed.infra.open_gate();
    up.wait_for("first: succeeded");
    assert!(bed.infra.lines("journal").is_empty());
    stop(up);
}

#[test]
fn ctrl_c_waits_for_what_runs_and_once_more_cancels_it() {
    let bed = Bed::new();
    let mut up = bed.up();
    running(&bed, &mut up, "slow", "Deploy the slow one");
    bed.wait_until("the task waits", || bed.infra.slow_is_alive());
    up.signal("INT");
    up.wait_for("stopping after slow; once more cancels it");
    up.signal("INT");
    up.wait_for("cancelling slow");
    up.end();
    assert!(!bed.infra.slow_is_alive(), "no process is left");
    assert_eq!(bed.state("slow"), "cancelled");
    bed.up_once().ends(0);
    assert_eq!(bed.infra.lines("slow").len(), 1, "and nothing begins again by itself");
}

#[test]
fn ctrl_c_once_lets_the_run_end_and_records_it() {
    let bed = Bed::new();
    let mut up = bed.up();
    running(&bed, &mut up, "slow", "Deploy the slow one");
    bed.wait_until("the task waits", || bed.infra.slow_is_alive());
    up.signal("TERM");
    up.wait_for("stopping after slow");
    bed.infra.open_gate();
    assert_eq!(up.end(), 0);
    assert_eq!(bed.state("slow"), "succeeded");
    assert_eq!(bed.count("run-succeeded"), 1);
}

#[test]
fn after_ctrl_c_nothing_new_begins_and_the_next_start_goes_on() {
    let bed = Bed::new();
    let mut up = bed.up();
    running(&bed, &mut up, "slow", "Deploy the slow one");
    bed.wait_until("the task waits", || bed.infra.slow_is_alive());
    bed.push_request("second", "Deploy the journal");
    up.wait_for("second: proposed");
    bed.push_request("third", "Deploy the gazette");
    up.wait_for("third: proposed");
    bed.approve("second", Merge::Commit);
    up.wait_for("second: paused");
    up.signal("INT");
    up.wait_for("stopping after slow");
    // Its host is free, and it is not begun all the same; nor is what only waited for this host.
    bed.approve("third", Merge::Commit);
    bed.infra.open_gate();
    assert_eq!(up.end(), 0);
    assert_eq!(bed.state("slow"), "succeeded");
    assert!(bed.infra.lines("journal").is_empty() && bed.infra.lines("gazette").is_empty());
    bed.up_once().ends(0);
    assert_eq!((bed.state("second"), bed.state("third")), ("succeeded".to_owned(), "succeeded".to_owned()));
}

#[test]
fn a_failed_run_is_not_retried_once_its_request_has_changed() {
    let bed = Bed::new();
    bed.ask_and_approve("faulty", "Deploy the faulty one");
    bed.up_once().ends(3);
    let mut up = bed.up();
    bed.push_request("faulty", "Deploy the faulty one, please");
    up.wait_for("faulty: proposed");
    let said = bed.chiffon(&["retry", "faulty"]).ends(1);
    assert!(said.out.contains("its request has changed since: ask for a new plan"), "{}", said.out);
    stop(up);
    assert_eq!(bed.infra.lines("faulty").len(), 2, "nothing was run again");
}

#[test]
fn another_plan_beside_a_failure_is_named_and_the_failure_stays() {
    let bed = Bed::new();
    bed.ask_and_approve("faulty", "Deploy the faulty one");
    bed.up_once().ends(3);
    let mut up = bed.up();
    bed.chiffon(&["plan", "faulty", "--again"]).ends(0);
    bed.wait_until("the second plan is shown", || {
        let plan = bed.status("faulty")["plan"].clone();
        plan["revision"] == 2 && plan["shown"] == true
    });
    let status = bed.status("faulty");
    assert_eq!(status["state"], "failed", "{status}");
    assert!(status["reason"].as_str().unwrap().contains("plan 2 is offered"), "{status}");
    assert!(status["next"].as_str().unwrap().contains("merge chiffon/plan/faulty"), "{status}");
    std::fs::write(bed.infra.effects.join("mended"), "").unwrap();
    bed.approve("faulty", Merge::Commit);
    up.wait_for("faulty: succeeded");
    stop(up);
}

#[test]
fn a_run_that_takes_longer_than_its_time_out_fails_and_leaves_no_process() {
    let bed = Bed::new();
    let text = "apiVersion: chiffon/v1\nkind: Request\nspec: {text: Deploy the slow one, timeout_secs: 3}\n";
    bed.write("requests/slow.yaml", text);
    bed.push("with a time-out");
    bed.up_once().ends(0);
    bed.approve("slow", Merge::Commit);
    let said = bed.up_once().ends(3);
    assert!(said.out.contains("slow: failed") && said.out.contains("3 s"), "{}", said.out);
    assert!(!bed.infra.slow_is_alive());
}

#[test]
fn a_flood_of_output_is_kept_whole_and_in_chunks() {
    let bed = Bed::homelab();
    bed.ask_and_approve("flood", "run the trouble drill that floods the log");
    bed.up_once().ends(0);
    assert_eq!(bed.state("flood"), "succeeded", "{}", bed.status("flood"));
    let log = bed.chiffon(&["log", "flood"]).ends(0).out;
    assert!(log.contains("50000") && log.contains("floodflood"), "{} bytes", log.len());
    assert!(log.contains("PLAY RECAP"), "the end is there too");
    let outcome = &bed.status("flood")["run"]["attempts"][0]["outcome"]["log"];
    assert_eq!(outcome["incomplete"], false, "{outcome}");
    assert!(outcome["chunks"].as_u64().unwrap() > 10, "{outcome}");
    let audit = bed.bare_git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectsize)"]);
    let largest = audit.lines().filter_map(|size| size.parse::<u64>().ok()).max().unwrap();
    assert!(largest < 100_000, "no log text lies in git: {largest}");
}

/// Gives the journal's hosts variables that are encrypted with ansible-vault.
pub fn encrypt_the_journal(bed: &Bed) {
    let secret = std::fs::read_to_string(root().join(VAULTED)).unwrap();
    bed.infra.write("inventory/group_vars/journal.yml", &secret);
    bed.infra.commit("a secret");
}

/// Names the password of what is encrypted in chiffon.yaml.
pub fn give_the_password(bed: &Bed) {
    let password = bed.path().join("vault-password");
    std::fs::copy(root().join("tests/fixtures/vault-password"), &password).unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let line = format!("vault_password_file: {}", password.display());
    configure(bed, |text| text.replace("# vault_password_file: vault-password", &line));
}

/// Rewrites chiffon.yaml.
fn configure(bed: &Bed, rewrite: impl Fn(&str) -> String) {
    let path = bed.home().join("chiffon.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let rewritten = rewrite(&text);
    assert_ne!(text, rewritten);
    std::fs::write(path, rewritten).unwrap();
}

#[test]
fn a_run_that_lacked_the_vault_password_is_retried_without_a_restart() {
    let bed = Bed::new();
    encrypt_the_journal(&bed);
    bed.ask_and_approve("journal", "Deploy the journal");
    let mut up = bed.up();
    up.wait_for("journal: failed");
    let log = bed.chiffon(&["log", "journal"]).ends(0);
    assert!(log.err.contains("nothing was printed") && log.err.contains("ansible.vault_password_file"), "{}", log.err);
    give_the_password(&bed);
    up.wait_for("chiffon.yaml was read again");
    bed.chiffon(&["retry", "journal"]).ends(0);
    up.wait_for("journal: succeeded");
    assert_eq!(bed.infra.lines("journal"), ["alpha"]);
    stop(up);
}

#[test]
fn what_a_running_reconciler_cannot_change_counts_from_the_next_start_on() {
    let bed = Bed::new();
    let mut up = bed.up();
    configure(&bed, |text| format!("{text}  agent:\n    name: another\n"));
    up.wait_for("`agent` in it counts from the next start on");
    running(&bed, &mut up, "journal", "Deploy the journal");
    up.wait_for("journal: succeeded");
    let by_another = || bed.bare_git(&["log", "-p", "chiffon/audit", "--", "results"]).contains("agent: another");
    assert!(!by_another());
    stop(up);
    let mut up = bed.up();
    running(&bed, &mut up, "gazette", "Deploy the gazette");
    up.wait_for("gazette: succeeded");
    assert!(by_another());
    stop(up);
}

#[test]
fn n2_a_secret_that_a_playbook_prints_leaves_the_agent_nowhere() {
    let bed = Bed::homelab();
    bed.ask_and_approve("secret", "run the trouble drill that prints a secret");
    bed.up_once();
    let log = bed.chiffon(&["log", "secret"]).ends(0).out;
    assert!(log.contains("the password is") && log.contains("PLAY RECAP"), "{log}");
    for text in [log, bed.status("secret").to_string(), bed.bare_git(&["log", "-p", "--all"])] {
        assert!(!text.contains("kuma-s3cret"), "{text}");
    }
    let secret = b"kuma-s3cret";
    for entry in std::fs::read_dir(bed.home().join("state")).unwrap().map(|entry| entry.unwrap().path()) {
        let bytes = if entry.is_file() { std::fs::read(&entry).unwrap() } else { continue };
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", entry.display());
    }
}

#[test]
fn a_playbook_that_fails_half_way_says_what_is_done_and_what_never_began() {
    let bed = Bed::homelab();
    bed.ask_and_approve("drill", "Start the trouble drill \"fail half-way\"");
    bed.up_once().ends(3);
    let failure = bed.status("drill")["failure"].clone();
    assert_eq!(failure["host"], "gpu01", "{failure}");
    assert_eq!(failure["task"], "check that there is room to keep the old certificate", "{failure}");
    let has = |key: &str, word: &str| texts(&failure[key]).iter().any(|text| text.contains(word));
    assert!(has("done", "backup01") && !has("done", "pi01"), "{failure}");
    for host in ["nas01", "pi01", "pi02", "web01"] {
        assert!(has("not_started", host), "{host}: {failure}");
    }
    assert!(failure["excerpt"].as_str().unwrap().contains("5 GB are needed"), "{failure}");
    let page = bed.bare_git(&["show", "chiffon/audit:status/drill.md"]);
    assert!(page.starts_with("# drill: failed") && page.contains("chiffon retry drill"), "{page}");
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().map_or_else(Vec::new, |all| all.iter().map(|text| text.as_str().unwrap().to_owned()).collect())
}
