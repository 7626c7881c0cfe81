//! An agent with a journal, and a bus between it and the driver that is late and says things twice, but keeps their order.

use std::collections::{BTreeMap, VecDeque};

use chiffon_schemas::{AttemptState, BootId, Fence, Verdict};

use crate::events::outcome;
use crate::model::{Did, Key, Model, Told};
use crate::plans::name;

/// How far the agent came with an attempt, as its journal has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Claimed,
    Started(Fence),
    Over(Fence, Verdict),
}

/// What the agent says.
#[derive(Debug, Clone)]
pub enum Said {
    Claim(Key),
    Decline(Key),
    Started(Key, Fence),
    Over(Key, Fence, Verdict),
    /// A new life: what the journal knew of each attempt, by the fence where it was granted, and whether it started.
    Hello(Vec<(Key, Option<Fence>, bool)>),
}

pub struct Agent {
    boot: BootId,
    journal: BTreeMap<Key, Stage>,
    /// How much of what it was told it has heard.
    heard: usize,
    /// What it said and nobody has heard yet, with the life that said it.
    said: VecDeque<(BootId, Said)>,
    /// Whether it takes no orders now.
    pub unwilling: bool,
    /// Every time that it began to work.
    pub worked: Vec<(Key, Fence)>,
}

impl Agent {
    pub fn of(model: &Model) -> Self {
        let boot = model.world.agents[&name("local")].boot.clone();
        Self { boot, journal: BTreeMap::new(), heard: 0, said: VecDeque::new(), unwilling: false, worked: Vec::new() }
    }

    /// Attempts that are being worked on.
    pub fn working(&self) -> impl Iterator<Item = &Key> {
        self.journal.iter().filter(|(_, stage)| matches!(stage, Stage::Started(_))).map(|(key, _)| key)
    }

    fn say(&mut self, said: Said) {
        self.said.push_back((self.boot.clone(), said));
    }

    /// Hears the next thing that it was told; not acknowledged, it comes again.
    pub fn hear(&mut self, model: &Model, acknowledge: bool) {
        let Some(told) = model.told.get(self.heard) else { return };
        self.heard += usize::from(acknowledge);
        match told {
            Told::Order(key) => match self.journal.get(key).copied() {
                None if self.unwilling => self.say(Said::Decline(key.clone())),
                None | Some(Stage::Claimed) => {
                    self.journal.insert(key.clone(), Stage::Claimed);
                    self.say(Said::Claim(key.clone()));
                }
                Some(Stage::Started(_)) => {}
                Some(Stage::Over(fence, verdict)) => self.say(Said::Over(key.clone(), fence, verdict)),
            },
            Told::Grant(key, boot, fence) => {
                if boot == &self.boot && self.journal.get(key) == Some(&Stage::Claimed) {
                    self.journal.insert(key.clone(), Stage::Started(*fence));
                    self.worked.push((key.clone(), *fence));
                    self.say(Said::Started(key.clone(), *fence));
                }
            }
            Told::Refuse(key) => {
                if self.journal.get(key) == Some(&Stage::Claimed) {
                    self.journal.remove(key);
                }
            }
            Told::Cancel(key) => {
                if let Some(Stage::Started(_)) = self.journal.get(key) {
                    self.ends(&key.clone(), Verdict::Cancelled);
                }
            }
        }
    }

    /// The work that was begun first is over.
    pub fn first_ends(&mut self, verdict: Verdict) {
        let first = self.working().next().cloned();
        if let Some(key) = first {
            self.ends(&key, verdict);
        }
    }

    fn ends(&mut self, key: &Key, verdict: Verdict) {
        let Some(Stage::Started(fence)) = self.journal.get(key).copied() else { return };
        self.journal.insert(key.clone(), Stage::Over(fence, verdict));
        self.say(Said::Over(key.clone(), fence, verdict));
    }

    /// Dies and lives again: what it worked on is ended and lost, what it had not begun is forgotten. What it said and
    /// what it was told is on the bus and stays there.
    pub fn restarts(&mut self, model: &mut Model) {
        self.boot = model.new_boot();
        let mut known = Vec::new();
        for (key, stage) in std::mem::take(&mut self.journal) {
            match stage {
                Stage::Claimed => known.push((key, None, false)),
                Stage::Started(fence) => {
                    known.push((key.clone(), Some(fence), true));
                    self.journal.insert(key, Stage::Over(fence, Verdict::Lost));
                }
                Stage::Over(..) => drop(self.journal.insert(key, stage)),
            }
        }
        self.say(Said::Hello(known));
    }

    /// The driver hears the next thing that the agent said; not acknowledged, it comes again.
    pub fn is_heard(&mut self, model: &mut Model, acknowledge: bool) {
        let next = if acknowledge { self.said.pop_front() } else { self.said.front().cloned() };
        if let Some((boot, said)) = next {
            model.hears(&boot, &said);
        }
    }

    /// Whether anything is on its way.
    pub fn quiet(&self, model: &Model) -> bool {
        self.said.is_empty() && self.heard == model.told.len()
    }
}

impl Model {
    /// What the driver does with a message: each is checked against what is stored.
    fn hears(&mut self, boot: &BootId, said: &Said) {
        use AttemptState::{Claimed, Failed, Granted, Ordered, Started};
        match said {
            Said::Hello(known) => {
                self.lives(boot.clone());
                for (key, fence, started) in known {
                    self.settle_attempt(key, *fence, *started);
                }
            }
            Said::Claim(key) => self.claim(boot, key),
            Said::Decline(key) => {
                if let Some((from, _, _)) =
                    self.stored(key).filter(|found| [Ordered, Claimed, Granted].contains(&found.0))
                {
                    self.moves(&key.0, &key.2, key.3, from, Failed);
                }
            }
            Said::Started(key, fence) => {
                if self.stored(key).is_some_and(|(_, _, known)| known == Some(*fence)) {
                    self.moves(&key.0, &key.2, key.3, Granted, Started);
                }
            }
            Said::Over(key, fence, verdict) => self.over(key, *fence, *verdict),
        }
    }

    /// State, life and fence of an attempt of the run that is the last one.
    fn stored(&self, key: &Key) -> Option<(AttemptState, Option<BootId>, Option<Fence>)> {
        let run = self.facts[&key.0].run.as_ref().filter(|run| run.id == key.1)?;
        let attempt = run.attempts_of(&key.2).find(|attempt| attempt.number == key.3)?;
        Some((attempt.state, attempt.boot.clone(), attempt.fence))
    }

    fn claim(&mut self, boot: &BootId, key: &Key) {
        use AttemptState::{Claimed, Granted, Ordered};
        let over = self.facts[&key.0].run.as_ref().is_none_or(|run| run.state.is_some());
        let Some((state, life, fence)) = self.stored(key).filter(|_| !over) else {
            return self.told.push(Told::Refuse(key.clone()));
        };
        match (state, life == Some(boot.clone()), fence) {
            (Ordered, ..) | (Claimed, false, _) => {
                self.moves(&key.0, &key.2, key.3, Claimed, Ordered);
                self.moves(&key.0, &key.2, key.3, Ordered, Claimed);
                self.attempt(&key.0, &key.2, key.3).boot = Some(boot.clone());
            }
            (Claimed, true, _) => {}
            (Granted, true, Some(fence)) => self.told.push(Told::Grant(key.clone(), boot.clone(), fence)),
            _ => self.told.push(Told::Refuse(key.clone())),
        }
    }

    fn over(&mut self, key: &Key, fence: Fence, verdict: Verdict) {
        use AttemptState::{Cancelled, Failed, Granted, Lost, Started, Succeeded};
        if self.stored(key).is_none_or(|(_, _, known)| known != Some(fence)) {
            return;
        }
        self.moves(&key.0, &key.2, key.3, Granted, Started);
        let to = match verdict {
            Verdict::Succeeded => Succeeded,
            Verdict::Failed => Failed,
            Verdict::Cancelled => Cancelled,
            Verdict::Lost => Lost,
        };
        let from = self.attempt(&key.0, &key.2, key.3).state;
        if self.moves(&key.0, &key.2, key.3, from, to) == Did::Done {
            let attempt = self.attempt(&key.0, &key.2, key.3);
            attempt.outcome = Some(outcome(verdict, &attempt.hosts));
            self.resettle(&key.0);
        }
    }

    fn settle_attempt(&mut self, key: &Key, fence: Option<Fence>, started: bool) {
        use AttemptState::{Failed, Granted, Lost, Ordered, Started};
        let Some((state, _, known)) = self.stored(key) else { return };
        if ![Granted, Started, Lost].contains(&state) || (fence.is_some() && fence != known) {
            return;
        }
        self.moves(&key.0, &key.2, key.3, state, Lost);
        if started {
            return;
        }
        let goes_on = self.facts[&key.0].run.as_ref().unwrap().state.is_none();
        let to = if goes_on { Ordered } else { Failed };
        self.moves(&key.0, &key.2, key.3, Lost, to);
        if goes_on {
            self.told.push(Told::Order(key.clone()));
        }
        self.resettle(&key.0);
    }
}
