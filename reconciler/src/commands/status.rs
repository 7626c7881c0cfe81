//! `chiffon status`: where requests stand, why, and what to do next.

use anyhow::Result;
use chiffon_core::State;
use chiffon_core::facts::{Blocked, RequestFacts, World};
use chiffon_schemas::{Json, Name, RiskLevel};
use serde_json::json;

use super::{Desk, Exit};
use crate::cli;
use crate::driver::pages;
use crate::output::{self, Output, printable};

/// Shows a list, or one request with details.
///
/// # Errors
/// The store failed, or there is no such request.
pub async fn run(args: &cli::Status, desk: &Desk, output: &Output) -> Result<Exit> {
    if let Some(text) = &args.name {
        let name = desk.known(text).await?;
        return show_one(&name, desk, output).await;
    }
    let mut rows = Vec::new();
    for name in desk.store.names(desk.repository, args.all).await? {
        if let Some((facts, world)) = desk.look_at(&name).await? {
            let state = chiffon_core::state(&facts, &world);
            let notes = desk.notes(&facts)?;
            rows.push(Row { facts, world, state, notes });
        }
    }
    let values: Vec<Json> = rows.iter().map(Row::summary).collect();
    let files = desk.store.refused_files(desk.repository).await?;
    let unread: Vec<Json> = files.iter().map(|(path, reason)| json!({ "path": path, "reason": reason })).collect();
    output.result(&json!({ "requests": values, "unread": unread }), || {
        let lines = files.iter().map(|(path, reason)| format!("not read: {}: {}", printable(path), printable(reason)));
        std::iter::once(list(&rows, output)).chain(lines).collect::<Vec<_>>().join("\n")
    });
    Ok(Exit::Done)
}

/// Shows one request with details.
///
/// # Errors
/// The store failed.
pub async fn show_one(name: &Name, desk: &Desk, output: &Output) -> Result<Exit> {
    let Some((facts, world)) = desk.look_at(name).await? else {
        anyhow::bail!("there is no request `{name}`");
    };
    let state = chiffon_core::state(&facts, &world);
    let row = Row { notes: desk.notes(&facts)?, facts, world, state };
    output.result(&row.summary(), || details(&row, output));
    Ok(if row.state.needs_attention() { Exit::Attention } else { Exit::Done })
}

/// One request as it is shown.
struct Row {
    facts: RequestFacts,
    world: World,
    state: State,
    notes: Vec<String>,
}

fn list(rows: &[Row], output: &Output) -> String {
    if rows.is_empty() {
        return "no requests yet: push a file to requests/, or: chiffon request \"what you want\"".to_owned();
    }
    let head = ["NAME", "STATE", "SINCE", "HOSTS", "RISK", "NEXT"];
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|Row { facts, world, state, .. }| {
            let next = pages::next(state, facts);
            let why = match state {
                State::Paused(_) | State::Blocked(_) => pages::why(state, facts),
                _ => String::new(),
            };
            let hint = if next.is_empty() || matches!(state, State::Paused(_)) { why } else { next };
            vec![
                facts.name.to_string(),
                state.word().to_owned(),
                output::ago(world.now.secs() - facts.since.secs()),
                or_dash(hosts(facts)),
                risk(facts).unwrap_or("-").to_owned(),
                printable(&crate::events::one_line(&hint)),
            ]
        })
        .collect();
    output::table(&head, &cells, |row, column, cell| {
        if column == 1 { output.paint(crate::up::tone(&rows[row].state), cell) } else { cell.to_owned() }
    })
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// The plan that the state is about: the run's, or the last offer's.
fn plan(facts: &RequestFacts) -> Option<&chiffon_schemas::Plan> {
    chiffon_core::open_offer(facts).map(|offer| &offer.plan).or_else(|| facts.run.as_ref().map(|run| &run.plan))
}

fn hosts(facts: &RequestFacts) -> String {
    let hosts = plan(facts).map(|plan| plan.spec.touches.hosts.as_slice()).unwrap_or_default();
    hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>().join(",")
}

fn risk(facts: &RequestFacts) -> Option<&'static str> {
    plan(facts).map(|plan| match plan.spec.risk.level {
        RiskLevel::Low => "low",
        RiskLevel::Medium => "medium",
        RiskLevel::High => "high",
    })
}

impl Row {
    /// The stable keys of one request.
    fn summary(&self) -> Json {
        let Self { facts, world, state, notes } = self;
        let questions = match state {
            State::Blocked(Blocked::Questions { questions }) => json!(super::answer::questions_in_json(questions)),
            _ => json!([]),
        };
        let run = facts.run.as_ref().filter(|run| !run.voided);
        json!({
            "name": facts.name,
            "path": facts.path,
            "state": state.word(),
            "reason": pages::why(state, facts),
            "next": pages::next(state, facts),
            "since": facts.since,
            "hosts": plan(facts).map(|plan| plan.spec.touches.hosts.clone()).unwrap_or_default(),
            "risk": risk(facts),
            "plan": chiffon_core::open_offer(facts).map(|offer| json!({
                "oid": offer.plan_oid,
                "revision": offer.revision(),
                "summary": offer.plan.spec.summary,
                "expires": offer.plan.metadata.expires,
                "branch": format!("chiffon/plan/{}", facts.name),
                "shown": offer.branch_commit.is_some(),
            })),
            "questions": questions,
            "refusal": facts.refusal,
            "run": run.map(|run| json!({
                "id": run.id,
                "plan": run.plan_oid,
                "state": run.state,
                "round": run.round,
                "approval": run.approval,
                "attempts": run.attempts.iter().map(|attempt| json!({
                    "step": attempt.step,
                    "attempt": attempt.number,
                    "hosts": attempt.hosts,
                    "state": attempt.state,
                    "agent": attempt.agent,
                    "fence": attempt.fence,
                    "outcome": attempt.outcome,
                })).collect::<Vec<_>>(),
            })),
            "failure": pages::failure(facts),
            "notes": notes,
            "now": world.now,
        })
    }
}

fn details(row: &Row, output: &Output) -> String {
    let Row { facts, state, notes, .. } = row;
    let mut lines = Vec::new();
    let why = pages::why(state, facts);
    let word = output.paint(crate::up::tone(state), state.word());
    lines.push(if why.is_empty() {
        format!("{}: {word}", facts.name)
    } else {
        format!("{}: {word}: {}", facts.name, output::continued(&why))
    });
    if let State::Blocked(Blocked::Questions { questions }) = state {
        lines.extend(super::answer::questions_in_words(questions));
    }
    if let Some(offer) = chiffon_core::open_offer(facts) {
        lines.push(format!(
            "  plan {} (revision {}), expires {}",
            offer.plan_oid.short(),
            offer.revision(),
            offer.plan.metadata.expires
        ));
    }
    if let Some(refusal) = &facts.refusal {
        lines.push(format!(
            "  refused {} at {}: {}",
            refusal.blob.short(),
            refusal.at,
            pages::refusal_in_words(refusal.reason)
        ));
    }
    if let Some(run) = facts.run.as_ref().filter(|run| !run.voided) {
        let by = printable(&pages::approved_by(&run.approval));
        lines.push(format!("  run {} approved by {by} in {}", run.id, run.approval.commit.short()));
        for attempt in &run.attempts {
            let hosts: Vec<&str> = attempt.hosts.iter().map(|host| host.as_str()).collect();
            let secs = attempt
                .outcome
                .as_ref()
                .map_or(String::new(), |outcome| format!(" in {} s", outcome.duration_ms.div_ceil(1000)));
            lines.push(format!(
                "    {} (attempt {}) on {}: {}{secs}",
                attempt.step,
                attempt.number,
                hosts.join(", "),
                attempt.state.as_str()
            ));
        }
    }
    if let Some(failure) = pages::failure(facts) {
        lines.extend(pages::failure_lines(&failure).into_iter().map(|line| format!("  {}", printable(&line))));
        if !failure.excerpt.is_empty() {
            lines.extend(failure.excerpt.lines().map(|line| format!("  | {}", printable(line))));
        }
    }
    lines.extend(notes.iter().map(|note| format!("  note: {}", printable(note))));
    let next = pages::next(state, facts);
    if !next.is_empty() {
        lines.push(format!("  next: {next}"));
    }
    lines.join("\n")
}
