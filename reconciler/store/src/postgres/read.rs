//! What is asked of the store without changing it.

use std::collections::BTreeMap;

use chiffon_core::facts::{AgentFacts, Attempt, Event, LockHolder, RequestFacts, Run};
use chiffon_schemas::{AgentKind, BootId, Host, Name, Oid, Outcome, RepoPath, RunId, Verdict};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row};

use super::rows::{self, columns};
use crate::{Cursor, Error, EventFilter, RepositoryId};

pub(super) async fn cursor(db: &mut PgConnection, repository: RepositoryId) -> Result<Cursor, Error> {
    let row = sqlx::query("SELECT id, main, infra, audit FROM repositories WHERE id = $1")
        .bind(repository.0)
        .fetch_one(db)
        .await?;
    let oid = |column| rows::maybe(&row, "repositories", column, Oid::parse);
    Ok(Cursor { main: oid("main")?, infra: oid("infra")?, audit: oid("audit")? })
}

pub(super) async fn facts(
    db: &mut PgConnection,
    repository: RepositoryId,
    name: &Name,
) -> Result<Option<RequestFacts>, Error> {
    let row =
        sqlx::query(concat!("SELECT ", columns!(request), " FROM requests WHERE repository_id = $1 AND name = $2"))
            .bind(repository.0)
            .bind(name.as_str())
            .fetch_optional(&mut *db)
            .await?;
    let Some(row) = row else { return Ok(None) };
    let offers = sqlx::query(concat!(
        "SELECT ",
        columns!(offer),
        " FROM offers WHERE repository_id = $1 AND name = $2 ORDER BY revision"
    ))
    .bind(repository.0)
    .bind(name.as_str())
    .fetch_all(&mut *db)
    .await?;
    let replan: Option<i64> = row.try_get("replan_after")?;
    Ok(Some(RequestFacts {
        name: name.clone(),
        path: rows::parsed(&row, "requests", "path", RepoPath::parse)?,
        file: rows::file(&row)?,
        since: rows::time(&row, "since")?,
        plan_on_main: rows::maybe(&row, "requests", "plan_on_main", Oid::parse)?,
        plan_branch: None,
        offers: offers.iter().map(rows::offer).collect::<Result<_, _>>()?,
        unplanned: rows::maybe_json(&row, "requests", "unplanned")?,
        refusal: rows::maybe_json(&row, "requests", "refusal")?,
        run: last_run(db, repository, name).await?,
        pause: rows::maybe_json(&row, "requests", "pause")?,
        replan_after: replan.and_then(|revision| u32::try_from(revision).ok()),
    }))
}

async fn last_run(db: &mut PgConnection, repository: RepositoryId, name: &Name) -> Result<Option<Run>, Error> {
    let row = sqlx::query(concat!(
        "SELECT ",
        columns!(run),
        " FROM runs WHERE repository_id = $1 AND name = $2 ORDER BY id DESC LIMIT 1"
    ))
    .bind(repository.0)
    .bind(name.as_str())
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let id: String = row.try_get("id")?;
    let attempts = attempts(db, &id).await?;
    let mut run = rows::run(&row, attempts)?;
    // In the order of the plan, as a person reads it.
    let place = |step: &Name| run.plan.spec.steps.iter().position(|planned| &planned.id == step);
    let mut attempts = std::mem::take(&mut run.attempts);
    attempts.sort_by_key(|attempt| (place(&attempt.step), attempt.number));
    run.attempts = attempts;
    Ok(Some(run))
}

async fn attempts(db: &mut PgConnection, run: &str) -> Result<Vec<Attempt>, Error> {
    let found = sqlx::query(concat!(
        "SELECT ",
        columns!(attempt),
        " FROM attempts WHERE run_id = $1::uuid ORDER BY round, number, step"
    ))
    .bind(run)
    .fetch_all(db)
    .await?;
    found.iter().map(rows::attempt).collect()
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

pub(super) async fn locks(
    db: &mut PgConnection,
    repository: RepositoryId,
) -> Result<BTreeMap<Host, LockHolder>, Error> {
    let found = sqlx::query(concat!("SELECT ", columns!(lock), " FROM locks WHERE repository_id = $1"))
        .bind(repository.0)
        .fetch_all(db)
        .await?;
    let lock = |row: &PgRow| Ok((rows::parsed(row, "locks", "host", Host::parse)?, holder(row)?));
    found.iter().map(lock).collect()
}

pub(super) fn holder(row: &PgRow) -> Result<LockHolder, Error> {
    Ok(LockHolder {
        request: rows::parsed(row, "locks", "request", Name::parse)?,
        run: rows::id(row, "locks", "run_id", RunId::parse)?,
        step: rows::parsed(row, "locks", "step", Name::parse)?,
        attempt: rows::number(row, "locks", "number")?,
    })
}

pub(super) async fn agents(db: &mut PgConnection) -> Result<BTreeMap<Name, AgentFacts>, Error> {
    let found = sqlx::query(
        "SELECT name, kind, boot::text AS boot, extract(epoch FROM heard)::bigint AS heard, ansible_core FROM agents",
    )
    .fetch_all(db)
    .await?;
    let agent = |row: &PgRow| {
        let facts = AgentFacts {
            kind: rows::json::<AgentKind>(row, "agents", "kind")?,
            boot: rows::id(row, "agents", "boot", BootId::parse)?,
            heard: rows::time(row, "heard")?,
            ansible_core: row.try_get("ansible_core")?,
        };
        Ok((rows::parsed(row, "agents", "name", Name::parse)?, facts))
    };
    found.iter().map(agent).collect()
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
    limit: u32,
) -> Result<Vec<(u64, bool)>, Error> {
    let found = sqlx::query(
        "SELECT attempts.outcome::text AS outcome FROM attempts JOIN runs ON runs.id = attempts.run_id
         WHERE runs.repository_id = $1 AND attempts.playbook = $2 AND attempts.outcome IS NOT NULL
         ORDER BY attempts.since DESC LIMIT $3",
    )
    .bind(repository.0)
    .bind(playbook.as_str())
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    let outcomes = found.iter().map(|row| {
        let outcome: Outcome = rows::json(row, "attempts", "outcome")?;
        Ok((outcome.duration_ms, outcome.verdict == Verdict::Succeeded))
    });
    outcomes.collect()
}
