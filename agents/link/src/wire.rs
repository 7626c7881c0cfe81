//! How a message looks on the wire, at most 1 MiB. From an agent: `{"v":1,"message":{…}}`, since the broker vouches for
//! its sender. To an agent: `{"v":1,"signed":"{…}","signature":"…"}`, where the message is a text, so that what is
//! verified is byte for byte what was signed, in any language.

use chiffon_schemas::{FromAgent, Name, ToAgent};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, Signer, Verifier};

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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    v: u64,
    signed: String,
    signature: String,
}

/// Only the version, so that a later envelope is refused as later and not as malformed.
#[derive(Deserialize)]
struct Version {
    v: u64,
}

/// Writes a message from an agent.
pub(crate) fn encode(message: &FromAgent) -> Result<Vec<u8>, Error> {
    write(&Envelope { v: VERSION, message })
}

/// Writes a message to an agent, signed.
pub(crate) fn seal(signer: &Signer, agent: &Name, message: &ToAgent) -> Result<Vec<u8>, Error> {
    let signed = serde_json::to_string(message).map_err(Error::Encode)?;
    let signature = signer.sign(agent, &signed);
    write(&Sealed { v: VERSION, signed, signature })
}

/// Reads a message from an agent; otherwise the reason for which it is put aside.
pub(crate) fn decode(bytes: &[u8]) -> Result<FromAgent, String> {
    read::<Envelope<FromAgent>>(bytes).map(|envelope| envelope.message)
}

/// Reads a message to an agent that the reconciler signed; otherwise the reason for which it is put aside.
pub(crate) fn open(verifier: &Verifier, agent: &Name, bytes: &[u8]) -> Result<ToAgent, String> {
    let sealed: Sealed = read(bytes)?;
    if !verifier.vouches(agent, &sealed.signed, &sealed.signature) {
        return Err("forged: it does not carry the reconciler's signature for this agent".to_owned());
    }
    serde_json::from_str(&sealed.signed).map_err(malformed)
}

fn write(envelope: &impl Serialize) -> Result<Vec<u8>, Error> {
    let bytes = serde_json::to_vec(envelope).map_err(Error::Encode)?;
    match bytes.len() {
        0..=MAX_MESSAGE_BYTES => Ok(bytes),
        bytes => Err(Error::Oversized { bytes, limit: MAX_MESSAGE_BYTES }),
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(format!("oversized: {} bytes are over the limit of {MAX_MESSAGE_BYTES}", bytes.len()));
    }
    let version: Version = serde_json::from_slice(bytes).map_err(malformed)?;
    if version.v != VERSION {
        return Err(format!("unknown version {}: this side reads version {VERSION}", version.v));
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

fn malformed(error: serde_json::Error) -> String {
    format!("malformed: {error}")
}

#[cfg(test)]
mod tests {
    use chiffon_schemas::protocol::{EXAMPLE_AGENT, EXAMPLE_KEY, EXAMPLE_SECRET, EXAMPLES};
    use serde_json::Value;

    use super::*;

    #[test]
    fn s12_the_examples_of_the_protocol_are_what_this_side_writes_and_reads() {
        let (signer, verifier) = (Signer::parse(EXAMPLE_SECRET).unwrap(), Verifier::parse(EXAMPLE_KEY).unwrap());
        let agent = Name::parse(EXAMPLE_AGENT).unwrap();
        let same = |bytes: Vec<u8>, text: &str| {
            assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        };
        let (mut sealed, mut open_ones) = (0, 0);
        for example in EXAMPLES {
            let bytes = example.text.as_bytes();
            if example.text.contains("\"signed\"") {
                let message = open(&verifier, &agent, bytes).unwrap();
                same(seal(&signer, &agent, &message).unwrap(), example.text);
                assert!(open(&verifier, &Name::parse("other").unwrap(), bytes).unwrap_err().starts_with("forged: "));
                sealed += 1;
            } else if example.text.contains("\"message\"") {
                same(encode(&decode(bytes).unwrap()).unwrap(), example.text);
                open_ones += 1;
            }
        }
        assert!(sealed >= 5 && open_ones >= 9, "{sealed} {open_ones}");
    }
}
