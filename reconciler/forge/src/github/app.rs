//! A GitHub App in place of an account: it proves with its key who it is, and gets a token of its installation on the
//! repository, which is good for an hour.

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chiffon_schemas::Timestamp;
use reqwest::header::HeaderValue;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::json;

use crate::port::Permission;
use crate::times::time;

/// A token is asked for anew this long before it ends.
const RENEW_BEFORE_SECS: i64 = 300;

/// What the App says of itself holds for as long, within GitHub's ten minutes; clocks may differ by a minute.
const SAID_FOR_SECS: i64 = 480;
const CLOCKS_SECS: i64 = 60;

/// Why a key is none.
#[derive(Debug, thiserror::Error)]
#[error("it is no RSA key in PEM, as GitHub gives one for an App: {why}")]
pub struct BadKey {
    why: String,
}

/// An App.
pub struct App {
    id: u64,
    key: RsaKeyPair,
    now: fn() -> Timestamp,
    issued: Mutex<Option<Issued>>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A token of the App's installation.
#[derive(Debug, Clone)]
pub(super) struct Issued {
    pub token: String,
    until: Timestamp,
    /// What it may do with the repository's contents.
    pub permission: Permission,
}

impl App {
    /// The App of this number, by its private key in PEM; `now` is the wall clock.
    ///
    /// # Errors
    /// It is no RSA key.
    pub fn new(id: u64, key: &str, now: fn() -> Timestamp) -> Result<Self, BadKey> {
        let bad = |why: String| BadKey { why };
        let key = match PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| bad(error.to_string()))? {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(bad("it is of another kind".to_owned())),
        };
        let key = key.map_err(|error| bad(error.to_string()))?;
        Ok(Self { id, key, now, issued: Mutex::default() })
    }

    /// What it says of itself, signed (RFC 7519).
    pub(super) fn said(&self) -> HeaderValue {
        let now = (self.now)().secs();
        let claims = json!({
            "iss": self.id.to_string(), "iat": now - CLOCKS_SECS, "exp": now + SAID_FOR_SECS,
        });
        let part = |value: String| URL_SAFE_NO_PAD.encode(value);
        let text =
            format!("{}.{}", part(json!({ "alg": "RS256", "typ": "JWT" }).to_string()), part(claims.to_string()));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .expect("the buffer is as long as the key");
        let mut value = HeaderValue::try_from(format!("Bearer {text}.{}", URL_SAFE_NO_PAD.encode(signature)))
            .expect("base64 is visible ASCII");
        value.set_sensitive(true);
        value
    }

    /// The token that it has, for as long as that is good.
    pub(super) fn token(&self) -> Option<Issued> {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.clone().filter(|issued| (self.now)() < issued.until)
    }

    /// Its token is not taken any more.
    pub(super) fn drop_token(&self) {
        *self.issued.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Keeps a token that it got.
    pub(super) fn keep(&self, row: IssuedRow) -> Issued {
        let permission = match row.permissions.contents.as_str() {
            "write" => Permission::Write,
            "read" => Permission::Read,
            _ => Permission::None,
        };
        let until = time(row.expires_at.as_deref()).plus_secs(-RENEW_BEFORE_SECS);
        let issued = Issued { token: row.token, until, permission };
        *self.issued.lock().unwrap_or_else(PoisonError::into_inner) = Some(issued.clone());
        issued
    }
}

/// What GitHub says of an App.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AppRow {
    pub slug: String,
}

/// An App's place on a repository.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct InstallationRow {
    pub id: u64,
}

/// A token that was made.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct IssuedRow {
    token: String,
    expires_at: Option<String>,
    permissions: IssuedPermissions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IssuedPermissions {
    contents: String,
}
