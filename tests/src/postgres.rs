//! Databases of the PostgreSQL server that a test run has: one for each test.

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
    let make = async {
        let options = PgConnectOptions::from_str(server).unwrap();
        let mut raw = PgConnection::connect_with(&options).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut raw).await.unwrap();
        raw.close().await.unwrap();
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(make);
    format!("{}/{name}", server.rsplit_once('/').unwrap().0)
}
