//! One running attempt: the work, and the pump that takes what it writes to the spool.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chiffon_schemas::{AgentMessage, AttemptKey, LogDigest, Order, Outcome, ReportBody, Verdict};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::spool::Spool;
use crate::work::{LogChunk, Progress};
use crate::{Ending, LogSink, Marker, ProgressSink, RunContext, Work, end_orphans, journal};

/// Chunks between the work and the spool: 512 KiB at most.
const LOG_BUFFER: usize = 8;

/// Lines of progress between the work and the link; more at once than anybody can watch.
const PROGRESS_BUFFER: usize = 256;

/// The largest outcome in bytes of JSON: half of what the link carries in one message.
const MAX_OUTCOME_BYTES: usize = 512 * 1024;

/// What an attempt needs to run.
pub(crate) struct Attempt {
    pub work: Arc<dyn Work>,
    pub order: Box<Order>,
    pub marker: Marker,
    pub spool: Arc<Spool>,
    pub spool_bytes: u64,
    pub work_folder: PathBuf,
    pub cancel: watch::Receiver<bool>,
    pub grace: Duration,
    /// What it says while it goes on, to whoever watches.
    pub mouth: mpsc::Sender<AgentMessage>,
}

impl Attempt {
    /// Does the work to its end; whatever goes wrong in it, there is an outcome.
    pub async fn run(self) -> Outcome {
        if let Err(error) = journal::make_folder(&self.work_folder) {
            let reason = format!("the work folder could not be made: {error}");
            return unstarted(Verdict::Failed, reason, &*self.work);
        }
        let (log, chunks) = LogSink::channel(LOG_BUFFER);
        let (progress, tasks) = ProgressSink::channel(PROGRESS_BUFFER);
        let (stop, stopped) = oneshot::channel();
        let room = Room { spool: Arc::clone(&self.spool), limit: self.spool_bytes, cancel: self.cancel.clone() };
        let pump = tokio::spawn(pump(room, chunks, stopped));
        tokio::spawn(show(self.order.key.clone(), tasks, self.mouth.clone()));
        let run = RunContext {
            marker: self.marker.clone(),
            log: log.clone(),
            progress,
            cancel: self.cancel.clone(),
            work_folder: self.work_folder.clone(),
        };
        let (work, order) = (Arc::clone(&self.work), self.order.clone());
        // A task of its own, so that a panic in the work is an outcome and not the end of the agent; in a set, so
        // that it ends with this future.
        let mut task = JoinSet::new();
        task.spawn(async move { work.run(&order, run).await });
        let ran = task.join_next().await;
        let _ = stop.send(());
        let kept = pump.await.unwrap_or(false);
        let mut outcome = match ran {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) | None => self.after_panic().await,
        };
        let digest = log.digest();
        outcome.log = LogDigest { incomplete: digest.incomplete || outcome.log.incomplete || !kept, ..digest };
        if let Err(error) = tokio::fs::remove_dir_all(&self.work_folder).await {
            tracing::warn!(folder = %self.work_folder.display(), %error, "a work folder could not be removed");
        }
        fit(outcome)
    }

    async fn after_panic(&self) -> Outcome {
        let reason = "the agent's own code failed while it ran the attempt";
        let (verdict, reason) = match end_orphans(&self.marker, self.grace).await {
            Ending::Verified { .. } => (Verdict::Failed, reason.to_owned()),
            Ending::Survivors(left) => (Verdict::Lost, format!("{reason}, and {} processes are left", left.len())),
        };
        unstarted(verdict, reason, &*self.work)
    }
}

/// The bound on what waits to be confirmed.
struct Room {
    spool: Arc<Spool>,
    limit: u64,
    cancel: watch::Receiver<bool>,
}

impl Room {
    /// A link that is away for long must hold the work back rather than fill the disk. Not when it is cancelled:
    /// what then still comes is bounded by the end of its processes, and must not delay that.
    async fn wait(&mut self) {
        tokio::select! {
            () = self.spool.wait_for_room(self.limit) => {}
            Ok(_) = self.cancel.wait_for(|cancelled| *cancelled) => {}
        }
    }
}

/// Says which tasks ended, for as long as the work can. Where the link takes nothing it is dropped: the log has it all.
async fn show(key: AttemptKey, mut tasks: mpsc::Receiver<Progress>, mouth: mpsc::Sender<AgentMessage>) {
    while let Some(Progress { host, task, status }) = tasks.recv().await {
        // What is more important, heartbeats above all, finds room at any time.
        if mouth.capacity() > mouth.max_capacity() / 4 * 3 {
            let _ = mouth.try_send(AgentMessage::Progress { key: key.clone(), host, task, status });
        }
    }
}

/// Takes chunks to the spool until told to stop, and then what still waits; whether all of it was kept.
async fn pump(mut room: Room, mut chunks: mpsc::Receiver<LogChunk>, mut stopped: oneshot::Receiver<()>) -> bool {
    let (mut kept, mut stopping) = (true, false);
    loop {
        let body = tokio::select! {
            biased;
            Some(LogChunk { chunk, text }) = chunks.recv() => ReportBody::Log { chunk, text },
            _ = &mut stopped, if !stopping => {
                // Closed for writers that outlive the work; what was written before is still there.
                stopping = true;
                chunks.close();
                continue;
            }
            else => return kept,
        };
        if !stopping {
            tokio::select! {
                () = room.wait() => {}
                _ = &mut stopped => {
                    stopping = true;
                    chunks.close();
                }
            }
        }
        kept &= room.spool.append(body);
    }
}

/// The outcome of an attempt without a process of its own.
pub(crate) fn unstarted(verdict: Verdict, reason: String, work: &dyn Work) -> Outcome {
    Outcome {
        verdict,
        reason: Some(reason),
        exit_code: None,
        recap: Default::default(),
        changed: Vec::new(),
        failure: None,
        finished: Vec::new(),
        interrupted: Vec::new(),
        duration_ms: 0,
        usage: None,
        log: LogSink::channel(1).0.digest(),
        ansible_core: work.ansible_core(),
        suggestions: Vec::new(),
    }
}

/// Cuts an outcome that no message could carry down to its verdict and what is bounded.
fn fit(mut outcome: Outcome) -> Outcome {
    let size = |outcome: &Outcome| serde_json::to_vec(outcome).map_or(usize::MAX, |json| json.len());
    if size(&outcome) <= MAX_OUTCOME_BYTES {
        return outcome;
    }
    outcome.changed.clear();
    outcome.suggestions =
        vec!["The lists of this outcome were too long and were left out; the log has them.".to_owned()];
    if let Some(failure) = &mut outcome.failure {
        failure.done.clear();
        failure.not_started.truncate(100);
    }
    if size(&outcome) > MAX_OUTCOME_BYTES {
        outcome.failure = None;
        outcome.recap.clear();
        outcome.interrupted.truncate(1000);
        outcome.reason = outcome.reason.map(|reason| reason.chars().take(1000).collect());
    }
    outcome
}

/// The folder of all work folders.
pub(crate) const WORK: &str = "work";

/// Where an attempt works.
pub(crate) fn work_folder(folder: &std::path::Path, key: &AttemptKey, fence: chiffon_schemas::Fence) -> PathBuf {
    folder.join(WORK).join(format!("{}-{}-{}-{fence}", key.run, key.step, key.attempt))
}
