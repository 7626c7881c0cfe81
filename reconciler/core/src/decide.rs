//! `decide(facts, world) → Decision`: the next step for one request, and when to look again.
//!
//! Level-triggered: it looks at what is, never at what happened, so that losing or repeating any event changes
//! nothing. The driver carries the actions out, idempotently and in order, and then looks again.

use chiffon_schemas::{AttemptState, Host, Name, Oid, RunState, Timestamp};

use crate::approval::{Expected, Merge, approval};
use crate::facts::{
    Attempt, Blocked, Offer, OfferState, Pull, PullState, RefusalReason, RequestFacts, RequestFile, Run, World,
};
use crate::state::{self, PlanningReason, State};

/// So often a forge has to say that a pull request is not merged, while its plan lies on `main`.
const DENIALS: u32 = 8;

/// What the driver learnt in git about an open offer, since only it can read trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Everything that the offer reads is as it was.
    Fresh,
    /// Something that it reads has changed.
    Stale,
    /// The infra repository can't be read; nothing is decided on that.
    Unknown,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make a plan, and record an offer or why there is none.
    Plan {
        /// Why.
        reason: PlanningReason,
    },
    /// Make an offer of the plan that a person wrote on the plan branch.
    TakeEdit {
        /// The branch's tip.
        tip: Oid,
        /// The edited blob; absent where the edit removed the plan, which is refused in words.
        blob: Option<Oid>,
    },
    /// Show the open offer: move the plan branch to it.
    Show {
        /// The plan's blob.
        plan: Oid,
    },
    /// The plan branch shows the open offer: show it in its pull request as well, a new one where it is needed.
    Propose {
        /// The plan's blob.
        plan: Oid,
    },
    /// Close the open offer.
    Close {
        /// The plan's blob.
        plan: Oid,
        /// Why.
        state: OfferState,
    },
    /// Remove the plan branch: no offer is open.
    RemoveBranch,
    /// The open offer's blob is on `main`: approve it and create the run.
    Approve {
        /// The plan's blob.
        plan: Oid,
    },
    /// What is on `main` may not run.
    Refuse {
        /// The blob.
        blob: Oid,
        /// Why.
        reason: RefusalReason,
        /// What exactly, where the reason alone does not say it.
        why: Option<String>,
    },
    /// Ask the forge what became of the pull request.
    AskForge,
    /// Order an attempt from an agent.
    Order {
        /// The step.
        step: Name,
        /// The attempt's number.
        attempt: u32,
        /// Its hosts.
        hosts: Vec<Host>,
        /// The agent.
        agent: Name,
    },
    /// Grant a claimed attempt.
    Grant {
        /// The step.
        step: Name,
        /// The attempt's number.
        attempt: u32,
    },
    /// End an attempt that no agent may start any more.
    Drop {
        /// The step.
        step: Name,
        /// The attempt's number.
        attempt: u32,
        /// Its state now.
        from: AttemptState,
    },
    /// Tell the agent to stop a granted attempt.
    Stop {
        /// The step.
        step: Name,
        /// The attempt's number.
        attempt: u32,
    },
    /// The agent fell silent before the grant, or did not claim for as long: order again, as the same attempt.
    Reorder {
        /// The step.
        step: Name,
        /// The attempt's number.
        attempt: u32,
        /// Its state now.
        from: AttemptState,
        /// The agent that is to do it: another one where one is there.
        agent: Name,
    },
    /// The agent fell silent after the grant.
    Lose {
        /// The step.
        step: Name,
        /// The attempt's number.
        attempt: u32,
        /// Its state now.
        from: AttemptState,
    },
    /// The run is over.
    Finish {
        /// How.
        state: RunState,
    },
    /// The run was refused before its first grant.
    Void {
        /// Why.
        reason: RefusalReason,
    },
    /// A person's pause is over.
    EndPause,
}

/// The next steps for one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What to do, in order.
    pub actions: Vec<Action>,
    /// When to look again at the latest, beside any event.
    pub look_again: Option<Timestamp>,
    /// Why, in one line.
    pub why: String,
}

/// A decision under construction.
struct Draft {
    actions: Vec<Action>,
    look_again: Option<Timestamp>,
}

impl Draft {
    fn look(&mut self, at: Timestamp) {
        self.look_again = Some(self.look_again.map_or(at, |before| before.min(at)));
    }
}

/// The next steps for one request. `freshness` speaks of the open offer, or of a run's plan before its first grant.
pub fn decide(facts: &RequestFacts, world: &World, freshness: Freshness) -> Decision {
    let mut draft = Draft { actions: Vec::new(), look_again: None };
    end_pause(facts, world, &mut draft);
    if let Some(run) = state::counting_run(facts).filter(|run| run.state.is_none()) {
        advance_run(facts, run, world, &mut draft);
    } else if state::lost_run(facts).is_some() {
        // What was edited, merged or deleted meanwhile is judged once the run is resolved.
        if facts.plan_branch.is_some() && state::open_offer(facts).is_none() {
            draft.actions.push(Action::RemoveBranch);
        }
    } else {
        judge_main(facts, world, freshness, &mut draft);
        if draft.actions.is_empty() {
            keep_offer(facts, world, freshness, &mut draft);
        }
        if draft.actions.is_empty() {
            want_plan(facts, world, &mut draft);
        }
    }
    let why = match draft.actions.first() {
        None => format!("nothing to do: {}", state::state(facts, world).word()),
        Some(action) => format!("{}: {action:?}", state::state(facts, world).word()),
    };
    Decision { actions: draft.actions, look_again: draft.look_again, why }
}

fn end_pause(facts: &RequestFacts, world: &World, draft: &mut Draft) {
    let Some(pause) = &facts.pause else { return };
    if world.now >= pause.until {
        draft.actions.push(Action::EndPause);
    } else {
        draft.look(pause.until);
    }
}

/// Judges what lies at the plan's path on `main`, once for each blob.
fn judge_main(facts: &RequestFacts, world: &World, freshness: Freshness, draft: &mut Draft) {
    let Some(blob) = &facts.plan_on_main else { return };
    if facts.refusal.as_ref().is_some_and(|refusal| &refusal.blob == blob) && !is_open_blob(facts, blob) {
        return;
    }
    let Some(offer) = facts.offers.iter().rev().find(|offer| &offer.plan_oid == blob) else {
        let edited = state::open_offer(facts).is_some();
        let reason = if edited { RefusalReason::EditedInMerge } else { RefusalReason::NotOffered };
        refuse(facts, blob, reason, draft);
        return;
    };
    match offer.state {
        OfferState::Open => judge_approval(facts, offer, world, freshness, draft),
        OfferState::Approved => judge_used(facts, offer, draft),
        OfferState::Rejected
        | OfferState::Withdrawn
        | OfferState::Edited
        | OfferState::Stale
        | OfferState::Expired
        | OfferState::Replaced
        | OfferState::ChangeAskedFor
        | OfferState::Refused => refuse(facts, blob, RefusalReason::Closed, draft),
    }
}

fn is_open_blob(facts: &RequestFacts, blob: &Oid) -> bool {
    state::open_offer(facts).is_some_and(|offer| &offer.plan_oid == blob)
}

/// A plan that ran stays on `main` and means nothing more; one whose blob came back after it was taken away, or whose
/// run was void, is refused once, in words.
fn judge_used(facts: &RequestFacts, offer: &Offer, draft: &mut Draft) {
    let is_last_run = facts.run.as_ref().is_some_and(|run| run.plan_oid == offer.plan_oid);
    if !is_last_run {
        refuse(facts, &offer.plan_oid, RefusalReason::Used, draft);
    }
}

/// Freshness and expiry are judged here, when the approval is first seen.
fn judge_approval(facts: &RequestFacts, offer: &Offer, world: &World, freshness: Freshness, draft: &mut Draft) {
    let blob = &offer.plan_oid;
    if !facts.is_of_now(&offer.plan) {
        refuse(facts, blob, RefusalReason::Edited, draft);
    } else if world.now > offer.plan.metadata.expires {
        refuse(facts, blob, RefusalReason::Expired, draft);
    } else {
        match freshness {
            Freshness::Fresh => judge_merge(facts, offer, world, draft),
            Freshness::Stale => refuse(facts, blob, RefusalReason::Stale, draft),
            // Approved all the same once the infra repository can be read; the poll looks again.
            Freshness::Unknown => {}
        }
    }
}

/// On a forge the blob alone approves nothing: it came by the merge of its pull request, by somebody who may.
fn judge_merge(facts: &RequestFacts, offer: &Offer, world: &World, draft: &mut Draft) {
    let blob = &offer.plan_oid;
    let Some(forge) = &world.forge else {
        draft.actions.push(Action::Approve { plan: blob.clone() });
        return;
    };
    let pull = facts.pull.as_ref().filter(|pull| &pull.plan == blob);
    let (Some(merge), Some(bot)) = (pull.and_then(Merge::of), &forge.bot) else {
        // A forge takes its time to notice, and may be away; one that goes on to deny it is believed.
        if pull.is_some_and(|pull| pull.denied >= DENIALS) {
            refuse(facts, blob, RefusalReason::NotThroughPull, draft);
        } else {
            draft.actions.push(Action::AskForge);
        }
        return;
    };
    let expected =
        Expected { base: forge.base.clone(), head: format!("chiffon/plan/{}", facts.name), bot: bot.clone() };
    match approval(&offer.plan, &world.policy.approval, &merge, &expected) {
        Ok(_) => draft.actions.push(Action::Approve { plan: blob.clone() }),
        Err(against) => {
            let why = against.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            refuse_since(facts, blob, RefusalReason::NotAllowed, Some(why), draft);
        }
    }
}

fn refuse(facts: &RequestFacts, blob: &Oid, reason: RefusalReason, draft: &mut Draft) {
    refuse_since(facts, blob, reason, None, draft);
}

fn refuse_since(facts: &RequestFacts, blob: &Oid, reason: RefusalReason, why: Option<String>, draft: &mut Draft) {
    draft.actions.push(Action::Refuse { blob: blob.clone(), reason, why });
    if let Some(offer) = state::open_offer(facts) {
        // An edit inside the merge is offered afresh, and the refused offer itself is never opened again.
        if &offer.plan_oid == blob || reason == RefusalReason::EditedInMerge {
            draft.actions.push(Action::Close { plan: offer.plan_oid.clone(), state: closed_as(reason, &facts.file) });
        }
    }
}

fn closed_as(reason: RefusalReason, request: &RequestFile) -> OfferState {
    match reason {
        RefusalReason::Stale => OfferState::Stale,
        RefusalReason::Edited if *request == RequestFile::Absent => OfferState::Withdrawn,
        RefusalReason::Edited => OfferState::Edited,
        RefusalReason::Expired => OfferState::Expired,
        RefusalReason::NotOffered
        | RefusalReason::EditedInMerge
        | RefusalReason::Closed
        | RefusalReason::Used
        | RefusalReason::Denied
        | RefusalReason::NotThroughPull
        | RefusalReason::NotAllowed => OfferState::Refused,
    }
}

/// Closes an open offer that no longer holds, takes a person's edit, and keeps the branch as it should be.
fn keep_offer(facts: &RequestFacts, world: &World, freshness: Freshness, draft: &mut Draft) {
    let Some(offer) = state::open_offer(facts) else {
        if facts.plan_branch.is_some() {
            draft.actions.push(Action::RemoveBranch);
        }
        return;
    };
    if facts.plan_on_main.as_ref() == Some(&offer.plan_oid) {
        // Merged, and judged as soon as the infra repository can be read: until then nothing closes it.
        return;
    }
    let close = |state| Action::Close { plan: offer.plan_oid.clone(), state };
    if facts.file == RequestFile::Absent {
        draft.actions.push(close(OfferState::Withdrawn));
    } else if !facts.is_of_now(&offer.plan) {
        draft.actions.push(close(OfferState::Edited));
    } else if facts.replan_after.is_some_and(|after| offer.revision() <= after) {
        draft.actions.push(close(OfferState::ChangeAskedFor));
    } else if let Some(edit) = edit_to_take(facts, offer) {
        // Before its time or its ground is judged: what a person wrote is offered afresh, on the ground of now.
        draft.actions.push(edit);
    } else if freshness == Freshness::Stale {
        draft.actions.push(close(OfferState::Stale));
    } else if world.now > offer.plan.metadata.expires {
        draft.actions.push(close(OfferState::Expired));
    } else {
        draft.look(offer.plan.metadata.expires.plus_secs(1));
        keep_branch(facts, offer, world, draft);
    }
}

fn keep_branch(facts: &RequestFacts, offer: &Offer, world: &World, draft: &mut Draft) {
    match (&facts.plan_branch, &offer.branch_commit) {
        // Recorded and never shown: the crash came between.
        (_, None) => draft.actions.push(Action::Show { plan: offer.plan_oid.clone() }),
        // Its pull request was closed, which is how a person rejects it on a forge.
        (Some(_), Some(_)) if is_closed(facts, offer) => {
            draft.actions.push(Action::Close { plan: offer.plan_oid.clone(), state: OfferState::Rejected });
        }
        // Shown, and then the branch was deleted: that is how a person closes it.
        (None, Some(_)) => {
            draft.actions.push(Action::Close { plan: offer.plan_oid.clone(), state: OfferState::Rejected });
        }
        (Some(_), Some(_)) if world.forge.is_some() && !is_proposed(facts, offer) => {
            draft.actions.push(Action::Propose { plan: offer.plan_oid.clone() });
        }
        (Some(_), Some(_)) => {}
    }
}

/// Whether an open pull request shows an offer.
fn is_proposed(facts: &RequestFacts, offer: &Offer) -> bool {
    facts.pull.as_ref().is_some_and(|pull| pull.plan == offer.plan_oid && pull.state == PullState::Open)
}

/// Whether somebody closed the pull request that showed an offer.
fn is_closed(facts: &RequestFacts, offer: &Offer) -> bool {
    let closed = |pull: &Pull| pull.number > 0 && pull.plan == offer.plan_oid && pull.state == PullState::Closed;
    facts.pull.as_ref().is_some_and(closed)
}

/// The edit of a shown offer on its branch, where nobody has judged it yet.
fn edit_to_take(facts: &RequestFacts, offer: &Offer) -> Option<Action> {
    let branch = facts.plan_branch.as_ref().filter(|_| offer.branch_commit.is_some())?;
    if branch.plan.as_ref() == Some(&offer.plan_oid) {
        return None;
    }
    let judged = facts
        .unplanned
        .as_ref()
        .is_some_and(|unplanned| matches!(&unplanned.reason, Blocked::Edit { blob, .. } if blob == &branch.plan));
    (!judged).then(|| Action::TakeEdit { tip: branch.tip.clone(), blob: branch.plan.clone() })
}

/// Asks for a plan where the state says `planning`, or where what blocked it may have changed.
fn want_plan(facts: &RequestFacts, world: &World, draft: &mut Draft) {
    if !matches!(facts.file, RequestFile::Valid { .. }) {
        return;
    }
    match state::state(facts, world) {
        // Of a person's edit that went stale the driver records `blocked (edited plan is stale)`.
        State::Planning(reason) => draft.actions.push(Action::Plan { reason }),
        State::Blocked(reason) if may_have_changed(facts, &reason, world) => {
            draft.actions.push(Action::Plan { reason: PlanningReason::Stale });
        }
        State::Blocked(_)
        | State::Proposed
        | State::Rejected
        | State::Withdrawn
        | State::Refused(_)
        | State::Paused(_)
        | State::Queued
        | State::Running
        | State::Succeeded
        | State::Failed
        | State::Cancelled
        | State::Lost => {}
    }
}

/// Whether the last offer was a person's edit that was withdrawn since its request or what it read changed, or its time
/// was over: a person decides what follows.
pub fn last_was_edited_by_person(facts: &RequestFacts) -> bool {
    let withdrawn = [OfferState::Stale, OfferState::Edited, OfferState::Expired];
    facts.offers.last().is_some_and(|last| last.by_person() && withdrawn.contains(&last.state))
        && facts.replan_after.is_none()
}

/// A request that the catalogue could not answer is planned again when the catalogue moved.
fn may_have_changed(facts: &RequestFacts, reason: &Blocked, world: &World) -> bool {
    let moved = facts.unplanned.as_ref().is_some_and(|unplanned| unplanned.infra != world.infra);
    match reason {
        Blocked::Questions { .. }
        | Blocked::NothingFits { .. }
        | Blocked::Invalid { .. }
        | Blocked::Denied { .. }
        | Blocked::Infra { .. } => moved && world.infra.is_some(),
        Blocked::Edit { .. } | Blocked::EditedPlanStale => false,
    }
}

/// Brings a run forward: silent agents, cancelling, ordering, granting, finishing.
fn advance_run(facts: &RequestFacts, run: &Run, world: &World, draft: &mut Draft) {
    if !run.begun() && facts.plan_on_main.as_ref() != Some(&run.plan_oid) {
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
    if world.now > run.plan.metadata.expires {
        return Some("its plan has expired");
    }
    match freshness {
        Freshness::Fresh => None,
        Freshness::Stale => Some("what its plan reads has changed"),
        Freshness::Unknown => Some("the infra repository can't be read now"),
    }
}
