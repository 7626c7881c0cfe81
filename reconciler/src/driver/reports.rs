//! What agents report of attempts: taken in by fence, once, and refused where another one holds the grant.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{AttemptKey, AttemptState, Fence, Name, Outcome, Report, ReportBody, RunState, ToAgent, Verdict};
use chiffon_store::{Accepted, Change};
use serde_json::json;

use super::agents::ignore_conflict;
use super::{Driver, Error};
use crate::environment;
use crate::events::{self, kind};

/// Attempts that are remembered, so that a refused report is recorded once for each: whoever makes up reports must not
/// make the record grow without end.
const MAX_REFUSED: usize = 4096;

impl Driver {
    pub(super) async fn report(&mut self, agent: &Name, report: Report) -> Result<bool, Error> {
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
}

/// Remembers of which attempt a report was refused; never forgotten in this process's life, or it would be recorded
/// anew.
fn remember(attempts: &mut BTreeSet<AttemptKey>, report: &Report) {
    attempts.insert(report.key.clone());
    if attempts.len() == MAX_REFUSED {
        tracing::warn!(attempt = %report.key, "too many refused reports: no more are recorded until the next start");
    }
}

fn granted_to_started(key: &AttemptKey, fence: Fence) -> Change {
    Change::Moved {
        key: key.clone(),
        from: AttemptState::Granted,
        to: AttemptState::Started,
        fence: Some(fence),
        boot: None,
        outcome: None,
    }
}
