//! A world in memory that carries actions out as driver, store and agent do, with nothing behind it.

use std::collections::BTreeMap;

use chiffon_core::facts::{
    AgentFacts, Attempt, Blocked, LockHolder, Offer, OfferState, PlanBranch, Question, Refusal, RefusalReason,
    RequestFacts, Run, Unplanned, World,
};
use chiffon_core::{Action, Decision, Freshness, Policy, State, decide, last_was_edited_by_person};
use chiffon_schemas::{
    AgentKind, ApprovalRecord, AttemptState, BootId, Established, Fence, Host, Name, Oid, PlannerKind, RunId, RunState,
    Timestamp, blob_oid, plan_bytes,
};

use crate::plans::{catalogue, name, oid, plan_of, step};

/// When the model's time begins.
pub const START: Timestamp = Timestamp::from_secs(1_790_000_000);

/// More rounds than this would mean that decisions chase each other; the driver's own limit.
pub const MAX_ROUNDS: usize = 32;

/// What the planner will say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planner {
    Plans,
    Asks,
    FindsNothing,
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// It changed something.
    Done,
    /// Nothing could be done now.
    Nothing,
}

pub struct Model {
    pub facts: BTreeMap<Name, RequestFacts>,
    pub world: World,
    pub planner: Planner,
    /// Infra commits so far, and the last one that changed what plans read.
    pub infra: u32,
    reads_changed: u32,
    /// Contents, commits and blobs made up so far.
    made: u32,
    fences: u64,
    boots: u32,
    /// Every grant ever given: attempt and fence.
    pub grants: Vec<(RunId, Name, u32, Fence)>,
    /// Every state that an attempt ever had.
    pub history: Vec<(RunId, Name, u32, AttemptState)>,
}

impl Default for Model {
    fn default() -> Self {
        let mut model = Self {
            facts: BTreeMap::new(),
            world: World {
                now: START,
                infra: None,
                locks: BTreeMap::new(),
                agents: BTreeMap::new(),
                policy: Policy::default(),
            },
            planner: Planner::Plans,
            infra: 0,
            reads_changed: 0,
            made: 0,
            fences: 0,
            boots: 0,
            grants: Vec::new(),
            history: Vec::new(),
        };
        model.infra_moves(true);
        model.agent_starts();
        model
    }
}

impl Model {
    /// An object id that was never there before.
    pub fn new_oid(&mut self) -> Oid {
        self.made += 1;
        Oid::parse(format!("{:040x}", self.made)).unwrap()
    }

    pub fn infra_moves(&mut self, reads_change: bool) {
        self.infra += 1;
        if reads_change {
            self.reads_changed = self.infra;
        }
        self.world.infra = Some(Oid::parse(format!("f{:039x}", self.infra)).unwrap());
    }

    /// A new life of the agent.
    pub fn agent_starts(&mut self) -> BootId {
        self.boots += 1;
        let boot = BootId::parse(format!("{:026}", self.boots)).unwrap();
        let facts =
            AgentFacts { kind: AgentKind::Infra, boot: boot.clone(), heard: self.world.now, ansible_core: None };
        self.world.agents.insert(name("local"), facts);
        boot
    }

    pub fn heartbeat(&mut self) {
        for agent in self.world.agents.values_mut() {
            agent.heard = self.world.now;
        }
    }

    pub fn freshness(&self, facts: &RequestFacts) -> Freshness {
        if self.world.infra.is_none() {
            return Freshness::Unknown;
        }
        match chiffon_core::open_offer(facts) {
            Some(offer) => self.holds(offer),
            None => Freshness::Fresh,
        }
    }

    /// A plan's assumption names the infra commit that it was made at.
    fn holds(&self, offer: &Offer) -> Freshness {
        let at: u32 = offer.plan.spec.assumptions[0].parse().unwrap();
        if at >= self.reads_changed { Freshness::Fresh } else { Freshness::Stale }
    }

    pub fn run_freshness(&self, run: &Run) -> Freshness {
        let at: u32 = run.plan.spec.assumptions[0].parse().unwrap();
        if at >= self.reads_changed { Freshness::Fresh } else { Freshness::Stale }
    }

    pub fn decision(&self, name: &Name) -> Decision {
        let facts = &self.facts[name];
        decide(facts, &self.world, self.freshness(facts))
    }

    pub fn state(&self, name: &Name) -> State {
        chiffon_core::state(&self.facts[name], &self.world)
    }

    /// Decides and acts until nothing is left; what was done, in order. Panics where decisions chase each other.
    pub fn settle(&mut self, name: &Name) -> Vec<Action> {
        let mut all = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let decision = self.decision(name);
            let mut acted = 0;
            for action in decision.actions {
                if self.carry_out(name, &action) == Did::Done {
                    acted += 1;
                    all.push(action);
                }
            }
            if acted == 0 {
                return all;
            }
        }
        panic!("{name} does not come to rest: {all:#?}");
    }

    pub fn carry_out(&mut self, name: &Name, action: &Action) -> Did {
        match action {
            Action::Plan { .. } => self.plan(name),
            Action::TakeEdit { blob, .. } => self.take_edit(name, blob.clone()),
            Action::Show { plan } => self.show(name, plan),
            Action::Close { plan, state } => self.close(name, plan, *state),
            Action::RemoveBranch => {
                self.request(name).plan_branch = None;
                Did::Done
            }
            Action::Approve { plan } => self.approve(name, plan),
            Action::Refuse { blob, reason } => self.refuse(name, blob, *reason),
            Action::EndPause => {
                self.request(name).pause = None;
                Did::Done
            }
            Action::Finish { state } => self.finish(name, *state, false),
            Action::Void { reason } => {
                let blob = self.facts[name].run.as_ref().unwrap().plan_oid.clone();
                self.refuse(name, &blob, *reason);
                self.finish(name, RunState::Cancelled, true)
            }
            Action::Order { step, attempt, hosts, agent } => self.order(name, step, *attempt, hosts, agent),
            Action::Grant { step, attempt } => self.grant(name, step, *attempt),
            Action::Drop { step, attempt, from } => self.moves(name, step, *attempt, *from, AttemptState::Cancelled),
            // The agent is told; what becomes of it comes as a report.
            Action::Stop { .. } => Did::Nothing,
            Action::Reorder { step, attempt } => {
                self.moves(name, step, *attempt, AttemptState::Claimed, AttemptState::Ordered)
            }
            Action::Lose { step, attempt, from } => self.moves(name, step, *attempt, *from, AttemptState::Lost),
        }
    }

    pub fn request(&mut self, name: &Name) -> &mut RequestFacts {
        self.facts.get_mut(name).unwrap()
    }

    fn unplanned(&mut self, name: &Name, reason: Blocked) -> Did {
        let (infra, at) = (self.world.infra.clone(), self.world.now);
        let facts = self.request(name);
        let request = facts.file.oid().unwrap().clone();
        facts.unplanned = Some(Unplanned { request, infra, reason, at });
        facts.replan_after = None;
        Did::Done
    }

    fn plan(&mut self, name: &Name) -> Did {
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

    fn take_edit(&mut self, name: &Name, blob: Option<Oid>) -> Did {
        // An edit that can't be read, as the events below mark it.
        let bad = blob.as_ref().is_none_or(|blob| blob.as_str().starts_with("bad"));
        if bad {
            return self.unplanned(name, Blocked::Edit { reason: "it is no plan".to_owned(), blob });
        }
        self.offer(name, PlannerKind::Person)
    }

    fn offer(&mut self, name: &Name, by: PlannerKind) -> Did {
        let (now, infra) = (self.world.now, self.infra);
        let facts = self.request(name);
        let open = facts.offers.iter_mut().find(|offer| offer.is_open());
        match (open, by) {
            (Some(open), PlannerKind::Person) => open.state = OfferState::Replaced,
            (Some(_), PlannerKind::Catalogue) => panic!("{name}: two offers would be open"),
            (None, _) => {}
        }
        let mut deploy = step("deploy", "playbooks/deploy.yml", &["nas01", "pi01"]);
        deploy.timeout_secs = 60;
        let mut configure = step("configure", "playbooks/configure.yml", &["nas01"]);
        configure.needs = vec![crate::plans::name("deploy")];
        let mut plan = plan_of(vec![deploy, configure], &catalogue());
        plan.metadata.name = name.clone();
        plan.metadata.revision = facts.offers.last().map_or(0, Offer::revision) + 1;
        plan.metadata.request.oid = facts.file.oid().unwrap().clone();
        plan.metadata.request.path = facts.path.clone();
        plan.metadata.expires = now.plus_secs(14 * 86_400);
        plan.spec.planner.kind = by;
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

    fn show(&mut self, name: &Name, plan: &Oid) -> Did {
        let tip = self.new_oid();
        let facts = self.request(name);
        facts.plan_branch = Some(PlanBranch { tip: tip.clone(), plan: Some(plan.clone()) });
        let offer = facts.offers.iter_mut().find(|offer| &offer.plan_oid == plan).unwrap();
        offer.branch_commit = Some(tip);
        Did::Done
    }

    fn close(&mut self, name: &Name, plan: &Oid, state: OfferState) -> Did {
        let offers = &mut self.request(name).offers;
        match offers.iter_mut().find(|offer| &offer.plan_oid == plan && offer.is_open()) {
            Some(offer) => {
                offer.state = state;
                Did::Done
            }
            None => Did::Nothing,
        }
    }

    fn refuse(&mut self, name: &Name, blob: &Oid, reason: RefusalReason) -> Did {
        let at = self.world.now;
        self.request(name).refusal = Some(Refusal { blob: blob.clone(), reason, at });
        Did::Done
    }

    fn approve(&mut self, name: &Name, plan: &Oid) -> Did {
        let at = self.world.now;
        self.made += 1;
        let id = RunId::parse(format!("{:026}", self.made)).unwrap();
        let facts = self.request(name);
        let Some(offer) = facts.offers.iter_mut().find(|offer| &offer.plan_oid == plan && offer.is_open()) else {
            return Did::Nothing;
        };
        offer.state = OfferState::Approved;
        let approval = ApprovalRecord {
            commit: oid('c'),
            by: None,
            established: Established::Claimed,
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

    fn finish(&mut self, name: &Name, state: RunState, voided: bool) -> Did {
        let now = self.world.now;
        let run = self.request(name).run.as_mut().unwrap();
        if run.state.is_some() {
            return Did::Nothing;
        }
        (run.state, run.finished_at, run.voided) = (Some(state), Some(now), voided);
        self.free_locks(name);
        Did::Done
    }

    fn order(&mut self, name: &Name, step: &Name, number: u32, hosts: &[Host], agent: &Name) -> Did {
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

    /// Takes the locks of every host of the attempt at once, or none.
    fn grant(&mut self, name: &Name, step: &Name, number: u32) -> Did {
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
