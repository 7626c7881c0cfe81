//! `POST /webhooks/{gitea,forgejo,github}`: a forge says that something happened. It carries no authority (S5): a true one
//! means "look now", and the look goes by what the forge answers. One that never comes costs a poll.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt as _;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::Semaphore;

use crate::Context;

/// The longest body: what GitHub sends at most.
const MAX_BYTES: usize = 25 * 1024 * 1024;

/// A body that is longer is not looked into: that it is true says enough.
const READ_BYTES: usize = 1024 * 1024;

/// The longest that a body may take.
const READ_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// Bodies that are taken in at the same time.
const AT_ONCE: usize = 8;

/// The forge that may knock.
pub struct Hooks {
    /// What it is called in the path: `github`, or `gitea` and `forgejo`, which are one.
    paths: &'static [&'static str],
    secret: Vec<u8>,
    /// `owner/name`, as the forge has it.
    repository: String,
    heard: Box<dyn Fn() + Send + Sync>,
    room: Semaphore,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").field("repository", &self.repository).finish_non_exhaustive()
    }
}

impl Hooks {
    /// Of GitHub, or else of Gitea or Forgejo; `heard` is called for each event that is true.
    pub fn new(github: bool, secret: &str, repository: &str, heard: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            paths: if github { &["github"] } else { &["gitea", "forgejo"] },
            secret: secret.as_bytes().to_vec(),
            repository: repository.to_owned(),
            heard: Box::new(heard),
            room: Semaphore::new(AT_ONCE),
        }
    }

    /// The signature that a question carries: Gitea's and Forgejo's are bare, and newer ones send GitHub's as well.
    fn signature(&self, headers: &HeaderMap) -> Option<Vec<u8>> {
        let names: &[&str] = match self.paths {
            ["github"] => &["x-hub-signature-256"],
            _ => &["x-forgejo-signature", "x-gitea-signature", "x-hub-signature-256"],
        };
        let (name, value) = names.iter().find_map(|name| Some((name, headers.get(*name)?.to_str().ok()?)))?;
        let digits = if *name == "x-hub-signature-256" { value.strip_prefix("sha256=")? } else { value };
        from_hex(digits)
    }
}

/// Sixty-four hexadecimal digits as bytes.
fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let bytes = digits.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let digit = |byte: u8| (byte as char).to_digit(16);
    bytes.chunks(2).map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()).collect()
}

/// What is read of an event.
#[derive(Deserialize)]
struct Event {
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

pub(crate) async fn hear(
    State(context): State<Context>,
    Path(forge): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> (StatusCode, Json<Value>) {
    let answer = |status: StatusCode, what: Value| (status, Json(what));
    let refuse = |status: StatusCode, why: &str| (status, Json(json!({ "error": why })));
    let Some(hooks) = context.hooks.as_ref().filter(|hooks| hooks.paths.contains(&forge.as_str())) else {
        return refuse(StatusCode::NOT_FOUND, "no such forge is configured with a `webhook_secret_file`");
    };
    // What can't be signed rightly is not worth taking in.
    let Some(signature) = hooks.signature(&headers) else {
        return refuse(StatusCode::UNAUTHORIZED, "it is not signed");
    };
    let Ok(_room) = hooks.room.try_acquire() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many at once: send it again");
    };
    let head = match tokio::time::timeout(READ_WITHIN, verified(hooks, &signature, body)).await {
        Ok(Ok(head)) => head,
        Ok(Err((status, why))) => return refuse(status, why),
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "it came too slowly"),
    };
    if let Some(head) = head {
        let event: Event = match serde_json::from_slice(&head) {
            Ok(event) => event,
            Err(_) => return refuse(StatusCode::BAD_REQUEST, "it is not JSON: set the hook's content type to that"),
        };
        let of = event.repository.map(|repository| repository.full_name);
        if of.as_ref().is_some_and(|name| !name.eq_ignore_ascii_case(&hooks.repository)) {
            return answer(StatusCode::OK, json!({ "woken": false, "why": "it is of another repository" }));
        }
    }
    (hooks.heard)();
    answer(StatusCode::ACCEPTED, json!({ "woken": true }))
}

/// Reads a body to its end and judges its signature, keeping no more of it than is looked into.
async fn verified(hooks: &Hooks, signature: &[u8], body: Body) -> Result<Option<Vec<u8>>, (StatusCode, &'static str)> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&hooks.secret).expect("any length of key is taken");
    let (mut head, mut length) = (Some(Vec::new()), 0);
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| (StatusCode::BAD_REQUEST, "it was cut off"))?;
        length += part.len();
        if length > MAX_BYTES {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "it is longer than any event"));
        }
        mac.update(&part);
        match &mut head {
            Some(kept) if length <= READ_BYTES => kept.extend_from_slice(&part),
            _ => head = None,
        }
    }
    // Takes as long for a wrong signature as for a right one.
    mac.verify_slice(signature).map_err(|_| (StatusCode::UNAUTHORIZED, "its signature is wrong"))?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(github: bool) -> Hooks {
        Hooks::new(github, "secret", "ops/requests", || {})
    }

    fn signed(body: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
        mac.update(body);
        mac.finalize().into_bytes().to_vec()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(axum::http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn s5_each_forge_signs_in_its_own_way_and_nothing_else_counts() {
        let digest = "ab".repeat(32);
        let prefixed = format!("sha256={digest}");
        for name in ["x-gitea-signature", "x-forgejo-signature"] {
            assert!(hooks(false).signature(&headers(name, &digest)).is_some(), "{name}");
            assert!(hooks(true).signature(&headers(name, &digest)).is_none(), "{name}");
            assert!(hooks(false).signature(&headers(name, &prefixed)).is_none(), "{name}");
        }
        for github in [true, false] {
            assert!(hooks(github).signature(&headers("x-hub-signature-256", &prefixed)).is_some());
            assert!(hooks(github).signature(&headers("x-hub-signature-256", &digest)).is_none());
            // SHA-1 is not good enough.
            assert!(
                hooks(github).signature(&headers("x-hub-signature", &format!("sha1={}", "a".repeat(40)))).is_none()
            );
            assert!(hooks(github).signature(&HeaderMap::new()).is_none());
        }
        for wrong in [&digest[..62], "", "zz", &digest.replace('a', "g"), &format!("{digest}00")] {
            assert!(hooks(false).signature(&headers("x-gitea-signature", wrong)).is_none(), "{wrong}");
        }
        assert_eq!(from_hex(&hex(&signed(b"x"))), Some(signed(b"x")));
    }

    #[tokio::test]
    async fn s5_a_body_is_judged_whole_and_kept_only_where_it_is_small() {
        let small = b"{}".to_vec();
        let kept = verified(&hooks(true), &signed(&small), Body::from(small.clone())).await;
        assert_eq!(kept, Ok(Some(small.clone())));
        let wrong = verified(&hooks(true), &signed(b"{ }"), Body::from(small)).await;
        assert_eq!(wrong.unwrap_err().0, StatusCode::UNAUTHORIZED);
        let large = vec![b' '; READ_BYTES + 1];
        let kept = verified(&hooks(true), &signed(&large), Body::from(large.clone())).await;
        assert_eq!(kept, Ok(None));
        let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 20]));
        let refused = verified(&hooks(true), &[], Body::from_stream(endless)).await;
        assert_eq!(refused.unwrap_err().0, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
