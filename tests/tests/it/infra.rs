//! The infra repository moves, is rewritten, is empty or half broken: what was merged is what runs, or nothing does.

use std::fs;

use chiffon_tests::{Bed, Merge};

/// The playbook of `journal`, writing to another file.
fn rewrite_journal(bed: &Bed, file: &str) {
    let path = "playbooks/journal-deployment.yml";
    let text = fs::read_to_string(bed.infra.folder.join(path)).unwrap();
    bed.infra.write(path, &text.replace("effects/journal", &format!("effects/{file}")));
}

#[test]
fn an_infra_repository_that_moved_under_an_open_plan_makes_a_new_offer() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    rewrite_journal(&bed, "journal-2");
    bed.infra.commit("another way");
    bed.up_once().ends(0);
    let status = bed.status("journal");
    assert_eq!((&status["state"], &status["plan"]["revision"]), (&"proposed".into(), &2.into()), "{status}");
    bed.approve("journal", Merge::Commit);
    bed.up_once().ends(0);
    assert_eq!((bed.infra.lines("journal").len(), bed.infra.lines("journal-2").len()), (0, 1));
}

#[test]
fn a_change_that_the_plan_does_not_read_leaves_it_open_and_it_runs_as_pinned() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.infra.write("README.md", "words\n");
    bed.infra.write("playbooks/broken.yml", "- hosts: [\n");
    bed.infra.commit("nothing to do with it");
    bed.up_once().ends(0);
    assert_eq!(bed.status("journal")["plan"]["revision"], 1);
    bed.approve("journal", Merge::Commit);
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "succeeded");
}

#[test]
fn s1_a_merge_of_a_plan_whose_infra_moved_is_refused_as_stale_and_planned_again() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    rewrite_journal(&bed, "journal-2");
    bed.infra.commit("moved before the merge was seen");
    bed.approve("journal", Merge::Commit);
    bed.up_once().ends(0);
    let status = bed.status("journal");
    assert_eq!(status["refusal"]["reason"], "stale", "{status}");
    assert_eq!((&status["state"], &status["plan"]["revision"]), (&"proposed".into(), &2.into()), "{status}");
    assert!(bed.infra.lines("journal").is_empty() && bed.infra.lines("journal-2").is_empty());
}

#[test]
fn s1_after_the_approval_the_pinned_commit_runs_whatever_happens_to_the_branch() {
    let bed = Bed::new();
    let mut up = bed.up();
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    bed.chiffon(&["pause", "journal", "--reason", "the branch is rewritten first", "--until", "1d"]).ends(0);
    bed.approve("journal", Merge::Commit);
    up.wait_for("journal: paused");
    // Force-pushed, and what was there is thrown away.
    rewrite_journal(&bed, "journal-2");
    bed.infra.git(&["add", "--all"]);
    bed.infra.git(&["commit", "--quiet", "--amend", "--message", "rewritten"]);
    bed.infra.git(&["reflog", "expire", "--expire=now", "--all"]);
    bed.infra.git(&["gc", "--quiet", "--prune=now"]);
    bed.chiffon(&["resume", "journal"]).ends(0);
    up.wait_for("journal: succeeded");
    assert_eq!((bed.infra.lines("journal").len(), bed.infra.lines("journal-2").len()), (1, 0));
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn an_empty_infra_repository_blocks_in_words_and_is_planned_once_it_is_filled() {
    let bed = Bed::new();
    let old = bed.infra.folder.join(".git");
    fs::rename(&old, bed.path().join("kept.git")).unwrap();
    bed.infra.git(&["init", "--quiet", "--initial-branch=main"]);
    bed.push_request("journal", "Deploy the journal");
    let said = bed.up_once().ends(3);
    assert!(said.out.contains("journal: blocked: the infra repository can't be read"), "{}", said.out);
    fs::remove_dir_all(&old).unwrap();
    fs::rename(bed.path().join("kept.git"), &old).unwrap();
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "proposed");
}

#[test]
fn a_broken_playbook_beside_good_ones_costs_only_itself() {
    let bed = Bed::new();
    bed.infra.write("playbooks/gazette-deployment.yml", "- name: Deploy the gazette\n  hosts: gazette\n  tasks: [\n");
    bed.infra.commit("broken");
    bed.push_request("journal", "Deploy the journal");
    bed.push_request("gazette", "Deploy the gazette");
    bed.up_once().ends(3);
    assert_eq!(bed.state("journal"), "proposed");
    let status = bed.status("gazette");
    assert_eq!(status["state"], "blocked", "{status}");
    // Mended, it is planned without anybody asking again.
    bed.infra.git(&["revert", "--no-edit", "HEAD"]);
    bed.up_once().ends(0);
    assert_eq!(bed.state("gazette"), "proposed");
}

#[test]
fn s6_an_infra_repository_that_escapes_its_tree_is_never_followed() {
    let bed = Bed::new();
    fs::write(bed.path().join("outside.yml"), "- name: Deploy the outside\n  hosts: all\n  tasks: []\n").unwrap();
    std::os::unix::fs::symlink("../../outside.yml", bed.infra.folder.join("playbooks/outside-deployment.yml")).unwrap();
    bed.infra.commit("a link out of the tree");
    bed.push_request("outside", "Deploy the outside");
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(3);
    assert_eq!((bed.state("outside"), bed.state("journal")), ("blocked".to_owned(), "proposed".to_owned()));
    bed.approve("journal", Merge::Commit);
    bed.up_once();
    assert_eq!(bed.infra.lines("journal").len(), 1, "{}", bed.status("journal"));
}

#[test]
fn an_infra_repository_that_is_away_holds_nothing_up_for_ever() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    fs::rename(&bed.infra.folder, bed.path().join("away")).unwrap();
    bed.push_request("gazette", "Deploy the gazette");
    bed.up_once().ends(3);
    assert_eq!(bed.state("gazette"), "blocked");
    assert_eq!(bed.state("journal"), "proposed", "an open offer stays");
    fs::rename(bed.path().join("away"), &bed.infra.folder).unwrap();
    bed.up_once().ends(0);
    assert_eq!(bed.state("gazette"), "proposed");
}

#[test]
fn an_infra_repository_that_never_answers_holds_up_neither_runs_nor_the_end() {
    let bed = Bed::new();
    bed.ask_and_approve("slow", "Deploy the slow one");
    let mut up = bed.up();
    up.wait_for("slow: running");
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = bed.home().join("chiffon.yaml");
    let text = fs::read_to_string(&config).unwrap();
    let url = format!("https://{}/infra.git", silent.local_addr().unwrap());
    let edited: Vec<String> = text
        .lines()
        .map(|line| match line.split_once("url:") {
            Some((indent, _)) => format!("{indent}url: {url}"),
            None => line.to_owned(),
        })
        .collect();
    fs::write(&config, edited.join("\n") + "\n").unwrap();
    up.wait_for("chiffon.yaml was read again");
    let _asked = silent.accept().expect("it is asked");
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("the infra repository takes long to answer");
    bed.wait_until("a plan is offered all the same", || bed.state("journal") == "proposed");
    bed.infra.open_gate();
    up.wait_for("slow: succeeded");
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

/// What can't be read of the infra repository delays an approved plan; only what was read may refuse it.
#[test]
fn s1_a_catalogue_that_cannot_be_read_delays_an_approved_plan_and_refuses_nothing() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.approve("journal", Merge::Commit);
    let blob = bed.infra.git(&["rev-parse", "HEAD:playbooks/journal-deployment.yml"]);
    let (folder, file) = blob.trim().split_at(2);
    let object = bed.home().join("state/infra.git/objects").join(folder).join(file);
    let aside = bed.path().join("aside");
    fs::rename(&object, &aside).expect("a loose object");
    let said = bed.up_once().ends(1);
    assert!(said.err.contains("journal:") && said.err.contains(blob.trim()), "{}", said.err);
    assert_eq!(bed.count("plan-refused"), 0);
    assert!(bed.infra.lines("journal").is_empty());
    fs::rename(&aside, &object).unwrap();
    bed.up_once().ends(0);
    assert_eq!(bed.infra.lines("journal"), ["alpha"]);
}
