//! What waits for the bus.

use chiffon_schemas::{Name, Timestamp, ToAgent};
use sqlx::{PgConnection, Row};

use super::rows;
use crate::{Error, Outgoing};

/// Puts messages there, in order.
pub(super) async fn push(tx: &mut PgConnection, messages: &[(Name, ToAgent)], now: Timestamp) -> Result<(), Error> {
    if messages.is_empty() {
        return Ok(());
    }
    let agents: Vec<&str> = messages.iter().map(|(agent, _)| agent.as_str()).collect();
    let texts: Vec<String> = messages.iter().map(|(_, message)| rows::text(message)).collect();
    sqlx::query(
        "INSERT INTO messages (agent, message, at)
         SELECT agent, message::jsonb, to_timestamp($3::double precision)
         FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS new (agent, message, place) ORDER BY place",
    )
    .bind(agents)
    .bind(texts)
    .bind(now.secs())
    .execute(tx)
    .await?;
    Ok(())
}

/// What comes after a row, oldest first.
pub(super) async fn waiting(db: &mut PgConnection, after: i64, limit: u32) -> Result<Vec<Outgoing>, Error> {
    let rows =
        sqlx::query("SELECT id, agent, message::text AS message FROM messages WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
    let outgoing = |row| {
        Ok(Outgoing {
            id: Row::try_get(row, "id")?,
            agent: rows::parsed(row, "messages", "agent", Name::parse)?,
            message: rows::json(row, "messages", "message")?,
        })
    };
    rows.iter().map(outgoing).collect()
}

/// Forgets what the bus has confirmed.
pub(super) async fn sent(db: &mut PgConnection, ids: &[i64]) -> Result<(), Error> {
    sqlx::query("DELETE FROM messages WHERE id = ANY($1)").bind(ids).execute(db).await?;
    Ok(())
}
