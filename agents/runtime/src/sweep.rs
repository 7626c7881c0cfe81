//! Finds every process of an attempt on this machine, also those that tried to get away.
//!
//! A process is of the attempt when it carries the marker in its environment, when it is in the leader's group, when
//! a known process is its parent, or when it is an orphan that this process inherited and that nobody else can have
//! left. Known processes are kept by number and start time, so that the reuse of a number is harmless. What may not
//! be inspected is named, never taken for gone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use crate::proc::{self, ProcId, Stat};
use crate::{Marker, Usage};

/// A process that was still there at the end, or that nobody may say is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// Its number.
    pub pid: i32,
    /// Why it could not be ended or inspected.
    pub why: String,
    /// Its program, without arguments.
    pub command: String,
}

/// The attempts that run in this process: which processes are theirs. An orphan that one of them knows is no
/// stranger to the others.
static RUNS: LazyLock<Mutex<BTreeMap<u64, HashSet<ProcId>>>> = LazyLock::new(Mutex::default);

fn runs() -> MutexGuard<'static, BTreeMap<u64, HashSet<ProcId>>> {
    RUNS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows the processes of one attempt.
#[derive(Debug)]
pub(crate) struct Tracker {
    id: u64,
    marker: Marker,
    leader: Option<ProcId>,
    /// Whether the leader's group may still hold processes: its number can't be reused before it was empty once.
    group: bool,
    known: HashSet<ProcId>,
    /// Orphans of the last look that nobody knows. One is taken for the attempt's only when it is there twice: a program
    /// that this process starts itself looks like one for a moment, before it runs and until it is waited for.
    strangers: HashSet<ProcId>,
    me: Stat,
    peak_rss_kib: u64,
    reaped_cpu_ms: u64,
}

/// What one look found.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Alive, and of the attempt.
    pub alive: Vec<Stat>,
    /// Alive, and perhaps of the attempt.
    pub doubtful: Vec<Stat>,
    /// Whether the leader ended and waits to be reaped by whoever started it.
    pub leader_dead: Option<Stat>,
}

impl Look {
    pub fn is_clean(&self) -> bool {
        self.alive.is_empty() && self.doubtful.is_empty()
    }
}

impl Tracker {
    /// Follows what `leader` started; without a leader, whatever carries the marker.
    ///
    /// # Errors
    /// `/proc` does not show this very process.
    pub fn new(marker: Marker, leader: Option<ProcId>) -> io::Result<Self> {
        let me = i32::try_from(std::process::id()).ok().and_then(proc::stat);
        let me = me.ok_or_else(|| io::Error::other("/proc does not show this process"))?;
        let mut runs = runs();
        let id = runs.last_key_value().map_or(0, |(id, _)| id + 1);
        let known: HashSet<ProcId> = leader.into_iter().collect();
        runs.insert(id, known.clone());
        let group = leader.is_some();
        let strangers = HashSet::new();
        Ok(Self { id, marker, leader, group, known, strangers, me, peak_rss_kib: 0, reaped_cpu_ms: 0 })
    }

    /// Looks at every process of the machine; reaps the attempt's dead orphans.
    ///
    /// # Errors
    /// `/proc` can't be listed.
    pub fn look(&mut self) -> io::Result<Look> {
        let mut stats = proc::all()?;
        stats.retain(|stat| stat.pid != self.me.pid);
        let here: HashSet<ProcId> = stats.iter().map(Stat::id).collect();
        self.known.retain(|id| here.contains(id));
        let mut strangers = self.learn(&stats);
        let mut look = Look::default();
        let before = std::mem::replace(&mut self.strangers, strangers.iter().map(Stat::id).collect());
        if self.runs_alone() {
            self.known.extend(strangers.extract_if(.., |stat| before.contains(&stat.id())).map(|stat| stat.id()));
            self.descend(&stats);
        }
        // What is dead can't run anything, whoever left it.
        strangers.retain(|stat| !stat.is_dead() && !self.known.contains(&stat.id()));
        look.doubtful = strangers;
        for stat in &stats {
            if !self.known.contains(&stat.id()) {
                continue;
            }
            if !stat.is_dead() {
                self.peak_rss_kib = self.peak_rss_kib.max(proc::peak_rss_kib(stat.pid).unwrap_or(0));
                look.alive.push(*stat);
            } else if self.leader == Some(stat.id()) {
                look.leader_dead = Some(*stat);
            } else if stat.ppid == self.me.pid {
                self.reap(*stat);
            }
        }
        runs().insert(self.id, self.known.clone());
        Ok(look)
    }

    /// Adds what belongs to the attempt and gives back the orphans that nobody knows.
    fn learn(&mut self, stats: &[Stat]) -> Vec<Stat> {
        let leader = self.leader;
        let in_group = |stat: &Stat| leader.is_some_and(|leader| stat.pgid == leader.pid && stat.start >= leader.start);
        self.group = self.group && stats.iter().any(in_group);
        let others: HashSet<ProcId> =
            runs().iter().filter(|(id, _)| **id != self.id).flat_map(|(_, known)| known.iter().copied()).collect();
        let mut orphans = Vec::new();
        for stat in stats {
            if self.known.contains(&stat.id()) {
                continue;
            }
            if self.group && in_group(stat) {
                self.known.insert(stat.id());
                continue;
            }
            // Who began before the leader has its environment from somebody else, and can't be its descendant.
            if leader.is_some_and(|leader| stat.start < leader.start) {
                continue;
            }
            let environ = proc::environ(stat.pid);
            if environ.as_ref().is_ok_and(|environ| self.marker.is_in(environ)) {
                self.known.insert(stat.id());
            } else if self.may_be_inherited(stat)
                && !others.contains(&stat.id())
                && !environ.is_ok_and(|environ| self.marker.is_named_in(&environ))
            {
                orphans.push(*stat);
            }
        }
        self.descend(stats);
        orphans.retain(|stat| !self.known.contains(&stat.id()));
        orphans
    }

    /// A child of this process that left every group which this process gives its children: programs that it starts
    /// otherwise stay in its own group.
    fn may_be_inherited(&self, stat: &Stat) -> bool {
        self.leader.is_some_and(|leader| stat.start >= leader.start)
            && stat.ppid == self.me.pid
            && stat.pgid != self.me.pgid
            && !chiffon_requests::started_here(stat.pid)
    }

    fn runs_alone(&self) -> bool {
        runs().keys().all(|id| *id == self.id)
    }

    /// Adds the children of known processes, and their children.
    fn descend(&mut self, stats: &[Stat]) {
        let mut children: HashMap<i32, Vec<ProcId>> = HashMap::new();
        for stat in stats {
            children.entry(stat.ppid).or_default().push(stat.id());
        }
        let mut open: Vec<ProcId> = self.known.iter().copied().collect();
        while let Some(parent) = open.pop() {
            for child in children.get(&parent.pid).into_iter().flatten() {
                if child.start >= parent.start && self.known.insert(*child) {
                    open.push(*child);
                }
            }
        }
    }

    /// Reaps exactly this one: waiting for any child would take the runtime's own children away from it.
    fn reap(&mut self, stat: Stat) {
        if let Some(pid) = Pid::from_raw(stat.pid)
            && matches!(rustix::process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_)))
        {
            self.reaped_cpu_ms += stat.cpu_ms;
            self.known.remove(&stat.id());
        }
    }

    /// What the attempt used, given the leader's last state; `None` where its memory was never seen.
    pub fn usage(&self, leader_cpu_ms: u64) -> Option<Usage> {
        (self.peak_rss_kib > 0)
            .then(|| Usage { cpu_ms: leader_cpu_ms + self.reaped_cpu_ms, max_rss_kib: self.peak_rss_kib })
    }

    /// Names what is left.
    pub fn survivors(&self, look: &Look) -> Vec<Survivor> {
        let alive = look.alive.iter().map(|stat| (stat, "it did not end after SIGKILL, or belongs to another user"));
        let doubtful = look.doubtful.iter().map(|stat| (stat, "an orphan that can't be told from another attempt's"));
        alive
            .chain(doubtful)
            .map(|(stat, why)| Survivor { pid: stat.pid, why: why.to_owned(), command: proc::command(stat.pid) })
            .collect()
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        runs().remove(&self.id);
    }
}

/// Sends a signal to exactly this process; whether that was possible.
pub(crate) fn signal(process: ProcId, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(process.pid) else { return false };
    // The descriptor pins whichever process has the number now; only then is its start time worth comparing.
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return false };
    proc::stat(process.pid).is_some_and(|stat| stat.id() == process)
        && rustix::process::pidfd_send_signal(&pidfd, signal).is_ok()
}
