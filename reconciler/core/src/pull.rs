//! What a forge says of a plan's pull request.

use std::collections::BTreeSet;

use chiffon_schemas::{Name, Oid};
use serde::{Deserialize, Serialize};

/// The pull request of a plan branch, as the forge said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// Its number.
    pub number: u64,
    /// Where people see it.
    pub url: String,
    /// The plan that it was last made to show.
    pub plan: Oid,
    /// Open, or what became of it.
    pub state: PullState,
    /// The branch that it goes into.
    pub base: String,
    /// The branch that it comes from.
    pub head: String,
    /// The commit of that branch.
    #[serde(default)]
    pub head_commit: Option<Oid>,
    /// It comes from a fork.
    pub foreign: bool,
    /// Whether its head, and what its merge made, hold the plan at its path; known once it is merged.
    #[serde(default)]
    pub carried: bool,
    /// Who approved its head as it is, and may write.
    #[serde(default)]
    pub approved_by: BTreeSet<String>,
    /// Whether who merged may write.
    #[serde(default)]
    pub may_write: bool,
    /// How often the forge was asked and said that it is not merged, while its plan lay on `main`.
    #[serde(default)]
    pub denied: u32,
    /// What it was last made to look like, as a digest.
    #[serde(default)]
    pub shown: Option<String>,
    /// The newest comment that was heard.
    #[serde(default)]
    pub heard: u64,
    /// The last answers to comments, oldest first.
    #[serde(default)]
    pub answers: Vec<Answer>,
}

impl Pull {
    /// In place of a pull request that the forge does not know: it has no number.
    pub fn none(name: &Name, plan: &Oid, base: &str) -> Self {
        Self {
            number: 0,
            url: String::new(),
            plan: plan.clone(),
            state: PullState::Closed,
            base: base.to_owned(),
            head: format!("chiffon/plan/{name}"),
            head_commit: None,
            foreign: false,
            carried: false,
            approved_by: BTreeSet::new(),
            may_write: false,
            denied: 0,
            shown: None,
            heard: 0,
            answers: Vec::new(),
        }
    }
}

/// The answer to a command in a comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The comment.
    pub comment: u64,
    /// Who wrote it.
    pub to: String,
    /// Whether what it asks for was done.
    pub done: bool,
    /// What became of it, in a sentence.
    pub text: String,
}

/// Whether a pull request is open, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PullState {
    /// It may be merged.
    Open,
    /// Closed without a merge.
    Closed,
    /// Merged.
    Merged {
        /// The commit on the base branch, where the forge says it.
        commit: Option<Oid>,
        /// Who did it, where the forge says it.
        by: Option<String>,
    },
}

/// What is known of a forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeFacts {
    /// The account that Chiffon speaks as; absent until the forge has said it, and then nothing is approved yet.
    pub bot: Option<String>,
    /// The branch that plans are merged into.
    pub base: String,
}
