//! What every agent must do, whatever it is written in.

mod lives;
mod reports;
mod starts;
mod unreadable;

use chiffon_schemas::{AgentMessage, AttemptKey, BootId, FromAgent, Hello, Report, ReportBody, Verdict};

use super::reconciler::Reconciler;

pub use lives::*;
pub use reports::*;
pub use starts::*;
pub use unreadable::*;

/// What a report says, in a word.
fn word(report: &Report) -> &'static str {
    match &report.body {
        ReportBody::Started {} => "started",
        ReportBody::Log { .. } => "log",
        ReportBody::Over(_) => "over",
    }
}

fn verdict(report: &Report) -> Verdict {
    match &report.body {
        ReportBody::Over(outcome) => outcome.verdict,
        other => panic!("{other:?} is no end"),
    }
}

/// Nothing is known of attempts.
fn is_empty(hello: &Hello) -> bool {
    hello.settled.is_empty() && hello.ended.is_empty()
}

fn claims(play: &Reconciler, wanted: &AttemptKey) -> usize {
    play.count(|said| matches!(said, AgentMessage::Claim { key } if key == wanted))
}

fn reported(play: &Reconciler, wanted: &AttemptKey) -> usize {
    play.count(|said| matches!(said, AgentMessage::Report(report) if report.key == *wanted))
}

/// A claim by another life than that one.
fn claimed_anew(said: &FromAgent, wanted: &AttemptKey, before: &BootId) -> Option<BootId> {
    match &said.message {
        AgentMessage::Claim { key } if key == wanted && said.boot != *before => Some(said.boot.clone()),
        _ => None,
    }
}
