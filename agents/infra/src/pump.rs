//! Reads the pipes of a run, events first: what they bring goes into the story, the progress and the log.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chiffon_runtime::ProgressSink;
use chiffon_schemas::Host;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::events::{Body, Event, MAX_EVENT_BYTES, Story};
use crate::output::{Log, Stream};
use crate::redact::Secrets;

/// A batch of output waits at most this long: short enough to watch, long enough to write lines by the hundred.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// A pipe is read in blocks of this size, which is what Linux keeps in one.
const BLOCK_BYTES: usize = 64 * 1024;

/// After all processes are gone the pipes end by themselves. Where a survivor keeps one open, reading stops after
/// this long without news, and the log is called incomplete.
const SILENT_FOR: Duration = Duration::from_secs(2);

/// A survivor that goes on writing is listened to no longer than this.
const TALKS_FOR: Duration = Duration::from_secs(10);

/// What a run's processes write to.
#[derive(Debug)]
pub(crate) struct Pipes<E> {
    pub events: E,
    pub out: ChildStdout,
    pub err: ChildStderr,
}

/// What the pump fills.
#[derive(Debug)]
pub(crate) struct Filled {
    pub story: Story,
    pub log: Log,
    pub secrets: Arc<Secrets>,
}

/// Reads until every pipe has ended, or they are silent after `over` was told.
///
/// `known` are secrets from elsewhere (the vault's password), which are removed too.
pub(crate) async fn pump<E: AsyncRead + Unpin>(
    mut pipes: Pipes<E>,
    mut filled: Filled,
    known: &[String],
    progress: &ProgressSink,
    mut over: oneshot::Receiver<()>,
) -> Filled {
    let (mut events, mut out, mut err) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    let (mut events_open, mut out_open, mut err_open) = (true, true, true);
    let mut lines = Lines::default();
    let (mut flush_at, mut silent_at, mut ends_at) = (None, None, None);
    while events_open || out_open || err_open {
        let (out_wanted, err_wanted) = (filled.log.wants(Stream::Out), filled.log.wants(Stream::Err));
        tokio::select! {
            biased;
            n = pipes.events.read(&mut events), if events_open => match read_bytes(n) {
                Some(n) => lines.feed(&events[..n], |line| take_line(line, &mut filled, known, progress)),
                None => events_open = false,
            },
            () = at(flush_at) => {
                flush_at = None;
                filled.log.flush().await;
            }
            n = pipes.out.read(&mut out), if out_open && out_wanted => match read_bytes(n) {
                Some(n) => filled.log.take(Stream::Out, &out[..n]),
                None => out_open = false,
            },
            n = pipes.err.read(&mut err), if err_open && err_wanted => match read_bytes(n) {
                Some(n) => filled.log.take(Stream::Err, &err[..n]),
                None => err_open = false,
            },
            _ = &mut over, if ends_at.is_none() => ends_at = Some(Instant::now() + TALKS_FOR),
            () = at(silent_at) => {
                filled.story.mark_gap();
                break;
            }
        }
        if filled.log.is_full() {
            filled.log.write_batch().await;
        }
        if flush_at.is_none() && !filled.log.is_empty() {
            flush_at = Some(Instant::now() + FLUSH_EVERY);
        }
        silent_at = ends_at.map(|end: Instant| end.min(Instant::now() + SILENT_FOR));
    }
    if lines.cut || !lines.begun.is_empty() {
        filled.story.mark_gap();
    }
    filled
}

/// How many bytes a read brought; `None` at the end. A pipe that can't be read has ended, too.
fn read_bytes(read: io::Result<usize>) -> Option<usize> {
    read.ok().filter(|n| *n > 0)
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn take_line(line: &[u8], filled: &mut Filled, known: &[String], progress: &ProgressSink) {
    let Ok(Event { seq, mut body }) = serde_json::from_slice::<Event>(line) else {
        filled.story.mark_gap();
        return;
    };
    if let Body::Secrets { values } = &mut body {
        let values = std::mem::take(values);
        match Secrets::new(values.iter().chain(known).map(String::as_str)) {
            Ok(secrets) => {
                filled.secrets = Arc::new(secrets);
                filled.log.know(&filled.secrets);
            }
            // Without a matcher nothing may leave, and the run is no success.
            Err(_) => {
                filled.story.refused = Some("the vault values are too many to be searched for".to_owned());
                filled.log.withhold();
                return;
            }
        }
    } else if !filled.story.began && !matches!(body, Body::Refused { .. }) {
        // What it may not show is not known: its first event was lost.
        filled.log.withhold();
        filled.story.mark_gap();
        body.clean(|_| "hidden, since the secrets of this run are not known".to_owned());
    }
    body.clean(|text| filled.secrets.clean(text));
    if let Body::Host(result) = &body
        && let Ok(host) = Host::parse(result.host.as_str())
    {
        progress.task(host, result.task.clone(), result.status.as_str().to_owned());
    }
    filled.story.take(Event { seq, body });
}

/// Puts lines together from blocks.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    /// Whether a line was too long and its bytes were dropped.
    cut: bool,
    skipping: bool,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.skipping {
                self.begun.extend_from_slice(piece);
            }
            if self.begun.len() > MAX_EVENT_BYTES {
                (self.cut, self.skipping) = (true, true);
                self.begun = Vec::new();
            }
            if piece.ends_with(b"\n") {
                if !self.skipping {
                    take(&self.begun[..self.begun.len() - 1]);
                }
                self.skipping = false;
                self.begun.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n7_lines_are_whole_whatever_the_blocks_and_too_long_ones_are_noticed() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for block in [&b"on"[..], b"e\ntwo\nth", b"ree", b"\n"] {
            lines.feed(block, |line| seen.push(String::from_utf8(line.to_vec()).unwrap()));
        }
        assert_eq!(seen, ["one", "two", "three"]);
        assert!(!lines.cut);
        for _ in 0..=MAX_EVENT_BYTES / 1_000_000 + 1 {
            lines.feed(&vec![b'x'; 1_000_000], |_| panic!("no line has ended"));
        }
        lines.feed(b"\nlast\n", |line| seen.push(String::from_utf8(line.to_vec()).unwrap()));
        assert!(lines.cut);
        assert_eq!(seen.last().map(String::as_str), Some("last"));
    }
}
