//! The reconciler's side of claim → grant → run → report.
//!
//! Messages may come twice, late or out of order. Each is checked against the store, which is the only authority, and
//! changes at most what its fence allows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chiffon_core::facts::{AgentFacts, Attempt, RequestFacts, Run};
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{
    AgentMessage, AttemptKey, AttemptState, BootId, FromAgent, Hello, LogDigest, Name, Outcome, Settled, ToAgent,
    Verdict,
};
use chiffon_store::{Change, Seen};
use futures_util::future::join_all;
use serde_json::json;

use super::act::{key_of, moved};
use super::{Driver, Error};
use crate::environment;
use crate::events::{self, kind};

/// How long a message that is said again by itself may take to be sent, and how long none is offered after one that did
/// not go.
const HINT_WITHIN: Duration = Duration::from_millis(250);
const DEAF_SECS: i64 = 5;

/// How often an agent is asked for its hello at most: asked in vain, it would answer as fast as the bus goes.
const ASK_EVERY_SECS: i64 = 5;

/// How long what a life said before another one followed it may be under way.
const LATE_SECS: i64 = 10;

/// How long it is not said again that two processes use one agent's name.
const HOUR: i64 = 3_600;

impl Driver {
    /// Takes one message in. The caller confirms the reports among them, acknowledges it afterwards, and runs a tick where
    /// `true` comes back.
    ///
    /// # Errors
    /// The store failed; the message is not acknowledged and comes again.
    pub async fn take_message(&mut self, message: FromAgent) -> Result<bool, Error> {
        let FromAgent { agent, boot, message } = message;
        match message {
            AgentMessage::Hello(_)
            | AgentMessage::Heartbeat {}
            | AgentMessage::Claim { .. }
            | AgentMessage::Decline { .. }
                if self.superseded.contains_key(&(agent.clone(), boot.clone())) =>
            {
                self.superseded_speaks(agent, boot, message).await
            }
            AgentMessage::Hello(hello) => self.hello(agent, boot, hello).await.map(|()| true),
            AgentMessage::Heartbeat {} => self.heard(&agent, &boot).await.map(|()| false),
            AgentMessage::Claim { key } => self.claim(&agent, boot, key).await,
            AgentMessage::Decline { key, reason, fence } => {
                self.decline(&agent, &boot, &key, &reason, fence).await.map(|()| true)
            }
            AgentMessage::Progress { .. } => Ok(false),
            AgentMessage::Report(report) => self.report(&agent, report).await,
        }
    }

    /// A life that another one followed: what it says came late, or its folder was copied to another machine. Its hello
    /// says all that an introduction would, and counts only once the life after it is silent.
    async fn superseded_speaks(&mut self, agent: Name, boot: BootId, message: AgentMessage) -> Result<bool, Error> {
        match message {
            AgentMessage::Hello(hello) if self.is_silent(&agent).await? => {
                self.hello(agent, boot, hello).await.map(|()| true)
            }
            AgentMessage::Hello(_) => self.suspect(&agent, boot, &message).await,
            AgentMessage::Heartbeat {} => {
                self.heard(&agent, &boot).await?;
                self.suspect(&agent, boot, &message).await
            }
            AgentMessage::Claim { .. }
            | AgentMessage::Decline { .. }
            | AgentMessage::Progress { .. }
            | AgentMessage::Report(_) => self.introduce(&agent).await.map(|()| false),
        }
    }

    /// Whether the life that said hello last is silent for as long as costs it its attempts.
    async fn is_silent(&self, agent: &Name) -> Result<bool, Error> {
        let silence = i64::from(self.config.policy.agent_silence_secs);
        let known = self.store.agents().await?.remove(agent);
        Ok(known.is_none_or(|known| known.heard.max(self.listening_since).plus_secs(silence) < environment::now()))
    }

    /// Records that a life goes on long after another one followed it, once an hour for each agent; whether it did so now.
    async fn suspect(&mut self, agent: &Name, boot: BootId, message: &AgentMessage) -> Result<bool, Error> {
        let now = environment::now();
        let goes_on = self.superseded.get(&(agent.clone(), boot)).is_some_and(|since| since.plus_secs(LATE_SECS) < now);
        let is_known = self.suspected.get(agent).is_some_and(|last| (*last..last.plus_secs(HOUR)).contains(&now));
        if !goes_on || is_known {
            return Ok(false);
        }
        let reason = format!(
            "two processes seem to use the name and the credentials of agent `{agent}`, as when its folder was copied: \
             end one of them, or say `chiffon agent rotate {agent}` and enrol the other one again"
        );
        self.put_aside(agent, reason, message).await?;
        self.suspected.insert(agent.clone(), now);
        Ok(true)
    }

    async fn hello(&mut self, agent: Name, boot: BootId, hello: Hello) -> Result<(), Error> {
        let facts = AgentFacts {
            kind: hello.kind,
            boot: boot.clone(),
            heard: environment::now(),
            ansible_core: hello.ansible_core.filter(|version| is_version(version)),
        };
        if let Some(known) = self.store.agents().await?.remove(&agent).filter(|known| known.boot != boot) {
            self.superseded.insert((agent.clone(), known.boot), environment::now());
        }
        self.superseded.remove(&(agent.clone(), boot.clone()));
        let ended = hello.ended.into_iter().map(|ended| (ended.key, ended.fence)).collect();
        self.apply(Change::AgentHeard { agent: agent.clone(), facts, ended }, &[]).await?;
        for settled in &hello.settled {
            self.settle_attempt(&agent, &boot, settled).await?;
        }
        crash_point("hello-settled");
        self.order_again(&agent).await
    }

    /// Sends the orders that an agent has not claimed. What it was sent before may have died with its earlier life,
    /// before it reached the journal; an order that it has already is one that it passes over.
    async fn order_again(&mut self, agent: &Name) -> Result<(), Error> {
        let mut orders = Vec::new();
        for (name, _) in self.store.active(self.repository).await? {
            let Some(facts) = self.store.facts(self.repository, &name).await? else { continue };
            let Some(run) = facts.run.filter(|run| run.state.is_none()) else { continue };
            let unclaimed = |attempt: &&Attempt| attempt.state == AttemptState::Ordered && &attempt.agent == agent;
            for attempt in run.attempts.iter().filter(unclaimed) {
                let order = super::act::order_of(&run, &attempt.step, attempt.number, &attempt.hosts);
                orders.extend(order.map(|order| (agent.clone(), ToAgent::Order(Box::new(order)))));
            }
        }
        Ok(self.store.send(&orders, environment::now()).await?)
    }

    async fn heard(&mut self, agent: &Name, boot: &BootId) -> Result<(), Error> {
        let known = self.store.agents().await?.remove(agent).filter(|known| &known.boot == boot);
        let Some(known) = known else { return self.introduce(agent).await };
        let facts = AgentFacts { heard: environment::now(), ..known };
        self.apply(Change::AgentHeard { agent: agent.clone(), facts, ended: Vec::new() }, &[]).await?;
        Ok(())
    }

    /// Asks a life that nobody knows for its hello: that was lost with a broker or a database, or is of the life before and
    /// came late. A question that did not go only waits for the next sign of life.
    async fn introduce(&mut self, agent: &Name) -> Result<(), Error> {
        let now = environment::now();
        if self.asked.get(agent).is_some_and(|last| (*last..last.plus_secs(ASK_EVERY_SECS)).contains(&now)) {
            return Ok(());
        }
        if self.hint(BTreeMap::from([(agent.clone(), vec![ToAgent::Introduce {}])])).await.contains(agent) {
            self.asked.insert(agent.clone(), now);
        }
        Ok(())
    }

    /// Tells agents what is said again by itself: it needs no row, and waits neither for a bus in trouble nor for an agent
    /// whose queue is full. All of it takes no longer than one. Whom it was sent.
    pub(super) async fn hint(&mut self, hints: BTreeMap<Name, Vec<ToAgent>>) -> BTreeSet<Name> {
        let now = environment::now();
        if self.hub.trouble().borrow().is_some() {
            return BTreeSet::new();
        }
        let hears = |agent: &Name| self.deaf.get(agent).is_none_or(|until| *until <= now);
        let hub = &*self.hub;
        let sending = hints.iter().filter(|(agent, _)| hears(agent)).map(|(agent, messages)| async move {
            let messages: Vec<&ToAgent> = messages.iter().collect();
            let sent = tokio::time::timeout(HINT_WITHIN, hub.send_all(agent, &messages)).await;
            (agent.clone(), matches!(sent, Ok((_, None))))
        });
        let mut told = BTreeSet::new();
        for (agent, sent) in join_all(sending).await {
            if sent {
                told.insert(agent);
                continue;
            }
            tracing::debug!(%agent, "a hint was not sent");
            self.deaf.insert(agent, now.plus_secs(DEAF_SECS));
        }
        told
    }

    /// What a returning journal says of an attempt: one that never started may be ordered again, one that started and
    /// did not report its end is lost until a person looks.
    async fn settle_attempt(&mut self, agent: &Name, boot: &BootId, settled: &Settled) -> Result<(), Error> {
        let Some((facts, run, attempt)) = self.attempt(&settled.key).await? else { return Ok(()) };
        // What this very life was granted came after its hello, which is only heard again.
        if &attempt.agent != agent || attempt.boot.as_ref() == Some(boot) {
            return Ok(());
        }
        let same_fence = settled.fence.is_none() || settled.fence == attempt.fence;
        // What was reported as started was in the journal before: one that knows nothing of it is not of that life.
        let contradicts = attempt.state == AttemptState::Started && !settled.started;
        if !same_fence || contradicts {
            return Ok(());
        }
        match attempt.state {
            AttemptState::Granted | AttemptState::Started => {
                self.lose(&facts, &attempt.step, attempt.number, attempt.state).await?;
            }
            AttemptState::Lost => {}
            AttemptState::Ordered
            | AttemptState::Claimed
            | AttemptState::Succeeded
            | AttemptState::Failed
            | AttemptState::Cancelled => return Ok(()),
        }
        if settled.started || !settled.clean {
            return Ok(());
        }
        // The journal proves that nothing ran. A run that goes on gets the same attempt again, once all is settled; one
        // that was closed as lost in the meantime stays closed, without the lock.
        let to = if run.state.is_none() { AttemptState::Ordered } else { AttemptState::Failed };
        self.apply(moved(&settled.key, AttemptState::Lost, to), &[]).await?;
        if to == AttemptState::Failed {
            self.resettle(&settled.key).await?;
        }
        Ok(())
    }

    async fn claim(&mut self, agent: &Name, boot: BootId, key: AttemptKey) -> Result<bool, Error> {
        let refuse = |reason: &str| ToAgent::Refuse { key: key.clone(), reason: reason.to_owned() };
        let Some((_, run, attempt)) = self.attempt(&key).await? else {
            return self.tell(agent, refuse("there is no such attempt")).await.map(|()| false);
        };
        if &attempt.agent != agent || run.state.is_some() {
            return self.tell(agent, refuse("it is not this agent's to do, or is over")).await.map(|()| false);
        }
        match attempt.state {
            AttemptState::Ordered => self.record_claim(&key, boot).await.map(|()| true),
            AttemptState::Claimed if attempt.boot.as_ref() == Some(&boot) => Ok(true),
            AttemptState::Claimed => {
                self.apply(moved(&key, AttemptState::Claimed, AttemptState::Ordered), &[]).await?;
                self.record_claim(&key, boot).await.map(|()| true)
            }
            AttemptState::Granted if attempt.boot.as_ref() == Some(&boot) => {
                self.grant_again(agent, &key, &run, &attempt).await.map(|()| false)
            }
            AttemptState::Granted
            | AttemptState::Started
            | AttemptState::Succeeded
            | AttemptState::Failed
            | AttemptState::Cancelled
            | AttemptState::Lost => self.tell(agent, refuse("it was granted before")).await.map(|()| false),
        }
    }

    async fn record_claim(&mut self, key: &AttemptKey, boot: BootId) -> Result<(), Error> {
        let change = Change::Moved {
            key: key.clone(),
            from: AttemptState::Ordered,
            to: AttemptState::Claimed,
            fence: None,
            boot: Some(boot),
            outcome: None,
        };
        ignore_conflict(self.apply(change, &[]).await)?;
        crash_point("claim-recorded");
        Ok(())
    }

    /// The grant may have been lost on its way; the same fence again is harmless.
    async fn grant_again(&mut self, agent: &Name, key: &AttemptKey, run: &Run, attempt: &Attempt) -> Result<(), Error> {
        let order = super::act::order_of(run, &attempt.step, attempt.number, &attempt.hosts);
        let (Some(boot), Some(fence), Some(order)) = (attempt.boot.clone(), attempt.fence, order) else {
            return Ok(());
        };
        let order = order.digest();
        let grant = chiffon_schemas::Grant { key: key.clone(), boot, fence, order, at: attempt.since };
        self.tell(agent, ToAgent::Grant(grant)).await
    }

    async fn tell(&mut self, agent: &Name, message: ToAgent) -> Result<(), Error> {
        self.store.send(&[(agent.clone(), message)], environment::now()).await?;
        self.relay().await
    }

    async fn decline(
        &mut self,
        agent: &Name,
        boot: &BootId,
        key: &AttemptKey,
        reason: &str,
        fence: Option<chiffon_schemas::Fence>,
    ) -> Result<(), Error> {
        let Some((facts, run, attempt)) = self.attempt(key).await? else { return Ok(()) };
        let may = match attempt.state {
            // What declines a grant says nothing of any other one, nor of what came after it.
            _ if fence.is_some() && fence != attempt.fence => false,
            AttemptState::Ordered => true,
            // A declined grant was never started, as the life that it was given to says itself.
            AttemptState::Claimed | AttemptState::Granted => attempt.boot.as_ref() == Some(boot),
            AttemptState::Started
            | AttemptState::Succeeded
            | AttemptState::Failed
            | AttemptState::Cancelled
            | AttemptState::Lost => false,
        };
        if !may || &attempt.agent != agent {
            return Ok(());
        }
        let reason = events::one_line(reason);
        // A grant that was lost with a broker, or came after a later one, is below what the agent has seen by then (R11). One
        // more order brings a new fence; what declines that as well has to be looked at.
        let again = attempt.state == AttemptState::Granted && fence.is_some() && !run.cancel;
        let order = super::act::order_of(&run, &attempt.step, attempt.number, &attempt.hosts)
            .filter(|_| again && !self.declined.contains(key));
        let more = if order.is_some() { "; nothing was started, and it is ordered once more" } else { "" };
        let summary = format!("{}: {} declined {}: {reason}{more}", facts.name, attempt.agent, attempt.step);
        let event = events::about_run(
            &facts,
            &run,
            kind::DECLINED,
            summary,
            json!({ "key": key, "reason": reason }),
            environment::now(),
        );
        if let Some(order) = order {
            let messages = [(agent.clone(), ToAgent::Order(Box::new(order)))];
            let (from, to) = (AttemptState::Granted, AttemptState::Ordered);
            let change = Change::Moved { key: key.clone(), from, to, fence, boot: None, outcome: None };
            self.change(change, &[event], &messages).await?;
            self.declined.insert(key.clone());
            return Ok(());
        }
        let outcome = declined(reason);
        let change = Change::Moved {
            key: key.clone(),
            from: attempt.state,
            to: AttemptState::Failed,
            fence: None,
            boot: None,
            outcome: Some(Box::new(outcome)),
        };
        ignore_conflict(self.apply(change, &[event]).await)
    }

    /// The attempt that a key names, with its run and request.
    pub(super) async fn attempt(&self, key: &AttemptKey) -> Result<Option<(RequestFacts, Run, Attempt)>, Error> {
        let found = self.store.seen_by_run(&key.run).await?;
        let Some((_, Seen { facts, .. })) = found.filter(|(repository, _)| *repository == self.repository) else {
            return Ok(None);
        };
        let Some(run) = facts.run.clone().filter(|run| run.id == key.run) else { return Ok(None) };
        let found = run.attempts_of(&key.step).find(|attempt| attempt.number == key.attempt).cloned();
        let Some(attempt) = found.filter(|_| key_of(&run, &key.step, key.attempt) == *key) else { return Ok(None) };
        Ok(Some((facts, run, attempt)))
    }
}

/// Whether a text is a version, as far as anything is made of one: it goes into plans and onto screens.
fn is_version(text: &str) -> bool {
    text.len() <= 32 && text.chars().all(|c| c.is_ascii_alphanumeric() || ".+-".contains(c))
}

pub(super) fn ignore_conflict(applied: Result<chiffon_store::Applied, Error>) -> Result<(), Error> {
    match applied {
        Ok(_) | Err(Error::Store(chiffon_store::Error::Conflict { .. })) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The outcome of an order that no agent would do.
fn declined(reason: String) -> Outcome {
    Outcome {
        verdict: Verdict::Failed,
        failure: Some(chiffon_schemas::Failure {
            host: None,
            task: None,
            cause: format!("the agent declined the order: {reason}"),
            excerpt: String::new(),
            done: Vec::new(),
            not_started: Vec::new(),
            retry_safe: true,
        }),
        reason: Some(reason),
        exit_code: None,
        recap: Default::default(),
        changed: Vec::new(),
        finished: Vec::new(),
        interrupted: Vec::new(),
        duration_ms: 0,
        usage: None,
        log: LogDigest::default(),
        ansible_core: None,
        suggestions: Vec::new(),
    }
}
