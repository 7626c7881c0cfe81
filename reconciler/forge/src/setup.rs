//! What an administrator has a repository made ready with, once: labels, the webhook, and the rule of the branch that plans
//! are merged into (S15).

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::port::Label;
use crate::{Forge, Trouble};

/// A forge, as somebody who may change the repository's settings. Everything can be done again and changes nothing then.
#[async_trait]
pub trait Setup: Forge {
    /// Makes labels that are not there; how many were made.
    async fn make_labels(&self, labels: &BTreeSet<Label>) -> Result<usize, Trouble>;

    /// Makes a webhook be there, found again by where it goes to. A secret can't be read back, so that it is always set.
    async fn make_hook(&self, hook: &Hook) -> Result<(u64, Made), Trouble>;

    /// Has the forge call a webhook now.
    async fn call_hook(&self, hook: u64) -> Result<(), Trouble>;

    /// Makes the rule of the branch that plans are merged into be so that Chiffon's account can neither push to it nor
    /// merge into it what no person approved. A rule of somebody else's for that branch is left alone.
    async fn protect(&self, rule: &Rule) -> Result<Made, Trouble>;
}

/// What became of something that was to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// It was made, and what of it people should know.
    New(String),
    /// It was there, and is now as it is to be.
    Changed(String),
    /// Somebody else's is there, which is left alone; how it is called.
    Theirs(String),
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Where it goes to.
    pub url: String,
    /// What it is signed with.
    pub secret: String,
}

/// The rule of the branch that plans are merged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// That branch.
    pub base: String,
    /// A branch under the same rule that nobody uses: whether the rule holds is tried out there.
    pub scratch: String,
    /// The account that Chiffon speaks as.
    pub bot: String,
}

/// What the rules of a branch let a token's account do, as the forge says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// There is a rule for it.
    pub protected: bool,
    /// It may push there; `None` where the forge does not say.
    pub may_push: Option<bool>,
    /// It may merge into it what no other person approved; `None` where the forge does not say.
    pub may_merge: Option<bool>,
}
