//! What is approval and what is not (S2): the exact blob of an open offer at its path on `main`, once.

use chiffon_tests::{Bed, Merge, Said};

/// A request whose plan is on offer, in a repository whose hooks somebody took away.
fn offered_without_hooks(name: &str) -> Bed {
    let bed = Bed::new();
    bed.remove_hooks();
    bed.push_request(name, "Deploy the journal");
    bed.up_once().ends(0);
    assert_eq!(bed.state(name), "proposed");
    bed
}

#[track_caller]
fn refused_by_the_hook(said: Said, words: &str) {
    assert_ne!(said.status, 0, "{}", said.out);
    assert!(said.err.contains(words), "{}", said.err);
}

fn reason(bed: &Bed, name: &str) -> String {
    bed.status(name)["refusal"]["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn s2_the_hook_refuses_a_plan_that_was_never_offered() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.git(&["fetch", "--quiet"]);
    let offered = bed.git(&["show", "origin/chiffon/plan/journal:plans/journal.yaml"]);
    bed.write("plans/journal.yaml", &format!("{offered}\n# and mine\n"));
    refused_by_the_hook(bed.try_push("my own plan"), "is not on offer");
    bed.git(&["reset", "--quiet", "--hard", "origin/main"]);
    bed.write("plans/other/journal.yaml", &format!("{offered}\n# and mine\n"));
    refused_by_the_hook(bed.try_push("elsewhere"), "plans/other/journal.yaml");
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "proposed");
    assert!(bed.infra.lines("journal").is_empty());
}

#[test]
fn s2_a_plan_that_was_never_offered_is_refused_without_the_hook_too() {
    let bed = Bed::new();
    bed.remove_hooks();
    bed.write("plans/journal.yaml", "apiVersion: chiffon/v1\nkind: Plan\n");
    bed.push("a plan from nowhere");
    let said = bed.up_once().ends(3);
    assert!(said.out.contains("journal: refused"), "{}", said.out);
    assert_eq!(reason(&bed, "journal"), "not-offered");
    let page = bed.bare_git(&["show", "chiffon/audit:status/journal.md"]);
    assert!(page.contains("never offered"), "{page}");
    // Taken off main, the way is free again.
    bed.git(&["rm", "--quiet", "plans/journal.yaml"]);
    bed.push("away with it");
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "proposed");
    assert!(bed.infra.lines("journal").is_empty());
}

#[test]
fn s2_an_offered_plan_at_another_path_is_no_approval() {
    let bed = offered_without_hooks("journal");
    bed.git(&["fetch", "--quiet"]);
    bed.git(&["checkout", "--quiet", "origin/chiffon/plan/journal", "--", "plans"]);
    bed.git(&["mv", "plans/journal.yaml", "moved.yaml"]);
    std::fs::create_dir_all(bed.path().join("clone/plans/elsewhere")).unwrap();
    bed.git(&["mv", "moved.yaml", "plans/elsewhere/journal.yaml"]);
    bed.push("the very plan, elsewhere");
    let said = bed.up_once().ends(3);
    assert!(said.out.contains("plans/elsewhere/journal.yaml: not read"), "{}", said.out);
    let unread = bed.chiffon(&["status", "--json"]).json()["unread"].clone();
    assert_eq!(unread[0]["path"], "plans/elsewhere/journal.yaml");
    assert_eq!(bed.state("journal"), "proposed");
    assert!(bed.infra.lines("journal").is_empty());
}

#[test]
fn s2_a_plan_edited_inside_the_merge_is_refused_and_offered_afresh() {
    let bed = offered_without_hooks("journal");
    bed.merge("journal", Merge::Commit);
    let edited = bed.read("plans/journal.yaml").replace("timeout_secs: 900", "timeout_secs: 60");
    assert_ne!(edited, bed.read("plans/journal.yaml"), "the edit changes something");
    bed.write("plans/journal.yaml", &edited);
    bed.git(&["add", "--all"]);
    bed.git(&["commit", "--quiet", "--amend", "--no-edit"]);
    bed.git(&["push", "--quiet", "origin", "HEAD:main"]);
    bed.up_once().ends(0);
    assert!(bed.infra.lines("journal").is_empty(), "nothing runs");
    assert_eq!(reason(&bed, "journal"), "edited-in-merge");
    let status = bed.status("journal");
    assert_eq!(status["state"], "proposed", "{status}");
    assert_eq!(status["plan"]["revision"], 2, "{status}");
    // The new offer is as good as any.
    bed.git(&["fetch", "--quiet"]);
    bed.git(&["checkout", "--quiet", "origin/chiffon/plan/journal", "--", "plans"]);
    bed.push("as it is on offer");
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "succeeded");
    assert_eq!(bed.infra.lines("journal").len(), 1);
}

#[test]
fn s2_the_hook_refuses_an_edit_inside_the_merge() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.merge("journal", Merge::Squash);
    let edited = bed.read("plans/journal.yaml").replace("timeout_secs: 900", "timeout_secs: 60");
    bed.write("plans/journal.yaml", &edited);
    refused_by_the_hook(bed.try_push("squashed with an edit"), "edit it on its branch");
}

#[test]
fn s2_a_plan_whose_offer_was_withdrawn_does_not_run() {
    let bed = offered_without_hooks("journal");
    bed.git(&["fetch", "--quiet"]);
    let plan = bed.git(&["rev-parse", "origin/chiffon/plan/journal"]);
    bed.git(&["rm", "--quiet", "requests/journal.yaml"]);
    bed.push("never mind");
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "withdrawn");
    let there = bed.try_git(&["ls-remote", "--exit-code", "origin", "chiffon/plan/journal"]);
    assert_eq!(there.status, 2, "the plan branch is gone");
    bed.git(&["checkout", "--quiet", &plan, "--", "plans"]);
    bed.push("merged all the same");
    bed.up_once().ends(3);
    assert_eq!(reason(&bed, "journal"), "closed");
    assert!(bed.infra.lines("journal").is_empty());
}

#[test]
fn s2_a_second_merge_and_a_merge_after_a_revert_run_nothing_more() {
    let bed = offered_without_hooks("journal");
    bed.approve("journal", Merge::Commit);
    bed.up_once().ends(0);
    assert_eq!(bed.infra.lines("journal").len(), 1);
    bed.git(&["fetch", "--quiet"]);
    let plan = bed.git(&["rev-parse", "HEAD:plans/journal.yaml"]);
    bed.git(&["revert", "--no-edit", "--mainline", "1", "HEAD"]);
    bed.push("reverted");
    bed.up_once().ends(0);
    bed.git(&["revert", "--no-edit", "HEAD~1"]);
    assert_eq!(bed.git(&["rev-parse", "HEAD:plans/journal.yaml"]), plan, "the very same plan is back");
    bed.push("reverted the revert");
    bed.up_once().ends(0);
    assert_eq!(bed.infra.lines("journal").len(), 1, "it ran once and never again");
    assert_eq!(bed.state("journal"), "succeeded");
    assert_eq!(bed.count("plan-refused"), 1, "and that it did not run is said");
}

#[test]
fn s2_a_merge_taken_back_before_the_first_grant_cancels() {
    let bed = offered_without_hooks("journal");
    let mut up = bed.up();
    bed.chiffon(&["pause", "journal", "--reason", "not yet", "--until", "1d"]).ends(0);
    bed.approve("journal", Merge::Commit);
    bed.wake();
    up.wait_for("journal: paused");
    bed.git(&["revert", "--no-edit", "--mainline", "1", "HEAD"]);
    bed.push("taken back");
    bed.wake();
    up.wait_for("journal: cancelled");
    assert!(bed.infra.lines("journal").is_empty());
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn s2_nobody_pushes_to_the_audit_branch_or_deletes_main() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    let said = bed.try_git(&["push", "--force", "origin", "HEAD:refs/heads/chiffon/audit"]);
    refused_by_the_hook(said, "chiffon/audit is Chiffon's own record");
    let said = bed.try_git(&["push", "origin", ":refs/heads/chiffon/audit"]);
    refused_by_the_hook(said, "chiffon/audit is Chiffon's own record");
    let said = bed.try_git(&["push", "origin", "HEAD:refs/chiffon/pins/x"]);
    refused_by_the_hook(said, "Chiffon's own");
    bed.bare_git(&["config", "receive.denyDeleteCurrent", "ignore"]);
    let said = bed.try_git(&["push", "origin", ":main"]);
    refused_by_the_hook(said, "main can't be deleted");
}

#[test]
fn s2_a_strangers_commit_on_the_audit_branch_stops_everything() {
    let bed = offered_without_hooks("journal");
    let good = bed.audit_tip();
    bed.git(&["fetch", "--quiet"]);
    bed.git(&["checkout", "--quiet", "-b", "forged", "origin/chiffon/audit"]);
    bed.git(&["commit", "--quiet", "--allow-empty", "--message", "forged"]);
    bed.git(&["push", "--quiet", "origin", "HEAD:chiffon/audit"]);
    bed.git(&["checkout", "--quiet", "-B", "main", "origin/main"]);
    stops(&bed, &good);
}

#[test]
fn s2_a_rewritten_audit_branch_stops_everything() {
    let bed = offered_without_hooks("journal");
    let good = bed.audit_tip();
    bed.bare_git(&["update-ref", "-d", "refs/heads/chiffon/audit"]);
    stops(&bed, &good);
    let bed = offered_without_hooks("journal");
    let good = bed.audit_tip();
    let tree = bed.bare_git(&["rev-parse", "chiffon/audit^{tree}"]);
    // Chiffon's own name is no proof of anything.
    let forged = bed.bare_git(&[
        "-c",
        "user.name=Chiffon",
        "-c",
        "user.email=chiffon@localhost",
        "commit-tree",
        "-m",
        "forged",
        &tree,
    ]);
    bed.bare_git(&["update-ref", "refs/heads/chiffon/audit", &forged]);
    stops(&bed, &good);
}

/// The reconciler stops with an error, even where the open offer itself is merged, and goes on once it is mended.
#[track_caller]
fn stops(bed: &Bed, good: &str) {
    bed.approve("journal", Merge::Commit);
    let said = bed.up_once().ends(1);
    assert!(said.err.contains("chiffon/audit is not as Chiffon left it"), "{}", said.err);
    assert!(said.err.contains(good), "the way out names the last good commit: {}", said.err);
    assert!(bed.infra.lines("journal").is_empty(), "nothing runs");
    bed.bare_git(&["update-ref", "refs/heads/chiffon/audit", good]);
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "succeeded");
}

/// A plan that was merged after its fortnight runs nothing, and another one is offered at once.
#[test]
fn s2_a_plan_that_has_expired_when_it_is_merged_is_refused_and_planned_again() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    bed.approve("journal", Merge::Commit);
    bed.up_once_after_days(15).ends(0);
    assert!(bed.infra.lines("journal").is_empty());
    assert!(
        bed.history().iter().any(|line| line.contains("journal") && line.contains("expired")),
        "{:#?}",
        bed.history()
    );
    let status = bed.status("journal");
    assert_eq!((&status["state"], &status["plan"]["revision"]), (&"proposed".into(), &2.into()), "{status}");
    bed.approve("journal", Merge::Commit);
    bed.up_once_after_days(16).ends(0);
    assert_eq!(bed.infra.lines("journal"), ["alpha"]);
}

/// A plan that was merged in time and came to its first grant too late runs nothing either.
#[test]
fn s2_an_approved_plan_that_expires_before_its_first_grant_is_refused_and_planned_again() {
    let bed = Bed::new();
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    let paused = bed.chiffon(&["pause", "journal", "--reason", "guests are here", "--until", "20d"]);
    assert_eq!(paused.status, 0, "{}{}", paused.out, paused.err);
    bed.approve("journal", Merge::Commit);
    bed.up_once();
    assert_eq!(bed.state("journal"), "paused");
    bed.up_once_after_days(21);
    assert!(bed.infra.lines("journal").is_empty());
    assert!(
        bed.history().iter().any(|line| line.contains("journal") && line.contains("expired")),
        "{:#?}",
        bed.history()
    );
    let status = bed.status("journal");
    assert_eq!((&status["state"], &status["plan"]["revision"]), (&"proposed".into(), &2.into()), "{status}");
}
