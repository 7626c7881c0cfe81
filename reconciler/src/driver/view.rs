//! How a pull request is to look beside its body: labels, commit statuses, the sticky comment, and what is worth a comment
//! of its own. Pure: the same facts, the same view; what of it is there already is not written again.

use std::collections::BTreeSet;

use chiffon_core::facts::{Offer, PullState, RequestFacts, Run};
use chiffon_core::{Freshness, State};
use chiffon_forge::{Label, Status, StatusState};
use chiffon_schemas::{AttemptState, Oid, RiskLevel};

use super::pages;

/// The longest description of a status, in characters: the smallest limit of the three forges.
const MAX_DESCRIPTION: usize = 140;

/// What marks the sticky comment, so that it is found and edited.
pub(super) const STICKY: &str = "<!-- chiffon:run -->";

/// How a pull request is to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Labels of ours.
    pub labels: BTreeSet<Label>,
    /// Statuses, each with the commit that it is of.
    pub statuses: Vec<(Oid, Status)>,
    /// The sticky comment, once there is a run.
    pub sticky: Option<String>,
    /// A comment of its own, written once: a failure, a refusal, or what nobody can know. Edits notify nobody.
    pub ping: Option<Ping>,
}

/// A comment that is written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// What it is about: written again only where this is another one.
    pub about: String,
    /// What it says.
    pub body: String,
}

/// How a request's pull request is to look; `None` where it has none.
pub(super) fn view(facts: &RequestFacts, state: &State, freshness: Freshness) -> Option<View> {
    let pull = facts.pull.as_ref()?;
    let offer = facts.offers.iter().find(|offer| offer.plan_oid == pull.plan)?;
    let run = facts.run.as_ref().filter(|run| run.plan_oid == pull.plan);
    let mut statuses = Vec::new();
    if let Some(head) = &offer.branch_commit {
        statuses.extend(before(offer, freshness).into_iter().map(|status| (head.clone(), status)));
    }
    // A squash or a rebase makes another commit of the head, so what comes after is told of the merge.
    if let PullState::Merged { commit: Some(merge), .. } = &pull.state {
        statuses.extend(after(facts, run, state).into_iter().map(|status| (merge.clone(), status)));
    }
    Some(View {
        labels: labels(offer, state),
        statuses,
        sticky: run.map(|run| sticky(facts, run, state)),
        ping: ping(facts, run, state),
    })
}

fn labels(offer: &Offer, state: &State) -> BTreeSet<Label> {
    let (risk, color) = match offer.plan.spec.risk.level {
        RiskLevel::Low => ("low", "0e8a16"),
        RiskLevel::Medium => ("medium", "fbca04"),
        RiskLevel::High => ("high", "d93f0b"),
    };
    let label = |name: String, color| Label { name, color };
    BTreeSet::from([
        label("chiffon".to_owned(), "1d76db"),
        label(format!("risk:{risk}"), color),
        label(format!("state:{}", state.word()), "c5def5"),
    ])
}

fn status(what: &str, state: StatusState, description: &str) -> Status {
    let mut short: String = description.chars().take(MAX_DESCRIPTION).collect();
    if short.len() < description.len() {
        short = short.chars().take(MAX_DESCRIPTION - 1).chain(['…']).collect();
    }
    Status { context: format!("chiffon/{what}"), state, description: short, url: None }
}

/// What is known before the merge.
fn before(offer: &Offer, freshness: Freshness) -> [Status; 3] {
    let spec = &offer.plan.spec;
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let plan = format!(
        "plan {}: {} on {}",
        offer.revision(),
        count(spec.steps.len(), "step"),
        count(spec.touches.hosts.len(), "host")
    );
    let rules = if spec.risk.rules.is_empty() { "no rule applies".to_owned() } else { spec.risk.rules.join(", ") };
    let level = match spec.risk.level {
        RiskLevel::Low => "low",
        RiskLevel::Medium => "medium",
        RiskLevel::High => "high",
    };
    let until = offer.plan.metadata.expires.to_string();
    let fresh = match freshness {
        Freshness::Fresh => {
            let day = until.split('T').next().unwrap_or(&until).to_owned();
            status("fresh", StatusState::Success, &format!("what it reads is unchanged; may be merged until {day}"))
        }
        Freshness::Stale => status("fresh", StatusState::Failure, "what it reads has changed: a new plan is made"),
        Freshness::Unknown => status("fresh", StatusState::Pending, "the infra repository can't be read now"),
    };
    [
        status("plan", StatusState::Success, &plan),
        status("policy", StatusState::Success, &format!("{level} risk ({rules})")),
        fresh,
    ]
}

/// What is known after the merge: every end, failures first of all (a status that is never sent is silence).
fn after(facts: &RequestFacts, run: Option<&Run>, state: &State) -> Vec<Status> {
    let apply = |of: StatusState, words: &str| status("apply", of, words);
    let why = pages::why(state, facts);
    let told = |fallback: &str| if why.is_empty() { fallback.to_owned() } else { why.clone() };
    let applied = match state {
        State::Failed => apply(StatusState::Failure, &told("a step failed")),
        State::Lost => apply(StatusState::Error, &told("its agent vanished: nobody can know how far it came")),
        State::Refused(_) => apply(StatusState::Failure, &told("refused: nothing runs")),
        State::Cancelled => apply(StatusState::Error, "cancelled"),
        State::Succeeded => apply(StatusState::Success, &run.map_or_else(String::new, progress)),
        State::Running => apply(StatusState::Pending, &run.map_or_else(String::new, progress)),
        State::Queued => apply(StatusState::Pending, "queued"),
        State::Paused(_) => apply(StatusState::Pending, &told("waiting")),
        State::Planning(_) | State::Blocked(_) | State::Proposed | State::Rejected | State::Withdrawn => {
            apply(StatusState::Pending, "merged: not judged yet")
        }
    };
    let verified = match state {
        State::Succeeded => {
            Some(status("verify", StatusState::Success, "every planned host is accounted for, and recorded"))
        }
        State::Failed | State::Lost | State::Cancelled => {
            Some(status("verify", StatusState::Failure, "not every planned host is done"))
        }
        _ => None,
    };
    std::iter::once(applied).chain(verified).collect()
}

/// How far a run came: `2 of 3 steps done`.
fn progress(run: &Run) -> String {
    let steps = &run.plan.spec.steps;
    let done = steps.iter().filter(|step| run.unfinished(&step.id).is_empty()).count();
    format!("{done} of {} steps done", steps.len())
}

/// The sticky comment: where it stands, step by step.
fn sticky(facts: &RequestFacts, run: &Run, state: &State) -> String {
    let mut text = format!("{STICKY}\n**{}** · {}\n", state.word(), progress(run));
    let why = pages::why(state, facts);
    if !why.is_empty() {
        text.push_str(&format!("\n{}\n", pages::inert(&why)));
    }
    text.push_str("\n| step | attempt | hosts | state |\n|---|---|---|---|\n");
    for step in &run.plan.spec.steps {
        for attempt in run.attempts_of(&step.id) {
            let hosts: Vec<&str> = attempt.hosts.iter().map(|host| host.as_str()).collect();
            let state = match attempt.state {
                AttemptState::Started => "running",
                other => other.as_str(),
            };
            text.push_str(&format!(
                "| {} | {} | {} | {state} |\n",
                step.id,
                attempt.number,
                pages::inert(&hosts.join(", "))
            ));
        }
    }
    let next = pages::next(state, facts);
    if !next.is_empty() {
        text.push_str(&format!("\nNext: {}\n", pages::inert(&next)));
    }
    text
}

/// What is worth a comment of its own: who waits for it has to be called.
fn ping(facts: &RequestFacts, run: Option<&Run>, state: &State) -> Option<Ping> {
    let about = match (state, run) {
        (State::Failed | State::Lost, Some(run)) => format!("{} {} {}", state.word(), run.id, run.round),
        (State::Refused(reason), _) => format!("refused {}", reason.as_str()),
        _ => return None,
    };
    let mut body =
        format!("<!-- chiffon:ping {about} -->\n**{}**: {}\n", state.word(), pages::inert(&pages::why(state, facts)));
    if let Some(failure) = pages::failure(facts).filter(|_| run.is_some()) {
        for line in pages::failure_lines(&failure) {
            body.push_str(&format!("- {}\n", pages::inert(&line)));
        }
    }
    let commands = match state {
        State::Failed => "Comment `/chiffon retry` to do the unfinished hosts again, or `/chiffon undo`.",
        State::Lost => "Look at the host first, then comment `/chiffon unlock`.",
        _ => "Comment `/chiffon replan` for a new plan.",
    };
    body.push_str(&format!("\n{commands}\n"));
    Some(Ping { about, body })
}
