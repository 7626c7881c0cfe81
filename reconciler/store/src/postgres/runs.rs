//! Changes of runs and their attempts: orders, grants with fence and locks, moves, ends.
//!
//! Locks belong to a run: its first grant takes all of its hosts, a later one finds them its own, and its end frees
//! them. The lock of a lost run stays until nothing of it is lost any more, or a person frees it.

use chiffon_core::facts::{OfferState, Run};
use chiffon_schemas::{
    AttemptKey, AttemptState, BootId, Fence, Host, Name, Outcome, RunId, RunState, Timestamp, ToAgent,
};
use sqlx::postgres::PgRow;

use super::change::{Tx, close_offer, conflict, expect_row, touch};
use super::rows::columns;
use super::{outbox, read, rows};
use crate::{Error, RepositoryId};

pub(super) async fn approved(tx: Tx<'_>, repository: RepositoryId, name: &Name, run: &Run) -> Result<(), Error> {
    close_offer(tx, repository, name, &run.plan_oid, OfferState::Approved).await?;
    sqlx::query(
        "INSERT INTO runs (id, repository_id, name, plan_oid, plan, plan_path, approval, approved_at, round, cancel, state, finished_at, voided)
         VALUES ($1::uuid, $2, $3, $4, $5::jsonb, $6, $7::jsonb, to_timestamp($8::double precision), $9, false, NULL, NULL,
             false)",
    )
    .bind(rows::uuid(run.id.as_str()))
    .bind(repository.0)
    .bind(name.as_str())
    .bind(run.plan_oid.as_str())
    .bind(rows::text(&run.plan))
    .bind(run.plan_path.as_str())
    .bind(rows::text(&run.approval))
    .bind(run.approved_at.secs())
    .bind(i64::from(run.round))
    .execute(&mut *tx)
    .await?;
    touch(tx, repository, name).await
}

/// The request that a run belongs to, in this repository: a run of another one is as good as none.
async fn request_of(tx: Tx<'_>, repository: RepositoryId, run: &RunId) -> Result<Name, Error> {
    let row = sqlx::query("SELECT id::text AS id, name FROM runs WHERE id = $1::uuid AND repository_id = $2")
        .bind(rows::uuid(run.as_str()))
        .bind(repository.0)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = row else { return Err(no_run(run)) };
    rows::parsed(&row, "runs", "name", Name::parse)
}

fn no_run(run: &RunId) -> Error {
    conflict(format!("run {run}"), "there is none in this repository")
}

async fn touch_run(tx: Tx<'_>, repository: RepositoryId, run: &RunId) -> Result<(), Error> {
    let name = request_of(tx, repository, run).await?;
    touch(tx, repository, &name).await
}

/// An order: which attempt of which round, on what, from whom.
pub(super) struct Ordered<'a> {
    pub name: &'a Name,
    pub key: &'a AttemptKey,
    pub round: u32,
    pub hosts: &'a [Host],
    pub agent: &'a Name,
}

pub(super) async fn ordered(
    tx: Tx<'_>,
    repository: RepositoryId,
    order: &Ordered<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    let key = order.key;
    let row = sqlx::query(
        "SELECT id::text AS id, name, plan::text AS plan, state, round FROM runs
         WHERE id = $1::uuid AND repository_id = $2",
    )
    .bind(rows::uuid(key.run.as_str()))
    .bind(repository.0)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Err(no_run(&key.run)) };
    own_run(&row, order.name, &key.run)?;
    let current: u32 = rows::number(&row, "runs", "round")?;
    if rows::run_state(&row)?.is_some() || current != order.round {
        return Err(conflict(format!("run {}", key.run), "it is over, or in another round"));
    }
    let plan: chiffon_schemas::Plan = rows::json(&row, "runs", "plan")?;
    let playbook = plan.spec.steps.iter().find(|step| step.id == key.step).map(|step| step.playbook.to_string());
    let done = sqlx::query(
        "WITH ordered AS (
             INSERT INTO attempts (run_id, step, number, round, playbook, hosts, state, agent, since)
             VALUES ($1::uuid, $2, $3, $4, $5, $6, 'ordered', $7, to_timestamp($8::double precision))
             ON CONFLICT DO NOTHING RETURNING run_id, step, number, state, since),
         remembered AS (INSERT INTO attempt_states (run_id, step, number, state, at) SELECT * FROM ordered)
         UPDATE requests SET version = version + 1 FROM ordered WHERE repository_id = $9 AND name = $10",
    )
    .bind(rows::uuid(key.run.as_str()))
    .bind(key.step.as_str())
    .bind(i64::from(key.attempt))
    .bind(i64::from(order.round))
    .bind(playbook.unwrap_or_default())
    .bind(rows::texts(order.hosts))
    .bind(order.agent.as_str())
    .bind(now.secs())
    .bind(repository.0)
    .bind(order.name.as_str())
    .execute(&mut *tx)
    .await?;
    expect_row(&done, || format!("attempt {key}"), "it exists already")
}

/// An attempt that nobody was granted yet goes to an agent, as if it had never been claimed.
pub(super) async fn reordered(
    tx: Tx<'_>,
    repository: RepositoryId,
    key: &AttemptKey,
    from: AttemptState,
    agent: &Name,
    now: Timestamp,
) -> Result<(), Error> {
    let waits = matches!(from, AttemptState::Ordered | AttemptState::Claimed);
    let name = request_of(tx, repository, &key.run).await?;
    let done = sqlx::query(
        "UPDATE attempts SET state = 'ordered', agent = $1, boot = NULL, since = to_timestamp($2::double precision)
         WHERE run_id = $3::uuid AND step = $4 AND number = $5 AND state = $6 AND $7",
    )
    .bind(agent.as_str())
    .bind(now.secs())
    .bind(rows::uuid(key.run.as_str()))
    .bind(key.step.as_str())
    .bind(i64::from(key.attempt))
    .bind(from.as_str())
    .bind(waits)
    .execute(&mut *tx)
    .await?;
    expect_row(&done, || format!("attempt {key} in {}", from.as_str()), "it is granted, over, or not there")?;
    remember_state(tx, key, AttemptState::Ordered, now).await?;
    touch(tx, repository, &name).await
}

/// A new life of an agent has the ends of attempts that were granted to earlier ones.
pub(super) async fn taken_over(
    tx: Tx<'_>,
    agent: &Name,
    boot: &BootId,
    ended: &[(AttemptKey, Fence)],
) -> Result<(), Error> {
    for (key, fence) in ended {
        sqlx::query(
            "WITH taken AS (
                 UPDATE attempts SET boot = $1::uuid WHERE run_id = $2::uuid AND step = $3 AND number = $4 AND agent = $5
                     AND fence_incarnation = $6 AND fence_counter = $7 AND state IN ('granted', 'started')
                 RETURNING run_id)
             UPDATE requests SET version = version + 1 FROM taken JOIN runs ON runs.id = taken.run_id
             WHERE requests.repository_id = runs.repository_id AND requests.name = runs.name",
        )
        .bind(rows::uuid(boot.as_str()))
        .bind(rows::uuid(key.run.as_str()))
        .bind(key.step.as_str())
        .bind(i64::from(key.attempt))
        .bind(agent.as_str())
        .bind(i64::from(fence.incarnation))
        .bind(i64::try_from(fence.counter).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Refuses a change that names another request than the run's own.
fn own_run(run: &PgRow, name: &Name, id: &RunId) -> Result<(), Error> {
    let owner = rows::parsed(run, "runs", "name", Name::parse)?;
    if &owner == name { Ok(()) } else { Err(conflict(format!("run {id} of {name}"), format!("it is {owner}'s"))) }
}

async fn remember_state(tx: Tx<'_>, key: &AttemptKey, state: AttemptState, now: Timestamp) -> Result<(), Error> {
    sqlx::query("INSERT INTO attempt_states (run_id, step, number, state, at) VALUES ($1::uuid, $2, $3, $4, to_timestamp($5::double precision))")
        .bind(rows::uuid(key.run.as_str()))
        .bind(key.step.as_str())
        .bind(i64::from(key.attempt))
        .bind(state.as_str())
        .bind(now.secs())
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// A claim to be granted: which attempt, to which life of its agent, on which hosts.
pub(super) struct Claim<'a> {
    pub name: &'a Name,
    pub key: &'a AttemptKey,
    pub boot: &'a BootId,
    pub hosts: &'a [Host],
    /// The digest of the order.
    pub order: String,
}

pub(super) async fn granted(
    tx: Tx<'_>,
    repository: RepositoryId,
    claim: Claim<'_>,
    now: Timestamp,
) -> Result<Fence, Error> {
    let Claim { name, key, boot, hosts, order } = claim;
    let agent = may_be_granted(tx, repository, &Claim { name, key, boot, hosts, order: String::new() }).await?;
    let row = sqlx::query(
        "WITH fence AS (
             UPDATE meta SET fence_counter = fence_counter + 1 WHERE id = 1 RETURNING incarnation, fence_counter),
         locked AS (
             INSERT INTO locks (repository_id, host, request, run_id, step, number)
             SELECT DISTINCT $1, host, $2, $3::uuid, $4, $5::bigint FROM unnest($6::text[]) AS host
             WHERE NOT EXISTS (SELECT FROM locks AS own WHERE own.repository_id = $1 AND own.host = host.host)),
         granted AS (
             UPDATE attempts SET state = 'granted', fence_incarnation = incarnation,
                 fence_counter = fence.fence_counter, since = to_timestamp($7::double precision), last_seq = 0
             FROM fence WHERE run_id = $3::uuid AND step = $4 AND number = $5
             RETURNING run_id, step, number, state, since),
         remembered AS (INSERT INTO attempt_states (run_id, step, number, state, at) SELECT * FROM granted),
         touched AS (UPDATE requests SET version = version + 1 WHERE repository_id = $1 AND name = $2)
         SELECT incarnation, fence_counter FROM fence",
    )
    .bind(repository.0)
    .bind(name.as_str())
    .bind(rows::uuid(key.run.as_str()))
    .bind(key.step.as_str())
    .bind(i64::from(key.attempt))
    .bind(rows::texts(hosts))
    .bind(now.secs())
    .fetch_one(&mut *tx)
    .await?;
    let fence = Fence {
        incarnation: rows::number(&row, "meta", "incarnation")?,
        counter: rows::number(&row, "meta", "fence_counter")?,
    };
    let grant = ToAgent::Grant(chiffon_schemas::Grant { key: key.clone(), boot: boot.clone(), fence, order, at: now });
    outbox::push(tx, &[(agent, grant)], now).await?;
    Ok(fence)
}

/// Whose the claim is, where it is one and every host is free or this run's.
async fn may_be_granted(tx: Tx<'_>, repository: RepositoryId, claim: &Claim<'_>) -> Result<Name, Error> {
    let Claim { name, key, boot, hosts, .. } = claim;
    let row = sqlx::query(concat!(
        "SELECT agent, runs.name AS name, (SELECT json_agg(row_to_json(held))::text FROM (SELECT ",
        columns!(lock),
        " FROM locks WHERE repository_id = $5 AND host = ANY($6::text[]) AND run_id <> $1::uuid
          ORDER BY array_position($6::text[], host) LIMIT 1) AS held) AS held
         FROM attempts JOIN runs ON runs.id = attempts.run_id
         WHERE run_id = $1::uuid AND step = $2 AND number = $3 AND attempts.state = 'claimed' AND boot = $4::uuid
             AND repository_id = $5"
    ))
    .bind(rows::uuid(key.run.as_str()))
    .bind(key.step.as_str())
    .bind(i64::from(key.attempt))
    .bind(rows::uuid(boot.as_str()))
    .bind(repository.0)
    .bind(rows::texts(hosts))
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else {
        return Err(conflict(format!("attempt {key}"), "it is not claimed by this agent's life"));
    };
    own_run(&row, name, &key.run)?;
    if let Some(held) = rows::inner(&row, "held")?.first() {
        return Err(Error::Locked {
            host: rows::parsed(held, "locks", "host", Host::parse)?,
            holder: read::holder(held)?,
        });
    }
    rows::parsed(&row, "attempts", "agent", Name::parse)
}

/// A move of an attempt, with what its report carried.
pub(super) struct Move<'a> {
    pub key: &'a AttemptKey,
    pub from: AttemptState,
    pub to: AttemptState,
    pub fence: Option<Fence>,
    pub boot: Option<&'a BootId>,
    pub outcome: Option<&'a Outcome>,
}

pub(super) async fn moved(
    tx: Tx<'_>,
    repository: RepositoryId,
    change: &Move<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    // A grant comes with fence, locks and message, or not at all.
    if !change.from.allows(change.to) || change.to == AttemptState::Granted {
        return Err(not_moved(tx, repository, change).await);
    }
    let key = change.key;
    // Ordered again, an attempt begins as if it had never been claimed. What a run holds is freed where it is over and
    // nothing of it may still run somewhere.
    let done = sqlx::query(
        "WITH moved AS (
             UPDATE attempts SET state = $1, since = to_timestamp($2::double precision),
                 boot = CASE WHEN $3 THEN COALESCE($4::uuid, boot) END,
                 outcome = CASE WHEN $3 THEN COALESCE($5::jsonb, outcome) END,
                 fence_incarnation = CASE WHEN $3 THEN fence_incarnation END,
                 fence_counter = CASE WHEN $3 THEN fence_counter END
             FROM runs
             WHERE runs.id = run_id AND repository_id = $6 AND run_id = $7::uuid AND step = $8 AND number = $9
                 AND attempts.state = $10
                 AND ($11::bigint IS NULL OR (fence_incarnation = $11 AND fence_counter = $12::bigint))
             RETURNING run_id, step, number, name, runs.state IS NOT NULL AS over),
         remembered AS (
             INSERT INTO attempt_states (run_id, step, number, state, at)
             SELECT run_id, step, number, $1, to_timestamp($2::double precision) FROM moved),
         freed AS (
             DELETE FROM locks USING moved
             WHERE locks.run_id = moved.run_id AND over AND $1 NOT IN ('granted', 'started', 'lost')
                 AND NOT EXISTS (SELECT FROM attempts AS other WHERE other.run_id = moved.run_id
                     AND (other.step, other.number) <> (moved.step, moved.number)
                     AND other.state IN ('granted', 'started', 'lost')))
         UPDATE requests SET version = version + 1 FROM moved
         WHERE requests.repository_id = $6 AND requests.name = moved.name",
    )
    .bind(change.to.as_str())
    .bind(now.secs())
    .bind(change.to != AttemptState::Ordered)
    .bind(change.boot.map(|boot| rows::uuid(boot.as_str())))
    .bind(change.outcome.map(rows::text))
    .bind(repository.0)
    .bind(rows::uuid(key.run.as_str()))
    .bind(key.step.as_str())
    .bind(i64::from(key.attempt))
    .bind(change.from.as_str())
    .bind(change.fence.map(|fence| i64::from(fence.incarnation)))
    .bind(change.fence.map(|fence| i64::try_from(fence.counter).unwrap_or(i64::MAX)))
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(not_moved(tx, repository, change).await) }
}

/// Why an attempt was not moved, seen from its row.
async fn not_moved(tx: Tx<'_>, repository: RepositoryId, change: &Move<'_>) -> Error {
    let key = change.key;
    let row = sqlx::query(concat!(
        "SELECT ",
        columns!(attempt),
        " FROM attempts JOIN runs ON runs.id = attempts.run_id
         WHERE run_id = $1::uuid AND step = $2 AND number = $3 AND repository_id = $4"
    ))
    .bind(rows::uuid(key.run.as_str()))
    .bind(key.step.as_str())
    .bind(i64::from(key.attempt))
    .bind(repository.0)
    .fetch_optional(&mut *tx)
    .await;
    let row = match row {
        Ok(Some(row)) => row,
        Ok(None) => return conflict(format!("attempt {key}"), "there is none in this repository"),
        Err(error) => return error.into(),
    };
    match (rows::attempt_state(&row), rows::fence(&row)) {
        (Err(error), _) | (_, Err(error)) => error,
        (Ok(state), Ok(fence)) if state == change.from && change.fence.is_some() && fence != change.fence => {
            conflict(format!("the fence of attempt {key}"), "another one")
        }
        (Ok(state), Ok(_)) => conflict(format!("attempt {key} in {}", change.from.as_str()), state.as_str()),
    }
}

/// Frees what a run holds, where it is over and nothing of it may still run somewhere.
async fn free_locks(tx: Tx<'_>, run: &RunId) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM locks WHERE run_id = $1::uuid
             AND EXISTS (SELECT 1 FROM runs WHERE id = $1::uuid AND state IS NOT NULL)
             AND NOT EXISTS (SELECT 1 FROM attempts WHERE run_id = $1::uuid AND state IN ('granted', 'started', 'lost'))",
    )
    .bind(rows::uuid(run.as_str()))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

pub(super) async fn unlocked(tx: Tx<'_>, repository: RepositoryId, host: &Host) -> Result<(), Error> {
    let done = sqlx::query("DELETE FROM locks WHERE repository_id = $1 AND host = $2")
        .bind(repository.0)
        .bind(host.as_str())
        .execute(&mut *tx)
        .await?;
    expect_row(&done, || format!("the lock of {host}"), "it is free")
}

pub(super) async fn finished(
    tx: Tx<'_>,
    repository: RepositoryId,
    run: &RunId,
    state: RunState,
    voided: bool,
    now: Timestamp,
) -> Result<(), Error> {
    let name = request_of(tx, repository, run).await?;
    let done = sqlx::query("UPDATE runs SET state = $1, voided = $2, finished_at = to_timestamp($3::double precision) WHERE id = $4::uuid AND state IS NULL")
        .bind(state.as_str())
        .bind(voided)
        .bind(now.secs())
        .bind(rows::uuid(run.as_str()))
        .execute(&mut *tx)
        .await?;
    expect_row(&done, || format!("run {run}"), "it is over already")?;
    free_locks(tx, run).await?;
    touch(tx, repository, &name).await
}

pub(super) async fn resolved(
    tx: Tx<'_>,
    repository: RepositoryId,
    run: &RunId,
    state: RunState,
    now: Timestamp,
) -> Result<(), Error> {
    let name = request_of(tx, repository, run).await?;
    let done = sqlx::query("UPDATE runs SET state = $1, finished_at = to_timestamp($2::double precision) WHERE id = $3::uuid AND state = 'lost'")
        .bind(state.as_str())
        .bind(now.secs())
        .bind(rows::uuid(run.as_str()))
        .execute(&mut *tx)
        .await?;
    expect_row(&done, || format!("run {run}"), "it is not lost")?;
    free_locks(tx, run).await?;
    touch(tx, repository, &name).await
}

pub(super) async fn reopened(tx: Tx<'_>, repository: RepositoryId, run: &RunId, round: u32) -> Result<(), Error> {
    request_of(tx, repository, run).await?;
    let done = sqlx::query(
        "UPDATE runs SET state = NULL, finished_at = NULL, cancel = false, round = $1 WHERE id = $2::uuid AND state IS NOT NULL AND round = $3 - 1",
    )
    .bind(i64::from(round))
    .bind(rows::uuid(run.as_str()))
    .bind(i64::from(round))
    .execute(&mut *tx)
    .await?;
    expect_row(&done, || format!("run {run}"), "it goes on, or is in another round")?;
    touch_run(tx, repository, run).await
}

pub(super) async fn cancel_asked(tx: Tx<'_>, repository: RepositoryId, run: &RunId) -> Result<(), Error> {
    request_of(tx, repository, run).await?;
    let done = sqlx::query("UPDATE runs SET cancel = true WHERE id = $1::uuid AND state IS NULL")
        .bind(rows::uuid(run.as_str()))
        .execute(&mut *tx)
        .await?;
    expect_row(&done, || format!("run {run}"), "it is over already")?;
    touch_run(tx, repository, run).await
}
