//! The reconciler's signature over everything that it tells an agent (S12): Ed25519 over the message's own bytes and the
//! name of the agent that it is for. Whoever holds a credential of the bus, and not this key, makes no agent do anything.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chiffon_schemas::Name;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

/// Bytes of a secret and of a public key.
const KEY_BYTES: usize = 32;

/// What can go wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is none.
    #[error("this is no key: 32 bytes in base64 are")]
    Malformed,
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// Signs for the reconciler.
pub struct Signer {
    keys: Ed25519KeyPair,
    secret: [u8; KEY_BYTES],
}

/// Tells what the reconciler signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    public: [u8; KEY_BYTES],
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("verifier", &self.verifier()).finish_non_exhaustive()
    }
}

/// In base64.
impl std::fmt::Display for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&BASE64.encode(self.public))
    }
}

impl Signer {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        let mut secret = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut secret).map_err(|_| KeyError::NoRandomness)?;
        Self::from_bytes(secret)
    }

    /// Reads what [`Signer::secret`] wrote.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(key_of(text)?)
    }

    fn from_bytes(secret: [u8; KEY_BYTES]) -> Result<Self, KeyError> {
        let keys = Ed25519KeyPair::from_seed_unchecked(&secret).map_err(|_| KeyError::Malformed)?;
        Ok(Self { keys, secret })
    }

    /// The secret in base64, for a file that only its owner reads.
    pub fn secret(&self) -> String {
        BASE64.encode(self.secret)
    }

    /// What others verify with.
    pub fn verifier(&self) -> Verifier {
        let mut public = [0; KEY_BYTES];
        public.copy_from_slice(self.keys.public_key().as_ref());
        Verifier { public }
    }

    /// The signature over a message for an agent, in base64.
    pub(crate) fn sign(&self, agent: &Name, message: &str) -> String {
        BASE64.encode(self.keys.sign(&signed_bytes(agent, message)))
    }
}

impl Verifier {
    /// Reads what its `Display` wrote.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Ok(Self { public: key_of(text)? })
    }

    /// Whether the reconciler signed this message for this agent.
    pub(crate) fn vouches(&self, agent: &Name, message: &str, signature: &str) -> bool {
        let Ok(signature) = BASE64.decode(signature) else { return false };
        UnparsedPublicKey::new(&ED25519, self.public).verify(&signed_bytes(agent, message), &signature).is_ok()
    }
}

/// No name holds a line's end, so no two pairs of agent and message give the same bytes.
fn signed_bytes(agent: &Name, message: &str) -> Vec<u8> {
    format!("chiffon v1 to {agent}\n{message}").into_bytes()
}

fn key_of(text: &str) -> Result<[u8; KEY_BYTES], KeyError> {
    let bytes = BASE64.decode(text.trim()).map_err(|_| KeyError::Malformed)?;
    bytes.try_into().map_err(|_| KeyError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s12_a_signature_is_for_one_message_and_one_agent() {
        let signer = Signer::generate().unwrap();
        let (one, two) = (Name::parse("one").unwrap(), Name::parse("two").unwrap());
        let signature = signer.sign(&one, "message");
        let verifier = signer.verifier();
        assert!(verifier.vouches(&one, "message", &signature));
        assert!(!verifier.vouches(&two, "message", &signature));
        assert!(!verifier.vouches(&one, "another", &signature));
        assert!(!Signer::generate().unwrap().verifier().vouches(&one, "message", &signature));
        for broken in ["", "AAAA", &signature[1..], "not base64 at all"] {
            assert!(!verifier.vouches(&one, "message", broken));
        }
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        let signer = Signer::generate().unwrap();
        assert_eq!(Signer::parse(&signer.secret()).unwrap().verifier(), signer.verifier());
        assert_eq!(Verifier::parse(&format!("{}\n", signer.verifier())).unwrap(), signer.verifier());
        for text in ["", "AAAA", "no key"] {
            assert_eq!(Verifier::parse(text), Err(KeyError::Malformed));
        }
        assert!(!format!("{signer:?}").contains(&signer.secret()));
    }
}
