//! Who may ask for what: bearer tokens, each of a person, with scopes and a rate.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use chiffon_core::Person;
use chiffon_schemas::{Scope, TokenSpec};
use tokio::time::{Duration, Instant};

/// Questions of one token: so many at once, and so many more each minute.
const BURST: f64 = 20.0;
const PER_MINUTE: f64 = 30.0;

/// Tokens that are known, and how much was asked with each.
#[derive(Debug, Default)]
pub struct Door {
    tokens: Vec<TokenSpec>,
    asked: Mutex<BTreeMap<String, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub status: StatusCode,
    pub why: String,
    /// When it is worth asking again.
    pub after: Option<Duration>,
}

impl Refused {
    fn new(status: StatusCode, why: &str) -> Self {
        Self { status, why: why.to_owned(), after: None }
    }
}

impl Door {
    /// Knows these tokens.
    pub fn new(tokens: Vec<TokenSpec>) -> Self {
        Self { tokens, asked: Mutex::default() }
    }

    /// Who asks, where their token has the scope and was not used too often.
    pub(crate) fn admit(&self, headers: &HeaderMap, scope: Scope, now: Instant) -> Result<Person, Refused> {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|given| given.strip_prefix("Bearer ")).map(str::trim);
        let Some(token) = token else {
            return Err(Refused::new(StatusCode::UNAUTHORIZED, "a token is missing: `Authorization: Bearer TOKEN`"));
        };
        // Only digests are known and compared, of tokens that nobody can guess: how long it takes tells nothing of use.
        let digest = chiffon_schemas::digest(token.as_bytes());
        let Some(known) = self.tokens.iter().find(|known| known.sha256 == digest) else {
            return Err(Refused::new(StatusCode::UNAUTHORIZED, "no such token is known"));
        };
        if !known.scopes.contains(&scope) {
            let why = format!("this token may not do that: it lacks the scope `{}`", scope.as_str());
            return Err(Refused::new(StatusCode::FORBIDDEN, &why));
        }
        self.spend(&digest, now)?;
        Ok(Person { name: known.name.clone(), email: known.email.clone() })
    }

    fn spend(&self, digest: &str, now: Instant) -> Result<(), Refused> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = asked.entry(digest.to_owned()).or_insert(Bucket { left: BURST, at: now });
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        *bucket = Bucket { left: (bucket.left + since * PER_MINUTE / 60.0).min(BURST), at: now };
        if bucket.left < 1.0 {
            let after = Duration::from_secs_f64(((1.0 - bucket.left) * 60.0 / PER_MINUTE).ceil());
            let why = format!("this token asks too often: {PER_MINUTE} questions a minute are answered");
            return Err(Refused { status: StatusCode::TOO_MANY_REQUESTS, why, after: Some(after) });
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Door {
        let token = |name: &str, scopes: &[Scope]| TokenSpec {
            name: name.to_owned(),
            email: format!("{name}@lab.example"),
            sha256: chiffon_schemas::digest(name.as_bytes()),
            scopes: scopes.to_vec(),
        };
        Door::new(vec![token("ann", &[Scope::Chat]), token("rea", &[])])
    }

    fn admitted(door: &Door, value: &str, now: Instant) -> Result<Person, StatusCode> {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        door.admit(&headers, Scope::Chat, now).map_err(|refused| refused.status)
    }

    #[test]
    fn s10_only_a_known_token_with_the_scope_is_let_in() {
        let (door, now) = (door(), Instant::now());
        assert_eq!(admitted(&door, "Bearer ann", now).unwrap().email, "ann@lab.example");
        for wrong in ["Bearer ben", "Bearer", "Bearer ", "ann", "Basic ann", "bearer ann", "Bearer ann ben"] {
            assert_eq!(admitted(&door, wrong, now), Err(StatusCode::UNAUTHORIZED), "{wrong}");
        }
        assert_eq!(admitted(&door, "Bearer rea", now), Err(StatusCode::FORBIDDEN));
        let none = door.admit(&HeaderMap::new(), Scope::Chat, now).unwrap_err();
        assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn s10_a_token_that_asks_too_often_is_told_when_to_come_back() {
        let (door, now) = (door(), Instant::now());
        let answers = (0..60).filter(|_| admitted(&door, "Bearer ann", now).is_ok()).count();
        assert_eq!(answers, 20);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, "Bearer ann".parse().unwrap())]);
        let refused = door.admit(&headers, Scope::Chat, now).unwrap_err();
        assert_eq!((refused.status, refused.after), (StatusCode::TOO_MANY_REQUESTS, Some(Duration::from_secs(2))));
        assert!(admitted(&door, "Bearer ann", now + Duration::from_secs(2)).is_ok());
        assert!(admitted(&door, "Bearer ann", now + Duration::from_secs(2)).is_err());
    }
}
