//! What people read: why a request is where it is and what to do next, in words. Used by status pages on the audit
//! branch, by `chiffon status`, and by every message about a refusal.

use std::collections::BTreeMap;

use chiffon_core::facts::{Blocked, Offer, Pull, PullState, RefusalReason, RequestFacts, RequestFile, Run, World};
use chiffon_core::{State, Waiting};
use chiffon_schemas::{ApprovalRecord, Established, Failure, Mode};

/// Why a state is so, in a sentence; empty where the word says it all.
pub fn why(state: &State, facts: &RequestFacts) -> String {
    match state {
        State::Planning(reason) => reason.as_str().to_owned(),
        State::Blocked(reason) => blocked_in_words(reason),
        State::Refused(reason) => refusal_in_words(*reason).to_owned(),
        State::Paused(waiting) => waiting_in_words(waiting),
        State::Failed | State::Lost => {
            let failure = failure(facts).map_or_else(String::new, |failure| failure_in_a_line(&failure));
            match follow_up(state, facts) {
                Some(offer) => format!("{failure}; plan {} is offered: {}", offer.revision(), offer.plan.spec.summary),
                None => failure,
            }
        }
        State::Proposed => {
            chiffon_core::open_offer(facts).map_or_else(String::new, |offer| offer.plan.spec.summary.clone())
        }
        State::Succeeded => of_check(facts),
        State::Rejected | State::Withdrawn | State::Queued | State::Running | State::Cancelled => String::new(),
    }
}

/// What a run changed, in its mode's words.
pub fn changes(mode: Mode, count: u32) -> String {
    match mode {
        Mode::Apply => format!("{count} changed"),
        Mode::Check => format!("{count} would change"),
    }
}

/// What a check run found, once it is over: of each host what its last attempt at each step says.
fn of_check(facts: &RequestFacts) -> String {
    let Some(run) = facts.run.as_ref().filter(|run| run.plan.spec.mode == Mode::Check) else { return String::new() };
    let mut found = BTreeMap::new();
    for attempt in &run.attempts {
        let recap = attempt.outcome.iter().flat_map(|outcome| &outcome.recap);
        found.extend(recap.map(|(host, recap)| ((&attempt.step, host), recap.changed)));
    }
    let changed: u32 = found.values().sum();
    let noun = if changed == 1 { "task" } else { "tasks" };
    format!("a check: {changed} {noun} would change something")
}

/// Who approved, or what did, in words.
pub fn approved_by(approval: &ApprovalRecord) -> String {
    match (&approval.by, approval.established) {
        (Some(by), _) => by.clone(),
        (None, Established::Policy) => "policy: check runs are exempt".to_owned(),
        (None, Established::Claimed | Established::Forge | Established::Signed) => {
            "somebody (git does not say who)".to_owned()
        }
    }
}

/// The plan that is on offer beside a failure.
fn follow_up<'a>(state: &State, facts: &'a RequestFacts) -> Option<&'a Offer> {
    chiffon_core::open_offer(facts).filter(|_| *state == State::Failed)
}

/// Why there is no plan.
pub fn blocked_in_words(reason: &Blocked) -> String {
    match reason {
        Blocked::Questions { questions } if questions.len() == 1 => format!("one question: {}", questions[0].text),
        Blocked::Questions { questions } => {
            let texts: Vec<&str> = questions.iter().map(|question| question.text.as_str()).collect();
            format!("{} questions: {}", questions.len(), texts.join(" "))
        }
        Blocked::NothingFits { reason, nearest } if nearest.is_empty() => format!("nothing fits: {reason}"),
        Blocked::NothingFits { reason, nearest } => {
            let names: Vec<String> = nearest.iter().map(|(playbook, title)| format!("{playbook} ({title})")).collect();
            format!("nothing fits: {reason}; nearest: {}", names.join(", "))
        }
        Blocked::Invalid { findings } => findings.clone(),
        Blocked::Denied { reasons } => format!("denied: {}", reasons.join("; ")),
        Blocked::Infra { reason } => format!("the infra repository can't be read: {reason}"),
        Blocked::Edit { reason, .. } => format!("the plan edited on its branch can't be offered: {reason}"),
        Blocked::EditedPlanStale => {
            "edited plan is stale: its request, or what it reads, has changed since it was edited, or its time is over"
                .to_owned()
        }
    }
}

/// Whether what was merged of a plan's pull request is not that plan.
pub fn is_merged_without(pull: &Pull, facts: &RequestFacts) -> bool {
    let merged = matches!(pull.state, PullState::Merged { .. });
    merged && !pull.carried && facts.plan_on_main.as_ref() != Some(&pull.plan)
}

/// Why what reached `main` may not run.
pub fn refusal_in_words(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::NotOffered => "this plan was never offered; nothing runs until it is taken off main",
        RefusalReason::EditedInMerge => "the plan was edited inside the merge; a new one is offered",
        RefusalReason::Closed => "its offer was closed before it was merged; nothing runs",
        RefusalReason::Used => "this plan ran already; nothing runs again",
        RefusalReason::Stale => "what the plan reads has changed since it was offered; a new one is made",
        RefusalReason::Edited => "the request changed after the plan was offered; a new one is made",
        RefusalReason::Expired => "the plan expired before it was approved or began; a new one is made",
        RefusalReason::Denied => "the policy denies it",
        RefusalReason::NotThroughPull => {
            "it came to main otherwise than by the merge of its pull request; nothing runs"
        }
        RefusalReason::NotAllowed => "who merged it may not approve it; nothing runs",
    }
}

/// What an approved plan waits for.
pub fn waiting_in_words(waiting: &Waiting) -> String {
    match waiting {
        Waiting::HostLocked { host, holder } => {
            format!("waiting for {host}: locked by {} (step {})", holder.request, holder.step)
        }
        Waiting::AgentOffline => "waiting for an infra agent: none was heard of lately".to_owned(),
        Waiting::Person { reason, until } => format!("paused until {until}: {reason}"),
    }
}

/// The failure of the last run.
pub fn failure(facts: &RequestFacts) -> Option<Failure> {
    let run = facts.run.as_ref()?;
    let state = run.state?;
    super::results::failure_of(run).filter(|_| state != chiffon_schemas::RunState::Succeeded)
}

fn failure_in_a_line(failure: &Failure) -> String {
    let host = failure.host.as_ref().map_or(String::new(), |host| format!("{host}: "));
    let task = failure.task.as_ref().map_or(String::new(), |task| format!("{task}: "));
    format!("{host}{task}{}", failure.cause)
}

/// What a person would do next.
pub fn next(state: &State, facts: &RequestFacts) -> String {
    let name = &facts.name;
    match state {
        State::Planning(_) | State::Queued => "wait: this goes on by itself".to_owned(),
        State::Blocked(Blocked::Questions { questions }) => {
            let count = questions.len();
            let noun = if count == 1 { "question" } else { "questions" };
            format!("answer {count} {noun}: chiffon answer {name}")
        }
        State::Blocked(Blocked::Edit { .. }) => format!("edit the plan again, or: chiffon plan {name} --again"),
        State::Blocked(Blocked::EditedPlanStale) => format!("change {}, or: chiffon plan {name} --again", facts.path),
        State::Blocked(_) => format!("change {}", facts.path),
        State::Proposed => to_approve(facts),
        State::Rejected => format!("change the request, or: chiffon plan {name} --again"),
        State::Withdrawn => "nothing: the request was deleted".to_owned(),
        State::Refused(_) => format!("take plans/…/{name}.yaml off main (git revert)"),
        State::Paused(Waiting::Person { .. }) => format!("chiffon resume {name}"),
        State::Paused(Waiting::HostLocked { holder, .. }) => {
            format!("see {}: chiffon status {}", holder.request, holder.request)
        }
        State::Paused(Waiting::AgentOffline) => {
            "start the agent: chiffon up, or chiffon-agent up on its machine".to_owned()
        }
        State::Running => format!("chiffon log {name} --follow"),
        State::Succeeded if !of_check(facts).is_empty() && facts.file != RequestFile::Absent => {
            format!("chiffon log {name}; take `mode: check` out of {} to have it done", facts.path)
        }
        State::Succeeded => String::new(),
        State::Failed if follow_up(state, facts).is_some() => {
            format!("{}; or, while the failed plan holds: chiffon retry {name}", to_approve(facts))
        }
        State::Failed | State::Cancelled if facts.run.as_ref().is_some_and(Run::by_policy) => {
            format!("chiffon log {name}, then: chiffon retry {name}, or: chiffon plan {name} --again")
        }
        State::Failed => format!("chiffon log {name}, then: chiffon retry {name}"),
        State::Cancelled => format!("chiffon retry {name}, or change the request"),
        State::Lost => format!("look at the host, then: chiffon resolve {name} --succeeded|--failed|--retry"),
    }
}

/// How an open offer is approved.
fn to_approve(facts: &RequestFacts) -> String {
    let name = &facts.name;
    if chiffon_core::open_offer(facts).is_some_and(|offer| offer.branch_commit.is_none()) {
        return "wait: this goes on by itself".to_owned();
    }
    match facts.pull.as_ref().filter(|pull| pull.number > 0) {
        Some(pull) if pull.state == PullState::Open => {
            format!("merge plan #{} to approve: {}", pull.number, pull.url)
        }
        Some(pull) if is_merged_without(pull, facts) => format!(
            "plan #{} is over and did not approve it: `chiffon plan {name} --again` offers a new one",
            pull.number
        ),
        Some(_) => "wait: this goes on by itself".to_owned(),
        None => format!("merge chiffon/plan/{name} to approve, or: chiffon approve {name}"),
    }
}

/// The page `status/…/<name>.md` on the audit branch: for someone who has only git.
pub fn status_page(facts: &RequestFacts, world: &World) -> String {
    let state = chiffon_core::state(facts, world);
    let mut page = format!("# {}: {}\n\n", facts.name, state.word());
    let mut line = |text: String| {
        page.push_str(&text);
        page.push('\n');
    };
    let why = why(&state, facts);
    if !why.is_empty() {
        line(format!("{}\n", inert(&why)));
    }
    if let State::Blocked(Blocked::Questions { questions }) = &state {
        for question in questions {
            line(format!("- `{}`: {}", inert(&question.id), inert(&question.text)));
            for (value, label) in &question.choices {
                line(format!("  - `{}`: {}", inert(value), inert(label)));
            }
        }
        line(format!("\nAnswer in `{}` under `spec.answers`, or with `chiffon answer {}`.\n", facts.path, facts.name));
    }
    let next = next(&state, facts);
    if !next.is_empty() {
        line(format!("Next: {}\n", inert(&next)));
    }
    let file = match &facts.file {
        RequestFile::Valid { oid, .. } | RequestFile::Invalid { oid, .. } => {
            format!("{} ({})", facts.path, oid.short())
        }
        RequestFile::Absent => format!("{} (deleted)", facts.path),
    };
    line(format!("- request: {file}"));
    if let Some(offer) = facts.offers.last() {
        let words = offer.state.as_str();
        line(format!(
            "- offer {}: {} ({words}), expires {}",
            offer.revision(),
            offer.plan_oid.short(),
            offer.plan.metadata.expires
        ));
    }
    if let Some(refusal) = &facts.refusal {
        line(format!("- refused {} on {}: {}", refusal.blob.short(), refusal.at, refusal_in_words(refusal.reason)));
    }
    if let Some(run) = facts.run.as_ref().filter(|run| !run.voided) {
        let words = run.state.map_or("under way", |state| state.as_str());
        line(format!(
            "- run {}: {words}, approved by {} ({})",
            run.id,
            inert(&approved_by(&run.approval)),
            run.approval.commit.short()
        ));
        for attempt in &run.attempts {
            let hosts: Vec<&str> = attempt.hosts.iter().map(|host| host.as_str()).collect();
            line(format!(
                "  - {} (attempt {}) on {}: {}",
                attempt.step,
                attempt.number,
                hosts.join(", "),
                attempt.state.as_str()
            ));
        }
    }
    if let Some(failure) = failure(facts) {
        line(String::new());
        for text in failure_lines(&failure) {
            line(format!("- {}", inert(&text)));
        }
    }
    page
}

/// The page `status/NOT-READ.md` (no request is called so): files of `main` that nobody reads; `None` where there are none.
pub fn unread_page(files: &[(String, String)]) -> Option<String> {
    if files.is_empty() {
        return None;
    }
    let mut page = "# Files of main that are not read\n\n".to_owned();
    for (path, reason) in files {
        page.push_str(&format!("- {}: {}\n", inert(path), inert(reason)));
    }
    Some(page)
}

/// A failure for people: where, why, what was done, what was not begun, and whether a retry is safe.
pub fn failure_lines(failure: &Failure) -> Vec<String> {
    let mut lines = vec![format!("failed: {}", failure_in_a_line(failure))];
    if !failure.done.is_empty() {
        lines.push(format!("done before: {}", shortened(&failure.done)));
    }
    if !failure.not_started.is_empty() {
        lines.push(format!("not started: {}", shortened(&failure.not_started)));
    }
    lines.push(if failure.retry_safe {
        "safe to retry: yes".to_owned()
    } else {
        "safe to retry: look first".to_owned()
    });
    lines
}

fn shortened(items: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = items.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if items.len() > SHOWN {
        text.push_str(&format!("; and {} more", items.len() - SHOWN));
    }
    text
}

/// Text from outside as one line that Markdown takes for nothing but text.
pub fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => {}
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '`' => out.push('\''),
            '[' | ']' | '*' | '_' | '#' | '|' | '!' | '@' | '\\' if c != '_' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
