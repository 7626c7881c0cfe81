//! What the reconciler answers over HTTP: whether it lives and is ready, its metrics, agents that enrol, forges that say that
//! something happened, and people who say what they want.
//!
//! It listens on this machine alone, or with TLS. Nothing here decides: it reads the store, and what the loop says of
//! itself, and leaves commands for the loop.

mod chat;
mod door;
mod enrolment;
mod guard;
mod health;
mod listen;
mod metrics;
mod openapi;
mod webhooks;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum_server::Handle;
use chiffon_store::{RepositoryId, Store};
use hyper_util::rt::TokioTimer;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

pub use door::Door;
pub use guard::Guard;
pub use health::{Health, Part};
pub use listen::{BadListen, Listen, Tls};
pub use metrics::{Metrics, Turn};
pub use webhooks::Hooks;

/// The path that agents enrol at.
pub const ENROLMENT_PATH: &str = "/v1/enrolments";

/// More than any question of an agent.
const MAX_BODY_BYTES: usize = 4096;

/// More than any message of a person.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Messages that are answered at the same time.
const TALKING: usize = 16;

/// How long the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// How long answers that are under way may take when it ends.
const END_WITHIN: Duration = Duration::from_secs(2);

/// What answers are made from.
#[derive(Clone)]
pub struct Context {
    /// What the loop says of itself.
    pub health: Arc<Health>,
    /// What the loop counts.
    pub metrics: Arc<Metrics>,
    /// The store and the requests repository in it, once it is open.
    pub store: Arc<OnceLock<(Arc<dyn Store>, RepositoryId)>>,
    /// The wall clock.
    pub now: fn() -> chiffon_schemas::Timestamp,
    /// What this server is called.
    pub guard: Arc<Guard>,
    /// Who may ask for something.
    pub door: Arc<Door>,
    /// The forge that may knock; none without a secret for it.
    pub hooks: Option<Arc<Hooks>>,
    /// Plans are pull requests.
    pub has_forge: bool,
    /// Has the loop look at once.
    pub wake: Arc<dyn Fn() + Send + Sync>,
    /// Why a request is in a state, and what a person would do next.
    pub words: Words,
    /// Room for messages that are being answered.
    pub talking: Arc<Semaphore>,
}

/// Why a request is in a state, and what a person would do next, in words.
pub type Words = fn(&chiffon_core::State, &chiffon_core::facts::RequestFacts) -> (String, String);

/// Room for as many messages as are answered at the same time.
pub fn room_to_talk() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(TALKING))
}

/// A server that answers until it is stopped.
#[derive(Debug)]
pub struct Web {
    handle: Handle<SocketAddr>,
    task: JoinHandle<std::io::Result<()>>,
    address: SocketAddr,
}

impl Web {
    /// Begins to listen.
    ///
    /// # Errors
    /// The address is taken, or the certificate can't be used.
    pub async fn start(listen: &Listen, context: Context) -> Result<Self, BadListen> {
        let handle = Handle::new();
        let app = routes(context).into_make_service();
        let socket = listen.bind()?;
        let task = match listen.tls().await? {
            None => {
                let mut server = axum_server::from_tcp(socket).map_err(|source| listen.failed(source))?;
                server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
                tokio::spawn(server.handle(handle.clone()).serve(app))
            }
            Some(tls) => {
                let mut server = axum_server::from_tcp_rustls(socket, tls).map_err(|source| listen.failed(source))?;
                server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
                tokio::spawn(server.handle(handle.clone()).serve(app))
            }
        };
        let Some(address) = handle.listening().await else {
            return Err(listen.failed(std::io::Error::other("it ended at once")));
        };
        Ok(Self { handle, task, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, with what is under way.
    pub async fn stop(self) {
        self.handle.graceful_shutdown(Some(END_WITHIN));
        if let Ok(Err(error)) = self.task.await {
            tracing::debug!(%error, "the server ended with an error");
        }
    }
}

fn routes(context: Context) -> Router {
    let small = Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::page))
        .route("/api/v1/openapi.json", get(openapi::document))
        .route(ENROLMENT_PATH, post(enrolment::enrol))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    let talk = Router::new().route("/api/v1/chat", post(chat::chat)).layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES));
    // Its own limit counts, since it keeps nothing of what it reads.
    let hooks = Router::new().route("/webhooks/{forge}", post(webhooks::hear)).layer(DefaultBodyLimit::disable());
    let guard = axum::middleware::from_fn_with_state(Arc::clone(&context.guard), guard::guard);
    small.merge(talk).merge(hooks).layer(guard).with_state(context)
}
