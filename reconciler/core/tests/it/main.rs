//! The pure decisions, without any I/O.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where")]

mod acts;
mod approvals;
mod boundaries;
mod bus;
mod events;
mod facts;
mod forge;
mod gate;
mod gate_values;
mod model;
mod mutation;
mod plans;
mod random;
mod random_bus;
mod risk;
mod scenarios;
