//! Where plans are proposed and approved: the plain repository, with no forge at all, and forges.
//!
//! A plan is proposed by moving `chiffon/plan/<name>`, and approved by whatever puts its exact blob on `main`. On a forge
//! a pull request shows the one and carries the other. Nothing here decides; it shows what was decided and reports what
//! git and the forge say.

mod gitea;
mod github;
mod http;
mod plain;
mod port;
mod reach;
mod setup;
mod slug;
mod times;
mod trouble;

pub use gitea::Gitea;
pub use github::{App, BadKey, GitHub};
pub use http::{Address, BadAddress};
pub use plain::{Error, Plain, Proposal, Shown};
pub use port::{
    Comment, Edit, Forge, Identity, Label, NewPull, Permission, Pull, PullState, Reaction, Repository, Review,
    ReviewVerdict, Status, StatusState,
};
pub use setup::{Guard, Hook, Made, Rule, Setup};
pub use slug::{BadSlug, Slug};
pub use trouble::Trouble;
