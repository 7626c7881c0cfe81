//! Changes of runs and their attempts: orders, grants with fence and locks, moves, ends.
//!
//! Locks belong to a run: its first grant takes all of its hosts, a later one finds them its own, and its end frees
//! them. The lock of a lost run stays until nothing of it is lost any more, or a person frees it.

use chiffon_core::facts::{LockHolder, OfferState, Run};
use chiffon_schemas::{
    AttemptKey, AttemptState, BootId, Fence, Host, Name, Outcome, RunId, RunState, Timestamp, ToAgent,
};

use super::change::{Tx, close_offer, conflict, expect_row, touch};
use super::{read, rows};
use crate::{Error, RepositoryId};

pub(super) async fn approved(tx: Tx<'_>, repository: RepositoryId, name: &Name, run: &Run) -> Result<(), Error> {
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

/// The request that a run belongs to, in this repository: a run of another one is as good as none.
async fn request_of(tx: Tx<'_>, repository: RepositoryId, run: &RunId) -> Result<Name, Error> {
    let row = sqlx::query("SELECT id, name FROM runs WHERE id = ? AND repository_id = ?")
        .bind(run.as_str())
        .bind(repository.0)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = row else { return Err(conflict(format!("run {run}"), "there is none in this repository")) };
    rows::parsed(&row, "runs", "name", Name::parse)
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
    own_run(tx, repository, order.name, &key.run).await?;
    let row = sqlx::query("SELECT id, plan, state, round FROM runs WHERE id = ?")
        .bind(key.run.as_str())
        .fetch_one(&mut *tx)
        .await?;
    let current: u32 = rows::number(&row, "runs", "round")?;
    if rows::run_state(&row)?.is_some() || current != order.round {
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
    .bind(order.round)
    .bind(playbook.unwrap_or_default())
    .bind(rows::text(&order.hosts))
    .bind(order.agent.as_str())
    .bind(now.secs())
    .execute(&mut *tx)
    .await?;
    expect_row(&done, || format!("attempt {key}"), "it exists already")?;
    remember_state(tx, key, AttemptState::Ordered, now).await?;
    touch(tx, repository, order.name).await
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
        "UPDATE attempts SET state = 'ordered', agent = ?, boot = NULL, since = ?
         WHERE run_id = ? AND step = ? AND number = ? AND state = ? AND ?",
    )
    .bind(agent.as_str())
    .bind(now.secs())
    .bind(key.run.as_str())
    .bind(key.step.as_str())
    .bind(key.attempt)
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
        let done = sqlx::query(
            "UPDATE attempts SET boot = ? WHERE run_id = ? AND step = ? AND number = ? AND agent = ?
             AND fence_incarnation = ? AND fence_counter = ? AND state IN ('granted', 'started')",
        )
        .bind(boot.as_str())
        .bind(key.run.as_str())
        .bind(key.step.as_str())
        .bind(key.attempt)
        .bind(agent.as_str())
        .bind(fence.incarnation)
        .bind(i64::try_from(fence.counter).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 1 {
            sqlx::query(
                "UPDATE requests SET version = version + 1
                 WHERE (repository_id, name) IN (SELECT repository_id, name FROM runs WHERE id = ?)",
            )
            .bind(key.run.as_str())
            .execute(&mut *tx)
            .await?;
        }
    }
    Ok(())
}

/// Refuses a change that names another request than the run's own.
async fn own_run(tx: Tx<'_>, repository: RepositoryId, name: &Name, run: &RunId) -> Result<(), Error> {
    let owner = request_of(tx, repository, run).await?;
    if &owner == name { Ok(()) } else { Err(conflict(format!("run {run} of {name}"), format!("it is {owner}'s"))) }
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
    let claimed = sqlx::query(
        "SELECT agent FROM attempts JOIN runs ON runs.id = attempts.run_id
         WHERE run_id = ? AND step = ? AND number = ? AND attempts.state = 'claimed' AND boot = ?
             AND repository_id = ?",
    )
    .bind(key.run.as_str())
    .bind(key.step.as_str())
    .bind(key.attempt)
    .bind(boot.as_str())
    .bind(repository.0)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = claimed else {
        return Err(conflict(format!("attempt {key}"), "it is not claimed by this agent's life"));
    };
    own_run(tx, repository, name, &key.run).await?;
    let agent = rows::parsed(&row, "attempts", "agent", Name::parse)?;
    for host in hosts {
        lock(tx, repository, name, key, host).await?;
    }
    let fence = next_fence(tx).await?;
    sqlx::query(
        "UPDATE attempts SET state = 'granted', fence_incarnation = ?, fence_counter = ?, since = ?, last_seq = 0
         WHERE run_id = ? AND step = ? AND number = ?",
    )
    .bind(fence.incarnation)
    .bind(i64::try_from(fence.counter).unwrap_or(i64::MAX))
    .bind(now.secs())
    .bind(key.run.as_str())
    .bind(key.step.as_str())
    .bind(key.attempt)
    .execute(&mut *tx)
    .await?;
    remember_state(tx, key, AttemptState::Granted, now).await?;
    let grant = ToAgent::Grant(chiffon_schemas::Grant { key: key.clone(), boot: boot.clone(), fence, order, at: now });
    super::push_messages(tx, &[(agent, grant)], now).await?;
    touch(tx, repository, name).await?;
    Ok(fence)
}

async fn next_fence(tx: Tx<'_>) -> Result<Fence, Error> {
    let row = sqlx::query(
        "UPDATE meta SET fence_counter = fence_counter + 1 WHERE id = 1 RETURNING incarnation, fence_counter",
    )
    .fetch_one(&mut *tx)
    .await?;
    Ok(Fence {
        incarnation: rows::number(&row, "meta", "incarnation")?,
        counter: rows::number(&row, "meta", "fence_counter")?,
    })
}

async fn lock(tx: Tx<'_>, repository: RepositoryId, name: &Name, key: &AttemptKey, host: &Host) -> Result<(), Error> {
    let row = sqlx::query("SELECT * FROM locks WHERE repository_id = ? AND host = ?")
        .bind(repository.0)
        .bind(host.as_str())
        .fetch_optional(&mut *tx)
        .await?;
    if let Some(row) = row {
        let holder: LockHolder = read::holder(&row)?;
        return if holder.run == key.run { Ok(()) } else { Err(Error::Locked { host: host.clone(), holder }) };
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

/// A move of an attempt, with what its report carried.
pub(super) struct Move<'a> {
    pub key: &'a AttemptKey,
    pub from: AttemptState,
    pub to: AttemptState,
    pub fence: Option<Fence>,
    pub boot: Option<&'a BootId>,
    pub outcome: Option<&'a Outcome>,
}

impl Move<'_> {
    /// Why it can't be done, seen from the attempt's row.
    fn refused(&self, row: &sqlx::sqlite::SqliteRow) -> Result<Option<Error>, Error> {
        let state = rows::attempt_state(row)?;
        // A grant comes with fence, locks and message, or not at all.
        if state != self.from || !self.from.allows(self.to) || self.to == AttemptState::Granted {
            let what = format!("attempt {} in {}", self.key, self.from.as_str());
            return Ok(Some(conflict(what, state.as_str())));
        }
        if self.fence.is_some() && rows::fence(row)? != self.fence {
            return Ok(Some(conflict(format!("the fence of attempt {}", self.key), "another one")));
        }
        Ok(None)
    }
}

pub(super) async fn moved(
    tx: Tx<'_>,
    repository: RepositoryId,
    change: &Move<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    let key = change.key;
    let row = sqlx::query(
        "SELECT attempts.* FROM attempts JOIN runs ON runs.id = attempts.run_id
         WHERE run_id = ? AND step = ? AND number = ? AND repository_id = ?",
    )
    .bind(key.run.as_str())
    .bind(key.step.as_str())
    .bind(key.attempt)
    .bind(repository.0)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else {
        return Err(conflict(format!("attempt {key}"), "there is none in this repository"));
    };
    if let Some(refused) = change.refused(&row)? {
        return Err(refused);
    }
    // Ordered again, an attempt begins as if it had never been claimed.
    let keeps_grant = change.to != AttemptState::Ordered;
    sqlx::query(
        "UPDATE attempts SET state = ?, since = ?, boot = CASE WHEN ? THEN COALESCE(?, boot) END,
             outcome = CASE WHEN ? THEN COALESCE(?, outcome) END,
             fence_incarnation = CASE WHEN ? THEN fence_incarnation END,
             fence_counter = CASE WHEN ? THEN fence_counter END
         WHERE run_id = ? AND step = ? AND number = ?",
    )
    .bind(change.to.as_str())
    .bind(now.secs())
    .bind(keeps_grant)
    .bind(change.boot.map(BootId::as_str))
    .bind(keeps_grant)
    .bind(change.outcome.map(rows::text))
    .bind(keeps_grant)
    .bind(keeps_grant)
    .bind(key.run.as_str())
    .bind(key.step.as_str())
    .bind(key.attempt)
    .execute(&mut *tx)
    .await?;
    remember_state(tx, key, change.to, now).await?;
    free_locks(tx, &key.run).await?;
    touch_run(tx, repository, &key.run).await
}

/// Frees what a run holds, where it is over and nothing of it may still run somewhere.
async fn free_locks(tx: Tx<'_>, run: &RunId) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM locks WHERE run_id = ?1
             AND EXISTS (SELECT 1 FROM runs WHERE id = ?1 AND state IS NOT NULL)
             AND NOT EXISTS (SELECT 1 FROM attempts WHERE run_id = ?1 AND state IN ('granted', 'started', 'lost'))",
    )
    .bind(run.as_str())
    .execute(&mut *tx)
    .await?;
    Ok(())
}

pub(super) async fn unlocked(tx: Tx<'_>, repository: RepositoryId, host: &Host) -> Result<(), Error> {
    let done = sqlx::query("DELETE FROM locks WHERE repository_id = ? AND host = ?")
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
    request_of(tx, repository, run).await?;
    let done = sqlx::query("UPDATE runs SET state = ?, voided = ?, finished_at = ? WHERE id = ? AND state IS NULL")
        .bind(state.as_str())
        .bind(voided)
        .bind(now.secs())
        .bind(run.as_str())
        .execute(&mut *tx)
        .await?;
    expect_row(&done, || format!("run {run}"), "it is over already")?;
    free_locks(tx, run).await?;
    touch_run(tx, repository, run).await
}

pub(super) async fn resolved(
    tx: Tx<'_>,
    repository: RepositoryId,
    run: &RunId,
    state: RunState,
    now: Timestamp,
) -> Result<(), Error> {
    request_of(tx, repository, run).await?;
    let done = sqlx::query("UPDATE runs SET state = ?, finished_at = ? WHERE id = ? AND state = 'lost'")
        .bind(state.as_str())
        .bind(now.secs())
        .bind(run.as_str())
        .execute(&mut *tx)
        .await?;
    expect_row(&done, || format!("run {run}"), "it is not lost")?;
    free_locks(tx, run).await?;
    touch_run(tx, repository, run).await
}

pub(super) async fn reopened(tx: Tx<'_>, repository: RepositoryId, run: &RunId, round: u32) -> Result<(), Error> {
    request_of(tx, repository, run).await?;
    let done = sqlx::query(
        "UPDATE runs SET state = NULL, finished_at = NULL, cancel = 0, round = ? WHERE id = ? AND state IS NOT NULL AND round = ? - 1",
    )
    .bind(round)
    .bind(run.as_str())
    .bind(round)
    .execute(&mut *tx)
    .await?;
    expect_row(&done, || format!("run {run}"), "it goes on, or is in another round")?;
    touch_run(tx, repository, run).await
}

pub(super) async fn cancel_asked(tx: Tx<'_>, repository: RepositoryId, run: &RunId) -> Result<(), Error> {
    request_of(tx, repository, run).await?;
    let done = sqlx::query("UPDATE runs SET cancel = 1 WHERE id = ? AND state IS NULL")
        .bind(run.as_str())
        .execute(&mut *tx)
        .await?;
    expect_row(&done, || format!("run {run}"), "it is over already")?;
    touch_run(tx, repository, run).await
}
