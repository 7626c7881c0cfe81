//! How a message looks on the wire: `{"v":1,"message":{…}}`, at most 1 MiB.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The version of the envelope that this side writes, and the only one that it reads.
pub const VERSION: u64 = 1;

/// The largest message in bytes. A chunk of a log is 64 KiB, escaped at worst six times that; the rest is room.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<T> {
    v: u64,
    message: T,
}

/// Only the version, so that a later envelope is refused as later and not as malformed.
#[derive(Deserialize)]
struct Version {
    v: u64,
}

/// Writes a message.
pub(crate) fn encode(message: &impl Serialize) -> Result<Vec<u8>, Error> {
    let bytes = serde_json::to_vec(&Envelope { v: VERSION, message }).map_err(Error::Encode)?;
    match bytes.len() {
        0..=MAX_MESSAGE_BYTES => Ok(bytes),
        bytes => Err(Error::Oversized { bytes, limit: MAX_MESSAGE_BYTES }),
    }
}

/// Reads a message; otherwise the reason for which it is put aside.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(format!("oversized: {} bytes are over the limit of {MAX_MESSAGE_BYTES}", bytes.len()));
    }
    let version: Version = serde_json::from_slice(bytes).map_err(|error| format!("malformed: {error}"))?;
    if version.v != VERSION {
        return Err(format!("unknown version {}: this side reads version {VERSION}", version.v));
    }
    let envelope: Envelope<T> = serde_json::from_slice(bytes).map_err(|error| format!("malformed: {error}"))?;
    Ok(envelope.message)
}
