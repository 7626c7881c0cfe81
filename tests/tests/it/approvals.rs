//! What approves a plan and what does not: one suite over every place where a requests repository may live. What a person
//! does looks different in each; what comes of it is the same.

use chiffon_tests::forge::{Dialect, Host, RealGitea, Role, TestForge};
use chiffon_tests::{Background, Bed, Merge};

/// Where the requests repository lives.
struct Place {
    bed: Bed,
    up: Option<Background>,
    /// None of a plain repository.
    forge: Option<Box<dyn Host>>,
}

impl Place {
    fn plain() -> Self {
        let bed = Bed::new();
        let up = Some(bed.up());
        Self { bed, up, forge: None }
    }

    fn on(forge: impl Host + 'static) -> Self {
        let bed = Bed::new();
        let token = forge.account("chiffon-bot", Role::Write);
        forge.account("ann", Role::Write);
        bed.live_on(&forge, &token);
        let up = Some(bed.up());
        Self { bed, up, forge: Some(Box::new(forge)) }
    }

    /// Has it plan a request, and waits until a person can see the plan.
    fn offered(&mut self, name: &str, text: &str) {
        self.bed.push_request(name, text);
        // Its hook may be gone.
        self.bed.wake();
        self.comes_to(name, "proposed");
        self.seen(name);
    }

    fn seen(&self, name: &str) {
        let branch = format!("chiffon/plan/{name}");
        match &self.forge {
            None => self.bed.wait_until("its branch is there", || self.tip(&branch).is_some()),
            Some(forge) => self.bed.wait_until("its pull request is open", || forge.open_of(&branch).is_some()),
        }
    }

    fn tip(&self, branch: &str) -> Option<String> {
        let listed = self.bed.git(&["ls-remote", "origin", &format!("refs/heads/{branch}")]);
        listed.split_whitespace().next().map(str::to_owned)
    }

    fn comes_to(&mut self, name: &str, state: &str) {
        self.up.as_mut().unwrap().wait_for(&format!("{name}: {state}"));
    }

    /// A person approves: merges the branch, or the pull request.
    fn merge(&self, name: &str) {
        match &self.forge {
            None => self.bed.approve(name, Merge::Commit),
            Some(forge) => forge.merge("ann", forge.open_of(&format!("chiffon/plan/{name}")).unwrap()),
        }
        self.bed.git(&["pull", "--quiet", "--rebase", "origin", "main"]);
    }

    /// The open pull request of a request's plan, on a forge.
    fn number(&self, name: &str) -> Option<u64> {
        self.forge.as_ref()?.open_of(&format!("chiffon/plan/{name}"))
    }

    /// A person rejects: deletes the branch, or closes the pull request.
    fn reject(&self, name: &str) {
        let branch = format!("chiffon/plan/{name}");
        match &self.forge {
            None => drop(self.bed.git(&["push", "--quiet", "origin", &format!(":refs/heads/{branch}")])),
            Some(forge) => forge.close("ann", forge.open_of(&branch).unwrap()),
        }
    }

    /// A person changes the plan on its branch.
    fn edit(&self, name: &str, from: &str, to: &str) {
        let (branch, path) = (format!("chiffon/plan/{name}"), format!("plans/{name}.yaml"));
        self.bed.git(&["fetch", "--quiet", "origin", &branch]);
        self.bed.git(&["checkout", "--quiet", "-B", "edit", "FETCH_HEAD"]);
        let plan = self.bed.read(&path);
        assert!(plan.contains(from), "{plan}");
        self.bed.write(&path, &plan.replace(from, to));
        self.bed.git(&["commit", "--quiet", "--all", "--message", "otherwise"]);
        self.bed.git(&["push", "--quiet", "origin", &format!("HEAD:{branch}")]);
        self.bed.git(&["checkout", "--quiet", "main"]);
    }

    /// Takes away the hooks of a plain repository, which say no before anything is to be judged; forges have none of ours.
    fn without_hooks(&self) {
        if self.forge.is_none() && self.bed.requests().join("hooks").is_dir() {
            self.bed.remove_hooks();
        }
    }

    /// Somebody pushes to `main` past every hook and every pull request.
    fn push_past(&self, message: &str) {
        self.without_hooks();
        self.bed.push(message);
        self.bed.wake();
    }

    fn stop(&mut self) {
        let up = self.up.take().unwrap();
        up.signal("TERM");
        assert_eq!(up.end(), 0);
    }

    fn start(&mut self) {
        self.up = Some(self.bed.up());
    }

    fn lines(&self, file: &str) -> usize {
        self.bed.infra.lines(file).len()
    }
}

macro_rules! over_each {
    ($($case:ident),+ $(,)?) => {
        over_each!(@ plain, Some(Place::plain()), $($case),+);
        over_each!(@ gitea, Some(Place::on(TestForge::start(Dialect::Gitea))), $($case),+);
        over_each!(@ github, Some(Place::on(TestForge::start(Dialect::GitHub))), $($case),+);
        over_each!(@ a_real_gitea, RealGitea::start().map(Place::on), $($case),+);
    };
    (@ $module:ident, $place:expr, $($case:ident),+) => {
        mod $module {
            use super::*;

            $(#[test]
            fn $case() {
                if let Some(mut place) = $place {
                    super::$case(&mut place);
                    place.stop();
                }
            })+
        }
    };
}

over_each!(
    s2_a_merge_runs_its_plan_once_and_the_same_bytes_never_again,
    s2_what_is_rejected_runs_nothing_also_when_it_reaches_main,
    s2_what_was_never_offered_runs_nothing,
    s1_an_edit_on_the_plan_branch_is_offered_and_runs_as_edited,
    s1_what_was_edited_and_merged_unseen_runs_nothing_and_is_offered_anew,
    a_request_that_changes_is_planned_anew_and_only_that_runs,
);

fn s2_a_merge_runs_its_plan_once_and_the_same_bytes_never_again(place: &mut Place) {
    place.offered("journal", "Deploy the journal");
    place.merge("journal");
    place.comes_to("journal", "succeeded");
    let plan = place.bed.read("plans/journal.yaml");
    place.bed.git(&["rm", "--quiet", "plans/journal.yaml"]);
    place.push_past("taken back");
    place.bed.write("plans/journal.yaml", &plan);
    place.push_past("and put there again");
    // What comes after it is done, so that it was seen.
    place.offered("gazette", "Deploy the gazette");
    place.merge("gazette");
    place.comes_to("gazette", "succeeded");
    assert_eq!((place.lines("journal"), place.lines("gazette")), (1, 1));
}

fn s2_what_is_rejected_runs_nothing_also_when_it_reaches_main(place: &mut Place) {
    place.offered("journal", "Deploy the journal");
    let branch = "chiffon/plan/journal";
    place.bed.git(&["fetch", "--quiet", "origin", branch]);
    let plan = place.bed.git(&["show", "FETCH_HEAD:plans/journal.yaml"]);
    place.reject("journal");
    place.comes_to("journal", "rejected");
    place.bed.wait_until("its branch is gone", || place.tip(branch).is_none());
    place.bed.write("plans/journal.yaml", &format!("{plan}\n"));
    place.push_past("all the same");
    place.comes_to("journal", "refused");
    assert_eq!(place.lines("journal"), 0);
}

fn s2_what_was_never_offered_runs_nothing(place: &mut Place) {
    place.offered("journal", "Deploy the journal");
    place.bed.git(&["fetch", "--quiet", "origin", "chiffon/plan/journal"]);
    let plan = place.bed.git(&["show", "FETCH_HEAD:plans/journal.yaml"]);
    place.reject("journal");
    place.comes_to("journal", "rejected");
    place.bed.write("plans/journal.yaml", &format!("{}\n", plan.replace("timeout_secs: 900", "timeout_secs: 60")));
    place.push_past("of my own");
    place.comes_to("journal", "refused");
    assert!(place.bed.status("journal")["reason"].as_str().unwrap().contains("never offered"));
    assert_eq!(place.lines("journal"), 0);
}

fn s1_an_edit_on_the_plan_branch_is_offered_and_runs_as_edited(place: &mut Place) {
    place.offered("journal", "Deploy the journal");
    place.edit("journal", "timeout_secs: 900", "timeout_secs: 61");
    place.bed.wait_until("it is offered", || place.bed.status("journal")["plan"]["revision"] == 2);
    let shown = || place.bed.chiffon(&["plan", "journal"]).ends(0).out.contains("edited by a person");
    place.bed.wait_until("it is shown", shown);
    place.bed.wait_until("where it is merged as well", || match &place.forge {
        None => place.bed.status("journal")["plan"]["shown"] == true,
        Some(forge) => {
            let number = forge.open_of("chiffon/plan/journal").unwrap();
            forge.shown(number).body.contains("edited by a person")
        }
    });
    place.merge("journal");
    place.comes_to("journal", "succeeded");
    assert!(place.bed.read("plans/journal.yaml").contains("timeout_secs: 61"));
    assert_eq!(place.lines("journal"), 1);
}

fn s1_what_was_edited_and_merged_unseen_runs_nothing_and_is_offered_anew(place: &mut Place) {
    place.offered("journal", "Deploy the journal");
    place.stop();
    place.without_hooks();
    place.edit("journal", "timeout_secs: 900", "timeout_secs: 62");
    place.merge("journal");
    place.start();
    // Where the branch is seen before `main` is, the edit is offered first, and closed by what was merged.
    place.bed.wait_until("it is refused", || place.bed.count("plan-refused") == 1);
    place.bed.wait_until("it is offered anew", || {
        let status = place.bed.status("journal");
        status["state"] == "proposed" && status["plan"]["revision"].as_u64() >= Some(2)
    });
    assert_eq!(place.lines("journal"), 0);
}

fn a_request_that_changes_is_planned_anew_and_only_that_runs(place: &mut Place) {
    place.offered("journal", "Deploy the journal");
    let number = place.number("journal");
    place.bed.git(&["pull", "--quiet", "--rebase", "origin", "main"]);
    place.bed.push_request("journal", "Deploy the gazette");
    place.bed.wait_until("it is planned anew", || {
        let plan = &place.bed.status("journal")["plan"];
        plan["revision"] == 2 && plan["shown"] == true
    });
    if let (Some(forge), Some(number)) = (&place.forge, number) {
        let shown = || forge.shown(number).body.contains("gazette-deployment.yml");
        place.bed.wait_until("its pull request says so", shown);
        assert_eq!(place.number("journal"), Some(number), "it is the same one");
        assert_eq!(forge.pulls(), 1);
    }
    place.merge("journal");
    place.comes_to("journal", "succeeded");
    assert_eq!((place.lines("journal"), place.lines("gazette")), (0, 1));
}
