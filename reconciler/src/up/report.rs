//! What `chiffon up` says while it works: state changes and tasks, one line each.

use std::collections::BTreeMap;

use chiffon_core::State;
use chiffon_schemas::{AgentMessage, FromAgent, Name};
use serde_json::json;

use crate::output::{Output, Tone, continued, printable};

/// Says what changed since it last looked.
#[derive(Debug)]
pub struct Reporter {
    output: Output,
    quiet: bool,
    known: BTreeMap<Name, String>,
    files: Vec<(String, String)>,
}

impl Reporter {
    /// A reporter that has seen nothing yet.
    pub fn new(output: Output, quiet: bool) -> Self {
        Self { output, quiet, known: BTreeMap::new(), files: Vec::new() }
    }

    /// Says which requests are in another state than before.
    pub fn states(&mut self, states: &BTreeMap<Name, (State, String)>) {
        for (name, (state, why)) in states {
            let text = if why.is_empty() { state.word().to_owned() } else { format!("{}: {why}", state.word()) };
            if self.known.get(name) == Some(&text) {
                continue;
            }
            self.known.insert(name.clone(), text.clone());
            if self.quiet && !state.needs_attention() {
                continue;
            }
            if self.output.is_json() {
                self.output.line(&json!({ "request": name, "state": state.word(), "why": why }).to_string());
            } else {
                let tone = tone(state);
                let word = self.output.paint(tone, state.word());
                let rest = if why.is_empty() { String::new() } else { format!(": {}", continued(why)) };
                self.output.line(&format!("{name}: {word}{rest}"));
            }
        }
    }

    /// Says that the first tick is done: from now on nothing that is asked has to wait for the start.
    pub fn ready(&self) {
        if self.output.is_json() {
            self.output.line(&json!({ "ready": true }).to_string());
        } else if !self.quiet {
            self.output.progress("ready");
        }
    }

    /// Says which files of `main` are not read, each once.
    pub fn files(&mut self, files: &[(String, String)]) {
        for (path, reason) in files.iter().filter(|file| !self.files.contains(file)) {
            if self.output.is_json() {
                self.output.line(&json!({ "file": path, "why": reason }).to_string());
            } else {
                let word = self.output.paint(Tone::Bad, "not read");
                self.output.line(&format!("{}: {word}: {}", printable(path), printable(reason)));
            }
        }
        self.files = files.to_vec();
    }

    /// Says that a task ended.
    pub fn task(&self, line: &str) {
        if !self.quiet && !self.output.is_json() {
            self.output.line(&self.output.paint(Tone::Faint, &printable(line)));
        }
    }
}

/// The colour of a state.
pub fn tone(state: &State) -> Tone {
    match state {
        State::Succeeded => Tone::Good,
        State::Blocked(_) | State::Refused(_) | State::Failed | State::Lost => Tone::Bad,
        State::Proposed | State::Paused(_) => Tone::Warn,
        State::Planning(_) | State::Rejected | State::Withdrawn | State::Queued | State::Running | State::Cancelled => {
            Tone::Plain
        }
    }
}

/// The line of a message that tells of progress.
pub fn progress_of(message: &FromAgent) -> Option<String> {
    match &message.message {
        AgentMessage::Progress { host, task, status, .. } => Some(format!("  {host}: {task}: {status}")),
        AgentMessage::Hello(_)
        | AgentMessage::Heartbeat {}
        | AgentMessage::Claim { .. }
        | AgentMessage::Decline { .. }
        | AgentMessage::Report(_) => None,
    }
}
