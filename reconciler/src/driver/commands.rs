//! Commands that a person typed: taken from the store, carried out once, answered.

use chiffon_core::facts::{OfferState, Pause, RequestFacts, Run, World};
use chiffon_core::{Command, CommandAnswer, Resolution, retry_refused};
use chiffon_schemas::{AttemptState, Host, RunState};
use chiffon_store::Change;
use serde_json::json;

use super::act::{key_of, moved};
use super::{Driver, Error};
use crate::environment;
use crate::events::{self, kind};

fn done(message: impl Into<String>) -> Result<CommandAnswer, Error> {
    Ok(CommandAnswer::yes(message))
}

fn refused(message: impl Into<String>) -> Result<CommandAnswer, Error> {
    Ok(CommandAnswer::no(message))
}

impl Driver {
    /// Carries out every command that waits; one that needs the forge is answered once that has answered.
    pub(super) async fn take_commands(&mut self) -> Result<usize, Error> {
        let waiting = self.store.commands(self.repository).await?;
        let mut count = 0;
        for row in waiting {
            let answer = match serde_json::from_value::<Command>(row.command) {
                Ok(command) if command.writes() => match self.take_writing(row.id, command).await {
                    Err(error) if error.is_of_one_request() => Some(CommandAnswer::no(crate::commands::chain(&error))),
                    taken => taken?,
                },
                Ok(command) => Some(self.answer_to(command).await?),
                Err(error) => Some(CommandAnswer::no(format!("not a command: {error}"))),
            };
            let Some(answer) = answer else { continue };
            let answer = serde_json::to_value(&answer).expect("an answer is plain data");
            self.store.answer(row.id, &answer).await?;
            count += 1;
        }
        Ok(count)
    }

    /// Carries out a command; where somebody else was faster, that is the answer.
    pub(super) async fn answer_to(&mut self, command: Command) -> Result<CommandAnswer, Error> {
        match self.carry_out(command).await {
            Err(Error::Store(chiffon_store::Error::Conflict { what, found })) => {
                refused(format!("{what} changed in the meantime ({found}); look again"))
            }
            // Whatever it was about, everything else goes on.
            Err(error) if error.is_of_one_request() => refused(crate::commands::chain(&error)),
            other => other,
        }
    }

    async fn carry_out(&mut self, command: Command) -> Result<CommandAnswer, Error> {
        let name = match &command {
            Command::Unlock { host } => return self.unlock(host).await,
            Command::Reject { name, .. }
            | Command::Cancel { name }
            | Command::Retry { name }
            | Command::Pause { name, .. }
            | Command::Resume { name }
            | Command::Resolve { name, .. }
            | Command::Undo { name }
            | Command::Replan { name } => name.clone(),
            Command::Submit { .. } | Command::Amend { .. } | Command::Answer { .. } => {
                return refused("it is written to main first");
            }
        };
        let Some((facts, world)) = self.look_at(&name).await? else {
            return refused(format!("there is no request {name}"));
        };
        match command {
            Command::Reject { reason, .. } => self.reject(&facts, &reason).await,
            Command::Cancel { .. } => self.cancel(&facts).await,
            Command::Retry { .. } => self.retry(&facts, &world).await,
            Command::Pause { reason, until, .. } => {
                let reason = events::one_line(&reason);
                self.set_pause(&facts, Some(Pause { reason, until })).await
            }
            Command::Resume { .. } => self.set_pause(&facts, None).await,
            Command::Resolve { how, .. } => self.resolve(&facts, &world, how).await,
            Command::Replan { .. } => self.replan(&facts).await,
            Command::Undo { .. } => self.undo(&facts, &world).await,
            Command::Unlock { .. } | Command::Submit { .. } | Command::Amend { .. } | Command::Answer { .. } => {
                refused("it names no request that is here")
            }
        }
    }

    async fn reject(&mut self, facts: &RequestFacts, reason: &str) -> Result<CommandAnswer, Error> {
        let Some(offer) = chiffon_core::open_offer(facts) else {
            return refused(format!("{} has no open offer", facts.name));
        };
        let reason = events::one_line(reason);
        let summary = format!("{}: rejected: {reason}", facts.name);
        let detail = json!({ "state": OfferState::Rejected, "reason": reason, "plan_path": offer.path });
        let event = events::about_offer(facts, offer, kind::CLOSED, summary, detail, environment::now());
        let change =
            Change::OfferClosed { name: facts.name.clone(), plan: offer.plan_oid.clone(), state: OfferState::Rejected };
        self.apply(change, &[event]).await?;
        done(format!(
            "{} is rejected; an edit of the request or `chiffon plan {} --again` plans it anew",
            facts.name, facts.name
        ))
    }

    pub(super) async fn cancel(&mut self, facts: &RequestFacts) -> Result<CommandAnswer, Error> {
        let Some(run) = facts.run.as_ref().filter(|run| run.state.is_none()) else {
            return refused(format!("{} is not running", facts.name));
        };
        let event = run_event(facts, run, kind::CANCEL, "a cancel was asked for", json!({}));
        self.apply(Change::CancelAsked { run: run.id.clone() }, &[event]).await?;
        done(format!("{} is being stopped; `chiffon status {}` says when that is verified", facts.name, facts.name))
    }

    async fn retry(&mut self, facts: &RequestFacts, world: &World) -> Result<CommandAnswer, Error> {
        let Some(run) = facts.run.as_ref().filter(|run| !run.voided) else {
            return refused(format!("{} has not run yet", facts.name));
        };
        let freshness = self.run_freshness(run, world);
        if let Some(why) = retry_refused(facts, run, world, freshness) {
            return refused(format!("{} can't be retried: {why}", facts.name));
        }
        self.reopen(facts, run).await?;
        done(format!("{} goes on with what is unfinished", facts.name))
    }

    async fn reopen(&mut self, facts: &RequestFacts, run: &Run) -> Result<(), Error> {
        let round = run.round + 1;
        let event = run_event(facts, run, kind::RETRY, "a retry was asked for", json!({ "round": round }));
        self.apply(Change::RunReopened { run: run.id.clone(), round }, &[event]).await?;
        Ok(())
    }

    async fn set_pause(&mut self, facts: &RequestFacts, pause: Option<Pause>) -> Result<CommandAnswer, Error> {
        let (kind, summary, message) = match &pause {
            Some(pause) => (
                kind::PAUSED,
                format!("{}: paused until {}: {}", facts.name, pause.until, events::one_line(&pause.reason)),
                format!("{} is paused until {}; what runs already goes on", facts.name, pause.until),
            ),
            None if facts.pause.is_none() => return refused(format!("{} is not paused", facts.name)),
            None => (kind::RESUMED, format!("{}: resumed", facts.name), format!("{} goes on", facts.name)),
        };
        let event = events::about(facts, kind, summary, json!({ "pause": pause }), environment::now());
        self.apply(Change::PauseSet { name: facts.name.clone(), pause }, &[event]).await?;
        done(message)
    }

    async fn replan(&mut self, facts: &RequestFacts) -> Result<CommandAnswer, Error> {
        if facts.run.as_ref().is_some_and(|run| run.state.is_none()) {
            return refused(format!("{} is running; cancel it first, or wait", facts.name));
        }
        if facts.run.as_ref().is_some_and(|run| run.state == Some(RunState::Lost)) {
            return refused(format!("{0} is lost: look at the host first, then `chiffon resolve {0}`", facts.name));
        }
        let after = facts.offers.last().map_or(0, |offer| offer.revision());
        let summary = format!("{}: another plan was asked for", facts.name);
        let event = events::about(facts, kind::REPLAN, summary, json!({ "after": after }), environment::now());
        self.apply(Change::ReplanAsked { name: facts.name.clone(), after }, &[event]).await?;
        done(format!("{} is being planned again", facts.name))
    }

    async fn unlock(&mut self, host: &Host) -> Result<CommandAnswer, Error> {
        let locks = self.store.locks(self.repository).await?;
        let Some(holder) = locks.get(host) else { return refused(format!("host {host} is not locked")) };
        let Some(facts) = self.store.facts(self.repository, &holder.request).await? else {
            return refused(format!("host {host} is locked by {}, which is not known", holder.request));
        };
        let goes_on = |run: &Run| run.id == holder.run && run.state.is_none();
        if facts.run.as_ref().is_some_and(goes_on) {
            return refused(format!(
                "{} is still running on {host}: `chiffon cancel {}` stops it",
                holder.request, holder.request
            ));
        }
        let summary = format!("{}: the lock of {host} was freed by a person", holder.request);
        let event = events::about(&facts, kind::UNLOCKED, summary, json!({ "host": host }), environment::now());
        self.apply(Change::Unlocked { host: host.clone() }, &[event]).await?;
        done(format!("host {host} is free; {} stays lost until `chiffon resolve`", holder.request))
    }

    /// A person has looked at the host. Each order of the writes below is safe to be cut in two: at worst the run
    /// stays as it is and the person says it once more.
    async fn resolve(&mut self, facts: &RequestFacts, world: &World, how: Resolution) -> Result<CommandAnswer, Error> {
        let Some(run) = facts.run.as_ref() else { return refused(format!("{} has not run yet", facts.name)) };
        let lost: Vec<_> = run.attempts.iter().filter(|attempt| attempt.state == AttemptState::Lost).collect();
        if lost.is_empty() || run.state != Some(RunState::Lost) {
            return refused(format!("{} is not lost", facts.name));
        }
        let freshness = self.run_freshness(run, world);
        if how == Resolution::Retry
            && let Some(why) = chiffon_core::not_as_planned(facts, run, world, freshness)
        {
            return refused(format!("{why}: resolve it with --failed and ask for a new plan"));
        }
        let to = if how == Resolution::Succeeded { AttemptState::Succeeded } else { AttemptState::Failed };
        for attempt in lost {
            let key = key_of(run, &attempt.step, attempt.number);
            let words = format!("a person found {} (attempt {}) {}", attempt.step, attempt.number, to.as_str());
            let event = run_event(facts, run, kind::RESOLVED, &words, json!({ "key": key, "how": how }));
            self.apply(moved(&key, AttemptState::Lost, to), &[event]).await?;
        }
        let Some((facts, _)) = self.look_at(&facts.name).await? else { return refused("the request is gone") };
        let Some(run) = facts.run.as_ref() else { return refused("the run is gone") };
        let ended = match how {
            Resolution::Retry => None,
            Resolution::Succeeded => chiffon_core::after_resolving(run),
            // Whatever else: what a person found failed goes on only when they say so.
            Resolution::Failed => Some(chiffon_core::after_resolving(run).unwrap_or(RunState::Failed)),
        };
        match ended {
            None => self.reopen(&facts, run).await?,
            Some(state) => {
                let change = Change::RunResolved { run: run.id.clone(), state };
                self.record_end(&facts, run, state, change).await?;
            }
        }
        done(format!("{} is resolved", facts.name))
    }
}

fn run_event(
    facts: &RequestFacts,
    run: &Run,
    kind: &str,
    words: &str,
    detail: chiffon_schemas::Json,
) -> chiffon_core::facts::Event {
    let summary = format!("{}: {words}", facts.name);
    events::about_run(facts, run, kind, summary, detail, environment::now())
}
