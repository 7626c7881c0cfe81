//! The suite of the port, against SQLite.

use chiffon_store::conformance::Fixture;
use chiffon_store::{Sqlite, Store, store_conformance};
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
