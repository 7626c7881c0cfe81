//! From a push to a record, where plans are pull requests.

use chiffon_tests::forge::{Dialect, Fate, Role, TestForge};
use chiffon_tests::{Background, Bed};

/// A home whose requests live on a forge, with a bot and `ann`, who may merge.
fn on(dialect: Dialect) -> (TestForge, Bed, Background) {
    let forge = TestForge::start(dialect);
    let token = forge.account("chiffon-bot", Role::Write);
    forge.account("ann", Role::Write);
    let bed = Bed::new();
    bed.live_on(&forge, &token);
    let up = bed.up();
    (forge, bed, up)
}

fn end(up: Background) {
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

/// The number of the open pull request of a request.
fn number_of(forge: &TestForge, bed: &Bed, name: &str) -> u64 {
    let head = format!("chiffon/plan/{name}");
    let number = || {
        let forge = forge.state();
        let mut open = forge.pulls.values().filter(|pull| pull.head == head && pull.fate == Fate::Open);
        open.next().map(|pull| pull.number)
    };
    bed.wait_until("its pull request is open", || number().is_some());
    number().unwrap()
}

fn story(dialect: Dialect) {
    let (forge, bed, mut up) = on(dialect);
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let number = number_of(&forge, &bed, "journal");
    let pull = forge.state().pull(number).unwrap().clone();
    assert_eq!((pull.author.as_str(), pull.base.as_str()), ("chiffon-bot", "main"));
    assert!(pull.body.starts_with("<!-- chiffon:v1 request="), "{}", pull.body);
    assert_eq!(pull.title, "plan: deploy the journal on alpha (1 task)");
    assert!(forge.tip("chiffon/audit").is_some(), "what was offered is recorded there before it is seen");
    forge.state().merge("ann", number, None, |_| false).unwrap();
    up.wait_for("journal: succeeded");
    let run = bed.status("journal");
    let approval = &run["run"]["approval"];
    assert_eq!((&approval["by"], &approval["established"]), (&"ann".into(), &"forge".into()), "{run}");
    bed.wait_until("the result is on the forge", || {
        forge.tip("chiffon/audit") == Some(bed.audit_tip().trim().to_owned())
    });
    let merge = merge_of(&forge, number);
    bed.wait_until("the merge commit says how it ended", || {
        status_of(&forge, &merge, "chiffon/apply") == "success"
            && status_of(&forge, &merge, "chiffon/verify") == "success"
    });
    bed.wait_until("the labels say it as well", || labels_of(&forge, number).contains(&"state:succeeded".to_owned()));
    let head = forge.state().pull(number).unwrap().head_commit.clone();
    for context in ["chiffon/plan", "chiffon/policy", "chiffon/fresh"] {
        assert_eq!(status_of(&forge, &head, context), "success", "{context}");
    }
    let comments = forge.state().pull(number).unwrap().comments.clone();
    assert_eq!(comments.len(), 1, "one sticky comment, and no other: {comments:?}");
    assert!(comments[0].body.contains("**succeeded** · 1 of 1 steps done"), "{}", comments[0].body);
    assert!(comments[0].body.contains("1 ok, 1 changed, 0 failed"), "{}", comments[0].body);
    end(up);
    assert_eq!(forge.state().undescribed, Vec::<String>::new());
}

/// The commit that a merge made.
fn merge_of(forge: &TestForge, number: u64) -> String {
    match &forge.state().pull(number).unwrap().fate {
        Fate::Merged { commit, .. } => commit.clone(),
        other => panic!("{other:?}"),
    }
}

/// The newest status of a commit in a context; empty where there is none.
fn status_of(forge: &TestForge, commit: &str, context: &str) -> String {
    let forge = forge.state();
    let all = forge.statuses.get(commit).into_iter().flatten();
    all.filter(|status| status.context == context).next_back().map_or_else(String::new, |status| status.state.clone())
}

fn labels_of(forge: &TestForge, number: u64) -> Vec<String> {
    let mut forge = forge.state();
    let ids = forge.pull(number).unwrap().labels.clone();
    ids.iter().map(|id| forge.labels[id].0.clone()).collect()
}

#[test]
fn s2_a_sentence_becomes_a_pull_request_and_its_merge_a_run_on_gitea() {
    story(Dialect::Gitea);
}

#[test]
fn s2_a_sentence_becomes_a_pull_request_and_its_merge_a_run_on_github() {
    story(Dialect::GitHub);
}

#[test]
fn s2_a_plan_that_is_pushed_past_its_pull_request_runs_nothing() {
    let (forge, bed, mut up) = on(Dialect::Gitea);
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    number_of(&forge, &bed, "journal");
    bed.approve("journal", chiffon_tests::Merge::Squash);
    up.wait_for("journal: refused");
    assert!(bed.infra.lines("journal").is_empty(), "nothing ran");
    end(up);
}

#[test]
fn s2_a_merge_by_the_bot_runs_nothing() {
    let (forge, bed, mut up) = on(Dialect::Gitea);
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let number = number_of(&forge, &bed, "journal");
    forge.state().merge("chiffon-bot", number, None, |_| false).unwrap();
    up.wait_for("journal: refused");
    assert!(bed.infra.lines("journal").is_empty(), "nothing ran");
    end(up);
}

#[test]
fn closing_the_pull_request_rejects_the_plan_and_its_branch_goes() {
    let (forge, bed, mut up) = on(Dialect::GitHub);
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let number = number_of(&forge, &bed, "journal");
    forge
        .state()
        .change("ann", number, |pull| {
            pull.fate = Fate::Closed;
            Ok(())
        })
        .unwrap();
    up.wait_for("journal: rejected");
    bed.wait_until("its branch is gone", || forge.tip("chiffon/plan/journal").is_none());
    end(up);
}
