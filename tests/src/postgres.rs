//! Databases of a PostgreSQL server: one for each test, and what lies in it.

use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};

/// Databases made by this process so far.
static MADE: AtomicU32 = AtomicU32::new(0);

/// The address of a new, empty database of the test run's server.
///
/// # Panics
/// No server is there: `make test` starts one, and so does `tests/tools/services.sh COMMAND`.
#[expect(clippy::disallowed_methods, reason = "where the server is, its starter says in the environment")]
pub fn new_database() -> String {
    let server = std::env::var("CHIFFON_TEST_POSTGRES_URL")
        .unwrap_or_else(|_| panic!("CHIFFON_TEST_POSTGRES_URL is not set: run `make test`"));
    new_database_at(&server)
}

/// The address of a new, empty database of the server at an address.
///
/// # Panics
/// No server is there.
pub fn new_database_at(server: &str) -> String {
    let name = format!("chiffon_end_to_end_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::SeqCst));
    block_on(async {
        let mut raw = PgConnection::connect_with(&PgConnectOptions::from_str(server).unwrap()).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut raw).await.unwrap();
        raw.close().await.unwrap();
    });
    format!("{}/{name}", server.rsplit_once('/').unwrap().0)
}

/// The states that each attempt in a database has been in, one after the other; one that it was in twice in a row, once.
///
/// # Panics
/// The database can't be read.
pub fn attempt_states(database: &str) -> Vec<Vec<String>> {
    let query = "SELECT array_agg(state ORDER BY id) FROM attempt_states GROUP BY run_id, step, number";
    let rows: Vec<Vec<String>> = block_on(async {
        let mut raw = PgConnection::connect_with(&PgConnectOptions::from_str(database).unwrap()).await.unwrap();
        sqlx::query_scalar(query).fetch_all(&mut raw).await.unwrap()
    });
    let mut rows = rows;
    rows.iter_mut().for_each(Vec::dedup);
    rows
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
