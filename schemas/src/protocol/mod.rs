//! The protocol between reconciler and agents as a document: `docs/protocol.md`, from a hand-written page, the types, and
//! one example of each message as it travels.

mod fields;
mod page;

pub(crate) use page::page;

use crate::{AgentMessage, FromAgent, ReportBody, ToAgent};

/// An example, as it travels, line breaks and spaces aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    /// The name of its file in `schemas/examples/protocol/`, without `.json`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! examples {
    ($($name:literal),* $(,)?) => {
        &[$(Example { name: $name, text: include_str!(concat!("../../examples/protocol/", $name, ".json")) }),*]
    };
}

/// Every example.
pub const EXAMPLES: &[Example] = examples![
    "order",
    "grant",
    "refuse",
    "cancel",
    "stored",
    "introduce",
    "hello",
    "heartbeat",
    "claim",
    "decline",
    "progress",
    "report-started",
    "report-log",
    "report-over",
    "report-over-lost",
    "enrolment-question",
    "enrolment-answer",
    "enrolment-refusal",
    "credentials",
];

/// The agent that the examples are for and of.
pub const EXAMPLE_AGENT: &str = "nas01";

/// The reconciler's secret key in the examples; published, and therefore good for nothing else.
pub const EXAMPLE_SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What the signatures of the examples are verified with.
pub const EXAMPLE_KEY: &str = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";

/// The token of the invitation in the examples.
pub const EXAMPLE_TOKEN: &str = "chf_ZGVmZ2hpamtsbW5vcHFyc8jJysvMzc7P0NHS09TV1tfY2drb3N3e3-Dh4uPk5ebn";

/// The example of that name.
///
/// # Panics
/// There is none.
pub fn example(name: &str) -> &'static str {
    EXAMPLES.iter().find(|example| example.name == name).map(|example| example.text).expect("an example of that name")
}

/// The name of the example of a message to an agent.
pub fn example_of_order(message: &ToAgent) -> &'static str {
    match message {
        ToAgent::Order(_) => "order",
        ToAgent::Grant(_) => "grant",
        ToAgent::Refuse { .. } => "refuse",
        ToAgent::Cancel { .. } => "cancel",
        ToAgent::Stored { .. } => "stored",
        ToAgent::Introduce {} => "introduce",
    }
}

/// The name of the example of a message from an agent.
pub fn example_of_word(message: &FromAgent) -> &'static str {
    match &message.message {
        AgentMessage::Hello(_) => "hello",
        AgentMessage::Heartbeat {} => "heartbeat",
        AgentMessage::Claim { .. } => "claim",
        AgentMessage::Decline { .. } => "decline",
        AgentMessage::Progress { .. } => "progress",
        AgentMessage::Report(report) => match &report.body {
            ReportBody::Started {} => "report-started",
            ReportBody::Log { .. } => "report-log",
            ReportBody::Over(_) => "report-over",
        },
    }
}
