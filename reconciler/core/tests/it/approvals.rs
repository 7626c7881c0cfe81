//! Which merges approve which plans.

use std::collections::BTreeSet;

use chiffon_core::{ApprovalPolicy, ApprovalRule, Expected, Merge, NotApproved, approval};
use chiffon_schemas::{Host, Plan, RiskLevel};

use super::plans::{catalogue, good_plan};

fn logins(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn expected() -> Expected {
    Expected { base: "main".to_owned(), head: "chiffon/plan/kuma".to_owned(), bot: "chiffon-bot".to_owned() }
}

/// Merged as it is to be, by `ann`.
fn merge() -> Merge {
    Merge {
        by: Some("ann".to_owned()),
        approved_by: BTreeSet::new(),
        may_write: true,
        base: "main".to_owned(),
        head: "chiffon/plan/kuma".to_owned(),
        foreign: false,
        carried: true,
    }
}

fn rule(by: &[&str], count: usize) -> ApprovalRule {
    ApprovalRule { risk: None, hosts: BTreeSet::new(), services: BTreeSet::new(), by: logins(by), count }
}

fn plan() -> Plan {
    good_plan(&catalogue())
}

fn judged(rules: Vec<ApprovalRule>, merge: &Merge) -> Result<BTreeSet<String>, Vec<NotApproved>> {
    approval(&plan(), &ApprovalPolicy { rules, signers: None }, merge, &expected())
}

#[test]
fn s2_anybody_who_may_write_is_enough_unless_a_rule_says_otherwise() {
    assert_eq!(judged(Vec::new(), &merge()), Ok(logins(&["ann"])));
    let stranger = Merge { may_write: false, ..merge() };
    assert_eq!(judged(Vec::new(), &stranger), Err(vec![NotApproved::Stranger("ann".to_owned())]));
    let nobody = Merge { by: None, ..merge() };
    assert_eq!(judged(Vec::new(), &nobody), Err(vec![NotApproved::Nobody]));
}

#[test]
fn s2_the_bot_never_approves_however_it_is_written() {
    for bot in ["chiffon-bot", "Chiffon-Bot"] {
        let merged = Merge { by: Some(bot.to_owned()), ..merge() };
        assert_eq!(judged(Vec::new(), &merged), Err(vec![NotApproved::Bot(bot.to_owned())]));
        let reviewed = Merge { approved_by: logins(&[bot]), ..merge() };
        assert_eq!(judged(Vec::new(), &reviewed), Ok(logins(&["ann"])));
        assert!(judged(vec![rule(&[], 2)], &reviewed).is_err(), "it does not count as the second either");
    }
}

#[test]
fn s2_base_branch_and_fork_are_judged_here_and_every_reason_is_named() {
    let merged = Merge { base: "staging".to_owned(), head: "chiffon/plan/other".to_owned(), foreign: true, ..merge() };
    let other = Merge { carried: false, ..merge() };
    assert_eq!(judged(Vec::new(), &other), Err(vec![NotApproved::Other]));
    let against = judged(Vec::new(), &merged).unwrap_err();
    assert_eq!(
        against,
        [
            NotApproved::Base("staging".to_owned()),
            NotApproved::Head("chiffon/plan/other".to_owned()),
            NotApproved::Fork
        ]
    );
}

#[test]
fn s2_every_rule_for_a_plan_is_kept() {
    let by_two = vec![rule(&["ann", "ben"], 2)];
    let against = judged(by_two.clone(), &merge()).unwrap_err();
    assert_eq!(against[0].to_string(), "it takes 2 of ann, ben, and had ann");
    let reviewed = Merge { approved_by: logins(&["Ben", "cat"]), ..merge() };
    assert_eq!(judged(by_two, &reviewed), Ok(logins(&["Ben", "ann", "cat"])));
    for name in ["ann", "Ann"] {
        let twice = Merge { approved_by: logins(&[name]), ..merge() };
        assert!(judged(vec![rule(&[], 2)], &twice).is_err(), "nobody counts twice");
    }
    assert!(judged(vec![rule(&["ann"], 1), rule(&["cat"], 1)], &merge()).is_err());
    assert!(judged(vec![rule(&["cat"], 0)], &merge()).is_err(), "none at all is not enough");
}

#[test]
fn s2_a_rule_is_for_the_plans_that_it_names() {
    let plan = plan();
    let touched = plan.spec.touches.hosts[0].clone();
    let other = Host::parse("nowhere").unwrap();
    let of_hosts = |host: &Host| ApprovalRule { hosts: BTreeSet::from([host.clone()]), ..rule(&["cat"], 1) };
    assert!(judged(vec![of_hosts(&touched)], &merge()).is_err());
    assert!(judged(vec![of_hosts(&other)], &merge()).is_ok());
    let of_service = |service: &str| ApprovalRule { services: logins(&[service]), ..rule(&["cat"], 1) };
    assert!(judged(vec![of_service("no-such-service")], &merge()).is_ok());
    for (level, fits) in [(RiskLevel::Low, true), (plan.spec.risk.level, true)] {
        let of_risk = ApprovalRule { risk: Some(level), ..rule(&["cat"], 1) };
        assert_eq!(judged(vec![of_risk], &merge()).is_err(), fits, "{level:?}");
    }
    let both =
        ApprovalRule { hosts: BTreeSet::from([touched]), services: logins(&["no-such-service"]), ..rule(&["cat"], 1) };
    assert!(judged(vec![both], &merge()).is_ok(), "of what a rule names everything must fit");
}

#[test]
fn what_an_approval_takes_is_said_before_the_merge() {
    let policy = ApprovalPolicy { rules: vec![rule(&["ann", "ben"], 2)], signers: None };
    let (words, enough) = policy.wants(&plan(), &logins(&[])).unwrap();
    assert_eq!((words.as_str(), enough), ("2 of ann, ben (0 so far)", false));
    let (_, enough) = policy.wants(&plan(), &logins(&["Ben"])).unwrap();
    assert!(enough, "who merges is the second");
    assert_eq!(ApprovalPolicy::default().wants(&plan(), &logins(&[])), None);
}
