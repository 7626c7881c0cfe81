//! The requests repository and mirrors of infra repositories: read, diff, commit, branch and push.
//!
//! Everything is read from git's objects, never from a work tree, and written by compare-and-swap. The `git` program
//! does only what gix can't: making repositories, fetching and pushing. Calls block; callers keep them off their
//! runtime's threads.

mod audit;
mod checkout;
mod error;
mod git;
mod history;
mod layout;
mod locks;
mod mirror;
mod names;
mod objects;
mod process;
mod repo;
mod upstream;
mod url;
mod walk;
mod write;

pub use audit::{AuditCommit, OpenOffer, TipState, Trailer, append, check_tip, find_event, offer, offers};
pub use error::{Error, Refusal};
pub use git::Git;
pub use layout::{Located, evidence_path, locate, plan_path, rendering_path, result_path, status_path};
pub use locks::Locks;
pub use mirror::Mirror;
pub use names::{RefName, Signature};
pub use objects::{Entry, EntryKind};
pub use process::{StopFlag, spawning, started_here};
pub use repo::{CommitInfo, Repo};
pub use upstream::Upstream;
pub use url::{FilePolicy, GitUrl};
pub use walk::{Changes, FileChange, Walk, WalkLimits};
pub use write::{Committed, Edit, Expect};
