//! The store port and its SQLite adapter.

#[cfg(feature = "conformance")]
pub mod conformance;
mod port;
mod sqlite;

pub use port::{
    Accepted, Applied, Change, Command, Cursor, Error, EventFilter, LogChunk, Outgoing, RepositoryId, SeenRequest,
    Store,
};
pub use sqlite::Sqlite;
