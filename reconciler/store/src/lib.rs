//! The store port and its adapters: SQLite and PostgreSQL.

mod change;
#[cfg(feature = "conformance")]
pub mod conformance;
mod port;
mod postgres;
mod sqlite;

pub use change::{Change, SeenRequest};
pub use port::{
    Accepted, Applied, Command, Cursor, Enrolment, Error, EventFilter, Ground, Invitation, Leading, Levels, LogChunk,
    MAX_PARKED, NewParked, Outgoing, Parked, RepositoryId, Seen, Store,
};
pub use postgres::{Postgres, Server as PostgresServer};
pub use sqlite::Sqlite;
