//! The port between the agent's loop and the kind of work it does, and the sinks that work writes to.
//!
//! A kind of work knows nothing of the link or the journal: it checks an order, does it, and says how it ended. The
//! sinks here are bounded, so that a slow or dead link holds the work back instead of filling memory.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use chiffon_schemas::{AgentKind, AttemptKey, Fence, Host, LogDigest, Order, Outcome};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};

/// The largest chunk of a log, in bytes of UTF-8. Escaped as JSON it is at most six times that, which fits the
/// link's limit on one message.
pub const MAX_CHUNK_BYTES: usize = 64 * 1024;

/// What an agent can do with an order.
#[async_trait::async_trait]
pub trait Work: Send + Sync + 'static {
    /// The kind of agent that does this work.
    fn kind(&self) -> AgentKind;

    /// The full version of ansible-core, asked once at start; `None` where the work has none.
    fn ansible_core(&self) -> Option<String>;

    /// Checks the order against git and the agent's configuration.
    ///
    /// # Errors
    /// The reason for which the order is declined, in words.
    async fn check(&self, order: &Order) -> Result<(), String>;

    /// Does it. Never returns before every process of the attempt is gone or its survivors are named.
    ///
    /// The agent overwrites the digest of the outcome's log with what `run.log` counted, and keeps `incomplete`.
    async fn run(&self, order: &Order, run: RunContext) -> Outcome;
}

/// What one attempt may use while it runs.
#[derive(Debug)]
pub struct RunContext {
    /// Goes into the environment of every process of the attempt.
    pub marker: Marker,
    /// Where the log goes.
    pub log: LogSink,
    /// Where progress goes.
    pub progress: ProgressSink,
    /// Becomes `true` when the attempt is to stop. A closed channel means that nobody will ever cancel.
    pub cancel: watch::Receiver<bool>,
    /// A folder of this attempt alone; it exists, with mode 0700, and is removed when the attempt is over.
    pub work_folder: PathBuf,
}

impl RunContext {
    /// Waits until the attempt is to stop; for ever where nobody can say so any more.
    pub async fn cancelled(&mut self) {
        if self.cancel.wait_for(|cancel| *cancel).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The variable that marks every process of an attempt: `CHIFFON_ATTEMPT=<run>/<step>/<attempt>/<fence>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Marker {
    value: String,
}

impl Marker {
    /// The marker of an attempt under a fence.
    pub fn new(key: &AttemptKey, fence: Fence) -> Self {
        Self { value: format!("{key}/{fence}") }
    }

    /// The variable's name.
    pub fn env_name(&self) -> &'static str {
        "CHIFFON_ATTEMPT"
    }

    /// The variable's value.
    pub fn env_value(&self) -> &str {
        &self.value
    }

    /// Whether an environment, as `/proc/<pid>/environ` holds it, carries this marker.
    pub fn is_in(&self, environ: &[u8]) -> bool {
        self.values(environ).any(|value| value == self.value.as_bytes())
    }

    /// Whether an environment carries the marker of any attempt.
    pub(crate) fn is_named_in(&self, environ: &[u8]) -> bool {
        self.values(environ).next().is_some()
    }

    fn values<'a>(&self, environ: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let name = self.env_name();
        environ
            .split(|byte| *byte == 0)
            .filter_map(move |entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }
}

/// A numbered piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Its number, from 0 without gaps.
    pub chunk: u64,
    /// Its text, at most [`MAX_CHUNK_BYTES`].
    pub text: String,
}

/// A task that ended on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The host.
    pub host: Host,
    /// The task.
    pub task: String,
    /// ok, changed, failed, skipped, unreachable.
    pub status: String,
}

/// Where an attempt's log goes: numbers and digests chunks, and holds its writer back while the reader is behind.
#[derive(Debug, Clone)]
pub struct LogSink {
    sender: mpsc::Sender<LogChunk>,
    /// Held from numbering a chunk until it is sent, so that numbers arrive in order from several writers.
    turn: Arc<tokio::sync::Mutex<()>>,
    count: Arc<Mutex<Count>>,
}

#[derive(Debug, Default)]
struct Count {
    sha256: Sha256,
    bytes: u64,
    chunks: u64,
    incomplete: bool,
}

impl LogSink {
    /// A sink and what reads it; at most `capacity` chunks wait between the two.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<LogChunk>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender, turn: Arc::default(), count: Arc::default() }, receiver)
    }

    /// Appends text, which secrets were already removed from; waits while the reader is behind.
    ///
    /// Text is cut into chunks of at most [`MAX_CHUNK_BYTES`] between characters. Where nobody reads any more the
    /// text is dropped and the digest says `incomplete`.
    pub async fn write(&self, text: String) {
        let _turn = self.turn.lock().await;
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(MAX_CHUNK_BYTES));
            rest = after;
            let chunk = self.count().chunks;
            let sent = self.sender.send(LogChunk { chunk, text: piece.to_owned() }).await;
            let mut count = self.count();
            if sent.is_err() {
                count.incomplete = true;
                return;
            }
            count.sha256.update(piece.as_bytes());
            count.bytes += piece.len() as u64;
            count.chunks += 1;
        }
    }

    /// Notes that something of the log was cut or is missing.
    pub fn mark_incomplete(&self) {
        self.count().incomplete = true;
    }

    /// What was written so far.
    pub fn digest(&self) -> LogDigest {
        let count = self.count();
        LogDigest {
            sha256: hex(&count.sha256.clone().finalize()),
            bytes: count.bytes,
            chunks: count.chunks,
            incomplete: count.incomplete,
        }
    }

    fn count(&self) -> std::sync::MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where progress goes: lossy, since it is for people who watch and never for verdicts.
#[derive(Debug, Clone)]
pub struct ProgressSink {
    sender: mpsc::Sender<Progress>,
}

impl ProgressSink {
    /// A sink and what reads it; what exceeds `capacity` waiting entries is dropped.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<Progress>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender }, receiver)
    }

    /// Says that a task ended on a host; never blocks.
    pub fn task(&self, host: Host, task: String, status: String) {
        // Full or closed: the watcher misses one line, the log and the outcome still hold it.
        let _ = self.sender.try_send(Progress { host, task, status });
    }
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn big_text_is_cut_between_characters_and_numbered_without_gaps() {
        let (sink, mut reader) = LogSink::channel(64);
        let text = "é".repeat(MAX_CHUNK_BYTES);
        sink.write(format!("a{text}")).await;
        sink.write(String::new()).await;
        sink.write("end".to_owned()).await;
        let digest = sink.digest();
        drop(sink);
        let mut whole = String::new();
        let mut number = 0;
        while let Some(chunk) = reader.recv().await {
            assert_eq!(chunk.chunk, number);
            assert!(chunk.text.len() <= MAX_CHUNK_BYTES);
            whole.push_str(&chunk.text);
            number += 1;
        }
        assert_eq!(whole, format!("a{text}end"));
        assert_eq!((digest.chunks, digest.bytes), (number, whole.len() as u64));
        assert_eq!(digest.sha256, hex(&Sha256::digest(whole.as_bytes())));
        assert!(!digest.incomplete);
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_writer_back() {
        let (sink, mut reader) = LogSink::channel(2);
        let writer = {
            let sink = sink.clone();
            tokio::spawn(async move {
                for n in 0..100 {
                    sink.write(format!("{n}\n")).await;
                }
            })
        };
        // The writer is polled to its standstill: only two chunks fit.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(sink.digest().chunks, 2);
        for n in 0..100 {
            assert_eq!(reader.recv().await.map(|chunk| chunk.chunk), Some(n));
        }
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn a_log_that_nobody_reads_is_marked_incomplete() {
        let (sink, reader) = LogSink::channel(2);
        drop(reader);
        sink.write("lost".to_owned()).await;
        assert!(sink.digest().incomplete);
        assert_eq!(sink.digest().chunks, 0);
    }

    #[test]
    fn a_marker_is_found_whole_and_only_whole() {
        let marker = Marker { value: "R/site/1/1.7".to_owned() };
        assert!(marker.is_in(b"A=b\0CHIFFON_ATTEMPT=R/site/1/1.7\0C=d\0"));
        assert!(!marker.is_in(b"CHIFFON_ATTEMPT=R/site/1/1.70\0"));
        assert!(!marker.is_in(b"XCHIFFON_ATTEMPT=R/site/1/1.7\0"));
    }
}
