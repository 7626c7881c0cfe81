//! A forge is set up, and `doctor` says what is missing there.

use chiffon_tests::Bed;
use chiffon_tests::forge::{Dialect, Host, RealGitea, Role, Rule, TestForge};

use crate::forge_story::{end, number_of};

/// Everything that `forge setup` makes is there afterwards, and Chiffon's account has tried in vain.
fn setup(forge: &dyn Host) {
    let bed = Bed::new();
    let (bot, admin) = (forge.account("chiffon-bot", Role::Write), forge.account("ann", Role::Admin));
    bed.live_on_polling(forge, &bot, 1, "    webhook_secret_file: webhook-secret\n");
    bed.answer_over_http("");
    bed.secret("admin-token", &admin);
    let file = bed.home().join("admin-token");
    let checks = bed.chiffon(&["--json", "doctor", "--prove"]).ends(3).json();
    let found = |checks: &serde_json::Value, key: &str, what: &str| {
        let all = checks[key].as_array().unwrap().clone();
        all.into_iter().find(|check| check["what"] == what).unwrap_or_else(|| panic!("{what}: {checks}"))
    };
    assert!(found(&checks, "checks", "rule of main")["found"].as_str().unwrap().starts_with("none"), "{checks}");
    assert!(found(&checks, "checks", "proof")["found"].as_str().unwrap().contains("no branch chiffon/proof"));
    let arguments = ["--json", "forge", "setup", "--no-rule", "--token-file", file.to_str().unwrap()];
    let steps = bed.chiffon(&arguments).ends(0).json();
    assert!(found(&steps, "steps", "webhook")["said"].as_str().unwrap().contains("no `chiffon up` runs"), "{steps}");
    let mut up = bed.up();
    let hook = format!("http://{}/webhooks/{}", bed.web_address(), kind_of(forge));
    for _ in 0..2 {
        let arguments = ["--json", "forge", "setup", "--token-file", file.to_str().unwrap(), "--hook", &hook];
        let steps = bed.chiffon(&arguments).ends(0).json();
        assert!(found(&steps, "steps", "webhook")["said"].as_str().unwrap().contains("heard it"), "{steps}");
        assert!(found(&steps, "steps", "proof")["said"].as_str().unwrap().contains("was refused"), "{steps}");
    }
    let checks = bed.chiffon(&["--json", "doctor", "--prove"]).ends(0).json();
    assert!(found(&checks, "checks", "rule of main")["found"].as_str().unwrap().contains("may not merge"), "{checks}");
    assert!(found(&checks, "checks", "webhook")["found"].as_str().unwrap().contains("last one came"), "{checks}");
    assert!(forge.labels() >= 17, "{}", forge.labels());
    assert_eq!(forge.open_of("chiffon/proof"), None);
    // People go on as before.
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let number = number_of(forge, &bed, "journal");
    forge.merge("ann", number);
    up.wait_for("journal: succeeded");
    end(up);
}

#[test]
fn s15_a_rule_that_is_gone_is_noticed_and_one_of_a_persons_own_is_left_alone() {
    let forge = TestForge::start(Dialect::Gitea);
    let bed = Bed::new();
    let (bot, admin) = (forge.account("chiffon-bot", Role::Write), forge.account("ann", Role::Admin));
    bed.live_on(&forge, &bot);
    bed.secret("admin-token", &admin);
    let file = bed.home().join("admin-token");
    let arguments = ["--json", "forge", "setup", "--token-file", file.to_str().unwrap()];
    bed.chiffon(&arguments).ends(0);
    forge.state().rule = None;
    let said = bed.chiffon(&["--json", "doctor", "--prove"]).ends(3);
    assert!(said.out.contains("neither main nor chiffon/proof has a rule"), "{said:?}");
    let own = |people: &[&str]| Rule {
        id: 1,
        name: "main".to_owned(),
        branches: vec!["main".to_owned()],
        people: Some(people.iter().map(|login| (*login).to_owned()).collect()),
    };
    forge.state().rule = Some(own(&["ann"]));
    let said = bed.chiffon(&arguments).ends(0);
    assert!(said.out.contains("a rule of yours, `main`") && said.out.contains("nothing is tried"), "{said:?}");
    forge.state().rule = Some(own(&["ann", "chiffon-bot"]));
    let said = bed.chiffon(&arguments).ends(3);
    assert!(said.out.contains("take it out of the rule's list"), "{said:?}");
    assert_eq!(forge.state().rule.as_ref().unwrap().name, "main");
}

/// A webhook that never comes is said with what to look at, and costs nothing but time: polling is enough.
#[test]
fn a_forge_that_calls_nobody_on_its_network_is_named_and_its_pull_requests_go_on() {
    let forge = TestForge::start(Dialect::Gitea);
    forge.state().shuns_local_network = true;
    let bed = Bed::new();
    let (bot, admin) = (forge.account("chiffon-bot", Role::Write), forge.account("ann", Role::Admin));
    bed.live_on_polling(&forge, &bot, 1, "    webhook_secret_file: webhook-secret\n");
    bed.answer_over_http("");
    bed.secret("admin-token", &admin);
    let file = bed.home().join("admin-token");
    bed.chiffon(&["forge", "setup", "--token-file", file.to_str().unwrap()]).ends(0);
    let mut up = bed.up();
    let hook = format!("http://{}/webhooks/forgejo", bed.web_address());
    let arguments = ["--json", "forge", "setup", "--token-file", file.to_str().unwrap(), "--hook", &hook];
    let said = bed.chiffon(&arguments).ends(3);
    assert!(said.out.contains("`chiffon up` did not hear it") && said.out.contains("ALLOWED_HOST_LIST"), "{said:?}");
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    forge.merge("ann", number_of(&forge, &bed, "journal"));
    up.wait_for("journal: succeeded");
    end(up);
}

fn kind_of(forge: &dyn Host) -> &'static str {
    match forge.dialect() {
        Dialect::Gitea => "forgejo",
        Dialect::GitHub => "github",
    }
}

#[test]
fn s15_a_forge_is_set_up_and_refuses_chiffons_own_merge_on_gitea() {
    setup(&TestForge::start(Dialect::Gitea));
}

#[test]
fn s15_a_forge_is_set_up_and_refuses_chiffons_own_merge_on_github() {
    setup(&TestForge::start(Dialect::GitHub));
}

#[test]
fn s15_a_forge_is_set_up_and_refuses_chiffons_own_merge_on_a_real_gitea() {
    if let Some(forge) = RealGitea::start() {
        setup(&forge);
    }
}

#[test]
fn doctor_says_what_the_token_lacks() {
    let forge = TestForge::start(Dialect::Gitea);
    let token = forge.account("chiffon-bot", Role::Write);
    let bed = Bed::new();
    bed.live_on(&forge, &token);
    let checks = |said: &chiffon_tests::Said| {
        let said = said.json();
        let all = said["checks"].as_array().unwrap().clone();
        move |what: &str| all.iter().find(|check| check["what"] == what).unwrap_or_else(|| panic!("{all:?}")).clone()
    };
    let check = checks(&bed.chiffon(&["--json", "doctor"]).ends(0));
    assert!(check("forge")["found"].as_str().unwrap().contains("as chiffon-bot"));
    assert_eq!(check("forge's git")["found"], "its branch is main");
    forge.state().of_organization = true;
    let check = checks(&bed.chiffon(&["--json", "doctor"]).ends(3));
    assert!(check("who may write there")["found"].as_str().unwrap().contains("administers the repository"));
    forge.account("chiffon-bot", Role::Read);
    let check = checks(&bed.chiffon(&["--json", "doctor"]).ends(3));
    assert_eq!(check("forge's repository")["fix"], "give that account write access to it");
    bed.secret("forge-token", "revoked");
    let check = checks(&bed.chiffon(&["--json", "doctor"]).ends(3));
    assert_eq!(check("forge")["fix"], "make a new one and put it into `forge.token_file`");
}

#[test]
fn doctor_names_the_scope_that_a_token_lacks() {
    let forge = TestForge::start(Dialect::Gitea);
    let token = forge.account("chiffon-bot", Role::Write);
    let bed = Bed::new();
    bed.live_on(&forge, &token);
    for (has, lacks) in [("write:repository", "write:issue"), ("write:issue", "write:repository")] {
        forge.state().tokens.get_mut(&token).unwrap().1 = [has.to_owned()].into();
        let said = bed.chiffon(&["--json", "doctor"]).ends(3);
        assert!(said.out.contains(&format!("it needs the scope {lacks}")), "{said:?}");
    }
    forge.state().tokens.get_mut(&token).unwrap().1 = ["write:repository", "write:issue"].map(str::to_owned).into();
    bed.chiffon(&["--json", "doctor"]).ends(0);
}

#[test]
fn a_repository_of_its_own_is_not_made_a_copy_of_the_forges() {
    let forge = TestForge::start(Dialect::Gitea);
    let token = forge.account("chiffon-bot", Role::Write);
    let bed = Bed::new();
    let aside = bed.path().join("aside.git");
    std::fs::rename(bed.requests(), &aside).unwrap();
    std::fs::create_dir(bed.requests()).unwrap();
    bed.live_on(&forge, &token);
    std::fs::rename(&aside, bed.requests()).unwrap();
    let before = bed.bare_git(&["rev-parse", "main"]);
    let refused = bed.up_once().ends(1);
    assert!(refused.err.contains("push what it holds to the forge, then move it away"), "{}", refused.err);
    assert_eq!(bed.bare_git(&["rev-parse", "main"]), before);
}
