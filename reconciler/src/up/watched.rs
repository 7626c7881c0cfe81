//! What others see of the loop: health and metrics over HTTP, where `web` is configured.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use chiffon_core::State;
use chiffon_link::{Hub, read_secret};
use chiffon_schemas::{Direction, ForgeKind, Name};
use chiffon_store::{RepositoryId, Store};
use chiffon_web::{Context, Door, Guard, Health, Hooks, Listen, Metrics, Part, Turn, Web};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::config::Config;
use crate::driver::Tick;
use crate::environment;
use crate::home::Home;
use crate::output::Output;

/// That a webhook was heard is noted this seldom, however many come.
const NOTED_EVERY: Duration = Duration::from_millis(100);

/// What the loop says of itself, and who may hear it.
pub(super) struct Watched {
    context: Context,
    web: Option<Web>,
    /// Told where the forge says that something happened.
    pub knock: Arc<Notify>,
    /// Whoever asks the bus for its queues.
    asking: Arc<Semaphore>,
}

impl Watched {
    /// Begins to answer, where that is configured: before anything else, so that whoever asks hears what is missing.
    ///
    /// # Errors
    /// The address can't be used.
    pub async fn start(home: &Home, config: &Config, once: bool, output: &Output) -> Result<Self> {
        let knock = Arc::new(Notify::new());
        let context = Context {
            health: Arc::new(Health::default()),
            metrics: Arc::new(Metrics::default()),
            store: Arc::new(OnceLock::new()),
            now: environment::now,
            guard: Arc::new(guard(config)),
            door: Arc::new(Door::new(config.spec.web.iter().flat_map(|web| web.tokens.clone()).collect())),
            hooks: hooks(home, config, &knock)?.map(Arc::new),
            has_forge: config.spec.forge.is_some(),
            wake: {
                let home = home.clone();
                // Where it can't be touched, the next poll looks.
                Arc::new(move || drop(home.touch_wake()))
            },
            words: crate::driver::words,
            talking: chiffon_web::room_to_talk(),
        };
        let mut web = None;
        if let Some(spec) = config.spec.web.as_ref().filter(|_| !once) {
            let listen = Listen::of(spec, home.folder()).context("`web` in chiffon.yaml")?;
            let server = Web::start(&listen, context.clone()).await.context("`web` in chiffon.yaml")?;
            let path = home.web_address();
            std::fs::write(&path, format!("{}\n", server.address()))
                .with_context(|| format!("writing {}", path.display()))?;
            output.progress(&format!("answering at {}", server.address()));
            web = Some(server);
        }
        Ok(Self { context, web, knock, asking: Arc::new(Semaphore::new(1)) })
    }

    /// The store is open, or why it is not.
    pub fn store(&self, opened: Result<(Arc<dyn Store>, RepositoryId), String>) {
        match opened {
            Ok(store) => {
                self.context.health.set(Part::Store, None);
                // It is opened once.
                let _ = self.context.store.set(store);
            }
            Err(reason) => self.context.health.set(Part::Store, Some(reason)),
        }
    }

    /// This process leads, or who else does.
    pub fn leader(&self, other: Option<&str>) {
        self.context.health.set(Part::Leader, other.map(|name| format!("another reconciler leads: {name}")));
    }

    /// What is wrong with the bus.
    pub fn bus(&self, trouble: Option<String>) {
        self.context.health.set(Part::Bus, trouble);
    }

    /// The loop has turned.
    pub fn turned(&self) {
        self.context.health.turned();
    }

    /// A tick ended well; `intake` is what is missing all the same, since messages can't be taken in.
    pub fn ticked(&self, began: Instant, tick: &Tick, infra: Option<String>, intake: Option<&(Part, String)>) {
        let (health, metrics) = (&self.context.health, &self.context.metrics);
        health.set(Part::FirstTick, None);
        for part in [Part::Work, Part::Store] {
            health.set(part, intake.filter(|(missing, _)| *missing == part).map(|(_, why)| why.clone()));
        }
        health.set(Part::Infra, infra);
        metrics.turned(Turn::Look);
        metrics.ticked(began.elapsed().as_secs_f64(), tick.actions);
        metrics.carried(Direction::ToAgent, tick.sent);
    }

    /// Something failed and was said.
    pub fn failed(&self, error: &crate::driver::Error) {
        self.context.metrics.failed();
        self.context.health.set(part_of(error), Some(crate::commands::chain(error)));
    }

    /// The lease was renewed, or the infra repository fetched.
    pub fn looped(&self, of: Turn) {
        self.context.metrics.turned(of);
    }

    /// Asks how full the queues of the bus are, beside the loop: only where somebody can see it, and one question at a time.
    pub fn queues(&self, hub: &Arc<dyn Hub>) {
        let Ok(turn) = Arc::clone(&self.asking).try_acquire_owned() else { return };
        if self.web.is_none() {
            return;
        }
        let (hub, metrics) = (Arc::clone(hub), Arc::clone(&self.context.metrics));
        tokio::spawn(async move {
            let depths = hub.depths().await.into_iter().map(|depth| (depth.queue, depth.messages));
            metrics.wait(depths.collect());
            drop(turn);
        });
    }

    /// A message of an agent arrived.
    pub fn heard(&self) {
        self.context.metrics.carried(Direction::FromAgent, 1);
    }

    /// Where requests stand.
    pub fn states(&self, states: &BTreeMap<Name, (State, String)>) {
        if self.web.is_none() {
            return;
        }
        let mut counts = BTreeMap::new();
        for (state, _) in states.values() {
            *counts.entry(state.word()).or_default() += 1;
        }
        self.context.metrics.stand(counts);
    }

    /// Ends it.
    pub async fn stop(self) {
        if let Some(web) = self.web {
            web.stop().await;
        }
    }
}

/// What is missing where this failed.
pub(super) fn part_of(error: &crate::driver::Error) -> Part {
    if matches!(error, crate::driver::Error::Store(_)) { Part::Store } else { Part::Work }
}

/// The names that the server answers to: the one in its address, and those that are listed.
fn guard(config: &Config) -> Guard {
    let Some(web) = &config.spec.web else { return Guard::default() };
    let in_url = web.url.as_ref().and_then(|url| {
        let (_, rest) = url.split_once("://")?;
        let authority = rest.split('/').next()?;
        Some(authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned())
    });
    Guard::new(web.hosts.iter().cloned().chain(in_url))
}

/// The forge that may knock, where there is a secret for it.
fn hooks(home: &Home, config: &Config, knock: &Arc<Notify>) -> Result<Option<Hooks>> {
    let Some(forge) = &config.spec.forge else { return Ok(None) };
    let Some(file) = &forge.webhook_secret_file else { return Ok(None) };
    let file = home.folder().join(file);
    if !file.exists() {
        bail!(
            "there is no {}, which `forge.webhook_secret_file` names: `chiffon forge setup` makes it",
            file.display()
        );
    }
    let secret = read_secret(&file).context("`forge.webhook_secret_file`")?;
    let github = forge.kind == ForgeKind::GitHub;
    let (knock, path) = (Arc::clone(knock), home.heard());
    let noted = Mutex::new(None::<Instant>);
    let heard = move || {
        knock.notify_one();
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.is_none_or(|at| at.elapsed() >= NOTED_EVERY) {
            *noted = Some(Instant::now());
            // Only people and `chiffon forge setup` look at it.
            if let Err(error) = std::fs::write(&path, environment::run_id().to_string()) {
                tracing::debug!(%error, "when a webhook was heard is not noted");
            }
        }
    };
    Ok(Some(Hooks::new(github, &secret, &forge.repository, heard)))
}
