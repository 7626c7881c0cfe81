//! Starts the processes of an attempt and ends them, all of them, and verifies that.
//!
//! Killing a group is not enough: on ansible-core 2.19 workers leave it, on 2.14 killing the leader leaves an orphan.
//! So this process becomes a subreaper, every process carries a marker, and ending means: ask, wait, kill, and look
//! again until nothing is left or a bound is reached. What is left then is named; nothing is ever assumed gone.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use chiffon_schemas::Usage;
use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::proc::{self, ProcId, Stat};
use crate::sweep::{Look, Survivor, Tracker, signal};
use crate::{Error, Marker};

/// How long killing goes on before what is left is called a survivor. A process that SIGKILL does not end within
/// this time hangs in the kernel or belongs to somebody else.
const KILL_FOR: Duration = Duration::from_secs(10);

/// How long to wait between two looks while processes end; a look costs some milliseconds itself.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// When to look while an attempt runs: soon, since many are short, then about once a second. Looks between find the
/// parents of orphans and the peaks of memory.
const SAMPLES: [Duration; 4] =
    [Duration::from_millis(20), Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1)];

/// A program to start as the leader of an attempt's processes.
#[derive(Debug)]
pub struct Spawn {
    /// The program, as an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment; nothing is inherited, and the marker is added.
    pub env: Vec<(OsString, OsString)>,
    /// Its current folder.
    pub cwd: PathBuf,
    /// Descriptors that it inherits under the numbers that they have here; they are closed here once it runs.
    pub pass_fds: Vec<OwnedFd>,
    /// Marks it and all its descendants.
    pub marker: Marker,
}

impl Spawn {
    /// The number that a descriptor of `pass_fds` has in the child.
    pub fn number_of(fd: &OwnedFd) -> RawFd {
        fd.as_raw_fd()
    }

    /// Starts it, in a process group of its own, without input, with a pipe for each of its outputs.
    ///
    /// # Errors
    /// It could not be started, or this system can't follow processes; nothing of it runs then.
    pub fn start(self) -> Result<Running, Error> {
        let program = self.program.clone();
        let failed = |source| Error::Spawn { program: program.clone(), source };
        // Harmless when done again; it holds for the whole process.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(|e| failed(e.into()))?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(self.env)
            .env(self.marker.env_name(), self.marker.env_value())
            .current_dir(&self.cwd)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = spawn_with(&mut command, &self.pass_fds).map_err(failed)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        // Not yet waited for, so it is there even if it has ended.
        let leader = proc::stat(pid).ok_or_else(|| failed(io::Error::other("/proc does not show it")))?.id();
        let tracker = Tracker::new(self.marker, Some(leader)).map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let next_sample = Instant::now() + SAMPLES[0];
        Ok(Running {
            child,
            leader,
            tracker,
            waiter: None,
            samples: 0,
            next_sample,
            leader_cpu_ms: 0,
            ended: None,
            stdout,
            stderr,
        })
    }
}

fn spawn_with(command: &mut Command, pass: &[OwnedFd]) -> io::Result<Child> {
    // Between clearing and setting `FD_CLOEXEC` any process that this one starts would inherit them, git too.
    let _spawning = chiffon_requests::spawning();
    let inheritable = |flags| -> io::Result<()> {
        pass.iter().try_for_each(|fd| rustix::io::fcntl_setfd(fd.as_fd(), flags)).map_err(io::Error::from)
    };
    let child = inheritable(FdFlags::empty()).and_then(|()| command.spawn());
    inheritable(FdFlags::CLOEXEC)?;
    child
}

/// How the leader ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; absent where a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it and those that were waited for used. Memory is sampled, so the peak of a process that lived only
    /// some milliseconds may be missed; absent where none was seen at all.
    pub usage: Option<Usage>,
}

/// How ending an attempt's processes went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// No process of the attempt is alive on this machine, and that was looked at twice.
    Verified {
        /// Those that were alive beside the leader when the end began: what a playbook left running, say.
        leftover: Vec<Leftover>,
    },
    /// These are alive or can't be inspected: the attempt is `lost`, not `cancelled`.
    Survivors(Vec<Survivor>),
}

/// A process that was alive when its attempt ended, and was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The number that it had.
    pub pid: i32,
    /// Its program, without arguments.
    pub command: String,
}

/// The processes of an attempt. Dropping it kills what can be found in one look, unverified.
#[derive(Debug)]
pub struct Running {
    child: Child,
    leader: ProcId,
    tracker: Tracker,
    waiter: Option<JoinHandle<()>>,
    /// How many samples were taken, and when the next is due.
    samples: usize,
    next_sample: Instant,
    leader_cpu_ms: u64,
    ended: Option<Ended>,
    /// What it writes to its standard output; take it to read it.
    pub stdout: Option<ChildStdout>,
    /// What it writes to its standard error; take it to read it.
    pub stderr: Option<ChildStderr>,
}

impl Running {
    /// The leader's process number.
    pub fn pid(&self) -> i32 {
        self.leader.pid
    }

    /// Waits for the leader to end. Dropping the future loses nothing; asking again gives the same answer.
    ///
    /// Others may be alive still, and hold the pipes open: call [`Running::end`] afterwards in every case.
    ///
    /// # Errors
    /// The leader can't be waited for.
    pub async fn wait(&mut self) -> Result<Ended, Error> {
        if let Some(ended) = self.ended {
            return Ok(ended);
        }
        let leader = self.leader;
        let Self { waiter, tracker, samples, next_sample, .. } = self;
        // Thread and time-table are kept, so that asking again after a dropped future begins neither anew.
        let waiter = waiter.get_or_insert_with(|| tokio::task::spawn_blocking(move || wait_for(leader)));
        loop {
            tokio::select! {
                _ = &mut *waiter => break,
                () = tokio::time::sleep_until(*next_sample) => {
                    let _ = tracker.look();
                    *samples += 1;
                    *next_sample += SAMPLES[(*samples).min(SAMPLES.len() - 1)];
                }
            }
        }
        self.waiter = None;
        self.note_leader(proc::stat(leader.pid));
        let status = self.child.wait().await.map_err(|source| Error::Wait { pid: leader.pid, source })?;
        Ok(self.note_status(status))
    }

    /// How the leader ended, where it has.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Ends every process of the attempt: SIGTERM, `grace`, SIGKILL, and looks until none is left.
    ///
    /// Returns at once where nothing is alive, and after `grace` and some seconds at the latest.
    pub async fn end(&mut self, grace: Duration) -> Ending {
        let first = self.look();
        let leader = self.leader;
        let leftover = match &first {
            Ok(look) => leftovers(look.alive.iter().filter(|stat| stat.id() != leader)),
            Err(_) => Vec::new(),
        };
        let last = if self.ended.is_none() || !first.as_ref().is_ok_and(Look::is_clean) {
            self.signal_group(Signal::TERM);
            match self.until_gone(Signal::TERM, grace, 0).await {
                Ok(None) => Ok(None),
                Ok(Some(_)) | Err(_) => {
                    self.signal_group(Signal::KILL);
                    self.until_gone(Signal::KILL, KILL_FOR, 0).await
                }
            }
        } else {
            self.until_gone(Signal::KILL, KILL_FOR, 1).await
        };
        match last {
            Ok(None) => Ending::Verified { leftover },
            Ok(Some(look)) => Ending::Survivors(self.tracker.survivors(&look)),
            Err(source) => Ending::Survivors(vec![unseen(leader.pid, &source)]),
        }
    }

    /// Signals whatever is found until two looks in a row find nothing (`None`) or the time is over; `clean` looks
    /// found nothing already.
    ///
    /// Two, because a process may pass its work to a child whose number the first look had already passed.
    async fn until_gone(&mut self, how: Signal, within: Duration, mut clean: u32) -> io::Result<Option<Look>> {
        let until = Instant::now() + within;
        let mut asked = Vec::new();
        loop {
            let look = self.look()?;
            clean = if look.is_clean() && self.ended.is_some() { clean + 1 } else { 0 };
            if clean == 2 {
                return Ok(None);
            }
            // SIGTERM is asked once of each; SIGKILL is repeated, since between two looks a user may change.
            asked.retain(|_| how == Signal::TERM);
            tell(how, &look.alive, &mut asked);
            if clean == 0 {
                if Instant::now() >= until {
                    return Ok(Some(look));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Looks, and reaps the leader where it is dead.
    fn look(&mut self) -> io::Result<Look> {
        let look = self.tracker.look()?;
        self.note_leader(look.leader_dead);
        if self.ended.is_none()
            && let Some(status) = self.child.try_wait()?
        {
            self.note_status(status);
        }
        Ok(look)
    }

    fn note_leader(&mut self, stat: Option<Stat>) {
        if let Some(stat) = stat.filter(|stat| stat.id() == self.leader) {
            self.leader_cpu_ms = stat.cpu_ms;
        }
    }

    fn note_status(&mut self, status: std::process::ExitStatus) -> Ended {
        let usage = self.tracker.usage(self.leader_cpu_ms);
        let ended = Ended { exit_code: status.code(), signal: status.signal(), usage };
        *self.ended.insert(ended)
    }

    /// The whole group at once, while its number can't have been reused.
    fn signal_group(&self, how: Signal) {
        if self.ended.is_none()
            && let Some(group) = Pid::from_raw(self.leader.pid)
        {
            let _ = rustix::process::kill_process_group(group, how);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
        if let Ok(look) = self.tracker.look() {
            for stat in look.alive {
                signal(stat.id(), Signal::KILL);
            }
        }
    }
}

/// Ends what an earlier life of the agent left of an attempt: everything that carries its marker, and descendants.
///
/// Processes whose environment this user may not read can't be found unless a marked process is their parent.
pub async fn end_orphans(marker: &Marker, grace: Duration) -> Ending {
    let mut tracker = match Tracker::new(marker.clone(), None) {
        Ok(tracker) => tracker,
        Err(source) => return Ending::Survivors(vec![unseen(0, &source)]),
    };
    let mut leftover = Vec::new();
    for (how, within) in [(Signal::TERM, grace), (Signal::KILL, KILL_FOR)] {
        let until = Instant::now() + within;
        let (mut clean, mut asked) = (0, Vec::new());
        loop {
            let look = match tracker.look() {
                Ok(look) => look,
                Err(source) => return Ending::Survivors(vec![unseen(0, &source)]),
            };
            clean = if look.is_clean() { clean + 1 } else { 0 };
            if clean == 2 {
                return Ending::Verified { leftover };
            }
            let new = look.alive.iter().filter(|stat| leftover.iter().all(|known: &Leftover| known.pid != stat.pid));
            leftover.extend(leftovers(new));
            asked.retain(|_| how == Signal::TERM);
            tell(how, &look.alive, &mut asked);
            if clean == 0 {
                if Instant::now() >= until {
                    if how == Signal::KILL {
                        return Ending::Survivors(tracker.survivors(&look));
                    }
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
    Ending::Verified { leftover }
}

fn tell(how: Signal, alive: &[Stat], asked: &mut Vec<ProcId>) {
    for stat in alive.iter().filter(|stat| !asked.contains(&stat.id())).collect::<Vec<_>>() {
        signal(stat.id(), how);
        // A stopped process sees SIGTERM only when it goes on.
        signal(stat.id(), Signal::CONT);
        asked.push(stat.id());
    }
}

fn leftovers<'a>(alive: impl Iterator<Item = &'a Stat>) -> Vec<Leftover> {
    alive.map(|stat| Leftover { pid: stat.pid, command: proc::command(stat.pid) }).collect()
}

fn unseen(pid: i32, source: &io::Error) -> Survivor {
    Survivor { pid, why: format!("/proc can't be read: {source}"), command: String::new() }
}

/// Waits, without reaping, until the leader has ended.
fn wait_for(leader: ProcId) {
    if let Some(pid) = Pid::from_raw(leader.pid) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(rustix::process::waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR)) {}
    }
}
