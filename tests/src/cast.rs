//! Several programs at a time, whose lines and ends come in as they happen: waited for, never slept for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::process::{WaitId, WaitIdOptions, waitid};

/// What a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It said a line.
    Line(String),
    /// It was stopped with SIGSTOP.
    Stopped,
    /// It ended: with this status, or -1 where a signal ended it.
    Ended(i32),
}

/// What comes from the threads that listen to a program.
enum Said {
    Line(String),
    Stopped,
    /// One of its two ends of output is over.
    Over,
}

/// Several programs. Killed when dropped.
pub struct Cast {
    children: BTreeMap<String, Child>,
    /// Ends of output that are still to come from each life of a program.
    open: BTreeMap<String, usize>,
    sender: Sender<(String, Said)>,
    lines: Receiver<(String, Said)>,
    /// All that was said, for whoever looks at what went wrong.
    pub seen: Vec<String>,
}

impl Default for Cast {
    fn default() -> Self {
        let (sender, lines) = channel();
        Self { children: BTreeMap::new(), open: BTreeMap::new(), sender, lines, seen: Vec::new() }
    }
}

impl Cast {
    /// Starts a program under a name; an earlier one of that name has ended.
    pub fn start(&mut self, name: &str, mut command: Command) {
        assert!(!self.children.contains_key(name), "{name} is still there");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        self.read(name, child.stdout.take().unwrap());
        self.read(name, child.stderr.take().unwrap());
        self.watch(name, &child);
        self.open.insert(name.to_owned(), 2);
        self.children.insert(name.to_owned(), child);
        self.seen.push(format!("{name} starts"));
    }

    fn read(&self, name: &str, from: impl Read + Send + 'static) {
        let (name, sender) = (name.to_owned(), self.sender.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let _ = sender.send((name.clone(), Said::Line(line)));
            }
            let _ = sender.send((name, Said::Over));
        });
    }

    /// Tells when it is stopped, for as long as it is there.
    fn watch(&self, name: &str, child: &Child) {
        let (name, sender) = (name.to_owned(), self.sender.clone());
        let pid = rustix::process::Pid::from_child(child);
        std::thread::spawn(move || {
            while let Ok(Some(_)) = waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED) {
                let _ = sender.send((name.clone(), Said::Stopped));
            }
        });
    }

    /// What happens next; `None` where nothing did for so long.
    pub fn next(&mut self, patience: Duration) -> Option<(String, News)> {
        loop {
            let (name, said) = self.lines.recv_timeout(patience).ok()?;
            match said {
                Said::Line(line) => {
                    self.seen.push(format!("{name}: {line}"));
                    return Some((name, News::Line(line)));
                }
                Said::Stopped => {
                    self.seen.push(format!("{name} is stopped"));
                    return Some((name, News::Stopped));
                }
                Said::Over => {
                    let open = self.open.get_mut(&name).unwrap();
                    *open -= 1;
                    if *open == 0 {
                        let status = self.children.remove(&name).unwrap().wait().unwrap().code().unwrap_or(-1);
                        self.seen.push(format!("{name} ends with {status}"));
                        return Some((name, News::Ended(status)));
                    }
                }
            }
        }
    }

    /// Sends a signal to a program by its name: `INT`, `TERM`, `KILL`, `STOP`, `CONT`.
    pub fn signal(&mut self, name: &str, signal: &str) {
        let Some(child) = self.children.get(name) else { return };
        let status = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status();
        assert!(status.unwrap().success());
        self.seen.push(format!("{name} gets SIG{signal}"));
    }

    /// Asks every program to end, and waits until all have; who is stopped meanwhile goes on. Their ends and stops.
    pub fn end(&mut self, patience: Duration) -> Vec<(String, News)> {
        for name in self.children.keys().cloned().collect::<Vec<_>>() {
            self.signal(&name, "TERM");
        }
        let mut ended = Vec::new();
        while !self.children.is_empty()
            && let Some((name, news)) = self.next(patience)
        {
            match news {
                News::Line(_) => continue,
                News::Stopped => self.signal(&name, "CONT"),
                News::Ended(_) => {}
            }
            ended.push((name, news));
        }
        ended
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
