//! Reports and log chunks: each stored once, however often it arrives. Chunks lie in a partition for each day, so that
//! old ones go at once and leave nothing to sweep.

use chiffon_schemas::{AttemptKey, Fence, Name, RunId, Timestamp};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::rows;
use crate::{Accepted, Error, LogChunk};

const DAY: i64 = 86_400;

/// Stores the number of a report without a log, where it is the next one of this fence and from the right agent.
pub(super) async fn report_next(
    db: &mut PgConnection,
    agent: &Name,
    key: &AttemptKey,
    fence: Fence,
    seq: u64,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE attempts SET last_seq = $1 WHERE run_id = $2::uuid AND step = $3 AND number = $4 AND agent = $5
         AND fence_incarnation = $6 AND fence_counter = $7 AND last_seq = $1 - 1",
    )
    .bind(i64::try_from(seq).unwrap_or(i64::MAX))
    .bind(rows::uuid(key.run.as_str()))
    .bind(key.step.as_str())
    .bind(i64::from(key.attempt))
    .bind(agent.as_str())
    .bind(i64::from(fence.incarnation))
    .bind(i64::try_from(fence.counter).unwrap_or(i64::MAX))
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn report(
    tx: &mut PgConnection,
    agent: &Name,
    key: &AttemptKey,
    fence: Fence,
    seq: u64,
    log: Option<(u64, &str)>,
    now: Timestamp,
) -> Result<Accepted, Error> {
    // One report of a run at a time: whoever follows its log sees positions only rise.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(key.run.as_str())
        .execute(&mut *tx)
        .await?;
    let row = sqlx::query(
        "SELECT run_id::text AS run_id, step, number, agent, fence_incarnation, fence_counter,
                last_seq, last_chunk
         FROM attempts
         WHERE run_id = $1::uuid AND step = $2 AND number = $3 FOR NO KEY UPDATE",
    )
    .bind(rows::uuid(key.run.as_str()))
    .bind(key.step.as_str())
    .bind(i64::from(key.attempt))
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(Accepted::WrongFence) };
    if row.try_get::<&str, _>("agent")? != agent.as_str() {
        return Ok(Accepted::Foreign);
    }
    if rows::fence(&row)? != Some(fence) {
        return Ok(Accepted::WrongFence);
    }
    let last: u64 = rows::number(&row, "attempts", "last_seq")?;
    if seq <= last {
        return Ok(Accepted::Stored(last));
    }
    if seq > last + 1 {
        return Ok(Accepted::Gap(last));
    }
    let before: i64 = row.try_get("last_chunk")?;
    let new =
        log.map(|(chunk, text)| (i64::try_from(chunk).unwrap_or(i64::MAX), text)).filter(|(chunk, _)| *chunk > before);
    if let Some((chunk, text)) = new {
        sqlx::query(
            "INSERT INTO log_chunks (run_id, step, number, chunk, text, at)
             VALUES ($1::uuid, $2, $3, $4, $5, to_timestamp($6::double precision))",
        )
        .bind(rows::uuid(key.run.as_str()))
        .bind(key.step.as_str())
        .bind(i64::from(key.attempt))
        .bind(chunk)
        .bind(rows::plain(text))
        .bind(now.secs())
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query(
        "UPDATE attempts SET last_seq = $1, last_chunk = $2 WHERE run_id = $3::uuid AND step = $4 AND number = $5",
    )
    .bind(i64::try_from(seq).unwrap_or(i64::MAX))
    .bind(new.map_or(before, |(chunk, _)| chunk))
    .bind(rows::uuid(key.run.as_str()))
    .bind(key.step.as_str())
    .bind(i64::from(key.attempt))
    .execute(&mut *tx)
    .await?;
    Ok(Accepted::Stored(seq))
}

/// The day of a time, from 1970 on.
pub(super) fn day_of(at: Timestamp) -> i64 {
    at.secs().div_euclid(DAY)
}

/// Makes the partition of a day; harmless when it is there, or somebody else makes it now.
pub(super) async fn make_day(tx: &mut PgConnection, day: i64) -> Result<(), Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('log_chunks', 0))").execute(&mut *tx).await?;
    let (name, from, to) = (name_of(day), bound(day), bound(day + 1));
    // Made of numbers alone.
    let statement =
        format!("CREATE TABLE IF NOT EXISTS {name} PARTITION OF log_chunks FOR VALUES FROM ({from}) TO ({to})");
    sqlx::query(AssertSqlSafe(statement)).execute(&mut *tx).await?;
    Ok(())
}

/// Drops the partitions of whole days before a time, as long as no run goes on that wrote into them; how many.
pub(super) async fn forget_before(tx: &mut PgConnection, before: Timestamp) -> Result<u64, Error> {
    let found = sqlx::query(
        "SELECT child.relname AS name,
             (SELECT extract(epoch FROM MIN(approved_at))::bigint FROM runs WHERE state IS NULL) AS oldest
         FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid WHERE inhparent = 'log_chunks'::regclass",
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut dropped = 0;
    for row in found {
        let (name, oldest): (String, Option<i64>) = (row.try_get("name")?, row.try_get("oldest")?);
        let Some(day) = name.strip_prefix("log_chunks_").and_then(|digits| digits.parse::<i64>().ok()) else {
            continue;
        };
        // A clock that was set back may have put some of a run's log a day before its approval.
        let in_use = oldest.is_some_and(|oldest| day >= day_of(Timestamp::from_secs(oldest)) - 2);
        if day < day_of(before) && !in_use && name == name_of(day) {
            sqlx::query(AssertSqlSafe(format!("DROP TABLE {name}"))).execute(&mut *tx).await?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

fn name_of(day: i64) -> String {
    format!("log_chunks_{day}")
}

fn bound(day: i64) -> String {
    let (year, month, of_month) = Timestamp::from_secs(day * DAY).date();
    format!("'{year:04}-{month:02}-{of_month:02} 00:00:00+00'")
}

pub(super) async fn read(db: &mut PgConnection, run: &RunId, after: i64, limit: u32) -> Result<Vec<LogChunk>, Error> {
    // The time of the approval leaves out the partitions of earlier days; a clock that was set back hides nothing.
    let found = sqlx::query(
        "SELECT position, step, number, chunk, text FROM log_chunks
         WHERE run_id = $1::uuid AND position > $2
             AND at >= (SELECT approved_at - interval '2 days' FROM runs WHERE id = $1::uuid)
         ORDER BY position LIMIT $3",
    )
    .bind(rows::uuid(run.as_str()))
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    let chunk = |row| {
        let text: String = Row::try_get(row, "text")?;
        Ok(LogChunk {
            position: Row::try_get(row, "position")?,
            step: rows::parsed(row, "log_chunks", "step", Name::parse)?,
            attempt: rows::number(row, "log_chunks", "number")?,
            chunk: rows::number(row, "log_chunks", "chunk")?,
            text: rows::whole(text),
        })
    };
    found.iter().map(chunk).collect()
}
