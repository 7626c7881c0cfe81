//! `chiffon up`: the driver's loop with the embedded agent, in one process.
//!
//! Whatever wakes the loop only says "look now": a touched file, a message, a timer. Losing a wake-up costs at most one
//! poll interval.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chiffon_link::Hub;
use chiffon_requests::StopFlag;
use chiffon_runtime::Signals;
use chiffon_schemas::{Name, Recorder, Timestamp};
use chiffon_store::{Leading, NewParked, Store};
use chiffon_trace::Traces;
use chiffon_web::Turn;
use notify::Watcher;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::bus::Bus;
use crate::commands::Exit;
use crate::config::{self, Config};
use crate::driver::{Driver, Fetched};
use crate::environment::{self, Environment};
use crate::home::Home;
use crate::output::Output;

mod agent;
mod ears;
mod ending;
mod fetching;
mod forging;
mod intake;
mod leader;
mod report;
mod taking;
mod watched;

pub(crate) use agent::ansible as ansible_config;
pub use report::tone;

use agent::Embedded;
use ears::Ears;
use fetching::Fetching;
use forging::{Worker, said_by};
use intake::Intake;
use leader::Leader;
use watched::Watched;

/// The longest that the start waits for the embedded agent to have settled its journal.
const HELLO_TIMEOUT: Duration = Duration::from_secs(30);

/// How long `up --once` waits for agents on a broker to be heard: more than their heartbeat takes.
const AGENTS_DUE: Duration = Duration::from_secs(15);

/// How often, and how long between, the lock is tried before somebody else is said to run.
const LOCK_TRIES: u32 = 10;
const LOCK_EVERY: Duration = Duration::from_millis(30);

/// A person's wish to stop, said once or again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Nobody said so.
    No,
    /// Begin nothing new, and wait for what runs.
    Finish,
    /// Cancel what runs, verify, and stop.
    Cancel,
}

/// What the loop was started with.
#[derive(Debug)]
pub struct Options {
    /// Do all that can be done now, wait for the runs, and exit.
    pub once: bool,
    /// Say only what needs attention.
    pub quiet: bool,
}

/// Runs until stopped, or until all is at rest.
///
/// # Errors
/// Another `up` holds the lock, the configuration has mistakes, or the store can't be opened.
pub async fn up(home: Home, environment: Environment, output: &Output, options: &Options) -> Result<Exit> {
    let config = load(&home)?;
    let _lock = take_lock(&home).await?;
    // Runs on a broker go on at their agents; the embedded agent's have to be cancelled first.
    let at_once = if config.spec.bus.amqp.is_some() { 2 } else { 3 };
    let mut signals = Signals::listen(at_once).context("listening for Ctrl-C")?;
    let watched = Watched::start(&home, &config, options.once, output).await?;
    let work = Work { home: &home, environment: &environment, output, options, watched: &watched };
    let ended = work.run(config, &mut signals).await;
    watched.stop().await;
    ended
}

/// What the whole of it is done with.
struct Work<'a> {
    home: &'a Home,
    environment: &'a Environment,
    output: &'a Output,
    options: &'a Options,
    watched: &'a Watched,
}

impl Work<'_> {
    async fn run(self, config: Config, signals: &mut Signals) -> Result<Exit> {
        let Self { home, environment, output, options, watched } = self;
        let Some(store) = self.open_store(&config, signals).await? else { return Ok(Exit::Done) };
        let repository = store.repository(&config.spec.name).await?;
        watched.store(Ok((Arc::clone(&store), repository)));
        let leader = Leader::new(home, Arc::clone(&store), repository)?;
        if !leader.wait(output, options, signals, watched).await? {
            return Ok(Exit::Done);
        }
        let traces = config.spec.traces.as_ref();
        let traces = traces.map(|spec| Traces::start(spec, home.folder(), "chiffon", environment::millis)).transpose();
        let traces = traces.context("`traces` in chiffon.yaml")?;
        let recorder = || traces.as_ref().map_or_else(Recorder::nobody, Traces::recorder);
        let bus = Bus::open(home, &config)?;
        let embedded = match &bus {
            Bus::Embedded(hub) => {
                Some(Embedded::start(home, &config, environment, hub.attach(&config.spec.agent.name), recorder())?)
            }
            Bus::Broker(_) => None,
        };
        let hub = bus.hub();
        let forging = self.start_forging(&config)?;
        let mut driver =
            Driver::new(home.clone(), environment.clone(), config, Arc::clone(&store), hub.clone()).await?;
        driver.record(recorder());
        if let Some(worker) = &forging {
            driver.on_forge(crate::forge::BASE.to_owned(), worker.jobs.clone());
        }
        let mut looped = Loop {
            reporter: report::Reporter::new(*output, options.quiet),
            driver: &mut driver,
            store,
            trouble: hub.trouble(),
            hub,
            home,
            environment,
            embedded: embedded.as_ref(),
            agents_due: None,
            output,
            stop: Stop::No,
            last_error: None,
            troubles: BTreeMap::new(),
            unread: Vec::new(),
            exit: Exit::Done,
            fetching: Fetching::new(),
            forging,
            ears: Ears::new(),
            intake: Intake::new(),
            leader,
            watched,
        };
        let ended = looped.run(options, signals).await;
        let exit = looped.exit;
        looped.fetching.stop().await;
        if let Some(worker) = looped.forging.take() {
            worker.stop().await;
        }
        if let Some(embedded) = embedded
            && !embedded.end().await
        {
            output.progress("the agent did not stop in time");
        }
        drop(driver);
        if let Some(traces) = traces {
            traces.stop().await;
        }
        ended.map(|()| exit)
    }

    /// Begins to talk to the forge, where there is one, and makes the copy of its repository where there is none yet.
    fn start_forging(&self, config: &Config) -> Result<Option<Worker>> {
        let Some(spec) = &config.spec.forge else { return Ok(None) };
        let stop = StopFlag::default();
        let (forge, upstream) = crate::forge::open(self.home, config, self.environment, spec, &stop)?;
        tokio::task::block_in_place(|| upstream.open()).context("making the copy of the requests repository")?;
        let every = Duration::from_secs(u64::from(config.spec.poll_secs));
        Ok(Some(Worker::start(forge, upstream, every, Arc::clone(&self.watched.knock), stop)))
    }

    /// Opens the store; while a server can't be reached it is tried again, ever more seldom, and each new reason is said
    /// once. `None` where a person asked to stop meanwhile.
    async fn open_store(&self, config: &Config, signals: &mut Signals) -> Result<Option<Arc<dyn Store>>> {
        let mut said = String::new();
        let mut pause = Duration::from_secs(1);
        loop {
            let error = match crate::store::open(self.home, config).await {
                Ok(store) => return Ok(Some(store)),
                Err(error) => error,
            };
            if self.options.once || !crate::store::may_come_back(&error) {
                return Err(error);
            }
            let reason = format!("{error:#}");
            self.watched.turned();
            if reason != said {
                self.output.progress(&format!("{reason}; trying again until it answers"));
                self.watched.store(Err(reason.clone()));
                said = reason;
            }
            tokio::select! {
                () = signals.recv() => return Ok(None),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(Duration::from_secs(30));
        }
    }
}

fn load(home: &Home) -> Result<Config> {
    config::load(&home.config()).map_err(crate::commands::config_error)
}

/// One `up` at a time for each home; the kernel frees the lock with the process.
async fn take_lock(home: &Home) -> Result<File> {
    let path = home.lock();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            // A command that only asks whether somebody runs holds it for a moment.
            Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(LOCK_EVERY).await,
            Err(error) => return Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }
    bail!("another `chiffon up` is running for {}", home.folder().display())
}

/// Whether an `up` is running for a home.
pub fn is_running(home: &Home) -> bool {
    let Ok(file) = File::options().write(true).open(home.lock()) else { return false };
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

/// The loop's state.
struct Loop<'a> {
    driver: &'a mut Driver,
    store: Arc<dyn Store>,
    hub: Arc<dyn Hub>,
    home: &'a Home,
    environment: &'a Environment,
    /// What is wrong with the bus, and each change of that.
    trouble: watch::Receiver<Option<String>>,
    /// The agent inside this process, where there is one.
    embedded: Option<&'a Embedded>,
    /// Until when agents on a broker may take to be heard before nothing more is expected of them.
    agents_due: Option<Instant>,
    output: &'a Output,
    reporter: report::Reporter,
    stop: Stop,
    last_error: Option<String>,
    troubles: BTreeMap<Name, String>,
    unread: Vec<(String, String)>,
    exit: Exit,
    fetching: Fetching,
    /// Talks to the forge.
    forging: Option<Worker>,
    ears: Ears,
    intake: Intake,
    leader: Leader,
    watched: &'a Watched,
}

/// What woke the loop.
enum News {
    /// Something that is decided on: look.
    Look,
    /// A person asked to stop.
    Stop,
}

impl Loop<'_> {
    async fn run(&mut self, options: &Options, signals: &mut Signals) -> Result<()> {
        let (wake, mut woken) = mpsc::channel::<()>(1);
        let _watcher = watch_files(self.home, wake)?;
        self.wait_for_agents(options).await?;
        self.fetching.begin(self.driver);
        let mut look_again = None;
        let mut said_ready = false;
        loop {
            let news = self.news(&mut woken, signals, look_again).await?;
            if matches!(news, News::Stop) && self.may_leave().await {
                return Ok(());
            }
            if !self.driver.has_fetched() {
                continue;
            }
            look_again = self.tick().await?;
            let works = self.last_error.is_none() && self.intake.trouble().is_none();
            if !options.once && works && !std::mem::replace(&mut said_ready, true) {
                self.reporter.ready();
            }
            if self.is_over(options).await? {
                self.look_for_parked().await;
                return Ok(());
            }
        }
    }

    /// Says what was put aside since the last tick that looked: in this process it would be lost with it.
    async fn look_for_parked(&mut self) {
        match self.driver.collect_parked().await {
            Ok(parked) => self.say_parked(&parked),
            Err(error) => self.complain(&error),
        }
    }

    fn say_parked(&self, parked: &[NewParked]) {
        for NewParked { agent, reason, .. } in parked {
            let head = format!("a message of the bus was put aside ({agent}): {reason}");
            self.output.failure(&format!("{head}; `chiffon parked` shows them all"), &[]);
        }
    }

    /// Waits until there is something to look at. A line of a log or a heartbeat changes nothing that is decided on:
    /// only what does is worth a tick.
    async fn news(
        &mut self,
        woken: &mut mpsc::Receiver<()>,
        signals: &mut Signals,
        look_again: Option<Timestamp>,
    ) -> Result<News> {
        let store = Arc::clone(&self.store);
        loop {
            let patience = self.driver.config().policy.agent_silence_secs;
            if self.ears.were_shut(Duration::from_secs(patience.into())) {
                self.driver.was_deaf();
            }
            self.watched.turned();
            let due = self.fetching.due(look_again.map(until));
            let due = self.agents_due.filter(|at| *at > Instant::now()).map_or(due, |at| at.min(due));
            let heard = tokio::select! {
                biased;
                () = signals.recv() => { self.asked_to_stop().await; Some(News::Stop) }
                () = self.leader.due() => { self.lead().await?; None }
                message = self.intake.next(&*self.hub) => self.take(message).await?.then_some(News::Look),
                why = agent::death(self.embedded) => bail!("the embedded agent has ended: {why}"),
                fetched = self.fetching.done() => { self.fetched(fetched).await; Some(News::Look) }
                said = said_by(&mut self.forging) => match said {
                    Some(said) => self.forge_said(said).await.then_some(News::Look),
                    None => bail!("what talks to the forge has ended: look into the log"),
                },
                Ok(()) = self.trouble.changed() => { self.say_bus(); Some(News::Look) }
                () = store.woken() => Some(News::Look),
                _ = woken.recv() => { self.reload(); self.fetching.begin(self.driver); None }
                () = tokio::time::sleep_until(due) => self.on_time(due).await,
            };
            if self.ears.slept() {
                self.driver.was_deaf();
            }
            if let Some(news) = heard {
                return Ok(news);
            }
        }
    }

    /// Goes on leading; ends where another one leads by now.
    async fn lead(&mut self) -> Result<()> {
        match self.leader.renew().await {
            Ok(Leading::Ours) => {
                self.watched.looped(Turn::Lease);
                self.watched.queues(&self.hub);
                Ok(())
            }
            Ok(Leading::Theirs(name)) => bail!("another reconciler has taken over: {name}"),
            Err(chiffon_store::Error::Deposed) => bail!("another reconciler had taken over in the meantime"),
            // Not renewed, it lasts a while yet; whatever is changed after that is refused.
            Err(error) => {
                self.complain(&error.into());
                Ok(())
            }
        }
    }

    /// The time for a look has come, or for a fetch, which brings a look with it.
    async fn on_time(&mut self, due: Instant) -> Option<News> {
        if self.fetching.is_slow(due) {
            self.output.progress("the infra repository takes long to answer; what is known of it counts until then");
            if let Err(error) = self.driver.go_on_without_fetch().await {
                self.complain(&error);
            }
            return Some(News::Look);
        }
        if self.fetching.is_due() {
            self.fetching.begin(self.driver);
            return None;
        }
        Some(News::Look)
    }

    async fn fetched(&mut self, fetched: Fetched) {
        let poll = Duration::from_secs(u64::from(self.driver.config().spec.poll_secs));
        if let Err(error) = self.driver.fetched(fetched).await {
            self.complain(&error);
        }
        self.watched.looped(Turn::Fetch);
        self.fetching.ended(poll, self.driver);
    }

    /// The embedded agent settles its journal first. Agents elsewhere are heard when they are heard; who wants all to be
    /// done in one go needs the broker, and gives them the time of a heartbeat.
    async fn wait_for_agents(&mut self, options: &Options) -> Result<()> {
        self.watched.bus(self.trouble.borrow().clone());
        if self.embedded.is_some() {
            return tokio::select! {
                biased;
                message = self.hub.receive() => self.take(message).await.map(drop),
                why = agent::death(self.embedded) => bail!("the embedded agent has ended: {why}"),
                () = tokio::time::sleep(HELLO_TIMEOUT) => {
                    bail!("the embedded agent did not start in {} s", HELLO_TIMEOUT.as_secs())
                }
            };
        }
        if options.once {
            let working = self.trouble.wait_for(Option::is_none);
            if tokio::time::timeout(HELLO_TIMEOUT, working).await.is_err() {
                let reason = self.trouble.borrow().clone().unwrap_or_default();
                bail!("the bus does not work: {reason}");
            }
            self.agents_due = Some(Instant::now() + AGENTS_DUE);
        }
        Ok(())
    }

    /// Says of the bus once what is wrong with it, and when that is over.
    fn say_bus(&mut self) {
        let trouble = self.trouble.borrow_and_update().clone();
        self.watched.bus(trouble.clone());
        match trouble {
            Some(reason) => self.output.failure(&reason, &[]),
            None => {
                self.driver.was_deaf();
                self.output.progress("the bus works");
            }
        }
    }

    async fn tick(&mut self) -> Result<Option<Timestamp>> {
        let began = Instant::now();
        // While nothing comes over the bus, or is taken in from it, nobody is silent.
        if self.trouble.borrow().is_some() || self.intake.trouble().is_some() {
            self.driver.was_deaf();
        }
        match self.driver.tick().await {
            Ok(tick) => {
                self.watched.ticked(began, &tick, self.driver.infra_trouble(), self.intake.trouble());
                self.last_error = None;
                // What could not be taken in lies on the bus still: whoever stops now loses nothing.
                self.exit = Exit::Done;
                self.say_troubles(tick.troubles);
                self.say_parked(&tick.parked);
                match self.show().await {
                    Ok(()) => Ok(tick.look_again),
                    Err(error) => Ok(self.look_soon(&error)),
                }
            }
            Err(crate::driver::Error::Store(chiffon_store::Error::Deposed)) => {
                bail!("another reconciler has taken over: this one changes nothing any more")
            }
            Err(error) => Ok(self.look_soon(&error)),
        }
    }

    /// Shows what is so by now.
    async fn show(&mut self) -> Result<(), crate::driver::Error> {
        let states = self.driver.states().await?;
        self.watched.states(states);
        self.reporter.states(states);
        self.unread = self.driver.refused_files().await?;
        self.reporter.files(&self.unread);
        Ok(())
    }

    /// Says what failed; when to look again.
    fn look_soon(&mut self, error: &crate::driver::Error) -> Option<Timestamp> {
        self.complain(error);
        Some(environment::now().plus_secs(5))
    }

    /// Says of each request once what is in its way.
    fn say_troubles(&mut self, troubles: BTreeMap<Name, String>) {
        for (name, trouble) in &troubles {
            if self.troubles.get(name) != Some(trouble) {
                self.output.failure(&format!("{name}: {trouble}"), &[]);
            }
        }
        self.troubles = troubles;
    }

    /// Says each error once, not at every tick.
    fn complain(&mut self, error: &crate::driver::Error) {
        self.watched.failed(error);
        let text = crate::commands::chain(error);
        if self.last_error.as_ref() != Some(&text) {
            self.output.failure(&text, &[]);
        }
        self.last_error = Some(text);
        self.exit = Exit::Error;
    }

    fn reload(&mut self) {
        match config::load(&self.home.config()) {
            Ok(config) if config.digest != self.driver.config().digest => {
                let (config, kept) = config.keeping_fixed(self.driver.config());
                self.output.progress("chiffon.yaml was read again");
                if !kept.is_empty() {
                    self.output.progress(&format!("{} in it counts from the next start on", kept.join(", ")));
                }
                if let Some(embedded) = self.embedded {
                    embedded.ansible.reconfigure(ansible_config(self.home, &config, self.environment));
                }
                self.driver.reconfigure(config);
            }
            Ok(_) => {}
            Err(error) => {
                let error = crate::commands::config_error(error);
                self.output.progress(&format!("chiffon.yaml is left as it was: {error}"));
            }
        }
    }
}

fn until(at: Timestamp) -> Instant {
    let secs = at.secs() - environment::now().secs();
    Instant::now() + Duration::from_secs(u64::try_from(secs).unwrap_or(0).min(86_400))
}

/// Watches the wake file and the configuration. Where the kernel can't, polling alone is enough.
fn watch_files(home: &Home, wake: mpsc::Sender<()>) -> Result<Option<notify::RecommendedWatcher>> {
    let config = home.config();
    let wake_file = home.wake();
    let handler = move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        let ours = event.paths.iter().any(|path| path.ends_with("wake") || path.ends_with("chiffon.yaml"));
        let reads = matches!(
            event.kind,
            notify::EventKind::Access(notify::event::AccessKind::Open(_) | notify::event::AccessKind::Read)
        );
        if ours && !reads {
            // One waiting wake-up is enough: it says "look", not what for.
            let _ = wake.try_send(());
        }
    };
    let mut watcher = match notify::recommended_watcher(handler) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "files can't be watched; polling alone");
            return Ok(None);
        }
    };
    for folder in [wake_file.parent(), config.parent()].into_iter().flatten() {
        if let Err(error) = watcher.watch(folder, notify::RecursiveMode::NonRecursive) {
            tracing::warn!(%error, "files can't be watched; polling alone");
        }
    }
    Ok(Some(watcher))
}
