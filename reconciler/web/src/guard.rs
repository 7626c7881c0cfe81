//! Who is spoken to at all (S10): a question names a host that is ours, comes from no other page, and is answered with
//! headers that let a browser do nothing with it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Names by which this server may be called, beside `localhost` and addresses: a page of somebody else's can make a name of
/// its own lead here, and then a browser takes us for that page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    names: Vec<String>,
}

impl Guard {
    /// Answers to these names, in any case.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Whether a `Host`, or the authority of an `Origin`, is ours.
    fn knows(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        host == "localhost" || host.parse::<IpAddr>().is_ok() || self.names.contains(&host)
    }

    /// Why a question is not taken.
    fn refuses(&self, method: &Method, headers: &HeaderMap, authority: Option<&str>) -> Option<(StatusCode, String)> {
        let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        // One of HTTP/2 has it in its address.
        let host = text(HOST).or(authority).unwrap_or_default();
        if !self.knows(host) {
            let shown: String = host.chars().filter(|c| !c.is_control()).take(100).collect();
            let why = format!("this server is not called `{shown}`: add the name to `web.hosts` in chiffon.yaml");
            return Some((StatusCode::MISDIRECTED_REQUEST, why));
        }
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return None;
        }
        let foreign = |origin: &str| origin.split_once("://").is_none_or(|(_, authority)| !self.knows(authority));
        let crosses = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
        let refused = crosses || text(ORIGIN).is_some_and(foreign);
        refused.then(|| (StatusCode::FORBIDDEN, "this comes from a page of somebody else's".to_owned()))
    }
}

/// Lets only those through that may be.
pub(crate) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let refused = guard.refuses(request.method(), request.headers(), authority.as_deref());
    let mut response = match refused {
        Some((status, why)) => (status, Json(json!({ "error": why }))).into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(method: Method, headers: &[(&'static str, &str)]) -> Option<StatusCode> {
        let guard = Guard::new(["chiffon.lan".to_owned()]);
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        guard.refuses(&method, &headers.collect(), None).map(|(status, _)| status)
    }

    #[test]
    fn s10_a_name_that_is_not_ours_is_misdirected() {
        for host in ["localhost:7440", "127.0.0.1:7440", "[::1]:7440", "192.168.1.2", "chiffon.lan:443", "CHIFFON.lan"]
        {
            assert_eq!(refusal(Method::GET, &[("host", host)]), None, "{host}");
        }
        for host in
            ["evil.test", "evil.test:7440", "localhost.evil.test", "127.0.0.1.evil.test", "", "a b", "chiffon.lan.evil"]
        {
            assert_eq!(refusal(Method::GET, &[("host", host)]), Some(StatusCode::MISDIRECTED_REQUEST), "{host}");
        }
        assert_eq!(refusal(Method::GET, &[]), Some(StatusCode::MISDIRECTED_REQUEST));
    }

    #[test]
    fn s10_what_a_foreign_page_sends_is_forbidden() {
        let host = ("host", "chiffon.lan");
        for origin in ["https://evil.test", "null", "", "https://chiffon.lan.evil.test"] {
            let refused = refusal(Method::POST, &[host, ("origin", origin)]);
            assert_eq!(refused, Some(StatusCode::FORBIDDEN), "{origin}");
        }
        assert_eq!(refusal(Method::POST, &[host, ("sec-fetch-site", "cross-site")]), Some(StatusCode::FORBIDDEN));
        assert_eq!(refusal(Method::POST, &[host, ("origin", "https://chiffon.lan")]), None);
        assert_eq!(refusal(Method::POST, &[host]), None, "no browser asks");
    }
}
