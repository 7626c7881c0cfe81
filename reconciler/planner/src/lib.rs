//! Reads infra repositories into a catalogue and turns sentences into plans.
//!
//! The catalogue is read as plain YAML from git objects at one commit; no Ansible program is run and no template is
//! worked out. Planning is a pure function: the same request, catalogue and time give the same bytes. It chooses only
//! what the catalogue has, asks where a sentence leaves something open, and refuses what nothing explains. Nothing here
//! writes, waits, or reads a clock.

mod answer;
mod bind;
pub mod catalogue;
mod choose;
mod clause;
mod cover;
pub mod evals;
mod evidence;
pub mod files;
pub mod folder;
mod hosts;
mod index;
mod lexicon;
mod plan;
mod questions;
mod render;
mod repository;
mod sentence;
mod steps;
mod words;

pub use answer::{About, Answer, Choice, Input, Nearest, Planned, Problem, Question};
pub use evidence::{forecast, static_evidence};
pub use plan::plan;
pub use render::{inert, inert_line, is_destructive, render_markdown};
pub use repository::{ReadError, read_catalogue};
pub use steps::plan_from_steps;
