//! Pure decisions: facts → state, decide, gate, risk, approval, and the types of catalogue and policy.
//!
//! No I/O, no clock, no ids made up here: time and ids are fields of what comes in.

mod approval;
pub mod catalogue;
mod command;
mod comment;
mod decide;
pub mod facts;
mod gate;
mod policy;
mod pull;
pub mod risk;
mod state;

pub use approval::{ApprovalPolicy, ApprovalRule, Expected, Merge, NotApproved, approval};
pub use command::{Command, CommandAnswer, CommentRef, Person, Resolution, answers_to};
pub use comment::{CommentCommand, NoCommand, commands};
pub use decide::{
    Action, Decision, Freshness, after_resolving, decide, ground_of, last_was_edited_by_person, not_as_planned,
    retry_refused, step_succeeded,
};
pub use gate::{Approval, Verdict, gate, is_exempt, refused_name, refused_value, touched_hosts, touches};
pub use policy::Policy;
pub use state::{PlanningReason, State, Waiting, ansible_core, online_agent, open_offer, state, waiting};
