//! The agent's journal: what it was ordered, granted and has started, written down before it acts.
//!
//! An entry that must outlive a crash is on the disk before its function returns. What the journal holds is the
//! agent's only memory of R1: an attempt that it shows as started is never started again, and one that it shows as
//! not started never ran.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chiffon_schemas::{AttemptKey, BootId, Fence, Order, Outcome};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::{Error, lines};

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// An order arrived.
    Ordered {
        /// The order.
        order: Box<Order>,
    },
    /// It was checked, and the grant was asked for.
    Claimed {
        /// The attempt.
        key: AttemptKey,
    },
    /// The grant arrived.
    Granted {
        /// The attempt.
        key: AttemptKey,
        /// Its fence.
        fence: Fence,
        /// The life of the agent that may use it.
        boot: BootId,
    },
    /// It starts now.
    Started {
        /// The attempt.
        key: AttemptKey,
    },
    /// Reports up to this number are stored.
    Reported {
        /// The attempt.
        key: AttemptKey,
        /// The number.
        seq: u64,
    },
    /// It is over.
    Over {
        /// The attempt.
        key: AttemptKey,
        /// The number of the report that says so.
        seq: u64,
        /// How it ended.
        outcome: Box<Outcome>,
        /// Set where a later life of the agent ended it: whether its sweep found nothing alive.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settled: Option<Clean>,
    },
    /// Nothing of it is of interest any more.
    Forgotten {
        /// The attempt.
        key: AttemptKey,
    },
    /// It was over and confirmed, and must never be ordered again; set by compaction.
    Finished {
        /// The attempt.
        key: AttemptKey,
    },
    /// Grants up to and including this fence are old; set by compaction, and by a person for a new incarnation.
    Fence {
        /// The fence.
        highest: Fence,
    },
}

/// What a sweep found of an attempt that an earlier life had started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clean {
    /// No process of it is alive.
    Verified,
    /// Something is alive, or can't be inspected.
    No,
}

/// How far an attempt came.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Ordered.
    Ordered,
    /// Claimed.
    Claimed,
    /// Granted, not started.
    Granted {
        /// Its fence.
        fence: Fence,
        /// The life that may use it.
        boot: BootId,
    },
    /// Started, not over.
    Started {
        /// Its fence.
        fence: Fence,
    },
    /// Over.
    Over {
        /// Its fence.
        fence: Fence,
        /// The number of the last report.
        seq: u64,
        /// How it ended.
        outcome: Box<Outcome>,
        /// Whether it had started.
        started: bool,
        /// See [`Entry::Over`].
        settled: Option<Clean>,
    },
}

impl Stage {
    /// The word, for messages.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Claimed => "claimed",
            Self::Granted { .. } => "granted",
            Self::Started { .. } => "started",
            Self::Over { .. } => "over",
        }
    }
}

/// What the journal holds of one attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The order.
    pub order: Box<Order>,
    /// How far it came.
    pub stage: Stage,
    /// Reports up to this number are stored.
    pub reported: u64,
}

impl Record {
    /// Whether its last report is stored.
    pub fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Over { seq, .. } if self.reported >= seq)
    }
}

/// Whether an entry must be on the disk before the function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On the disk.
    Synced,
    /// Losing it in a power cut costs only repeats.
    Lazy,
}

/// What all lines together say.
#[derive(Debug, Default, Clone, PartialEq)]
struct Told {
    records: BTreeMap<AttemptKey, Record>,
    /// The last attempts that were over and confirmed, oldest first: only the key, and never ordered again.
    finished: VecDeque<AttemptKey>,
    highest: Option<Fence>,
}

/// How many finished attempts are remembered. A reconciler that orders an older one again is stopped by its fence.
const MAX_FINISHED: usize = 4096;

/// The journal of one agent; one process at a time has it.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    length: u64,
    told: Told,
    /// Set when a write failed in a way that leaves the file's content unknown.
    broken: bool,
    _lock: Lock,
}

impl Journal {
    /// Opens the journal in a folder, making both where they are missing, and leaves out what is over and confirmed.
    ///
    /// # Errors
    /// The files can't be used, another process has them, or they are damaged before their end.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("journal.jsonl");
        let failed = |what: &'static str| move |source| Error::File { what, path: folder.to_owned(), source };
        make_folder(folder).map_err(failed("make"))?;
        let lock = open_file(&folder.join("lock")).map_err(failed("lock"))?;
        let lock = Lock::take(lock).ok_or_else(|| Error::InUse { path: folder.to_owned() })?;
        let lines = lines::read::<Entry>(&path)?;
        if !lines.torn.is_empty() {
            tracing::warn!(file = %path.display(), bytes = lines.torn.len(), "the last line was torn; it is set aside");
            fs::write(path.with_extension("jsonl.torn"), &lines.torn).map_err(failed("write"))?;
        }
        let mut told = Told::default();
        for (number, entry) in lines.entries.into_iter().enumerate() {
            told.apply(entry).map_err(|error| Error::Damaged {
                path: path.clone(),
                line: number + 1,
                reason: error.to_string(),
            })?;
        }
        let done = told.records.iter().filter(|(_, record)| record.is_done());
        for key in done.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            told.finish(key);
        }
        let (file, length) = compact(&path, &told)?;
        Ok(Self { folder: folder.to_owned(), path, file, length, told, broken: false, _lock: lock })
    }

    /// The folder that it lies in; reports and work folders lie beside it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it holds of an attempt.
    pub fn get(&self, key: &AttemptKey) -> Option<&Record> {
        self.told.records.get(key)
    }

    /// Whether an attempt was over and confirmed long ago: it must not be ordered again.
    pub fn is_finished(&self, key: &AttemptKey) -> bool {
        self.told.finished.contains(key)
    }

    /// All attempts that it holds.
    pub fn records(&self) -> impl Iterator<Item = (&AttemptKey, &Record)> {
        self.told.records.iter()
    }

    /// The highest fence that it has seen.
    pub fn highest(&self) -> Option<Fence> {
        self.told.highest
    }

    /// Whether a grant with this fence may be used; otherwise the reason in words.
    ///
    /// # Errors
    /// The fence is not above the highest seen, or of another incarnation of the store (R4, R11).
    pub fn admits(&self, fence: Fence) -> Result<(), String> {
        self.told.admits(fence)
    }

    /// Writes entries, all or none, and then believes them.
    ///
    /// # Errors
    /// They can't follow what the journal holds, or can't be written. Nothing may be done upon them then.
    pub fn append(&mut self, entries: &[Entry], durability: Durability) -> Result<(), Error> {
        let failed = |path: &Path, source| Error::File { what: "write", path: path.to_owned(), source };
        if self.broken {
            return Err(failed(&self.path, io::Error::other("an earlier write failed half-way")));
        }
        // Only what the entries name is copied: the journal may hold many outcomes.
        let keys: BTreeSet<&AttemptKey> = entries.iter().filter_map(Entry::key).collect();
        let named = |key: &&AttemptKey| Some(((*key).clone(), self.told.records.get(*key)?.clone()));
        let records = keys.iter().filter_map(named).collect();
        let mut told = Told { records, finished: VecDeque::new(), highest: self.told.highest };
        let mut bytes = Vec::new();
        for entry in entries {
            if let Entry::Granted { key, fence, .. } = entry {
                let refused = |reason| Error::Refused { attempt: key.to_string(), reason };
                told.admits(*fence).map_err(refused)?;
            }
            if let Entry::Ordered { order } = entry
                && self.is_finished(&order.key)
            {
                return Err(Error::Order { attempt: order.key.to_string(), next: "ordered", state: "finished" });
            }
            told.apply(entry.clone())?;
            bytes.extend(lines::encode(entry).map_err(|source| failed(&self.path, source))?);
        }
        if let Err(source) = self.write(&bytes, durability) {
            return Err(failed(&self.path, source));
        }
        self.length += bytes.len() as u64;
        for key in keys {
            match told.records.remove(key) {
                Some(record) => drop(self.told.records.insert(key.clone(), record)),
                None => drop(self.told.records.remove(key)),
            }
        }
        for key in told.finished {
            self.told.finish(key);
        }
        self.told.highest = told.highest;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], durability: Durability) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // Half a line in the middle would be damage: take it back, or write nothing more.
            self.broken = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        if durability == Durability::Synced
            && let Err(error) = self.file.sync_data()
        {
            // After a failed sync nobody knows what the disk holds, and a second sync may wrongly succeed.
            self.broken = true;
            return Err(error);
        }
        Ok(())
    }
}

/// The lock of a journal's folder, for as long as this is held.
#[derive(Debug)]
struct Lock(File);

impl Lock {
    fn take(file: File) -> Option<Self> {
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that was just forked holds the same lock until it executes its program.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Lets grants of a store's new incarnation pass: a person's decision after a rebuild (R11).
///
/// # Errors
/// The journal can't be opened or written.
pub fn confirm_incarnation(folder: &Path, incarnation: u32) -> Result<(), Error> {
    let mut journal = Journal::open(folder)?;
    if journal.highest().is_some_and(|highest| highest.incarnation == incarnation) {
        return Ok(());
    }
    journal.append(&[Entry::Fence { highest: Fence { incarnation, counter: 0 } }], Durability::Synced)
}

impl Entry {
    fn key(&self) -> Option<&AttemptKey> {
        match self {
            Self::Ordered { order } => Some(&order.key),
            Self::Claimed { key }
            | Self::Granted { key, .. }
            | Self::Started { key }
            | Self::Reported { key, .. }
            | Self::Over { key, .. }
            | Self::Forgotten { key }
            | Self::Finished { key } => Some(key),
            Self::Fence { .. } => None,
        }
    }
}

impl Told {
    fn admits(&self, fence: Fence) -> Result<(), String> {
        match self.highest {
            Some(highest) if fence.incarnation != highest.incarnation => Err(format!(
                "the grant is of incarnation {} of the store, this agent knows {}; a person must confirm the new one",
                fence.incarnation, highest.incarnation
            )),
            Some(highest) if fence <= highest => Err(format!("the fence {fence} is stale: {highest} was seen")),
            Some(_) | None => Ok(()),
        }
    }

    fn apply(&mut self, entry: Entry) -> Result<(), Error> {
        let key = match entry {
            Entry::Ordered { order } => return self.order(order),
            Entry::Fence { highest } => {
                self.highest = Some(highest);
                return Ok(());
            }
            Entry::Finished { key } => {
                self.finish(key);
                return Ok(());
            }
            ref entry => entry.key().cloned(),
        };
        let Some(key) = key else { return Ok(()) };
        let wrong = |next, state| Error::Order { attempt: key.to_string(), next, state };
        let Some(record) = self.records.get_mut(&key) else {
            return if matches!(entry, Entry::Forgotten { .. }) { Ok(()) } else { Err(wrong("known", "nothing")) };
        };
        let state = record.stage.as_str();
        match (entry, &record.stage) {
            (Entry::Claimed { .. }, Stage::Ordered | Stage::Claimed) => record.stage = Stage::Claimed,
            (Entry::Granted { fence, boot, .. }, Stage::Claimed) => {
                record.stage = Stage::Granted { fence, boot };
                self.highest = self.highest.max(Some(fence));
            }
            (Entry::Granted { .. }, _) => return Err(wrong("granted", state)),
            (Entry::Started { .. }, Stage::Granted { fence, .. }) => record.stage = Stage::Started { fence: *fence },
            (Entry::Started { .. }, _) => return Err(wrong("started", state)),
            (Entry::Reported { seq, .. }, Stage::Started { .. } | Stage::Over { .. }) => {
                record.reported = record.reported.max(seq);
            }
            (Entry::Over { seq, outcome, settled, .. }, Stage::Granted { fence, .. } | Stage::Started { fence }) => {
                let started = matches!(record.stage, Stage::Started { .. });
                record.stage = Stage::Over { fence: *fence, seq, outcome, started, settled };
            }
            // A settled end may take a higher number, where the receiver had stored more than this side still held.
            (Entry::Over { seq, outcome, settled: Some(clean), .. }, Stage::Over { fence, seq: old, started, .. })
                if seq > *old =>
            {
                let (fence, started) = (*fence, *started);
                record.stage = Stage::Over { fence, seq, outcome, started, settled: Some(clean) };
            }
            (Entry::Forgotten { .. }, Stage::Started { .. }) => return Err(wrong("forgotten", state)),
            (Entry::Forgotten { .. }, Stage::Over { .. }) => self.finish(key),
            (Entry::Forgotten { .. }, _) => drop(self.records.remove(&key)),
            (Entry::Claimed { .. }, _) => return Err(wrong("claimed", state)),
            (Entry::Reported { .. }, _) => return Err(wrong("reported", state)),
            (Entry::Over { .. }, _) => return Err(wrong("over", state)),
            (Entry::Ordered { .. } | Entry::Finished { .. } | Entry::Fence { .. }, _) => {}
        }
        Ok(())
    }

    fn finish(&mut self, key: AttemptKey) {
        self.records.remove(&key);
        self.finished.push_back(key);
        if self.finished.len() > MAX_FINISHED {
            self.finished.pop_front();
        }
    }

    /// A new order, or one ordered again because no life of the agent ever started it.
    fn order(&mut self, order: Box<Order>) -> Result<(), Error> {
        if let Some(record) = self.records.get(&order.key)
            && matches!(record.stage, Stage::Started { .. } | Stage::Over { .. })
        {
            let state = record.stage.as_str();
            return Err(Error::Order { attempt: order.key.to_string(), next: "ordered", state });
        }
        self.records.insert(order.key.clone(), Record { order, stage: Stage::Ordered, reported: 0 });
        Ok(())
    }

    /// The lines that say the same, and nothing of what is gone.
    fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.finished.iter().map(|key| Entry::Finished { key: key.clone() }).collect();
        for (key, Record { order, stage, reported }) in &self.records {
            entries.push(Entry::Ordered { order: order.clone() });
            let key = key.clone();
            if !matches!(stage, Stage::Ordered) {
                entries.push(Entry::Claimed { key: key.clone() });
            }
            match stage {
                Stage::Ordered | Stage::Claimed => {}
                Stage::Granted { fence, .. } | Stage::Started { fence } | Stage::Over { fence, .. } => {
                    entries.push(Entry::Granted { key: key.clone(), fence: *fence, boot: stage.boot() });
                }
            }
            if matches!(stage, Stage::Started { .. } | Stage::Over { started: true, .. }) {
                entries.push(Entry::Started { key: key.clone() });
            }
            if let Stage::Over { seq, outcome, settled, .. } = stage {
                let outcome = outcome.clone();
                entries.push(Entry::Over { key: key.clone(), seq: *seq, outcome, settled: *settled });
            }
            if *reported > 0 {
                entries.push(Entry::Reported { key, seq: *reported });
            }
        }
        entries.extend(self.highest.map(|highest| Entry::Fence { highest }));
        entries
    }
}

impl Stage {
    /// The life that a grant is for. After the start it is of no interest, and any life of this agent reports.
    fn boot(&self) -> BootId {
        match self {
            Self::Granted { boot, .. } => boot.clone(),
            _ => BootId::parse("0".repeat(26)).expect("26 zeros are an id"),
        }
    }
}

/// Writes the file anew beside the old one and puts it in its place, so that a crash leaves one of the two whole.
fn compact(path: &Path, told: &Told) -> Result<(File, u64), Error> {
    let new = path.with_extension("jsonl.new");
    let write = || -> io::Result<u64> {
        let bytes: Vec<Vec<u8>> = told.entries().iter().map(lines::encode).collect::<io::Result<_>>()?;
        let bytes = bytes.concat();
        let _ = fs::remove_file(&new);
        let mut file = open_file(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_folder(path.parent().unwrap_or(Path::new("/")))?;
        Ok(bytes.len() as u64)
    };
    let length = write().map_err(|source| Error::File { what: "write", path: new.clone(), source })?;
    let file = open_file(path).map_err(|source| Error::File { what: "open", path: path.to_owned(), source })?;
    Ok((file, length))
}

/// Opens a file to append to, for this user alone, making it where it is missing.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Makes a folder for this user alone.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes the names in a folder outlive a power cut.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
