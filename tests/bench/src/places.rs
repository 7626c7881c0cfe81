//! The broker and the database of a measurement: a virtual host that `bench.py` made, and a database of its own.

use std::str::FromStr;

use anyhow::{Context, Result};
use chiffon_link::amqp::Server;
use chiffon_store::{Postgres, PostgresServer};
use lapin::{Connection, ConnectionProperties};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

/// Where a virtual host lies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Broker {
    /// `amqp://user@host:port/vhost`.
    pub url: String,
    /// The user's password.
    pub password: String,
}

impl Broker {
    /// As the link takes it.
    ///
    /// # Errors
    /// It is no address.
    pub fn server(&self) -> Result<Server> {
        Ok(Server::new(&self.url, &self.password, None, false)?)
    }

    /// A connection past the link.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn connect(&self) -> Result<Connection> {
        let url = self.url.replacen('@', &format!(":{}@", self.password), 1);
        Connection::connect(&url, ConnectionProperties::default()).await.context("connecting to the broker")
    }
}

/// A new database on the server at an address, and the store in it.
///
/// # Errors
/// The server does not answer.
pub async fn new_store(postgres: &str) -> Result<(PostgresServer, Postgres)> {
    let name = format!("bench_{}", crate::clock::run_id().as_str().to_lowercase());
    let mut raw = connect(postgres).await?;
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut raw).await?;
    raw.close().await?;
    let server = postgres.rsplit_once('/').map_or(postgres, |(server, _)| server);
    let server = PostgresServer { url: format!("{server}/{name}"), password: None, ca: None, insecure_tls: false };
    let store = Postgres::open(&server).await?;
    Ok((server, store))
}

/// A connection past the store by the server's own socket. Over TCP the driver lets a small packet wait for the answer to
/// the one before (it does not set `TCP_NODELAY`), and each `COPY` takes 40 ms.
///
/// # Errors
/// The server does not answer, or is on another machine.
pub async fn connect_closely(url: &str) -> Result<PgConnection> {
    let row = sqlx::query("SHOW unix_socket_directories").fetch_one(&mut connect(url).await?).await?;
    let folder: String = row.try_get(0)?;
    let options = PgConnectOptions::from_str(url)?.socket(folder);
    PgConnection::connect_with(&options).await.context("connecting to the database by its socket")
}

/// A connection past the store.
///
/// # Errors
/// The server does not answer.
pub async fn connect(url: &str) -> Result<PgConnection> {
    let options = PgConnectOptions::from_str(url)?;
    PgConnection::connect_with(&options).await.context("connecting to the database")
}
