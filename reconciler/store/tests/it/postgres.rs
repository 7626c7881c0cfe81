//! The suite of the port, against PostgreSQL: one server a run, one database a test.

use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use chiffon_store::conformance::Fixture;
use chiffon_store::{Postgres, PostgresServer, Store, store_conformance};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};

/// Databases made by this process so far.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A store in a database of its own, which goes with the server.
pub struct OneDatabase {
    pub server: PostgresServer,
    pub store: Postgres,
}

/// The server of this run: its address ends in a database's name.
#[expect(clippy::disallowed_methods, reason = "the one file of these tests that asks where the server is")]
fn address() -> String {
    std::env::var("CHIFFON_TEST_POSTGRES_URL").unwrap_or_else(|_| {
        panic!("CHIFFON_TEST_POSTGRES_URL is not set: `make test` sets it, and so does tests/tools/services.sh COMMAND")
    })
}

impl OneDatabase {
    pub async fn new() -> Self {
        let server = Self::empty().await;
        let store = Postgres::open(&server).await.unwrap();
        Self { server, store }
    }

    /// A new database with nothing in it.
    pub async fn empty() -> PostgresServer {
        let name = format!("chiffon_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::SeqCst));
        let mut raw = raw(&address()).await;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut raw).await.unwrap();
        raw.close().await.unwrap();
        let (server, _) =
            address().rsplit_once('/').map(|(server, last)| (server.to_owned(), last.to_owned())).unwrap();
        PostgresServer { url: format!("{server}/{name}"), password: None, ca: None, insecure_tls: false }
    }

    /// A connection that goes past the store.
    pub async fn raw(&self) -> PgConnection {
        raw(&self.server.url).await
    }
}

/// A connection to a database, whatever is in it.
pub async fn raw(url: &str) -> PgConnection {
    let options = PgConnectOptions::from_str(url).expect("a postgres:// address");
    PgConnection::connect_with(&options).await.expect("the server answers")
}

#[async_trait::async_trait]
impl Fixture for OneDatabase {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn reopen(&self) -> Box<dyn Store> {
        Box::new(Postgres::open(&self.server).await.unwrap())
    }
}

store_conformance!(OneDatabase::new().await);

/// A command wakes whoever waits, through another handle too; what was left before is seen by looking.
#[tokio::test]
async fn a_command_wakes_who_waits() {
    let data = OneDatabase::new().await;
    let bed = chiffon_store::conformance::Bed::new(&data).await;
    let other = data.reopen().await;
    let command = chiffon_store::conformance::command("kuma");
    let waiting = async {
        tokio::time::timeout(std::time::Duration::from_secs(60), data.store.woken()).await.expect("woken in time");
    };
    let speaking = async {
        // Who listens may begin a moment later than who speaks.
        for _ in 0..600 {
            other.command(bed.repository, &command, chiffon_store::conformance::at(1)).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(waiting, speaking);
    assert!(!data.store.commands(bed.repository).await.unwrap().is_empty());
}

/// Who was stopped for longer than its lease changes nothing any more, and stays deposed: it would have to look anew.
#[tokio::test]
async fn r8_whoever_was_deposed_changes_nothing_any_more() {
    use chiffon_store::conformance::{Bed, at, kuma};
    use chiffon_store::{Change, Error, Leading};
    let data = OneDatabase::new().await;
    let bed = Bed::new(&data).await;
    bed.request(&kuma()).await;
    let (first, second) = (data.reopen().await, data.reopen().await);
    let replan = |after| Change::ReplanAsked { name: kuma(), after };
    assert_eq!(first.lead(bed.repository, "first-id", "first", 600).await.unwrap(), Leading::Ours);
    assert_eq!(
        second.lead(bed.repository, "second-id", "second", 600).await.unwrap(),
        Leading::Theirs("first".to_owned())
    );
    first.apply(bed.repository, replan(1), &[], &[], at(1)).await.unwrap();
    // Its lease is over at once; as long as nobody else leads, that harms nobody.
    assert_eq!(first.lead(bed.repository, "first-id", "first", 0).await.unwrap(), Leading::Ours);
    first.apply(bed.repository, replan(2), &[], &[], at(1)).await.unwrap();
    assert_eq!(second.lead(bed.repository, "second-id", "second", 0).await.unwrap(), Leading::Ours);
    let before = bed.everything().await;
    let refused = first.apply(bed.repository, replan(3), &[bed.event("never")], &[], at(1)).await;
    assert!(matches!(refused, Err(Error::Deposed)), "{refused:?}");
    assert!(matches!(
        first.audited(bed.repository, &[], &chiffon_store::conformance::oid(9)).await,
        Err(Error::Deposed)
    ));
    let version = bed.version(&kuma()).await;
    first.settle(bed.repository, &kuma(), version).await.unwrap();
    assert_eq!(bed.everything().await, before, "and nothing is at rest by its word");
    assert!(matches!(first.lead(bed.repository, "first-id", "first", 600).await, Err(Error::Deposed)));
    // A later life of the same home need not wait for its own lease.
    let later = data.reopen().await;
    assert_eq!(later.lead(bed.repository, "second-id", "second", 600).await.unwrap(), Leading::Ours);
    assert!(matches!(second.apply(bed.repository, replan(4), &[], &[], at(1)).await, Err(Error::Deposed)));
    // People's commands need no leader.
    first.command(bed.repository, &chiffon_store::conformance::command("kuma"), at(1)).await.unwrap();
}
