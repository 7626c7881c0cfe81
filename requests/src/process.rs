//! One run of a child program to its end: within its time, with bounded output, and leaving no child behind.
//!
//! The one file of this crate that looks at a clock, since a time limit needs one.

#![expect(clippy::disallowed_methods, reason = "a time limit is measured with the monotonic clock")]

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most of each of a program's outputs that is kept; the rest is read and dropped.
const MAX_OUTPUT: u64 = 256 * 1024;

/// How often a child is asked whether it has ended, at most.
const STEP: Duration = Duration::from_millis(10);

/// How long the pipes of an ended child are waited for: something that it left behind, like the master connection of
/// ssh, may hold them open for hours.
const LINGER: Duration = Duration::from_millis(500);

/// Whether the child's own children end with it when its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// They do: the child leads a process group.
    Own,
    /// It stays in the caller's group, since only that may ask a person at the terminal.
    Callers,
}

/// Set, it ends the programs that were started with it.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Ends them, and whatever is started with it from now on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Held while a program is started that inherits descriptors, and while any other one is, which must not.
static SPAWNING: Mutex<()> = Mutex::new(());

/// Programs that were started here and not waited for yet.
static STARTED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Waits until nobody in this process starts a program, and keeps it so.
pub fn spawning() -> MutexGuard<'static, ()> {
    SPAWNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a process is a program that this crate started and has not waited for yet. Who looks after orphans has to
/// leave it alone.
pub fn started_here(pid: i32) -> bool {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid)
}

/// Notes that a program runs, for as long as it lives.
struct Started(i32);

impl Started {
    fn new(child: &Child) -> Self {
        let pid = i32::try_from(child.id()).unwrap_or(0);
        STARTED.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
        Self(pid)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        STARTED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// A program that ended.
pub(crate) struct Finished {
    pub status: ExitStatus,
    pub out: String,
    pub complaint: String,
}

/// Runs a program; `None` where it took longer than `limit`, or was to stop, and was killed.
pub(crate) fn run(
    mut command: Command,
    group: Group,
    limit: Duration,
    stop: &StopFlag,
) -> io::Result<Option<Finished>> {
    if group == Group::Own {
        command.process_group(0);
    }
    let began = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, _started) = {
        let _spawning = spawning();
        let child = command.spawn()?;
        let started = Started::new(&child);
        (child, started)
    };
    let (sender, readers) = channel();
    let out = drain(child.stdout.take(), sender.clone());
    let complaint = drain(child.stderr.take(), sender);
    let Some(status) = wait(&mut child, &readers, || began.elapsed() >= limit || stop.is_set())? else {
        kill(&mut child, group);
        return Ok(None);
    };
    let ended = Instant::now();
    while ended.elapsed() < LINGER && readers.recv_timeout(LINGER) != Err(RecvTimeoutError::Disconnected) {}
    Ok(Some(Finished { status, out: text(&out), complaint: text(&complaint) }))
}

/// Waits for the child's end. Readers that are done say so by hanging up, which is when a child mostly ends.
fn wait(child: &mut Child, readers: &Receiver<()>, is_over: impl Fn() -> bool) -> io::Result<Option<ExitStatus>> {
    let (_open, never) = channel::<()>();
    let mut step = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if is_over() {
            return Ok(None);
        }
        if readers.recv_timeout(step) == Err(RecvTimeoutError::Disconnected) {
            let _ = never.recv_timeout(step);
        }
        step = (step * 2).min(STEP);
    }
}

fn kill(child: &mut Child, group: Group) {
    let leader = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let (Group::Own, Some(leader)) = (group, leader) {
        let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads a pipe to its end on a thread of its own, so that neither pipe can block the other.
fn drain(pipe: Option<impl Read + Send + 'static>, done: Sender<()>) -> Arc<Mutex<Vec<u8>>> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let Some(mut pipe) = pipe else { return kept };
    let keep = Arc::clone(&kept);
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 8192];
        // An error of the pipe is its end.
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            let mut kept = keep.lock().unwrap_or_else(PoisonError::into_inner);
            let room = MAX_OUTPUT.saturating_sub(kept.len() as u64);
            kept.extend_from_slice(&buffer[..count.min(usize::try_from(room).unwrap_or(count))]);
        }
        drop(done);
    });
    kept
}

fn text(bytes: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_outputs_are_kept_and_bounded() {
        let done = run(
            shell("echo out; echo err >&2; head -c 1000000 /dev/zero; exit 3"),
            Group::Own,
            LINGER * 40,
            &StopFlag::default(),
        );
        let done = done.unwrap().unwrap();
        assert_eq!(done.status.code(), Some(3));
        assert!(done.out.starts_with("out\n") && done.out.len() as u64 == MAX_OUTPUT, "{}", done.out.len());
        assert_eq!(done.complaint, "err\n");
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid.display());
        assert!(run(shell(&script), Group::Own, LINGER, &StopFlag::default()).unwrap().is_none());
        let child = std::fs::read_to_string(&pid).unwrap();
        let status = format!("/proc/{}/stat", child.trim());
        // Killed, it may wait for its reaper as a zombie.
        let gone = || std::fs::read_to_string(&status).map_or(true, |stat| stat.contains(") Z "));
        let began = Instant::now();
        while !gone() && began.elapsed() < LINGER * 20 {
            std::thread::yield_now();
        }
        assert!(gone(), "{status}");
    }

    #[test]
    fn a_program_ends_when_its_flag_is_set() {
        let stop = StopFlag::default();
        let began = Instant::now();
        let (running, to_set) = (stop.clone(), stop);
        let child = std::thread::spawn(move || run(shell("sleep 600"), Group::Own, LINGER * 400, &running));
        to_set.set();
        assert!(child.join().unwrap().unwrap().is_none());
        assert!(began.elapsed() < LINGER * 20);
    }

    #[test]
    fn what_holds_the_pipes_open_is_not_waited_for() {
        let began = Instant::now();
        let done = run(shell("sleep 30 & echo done"), Group::Own, LINGER * 40, &StopFlag::default()).unwrap().unwrap();
        assert_eq!(done.out, "done\n");
        assert!(began.elapsed() < LINGER * 20);
    }
}
