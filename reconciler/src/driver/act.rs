//! Carries out what was decided: one action at a time, each harmless when it is repeated.

use std::sync::atomic::Ordering;

use chiffon_core::facts::{Offer, OfferState, PullState, Refusal, RefusalReason, RequestFacts, Run, World};
use chiffon_core::{Action, Approval, Freshness, PlanningReason, Verdict, gate};
use chiffon_forge::Shown;
use chiffon_requests::RefName;
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{
    ApprovalRecord, AttemptKey, AttemptState, Established, Host, Name, Oid, Order, RunState, Timestamp, ToAgent,
};
use chiffon_store::Change;
use serde_json::json;

use super::{Driver, Error, blocking};
use crate::environment;
use crate::events::{self, kind};

/// After so many seconds an agent that has not stopped is told again.
const STOP_AGAIN_SECS: i64 = 30;

/// Clocks of people and of the reconciler may differ by this, in seconds.
const CLOCKS_APART: i64 = 300;

impl Driver {
    /// Carries out one action. False when nothing could be done now, so that the round ends.
    pub(super) async fn act(&mut self, facts: &RequestFacts, world: &World, action: Action) -> Result<bool, Error> {
        match action {
            Action::Plan { reason } => self.plan(facts, world, reason).await,
            // What the commit goes on top of, `show` finds on the branch.
            Action::TakeEdit { tip: _, blob } => self.take_edit(facts, world, blob).await,
            Action::Show { plan } => self.show(facts, &plan).await,
            Action::Propose { plan } => self.propose(facts, &plan).await,
            Action::AskForge => Ok(self.ask_forge(facts)),
            Action::Close { plan, state } => self.close(facts, &plan, state).await,
            Action::RemoveBranch => self.remove_branch(facts).await,
            Action::Approve { plan } => self.approve(facts, world, &plan).await,
            Action::Refuse { blob, reason, why } => self.refuse(facts, blob, reason, why).await,
            Action::Order { step, attempt, hosts, agent } => self.order(facts, &step, attempt, hosts, agent).await,
            Action::Grant { step, attempt } => self.grant(facts, world, &step, attempt).await,
            Action::Drop { step, attempt, from } => self.drop_attempt(facts, &step, attempt, from).await,
            Action::Stop { step, attempt } => self.stop(facts, &step, attempt).await,
            Action::Reorder { step, attempt, from, agent } => self.reorder(facts, &step, attempt, from, agent).await,
            Action::Lose { step, attempt, from } => self.lose(facts, &step, attempt, from).await,
            Action::Finish { state } => self.finish(facts, state, false).await,
            Action::Void { reason } => self.void(facts, reason).await,
            Action::EndPause => self.end_pause(facts).await,
        }
    }

    /// One change with its events.
    pub(super) async fn apply(
        &self,
        change: Change,
        events: &[chiffon_core::facts::Event],
    ) -> Result<chiffon_store::Applied, Error> {
        self.change(change, events, &[]).await
    }

    /// One change with its events and messages. What all requests share may be otherwise afterwards.
    pub(super) async fn change(
        &self,
        change: Change,
        events: &[chiffon_core::facts::Event],
        messages: &[(Name, ToAgent)],
    ) -> Result<chiffon_store::Applied, Error> {
        if !events.is_empty() {
            self.all_audited.store(false, Ordering::Relaxed);
        }
        let alters_ground = change.alters_ground();
        let applied = self.store.apply(self.repository, change, events, messages, environment::now()).await;
        // Refused, it says that somebody else changed something.
        if alters_ground || applied.is_err() {
            self.forget_ground();
        }
        Ok(applied?)
    }

    async fn show(&mut self, facts: &RequestFacts, plan: &Oid) -> Result<bool, Error> {
        let Some(offer) = facts.offers.iter().find(|offer| &offer.plan_oid == plan) else { return Ok(false) };
        // The record comes before anything that a reviewer can see.
        self.drain_audit().await?;
        let proposal = self.proposal(facts, offer).await?;
        if proposal.on_top_of.is_none() {
            self.keep_foreign_tip(facts).await?;
        }
        let seen = facts.plan_branch.as_ref().map(|branch| &branch.tip);
        let commit = match blocking(|| self.plain.show(&proposal, seen))? {
            Shown::There(commit) => commit,
            // Once the forge's branch is there, the next look finds it.
            Shown::Prepared(commit) => {
                self.push_branch(facts, Some(commit))?;
                return Ok(false);
            }
        };
        crash_point("plan-branch-moved");
        self.apply(Change::OfferShown { name: facts.name.clone(), plan: plan.clone(), commit }, &[]).await?;
        crash_point("offer-shown");
        Ok(true)
    }

    /// Removes a plan branch that shows nothing any more. What somebody else committed there is kept and named first.
    async fn remove_branch(&mut self, facts: &RequestFacts) -> Result<bool, Error> {
        let Some(branch) = &facts.plan_branch else { return Ok(false) };
        self.keep_foreign_tip(facts).await?;
        self.drain_audit().await?;
        if self.forge.is_some() {
            self.push_branch(facts, None)?;
            return Ok(false);
        }
        blocking(|| self.plain.remove(&facts.name, &branch.tip))?;
        Ok(true)
    }

    /// Keeps a commit of somebody else's that a plan branch is about to lose, under a reference of its own, and says so.
    async fn keep_foreign_tip(&mut self, facts: &RequestFacts) -> Result<(), Error> {
        let Some(branch) = &facts.plan_branch else { return Ok(()) };
        let known = blocking(|| self.plain.is_ours(&branch.tip, facts))?;
        if known {
            return Ok(());
        }
        let kept = blocking(|| self.requests.keep(&facts.name, &branch.tip))?;
        let summary = format!(
            "{}: a commit on its plan branch was not offered: {} is kept as {kept}",
            facts.name,
            branch.tip.short()
        );
        let detail = json!({ "commit": branch.tip, "reference": kept.as_str() });
        let event = events::about(facts, kind::KEPT, summary, detail, environment::now());
        self.apply(Change::Noted, &[event]).await?;
        Ok(())
    }

    pub(super) async fn close(&mut self, facts: &RequestFacts, plan: &Oid, state: OfferState) -> Result<bool, Error> {
        let Some(offer) = facts.offers.iter().find(|offer| &offer.plan_oid == plan) else { return Ok(false) };
        // A merge that takes its branch away moves `main` first: what is missing on the branch may be there by now.
        if state == OfferState::Rejected && self.main_moved().await? {
            self.looks.insert(facts.name.clone(), environment::now());
            return Ok(false);
        }
        let summary = format!("{}: offer {} closed: {}", facts.name, offer.revision(), state.as_str());
        let event = events::about_offer(
            facts,
            offer,
            kind::CLOSED,
            summary,
            json!({ "state": state, "plan_path": offer.path }),
            environment::now(),
        );
        let change = Change::OfferClosed { name: facts.name.clone(), plan: plan.clone(), state };
        self.apply(change, &[event]).await?;
        Ok(true)
    }

    async fn refuse(
        &mut self,
        facts: &RequestFacts,
        blob: Oid,
        reason: RefusalReason,
        why: Option<String>,
    ) -> Result<bool, Error> {
        let now = environment::now();
        let refusal = Refusal { blob, reason, at: now, why };
        let event = events::refused(facts, &refusal, super::pages::refusal_in_words(reason), now);
        self.apply(Change::Refused { name: facts.name.clone(), refusal }, &[event]).await?;
        Ok(true)
    }

    /// Approves: judges once more by the gate, pins the commit, and creates the run. What does not lie on `main` is approved
    /// only where policy exempts it from that.
    async fn approve(&mut self, facts: &RequestFacts, world: &World, plan: &Oid) -> Result<bool, Error> {
        let Some(offer) = facts.offers.iter().find(|offer| &offer.plan_oid == plan) else { return Ok(false) };
        let merged = facts.plan_on_main.as_ref() == Some(plan);
        match self.judge(facts, offer, if merged { Approval::Merged } else { Approval::None })? {
            Verdict::Allow { .. } => {}
            Verdict::NeedsPerson { .. } => return Ok(false),
            Verdict::Deny { reasons } => {
                tracing::warn!(request = %facts.name, ?reasons, "the gate denies what was to be approved");
                self.refuse(facts, plan.clone(), RefusalReason::Denied, Some(reasons.join("; "))).await?;
                return self.close(facts, plan, OfferState::Refused).await;
            }
        }
        if !merged && !blocking(|| self.is_on_infra_branch(&offer.plan.spec.infra.commit, world))? {
            return self.close(facts, plan, OfferState::Stale).await;
        }
        // What it says of the run before is told first: then that is not the last one any more.
        if !merged && self.is_being_shown(facts) {
            return Ok(false);
        }
        let approval = if merged { self.approval_of(facts, offer)? } else { self.approval_by_policy(offer).await? };
        let Some(approval) = approval else { return Ok(false) };
        if merged && let Some(why) = self.unsigned(&approval.commit, offer.at)? {
            let why = format!("commit {} is not signed by a listed key: {why}", approval.commit.short());
            self.refuse(facts, plan.clone(), RefusalReason::NotAllowed, Some(why)).await?;
            return self.close(facts, plan, OfferState::Refused).await;
        }
        self.pin(plan, &offer.plan.spec.infra.commit)?;
        crash_point("commit-pinned");
        let run = self.new_run(offer, approval);
        let event = events::about_run(
            facts,
            &run,
            kind::APPROVED,
            format!("{}: approved by {}", facts.name, super::pages::approved_by(&run.approval)),
            json!({ "approval": run.approval, "plan_path": offer.path }),
            environment::now(),
        );
        self.apply(Change::Approved { name: facts.name.clone(), run: Box::new(run) }, &[event]).await?;
        crash_point("approval-recorded");
        Ok(true)
    }

    /// What stands for an approval where policy exempts a plan: an audit commit that holds the offer. On a forge it has to be
    /// there first, since agents look for it there; nothing until then.
    async fn approval_by_policy(&mut self, offer: &Offer) -> Result<Option<ApprovalRecord>, Error> {
        self.drain_audit().await?;
        let Some(ours) = self.cursor().await?.audit else { return Ok(None) };
        let commit = match self.forge {
            None => Some(ours),
            Some(_) => blocking(|| self.recorded_on_forge(&ours))?,
        };
        let holds = |commit: &Oid| self.requests.blob_at(commit, &offer.path).map(|entry| entry.map(|entry| entry.oid));
        let held = commit.as_ref().map(|commit| blocking(|| holds(commit))).transpose()?.flatten();
        let Some(commit) = commit.filter(|_| held.as_ref() == Some(&offer.plan_oid)) else {
            self.push_audit()?;
            return Ok(None);
        };
        Ok(Some(ApprovalRecord {
            commit,
            by: None,
            approved_by: Vec::new(),
            pull: None,
            established: Established::Policy,
            config_digest: self.config.digest.clone(),
        }))
    }

    /// Whether the infra branch, as it is now, has a commit: what nobody merges may run only what somebody merged there.
    fn is_on_infra_branch(&self, commit: &Oid, world: &World) -> Result<bool, chiffon_requests::Error> {
        let (Some(tip), Some(infra)) = (&world.infra, &self.infra) else { return Ok(false) };
        Ok(commit == tip || infra.is_ancestor(commit, tip)?)
    }

    /// The audit commit that is on the forge, where it is one of ours.
    fn recorded_on_forge(&self, ours: &Oid) -> Result<Option<Oid>, chiffon_requests::Error> {
        let Some(there) = self.requests.reference(&RefName::forge_audit())? else { return Ok(None) };
        let is_ours = &there == ours || self.requests.is_ancestor(&there, ours)?;
        Ok(is_ours.then_some(there))
    }

    /// Who approved an offer, and how that is known: what the forge said, or else git.
    fn approval_of(&self, facts: &RequestFacts, offer: &Offer) -> Result<Option<ApprovalRecord>, Error> {
        let Some(main) = blocking(|| self.requests.reference(&self.main()))? else { return Ok(None) };
        let signed = self.config.policy.approval.signers.is_some();
        let record = |commit, by, established| ApprovalRecord {
            commit,
            by,
            approved_by: Vec::new(),
            pull: None,
            established: if signed { Established::Signed } else { established },
            config_digest: self.config.digest.clone(),
        };
        if let (Some(_), Some(pull)) = (&self.forge, &facts.pull)
            && let PullState::Merged { commit: Some(commit), by } = &pull.state
        {
            let others = pull.approved_by.iter().filter(|login| by.as_ref() != Some(login)).cloned().collect();
            let merged = record(commit.clone(), by.clone(), Established::Forge);
            return Ok(Some(ApprovalRecord { approved_by: others, pull: Some(pull.number), ..merged }));
        }
        let (commit, by) = blocking(|| self.plain.approval(&main, offer))?;
        Ok(Some(record(commit, by, Established::Claimed)))
    }

    /// Why a commit is not signed as policy asks for; nothing where it is, or policy does not ask (S3).
    fn unsigned(&self, commit: &Oid, offered: Timestamp) -> Result<Option<String>, Error> {
        let Some(signers) = &self.config.policy.approval.signers else { return Ok(None) };
        let git = crate::mirror::git(&self.environment);
        if let Err(why) = blocking(|| git.verify_commit(self.requests.path(), commit, signers))? {
            return Ok(Some(why));
        }
        // A key counts for the time that the commit claims: it can't have been made before what it approves.
        let made = blocking(|| self.requests.commit_info(commit))?.committer.time;
        Ok((made < offered.plus_secs(-CLOCKS_APART))
            .then(|| format!("it says that it was made at {made}, before its plan")))
    }

    fn new_run(&self, offer: &Offer, approval: ApprovalRecord) -> Run {
        Run {
            id: environment::run_id(),
            plan_oid: offer.plan_oid.clone(),
            plan: offer.plan.clone(),
            plan_path: offer.path.clone(),
            approval,
            approved_at: environment::now(),
            round: 1,
            cancel: false,
            state: None,
            finished_at: None,
            voided: false,
            attempts: Vec::new(),
        }
    }

    /// Whether `main` is elsewhere than where it was last read.
    async fn main_moved(&self) -> Result<bool, Error> {
        let main = blocking(|| self.requests.reference(&self.main()))?;
        Ok(main != self.store.cursor(self.repository).await?.main)
    }

    /// What the gate says of an offer now, against the catalogue of the commit that it pins.
    ///
    /// # Errors
    /// The catalogue can't be read, which says nothing about the plan: it is judged once it can.
    fn judge(&mut self, facts: &RequestFacts, offer: &Offer, approval: Approval) -> Result<Verdict, Error> {
        let commit = &offer.plan.spec.infra.commit;
        let catalogue = self.catalogue_at(commit).map_err(|reason| {
            Error::Infra(format!(
                "the plan of {} is not judged yet: infra commit {}: {reason}",
                facts.name,
                commit.short()
            ))
        })?;
        Ok(gate(&offer.plan, &catalogue, &self.config.policy, approval))
    }

    async fn order(
        &mut self,
        facts: &RequestFacts,
        step: &Name,
        attempt: u32,
        hosts: Vec<Host>,
        agent: Name,
    ) -> Result<bool, Error> {
        let Some(run) = &facts.run else { return Ok(false) };
        let Some(order) = order_of(run, step, attempt, &hosts) else { return Ok(false) };
        let change = Change::Ordered {
            name: facts.name.clone(),
            key: order.key.clone(),
            round: run.round,
            hosts,
            agent: agent.clone(),
        };
        let messages = [(agent, ToAgent::Order(Box::new(order)))];
        self.change(change, &[], &messages).await?;
        crash_point("order-recorded");
        Ok(true)
    }

    async fn grant(&mut self, facts: &RequestFacts, _: &World, step: &Name, number: u32) -> Result<bool, Error> {
        let Some(run) = &facts.run else { return Ok(false) };
        let Some(attempt) = run.attempts_of(step).find(|attempt| attempt.number == number) else { return Ok(false) };
        let Some(boot) = attempt.boot.clone() else { return Ok(false) };
        let planned = run.plan.spec.steps.iter().find(|planned| &planned.id == step);
        // The run locks all that it touches, hosts that tasks delegate to included; nobody comes in between its steps.
        let hosts = run.plan.spec.touches.hosts.clone();
        let key = key_of(run, step, number);
        let event = events::about_run(
            facts,
            run,
            kind::GRANTED,
            format!("{}: {step} granted to {} (attempt {number})", facts.name, attempt.agent),
            json!({
                "key": key,
                "agent": attempt.agent,
                "hosts": attempt.hosts,
                "playbook": planned.map(|planned| planned.playbook.clone()),
            }),
            environment::now(),
        );
        let Some(order) = order_of(run, step, number, &attempt.hosts).map(|order| order.digest()) else {
            return Ok(false);
        };
        let change = Change::Granted { name: facts.name.clone(), key, boot, hosts, order };
        match self.apply(change, &[event]).await {
            Ok(_) => {
                crash_point("grant-recorded");
                Ok(true)
            }
            // Another run was faster; it will show as paused, and its end wakes us.
            Err(Error::Store(chiffon_store::Error::Locked { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends an attempt that was not granted.
    async fn drop_attempt(
        &mut self,
        facts: &RequestFacts,
        step: &Name,
        number: u32,
        from: AttemptState,
    ) -> Result<bool, Error> {
        let Some(run) = &facts.run else { return Ok(false) };
        let Some(attempt) = run.attempts_of(step).find(|attempt| attempt.number == number) else { return Ok(false) };
        let key = key_of(run, step, number);
        let change = moved(&key, from, AttemptState::Cancelled);
        let refuse = ToAgent::Refuse { key, reason: "the run was stopped before it was granted".to_owned() };
        let messages = [(attempt.agent.clone(), refuse)];
        self.change(change, &[], &messages).await?;
        Ok(true)
    }

    /// Tells the agent once in this process's life; after a restart once more, which is harmless.
    async fn stop(&mut self, facts: &RequestFacts, step: &Name, number: u32) -> Result<bool, Error> {
        let Some(run) = &facts.run else { return Ok(false) };
        let Some(attempt) = run.attempts_of(step).find(|attempt| attempt.number == number) else { return Ok(false) };
        let key = key_of(run, step, number);
        let now = environment::now();
        // It may have been lost with all that a broker held; heard twice, it is the same wish.
        if self.stops_sent.get(&key).is_none_or(|sent| sent.plus_secs(STOP_AGAIN_SECS) <= now) {
            self.stops_sent.insert(key.clone(), now);
            let cancel = ToAgent::Cancel { key };
            self.store.send(&[(attempt.agent.clone(), cancel)], now).await?;
        }
        Ok(false)
    }

    async fn reorder(
        &mut self,
        facts: &RequestFacts,
        step: &Name,
        number: u32,
        from: AttemptState,
        agent: Name,
    ) -> Result<bool, Error> {
        let Some(run) = &facts.run else { return Ok(false) };
        let Some(attempt) = run.attempts_of(step).find(|attempt| attempt.number == number) else { return Ok(false) };
        let Some(order) = order_of(run, step, number, &attempt.hosts) else { return Ok(false) };
        let change = Change::Reordered { key: order.key.clone(), from, agent: agent.clone() };
        let messages = [(agent, ToAgent::Order(Box::new(order)))];
        self.change(change, &[], &messages).await?;
        Ok(true)
    }

    pub(super) async fn lose(
        &mut self,
        facts: &RequestFacts,
        step: &Name,
        number: u32,
        from: AttemptState,
    ) -> Result<bool, Error> {
        let Some(run) = &facts.run else { return Ok(false) };
        let key = key_of(run, step, number);
        let summary = format!("{}: {step} (attempt {number}) is lost: its agent vanished in mid-step", facts.name);
        let event = events::about_run(facts, run, kind::LOST, summary, json!({ "key": key }), environment::now());
        self.apply(moved(&key, from, AttemptState::Lost), &[event]).await?;
        Ok(true)
    }

    async fn void(&mut self, facts: &RequestFacts, reason: RefusalReason) -> Result<bool, Error> {
        let Some(run) = &facts.run else { return Ok(false) };
        self.refuse(facts, run.plan_oid.clone(), reason, None).await?;
        self.finish(facts, RunState::Cancelled, true).await
    }

    async fn end_pause(&mut self, facts: &RequestFacts) -> Result<bool, Error> {
        let event = events::about(
            facts,
            kind::RESUMED,
            format!("{}: its pause is over", facts.name),
            json!({}),
            environment::now(),
        );
        self.apply(Change::PauseSet { name: facts.name.clone(), pause: None }, &[event]).await?;
        Ok(true)
    }

    /// Whether what a run's plan reads is as it was, for a retry.
    pub(super) fn run_freshness(&mut self, run: &Run, world: &World) -> Freshness {
        self.freshness(&run.plan_oid, &run.plan.spec.reads, world.infra.as_ref())
    }

    /// Plans again, or records that a person has to decide.
    async fn plan(&mut self, facts: &RequestFacts, world: &World, reason: PlanningReason) -> Result<bool, Error> {
        tracing::info!(request = %facts.name, reason = reason.as_str(), "planning");
        self.make_plan(facts, world).await
    }
}

/// The key of an attempt.
pub(super) fn key_of(run: &Run, step: &Name, attempt: u32) -> AttemptKey {
    AttemptKey {
        run: run.id.clone(),
        plan: run.plan_oid.clone(),
        mode: run.plan.spec.mode,
        step: step.clone(),
        attempt,
    }
}

/// The order of an attempt: the planned step, on these hosts.
pub(super) fn order_of(run: &Run, step: &Name, attempt: u32, hosts: &[Host]) -> Option<Order> {
    let mut planned = run.plan.spec.steps.iter().find(|planned| &planned.id == step)?.clone();
    planned.limit = hosts.to_vec();
    Some(Order {
        key: key_of(run, step, attempt),
        approved_by: run.approval.commit.clone(),
        plan_path: run.plan_path.clone(),
        infra: run.plan.spec.infra.clone(),
        step: planned,
    })
}

/// A move without fence, life or outcome.
pub(super) fn moved(key: &AttemptKey, from: AttemptState, to: AttemptState) -> Change {
    Change::Moved { key: key.clone(), from, to, fence: None, boot: None, outcome: None }
}
