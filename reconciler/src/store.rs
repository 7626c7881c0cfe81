//! Which store the configuration names, and how it is opened.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use chiffon_schemas::PostgresSpec;
use chiffon_store::{Postgres, PostgresServer, Sqlite, Store};

use crate::config::Config;
use crate::home::Home;

/// Opens the store that the configuration names, and brings its schema up to date.
///
/// # Errors
/// It can't be reached or opened; the message says which, and what to look at.
pub async fn open(home: &Home, config: &Config) -> Result<Arc<dyn Store>> {
    match &config.spec.store.postgres {
        None => Ok(Arc::new(Sqlite::open(&home.database()).await.context("opening the database")?)),
        Some(spec) => {
            let server = server(home, spec)?;
            let store = Postgres::open(&server).await;
            Ok(Arc::new(store.with_context(|| format!("opening the database {}", server.shown()))?))
        }
    }
}

/// Whether trying again later may help: the server does not answer, or does not take anybody now.
pub fn may_come_back(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<chiffon_store::Error>(), Some(error) if error.is_temporary())
}

/// Where records are kept, for people.
pub fn name(home: &Home, config: &Config) -> String {
    match &config.spec.store.postgres {
        None => home.database().display().to_string(),
        Some(spec) => server(home, spec).map_or_else(|_| "PostgreSQL".to_owned(), |server| server.shown()),
    }
}

/// The PostgreSQL server that the configuration names.
///
/// # Errors
/// The password can't be read, or others can read it too; or the authority's certificate can't be read.
pub fn server(home: &Home, spec: &PostgresSpec) -> Result<PostgresServer> {
    let at = |path: &Path| home.folder().join(path);
    Ok(PostgresServer {
        url: spec.url.clone(),
        password: spec.password_file.as_deref().map(|path| chiffon_link::read_secret(&at(path))).transpose()?,
        ca: spec.ca_file.as_deref().map(|path| chiffon_link::read_authority(&at(path))).transpose()?,
        insecure_tls: spec.insecure_tls,
    })
}
