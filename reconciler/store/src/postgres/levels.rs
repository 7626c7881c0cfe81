//! How much of everything there is at a moment.

use sqlx::{PgConnection, Row};

use super::rows;
use crate::{Error, Levels, RepositoryId};

pub(super) async fn levels(db: &mut PgConnection, repository: RepositoryId) -> Result<Levels, Error> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM messages) AS outbox,
         (SELECT count(*) FROM events WHERE repository_id = $1 AND audit_commit IS NULL) AS unaudited,
         (SELECT count(*) FROM parked) AS parked,
         (SELECT count(*) FROM locks WHERE repository_id = $1) AS locks,
         (SELECT count(*) FROM commands WHERE repository_id = $1 AND answer IS NULL) AS commands",
    )
    .bind(repository.0)
    .fetch_one(&mut *db)
    .await?;
    let count = |column: &str| Ok::<_, Error>(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0));
    let states = sqlx::query(
        "SELECT state, count(*) AS count FROM attempts
         WHERE state IN ('ordered', 'claimed', 'granted', 'started') GROUP BY state",
    )
    .fetch_all(db)
    .await?;
    let attempts = states.iter().map(|row| {
        let count: i64 = row.try_get("count")?;
        Ok::<_, Error>((rows::attempt_state(row)?, u64::try_from(count).unwrap_or(0)))
    });
    Ok(Levels {
        outbox: count("outbox")?,
        unaudited: count("unaudited")?,
        parked: count("parked")?,
        locks: count("locks")?,
        commands: count("commands")?,
        attempts: attempts.collect::<Result<_, Error>>()?,
    })
}
