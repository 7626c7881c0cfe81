//! Agents and their places on the bus.

use chiffon_schemas::{Name, Timestamp};
use sqlx::{PgConnection, Row};

use super::rows;
use crate::{Enrolment, Error, Invitation};

pub(super) async fn invite(db: &mut PgConnection, invitation: &Invitation, now: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO enrolments (agent, invited, token, sealed, expires, password_hash)
         VALUES ($1, to_timestamp($2::double precision), $3, $4, to_timestamp($5::double precision), $6)
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
    tx: &mut PgConnection,
    token: &str,
    now: Timestamp,
) -> Result<Option<(Name, String)>, Error> {
    let row = sqlx::query(
        "SELECT agent, sealed FROM enrolments WHERE token = $1 AND expires > to_timestamp($2::double precision) FOR UPDATE",
    )
    .bind(token)
    .bind(now.secs())
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let agent = rows::parsed(&row, "enrolments", "agent", Name::parse)?;
    sqlx::query(
        "UPDATE enrolments SET token = NULL, sealed = NULL, enrolled = to_timestamp($1::double precision) WHERE agent = $2",
    )
    .bind(now.secs())
    .bind(agent.as_str())
    .execute(&mut *tx)
    .await?;
    Ok(Some((agent, row.try_get("sealed")?)))
}

pub(super) async fn all(db: &mut PgConnection) -> Result<Vec<Enrolment>, Error> {
    let rows = sqlx::query(
        "SELECT agent, extract(epoch FROM invited)::bigint AS invited, extract(epoch FROM expires)::bigint AS expires,
         extract(epoch FROM enrolled)::bigint AS enrolled, extract(epoch FROM revoked)::bigint AS revoked,
         password_hash FROM enrolments ORDER BY agent",
    )
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

pub(super) async fn revoke(tx: &mut PgConnection, agent: &Name, now: Timestamp) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE enrolments SET token = NULL, sealed = NULL, revoked = to_timestamp($1::double precision)
         WHERE agent = $2 AND revoked IS NULL",
    )
    .bind(now.secs())
    .bind(agent.as_str())
    .execute(&mut *tx)
    .await?;
    // Nobody will ever take what waits for it.
    sqlx::query("DELETE FROM messages WHERE agent = $1").bind(agent.as_str()).execute(tx).await?;
    Ok(done.rows_affected() > 0)
}
