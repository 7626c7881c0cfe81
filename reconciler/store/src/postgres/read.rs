//! What is asked of the store without changing it.

use std::collections::BTreeMap;

use chiffon_core::facts::{AgentFacts, Event, LockHolder, RequestFacts, Run};
use chiffon_schemas::{BootId, Host, Mode, Name, Oid, Outcome, RepoPath, RunId, Timestamp, Verdict};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row};

use super::rows::{self, Fields, columns};
use crate::{Command, Cursor, Error, EventFilter, Ground, RepositoryId, Seen};

pub(super) async fn cursor(db: &mut PgConnection, repository: RepositoryId) -> Result<Cursor, Error> {
    let row = sqlx::query("SELECT id, main, infra, audit FROM repositories WHERE id = $1")
        .bind(repository.0)
        .fetch_one(db)
        .await?;
    cursor_of(&row)
}

fn cursor_of(row: &PgRow) -> Result<Cursor, Error> {
    let oid = |column| rows::maybe(row, "repositories", column, Oid::parse);
    Ok(Cursor { main: oid("main")?, infra: oid("infra")?, audit: oid("audit")? })
}

/// The columns of everything that is known of a request, each set of rows as JSON: one question, so that all of it is of
/// one moment, and one answer.
macro_rules! seen {
    ($of:literal) => {
        concat!(
            "SELECT repository_id, version, ",
            columns!(request),
            ", (SELECT json_agg(row_to_json(offer) ORDER BY offer.revision)::text FROM (SELECT ",
            columns!(offer),
            " FROM offers WHERE offers.repository_id = requests.repository_id AND offers.name = requests.name)
                 AS offer) AS offers,
             (SELECT json_agg(row_to_json(run))::text FROM (SELECT ",
            columns!(run),
            " FROM runs WHERE runs.repository_id = requests.repository_id AND runs.name = requests.name
              ORDER BY runs.id DESC LIMIT 1) AS run) AS runs,
             (SELECT json_agg(row_to_json(attempt) ORDER BY attempt.number)::text FROM (SELECT ",
            columns!(attempt),
            " FROM attempts WHERE attempts.run_id =
                 (SELECT runs.id FROM runs WHERE runs.repository_id = requests.repository_id
                  AND runs.name = requests.name ORDER BY runs.id DESC LIMIT 1)) AS attempt) AS attempts
             FROM requests WHERE ",
            $of
        )
    };
}

pub(super) async fn seen(db: &mut PgConnection, repository: RepositoryId, name: &Name) -> Result<Option<Seen>, Error> {
    let row = sqlx::query(seen!("repository_id = $1 AND name = $2"))
        .bind(repository.0)
        .bind(name.as_str())
        .fetch_optional(db)
        .await?;
    row.map(|row| seen_of(&row)).transpose()
}

/// The request that a run belongs to.
pub(super) async fn seen_by_run(db: &mut PgConnection, run: &RunId) -> Result<Option<(RepositoryId, Seen)>, Error> {
    let row = sqlx::query(seen!("(repository_id, name) = (SELECT repository_id, name FROM runs WHERE id = $1::uuid)"))
        .bind(rows::uuid(run.as_str()))
        .fetch_optional(db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((RepositoryId(row.try_get("repository_id")?), seen_of(&row)?)))
}

fn seen_of(row: &PgRow) -> Result<Seen, Error> {
    let offers = rows::inner(row, "offers")?;
    let replan: Option<i64> = row.try_get("replan_after")?;
    let facts = RequestFacts {
        name: rows::parsed(row, "requests", "name", Name::parse)?,
        path: rows::parsed(row, "requests", "path", RepoPath::parse)?,
        file: rows::file(row)?,
        since: rows::time(row, "since")?,
        plan_on_main: rows::maybe(row, "requests", "plan_on_main", Oid::parse)?,
        plan_branch: None,
        offers: offers.iter().map(rows::offer).collect::<Result<_, _>>()?,
        unplanned: rows::maybe_json(row, "requests", "unplanned")?,
        refusal: rows::maybe_json(row, "requests", "refusal")?,
        run: last_run(row)?,
        pause: rows::maybe_json(row, "requests", "pause")?,
        pull: rows::maybe_json(row, "requests", "pull")?,
        replan_after: replan.and_then(|revision| u32::try_from(revision).ok()),
    };
    Ok(Seen { version: row.try_get("version")?, facts })
}

fn last_run(row: &PgRow) -> Result<Option<Run>, Error> {
    let runs = rows::inner(row, "runs")?;
    let Some(found) = runs.first() else { return Ok(None) };
    let attempts = rows::inner(row, "attempts")?;
    let mut run = rows::run(found, attempts.iter().map(rows::attempt).collect::<Result<_, _>>()?)?;
    // In the order of the plan, as a person reads it.
    let place = |step: &Name| run.plan.spec.steps.iter().position(|planned| &planned.id == step);
    let mut attempts = std::mem::take(&mut run.attempts);
    attempts.sort_by_key(|attempt| (place(&attempt.step), attempt.number));
    run.attempts = attempts;
    Ok(Some(run))
}

/// What all requests share, at one moment.
pub(super) async fn ground(db: &mut PgConnection, repository: RepositoryId) -> Result<Ground, Error> {
    let row = sqlx::query(concat!(
        "SELECT id, main, infra, audit,
         (SELECT json_agg(row_to_json(lock))::text FROM (SELECT ",
        columns!(lock),
        " FROM locks WHERE repository_id = $1) AS lock) AS locks,
         (SELECT json_agg(row_to_json(agent))::text FROM (SELECT ",
        columns!(agent),
        " FROM agents) AS agent) AS agents,
         (SELECT json_agg(row_to_json(load))::text FROM (SELECT ",
        columns!(load),
        ") AS load) AS load
         FROM repositories WHERE id = $1"
    ))
    .bind(repository.0)
    .fetch_one(db)
    .await?;
    Ok(Ground {
        cursor: cursor_of(&row)?,
        locks: rows::inner(&row, "locks")?.iter().map(lock).collect::<Result<_, _>>()?,
        agents: rows::inner(&row, "agents")?.iter().map(agent).collect::<Result<_, _>>()?,
        load: rows::inner(&row, "load")?.iter().map(load_of).collect::<Result<_, _>>()?,
    })
}

pub(super) async fn names(db: &mut PgConnection, repository: RepositoryId, archived: bool) -> Result<Vec<Name>, Error> {
    // Archived: the file is gone and nothing goes on. A refused plan that still lies on `main` is no archive matter.
    let found = sqlx::query(
        "SELECT name FROM requests WHERE repository_id = $1 AND ($2 OR file <> 'absent' OR watched
             OR refusal->>'blob' = plan_on_main)
         ORDER BY name",
    )
    .bind(repository.0)
    .bind(archived)
    .fetch_all(db)
    .await?;
    found.iter().map(|row| rows::parsed(row, "requests", "name", Name::parse)).collect()
}

/// What is to be looked at, the most urgent first.
pub(super) async fn active(db: &mut PgConnection, repository: RepositoryId) -> Result<Vec<(Name, i64)>, Error> {
    let found = sqlx::query(
        "SELECT name, version FROM requests WHERE repository_id = $1 AND (version <> settled OR watched)
         ORDER BY priority DESC, since, name",
    )
    .bind(repository.0)
    .fetch_all(db)
    .await?;
    let active = |row: &PgRow| Ok((rows::parsed(row, "requests", "name", Name::parse)?, row.try_get("version")?));
    found.iter().map(active).collect()
}

pub(super) async fn refused_files(
    db: &mut PgConnection,
    repository: RepositoryId,
) -> Result<Vec<(String, String)>, Error> {
    let found = sqlx::query("SELECT path, reason FROM refused_files WHERE repository_id = $1 ORDER BY path")
        .bind(repository.0)
        .fetch_all(db)
        .await?;
    let file = |row: &PgRow| Ok((rows::whole(row.try_get("path")?), rows::whole(row.try_get("reason")?)));
    found.iter().map(file).collect()
}

pub(super) async fn first_grant(db: &mut PgConnection, run: &RunId) -> Result<Option<Timestamp>, Error> {
    let row = sqlx::query(
        "SELECT extract(epoch FROM MIN(at))::bigint AS at FROM attempt_states
         WHERE run_id = $1::uuid AND state = 'granted'",
    )
    .bind(rows::uuid(run.as_str()))
    .fetch_one(db)
    .await?;
    Ok(row.try_get::<Option<i64>, _>("at")?.map(Timestamp::from_secs))
}

pub(super) async fn unaudited(
    db: &mut PgConnection,
    repository: RepositoryId,
    limit: u32,
) -> Result<Vec<Event>, Error> {
    let found = sqlx::query(concat!(
        "SELECT ",
        columns!(event),
        " FROM events WHERE repository_id = $1 AND audit_commit IS NULL ORDER BY seq LIMIT $2"
    ))
    .bind(repository.0)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    found.iter().map(rows::event).collect()
}

/// What people typed and nobody answered.
pub(super) async fn commands(db: &mut PgConnection, repository: RepositoryId) -> Result<Vec<Command>, Error> {
    let found = sqlx::query(concat!(
        "SELECT ",
        columns!(command),
        " FROM commands WHERE repository_id = $1 AND answer IS NULL ORDER BY id"
    ))
    .bind(repository.0)
    .fetch_all(db)
    .await?;
    found.iter().map(rows::command).collect()
}

pub(super) async fn locks(
    db: &mut PgConnection,
    repository: RepositoryId,
) -> Result<BTreeMap<Host, LockHolder>, Error> {
    let found = sqlx::query(concat!("SELECT ", columns!(lock), " FROM locks WHERE repository_id = $1"))
        .bind(repository.0)
        .fetch_all(db)
        .await?;
    found.iter().map(lock).collect()
}

fn lock(row: &impl Fields) -> Result<(Host, LockHolder), Error> {
    Ok((rows::parsed(row, "locks", "host", Host::parse)?, holder(row)?))
}

pub(super) fn holder(row: &impl Fields) -> Result<LockHolder, Error> {
    Ok(LockHolder {
        request: rows::parsed(row, "locks", "request", Name::parse)?,
        run: rows::id(row, "locks", "run_id", RunId::parse)?,
        step: rows::parsed(row, "locks", "step", Name::parse)?,
        attempt: rows::number(row, "locks", "number")?,
    })
}

pub(super) async fn agents(db: &mut PgConnection) -> Result<BTreeMap<Name, AgentFacts>, Error> {
    let found = sqlx::query(concat!("SELECT ", columns!(agent), " FROM agents")).fetch_all(db).await?;
    found.iter().map(agent).collect()
}

fn agent(row: &impl Fields) -> Result<(Name, AgentFacts), Error> {
    let facts = AgentFacts {
        kind: rows::json(row, "agents", "kind")?,
        boot: rows::id(row, "agents", "boot", BootId::parse)?,
        heard: rows::time(row, "heard")?,
        ansible_core: row.field("ansible_core")?,
    };
    Ok((rows::parsed(row, "agents", "name", Name::parse)?, facts))
}

/// How many attempts that are not over each agent has.
pub(super) async fn load(db: &mut PgConnection) -> Result<BTreeMap<Name, u32>, Error> {
    let found = sqlx::query(concat!("SELECT ", columns!(load))).fetch_all(db).await?;
    found.iter().map(load_of).collect()
}

fn load_of(row: &impl Fields) -> Result<(Name, u32), Error> {
    let count: i64 = row.field("count")?;
    Ok((rows::parsed(row, "attempts", "agent", Name::parse)?, u32::try_from(count).unwrap_or(u32::MAX)))
}

pub(super) async fn events(
    db: &mut PgConnection,
    repository: RepositoryId,
    filter: &EventFilter,
) -> Result<Vec<Event>, Error> {
    let found = events_query("", repository, filter).build().fetch_all(db).await?;
    found.iter().map(rows::event).collect()
}

/// How the server would find past events, in its own words.
#[cfg(feature = "conformance")]
pub(super) async fn explain_events(
    db: &mut PgConnection,
    repository: RepositoryId,
    filter: &EventFilter,
) -> Result<String, Error> {
    let found = events_query("EXPLAIN ", repository, filter).build().fetch_all(db).await?;
    let lines: Result<Vec<String>, sqlx::Error> = found.iter().map(|row| row.try_get(0)).collect();
    Ok(lines?.join("\n"))
}

fn events_query(before: &str, repository: RepositoryId, filter: &EventFilter) -> QueryBuilder<Postgres> {
    let mut query: QueryBuilder<Postgres> = QueryBuilder::new(before);
    query.push(concat!("SELECT ", columns!(event), " FROM events WHERE repository_id = ")).push_bind(repository.0);
    if let Some(request) = &filter.request {
        query.push(" AND request = ").push_bind(request.as_str().to_owned());
    }
    if let Some(run) = &filter.run {
        query.push(" AND run = ").push_bind(rows::uuid(run.as_str())).push("::uuid");
    }
    if let Some(service) = &filter.service {
        query.push(" AND seq IN (SELECT event FROM event_services WHERE repository_id = ").push_bind(repository.0);
        query.push(" AND service = ").push_bind(rows::plain(service).into_owned()).push(")");
    }
    if let Some(host) = &filter.host {
        query.push(" AND seq IN (SELECT event FROM event_hosts WHERE repository_id = ").push_bind(repository.0);
        query.push(" AND host = ").push_bind(host.as_str().to_owned()).push(")");
    }
    if !filter.kinds.is_empty() {
        query.push(" AND kind = ANY(").push_bind(filter.kinds.clone()).push(")");
    }
    if let Some(since) = filter.since {
        query.push(" AND at >= to_timestamp(").push_bind(since.secs()).push("::double precision)");
    }
    query.push(" ORDER BY seq DESC");
    if let Some(limit) = filter.limit {
        query.push(" LIMIT ").push_bind(i64::from(limit));
    }
    query
}

pub(super) async fn history(
    db: &mut PgConnection,
    repository: RepositoryId,
    playbook: &RepoPath,
    mode: Mode,
    limit: u32,
) -> Result<Vec<(u64, bool)>, Error> {
    let found = sqlx::query(
        "SELECT attempts.outcome::text AS outcome FROM attempts JOIN runs ON runs.id = attempts.run_id
         WHERE runs.repository_id = $1 AND attempts.playbook = $2 AND attempts.outcome IS NOT NULL
               AND runs.plan -> 'spec' ->> 'mode' = $3
         ORDER BY attempts.since DESC LIMIT $4",
    )
    .bind(repository.0)
    .bind(playbook.as_str())
    .bind(mode.as_str())
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    let outcomes = found.iter().map(|row| {
        let outcome: Outcome = rows::json(row, "attempts", "outcome")?;
        Ok((outcome.duration_ms, outcome.verdict == Verdict::Succeeded))
    });
    outcomes.collect()
}
