//! The reconciler's side of claim → grant → run → report.
//!
//! Messages may come twice, late or out of order. Each is checked against the store, which is the only authority, and
//! changes at most what its fence allows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chiffon_core::facts::{AgentFacts, Attempt, RequestFacts, Run};
use chiffon_link::{Hub, Parked};
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{
    AgentMessage, AttemptKey, AttemptState, BootId, Direction, FromAgent, Hello, LogDigest, Name, Outcome, Report,
    ReportBody, RunState, Settled, Timestamp, ToAgent, Verdict,
};
use chiffon_store::{Accepted, Change, NewParked, Outgoing, Seen};
use futures_util::future::join_all;
use serde_json::json;

use super::act::{key_of, moved};
use super::{Driver, Error};
use crate::environment;
use crate::events::{self, kind};

/// How many messages the relay takes from the outbox at a time.
const RELAY_BATCH: u32 = 64;

/// How long nothing is sent to an agent whose queue took nothing: each try holds up the loop for as long as a sender waits.
const UNREACHED_SECS: i64 = 30;

/// How long a sender waits where the queue took nothing the last time: shorter than what makes the loop deaf, or one mute
/// queue would have every silent agent forgiven (R4).
const MUTE_WITHIN: Duration = Duration::from_secs(2);

/// How long a message that is said again by itself may take to be sent, and how long none is offered after one that did
/// not go.
const HINT_WITHIN: Duration = Duration::from_millis(250);
const DEAF_SECS: i64 = 5;

/// How often an agent is asked for its hello at most: asked in vain, it would answer as fast as the bus goes.
const ASK_EVERY_SECS: i64 = 30;

/// How long what a life said before another one followed it may be under way.
const LATE_SECS: i64 = 10;

/// Attempts that are remembered, so that a refused report is recorded once for each: whoever makes up reports must not
/// make the record grow without end.
const MAX_REFUSED: usize = 4096;

/// How much of a message that was put aside is kept, in bytes.
const MAX_HEAD: usize = 4096;

/// How many messages that were put aside one tick takes.
const PARKED_BATCH: usize = 64;

/// A life of an agent that another one followed.
#[derive(Debug)]
pub(super) struct Superseded {
    since: Timestamp,
    /// It is recorded that it still speaks.
    told: bool,
}

impl Driver {
    /// Publishes what waits in the outbox; a row is marked only when the bus has confirmed it. What an agent can't be
    /// sent now waits with all that follows it for that agent, and holds up nobody else.
    pub(super) async fn relay(&mut self) -> Result<(), Error> {
        // All of it waits until the bus works again, which wakes the loop.
        if self.hub.trouble().borrow().is_some() {
            return Ok(());
        }
        let mut after = 0;
        self.unreached.retain(|_, until| *until > environment::now());
        loop {
            let waiting = self.store.outgoing(after, RELAY_BATCH).await?;
            let Some(last) = waiting.last() else { return Ok(()) };
            after = last.id;
            let all = waiting.len() < RELAY_BATCH as usize;
            let (waiting, strangers): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|outgoing| self.has_place(&outgoing.agent));
            let mut by_agent: BTreeMap<Name, Vec<Outgoing>> = BTreeMap::new();
            for outgoing in waiting.into_iter().filter(|outgoing| !self.unreached.contains_key(&outgoing.agent)) {
                by_agent.entry(outgoing.agent.clone()).or_default().push(outgoing);
            }
            let (hub, mute) = (&*self.hub, &self.mute);
            let sending = by_agent.iter().map(|(agent, messages)| async {
                let sent = send_in_order(hub, agent, messages);
                match mute.contains(agent) {
                    true => tokio::time::timeout(MUTE_WITHIN, sent).await.unwrap_or_default(),
                    false => sent.await,
                }
            });
            // Nobody will ever take what waits for an agent that was sent away.
            let mut sent: Vec<i64> = strangers.iter().map(|outgoing| outgoing.id).collect();
            for (agent, done) in by_agent.keys().zip(join_all(sending).await) {
                if done.len() < by_agent[agent].len() {
                    self.unreached.insert(agent.clone(), environment::now().plus_secs(UNREACHED_SECS));
                    self.mute.insert(agent.clone());
                } else {
                    self.mute.remove(agent);
                }
                sent.extend(done);
            }
            if !sent.is_empty() {
                crash_point("messages-sent");
                self.store.sent(&sent).await?;
                self.sent += u64::try_from(sent.len()).unwrap_or(0);
                crash_point("messages-marked");
            }
            if all {
                return Ok(());
            }
        }
    }

    /// Whether an agent has a place on the bus, as far as is known; inside this process each has.
    fn has_place(&self, agent: &Name) -> bool {
        self.config.spec.bus.amqp.is_none() || self.admitted.contains(agent)
    }

    /// Tells the bus which agents have a place on it.
    pub(super) async fn admit_agents(&mut self) -> Result<(), Error> {
        if self.config.spec.bus.amqp.is_none() {
            return Ok(());
        }
        let enrolments = self.store.enrolments().await?.into_iter();
        let agents =
            enrolments.filter(|enrolment| enrolment.revoked.is_none()).map(|enrolment| enrolment.agent).collect();
        if agents != self.admitted {
            self.hub.admit(&agents).await;
            self.admitted = agents;
        }
        Ok(())
    }

    /// Whether an agent has a place on the bus.
    ///
    /// # Errors
    /// The store failed.
    pub async fn knows(&mut self, agent: &Name) -> Result<bool, Error> {
        if !self.admitted.contains(agent) {
            // It may have come this very moment.
            self.admit_agents().await?;
        }
        Ok(self.admitted.contains(agent))
    }

    /// What was put aside on the bus, at most once a second; and when to look again, where this was too soon.
    pub(super) async fn look_for_parked(&mut self) -> Result<(Vec<NewParked>, Option<Timestamp>), Error> {
        let now = environment::now();
        // A clock that was set back must not keep it from looking.
        if let Some(last) = self.parked_looked.filter(|last| *last == now) {
            return Ok((std::mem::take(&mut self.put_aside), Some(last.plus_secs(1))));
        }
        self.parked_looked = Some(now);
        Ok((self.collect_parked().await?, None))
    }

    /// Writes down what was put aside on the bus, for a person to look at (R7); what it was.
    ///
    /// # Errors
    /// The store failed: it stays on the bus.
    pub async fn collect_parked(&mut self) -> Result<Vec<NewParked>, Error> {
        let mut found = std::mem::take(&mut self.put_aside);
        while found.len() < PARKED_BATCH
            && let Ok(Some(delivery)) = self.hub.next_parked().await
        {
            let Parked { agent, direction, reason, head, size } = delivery.message.clone();
            let head = String::from_utf8_lossy(&head).into_owned();
            let parked = NewParked { agent, direction, reason, head, size };
            self.store.park(&parked, environment::now()).await?;
            if let Err(error) = delivery.ack().await {
                tracing::debug!(%error, "a message that was put aside is seen twice");
            }
            found.push(parked);
        }
        Ok(found)
    }

    /// Writes down what the driver itself puts aside of an agent's messages, and has it said with the next tick.
    async fn put_aside(&mut self, agent: &Name, reason: String, message: &impl serde::Serialize) -> Result<(), Error> {
        let bytes = serde_json::to_vec(message).unwrap_or_default();
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_HEAD)]).into_owned();
        let (agent, direction) = (agent.clone(), Direction::FromAgent);
        let parked = NewParked { agent, direction, reason, head, size: bytes.len() };
        self.store.park(&parked, environment::now()).await?;
        self.put_aside.push(parked);
        Ok(())
    }

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

    /// Records once that a life goes on long after another one followed it; whether it did so now.
    async fn suspect(&mut self, agent: &Name, boot: BootId, message: &AgentMessage) -> Result<bool, Error> {
        let life = (agent.clone(), boot);
        let goes_on = |life: &Superseded| !life.told && life.since.plus_secs(LATE_SECS) < environment::now();
        if !self.superseded.get(&life).is_some_and(goes_on) {
            return Ok(false);
        }
        let reason = format!(
            "two processes seem to use the name and the credentials of agent `{agent}`, as when its folder was copied: \
             end one of them, or say `chiffon agent rotate {agent}` and enrol the other one again"
        );
        self.put_aside(agent, reason, message).await?;
        self.superseded.entry(life).and_modify(|life| life.told = true);
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
            let life = Superseded { since: environment::now(), told: false };
            self.superseded.insert((agent.clone(), known.boot), life);
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
    async fn hint(&mut self, hints: BTreeMap<Name, Vec<ToAgent>>) -> BTreeSet<Name> {
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

    async fn report(&mut self, agent: &Name, report: Report) -> Result<bool, Error> {
        let log = match &report.body {
            ReportBody::Log { chunk, text } => Some((*chunk, text.as_str())),
            ReportBody::Started {} | ReportBody::Over(_) => None,
        };
        let accepted = self.store.report(agent, &report.key, report.fence, report.seq, log, environment::now()).await?;
        let (seq, whole) = match accepted {
            Accepted::Stored(seq) => (seq, true),
            Accepted::Gap(seq) => (seq, false),
            Accepted::Foreign => return Err(Error::Foreign { agent: agent.clone(), attempt: report.key }),
            Accepted::WrongFence => {
                let recorded = self.wrong_fence(agent, &report).await?;
                // Confirmed all the same, or it would be replayed for ever.
                self.confirm(agent, report.key, report.seq);
                return Ok(recorded);
            }
        };
        let mut changed = false;
        if whole {
            changed = self.take_body(&report).await?;
        }
        crash_point("report-stored");
        self.confirm(agent, report.key, seq);
        Ok(changed)
    }

    /// Remembers what an agent is to be told; what comes next of the same attempt says as much.
    fn confirm(&mut self, agent: &Name, key: AttemptKey, seq: u64) {
        match self.stored.last_mut() {
            Some((to, of, last)) if to == agent && *of == key && *last <= seq => *last = seq,
            _ => self.stored.push((agent.clone(), key, seq)),
        }
    }

    /// Tells agents what of their reports is stored. To be done before the messages are acknowledged that brought them.
    pub async fn confirm_reports(&mut self) {
        let mut by_agent: BTreeMap<Name, Vec<ToAgent>> = BTreeMap::new();
        for (agent, key, seq) in self.stored.drain(..) {
            by_agent.entry(agent).or_default().push(ToAgent::Stored { key, seq });
        }
        if by_agent.is_empty() {
            return;
        }
        self.hint(by_agent).await;
        crash_point("report-confirmed");
    }

    async fn take_body(&mut self, report: &Report) -> Result<bool, Error> {
        match &report.body {
            ReportBody::Log { .. } => Ok(false),
            ReportBody::Started {} => {
                let change = granted_to_started(&report.key, report.fence);
                ignore_conflict(self.apply(change, &[]).await)?;
                crash_point("start-recorded");
                Ok(false)
            }
            ReportBody::Over(outcome) => self.over(report, outcome).await.map(|()| true),
        }
    }

    async fn over(&mut self, report: &Report, outcome: &Outcome) -> Result<(), Error> {
        let Some((_, run, attempt)) = self.attempt(&report.key).await? else { return Ok(()) };
        let to = match outcome.verdict {
            Verdict::Succeeded => AttemptState::Succeeded,
            Verdict::Failed => AttemptState::Failed,
            Verdict::Cancelled => AttemptState::Cancelled,
            Verdict::Lost => AttemptState::Lost,
        };
        if attempt.state == AttemptState::Granted {
            let started = granted_to_started(&report.key, report.fence);
            ignore_conflict(self.apply(started, &[]).await)?;
        }
        let from = if attempt.state == AttemptState::Granted { AttemptState::Started } else { attempt.state };
        if !from.allows(to) {
            return Ok(());
        }
        let change = Change::Moved {
            key: report.key.clone(),
            from,
            to,
            fence: Some(report.fence),
            boot: None,
            outcome: Some(Box::new(outcome.clone())),
        };
        ignore_conflict(self.apply(change, &[]).await)?;
        crash_point("end-recorded");
        if run.state == Some(RunState::Lost) {
            self.resettle(&report.key).await?;
        }
        Ok(())
    }

    /// A late result told how a lost run ended: its state follows.
    pub(super) async fn resettle(&mut self, key: &AttemptKey) -> Result<(), Error> {
        let Some((facts, run, _)) = self.attempt(key).await? else { return Ok(()) };
        if run.state != Some(RunState::Lost) || run.attempts.iter().any(|other| other.state == AttemptState::Lost) {
            return Ok(());
        }
        let done = run.plan.spec.steps.iter().all(|step| chiffon_core::step_succeeded(&run, &step.id));
        let state = if done { RunState::Succeeded } else { RunState::Failed };
        self.record_end(&facts, &run, state, Change::RunResolved { run: run.id.clone(), state }).await
    }

    /// Records that a report was refused, once for each attempt: a long spool is one thing, and a fence is soon made
    /// up. Whether it did so now.
    async fn wrong_fence(&mut self, agent: &Name, report: &Report) -> Result<bool, Error> {
        if self.refused.contains(&report.key) || self.unknown.contains(&report.key) {
            return Ok(false);
        }
        let Some((facts, run, _)) = self.attempt(&report.key).await? else {
            return self.of_no_attempt(agent, report).await;
        };
        if self.refused.len() >= MAX_REFUSED {
            return Ok(false);
        }
        let summary = format!("{}: a report of {agent} with fence {} was refused", facts.name, report.fence);
        let detail = json!({ "key": report.key, "fence": report.fence, "seq": report.seq });
        let event = events::about_run(&facts, &run, kind::STALE_FENCE, summary, detail, environment::now());
        self.apply(Change::Noted, &[event]).await?;
        remember(&mut self.refused, report);
        Ok(true)
    }

    /// Puts a report aside whose attempt is not in the store, once for each attempt: after an older database was
    /// restored it may be all that is known of what ran.
    async fn of_no_attempt(&mut self, agent: &Name, report: &Report) -> Result<bool, Error> {
        if self.unknown.len() >= MAX_REFUSED {
            return Ok(false);
        }
        let AttemptKey { run, step, attempt, .. } = &report.key;
        let reason = format!("a report about an attempt that is not known: run {run} step {step} attempt {attempt}");
        self.put_aside(agent, reason, report).await?;
        remember(&mut self.unknown, report);
        Ok(true)
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

/// Remembers of which attempt a report was refused; never forgotten in this process's life, or it would be recorded
/// anew.
fn remember(attempts: &mut BTreeSet<AttemptKey>, report: &Report) {
    attempts.insert(report.key.clone());
    if attempts.len() == MAX_REFUSED {
        tracing::warn!(attempt = %report.key, "too many refused reports: no more are recorded until the next start");
    }
}

/// Sends to one agent until something does not go; the rows that went.
async fn send_in_order(hub: &dyn Hub, agent: &Name, messages: &[Outgoing]) -> Vec<i64> {
    let texts: Vec<&ToAgent> = messages.iter().map(|outgoing| &outgoing.message).collect();
    let (sent, error) = hub.send_all(agent, &texts).await;
    if let Some(error) = error {
        tracing::debug!(%agent, %error, "not published yet");
    }
    messages.iter().take(sent).map(|outgoing| outgoing.id).collect()
}

fn granted_to_started(key: &AttemptKey, fence: chiffon_schemas::Fence) -> Change {
    Change::Moved {
        key: key.clone(),
        from: AttemptState::Granted,
        to: AttemptState::Started,
        fence: Some(fence),
        boot: None,
        outcome: None,
    }
}

/// Whether a text is a version, as far as anything is made of one: it goes into plans and onto screens.
fn is_version(text: &str) -> bool {
    text.len() <= 32 && text.chars().all(|c| c.is_ascii_alphanumeric() || ".+-".contains(c))
}

fn ignore_conflict(applied: Result<chiffon_store::Applied, Error>) -> Result<(), Error> {
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
