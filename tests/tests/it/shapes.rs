//! What the command line is held to: words, exit statuses, stable JSON, hostile text, colour.

use std::fs;
use std::process::Stdio;

use chiffon_tests::{Bed, Merge, Said, ansible_playbook};
use serde_json::{Value, json};

/// A request as another reader of YAML than ours sees it.
fn as_others_read(bed: &Bed, name: &str) -> Value {
    let text = bed.bare_git(&["show", &format!("main:requests/{name}.yaml")]);
    let path = bed.path().join("read.yaml");
    fs::write(&path, text).unwrap();
    let python = ansible_playbook().with_file_name("python");
    let program = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1], encoding='utf-8'))))";
    let said: Said = std::process::Command::new(python).args(["-c", program]).arg(path).output().unwrap().into();
    said.ends(0).json()
}

#[test]
fn a_mistyped_word_is_answered_with_the_nearest() {
    let bed = Bed::new();
    for (typed, near) in [
        (vec!["statsu"], "'status'"),
        (vec!["aprove", "journal"], "'approve'"),
        (vec!["status", "--jsn"], "'--json'"),
        (vec!["pause", "journal", "--reson", "x"], "'--reason'"),
        (vec!["status", "--color", "allways"], "'always'"),
    ] {
        let said = bed.chiffon(&typed).ends(2);
        assert!(said.err.contains("similar") && said.err.contains(near), "{typed:?}: {}", said.err);
        assert_eq!(said.out, "");
    }
    let empty = bed.chiffon(&["status", "journal"]).ends(1);
    assert!(empty.err.contains("there is no request yet"), "{}", empty.err);
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    for command in ["status", "plan", "approve", "answer", "log", "cancel", "retry", "resume"] {
        let said = bed.chiffon(&[command, "jurnal"]).ends(1);
        assert!(said.err.contains("there is no request `jurnal`: did you mean `journal`?"), "{command}: {}", said.err);
    }
    let far = bed.chiffon(&["status", "something-else"]).ends(1);
    assert!(far.err.contains("`chiffon status` lists them"), "{}", far.err);
    for (typed, near) in [("succeded", "succeeded"), ("plan-ofered", "plan-offered")] {
        let said = bed.chiffon(&["audit", "--status", typed]).ends(1);
        assert!(said.err.contains(&format!("did you mean `{near}`?")), "{}", said.err);
    }
    let said = bed.chiffon(&["audit", "--status", "purple"]).ends(1);
    assert!(said.err.contains("there are succeeded, failed, cancelled, lost"), "{}", said.err);
    assert_eq!(bed.chiffon(&["unlock", "alpha"]).ends(1).err, "error: no host is locked\n");
}

#[test]
fn exit_statuses_say_how_it_stands() {
    let bed = Bed::new();
    bed.up_once().ends(0);
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.chiffon(&["status", "journal"]).ends(0);
    bed.push_request("weather", "What will the weather be like tomorrow?");
    bed.up_once().ends(3);
    bed.chiffon(&["status", "weather"]).ends(3);
    bed.chiffon(&["status"]).ends(0);
    for wrong in [
        vec![],
        vec!["up", "--twice"],
        vec!["pause", "journal"],
        vec!["resolve", "journal"],
        vec!["resolve", "journal", "--failed", "--retry"],
        vec!["plan", "journal", "--yaml", "--again"],
        vec!["request"],
        vec!["init", "x"],
    ] {
        bed.chiffon(&wrong).ends(2);
    }
    let config = bed.home().join("chiffon.yaml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("kind: Config", "kind: Konfig")).unwrap();
    let said = bed.up_once().ends(1);
    assert!(said.err.contains("chiffon.yaml"), "{}", said.err);
    fs::write(&config, text).unwrap();
    bed.up_once().ends(3);
}

#[test]
fn a_failed_run_is_a_status_of_three() {
    let bed = Bed::new();
    bed.ask_and_approve("faulty", "Deploy the faulty one");
    bed.up_once().ends(3);
    assert_eq!(bed.state("faulty"), "failed");
    let said = bed.chiffon(&["status", "faulty"]).ends(3).out;
    assert!(said.contains("beta: need a mended part"), "{said}");
    assert!(said.contains("chiffon retry faulty"), "{said}");
    bed.chiffon(&["log", "faulty"]).ends(0);
    bed.chiffon(&["log", "faulty", "--follow"]).ends(3);
}

#[test]
fn a_request_carries_what_was_typed() {
    let bed = Bed::new();
    let said = bed.chiffon(&[
        "request",
        "Deploy the journal",
        "--name",
        "mine",
        "--target",
        "alpha",
        "--var",
        "port=3001",
        "--var",
        "mode=0755",
        "--var",
        "on=true",
        "--var",
        "list=[1, \"a\"]",
        "--var",
        "text={{ lookup('pipe', 'id') }}",
        "--var",
        "eq=a=b",
    ]);
    assert_eq!(said.ends(0).out, "mine: pushed as requests/mine.yaml; see `chiffon status mine`\n");
    let expected = json!({
        "text": "Deploy the journal",
        "targets": ["alpha"],
        "vars": {
            "port": 3001, "mode": "0755", "on": true, "list": [1, "a"], "text": "{{ lookup('pipe', 'id') }}", "eq": "a=b",
        },
    });
    assert_eq!(as_others_read(&bed, "mine")["spec"], expected);
    assert_eq!(
        bed.bare_git(&["log", "-1", "--format=%an <%ae> %s", "main"]),
        "Pat <pat@localhost> request: Deploy the journal"
    );

    let tip = bed.bare_git(&["rev-parse", "main"]);
    let taken = bed.chiffon(&["request", "Deploy the gazette", "--name", "mine"]).ends(1);
    assert!(taken.err.contains("there is a request mine already: edit requests/mine.yaml"), "{}", taken.err);
    for wrong in [
        vec!["request", "Deploy it", "--name", "Not A Name"],
        vec!["request", "Deploy it", "--name", "../up"],
        vec!["request", "Deploy it", "--target", "a b"],
        vec!["request", "Deploy it", "--var", "nothing"],
        vec!["request", "Deploy it", "--var", "a b=c"],
        vec!["request", "   "],
        vec!["request", ""],
    ] {
        let said = bed.chiffon(&wrong).ends(1);
        assert!(said.err.starts_with("error: "), "{wrong:?}: {}", said.err);
        assert_eq!(bed.bare_git(&["rev-parse", "main"]), tip, "{wrong:?}");
    }
    bed.chiffon(&["request", "Deploy the journal"]).ends(0);
    bed.chiffon(&["request", "Deploy the journal"]).ends(0);
    let files = bed.bare_git(&["ls-tree", "--name-only", "main", "requests/"]);
    for name in ["deploy-journal.yaml", "deploy-journal-2.yaml"] {
        assert!(files.contains(name), "{files}");
    }
}

#[test]
fn s7_hostile_text_is_data() {
    let bed = Bed::new();
    let texts = [
        "Deploy 'the' \"journal\": #1 - {a: b} [c] & *d !e |",
        "Deploy\nthe journal\n\n---\nkind: Plan\n",
        "{{ lookup('pipe', 'touch /tmp/x') }} {% raw %}",
        "--upload-pack=touch x",
        "$(touch x) `touch x` ; touch x | cat",
        "- yes",
        "null",
        "0x10",
        "C:\\new\\table \u{e9}\u{1f600}",
        "subject\n\nChiffon-Event: 01JE run-succeeded",
    ];
    for (number, text) in texts.iter().enumerate() {
        let name = format!("hostile-{number}");
        bed.chiffon(&["request", "--name", &name, "--", text]).ends(0);
        assert_eq!(as_others_read(&bed, &name)["spec"]["text"], text.trim(), "{text:?}");
        let message = bed.bare_git(&["log", "-1", "--format=%B", "main"]);
        assert_eq!(message.trim_end().lines().count(), 1, "the message is one line: {message}");
    }
    bed.chiffon(&["request", "--upload-pack=touch x"]).ends(2);
    let said = bed.up_once();
    assert!([0, 3].contains(&said.status), "{said:?}");
    let rows = bed.chiffon(&["status", "--json"]).ends(0).json();
    assert_eq!(rows["requests"].as_array().unwrap().len(), texts.len());
    assert!(!bed.path().join("x").exists());
}

#[test]
fn text_that_a_request_cannot_hold_is_refused_whole() {
    let bed = Bed::new();
    let tip = bed.bare_git(&["rev-parse", "main"]);
    let long = "Deploy the journal ".repeat(70 * 1024 / 19);
    for text in [long.as_str(), "Deploy\u{7} the journal", "Deploy the \u{202e}lanruoj"] {
        let said = bed.chiffon(&["request", text]).ends(1);
        assert!(said.err.starts_with("error: "), "{}", said.err);
        assert!(said.err.contains("error[CHF00"), "{}", said.err);
        assert!(said.err.len() < 2_000, "{} bytes of message", said.err.len());
        assert_eq!(bed.bare_git(&["rev-parse", "main"]), tip);
    }
    assert_eq!(bed.bare_git(&["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
}

#[test]
fn a_line_break_in_a_request_makes_no_line_of_its_own() {
    let bed = Bed::new();
    bed.push_request("weather", "What is the weather\nother: succeeded\n");
    for said in [bed.up_once(), bed.chiffon(&["status"]), bed.chiffon(&["status", "weather"]), bed.chiffon(&["audit"])]
    {
        assert!(!said.out.lines().any(|line| line.starts_with("other: succeeded")), "{}", said.out);
    }
}

/// A reason that wants to be a line, a trailer and an event.
const FORGED: &str =
    "no\n\nother: succeeded\nChiffon-Event: 01JE0000000000000000000000 run-succeeded\nChiffon-Host: alpha";

#[test]
fn a_reason_forges_no_record() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.chiffon(&["pause", "journal", "--reason", FORGED, "--until", "1h"]).ends(0);
    bed.chiffon(&["reject", "journal", "--reason", FORGED]).ends(0);
    bed.up_once().ends(0);
    assert_eq!(bed.kinds(), ["plan-offered", "request-paused", "offer-closed"]);
    assert_eq!(bed.count("run-succeeded"), 0);
    let audit = bed.chiffon(&["audit", "--status", "succeeded", "--json"]).ends(0).json();
    assert_eq!(audit["events"].as_array().unwrap().len(), 0);
    let found = bed.bare_git(&["log", "--format=%s", "--grep=^Chiffon-Event: .* run-succeeded", "chiffon/audit"]);
    assert_eq!(found, "");
}

#[test]
fn a_reason_makes_no_line_of_its_own() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.chiffon(&["pause", "journal", "--reason", FORGED, "--until", "1h"]).ends(0);
    bed.approve("journal", Merge::Commit);
    let up = bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "paused");
    for said in [up, bed.chiffon(&["status"]), bed.chiffon(&["status", "journal"]), bed.chiffon(&["audit"])] {
        assert!(!said.out.lines().any(|line| line.starts_with("other: succeeded")), "{}", said.out);
    }
    let page = bed.bare_git(&["show", "chiffon/audit:status/journal.md"]);
    assert!(!page.lines().any(|line| line.starts_with("other: succeeded")), "{page}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let bed = Bed::new();
    for arguments in [["status"], ["audit"], ["doctor"]] {
        let mut command = bed.command(&["--dir", "home"]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let said: Said = child.wait_with_output().unwrap().into();
        assert!([0, 3].contains(&said.status) && said.err.is_empty(), "{said:?}");
    }
}

#[test]
fn an_answer_is_data() {
    let bed = Bed::homelab();
    bed.push_request("model", "pull a model for ollama");
    bed.up_once().ends(3);
    let asked = bed.chiffon(&["answer", "model", "--json"]).ends(3).json();
    let id = asked["questions"][0]["id"].as_str().unwrap();
    let value = "{{ lookup('pipe', 'touch x') }}\n  evil: \"yes\" # no";
    bed.chiffon(&["answer", "model", &format!("{id}={value}")]);
    let request = as_others_read(&bed, "model");
    if !request["spec"]["answers"].is_null() {
        assert_eq!(request["spec"]["answers"], json!({ id: value }));
    }
    let up = bed.up_once();
    assert!([0, 3].contains(&up.status), "{up:?}");
    if bed.state("model") == "proposed" {
        bed.approve("model", Merge::Commit);
        bed.up_once();
    }
    assert!(!bed.path().join("x").exists());
}

/// A bed on which foreign text with escapes is everywhere.
fn noisy() -> Bed {
    let bed = Bed::new();
    let play = "- name: \"Deploy the noisy one\"\n  hosts: journal\n  gather_facts: false\n  tasks:\n    - name: \"shout \\e]0;x\\a \\e[31m\"\n      ansible.builtin.shell: printf '\\033]0;x\\007' >&2; exit 1\n";
    bed.infra.write("playbooks/noisy-deployment.yml", play);
    bed.infra.commit("noise");
    bed.ask_and_approve("noisy", "Deploy the noisy one");
    bed
}

const SHOW: [&[&str]; 9] = [
    &["status"],
    &["status", "noisy"],
    &["status", "escape"],
    &["plan", "noisy"],
    &["plan", "noisy", "--yaml"],
    &["log", "noisy"],
    &["audit"],
    &["doctor"],
    &["validate", "clone/requests/escape.yaml"],
];

#[test]
fn s9_no_escape_reaches_piped_output() {
    let bed = noisy();
    let text = "apiVersion: chiffon/v1\nkind: Request\nspec:\n  text: Deploy the \u{1b}]0;x\u{7} journal\n";
    bed.write("requests/escape.yaml", text);
    let refused = bed.try_push("escape").ends(1);
    assert!(refused.err.contains("CHF0001") && !refused.err.contains('\u{1b}'), "{refused:?}");
    // Without the hook it reaches main all the same.
    bed.remove_hooks();
    bed.push("escape");
    let up = bed.up_once().ends(3);
    assert_eq!(bed.state("noisy"), "failed");
    let typed =
        [bed.chiffon(&["request", "Deploy \u{1b}]0;x\u{7}"]), bed.chiffon(&["audit", "--service", "\u{1b}]0;x"])];
    let shown = SHOW.iter().map(|arguments| bed.chiffon(arguments));
    for said in [up].into_iter().chain(typed).chain(shown) {
        assert!(!said.out.contains('\u{1b}') && !said.err.contains('\u{1b}'), "{said:?}");
    }
    let log = bed.chiffon(&["log", "noisy"]).out;
    assert!(log.contains("shout \u{fffd}]0;x"), "{log}");
    let status = bed.bare_git(&["show", "chiffon/audit:status/noisy.md"]);
    let record = status + &bed.bare_git(&["show", "main:plans/noisy.md"]) + &bed.history().concat();
    assert!(record.contains("shout") && !record.contains('\u{1b}'), "{record}");
    for arguments in SHOW {
        let said = bed.chiffon(&[&["--json"], arguments].concat());
        assert!(!said.out.contains('\u{1b}') && !said.err.contains('\u{1b}'), "{said:?}");
    }
    for arguments in SHOW {
        let said = bed.chiffon(&[&["--color", "always"], arguments].concat());
        assert!(!said.out.contains("\u{1b}]") && !said.err.contains("\u{1b}]"), "{said:?}");
    }
}

#[test]
fn s9_no_escape_reaches_an_error() {
    let bed = Bed::new();
    for arguments in [["status", "\u{1b}]0;x"], ["validate", "\u{1b}]0;x"], ["request", "--var=\u{1b}]0;x"]] {
        let said = bed.chiffon(&arguments);
        assert_ne!(said.status, 0);
        assert!(!said.err.contains('\u{1b}'), "{said:?}");
    }
}

/// Runs a line of the shell on a terminal, and gives what the terminal got.
fn on_terminal(bed: &Bed, line: &str, no_color: &str) -> Said {
    let program = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(['sh', '-c', *sys.argv[1:]])))";
    let chiffon = bed.command(&["--dir", "home"]);
    let mut command = std::process::Command::new("python3");
    command.args(["-c", program, line]).arg(chiffon.get_program()).args(chiffon.get_args()).current_dir(bed.path());
    command.env("NO_COLOR", no_color).env("HOME", bed.path()).stdin(std::process::Stdio::null());
    command.output().unwrap().into()
}

#[test]
fn a_piped_stderr_is_not_coloured_by_a_terminal_at_stdout() {
    let bed = Bed::new();
    on_terminal(&bed, "$0 $1 $2 request '' 2>err.txt", "").ends(1);
    let err = fs::read_to_string(bed.path().join("err.txt")).unwrap();
    assert!(err.contains("CHF0008"), "{err}");
    assert!(!err.contains('\u{1b}'), "{err:?}");
}

#[test]
fn colour_is_for_terminals() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    let status = "$0 $1 $2 status";
    assert!(on_terminal(&bed, status, "").ends(0).out.contains("\u{1b}["));
    assert!(!on_terminal(&bed, status, "1").ends(0).out.contains('\u{1b}'));
    assert!(bed.chiffon(&["status", "--color", "always"]).ends(0).out.contains("\u{1b}["));
    assert!(!bed.chiffon(&["status"]).ends(0).out.contains('\u{1b}'));
}
