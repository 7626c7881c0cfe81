//! N1: no payload in a variable runs anything, on either version.

use std::fs;
use std::process::Command;

use chiffon_infra::extra_vars;
use chiffon_schemas::{Json, Verdict};
use serde_json::json;

use crate::ansible::BOTH;
use crate::bench::{Bench, Ran, step_with};

/// A play that uses the variable PAYLOAD in every way that templates, conditions, loops and includes offer.
const USES: &str = r#"
- hosts: all
  gather_facts: false
  vars:
    again: "{{ PAYLOAD }}"
    nested: {a: ["{{ PAYLOAD }}"]}
  tasks:
    - debug: {msg: "{{ PAYLOAD }} {{ again }} {{ nested }}"}
    - debug: {var: PAYLOAD}
    - set_fact: {copy: "{{ PAYLOAD }}"}
    - debug: {msg: "{{ copy }} {{ lookup('vars', 'PAYLOAD') }} {{ PAYLOAD | string }}"}
    - command: {argv: [echo, "{{ PAYLOAD }}"]}
      changed_when: false
    - copy: {content: "{{ PAYLOAD }} {{ copy }}", dest: "{{ playbook_dir }}/written"}
    - template: {src: PAYLOAD.j2, dest: "{{ playbook_dir }}/templated"}
    - debug: {msg: "{{ item }}"}
      loop: ["{{ PAYLOAD }}", "{{ copy }}"]
    - assert: {that: "PAYLOAD | string | length >= 0"}
"#;

/// A playbook with one such play for each name.
fn uses(bench: &Bench, names: &[String]) {
    bench.file("uses.yml", &names.iter().map(|name| USES.replace("PAYLOAD", name)).collect::<String>());
    for name in names {
        bench.file(&format!("{name}.j2"), &format!("{{{{ {name} }}}}\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n1_no_payload_runs_anything() {
    for version in BOTH {
        let bench = Bench::new(version);
        let marker = bench.beside("marker");
        let touch = format!("touch {}", marker.display());
        let payloads = [
            json!(format!("$({touch})")),
            json!(format!("`{touch}`; {touch} | {touch} && {touch}")),
            json!(format!("!unsafe !!python/object/apply:os.system [\"{touch}\"]")),
            json!(format!("lookup('pipe', '{touch}')")),
            json!({"_raw_params": touch, "cmd": touch, "a": [{"b": format!("lookup(\"pipe\", \"{touch}\")")}]}),
            json!(["{", "{ lookup('pipe', 'x') }", "}"]),
            json!(format!(
                "# set x = lookup('pipe', '{touch}')\n#jinja2: variable_start_string:'[['\n[[ lookup('pipe', '{touch}') ]]"
            )),
            json!("a b=c 'unbalanced \" quote\\ \t\u{1b}[31m é 😀"),
            json!({"key with space": null, "n": 1.5, "t": true}),
        ];
        let names: Vec<String> = (0..payloads.len()).map(|n| format!("payload_{n}")).collect();
        uses(&bench, &names);
        let vars: Vec<(&str, Json)> = names.iter().map(String::as_str).zip(payloads).collect();
        let Ran { outcome, log, .. } = bench.run(&step_with("uses.yml", &vars)).await;
        assert_eq!(outcome.verdict, Verdict::Succeeded, "{outcome:#?}\n{log}");
        assert!(!marker.exists(), "a payload ran");
    }
}

/// The wrapper alone, on texts that would be refused before it: a bare text runs, so this test can fail.
#[test]
fn n1_the_wrapper_holds_where_a_bare_text_runs() {
    for version in BOTH {
        let bench = Bench::new(version);
        uses(&bench, &["payload".to_owned()]);
        let marker = bench.beside("marker");
        let text = format!("{{{{ lookup('pipe', 'touch {}') }}}}", marker.display());
        for (payload, runs) in [(json!(text), true), (json!({ "__ansible_unsafe": text }), false)] {
            let vars = bench.beside("vars.json");
            fs::write(&vars, json!({ "payload": payload }).to_string()).unwrap();
            let output = Command::new(&bench.config.ansible_playbook)
                .args(["-i", "hosts.yml", "-e", &format!("@{}", vars.display()), "uses.yml"])
                .current_dir(bench.checkout())
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("HOME", bench.beside("home"))
                .env("LC_ALL", "C.UTF-8")
                .output()
                .unwrap();
            let log = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{log}");
            assert_eq!(marker.exists(), runs, "{payload}");
            let _ = fs::remove_file(&marker);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n1_a_template_never_reaches_ansible() {
    let bench = Bench::new(BOTH[1]);
    let marker = bench.beside("marker");
    uses(&bench, &["payload".to_owned()]);
    for text in ["{{ lookup('pipe', 'touch M') }}", "{% set x = lookup('pipe', 'touch M') %}", "{# #}", "a\0b"] {
        let text = text.replace('M', marker.to_str().unwrap());
        let step = step_with("uses.yml", &[("payload", json!({ "deep": [text] }))]);
        assert!(extra_vars(&step.vars).is_err());
        let Ran { outcome, log, .. } = bench.run(&step).await;
        assert_eq!(outcome.verdict, Verdict::Failed);
        assert!(log.is_empty() && outcome.exit_code.is_none(), "nothing was started");
        assert!(!marker.exists());
    }
}
