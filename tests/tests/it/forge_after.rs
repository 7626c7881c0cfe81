//! What follows on a forge: comments and their answers, failures, follow-ups and undos.

use chiffon_tests::Bed;
use chiffon_tests::forge::{Dialect, Host as _, Role, TestForge};

use crate::forge_story::{end, merge_of, number_of, on};

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

/// Nothing leads on from a pull request that is merged: once what failed was mended in the playbook, another plan is offered
/// by itself.
#[test]
fn a_failure_whose_playbook_was_mended_is_followed_up_by_a_pull_request_of_its_own() {
    for dialect in [Dialect::Gitea, Dialect::GitHub] {
        let (forge, bed, mut up) = on(dialect);
        bed.push_request("faulty", "Deploy the faulty one");
        up.wait_for("faulty: proposed");
        let number = number_of(&forge, &bed, "faulty");
        forge.merge("ann", number);
        up.wait_for("faulty: failed");
        let failed = merge_of(&forge, number);
        bed.wait_until("it is said", || forge.status(&failed, "chiffon/apply") == "failure");
        let playbook = "playbooks/faulty-deployment.yml";
        let text = std::fs::read_to_string(bed.infra.folder.join(playbook)).unwrap();
        bed.infra.write(playbook, &text.replace("inventory_hostname == 'beta' and not part.stat.exists", "false"));
        bed.infra.commit("the part is not needed any more");
        let next = number_of(&forge, &bed, "faulty");
        assert_ne!(next, number);
        bed.wait_until("its number is known", || {
            bed.status("faulty")["next"].as_str().unwrap().starts_with(&format!("merge plan #{next} to approve"))
        });
        assert_eq!(bed.state("faulty"), "failed", "the failure is not forgotten over it");
        bed.wait_until("what it follows is said there", || sticky_of(&forge, next).contains("need a mended part"));
        // Who asks where nothing is heard any more is sent to where something is.
        let id = forge.state().comment("ann", number, "/chiffon retry").unwrap().id;
        let pointed = || {
            let comments = forge.shown(number).comments;
            comments.iter().filter(|(_, body)| body.contains(&format!("goes on in #{next}"))).count()
        };
        bed.wait_until("it is said where it goes on", || pointed() == 1);
        let is_confused = || forge.reactions(id).iter().any(|(_, content)| content == "confused");
        bed.wait_until("a reaction stands beneath it", is_confused);
        forge.merge("ann", next);
        up.wait_for("faulty: succeeded");
        let merge = merge_of(&forge, next);
        bed.wait_until("it is said", || forge.status(&merge, "chiffon/apply") == "success");
        assert_eq!(forge.status(&failed, "chiffon/apply"), "failure", "what failed has failed");
        end(up);
    }
}
