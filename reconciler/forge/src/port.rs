//! The forge port: what Chiffon asks of Gitea, Forgejo and GitHub, in words that are the same for all of them.
//!
//! Nothing here decides. Every call says what is or makes something so, and does no harm when it is repeated. A forge is
//! far away, slow and sometimes wrong: what it says of an approval is checked in git as well, and branches are moved by
//! `git`, not through this.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chiffon_schemas::{Oid, Timestamp};

use crate::Trouble;
use crate::setup::Guard;

/// A repository on a forge.
#[async_trait]
pub trait Forge: Send + Sync + std::fmt::Debug {
    /// The address that the forge's own commits have for an account, so that what somebody asked for is shown as theirs.
    fn address(&self, login: &str) -> String;

    /// Who the token speaks as, and what the server says that it is.
    async fn identity(&self) -> Result<Identity, Trouble>;

    /// The token that git reaches the repository with now, where that changes from time to time; `None` where it is the
    /// configured one.
    async fn git_token(&self) -> Result<Option<String>, Trouble> {
        Ok(None)
    }

    /// git could not do something with [`Forge::git_token`]: the next one is to be a new one.
    fn git_failed(&self) {}

    /// The repository, and what the token may do in it.
    async fn repository(&self) -> Result<Repository, Trouble>;

    /// The pull request whose head is this branch of this very repository: the open one, else the newest.
    async fn find(&self, branch: &str) -> Result<Option<Pull>, Trouble>;

    /// One pull request; `None` where there is none of that number.
    async fn pull(&self, number: u64) -> Result<Option<Pull>, Trouble>;

    /// Pull requests that were touched at or after `since`, whatever their state, the latest first. `None` asks for the
    /// open ones.
    async fn changed(&self, since: Option<Timestamp>) -> Result<Vec<Pull>, Trouble>;

    /// Opens a pull request. Where there is an open one of this branch already, it is made to be like this.
    async fn open(&self, new: &NewPull) -> Result<Pull, Trouble>;

    /// Makes title, body and draft of an open pull request so.
    async fn edit(&self, number: u64, edit: &Edit) -> Result<Pull, Trouble>;

    /// Closes a pull request without a merge; one that is closed or merged stays as it is.
    async fn close(&self, number: u64) -> Result<(), Trouble>;

    /// Makes these the labels of a pull request that begin as ours do, making those that the repository lacks. Labels of
    /// people stay.
    async fn set_labels(&self, number: u64, labels: &BTreeSet<Label>) -> Result<(), Trouble>;

    /// The comments of a pull request that were written or changed at or after `since`, oldest first.
    async fn comments(&self, number: u64, since: Option<Timestamp>) -> Result<Vec<Comment>, Trouble>;

    /// Writes a comment.
    async fn comment(&self, number: u64, body: &str) -> Result<Comment, Trouble>;

    /// Makes a comment of ours say this; `false` where it is gone.
    async fn edit_comment(&self, comment: u64, body: &str) -> Result<bool, Trouble>;

    /// Puts a reaction beneath a comment; once, however often it is asked for.
    async fn react(&self, comment: u64, reaction: Reaction) -> Result<(), Trouble>;

    /// Sets a commit's status.
    async fn set_status(&self, commit: &Oid, status: &Status) -> Result<(), Trouble>;

    /// The newest status of each context of a commit.
    async fn statuses(&self, commit: &Oid) -> Result<Vec<Status>, Trouble>;

    /// The reviews of a pull request, oldest first, one for each time that somebody reviewed.
    async fn reviews(&self, number: u64) -> Result<Vec<Review>, Trouble>;

    /// What somebody may do in the repository.
    async fn permission(&self, login: &str) -> Result<Permission, Trouble>;

    /// What the rules of a branch let the token's account do.
    async fn guard(&self, branch: &str) -> Result<Guard, Trouble>;

    /// Merges a pull request as the token's person, if its head is this commit; the commit on the base branch.
    async fn merge(&self, number: u64, head: &Oid) -> Result<Oid, Trouble>;
}

/// Who a token speaks as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account's name.
    pub login: String,
    /// What the server calls itself: `Forgejo 17.0.0`.
    pub server: String,
}

/// A repository, and what a token may do in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `owner/name`, as the forge writes it.
    pub full_name: String,
    /// The branch that pull requests are merged into by default.
    pub default_branch: String,
    /// Where people see it.
    pub url: String,
    /// What the token's account may do.
    pub permission: Permission,
}

/// What somebody may do in a repository; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Nothing.
    None,
    /// Read.
    Read,
    /// Push, and merge where no rule forbids it.
    Write,
    /// Change its settings.
    Admin,
}

/// Whether a pull request is open, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullState {
    /// It may be merged.
    Open,
    /// Closed without a merge.
    Closed,
    /// Merged.
    Merged {
        /// The commit on the base branch; absent where the forge does not say.
        commit: Option<Oid>,
        /// Who did it; absent where the forge does not say.
        by: Option<String>,
    },
}

/// A pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// Its number.
    pub number: u64,
    /// Where people see it.
    pub url: String,
    /// Its title, without the prefix that makes it a draft where the forge knows drafts by that.
    pub title: String,
    /// Its body.
    pub body: String,
    /// It can't be merged yet, on purpose.
    pub draft: bool,
    /// Open, or what became of it.
    pub state: PullState,
    /// The branch that it is to go into.
    pub base: String,
    /// The branch that it comes from.
    pub head: String,
    /// The commit of that branch.
    pub head_commit: Option<Oid>,
    /// It comes from another repository, a fork.
    pub foreign: bool,
    /// Who opened it.
    pub author: String,
    /// The names of its labels.
    pub labels: BTreeSet<String>,
    /// When anything about it changed last.
    pub updated: Timestamp,
}

/// A pull request to be opened, from a branch of the repository itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewPull {
    /// The branch that it comes from.
    pub head: String,
    /// The branch that it is to go into.
    pub base: String,
    /// How it is to look.
    pub edit: Edit,
}

/// How a pull request is to look.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edit {
    /// The title, on one line.
    pub title: String,
    /// The body, in Markdown.
    pub body: String,
    /// Whether it must not be merged yet.
    pub draft: bool,
}

/// A label of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// `chiffon`, or a group and a word: `risk:low`.
    pub name: String,
    /// Six hexadecimal digits.
    pub color: &'static str,
}

impl Label {
    /// The groups that labels of ours begin with; whatever else a pull request carries is people's.
    const GROUPS: [&'static str; 2] = ["risk:", "state:"];

    /// Whether a label is one of ours, so that it is taken away where it is not to be there.
    pub fn is_ours(name: &str) -> bool {
        name == "chiffon" || Self::GROUPS.iter().any(|group| name.starts_with(group))
    }
}

/// A comment on a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Its id, unlike any other's in the repository.
    pub id: u64,
    /// Who wrote it.
    pub author: String,
    /// What it says.
    pub body: String,
    /// When it was written.
    pub created: Timestamp,
    /// When it was changed last.
    pub updated: Timestamp,
}

/// A reaction beneath a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reaction {
    /// Heard, and being done.
    Eyes,
    /// Done.
    ThumbsUp,
    /// Not understood, or not allowed.
    Confused,
}

impl Reaction {
    /// The word that all three forges have for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eyes => "eyes",
            Self::ThumbsUp => "+1",
            Self::Confused => "confused",
        }
    }
}

/// A commit's status in one context.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status {
    /// Whose word it is: `chiffon/plan`.
    pub context: String,
    /// How it stands.
    pub state: StatusState,
    /// One line, at most 140 characters: the smallest limit of the three forges.
    pub description: String,
    /// Where there is more to read.
    pub url: Option<String>,
}

/// How a status stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatusState {
    /// Not known yet.
    Pending,
    /// Good.
    Success,
    /// Not good.
    Failure,
    /// It could not be found out.
    Error,
}

impl StatusState {
    /// The word that all three forges have for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
        }
    }
}

/// What somebody said of a pull request as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// Who.
    pub author: String,
    /// What.
    pub verdict: ReviewVerdict,
    /// The commit that was looked at.
    pub commit: Option<Oid>,
    /// The forge or a person says that it counts no more.
    pub dismissed: bool,
    /// When.
    pub at: Timestamp,
}

/// What a review says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewVerdict {
    /// Yes.
    Approved,
    /// No.
    ChangesRequested,
    /// Neither: a remark, or a review that is not finished.
    Remark,
}
