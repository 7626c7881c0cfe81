//! Where plans are proposed and approved: the plain repository, with no forge at all.
//!
//! A plan is proposed by moving `chiffon/plan/<name>`, and approved by whatever puts its exact blob on `main`.
//! Nothing here decides; it shows what was decided and reports what git says.

mod plain;

pub use plain::{Error, Plain, Proposal};
