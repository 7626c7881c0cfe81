//! Random lives of two requests and of an agent that is reached by a bus: messages late and twice, the agent and the
//! driver dying anywhere, people saying what they like. What counts here is what the agent really does.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::State;
use chiffon_core::facts::Run;
use chiffon_schemas::{AttemptState, Host, Name, RunId, Verdict};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use crate::bus::Agent;
use crate::model::{Key, Model, Shape};
use crate::plans::name;
use crate::random::{Seen, drive, judge_whole};

/// What happens at one moment.
#[derive(Debug, Clone)]
enum Moment {
    /// A person, the infra repository or the clock.
    Event { event: &'static str, second: bool },
    /// The agent hears the next thing; not acknowledged, it comes again.
    ToAgent { acknowledge: bool },
    /// The driver hears the next thing; not acknowledged, it comes again.
    ToDriver { acknowledge: bool },
    /// The agent's work is over.
    Ends(Verdict),
    /// The agent dies and lives again.
    Restarts,
    /// The agent takes orders, or declines them.
    Willing(bool),
    /// The agent is heard of.
    Heartbeat,
    /// All goes as it should for a while: lives that are all trouble hardly get anywhere.
    Goes,
    /// What is at work fails, all is heard, and a person asks for a retry.
    FailsAndIsRetried,
    /// The agent is silent until the driver has given it up, and then says how its work ended.
    IsLate(Verdict),
    /// The driver looks, and dies after so many actions, where that is said.
    Looks { lives: Option<usize> },
}

fn moment() -> impl Strategy<Value = Moment> {
    let whatever = proptest::sample::select(vec![
        "push",
        "merge",
        "merge",
        "edit",
        "delete",
        "revert",
        "merge-used",
        "merge-closed",
        "cancel",
        "retry",
        "retry",
        "retry",
        "retry",
        "pause",
        "resume",
        "resume",
        "replan",
        "plans-apart",
        "plans-queued",
        "plans-shared",
        "agent-silent",
        "days",
        "infra-moves",
        "resolve-failed",
        "resolve-retry",
        "resolve-retry",
        "resolve-succeeded",
        "unlock",
    ]);
    let ends = prop_oneof![2 => Just(Verdict::Succeeded), 1 => Just(Verdict::Failed)];
    prop_oneof![
        5 => (whatever, any::<bool>()).prop_map(|(event, second)| Moment::Event { event, second }),
        12 => Just(Moment::Goes),
        2 => Just(Moment::FailsAndIsRetried),
        1 => ends.clone().prop_map(Moment::IsLate),
        3 => prop::bool::weighted(0.8).prop_map(|acknowledge| Moment::ToAgent { acknowledge }),
        3 => prop::bool::weighted(0.8).prop_map(|acknowledge| Moment::ToDriver { acknowledge }),
        6 => ends.prop_map(Moment::Ends),
        1 => Just(Moment::Restarts),
        1 => prop::bool::weighted(0.7).prop_map(Moment::Willing),
        2 => Just(Moment::Heartbeat),
        3 => proptest::option::weighted(0.3, 0..4_usize).prop_map(|lives| Moment::Looks { lives }),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    proptest::sample::select(vec![Shape::Chain, Shape::Shared, Shape::Apart, Shape::Queued])
}

struct Bed {
    model: Model,
    agent: Agent,
    seen: Seen,
    /// Runs that a person answered for: resolved or unlocked while the agent may still have been at work.
    answered_for: BTreeSet<RunId>,
    /// How often a person asked for another attempt.
    asked_again: BTreeMap<RunId, usize>,
}

impl Bed {
    fn new(shape: Shape) -> Self {
        let mut model = Model::default();
        model.shape = shape;
        for request in ["first", "second"].map(name) {
            model.happen("push", &request, 0);
            model.settle(&request);
            model.happen("merge", &request, 0);
        }
        Self {
            agent: Agent::of(&model),
            model,
            seen: Seen::default(),
            answered_for: BTreeSet::new(),
            asked_again: BTreeMap::new(),
        }
    }

    fn lives_through(&mut self, moment: &Moment) -> TestCaseResult {
        let (model, agent) = (&mut self.model, &mut self.agent);
        match moment {
            Moment::Event { event, second } => self.event(event, name(if *second { "second" } else { "first" })),
            Moment::ToAgent { acknowledge } => agent.hear(model, *acknowledge),
            Moment::ToDriver { acknowledge } => agent.is_heard(model, *acknowledge),
            Moment::Ends(verdict) => agent.first_ends(*verdict),
            Moment::Restarts => agent.restarts(model),
            Moment::Willing(willing) => agent.unwilling = !willing,
            Moment::Heartbeat => model.heartbeat(),
            Moment::Goes => return self.goes(),
            Moment::FailsAndIsRetried => return self.fails_and_is_retried(),
            Moment::IsLate(verdict) => {
                model.happen("agent-silent", &name("first"), 0);
                drive(model, &mut self.seen, None)?;
                agent.first_ends(*verdict);
                return self.goes();
            }
            Moment::Looks { lives } => drive(model, &mut self.seen, *lives)?,
        }
        self.seen.judge(&self.model)?;
        self.judge_work()
    }

    fn goes(&mut self) -> TestCaseResult {
        self.model.heartbeat();
        drive(&mut self.model, &mut self.seen, None)?;
        for _ in 0..3 {
            self.agent.hear(&self.model, true);
            self.agent.is_heard(&mut self.model, true);
        }
        self.seen.judge(&self.model)?;
        self.judge_work()
    }

    fn fails_and_is_retried(&mut self) -> TestCaseResult {
        self.agent.first_ends(Verdict::Failed);
        for event in ["resume", "retry"] {
            self.goes()?;
            for request in ["first", "second"].map(name) {
                self.event(event, request);
            }
        }
        self.goes()?;
        self.goes()
    }

    fn event(&mut self, event: &str, request: Name) {
        let happened = self.model.happen(event, &request, 1);
        let run = self.model.facts.get(&request).and_then(|facts| facts.run.as_ref()).map(|run| run.id.clone());
        let Some(run) = run.filter(|_| happened) else { return };
        if event.starts_with("resolve") || event == "unlock" {
            self.answered_for.insert(run.clone());
        }
        if event.starts_with("resolve") || event == "retry" {
            *self.asked_again.entry(run).or_default() += 1;
        }
    }

    /// What the agent did, beside what it was granted.
    fn judge_work(&self) -> TestCaseResult {
        let mut begun: BTreeSet<&Key> = BTreeSet::new();
        let mut of_step: BTreeMap<(&RunId, &Name), usize> = BTreeMap::new();
        for (key, fence) in &self.agent.worked {
            prop_assert!(begun.insert(key), "begun twice: {key:?}");
            let granted = |(run, step, number, given): &(RunId, Name, u32, _)| {
                (run, step, number, given) == (&key.1, &key.2, &key.3, fence)
            };
            prop_assert!(self.model.grants.iter().any(granted), "begun without a grant: {key:?}");
            let count = of_step.entry((&key.1, &key.2)).or_default();
            *count += 1;
            let allowed = 1 + self.asked_again.get(&key.1).copied().unwrap_or(0);
            prop_assert!(*count <= allowed, "begun {count} times, and asked for {allowed} times: {key:?}");
        }
        self.judge_hosts()
    }

    /// One run a host, also while the driver knows nothing of what the agent does.
    fn judge_hosts(&self) -> TestCaseResult {
        let mut busy: BTreeMap<Host, &RunId> = BTreeMap::new();
        for key in self.agent.working().filter(|key| !self.answered_for.contains(&key.1)) {
            let Some(run) = self.run(key) else { continue };
            let attempt = run.attempts_of(&key.2).find(|attempt| attempt.number == key.3);
            let attempt = attempt.ok_or_else(|| TestCaseError::fail("at work on what is not known"))?;
            for host in &attempt.hosts {
                let other = busy.insert(host.clone(), &key.1);
                prop_assert!(other.is_none_or(|other| other == &key.1), "two runs at work on {host}");
                let holder = self.model.world.locks.get(host).map(|held| &held.run);
                prop_assert_eq!(holder, Some(&key.1), "at work on {} without its lock", host);
            }
        }
        Ok(())
    }

    fn run(&self, key: &Key) -> Option<&Run> {
        self.model.facts[&key.0].run.as_ref().filter(|run| run.id == key.1)
    }

    /// Everybody does their part until nothing is on its way any more; a person looks at what is lost.
    fn ends(&mut self) -> TestCaseResult {
        self.agent.unwilling = false;
        let requests: Vec<Name> = self.model.facts.keys().cloned().collect();
        for request in &requests {
            self.event("resume", request.clone());
        }
        for _ in 0..60 {
            self.model.heartbeat();
            drive(&mut self.model, &mut self.seen, None)?;
            while !self.agent.quiet(&self.model) {
                self.agent.hear(&self.model, true);
                self.agent.is_heard(&mut self.model, true);
            }
            self.agent.first_ends(Verdict::Succeeded);
            for request in &requests {
                self.event("resolve-failed", request.clone());
            }
            self.seen.judge(&self.model)?;
            self.judge_work()?;
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn r1_an_agent_begins_an_attempt_once_and_a_step_once_for_each_time_it_was_asked(
        shape in shape(),
        moments in proptest::collection::vec(moment(), 20..60),
    ) {
        let mut bed = Bed::new(shape);
        for moment in &moments {
            bed.lives_through(moment)?;
        }
        judge_whole(&bed.model)?;
    }

    #[test]
    fn r3_whatever_the_bus_did_each_request_ends_where_a_person_can_see_it(
        shape in shape(),
        moments in proptest::collection::vec(moment(), 20..60),
    ) {
        let mut bed = Bed::new(shape);
        for moment in &moments {
            bed.lives_through(moment)?;
        }
        bed.ends()?;
        judge_whole(&bed.model)?;
        for (name, facts) in &bed.model.facts {
            let state = bed.model.state(name);
            let waits =
                matches!(state, State::Planning(_) | State::Queued | State::Running | State::Paused(_) | State::Lost);
            prop_assert!(!waits, "{name} ends as {state:?}: {:#?}", facts.run.as_ref().map(|run| &run.attempts));
        }
        prop_assert!(bed.model.world.locks.is_empty(), "locks are left: {:?}", bed.model.world.locks);
    }

    #[test]
    fn r4_what_is_lost_stays_lost_and_locked_until_the_agent_or_a_person_says_more(
        shape in shape(),
        moments in proptest::collection::vec(moment(), 20..60),
    ) {
        let mut bed = Bed::new(shape);
        for moment in &moments {
            let lost = lost(&bed.model);
            bed.lives_through(moment)?;
            // The driver by itself, the clock and the infra repository change nothing about it.
            let may_tell = match moment {
                Moment::ToDriver { .. } | Moment::Goes | Moment::FailsAndIsRetried | Moment::IsLate(_) => true,
                Moment::Event { event, .. } => event.starts_with("resolve") || *event == "unlock",
                _ => false,
            };
            if !may_tell {
                prop_assert!(self::lost(&bed.model).is_superset(&lost), "{moment:?}: {lost:?}");
            }
        }
    }
}

/// Every attempt that is lost, with the hosts that its run holds.
fn lost(model: &Model) -> BTreeSet<(Key, Host)> {
    let mut lost = BTreeSet::new();
    for (name, facts) in &model.facts {
        let Some(run) = &facts.run else { continue };
        for attempt in run.attempts.iter().filter(|attempt| attempt.state == AttemptState::Lost) {
            let key = model.key(name, &attempt.step, attempt.number);
            let held = |host: &&Host| model.world.locks.get(*host).is_some_and(|held| held.run == run.id);
            lost.extend(attempt.hosts.iter().filter(held).map(|host| (key.clone(), host.clone())));
        }
    }
    lost
}
