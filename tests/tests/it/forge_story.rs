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
    assert!(forge.tip("chiffon/audit").is_some(), "what was offered is recorded there before it is seen");
    forge.state().merge("ann", number, None, |_| false).unwrap();
    up.wait_for("journal: succeeded");
    let run = bed.status("journal");
    assert_eq!(run["run"]["approval"]["by"], "ann", "{run}");
    bed.wait_until("the result is on the forge", || {
        forge.tip("chiffon/audit") == Some(bed.audit_tip().trim().to_owned())
    });
    end(up);
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
