//! What happens to the model from outside: people, the infra repository, the agent, time.

use chiffon_core::facts::{OfferState, Pause, PlanBranch, RequestFile, Run};
use chiffon_core::retry_refused;
use chiffon_schemas::{AttemptState, BootId, Host, Mode, Name, Oid, Outcome, RunState, Verdict};

use crate::model::{Did, Model, Planner, Shape};

/// The words that events are written with in scenario files.
pub const EVENTS: &[&str] = &[
    "push",
    "edit",
    "delete",
    "push-invalid",
    "move",
    "merge",
    "merge-edited",
    "merge-foreign",
    "merge-closed",
    "merge-used",
    "revert",
    "delete-branch",
    "edit-branch",
    "edit-branch-badly",
    "edit-branch-denied",
    "empty-branch",
    "infra-moves",
    "infra-touches",
    "infra-away",
    "infra-back",
    "days",
    "secs",
    "pause",
    "resume",
    "cancel",
    "retry",
    "replan",
    "reject",
    "planner-asks",
    "planner-finds-nothing",
    "planner-plans",
    "claim",
    "start",
    "end-ok",
    "end-failed",
    "end-cancelled",
    "heartbeat",
    "agent-silent",
    "deaf",
    "agent-restarts",
    "agent-returns",
    "resolve-failed",
    "resolve-succeeded",
    "resolve-retry",
    "unlock",
    "decline",
    "spare-starts",
    "agent-gone",
    "plans-shared",
    "plans-apart",
    "plans-queued",
    "asks-for-checks",
    "asks-for-more",
    "exempts-checks",
    "exempts-nothing",
];

impl Model {
    /// Lets one event happen; false where it makes no sense now, and so is as if it never came.
    pub fn happen(&mut self, event: &str, name: &Name, number: i64) -> bool {
        if !self.facts.contains_key(name) && event.starts_with("push") {
            self.facts.insert(name.clone(), crate::facts::request(name.as_str()));
            self.request(name).file = RequestFile::Absent;
        }
        match event {
            "infra-moves" => self.infra_moves(true),
            "infra-touches" => self.infra_moves(false),
            "infra-away" => self.world.infra = None,
            "infra-back" => self.world.infra = Some(Oid::parse(format!("f{:039x}", self.infra)).unwrap()),
            "days" => self.later(number * 86_400),
            "secs" => self.world.now = self.world.now.plus_secs(number),
            "planner-asks" => self.planner = Planner::Asks,
            "planner-finds-nothing" => self.planner = Planner::FindsNothing,
            "planner-plans" => self.planner = Planner::Plans,
            "heartbeat" => self.heartbeat(),
            "agent-silent" => self.world.now = self.world.now.plus_secs(91),
            "deaf" => {
                self.world.now = self.world.now.plus_secs(number);
                self.world.listening_since = self.world.now;
            }
            "agent-restarts" => {
                self.agent_starts();
            }
            "agent-gone" => {
                self.gone.insert(crate::plans::name("local"));
            }
            "spare-starts" => {
                self.starts(crate::plans::name("spare"));
            }
            "plans-shared" => self.shape = Shape::Shared,
            "plans-apart" => self.shape = Shape::Apart,
            "plans-queued" => self.shape = Shape::Queued,
            "asks-for-checks" => self.mode = Mode::Check,
            "asks-for-more" => self.mode = Mode::Apply,
            "exempts-checks" => self.world.policy.exempt_check_runs = true,
            "exempts-nothing" => self.world.policy.exempt_check_runs = false,
            _ if !self.facts.contains_key(name) => return false,
            "push" | "edit" | "delete" | "push-invalid" | "move" => self.request_file(event, name),
            "merge" | "merge-edited" | "merge-foreign" | "merge-closed" | "merge-used" | "revert" => {
                return self.main_moves(event, name);
            }
            "delete-branch" | "edit-branch" | "edit-branch-badly" | "edit-branch-denied" | "empty-branch" => {
                return self.branch_moves(event, name);
            }
            "pause" | "resume" | "cancel" | "retry" | "replan" | "reject" => return self.command(event, name, number),
            "claim" | "start" | "end-ok" | "end-failed" | "end-cancelled" | "decline" => {
                return self.agent(event, name);
            }
            "agent-returns" => return self.agent_returns(name),
            "resolve-failed" | "resolve-succeeded" | "resolve-retry" => return self.resolve(event, name),
            "unlock" => return self.unlock(name),
            other => panic!("no such event: {other}"),
        }
        true
    }

    /// Time passes with the agent alive.
    fn later(&mut self, secs: i64) {
        self.world.now = self.world.now.plus_secs(secs);
        self.heartbeat();
    }

    fn request_file(&mut self, event: &str, name: &Name) {
        let content = self.new_oid();
        let facts = self.request(name);
        match event {
            "delete" => facts.file = RequestFile::Absent,
            "push-invalid" => facts.file = RequestFile::Invalid { oid: content, findings: "spec.txt".to_owned() },
            "move" => {
                // The plan of a request lies beside it: what is on main at the old place counts no more, except of a run
                // that goes on.
                facts.path = crate::plans::path(&format!("requests/moved/{name}.yaml"));
                if facts.run.as_ref().is_none_or(|run| run.state.is_some()) {
                    facts.plan_on_main = None;
                }
            }
            _ => facts.file = RequestFile::Valid { oid: content, priority: 3 },
        }
    }

    fn main_moves(&mut self, event: &str, name: &Name) -> bool {
        let stranger = self.new_oid();
        let facts = self.request(name);
        let of = |state: OfferState| facts.offers.iter().rev().find(|offer| offer.state == state);
        let closed = facts.offers.iter().rev().find(|offer| !offer.is_open() && offer.state != OfferState::Approved);
        let blob = match event {
            "merge" => of(OfferState::Open).map(|offer| offer.plan_oid.clone()),
            "merge-edited" => of(OfferState::Open).map(|_| stranger),
            "merge-foreign" => Some(stranger),
            "merge-closed" => closed.map(|offer| offer.plan_oid.clone()),
            "merge-used" => facts
                .offers
                .iter()
                .find(|offer| offer.state == OfferState::Approved)
                .map(|offer| offer.plan_oid.clone()),
            _ => None,
        };
        if event != "revert" && blob.is_none() {
            return false;
        }
        facts.plan_on_main = blob;
        true
    }

    fn branch_moves(&mut self, event: &str, name: &Name) -> bool {
        let (tip, edit) = (self.new_oid(), self.new_oid());
        let facts = self.request(name);
        if facts.plan_branch.is_none() {
            return false;
        }
        let marked = |mark: &str| Oid::parse(format!("{mark}{}", &edit.as_str()[mark.len()..])).unwrap();
        let (bad, denied) = (marked("bad"), marked("dead"));
        facts.plan_branch = match event {
            "delete-branch" => None,
            "edit-branch" => Some(PlanBranch { tip, plan: Some(edit) }),
            "edit-branch-badly" => Some(PlanBranch { tip, plan: Some(bad) }),
            "edit-branch-denied" => Some(PlanBranch { tip, plan: Some(denied) }),
            _ => Some(PlanBranch { tip, plan: None }),
        };
        true
    }

    /// What the driver does with a command that a person typed.
    fn command(&mut self, event: &str, name: &Name, number: i64) -> bool {
        let now = self.world.now;
        match event {
            "pause" => {
                let until = now.plus_secs(number * 3_600);
                self.request(name).pause = Some(Pause { reason: "not now".to_owned(), until });
            }
            "resume" => self.request(name).pause = None,
            "reject" => {
                let Some(open) = chiffon_core::open_offer(&self.facts[name]).map(|open| open.plan_oid.clone()) else {
                    return false;
                };
                let reject = chiffon_core::Action::Close { plan: open, state: OfferState::Rejected };
                return self.carry_out(name, &reject) == Did::Done;
            }
            "replan" => {
                let facts = self.request(name);
                let in_its_way = [None, Some(RunState::Lost)];
                if facts.run.as_ref().is_some_and(|run| in_its_way.contains(&run.state)) {
                    return false;
                }
                facts.replan_after = Some(facts.offers.last().map_or(0, |offer| offer.revision()));
            }
            "cancel" => match self.request(name).run.as_mut().filter(|run| run.state.is_none()) {
                Some(run) => run.cancel = true,
                None => return false,
            },
            _ => return self.retry(name),
        }
        true
    }

    fn retry(&mut self, name: &Name) -> bool {
        let Some(run) = self.facts[name].run.as_ref().filter(|run| !run.voided) else { return false };
        let freshness =
            if self.world.infra.is_none() { chiffon_core::Freshness::Unknown } else { self.run_freshness(run) };
        if retry_refused(&self.facts[name], run, &self.world, freshness).is_some() {
            return false;
        }
        self.reopen(name);
        true
    }

    fn reopen(&mut self, name: &Name) {
        let run = self.request(name).run.as_mut().unwrap();
        (run.state, run.finished_at, run.cancel) = (None, None, false);
        run.round += 1;
    }

    /// The first attempt in one of these states: step, number, state.
    fn first(&self, name: &Name, states: &[AttemptState]) -> Option<(Name, u32, AttemptState)> {
        let run = self.facts[name].run.as_ref()?;
        let attempt = run.attempts.iter().find(|attempt| states.contains(&attempt.state))?;
        Some((attempt.step.clone(), attempt.number, attempt.state))
    }

    /// The life of the agent that an attempt was ordered from; nothing comes of one that is gone.
    fn boot(&self, name: &Name, step: &Name, number: u32) -> Option<BootId> {
        let run = self.facts[name].run.as_ref()?;
        let attempt = run.attempts_of(step).find(|attempt| attempt.number == number)?;
        (!self.gone.contains(&attempt.agent)).then(|| self.world.agents[&attempt.agent].boot.clone())
    }

    /// The agent takes the next step with the attempt that comes first.
    fn agent(&mut self, event: &str, name: &Name) -> bool {
        use AttemptState::{Cancelled, Claimed, Failed, Granted, Lost, Ordered, Started, Succeeded};
        self.heartbeat();
        let takes: &[AttemptState] = match event {
            "claim" => &[Ordered],
            "start" => &[Granted],
            "decline" => &[Ordered, Claimed, Granted],
            _ => &[Started, Granted, Lost],
        };
        let Some((step, number, from)) = self.first(name, takes) else { return false };
        let Some(boot) = self.boot(name, &step, number) else { return false };
        match event {
            "claim" => {
                self.moves(name, &step, number, Ordered, Claimed);
                self.attempt(name, &step, number).boot = Some(boot);
                return true;
            }
            "start" => {
                return self.attempt(name, &step, number).boot == Some(boot)
                    && self.moves(name, &step, number, Granted, Started) == Did::Done;
            }
            "decline" => return self.moves(name, &step, number, from, Failed) == Did::Done,
            _ => {}
        }
        if from == Granted {
            self.moves(name, &step, number, Granted, Started);
        }
        let from = if from == Granted { Started } else { from };
        let (to, verdict) = match event {
            "end-ok" => (Succeeded, Verdict::Succeeded),
            "end-failed" => (Failed, Verdict::Failed),
            _ => (Cancelled, Verdict::Cancelled),
        };
        if self.moves(name, &step, number, from, to) == Did::Nothing {
            return false;
        }
        let attempt = self.attempt(name, &step, number);
        attempt.outcome = Some(outcome(verdict, &attempt.hosts));
        self.resettle(name);
        true
    }

    pub fn attempt(&mut self, name: &Name, step: &Name, number: u32) -> &mut chiffon_core::facts::Attempt {
        let attempts = &mut self.request(name).run.as_mut().unwrap().attempts;
        attempts.iter_mut().find(|attempt| &attempt.step == step && attempt.number == number).unwrap()
    }

    /// A late result tells how a lost run ended.
    pub fn resettle(&mut self, name: &Name) {
        let run = self.request(name).run.as_mut().unwrap();
        let lost = run.attempts.iter().any(|attempt| attempt.state == AttemptState::Lost);
        if run.state == Some(RunState::Lost) && !lost {
            run.state = Some(final_state(run));
            self.free_locks(name);
        }
    }

    /// The agent comes back with a journal that shows that nothing of its grants ever started.
    fn agent_returns(&mut self, name: &Name) -> bool {
        use AttemptState::{Failed, Granted, Lost, Ordered, Started};
        self.agent_starts();
        let Some((step, number, from)) = self.first(name, &[Granted, Started, Lost]) else { return false };
        if from != Lost {
            self.moves(name, &step, number, from, Lost);
        }
        let goes_on = self.facts[name].run.as_ref().unwrap().state.is_none();
        let moved = self.moves(name, &step, number, Lost, if goes_on { Ordered } else { Failed }) == Did::Done;
        self.resettle(name);
        moved
    }

    /// A person frees what a run that is over still holds.
    fn unlock(&mut self, name: &Name) -> bool {
        let Some(run) = self.facts[name].run.as_ref().filter(|run| run.state.is_some()) else { return false };
        let (id, before) = (run.id.clone(), self.world.locks.len());
        self.world.locks.retain(|_, held| held.run != id);
        self.unlocked.insert(id);
        self.world.locks.len() < before
    }

    fn resolve(&mut self, event: &str, name: &Name) -> bool {
        let Some(run) = self.facts[name].run.as_ref().filter(|run| run.state == Some(RunState::Lost)) else {
            return false;
        };
        let freshness = self.run_freshness(run);
        let refused = chiffon_core::not_as_planned(&self.facts[name], run, &self.world, freshness);
        if event == "resolve-retry" && refused.is_some() {
            return false;
        }
        let lost: Vec<(Name, u32)> = run
            .attempts
            .iter()
            .filter(|attempt| attempt.state == AttemptState::Lost)
            .map(|attempt| (attempt.step.clone(), attempt.number))
            .collect();
        let to = if event == "resolve-succeeded" { AttemptState::Succeeded } else { AttemptState::Failed };
        for (step, number) in lost {
            self.moves(name, &step, number, AttemptState::Lost, to);
        }
        if event == "resolve-retry" {
            self.reopen(name);
            return true;
        }
        let run = self.request(name).run.as_mut().unwrap();
        match chiffon_core::after_resolving(run) {
            None => self.reopen(name),
            Some(state) => {
                run.state = Some(state);
                self.free_locks(name);
            }
        }
        true
    }
}

fn final_state(run: &Run) -> RunState {
    let done = run.plan.spec.steps.iter().all(|step| chiffon_core::step_succeeded(run, &step.id));
    if done { RunState::Succeeded } else { RunState::Failed }
}

/// How an attempt ended: where it failed, its last host did, and the others came to their end.
pub fn outcome(verdict: Verdict, hosts: &[Host]) -> Outcome {
    let failed = hosts.last().filter(|_| verdict == Verdict::Failed);
    let recap = hosts.iter().map(|host| {
        let recap = chiffon_schemas::Recap { ok: 1, failed: u32::from(Some(host) == failed), ..Default::default() };
        (host.clone(), recap)
    });
    Outcome {
        verdict,
        failure: None,
        reason: None,
        exit_code: None,
        recap: if verdict == Verdict::Cancelled { Default::default() } else { recap.collect() },
        changed: Vec::new(),
        finished: hosts.iter().filter(|host| verdict == Verdict::Failed && Some(*host) != failed).cloned().collect(),
        interrupted: if verdict == Verdict::Cancelled { hosts.to_vec() } else { Vec::new() },
        duration_ms: 1,
        usage: None,
        log: Default::default(),
        ansible_core: None,
        suggestions: Vec::new(),
    }
}
