//! Rows as facts: every conversion may fail, and then says which table, column and row. And values as PostgreSQL takes
//! them: ULIDs as uuids of the same bits, and text without NUL, which it refuses everywhere.

use std::borrow::Cow;

use chiffon_core::facts::{Attempt, Event, Offer, OfferState, RequestFile, Run};
use chiffon_schemas::{
    AttemptState, BootId, EventId, Fence, Host, InvalidId, Json, Name, Oid, RepoPath, RunId, RunState, Timestamp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, Row, Type};

use crate::{Command, Error};

/// What has columns: a row of an answer, or one that came as JSON within another.
pub(super) trait Fields {
    /// The value of a column.
    fn field<T>(&self, column: &str) -> Result<T, Error>
    where
        T: DeserializeOwned + Type<Postgres> + for<'row> sqlx::Decode<'row, Postgres>;
}

impl Fields for PgRow {
    fn field<T>(&self, column: &str) -> Result<T, Error>
    where
        T: DeserializeOwned + Type<Postgres> + for<'row> sqlx::Decode<'row, Postgres>,
    {
        Ok(self.try_get(column)?)
    }
}

/// A row as JSON, as `row_to_json` makes it.
#[derive(Debug, serde::Deserialize)]
#[serde(transparent)]
pub(super) struct Inner(serde_json::Map<String, Json>);

impl Fields for Inner {
    fn field<T>(&self, column: &str) -> Result<T, Error>
    where
        T: DeserializeOwned + Type<Postgres> + for<'row> sqlx::Decode<'row, Postgres>,
    {
        let value = self.0.get(column).ok_or_else(|| sqlx::Error::ColumnNotFound(column.to_owned()))?;
        let undecoded =
            |error: serde_json::Error| sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(error) };
        Ok(serde_json::from_value(value.clone()).map_err(undecoded)?)
    }
}

/// Rows that came as JSON within one; none where it is null.
pub(super) fn inner(row: &PgRow, column: &str) -> Result<Vec<Inner>, Error> {
    let Some(text) = row.try_get::<Option<&str>, _>(column)? else { return Ok(Vec::new()) };
    let undecoded = |error| sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(error) };
    Ok(serde_json::from_str(text).map_err(undecoded)?)
}

/// The columns of each table as they are read: times as seconds, uuids and JSON as text.
macro_rules! columns {
    (request) => {
        "name, path, file, oid, priority::bigint AS priority, findings,
    extract(epoch FROM since)::bigint AS since, plan_on_main, replan_after, pause::text AS pause, pull::text AS pull,
    unplanned::text AS unplanned, refusal::text AS refusal"
    };
    (offer) => {
        "name, revision, plan_oid, plan::text AS plan, path, main, branch_commit,
    extract(epoch FROM at)::bigint AS at, state"
    };
    (run) => {
        "id::text AS id, name, plan_oid, plan::text AS plan, plan_path, approval::text AS approval,
    extract(epoch FROM approved_at)::bigint AS approved_at, round, cancel, state,
    extract(epoch FROM finished_at)::bigint AS finished_at, voided"
    };
    (attempt) => {
        "attempts.run_id::text AS run_id, step, number, attempts.round AS round, hosts, attempts.state AS state, agent,
    boot::text AS boot, fence_incarnation, fence_counter, extract(epoch FROM attempts.since)::bigint AS since,
    outcome::text AS outcome"
    };
    (event) => {
        "seq, id::text AS id, kind, request, request_oid, plan, run::text AS run, hosts, services,
    summary, detail::text AS detail, extract(epoch FROM at)::bigint AS at"
    };
    (command) => {
        "id, command::text AS command, extract(epoch FROM at)::bigint AS at,
    answer::text AS answer"
    };
    (lock) => {
        "host, request, run_id::text AS run_id, step, number"
    };
    (agent) => {
        "name, kind, boot::text AS boot, extract(epoch FROM heard)::bigint AS heard, ansible_core"
    };
    (load) => {
        "agent, count(*) AS count FROM attempts
    WHERE state IN ('ordered', 'claimed', 'granted', 'started') GROUP BY agent"
    };
}
pub(super) use columns;

/// What stands for NUL, and for itself: the last character for private use.
const ESCAPE: char = '\u{f8ff}';

/// A text as it can be stored.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => out.extend([ESCAPE, '0']),
            ESCAPE => out.extend([ESCAPE, ESCAPE]),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// A stored text as it was.
pub(super) fn whole(text: String) -> String {
    if !text.contains(ESCAPE) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ESCAPE => out.push(if chars.next() == Some('0') { '\0' } else { ESCAPE }),
            other => out.push(other),
        }
    }
    out
}

/// A value as the JSON that is stored.
pub(super) fn text(value: &impl Serialize) -> String {
    let json = serde_json::to_value(value).expect("facts are plain data");
    let json = each_text(json, &|text| plain(&text).into_owned());
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Decimal);
    json.serialize(&mut serializer).expect("plain data has a form");
    String::from_utf8(out).expect("JSON is text")
}

/// Writes a fraction that is whole with its `.0`: without it `jsonb` would give back an integer, and what was approved
/// would not be the same to the last bit.
struct Decimal;

impl serde_json::ser::Formatter for Decimal {
    fn write_f64<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, value: f64) -> std::io::Result<()> {
        if value.fract() == 0.0 { write!(writer, "{value:.1}") } else { write!(writer, "{value}") }
    }
}

fn each_text(json: Json, change: &impl Fn(String) -> String) -> Json {
    match json {
        Json::String(text) => Json::String(change(text)),
        Json::Array(items) => items.into_iter().map(|item| each_text(item, change)).collect(),
        Json::Object(map) => map
            .into_iter()
            .map(|(key, value)| (change(key), each_text(value, change)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other @ (Json::Null | Json::Bool(_) | Json::Number(_)) => other,
    }
}

/// A ULID's 128 bits as a uuid.
pub(super) fn uuid(ulid: &str) -> String {
    let digit = |byte: u8| ALPHABET.iter().position(|known| *known == byte.to_ascii_uppercase()).unwrap_or(0) as u128;
    format!("{:032x}", ulid.bytes().fold(0_u128, |value, byte| (value << 5) | digit(byte)))
}

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A uuid's 128 bits as a ULID.
fn ulid(uuid: &str) -> String {
    let hex: String = uuid.chars().filter(|c| *c != '-').collect();
    let value = u128::from_str_radix(&hex, 16).unwrap_or(0);
    (0..26).rev().map(|place| char::from(ALPHABET[(value >> (place * 5)) as usize & 31])).collect()
}

/// Which row, as far as it can be told.
fn key_of(row: &impl Fields) -> String {
    let columns = ["id", "name", "run_id", "step", "number", "revision", "host"];
    let parts = columns.iter().filter_map(|column| {
        let as_text = row.field::<String>(column).ok();
        as_text.or_else(|| row.field::<i64>(column).ok().map(|number| number.to_string()))
    });
    parts.collect::<Vec<_>>().join("/")
}

pub(super) fn corrupt(row: &impl Fields, table: &'static str, column: &'static str, reason: impl ToString) -> Error {
    Error::Corrupt { table, column, row: key_of(row), reason: reason.to_string() }
}

/// A text column as one of our types.
pub(super) fn parsed<T>(
    row: &impl Fields,
    table: &'static str,
    column: &'static str,
    parse: impl FnOnce(String) -> Result<T, InvalidId>,
) -> Result<T, Error> {
    let value: String = row.field(column)?;
    parse(value).map_err(|error| corrupt(row, table, column, error))
}

/// A text column that may be null.
pub(super) fn maybe<T>(
    row: &impl Fields,
    table: &'static str,
    column: &'static str,
    parse: impl FnOnce(String) -> Result<T, InvalidId>,
) -> Result<Option<T>, Error> {
    let value: Option<String> = row.field(column)?;
    value.map(parse).transpose().map_err(|error| corrupt(row, table, column, error))
}

/// A uuid column, read as text, as one of our ids.
pub(super) fn id<T>(
    row: &impl Fields,
    table: &'static str,
    column: &'static str,
    parse: impl FnOnce(String) -> Result<T, InvalidId>,
) -> Result<T, Error> {
    parsed(row, table, column, |text| parse(ulid(&text)))
}

fn maybe_id<T>(
    row: &impl Fields,
    table: &'static str,
    column: &'static str,
    parse: impl FnOnce(String) -> Result<T, InvalidId>,
) -> Result<Option<T>, Error> {
    maybe(row, table, column, |text| parse(ulid(&text)))
}

/// A JSON column, read as text.
pub(super) fn json<T: DeserializeOwned>(
    row: &impl Fields,
    table: &'static str,
    column: &'static str,
) -> Result<T, Error> {
    let value: String = row.field(column)?;
    from_json(&value).map_err(|error| corrupt(row, table, column, error))
}

/// A JSON column that may be null.
pub(super) fn maybe_json<T: DeserializeOwned>(
    row: &impl Fields,
    table: &'static str,
    column: &'static str,
) -> Result<Option<T>, Error> {
    let value: Option<String> = row.field(column)?;
    value.map(|value| from_json(&value)).transpose().map_err(|error| corrupt(row, table, column, error))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    if !text.contains(ESCAPE) {
        return serde_json::from_str(text);
    }
    serde_json::from_value(each_text(serde_json::from_str(text)?, &whole))
}

/// A column of texts that are ours.
fn list<T>(
    row: &impl Fields,
    table: &'static str,
    column: &'static str,
    parse: impl Fn(String) -> Result<T, InvalidId>,
) -> Result<Vec<T>, Error> {
    let values: Vec<String> = row.field(column)?;
    values.into_iter().map(|value| parse(value).map_err(|error| corrupt(row, table, column, error))).collect()
}

/// Hosts as a column of texts takes them.
pub(super) fn texts(hosts: &[Host]) -> Vec<String> {
    hosts.iter().map(Host::to_string).collect()
}

pub(super) fn time(row: &impl Fields, column: &'static str) -> Result<Timestamp, Error> {
    Ok(Timestamp::from_secs(row.field(column)?))
}

pub(super) fn number<T: TryFrom<i64>>(
    row: &impl Fields,
    table: &'static str,
    column: &'static str,
) -> Result<T, Error> {
    let value: i64 = row.field(column)?;
    T::try_from(value).map_err(|_| corrupt(row, table, column, "out of range"))
}

pub(super) fn file(row: &impl Fields) -> Result<RequestFile, Error> {
    let word: String = row.field("file")?;
    let oid = maybe(row, "requests", "oid", Oid::parse)?;
    match (word.as_str(), oid) {
        ("absent", None) => Ok(RequestFile::Absent),
        ("valid", Some(oid)) => Ok(RequestFile::Valid { oid, priority: number(row, "requests", "priority")? }),
        ("invalid", Some(oid)) => {
            let findings: Option<String> = row.field("findings")?;
            Ok(RequestFile::Invalid { oid, findings: whole(findings.unwrap_or_default()) })
        }
        _ => Err(corrupt(row, "requests", "file", word)),
    }
}

pub(super) fn offer(row: &impl Fields) -> Result<Offer, Error> {
    let word: String = row.field("state")?;
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

pub(super) fn run(row: &impl Fields, attempts: Vec<Attempt>) -> Result<Run, Error> {
    Ok(Run {
        id: id(row, "runs", "id", RunId::parse)?,
        plan_oid: parsed(row, "runs", "plan_oid", Oid::parse)?,
        plan: json(row, "runs", "plan")?,
        plan_path: parsed(row, "runs", "plan_path", RepoPath::parse)?,
        approval: json(row, "runs", "approval")?,
        approved_at: time(row, "approved_at")?,
        round: number(row, "runs", "round")?,
        cancel: row.field("cancel")?,
        state: run_state(row)?,
        finished_at: row.field::<Option<i64>>("finished_at")?.map(Timestamp::from_secs),
        voided: row.field("voided")?,
        attempts,
    })
}

pub(super) fn run_state(row: &impl Fields) -> Result<Option<RunState>, Error> {
    let word: Option<String> = row.field("state")?;
    let Some(word) = word else { return Ok(None) };
    let states = [RunState::Succeeded, RunState::Failed, RunState::Cancelled, RunState::Lost];
    let known = states.into_iter().find(|state| state.as_str() == word);
    known.map(Some).ok_or_else(|| corrupt(row, "runs", "state", &word))
}

pub(super) fn attempt(row: &impl Fields) -> Result<Attempt, Error> {
    Ok(Attempt {
        step: parsed(row, "attempts", "step", Name::parse)?,
        number: number(row, "attempts", "number")?,
        round: number(row, "attempts", "round")?,
        hosts: list(row, "attempts", "hosts", Host::parse)?,
        state: attempt_state(row)?,
        agent: parsed(row, "attempts", "agent", Name::parse)?,
        boot: maybe_id(row, "attempts", "boot", BootId::parse)?,
        fence: fence(row)?,
        since: time(row, "since")?,
        outcome: maybe_json(row, "attempts", "outcome")?,
    })
}

pub(super) fn attempt_state(row: &impl Fields) -> Result<AttemptState, Error> {
    let word: String = row.field("state")?;
    AttemptState::from_word(&word).ok_or_else(|| corrupt(row, "attempts", "state", &word))
}

pub(super) fn fence(row: &impl Fields) -> Result<Option<Fence>, Error> {
    let counter: Option<i64> = row.field("fence_counter")?;
    if counter.is_none() {
        return Ok(None);
    }
    Ok(Some(Fence {
        incarnation: number(row, "attempts", "fence_incarnation")?,
        counter: number(row, "attempts", "fence_counter")?,
    }))
}

pub(super) fn event(row: &impl Fields) -> Result<Event, Error> {
    let services: Vec<String> = row.field("services")?;
    Ok(Event {
        id: id(row, "events", "id", EventId::parse)?,
        kind: row.field("kind")?,
        request: maybe(row, "events", "request", Name::parse)?,
        request_oid: maybe(row, "events", "request_oid", Oid::parse)?,
        plan: maybe(row, "events", "plan", Oid::parse)?,
        run: maybe_id(row, "events", "run", RunId::parse)?,
        hosts: list(row, "events", "hosts", Host::parse)?,
        services: services.into_iter().map(whole).collect(),
        summary: whole(row.field("summary")?),
        detail: json(row, "events", "detail")?,
        at: time(row, "at")?,
    })
}

pub(super) fn command(row: &impl Fields) -> Result<Command, Error> {
    Ok(Command {
        id: row.field("id")?,
        command: json(row, "commands", "command")?,
        at: time(row, "at")?,
        answer: maybe_json(row, "commands", "answer")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulid_is_a_uuid_of_the_same_bits() {
        for text in ["00000000000000000000000000", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01M84VJN6DCKM6XE2J11XS2T4C"] {
            assert_eq!(ulid(&uuid(text)), text);
        }
        assert!(uuid("01M84VJN6DCKM6XE2J11XS2T4C") < uuid("01M84VJN6DCKM6XE2J11XS2T4D"), "they sort alike");
    }

    #[test]
    fn any_text_comes_back_whole() {
        for text in ["", "é", "\0", "a\0\0b", "\u{f8ff}", "\u{f8ff}0", "\0\u{f8ff}\0", "0"] {
            let stored = plain(text).into_owned();
            assert!(!stored.contains('\0'));
            assert_eq!(whole(stored), text);
        }
    }
}
