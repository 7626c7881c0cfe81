//! When the loop is over: by itself with `--once`, or as a person asked, once what runs is done or cancelled.

use anyhow::Result;
use chiffon_core::{State, Waiting};
use chiffon_schemas::Name;
use tokio::time::Instant;

use super::{Loop, Options, Stop};
use crate::commands::Exit;

impl Loop<'_> {
    /// Requests of which an agent may be at work; `None` where nobody can say now.
    async fn at_work(&mut self) -> Option<Vec<Name>> {
        match self.driver.at_work().await {
            Ok(names) => Some(names),
            Err(error) => {
                self.complain(&error);
                None
            }
        }
    }

    pub(super) async fn asked_to_stop(&mut self) {
        let at_work = self.at_work().await.unwrap_or_default();
        self.driver.wind_down();
        self.stop = match self.stop {
            Stop::No => {
                if !at_work.is_empty() {
                    let names: Vec<&str> = at_work.iter().map(Name::as_str).collect();
                    let names = names.join(", ");
                    self.output.progress(&match self.embedded {
                        Some(_) => format!("stopping after {names}; once more cancels it"),
                        None => format!("stopping; {names} goes on at its agent"),
                    });
                }
                Stop::Finish
            }
            Stop::Finish | Stop::Cancel => {
                for name in &at_work {
                    self.output.progress(&format!("cancelling {name}"));
                }
                if let Err(error) = self.driver.cancel_all().await {
                    self.complain(&error);
                }
                Stop::Cancel
            }
        };
    }

    /// Whether nothing that runs needs this process.
    pub(super) async fn may_leave(&mut self) -> bool {
        self.embedded.is_none() || self.at_work().await.is_some_and(|names| names.is_empty())
    }

    /// Whether the loop ends here.
    pub(super) async fn is_over(&mut self, options: &Options) -> Result<bool> {
        if self.stop == Stop::No && !options.once {
            return Ok(false);
        }
        // Whatever else is wrong: what runs is waited for, since it could not go on without this process.
        let leaves = self.stop != Stop::No && self.embedded.is_none();
        if !leaves && self.at_work().await.is_none_or(|names| !names.is_empty()) {
            return Ok(false);
        }
        if self.stop != Stop::No || self.last_error.is_some() {
            return Ok(true);
        }
        if let Err(error) = self.driver.states().await.map(drop) {
            self.complain(&error);
            return Ok(true);
        }
        let forge_at_rest = self.driver.forge_at_rest();
        let forge_fails = self.driver.forge_troubles().is_some_and(|troubles| !troubles.is_empty());
        let states = self.driver.states().await?;
        let heard_soon = self.agents_due.is_some_and(|due| Instant::now() < due);
        let pending = |state: &State| match state {
            State::Queued | State::Running | State::Planning(_) => true,
            State::Paused(Waiting::AgentOffline) => heard_soon,
            _ => false,
        };
        if states.iter().any(|(name, (state, _))| pending(state) && !self.troubles.contains_key(name)) {
            return Ok(false);
        }
        if !forge_at_rest {
            return Ok(false);
        }
        if forge_fails || !self.troubles.is_empty() || self.intake.trouble().is_some() {
            self.exit = Exit::Error;
        } else if !self.unread.is_empty() || states.values().any(|(state, _)| state.needs_attention()) {
            self.exit = Exit::Attention;
        }
        Ok(true)
    }
}
