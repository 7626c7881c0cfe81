//! A world in memory, in which `acts.rs` carries actions out as driver, store and agent do, with nothing behind it.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::facts::{AgentFacts, RequestFacts, Run, World};
use chiffon_core::{Action, Decision, Freshness, Policy, State, decide};
use chiffon_schemas::{
    AgentKind, AttemptState, BootId, Fence, Mode, Name, Oid, Plan, RunId, RunState, Step, Timestamp,
};

use crate::plans::{name, step};

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

/// How the steps of the next plans hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `configure` needs `deploy`.
    Chain,
    /// Two steps that share a host, in no order.
    Shared,
    /// Two steps on hosts of their own, and a third that needs both.
    Apart,
    /// Three steps on hosts of their own, and a fourth that needs none and shares a host with the second.
    Queued,
}

/// An attempt: request, run, step and number.
pub type Key = (Name, RunId, Name, u32);

/// What an agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Order(Key),
    Grant(Key, BootId, Fence),
    Refuse(Key),
    Cancel(Key),
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
    pub shape: Shape,
    /// What requests ask for, whenever they are planned.
    pub mode: Mode,
    /// Agents that are not heard of, whatever happens.
    pub gone: BTreeSet<Name>,
    /// Infra commits so far, and the last one that changed what plans read.
    pub infra: u32,
    reads_changed: u32,
    /// Contents, commits and blobs made up so far.
    pub made: u32,
    pub fences: u64,
    boots: u32,
    /// Every grant ever given: attempt and fence.
    pub grants: Vec<(RunId, Name, u32, Fence)>,
    /// What agents were told, oldest first.
    pub told: Vec<Told>,
    /// Runs whose hosts a person freed.
    pub unlocked: BTreeSet<RunId>,
    /// Every state that an attempt ever had.
    pub history: Vec<(RunId, Name, u32, AttemptState)>,
}

impl Shape {
    pub fn steps(self) -> Vec<Step> {
        let deploy = |limit: &[&str]| Step { timeout_secs: 60, ..step("deploy", "playbooks/deploy.yml", limit) };
        let configure = |needs: &[&str]| {
            let needs = needs.iter().map(|need| name(need)).collect();
            Step { needs, ..step("configure", "playbooks/configure.yml", &["nas01"]) }
        };
        match self {
            Self::Chain => vec![deploy(&["nas01", "pi01"]), configure(&["deploy"])],
            Self::Queued => {
                let tidy = Step { id: name("tidy"), ..configure(&[]) };
                let hold = Step { id: name("hold"), ..deploy(&["pi01"]) };
                vec![deploy(&["web01"]), configure(&[]), hold, tidy]
            }
            Self::Shared => vec![deploy(&["nas01", "pi01"]), configure(&[])],
            Self::Apart => {
                let last = Step { needs: vec![name("configure"), name("deploy")], ..deploy(&["pi01", "web01"]) };
                vec![deploy(&["web01"]), configure(&[]), Step { id: name("finish"), ..last }]
            }
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        let mut model = Self {
            facts: BTreeMap::new(),
            world: World {
                now: START,
                listening_since: START,
                infra: None,
                locks: BTreeMap::new(),
                agents: BTreeMap::new(),
                load: BTreeMap::new(),
                policy: Policy::default(),
                forge: None,
            },
            planner: Planner::Plans,
            shape: Shape::Chain,
            mode: Mode::Apply,
            gone: BTreeSet::new(),
            infra: 0,
            reads_changed: 0,
            made: 0,
            fences: 0,
            boots: 0,
            grants: Vec::new(),
            told: Vec::new(),
            unlocked: BTreeSet::new(),
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
        self.starts(name("local"))
    }

    pub fn starts(&mut self, agent: Name) -> BootId {
        let boot = self.new_boot();
        self.lives_as(agent, boot.clone());
        boot
    }

    pub fn new_boot(&mut self) -> BootId {
        self.boots += 1;
        BootId::parse(format!("{:026}", self.boots)).unwrap()
    }

    /// The driver hears of a life of the agent.
    pub fn lives(&mut self, boot: BootId) {
        self.lives_as(name("local"), boot);
    }

    fn lives_as(&mut self, agent: Name, boot: BootId) {
        self.gone.remove(&agent);
        let facts = AgentFacts { kind: AgentKind::Infra, boot, heard: self.world.now, ansible_core: None };
        self.world.agents.insert(agent, facts);
    }

    pub fn heartbeat(&mut self) {
        for (name, agent) in &mut self.world.agents {
            if !self.gone.contains(name) {
                agent.heard = self.world.now;
            }
        }
    }

    pub fn freshness(&self, facts: &RequestFacts) -> Freshness {
        if self.world.infra.is_none() {
            return Freshness::Unknown;
        }
        chiffon_core::ground_of(facts).map_or(Freshness::Fresh, |(_, plan)| self.holds(plan))
    }

    pub fn run_freshness(&self, run: &Run) -> Freshness {
        self.holds(&run.plan)
    }

    /// A plan's assumption names the infra commit that it was made at.
    fn holds(&self, plan: &Plan) -> Freshness {
        let at: u32 = plan.spec.assumptions[0].parse().unwrap();
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
        let did = self.carry_out_silently(name, action);
        let key = |step: &Name, attempt: u32| self.key(name, step, attempt);
        let told = match action {
            Action::Stop { step, attempt } => Told::Cancel(key(step, *attempt)),
            _ if did == Did::Nothing => return did,
            Action::Order { step, attempt, .. } | Action::Reorder { step, attempt, .. } => {
                Told::Order(key(step, *attempt))
            }
            Action::Drop { step, attempt, .. } => Told::Refuse(key(step, *attempt)),
            Action::Grant { step, attempt } => {
                let run = self.facts[name].run.as_ref().unwrap();
                let attempt = run.attempts_of(step).find(|other| other.number == *attempt).unwrap();
                Told::Grant(key(step, attempt.number), attempt.boot.clone().unwrap(), attempt.fence.unwrap())
            }
            _ => return did,
        };
        self.told.push(told);
        did
    }

    pub fn key(&self, name: &Name, step: &Name, number: u32) -> Key {
        (name.clone(), self.facts[name].run.as_ref().unwrap().id.clone(), step.clone(), number)
    }

    fn carry_out_silently(&mut self, name: &Name, action: &Action) -> Did {
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
            Action::Refuse { blob, reason, .. } => self.refuse(name, blob, *reason),
            Action::AskForge | Action::Propose { .. } => Did::Nothing,
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
            Action::Reorder { step, attempt, from, agent } => self.reorder(name, step, *attempt, *from, agent),
            Action::Lose { step, attempt, from } => self.moves(name, step, *attempt, *from, AttemptState::Lost),
        }
    }

    pub fn request(&mut self, name: &Name) -> &mut RequestFacts {
        self.facts.get_mut(name).unwrap()
    }
}
