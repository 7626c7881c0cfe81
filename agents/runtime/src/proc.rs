//! What `/proc` says of processes. Reads only; a process that vanishes while it is read is simply not there.

use std::fs;
use std::io::{self, Read};

/// Ticks of CPU time per second in `/proc`: Linux shows 100 on every architecture that Chiffon runs on, whatever
/// the kernel's own rate.
const TICKS_PER_SECOND: u64 = 100;

/// One process as `/proc/<pid>/stat` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub pid: i32,
    pub state: u8,
    pub ppid: i32,
    pub pgid: i32,
    /// Ticks after boot at which it started; with the pid it names one process for ever.
    pub start: u64,
    /// CPU time of it and of the children that it waited for, in milliseconds.
    pub cpu_ms: u64,
}

/// A process, safe against the reuse of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ProcId {
    pub pid: i32,
    pub start: u64,
}

impl Stat {
    pub fn id(&self) -> ProcId {
        ProcId { pid: self.pid, start: self.start }
    }

    /// Whether it can't run code any more.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// One process; `None` where there is none, or none that can be read.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse(pid, &read(&format!("/proc/{pid}/stat"), 1024).ok()?)
}

/// A file of `/proc` says that it is empty, so that reading it without a guess of its size begins with a few bytes and
/// asks again and again.
fn read(path: &str, guess: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(guess);
    fs::File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Every process that `/proc` shows.
///
/// # Errors
/// `/proc` can't be listed. An answer of "none" would then be a lie, so this is never an empty list.
pub(crate) fn all() -> io::Result<Vec<Stat>> {
    let mut stats = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(found) = name.to_str().and_then(|name| name.parse().ok()).and_then(stat) {
            stats.push(found);
        }
    }
    Ok(stats)
}

/// The command between the parentheses may hold anything, more parentheses included: fields begin after the last.
fn parse(pid: i32, text: &[u8]) -> Option<Stat> {
    let after = text.iter().rposition(|byte| *byte == b')')? + 1;
    let fields: Vec<&str> = std::str::from_utf8(&text[after..]).ok()?.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        state: *fields.first()?.as_bytes().first()?,
        ppid: fields.get(1)?.parse().ok()?,
        pgid: fields.get(2)?.parse().ok()?,
        cpu_ms: (number(11)? + number(12)? + number(13)? + number(14)?) * 1000 / TICKS_PER_SECOND,
        start: number(19)?,
    })
}

/// The environment that it began with, unless it wrote over it. An error where it may not be read.
pub(crate) fn environ(pid: i32) -> io::Result<Vec<u8>> {
    read(&format!("/proc/{pid}/environ"), 16 * 1024)
}

/// The largest resident size that it had, in KiB.
pub(crate) fn peak_rss_kib(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// What it is called: its program alone, since arguments may hold secrets; at most 120 characters.
pub(crate) fn command(pid: i32) -> String {
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let program = cmdline.split(|byte| *byte == 0).next().unwrap_or_default();
    let name =
        if program.is_empty() { fs::read(format!("/proc/{pid}/comm")).unwrap_or_default() } else { program.to_vec() };
    String::from_utf8_lossy(&name).trim().chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = b"42 (a) R 1 (b) S 7 8 9 0 -1 4194304 1 0 0 0 10 20 30 40 20 0 1 0 555 1 2 3\n";
        let stat = parse(42, line).unwrap();
        assert_eq!((stat.state, stat.ppid, stat.pgid, stat.start, stat.cpu_ms), (b'S', 7, 8, 555, 1000));
    }

    #[test]
    fn this_process_is_listed_as_alive() {
        let me = i32::try_from(std::process::id()).unwrap();
        let found = all().unwrap().into_iter().find(|stat| stat.pid == me).unwrap();
        assert!(!found.is_dead());
        assert_eq!(stat(me).unwrap().id(), found.id());
        assert!(peak_rss_kib(me).unwrap() > 0);
    }
}
