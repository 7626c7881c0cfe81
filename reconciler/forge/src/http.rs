//! One forge over HTTP: a token, bounds on what it may answer, and what its refusals mean.
//!
//! No redirect is followed, nothing but the configured host is asked, and its name can't be made to stand for a service of
//! this machine (S11). A question that was answered before is
//! asked with the answer's `ETag`, so that a forge that knows it has nothing to send, and GitHub does not count it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Trouble;
use crate::reach::Careful;

/// A forge that takes longer is taken for one that does not answer.
const WITHIN: Duration = Duration::from_secs(20);

/// The longest answer: a page of pull requests with bodies of GitHub's largest size.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Answers that are remembered with their `ETag`.
const MAX_KNOWN: usize = 512;

/// The way out where a token is not taken.
const NEW_TOKEN: &str = "make a new one and put it into `forge.token_file`";

/// How long to wait where a forge asks for patience and does not say how much.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest wait that is believed.
const LONGEST: Duration = Duration::from_secs(3600);

/// Why no forge can be asked there.
#[derive(Debug, thiserror::Error)]
#[error("`forge.url` {reason}")]
pub struct BadAddress {
    /// Why.
    pub reason: String,
}

/// Where a forge is, and who speaks to it.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    /// `https://git.example`.
    pub url: &'a str,
    /// The path of its API, behind that: `api/v1`.
    pub api: &'a str,
    /// The certificate, in PEM, of the authority that signed the forge's.
    pub ca: Option<&'a str>,
    /// A person wants to go without TLS (S14).
    pub insecure: bool,
}

/// A question.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    pub method: Method,
    /// Segments of the path below the API; each is data and becomes one segment, whatever is in it.
    pub path: &'a [&'a str],
    pub query: &'a [(&'a str, String)],
    pub body: Option<Value>,
    /// Who asks, where that is somebody else than usual.
    pub by: Option<HeaderValue>,
    /// What it is for: the verb of a sentence.
    pub what: &'static str,
    /// What a token needs for it.
    pub needs: &'static str,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub bytes: Vec<u8>,
    /// There is another page.
    pub more: bool,
}

impl Answer {
    /// Reads it.
    pub fn read<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, Trouble> {
        serde_json::from_slice(&self.bytes).map_err(|error| Trouble::Unreadable { what, why: error.to_string() })
    }
}

/// An answer that was given with an `ETag`.
#[derive(Debug, Clone)]
struct Known {
    etag: HeaderValue,
    bytes: Vec<u8>,
    more: bool,
}

/// A forge.
pub(crate) struct Http {
    base: Url,
    client: Client,
    by: Mutex<HeaderValue>,
    known: Mutex<BTreeMap<String, Known>>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Http {
    /// A client for one address. `by` says who asks; `headers` go with every question.
    ///
    /// # Errors
    /// It is no address, holds a password, or leaves this machine in the clear.
    pub fn new(address: Address<'_>, mut by: HeaderValue, headers: HeaderMap) -> Result<Self, BadAddress> {
        let bad = |reason: String| BadAddress { reason };
        let mut base = Url::parse(address.url).map_err(|error| bad(format!("is no address: {error}")))?;
        if !["http", "https"].contains(&base.scheme()) || base.cannot_be_a_base() {
            return Err(bad("does not begin with https:// or http://".to_owned()));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(bad("holds a name or a password: the token belongs into `forge.token_file`".to_owned()));
        }
        if base.scheme() == "http" && !is_local(&base) && !address.insecure {
            return Err(bad("leaves this machine in the clear: write https://, or set `forge.insecure_tls: true` if \
                            you trust everybody on the way"
                .to_owned()));
        }
        base.set_query(None);
        base.set_fragment(None);
        base.path_segments_mut()
            .expect("http and https have a path")
            .pop_if_empty()
            .extend(address.api.split('/').filter(|part| !part.is_empty()));
        by.set_sensitive(true);
        // The process may have chosen another one before; either will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .no_proxy()
            .timeout(WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(std::sync::Arc::new(Careful::new(base.scheme() == "https")))
            .user_agent(concat!("chiffon/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers);
        if let Some(ca) = address.ca {
            let found = reqwest::Certificate::from_pem_bundle(ca.as_bytes()).map_err(|error| bad(error.to_string()))?;
            client = found.into_iter().fold(client, reqwest::ClientBuilder::add_root_certificate);
        }
        let client = client.build().map_err(|error| bad(error.to_string()))?;
        Ok(Self { base, client, by: Mutex::new(by), known: Mutex::default() })
    }

    /// From now on somebody else asks, or the same with another token.
    pub fn is_asked_by(&self, mut by: HeaderValue) {
        by.set_sensitive(true);
        *self.by.lock().unwrap_or_else(PoisonError::into_inner) = by;
    }

    /// The machine that it is on.
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or("localhost")
    }

    /// Asks, and takes every status but success for a trouble.
    pub async fn ask(&self, ask: Ask<'_>) -> Result<Answer, Trouble> {
        let (what, needs) = (ask.what, ask.needs);
        let (answer, headers) = self.send(ask).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(trouble(&answer, &headers, what, needs)) }
    }

    async fn send(&self, ask: Ask<'_>) -> Result<(Answer, HeaderMap), Trouble> {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("http and https have a path").extend(ask.path);
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(ask.query.iter().map(|(key, value)| (*key, value.as_str())));
        }
        let reads = ask.method == Method::GET;
        let known = if reads { self.known().get(url.as_str()).cloned() } else { None };
        let by = ask.by.unwrap_or_else(|| self.by.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let mut request = self.client.request(ask.method, url.clone()).header(reqwest::header::AUTHORIZATION, by);
        if let Some(known) = &known {
            request = request.header(reqwest::header::IF_NONE_MATCH, known.etag.clone());
        }
        if let Some(body) = &ask.body {
            request = request.json(body);
        }
        let unreachable = |error: reqwest::Error| self.unreachable(&error);
        let response = request.send().await.map_err(unreachable)?;
        let headers = response.headers().clone();
        let status = response.status();
        if let Some(Known { bytes, more, .. }) = known.filter(|_| status == StatusCode::NOT_MODIFIED) {
            return Ok((Answer { status: StatusCode::OK, bytes, more }, headers));
        }
        let bytes = self.body(response, ask.what).await?;
        let answer = Answer { status, bytes, more: has_next(&headers) };
        if reads && status.is_success() {
            self.remember(url, &headers, &answer);
        }
        Ok((answer, headers))
    }

    async fn body(&self, mut response: Response, what: &'static str) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if bytes.len() + part.len() > MAX_BYTES {
                return Err(Trouble::Unreadable { what, why: format!("it is longer than {MAX_BYTES} bytes") });
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }

    fn remember(&self, url: Url, headers: &HeaderMap, answer: &Answer) {
        let Some(etag) = headers.get(reqwest::header::ETAG) else { return };
        let mut known = self.known();
        // What is asked for changes with what is open; a new beginning now and then costs one full answer each.
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(url.into(), Known { etag: etag.clone(), bytes: answer.bytes.clone(), more: answer.more });
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Trouble {
        let mut why = String::new();
        let mut source: Option<&dyn std::error::Error> = Some(error);
        // The outermost says no more than that something failed, and names the whole address.
        while let Some(error) = source.and_then(std::error::Error::source) {
            why = error.to_string();
            source = Some(error);
        }
        let why = if why.is_empty() { error.to_string() } else { why };
        Trouble::Unreachable { at: self.base.origin().ascii_serialization(), why: said(&why) }
    }
}

/// What a refusal means.
fn trouble(answer: &Answer, headers: &HeaderMap, what: &'static str, needs: &'static str) -> Trouble {
    let said = message(&answer.bytes);
    if let Some(after) = patience(answer.status, headers, &said) {
        return Trouble::Later { what, after, said };
    }
    match answer.status {
        StatusCode::UNAUTHORIZED => Trouble::Unauthorized { said, fix: NEW_TOKEN },
        StatusCode::FORBIDDEN => Trouble::Forbidden { what, said, needs },
        StatusCode::NOT_FOUND | StatusCode::GONE => Trouble::NotFound { what, said },
        StatusCode::CONFLICT
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::UNPROCESSABLE_ENTITY
        | StatusCode::PRECONDITION_FAILED
        | StatusCode::LOCKED => Trouble::Conflict { what, said },
        status if status.is_redirection() => {
            let to = headers.get(reqwest::header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
            Trouble::Moved { what, to: self::said(to) }
        }
        status => Trouble::Failed { what, status: status.as_u16(), said },
    }
}

/// How long a forge asks to wait. GitHub answers 403 to who asked too often, with a hint that is not always there.
fn patience(status: StatusCode, headers: &HeaderMap, said: &str) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let asked = number("retry-after").map(Duration::from_secs);
    let spent = number("x-ratelimit-remaining") == Some(0) || said.to_ascii_lowercase().contains("rate limit");
    let limited = match status {
        StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::FORBIDDEN => asked.is_some() || spent,
        StatusCode::SERVICE_UNAVAILABLE => asked.is_some(),
        _ => false,
    };
    limited.then(|| asked.unwrap_or(PATIENCE).clamp(Duration::from_secs(1), LONGEST))
}

/// What a forge said, as one line: it is shown and recorded.
fn message(bytes: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(bytes).ok();
    let of = |value: &Value| value.get("message").and_then(Value::as_str).map(str::to_owned);
    let text = parsed.as_ref().and_then(of).unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned());
    said(&text)
}

/// Foreign text as one short line.
pub(crate) fn said(text: &str) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let flat = flat.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.is_empty() { "no reason given".to_owned() } else { flat.chars().take(300).collect() }
}

/// Whether a list goes on (RFC 8288).
fn has_next(headers: &HeaderMap) -> bool {
    headers
        .get_all(reqwest::header::LINK)
        .iter()
        .any(|link| link.to_str().is_ok_and(|link| link.contains("rel=\"next\"")))
}

/// Whether an address stays on this machine.
fn is_local(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}
