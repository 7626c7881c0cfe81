//! What the callback plugin says, as types, and the story of a run that they add up to.
//!
//! Names and messages come from playbooks and hosts; they are cleaned of secrets before they are kept.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_schemas::{Host, Recap};
use serde::Deserialize;

/// The longest line of one event, in bytes. All decrypted values of a repository are one, and so is a recap of
/// thousands of hosts; a longer one counts as lost.
pub(crate) const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// The longest message of a failure.
const MAX_MSG_CHARS: usize = 600;

/// How many results of tasks are kept for the verdict; counts go on beyond that.
const MAX_KEPT: usize = 20_000;

/// One line of the callback plugin.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Body {
    /// Every value that this run can decrypt; always the first event.
    Secrets {
        /// The values.
        values: Vec<String>,
    },
    /// The plugin ended ansible-playbook before the next task.
    Refused {
        /// Why.
        reason: String,
    },
    /// A play begins.
    Play {
        /// Its name.
        name: String,
    },
    /// A play has no host within the limit.
    NoHostsMatched,
    /// A task begins.
    Task {
        /// Role and name, as Ansible prints it.
        task: String,
        /// Its module.
        action: String,
        /// Whether its author gave it a name.
        named: bool,
    },
    /// A task begins on a host.
    Start {
        /// The host.
        host: String,
        /// The task.
        task: String,
    },
    /// A task ended on a host.
    Host(TaskResult),
    /// The counts of all hosts; the last event of a run that came to its end.
    Recap {
        /// Host → counts.
        hosts: BTreeMap<String, Counts>,
        /// Hosts on which every play came to its end, as far as that can be proved.
        finished: BTreeSet<String>,
    },
}

/// How a task ended on a host.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TaskResult {
    /// The host.
    pub host: String,
    /// Role and name of the task.
    pub task: String,
    /// The module.
    pub action: String,
    /// How it ended.
    pub status: Status,
    /// Whether the playbook ignores a failure of it.
    pub ignored: bool,
    /// Seconds that it took.
    pub secs: f64,
    /// First line of the failure's message.
    #[serde(default)]
    pub msg: Option<String>,
}

/// How a task ended on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to do.
    Ok,
    /// Something changed.
    Changed,
    /// It failed.
    Failed,
    /// Its condition was false.
    Skipped,
    /// The host did not answer.
    Unreachable,
}

impl Status {
    /// The word, as progress shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Changed => "changed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Ansible's counts for a host, by Ansible's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Counts {
    ok: u32,
    failures: u32,
    unreachable: u32,
    changed: u32,
    skipped: u32,
    rescued: u32,
    ignored: u32,
}

impl From<Counts> for Recap {
    fn from(counts: Counts) -> Self {
        let Counts { ok, failures: failed, unreachable, changed, skipped, rescued, ignored } = counts;
        Self { ok, changed, unreachable, failed, skipped, rescued, ignored }
    }
}

/// What a run's events add up to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Story {
    /// Whether the secrets were handed over, so that tasks could begin.
    pub began: bool,
    /// Why the plugin ended the run.
    pub refused: Option<String>,
    /// The counts at the end; `None` where no recap was seen.
    pub recap: Option<BTreeMap<Host, Recap>>,
    /// Hosts on which every play came to its end.
    pub finished: BTreeSet<String>,
    /// Hosts in the recap whose names are none.
    pub strange_hosts: Vec<String>,
    /// Results of tasks in order: all but plain `ok` and `skipped`.
    pub results: Vec<TaskResult>,
    /// Hosts that any task began or ended on.
    pub touched: BTreeSet<String>,
    /// Host → task that began there and did not end.
    pub running: BTreeMap<String, String>,
    /// The last task that began anywhere.
    pub last_task: Option<String>,
    /// Tasks without a name: their modules.
    pub unnamed: BTreeSet<String>,
    /// Tasks that took long: task → seconds on the slowest host.
    pub slow: BTreeMap<String, f64>,
    /// Whether an event is missing or one could not be read.
    pub gaps: bool,
    last_seq: u64,
}

/// A task that took longer than this is worth a suggestion; in seconds.
const SLOW_SECS: f64 = 60.0;

impl Story {
    /// Notes that events are missing.
    pub fn mark_gap(&mut self) {
        self.gaps = true;
    }

    /// Takes the next event, its texts already cleaned.
    pub fn take(&mut self, event: Event) {
        if event.seq != self.last_seq + 1 {
            self.gaps = true;
        }
        self.last_seq = event.seq;
        match event.body {
            Body::Secrets { .. } => self.began = true,
            Body::Refused { reason } => self.refused = Some(reason),
            Body::Play { .. } | Body::NoHostsMatched => {}
            Body::Task { task, action, named } => {
                if !named && self.unnamed.len() < 20 {
                    self.unnamed.insert(action);
                }
                self.last_task = Some(task);
            }
            Body::Start { host, task } => {
                self.touched.insert(host.clone());
                self.running.insert(host, task);
            }
            Body::Host(result) => self.take_result(result),
            Body::Recap { hosts, finished } => {
                self.take_recap(hosts);
                self.finished = finished;
            }
        }
    }

    fn take_result(&mut self, result: TaskResult) {
        self.running.remove(&result.host);
        self.touched.insert(result.host.clone());
        if result.secs > SLOW_SECS {
            let slowest = self.slow.entry(result.task.clone()).or_default();
            *slowest = slowest.max(result.secs);
        }
        let worth_keeping = match result.status {
            Status::Changed => self.results.len() < MAX_KEPT,
            Status::Failed | Status::Unreachable => self.results.len() < 2 * MAX_KEPT,
            Status::Ok | Status::Skipped => false,
        };
        if worth_keeping {
            self.results.push(result);
        }
    }

    fn take_recap(&mut self, hosts: BTreeMap<String, Counts>) {
        let mut recap = BTreeMap::new();
        for (name, counts) in hosts {
            match Host::parse(name) {
                Ok(host) => {
                    recap.insert(host, counts.into());
                }
                Err(error) => self.strange_hosts.push(error.text),
            }
        }
        self.recap = Some(recap);
    }
}

impl Body {
    /// Cleans every text that came from a playbook or a host. Names of hosts stay: they are the plan's.
    pub fn clean(&mut self, clean: impl Fn(&str) -> String) {
        match self {
            Self::Secrets { .. } | Self::NoHostsMatched | Self::Recap { .. } => {}
            Self::Refused { reason } => *reason = clean(reason),
            Self::Play { name } => *name = clean(name),
            Self::Task { task, .. } | Self::Start { task, .. } => *task = clean(task),
            Self::Host(result) => {
                result.task = clean(&result.task);
                // Cut only when it is clean: a secret that is cut in two is found by nobody.
                result.msg = result.msg.as_deref().map(|text| clean(text).chars().take(MAX_MSG_CHARS).collect());
            }
        }
    }
}
