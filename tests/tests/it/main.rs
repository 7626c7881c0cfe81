//! Each user story once, through the real binary, with plain git as the user.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where")]

mod approvals;
mod broker;
mod chat;
mod checks;
mod crash;
mod deploy;
mod documents;
mod forge;
mod forge_after;
mod forge_mischief;
mod forge_setup;
mod forge_story;
mod harm;
mod infra;
mod keys;
mod machine;
mod people;
mod refused;
mod runs;
mod services;
mod shapes;
mod story;
mod tls;
mod traces;
mod webhooks;
mod workspace;
