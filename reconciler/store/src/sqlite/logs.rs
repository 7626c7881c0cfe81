//! Reports and log chunks: each stored once, however often it arrives.

use chiffon_schemas::{AttemptKey, Fence, Name, RunId};
use sqlx::{Row, SqliteConnection};

use super::rows;
use crate::{Accepted, Error, LogChunk};

pub(super) async fn report(
    tx: &mut SqliteConnection,
    agent: &Name,
    key: &AttemptKey,
    fence: Fence,
    seq: u64,
    log: Option<(u64, &str)>,
) -> Result<Accepted, Error> {
    let row = sqlx::query(
        "SELECT run_id, step, number, agent, fence_incarnation, fence_counter, last_seq FROM attempts
         WHERE run_id = ? AND step = ? AND number = ?",
    )
    .bind(key.run.as_str())
    .bind(key.step.as_str())
    .bind(key.attempt)
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
    if let Some((chunk, text)) = log {
        sqlx::query(
            "INSERT INTO log_chunks (run_id, step, number, chunk, text) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(key.run.as_str())
        .bind(key.step.as_str())
        .bind(key.attempt)
        .bind(i64::try_from(chunk).unwrap_or(i64::MAX))
        .bind(text)
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query("UPDATE attempts SET last_seq = ? WHERE run_id = ? AND step = ? AND number = ?")
        .bind(i64::try_from(seq).unwrap_or(i64::MAX))
        .bind(key.run.as_str())
        .bind(key.step.as_str())
        .bind(key.attempt)
        .execute(&mut *tx)
        .await?;
    Ok(Accepted::Stored(seq))
}

pub(super) async fn read(
    db: &mut SqliteConnection,
    run: &RunId,
    after: i64,
    limit: u32,
) -> Result<Vec<LogChunk>, Error> {
    let found = sqlx::query("SELECT * FROM log_chunks WHERE run_id = ? AND position > ? ORDER BY position LIMIT ?")
        .bind(run.as_str())
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await?;
    let chunk = |row| {
        Ok(LogChunk {
            position: Row::try_get(row, "position")?,
            step: rows::parsed(row, "log_chunks", "step", Name::parse)?,
            attempt: rows::number(row, "log_chunks", "number")?,
            chunk: rows::number(row, "log_chunks", "chunk")?,
            text: Row::try_get(row, "text")?,
        })
    };
    found.iter().map(chunk).collect()
}
