//! `decide(facts, world) → Decision`: the next step for one request, and when to look again.
//!
//! Level-triggered: it looks at what is, never at what happened, so that losing or repeating any event changes
//! nothing. The driver carries the actions out, idempotently and in order, and then looks again.

mod run;

pub use run::{after_resolving, not_as_planned, retry_refused, step_succeeded};

use chiffon_schemas::{AttemptState, Host, Name, Oid, Plan, PlannerKind, RunState, Timestamp};

use crate::approval::{Expected, Merge, approval};
use crate::facts::{Blocked, Offer, OfferState, Pull, PullState, RefusalReason, RequestFacts, RequestFile, Run, World};
use crate::gate::is_exempt;
use crate::state::{self, PlanningReason, State};

/// So often a forge has to say that a pull request is not merged, while its plan lies on `main`.
const DENIALS: u32 = 8;

/// What the driver learnt in git about the plan of [`ground_of`], since only it can read trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Everything that the plan reads is as it was.
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
    /// The open offer's blob is on `main`, or policy exempts it from that: approve it and create the run.
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

/// The next steps for one request. `freshness` speaks of the plan that [`ground_of`] names.
pub fn decide(facts: &RequestFacts, world: &World, freshness: Freshness) -> Decision {
    let mut draft = Draft { actions: Vec::new(), look_again: None };
    end_pause(facts, world, &mut draft);
    if let Some(run) = state::counting_run(facts).filter(|run| run.state.is_none()) {
        run::advance_run(facts, run, world, &mut draft);
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
            want_plan(facts, world, freshness, &mut draft);
        }
    }
    let why = match draft.actions.first() {
        None => format!("nothing to do: {}", state::state(facts, world).word()),
        Some(action) => format!("{}: {action:?}", state::state(facts, world).word()),
    };
    Decision { actions: draft.actions, look_again: draft.look_again, why }
}

/// The plan whose ground matters: the open offer's, or else the one of a last run that failed.
pub fn ground_of(facts: &RequestFacts) -> Option<(&Oid, &Plan)> {
    let open = state::open_offer(facts).map(|offer| (&offer.plan_oid, &offer.plan));
    open.or_else(|| failed_run(facts).map(|run| (&run.plan_oid, &run.plan)))
}

fn failed_run(facts: &RequestFacts) -> Option<&Run> {
    state::counting_run(facts).filter(|run| run.state == Some(RunState::Failed))
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
    // What ran by policy was never on `main`, and what was there before it stays.
    let beneath_a_check = facts.run.as_ref().is_some_and(|run| run.by_policy());
    if !is_last_run && !beneath_a_check {
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
        if facts.plan_branch.is_some() && !awaits_a_plan(facts, world) {
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
        keep_branch(facts, offer, (world, freshness), draft);
    }
}

/// Whether an open pull request is to show the next plan: without its branch the forge would close it, and what was said
/// there would be left behind.
fn awaits_a_plan(facts: &RequestFacts, world: &World) -> bool {
    let open = facts.pull.as_ref().is_some_and(|pull| pull.number > 0 && pull.state == PullState::Open);
    let waits = match state::state(facts, world) {
        State::Planning(_) => true,
        // Of an edit that went stale a person begins anew, and what is on the branch is kept for them elsewhere.
        State::Blocked(reason) => reason != Blocked::EditedPlanStale,
        _ => false,
    };
    world.forge.is_some() && open && waits
}

fn keep_branch(facts: &RequestFacts, offer: &Offer, (world, freshness): (&World, Freshness), draft: &mut Draft) {
    let plan = offer.plan_oid.clone();
    let was_shown = offer.branch_commit.is_some();
    if was_shown && (facts.plan_branch.is_none() || is_closed(facts, offer)) {
        // Its branch was deleted, or on a forge its pull request closed, which is how a person rejects it.
        draft.actions.push(Action::Close { plan, state: OfferState::Rejected });
    } else if is_exempt(&offer.plan, &world.policy) {
        // On ground that can't be looked at nothing begins; the poll looks again.
        if freshness == Freshness::Fresh {
            draft.actions.push(Action::Approve { plan });
        }
    } else if !was_shown {
        // Recorded and never shown: the crash came between.
        draft.actions.push(Action::Show { plan });
    } else if world.forge.is_some() && !is_proposed(facts, offer) {
        draft.actions.push(Action::Propose { plan });
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
fn want_plan(facts: &RequestFacts, world: &World, freshness: Freshness, draft: &mut Draft) {
    if !matches!(facts.file, RequestFile::Valid { .. }) {
        return;
    }
    match state::state(facts, world) {
        // Of a person's edit that went stale the driver records `blocked (edited plan is stale)`.
        State::Planning(reason) => draft.actions.push(Action::Plan { reason }),
        State::Blocked(reason) if may_have_changed(facts, &reason, world) => {
            draft.actions.push(Action::Plan { reason: PlanningReason::Stale });
        }
        State::Failed => follow_up(facts, world, freshness, draft),
        State::Blocked(_)
        | State::Proposed
        | State::Rejected
        | State::Withdrawn
        | State::Refused(_)
        | State::Paused(_)
        | State::Queued
        | State::Running
        | State::Succeeded
        | State::Cancelled
        | State::Lost => {}
    }
}

/// A failed run can be retried for as long as its plan holds. Once it does not, another plan of the request is offered by
/// itself, or nothing would lead on from a merged pull request. Of an undo, and of what a person wrote, a person decides.
fn follow_up(facts: &RequestFacts, world: &World, freshness: Freshness, draft: &mut Draft) {
    let planned = |run: &&Run| run.plan.spec.planner.kind == PlannerKind::Catalogue;
    let Some(run) = failed_run(facts).filter(planned).filter(|_| state::open_offer(facts).is_none()) else { return };
    let expires = run.plan.metadata.expires;
    // By time alone nothing runs again that nobody merges.
    let by_time = !run.by_policy();
    if freshness == Freshness::Stale {
        draft.actions.push(Action::Plan { reason: PlanningReason::Stale });
    } else if by_time && world.now > expires {
        draft.actions.push(Action::Plan { reason: PlanningReason::Expired });
    } else if by_time {
        draft.look(expires.plus_secs(1));
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
