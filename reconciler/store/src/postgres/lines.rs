//! Connections for what is asked all the time. A pool asks a connection for a sign of life before and after each use,
//! which takes longer than most questions; one of these is asked only when it was idle for a while.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::PATIENCE;

/// How many of them there are at most, beside those of the pool: it no longer counts what was taken from it for good.
const LINES: usize = 3;

/// A line that was idle for longer is asked whether it still works.
const FRESH: Duration = Duration::from_secs(1);

/// A free connection, and since when it is.
type Free = (PgConnection, Instant);

/// The connections.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    pool: PgPool,
    turns: Arc<Semaphore>,
    free: Arc<Mutex<Vec<Free>>>,
}

/// A connection in use. Dropped without [`Line::keep`], it is closed, and what was not committed on it is undone.
pub(super) struct Line {
    connection: PgConnection,
    free: Arc<Mutex<Vec<Free>>>,
    _turn: OwnedSemaphorePermit,
}

impl Lines {
    /// Connections to where the pool's go.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, turns: Arc::new(Semaphore::new(LINES)), free: Arc::default() }
    }

    /// One that works, as far as can be told.
    pub async fn take(&self) -> Result<Line, sqlx::Error> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        let connection = match self.working().await {
            Some(connection) => connection,
            None => self.pool.acquire().await?.detach(),
        };
        Ok(Line { connection, free: Arc::clone(&self.free), _turn: turn })
    }

    async fn working(&self) -> Option<PgConnection> {
        loop {
            let (mut connection, since) = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if since.elapsed() < FRESH || connection.ping().await.is_ok() {
                return Some(connection);
            }
        }
    }
}

impl Line {
    /// It did what it was to do, and nothing is under way on it.
    pub fn keep(self) {
        let Self { connection, free, _turn } = self;
        free.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
    }
}

impl Deref for Line {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Line {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
