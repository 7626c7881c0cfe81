//! What tests need inside the real binaries: named crash points, where a process kills itself or stands still when it is
//! told to, and a clock that is ahead. Nothing of it is in a build without the feature `crash-points`.

/// Every crash point, in the order of a request's life. Those of agents begin with `agent-`.
pub const CRASH_POINTS: &[&str] = &[
    "agent-said-hello",
    "hello-settled",
    "message-acknowledged",
    "main-read",
    "offer-row-written",
    "audit-committed",
    "audit-marked",
    "plan-branch-moved",
    "offer-shown",
    "commit-pinned",
    "approval-recorded",
    "order-recorded",
    "messages-sent",
    "messages-marked",
    "agent-journalled-order",
    "agent-acknowledged-order",
    // Only agents in processes of their own fetch.
    "agent-fetched",
    "agent-journalled-claim",
    "claim-recorded",
    "grant-recorded",
    "agent-journalled-started",
    "start-recorded",
    "agent-checked-out",
    "agent-process-started",
    "report-stored",
    "report-confirmed",
    "agent-playbook-ended",
    "agent-journalled-end",
    "agent-reported-end",
    "end-recorded",
    "agent-end-stored",
    "result-row-written",
    "result-audited",
    "commit-unpinned",
];

/// Nothing: crash points are only in builds with the feature `crash-points`.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn crash_point(_name: &str) {}

/// Kills this process with SIGKILL where `CHIFFON_CRASH_AT` names this point (`name`, or `name:2` for the second time; `any`
/// names them all), stops it with SIGSTOP where `CHIFFON_STOP_AT` does, and appends each reached name to the file `CHIFFON_CRASH_LOG`.
#[cfg(feature = "crash-points")]
#[expect(clippy::disallowed_methods, reason = "the one place of tests that reads the environment in production code")]
pub fn crash_point(name: &str) {
    use std::io::Write;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};
    static REACHED: AtomicU32 = AtomicU32::new(0);
    assert!(CRASH_POINTS.contains(&name), "{name} is not in CRASH_POINTS");
    if let Some(log) = std::env::var_os("CHIFFON_CRASH_LOG") {
        let file = std::fs::File::options().create(true).append(true).open(log);
        let _ = file.and_then(|mut file| writeln!(file, "{name}"));
    }
    for (variable, signal) in [("CHIFFON_CRASH_AT", Signal::KILL), ("CHIFFON_STOP_AT", Signal::STOP)] {
        let Ok(wanted) = std::env::var(variable) else { continue };
        let (point, time) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        if (point == name || point == "any") && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == time.parse().unwrap_or(1)
        {
            let _ = kill_process(getpid(), signal);
        }
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
