//! The infra agent's work on a machine of its own: before it looks at an order it fetches both repositories, since git
//! is all that it trusts.

use std::sync::Arc;
use std::time::Duration;

use chiffon_infra::Ansible;
use chiffon_requests::{Git, Mirror};
use chiffon_runtime::{RunContext, Work};
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{AgentKind, Order, Outcome};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How often a repository that can't be reached is tried before the order is declined, and the pauses in between: in
/// all about a minute.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(32),
];

/// Ansible, from copies of the repositories that are brought up to date for each order.
pub struct Fetching {
    ansible: Ansible,
    git: Git,
    mirrors: Arc<[Mirror; 2]>,
    /// When the last fetch that succeeded began.
    fetched: Mutex<Option<Instant>>,
}

impl Fetching {
    /// Work over these copies; nobody else writes to them.
    pub fn new(ansible: Ansible, git: Git, mirrors: [Mirror; 2]) -> Self {
        for path in mirrors.iter().flat_map(Mirror::clear_locks) {
            tracing::warn!(%path, "removed a lock that a killed process left behind");
        }
        Self { ansible, git, mirrors: Arc::new(mirrors), fetched: Mutex::default() }
    }

    /// Fetches, unless a fetch that began after this was asked for has brought everything already: many orders at once
    /// cost one.
    async fn fetch(&self) -> Result<(), String> {
        let asked = Instant::now();
        let mut fetched = self.fetched.lock().await;
        if fetched.is_some_and(|began| began >= asked) {
            return Ok(());
        }
        let began = Instant::now();
        let mut pauses = PAUSES.iter();
        loop {
            let (git, mirrors) = (self.git.clone(), Arc::clone(&self.mirrors));
            let fetch = move || mirrors.iter().try_for_each(|mirror| mirror.refresh(&git).map(drop));
            let reason = match tokio::task::spawn_blocking(fetch).await {
                Ok(Ok(())) => {
                    *fetched = Some(began);
                    crash_point("agent-fetched");
                    return Ok(());
                }
                Ok(Err(error)) => chain(&error),
                Err(error) => error.to_string(),
            };
            let Some(pause) = pauses.next() else {
                return Err(format!("the repositories can't be fetched: {reason}"));
            };
            tracing::warn!(reason, "the repositories can't be fetched; trying again");
            tokio::time::sleep(*pause).await;
        }
    }
}

#[async_trait::async_trait]
impl Work for Fetching {
    fn kind(&self) -> AgentKind {
        self.ansible.kind()
    }

    fn ansible_core(&self) -> Option<String> {
        self.ansible.ansible_core()
    }

    async fn check(&self, order: &Order) -> Result<(), String> {
        self.fetch().await?;
        self.ansible.check(order).await
    }

    async fn run(&self, order: &Order, run: RunContext) -> Outcome {
        self.ansible.run(order, run).await
    }
}

/// An error and everything that led to it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
