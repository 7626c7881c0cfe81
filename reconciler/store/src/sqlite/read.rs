//! What is asked of the store without changing it.

use std::collections::BTreeMap;

use chiffon_core::facts::{AgentFacts, Attempt, Event, LockHolder, RequestFacts, Run};
use chiffon_schemas::{AgentKind, BootId, Host, Mode, Name, Oid, Outcome, RepoPath, RunId, Verdict};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use super::rows;
use crate::{Cursor, Error, EventFilter, Ground, RepositoryId, Seen};

pub(super) async fn cursor(db: &mut SqliteConnection, repository: RepositoryId) -> Result<Cursor, Error> {
    let row = sqlx::query("SELECT id, main, infra, audit FROM repositories WHERE id = ?")
        .bind(repository.0)
        .fetch_one(db)
        .await?;
    let oid = |column| rows::maybe(&row, "repositories", column, Oid::parse);
    Ok(Cursor { main: oid("main")?, infra: oid("infra")?, audit: oid("audit")? })
}

pub(super) async fn seen(
    db: &mut SqliteConnection,
    repository: RepositoryId,
    name: &Name,
) -> Result<Option<Seen>, Error> {
    let row = sqlx::query("SELECT * FROM requests WHERE repository_id = ? AND name = ?")
        .bind(repository.0)
        .bind(name.as_str())
        .fetch_optional(&mut *db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let offers = sqlx::query("SELECT * FROM offers WHERE repository_id = ? AND name = ? ORDER BY revision")
        .bind(repository.0)
        .bind(name.as_str())
        .fetch_all(&mut *db)
        .await?;
    let replan: Option<i64> = row.try_get("replan_after")?;
    let facts = RequestFacts {
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
        pull: rows::maybe_json(&row, "requests", "pull")?,
        replan_after: replan.and_then(|revision| u32::try_from(revision).ok()),
    };
    Ok(Some(Seen { version: row.try_get("version")?, facts }))
}

/// The request that a run belongs to.
pub(super) async fn seen_by_run(db: &mut SqliteConnection, run: &RunId) -> Result<Option<(RepositoryId, Seen)>, Error> {
    let row = sqlx::query("SELECT repository_id, name FROM runs WHERE id = ?")
        .bind(run.as_str())
        .fetch_optional(&mut *db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let repository = RepositoryId(row.try_get("repository_id")?);
    let name = rows::parsed(&row, "runs", "name", Name::parse)?;
    Ok(seen(db, repository, &name).await?.map(|seen| (repository, seen)))
}

/// What all requests share, at one moment where the connection is in a transaction.
pub(super) async fn ground(db: &mut SqliteConnection, repository: RepositoryId) -> Result<Ground, Error> {
    Ok(Ground {
        cursor: cursor(&mut *db, repository).await?,
        locks: locks(&mut *db, repository).await?,
        agents: agents(&mut *db).await?,
        load: super::levels::load(db).await?,
    })
}

async fn last_run(db: &mut SqliteConnection, repository: RepositoryId, name: &Name) -> Result<Option<Run>, Error> {
    let row = sqlx::query("SELECT * FROM runs WHERE repository_id = ? AND name = ? ORDER BY id DESC LIMIT 1")
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

async fn attempts(db: &mut SqliteConnection, run: &str) -> Result<Vec<Attempt>, Error> {
    let found = sqlx::query("SELECT * FROM attempts WHERE run_id = ? ORDER BY round, number, step")
        .bind(run)
        .fetch_all(db)
        .await?;
    found.iter().map(rows::attempt).collect()
}

pub(super) async fn names(
    db: &mut SqliteConnection,
    repository: RepositoryId,
    archived: bool,
) -> Result<Vec<Name>, Error> {
    // Archived: the file is gone and nothing goes on. A refused plan that still lies on `main` is no archive matter.
    let found = sqlx::query(
        "SELECT name FROM requests WHERE repository_id = ? AND (? OR file <> 'absent' OR watched = 1
             OR json_extract(refusal, '$.blob') = plan_on_main)
         ORDER BY name",
    )
    .bind(repository.0)
    .bind(archived)
    .fetch_all(db)
    .await?;
    found.iter().map(|row| rows::parsed(row, "requests", "name", Name::parse)).collect()
}

pub(super) async fn locks(
    db: &mut SqliteConnection,
    repository: RepositoryId,
) -> Result<BTreeMap<Host, LockHolder>, Error> {
    let found = sqlx::query("SELECT * FROM locks WHERE repository_id = ?").bind(repository.0).fetch_all(db).await?;
    let lock = |row: &SqliteRow| Ok((rows::parsed(row, "locks", "host", Host::parse)?, holder(row)?));
    found.iter().map(lock).collect()
}

pub(super) fn holder(row: &SqliteRow) -> Result<LockHolder, Error> {
    Ok(LockHolder {
        request: rows::parsed(row, "locks", "request", Name::parse)?,
        run: rows::parsed(row, "locks", "run_id", RunId::parse)?,
        step: rows::parsed(row, "locks", "step", Name::parse)?,
        attempt: rows::number(row, "locks", "number")?,
    })
}

pub(super) async fn agents(db: &mut SqliteConnection) -> Result<BTreeMap<Name, AgentFacts>, Error> {
    let found = sqlx::query("SELECT * FROM agents").fetch_all(db).await?;
    let agent = |row: &SqliteRow| {
        let facts = AgentFacts {
            kind: rows::json::<AgentKind>(row, "agents", "kind")?,
            boot: rows::parsed(row, "agents", "boot", BootId::parse)?,
            heard: rows::time(row, "heard")?,
            ansible_core: row.try_get("ansible_core")?,
        };
        Ok((rows::parsed(row, "agents", "name", Name::parse)?, facts))
    };
    found.iter().map(agent).collect()
}

pub(super) async fn events(
    db: &mut SqliteConnection,
    repository: RepositoryId,
    filter: &EventFilter,
) -> Result<Vec<Event>, Error> {
    let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("SELECT * FROM events WHERE repository_id = ");
    query.push_bind(repository.0);
    if let Some(request) = &filter.request {
        query.push(" AND request = ").push_bind(request.as_str().to_owned());
    }
    if let Some(run) = &filter.run {
        query.push(" AND run = ").push_bind(run.as_str().to_owned());
    }
    if let Some(service) = &filter.service {
        query
            .push(" AND seq IN (SELECT event FROM event_services WHERE service = ")
            .push_bind(service.clone())
            .push(")");
    }
    if let Some(host) = &filter.host {
        query
            .push(" AND seq IN (SELECT event FROM event_hosts WHERE host = ")
            .push_bind(host.as_str().to_owned())
            .push(")");
    }
    if !filter.kinds.is_empty() {
        query.push(" AND kind IN (");
        let mut list = query.separated(", ");
        for kind in &filter.kinds {
            list.push_bind(kind.clone());
        }
        query.push(")");
    }
    if let Some(since) = filter.since {
        query.push(" AND at >= ").push_bind(since.secs());
    }
    query.push(" ORDER BY seq DESC");
    if let Some(limit) = filter.limit {
        query.push(" LIMIT ").push_bind(limit);
    }
    let found = query.build().fetch_all(db).await?;
    found.iter().map(rows::event).collect()
}

pub(super) async fn history(
    db: &mut SqliteConnection,
    repository: RepositoryId,
    playbook: &RepoPath,
    mode: Mode,
    limit: u32,
) -> Result<Vec<(u64, bool)>, Error> {
    let found = sqlx::query(
        "SELECT attempts.outcome FROM attempts JOIN runs ON runs.id = attempts.run_id
         WHERE runs.repository_id = ? AND attempts.playbook = ? AND attempts.outcome IS NOT NULL
               AND json_extract(runs.plan, '$.spec.mode') = ?
         ORDER BY attempts.since DESC LIMIT ?",
    )
    .bind(repository.0)
    .bind(playbook.as_str())
    .bind(mode.as_str())
    .bind(limit)
    .fetch_all(db)
    .await?;
    let outcomes = found.iter().map(|row| {
        let outcome: Outcome = rows::json(row, "attempts", "outcome")?;
        Ok((outcome.duration_ms, outcome.verdict == Verdict::Succeeded))
    });
    outcomes.collect()
}
