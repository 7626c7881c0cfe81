//! A forge for tests: real rules over a real bare repository, spoken in the dialect of each vendor, with faults on demand.
//! What goes over the line is held against the vendor's own description of its interface.

mod app;
mod description;
mod git;
mod gitea;
mod gitea_setup;
mod github;
mod github_setup;
mod host;
mod real;
mod state;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, State as Extracted};
use axum::http::{Request, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use description::Description;

pub use host::{Host, Shown};
pub use real::RealGitea;
pub use state::{Comment, Fate, Fault, No, Pull, Review, Role, Rule, State, Status};

/// Who asks.
#[derive(Debug, Clone)]
pub struct Login(pub String);

/// What all answers are made from.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<State>>);

impl Shared {
    /// The forge, for as long as nobody else looks.
    pub fn forge(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which vendor's way of speaking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Gitea and Forgejo.
    Gitea,
    /// GitHub.
    GitHub,
}

/// A forge that answers on this machine until it is dropped.
#[derive(Debug)]
pub struct TestForge {
    dialect: Dialect,
    shared: Shared,
    address: SocketAddr,
    _folder: tempfile::TempDir,
    bare: PathBuf,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl TestForge {
    /// One with an empty repository `ops/requests`.
    pub fn start(dialect: Dialect) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bare = folder.path().join("requests.git");
        let made = std::process::Command::new("git")
            .args(["init", "--quiet", "--bare", "--initial-branch=main"])
            .arg(&bare)
            .status();
        assert!(made.unwrap().success());
        let shared = Shared(Arc::new(Mutex::new(State::new(&bare))));
        let routes = match dialect {
            Dialect::Gitea => gitea::routes(),
            Dialect::GitHub => github::routes(),
        };
        let seen = axum::middleware::from_fn_with_state((shared.clone(), dialect), described);
        let app = routes
            .layer(seen)
            .layer(axum::middleware::from_fn_with_state(shared.clone(), enter))
            .with_state(shared.clone());
        let (address, stop) = serve(app);
        Self { dialect, shared, address, _folder: folder, bare, _stop: stop }
    }

    /// The bare repository behind it.
    pub fn bare(&self) -> &Path {
        &self.bare
    }

    /// What it remembers.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.forge()
    }

    /// What a file of a branch holds.
    ///
    /// # Panics
    /// It is not there.
    pub fn read(&self, branch: &str, path: &str) -> String {
        git::read(&self.bare, branch, path).unwrap()
    }

    /// Puts something that goes wrong behind what is there already.
    pub fn fault(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }
}

impl Drop for TestForge {
    /// What was not as the vendor describes it fails the test.
    fn drop(&mut self) {
        let undescribed = std::mem::take(&mut self.state().undescribed);
        if !std::thread::panicking() {
            assert!(undescribed.is_empty(), "not as the vendor describes it: {undescribed:#?}");
        }
    }
}

/// Answers on a free port, on a thread of its own.
fn serve(app: Router) -> (SocketAddr, tokio::sync::oneshot::Sender<()>) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = tokio::net::TcpListener::from_std(socket).unwrap();
            tokio::select! {
                ended = axum::serve(socket, app).into_future() => ended.unwrap(),
                _ = stopped => {}
            }
        });
    });
    (address, stop)
}

/// Holds what is asked and what is answered against the vendor's description.
async fn described(
    Extracted((shared, dialect)): Extracted<(Shared, Dialect)>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let description = Description::of(dialect);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    // GraphQL has a description of another kind.
    if uri.path() == "/graphql" {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let asked = to_bytes(body, usize::MAX).await.unwrap();
    let operation = description.operation(&method, uri.path());
    let query = Query::<Vec<(String, String)>>::try_from_uri(&uri).map(|Query(query)| query).unwrap_or_default();
    let body = (!asked.is_empty()).then(|| serde_json::from_slice(&asked).unwrap_or(serde_json::Value::Null));
    let found = match operation {
        None => Err(format!("{method} {uri} is nothing that it knows")),
        Some(operation) => description.asked(operation, &query, body.as_ref()),
    };
    let response = next.run(Request::from_parts(head, Body::from(asked))).await;
    let (mut head, body) = response.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    let mut answer = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    let status = head.status.as_u16();
    if let Some(operation) = operation.filter(|_| dialect == Dialect::GitHub) {
        answer = description.completed(operation, status, &answer);
    }
    // Refusals that any question may meet are not listed with each; nor is that nothing changed.
    let any = matches!(status, 304 | 401 | 403 | 404 | 405 | 409 | 412 | 422);
    let told = match operation {
        Some(operation) if !any => description.answered(operation, status, &answer),
        _ => Ok(()),
    };
    let mut forge = shared.forge();
    forge.unchanged += usize::from(status == 304);
    forge.undescribed.extend([found, told].into_iter().filter_map(Result::err));
    Response::from_parts(head, Body::from(answer))
}

/// The scope that a token lacks for a question, in Gitea's words.
fn lacked_scope(shared: &Shared, token: Option<&str>, request: &Request<Body>) -> Option<&'static str> {
    let forge = shared.forge();
    let (_, scopes) = forge.tokens.get(token?)?;
    let writes = request.method() != axum::http::Method::GET;
    let needs = if request.uri().path().contains("/issues/") { "write:issue" } else { "write:repository" };
    (writes && !scopes.contains("all") && !scopes.contains(needs)).then_some(needs)
}

/// Lets in who has a token, and lets go wrong what is to.
async fn enter(Extracted(shared): Extracted<Shared>, mut request: Request<Body>, next: Next) -> Response {
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|text| text.strip_prefix("token ").or_else(|| text.strip_prefix("Bearer ")));
    let token = token.map(str::to_owned);
    let token = token.as_deref();
    let (login, fault, loses) = {
        let is_of = |(method, path): (&str, &str)| request.method() == method && request.uri().path().ends_with(path);
        let mut forge = shared.forge();
        forge.asked.push(format!("{} {}", request.method(), request.uri()));
        let known = token.and_then(|token| forge.tokens.get(token)).map(|(login, _)| login.clone());
        let login = known.or_else(|| app::proved(forge.app.as_ref()?, token?));
        if forge.refuses.is_some_and(is_of) {
            return (StatusCode::SERVICE_UNAVAILABLE, r#"{"message": "as the test wants it"}"#).into_response();
        }
        if forge.down {
            return StatusCode::BAD_GATEWAY.into_response();
        }
        let is_due = !matches!(forge.faults.front(), None | Some(Fault::StillComputing));
        let fault = if is_due { forge.faults.pop_front() } else { None };
        (login, fault, forge.loses.is_some_and(is_of))
    };
    if let Some(Fault::Refuse(status, headers)) = fault {
        let status = StatusCode::from_u16(status).unwrap();
        let mut response = (status, r#"{"message": "as the test wants it"}"#).into_response();
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        return response;
    }
    let Some(login) = login else {
        return (StatusCode::UNAUTHORIZED, r#"{"message": "invalid username, password or token"}"#).into_response();
    };
    if let Some(lacks) = lacked_scope(&shared, token, &request) {
        let why =
            format!(r#"{{"message": "token does not have at least one of required scope(s), required=[{lacks}]"}}"#);
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    request.extensions_mut().insert(Login(login));
    let response = next.run(request).await;
    if loses || fault == Some(Fault::LoseAnswer) {
        // It ends before it is as long as it says.
        return ([(header::CONTENT_LENGTH, "1000")], Body::from("{")).into_response();
    }
    response
}

/// What a PEM file holds.
pub fn from_pem(pem: &[u8]) -> Vec<u8> {
    use base64::Engine as _;

    let text = String::from_utf8_lossy(pem);
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(body).unwrap()
}

/// A text of a question.
fn text<'a>(body: &'a serde_json::Value, key: &str) -> Option<&'a str> {
    body.get(key).and_then(serde_json::Value::as_str)
}

/// A time as everybody asks for it.
fn utc(secs: i64) -> String {
    chiffon_schemas::Timestamp::from_secs(secs).to_string()
}

/// HMAC over SHA-256 (RFC 2104), in hexadecimal: a forge's signature, made without the code that checks it.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> String {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let mut block = if key.len() > 64 { bytes(&chiffon_schemas::digest(key)) } else { key.to_vec() };
    block.resize(64, 0);
    let pad = |with: u8| block.iter().map(move |byte| byte ^ with).collect::<Vec<u8>>();
    let inner = chiffon_schemas::digest(&[pad(0x36), message.to_vec()].concat());
    chiffon_schemas::digest(&[pad(0x5c), bytes(&inner)].concat())
}
