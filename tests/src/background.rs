//! A program in the background whose lines are waited for, never slept for.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// The longest that a test waits for a line.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often it is looked whether something is so.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A program in the background. Killed when dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Background {
    /// The memory that it holds now, in KiB.
    ///
    /// # Panics
    /// It has ended.
    #[track_caller]
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = child.stdout.take().unwrap();
        let err = child.stderr.take().unwrap();
        let to_err = sender.clone();
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)))
        });
        std::thread::spawn(move || {
            BufReader::new(err).lines().map_while(Result::ok).for_each(|line| drop(to_err.send(line)))
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that begins with `start`.
    #[track_caller]
    pub fn wait_for(&mut self, start: &str) {
        self.wait_for_line(start, PATIENCE, |line| line.starts_with(start));
    }

    /// Waits for a line that begins with `start`, and no longer than this for each line.
    #[track_caller]
    pub fn wait_for_within(&mut self, start: &str, patience: Duration) {
        self.wait_for_line(start, patience, |line| line.starts_with(start));
    }

    /// Waits for a line that holds a text.
    #[track_caller]
    pub fn wait_for_part(&mut self, part: &str) {
        self.wait_for_line(part, PATIENCE, |line| line.contains(part));
    }

    #[track_caller]
    fn wait_for_line(&mut self, what: &str, patience: Duration, wanted: impl Fn(&str) -> bool) {
        loop {
            match self.lines.recv_timeout(patience) {
                Ok(line) => {
                    let found = wanted(&line);
                    self.seen.push(line);
                    if found {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no line `{what}`; seen: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended without a line `{what}`; seen: {:#?}", self.seen)
                }
            }
        }
    }

    /// Waits until something is so that nobody says aloud; fails when nothing was said for so long and it is not so.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, patience: Duration, holds: impl Fn() -> bool) {
        let looks = patience.as_millis() / LOOK_EVERY.as_millis();
        for _ in 0..looks {
            if holds() {
                return;
            }
            match self.lines.recv_timeout(LOOK_EVERY) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("it ended before {what}; seen: {:#?}", self.seen),
            }
        }
        panic!("never came: {what}; seen: {:#?}", self.seen);
    }

    /// Sends a signal by its name: `INT`, `TERM`, `KILL`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end; its exit status, or -1 where a signal ended it.
    #[track_caller]
    pub fn end(mut self) -> i32 {
        // Its lines end when it does.
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it did not end; seen: {:#?}", self.seen),
            }
        }
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Every line so far.
    pub fn seen(&self) -> &[String] {
        &self.seen
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
