//! SQLite and PostgreSQL pass the suite of the store port, keep what they hold well, and lose nothing when many write
//! at once.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where")]

mod migrations;
mod million;
mod postgres;
mod postgres_migrations;
mod race;
mod random;
mod sqlite;
