//! What a person can ask of the reconciler: typed, in a comment, or over HTTP.

use std::collections::BTreeMap;

use chiffon_schemas::{Host, Json, Name, Request, Timestamp, nearest};
use serde::{Deserialize, Serialize};

use crate::facts::Question;

/// What a person can ask of the reconciler, as it lies in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Close the open offer.
    Reject {
        /// The request.
        name: Name,
        /// Why.
        reason: String,
    },
    /// Stop the run.
    Cancel {
        /// The request.
        name: Name,
    },
    /// Run the unfinished hosts again, under the same plan.
    Retry {
        /// The request.
        name: Name,
    },
    /// Hold a request back.
    Pause {
        /// The request.
        name: Name,
        /// Why.
        reason: String,
        /// Until when.
        until: Timestamp,
    },
    /// End a pause.
    Resume {
        /// The request.
        name: Name,
    },
    /// Free a host's lock.
    Unlock {
        /// The host.
        host: Host,
    },
    /// Say how a lost attempt ended.
    Resolve {
        /// The request.
        name: Name,
        /// How.
        how: Resolution,
    },
    /// Make another plan.
    Replan {
        /// The request.
        name: Name,
    },
    /// Offer a plan that takes back what the last run did.
    Undo {
        /// The request.
        name: Name,
    },
    /// Write a new request.
    Submit {
        /// The request.
        request: Box<Request>,
        /// Who asks.
        by: Person,
    },
    /// Write one more sentence into a request, which makes another plan.
    Amend {
        /// The request.
        name: Name,
        /// The sentence.
        change: String,
        /// Who asks.
        by: Person,
        /// The comment that asks for it, where one does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment: Option<CommentRef>,
    },
    /// Write answers to questions into a request.
    Answer {
        /// The request.
        name: Name,
        /// Question → answer.
        answers: BTreeMap<String, String>,
        /// Who answers.
        by: Person,
    },
}

impl Command {
    /// Whether it writes to `main`, which takes its time where there is a forge.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Submit { .. } | Self::Amend { .. } | Self::Answer { .. })
    }

    /// As it lies in the store.
    pub fn to_json(&self) -> Json {
        serde_json::to_value(self).expect("a command is plain data")
    }
}

/// A comment that asked for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommentRef {
    /// The pull request.
    pub pull: u64,
    /// The comment.
    pub id: u64,
    /// What it says.
    pub body: String,
}

/// How a lost attempt ended, as a person found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    /// The work is done on every host of it.
    Succeeded,
    /// It is not, and stays so.
    Failed,
    /// It is not; run it again.
    Retry,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandAnswer {
    /// Whether it was carried out.
    pub done: bool,
    /// What became of it, in a sentence.
    pub message: String,
    /// The request that it was about, where the command could not know its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Name>,
    /// The pull request that has to be merged first, with its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<(u64, String)>,
}

impl CommandAnswer {
    /// It was carried out.
    pub fn yes(message: impl Into<String>) -> Self {
        Self { done: true, message: message.into(), request: None, pull: None }
    }

    /// It was not, and why.
    pub fn no(message: impl Into<String>) -> Self {
        Self { done: false, message: message.into(), request: None, pull: None }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The name, as commits have it.
    pub name: String,
    /// The address, as commits have it.
    pub email: String,
}

/// Answers to questions as people write them: `ID=VALUE`s, or a lone value where there is one question.
///
/// # Errors
/// An id or a choice is not one of those that are asked for; in a sentence that says what is.
pub fn answers_to(texts: &[String], questions: &[Question]) -> Result<BTreeMap<String, String>, String> {
    let mut answers = BTreeMap::new();
    for text in texts {
        let (id, value) = match (text.split_once('='), questions) {
            (Some((id, value)), _) => (id.trim(), value.trim()),
            (None, [only]) => (only.id.as_str(), text.trim()),
            (None, _) => return Err(format!("`{text}`: write ID=VALUE, since there are several questions")),
        };
        let Some(question) = questions.iter().find(|question| question.id == id) else {
            let ids: Vec<&str> = questions.iter().map(|question| question.id.as_str()).collect();
            return Err(match nearest(id, ids.iter().copied()) {
                Some(near) => format!("there is no question `{id}`: did you mean `{near}`?"),
                None => format!("there is no question `{id}`; there are {}", ids.join(", ")),
            });
        };
        let choices: Vec<&str> = question.choices.iter().map(|(value, _)| value.as_str()).collect();
        if !choices.is_empty() && !choices.contains(&value) {
            return Err(match nearest(value, choices.iter().copied()) {
                Some(near) => format!("`{value}` is no answer to {id}: did you mean `{near}`?"),
                None => format!("`{value}` is no answer to {id}; choose from {}", choices.join(", ")),
            });
        }
        answers.insert(id.to_owned(), value.to_owned());
    }
    Ok(answers)
}
