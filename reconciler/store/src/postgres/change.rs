//! The changes, each with its condition: done whole or not at all. Those of one repository wait for each other.

use chiffon_core::facts::{AgentFacts, Event, Offer, OfferState, RequestFile};
use chiffon_schemas::{Fence, Name, Oid, Timestamp};
use sqlx::postgres::PgQueryResult;
use sqlx::{PgConnection, Row};

use super::{rows, runs};
use crate::{Applied, Change, Error, RepositoryId, SeenRequest};

pub(super) type Tx<'a> = &'a mut PgConnection;

/// Does one change.
pub(super) async fn apply(
    tx: Tx<'_>,
    repository: RepositoryId,
    change: Change,
    now: Timestamp,
) -> Result<Applied, Error> {
    let mut applied = Applied::default();
    match change {
        Change::MainSeen { from, main, requests, plans } => {
            main_seen(tx, repository, from.as_ref(), &main, &requests, &plans, now).await?;
        }
        Change::FilesRefused { files } => files_refused(tx, repository, &files).await?,
        Change::InfraSeen { commit } => infra_seen(tx, repository, &commit).await?,
        Change::OfferRecorded { name, replaces, offer } => {
            offer_recorded(tx, repository, &name, replaces.as_ref(), &offer).await?;
        }
        Change::OfferShown { name, plan, commit } => {
            let done = sqlx::query(
                "UPDATE offers SET branch_commit = $1 WHERE repository_id = $2 AND name = $3 AND plan_oid = $4",
            )
            .bind(commit.as_str())
            .bind(repository.0)
            .bind(name.as_str())
            .bind(plan.as_str())
            .execute(&mut *tx)
            .await?;
            expect_row(&done, || format!("offer {plan} of {name}"), "there is none")?;
            touch(tx, repository, &name).await?;
        }
        Change::OfferClosed { name, plan, state } => close_offer(tx, repository, &name, &plan, state).await?,
        Change::Unplanned { name, unplanned } => {
            set_request(
                tx,
                repository,
                &name,
                "UPDATE requests SET unplanned = $1::jsonb, replan_after = NULL WHERE repository_id = $2 AND name = $3",
                Some(rows::text(&unplanned)),
            )
            .await?;
        }
        Change::Approved { name, run } => runs::approved(tx, repository, &name, &run).await?,
        Change::Refused { name, refusal } => {
            set_request(
                tx,
                repository,
                &name,
                "UPDATE requests SET refusal = $1::jsonb WHERE repository_id = $2 AND name = $3",
                Some(rows::text(&refusal)),
            )
            .await?;
        }
        Change::Ordered { name, key, round, hosts, agent } => {
            let order = runs::Ordered { name: &name, key: &key, round, hosts: &hosts, agent: &agent };
            runs::ordered(tx, repository, &order, now).await?;
        }
        Change::Reordered { key, from, agent } => runs::reordered(tx, repository, &key, from, &agent, now).await?,
        Change::Granted { name, key, boot, hosts, order } => {
            let claim = runs::Claim { name: &name, key: &key, boot: &boot, hosts: &hosts, order };
            applied.fence = Some(runs::granted(tx, repository, claim, now).await?);
        }
        Change::Moved { key, from, to, fence, boot, outcome } => {
            let boot = boot.as_ref();
            let change = runs::Move { key: &key, from, to, fence, boot, outcome: outcome.as_deref() };
            runs::moved(tx, repository, &change, now).await?;
        }
        Change::RunFinished { run, state, voided } => {
            runs::finished(tx, repository, &run, state, voided, now).await?;
        }
        Change::RunResolved { run, state } => runs::resolved(tx, repository, &run, state, now).await?,
        Change::RunReopened { run, round } => runs::reopened(tx, repository, &run, round).await?,
        Change::CancelAsked { run } => runs::cancel_asked(tx, repository, &run).await?,
        Change::PauseSet { name, pause } => {
            set_request(
                tx,
                repository,
                &name,
                "UPDATE requests SET pause = $1::jsonb WHERE repository_id = $2 AND name = $3",
                pause.as_ref().map(rows::text),
            )
            .await?;
        }
        Change::PullSeen { name, pull } => {
            set_request(
                tx,
                repository,
                &name,
                "UPDATE requests SET pull = $1::jsonb WHERE repository_id = $2 AND name = $3",
                Some(rows::text(&*pull)),
            )
            .await?;
        }
        Change::ReplanAsked { name, after } => {
            set_request(
                tx,
                repository,
                &name,
                "UPDATE requests SET replan_after = $1::bigint WHERE repository_id = $2 AND name = $3",
                Some(after.to_string()),
            )
            .await?;
        }
        Change::Noted => {}
        Change::Unlocked { host } => runs::unlocked(tx, repository, &host).await?,
        Change::AgentHeard { agent, facts, ended } => {
            agent_heard(tx, &agent, &facts).await?;
            runs::taken_over(tx, &agent, &facts.boot, &ended).await?;
        }
    }
    Ok(applied)
}

pub(super) fn conflict(what: String, found: impl Into<String>) -> Error {
    Error::Conflict { what, found: found.into() }
}

pub(super) fn expect_row(done: &PgQueryResult, what: impl FnOnce() -> String, found: &str) -> Result<(), Error> {
    if done.rows_affected() == 1 { Ok(()) } else { Err(conflict(what(), found)) }
}

/// Notes that something of a request changed, and whether it has to be watched.
pub(super) async fn touch(tx: Tx<'_>, repository: RepositoryId, name: &Name) -> Result<(), Error> {
    sqlx::query(
        "UPDATE requests SET version = version + 1,
             watched = pause IS NOT NULL
                 OR EXISTS (SELECT 1 FROM offers WHERE offers.repository_id = requests.repository_id
                            AND offers.name = requests.name AND offers.state = 'open')
                 OR EXISTS (SELECT 1 FROM runs WHERE runs.repository_id = requests.repository_id
                            AND runs.name = requests.name AND runs.state IS NULL)
                 OR (file = 'valid'
                     AND COALESCE((SELECT state FROM runs WHERE runs.repository_id = requests.repository_id
                                   AND runs.name = requests.name ORDER BY id DESC LIMIT 1), '') = 'failed')
         WHERE repository_id = $1 AND name = $2",
    )
    .bind(repository.0)
    .bind(name.as_str())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn set_request(
    tx: Tx<'_>,
    repository: RepositoryId,
    name: &Name,
    statement: &'static str,
    value: Option<String>,
) -> Result<(), Error> {
    let done = sqlx::query(statement).bind(value).bind(repository.0).bind(name.as_str()).execute(&mut *tx).await?;
    expect_row(&done, || format!("request {name}"), "there is none")?;
    touch(tx, repository, name).await
}

async fn main_seen(
    tx: Tx<'_>,
    repository: RepositoryId,
    from: Option<&Oid>,
    main: &Oid,
    requests: &[SeenRequest],
    plans: &[(Name, Option<Oid>)],
    now: Timestamp,
) -> Result<(), Error> {
    let done = sqlx::query("UPDATE repositories SET main = $1 WHERE id = $2 AND main IS NOT DISTINCT FROM $3")
        .bind(main.as_str())
        .bind(repository.0)
        .bind(from.map(Oid::as_str))
        .execute(&mut *tx)
        .await?;
    expect_row(&done, || "main as last seen".to_owned(), "somebody else moved it")?;
    for seen in requests {
        upsert_request(tx, repository, seen, now).await?;
    }
    for (name, oid) in plans {
        let path = format!("requests/{name}.yaml");
        // A plan without a request is still to be refused in words, so it needs a row.
        sqlx::query(
            "INSERT INTO requests (repository_id, name, path, file, priority, since) VALUES ($1, $2, $3, 'absent', 3, to_timestamp($4::double precision)) ON CONFLICT DO NOTHING",
        )
        .bind(repository.0)
        .bind(name.as_str())
        .bind(path)
        .bind(now.secs())
        .execute(&mut *tx)
        .await?;
        sqlx::query("UPDATE requests SET plan_on_main = $1 WHERE repository_id = $2 AND name = $3")
            .bind(oid.as_ref().map(Oid::as_str))
            .bind(repository.0)
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?;
        touch(tx, repository, name).await?;
    }
    Ok(())
}

async fn upsert_request(tx: Tx<'_>, repository: RepositoryId, seen: &SeenRequest, now: Timestamp) -> Result<(), Error> {
    let (word, priority, findings) = match &seen.file {
        RequestFile::Absent => ("absent", chiffon_schemas::DEFAULT_PRIORITY, None),
        RequestFile::Valid { priority, .. } => ("valid", *priority, None),
        RequestFile::Invalid { findings, .. } => {
            ("invalid", chiffon_schemas::DEFAULT_PRIORITY, Some(findings.as_str()))
        }
    };
    let oid = seen.file.oid().map(Oid::as_str);
    sqlx::query(
        "INSERT INTO requests (repository_id, name, path, file, oid, priority, findings, since) VALUES ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8::double precision))
         ON CONFLICT (repository_id, name) DO UPDATE SET path = excluded.path, file = excluded.file, oid = excluded.oid,
             priority = excluded.priority, findings = excluded.findings,
             since = CASE WHEN requests.oid IS NOT DISTINCT FROM excluded.oid THEN requests.since ELSE excluded.since END",
    )
    .bind(repository.0)
    .bind(seen.name.as_str())
    .bind(seen.path.as_str())
    .bind(word)
    .bind(oid)
    .bind(i16::from(priority))
    .bind(findings.map(rows::plain))
    .bind(now.secs())
    .execute(&mut *tx)
    .await?;
    touch(tx, repository, &seen.name).await
}

async fn files_refused(tx: Tx<'_>, repository: RepositoryId, files: &[(String, String)]) -> Result<(), Error> {
    sqlx::query("DELETE FROM refused_files WHERE repository_id = $1").bind(repository.0).execute(&mut *tx).await?;
    for (path, reason) in files {
        sqlx::query(
            "INSERT INTO refused_files (repository_id, path, reason) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(repository.0)
        .bind(rows::plain(path))
        .bind(rows::plain(reason))
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

async fn infra_seen(tx: Tx<'_>, repository: RepositoryId, commit: &Oid) -> Result<(), Error> {
    sqlx::query("UPDATE repositories SET infra = $1 WHERE id = $2")
        .bind(commit.as_str())
        .bind(repository.0)
        .execute(&mut *tx)
        .await?;
    // What nothing fitted may fit now, and what failed may be mended: those requests are looked at again, and only they.
    sqlx::query(
        "UPDATE requests SET version = version + 1 WHERE repository_id = $1 AND file = 'valid'
           AND (unplanned IS NOT NULL
                OR COALESCE((SELECT state FROM runs WHERE runs.repository_id = requests.repository_id
                             AND runs.name = requests.name ORDER BY id DESC LIMIT 1), '') = 'failed')",
    )
    .bind(repository.0)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn offer_recorded(
    tx: Tx<'_>,
    repository: RepositoryId,
    name: &Name,
    replaces: Option<&Oid>,
    offer: &Offer,
) -> Result<(), Error> {
    if let Some(plan) = replaces {
        close_offer(tx, repository, name, plan, OfferState::Replaced).await?;
    }
    let row = sqlx::query(
        "SELECT COALESCE(MAX(revision), 0) AS last, COUNT(*) FILTER (WHERE state = 'open') AS open FROM offers WHERE repository_id = $1 AND name = $2",
    )
    .bind(repository.0)
    .bind(name.as_str())
    .fetch_one(&mut *tx)
    .await?;
    let (last, open): (i64, i64) = (row.try_get("last")?, row.try_get("open")?);
    if open > 0 || last + 1 != i64::from(offer.revision()) {
        return Err(conflict(format!("the next offer of {name}"), format!("{open} open, last revision {last}")));
    }
    sqlx::query(
        "INSERT INTO offers (repository_id, name, revision, plan_oid, plan, path, main, branch_commit, at, state) VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, NULL, to_timestamp($8::double precision), 'open')",
    )
    .bind(repository.0)
    .bind(name.as_str())
    .bind(i64::from(offer.revision()))
    .bind(offer.plan_oid.as_str())
    .bind(rows::text(&offer.plan))
    .bind(offer.path.as_str())
    .bind(offer.main.as_ref().map(Oid::as_str))
    .bind(offer.at.secs())
    .execute(&mut *tx)
    .await?;
    sqlx::query("UPDATE requests SET unplanned = NULL, replan_after = NULL WHERE repository_id = $1 AND name = $2")
        .bind(repository.0)
        .bind(name.as_str())
        .execute(&mut *tx)
        .await?;
    touch(tx, repository, name).await
}

pub(super) async fn close_offer(
    tx: Tx<'_>,
    repository: RepositoryId,
    name: &Name,
    plan: &Oid,
    state: OfferState,
) -> Result<(), Error> {
    let done = sqlx::query(
        "UPDATE offers SET state = $1 WHERE repository_id = $2 AND name = $3 AND plan_oid = $4 AND state = 'open'",
    )
    .bind(state.as_str())
    .bind(repository.0)
    .bind(name.as_str())
    .bind(plan.as_str())
    .execute(&mut *tx)
    .await?;
    expect_row(&done, || format!("open offer {plan} of {name}"), "it is not open")?;
    touch(tx, repository, name).await
}

async fn agent_heard(tx: Tx<'_>, agent: &Name, facts: &AgentFacts) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO agents (name, kind, boot, heard, ansible_core)
         VALUES ($1, $2, $3::uuid, to_timestamp($4::double precision), $5)
         ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, boot = excluded.boot, heard = excluded.heard, ansible_core = excluded.ansible_core",
    )
    .bind(agent.as_str())
    .bind(rows::text(&facts.kind))
    .bind(rows::uuid(facts.boot.as_str()))
    .bind(facts.heard.secs())
    .bind(facts.ansible_core.as_deref())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Appends an event; a grant's fence goes into its detail.
pub(super) async fn append_event(
    tx: Tx<'_>,
    repository: RepositoryId,
    event: &Event,
    fence: Option<Fence>,
) -> Result<(), Error> {
    let mut detail = event.detail.clone();
    if let (Some(fence), Some(map)) = (fence, detail.as_object_mut()) {
        map.insert("fence".to_owned(), serde_json::to_value(fence).expect("a fence is plain data"));
    }
    let services: Vec<String> = event.services.iter().map(|service| rows::plain(service).into_owned()).collect();
    sqlx::query(
        "WITH new AS (
             INSERT INTO events (id, repository_id, kind, request, request_oid, plan, run, hosts, services, summary,
                 detail, at)
             VALUES ($1::uuid, $2, $3, $4, $5, $6, $7::uuid, $8, $9, $10, $11::jsonb,
                 to_timestamp($12::double precision))
             RETURNING seq),
         by_host AS (INSERT INTO event_hosts (repository_id, host, event)
             SELECT DISTINCT $2, host, seq FROM new, unnest($8::text[]) AS host)
         INSERT INTO event_services (repository_id, service, event)
             SELECT DISTINCT $2, service, seq FROM new, unnest($9::text[]) AS service",
    )
    .bind(rows::uuid(event.id.as_str()))
    .bind(repository.0)
    .bind(&event.kind)
    .bind(event.request.as_ref().map(Name::as_str))
    .bind(event.request_oid.as_ref().map(Oid::as_str))
    .bind(event.plan.as_ref().map(Oid::as_str))
    .bind(event.run.as_ref().map(|run| rows::uuid(run.as_str())))
    .bind(rows::texts(&event.hosts))
    .bind(&services)
    .bind(rows::plain(&event.summary))
    .bind(rows::text(&detail))
    .bind(event.at.secs())
    .execute(&mut *tx)
    .await?;
    Ok(())
}
