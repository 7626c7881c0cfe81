//! What is next for a run: silent agents, cancelling, ordering, granting, and its end. Pure, as all of `decide` is.

use chiffon_schemas::{AttemptState, Host, Name, RunState};

use super::{Action, Draft, Freshness};
use crate::facts::{Attempt, RefusalReason, RequestFacts, Run, World};
use crate::gate::is_exempt;
use crate::state;

/// Brings a run forward: silent agents, cancelling, ordering, granting, finishing.
pub(super) fn advance_run(facts: &RequestFacts, run: &Run, world: &World, draft: &mut Draft) {
    if !run.begun() && !still_approved(facts, run, world) {
        end_early(run, RunState::Cancelled, draft);
        return;
    }
    notice_silence(run, world, draft);
    if !draft.actions.is_empty() {
        return;
    }
    if run.cancel {
        cancel_run(run, draft);
        return;
    }
    drop_what_follows_a_failure(run, draft);
    if !draft.actions.is_empty() {
        return;
    }
    if state::all_over(run) && over(run, draft) {
        return;
    }
    if !run.begun() && world.now > run.plan.metadata.expires {
        for attempt in run.attempts.iter().filter(|attempt| state::is_live(attempt.state)) {
            draft.actions.push(drop_of(attempt));
        }
        draft.actions.push(Action::Void { reason: RefusalReason::Expired });
        return;
    }
    go_on(facts, run, world, draft);
}

/// Whether what approved a run is as it was: its plan on `main`, or the policy and the request that let it begin.
fn still_approved(facts: &RequestFacts, run: &Run, world: &World) -> bool {
    if !run.by_policy() {
        return facts.plan_on_main.as_ref() == Some(&run.plan_oid);
    }
    // A file that only moved is the same request.
    is_exempt(&run.plan, &world.policy) && facts.file.oid() == Some(&run.plan.metadata.request.oid)
}

/// After a failure nothing more begins in this round: what is not granted yet never will be.
fn drop_what_follows_a_failure(run: &Run, draft: &mut Draft) {
    if run.attempts.iter().any(|attempt| attempt.round == run.round && ended_badly(attempt)) {
        let waits = |attempt: &&Attempt| matches!(attempt.state, AttemptState::Ordered | AttemptState::Claimed);
        draft.actions.extend(run.attempts.iter().filter(waits).map(drop_of));
    }
}

fn ended_badly(attempt: &Attempt) -> bool {
    attempt.state.is_final() && attempt.state != AttemptState::Succeeded
}

fn drop_of(attempt: &Attempt) -> Action {
    Action::Drop { step: attempt.step.clone(), attempt: attempt.number, from: attempt.state }
}

/// Ends a run of which nothing was granted.
fn end_early(run: &Run, state: RunState, draft: &mut Draft) {
    for attempt in run.attempts.iter().filter(|attempt| state::is_live(attempt.state)) {
        draft.actions.push(drop_of(attempt));
    }
    draft.actions.push(Action::Finish { state });
}

/// R4: a silent agent's attempts go back to `ordered` before a grant, and become `lost` after one. Silence counts from
/// when the reconciler last began to listen: while it was deaf, nobody was silent.
fn notice_silence(run: &Run, world: &World, draft: &mut Draft) {
    let silence = i64::from(world.policy.agent_silence_secs);
    for attempt in run.attempts.iter().filter(|attempt| state::is_live(attempt.state)) {
        let agent = world.agents.get(&attempt.agent);
        let same_life = agent.is_some_and(|agent| attempt.boot.as_ref().is_none_or(|boot| boot == &agent.boot));
        let silent_at = agent.map(|agent| agent.heard.max(world.listening_since).plus_secs(silence));
        if same_life && let Some(at) = silent_at.filter(|at| *at >= world.now) {
            draft.look(at.plus_secs(1));
            if attempt.state == AttemptState::Ordered {
                order_again(attempt, silence, world, draft);
            }
            continue;
        }
        let (step, number) = (attempt.step.clone(), attempt.number);
        match attempt.state {
            AttemptState::Granted | AttemptState::Started => {
                draft.actions.push(Action::Lose { step, attempt: number, from: attempt.state });
            }
            AttemptState::Ordered | AttemptState::Claimed => draft.actions.extend(reorder(attempt, run, world)),
            AttemptState::Succeeded | AttemptState::Failed | AttemptState::Cancelled | AttemptState::Lost => {}
        }
    }
}

/// An order that nobody claimed may have been lost with all that a broker held: it is said again, since an agent that has
/// it passes over it.
fn order_again(attempt: &Attempt, silence: i64, world: &World, draft: &mut Draft) {
    let due = attempt.since.plus_secs(silence);
    if due > world.now {
        return draft.look(due);
    }
    draft.actions.push(Action::Reorder {
        step: attempt.step.clone(),
        attempt: attempt.number,
        from: attempt.state,
        agent: attempt.agent.clone(),
    });
}

/// What its agent will not begin goes to one that is there. An order stays with an agent that is away where no other
/// one is: it may come back.
fn reorder(attempt: &Attempt, run: &Run, world: &World) -> Option<Action> {
    let same = state::is_online(world, &attempt.agent).then_some(&attempt.agent);
    let agent = same.or_else(|| state::online_agent(world, run)).unwrap_or(&attempt.agent).clone();
    (attempt.state == AttemptState::Claimed || agent != attempt.agent).then(|| Action::Reorder {
        step: attempt.step.clone(),
        attempt: attempt.number,
        from: attempt.state,
        agent,
    })
}

fn cancel_run(run: &Run, draft: &mut Draft) {
    for attempt in run.attempts.iter().filter(|attempt| state::is_live(attempt.state)) {
        match attempt.state {
            AttemptState::Granted | AttemptState::Started => {
                draft.actions.push(Action::Stop { step: attempt.step.clone(), attempt: attempt.number });
            }
            AttemptState::Ordered
            | AttemptState::Claimed
            | AttemptState::Succeeded
            | AttemptState::Failed
            | AttemptState::Cancelled
            | AttemptState::Lost => draft.actions.push(drop_of(attempt)),
        }
    }
    if state::all_over(run) {
        let lost = run.attempts.iter().any(|attempt| attempt.state == AttemptState::Lost);
        // A run whose last step ended well before the cancel reached it has simply succeeded.
        let done = run.plan.spec.steps.iter().all(|step| step_succeeded(run, &step.id));
        let state = match (lost, done) {
            (true, _) => RunState::Lost,
            (false, true) => RunState::Succeeded,
            (false, false) => RunState::Cancelled,
        };
        draft.actions.push(Action::Finish { state });
    }
}

/// Whether a step is done on every host of its limit.
pub fn step_succeeded(run: &Run, step: &Name) -> bool {
    run.attempts_of(step).next().is_some() && run.unfinished(step).is_empty()
}

/// Ends the round where the last attempts ended it. True when it did.
fn over(run: &Run, draft: &mut Draft) -> bool {
    let this_round = || run.attempts.iter().filter(|attempt| attempt.round == run.round);
    let state = if run.attempts.iter().any(|attempt| attempt.state == AttemptState::Lost) {
        RunState::Lost
    } else if this_round().any(|attempt| attempt.state == AttemptState::Failed) {
        RunState::Failed
    } else if this_round().any(|attempt| attempt.state == AttemptState::Cancelled) {
        RunState::Cancelled
    } else if run.plan.spec.steps.iter().all(|step| step_succeeded(run, &step.id)) {
        RunState::Succeeded
    } else {
        return false;
    };
    draft.actions.push(Action::Finish { state });
    true
}

/// Orders the next steps and grants claimed ones.
fn go_on(facts: &RequestFacts, run: &Run, world: &World, draft: &mut Draft) {
    if state::waiting(facts, run, world).is_some() {
        return;
    }
    let Some(agent) = state::online_agent(world, run) else { return };
    // After a failure nothing new begins in this round; what is on its way ends by itself.
    if run.attempts.iter().any(|attempt| attempt.round == run.round && ended_badly(attempt)) {
        return;
    }
    for attempt in run.attempts.iter().filter(|attempt| attempt.state == AttemptState::Claimed) {
        draft.actions.push(Action::Grant { step: attempt.step.clone(), attempt: attempt.number });
    }
    // Steps that share a host go one after the other, whatever `needs` says.
    let mut busy: Vec<&Host> = run
        .attempts
        .iter()
        .filter(|attempt| state::is_live(attempt.state))
        .flat_map(|attempt| &attempt.hosts)
        .collect();
    for step in &run.plan.spec.steps {
        let live = run.attempts_of(&step.id).any(|attempt| state::is_live(attempt.state));
        let tried = run.attempts_of(&step.id).any(|attempt| attempt.round == run.round);
        let ready = step.needs.iter().all(|need| step_succeeded(run, need));
        if live || tried || !ready || step_succeeded(run, &step.id) {
            continue;
        }
        if step.limit.iter().any(|host| busy.contains(&host)) {
            continue;
        }
        busy.extend(&step.limit);
        draft.actions.push(Action::Order {
            step: step.id.clone(),
            attempt: run.attempts_of(&step.id).map(|attempt| attempt.number).max().unwrap_or(0) + 1,
            hosts: run.unfinished(&step.id),
            agent: agent.clone(),
        });
    }
}

/// What follows when a person has said of every lost attempt of a run whether its work is done: another round, where
/// what was approved with it may go on, or the state in which the run has ended.
pub fn after_resolving(run: &Run) -> Option<RunState> {
    let done = run.plan.spec.steps.iter().all(|step| step_succeeded(run, &step.id));
    let badly = run.attempts.iter().any(|attempt| attempt.round == run.round && ended_badly(attempt));
    match (done, run.cancel, badly) {
        (true, ..) => Some(RunState::Succeeded),
        (false, true, _) => Some(RunState::Cancelled),
        (false, false, true) => Some(RunState::Failed),
        (false, false, false) => None,
    }
}

/// Why a finished run can't be retried as it is; `None` when it can.
pub fn retry_refused(facts: &RequestFacts, run: &Run, world: &World, freshness: Freshness) -> Option<String> {
    match run.state {
        None => return Some("it is not over yet".to_owned()),
        Some(RunState::Succeeded) => return Some("it succeeded".to_owned()),
        Some(RunState::Failed | RunState::Lost | RunState::Cancelled) => {}
    }
    if run.attempts.iter().any(|attempt| attempt.state == AttemptState::Lost) {
        return Some("an attempt is lost: look at the host first, then `chiffon resolve`".to_owned());
    }
    not_as_planned(facts, run, world, freshness).map(|why| format!("{why}: ask for a new plan"))
}

/// Why a run's plan may not be begun again: what it was made for is not as it was, or its time is over.
pub fn not_as_planned(facts: &RequestFacts, run: &Run, world: &World, freshness: Freshness) -> Option<&'static str> {
    if !facts.is_of_now(&run.plan) {
        return Some("its request has changed since");
    }
    if run.by_policy() && !is_exempt(&run.plan, &world.policy) {
        return Some("policy does not exempt it any more");
    }
    if world.now > run.plan.metadata.expires {
        return Some("its plan has expired");
    }
    match freshness {
        Freshness::Fresh => None,
        Freshness::Stale => Some("what its plan reads has changed"),
        Freshness::Unknown => Some("the infra repository can't be read now"),
    }
}
