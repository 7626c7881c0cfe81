//! The pure decisions, without any I/O.

mod facts;
mod gate;
mod gate_values;
mod mutation;
mod plans;
