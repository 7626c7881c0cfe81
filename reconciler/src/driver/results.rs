//! Ends runs: works the result out from the attempts and records it.

use chiffon_core::facts::{Attempt, RequestFacts, Run};
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{
    ApiVersion, AttemptResult, Failure, ResultKind, RunResult, RunResultSpec, RunState, Span, StepResult, Timestamp,
    TraceParent,
};
use chiffon_store::{Change, EventFilter};
use serde_json::json;

use super::{Driver, Error, blocking};
use crate::environment;
use crate::events;

impl Driver {
    /// Ends a run, or voids it where it was refused before it began.
    pub(super) async fn finish(&mut self, facts: &RequestFacts, state: RunState, voided: bool) -> Result<bool, Error> {
        let Some(run) = &facts.run else { return Ok(false) };
        self.freed_hosts = true;
        let change = Change::RunFinished { run: run.id.clone(), state, voided };
        if voided {
            self.apply(change, &[]).await?;
        } else {
            self.record_end(facts, run, state, change).await?;
        }
        if state == RunState::Succeeded
            && let Some(infra) = &self.infra
        {
            // What succeeded is not retried, so nothing needs its commit any more.
            blocking(|| infra.unpin(&run.plan_oid))?;
            crash_point("commit-unpinned");
        }
        Ok(true)
    }

    /// Records the end of a run together with its result.
    pub(super) async fn record_end(
        &mut self,
        facts: &RequestFacts,
        run: &Run,
        state: RunState,
        change: Change,
    ) -> Result<(), Error> {
        let now = environment::now();
        let started = self.store.first_grant(&run.id).await?;
        let result = result_of(facts, run, state, started, now);
        let summary = summary_of(facts, run, &result);
        let number = self.ends_of(facts, run).await? + 1;
        let detail = json!({ "result": result, "number": number, "round": run.round, "approved_at": run.approved_at });
        let event = events::about_run(facts, run, &events::kind::run(state), summary, detail, now);
        self.apply(change, &[event]).await?;
        crash_point("result-row-written");
        self.drain_audit().await?;
        crash_point("result-audited");
        self.record_run(facts, run, state);
        Ok(())
    }

    /// The run as a whole, for its trace: it begins with its approval.
    fn record_run(&self, facts: &RequestFacts, run: &Run, state: RunState) {
        self.recorder.take(|| Span {
            name: "run",
            at: TraceParent::of_run(&run.id),
            parent: None,
            began_ms: chiffon_schemas::began_ms(&run.id),
            ended_ms: self.recorder.now(),
            facts: vec![
                ("chiffon.request", facts.name.to_string()),
                ("chiffon.run", run.id.to_string()),
                ("chiffon.plan", run.plan_oid.to_string()),
                ("chiffon.state", state.as_str().to_owned()),
            ],
            failure: (state != RunState::Succeeded).then(|| state.as_str().to_owned()),
        });
    }

    /// How often the end of a run was recorded so far: a result is never rewritten, also where a person or a late report
    /// tells later how a lost run ended.
    async fn ends_of(&self, facts: &RequestFacts, run: &Run) -> Result<usize, Error> {
        let ends = [RunState::Succeeded, RunState::Failed, RunState::Cancelled, RunState::Lost];
        let filter = EventFilter {
            request: Some(facts.name.clone()),
            run: Some(run.id.clone()),
            kinds: ends.map(events::kind::run).to_vec(),
            ..EventFilter::default()
        };
        Ok(self.store.events(self.repository, &filter).await?.len())
    }
}

/// The result of a run as it stands.
pub(super) fn result_of(
    facts: &RequestFacts,
    run: &Run,
    state: RunState,
    started: Option<Timestamp>,
    finished: Timestamp,
) -> RunResult {
    let steps = run.plan.spec.steps.iter().map(|step| StepResult {
        id: step.id.clone(),
        playbook: step.playbook.clone(),
        attempts: run.attempts_of(&step.id).map(attempt_result).collect(),
    });
    let suggestions = run.attempts.iter().filter_map(|attempt| attempt.outcome.as_ref());
    let mut suggestions: Vec<String> = suggestions.flat_map(|outcome| outcome.suggestions.iter().cloned()).collect();
    suggestions.sort();
    suggestions.dedup();
    RunResult {
        api_version: ApiVersion::V1,
        kind: ResultKind::Result,
        spec: RunResultSpec {
            request: facts.name.clone(),
            plan: run.plan_oid.clone(),
            run: run.id.clone(),
            mode: run.plan.spec.mode,
            state,
            approval: run.approval.clone(),
            started,
            finished,
            steps: steps.collect(),
            failure: if state == RunState::Succeeded { None } else { failure_of(run) },
            suggestions,
        },
    }
}

fn attempt_result(attempt: &Attempt) -> AttemptResult {
    AttemptResult {
        attempt: attempt.number,
        state: attempt.state,
        agent: Some(attempt.agent.clone()),
        fence: attempt.fence,
        outcome: attempt.outcome.clone(),
    }
}

/// The first cause of this round, with the steps that never began.
pub(super) fn failure_of(run: &Run) -> Option<Failure> {
    let round = || run.attempts.iter().filter(|attempt| attempt.round == run.round);
    let mut failure = round().find_map(|attempt| attempt.outcome.as_ref()?.failure.clone()).or_else(|| {
        let attempt = round().find(|attempt| attempt.state == chiffon_schemas::AttemptState::Lost)?;
        Some(Failure {
            host: None,
            task: None,
            cause: format!("the agent {} vanished in mid-step: how far it came is not known", attempt.agent),
            excerpt: String::new(),
            done: Vec::new(),
            not_started: Vec::new(),
            retry_safe: false,
        })
    })?;
    for step in &run.plan.spec.steps {
        if run.attempts_of(&step.id).next().is_none() {
            failure.not_started.push(format!("step {}", step.id));
        }
    }
    Some(failure)
}

/// `uptime-kuma: succeeded on nas01 in 38 s (9 changed, 5 ok)`; of a check, what would have been changed.
fn summary_of(facts: &RequestFacts, run: &Run, result: &RunResult) -> String {
    let outcomes = || run.attempts.iter().filter_map(|attempt| attempt.outcome.as_ref());
    let millis: u64 = outcomes().map(|outcome| outcome.duration_ms).sum();
    let changed: u32 = outcomes().flat_map(|outcome| outcome.recap.values()).map(|recap| recap.changed).sum();
    // Ansible counts a changed task as ok too.
    let ok: u32 = outcomes().flat_map(|outcome| outcome.recap.values()).map(|recap| recap.ok).sum();
    let ok = ok.saturating_sub(changed);
    let hosts: Vec<&str> = run.plan.spec.touches.hosts.iter().map(|host| host.as_str()).collect();
    let head = format!("{}: {} on {}", facts.name, result.spec.state.as_str(), hosts.join(", "));
    match (&result.spec.failure, outcomes().next()) {
        (Some(failure), _) => {
            let task = failure.task.as_ref().map_or(String::new(), |task| format!(" at {task}"));
            format!("{head}{task}: {}", failure.cause)
        }
        (None, Some(_)) => {
            let changed = super::pages::changes(run.plan.spec.mode, changed);
            format!("{head} in {} s ({changed}, {ok} ok)", millis.div_ceil(1000))
        }
        (None, None) => head,
    }
}
