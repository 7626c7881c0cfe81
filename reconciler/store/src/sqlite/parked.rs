//! Messages that were put aside.

use chiffon_schemas::{Direction, Name, Timestamp};
use sqlx::{Row, SqliteConnection};

use super::rows;
use crate::{Error, MAX_PARKED, NewParked, Parked};

pub(super) async fn add(tx: &mut SqliteConnection, parked: &NewParked, now: Timestamp) -> Result<(), Error> {
    sqlx::query("INSERT INTO parked (at, agent, direction, reason, head, size) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(now.secs())
        .bind(parked.agent.as_str())
        .bind(parked.direction.as_str())
        .bind(&parked.reason)
        .bind(&parked.head)
        .bind(i64::try_from(parked.size).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await?;
    sqlx::query("DELETE FROM parked WHERE id <= (SELECT id FROM parked ORDER BY id DESC LIMIT 1 OFFSET ?)")
        .bind(i64::from(MAX_PARKED))
        .execute(&mut *tx)
        .await?;
    Ok(())
}

pub(super) async fn all(db: &mut SqliteConnection) -> Result<Vec<Parked>, Error> {
    let rows = sqlx::query("SELECT * FROM parked ORDER BY id DESC").fetch_all(db).await?;
    let parked = |row| {
        Ok(Parked {
            id: Row::try_get(row, "id")?,
            at: rows::time(row, "at")?,
            message: NewParked {
                agent: rows::parsed(row, "parked", "agent", Name::parse)?,
                direction: rows::parsed(row, "parked", "direction", Direction::parse)?,
                reason: Row::try_get(row, "reason")?,
                head: Row::try_get(row, "head")?,
                size: rows::number(row, "parked", "size")?,
            },
        })
    };
    rows.iter().map(parked).collect()
}
