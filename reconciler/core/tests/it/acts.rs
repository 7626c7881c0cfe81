//! Carries actions out on the model: each as driver and store do it, and as harmless when it is repeated.

use chiffon_core::facts::{
    Attempt, Blocked, LockHolder, Offer, OfferState, PlanBranch, Question, Refusal, RefusalReason, Run, Unplanned,
};
use chiffon_core::last_was_edited_by_person;
use chiffon_schemas::{
    ApprovalRecord, AttemptState, Established, Fence, Host, Name, Oid, PlannerKind, RunId, RunState, blob_oid,
    plan_bytes,
};

use crate::model::{Did, Model, Planner};
use crate::plans::{catalogue, oid, plan_of};

impl Model {
    fn unplanned(&mut self, name: &Name, reason: Blocked) -> Did {
        let (infra, at) = (self.world.infra.clone(), self.world.now);
        let facts = self.request(name);
        let request = facts.file.oid().unwrap().clone();
        // The same answer to the same question is no news.
        let same = facts
            .unplanned
            .as_ref()
            .is_some_and(|before| before.reason == reason && before.request == request && before.infra == infra);
        if same && facts.replan_after.is_none() {
            return Did::Nothing;
        }
        facts.unplanned = Some(Unplanned { request, infra, reason, at });
        facts.replan_after = None;
        Did::Done
    }

    pub fn plan(&mut self, name: &Name) -> Did {
        if last_was_edited_by_person(&self.facts[name]) {
            return self.unplanned(name, Blocked::EditedPlanStale);
        }
        if self.world.infra.is_none() {
            return self.unplanned(name, Blocked::Infra { reason: "it is away".to_owned() });
        }
        match self.planner {
            Planner::Plans => self.offer(name, PlannerKind::Catalogue),
            Planner::Asks => {
                let question = Question { id: "host".to_owned(), text: "Which?".to_owned(), choices: Vec::new() };
                self.unplanned(name, Blocked::Questions { questions: vec![question] })
            }
            Planner::FindsNothing => {
                self.unplanned(name, Blocked::NothingFits { reason: "no".to_owned(), nearest: Vec::new() })
            }
        }
    }

    pub fn take_edit(&mut self, name: &Name, blob: Option<Oid>) -> Did {
        // An edit that can't be read, as the events below mark it.
        let bad = blob.as_ref().is_none_or(|blob| blob.as_str().starts_with("bad"));
        if bad {
            return self.unplanned(name, Blocked::Edit { reason: "it is no plan".to_owned(), blob });
        }
        // The offer beneath it stays open; the edit is looked at again once infra is back.
        if self.world.infra.is_none() {
            return Did::Nothing;
        }
        if blob.as_ref().is_some_and(|blob| blob.as_str().starts_with("dead")) {
            return self.unplanned(name, Blocked::Edit { reason: "denied: no".to_owned(), blob });
        }
        self.offer(name, PlannerKind::Person)
    }

    fn offer(&mut self, name: &Name, by: PlannerKind) -> Did {
        let (now, infra, steps, mode) = (self.world.now, self.infra, self.shape.steps(), self.mode);
        let facts = self.request(name);
        let open = facts.offers.iter_mut().find(|offer| offer.is_open());
        match (open, by) {
            (Some(open), PlannerKind::Person) => open.state = OfferState::Replaced,
            (Some(_), PlannerKind::Catalogue | PlannerKind::Undo) => panic!("{name}: two offers would be open"),
            (None, _) => {}
        }
        let mut plan = plan_of(steps, &catalogue());
        plan.metadata.name = name.clone();
        plan.metadata.revision = facts.offers.last().map_or(0, Offer::revision) + 1;
        plan.metadata.request.oid = facts.file.oid().unwrap().clone();
        plan.metadata.request.path = facts.path.clone();
        plan.metadata.expires = now.plus_secs(14 * 86_400);
        (plan.spec.planner.kind, plan.spec.mode) = (by, mode);
        plan.spec.assumptions = vec![infra.to_string()];
        facts.offers.push(Offer {
            plan_oid: blob_oid(&plan_bytes(&plan)),
            path: crate::plans::path(&format!("plans/{name}.yaml")),
            plan,
            main: None,
            branch_commit: None,
            at: now,
            state: OfferState::Open,
        });
        facts.unplanned = None;
        facts.replan_after = None;
        Did::Done
    }

    pub fn show(&mut self, name: &Name, plan: &Oid) -> Did {
        let tip = self.new_oid();
        let facts = self.request(name);
        facts.plan_branch = Some(PlanBranch { tip: tip.clone(), plan: Some(plan.clone()) });
        let offer = facts.offers.iter_mut().find(|offer| &offer.plan_oid == plan).unwrap();
        offer.branch_commit = Some(tip);
        Did::Done
    }

    pub fn close(&mut self, name: &Name, plan: &Oid, state: OfferState) -> Did {
        let offers = &mut self.request(name).offers;
        match offers.iter_mut().find(|offer| &offer.plan_oid == plan && offer.is_open()) {
            Some(offer) => {
                offer.state = state;
                Did::Done
            }
            None => Did::Nothing,
        }
    }

    pub fn refuse(&mut self, name: &Name, blob: &Oid, reason: RefusalReason) -> Did {
        let at = self.world.now;
        self.request(name).refusal = Some(Refusal { blob: blob.clone(), reason, at, why: None });
        Did::Done
    }

    pub fn approve(&mut self, name: &Name, plan: &Oid) -> Did {
        let at = self.world.now;
        self.made += 1;
        let id = RunId::parse(format!("{:026}", self.made)).unwrap();
        let facts = self.request(name);
        let Some(offer) = facts.offers.iter_mut().find(|offer| &offer.plan_oid == plan && offer.is_open()) else {
            return Did::Nothing;
        };
        offer.state = OfferState::Approved;
        let merged = facts.plan_on_main.as_ref() == Some(plan);
        let approval = ApprovalRecord {
            commit: oid('c'),
            by: None,
            approved_by: Vec::new(),
            pull: None,
            established: if merged { Established::Claimed } else { Established::Policy },
            config_digest: String::new(),
        };
        facts.run = Some(Run {
            id,
            plan_oid: offer.plan_oid.clone(),
            plan: offer.plan.clone(),
            plan_path: offer.path.clone(),
            approval,
            approved_at: at,
            round: 1,
            cancel: false,
            state: None,
            finished_at: None,
            voided: false,
            attempts: Vec::new(),
        });
        Did::Done
    }

    pub fn finish(&mut self, name: &Name, state: RunState, voided: bool) -> Did {
        let now = self.world.now;
        let run = self.request(name).run.as_mut().unwrap();
        if run.state.is_some() {
            return Did::Nothing;
        }
        (run.state, run.finished_at, run.voided) = (Some(state), Some(now), voided);
        self.free_locks(name);
        Did::Done
    }

    pub fn order(&mut self, name: &Name, step: &Name, number: u32, hosts: &[Host], agent: &Name) -> Did {
        let since = self.world.now;
        let run = self.request(name).run.as_mut().unwrap();
        assert!(!run.attempts.iter().any(|attempt| &attempt.step == step && attempt.number == number), "ordered twice");
        run.attempts.push(Attempt {
            step: step.clone(),
            number,
            round: run.round,
            hosts: hosts.to_vec(),
            state: AttemptState::Ordered,
            agent: agent.clone(),
            boot: None,
            fence: None,
            since,
            outcome: None,
        });
        let id = run.id.clone();
        self.history.push((id, step.clone(), number, AttemptState::Ordered));
        Did::Done
    }

    /// What was not granted goes to an agent, as if it had never been claimed.
    pub fn reorder(&mut self, name: &Name, step: &Name, number: u32, from: AttemptState, agent: &Name) -> Did {
        let since = self.world.now;
        let run = self.request(name).run.as_mut().unwrap();
        let id = run.id.clone();
        let attempt = run.attempts.iter_mut().find(|attempt| &attempt.step == step && attempt.number == number);
        let Some(attempt) = attempt.filter(|attempt| attempt.state == from) else { return Did::Nothing };
        assert!(matches!(from, AttemptState::Ordered | AttemptState::Claimed), "ordered again after its grant");
        (attempt.state, attempt.since, attempt.boot) = (AttemptState::Ordered, since, None);
        attempt.agent = agent.clone();
        self.history.push((id, step.clone(), number, AttemptState::Ordered));
        Did::Done
    }

    /// Takes the locks of every host of the attempt at once, or none.
    pub fn grant(&mut self, name: &Name, step: &Name, number: u32) -> Did {
        let run = self.facts[name].run.as_ref().unwrap();
        let attempt = run.attempts_of(step).find(|attempt| attempt.number == number).unwrap();
        if attempt.state != AttemptState::Claimed {
            return Did::Nothing;
        }
        let holder = LockHolder { request: name.clone(), run: run.id.clone(), step: step.clone(), attempt: number };
        let hosts = run.plan.spec.touches.hosts.clone();
        if hosts.iter().any(|host| self.world.locks.get(host).is_some_and(|held| held.run != holder.run)) {
            return Did::Nothing;
        }
        for host in hosts {
            self.world.locks.entry(host).or_insert_with(|| holder.clone());
        }
        self.fences += 1;
        let fence = Fence { incarnation: 1, counter: self.fences };
        self.grants.push((holder.run, step.clone(), number, fence));
        self.moves(name, step, number, AttemptState::Claimed, AttemptState::Granted);
        let attempts = &mut self.request(name).run.as_mut().unwrap().attempts;
        attempts.iter_mut().find(|attempt| &attempt.step == step && attempt.number == number).unwrap().fence =
            Some(fence);
        Did::Done
    }

    /// An attempt's move, where it is allowed; frees its locks as the store does.
    pub fn moves(&mut self, name: &Name, step: &Name, number: u32, from: AttemptState, to: AttemptState) -> Did {
        let now = self.world.now;
        let run = self.request(name).run.as_mut().unwrap();
        let id = run.id.clone();
        let attempt = run.attempts.iter_mut().find(|attempt| &attempt.step == step && attempt.number == number);
        let Some(attempt) = attempt.filter(|attempt| attempt.state == from && from.allows(to)) else {
            return Did::Nothing;
        };
        (attempt.state, attempt.since) = (to, now);
        if to == AttemptState::Ordered {
            (attempt.boot, attempt.fence) = (None, None);
        }
        self.free_locks(name);
        self.history.push((id, step.clone(), number, to));
        Did::Done
    }

    /// Frees what the run holds, where it is over and nothing of it may still run somewhere.
    pub fn free_locks(&mut self, name: &Name) {
        let run = self.facts[name].run.as_ref().unwrap();
        let may_run = run.attempts.iter().any(|attempt| attempt.state.holds_locks());
        if run.state.is_some() && !may_run {
            let id = run.id.clone();
            self.world.locks.retain(|_, held| held.run != id);
        }
    }
}
