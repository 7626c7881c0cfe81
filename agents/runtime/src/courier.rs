//! Carries one attempt's reports to the reconciler, in order, again and again until they are stored.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use chiffon_link::Link;
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{AgentMessage, AttemptKey, BootId, Fence, FromAgent, Name, Outcome, Report, ReportBody};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::Settings;
use crate::spool::{FIRST_SEQ, Spool, SpoolReader};

/// Stands for a piece of the log that is damaged. It is the first piece, or looks like a repeat of it, which changes nothing.
const MISSING_CHUNK: u64 = 0;

/// After so many tries in a row to read it, a report is as good as gone.
const MOST_FAILURES: u32 = 10;

/// The last report of an attempt, once there is one.
#[derive(Debug, Clone)]
pub(crate) struct Last {
    pub seq: u64,
    pub outcome: Box<Outcome>,
}

/// Who speaks, and how patiently.
#[derive(Clone)]
pub(crate) struct Voice {
    pub link: Arc<dyn Link>,
    pub agent: Name,
    /// The life that speaks.
    boot: Arc<RwLock<BootId>>,
    uptime: fn() -> Duration,
    /// When the bus last took something, by that clock; and the longest that it took nothing since somebody asked.
    heard: Arc<Mutex<Heard>>,
    /// How long to wait after the link took nothing.
    pub retry: Duration,
    /// How long to wait for a confirmation before reports are sent again.
    pub replay_after: Duration,
}

/// When an agent was heard.
struct Heard {
    last: Duration,
    longest: Duration,
}

impl Voice {
    /// The voice of a life that begins.
    pub fn new(link: Arc<dyn Link>, settings: &Settings) -> Self {
        let heard = Heard { last: (settings.uptime)(), longest: Duration::ZERO };
        Self {
            link,
            agent: settings.agent.clone(),
            boot: Arc::new(RwLock::new(settings.boot.clone())),
            uptime: settings.uptime,
            heard: Arc::new(Mutex::new(heard)),
            retry: settings.retry,
            replay_after: settings.replay_after,
        }
    }

    /// Speaks as another life from now on.
    pub fn live_as(&self, boot: &BootId) {
        *self.boot.write().unwrap_or_else(PoisonError::into_inner) = boot.clone();
    }

    /// Whether the bus took nothing for longer than this at some time since it was asked last.
    pub fn was_unheard(&self, limit: Duration) -> bool {
        let now = (self.uptime)();
        let mut heard = self.heard();
        let longest = heard.longest.max(now.saturating_sub(heard.last));
        // What is silent still is a new silence from now on.
        (heard.longest, heard.last) = (Duration::ZERO, if longest > limit { now } else { heard.last });
        longest > limit
    }

    fn was_heard(&self) {
        let now = (self.uptime)();
        let mut heard = self.heard();
        heard.longest = heard.longest.max(now.saturating_sub(heard.last));
        heard.last = now;
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends until the link takes it. What the link can never take is dropped with a line in the log.
    pub async fn say(&self, message: AgentMessage) {
        let boot = self.boot.read().unwrap_or_else(PoisonError::into_inner).clone();
        let message = FromAgent { agent: self.agent.clone(), boot, message };
        while let Err(error) = self.link.send(&message).await {
            if matches!(
                error,
                chiffon_link::Error::Oversized { .. }
                    | chiffon_link::Error::Encode(_)
                    | chiffon_link::Error::Foreign { .. }
            ) {
                tracing::error!(%error, "a message can't be sent and is dropped");
                return;
            }
            tracing::debug!(%error, "the link took nothing; trying again");
            tokio::time::sleep(self.retry).await;
        }
        self.was_heard();
    }
}

/// What the agent tells a courier.
#[derive(Debug)]
pub(crate) struct Orders {
    /// Reports up to this number are stored.
    pub confirmed: watch::Sender<u64>,
    /// The last report.
    pub last: watch::Sender<Option<Last>>,
    /// The reconciler seems not to know: say everything that is not confirmed again, and the end in any case.
    pub again: Arc<Notify>,
}

/// One attempt's reports.
pub(crate) struct Courier {
    voice: Voice,
    key: AttemptKey,
    fence: Fence,
    /// Absent where the attempt never started: then there is only its end.
    spool: Option<Arc<Spool>>,
    confirmed: watch::Receiver<u64>,
    last: watch::Receiver<Option<Last>>,
    again: Arc<Notify>,
    next: u64,
    /// The next report is said although it is confirmed.
    repeat: bool,
    reader: Option<SpoolReader>,
    /// A report was left out.
    damaged: bool,
    /// How often in a row the spool could not be read.
    failures: u32,
}

impl Courier {
    /// A courier, and how to tell it things.
    pub fn new(
        voice: Voice,
        key: AttemptKey,
        fence: Fence,
        spool: Option<Arc<Spool>>,
        confirmed: u64,
        last: Option<Last>,
    ) -> (Self, Orders) {
        let orders =
            Orders { confirmed: watch::Sender::new(confirmed), last: watch::Sender::new(last), again: Arc::default() };
        let courier = Self {
            voice,
            key,
            fence,
            spool,
            confirmed: orders.confirmed.subscribe(),
            last: orders.last.subscribe(),
            again: Arc::clone(&orders.again),
            next: confirmed + 1,
            repeat: false,
            reader: None,
            damaged: false,
            failures: 0,
        };
        (courier, orders)
    }

    /// Carries until told no more, which is when its [`Orders`] are dropped.
    pub async fn run(mut self) {
        let mut appended = self.spool.as_ref().map(|spool| spool.watch());
        let mut replay_at = Instant::now() + self.voice.replay_after;
        loop {
            let (seen, next) = (*self.confirmed.borrow_and_update(), self.next);
            self.last.borrow_and_update();
            if let Some(appended) = &mut appended {
                appended.borrow_and_update();
            }
            if seen >= next && !self.repeat {
                self.rewind(seen + 1);
            }
            let body = match self.body() {
                Ok(body) => body,
                // Short of file descriptors, perhaps; it is read again.
                Err(error) => {
                    tracing::error!(attempt = %self.key, seq = self.next, %error, "the waiting reports can't be read");
                    self.failures += 1;
                    tokio::time::sleep(self.voice.retry).await;
                    if self.confirmed.has_changed().is_err() {
                        return;
                    }
                    continue;
                }
            };
            if let Some(body) = body {
                let is_end = matches!(body, ReportBody::Over(_));
                let report = Report { key: self.key.clone(), fence: self.fence, seq: self.next, body };
                self.voice.say(AgentMessage::Report(report)).await;
                if is_end {
                    crash_point("agent-reported-end");
                }
                self.next += 1;
                self.repeat = false;
                replay_at = Instant::now() + self.voice.replay_after;
                continue;
            }
            let waits = self.next > seen + 1;
            tokio::select! {
                changed = self.confirmed.changed() => match changed {
                    Ok(()) => replay_at = Instant::now() + self.voice.replay_after,
                    Err(_) => return,
                },
                Ok(()) = self.last.changed() => {}
                () = appended_more(&mut appended) => {}
                () = self.again.notified() => self.say_again(),
                () = tokio::time::sleep_until(replay_at), if waits => {
                    self.rewind(seen + 1);
                    replay_at = Instant::now() + self.voice.replay_after;
                }
            }
        }
    }

    /// From the first that is not confirmed; where all are, at least the end.
    fn say_again(&mut self) {
        let confirmed = *self.confirmed.borrow();
        self.repeat = true;
        let last = self.last.borrow().as_ref().map_or(u64::MAX, |last| last.seq);
        self.rewind((confirmed + 1).min(last));
    }

    fn rewind(&mut self, seq: u64) {
        self.next = seq;
        self.reader = None;
    }

    /// What the next report says, if there is one.
    fn body(&mut self) -> std::io::Result<Option<ReportBody>> {
        let last = self.last.borrow().as_ref().map(|last| last.seq);
        if let Some(last) = self.last.borrow().as_ref().filter(|last| last.seq == self.next) {
            let mut outcome = last.outcome.clone();
            outcome.log.incomplete |= self.damaged;
            return Ok(Some(ReportBody::Over(outcome)));
        }
        // The end, which is in the journal, is counted after reports that are gone.
        let ends_later = last.is_some_and(|last| self.next < last);
        if self.next < FIRST_SEQ {
            return Ok((self.spool.is_some() || ends_later).then_some(ReportBody::Started {}));
        }
        let Some(spool) = self.spool.as_ref().filter(|spool| self.next < spool.next_seq()) else {
            return Ok(ends_later.then(|| self.missing()));
        };
        let reader = self.reader.take().map_or_else(|| spool.reader(self.next), Ok);
        match reader.and_then(|mut reader| Ok((reader.next()?, reader))) {
            Ok((body, reader)) => {
                self.failures = 0;
                self.reader = Some(reader).filter(|_| body.is_some());
                Ok(body.or_else(|| Some(self.missing())))
            }
            // Those after it are tried once each, until one can be read again.
            Err(error) if self.failures >= MOST_FAILURES => {
                tracing::error!(attempt = %self.key, seq = self.next, %error, "a waiting report can't be read");
                Ok(Some(self.missing()))
            }
            Err(error) => Err(error),
        }
    }

    /// In the place of a report that is damaged or gone: the end has to come after something, and says that the log is not
    /// whole.
    fn missing(&mut self) -> ReportBody {
        tracing::error!(attempt = %self.key, seq = self.next, "a waiting report is damaged or gone, and left out");
        self.damaged = true;
        ReportBody::Log { chunk: MISSING_CHUNK, text: String::new() }
    }
}

async fn appended_more(appended: &mut Option<watch::Receiver<u64>>) {
    if let Some(appended) = appended
        && appended.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
