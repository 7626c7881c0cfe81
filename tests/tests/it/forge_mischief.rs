//! What people and forges do to pull requests that nobody foresees, and what is seen of it. Nothing runs that was not
//! approved, nothing is lost, and each has words.

use chiffon_tests::forge::{Dialect, Fate, Host, Role, TestForge};
use chiffon_tests::{Background, Bed};

/// A home whose requests live on a forge, with an open pull request of `journal`.
struct Ground {
    forge: TestForge,
    bed: Bed,
    up: Background,
    number: u64,
}

impl Ground {
    fn new(dialect: Dialect) -> Self {
        let forge = TestForge::start(dialect);
        let token = forge.account("chiffon-bot", Role::Write);
        forge.account("ann", Role::Write);
        let bed = Bed::new();
        bed.live_on(&forge, &token);
        let mut up = bed.up();
        bed.push_request("journal", "Deploy the journal");
        up.wait_for("journal: proposed");
        let branch = "chiffon/plan/journal";
        bed.wait_until("its pull request is open and known", || {
            forge.open_of(branch).is_some_and(|number| forge.shown(number).labels.contains("state:proposed"))
        });
        let number = forge.open_of(branch).unwrap();
        Self { forge, bed, up, number }
    }

    /// Does something while nobody looks.
    fn meanwhile(&mut self, mischief: impl FnOnce(&TestForge, &Bed, u64)) {
        self.up.signal("TERM");
        let up = std::mem::replace(&mut self.up, Background::start(std::process::Command::new("true")));
        assert_eq!(up.end(), 0);
        mischief(&self.forge, &self.bed, self.number);
        self.up = Background::start(self.bed.command(&["--dir", self.bed.home().to_str().unwrap(), "up"]));
    }

    fn change(&self, change: impl Fn(&mut chiffon_tests::forge::Pull)) {
        let done = self.forge.state().change("ann", self.number, |pull| {
            change(pull);
            Ok(())
        });
        done.unwrap();
    }

    fn runs(&self) -> usize {
        self.bed.infra.lines("journal").len()
    }

    fn ends(self) {
        self.up.signal("TERM");
        assert_eq!(self.up.end(), 0);
    }
}

#[test]
fn s2_a_pull_request_that_was_made_to_go_elsewhere_runs_nothing() {
    for dialect in [Dialect::Gitea, Dialect::GitHub] {
        let mut ground = Ground::new(dialect);
        ground.forge.commit("dev", "readme", "x\n");
        ground.change(|pull| pull.base = "dev".to_owned());
        ground.forge.merge("ann", ground.number);
        // The plan is on offer still, and gets a pull request that goes where plans go.
        let branch = "chiffon/plan/journal";
        ground.bed.wait_until("another one is open", || ground.forge.open_of(branch).is_some());
        let number = ground.forge.open_of(branch).unwrap();
        assert_eq!((ground.forge.shown(number).base.as_str(), ground.runs()), ("main", 0));
        ground.forge.merge("ann", number);
        ground.up.wait_for("journal: succeeded");
        assert_eq!(ground.bed.status("journal")["run"]["approval"]["pull"], number);
        ground.ends();
    }
}

#[test]
fn s1_a_head_that_was_pushed_over_is_no_plan_of_ours() {
    let mut ground = Ground::new(Dialect::Gitea);
    ground.meanwhile(|forge, _, number| {
        let main = forge.tip("main").unwrap();
        let moved = std::process::Command::new("git")
            .args(["update-ref", "refs/heads/chiffon/plan/journal", &main])
            .current_dir(forge.bare())
            .status();
        assert!(moved.unwrap().success());
        forge.commit("chiffon/plan/journal", "anything", "else\n");
        forge.merge("ann", number);
    });
    ground.bed.git(&["pull", "--quiet", "--rebase"]);
    ground.bed.push_request("gazette", "Deploy the gazette");
    ground.up.wait_for("gazette: proposed");
    let status = ground.bed.status("journal");
    assert_eq!((ground.runs(), &status["run"]), (0, &serde_json::Value::Null), "{status}");
    assert!(status["notes"].to_string().contains("the plan was removed from its branch"), "{status}");
    let merge = ground.forge.shown(ground.number).merge.unwrap();
    ground.bed.wait_until("the merge commit says it", || ground.forge.status(&merge, "chiffon/apply") == "failure");
    // A new plan gets a pull request of its own.
    ground.bed.chiffon(&["plan", "journal", "--again"]).ends(0);
    ground.bed.wait_until("another one is open", || ground.forge.open_of("chiffon/plan/journal").is_some());
    let number = ground.forge.open_of("chiffon/plan/journal").unwrap();
    ground.forge.merge("ann", number);
    ground.up.wait_for("journal: succeeded");
    assert_eq!(ground.runs(), 1);
    ground.ends();
}

#[test]
fn a_closed_plan_stays_closed_when_its_pull_request_is_opened_again_and_merged() {
    let mut ground = Ground::new(Dialect::GitHub);
    ground.change(|pull| pull.fate = Fate::Closed);
    ground.up.wait_for("journal: rejected");
    ground.meanwhile(|forge, _, number| {
        // Whoever opens one again whose branch is gone brings that back.
        let head = forge.state().pull(number).unwrap().head_commit.clone();
        let back = std::process::Command::new("git")
            .args(["update-ref", "refs/heads/chiffon/plan/journal", &head])
            .current_dir(forge.bare())
            .status();
        assert!(back.unwrap().success());
        forge.state().pull(number).unwrap().fate = Fate::Open;
        forge.merge("ann", number);
    });
    ground.up.wait_for("journal: refused: its offer was closed before it was merged");
    assert_eq!(ground.runs(), 0);
    ground.ends();
}

#[test]
fn a_merge_that_crosses_a_change_of_the_request_runs_nothing_and_a_new_plan_is_offered() {
    let mut ground = Ground::new(Dialect::Gitea);
    ground.meanwhile(|forge, bed, number| {
        bed.push_request("journal", "Deploy the journal and the gazette");
        forge.merge("ann", number);
    });
    ground.up.wait_for("journal: proposed");
    assert_eq!(ground.runs(), 0);
    let second = "chiffon/plan/journal";
    ground.bed.wait_until("the new plan has a pull request", || ground.forge.open_of(second).is_some());
    let number = ground.forge.open_of(second).unwrap();
    assert_ne!(number, ground.number);
    ground.forge.merge("ann", number);
    ground.up.wait_for("journal: succeeded");
    assert_eq!(ground.runs(), 1);
    ground.ends();
}

#[test]
fn a_plan_that_ran_does_not_run_again_when_its_merge_is_reverted_and_made_again() {
    let mut ground = Ground::new(Dialect::Gitea);
    ground.forge.merge("ann", ground.number);
    assert!(ground.forge.state().merge("ann", ground.number, None, |_| false).is_err(), "a forge merges once");
    ground.up.wait_for("journal: succeeded");
    let bed = &ground.bed;
    bed.git(&["pull", "--quiet", "--rebase"]);
    bed.git(&["revert", "--no-edit", "-m", "1", "HEAD"]);
    bed.git(&["push", "--quiet", "origin", "HEAD:main"]);
    bed.git(&["revert", "--no-edit", "HEAD"]);
    bed.git(&["push", "--quiet", "origin", "HEAD:main"]);
    bed.push_request("gazette", "Deploy the gazette");
    ground.up.wait_for("gazette: proposed");
    assert_eq!(ground.runs(), 1, "{}", ground.bed.status("journal"));
    assert_eq!(ground.bed.state("journal"), "succeeded");
    ground.ends();
}

#[test]
fn a_plan_branch_that_somebody_deleted_is_a_plan_that_somebody_rejected() {
    for dialect in [Dialect::Gitea, Dialect::GitHub] {
        let mut ground = Ground::new(dialect);
        ground.forge.remove_branch("chiffon/plan/journal");
        ground.up.wait_for("journal: rejected");
        assert_eq!(ground.runs(), 0);
        ground.ends();
    }
}

#[test]
fn a_token_that_is_revoked_in_mid_run_is_named_and_what_is_to_be_said_is_said_with_the_next() {
    let mut ground = Ground::new(Dialect::Gitea);
    ground.forge.merge("ann", ground.number);
    ground.up.wait_for("journal: queued");
    let tokens = std::mem::take(&mut ground.forge.state().tokens);
    ground.up.wait_for("journal: succeeded");
    ground.up.wait_for_part("make a new one and put it into `forge.token_file`");
    ground.forge.state().tokens = tokens;
    let merge = ground.forge.shown(ground.number).merge.unwrap();
    ground.bed.wait_until("it is said after all", || ground.forge.status(&merge, "chiffon/apply") == "success");
    ground.ends();
}

#[test]
fn a_forge_that_is_away_for_long_costs_nothing_but_time() {
    let mut ground = Ground::new(Dialect::GitHub);
    ground.forge.merge("ann", ground.number);
    ground.up.wait_for("journal: queued");
    ground.forge.state().down = true;
    ground.up.wait_for("journal: succeeded");
    ground.up.wait_for_part("failed to");
    // Asked for while nobody answers, by a person whose git still reaches it.
    ground.bed.git(&["pull", "--quiet", "--rebase"]);
    ground.bed.push_request("gazette", "Deploy the gazette");
    // The next life finds it away as well.
    ground.meanwhile(|_, _, _| {});
    ground.up.wait_for_part("failed to");
    ground.forge.state().down = false;
    ground.up.wait_for("gazette: proposed");
    let merge = ground.forge.shown(ground.number).merge.unwrap();
    ground.bed.wait_until("all of it is said", || {
        ground.forge.status(&merge, "chiffon/apply") == "success"
            && ground.forge.open_of("chiffon/plan/gazette").is_some()
    });
    assert_eq!(ground.runs(), 1);
    ground.ends();
}

#[test]
fn s9_names_with_markup_mentions_and_closing_words_have_no_effect_on_the_forge() {
    let forge = TestForge::start(Dialect::GitHub);
    let token = forge.account("chiffon-bot", Role::Write);
    forge.account("ann", Role::Write);
    let bed = Bed::new();
    let name = "Deploy the tribune <img src=x> @everyone Closes #1";
    bed.infra.write(
        "playbooks/tribune-deployment.yml",
        &format!("- name: '{name}'\n  hosts: alpha\n  gather_facts: false\n  tasks:\n    - name: '{name}'\n      ansible.builtin.debug: {{msg: x}}\n"),
    );
    bed.infra.commit("a name that is none");
    bed.live_on(&forge, &token);
    let mut up = bed.up();
    bed.push_request("tribune", "Deploy the tribune");
    up.wait_for("tribune: proposed");
    bed.wait_until("its pull request is open", || forge.open_of("chiffon/plan/tribune").is_some());
    let number = forge.open_of("chiffon/plan/tribune").unwrap();
    forge.merge("ann", number);
    up.wait_for("tribune: succeeded");
    bed.wait_until("it is said", || !forge.shown(number).comments.is_empty());
    let shown = forge.shown(number);
    let commits = std::process::Command::new("git")
        .args(["log", "--format=%B", "main"])
        .current_dir(forge.bare())
        .output()
        .unwrap();
    let commits = String::from_utf8(commits.stdout).unwrap();
    let bodies = shown.comments.iter().map(|(_, body)| body).chain([&shown.body]);
    for text in bodies.clone() {
        assert!(!text.contains("<img"), "{text}");
    }
    // Titles and commits are plain text, in which these have an effect all the same.
    for text in bodies.chain([&shown.title, &commits]) {
        for mark in ["@everyone", "Closes #1"] {
            assert!(!text.contains(mark), "{mark} in {text}");
        }
    }
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}
