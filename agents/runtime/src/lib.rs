//! What every agent needs: a journal, a process runner that can end what it began, and the loop that claims, runs
//! and reports.
//!
//! This crate decides nothing about approvals: it starts only what was granted, at most once, and says what it knows.

mod agent;
mod attempt;
mod boot;
mod courier;
mod desk;
mod error;
mod journal;
mod lines;
mod proc;
mod process;
mod signals;
mod spool;
mod sweep;
mod work;

pub use agent::{Agent, Settings, Shutdown};
pub use boot::{new_boot, now_ms, uptime};
pub use chiffon_schemas::Usage;
pub use error::Error;
pub use journal::{Clean, Durability, Entry, Journal, Record, Stage, confirm_incarnation};
pub use process::{Ended, Ending, Leftover, Running, Spawn, end_orphans};
pub use signals::Signals;
pub use sweep::Survivor;
pub use work::{LogChunk, LogSink, MAX_CHUNK_BYTES, Marker, Progress, ProgressSink, RunContext, Work};
