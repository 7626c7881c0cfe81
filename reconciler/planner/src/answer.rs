//! What the planner is asked, and what it answers.

use chiffon_core::catalogue::Catalogue;
use chiffon_schemas::{Code, Evidence, Name, Plan, RepoPath, Request, RequestRef, Timestamp, Tools};

/// Everything that a plan is made from. Same input, same bytes.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// The request's name.
    pub name: &'a Name,
    /// What is wanted.
    pub request: &'a Request,
    /// The request's file, pinned into the plan.
    pub request_ref: RequestRef,
    /// Offers of this request so far plus one.
    pub revision: u32,
    /// What the infra repository offers.
    pub catalogue: &'a Catalogue,
    /// Days until an offer expires.
    pub offer_days: u32,
    /// The longest that one step may take, in seconds.
    pub max_timeout_secs: u32,
    /// The time of the snapshot; only the expiry depends on it.
    pub now: Timestamp,
    /// The tools that the plan is made for.
    pub tools: Tools,
}

/// What the planner says.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A plan, complete and reviewable.
    Plan(Box<Planned>),
    /// One to three questions; nothing is guessed.
    Questions(Vec<Question>),
    /// Nothing in the catalogue fits.
    Nothing {
        /// Why, in a sentence.
        reason: String,
        /// The nearest entries, best first.
        nearest: Vec<Nearest>,
    },
    /// The request names something that is not there, or says what can't be said.
    Invalid(Vec<Problem>),
}

/// A plan with what reading alone foresees of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Static evidence.
    pub evidence: Evidence,
}

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// Which playbook.
    Playbook,
    /// Which host.
    Host,
    /// Which value for a variable.
    Variable,
}

/// A question to the person who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The key for `spec.answers`; stable as long as the sentence is.
    pub id: String,
    /// The question.
    pub text: String,
    /// What it is about.
    pub about: About,
    /// The variable, where it is about one.
    pub variable: Option<String>,
    /// Answers to choose from; empty where any fitting value will do.
    pub choices: Vec<Choice>,
}

/// An answer to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The value for `spec.answers`.
    pub value: String,
    /// What it means.
    pub label: String,
}

/// An entry that is near to what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    /// Its playbook.
    pub playbook: RepoPath,
    /// Its title.
    pub title: String,
    /// What it has in common with the sentence.
    pub why: String,
}

/// Something that the request has to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}{} [{}]", help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default(), code.as_str())]
pub struct Problem {
    /// Its number in docs/diagnostics.md.
    pub code: Code,
    /// The field of the request: `spec.targets`.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// The way out, often the nearest names.
    pub help: Option<String>,
}
