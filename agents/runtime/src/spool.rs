//! The reports of one attempt that wait to be stored: a file of its own, in the order of their numbers.
//!
//! Pieces of the log are not synced one by one: a power cut may cost the end of a log, which the digest then shows,
//! never a verdict, since verdicts are in the journal. The file is bounded by what is not yet confirmed.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chiffon_schemas::{AttemptKey, Fence, LogDigest, ReportBody};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::work::hex;
use crate::{Error, journal, lines};

/// The number of the first report in a spool; number 1 says `started` and comes from the journal.
pub(crate) const FIRST_SEQ: u64 = 2;

/// After how many reports a place in the file is remembered, so that a replay need not read from its beginning.
const PLACE_EVERY: u64 = 64;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    seq: u64,
    body: ReportBody,
}

/// The waiting reports of one attempt.
#[derive(Debug)]
pub(crate) struct Spool {
    path: PathBuf,
    state: Mutex<State>,
    /// The next number; changes wake the reader.
    next: watch::Sender<u64>,
    /// Bytes that are confirmed; changes wake a writer that was held back.
    freed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    file: File,
    length: u64,
    broken: bool,
    /// Some numbers with the place of their line, rising.
    places: Vec<(u64, u64)>,
}

/// Where a spool lies.
pub(crate) fn path(folder: &Path, key: &AttemptKey, fence: Fence) -> PathBuf {
    folder.join("spool").join(format!("{}-{}-{}-{fence}.jsonl", key.run, key.step, key.attempt))
}

impl Spool {
    /// Opens the spool of an attempt, with what an earlier life left in it, and the digest of the log in it.
    ///
    /// # Errors
    /// The file can't be used. Damage only shortens the log and is said by the digest.
    pub fn open(path: PathBuf) -> Result<(Self, LogDigest), Error> {
        let failed = |source| Error::File { what: "open", path: path.clone(), source };
        journal::make_folder(path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
        let mut file = journal::open_file(&path).map_err(failed)?;
        let mut state = State { file: file.try_clone().map_err(failed)?, length: 0, broken: false, places: Vec::new() };
        let mut found = Found::default();
        let mut reader = BufReader::new(File::open(&path).map_err(failed)?);
        let mut next = FIRST_SEQ;
        while let Some(line) = read_line(&mut reader, next).map_err(failed)? {
            state.place(next);
            state.length += line.1;
            found.add(&line.0);
            next += 1;
        }
        let whole = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if whole > state.length {
            tracing::warn!(file = %path.display(), "the end of the waiting reports was torn and is dropped");
            file.set_len(state.length).map_err(failed)?;
            found.digest.incomplete = true;
        }
        let digest = found.digest();
        let spool =
            Self { path, state: Mutex::new(state), next: watch::Sender::new(next), freed: watch::Sender::new(0) };
        Ok((spool, digest))
    }

    /// Appends a report; whether it is in the file.
    pub fn append(&self, body: ReportBody) -> bool {
        let mut state = self.state();
        let seq = *self.next.borrow();
        let written = lines::encode(&Line { seq, body }).and_then(|line| state.write(&line, seq));
        drop(state);
        match written {
            Ok(()) => {
                self.next.send_replace(seq + 1);
                true
            }
            Err(error) => {
                tracing::error!(file = %self.path.display(), %error, "a report could not be kept");
                false
            }
        }
    }

    /// Waits until at most `bytes` wait to be confirmed.
    pub async fn wait_for_room(&self, bytes: u64) {
        let mut freed = self.freed.subscribe();
        // The sender is ours, so the channel can't close while this waits.
        let _ = freed.wait_for(|freed| self.state().length.saturating_sub(*freed) <= bytes).await;
    }

    /// The number that the next report will get.
    pub fn next_seq(&self) -> u64 {
        *self.next.borrow()
    }

    /// Changes with each report that was appended.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    /// Notes that reports up to this number are stored.
    pub fn confirm(&self, seq: u64) {
        let state = self.state();
        let freed = if seq + 1 >= self.next_seq() { state.length } else { state.place_before(seq + 1).1 };
        drop(state);
        self.freed.send_if_modified(|old| {
            let more = freed > *old;
            *old = freed.max(*old);
            more
        });
    }

    /// Puts everything on the disk.
    pub fn sync(&self) -> io::Result<()> {
        let file = self.state().file.try_clone()?;
        file.sync_data()?;
        journal::sync_folder(self.path.parent().unwrap_or(Path::new("/")))
    }

    /// A reader that begins at a number.
    pub fn reader(&self, seq: u64) -> io::Result<SpoolReader> {
        let (mut next, place) = self.state().place_before(seq);
        let mut file = BufReader::new(File::open(&self.path)?);
        file.seek(SeekFrom::Start(place))?;
        // By their ends alone: a line that is damaged costs those after it nothing.
        while next < seq && file.by_ref().take(lines::MAX_LINE).read_until(b'\n', &mut Vec::new())? > 0 {
            next += 1;
        }
        Ok(SpoolReader { file, next })
    }

    /// Takes the file away.
    pub fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "a spool could not be removed");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, line: &[u8], seq: u64) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed half-way"));
        }
        if let Err(error) = self.file.write_all(line) {
            self.broken = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        self.place(seq);
        self.length += line.len() as u64;
        Ok(())
    }

    fn place(&mut self, seq: u64) {
        if (seq - FIRST_SEQ).is_multiple_of(PLACE_EVERY) {
            self.places.push((seq, self.length));
        }
    }

    fn place_before(&self, seq: u64) -> (u64, u64) {
        let after = self.places.partition_point(|(place, _)| *place <= seq);
        after.checked_sub(1).map_or((FIRST_SEQ, 0), |at| self.places[at])
    }
}

/// Reads a spool that is still written to.
#[derive(Debug)]
pub(crate) struct SpoolReader {
    file: BufReader<File>,
    next: u64,
}

impl SpoolReader {
    /// The next report; only to be asked for numbers that were appended.
    pub fn next(&mut self) -> io::Result<Option<ReportBody>> {
        let line = read_line(&mut self.file, self.next)?;
        self.next += u64::from(line.is_some());
        Ok(line.map(|(body, _)| body))
    }
}

/// Reads the line with this number and its length; `None` at the end and where it is not whole.
fn read_line(file: &mut BufReader<File>, seq: u64) -> io::Result<Option<(ReportBody, u64)>> {
    let mut line = Vec::new();
    file.by_ref().take(lines::MAX_LINE).read_until(b'\n', &mut line)?;
    let length = line.len() as u64;
    let whole = line.strip_suffix(b"\n").and_then(|line| lines::decode::<Line>(line).ok());
    Ok(whole.filter(|line| line.seq == seq).map(|line| (line.body, length)))
}

/// The log in a spool.
#[derive(Default)]
struct Found {
    sha256: Sha256,
    digest: LogDigest,
}

impl Found {
    fn add(&mut self, body: &ReportBody) {
        if let ReportBody::Log { text, .. } = body {
            self.sha256.update(text.as_bytes());
            self.digest.bytes += text.len() as u64;
            self.digest.chunks += 1;
        }
    }

    fn digest(self) -> LogDigest {
        LogDigest { sha256: hex(&self.sha256.finalize()), ..self.digest }
    }
}
