//! The requests repository against the real git program, in temporary repositories.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where")]

mod agree;
mod audit;
mod bed;
mod checkout;
mod compare;
mod hostile_calls;
mod hostile_git;
mod hostile_trees;
mod locks;
mod program;
mod race;
mod upstream;
