//! The name of one life of an agent, and its clock.

use std::time::{Duration, SystemTime};

use chiffon_schemas::{BootId, ulid};

/// A new one: no two lives have the same, and later ones sort after earlier ones while the clock is right.
///
/// # Panics
/// The kernel gives no random bytes.
pub fn new_boot() -> BootId {
    let mut random = [0; 16];
    let filled = rustix::rand::getrandom(&mut random[..10], rustix::rand::GetRandomFlags::empty());
    // Requests of up to 256 bytes are never interrupted nor cut short; ids must never repeat in silence.
    assert_eq!(filled, Ok(10), "the kernel gives no random bytes");
    BootId::parse(ulid(now_ms(), u128::from_le_bytes(random))).expect("a ULID is the id of a life")
}

/// Time since this machine started, sleep included, which no other clock of a process has.
pub fn uptime() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(clock);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Milliseconds since the epoch, for names and for traces: an agent decides nothing by its wall clock.
#[expect(clippy::disallowed_methods, reason = "the one place of the agent that reads the wall clock")]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
