//! Rows as facts: every conversion may fail, and then says which table, column and row.

use chiffon_core::facts::{Attempt, Event, Offer, OfferState, RequestFile, Run};
use chiffon_schemas::{
    AttemptState, BootId, EventId, Fence, InvalidId, Name, Oid, RepoPath, RunId, RunState, Timestamp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::{Command, Error};

/// A value as the text that is stored.
pub(super) fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("facts are plain data")
}

/// Which row, as far as it can be told.
fn key_of(row: &SqliteRow) -> String {
    let columns = ["id", "name", "run_id", "step", "number", "revision", "host"];
    let parts = columns.iter().filter_map(|column| {
        let as_text = row.try_get::<String, _>(*column).ok();
        as_text.or_else(|| row.try_get::<i64, _>(*column).ok().map(|number| number.to_string()))
    });
    parts.collect::<Vec<_>>().join("/")
}

pub(super) fn corrupt(row: &SqliteRow, table: &'static str, column: &'static str, reason: impl ToString) -> Error {
    Error::Corrupt { table, column, row: key_of(row), reason: reason.to_string() }
}

/// A text column as one of our types.
pub(super) fn parsed<T>(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
    parse: impl FnOnce(String) -> Result<T, InvalidId>,
) -> Result<T, Error> {
    let value: String = row.try_get(column)?;
    parse(value).map_err(|error| corrupt(row, table, column, error))
}

/// A text column that may be null.
pub(super) fn maybe<T>(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
    parse: impl FnOnce(String) -> Result<T, InvalidId>,
) -> Result<Option<T>, Error> {
    let value: Option<String> = row.try_get(column)?;
    value.map(parse).transpose().map_err(|error| corrupt(row, table, column, error))
}

/// A JSON column.
pub(super) fn json<T: DeserializeOwned>(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<T, Error> {
    let value: String = row.try_get(column)?;
    serde_json::from_str(&value).map_err(|error| corrupt(row, table, column, error))
}

/// A JSON column that may be null.
pub(super) fn maybe_json<T: DeserializeOwned>(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<Option<T>, Error> {
    let value: Option<String> = row.try_get(column)?;
    value.map(|value| serde_json::from_str(&value)).transpose().map_err(|error| corrupt(row, table, column, error))
}

pub(super) fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp, Error> {
    Ok(Timestamp::from_secs(row.try_get(column)?))
}

pub(super) fn number<T: TryFrom<i64>>(row: &SqliteRow, table: &'static str, column: &'static str) -> Result<T, Error> {
    let value: i64 = row.try_get(column)?;
    T::try_from(value).map_err(|_| corrupt(row, table, column, "out of range"))
}

pub(super) fn file(row: &SqliteRow) -> Result<RequestFile, Error> {
    let word: String = row.try_get("file")?;
    let oid = maybe(row, "requests", "oid", Oid::parse)?;
    match (word.as_str(), oid) {
        ("absent", None) => Ok(RequestFile::Absent),
        ("valid", Some(oid)) => Ok(RequestFile::Valid { oid, priority: number(row, "requests", "priority")? }),
        ("invalid", Some(oid)) => Ok(RequestFile::Invalid { oid, findings: row.try_get("findings")? }),
        _ => Err(corrupt(row, "requests", "file", word)),
    }
}

pub(super) fn offer(row: &SqliteRow) -> Result<Offer, Error> {
    let word: String = row.try_get("state")?;
    Ok(Offer {
        plan_oid: parsed(row, "offers", "plan_oid", Oid::parse)?,
        plan: json(row, "offers", "plan")?,
        path: parsed(row, "offers", "path", RepoPath::parse)?,
        main: maybe(row, "offers", "main", Oid::parse)?,
        branch_commit: maybe(row, "offers", "branch_commit", Oid::parse)?,
        at: time(row, "at")?,
        state: OfferState::from_word(&word).ok_or_else(|| corrupt(row, "offers", "state", &word))?,
    })
}

pub(super) fn run(row: &SqliteRow, attempts: Vec<Attempt>) -> Result<Run, Error> {
    Ok(Run {
        id: parsed(row, "runs", "id", RunId::parse)?,
        plan_oid: parsed(row, "runs", "plan_oid", Oid::parse)?,
        plan: json(row, "runs", "plan")?,
        plan_path: parsed(row, "runs", "plan_path", RepoPath::parse)?,
        approval: json(row, "runs", "approval")?,
        approved_at: time(row, "approved_at")?,
        round: number(row, "runs", "round")?,
        cancel: row.try_get("cancel")?,
        state: run_state(row)?,
        finished_at: row.try_get::<Option<i64>, _>("finished_at")?.map(Timestamp::from_secs),
        voided: row.try_get("voided")?,
        attempts,
    })
}

pub(super) fn run_state(row: &SqliteRow) -> Result<Option<RunState>, Error> {
    let word: Option<String> = row.try_get("state")?;
    let Some(word) = word else { return Ok(None) };
    let states = [RunState::Succeeded, RunState::Failed, RunState::Cancelled, RunState::Lost];
    let known = states.into_iter().find(|state| state.as_str() == word);
    known.map(Some).ok_or_else(|| corrupt(row, "runs", "state", &word))
}

pub(super) fn attempt(row: &SqliteRow) -> Result<Attempt, Error> {
    Ok(Attempt {
        step: parsed(row, "attempts", "step", Name::parse)?,
        number: number(row, "attempts", "number")?,
        round: number(row, "attempts", "round")?,
        hosts: json(row, "attempts", "hosts")?,
        state: attempt_state(row)?,
        agent: parsed(row, "attempts", "agent", Name::parse)?,
        boot: maybe(row, "attempts", "boot", BootId::parse)?,
        fence: fence(row)?,
        since: time(row, "since")?,
        outcome: maybe_json(row, "attempts", "outcome")?,
    })
}

pub(super) fn attempt_state(row: &SqliteRow) -> Result<AttemptState, Error> {
    let word: String = row.try_get("state")?;
    AttemptState::from_word(&word).ok_or_else(|| corrupt(row, "attempts", "state", &word))
}

pub(super) fn fence(row: &SqliteRow) -> Result<Option<Fence>, Error> {
    let counter: Option<i64> = row.try_get("fence_counter")?;
    if counter.is_none() {
        return Ok(None);
    }
    Ok(Some(Fence {
        incarnation: number(row, "attempts", "fence_incarnation")?,
        counter: number(row, "attempts", "fence_counter")?,
    }))
}

pub(super) fn event(row: &SqliteRow) -> Result<Event, Error> {
    Ok(Event {
        id: parsed(row, "events", "id", EventId::parse)?,
        kind: row.try_get("kind")?,
        request: maybe(row, "events", "request", Name::parse)?,
        request_oid: maybe(row, "events", "request_oid", Oid::parse)?,
        plan: maybe(row, "events", "plan", Oid::parse)?,
        run: maybe(row, "events", "run", RunId::parse)?,
        hosts: json(row, "events", "hosts")?,
        services: json(row, "events", "services")?,
        summary: row.try_get("summary")?,
        detail: json(row, "events", "detail")?,
        at: time(row, "at")?,
    })
}

pub(super) fn command(row: &SqliteRow) -> Result<Command, Error> {
    Ok(Command {
        id: row.try_get("id")?,
        command: json(row, "commands", "command")?,
        at: time(row, "at")?,
        answer: maybe_json(row, "commands", "answer")?,
    })
}
