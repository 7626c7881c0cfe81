//! The agent of a measurement: the real loop, journal, spool and link, with work that does nothing or only talks.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result};
use chiffon_link::amqp::{AmqpLink, Settings as LinkSettings};
use chiffon_link::{Signer, Verifier};
use chiffon_runtime::{Agent, RunContext, Settings, Shutdown, Work, new_boot};
use chiffon_schemas::{AgentKind, LogDigest, Name, Order, Outcome, Verdict};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::places::Broker;
use crate::sample::ECHO;

/// The name of the agent.
pub const NAME: &str = "bench";

/// The version of ansible-core that the plans ask for.
const ANSIBLE_CORE: &str = "2.19.14";

/// Bytes of output that are written to the log at once, as the infra agent writes them.
const BATCH_BYTES: usize = 32 * 1024;

/// Bytes of a line with its end.
const LINE_BYTES: usize = 110;

/// How the agent is started.
#[derive(Debug, Serialize, Deserialize)]
pub struct Options {
    /// The broker.
    pub broker: Broker,
    /// What vouches for the reconciler.
    pub verifier: String,
    /// Its folder.
    pub folder: PathBuf,
    /// How many attempts run at once.
    pub parallel: usize,
    /// How many lines each attempt says.
    pub lines: usize,
}

impl Options {
    /// Starts it in a process of its own, which ends with the handle.
    ///
    /// # Errors
    /// The process can't be started.
    pub fn spawn(broker: &Broker, signer: &Signer, folder: PathBuf, parallel: usize, lines: usize) -> Result<Child> {
        let options = Self { broker: broker.clone(), verifier: signer.verifier().to_string(), folder, parallel, lines };
        Command::new(std::env::current_exe()?)
            .args(["agent", &serde_json::to_string(&options)?])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting the agent")
    }
}

/// The agent's name.
pub fn name() -> Name {
    Name::parse(NAME).expect("a constant name")
}

/// Lives until it is killed.
///
/// # Errors
/// The options are none, or the journal can't be used.
pub async fn run(options: Options) -> Result<()> {
    let verifier = Verifier::parse(&options.verifier)?;
    let link = AmqpLink::new(options.broker.server()?, LinkSettings::default(), name(), verifier);
    let mut settings = Settings::new(name(), new_boot(), options.folder);
    settings.parallel = options.parallel;
    let (_shutdown, told) = watch::channel(Shutdown::No);
    let work = Arc::new(Saying { lines: options.lines });
    Ok(Agent::new(settings, Arc::new(link), work).run(told).await?)
}

/// Work that says so many lines, and sends back what its order carries.
struct Saying {
    lines: usize,
}

/// A line of the log, with its end.
pub fn line(number: usize) -> String {
    format!("{number:0>width$}\n", width = LINE_BYTES - 1)
}

#[async_trait::async_trait]
impl Work for Saying {
    fn kind(&self) -> AgentKind {
        AgentKind::Infra
    }

    fn ansible_core(&self) -> Option<String> {
        Some(ANSIBLE_CORE.to_owned())
    }

    async fn check(&self, _: &Order) -> Result<(), String> {
        Ok(())
    }

    async fn run(&self, order: &Order, run: RunContext) -> Outcome {
        let mut batch = String::with_capacity(BATCH_BYTES + LINE_BYTES);
        for number in 0..self.lines {
            batch.push_str(&line(number));
            if batch.len() >= BATCH_BYTES || number + 1 == self.lines {
                run.log.write(std::mem::take(&mut batch)).await;
            }
        }
        let echo = order.step.vars.get(ECHO).and_then(|value| value.as_str()).map(str::to_owned);
        outcome(echo)
    }
}

fn outcome(reason: Option<String>) -> Outcome {
    Outcome {
        verdict: Verdict::Succeeded,
        reason,
        exit_code: Some(0),
        recap: Default::default(),
        changed: Vec::new(),
        failure: None,
        finished: Vec::new(),
        interrupted: Vec::new(),
        duration_ms: 0,
        usage: None,
        log: LogDigest::default(),
        ansible_core: Some(ANSIBLE_CORE.to_owned()),
        suggestions: Vec::new(),
    }
}
