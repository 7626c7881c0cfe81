//! The log of one attempt: holds output back until the secrets are known, removes them, makes whole UTF-8 of it,
//! writes it in few large pieces, and cuts what is too much with a mark.
//!
//! Nothing leaves before the secrets are known, and memory stays bounded at any rate and length of line.

use std::sync::Arc;

use chiffon_runtime::LogSink;

use crate::redact::{Redactor, Secrets};

/// As much output of each stream is held back before the secrets are known; then the stream is not read on.
const MAX_HELD_BYTES: usize = 1024 * 1024;

/// A batch of this many bytes is written at once; a smaller one waits for its moment.
const BATCH_BYTES: usize = 32 * 1024;

/// An unfinished line is kept together with its end up to this many bytes, so that two streams do not mix in it.
const MAX_PARTIAL_BYTES: usize = 16 * 1024;

/// Of a log that is cut at least this much of the end is kept: failures stand there.
const KEPT_END_BYTES: usize = 256 * 1024;

/// The excerpt of a failure is taken from this much of the end.
const RECENT_BYTES: usize = 8 * 1024;

/// At most this much of the log stands in a failure.
const EXCERPT_BYTES: usize = 2 * 1024;

/// The two outputs of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

#[derive(Debug, Default)]
struct Side {
    redactor: Option<Redactor>,
    /// Output from before the secrets were known.
    held: Vec<u8>,
    /// The begun bytes of a character.
    utf8: Vec<u8>,
    /// The begun line.
    partial: String,
}

/// The log of one attempt.
#[derive(Debug)]
pub(crate) struct Log {
    sink: LogSink,
    cap_bytes: u64,
    written_bytes: u64,
    sides: [Side; 2],
    batch: String,
    /// What came after the cap: the last of it is kept.
    end: String,
    cut_bytes: u64,
    recent: String,
    error_lines: ErrorLines,
    withheld: bool,
}

/// What a log leaves for the verdict.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogEnd {
    /// The lines around the failure.
    pub excerpt: String,
    /// The first message that names an error.
    pub first_error: Option<String>,
}

impl Log {
    pub fn new(sink: LogSink, cap_bytes: u64) -> Self {
        Self {
            sink,
            cap_bytes,
            written_bytes: 0,
            sides: [Side::default(), Side::default()],
            batch: String::new(),
            end: String::new(),
            cut_bytes: 0,
            recent: String::new(),
            error_lines: ErrorLines::default(),
            withheld: false,
        }
    }

    /// From now on output may leave, without these.
    pub fn know(&mut self, secrets: &Arc<Secrets>) {
        for stream in [Stream::Out, Stream::Err] {
            let side = &mut self.sides[stream as usize];
            if side.redactor.is_none() {
                side.redactor = Some(Redactor::new(secrets.clone()));
                let held = std::mem::take(&mut side.held);
                self.take(stream, &held);
            }
        }
    }

    /// Nothing of it leaves: what may not be shown will never be known. It is read all the same, so that nobody waits.
    pub fn withhold(&mut self) {
        self.withheld = true;
        self.sides.iter_mut().for_each(|side| side.held = Vec::new());
    }

    /// Whether a stream may be read on: always, once the secrets are known.
    pub fn wants(&self, stream: Stream) -> bool {
        let side = &self.sides[stream as usize];
        self.withheld || side.redactor.is_some() || side.held.len() < MAX_HELD_BYTES
    }

    /// Takes what a stream brought.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) {
        if self.withheld {
            return;
        }
        let side = &mut self.sides[stream as usize];
        let Some(redactor) = &mut side.redactor else {
            side.held.extend_from_slice(bytes);
            return;
        };
        let clean = redactor.push(bytes);
        self.take_clean(stream, &clean);
    }

    fn take_clean(&mut self, stream: Stream, bytes: &[u8]) {
        let side = &mut self.sides[stream as usize];
        push_lossy(&mut side.utf8, bytes, &mut side.partial);
        let whole = match side.partial.rfind('\n') {
            Some(at) => at + 1,
            None if side.partial.len() > MAX_PARTIAL_BYTES => side.partial.len(),
            None => 0,
        };
        let lines: String = side.partial.drain(..whole).collect();
        self.append(&lines);
    }

    /// Whether the batch should be written without waiting.
    pub fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_BYTES
    }

    /// Whether something waits to be written.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.sides.iter().all(|side| side.partial.is_empty())
    }

    /// Writes what waits, begun lines included; waits while the reader is behind.
    pub async fn flush(&mut self) {
        for side in 0..2 {
            let partial = std::mem::take(&mut self.sides[side].partial);
            self.append(&partial);
        }
        self.write_batch().await;
    }

    /// Writes the batch alone; waits while the reader is behind.
    pub async fn write_batch(&mut self) {
        if !self.batch.is_empty() {
            self.sink.write(std::mem::take(&mut self.batch)).await;
        }
    }

    /// A line of the agent's own.
    pub fn note(&mut self, line: &str) {
        self.append(&format!("«{line}»\n"));
    }

    /// The last of the log. Output that was held back because the secrets never came is dropped, with a mark.
    pub async fn finish(mut self) -> LogEnd {
        for stream in [Stream::Out, Stream::Err] {
            let side = &mut self.sides[stream as usize];
            let withheld = side.held.len();
            let last = side.redactor.as_mut().map(Redactor::finish).unwrap_or_default();
            self.take_clean(stream, &last);
            let side = &mut self.sides[stream as usize];
            if !side.utf8.is_empty() {
                side.utf8.clear();
                side.partial.push(char::REPLACEMENT_CHARACTER);
            }
            if withheld > 0 {
                self.sink.mark_incomplete();
                self.note(&format!("{withheld} bytes withheld: they came before the secrets were known"));
            }
        }
        self.flush().await;
        if !self.end.is_empty() {
            let kept_end = self.kept_end();
            self.end.drain(..self.end.ceil_char_boundary(self.end.len().saturating_sub(kept_end)));
            let lost = self.cut_bytes - self.end.len() as u64;
            if lost > 0 {
                self.sink.mark_incomplete();
                self.sink
                    .write(format!("\n«{lost} bytes cut: the log is longer than {} bytes»\n", self.cap_bytes))
                    .await;
            }
            self.sink.write(self.end).await;
        }
        LogEnd { excerpt: excerpt(&self.recent), first_error: self.error_lines.message() }
    }

    /// How much of the end is kept of a log that is cut.
    fn kept_end(&self) -> usize {
        KEPT_END_BYTES.min(usize::try_from(self.cap_bytes / 4).unwrap_or(KEPT_END_BYTES))
    }

    fn append(&mut self, text: &str) {
        self.error_lines.look(text);
        keep_end(&mut self.recent, text, RECENT_BYTES);
        let kept_end = self.kept_end();
        let room = self.cap_bytes.saturating_sub(kept_end as u64).saturating_sub(self.written_bytes);
        // Once something is behind the cap, all that follows is.
        let room = if self.cut_bytes > 0 { 0 } else { usize::try_from(room).unwrap_or(usize::MAX) };
        let now = text.floor_char_boundary(room.min(text.len()));
        self.batch.push_str(&text[..now]);
        self.written_bytes += now as u64;
        self.cut_bytes += (text.len() - now) as u64;
        keep_end(&mut self.end, &text[now..], kept_end);
    }
}

/// Appends and keeps the last `most` bytes; it drops from the front only when twice as much is there.
fn keep_end(kept: &mut String, text: &str, most: usize) {
    let text = &text[text.ceil_char_boundary(text.len().saturating_sub(most))..];
    kept.push_str(text);
    if kept.len() > most * 2 {
        let from = kept.ceil_char_boundary(kept.len() - most);
        kept.drain(..from);
    }
}

/// Appends bytes as text; what is no UTF-8 becomes U+FFFD, and the begun bytes of a character wait for the rest.
fn push_lossy(begun: &mut Vec<u8>, bytes: &[u8], text: &mut String) {
    begun.extend_from_slice(bytes);
    let mut rest = begun.as_slice();
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                rest = &[];
                break;
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                let Some(bad) = error.error_len() else {
                    rest = after;
                    break;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                rest = &after[bad..];
            }
        }
    }
    *begun = rest.to_vec();
}

/// The lines around the last failure in the end of a log.
fn excerpt(recent: &str) -> String {
    let failure =
        ["\nfatal: [", "\nfailed: [", "\n[ERROR]", "\nERROR!"].iter().filter_map(|mark| recent.rfind(mark)).max();
    let from = match failure {
        Some(at) => at.saturating_sub(512),
        None => recent.len().saturating_sub(EXCERPT_BYTES),
    };
    let from = recent.ceil_char_boundary(from);
    let to = recent.floor_char_boundary((from + EXCERPT_BYTES).min(recent.len()));
    recent[from..to].trim().to_owned()
}

/// The first message of Ansible that names an error, with the lines that go with it.
#[derive(Debug, Default)]
struct ErrorLines {
    lines: Vec<String>,
    over: bool,
}

impl ErrorLines {
    fn look(&mut self, text: &str) {
        if self.over {
            return;
        }
        for line in text.lines().map(str::trim) {
            let begins = line.strip_prefix("ERROR! ").or_else(|| line.strip_prefix("[ERROR]: "));
            if let (true, Some(first)) = (self.lines.is_empty(), begins) {
                self.push(first);
            } else if !self.lines.is_empty() {
                // What follows is an excerpt of the file, or a task.
                if line.starts_with("The error appears") || line.starts_with("PLAY ") || line.starts_with("TASK ") {
                    self.over = true;
                } else if !line.is_empty() {
                    self.push(line);
                }
                self.over |= self.lines.len() == 6 || line.starts_with("Origin:");
            }
            if self.over {
                return;
            }
        }
    }

    fn push(&mut self, line: &str) {
        self.lines.push(line.chars().take(300).collect());
    }

    fn message(&self) -> Option<String> {
        (!self.lines.is_empty()).then(|| self.lines.join(" ").chars().take(600).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn logged(cap: u64, secrets: &[&str], bytes: &[&[u8]]) -> (String, bool, LogEnd) {
        let (sink, mut reader) = LogSink::channel(4096);
        let mut log = Log::new(sink.clone(), cap);
        log.know(&Arc::new(Secrets::new(secrets.iter().copied()).unwrap()));
        for piece in bytes {
            log.take(Stream::Out, piece);
            if log.is_full() {
                log.write_batch().await;
            }
        }
        let end = log.finish().await;
        let incomplete = sink.digest().incomplete;
        drop(sink);
        let mut text = String::new();
        while let Some(chunk) = reader.recv().await {
            text.push_str(&chunk.text);
        }
        (text, incomplete, end)
    }

    #[tokio::test]
    async fn output_is_lossy_utf8_across_pieces() {
        let (text, _, _) = logged(1000, &[], &[b"a\xc3", b"\xa9b\xff\xf0\x9f", b"\x98", b"\x80\n", b"\xe2\x82"]).await;
        assert_eq!(text, "aéb\u{fffd}😀\n\u{fffd}");
    }

    #[tokio::test]
    async fn s13_secrets_are_gone_from_pieces_lines_and_excerpts() {
        let (text, _, end) = logged(10_000, &["hunter2222"], &[b"\nfatal: [a]: hun", b"ter22", b"22 is wrong\n"]).await;
        assert_eq!(text, "\nfatal: [a]: «redacted» is wrong\n");
        assert_eq!(end.excerpt, "fatal: [a]: «redacted» is wrong");
    }

    #[tokio::test]
    async fn a_long_log_is_cut_before_its_end_with_a_visible_mark() {
        let lines: String = (0..2_000).map(|n| format!("line {n}\n")).collect();
        let (text, incomplete, _) = logged(4_000, &[], &[lines.as_bytes()]).await;
        assert!(incomplete);
        assert!(text.starts_with("line 0\nline 1\n"));
        assert!(text.ends_with("line 1998\nline 1999\n"));
        assert!(text.contains("bytes cut: the log is longer than 4000 bytes»"));
        assert!(text.len() < 5_100, "{}", text.len());
        let short: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let (text, incomplete, _) = logged(4_000, &[], &[short.as_bytes()]).await;
        assert_eq!((text, incomplete), (short, false));
    }

    #[tokio::test]
    async fn a_flood_of_a_hundred_megabytes_keeps_memory_bounded() {
        let (sink, mut reader) = LogSink::channel(4);
        let mut log = Log::new(sink, 8 * 1024 * 1024);
        assert!(log.wants(Stream::Out));
        let block = vec![b'x'; 64 * 1024];
        // Before the secrets are known a stream is read up to a limit only.
        while log.wants(Stream::Err) {
            log.take(Stream::Err, &block);
        }
        assert!(log.sides[Stream::Err as usize].held.len() <= MAX_HELD_BYTES + block.len());
        log.know(&Arc::new(Secrets::new(["a-secret-value"]).unwrap()));
        let counted = tokio::spawn(async move {
            let mut bytes = 0;
            while let Some(chunk) = reader.recv().await {
                bytes += chunk.text.len();
            }
            bytes
        });
        for _ in 0..1_600 {
            log.take(Stream::Out, &block);
            let kept = log.batch.len() + log.end.len() + log.recent.len() + log.sides[0].partial.len();
            assert!(kept < 2 * 1024 * 1024, "{kept} bytes in memory");
            if log.is_full() {
                log.write_batch().await;
            }
        }
        log.finish().await;
        let bytes = counted.await.unwrap();
        assert!((8_000_000..8_400_000).contains(&bytes), "{bytes} bytes left");
    }

    #[tokio::test]
    async fn s13_without_secrets_known_nothing_leaves_but_a_mark() {
        let (sink, mut reader) = LogSink::channel(16);
        let mut log = Log::new(sink, 1_000_000);
        log.take(Stream::Out, b"secret text");
        log.flush().await;
        log.finish().await;
        let chunk = reader.recv().await.unwrap();
        assert_eq!(chunk.text, "«11 bytes withheld: they came before the secrets were known»\n");
        assert!(reader.recv().await.is_none());
    }

    #[tokio::test]
    async fn the_first_error_is_found_with_its_lines() {
        let text = "[WARNING]: x\nERROR! We were unable\n\nSyntax Error\n\nThe error appears to be in 'x'\n";
        let (_, _, end) = logged(10_000, &[], &[text.as_bytes()]).await;
        assert_eq!(end.first_error.as_deref(), Some("We were unable Syntax Error"));
    }
}
