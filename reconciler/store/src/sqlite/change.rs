//! The changes, each with its condition: done whole or not at all.

use chiffon_core::facts::{AgentFacts, Event, LockHolder, Offer, OfferState, RequestFile, Run};
use chiffon_schemas::{AttemptKey, AttemptState, BootId, Fence, Host, Name, Oid, Outcome, Timestamp, ToAgent};
use sqlx::sqlite::SqliteQueryResult;
use sqlx::{Row, SqliteConnection};

use super::{read, rows};
use crate::{Applied, Change, Error, RepositoryId, SeenRequest};

type Tx<'a> = &'a mut SqliteConnection;

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
                "UPDATE offers SET branch_commit = ? WHERE repository_id = ? AND name = ? AND plan_oid = ?",
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
                "UPDATE requests SET unplanned = ?, replan_after = NULL WHERE repository_id = ? AND name = ?",
                Some(rows::text(&unplanned)),
            )
            .await?;
        }
        Change::Approved { name, run } => approved(tx, repository, &name, &run).await?,
        Change::Refused { name, refusal } => {
            set_request(
                tx,
                repository,
                &name,
                "UPDATE requests SET refusal = ? WHERE repository_id = ? AND name = ?",
                Some(rows::text(&refusal)),
            )
            .await?;
        }
        Change::Ordered { name, key, round, hosts, agent } => {
            ordered(tx, repository, &name, &key, round, &hosts, &agent, now).await?;
        }
        Change::Granted { name, key, boot, hosts } => {
            applied.fence = Some(granted(tx, repository, &name, &key, &boot, &hosts, now).await?);
        }
        Change::Moved { key, from, to, fence, boot, outcome } => {
            moved(tx, &key, from, to, fence, boot.as_ref(), outcome.as_deref(), now).await?;
        }
        Change::RunFinished { run, state, voided } => {
            let done =
                sqlx::query("UPDATE runs SET state = ?, voided = ?, finished_at = ? WHERE id = ? AND state IS NULL")
                    .bind(state.as_str())
                    .bind(voided)
                    .bind(now.secs())
                    .bind(run.as_str())
                    .execute(&mut *tx)
                    .await?;
            expect_row(&done, || format!("run {run}"), "it is over already")?;
            touch_run(tx, &run).await?;
        }
        Change::RunResolved { run, state } => {
            let done = sqlx::query("UPDATE runs SET state = ?, finished_at = ? WHERE id = ? AND state = 'lost'")
                .bind(state.as_str())
                .bind(now.secs())
                .bind(run.as_str())
                .execute(&mut *tx)
                .await?;
            expect_row(&done, || format!("run {run}"), "it is not lost")?;
            touch_run(tx, &run).await?;
        }
        Change::RunReopened { run, round } => {
            let done = sqlx::query(
                "UPDATE runs SET state = NULL, finished_at = NULL, cancel = 0, round = ? WHERE id = ? AND state IS NOT NULL AND round = ? - 1",
            )
            .bind(round)
            .bind(run.as_str())
            .bind(round)
            .execute(&mut *tx)
            .await?;
            expect_row(&done, || format!("run {run}"), "it goes on, or is in another round")?;
            touch_run(tx, &run).await?;
        }
        Change::CancelAsked { run } => {
            let done = sqlx::query("UPDATE runs SET cancel = 1 WHERE id = ? AND state IS NULL")
                .bind(run.as_str())
                .execute(&mut *tx)
                .await?;
            expect_row(&done, || format!("run {run}"), "it is over already")?;
            touch_run(tx, &run).await?;
        }
        Change::PauseSet { name, pause } => {
            set_request(
                tx,
                repository,
                &name,
                "UPDATE requests SET pause = ? WHERE repository_id = ? AND name = ?",
                pause.as_ref().map(rows::text),
            )
            .await?;
        }
        Change::ReplanAsked { name, after } => {
            set_request(
                tx,
                repository,
                &name,
                "UPDATE requests SET replan_after = CAST(? AS INTEGER) WHERE repository_id = ? AND name = ?",
                Some(after.to_string()),
            )
            .await?;
        }
        Change::Unlocked { host } => unlocked(tx, repository, &host).await?,
        Change::AgentHeard { agent, facts } => agent_heard(tx, &agent, &facts).await?,
    }
    Ok(applied)
}

fn conflict(what: String, found: impl Into<String>) -> Error {
    Error::Conflict { what, found: found.into() }
}

fn expect_row(done: &SqliteQueryResult, what: impl FnOnce() -> String, found: &str) -> Result<(), Error> {
    if done.rows_affected() == 1 { Ok(()) } else { Err(conflict(what(), found)) }
}

/// Notes that something of a request changed, and whether it has to be watched.
async fn touch(tx: Tx<'_>, repository: RepositoryId, name: &Name) -> Result<(), Error> {
    sqlx::query(
        "UPDATE requests SET version = version + 1,
             watched = pause IS NOT NULL
                 OR EXISTS (SELECT 1 FROM offers WHERE offers.repository_id = requests.repository_id
                            AND offers.name = requests.name AND offers.state = 'open')
                 OR EXISTS (SELECT 1 FROM runs WHERE runs.repository_id = requests.repository_id
                            AND runs.name = requests.name AND runs.state IS NULL)
         WHERE repository_id = ? AND name = ?",
    )
    .bind(repository.0)
    .bind(name.as_str())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn touch_run(tx: Tx<'_>, run: &chiffon_schemas::RunId) -> Result<(), Error> {
    let row =
        sqlx::query("SELECT repository_id, name FROM runs WHERE id = ?").bind(run.as_str()).fetch_one(&mut *tx).await?;
    let name = rows::parsed(&row, "runs", "name", Name::parse)?;
    touch(tx, RepositoryId(row.try_get("repository_id")?), &name).await
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
    let done = sqlx::query("UPDATE repositories SET main = ? WHERE id = ? AND main IS ?")
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
            "INSERT INTO requests (repository_id, name, path, file, priority, since) VALUES (?, ?, ?, 'absent', 3, ?) ON CONFLICT DO NOTHING",
        )
        .bind(repository.0)
        .bind(name.as_str())
        .bind(path)
        .bind(now.secs())
        .execute(&mut *tx)
        .await?;
        sqlx::query("UPDATE requests SET plan_on_main = ? WHERE repository_id = ? AND name = ?")
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
        "INSERT INTO requests (repository_id, name, path, file, oid, priority, findings, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (repository_id, name) DO UPDATE SET path = excluded.path, file = excluded.file, oid = excluded.oid,
             priority = excluded.priority, findings = excluded.findings,
             since = CASE WHEN requests.oid IS excluded.oid THEN requests.since ELSE excluded.since END",
    )
    .bind(repository.0)
    .bind(seen.name.as_str())
    .bind(seen.path.as_str())
    .bind(word)
    .bind(oid)
    .bind(priority)
    .bind(findings)
    .bind(now.secs())
    .execute(&mut *tx)
    .await?;
    touch(tx, repository, &seen.name).await
}

async fn files_refused(tx: Tx<'_>, repository: RepositoryId, files: &[(String, String)]) -> Result<(), Error> {
    sqlx::query("DELETE FROM refused_files WHERE repository_id = ?").bind(repository.0).execute(&mut *tx).await?;
    for (path, reason) in files {
        sqlx::query("INSERT INTO refused_files (repository_id, path, reason) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(repository.0)
            .bind(path)
            .bind(reason)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

async fn infra_seen(tx: Tx<'_>, repository: RepositoryId, commit: &Oid) -> Result<(), Error> {
    sqlx::query("UPDATE repositories SET infra = ? WHERE id = ?")
        .bind(commit.as_str())
        .bind(repository.0)
        .execute(&mut *tx)
        .await?;
    // What nothing fitted may fit now: blocked requests are looked at again, and only they.
    sqlx::query("UPDATE requests SET version = version + 1 WHERE repository_id = ? AND unplanned IS NOT NULL AND file = 'valid'")
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
        "SELECT COALESCE(MAX(revision), 0) AS last, COALESCE(SUM(state = 'open'), 0) AS open FROM offers WHERE repository_id = ? AND name = ?",
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
        "INSERT INTO offers (repository_id, name, revision, plan_oid, plan, path, main, branch_commit, at, state) VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?, 'open')",
    )
    .bind(repository.0)
    .bind(name.as_str())
    .bind(offer.revision())
    .bind(offer.plan_oid.as_str())
    .bind(rows::text(&offer.plan))
    .bind(offer.path.as_str())
    .bind(offer.main.as_ref().map(Oid::as_str))
    .bind(offer.at.secs())
    .execute(&mut *tx)
    .await?;
    sqlx::query("UPDATE requests SET unplanned = NULL, replan_after = NULL WHERE repository_id = ? AND name = ?")
        .bind(repository.0)
        .bind(name.as_str())
        .execute(&mut *tx)
        .await?;
    touch(tx, repository, name).await
}

async fn close_offer(
    tx: Tx<'_>,
    repository: RepositoryId,
    name: &Name,
    plan: &Oid,
    state: OfferState,
) -> Result<(), Error> {
    let done = sqlx::query(
        "UPDATE offers SET state = ? WHERE repository_id = ? AND name = ? AND plan_oid = ? AND state = 'open'",
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

async fn approved(tx: Tx<'_>, repository: RepositoryId, name: &Name, run: &Run) -> Result<(), Error> {
    close_offer(tx, repository, name, &run.plan_oid, OfferState::Approved).await?;
    sqlx::query(
        "INSERT INTO runs (id, repository_id, name, plan_oid, plan, plan_path, approval, approved_at, round, cancel, state, finished_at, voided)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, NULL, NULL, 0)",
    )
    .bind(run.id.as_str())
    .bind(repository.0)
    .bind(name.as_str())
    .bind(run.plan_oid.as_str())
    .bind(rows::text(&run.plan))
    .bind(run.plan_path.as_str())
    .bind(rows::text(&run.approval))
    .bind(run.approved_at.secs())
    .bind(run.round)
    .execute(&mut *tx)
    .await?;
    touch(tx, repository, name).await
}

#[expect(clippy::too_many_arguments, reason = "the fields of one change")]
async fn ordered(
    tx: Tx<'_>,
    repository: RepositoryId,
    name: &Name,
    key: &AttemptKey,
    round: u32,
    hosts: &[Host],
    agent: &Name,
    now: Timestamp,
) -> Result<(), Error> {
    let row = sqlx::query("SELECT id, plan, state, round FROM runs WHERE id = ?")
        .bind(key.run.as_str())
        .fetch_one(&mut *tx)
        .await?;
    let current: u32 = rows::number(&row, "runs", "round")?;
    if rows::run_state(&row)?.is_some() || current != round {
        return Err(conflict(format!("run {}", key.run), "it is over, or in another round"));
    }
    let plan: chiffon_schemas::Plan = rows::json(&row, "runs", "plan")?;
    let playbook = plan.spec.steps.iter().find(|step| step.id == key.step).map(|step| step.playbook.to_string());
    let done = sqlx::query(
        "INSERT INTO attempts (run_id, step, number, round, playbook, hosts, state, agent, since) VALUES (?, ?, ?, ?, ?, ?, 'ordered', ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(key.run.as_str())
    .bind(key.step.as_str())
    .bind(key.attempt)
    .bind(round)
    .bind(playbook.unwrap_or_default())
    .bind(rows::text(&hosts))
    .bind(agent.as_str())
    .bind(now.secs())
    .execute(&mut *tx)
    .await?;
    expect_row(&done, || format!("attempt {key}"), "it exists already")?;
    remember_state(tx, key, AttemptState::Ordered, now).await?;
    touch(tx, repository, name).await
}

async fn remember_state(tx: Tx<'_>, key: &AttemptKey, state: AttemptState, now: Timestamp) -> Result<(), Error> {
    sqlx::query("INSERT INTO attempt_states (run_id, step, number, state, at) VALUES (?, ?, ?, ?, ?)")
        .bind(key.run.as_str())
        .bind(key.step.as_str())
        .bind(key.attempt)
        .bind(state.as_str())
        .bind(now.secs())
        .execute(&mut *tx)
        .await?;
    Ok(())
}

async fn granted(
    tx: Tx<'_>,
    repository: RepositoryId,
    name: &Name,
    key: &AttemptKey,
    boot: &BootId,
    hosts: &[Host],
    now: Timestamp,
) -> Result<Fence, Error> {
    for host in hosts {
        lock(tx, repository, name, key, host).await?;
    }
    let row = sqlx::query(
        "UPDATE meta SET fence_counter = fence_counter + 1 WHERE id = 1 RETURNING incarnation, fence_counter",
    )
    .fetch_one(&mut *tx)
    .await?;
    let fence = Fence {
        incarnation: rows::number(&row, "meta", "incarnation")?,
        counter: rows::number(&row, "meta", "fence_counter")?,
    };
    let row = sqlx::query(
        "UPDATE attempts SET state = 'granted', fence_incarnation = ?, fence_counter = ?, since = ?, last_seq = 0
         WHERE run_id = ? AND step = ? AND number = ? AND state = 'claimed' AND boot = ? RETURNING agent",
    )
    .bind(fence.incarnation)
    .bind(i64::try_from(fence.counter).unwrap_or(i64::MAX))
    .bind(now.secs())
    .bind(key.run.as_str())
    .bind(key.step.as_str())
    .bind(key.attempt)
    .bind(boot.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else {
        return Err(conflict(format!("attempt {key}"), "it is not claimed by this agent's life"));
    };
    remember_state(tx, key, AttemptState::Granted, now).await?;
    let agent = rows::parsed(&row, "attempts", "agent", Name::parse)?;
    let grant = ToAgent::Grant(chiffon_schemas::Grant { key: key.clone(), boot: boot.clone(), fence, at: now });
    super::push_messages(tx, &[(agent, grant)], now).await?;
    touch(tx, repository, name).await?;
    Ok(fence)
}

async fn lock(tx: Tx<'_>, repository: RepositoryId, name: &Name, key: &AttemptKey, host: &Host) -> Result<(), Error> {
    let row = sqlx::query("SELECT * FROM locks WHERE repository_id = ? AND host = ?")
        .bind(repository.0)
        .bind(host.as_str())
        .fetch_optional(&mut *tx)
        .await?;
    if let Some(row) = row {
        let holder: LockHolder = read::holder(&row)?;
        let ours = holder.run == key.run && holder.step == key.step && holder.attempt == key.attempt;
        return if ours { Ok(()) } else { Err(Error::Locked { host: host.clone(), holder }) };
    }
    sqlx::query("INSERT INTO locks (repository_id, host, request, run_id, step, number) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(repository.0)
        .bind(host.as_str())
        .bind(name.as_str())
        .bind(key.run.as_str())
        .bind(key.step.as_str())
        .bind(key.attempt)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the fields of one change")]
async fn moved(
    tx: Tx<'_>,
    key: &AttemptKey,
    from: AttemptState,
    to: AttemptState,
    fence: Option<Fence>,
    boot: Option<&BootId>,
    outcome: Option<&Outcome>,
    now: Timestamp,
) -> Result<(), Error> {
    let row = sqlx::query("SELECT * FROM attempts WHERE run_id = ? AND step = ? AND number = ?")
        .bind(key.run.as_str())
        .bind(key.step.as_str())
        .bind(key.attempt)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = row else { return Err(conflict(format!("attempt {key}"), "there is none")) };
    let state = rows::attempt_state(&row)?;
    if state != from || !from.allows(to) {
        return Err(conflict(format!("attempt {key} in {}", from.as_str()), state.as_str()));
    }
    if fence.is_some() && rows::fence(&row)? != fence {
        return Err(conflict(format!("the fence of attempt {key}"), "another one"));
    }
    let keeps_grant = to != AttemptState::Ordered;
    sqlx::query(
        "UPDATE attempts SET state = ?, since = ?, boot = CASE WHEN ? THEN COALESCE(?, boot) END,
             outcome = COALESCE(?, outcome),
             fence_incarnation = CASE WHEN ? THEN fence_incarnation END,
             fence_counter = CASE WHEN ? THEN fence_counter END
         WHERE run_id = ? AND step = ? AND number = ?",
    )
    .bind(to.as_str())
    .bind(now.secs())
    .bind(keeps_grant)
    .bind(boot.map(BootId::as_str))
    .bind(outcome.map(rows::text))
    .bind(keeps_grant)
    .bind(keeps_grant)
    .bind(key.run.as_str())
    .bind(key.step.as_str())
    .bind(key.attempt)
    .execute(&mut *tx)
    .await?;
    remember_state(tx, key, to, now).await?;
    if !to.holds_locks() {
        free_locks(tx, key).await?;
    }
    touch_run(tx, &key.run).await
}

/// Frees what an attempt held, and has whoever waits looked at again.
async fn free_locks(tx: Tx<'_>, key: &AttemptKey) -> Result<(), Error> {
    sqlx::query("DELETE FROM locks WHERE run_id = ? AND step = ? AND number = ?")
        .bind(key.run.as_str())
        .bind(key.step.as_str())
        .bind(key.attempt)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

async fn unlocked(tx: Tx<'_>, repository: RepositoryId, host: &Host) -> Result<(), Error> {
    let done = sqlx::query("DELETE FROM locks WHERE repository_id = ? AND host = ?")
        .bind(repository.0)
        .bind(host.as_str())
        .execute(&mut *tx)
        .await?;
    expect_row(&done, || format!("the lock of {host}"), "it is free")
}

async fn agent_heard(tx: Tx<'_>, agent: &Name, facts: &AgentFacts) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO agents (name, kind, boot, heard, ansible_core) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, boot = excluded.boot, heard = excluded.heard, ansible_core = excluded.ansible_core",
    )
    .bind(agent.as_str())
    .bind(rows::text(&facts.kind))
    .bind(facts.boot.as_str())
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
    let done = sqlx::query(
        "INSERT INTO events (id, repository_id, kind, request, request_oid, plan, run, hosts, services, summary, detail, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(event.id.as_str())
    .bind(repository.0)
    .bind(&event.kind)
    .bind(event.request.as_ref().map(Name::as_str))
    .bind(event.request_oid.as_ref().map(Oid::as_str))
    .bind(event.plan.as_ref().map(Oid::as_str))
    .bind(event.run.as_ref().map(|run| run.as_str()))
    .bind(rows::text(&event.hosts))
    .bind(rows::text(&event.services))
    .bind(&event.summary)
    .bind(detail.to_string())
    .bind(event.at.secs())
    .execute(&mut *tx)
    .await?;
    let seq = done.last_insert_rowid();
    for host in &event.hosts {
        sqlx::query("INSERT INTO event_hosts (host, event) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(host.as_str())
            .bind(seq)
            .execute(&mut *tx)
            .await?;
    }
    for service in &event.services {
        sqlx::query("INSERT INTO event_services (service, event) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(service)
            .bind(seq)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
