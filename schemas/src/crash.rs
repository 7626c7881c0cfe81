//! What tests need inside the real binaries: named crash points, where a process kills itself when it is told to, and a
//! clock that is ahead. Nothing of it is in a build without the feature `crash-points`.

/// Every crash point of the embedded path, in the order of a request's life.
pub const CRASH_POINTS: &[&str] = &[
    "offer-row-written",
    "offer-audited",
    "plan-branch-moved",
    "approval-recorded",
    "order-recorded",
    "order-relayed",
    "grant-recorded",
    "agent-journalled-started",
    "agent-playbook-ended",
    "result-row-written",
    "result-audited",
];

/// Nothing: crash points are only in builds with the feature `crash-points`.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn crash_point(_name: &str) {}

/// Kills this process with SIGKILL where `CHIFFON_CRASH_AT` names this point (`name` or `name:2` for the second time),
/// and appends each reached name to the file `CHIFFON_CRASH_LOG`.
#[cfg(feature = "crash-points")]
#[expect(clippy::disallowed_methods, reason = "the one place of tests that reads the environment in production code")]
pub fn crash_point(name: &str) {
    use std::io::Write;
    use std::sync::atomic::{AtomicU32, Ordering};
    static REACHED: AtomicU32 = AtomicU32::new(0);
    assert!(CRASH_POINTS.contains(&name), "{name} is not in CRASH_POINTS");
    if let Some(log) = std::env::var_os("CHIFFON_CRASH_LOG") {
        let file = std::fs::File::options().create(true).append(true).open(log);
        let _ = file.and_then(|mut file| writeln!(file, "{name}"));
    }
    let Ok(wanted) = std::env::var("CHIFFON_CRASH_AT") else { return };
    let (point, time) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    if point == name && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == time.parse().unwrap_or(1) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// How far the clock of this process is ahead, in seconds: 0, but for tests with the feature `crash-points`.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn clock_ahead() -> u64 {
    0
}

/// How far the clock of this process is ahead, in seconds: what `CHIFFON_CLOCK_AHEAD` says.
#[cfg(feature = "crash-points")]
#[expect(clippy::disallowed_methods, reason = "the one place of tests that reads the environment in production code")]
pub fn clock_ahead() -> u64 {
    std::env::var("CHIFFON_CLOCK_AHEAD").ok().and_then(|secs| secs.parse().ok()).unwrap_or(0)
}
