//! From a push to a record, where plans are pull requests.

use chiffon_tests::forge::{Dialect, Fate, Host, RealGitea, Role, TestForge};
use chiffon_tests::{Background, Bed};

/// A home whose requests live on a forge, with a bot and `ann`, who may merge.
pub(crate) fn on(dialect: Dialect) -> (TestForge, Bed, Background) {
    let forge = TestForge::start(dialect);
    let token = forge.account("chiffon-bot", Role::Write);
    forge.account("ann", Role::Write);
    let bed = Bed::new();
    bed.live_on(&forge, &token);
    let up = bed.up();
    (forge, bed, up)
}

pub(crate) fn end(up: Background) {
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

/// The number of the open pull request of a request.
pub(crate) fn number_of(forge: &dyn Host, bed: &Bed, name: &str) -> u64 {
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
pub(crate) fn merge_of(forge: &TestForge, number: u64) -> String {
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
