//! The name of one life of an agent.

use std::time::SystemTime;

use chiffon_schemas::{BootId, ulid};

/// A new one: no two lives have the same, and later ones sort after earlier ones while the clock is right.
///
/// # Panics
/// The kernel gives no random bytes.
#[expect(clippy::disallowed_methods, reason = "names a life once, at its start; nothing is decided by the time in it")]
pub fn new_boot() -> BootId {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut random = [0; 16];
    let filled = rustix::rand::getrandom(&mut random[..10], rustix::rand::GetRandomFlags::empty());
    // Requests of up to 256 bytes are never interrupted nor cut short; ids must never repeat in silence.
    assert_eq!(filled, Ok(10), "the kernel gives no random bytes");
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    BootId::parse(ulid(millis, u128::from_le_bytes(random))).expect("a ULID is the id of a life")
}
