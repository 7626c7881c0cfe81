//! The pure decisions, without any I/O.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where")]

mod boundaries;
mod events;
mod facts;
mod gate;
mod gate_values;
mod model;
mod mutation;
mod plans;
mod random;
mod risk;
mod scenarios;
