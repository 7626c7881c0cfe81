//! Check runs: asked for by `mode: check`, executed with `--check --diff`, and exempt from approval only where the owner
//! says so.

use chiffon_tests::forge::{Dialect, Host as _, Role, TestForge};
use chiffon_tests::{Background, Bed, Merge};

use crate::forge_story::{merge_of, number_of};

const EXEMPT: &str = "  policy: {exempt_check_runs: true}\n";

/// A home whose infra repository has `page`, which check mode foresees, and that of which a task runs for real in a check.
fn bed() -> Bed {
    let bed = Bed::new();
    let play = |name: &str, tasks: &str| {
        format!("- name: Deploy the {name}\n  hosts: journal\n  gather_facts: false\n  tasks:\n{tasks}")
    };
    let page = bed.infra.effects.join("page");
    let copy =
        format!("    - name: write it\n      ansible.builtin.copy: {{content: new, dest: {}}}\n", page.display());
    bed.infra.write("playbooks/page-deployment.yml", &play("page", &copy));
    let stamp = bed.infra.effects.join("stamp");
    let escapes = format!(
        "    - name: stamp it\n      ansible.builtin.shell: echo x >> {}\n      check_mode: false\n",
        stamp.display()
    );
    bed.infra.write("playbooks/stamp-deployment.yml", &play("stamp", &escapes));
    bed.infra
        .write("playbooks/broken-deployment.yml", &play("broken one", "    - fail: {msg: as the test wants it}\n"));
    bed.infra.commit("a page, a stamp, and one that fails");
    bed
}

fn push_check(bed: &Bed, name: &str, text: &str) {
    let yaml = format!("apiVersion: chiffon/v1\nkind: Request\nspec:\n  text: {text}\n  mode: check\n");
    bed.write(&format!("requests/{name}.yaml"), &yaml);
    bed.push(&format!("check {name}"));
}

fn end(up: Background) {
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn n4_a_check_run_is_labelled_as_an_execution_and_waits_for_its_merge() {
    let bed = bed();
    let mut up = bed.up();
    push_check(&bed, "page", "Deploy the page");
    up.wait_for("page: proposed");
    let plan = bed.chiffon(&["plan", "page"]).ends(0).out;
    assert!(plan.contains("**Check run**: `ansible-playbook --check --diff` is executed on these hosts"), "{plan}");
    assert!(plan.contains("Check: Deploy the page"), "{plan}");
    bed.approve("page", Merge::Commit);
    up.wait_for("page: succeeded");
    assert!(bed.infra.lines("page").is_empty(), "nothing was written");
    let status = bed.status("page");
    assert_eq!(status["reason"], "a check: 1 task would change something", "{status}");
    assert_eq!(status["run"]["approval"]["established"], "claimed", "{status}");
    assert!(bed.chiffon(&["log", "page"]).ends(0).out.contains("+new"), "the difference is in the log");
    let undo = bed.chiffon(&["undo", "page"]).ends(1);
    assert!(undo.out.contains("was a check, which leaves nothing to undo"), "{undo:?}");
    end(up);
}

#[test]
fn n4_a_check_that_policy_exempts_begins_by_itself_and_its_change_waits_for_a_merge() {
    let bed = bed();
    bed.configure(EXEMPT);
    let mut up = bed.up();
    let said = bed.chiffon(&["request", "Deploy the page", "--check", "--name", "page"]).ends(0);
    assert!(said.out.contains("pushed"), "{said:?}");
    up.wait_for("page: succeeded");
    assert!(bed.infra.lines("page").is_empty(), "nothing was written");
    let approval = bed.status("page")["run"]["approval"].clone();
    assert_eq!(approval["established"], "policy", "{approval}");
    assert_eq!(approval.get("by"), None, "{approval}");
    let commit = approval["commit"].as_str().unwrap();
    assert!(bed.bare_git(&["show", &format!("{commit}:plans/page.yaml")]).contains("mode: check"));
    assert!(bed.bare_git(&["ls-tree", "-r", "--name-only", "chiffon/audit", "plans", "offers"]).is_empty());
    assert!(bed.bare_git(&["for-each-ref", "refs/heads/chiffon/plan"]).is_empty(), "nothing is there to be merged");
    let page = bed.bare_git(&["show", "chiffon/audit:status/page.md"]);
    assert!(page.contains("approved by policy: check runs are exempt"), "{page}");
    let result = bed.bare_git(&["log", "-1", "--format=%s", "chiffon/audit"]);
    assert!(result.starts_with("page: succeeded on alpha") && result.contains("1 would change"), "{result}");
    // The same request without its `mode` is a change, and waits for a person.
    bed.git(&["pull", "--quiet", "--rebase"]);
    bed.push_request("page", "Deploy the page");
    up.wait_for("page: proposed");
    assert!(bed.infra.lines("page").is_empty());
    bed.approve("page", Merge::Commit);
    up.wait_for("page: succeeded");
    assert_eq!(bed.infra.lines("page"), ["new"]);
    end(up);
}

#[test]
fn n4_a_check_of_which_a_task_runs_for_real_is_exempt_from_nothing() {
    let bed = bed();
    bed.configure(EXEMPT);
    push_check(&bed, "stamp", "Deploy the stamp");
    let said = bed.up_once();
    assert_eq!(bed.state("stamp"), "proposed", "{said:?}");
    assert!(bed.infra.lines("stamp").is_empty());
}

/// The agent's own configuration has a say as well, and a copy of the audit branch is all that it needs.
#[test]
fn n4_an_agent_elsewhere_takes_such_a_check_only_where_its_own_configuration_says_so() {
    let bed = bed();
    bed.join_broker();
    bed.configure(EXEMPT);
    let mut up = bed.up();
    bed.enrol("one");
    let mut agent = bed.start_agent("one");
    push_check(&bed, "page", "Deploy the page");
    up.wait_for("page: failed");
    let reason = bed.status("page")["reason"].clone();
    assert!(reason.as_str().unwrap().contains("takes no check runs that nobody merged"), "{reason}");
    agent.signal("TERM");
    assert_eq!(agent.end(), 0);
    let file = bed.agent_home("one").join("agent.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}  exempt_check_runs: true\n")).unwrap();
    agent = bed.start_agent("one");
    bed.chiffon(&["retry", "page"]).ends(0);
    up.wait_for("page: succeeded");
    assert!(bed.infra.lines("page").is_empty());
    end(agent);
    end(up);
}

#[test]
fn n4_a_check_that_policy_exempts_has_no_pull_request_and_is_recorded_on_the_forge() {
    for dialect in [Dialect::Gitea, Dialect::GitHub] {
        let forge = TestForge::start(dialect);
        let token = forge.account("chiffon-bot", Role::Write);
        forge.account("ann", Role::Write);
        let bed = bed();
        bed.live_on(&forge, &token);
        bed.configure(EXEMPT);
        let mut up = bed.up();
        // Several at once, each with records of its own that move the audit branch on.
        for name in ["page", "page-2", "page-3", "page-4", "page-5"] {
            let yaml = "apiVersion: chiffon/v1\nkind: Request\nspec:\n  text: Deploy the page\n  mode: check\n";
            bed.write(&format!("requests/{name}.yaml"), yaml);
        }
        bed.push("five checks");
        bed.wait_until("something is recorded", || forge.tip("chiffon/audit").is_some());
        for name in ["page", "page-2", "page-3", "page-4", "page-5"] {
            let done = format!("{name}: succeeded on alpha");
            bed.wait_until("each is done", || bed.history().iter().any(|line| line.starts_with(&done)));
        }
        assert!(bed.infra.lines("page").is_empty());
        assert_eq!(forge.pulls(), 0);
        bed.wait_until("its result is on the forge", || {
            forge.tip("chiffon/audit") == Some(bed.audit_tip().trim().to_owned())
        });
        bed.git(&["pull", "--quiet", "--rebase"]);
        bed.push_request("page", "Deploy the page");
        let head = "chiffon/plan/page";
        bed.wait_until("what changes something has one", || forge.open_of(head).is_some());
        forge.merge("ann", forge.open_of(head).unwrap());
        bed.wait_until("it is done", || bed.infra.lines("page") == ["new"]);
        up.wait_for("page: succeeded");
        end(up);
    }
}

/// A check that has no pull request of its own leaves the one before it as it was, and who asks there is answered there.
#[test]
fn a_pull_request_beneath_a_check_keeps_its_end_and_is_listened_to() {
    let forge = TestForge::start(Dialect::Gitea);
    let token = forge.account("chiffon-bot", Role::Write);
    forge.account("ann", Role::Write);
    let bed = bed();
    bed.live_on(&forge, &token);
    bed.configure(EXEMPT);
    let mut up = bed.up();
    bed.push_request("page", "Deploy the page");
    let number = number_of(&forge, &bed, "page");
    forge.merge("ann", number);
    up.wait_for("page: succeeded");
    let merge = merge_of(&forge, number);
    // At once: its end is told all the same.
    bed.git(&["pull", "--quiet", "--rebase"]);
    push_check(&bed, "page", "Deploy the page");
    bed.wait_until("the check is done", || bed.status("page")["run"]["approval"]["established"] == "policy");
    bed.wait_until("the check is done", || bed.state("page") == "succeeded");
    assert_eq!(forge.status(&merge, "chiffon/apply"), "success");
    let main = bed.bare_git(&["rev-parse", "main"]);
    bed.wait_until("the commit says so", || forge.status(main.trim(), "chiffon/check/page") == "success");
    let before = forge.shown(number);
    assert!(before.comments[0].1.contains("1 of 1 steps done"), "{before:?}");
    let id = forge.state().comment("ann", number, "/chiffon undo").unwrap().id;
    let said = || forge.shown(number).comments.iter().any(|(_, body)| body.contains("leaves nothing to undo"));
    bed.wait_until("it is answered", said);
    let is_confused = || forge.reactions(id).iter().any(|(_, content)| content == "confused");
    bed.wait_until("a reaction stands beneath it", is_confused);
    assert_eq!(forge.status(&merge, "chiffon/apply"), "success");
    let after = forge.shown(number);
    assert_eq!((after.labels, &after.comments[0]), (before.labels, &before.comments[0]), "what it says is as it was");
    // Failures first: one without a pull request is seen where the request is.
    bed.git(&["pull", "--quiet", "--rebase"]);
    push_check(&bed, "broken", "Deploy the broken one");
    bed.wait_until("it is said that it failed", || {
        let main = bed.bare_git(&["rev-parse", "main"]);
        forge.status(main.trim(), "chiffon/check/broken") == "failure"
    });
    assert_eq!(forge.pulls(), 1);
    end(up);
}
