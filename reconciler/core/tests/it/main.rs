//! The pure decisions, without any I/O.

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
