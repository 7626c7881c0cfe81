//! A request's state: derived from facts by one function that pages, status lists and decisions all call.

use chiffon_schemas::{AttemptState, Host, Name, RunState, Timestamp};

use crate::facts::{
    AgentFacts, Attempt, Blocked, LockHolder, Offer, OfferState, RefusalReason, RequestFacts, RequestFile, Run, World,
};

/// The states of DESIGN section 3.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// A plan is being made.
    Planning(PlanningReason),
    /// It needs an answer or a change.
    Blocked(Blocked),
    /// An offer is open.
    Proposed,
    /// Its offer was closed by a person.
    Rejected,
    /// The request was deleted while its offer was open, or before there was one.
    Withdrawn,
    /// Something reached `main` that may not run.
    Refused(RefusalReason),
    /// Approved, and waiting.
    Paused(Waiting),
    /// Approved, nothing in its way, no attempt granted yet.
    Queued,
    /// At least one attempt granted, run not final.
    Running,
    /// Every step succeeded.
    Succeeded,
    /// A step failed.
    Failed,
    /// Stopped by a person, verified.
    Cancelled,
    /// Nobody can know how far it came.
    Lost,
}

impl State {
    /// The word, the same in lists, labels and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Planning(_) => "planning",
            Self::Blocked(_) => "blocked",
            Self::Proposed => "proposed",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
            Self::Refused(_) => "refused",
            Self::Paused(_) => "paused",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }

    /// Every word, for completion and for checking what a person typed.
    pub const WORDS: [&'static str; 13] = [
        "planning",
        "blocked",
        "proposed",
        "rejected",
        "withdrawn",
        "refused",
        "paused",
        "queued",
        "running",
        "succeeded",
        "failed",
        "cancelled",
        "lost",
    ];

    /// Whether somebody should look: what `up --once` exits with 3 for.
    pub fn needs_attention(&self) -> bool {
        match self {
            Self::Blocked(_) | Self::Refused(_) | Self::Failed | Self::Lost => true,
            Self::Planning(_)
            | Self::Proposed
            | Self::Rejected
            | Self::Withdrawn
            | Self::Paused(_)
            | Self::Queued
            | Self::Running
            | Self::Succeeded
            | Self::Cancelled => false,
        }
    }
}

/// Why a plan is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanningReason {
    /// The request is new.
    New,
    /// The request was edited.
    Edited,
    /// What the last offer read has changed.
    Stale,
    /// The last offer expired.
    Expired,
    /// A person asked for a change.
    ChangeAskedFor,
    /// What was merged was not the offer's bytes.
    EditedInMerge,
}

impl PlanningReason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Edited => "edited",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::ChangeAskedFor => "change asked for",
            Self::EditedInMerge => "the plan was edited inside the merge",
        }
    }
}

/// What an approved plan waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// A host that another run holds.
    HostLocked {
        /// The host.
        host: Host,
        /// Who holds it.
        holder: LockHolder,
    },
    /// No agent of the kind is there.
    AgentOffline,
    /// A person.
    Person {
        /// Why.
        reason: String,
        /// Until when.
        until: Timestamp,
    },
}

/// The state of a request, from facts alone.
pub fn state(facts: &RequestFacts, world: &World) -> State {
    if let Some(run) = counting_run(facts).filter(|run| run.state.is_none()) {
        return live(facts, run, world);
    }
    if lost_run(facts).is_some() {
        return State::Lost;
    }
    if let Some(reason) = standing_refusal(facts) {
        return State::Refused(reason);
    }
    match &facts.file {
        RequestFile::Absent => absent(facts),
        RequestFile::Invalid { findings, .. } => State::Blocked(Blocked::Invalid { findings: findings.clone() }),
        RequestFile::Valid { oid, .. } => valid(facts, oid),
    }
}

/// The last run, unless it was refused before it began.
pub(crate) fn counting_run(facts: &RequestFacts) -> Option<&Run> {
    facts.run.as_ref().filter(|run| !run.voided)
}

/// The last run, where it is lost: until somebody knows how far it came, it is what the request is, and nothing new
/// begins for it, since its hosts stay locked.
pub(crate) fn lost_run(facts: &RequestFacts) -> Option<&Run> {
    counting_run(facts).filter(|run| run.state == Some(RunState::Lost))
}

/// The open offer.
pub fn open_offer(facts: &RequestFacts) -> Option<&Offer> {
    facts.offers.iter().rev().find(|offer| offer.is_open())
}

/// A refusal that still shows: of the blob that is on `main` now, and of a kind that waits for `main` to change.
fn standing_refusal(facts: &RequestFacts) -> Option<RefusalReason> {
    let refusal = facts.refusal.as_ref()?;
    let still_there = facts.plan_on_main.as_ref() == Some(&refusal.blob);
    // What ran already stays what it was; what plans again shows as planning or as the new offer.
    let shows = refusal.reason != RefusalReason::Used && !refusal.reason.plans_again();
    (still_there && shows).then_some(refusal.reason)
}

fn live(facts: &RequestFacts, run: &Run, world: &World) -> State {
    // A retry waits like a first attempt does: what counts is this round.
    let granted = |attempt: &Attempt| attempt.round == run.round && attempt.fence.is_some();
    if run.attempts.iter().any(granted) {
        return State::Running;
    }
    waiting(facts, run, world).map_or(State::Queued, State::Paused)
}

/// What stands in the way of a run's next attempts.
pub fn waiting(facts: &RequestFacts, run: &Run, world: &World) -> Option<Waiting> {
    if let Some(pause) = facts.pause.as_ref().filter(|pause| world.now < pause.until) {
        return Some(Waiting::Person { reason: pause.reason.clone(), until: pause.until });
    }
    if online_agent(world, run).is_none() {
        return Some(Waiting::AgentOffline);
    }
    let ours = |holder: &LockHolder| holder.run == run.id;
    run.plan.spec.touches.hosts.iter().find_map(|host| {
        let holder = world.locks.get(host).filter(|holder| !ours(holder))?;
        Some(Waiting::HostLocked { host: host.clone(), holder: holder.clone() })
    })
}

/// The agent that is to do a run's next step: of the kind that it needs, heard of lately, with the ansible-core that the
/// plan was made for where one has it, and of those the one with the least to do; the first by name.
pub fn online_agent<'a>(world: &'a World, run: &Run) -> Option<&'a Name> {
    let kind = run.plan.spec.steps.first()?.agent;
    let planned = run.plan.spec.tools.ansible_core.as_str();
    let online = world.agents.iter().filter(|(name, agent)| agent.kind == kind && is_online(world, name));
    let cost = |name: &Name, agent: &AgentFacts| {
        let version = agent.ansible_core.as_deref().unwrap_or_default();
        let fits = version.strip_prefix(planned).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        (!fits, world.load.get(name).copied().unwrap_or(0))
    };
    // Of equal ones the first is taken: names are sorted.
    online.min_by_key(|(name, agent)| cost(name, agent)).map(|(name, _)| name)
}

/// The ansible-core to make a plan for: what an agent would run, one that was heard of lately before others; the first by
/// name. `None` where no agent has said its own.
pub fn ansible_core(world: &World) -> Option<&str> {
    let known = world.agents.iter().filter_map(|(name, agent)| Some((name, agent.ansible_core.as_deref()?)));
    // Of equal ones the first is taken: names are sorted.
    known.min_by_key(|(name, _)| !is_online(world, name)).map(|(_, version)| version)
}

/// Whether an agent was heard of lately.
pub(crate) fn is_online(world: &World, agent: &Name) -> bool {
    let silence = i64::from(world.policy.agent_silence_secs);
    world.agents.get(agent).is_some_and(|agent| agent.heard.plus_secs(silence) >= world.now)
}

fn absent(facts: &RequestFacts) -> State {
    match counting_run(facts).and_then(|run| run.state) {
        Some(state) => of_run(state),
        None => State::Withdrawn,
    }
}

fn of_run(state: RunState) -> State {
    match state {
        RunState::Succeeded => State::Succeeded,
        RunState::Failed => State::Failed,
        RunState::Cancelled => State::Cancelled,
        RunState::Lost => State::Lost,
    }
}

/// The last run's state, where that run was of the request as it is now.
fn finished_now(facts: &RequestFacts) -> Option<State> {
    let run = counting_run(facts)?;
    let same = facts.file.oid() == Some(&run.plan.metadata.request.oid);
    same.then_some(run.state).flatten().map(of_run)
}

fn valid(facts: &RequestFacts, oid: &chiffon_schemas::Oid) -> State {
    if let Some(offer) = open_offer(facts) {
        // The driver closes an outdated offer in the same tick; until then it is already being planned anew.
        if !facts.is_of_now(&offer.plan) {
            return State::Planning(PlanningReason::Edited);
        }
        // A follow-up does not undo the failure: it is named beside it.
        return finished_now(facts).filter(|state| *state == State::Failed).unwrap_or(State::Proposed);
    }
    if facts.replan_after.is_some() {
        return State::Planning(PlanningReason::ChangeAskedFor);
    }
    // What a planning ended with is newer than any run: an offer would have cleared it. A refused edit is about an open
    // offer alone, and says nothing once that is closed.
    let of_edit = |reason: &Blocked| matches!(reason, Blocked::Edit { .. });
    let unplanned = facts.unplanned.as_ref().filter(|unplanned| &unplanned.request == oid);
    if let Some(unplanned) = unplanned.filter(|unplanned| !of_edit(&unplanned.reason)) {
        return State::Blocked(unplanned.reason.clone());
    }
    if let Some(finished) = finished_now(facts).filter(|_| !refused_after_run(facts)) {
        return finished;
    }
    match facts.offers.last() {
        None => State::Planning(PlanningReason::New),
        Some(last) if &last.plan.metadata.request.oid != oid => State::Planning(PlanningReason::Edited),
        Some(last) => after(last.state, facts),
    }
}

/// Whether an offer newer than the last run was closed: then the run no longer tells the request's state.
fn refused_after_run(facts: &RequestFacts) -> bool {
    let Some(run) = counting_run(facts) else { return false };
    facts.offers.last().is_some_and(|last| last.revision() > run.plan.metadata.revision)
}

fn after(last: OfferState, facts: &RequestFacts) -> State {
    match last {
        OfferState::Rejected => State::Rejected,
        OfferState::Stale => State::Planning(PlanningReason::Stale),
        OfferState::Expired => State::Planning(PlanningReason::Expired),
        OfferState::Edited | OfferState::Withdrawn => State::Planning(PlanningReason::Edited),
        OfferState::ChangeAskedFor | OfferState::Replaced => State::Planning(PlanningReason::ChangeAskedFor),
        OfferState::Open | OfferState::Approved | OfferState::Refused => {
            State::Planning(facts.refusal.as_ref().map_or(PlanningReason::New, |refusal| match refusal.reason {
                RefusalReason::Stale => PlanningReason::Stale,
                RefusalReason::Expired => PlanningReason::Expired,
                RefusalReason::Edited => PlanningReason::Edited,
                RefusalReason::EditedInMerge => PlanningReason::EditedInMerge,
                RefusalReason::NotOffered
                | RefusalReason::Closed
                | RefusalReason::Used
                | RefusalReason::Denied
                | RefusalReason::NotThroughPull
                | RefusalReason::NotAllowed => PlanningReason::New,
            }))
        }
    }
}

/// Whether the run's attempts of this round allow no more: every one is over.
pub(crate) fn all_over(run: &Run) -> bool {
    run.attempts.iter().all(|attempt| attempt.state.is_final())
}

/// Whether an attempt of a step is on its way.
pub(crate) fn is_live(state: AttemptState) -> bool {
    !state.is_final()
}
