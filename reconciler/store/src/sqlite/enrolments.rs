//! Agents and their places on the bus.

use chiffon_schemas::{Name, Timestamp};
use sqlx::{Row, SqliteConnection};

use super::rows;
use crate::{Enrolment, Error, Invitation};

pub(super) async fn invite(db: &mut SqliteConnection, invitation: &Invitation, now: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO enrolments (agent, invited, token, sealed, expires, password_hash) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (agent) DO UPDATE SET invited = excluded.invited, token = excluded.token, sealed = excluded.sealed,
         expires = excluded.expires, enrolled = NULL, revoked = NULL, password_hash = excluded.password_hash",
    )
    .bind(invitation.agent.as_str())
    .bind(now.secs())
    .bind(&invitation.token)
    .bind(&invitation.sealed)
    .bind(invitation.expires.secs())
    .bind(&invitation.password_hash)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn redeem(
    tx: &mut SqliteConnection,
    token: &str,
    now: Timestamp,
) -> Result<Option<(Name, String)>, Error> {
    let row = sqlx::query("SELECT agent, sealed FROM enrolments WHERE token = ? AND expires > ?")
        .bind(token)
        .bind(now.secs())
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let agent = rows::parsed(&row, "enrolments", "agent", Name::parse)?;
    sqlx::query("UPDATE enrolments SET token = NULL, sealed = NULL, enrolled = ? WHERE agent = ?")
        .bind(now.secs())
        .bind(agent.as_str())
        .execute(&mut *tx)
        .await?;
    Ok(Some((agent, row.try_get("sealed")?)))
}

pub(super) async fn all(db: &mut SqliteConnection) -> Result<Vec<Enrolment>, Error> {
    let rows =
        sqlx::query("SELECT agent, invited, expires, enrolled, revoked, password_hash FROM enrolments ORDER BY agent")
            .fetch_all(db)
            .await?;
    let enrolment = |row| {
        let time =
            |column: &str| Ok::<_, Error>(Row::try_get::<Option<i64>, _>(row, column)?.map(Timestamp::from_secs));
        Ok(Enrolment {
            agent: rows::parsed(row, "enrolments", "agent", Name::parse)?,
            invited: rows::time(row, "invited")?,
            expires: rows::time(row, "expires")?,
            enrolled: time("enrolled")?,
            revoked: time("revoked")?,
            password_hash: Row::try_get(row, "password_hash")?,
        })
    };
    rows.iter().map(enrolment).collect()
}

pub(super) async fn revoke(tx: &mut SqliteConnection, agent: &Name, now: Timestamp) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE enrolments SET token = NULL, sealed = NULL, revoked = ? WHERE agent = ? AND revoked IS NULL",
    )
    .bind(now.secs())
    .bind(agent.as_str())
    .execute(&mut *tx)
    .await?;
    // Nobody will ever take what waits for it.
    sqlx::query("DELETE FROM messages WHERE agent = ?").bind(agent.as_str()).execute(tx).await?;
    Ok(done.rows_affected() > 0)
}
