//! N3: ten playbooks, one per outcome, on both versions.

use chiffon_infra::{major_minor, probe_version};
use chiffon_schemas::{Outcome, Verdict};

use crate::ansible::{BOTH, Version};
use crate::bench::{Bench, Ran, step};

async fn ran(version: Version, playbook: &str, hosts: &[&str]) -> Ran {
    let bench = Bench::new(version);
    bench.fixtures("outcomes");
    bench.begin(&step(playbook, hosts), "inventory/hosts.yml").end().await
}

fn failed_with(outcome: &Outcome, words: &str) {
    assert_eq!(outcome.verdict, Verdict::Failed, "{outcome:#?}");
    let reason = outcome.reason.as_deref().unwrap_or_default();
    assert!(reason.contains(words), "`{reason}` does not say `{words}`");
    assert!(outcome.failure.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn n3_ok() {
    for version in BOTH {
        let Ran { outcome, log, progress, .. } = ran(version, "ok.yml", &["one", "two"]).await;
        assert_eq!(outcome.verdict, Verdict::Succeeded, "{outcome:#?}\n{log}");
        assert_eq!(outcome.exit_code, Some(0));
        assert_eq!(outcome.recap.values().map(|counts| counts.ok).collect::<Vec<_>>(), [1, 1]);
        assert!(outcome.changed.is_empty() && outcome.failure.is_none() && outcome.suggestions.is_empty());
        assert_eq!(progress.len(), 2);
        assert!(log.contains("on two") && log.contains("PLAY RECAP"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n3_changed() {
    for version in BOTH {
        let Ran { outcome, .. } = ran(version, "changed.yml", &["two"]).await;
        assert_eq!(outcome.verdict, Verdict::Succeeded, "{outcome:#?}");
        let changed: Vec<_> = outcome.changed.iter().map(|c| (c.host.as_str(), c.task.as_str())).collect();
        assert_eq!(changed, [("two", "run true")]);
        assert_eq!(outcome.recap.values().map(|counts| counts.changed).sum::<u32>(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n3_failed_names_host_task_and_first_cause() {
    for version in BOTH {
        let Ran { outcome, log, .. } = ran(version, "failed.yml", &["one", "two"]).await;
        failed_with(&outcome, "`read the settings` failed on two");
        assert_eq!(outcome.exit_code, Some(2));
        let failure = outcome.failure.unwrap();
        assert!(failure.cause.contains("the settings are missing"), "{}", failure.cause);
        assert_eq!(failure.done.len(), 2);
        assert!(failure.excerpt.contains("fatal: [two]"), "{} of {log}", failure.excerpt);
        assert!(failure.not_started.is_empty());
        assert!(!failure.retry_safe, "a command changed something on two");
        assert_eq!(
            outcome.recap.values().map(|counts| (counts.failed, counts.ignored)).collect::<Vec<_>>(),
            [(0, 1), (1, 1)]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n3_unreachable() {
    for version in BOTH {
        let Ran { outcome, .. } = ran(version, "unreachable.yml", &["gone", "one"]).await;
        failed_with(&outcome, "`ask the host` failed on gone");
        let failure = outcome.failure.unwrap();
        assert!(failure.cause.contains("Connection refused"), "{}", failure.cause);
        assert!(failure.retry_safe);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n3_no_host_matched_although_the_status_is_zero() {
    for version in BOTH {
        let Ran { outcome, .. } = ran(version, "no-host.yml", &["one"]).await;
        failed_with(&outcome, "no host matched");
        assert_eq!(outcome.exit_code, Some(0));
        assert_eq!(outcome.failure.unwrap().not_started, ["one"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n3_missing_playbook() {
    for version in BOTH {
        let Ran { outcome, .. } = ran(version, "nowhere.yml", &["one"]).await;
        failed_with(&outcome, "nowhere.yml could not be found");
        assert!(outcome.failure.unwrap().retry_safe);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n3_yaml_error() {
    for version in BOTH {
        let Ran { outcome, .. } = ran(version, "yaml-error.yml", &["one"]).await;
        failed_with(&outcome, if version == Version::V214 { "Syntax Error" } else { "YAML parsing failed" });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n3_unknown_module() {
    for version in BOTH {
        let Ran { outcome, .. } = ran(version, "unknown-module.yml", &["one"]).await;
        failed_with(&outcome, "couldn't resolve module/action 'no_such_module_anywhere'");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n3_interrupted() {
    for version in BOTH {
        let bench = Bench::new(version);
        bench.fixtures("outcomes");
        let mut attempt = bench.begin(&step("slow.yml", &["one"]), "inventory/hosts.yml");
        attempt.until_done("before").await;
        // Between two tasks Ansible may not hear an interrupt.
        attempt.until_runs(b"sleep").await;
        let pid = rustix::process::Pid::from_raw(attempt.leader()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let Ran { outcome, .. } = attempt.end().await;
        assert_eq!(outcome.verdict, Verdict::Failed, "{outcome:#?}");
        assert!(outcome.failure.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n3_timed_out() {
    for version in BOTH {
        let bench = Bench::new(version);
        bench.fixtures("outcomes");
        let mut step = step("slow.yml", &["one", "two"]);
        step.timeout_secs = 4;
        let attempt = bench.begin(&step, "inventory/hosts.yml");
        let Ran { outcome, log, .. } = attempt.end().await;
        failed_with(&outcome, "timed out after 4 s");
        assert!(log.contains("«timed out after 4 s»"));
        assert!(!outcome.interrupted.is_empty());
        assert!(!outcome.failure.unwrap().retry_safe);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_a_limit_that_names_a_group_never_reaches_hosts_outside_of_the_plan() {
    for version in BOTH {
        let bench = Bench::new(version);
        bench.fixtures("outcomes");
        let marker = bench.beside("marker");
        bench.file(
            "same.yml",
            &format!(
                "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: mark\n      command: touch {}\n",
                marker.display()
            ),
        );
        bench.file("inventory/more.yml", "pair:\n  hosts:\n    one:\n    two:\n");
        let Ran { outcome, .. } = bench.begin(&step("same.yml", &["pair"]), "inventory/").end().await;
        failed_with(&outcome, "hosts that are not in the plan: one, two");
        assert!(!marker.exists());
    }
}

#[test]
fn the_version_is_asked_once_and_remembered_until_the_program_changes() {
    for (version, wanted) in BOTH.into_iter().zip(["2.14", "2.19"]) {
        let mut bench = Bench::new(version);
        let found = probe_version(&bench.config).unwrap();
        assert_eq!(major_minor(&found), wanted);
        let memory = bench.config.state_folder.join("ansible-version.json");
        let text = std::fs::read_to_string(&memory).unwrap();
        std::fs::write(&memory, text.replace(&found, "9.9.9")).unwrap();
        assert_eq!(probe_version(&bench.config).unwrap(), "9.9.9", "what is remembered is used");
        let moved = bench.beside("ansible-playbook");
        std::fs::copy(&bench.config.ansible_playbook, &moved).unwrap();
        bench.config.ansible_playbook = moved;
        assert_eq!(probe_version(&bench.config).unwrap(), found);
        bench.config.ansible_playbook = bench.beside("nothing");
        assert!(probe_version(&bench.config).is_err());
    }
}
