//! The token of an invitation: a name, by which the reconciler knows the invitation, and a key, which it forgets.
//!
//! An agent's credentials are sealed with the key before they are kept, and whoever names the invitation gets them so.
//! Neither the database nor who listens on the way can read them; only who was given the token.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use chiffon_schemas::Credentials;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::KeyError;

const NAME_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// How every token begins: nobody takes it for an option, and who searches for secrets finds it.
const PREFIX: &str = "chf_";

/// What the sealed bytes are for, so that nothing else that was sealed passes for them.
const PURPOSE: &[u8] = b"chiffon v1 credentials of an agent";

/// The token of an invitation. Its text is a secret.
pub struct Token {
    name: [u8; NAME_BYTES],
    key: [u8; KEY_BYTES],
}

/// Why a token gives no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// The text is none.
    #[error("this is no token of an invitation: copy all of what `chiffon agent invite` printed")]
    Malformed,
    /// What was sealed was sealed with another one, or changed.
    #[error("what the reconciler gave was not made for this token")]
    Foreign,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        let (mut name, mut key) = ([0; NAME_BYTES], [0; KEY_BYTES]);
        let random = SystemRandom::new();
        random.fill(&mut name).and_then(|()| random.fill(&mut key)).map_err(|_| KeyError::NoRandomness)?;
        Ok(Self { name, key })
    }

    /// Reads what [`Token::secret`] gave.
    ///
    /// # Errors
    /// [`BadToken::Malformed`].
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let text = text.trim().strip_prefix(PREFIX).ok_or(BadToken::Malformed)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadToken::Malformed)?;
        let (name, key) = bytes.split_at_checked(NAME_BYTES).ok_or(BadToken::Malformed)?;
        let malformed = |_| BadToken::Malformed;
        Ok(Self { name: name.try_into().map_err(malformed)?, key: key.try_into().map_err(malformed)? })
    }

    /// Its whole text, for the one who is invited.
    pub fn secret(&self) -> String {
        PREFIX.to_owned() + &URL_SAFE_NO_PAD.encode([&self.name[..], &self.key[..]].concat())
    }

    /// What the reconciler is told of it.
    pub fn name(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.name)
    }

    /// Seals credentials with its key. Of one token only once: the nonce is always the same.
    ///
    /// # Panics
    /// Never: credentials are plain data, far below what the cipher takes.
    pub fn seal(&self, credentials: &Credentials) -> String {
        let mut bytes = serde_json::to_vec(credentials).expect("credentials are plain data");
        self.cipher()
            .seal_in_place_append_tag(nonce(), Aad::from(PURPOSE), &mut bytes)
            .expect("a message of some kilobytes");
        BASE64.encode(bytes)
    }

    /// Opens what [`Token::seal`] sealed.
    ///
    /// # Errors
    /// [`BadToken::Foreign`].
    pub fn open(&self, sealed: &str) -> Result<Credentials, BadToken> {
        let mut bytes = BASE64.decode(sealed).map_err(|_| BadToken::Foreign)?;
        let plain = self.cipher().open_in_place(nonce(), Aad::from(PURPOSE), &mut bytes);
        serde_json::from_slice(plain.map_err(|_| BadToken::Foreign)?).map_err(|_| BadToken::Foreign)
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &self.key).expect("a key of 32 bytes"))
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; ring::aead::NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;
    use chiffon_schemas::{InfraSource, Name};

    fn credentials() -> Credentials {
        Credentials {
            agent: Name::parse("nas01").unwrap(),
            amqp_url: "amqps://v.agent.nas01@broker.lan/v".to_owned(),
            password: "the password".to_owned(),
            ca: None,
            insecure_tls: false,
            reconciler_key: "a key".to_owned(),
            requests: None,
            infra: InfraSource { url: None, branch: "main".to_owned() },
        }
    }

    #[test]
    fn s12_only_the_tokens_holder_reads_what_was_sealed() {
        let token = Token::generate().unwrap();
        let sealed = token.seal(&credentials());
        assert_eq!(Token::parse(&format!(" {}\n", token.secret())).unwrap().open(&sealed).unwrap(), credentials());
        assert_eq!(Token::generate().unwrap().open(&sealed), Err(BadToken::Foreign));
        let bytes = BASE64.decode(&sealed).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("password"));
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(token.open(&BASE64.encode(changed)), Err(BadToken::Foreign));
        }
        for sealed in ["", "AAAA", "no base64!"] {
            assert_eq!(token.open(sealed), Err(BadToken::Foreign));
        }
    }

    #[test]
    fn the_example_of_the_protocol_is_opened_by_its_token() {
        use chiffon_schemas::protocol::{EXAMPLE_TOKEN, example};
        let json = |name: &str| serde_json::from_str::<serde_json::Value>(example(name)).unwrap();
        let token = Token::parse(EXAMPLE_TOKEN).unwrap();
        assert_eq!(json("enrolment-question"), serde_json::json!({ "invitation": token.name() }));
        let opened = token.open(json("enrolment-answer")["sealed"].as_str().unwrap()).unwrap();
        assert_eq!(serde_json::to_value(&opened).unwrap(), json("credentials"));
        assert_eq!(serde_json::Value::from(token.seal(&opened)), json("enrolment-answer")["sealed"]);
    }

    #[test]
    fn a_token_is_read_as_a_whole() {
        let token = Token::generate().unwrap();
        let secret = token.secret();
        assert_eq!(Token::parse(&secret).unwrap().name(), token.name());
        assert!(
            secret.starts_with(PREFIX)
                && secret[4..].starts_with(&token.name()[..20])
                && !format!("{token:?}").contains(&secret)
        );
        for broken in [
            "",
            "abc",
            &secret[1..],
            &secret[4..],
            &secret[..secret.len() - 2],
            &format!("{secret}AAAA"),
            "not a token",
        ] {
            assert!(matches!(Token::parse(broken), Err(BadToken::Malformed)), "{broken}");
        }
    }
}
