//! How a pull request is to look: title and body while it is open, labels, commit statuses, the sticky comment, and what is
//! worth a comment of its own. Pure: the same facts, the same view; what of it is there already is not written again.

use std::collections::BTreeSet;

use chiffon_core::facts::{Answer, Blocked, Offer, Pull, PullState, RequestFacts, Run};
use chiffon_core::{ApprovalPolicy, Freshness, State};
use chiffon_forge::{Edit, Label, Proposal, Reaction, Status, StatusState};
use chiffon_planner::{inert, inert_line, is_destructive};
use chiffon_schemas::{AttemptState, Oid, Plan, RiskLevel, Undo};

use super::pages;

/// The longest description of a status, in characters: the smallest limit of the three forges.
const MAX_DESCRIPTION: usize = 140;

/// The longest title, in characters: what lists of pull requests show of one.
const MAX_TITLE: usize = 72;

/// The longest text from outside in a comment, in characters.
const MAX_TEXT: usize = 2_000;

/// How the sticky comment begins, so that it is found and edited; then comes the newest comment that was heard, so that who
/// forgot everything else does not hear it again.
pub const STICKY: &str = "<!-- chiffon:run heard=";

/// How a pull request is to look.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct View {
    /// Title, body and draft, while it is open.
    pub edit: Option<Edit>,
    /// Labels of ours; they stay as they are where there are none here.
    pub labels: Option<BTreeSet<Label>>,
    /// Statuses, each with the commit that it is of.
    pub statuses: Vec<(Oid, Status)>,
    /// The sticky comment, once there is a run or an answer.
    pub sticky: Option<String>,
    /// A comment of its own, written once: a question, a failure, a refusal, or what nobody can know. Edits notify nobody.
    pub ping: Option<Ping>,
    /// What stands beneath comments that were answered.
    pub reactions: Vec<(u64, Reaction)>,
}

impl View {
    /// Another digest, another look.
    pub fn digest(&self) -> String {
        chiffon_schemas::digest(format!("{self:?}").as_bytes())
    }
}

/// A comment that is written once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ping {
    /// The line that it begins with, by which it is found: written again only where this is another one.
    pub mark: String,
    /// All that it says, the mark included.
    pub body: String,
}

/// Title and body of a pull request; a draft, with the reason at the head, while it is `held_back`.
pub(super) fn edit(plan: &Plan, proposal: &Proposal, held_back: Option<&str>) -> Edit {
    let rendering = proposal.rendering.clone().unwrap_or_default();
    let body = match held_back {
        None => rendering,
        // The mark stays the first line.
        Some(why) => {
            let (mark, rest) = rendering.split_once('\n').unwrap_or((&rendering, ""));
            format!("{mark}\n**Not to be merged now**: {}\n\n{rest}", inert(why, MAX_TEXT))
        }
    };
    Edit { title: title(plan, proposal.tasks), body, draft: held_back.is_some() }
}

/// `plan: deploy uptime-kuma to nas01 (up to 14 tasks)`; with a mark where something may be destroyed.
fn title(plan: &Plan, tasks: Option<u32>) -> String {
    let mark = if is_destructive(plan) { "plan!:" } else { "plan:" };
    let tail = match tasks {
        Some(1) => " (1 task)".to_owned(),
        Some(tasks) => format!(" (up to {tasks} tasks)"),
        None => String::new(),
    };
    // It is in the commit of the merge as well.
    let summary = inert_line(&plan.spec.summary);
    let mut letters = summary.chars();
    // Lower case, unless the first word is a name in capitals.
    let first = letters.next().filter(|_| !letters.clone().next().is_some_and(char::is_uppercase));
    let summary = first.map_or(summary.clone(), |first| first.to_lowercase().chain(letters).collect());
    let room = MAX_TITLE.saturating_sub(mark.chars().count() + 1 + tail.chars().count());
    format!("{mark} {}{tail}", cut(&summary, room))
}

/// A text of at most so many characters, with a mark where it was cut.
fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max { text.to_owned() } else { text.chars().take(max - 1).chain(['…']).collect() }
}

/// Why a pull request must not be merged now, where that is so.
pub(super) fn held_back(facts: &RequestFacts, offer: &Offer, state: &State, freshness: Freshness) -> Option<String> {
    if offer.is_open() {
        return (freshness == Freshness::Stale)
            .then(|| "what it reads has changed; a new plan is being made".to_owned());
    }
    let why = pages::why(state, facts);
    Some(match state {
        State::Planning(_) => format!("a new plan is being made ({why})"),
        _ if why.is_empty() => format!("this plan is closed: {}", offer.state.as_str()),
        _ => format!("{}: {why}", state.word()),
    })
}

/// How a request's pull request, which shows `offer`, is to look.
pub(super) fn view(
    facts: &RequestFacts,
    pull: &Pull,
    offer: &Offer,
    (state, freshness): (&State, Freshness),
    policy: &ApprovalPolicy,
    edit: Option<Edit>,
) -> View {
    let run = facts.run.as_ref().filter(|run| run.plan_oid == pull.plan);
    let mut statuses = Vec::new();
    if let (Some(head), PullState::Open) = (&offer.branch_commit, &pull.state) {
        let head = pull.head_commit.as_ref().unwrap_or(head);
        statuses.extend(before(offer, freshness, pull, policy).map(|status| (head.clone(), status)));
    }
    // A squash or a rebase makes another commit of the head, so what comes after is told of the merge.
    if let PullState::Merged { commit: Some(merge), .. } = &pull.state {
        statuses.extend(after(facts, pull, run, state).into_iter().map(|status| (merge.clone(), status)));
    }
    View {
        edit,
        labels: Some(labels(offer, state)),
        statuses,
        // What follows a failure says so.
        sticky: (run.is_some() || !pull.answers.is_empty() || *state == State::Failed)
            .then(|| sticky(facts, pull, run, state)),
        ping: ping(facts, run, state),
        reactions: reactions(pull),
    }
}

fn reactions(pull: &Pull) -> Vec<(u64, Reaction)> {
    let reaction = |done| if done { Reaction::ThumbsUp } else { Reaction::Confused };
    pull.answers.iter().map(|answer| (answer.comment, reaction(answer.done))).collect()
}

/// How the pull request of a plan that ran looks once another plan ran without one: as it is, with answers to what is asked
/// there since.
pub(super) fn answers(pull: &Pull) -> View {
    let ping = pull.answers.last().map(|last| {
        let mark = format!("<!-- chiffon:answers {} -->", last.comment);
        let line = |answer: &Answer| format!("- {}: {}\n", inert(&answer.to, 60), inert(&answer.text, MAX_TEXT));
        let lines: String = pull.answers.iter().map(line).collect();
        Ping { body: format!("{mark}\n**Answers**\n\n{lines}"), mark }
    });
    View { edit: None, labels: None, statuses: Vec::new(), sticky: None, ping, reactions: reactions(pull) }
}

/// How a run without a pull request stands: a status of the commit of `main` that it was planned at.
pub(super) fn of_check(facts: &RequestFacts, state: &State) -> Option<(Oid, Status)> {
    let run = facts.run.as_ref().filter(|run| run.by_policy())?;
    let offer = facts.offers.iter().find(|offer| offer.plan_oid == run.plan_oid)?;
    let why = pages::why(state, facts);
    let words = if why.is_empty() { state.word().to_owned() } else { format!("{}: {why}", state.word()) };
    let of = match state {
        State::Succeeded => StatusState::Success,
        State::Failed => StatusState::Failure,
        State::Cancelled | State::Lost => StatusState::Error,
        State::Queued | State::Paused(_) | State::Running => StatusState::Pending,
        // The request has gone on, and its check was told of.
        _ => return None,
    };
    Some((offer.main.clone()?, status(&format!("check/{}", facts.name), of, &words)))
}

fn level(plan: &Plan) -> &'static str {
    match plan.spec.risk.level {
        RiskLevel::Low => "low",
        RiskLevel::Medium => "medium",
        RiskLevel::High => "high",
    }
}

fn labels(offer: &Offer, state: &State) -> BTreeSet<Label> {
    BTreeSet::from([label_of_all(), label_of_risk(offer.plan.spec.risk.level), label_of_state(state.word())])
}

fn label_of_all() -> Label {
    Label { name: "chiffon".to_owned(), color: "1d76db" }
}

fn label_of_risk(level: RiskLevel) -> Label {
    let (word, color) = match level {
        RiskLevel::Low => ("low", "0e8a16"),
        RiskLevel::Medium => ("medium", "fbca04"),
        RiskLevel::High => ("high", "d93f0b"),
    };
    Label { name: format!("risk:{word}"), color }
}

fn label_of_state(word: &str) -> Label {
    Label { name: format!("state:{word}"), color: "c5def5" }
}

/// Every label that a pull request may be given.
pub fn all_labels() -> BTreeSet<Label> {
    let risks = [RiskLevel::Low, RiskLevel::Medium, RiskLevel::High].map(label_of_risk);
    let states = State::WORDS.map(label_of_state);
    [label_of_all()].into_iter().chain(risks).chain(states).collect()
}

fn status(what: &str, state: StatusState, description: &str) -> Status {
    let flat: String = description.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Status { context: format!("chiffon/{what}"), state, description: cut(&flat, MAX_DESCRIPTION), url: None }
}

/// What is known before the merge.
fn before(offer: &Offer, freshness: Freshness, pull: &Pull, policy: &ApprovalPolicy) -> [Status; 3] {
    let spec = &offer.plan.spec;
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let plan = format!(
        "plan {}: {} on {}",
        offer.revision(),
        count(spec.steps.len(), "step"),
        count(spec.touches.hosts.len(), "host")
    );
    let rules = if spec.risk.rules.is_empty() { "no rule applies".to_owned() } else { spec.risk.rules.join(", ") };
    let risk = format!("{} risk ({rules})", level(&offer.plan));
    let policy = match policy.wants(&offer.plan, &pull.approved_by) {
        None => status("policy", StatusState::Success, &risk),
        Some((wants, true)) => status("policy", StatusState::Success, &format!("{risk}; it takes {wants}")),
        Some((wants, false)) => status("policy", StatusState::Pending, &format!("{risk}; it takes {wants}")),
    };
    let until = offer.plan.metadata.expires.to_string();
    let fresh = match freshness {
        _ if !offer.is_open() => status("fresh", StatusState::Failure, "this plan is closed: merging it runs nothing"),
        Freshness::Fresh => {
            let day = until.split('T').next().unwrap_or(&until).to_owned();
            status("fresh", StatusState::Success, &format!("what it reads is unchanged; may be merged until {day}"))
        }
        Freshness::Stale => status("fresh", StatusState::Failure, "what it reads has changed: a new plan is made"),
        Freshness::Unknown => status("fresh", StatusState::Pending, "the infra repository can't be read now"),
    };
    [status("plan", StatusState::Success, &plan), policy, fresh]
}

/// What is known after the merge: every end, failures first of all (a status that is never sent is silence).
fn after(facts: &RequestFacts, pull: &Pull, run: Option<&Run>, state: &State) -> Vec<Status> {
    let apply = |of: StatusState, words: &str| status("apply", of, words);
    let why = pages::why(state, facts);
    let told = |fallback: &str| if why.is_empty() { fallback.to_owned() } else { why.clone() };
    let ended = run.and_then(|run| run.state).is_some();
    let applied = match (state, run) {
        (State::Failed, Some(_)) => apply(StatusState::Failure, &told("a step failed")),
        (State::Lost, Some(_)) => {
            apply(StatusState::Error, &told("its agent vanished: nobody can know how far it came"))
        }
        (State::Cancelled, Some(_)) => apply(StatusState::Error, "cancelled"),
        (State::Succeeded, Some(run)) => apply(StatusState::Success, &told(&progress(run))),
        (State::Running, Some(run)) => apply(StatusState::Pending, &progress(run)),
        (State::Queued, Some(_)) => apply(StatusState::Pending, "queued"),
        (State::Paused(_), Some(_)) => apply(StatusState::Pending, &told("waiting")),
        (State::Refused(_), _) => apply(StatusState::Failure, &told("refused: nothing runs")),
        // The request has gone on; of this plan the run's own end stays the last word.
        (_, Some(run)) if ended => apply(of_end(run), &ended_as(run)),
        (_, Some(_)) => apply(StatusState::Pending, "approved"),
        (_, None) => match facts.refusal.as_ref().filter(|refusal| pull.plan == refusal.blob) {
            Some(refusal) => apply(StatusState::Failure, pages::refusal_in_words(refusal.reason)),
            // Somebody pushed over the plan before it was merged.
            None if pages::is_merged_without(pull, facts) => {
                apply(StatusState::Failure, "what was merged does not hold the plan: nothing runs")
            }
            None => apply(StatusState::Pending, "merged: not judged yet"),
        },
    };
    let verified = run.filter(|_| ended).map(|run| match of_end(run) {
        StatusState::Success => {
            status("verify", StatusState::Success, "every planned host is accounted for, and recorded")
        }
        _ => status("verify", StatusState::Failure, "not every planned host is done"),
    });
    std::iter::once(applied).chain(verified).collect()
}

fn of_end(run: &Run) -> StatusState {
    match run.state {
        Some(chiffon_schemas::RunState::Succeeded) => StatusState::Success,
        Some(chiffon_schemas::RunState::Failed) => StatusState::Failure,
        Some(chiffon_schemas::RunState::Cancelled | chiffon_schemas::RunState::Lost) | None => StatusState::Error,
    }
}

fn ended_as(run: &Run) -> String {
    format!("{}: {}", run.state.map_or("under way", |state| state.as_str()), progress(run))
}

/// How far a run came: `2 of 3 steps done`.
fn progress(run: &Run) -> String {
    let steps = &run.plan.spec.steps;
    let done = steps.iter().filter(|step| run.unfinished(&step.id).is_empty()).count();
    format!("{done} of {} steps done", steps.len())
}

/// The sticky comment: where it stands, step by step, and what was answered last.
fn sticky(facts: &RequestFacts, pull: &Pull, run: Option<&Run>, state: &State) -> String {
    let mut text = format!("{STICKY}{} -->\n**{}**", pull.heard, state.word());
    if let Some(run) = run {
        text.push_str(&format!(" · {}", progress(run)));
    }
    text.push('\n');
    let why = pages::why(state, facts);
    if !why.is_empty() {
        text.push_str(&format!("\n{}\n", inert(&why, MAX_TEXT)));
    }
    if let Some(run) = run {
        attempts(run, &mut text);
    }
    let next = pages::next(state, facts);
    if !next.is_empty() {
        text.push_str(&format!("\nNext: {}\n", inert(&next, MAX_TEXT)));
    }
    if !pull.answers.is_empty() {
        text.push_str("\n**Answers**\n\n");
        for answer in &pull.answers {
            text.push_str(&format!("- {}: {}\n", inert(&answer.to, 60), inert(&answer.text, MAX_TEXT)));
        }
    }
    text
}

fn attempts(run: &Run, text: &mut String) {
    text.push_str("\n| step | attempt | hosts | state | result |\n|---|---|---|---|---|\n");
    for step in &run.plan.spec.steps {
        for attempt in run.attempts_of(&step.id) {
            let hosts: Vec<&str> = attempt.hosts.iter().map(|host| host.as_str()).collect();
            let state = match attempt.state {
                AttemptState::Started => "running",
                other => other.as_str(),
            };
            let result = attempt.outcome.as_ref().map_or_else(String::new, |outcome| {
                let (ok, changed, failed) = outcome.recap.values().fold((0, 0, 0), |(ok, changed, failed), host| {
                    (ok + host.ok, changed + host.changed, failed + host.failed + host.unreachable)
                });
                let changed = pages::changes(run.plan.spec.mode, changed);
                format!("{ok} ok, {changed}, {failed} failed in {} s", outcome.duration_ms.div_ceil(1_000))
            });
            let hosts = inert(&hosts.join(", "), MAX_TEXT);
            text.push_str(&format!("| {} | {} | {hosts} | {state} | {result} |\n", step.id, attempt.number));
        }
    }
}

/// What is worth a comment of its own: who waits for it has to be called.
fn ping(facts: &RequestFacts, run: Option<&Run>, state: &State) -> Option<Ping> {
    let about = match (state, run) {
        (State::Failed | State::Lost, Some(run)) => format!("{} {} {}", state.word(), run.id, run.round),
        (State::Refused(reason), _) => format!("refused {}", reason.as_str()),
        (State::Blocked(Blocked::Questions { .. }), _) => {
            format!("question {}", facts.file.oid().map_or_else(String::new, |oid| oid.short().to_owned()))
        }
        _ => return None,
    };
    let mark = format!("<!-- chiffon:ping {about} -->");
    let mut body = format!("{mark}\n**{}**: {}\n", state.word(), inert(&pages::why(state, facts), MAX_TEXT));
    if let Some(why) = facts.refusal.as_ref().and_then(|refusal| refusal.why.as_ref()) {
        body.push_str(&format!("\n{}\n", inert(why, MAX_TEXT)));
    }
    if let Some(failure) = pages::failure(facts).filter(|_| run.is_some()) {
        body.push('\n');
        for line in pages::failure_lines(&failure) {
            body.push_str(&format!("- {}\n", inert(&line, MAX_TEXT)));
        }
    }
    let what_next = match state {
        State::Failed => {
            let can_undo = run.is_some_and(|run| matches!(run.plan.spec.undo, Undo::Playbook { .. }));
            let or_undo = if can_undo { ", or `/chiffon undo`" } else { "" };
            format!(
                "Comment `/chiffon retry` to do the unfinished hosts again, while what the plan reads is as it was{or_undo}."
            )
        }
        State::Lost => format!("Look at the host first; then `chiffon resolve {}` says how it ended.", facts.name),
        State::Blocked(_) => format!("Answer in `{}` under `spec.answers`, on `main`.", facts.path),
        _ => "Comment `/chiffon replan` for a new plan.".to_owned(),
    };
    body.push_str(&format!("\n{what_next}\n"));
    Some(Ping { mark, body })
}
