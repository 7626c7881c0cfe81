//! The runtime, tested with real processes, real files and the in-process link.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod agent;
mod journal;
mod process;
mod world;
