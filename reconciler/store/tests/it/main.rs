//! SQLite passes the suite of the store port, keeps its file well, and loses nothing when many write at once.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where")]

mod migrations;
mod race;
mod random;
mod sqlite;
