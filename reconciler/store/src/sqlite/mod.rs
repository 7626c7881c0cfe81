//! The store in one SQLite file: no service needed.
//!
//! One connection writes and a few read. The write-ahead log is synced with every transaction (`synchronous=FULL`),
//! since a grant that a power cut forgets could be given twice.

mod change;
mod enrolments;
mod levels;
mod logs;
mod parked;
mod read;
mod rows;
mod runs;

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use async_trait::async_trait;
use chiffon_core::facts::{AgentFacts, Event, LockHolder};
use chiffon_schemas::{AttemptKey, EventId, Fence, Host, Json, Mode, Name, Oid, RepoPath, RunId, Timestamp, ToAgent};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, Row, SqliteConnection};

use crate::{
    Accepted, Applied, Change, Command, Cursor, Enrolment, Error, EventFilter, Ground, Invitation, Leading, Levels,
    LogChunk, NewParked, Outgoing, Parked, RepositoryId, Seen, Store,
};

/// How long a writer waits for another process's transaction.
const BUSY: std::time::Duration = std::time::Duration::from_secs(10);

/// The store in one SQLite file.
#[derive(Debug, Clone)]
pub struct Sqlite {
    writer: SqlitePool,
    reader: SqlitePool,
}

impl Sqlite {
    /// Opens the file, makes it where it is not there (for its owner alone), and brings its schema up to date.
    ///
    /// # Errors
    /// The file can't be opened, or a migration fails.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        make_private(path);
        let opening = opening_alone(path).await?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .pragma("cache_size", "-1024")
            .pragma("mmap_size", "0");
        let pool = |most: u32| {
            let options = SqlitePoolOptions::new().max_connections(most).min_connections(0);
            // Where the disk has no room or fails, SQLite undoes a change by itself, and sqlx goes on counting it as open:
            // every later change on that connection would be refused, for ever.
            options.before_acquire(|line, _| Box::pin(async move { Ok(!line.is_in_transaction()) }))
        };
        let writer = pool(1).connect_with(options.clone()).await.map_err(Error::Database)?;
        sqlx::migrate!("../../migrations/sqlite").run(&writer).await.map_err(Error::Migrate)?;
        drop(opening);
        let reader = pool(2).connect_lazy_with(options);
        Ok(Self { writer, reader })
    }
}

/// One process at a time opens a database: neither the switch to the write-ahead log nor a migration waits for another
/// one that does the same, they fail. The kernel frees the lock with the process.
async fn opening_alone(path: &Path) -> Result<std::fs::File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".opening");
    let lock = move || {
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(name)?;
        file.lock()?;
        Ok(file)
    };
    let locked = tokio::task::spawn_blocking(lock).await.expect("locking a file does not panic");
    locked.map_err(|error: std::io::Error| Error::Database(sqlx::Error::Io(error)))
}

/// The file may name what others should not read.
fn make_private(path: &Path) {
    // Where this fails, opening the database says why.
    let _ = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
}

#[async_trait]
impl Store for Sqlite {
    async fn repository(&self, name: &Name) -> Result<RepositoryId, Error> {
        sqlx::query("INSERT INTO repositories (name) VALUES (?) ON CONFLICT DO NOTHING")
            .bind(name.as_str())
            .execute(&self.writer)
            .await?;
        let row = sqlx::query("SELECT id FROM repositories WHERE name = ?")
            .bind(name.as_str())
            .fetch_one(&self.reader)
            .await?;
        Ok(RepositoryId(row.try_get("id")?))
    }

    async fn lead(&self, _: RepositoryId, _: &str, _: &str, _: u32) -> Result<Leading, Error> {
        // A file is one home's, and of each home one reconciler runs: it holds a lock on another file.
        Ok(Leading::Ours)
    }

    async fn cursor(&self, repository: RepositoryId) -> Result<Cursor, Error> {
        read::cursor(&mut *self.reader.acquire().await?, repository).await
    }

    async fn apply(
        &self,
        repository: RepositoryId,
        change: Change,
        events: &[Event],
        messages: &[(Name, ToAgent)],
        now: Timestamp,
    ) -> Result<Applied, Error> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let applied = change::apply(&mut tx, repository, change, now).await?;
        for event in events {
            change::append_event(&mut tx, repository, event, applied.fence).await?;
        }
        push_messages(&mut tx, messages, now).await?;
        tx.commit().await?;
        Ok(applied)
    }

    async fn seen(&self, repository: RepositoryId, name: &Name) -> Result<Option<Seen>, Error> {
        let mut tx = self.reader.begin().await?;
        read::seen(&mut tx, repository, name).await
    }

    async fn seen_by_run(&self, run: &RunId) -> Result<Option<(RepositoryId, Seen)>, Error> {
        let mut tx = self.reader.begin().await?;
        read::seen_by_run(&mut tx, run).await
    }

    async fn ground(&self, repository: RepositoryId) -> Result<Ground, Error> {
        let mut tx = self.reader.begin().await?;
        read::ground(&mut tx, repository).await
    }

    async fn active(&self, repository: RepositoryId) -> Result<Vec<(Name, i64)>, Error> {
        let rows = sqlx::query(
            "SELECT name, version FROM requests INDEXED BY requests_active
             WHERE repository_id = ? AND (version <> settled OR watched = 1) ORDER BY priority DESC, since, name",
        )
        .bind(repository.0)
        .fetch_all(&self.reader)
        .await?;
        let active = |row| Ok((rows::parsed(row, "requests", "name", Name::parse)?, Row::try_get(row, "version")?));
        rows.iter().map(active).collect()
    }

    async fn settle(&self, repository: RepositoryId, name: &Name, seen: i64) -> Result<(), Error> {
        sqlx::query("UPDATE requests SET settled = ? WHERE repository_id = ? AND name = ? AND settled <> ?")
            .bind(seen)
            .bind(repository.0)
            .bind(name.as_str())
            .bind(seen)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    async fn names(&self, repository: RepositoryId, archived: bool) -> Result<Vec<Name>, Error> {
        read::names(&mut *self.reader.acquire().await?, repository, archived).await
    }

    async fn refused_files(&self, repository: RepositoryId) -> Result<Vec<(String, String)>, Error> {
        let rows = sqlx::query("SELECT path, reason FROM refused_files WHERE repository_id = ? ORDER BY path")
            .bind(repository.0)
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(|row| Ok((row.try_get("path")?, row.try_get("reason")?))).collect()
    }

    async fn first_grant(&self, run: &RunId) -> Result<Option<Timestamp>, Error> {
        let row = sqlx::query("SELECT MIN(at) AS at FROM attempt_states WHERE run_id = ? AND state = 'granted'")
            .bind(run.as_str())
            .fetch_one(&self.reader)
            .await?;
        Ok(row.try_get::<Option<i64>, _>("at")?.map(Timestamp::from_secs))
    }

    async fn locks(&self, repository: RepositoryId) -> Result<BTreeMap<Host, LockHolder>, Error> {
        read::locks(&mut *self.reader.acquire().await?, repository).await
    }

    async fn agents(&self) -> Result<BTreeMap<Name, AgentFacts>, Error> {
        read::agents(&mut *self.reader.acquire().await?).await
    }

    async fn report(
        &self,
        agent: &Name,
        key: &AttemptKey,
        fence: Fence,
        seq: u64,
        log: Option<(u64, &str)>,
        _now: Timestamp,
    ) -> Result<Accepted, Error> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let accepted = logs::report(&mut tx, agent, key, fence, seq, log).await?;
        tx.commit().await?;
        Ok(accepted)
    }

    async fn read_log(&self, run: &RunId, after: i64, limit: u32) -> Result<Vec<LogChunk>, Error> {
        logs::read(&mut *self.reader.acquire().await?, run, after, limit).await
    }

    async fn forget_logs(&self, before: Timestamp) -> Result<u64, Error> {
        let done = sqlx::query("DELETE FROM log_chunks WHERE run_id IN (SELECT id FROM runs WHERE finished_at < ?)")
            .bind(before.secs())
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected())
    }

    async fn send(&self, messages: &[(Name, ToAgent)], now: Timestamp) -> Result<(), Error> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        push_messages(&mut tx, messages, now).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn park(&self, parked: &NewParked, now: Timestamp) -> Result<(), Error> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        parked::add(&mut tx, parked, now).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn parked(&self) -> Result<Vec<Parked>, Error> {
        parked::all(&mut *self.reader.acquire().await?).await
    }

    async fn forget_parked(&self, up_to: i64) -> Result<u64, Error> {
        let done = sqlx::query("DELETE FROM parked WHERE id <= ?").bind(up_to).execute(&self.writer).await?;
        Ok(done.rows_affected())
    }

    async fn load(&self) -> Result<BTreeMap<Name, u32>, Error> {
        levels::load(&mut *self.reader.acquire().await?).await
    }

    async fn levels(&self, repository: RepositoryId) -> Result<Levels, Error> {
        levels::levels(&mut *self.reader.acquire().await?, repository).await
    }

    async fn invite(&self, invitation: &Invitation, now: Timestamp) -> Result<(), Error> {
        enrolments::invite(&mut *self.writer.acquire().await?, invitation, now).await
    }

    async fn redeem(&self, token: &str, now: Timestamp) -> Result<Option<(Name, String)>, Error> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let redeemed = enrolments::redeem(&mut tx, token, now).await?;
        tx.commit().await?;
        Ok(redeemed)
    }

    async fn enrolments(&self) -> Result<Vec<Enrolment>, Error> {
        enrolments::all(&mut *self.reader.acquire().await?).await
    }

    async fn revoke(&self, agent: &Name, now: Timestamp) -> Result<bool, Error> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let revoked = enrolments::revoke(&mut tx, agent, now).await?;
        tx.commit().await?;
        Ok(revoked)
    }

    async fn outgoing(&self, after: i64, limit: u32) -> Result<Vec<Outgoing>, Error> {
        let rows = sqlx::query("SELECT id, agent, message FROM messages WHERE id > ? ORDER BY id LIMIT ?")
            .bind(after)
            .bind(limit)
            .fetch_all(&self.reader)
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

    async fn sent(&self, ids: &[i64]) -> Result<(), Error> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for id in ids {
            sqlx::query("DELETE FROM messages WHERE id = ?").bind(id).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn unaudited(&self, repository: RepositoryId, limit: u32) -> Result<Vec<Event>, Error> {
        let rows =
            sqlx::query("SELECT * FROM events WHERE repository_id = ? AND audit_commit IS NULL ORDER BY seq LIMIT ?")
                .bind(repository.0)
                .bind(limit)
                .fetch_all(&self.reader)
                .await?;
        rows.iter().map(rows::event).collect()
    }

    async fn audited(&self, repository: RepositoryId, events: &[EventId], commit: &Oid) -> Result<(), Error> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for event in events {
            sqlx::query(
                "UPDATE events SET audit_commit = ? WHERE id = ? AND repository_id = ? AND audit_commit IS NULL",
            )
            .bind(commit.as_str())
            .bind(event.as_str())
            .bind(repository.0)
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query("UPDATE repositories SET audit = ? WHERE id = ?")
            .bind(commit.as_str())
            .bind(repository.0)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn events(&self, repository: RepositoryId, filter: &EventFilter) -> Result<Vec<Event>, Error> {
        read::events(&mut *self.reader.acquire().await?, repository, filter).await
    }

    async fn history(
        &self,
        repository: RepositoryId,
        playbook: &RepoPath,
        mode: Mode,
        limit: u32,
    ) -> Result<Vec<(u64, bool)>, Error> {
        read::history(&mut *self.reader.acquire().await?, repository, playbook, mode, limit).await
    }

    async fn woken(&self) {
        // Who writes to the file is on this machine, and touches another one to wake the reconciler.
        std::future::pending().await
    }

    async fn command(&self, repository: RepositoryId, command: &Json, now: Timestamp) -> Result<i64, Error> {
        let done = sqlx::query("INSERT INTO commands (repository_id, command, at) VALUES (?, ?, ?)")
            .bind(repository.0)
            .bind(command.to_string())
            .bind(now.secs())
            .execute(&self.writer)
            .await?;
        Ok(done.last_insert_rowid())
    }

    async fn commands(&self, repository: RepositoryId) -> Result<Vec<Command>, Error> {
        let rows = sqlx::query("SELECT * FROM commands WHERE repository_id = ? AND answer IS NULL ORDER BY id")
            .bind(repository.0)
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(rows::command).collect()
    }

    async fn command_by_id(&self, id: i64) -> Result<Option<Command>, Error> {
        let row = sqlx::query("SELECT * FROM commands WHERE id = ?").bind(id).fetch_optional(&self.reader).await?;
        row.as_ref().map(rows::command).transpose()
    }

    async fn answer(&self, id: i64, answer: &Json) -> Result<(), Error> {
        sqlx::query("UPDATE commands SET answer = ? WHERE id = ? AND answer IS NULL")
            .bind(answer.to_string())
            .bind(id)
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

async fn push_messages(tx: &mut SqliteConnection, messages: &[(Name, ToAgent)], now: Timestamp) -> Result<(), Error> {
    for (agent, message) in messages {
        sqlx::query("INSERT INTO messages (agent, message, at) VALUES (?, ?, ?)")
            .bind(agent.as_str())
            .bind(rows::text(message))
            .bind(now.secs())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
