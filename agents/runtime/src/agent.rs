//! The agent: settles what an earlier life left, then claims, runs and reports until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chiffon_link::{Delivery, Link};
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{
    AgentMessage, AttemptKey, BootId, Hello, Name, Outcome, Recorder, Settled, ToAgent, Unreported, Verdict,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::attempt::{WORK, unstarted, work_folder};
use crate::courier::{Last, Voice};
use crate::desk::{Desk, Event};
use crate::journal::{Clean, Durability, Entry, Journal, Record, Stage};
use crate::spool::{self, Spool};
use crate::{Ending, Error, Marker, Work, end_orphans};

/// How long a stopping agent waits for its last reports to be stored. What is not stored by then stays in the
/// journal and is replayed by the next life.
const FAREWELL: Duration = Duration::from_secs(5);

/// How an agent behaves; all of it comes from the caller.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub agent: Name,
    /// This life of it.
    pub boot: BootId,
    /// The folder of its journal, its waiting reports and its work; this agent's alone.
    pub journal: PathBuf,
    /// How often it says that it lives.
    pub heartbeat: Duration,
    /// How long it waits before it tries a link again that took nothing.
    pub retry: Duration,
    /// How long it waits for reports to be confirmed before it sends them again.
    pub replay_after: Duration,
    /// How many attempts run at once.
    pub parallel: usize,
    /// How long orphans of an earlier life get to end themselves.
    pub grace: Duration,
    /// How many bytes of reports one attempt may have waiting; beyond that its output is held back.
    pub spool_bytes: u64,
    /// Where spans of its attempts go.
    pub recorder: Recorder,
    /// A clock that goes on while the machine sleeps.
    pub uptime: fn() -> Duration,
}

impl Settings {
    /// The usual values: a heartbeat each 10 s, replays after 30 s, four attempts at once, 20 s of grace, 256 MiB.
    pub fn new(agent: Name, boot: BootId, journal: PathBuf) -> Self {
        Self {
            agent,
            boot,
            journal,
            heartbeat: Duration::from_secs(10),
            retry: Duration::from_secs(1),
            replay_after: Duration::from_secs(30),
            parallel: 4,
            grace: Duration::from_secs(20),
            spool_bytes: 256 * 1024 * 1024,
            recorder: Recorder::nobody(),
            uptime: crate::uptime,
        }
    }
}

/// What an agent is to do about its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Nobody asked for it.
    No,
    /// Begin nothing new, and end when what runs has ended.
    Finish,
    /// Cancel what runs, verify, and end.
    Cancel,
}

/// One life of an agent.
pub struct Agent {
    settings: Settings,
    link: Arc<dyn Link>,
    work: Arc<dyn Work>,
}

impl Agent {
    /// An agent that is about to live.
    pub fn new(settings: Settings, link: Arc<dyn Link>, work: Arc<dyn Work>) -> Self {
        Self { settings, link, work }
    }

    /// Lives until `shutdown` says otherwise; where its sender is gone, as after [`Shutdown::Cancel`]. What is ordered and
    /// not begun by then waits in the journal for the next life.
    ///
    /// # Errors
    /// The journal can't be used any more, or the link ended for good. What ran was cancelled and verified then too.
    pub async fn run(self, mut shutdown: watch::Receiver<Shutdown>) -> Result<(), Error> {
        let Self { settings, link, work } = self;
        let voice = Voice::new(Arc::clone(&link), &settings);
        let (sender, mut events) = mpsc::channel(64);
        let heartbeat = settings.heartbeat;
        let journal = Journal::open(&settings.journal)?;
        let mut desk = Desk::new(settings, journal, work, voice.clone(), sender);
        let hello = settle(&mut desk).await?;
        tokio::select! {
            () = voice.say(AgentMessage::Hello(hello.clone())) => {}
            // Nothing runs yet.
            _ = told(&mut shutdown, Shutdown::No) => return Ok(()),
        }
        crash_point("agent-said-hello");
        desk.resume(hello).await?;
        let result = live(&mut desk, &*link, &mut events, heartbeat, &mut shutdown).await;
        let farewell = desk.farewell(&*link, &mut events, FAREWELL).await;
        result.and(farewell)
    }
}

async fn live(
    desk: &mut Desk,
    link: &dyn Link,
    events: &mut mpsc::Receiver<Event>,
    heartbeat: Duration,
    shutdown: &mut watch::Receiver<Shutdown>,
) -> Result<(), Error> {
    let mut stop = Shutdown::No;
    let mut beat = tokio::time::interval_at(Instant::now() + heartbeat, heartbeat);
    // After a stall one heartbeat says all that many would.
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop == Shutdown::No || desk.is_at_work() {
        tokio::select! {
            told = told(shutdown, stop) => {
                stop = told;
                match stop {
                    Shutdown::No => {}
                    Shutdown::Finish => desk.wind_down(),
                    Shutdown::Cancel => return Ok(()),
                }
            }
            Some(event) = events.recv() => {
                // The end of one starts the next, which may have been granted before a long sleep.
                desk.rouse()?;
                desk.event(event).await?;
            }
            delivery = link.receive() => hear(desk, delivery.map_err(Error::Link)?).await?,
            _ = beat.tick() => desk.beat(),
        }
    }
    Ok(())
}

/// Waits until the agent is told something else than it knows, or nobody is left who could.
async fn told(shutdown: &mut watch::Receiver<Shutdown>, known: Shutdown) -> Shutdown {
    shutdown.wait_for(|stop| *stop != known).await.map_or(Shutdown::Cancel, |stop| *stop)
}

/// Handles a message and only then acknowledges it: what must outlive a crash is in the journal by then.
async fn hear(desk: &mut Desk, delivery: Delivery<ToAgent>) -> Result<(), Error> {
    let order = matches!(delivery.message, ToAgent::Order(_));
    // Before anything that waited for it meanwhile is believed.
    desk.rouse()?;
    desk.message(delivery.message.clone(), delivery.trace).await?;
    if let Err(error) = delivery.ack().await {
        tracing::debug!(%error, "an acknowledgement was not heard; the message comes again");
    }
    if order {
        crash_point("agent-acknowledged-order");
    }
    Ok(())
}

/// Ends what earlier lives left, and says what the journal knows.
async fn settle(desk: &mut Desk) -> Result<Hello, Error> {
    let mut settled = Vec::new();
    let (mut ended, mut in_use) = (Vec::new(), Vec::new());
    for (key, record) in desk.records() {
        let (fence, started, clean) = match &record.stage {
            Stage::Ordered | Stage::Claimed => (None, false, Clean::Verified),
            Stage::Granted { fence, .. } => (Some(*fence), false, Clean::Verified),
            Stage::Over { settled: None, fence, .. } => {
                let fence = *fence;
                ended.push(Unreported { key, fence });
                continue;
            }
            Stage::Started { fence } | Stage::Over { fence, .. } => {
                (Some(*fence), true, settle_started(desk, &key, &record, *fence).await?)
            }
        };
        if let (Some(fence), Clean::No) = (fence, &clean) {
            in_use.push(work_folder(desk.folder(), &key, fence));
        }
        settled.push(Settled { key, fence, started, clean: clean == Clean::Verified });
    }
    clear_work(desk.folder(), &in_use);
    let (kind, ansible_core) = desk.ability();
    Ok(Hello { kind, ansible_core, settled, ended })
}

/// Removes what attempts of earlier lives left in their work folders: a checkout, and files that may hold secrets.
/// Nothing runs yet but what could not be ended, whose folders stay.
fn clear_work(folder: &std::path::Path, in_use: &[std::path::PathBuf]) {
    let Ok(entries) = std::fs::read_dir(folder.join(WORK)) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| !in_use.contains(path)) {
        match std::fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!(folder = %path.display(), "removed what an earlier life left"),
            Err(error) => tracing::warn!(folder = %path.display(), %error, "a work folder could not be removed"),
        }
    }
}

async fn settle_started(
    desk: &mut Desk,
    key: &AttemptKey,
    record: &Record,
    fence: chiffon_schemas::Fence,
) -> Result<Clean, Error> {
    let ending = end_orphans(&Marker::new(key, fence), desk.grace()).await;
    let (clean, what) = match &ending {
        Ending::Verified { leftover } if leftover.is_empty() => (Clean::Verified, "nothing of it was alive".to_owned()),
        Ending::Verified { leftover } => (Clean::Verified, format!("{} orphans of it were ended", leftover.len())),
        Ending::Survivors(left) => {
            let names: Vec<String> = left.iter().map(|one| format!("{} ({})", one.pid, one.command)).collect();
            (Clean::No, format!("these could not be ended: {}", names.join(", ")))
        }
    };
    tracing::warn!(attempt = %key, what, "an earlier life of this agent stopped while the attempt ran");
    if matches!(record.stage, Stage::Started { .. }) {
        let (next, log) = match Spool::open(spool::path(desk.folder(), key, fence)) {
            Ok((spool, log)) => (spool.next_seq(), log),
            // The end counts all the same.
            Err(error) => {
                tracing::error!(attempt = %key, %error, "what it had to report is gone");
                (spool::FIRST_SEQ, chiffon_schemas::LogDigest::default())
            }
        };
        let mut outcome: Outcome =
            unstarted(Verdict::Lost, format!("the agent stopped while the attempt ran; {what}"), desk.work());
        outcome.log = chiffon_schemas::LogDigest { incomplete: true, ..log };
        let last = Last { seq: next.max(record.reported + 1), outcome: Box::new(outcome) };
        let entry =
            Entry::Over { key: key.clone(), seq: last.seq, outcome: last.outcome.clone(), settled: Some(clean) };
        desk.write(vec![entry], Durability::Synced).await?;
    }
    Ok(clean)
}
