//! Takes in what agents say: what comes together is decided on together, and what can't be taken in comes again, or is put
//! aside.

use std::time::Duration;

use anyhow::{Context, Result};
use chiffon_link::Delivery;
use chiffon_schemas::FromAgent;
use chiffon_schemas::crash::crash_point;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Loop, report, watched};
use crate::commands::Exit;

/// How many messages are taken in before what they changed is decided on.
const AT_ONCE: usize = 32;

/// How long messages are taken in before the loop looks at everything else that wakes it.
const TAKE_AT_MOST: Duration = Duration::from_millis(200);

/// What is said of a message from an agent that has no place on the bus.
const STRANGER: &str = "no agent of this name is enrolled: `chiffon agent invite` makes a place for one";

impl Loop<'_> {
    /// Takes in what waits; whether it changed something that is decided on. A flood of log chunks costs no ticks, and
    /// what comes together is decided on together.
    pub(super) async fn take(&mut self, first: Result<Delivery<FromAgent>, chiffon_link::Error>) -> Result<bool> {
        let mut taken = Vec::new();
        let changed = self.take_waiting(first, &mut taken).await;
        self.driver.confirm_reports().await;
        // At the same time: on a line that is blocked each takes as long as it may.
        join_all(taken.into_iter().map(|delivery| async {
            if let Err(error) = delivery.ack().await {
                tracing::debug!(%error, "it comes again, and is known by then");
            }
            crash_point("message-acknowledged");
        }))
        .await;
        changed
    }

    async fn take_waiting(
        &mut self,
        first: Result<Delivery<FromAgent>, chiffon_link::Error>,
        taken: &mut Vec<Delivery<FromAgent>>,
    ) -> Result<bool> {
        let (mut changed, until) = (false, Instant::now() + TAKE_AT_MOST);
        let mut next = Some(first);
        while let Some(delivery) = next.take() {
            let delivery = delivery.context("the bus was closed")?;
            if self.is_of_a_stranger(&delivery).await {
                put_aside(delivery, STRANGER.to_owned()).await;
                return Ok(changed);
            }
            self.watched.heard();
            let progress = report::progress_of(&delivery.message);
            match self.driver.take_message(delivery.message.clone()).await {
                Ok(news) => {
                    changed |= news;
                    if self.intake.took() {
                        self.driver.was_deaf();
                        changed = true;
                    }
                    taken.push(delivery);
                    if let Some(line) = progress {
                        self.reporter.task(&line);
                    }
                }
                Err(error) => {
                    self.not_taken(&error, delivery).await;
                    return Ok(true);
                }
            }
            // Signals, the lease and people's commands have their turn also in a flood.
            if taken.len() < AT_ONCE && Instant::now() < until {
                next = tokio::time::timeout(Duration::ZERO, self.hub.receive()).await.ok();
            }
        }
        Ok(changed)
    }

    /// Says why a message was not taken in. Not acknowledged, it comes again; where it is at fault itself, not for ever.
    async fn not_taken(&mut self, error: &crate::driver::Error, delivery: Delivery<FromAgent>) {
        let text = crate::commands::chain(error);
        if let Some(tries) = error.parks_after() {
            self.complain(error);
            if delivery.tries >= tries {
                put_aside(delivery, format!("refused: {text}")).await;
            }
            return;
        }
        self.watched.failed(error);
        if self.intake.failed(watched::part_of(error), text.clone()) {
            self.output.failure(&text, &[]);
        }
        self.exit = Exit::Error;
    }

    /// Whether nobody by that name has a place on the broker.
    async fn is_of_a_stranger(&mut self, delivery: &Delivery<FromAgent>) -> bool {
        if self.embedded.is_some() {
            return false;
        }
        match self.driver.knows(&delivery.message.agent).await {
            Ok(knows) => !knows,
            Err(error) => {
                // Not known, and not refused either: what it changes is refused where the store fails.
                self.complain(&error);
                false
            }
        }
    }
}

async fn put_aside(delivery: Delivery<FromAgent>, reason: String) {
    if let Err(error) = delivery.park(reason).await {
        tracing::debug!(%error, "a message could not be put aside; it comes again");
    }
}
