//! Of several reconcilers on one store one leads, and the others wait to take over (R8). The lease is by the store's
//! clock; whoever was stopped for longer finds out by whatever it tries to change.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chiffon_store::{Leading, RepositoryId, Store};
use tokio::time::Instant;

use super::watched::Watched;
use super::{Options, Signals};
use crate::home::Home;
use crate::output::Output;

/// How long a lease lasts, in seconds: as long nobody acts after a leader vanished.
const LEASE_SECS: u32 = 15;

/// How often it is renewed, and how often who waits looks.
const RENEW_EVERY: Duration = Duration::from_secs(4);

/// This process's claim to lead.
pub(super) struct Leader {
    store: Arc<dyn Store>,
    repository: RepositoryId,
    holder: String,
    name: String,
    next: Instant,
}

impl Leader {
    /// The claim of this home, of which no other process runs: its lock is held.
    ///
    /// # Errors
    /// The home has no id and can't be given one.
    pub fn new(home: &Home, store: Arc<dyn Store>, repository: RepositoryId) -> Result<Self> {
        let name = format!("{} (pid {})", home.folder().display(), std::process::id());
        Ok(Self { store, repository, holder: home.id()?, name, next: Instant::now() })
    }

    /// Waits until this process leads. False where a person asked to stop meanwhile.
    ///
    /// # Errors
    /// The store failed, or another one leads and this process was to do things once.
    pub async fn wait(
        &self,
        output: &Output,
        options: &Options,
        signals: &mut Signals,
        watched: &Watched,
    ) -> Result<bool> {
        let mut said = None;
        loop {
            let leading = self.store.lead(self.repository, &self.holder, &self.name, LEASE_SECS).await;
            let name = match leading {
                Ok(Leading::Ours) => {
                    watched.leader(None);
                    return Ok(true);
                }
                Ok(Leading::Theirs(name)) => name,
                // Whoever stands still in the midst of a change keeps it from us for a while.
                Err(error) if error.is_temporary() && !options.once => format!("nobody can say: {error}"),
                Err(error) => return Err(error).context("asking who leads"),
            };
            watched.leader(Some(&name));
            watched.turned();
            if options.once {
                bail!("another reconciler leads: {name}");
            }
            if said.as_ref() != Some(&name) {
                output.progress(&format!("another reconciler leads: {name}; waiting to take over"));
                said = Some(name);
            }
            tokio::select! {
                () = signals.recv() => return Ok(false),
                () = tokio::time::sleep(RENEW_EVERY) => {}
            }
        }
    }

    /// Waits until the lease is to be renewed.
    pub async fn due(&self) {
        tokio::time::sleep_until(self.next).await;
    }

    /// Renews the lease.
    ///
    /// # Errors
    /// The store failed, or somebody else had led in the meantime.
    pub async fn renew(&mut self) -> Result<Leading, chiffon_store::Error> {
        self.next = Instant::now() + RENEW_EVERY;
        self.store.lead(self.repository, &self.holder, &self.name, LEASE_SECS).await
    }
}
