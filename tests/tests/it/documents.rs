//! What a wrong or hostile file in the requests repository gets: a clear answer, and nothing lost.

use chiffon_tests::{Bed, Merge, root};

fn invalid(name: &str) -> String {
    std::fs::read_to_string(root().join("requests/invalid").join(name)).unwrap()
}

#[test]
fn the_hook_refuses_a_wrong_request_with_every_mistake_and_the_way_out() {
    let bed = Bed::new();
    let text = "apiVersion: chiffon/v1\nkind: Request\nspec:\n  txt: Deploy the journal\n  priority: 9\n";
    bed.write("requests/journal.yaml", text);
    let said = bed.try_push("wrong twice");
    assert_ne!(said.status, 0);
    for part in ["requests/journal.yaml:4:3", "did you mean `text`", "requests/journal.yaml:5:13", "  priority: 9"] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    // What was refused is still there to be mended.
    assert_eq!(bed.read("requests/journal.yaml"), text);
}

#[test]
fn the_hook_refuses_every_file_of_requests_invalid() {
    let bed = Bed::new();
    let folder = root().join("requests/invalid");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 15, "{names:?}");
    for name in &names {
        let bytes = std::fs::read(root().join("requests/invalid").join(name)).unwrap();
        std::fs::create_dir_all(bed.path().join("clone/requests")).unwrap();
        std::fs::write(bed.path().join(format!("clone/requests/{name}")), bytes).unwrap();
    }
    let said = bed.try_push("all of them");
    assert_ne!(said.status, 0);
    for name in &names {
        assert!(said.err.contains(&format!("requests/{name}")), "{name} is not named: {}", said.err);
    }
}

#[test]
fn a_wrong_request_that_came_past_the_hook_is_blocked_and_mended_by_the_next_push() {
    let bed = Bed::new();
    bed.remove_hooks();
    bed.write("requests/journal.yaml", "apiVersion: chiffon/v1\nkind: Request\nspec:\n  txt: Deploy the journal\n");
    bed.push("wrong");
    let said = bed.up_once().ends(3);
    assert!(said.out.contains("journal: blocked") && said.out.contains("did you mean `text`"), "{}", said.out);
    let page = bed.bare_git(&["show", "chiffon/audit:status/journal.md"]);
    assert!(page.starts_with("# journal: blocked") && page.contains("requests/journal.yaml:4:3"), "{page}");
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "proposed");
}

#[test]
fn s8_yaml_bombs_are_refused_at_once_with_and_without_the_hook() {
    let bed = Bed::new();
    let bombs = [
        ("brackets", "[".repeat(60_000)),
        ("anchors", invalid("billion-laughs.yaml")),
        ("twice", "apiVersion: chiffon/v1\napiVersion: chiffon/v1\nkind: Request\nspec: {text: x}\n".to_owned()),
        ("long", format!("apiVersion: chiffon/v1\nkind: Request\nspec: {{text: \"{}\"}}\n", "x".repeat(70_000))),
    ];
    for (name, text) in &bombs {
        bed.write(&format!("requests/{name}.yaml"), text);
    }
    let said = bed.try_push("bombs");
    for (name, _) in &bombs {
        assert!(said.err.contains(&format!("requests/{name}.yaml")), "{name}: {}", said.err);
    }
    bed.remove_hooks();
    bed.git(&["push", "--quiet", "origin", "HEAD:main"]);
    bed.up_once().ends(3);
    for (name, _) in &bombs {
        assert_eq!(bed.state(name), "blocked");
    }
}

#[test]
fn an_unknown_host_only_warns_in_the_push_and_blocks_the_request() {
    let bed = Bed::new();
    let text = "apiVersion: chiffon/v1\nkind: Request\nspec: {text: Deploy the journal, targets: [alhpa]}\n";
    bed.write("requests/journal.yaml", text);
    bed.up_once().ends(0);
    let said = bed.try_push("a host that is not there").ends(0);
    assert!(
        said.err.contains("no host or group `alhpa`") && said.err.contains("did you mean `alpha`?"),
        "{}",
        said.err
    );
    bed.up_once().ends(3);
    let status = bed.status("journal");
    assert_eq!(status["state"], "blocked");
    assert_eq!(status["questions"][0]["choices"][0]["value"], "alpha", "the nearest host comes first: {status}");
}

#[test]
fn two_requests_of_one_name_are_refused_by_the_hook_and_blocked_without_it() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.write(
        "requests/media/journal.yaml",
        "apiVersion: chiffon/v1\nkind: Request\nspec: {text: Deploy the gazette}\n",
    );
    let said = bed.try_push("the same name");
    assert!(said.status != 0 && said.err.contains("two requests are called journal"), "{}", said.err);
    bed.remove_hooks();
    bed.git(&["push", "--quiet", "origin", "HEAD:main"]);
    bed.up_once().ends(3);
    let status = bed.status("journal");
    let reason = status["reason"].as_str().unwrap();
    assert_eq!(status["state"], "blocked");
    assert!(reason.contains("requests/journal.yaml and requests/media/journal.yaml"), "{reason}");
    // Renamed, both are planned: neither was lost.
    bed.git(&["mv", "requests/media/journal.yaml", "requests/media/gazette.yaml"]);
    bed.push("renamed");
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "proposed");
    assert_eq!(bed.state("gazette"), "proposed");
}

#[test]
fn of_two_requests_of_one_name_the_one_that_stays_is_planned() {
    let bed = Bed::new();
    bed.remove_hooks();
    bed.push_request("journal", "Deploy the journal");
    bed.push_request("media/journal", "Deploy the gazette");
    bed.up_once().ends(3);
    bed.git(&["rm", "--quiet", "requests/journal.yaml"]);
    bed.push("the first goes");
    bed.up_once().ends(0);
    let status = bed.status("journal");
    assert_eq!(status["path"], "requests/media/journal.yaml", "{status}");
    assert_eq!(status["hosts"][0], "beta", "{status}");
}

#[test]
fn a_request_edited_while_its_plan_is_open_is_planned_anew() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.push_request("journal", "Deploy the gazette");
    bed.up_once().ends(0);
    let status = bed.status("journal");
    assert_eq!((&status["state"], &status["plan"]["revision"]), (&"proposed".into(), &2.into()));
    assert_eq!(status["hosts"][0], "beta");
    bed.approve("journal", Merge::Commit);
    bed.up_once().ends(0);
    assert_eq!((bed.infra.lines("journal").len(), bed.infra.lines("gazette").len()), (0, 1));
}

#[test]
fn a_request_that_moves_to_another_folder_is_planned_there() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.git(&["mv", "requests/journal.yaml", "requests/paper.yaml"]);
    std::fs::create_dir_all(bed.path().join("clone/requests/press")).unwrap();
    bed.git(&["mv", "requests/paper.yaml", "requests/press/journal.yaml"]);
    bed.push("moved");
    bed.up_once().ends(0);
    let status = bed.status("journal");
    assert_eq!((&status["state"], &status["plan"]["revision"]), (&"proposed".into(), &2.into()), "{status}");
    bed.approve("journal", Merge::Commit);
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "succeeded");
    assert_eq!(bed.infra.lines("journal").len(), 1);
}

#[test]
fn a_request_edited_or_deleted_after_its_approval_waits_until_the_run_is_over() {
    let bed = Bed::new();
    let mut up = bed.up();
    for (name, delete) in [("edited", false), ("deleted", true)] {
        let _ = std::fs::remove_file(bed.infra.effects.join("gate"));
        bed.push_request(name, "Deploy the slow one");
        up.wait_for(&format!("{name}: proposed"));
        bed.approve(name, Merge::Commit);
        up.wait_for(&format!("{name}: running"));
        if delete {
            bed.git(&["rm", "--quiet", &format!("requests/{name}.yaml")]);
            bed.push("deleted while it runs");
        } else {
            bed.push_request(name, "Deploy the gazette");
        }
        bed.chiffon(&["status", name]).ends(0);
        assert_eq!(bed.state(name), "running");
        std::fs::write(bed.infra.effects.join("gate"), "").unwrap();
        up.wait_for(&format!("{name}: {}", if delete { "succeeded" } else { "proposed" }));
        assert_eq!(bed.count("run-succeeded"), if delete { 2 } else { 1 });
    }
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn a_plan_edited_on_its_branch_is_a_new_offer_of_a_person() {
    let bed = Bed::new();
    bed.push_request("faulty", "Deploy the faulty one");
    bed.up_once().ends(0);
    bed.git(&["fetch", "--quiet"]);
    bed.git(&["checkout", "--quiet", "-B", "edit", "origin/chiffon/plan/faulty"]);
    let plan = bed.read("plans/faulty.yaml");
    let edited = plan
        .replace("        - alpha\n        - beta\n", "        - alpha\n")
        .replace("timeout_secs: 900", "timeout_secs: 77");
    assert_ne!(plan, edited);
    bed.write("plans/faulty.yaml", &edited);
    bed.git(&["commit", "--quiet", "--all", "--message", "only alpha"]);
    bed.git(&["push", "--quiet", "origin", "HEAD:chiffon/plan/faulty"]);
    bed.git(&["checkout", "--quiet", "-B", "main", "origin/main"]);
    bed.up_once().ends(0);
    let status = bed.status("faulty");
    assert_eq!((&status["state"], &status["plan"]["revision"]), (&"proposed".into(), &2.into()), "{status}");
    assert_eq!(status["hosts"], serde_json::json!(["alpha"]), "{status}");
    bed.git(&["fetch", "--quiet"]);
    let offered = bed.git(&["show", "origin/chiffon/plan/faulty:plans/faulty.yaml"]);
    assert!(offered.contains("kind: person") && offered.contains("timeout_secs: 77"), "{offered}");
    bed.approve("faulty", Merge::Commit);
    bed.up_once().ends(0);
    assert_eq!(bed.infra.lines("faulty"), ["alpha"], "exactly what was reviewed runs");
}

/// Pushes an edit of a plan to its branch, and comes back to `main`.
fn edit_plan(bed: &Bed, name: &str, edit: impl Fn(&str) -> String) {
    let file = format!("plans/{name}.yaml");
    bed.git(&["fetch", "--quiet"]);
    bed.git(&["checkout", "--quiet", "-B", "edit", &format!("origin/chiffon/plan/{name}")]);
    let plan = bed.read(&file);
    let edited = edit(&plan);
    assert_ne!(plan, edited);
    bed.write(&file, &edited);
    bed.git(&["commit", "--quiet", "--all", "--message", "a change of the plan"]);
    bed.git(&["push", "--quiet", "origin", &format!("HEAD:chiffon/plan/{name}")]);
    bed.git(&["checkout", "--quiet", "-B", "main", "origin/main"]);
}

#[test]
fn an_edit_of_a_plan_that_went_stale_meanwhile_is_offered_on_the_ground_of_now() {
    let bed = Bed::new();
    bed.push_request("faulty", "Deploy the faulty one");
    bed.up_once().ends(0);
    edit_plan(&bed, "faulty", |plan| plan.replace("timeout_secs: 900", "timeout_secs: 77"));
    let playbook = bed.infra.folder.join("playbooks/faulty-deployment.yml");
    let text = std::fs::read_to_string(&playbook).unwrap();
    std::fs::write(&playbook, format!("{text}# said once more\n")).unwrap();
    bed.infra.commit("another word");
    bed.up_once().ends(0);
    let status = bed.status("faulty");
    assert_eq!((&status["state"], &status["plan"]["revision"]), (&"proposed".into(), &2.into()), "{status}");
    let offered = bed.bare_git(&["show", "chiffon/plan/faulty:plans/faulty.yaml"]);
    assert!(offered.contains("kind: person") && offered.contains("timeout_secs: 77"), "{offered}");
}

#[test]
fn an_edit_of_a_plan_whose_request_is_gone_is_kept_and_named() {
    let bed = Bed::new();
    bed.push_request("faulty", "Deploy the faulty one");
    bed.up_once().ends(0);
    edit_plan(&bed, "faulty", |plan| plan.replace("timeout_secs: 900", "timeout_secs: 77"));
    bed.git(&["rm", "--quiet", "requests/faulty.yaml"]);
    bed.push("not after all");
    bed.up_once().ends(0);
    assert_eq!(bed.state("faulty"), "withdrawn");
    assert_eq!(bed.count("commit-kept"), 1);
    let kept = bed.bare_git(&["for-each-ref", "--format=%(refname)", "refs/chiffon/kept/faulty/"]);
    let said = bed.history().into_iter().find(|line| line.contains("was not offered")).unwrap();
    assert!(said.contains(kept.trim_end()), "{said} does not name {kept}");
    assert!(bed.bare_git(&["show", &format!("{}:plans/faulty.yaml", kept.trim_end())]).contains("timeout_secs: 77"));
    assert!(bed.bare_git(&["for-each-ref", "refs/heads/chiffon/plan/"]).is_empty());
}

#[test]
fn a_request_that_git_stands_in_the_way_of_holds_up_no_other() {
    let bed = Bed::new();
    let main = bed.bare_git(&["rev-parse", "main"]);
    bed.bare_git(&["update-ref", "refs/heads/chiffon/plan/journal/mine", main.trim_end()]);
    bed.push_request("journal", "Deploy the journal");
    bed.push_request("gazette", "Deploy the gazette");
    let said = bed.up_once().ends(1);
    assert!(said.err.contains("journal: the plan could not be shown"), "{}", said.err);
    assert_eq!(bed.state("gazette"), "proposed");
    bed.approve("gazette", Merge::Commit);
    bed.up_once().ends(1);
    assert_eq!(bed.state("gazette"), "succeeded");
    bed.bare_git(&["update-ref", "-d", "refs/heads/chiffon/plan/journal/mine"]);
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "proposed");
    assert!(bed.bare_git(&["show", "chiffon/plan/journal:plans/journal.yaml"]).contains("kind: Plan"));
}

#[test]
fn the_hook_refuses_a_branch_that_would_stand_in_the_way_of_a_plan() {
    let bed = Bed::new();
    let said = bed.try_git(&["push", "origin", "HEAD:refs/heads/chiffon/plan/journal/mine"]).ends(1);
    assert!(said.err.contains("plan branches are called chiffon/plan/<request>"), "{}", said.err);
}

#[test]
fn an_edit_on_the_branch_that_the_gate_denies_is_blocked_and_nothing_is_lost() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.git(&["fetch", "--quiet"]);
    bed.git(&["checkout", "--quiet", "-B", "edit", "origin/chiffon/plan/journal"]);
    let plan = bed.read("plans/journal.yaml").replace("vars: {}", "vars: {ansible_connection: ssh}");
    bed.write("plans/journal.yaml", &plan);
    bed.git(&["commit", "--quiet", "--all", "--message", "steer it"]);
    bed.git(&["push", "--quiet", "origin", "HEAD:chiffon/plan/journal"]);
    bed.git(&["checkout", "--quiet", "-B", "main", "origin/main"]);
    let said = bed.up_once().ends(0);
    assert!(!said.err.contains("did not come to rest"), "{}", said.err);
    let status = bed.status("journal");
    assert_eq!((&status["state"], &status["plan"]["revision"]), (&"proposed".into(), &1.into()));
    let notes = status["notes"].to_string();
    assert!(notes.contains("belongs to Ansible itself") && notes.contains("stays open"), "{notes}");
    bed.up_once().ends(0);
    assert_eq!(bed.count("request-blocked"), 1, "it is judged once");
    // Its author's words are still on the branch.
    assert!(bed.bare_git(&["show", "chiffon/plan/journal:plans/journal.yaml"]).contains("ansible_connection"));
}

#[test]
fn an_edited_rendering_is_said_beside_the_plan() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    assert_eq!(bed.status("journal")["notes"], serde_json::json!([]));
    bed.git(&["fetch", "--quiet"]);
    bed.git(&["checkout", "--quiet", "-B", "edit", "origin/chiffon/plan/journal"]);
    bed.write("plans/journal.md", "# This plan does nothing at all\n");
    bed.git(&["commit", "--quiet", "--all", "--message", "soothing words"]);
    bed.git(&["push", "--quiet", "origin", "HEAD:chiffon/plan/journal"]);
    bed.git(&["checkout", "--quiet", "-B", "main", "origin/main"]);
    bed.up_once().ends(0);
    let notes = bed.status("journal")["notes"].to_string();
    assert!(notes.contains("plans/journal.md on the plan branch is not what Chiffon wrote"), "{notes}");
    let shown = bed.chiffon(&["plan", "journal"]).ends(0).out;
    assert!(!shown.contains("does nothing at all"), "{shown}");
}

#[test]
fn a_deleted_plan_branch_rejects_and_its_replan_offers_again() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.git(&["push", "--quiet", "origin", ":chiffon/plan/journal"]);
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "rejected");
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "rejected", "it stays so");
    bed.push_request("journal", "Deploy the journal please");
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "proposed");
}

#[test]
fn s6_links_submodules_and_odd_names_are_named_and_never_read() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.write("secret", "apiVersion: chiffon/v1\nkind: Request\nspec: {text: Deploy the gazette}\n");
    std::os::unix::fs::symlink("../secret", bed.path().join("clone/requests/linked.yaml")).unwrap();
    let commit = bed.git(&["rev-parse", "HEAD"]);
    bed.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},requests/sub.yaml")]);
    bed.write("requests/Upper.yaml", "x");
    bed.write("requests/old.yml", "x");
    bed.git(&["add", "--", "requests/linked.yaml", "requests/Upper.yaml", "requests/old.yml", "secret"]);
    bed.git(&["commit", "--quiet", "--message", "odd things"]);
    let said = bed.try_git(&["push", "--quiet", "origin", "HEAD:main"]);
    let odd = ["requests/linked.yaml", "requests/sub.yaml", "requests/Upper.yaml", "requests/old.yml"];
    for path in odd {
        assert!(said.err.contains(path), "{path} is not named: {}", said.err);
    }
    bed.remove_hooks();
    bed.git(&["push", "--quiet", "origin", "HEAD:main"]);
    bed.up_once().ends(3);
    assert_eq!((bed.state("linked"), bed.state("sub")), ("blocked".to_owned(), "blocked".to_owned()));
    let unread = bed.chiffon(&["status", "--json"]).json()["unread"].to_string();
    assert!(unread.contains("requests/Upper.yaml") && unread.contains("rename it to old.yaml"), "{unread}");
    let page = bed.bare_git(&["show", "chiffon/audit:status/NOT-READ.md"]);
    assert!(page.contains("Upper.yaml"), "{page}");
    assert_eq!(bed.state("journal"), "proposed", "the others are not troubled");
    // Away with them: nothing is left of it but the history.
    bed.git(&["rm", "--quiet", "--cached", "requests/sub.yaml"]);
    bed.git(&["rm", "--quiet", "requests/linked.yaml", "requests/Upper.yaml", "requests/old.yml"]);
    bed.git(&["commit", "--quiet", "--message", "tidy"]);
    bed.git(&["push", "--quiet", "origin", "HEAD:main"]);
    bed.up_once().ends(0);
    assert_eq!(bed.chiffon(&["status", "--json"]).json()["unread"], serde_json::json!([]));
    assert_eq!((bed.state("linked"), bed.state("sub")), ("withdrawn".to_owned(), "withdrawn".to_owned()));
}

#[test]
fn s7_refs_and_names_made_to_look_like_options_change_nothing() {
    let bed = Bed::new();
    let marker = bed.path().join("marker");
    let hostile = format!("refs/heads/--upload-pack=touch {}", marker.display());
    let commit = bed.bare_git(&["rev-parse", "main"]);
    // git's own check would refuse the space; a file is what somebody with access to the disk could leave.
    let path = bed.requests().join(hostile.replace("touch ", "touch\u{a0}"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("{commit}\n")).unwrap();
    bed.bare_git(&["update-ref", "refs/heads/--force", &commit]);
    bed.infra.git(&["update-ref", "refs/heads/--upload-pack=x", "HEAD"]);
    bed.push_request("journal", "Deploy the journal --limit=all -e @/etc/passwd; touch marker");
    bed.up_once();
    bed.push_request("gazette", "Deploy the gazette");
    bed.up_once();
    assert_eq!(bed.state("gazette"), "proposed");
    bed.approve("gazette", Merge::Commit);
    bed.up_once();
    assert_eq!(bed.infra.lines("gazette").len(), 1);
    assert!(!marker.exists());
}
