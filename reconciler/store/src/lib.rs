//! The store port and its SQLite adapter.

mod port;
mod sqlite;

pub use port::{
    Accepted, Applied, Change, Command, Cursor, Error, EventFilter, LogChunk, Outgoing, RepositoryId, SeenRequest,
    Store,
};
pub use sqlite::Sqlite;
