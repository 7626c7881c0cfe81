//! What people do with the command line: questions, refusals, rejections, pauses, two at once.

use chiffon_tests::{Bed, Merge};

/// The branch that an open plan lies on, where there is one.
fn plan_branch(bed: &Bed, name: &str) -> Option<String> {
    let branch = format!("refs/heads/chiffon/plan/{name}");
    let found = bed.bare_git(&["for-each-ref", "--format=%(objectname)", &branch]);
    Some(found).filter(|oid| !oid.is_empty())
}

/// The playbooks of the open plan.
fn playbooks(bed: &Bed, name: &str) -> Vec<String> {
    let plan = bed.chiffon(&["plan", name, "--json"]).ends(0).json();
    let steps = plan["plan"]["spec"]["steps"].as_array().unwrap().clone();
    steps.iter().map(|step| step["playbook"].as_str().unwrap().to_owned()).collect()
}

/// The last questions of a request: at least one, at most three.
fn questions(bed: &Bed, name: &str) -> Vec<serde_json::Value> {
    let said = bed.chiffon(&["answer", name, "--json"]).ends(3).json();
    let questions = said["questions"].as_array().unwrap().clone();
    assert!((1..=3).contains(&questions.len()), "{said}");
    questions
}

#[test]
fn a_question_is_answered_with_the_command() {
    let bed = Bed::homelab();
    bed.push_request("monitoring", "deploy monitoring");
    bed.up_once().ends(3);
    assert_eq!(bed.state("monitoring"), "blocked");
    assert_eq!(plan_branch(&bed, "monitoring"), None, "nothing is offered while a question is open");
    let asked = questions(&bed, "monitoring");
    let id = asked[0]["id"].as_str().unwrap();
    let shown = bed.chiffon(&["answer", "monitoring"]).ends(3).out;
    assert!(shown.contains(&format!("{id}=playbooks/grafana-deployment.yml")), "{shown}");

    let mistyped = bed.chiffon(&["answer", "monitoring", &format!("{id}=playbooks/grafana-deploymnt.yml")]).ends(1);
    assert!(mistyped.err.contains("did you mean `playbooks/grafana-deployment.yml`?"), "{}", mistyped.err);
    let mistyped = bed.chiffon(&["answer", "monitoring", &format!("{id}x=playbooks/grafana-deployment.yml")]).ends(1);
    assert!(mistyped.err.contains(&format!("did you mean `{id}`?")), "{}", mistyped.err);

    bed.chiffon(&["answer", "monitoring", &format!("{id}=playbooks/grafana-deployment.yml")]).ends(0);
    bed.up_once().ends(0);
    assert_eq!(bed.state("monitoring"), "proposed", "{}", bed.status("monitoring"));
    assert_eq!(playbooks(&bed, "monitoring"), ["playbooks/grafana-deployment.yml"]);
    let again = bed.chiffon(&["answer", "monitoring"]).ends(1);
    assert!(again.err.contains("monitoring asks nothing: it is proposed"), "{}", again.err);
}

#[test]
fn a_question_is_answered_in_the_file() {
    let bed = Bed::homelab();
    bed.push_request("monitoring", "deploy monitoring");
    bed.up_once().ends(3);
    let id = questions(&bed, "monitoring")[0]["id"].as_str().unwrap().to_owned();
    let text = bed.read("requests/monitoring.yaml");
    let answered = format!("{text}  answers:\n    {id}: playbooks/prometheus-deployment.yml\n");
    bed.write("requests/monitoring.yaml", &answered);
    bed.push("the answer");
    bed.up_once().ends(0);
    assert_eq!(bed.state("monitoring"), "proposed", "{}", bed.status("monitoring"));
    assert_eq!(playbooks(&bed, "monitoring"), ["playbooks/prometheus-deployment.yml"]);
}

#[test]
fn what_nothing_fits_is_blocked_with_the_nearest_named() {
    let bed = Bed::homelab();
    bed.push_request("gitea", "restart gitea");
    bed.up_once().ends(3);
    let said = bed.chiffon(&["status", "gitea"]).ends(3).out;
    assert!(said.contains("gitea: blocked: nothing fits: "), "{said}");
    assert!(said.contains("playbooks/gitea-deployment.yml"), "{said}");
    assert!(said.contains("next: change requests/gitea.yaml"), "{said}");
    assert_eq!(plan_branch(&bed, "gitea"), None);
    let plan = bed.chiffon(&["plan", "gitea"]).ends(1);
    assert!(plan.err.contains("gitea has no plan: blocked"), "{}", plan.err);
    bed.chiffon(&["approve", "gitea"]).ends(1);
}

#[test]
fn a_rejection_closes_the_offer_and_keeps_the_reason() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    assert!(plan_branch(&bed, "journal").is_some());
    let first = bed.status("journal")["plan"].clone();
    assert_eq!(first["revision"], 1);

    let said = bed.chiffon(&["reject", "journal", "--reason", "not before the holidays"]).ends(0);
    assert!(said.out.contains("`chiffon up` is not running"), "{}", said.out);
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "rejected");
    assert_eq!(plan_branch(&bed, "journal"), None);
    assert_eq!(bed.history().last().unwrap(), "journal: rejected: not before the holidays");
    assert_eq!(bed.count("offer-closed"), 1);
    bed.chiffon(&["approve", "journal"]).ends(1);

    bed.chiffon(&["plan", "journal", "--again"]).ends(0);
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "proposed");
    let second = bed.status("journal")["plan"].clone();
    assert_eq!(second["revision"], 2);
    assert_ne!(second["oid"], first["oid"]);
    assert!(plan_branch(&bed, "journal").is_some());
    assert!(bed.infra.lines("journal").is_empty());
}

#[test]
fn a_running_reconciler_answers_at_once() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    let mut up = bed.up();
    let said = bed.chiffon(&["reject", "journal", "--reason", "no"]).ends(0);
    assert!(said.out.contains("journal is rejected"), "{}", said.out);
    let said = bed.chiffon(&["reject", "journal", "--reason", "no"]).ends(1);
    assert!(said.out.contains("journal has no open offer"), "{}", said.out);
    let said = bed.chiffon(&["retry", "journal"]).ends(1);
    assert!(said.out.contains("journal has not run yet"), "{}", said.out);
    up.wait_for("journal: rejected");
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn a_pause_holds_an_approved_plan_back_until_it_is_resumed() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.chiffon(&["pause", "journal", "--reason", "guests are here", "--until", "12h"]).ends(0);
    bed.up_once().ends(0);
    bed.approve("journal", Merge::Commit);
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "paused");
    let said = bed.chiffon(&["status", "journal"]).ends(0).out;
    assert!(said.contains(": guests are here"), "{said}");
    assert!(said.contains("next: chiffon resume journal"), "{said}");
    assert!(bed.infra.lines("journal").is_empty(), "nothing runs while it is paused");

    bed.chiffon(&["resume", "journal"]).ends(0);
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "succeeded");
    assert_eq!(bed.infra.lines("journal"), ["alpha"]);
    assert_eq!((bed.count("request-paused"), bed.count("request-resumed")), (1, 1));
}

#[test]
fn a_pause_needs_a_time_that_is_ahead() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    let pause = |until: &str| bed.chiffon(&["pause", "journal", "--reason", "x", "--until", until]).ends(1).err;
    assert!(pause("2001-01-01T00:00:00Z").contains("has passed already"));
    assert!(pause("0m").contains("has passed already"));
    assert!(pause("tomorrow").contains("`tomorrow` is no time: write 2026-12-06T09:00:00Z"));
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "proposed");
}

#[test]
fn a_second_up_says_that_one_is_running() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    let up = bed.up();
    for second in [bed.chiffon(&["up"]), bed.up_once()] {
        let second = second.ends(1);
        assert!(second.err.contains("another `chiffon up` is running"), "{}", second.err);
    }
    assert_eq!(bed.state("journal"), "proposed");
    up.signal("TERM");
    assert_eq!(up.end(), 0);
    bed.up_once().ends(0);
}

#[test]
fn what_only_reads_works_with_and_without_a_reconciler() {
    let bed = Bed::new();
    bed.ask_and_approve("journal", "Deploy the journal");
    let mut up = bed.up();
    up.wait_for("journal: succeeded");
    let look = || {
        let list = bed.chiffon(&["status"]).ends(0).out;
        let one = bed.chiffon(&["status", "journal"]).ends(0).out;
        let log = bed.chiffon(&["log", "journal"]).ends(0).out;
        let audit = bed.chiffon(&["audit"]).ends(0).out;
        (list, one, log, audit)
    };
    let (list, one, log, audit) = look();
    assert!(list.lines().any(|line| line.starts_with("journal") && line.contains("succeeded")), "{list}");
    assert!(one.starts_with("journal: succeeded"), "{one}");
    assert!(log.contains("PLAY RECAP"), "{log}");
    assert!(audit.contains("run-succeeded"), "{audit}");
    up.signal("TERM");
    assert_eq!(up.end(), 0);
    let (_, one_after, log_after, audit_after) = look();
    assert_eq!((one_after, log_after, audit_after), (one, log, audit));
}

#[test]
fn a_command_in_a_clone_finds_its_home() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    let folder = bed.path().join("clone/requests");
    let from_clone = |arguments: &[&str]| -> chiffon_tests::Said {
        bed.command(arguments).current_dir(&folder).output().unwrap().into()
    };
    assert!(from_clone(&["status", "journal"]).ends(0).out.starts_with("journal: proposed"));
    from_clone(&["approve", "journal"]).ends(0);
    let nowhere: chiffon_tests::Said = bed.command(&["status"]).current_dir("/").output().unwrap().into();
    assert!(nowhere.ends(1).err.contains("--dir DIR or CHIFFON_DIR"));
}

#[test]
fn never_more_than_three_questions_at_once() {
    let bed = Bed::homelab();
    let text = "update jellyfin, pull a model for ollama, block a domain in pihole, update the kuma config, and restore web01 with restic";
    bed.push_request("much", text);
    bed.up_once().ends(3);
    assert_eq!(questions(&bed, "much").len(), 3);
}

/// The status of a request that asked about monitoring and was answered in its file with `id: value`.
fn answered_in_the_file(id: &str, value: &str) -> (Bed, String) {
    let bed = Bed::homelab();
    bed.push_request("monitoring", "deploy monitoring");
    bed.up_once().ends(3);
    assert_eq!(questions(&bed, "monitoring")[0]["id"], "playbook-1");
    let text = bed.read("requests/monitoring.yaml");
    bed.write("requests/monitoring.yaml", &format!("{text}  answers:\n    {id}: {value}\n"));
    bed.push("a wrong answer");
    bed.up_once().ends(3);
    assert_eq!(plan_branch(&bed, "monitoring"), None);
    let said = bed.chiffon(&["status", "monitoring"]).ends(3).out;
    (bed, said)
}

#[test]
fn an_answer_that_was_not_to_choose_from_is_a_mistake() {
    let (bed, said) = answered_in_the_file("playbook-1", "playbooks/kuma-remove.yml");
    assert!(said.contains("`playbooks/kuma-remove.yml` is no answer to this question"), "{said}");
    assert!(bed.chiffon(&["answer", "monitoring"]).ends(1).err.contains("monitoring asks nothing: it is blocked"));
}

#[test]
fn an_answer_to_no_question_is_a_mistake() {
    let (_, said) = answered_in_the_file("playbok-1", "playbooks/grafana-deployment.yml");
    assert!(said.contains("playbok-1"), "{said}");
}

#[test]
fn a_second_answer_keeps_what_the_person_wrote() {
    let bed = Bed::homelab();
    let text = "# mine\napiVersion: chiffon/v1\nkind: Request\nspec:\n  text: update jellyfin and pull a model for ollama  # soon\n";
    bed.write("requests/both.yaml", text);
    bed.push("both");
    bed.up_once().ends(3);
    for value in ["10.10.0", "qwen3"] {
        let id = questions(&bed, "both")[0]["id"].as_str().unwrap().to_owned();
        bed.chiffon(&["answer", "both", &format!("{id}={value}")]).ends(0);
        bed.up_once();
    }
    assert_eq!(bed.state("both"), "proposed", "{}", bed.status("both"));
    let answered = bed.bare_git(&["show", "main:requests/both.yaml"]);
    assert!(answered.starts_with(text.trim_end()), "{answered}");
}

#[test]
fn a_plan_is_shown_as_it_would_run() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    let shown = bed.chiffon(&["plan", "journal", "--yaml"]).ends(0).out;
    let branch = bed.bare_git(&["show", "chiffon/plan/journal:plans/journal.yaml"]);
    assert_eq!(shown.trim_end(), branch);
    let page = bed.chiffon(&["plan", "journal"]).ends(0).out;
    assert_eq!(page.trim_end(), bed.bare_git(&["show", "chiffon/plan/journal:plans/journal.md"]));
}

#[test]
fn waiting_for_a_plan_without_a_reconciler_says_so() {
    let bed = Bed::new();
    let said = bed.chiffon(&["request", "Deploy the journal", "--name", "journal", "--wait"]).ends(1);
    assert!(
        said.err.contains("`chiffon up` is not running, so no plan is made yet; the request is pushed"),
        "{said:?}"
    );
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "proposed");
}

#[test]
fn the_record_is_found_by_what_it_touched() {
    let bed = Bed::new();
    for (name, text) in [("journal", "Deploy the journal"), ("gazette", "Deploy the gazette")] {
        bed.ask_and_approve(name, text);
        bed.up_once().ends(0);
    }
    let events = |filter: &[&str]| -> Vec<(String, String)> {
        let json = bed.chiffon(&[&["audit", "--json"], filter].concat()).ends(0).json();
        let word = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        json["events"].as_array().unwrap().iter().map(|event| (word(event, "request"), word(event, "kind"))).collect()
    };
    let of = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
    assert_eq!(events(&["--status", "succeeded"]), [of("gazette", "run-succeeded"), of("journal", "run-succeeded")]);
    assert_eq!(events(&["--status", "succeeded", "--host", "alpha"]), [of("journal", "run-succeeded")]);
    assert_eq!(events(&["--limit", "1"]), [of("gazette", "run-succeeded")]);
    assert_eq!(events(&["--host", "gamma"]), []);
    assert_eq!(events(&["--since", "2100-01-01T00:00:00Z"]), []);
    assert_eq!(events(&["--since", "1h"]).len(), events(&[]).len());
    assert_eq!(bed.chiffon(&["audit", "--host", "gamma"]).ends(0).out, "nothing recorded that fits\n");
}

#[test]
fn a_name_is_taken_in_every_folder() {
    let bed = Bed::new();
    bed.write(
        "requests/team/journal.yaml",
        "apiVersion: chiffon/v1\nkind: Request\nspec:\n  text: Deploy the journal\n",
    );
    bed.push("in a folder");
    let tip = bed.bare_git(&["rev-parse", "main"]);
    let said = bed.chiffon(&["request", "Deploy the journal", "--name", "journal"]).ends(1);
    for part in ["CHF0015", "requests/journal.yaml", "requests/team/journal.yaml"] {
        assert!(said.err.contains(part), "{}", said.err);
    }
    assert_eq!(bed.bare_git(&["rev-parse", "main"]), tip);
}
