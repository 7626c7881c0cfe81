//! What was decided, carried out as the driver does; and the outbox and the audit rows.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use chiffon_core::Action;
use chiffon_core::facts::{Event, RequestFacts, Run};
use chiffon_link::Hub;
use chiffon_schemas::{AttemptKey, Host, Name, Oid, Order, RunState, ToAgent};
use chiffon_store::{Change, EventFilter, Store};
use serde_json::json;

use super::{BATCH, Reconciler};
use crate::clock;

impl Reconciler {
    pub(super) async fn act(&self, facts: &RequestFacts, action: Action) -> Result<()> {
        let run = facts.run.as_ref().context("a run")?;
        match action {
            Action::Order { step, attempt, hosts, agent } => {
                let order = order_of(run, &step, attempt, &hosts)?;
                let (name, key) = (facts.name.clone(), order.key.clone());
                let change = Change::Ordered { name, key, round: run.round, hosts, agent: agent.clone() };
                self.apply(change, &[], &[(agent, ToAgent::Order(Box::new(order)))]).await
            }
            // What waited long for its claim is said again.
            Action::Reorder { step, attempt: number, from, agent } => {
                let attempt = run.attempts.iter().find(|attempt| attempt.number == number).context("an attempt")?;
                let order = order_of(run, &step, number, &attempt.hosts)?;
                let change = Change::Reordered { key: order.key.clone(), from, agent: agent.clone() };
                self.apply(change, &[], &[(agent, ToAgent::Order(Box::new(order)))]).await
            }
            Action::Grant { step, attempt } => self.grant(facts, run, &step, attempt).await,
            Action::Finish { state } => self.finish(facts, run, state).await,
            other => bail!("{}: {other:?} was not to come", facts.name),
        }
    }

    async fn grant(&self, facts: &RequestFacts, run: &Run, step: &Name, number: u32) -> Result<()> {
        let attempt = run.attempts.iter().find(|attempt| attempt.number == number).context("an attempt")?;
        let order = order_of(run, step, number, &attempt.hosts)?;
        let event = event(facts, run, "attempt-granted", json!({ "key": order.key, "hosts": attempt.hosts }));
        let change = Change::Granted {
            name: facts.name.clone(),
            key: order.key.clone(),
            boot: attempt.boot.clone().context("a life that claimed")?,
            hosts: run.plan.spec.touches.hosts.clone(),
            order: order.digest(),
        };
        self.apply(change, &[event], &[]).await
    }

    async fn finish(&self, facts: &RequestFacts, run: &Run, state: RunState) -> Result<()> {
        let started = self.store.first_grant(&run.id).await?;
        let ends = EventFilter {
            request: Some(facts.name.clone()),
            run: Some(run.id.clone()),
            kinds: vec!["run-succeeded".to_owned()],
            ..EventFilter::default()
        };
        self.store.events(self.repository, &ends).await?;
        let detail = json!({ "plan": run.plan, "started": started });
        let event = event(facts, run, "run-succeeded", detail);
        self.apply(Change::RunFinished { run: run.id.clone(), state, voided: false }, &[event], &[]).await?;
        self.drain_audit().await
    }

    /// Marks events as written, without a commit that holds them.
    pub(super) async fn drain_audit(&self) -> Result<()> {
        while !self.all_audited.load(Ordering::Relaxed) {
            let waiting = self.store.unaudited(self.repository, BATCH).await?;
            self.all_audited.store(waiting.len() < BATCH as usize, Ordering::Relaxed);
            for group in waiting.chunk_by(|one, next| one.request == next.request) {
                let ids: Vec<_> = group.iter().map(|event| event.id.clone()).collect();
                if let Some(name) = group.first().and_then(|event| event.request.as_ref()) {
                    self.store.facts(self.repository, name).await?;
                    self.world().await?;
                }
                let commit = Oid::parse("a".repeat(40)).expect("40 digits are an object id");
                self.store.audited(self.repository, &ids, &commit).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn relay(&self) -> Result<()> {
        let mut after = 0;
        loop {
            let waiting = self.store.outgoing(after, BATCH).await?;
            let Some(last) = waiting.last() else { return Ok(()) };
            after = last.id;
            let messages: Vec<&ToAgent> = waiting.iter().map(|outgoing| &outgoing.message).collect();
            let (_, error) = self.hub.send_all(&last.agent, &messages).await;
            error.map_or(Ok(()), Err)?;
            self.store.sent(&waiting.iter().map(|outgoing| outgoing.id).collect::<Vec<_>>()).await?;
            if waiting.len() < BATCH as usize {
                return Ok(());
            }
        }
    }
}

fn order_of(run: &Run, step: &Name, attempt: u32, hosts: &[Host]) -> Result<Order> {
    let mut planned = run.plan.spec.steps.iter().find(|planned| &planned.id == step).context("a step")?.clone();
    planned.limit = hosts.to_vec();
    Ok(Order {
        key: AttemptKey {
            run: run.id.clone(),
            plan: run.plan_oid.clone(),
            mode: run.plan.spec.mode,
            step: step.clone(),
            attempt,
        },
        approved_by: run.approval.commit.clone(),
        plan_path: run.plan_path.clone(),
        infra: run.plan.spec.infra.clone(),
        step: planned,
    })
}

fn event(facts: &RequestFacts, run: &Run, kind: &str, detail: serde_json::Value) -> Event {
    Event {
        id: clock::event_id(),
        kind: kind.to_owned(),
        request: Some(facts.name.clone()),
        request_oid: facts.file.oid().cloned(),
        plan: Some(run.plan_oid.clone()),
        run: Some(run.id.clone()),
        hosts: run.plan.spec.touches.hosts.clone(),
        services: run.plan.spec.touches.services.clone(),
        summary: format!("{}: {kind}", facts.name),
        detail,
        at: clock::now(),
    }
}
