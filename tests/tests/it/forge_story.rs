//! From a push to a record, where plans are pull requests.

use chiffon_tests::forge::{Dialect, Fate, Host, RealGitea, Role, Rule, TestForge};
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
fn number_of(forge: &dyn Host, bed: &Bed, name: &str) -> u64 {
    let head = format!("chiffon/plan/{name}");
    bed.wait_until("its pull request is open", || forge.open_of(&head).is_some());
    forge.open_of(&head).unwrap()
}

/// Pushed, opened, merged by a person, run and recorded: what every forge has to show.
fn story(forge: &dyn Host, bed: &Bed, mut up: Background) {
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    bed.wait_until("its pull request is open", || forge.open_of("chiffon/plan/journal").is_some());
    let number = forge.open_of("chiffon/plan/journal").unwrap();
    let pull = forge.shown(number);
    assert_eq!((pull.author.as_str(), pull.base.as_str()), ("chiffon-bot", "main"));
    assert!(pull.body.starts_with("<!-- chiffon:v1 request="), "{}", pull.body);
    assert_eq!(pull.title, "plan: deploy the journal on alpha (1 task)");
    assert!(forge.tip("chiffon/audit").is_some(), "what was offered is recorded there before it is seen");
    forge.merge("ann", number);
    up.wait_for("journal: succeeded");
    let run = bed.status("journal");
    let approval = &run["run"]["approval"];
    assert_eq!((&approval["by"], &approval["established"]), (&"ann".into(), &"forge".into()), "{run}");
    bed.wait_until("the result is on the forge", || {
        forge.tip("chiffon/audit") == Some(bed.audit_tip().trim().to_owned())
    });
    let merge = forge.shown(number).merge.unwrap();
    bed.wait_until("the merge commit says how it ended", || {
        forge.status(&merge, "chiffon/apply") == "success" && forge.status(&merge, "chiffon/verify") == "success"
    });
    bed.wait_until("the labels say it as well", || forge.shown(number).labels.contains("state:succeeded"));
    for context in ["chiffon/plan", "chiffon/policy", "chiffon/fresh"] {
        assert_eq!(forge.status(&pull.head, context), "success", "{context}");
    }
    let comments = || forge.shown(number).comments;
    bed.wait_until("the comment says it too", || comments().iter().any(|(_, body)| body.contains("**succeeded**")));
    let comments = comments();
    assert_eq!(comments.len(), 1, "one sticky comment, and no other: {comments:?}");
    let (author, body) = &comments[0];
    assert_eq!(author, "chiffon-bot");
    assert!(body.starts_with("<!-- chiffon:run "), "{body}");
    assert!(body.contains("**succeeded** · 1 of 1 steps done"), "{body}");
    assert!(body.contains("1 ok, 1 changed, 0 failed"), "{body}");
    end(up);
}

/// The commit that a merge made.
fn merge_of(forge: &TestForge, number: u64) -> String {
    match &forge.state().pull(number).unwrap().fate {
        Fate::Merged { commit, .. } => commit.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn s2_a_sentence_becomes_a_pull_request_and_its_merge_a_run_on_gitea() {
    let (forge, bed, up) = on(Dialect::Gitea);
    story(&forge, &bed, up);
}

#[test]
fn s2_a_sentence_becomes_a_pull_request_and_its_merge_a_run_on_github() {
    let (forge, bed, up) = on(Dialect::GitHub);
    story(&forge, &bed, up);
}

#[test]
fn a_github_app_speaks_for_chiffon_and_gets_another_token_when_one_ends() {
    let forge = TestForge::start(Dialect::GitHub);
    forge.account("ann", Role::Write);
    let bed = Bed::new();
    let key = bed.home().join("app.pem");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let public = std::process::Command::new("ssh-keygen").args(["-e", "-m", "PEM", "-f"]).arg(&key).output().unwrap();
    // Each of its tokens is as good as over when it comes.
    forge.state().app = Some((4711, chiffon_tests::forge::from_pem(&public.stdout), 301));
    bed.live_on_polling(&forge, "none", 1, "    app: {id: 4711, key_file: app.pem}\n");
    let config = bed.home().join("chiffon.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let refused = bed.chiffon(&["doctor"]);
    assert!(refused.out.contains("take one of them out"), "{refused:?}");
    std::fs::write(&config, text.replace("    token_file: forge-token\n", "")).unwrap();
    let checks = bed.chiffon(&["--json", "doctor"]).ends(0).json();
    assert!(checks.to_string().contains("GitHub, as chiffon[bot]"), "{checks}");
    let mut up = bed.up();
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let number = number_of(&forge, &bed, "journal");
    assert_eq!(forge.shown(number).author, "chiffon[bot]");
    forge.merge("ann", number);
    up.wait_for("journal: succeeded");
    let merge = merge_of(&forge, number);
    bed.wait_until("it is said", || forge.status(&merge, "chiffon/apply") == "success");
    // Installed anew while nothing happens: what it had counts no more.
    if let Some((_, _, secs)) = &mut forge.state().app {
        *secs = 3_600;
    }
    bed.wait_until("it has one for long", || forge.state().tokens.keys().any(|token| token.starts_with("ghs_")));
    forge.state().tokens.retain(|token, _| !token.starts_with("ghs_"));
    bed.git(&["pull", "--quiet", "--rebase"]);
    bed.push_request("gazette", "Deploy the gazette");
    up.wait_for("gazette: proposed");
    number_of(&forge, &bed, "gazette");
    let renewed = forge.state().asked.iter().filter(|asked| asked.ends_with("/access_tokens")).count();
    assert!(renewed > 2, "{renewed} tokens");
    end(up);
}

#[test]
fn s2_a_sentence_becomes_a_pull_request_and_its_merge_a_run_on_a_real_gitea() {
    let Some(forge) = RealGitea::start() else { return };
    let bed = Bed::new();
    let token = forge.account("chiffon-bot", Role::Write);
    forge.account("ann", Role::Write);
    bed.live_on(&forge, &token);
    let up = bed.up();
    story(&forge, &bed, up);
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

/// A life that ends between opening a pull request and its record is followed by one that knows nothing of it.
#[test]
fn a_merge_of_a_pull_request_that_was_never_recorded_is_an_approval() {
    for dialect in [Dialect::Gitea, Dialect::GitHub] {
        let (forge, bed, mut up) = on(dialect);
        forge.state().refuses = Some(("POST", "/pulls"));
        bed.push_request("journal", "Deploy the journal");
        up.wait_for("journal: proposed");
        bed.wait_until("its branch is there", || forge.tip("chiffon/plan/journal").is_some());
        end(up);
        forge.state().refuses = None;
        let number = forge.state().open("chiffon-bot", "chiffon/plan/journal", "main", "plan: it", "").unwrap();
        forge.merge("ann", number);
        up = bed.up();
        up.wait_for("journal: succeeded");
        assert_eq!(forge.pulls(), 1, "no other is opened of the same commit");
        end(up);
    }
}

/// The same within one life: the forge opened it, its answer was lost, and a person was faster than the next try.
#[test]
fn a_merge_of_a_pull_request_whose_opening_was_never_answered_is_an_approval() {
    let (forge, bed, mut up) = on(Dialect::Gitea);
    forge.state().loses = Some(("POST", "/pulls"));
    bed.push_request("journal", "Deploy the journal");
    let number = number_of(&forge, &bed, "journal");
    forge.merge("ann", number);
    forge.state().loses = None;
    up.wait_for("journal: succeeded");
    assert_eq!(forge.pulls(), 1, "no other is opened of the same commit");
    end(up);
}

/// Forges can delete a branch with its merge, and Gitea then calls it otherwise.
#[test]
fn a_merge_that_deletes_its_branch_is_the_same_approval() {
    for dialect in [Dialect::Gitea, Dialect::GitHub] {
        let (forge, bed, mut up) = on(dialect);
        bed.push_request("journal", "Deploy the journal");
        up.wait_for("journal: proposed");
        let number = number_of(&forge, &bed, "journal");
        end(up);
        forge.merge("ann", number);
        forge.remove_branch("chiffon/plan/journal");
        up = bed.up();
        up.wait_for("journal: succeeded");
        let merge = merge_of(&forge, number);
        bed.wait_until("it is said", || forge.status(&merge, "chiffon/apply") == "success");
        end(up);
    }
}

/// The sticky comment of a pull request; empty where there is none.
fn sticky_of(forge: &TestForge, number: u64) -> String {
    let mut forge = forge.state();
    let comments = forge.pull(number).unwrap().comments.clone();
    let sticky = comments.into_iter().filter(|comment| comment.body.starts_with("<!-- chiffon:run "));
    let all: Vec<_> = sticky.collect();
    assert!(all.len() <= 1, "one sticky comment: {all:?}");
    all.first().map_or_else(String::new, |comment| comment.body.clone())
}

/// Somebody comments, and the answer is waited for; the reaction beneath the comment.
fn say(forge: &TestForge, bed: &Bed, number: u64, who: &str, body: &str, answer: &str) -> String {
    let id = forge.state().comment(who, number, body).unwrap().id;
    bed.wait_until(&format!("{answer} in {body}"), || sticky_of(forge, number).contains(answer));
    let reaction = || {
        let mut forge = forge.state();
        let (_, comment) = forge.comment_of(id).unwrap();
        comment.reactions.iter().map(|(_, content)| content.clone()).next()
    };
    bed.wait_until("a reaction stands beneath it", || reaction().is_some());
    reaction().unwrap()
}

#[test]
fn a_failure_is_announced_and_a_comment_does_the_unfinished_hosts_again() {
    for dialect in [Dialect::Gitea, Dialect::GitHub] {
        let (forge, bed, mut up) = on(dialect);
        bed.push_request("faulty", "Deploy the faulty one");
        up.wait_for("faulty: proposed");
        let number = number_of(&forge, &bed, "faulty");
        forge.state().merge("ann", number, None, |_| false).unwrap();
        up.wait_for("faulty: failed");
        let merge = merge_of(&forge, number);
        bed.wait_until("the merge commit says that it failed", || {
            forge.status(&merge, "chiffon/apply") == "failure" && forge.status(&merge, "chiffon/verify") == "failure"
        });
        let is_ping = |body: &str| body.starts_with("<!-- chiffon:ping failed ");
        let pings = || forge.state().pull(number).unwrap().comments.iter().filter(|c| is_ping(&c.body)).count();
        bed.wait_until("a comment of its own calls for somebody", || pings() == 1);
        let said = forge.state().pull(number).unwrap().comments.iter().find(|c| is_ping(&c.body)).unwrap().body.clone();
        assert!(said.contains("beta") && said.contains("need a mended part"), "{said}");
        assert!(said.contains("`/chiffon retry`"), "{said}");
        std::fs::write(bed.infra.effects.join("mended"), "").unwrap();
        assert_eq!(say(&forge, &bed, number, "ann", "mended\n/chiffon retry", "goes on with what is unfinished"), "+1");
        up.wait_for("faulty: succeeded");
        let mut lines = bed.infra.lines("faulty");
        lines.sort();
        assert_eq!(lines, ["alpha", "beta", "beta"], "alpha was done");
        bed.wait_until("the merge commit says that all is well", || forge.status(&merge, "chiffon/apply") == "success");
        assert_eq!(pings(), 1, "what was said once is not said again");
        end(up);
    }
}

#[test]
fn comments_of_strangers_and_mistakes_are_answered_and_do_nothing() {
    let (forge, bed, mut up) = on(Dialect::Gitea);
    forge.account("rea", Role::Read);
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let number = number_of(&forge, &bed, "journal");
    let typo = say(&forge, &bed, number, "ann", "/chiffon replam", "did you mean");
    assert_eq!(typo, "confused");
    let id = forge.state().comment("rea", number, "/chiffon cancel").unwrap().id;
    bed.wait_until("a stranger gets a sign", || {
        let mut forge = forge.state();
        let (_, comment) = forge.comment_of(id).unwrap();
        comment.reactions.iter().any(|(_, content)| content == "confused")
    });
    assert!(!sticky_of(&forge, number).contains("rea:"), "and nothing is written down");
    let hostile = "/chiffon explain <img src=x> @everyone closes #1";
    say(&forge, &bed, number, "ann", hostile, "such task");
    assert!(!sticky_of(&forge, number).contains("<img"));
    assert_eq!(bed.state("journal"), "proposed");
    assert_eq!(bed.count("comment-answered"), 2);
    end(up);
    // Nothing is heard twice, whoever forgets what.
    let up = bed.up();
    say(&forge, &bed, number, "ann", "/chiffon unlock", "holds no host");
    assert_eq!(bed.count("comment-answered"), 3);
    end(up);
}

#[test]
fn a_change_asked_for_in_a_comment_is_written_as_its_person_and_planned_in_the_same_pull_request() {
    let (forge, bed, mut up) = on(Dialect::GitHub);
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let number = number_of(&forge, &bed, "journal");
    let before = forge.state().pull(number).unwrap().body.clone();
    let reaction =
        say(&forge, &bed, number, "ann", "/chiffon replan and deploy the gazette", "written to requests/journal.yaml");
    assert_eq!(reaction, "+1");
    bed.wait_until("the pull request shows the new plan", || {
        let body = forge.state().pull(number).unwrap().body.clone();
        body != before && body.contains("gazette")
    });
    bed.git(&["pull", "--quiet", "--rebase"]);
    assert!(bed.read("requests/journal.yaml").contains("and deploy the gazette"));
    assert_eq!(bed.git(&["log", "-1", "--format=%an <%ae> %cn"]).trim(), "ann <ann@users.noreply.github.com> Chiffon");
    forge.state().merge("ann", number, None, |pull| pull.draft).unwrap();
    up.wait_for("journal: succeeded");
    assert_eq!((bed.infra.lines("journal").len(), bed.infra.lines("gazette").len()), (1, 1));
    end(up);
}

#[test]
fn what_ran_is_undone_by_a_plan_of_its_own() {
    let (forge, bed, mut up) = on(Dialect::Gitea);
    let file = bed.infra.effects.join("diary").display().to_string();
    let play = |name: &str, word: &str| {
        format!(
            "- name: {name}\n  hosts: alpha\n  gather_facts: false\n  tasks:\n    - name: write\n      ansible.builtin.shell: echo {word} >> {file}\n"
        )
    };
    bed.infra.write("playbooks/diary-deployment.yml", &play("Deploy the diary", "deployed"));
    bed.infra.write("playbooks/diary-remove.yml", &play("Remove the diary", "removed"));
    bed.infra.commit("a service and a way back");
    bed.push_request("diary", "Deploy the diary");
    up.wait_for("diary: proposed");
    let number = number_of(&forge, &bed, "diary");
    forge.state().merge("ann", number, None, |_| false).unwrap();
    up.wait_for("diary: succeeded");
    say(&forge, &bed, number, "ann", "/chiffon undo", "is offered");
    let undo = number_of(&forge, &bed, "diary");
    assert_ne!(undo, number);
    let title = forge.state().pull(undo).unwrap().title.clone();
    assert!(title.starts_with("plan: undo plan 1 (Deploy"), "{title}");
    forge.state().merge("ann", undo, None, |_| false).unwrap();
    bed.wait_until("it is undone", || bed.infra.lines("diary") == ["deployed", "removed"]);
    end(up);
}

#[test]
fn a_person_asks_and_approves_at_the_terminal_with_credentials_of_their_own() {
    let (forge, bed, mut up) = on(Dialect::Gitea);
    bed.chiffon(&["request", "Deploy the journal", "--name", "journal"]).ends(0);
    up.wait_for("journal: proposed");
    let number = number_of(&forge, &bed, "journal");
    bed.wait_until("its number is known", || bed.status("journal")["next"].as_str().unwrap().contains("merge plan #"));
    let without = bed.chiffon(&["approve", "journal"]).ends(1);
    assert!(without.err.contains("--token-file FILE"), "{}", without.err);
    let token = forge.account("ann", Role::Write);
    bed.secret("ann-token", &token);
    let file = bed.home().join("ann-token");
    forge.fault(chiffon_tests::forge::Fault::StillComputing);
    bed.chiffon(&["approve", "journal", "--token-file", file.to_str().unwrap()]).ends(0);
    up.wait_for("journal: succeeded");
    assert_eq!(bed.status("journal")["run"]["approval"]["pull"], number);
    end(up);
}

#[test]
fn s3_where_signatures_are_asked_for_only_a_merge_by_a_listed_key_counts() {
    let (forge, bed, mut up) = on(Dialect::Gitea);
    end(up);
    let keys = bed.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    let key = |name: &str| {
        let file = keys.join(name);
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(&file)
            .status()
            .unwrap();
        assert!(made.success());
        (file.to_str().unwrap().to_owned(), std::fs::read_to_string(file.with_extension("pub")).unwrap())
    };
    let ((listed, public), (unlisted, _), (late, expired)) = (key("listed"), key("unlisted"), key("late"));
    let signers = format!("ann@lab.example {public}ann@lab.example valid-before=\"20200101\" {expired}");
    std::fs::write(bed.home().join("signers"), signers).unwrap();
    bed.configure("  policy:\n    allowed_signers_file: signers\n");
    up = bed.up();
    for (name, key, state) in [
        ("a", None, "refused"),
        ("b", Some(&unlisted), "refused"),
        ("c", Some(&late), "refused"),
        ("d", Some(&listed), "succeeded"),
    ] {
        bed.git(&["pull", "--quiet", "--rebase"]);
        bed.push_request(name, "Deploy the journal");
        up.wait_for(&format!("{name}: proposed"));
        let number = number_of(&forge, &bed, name);
        forge.state().sign_with = key.cloned();
        forge.state().merge("ann", number, None, |_| false).unwrap();
        up.wait_for(&format!("{name}: {state}"));
    }
    assert_eq!(bed.infra.lines("journal"), ["alpha"], "one of four ran");
    assert_eq!(bed.status("d")["run"]["approval"]["established"], "signed");
    end(up);
}

/// What somebody with write access does to a pull request before it is merged, and what must come of the merge.
fn merged_after(tamper: impl Fn(&TestForge, u64), state: &str) {
    let (forge, bed, mut up) = on(Dialect::Gitea);
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let number = number_of(&forge, &bed, "journal");
    end(up);
    tamper(&forge, number);
    forge.state().merge("ann", number, None, |_| false).unwrap();
    up = Background::start(bed.command(&["--dir", bed.home().to_str().unwrap(), "up"]));
    up.wait_for(&format!("journal: {state}"));
    assert_eq!(bed.infra.lines("journal").is_empty(), state != "succeeded");
    end(up);
}

#[test]
fn s1_what_is_written_into_a_pull_request_changes_nothing_of_what_runs() {
    merged_after(
        |forge, number| {
            let body = format!("<!-- chiffon:v1 request=x plan={} -->\nall is well", "a".repeat(40));
            let rename = |pull: &mut chiffon_tests::forge::Pull| {
                (pull.title, pull.body) = ("plan: nothing at all".to_owned(), body.clone());
                Ok(())
            };
            forge.state().change("ann", number, rename).unwrap();
        },
        "succeeded",
    );
}

#[test]
fn s1_a_head_that_was_pushed_to_and_never_offered_runs_nothing() {
    merged_after(
        |forge, _| {
            let plan = forge.read("chiffon/plan/journal", "plans/journal.yaml");
            let other = plan.replace("timeout_secs: 900", "timeout_secs: 901");
            assert_ne!(plan, other);
            forge.commit("chiffon/plan/journal", "plans/journal.yaml", &other);
        },
        // It is offered afresh, as an edit inside the merge.
        "proposed",
    );
}

#[test]
fn s4_a_pull_request_that_somebody_else_opens_stands_for_no_plan() {
    let (forge, bed, mut up) = on(Dialect::GitHub);
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let number = number_of(&forge, &bed, "journal");
    let body = forge.state().pull(number).unwrap().body.clone();
    forge.commit("dev", "readme", "x");
    let other = forge.state().open("ann", "chiffon/plan/journal", "dev", "mine", &body).unwrap();
    forge
        .state()
        .change("ann", other, |pull| {
            pull.fate = Fate::Closed;
            Ok(())
        })
        .unwrap();
    forge.state().merge("ann", number, None, |_| false).unwrap();
    up.wait_for("journal: succeeded");
    assert_eq!(bed.status("journal")["run"]["approval"]["pull"], number);
    end(up);
}

#[test]
fn a_merge_that_nobody_saw_is_found_at_the_next_start() {
    let (forge, bed, mut up) = on(Dialect::Gitea);
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let number = number_of(&forge, &bed, "journal");
    bed.wait_until("its look is done", || forge.shown(number).labels.contains("state:proposed"));
    end(up);
    forge.state().merge("ann", number, None, |_| false).unwrap();
    bed.up_once().ends(0);
    assert_eq!((bed.state("journal").as_str(), bed.infra.lines("journal").len()), ("succeeded", 1));
    let merge = merge_of(&forge, number);
    assert_eq!(forge.status(&merge, "chiffon/apply"), "success", "it waits until that is said");
}

#[test]
fn a_forge_that_fails_is_named_and_nothing_is_lost() {
    let (forge, bed, mut up) = on(Dialect::GitHub);
    let refusal = chiffon_tests::forge::Fault::Refuse;
    for fault in [refusal(502, vec![]), refusal(429, vec![("retry-after", "1".to_owned())]), refusal(401, vec![])] {
        forge.fault(fault);
    }
    up.wait_for_part("asks to wait 1 s");
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let number = number_of(&forge, &bed, "journal");
    forge.state().merge("ann", number, None, |_| false).unwrap();
    up.wait_for("journal: succeeded");
    end(up);
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
