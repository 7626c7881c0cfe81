//! N6: nothing from outside of the plan and the agent's own configuration steers a run.

use std::fs;
use std::process::Command;

use crate::ansible::BOTH;
use crate::bench::{Bench, Ran, step};

/// Set in the test that starts this binary again; there, the poison is all around.
const INNER: &str = "clean_room::inner_prints_the_run";

/// Runs one playbook and prints log and outcome without what differs from run to run.
#[tokio::test(flavor = "multi_thread")]
async fn inner_prints_the_run() {
    for version in BOTH {
        let bench = Bench::new(version);
        bench.fixtures("outcomes");
        // The repository's own configuration is hostile here; only its roles_path may be used.
        bench.file("ansible.cfg", "[defaults]\nroles_path = more/roles\nstdout_callback = minimal\nlibrary = /tmp/evil\n[privilege_escalation]\nbecome = true\nbecome_user = nobody\n");
        bench.file("more/roles/extra/tasks/main.yml", "- name: from the role\n  debug: {msg: a role}\n");
        bench.file("env.yml", "- hosts: all\n  gather_facts: false\n  roles: [extra]\n  tasks:\n    - name: environment\n      shell: env | grep -v CHIFFON_ATTEMPT | sort\n      changed_when: false\n      register: out\n    - name: show\n      debug: {var: out.stdout_lines}\n");
        let Ran { outcome, log, .. } = bench.begin(&step("env.yml", &["one"]), "inventory/hosts.yml").end().await;
        let temporary = std::env::temp_dir();
        let text = format!("{:?} {:?} {log}", outcome.verdict, outcome.suggestions);
        let words = text.split(['"', '=', ':', ' ', '\n']).filter(|word| !word.contains(temporary.to_str().unwrap()));
        println!("RUN {}", words.collect::<Vec<_>>().join(" "));
    }
}

fn printed(poison: &[(String, String)], cwd: &std::path::Path, home: &std::path::Path) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([INNER, "--exact", "--nocapture"])
        .envs(poison.iter().cloned())
        .env("HOME", home)
        .current_dir(cwd)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text.lines().filter(|line| line.contains("RUN ")).map(str::to_owned).collect()
}

#[test]
fn n6_poisoned_surroundings_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (clean, hostile) = (folder.path().join("clean"), folder.path().join("hostile"));
    fs::create_dir_all(&clean).unwrap();
    fs::create_dir_all(hostile.join(".ansible/plugins/callback")).unwrap();
    let marker = folder.path().join("marker");
    let touch = format!("import os; os.system('touch {}')\n", marker.display());
    fs::write(hostile.join(".ansible/plugins/callback/evil.py"), &touch).unwrap();
    fs::write(hostile.join("sitecustomize.py"), &touch).unwrap();
    let cfg = "[defaults]\nstdout_callback = minimal\nnocows = 0\nremote_user = evil\n[privilege_escalation]\nbecome = true\n";
    fs::write(hostile.join("ansible.cfg"), cfg).unwrap();
    fs::write(hostile.join(".ansible.cfg"), cfg).unwrap();
    let names = [
        "CONFIG",
        "HOME",
        "LIBRARY",
        "CALLBACK_PLUGINS",
        "CALLBACKS_ENABLED",
        "STDOUT_CALLBACK",
        "ROLES_PATH",
        "COLLECTIONS_PATH",
        "COLLECTIONS_PATHS",
        "ACTION_PLUGINS",
        "FILTER_PLUGINS",
        "LOOKUP_PLUGINS",
        "VARS_PLUGINS",
        "INVENTORY_PLUGINS",
        "CONNECTION_PLUGINS",
        "STRATEGY_PLUGINS",
        "MODULE_UTILS",
        "INVENTORY",
        "LIMIT_FILE",
        "BECOME",
        "BECOME_METHOD",
        "BECOME_USER",
        "BECOME_EXE",
        "BECOME_FLAGS",
        "BECOME_PLUGINS",
        "REMOTE_USER",
        "REMOTE_PORT",
        "PRIVATE_KEY_FILE",
        "SSH_ARGS",
        "SSH_COMMON_ARGS",
        "SSH_EXTRA_ARGS",
        "SSH_EXECUTABLE",
        "SSH_CONTROL_PATH",
        "SSH_CONTROL_PATH_DIR",
        "SSH_RETRIES",
        "HOST_KEY_CHECKING",
        "VAULT_PASSWORD_FILE",
        "VAULT_IDENTITY_LIST",
        "FORKS",
        "STRATEGY",
        "GATHERING",
        "TRANSPORT",
        "TIMEOUT",
        "CHECK_MODE_MARKERS",
        "DISPLAY_SKIPPED_HOSTS",
        "FORCE_COLOR",
        "NOCOLOR",
        "VERBOSITY",
        "DEBUG",
        "LOG_PATH",
        "LOCAL_TEMP",
        "REMOTE_TEMP",
        "PYTHON_INTERPRETER",
        "EXECUTABLE",
        "JINJA2_EXTENSIONS",
        "RUN_TAGS",
        "SKIP_TAGS",
        "HASH_BEHAVIOUR",
        "RETRY_FILES_ENABLED",
        "ANY_ERRORS_FATAL",
        "UNSAFE_WRITES",
        "PIPELINING",
    ];
    assert!(names.len() >= 60);
    let mut poison: Vec<(String, String)> =
        names.iter().map(|name| (format!("ANSIBLE_{name}"), hostile.display().to_string())).collect();
    poison.push(("PYTHONPATH".to_owned(), hostile.display().to_string()));
    poison.push(("SSH_AUTH_SOCK".to_owned(), hostile.display().to_string()));
    let calm = printed(&[], &clean, &clean);
    let poisoned = printed(&poison, &hostile, &hostile);
    assert_eq!(calm.len(), 2, "{calm:?}");
    assert_eq!(calm, poisoned);
    assert!(calm.iter().all(|run| run.contains("Succeeded") && run.contains("a role")), "{calm:#?}");
    assert!(calm.iter().all(|run| run.contains("privilege_escalation.become,")), "the ignored settings are named");
    assert!(!marker.exists());
}
