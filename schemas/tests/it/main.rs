//! What users and other crates rely on: diagnostics, limits, canonical form, generated files.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where")]

mod canonical;
mod corpus;
mod generated;
mod invalid;
mod limits;
mod protocol;
mod samples;
