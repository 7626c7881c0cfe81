//! What the infra agent promises, through real `ansible-playbook` of both supported versions.

#![expect(clippy::unwrap_used, reason = "a test ends where something that it needs is missing")]

mod ansible;
mod bench;
mod clean_room;
mod finished;
mod git;
mod outcomes;
mod output;
mod secrets;
mod stopping;
mod variables;
