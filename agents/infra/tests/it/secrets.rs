//! S13 and N2: vault values leave neither by the log nor by the arguments, and no run begins without them known.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use chiffon_schemas::Verdict;

use crate::ansible::BOTH;
use crate::bench::{Bench, Ran, step};

const PASSWORD: &str = "the-vault-password-7d1";

fn encrypt(bench: &Bench, args: &[&str]) -> String {
    let password = bench.beside("password");
    fs::write(&password, PASSWORD).unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let program = bench.config.ansible_playbook.with_file_name("ansible-vault");
    let output = Command::new(program)
        .args(args)
        .arg("--vault-password-file")
        .arg(&password)
        .env("HOME", bench.beside("home"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A repository with a vaulted file, an inline value, and a playbook that prints both in many ways.
fn vaulted(bench: &mut Bench) {
    bench.file(
        "group_vars/all/vault.yml",
        "file_secret: fileSecret-Canary/1\ndeep: {list: [\"line one of it\\nline two of it\"]}\nflag: true\n",
    );
    let file = bench.checkout().join("group_vars/all/vault.yml");
    encrypt(bench, &["encrypt", file.to_str().unwrap()]);
    let inline = encrypt(bench, &["encrypt_string", "inlineCanary\"quoted", "--name", "inline_secret"]);
    bench.file("group_vars/all/inline.yml", &inline);
    bench.file(
        "leak.yml",
        r#"
- name: leak
  hosts: all
  gather_facts: false
  tasks:
    - name: "print {{ file_secret }}"
      debug: {msg: "{{ inline_secret }} {{ file_secret | b64encode }} {{ ('x:' + file_secret) | b64encode }} {{ file_secret | urlencode }}"}
    - name: lines
      debug: {msg: "{{ deep.list[0] }} flag={{ flag }}"}
    - name: by a command
      command: "printf '%s' '{{ file_secret }}'"
    - name: on standard error, in a loop, and failing
      shell: "echo '{{ item }}' >&2; exit 3"
      loop: ["{{ inline_secret }}", "{{ file_secret }}"]
"#,
    );
    bench.config.vault_password_file = Some(bench.beside("password"));
}

const CANARIES: [&str; 8] = [
    "fileSecret-Canary/1",
    "inlineCanary",
    "line one of it",
    "line two of it",
    "ZmlsZVNlY3JldC1DYW5hcnkvM",
    "fileSecret-Canary%2F1",
    PASSWORD,
    "mlsZVNlY3JldC1DYW5h",
];

#[tokio::test(flavor = "multi_thread")]
async fn s13_vault_values_never_leave_in_any_form() {
    for version in BOTH {
        let mut bench = Bench::new(version);
        vaulted(&mut bench);
        let Ran { outcome, log, progress, .. } = bench.run(&step("leak.yml", &["one"])).await;
        assert_eq!(outcome.verdict, Verdict::Failed);
        assert!(log.contains("«redacted»") && log.contains("flag=True"), "{log}");
        let all = format!("{log}\n{outcome:?}\n{progress:?}");
        for canary in CANARIES {
            assert!(!all.contains(canary), "{canary} left:\n{all}");
        }
        let failure = outcome.failure.unwrap();
        assert!(failure.cause.contains("«redacted»"), "{}", failure.cause);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n2_arguments_and_environments_hold_nothing_sensitive_or_chosen() {
    for version in BOTH {
        let mut bench = Bench::new(version);
        vaulted(&mut bench);
        bench.file(
            "wait.yml",
            "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: wait\n      command: sleep 1\n",
        );
        let mut step = step("wait.yml", &["one"]);
        step.vars.insert("chosen_name".to_owned(), "chosen-value".into());
        let attempt = bench.begin(&step, "hosts.yml");
        let (mut looks, mut seen) = (0, Vec::new());
        let me = attempt.marker.clone();
        let sample = async {
            // The attempt is over when its processes have come and gone.
            loop {
                let all = attempt.processes();
                if all.is_empty() && looks > 0 {
                    break;
                }
                for (pid, args) in all {
                    looks += 1;
                    seen.extend(args);
                    seen.extend(fs::read(format!("/proc/{pid}/environ")).unwrap_or_default());
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), sample).await.expect("it ends");
        let Ran { outcome, log, .. } = attempt.end().await;
        assert_eq!(outcome.verdict, Verdict::Succeeded, "{outcome:#?}\n{log}");
        let seen = String::from_utf8_lossy(&seen);
        assert!(seen.contains(me.env_value()) && seen.contains("--vault-password-file"));
        for word in CANARIES.into_iter().chain(["chosen-value", "chosen_name"]) {
            assert!(!seen.contains(word), "{word} is in arguments or an environment");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s13_a_run_whose_secrets_cannot_be_collected_does_not_begin() {
    for version in BOTH {
        let mut bench = Bench::new(version);
        vaulted(&mut bench);
        let marker = bench.beside("marker");
        bench.file(
            "mark.yml",
            &format!("- hosts: all\n  gather_facts: false\n  tasks:\n    - command: touch {}\n", marker.display()),
        );
        fs::write(bench.beside("password"), "another password").unwrap();
        let Ran { outcome, .. } = bench.run(&step("mark.yml", &["one"])).await;
        assert_eq!(outcome.verdict, Verdict::Failed);
        assert!(outcome.reason.as_deref().unwrap_or_default().contains("can not be decrypted"), "{outcome:#?}");
        bench.config.vault_password_file = None;
        let Ran { outcome, .. } = bench.run(&step("mark.yml", &["one"])).await;
        assert!(outcome.reason.as_deref().unwrap_or_default().contains("ansible.vault_password_file"), "{outcome:#?}");
        assert!(!marker.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s13_results_of_no_log_tasks_leave_only_their_status() {
    for version in BOTH {
        let bench = Bench::new(version);
        bench.file("hosts.yml", "all: {hosts: {one: {ansible_connection: local}}}\n");
        bench.file(
            "quiet.yml",
            "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: quiet\n      shell: echo not-in-a-vault >&2; exit 3\n      no_log: true\n",
        );
        let Ran { outcome, log, .. } = bench.run(&step("quiet.yml", &["one"])).await;
        assert_eq!(outcome.failure.as_ref().unwrap().cause, "hidden, since the task says no_log");
        assert!(!format!("{log}{outcome:?}").contains("not-in-a-vault"));
    }
}

/// Ansible reads ciphertext on lines of any width, as other tools write it; so the redactor has to know it too.
#[tokio::test(flavor = "multi_thread")]
async fn s13_ciphertext_on_lines_of_any_width_is_told_to_the_redactor() {
    for version in BOTH {
        for width in [10_000, 64, 7] {
            let mut bench = Bench::new(version);
            vaulted(&mut bench);
            let inline = encrypt(&bench, &["encrypt_string", "wideCanary-x", "--name", "wide_secret"]);
            let (head, digits) = inline.split_once("AES256\n").unwrap();
            let digits: String = digits.split_whitespace().collect();
            let mut text = format!("{head}AES256\n");
            for at in (0..digits.len()).step_by(width) {
                text += &format!("          {}\n", &digits[at..digits.len().min(at + width)]);
            }
            bench.file("group_vars/all/wide.yml", &text);
            bench.file(
                "wide.yml",
                "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: say\n      debug: {msg: 'it is {{ wide_secret }}'}\n",
            );
            let Ran { outcome, log, .. } = bench.run(&step("wide.yml", &["one"])).await;
            assert_eq!(outcome.verdict, Verdict::Succeeded, "{width}: {outcome:#?}\n{log}");
            assert!(log.contains("it is «redacted»") && !log.contains("wideCanary"), "{width}: {log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s13_a_vaulted_file_whose_name_is_no_text_stops_the_run() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut bench = Bench::new(BOTH[1]);
    vaulted(&mut bench);
    let folder = bench.checkout().join("group_vars/all");
    let odd = folder.join(std::ffi::OsStr::from_bytes(b"p\xe4.yml"));
    fs::copy(folder.join("vault.yml"), odd).unwrap();
    let Ran { outcome, .. } = bench.run(&step("leak.yml", &["one"])).await;
    assert!(outcome.reason.as_deref().unwrap_or_default().contains("is not UTF-8"), "{outcome:#?}");
}

/// A message is cut when it is clean: a secret that a cut goes through is found by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn s13_a_long_message_is_cleaned_before_it_is_cut() {
    for version in BOTH {
        let mut bench = Bench::new(version);
        vaulted(&mut bench);
        bench.file(
            "long.yml",
            "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: fail\n      fail: {msg: \"{{ 'x' * 590 }}{{ file_secret }}{{ 'y' * 300 }}\"}\n",
        );
        let Ran { outcome, log, .. } = bench.run(&step("long.yml", &["one"])).await;
        let all = format!("{log}\n{outcome:?}");
        assert!(!all.contains("fileSec"), "{all}");
        assert!(outcome.failure.unwrap().cause.contains("xxx«redacted»"));
    }
}

/// Bytes that are no text cost no event: the task that wrote them is named, and a retry is not called safe.
#[tokio::test(flavor = "multi_thread")]
async fn n3_a_failure_that_writes_no_text_is_named() {
    for version in BOTH {
        let bench = Bench::new(version);
        bench.file(
            "bytes.yml",
            "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: grow\n      shell: printf 'gr\\374\\337e\\n' >&2; exit 3\n",
        );
        let Ran { outcome, log, .. } = bench.run(&step("bytes.yml", &["one"])).await;
        let failure = outcome.failure.unwrap_or_else(|| panic!("{log}"));
        assert_eq!((failure.task.as_deref(), failure.retry_safe), (Some("grow"), false), "{failure:?}\n{log}");
        assert!(!outcome.log.incomplete, "{log}");
    }
}
