//! The store in PostgreSQL.
//!
//! Changes of one repository wait for each other on its row, as those of a SQLite file do: a change sees all that
//! came before it, and its conditions hold until it is done. Reports of attempts wait for nobody but their run's.

mod change;
mod enrolments;
mod levels;
mod lines;
mod logs;
mod outbox;
mod parked;
mod read;
mod rows;
mod runs;
mod server;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chiffon_core::facts::{AgentFacts, Event, LockHolder};
use chiffon_schemas::{AttemptKey, EventId, Fence, Host, Json, Mode, Name, Oid, RepoPath, RunId, Timestamp, ToAgent};
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection, Postgres as Pg, Row, Transaction};

use crate::{
    Accepted, Applied, Change, Command, Cursor, Enrolment, Error, EventFilter, Ground, Invitation, Leading, Levels,
    LogChunk, NewParked, Outgoing, Parked, RepositoryId, Seen, Store,
};
use lines::{Line, Lines};
use rows::columns;
pub use server::Server;

/// How many connections the pool holds at most: one for wake-ups, the others for the lease and whatever is not asked
/// on [`Lines`]. Those count for themselves, so one reconciler holds eight at most, as docs/operations.md says.
const CONNECTIONS: u32 = 5;

/// How long a free connection, or the server, is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long after a failure the database is listened to again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// The store in a PostgreSQL database.
#[derive(Debug, Clone)]
pub struct Postgres {
    pool: PgPool,
    lines: Lines,
    /// Days whose partition of the log is known to be there.
    days: Arc<Mutex<HashSet<i64>>>,
    listener: Arc<tokio::sync::Mutex<Option<PgListener>>>,
    /// What this handle leads, and in which epoch.
    leads: Arc<Mutex<HashMap<RepositoryId, i64>>>,
}

/// Bounds what a session may hold up: one whose client stands still in a transaction is ended by the server, so that another
/// reconciler can lead, and nobody waits for a lock for long.
async fn bound(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    let bounds = "SET idle_in_transaction_session_timeout = '15s'; SET lock_timeout = '10s'";
    sqlx::raw_sql(bounds).execute(session).await.map(drop)
}

impl Postgres {
    /// Connects, and brings the schema up to date. Two that do so at the same time wait for each other.
    ///
    /// # Errors
    /// Its address is none, it can't be reached, or a migration fails.
    pub async fn open(server: &Server) -> Result<Self, Error> {
        let options = server.options()?.application_name("chiffon");
        // A pool asks a closed port again and again, and then says only that it took too long.
        PgConnection::connect_with(&options).await?.close().await?;
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(PATIENCE);
        let pool = pool.after_connect(|connection, _| Box::pin(bound(connection)));
        let pool = pool.connect_with(options).await?;
        sqlx::migrate!("../../migrations/postgres").run(&pool).await.map_err(Error::Migrate)?;
        Ok(Self {
            lines: Lines::new(pool.clone()),
            pool,
            days: Arc::default(),
            listener: Arc::default(),
            leads: Arc::default(),
        })
    }

    /// How the server would find past events, in its own words: for tests of the indexes.
    ///
    /// # Errors
    /// The server failed.
    #[cfg(feature = "conformance")]
    pub async fn explain_events(&self, repository: RepositoryId, filter: &EventFilter) -> Result<String, Error> {
        read::explain_events(&mut *self.pool.acquire().await?, repository, filter).await
    }

    /// A transaction in which nobody else changes anything of a repository.
    async fn begin<'line>(
        &self,
        line: &'line mut Line,
        repository: RepositoryId,
    ) -> Result<Transaction<'line, Pg>, Error> {
        let mut tx = line.begin().await?;
        let Some(epoch) = self.epoch(repository) else {
            sqlx::query("SELECT id FROM repositories WHERE id = $1 FOR NO KEY UPDATE")
                .bind(repository.0)
                .execute(&mut *tx)
                .await?;
            return Ok(tx);
        };
        // Both rows are locked: whoever had to wait for them is told who leads now, not who led when it asked.
        let leads = sqlx::query(
            "SELECT epoch FROM repositories JOIN leaders ON repository_id = repositories.id
             WHERE repositories.id = $1 AND epoch = $2 FOR NO KEY UPDATE OF repositories, leaders",
        )
        .bind(repository.0)
        .bind(epoch)
        .fetch_optional(&mut *tx)
        .await?;
        leads.ok_or(Error::Deposed)?;
        Ok(tx)
    }

    /// The epoch in which this handle leads a repository, where it ever did.
    fn epoch(&self, repository: RepositoryId) -> Option<i64> {
        self.leads.lock().unwrap_or_else(PoisonError::into_inner).get(&repository).copied()
    }

    /// Sees to it that the log of a day has its place.
    async fn have_day(&self, at: Timestamp) -> Result<(), Error> {
        let day = logs::day_of(at);
        if self.days.lock().unwrap_or_else(PoisonError::into_inner).contains(&day) {
            return Ok(());
        }
        let mut tx = self.pool.begin().await?;
        logs::make_day(&mut tx, day).await?;
        tx.commit().await?;
        self.days.lock().unwrap_or_else(PoisonError::into_inner).insert(day);
        Ok(())
    }
}

/// Asks a question on a line, which is kept where it was answered.
macro_rules! ask {
    ($store:ident, $line:ident, $question:expr) => {{
        let mut $line = $store.lines.take().await?;
        let answer = $question.await?;
        $line.keep();
        Ok(answer)
    }};
}

#[async_trait]
impl Store for Postgres {
    async fn repository(&self, name: &Name) -> Result<RepositoryId, Error> {
        sqlx::query("INSERT INTO repositories (name) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(name.as_str())
            .execute(&self.pool)
            .await?;
        let row = sqlx::query("SELECT id FROM repositories WHERE name = $1")
            .bind(name.as_str())
            .fetch_one(&self.pool)
            .await?;
        Ok(RepositoryId(row.try_get("id")?))
    }

    async fn lead(&self, repository: RepositoryId, holder: &str, name: &str, secs: u32) -> Result<Leading, Error> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("SELECT id FROM repositories WHERE id = $1 FOR NO KEY UPDATE")
            .bind(repository.0)
            .execute(&mut *tx)
            .await?;
        let row = sqlx::query(
            "INSERT INTO leaders (repository_id, holder, name, epoch, until)
             VALUES ($1, $2, $3, 1, clock_timestamp() + $4 * interval '1 second')
             ON CONFLICT (repository_id) DO UPDATE SET holder = excluded.holder, name = excluded.name,
                 epoch = leaders.epoch + (leaders.holder <> excluded.holder OR $5)::int, until = excluded.until
             WHERE leaders.holder = excluded.holder OR leaders.until < clock_timestamp()
             RETURNING epoch",
        )
        .bind(repository.0)
        .bind(holder)
        .bind(rows::plain(name))
        .bind(i64::from(secs))
        .bind(self.epoch(repository).is_none())
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else {
            let row = sqlx::query("SELECT name FROM leaders WHERE repository_id = $1")
                .bind(repository.0)
                .fetch_one(&mut *tx)
                .await?;
            return Ok(Leading::Theirs(rows::whole(row.try_get("name")?)));
        };
        let epoch: i64 = row.try_get("epoch")?;
        // Who was deposed and would lead again has to look at everything anew, so it stays deposed and takes nothing.
        if self.epoch(repository).is_some_and(|known| known != epoch) {
            return Err(Error::Deposed);
        }
        tx.commit().await?;
        self.leads.lock().unwrap_or_else(PoisonError::into_inner).insert(repository, epoch);
        Ok(Leading::Ours)
    }

    async fn cursor(&self, repository: RepositoryId) -> Result<Cursor, Error> {
        ask!(self, line, read::cursor(&mut line, repository))
    }

    async fn apply(
        &self,
        repository: RepositoryId,
        change: Change,
        events: &[Event],
        messages: &[(Name, ToAgent)],
        now: Timestamp,
    ) -> Result<Applied, Error> {
        let mut line = self.lines.take().await?;
        let mut tx = self.begin(&mut line, repository).await?;
        let applied = match change::apply(&mut tx, repository, change, now).await {
            Ok(applied) => applied,
            Err(error) => {
                // It was looked up and found to be otherwise: the connection is as good as before.
                tx.rollback().await?;
                line.keep();
                return Err(error);
            }
        };
        for event in events {
            change::append_event(&mut tx, repository, event, applied.fence).await?;
        }
        outbox::push(&mut tx, messages, now).await?;
        tx.commit().await?;
        line.keep();
        Ok(applied)
    }

    async fn seen(&self, repository: RepositoryId, name: &Name) -> Result<Option<Seen>, Error> {
        ask!(self, line, read::seen(&mut line, repository, name))
    }

    async fn seen_by_run(&self, run: &RunId) -> Result<Option<(RepositoryId, Seen)>, Error> {
        ask!(self, line, read::seen_by_run(&mut line, run))
    }

    async fn ground(&self, repository: RepositoryId) -> Result<Ground, Error> {
        ask!(self, line, read::ground(&mut line, repository))
    }

    async fn active(&self, repository: RepositoryId) -> Result<Vec<(Name, i64)>, Error> {
        ask!(self, line, read::active(&mut line, repository))
    }

    async fn settle(&self, repository: RepositoryId, name: &Name, seen: i64) -> Result<(), Error> {
        let mut line = self.lines.take().await?;
        sqlx::query(
            "UPDATE requests SET settled = $1 WHERE repository_id = $2 AND name = $3 AND settled <> $1
                 AND ($4::bigint IS NULL OR EXISTS (SELECT FROM leaders WHERE repository_id = $2 AND epoch = $4))",
        )
        .bind(seen)
        .bind(repository.0)
        .bind(name.as_str())
        .bind(self.epoch(repository))
        .execute(&mut *line)
        .await?;
        line.keep();
        Ok(())
    }

    async fn names(&self, repository: RepositoryId, archived: bool) -> Result<Vec<Name>, Error> {
        read::names(&mut *self.pool.acquire().await?, repository, archived).await
    }

    async fn refused_files(&self, repository: RepositoryId) -> Result<Vec<(String, String)>, Error> {
        ask!(self, line, read::refused_files(&mut line, repository))
    }

    async fn first_grant(&self, run: &RunId) -> Result<Option<Timestamp>, Error> {
        ask!(self, line, read::first_grant(&mut line, run))
    }

    async fn locks(&self, repository: RepositoryId) -> Result<BTreeMap<Host, LockHolder>, Error> {
        read::locks(&mut *self.pool.acquire().await?, repository).await
    }

    async fn agents(&self) -> Result<BTreeMap<Name, AgentFacts>, Error> {
        read::agents(&mut *self.pool.acquire().await?).await
    }

    async fn report(
        &self,
        agent: &Name,
        key: &AttemptKey,
        fence: Fence,
        seq: u64,
        log: Option<(u64, &str)>,
        now: Timestamp,
    ) -> Result<Accepted, Error> {
        if log.is_some() {
            self.have_day(now).await?;
        }
        let mut line = self.lines.take().await?;
        if log.is_none() && logs::report_next(&mut line, agent, key, fence, seq).await? {
            line.keep();
            return Ok(Accepted::Stored(seq));
        }
        let mut tx = line.begin().await?;
        let accepted = logs::report(&mut tx, agent, key, fence, seq, log, now).await?;
        tx.commit().await?;
        line.keep();
        Ok(accepted)
    }

    async fn read_log(&self, run: &RunId, after: i64, limit: u32) -> Result<Vec<LogChunk>, Error> {
        logs::read(&mut *self.pool.acquire().await?, run, after, limit).await
    }

    async fn forget_logs(&self, before: Timestamp) -> Result<u64, Error> {
        let mut tx = self.pool.begin().await?;
        let dropped = logs::forget_before(&mut tx, before).await?;
        tx.commit().await?;
        self.days.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(dropped)
    }

    async fn send(&self, messages: &[(Name, ToAgent)], now: Timestamp) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        outbox::push(&mut tx, messages, now).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn park(&self, parked: &NewParked, now: Timestamp) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        parked::add(&mut tx, parked, now).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn parked(&self) -> Result<Vec<Parked>, Error> {
        parked::all(&mut *self.pool.acquire().await?).await
    }

    async fn forget_parked(&self, up_to: i64) -> Result<u64, Error> {
        let done = sqlx::query("DELETE FROM parked WHERE id <= $1").bind(up_to).execute(&self.pool).await?;
        Ok(done.rows_affected())
    }

    async fn load(&self) -> Result<BTreeMap<Name, u32>, Error> {
        read::load(&mut *self.pool.acquire().await?).await
    }

    async fn levels(&self, repository: RepositoryId) -> Result<Levels, Error> {
        levels::levels(&mut *self.pool.acquire().await?, repository).await
    }

    async fn invite(&self, invitation: &Invitation, now: Timestamp) -> Result<(), Error> {
        enrolments::invite(&mut *self.pool.acquire().await?, invitation, now).await
    }

    async fn redeem(&self, token: &str, now: Timestamp) -> Result<Option<(Name, String)>, Error> {
        let mut tx = self.pool.begin().await?;
        let redeemed = enrolments::redeem(&mut tx, token, now).await?;
        tx.commit().await?;
        Ok(redeemed)
    }

    async fn enrolments(&self) -> Result<Vec<Enrolment>, Error> {
        ask!(self, line, enrolments::all(&mut line))
    }

    async fn revoke(&self, agent: &Name, now: Timestamp) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        let revoked = enrolments::revoke(&mut tx, agent, now).await?;
        tx.commit().await?;
        Ok(revoked)
    }

    async fn outgoing(&self, after: i64, limit: u32) -> Result<Vec<Outgoing>, Error> {
        ask!(self, line, outbox::waiting(&mut line, after, limit))
    }

    async fn sent(&self, ids: &[i64]) -> Result<(), Error> {
        ask!(self, line, outbox::sent(&mut line, ids))
    }

    async fn unaudited(&self, repository: RepositoryId, limit: u32) -> Result<Vec<Event>, Error> {
        ask!(self, line, read::unaudited(&mut line, repository, limit))
    }

    async fn audited(&self, repository: RepositoryId, events: &[EventId], commit: &Oid) -> Result<(), Error> {
        let mut line = self.lines.take().await?;
        let mut tx = self.begin(&mut line, repository).await?;
        let ids: Vec<String> = events.iter().map(|id| rows::uuid(id.as_str())).collect();
        sqlx::query(
            "WITH written AS (UPDATE events SET audit_commit = $1
                 WHERE id = ANY($2::uuid[]) AND repository_id = $3 AND audit_commit IS NULL)
             UPDATE repositories SET audit = $1 WHERE id = $3",
        )
        .bind(commit.as_str())
        .bind(ids)
        .bind(repository.0)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        line.keep();
        Ok(())
    }

    async fn events(&self, repository: RepositoryId, filter: &EventFilter) -> Result<Vec<Event>, Error> {
        ask!(self, line, read::events(&mut line, repository, filter))
    }

    async fn history(
        &self,
        repository: RepositoryId,
        playbook: &RepoPath,
        mode: Mode,
        limit: u32,
    ) -> Result<Vec<(u64, bool)>, Error> {
        read::history(&mut *self.pool.acquire().await?, repository, playbook, mode, limit).await
    }

    async fn woken(&self) {
        let mut listener = self.listener.lock().await;
        loop {
            let heard = match listener.as_mut() {
                Some(listener) => listener.recv().await.map(drop),
                None => match listen(&self.pool).await {
                    Ok(new) => {
                        *listener = Some(new);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match heard {
                Ok(()) => return,
                // Nothing depends on it: whoever looks from time to time sees all the same.
                Err(error) => {
                    tracing::debug!(%error, "the database wakes nobody now");
                    *listener = None;
                    tokio::time::sleep(LISTEN_AGAIN).await;
                }
            }
        }
    }

    async fn command(&self, repository: RepositoryId, command: &Json, now: Timestamp) -> Result<i64, Error> {
        let row = sqlx::query(
            "WITH new AS (INSERT INTO commands (repository_id, command, at)
                 VALUES ($1, $2::jsonb, to_timestamp($3::double precision)) RETURNING id)
             SELECT id, pg_notify('chiffon', '') FROM new",
        )
        .bind(repository.0)
        .bind(rows::text(command))
        .bind(now.secs())
        .fetch_one(&self.pool)
        .await?;
        Ok(row.try_get("id")?)
    }

    async fn commands(&self, repository: RepositoryId) -> Result<Vec<Command>, Error> {
        ask!(self, line, read::commands(&mut line, repository))
    }

    async fn command_by_id(&self, id: i64) -> Result<Option<Command>, Error> {
        let row = sqlx::query(concat!("SELECT ", columns!(command), " FROM commands WHERE id = $1"))
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(rows::command).transpose()
    }

    async fn answer(&self, id: i64, answer: &Json) -> Result<(), Error> {
        sqlx::query("UPDATE commands SET answer = $1::jsonb WHERE id = $2 AND answer IS NULL")
            .bind(rows::text(answer))
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// A connection of its own, on which wake-ups arrive.
async fn listen(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen("chiffon").await?;
    Ok(listener)
}
