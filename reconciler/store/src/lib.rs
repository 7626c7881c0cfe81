//! The store port and its adapters: SQLite and PostgreSQL.

#[cfg(feature = "conformance")]
pub mod conformance;
mod port;
mod postgres;
mod sqlite;

pub use port::{
    Accepted, Applied, Change, Command, Cursor, Enrolment, Error, EventFilter, Ground, Invitation, Leading, Levels,
    LogChunk, MAX_PARKED, NewParked, Outgoing, Parked, RepositoryId, Seen, SeenRequest, Store,
};
pub use postgres::{Postgres, Server as PostgresServer};
pub use sqlite::Sqlite;
