//! What goes to agents and comes back unread: the outbox to the bus, who has a place there, and what is put aside.

use std::collections::BTreeMap;

use chiffon_link::{Hub, Parked};
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{Direction, Name, Timestamp, ToAgent};
use chiffon_store::{NewParked, Outgoing};
use futures_util::future::join_all;

use super::{Driver, Error};
use crate::environment;

/// How many messages the relay takes from the outbox at a time.
const RELAY_BATCH: u32 = 64;

/// How long nothing is sent to an agent whose queue took nothing: each try holds up the loop for as long as a sender waits.
const UNREACHED_SECS: i64 = 30;

/// How much of a message that was put aside is kept, in bytes.
const MAX_HEAD: usize = 4096;

/// How many messages that were put aside one tick takes.
const PARKED_BATCH: usize = 64;

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
            let hub = &*self.hub;
            let sending = by_agent.iter().map(|(agent, messages)| send_in_order(hub, agent, messages));
            // Nobody will ever take what waits for an agent that was sent away.
            let mut sent: Vec<i64> = strangers.iter().map(|outgoing| outgoing.id).collect();
            for (agent, done) in by_agent.keys().zip(join_all(sending).await) {
                if done.len() < by_agent[agent].len() {
                    self.unreached.insert(agent.clone(), environment::now().plus_secs(UNREACHED_SECS));
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
    pub(super) fn has_place(&self, agent: &Name) -> bool {
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
    pub(super) async fn put_aside(
        &mut self,
        agent: &Name,
        reason: String,
        message: &impl serde::Serialize,
    ) -> Result<(), Error> {
        let bytes = serde_json::to_vec(message).unwrap_or_default();
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_HEAD)]).into_owned();
        let (agent, direction) = (agent.clone(), Direction::FromAgent);
        let parked = NewParked { agent, direction, reason, head, size: bytes.len() };
        self.store.park(&parked, environment::now()).await?;
        self.put_aside.push(parked);
        Ok(())
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
