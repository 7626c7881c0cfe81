//! `chiffon-agent up`: takes orders until told to stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use chiffon_infra::Ansible;
use chiffon_link::Verifier;
use chiffon_link::amqp::{AmqpLink, Server, Settings as LinkSettings};
use chiffon_runtime::{Agent, Settings, Shutdown, Signals};
use chiffon_trace::Traces;
use serde_json::json;
use tokio::sync::watch;

use crate::environment::Environment;
use crate::fetching::Fetching;
use crate::home::{self, Home};
use crate::output::Output;

/// The first signal lets what runs end, the second cancels it, the third leaves at once: what runs is `lost` then.
const AT_ONCE: u32 = 3;

/// Runs until stopped.
///
/// # Errors
/// The configuration has mistakes, another one runs in this folder, or the journal can't be used.
pub async fn run(home: &Home, environment: &Environment, output: &Output) -> Result<bool> {
    let spec = home.load()?;
    home.make()?;
    let _lock = home.lock()?;
    let verifier = Verifier::parse(&spec.reconciler_key).context("`reconciler_key` in agent.yaml")?;
    let server = Server::of(&spec.amqp, home.folder()).context("`amqp` in agent.yaml")?;
    let mirrors = home.mirrors(&spec)?;
    let ansible = Ansible::new(home.ansible(&spec, &mirrors, environment));
    let work = Fetching::new(ansible, home::git(environment), mirrors);
    let mut settings = Settings::new(spec.name.clone(), chiffon_runtime::new_boot(), home.journal());
    settings.heartbeat = Duration::from_secs(u64::from(spec.heartbeat_secs));
    settings.parallel = usize::try_from(spec.parallel).unwrap_or(1);
    let traces = spec.traces.as_ref();
    let traces = traces.map(|spec| Traces::start(spec, home.folder(), "chiffon-agent", chiffon_runtime::now_ms));
    let traces = traces.transpose().context("`traces` in agent.yaml")?;
    if let Some(traces) = &traces {
        settings.recorder = traces.recorder();
    }
    std::fs::create_dir_all(home.journal()).with_context(|| format!("making {}", home.journal().display()))?;

    let mut signals = Signals::listen(AT_ONCE).context("listening for Ctrl-C")?;
    let link = Arc::new(AmqpLink::new(server, LinkSettings::default(), spec.name.clone(), verifier));
    let mut trouble = link.trouble();
    let (shutdown, told) = watch::channel(Shutdown::No);
    let agent = Agent::new(settings, link.clone(), Arc::new(work)).run(told);
    let mut agent = std::pin::pin!(agent);
    loop {
        tokio::select! {
            ended = &mut agent => {
                link.close();
                if let Some(traces) = traces {
                    traces.stop().await;
                }
                return ended.context("the agent stopped").map(|()| true);
            }
            Ok(()) = trouble.changed() => {
                let trouble = trouble.borrow_and_update().clone();
                match trouble {
                    None => output.say(&json!({ "ready": true, "agent": spec.name }), "ready"),
                    Some(reason) => output.failure(&reason),
                }
            }
            () = signals.recv() => {
                let next = match *shutdown.borrow() {
                    Shutdown::No => Shutdown::Finish,
                    Shutdown::Finish | Shutdown::Cancel => Shutdown::Cancel,
                };
                let text = match next {
                    Shutdown::Cancel => "cancelling what runs",
                    _ => "stopping after what runs; once more cancels it",
                };
                output.say(&json!({ "stopping": true }), text);
                shutdown.send_replace(next);
            }
        }
    }
}
