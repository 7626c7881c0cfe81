//! The suite of the port, against SQLite.

use chiffon_schemas::{Direction, Name, Timestamp};
use chiffon_store::conformance::Fixture;
use chiffon_store::{NewParked, Sqlite, Store, store_conformance};
use sqlx::Connection as _;
use tempfile::TempDir;

/// A store in a folder of its own.
pub struct OneFile {
    pub folder: TempDir,
    pub store: Sqlite,
}

impl OneFile {
    pub async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = Sqlite::open(&folder.path().join("store.db")).await.unwrap();
        Self { folder, store }
    }

    /// The file.
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("store.db")
    }
}

#[async_trait::async_trait]
impl Fixture for OneFile {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn reopen(&self) -> Box<dyn Store> {
        Box::new(Sqlite::open(&self.path()).await.unwrap())
    }
}

store_conformance!(OneFile::new().await);

/// A disk without room, and a failure of one, have SQLite undo the whole change by itself: the connection that it was on
/// must not be taken for one that is still in the midst of it.
#[tokio::test]
async fn r6_a_change_that_sqlite_undid_by_itself_stands_in_the_way_of_no_other() {
    let file = OneFile::new().await;
    let mut raw = sqlx::SqliteConnection::connect(&format!("sqlite:{}", file.path().display())).await.unwrap();
    let refuse =
        "CREATE TRIGGER refuse BEFORE INSERT ON parked BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END";
    sqlx::raw_sql(refuse).execute(&mut raw).await.unwrap();
    let message = NewParked {
        agent: Name::parse("one").unwrap(),
        direction: Direction::FromAgent,
        reason: "unreadable".to_owned(),
        head: String::new(),
        size: 0,
    };
    let now = Timestamp::from_secs(0);
    for _ in 0..2 {
        let error = file.store.park(&message, now).await.unwrap_err();
        assert!(format!("{error:?}").contains("disk is full"), "{error:?}");
    }
    sqlx::raw_sql("DROP TRIGGER refuse").execute(&mut raw).await.unwrap();
    file.store.park(&message, now).await.unwrap();
    assert_eq!(file.store.parked().await.unwrap().len(), 1);
}
