//! Commands in comments of a plan's pull request: carried out once, answered in the sticky comment, and recorded.

use chiffon_core::facts::{Answer, Pull, RequestFacts};
use chiffon_core::{Command, CommandAnswer, CommentCommand, CommentRef, NoCommand, Person};
use chiffon_schemas::{Name, Timestamp};
use chiffon_store::Change;
use serde_json::json;

use super::{Driver, Error};
use crate::commands::times;
use crate::environment;
use crate::events::{self, kind};

/// Answers that the sticky comment shows.
const ANSWERS: usize = 6;

/// A comment of somebody who may write to the repository that asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Its id; a later one has a greater one.
    pub id: u64,
    /// The pull request.
    pub number: u64,
    /// Who wrote it.
    pub by: Person,
    /// What it says.
    pub body: String,
}

impl Comment {
    fn as_ref(&self) -> CommentRef {
        CommentRef { pull: self.number, id: self.id, body: self.body.clone() }
    }
}

impl Driver {
    /// Does what a comment asks for, where it was not heard before; whether that is news.
    pub(super) async fn comment_heard(&mut self, name: &Name, comment: Comment) -> Result<bool, Error> {
        let Some(facts) = self.store.facts(self.repository, name).await? else { return Ok(false) };
        let Some(pull) = &facts.pull else { return Ok(false) };
        if pull.number > comment.number {
            let (number, comment, now) = (comment.number, comment.id, pull.number);
            self.forge_ask(super::ForgeJob::Elsewhere { name: name.clone(), number, comment, now });
            return Ok(false);
        }
        if pull.number != comment.number || comment.id <= pull.heard {
            return Ok(false);
        }
        let mut answers = Vec::new();
        for command in chiffon_core::commands(&comment.body) {
            answers.push(self.obey(&facts, &comment, command).await?);
        }
        // What was done may have changed what is known of the request, but not of its pull request.
        self.answered(name, &comment, answers).await?;
        Ok(true)
    }

    /// Puts answers to a comment where people see them, and on record.
    pub(super) async fn answered(
        &mut self,
        name: &Name,
        comment: &Comment,
        answers: Vec<CommandAnswer>,
    ) -> Result<(), Error> {
        let Some(facts) = self.store.facts(self.repository, name).await? else { return Ok(()) };
        let Some(mut pull) = facts.pull.clone() else { return Ok(()) };
        let mut said = Vec::new();
        for CommandAnswer { done, message, .. } in answers {
            said.push(event_of(&facts, comment, done, &message));
            pull.answers.push(Answer { comment: comment.id, to: comment.by.name.clone(), done, text: message });
        }
        let surplus = pull.answers.len().saturating_sub(ANSWERS);
        pull.answers.drain(..surplus);
        let pull = Pull { heard: pull.heard.max(comment.id), ..pull };
        self.apply(Change::PullSeen { name: name.clone(), pull: Box::new(pull) }, &said).await?;
        Ok(())
    }

    async fn obey(
        &mut self,
        facts: &RequestFacts,
        comment: &Comment,
        command: Result<CommentCommand, NoCommand>,
    ) -> Result<CommandAnswer, Error> {
        let name = facts.name.clone();
        let command = match command {
            Err(NoCommand(what)) => return Ok(CommandAnswer::no(what)),
            Ok(command) => command,
        };
        match command {
            CommentCommand::Replan { change } if !change.is_empty() => {
                let amend = Command::Amend { name, change, by: comment.by.clone(), comment: Some(comment.as_ref()) };
                self.store.command(self.repository, &amend.to_json(), environment::now()).await?;
                Ok(CommandAnswer::yes("the change goes into the request's file; a new plan follows"))
            }
            CommentCommand::Replan { .. } => self.answer_to(Command::Replan { name }).await,
            CommentCommand::Retry => self.answer_to(Command::Retry { name }).await,
            CommentCommand::Cancel => self.answer_to(Command::Cancel { name }).await,
            CommentCommand::Undo => self.answer_to(Command::Undo { name }).await,
            CommentCommand::Explain { task } => self.explain(facts, &task),
            CommentCommand::Unlock => self.unlock_hosts(facts).await,
            CommentCommand::Pause { reason, until } => match until_when(&until) {
                Ok(until) => self.answer_to(Command::Pause { name, reason, until }).await,
                Err(why) => Ok(CommandAnswer::no(why)),
            },
        }
    }

    /// Frees the hosts that a lost run of this request holds.
    async fn unlock_hosts(&mut self, facts: &RequestFacts) -> Result<CommandAnswer, Error> {
        let locks = self.store.locks(self.repository).await?;
        let ours: Vec<_> = locks.into_iter().filter(|(_, holder)| holder.request == facts.name).collect();
        if ours.is_empty() {
            return Ok(CommandAnswer::no(format!("{} holds no host", facts.name)));
        }
        let mut said = Vec::new();
        for (host, _) in ours {
            let answer = self.answer_to(Command::Unlock { host }).await?;
            if !answer.done {
                return Ok(answer);
            }
            said.push(answer.message);
        }
        Ok(CommandAnswer::yes(said.join("; ")))
    }

    /// Why a task can't be foreseen.
    fn explain(&mut self, facts: &RequestFacts, task: &str) -> Result<CommandAnswer, Error> {
        let offer = facts.pull.as_ref().and_then(|pull| facts.offers.iter().find(|offer| offer.plan_oid == pull.plan));
        let Some(evidence) = offer.and_then(|offer| self.evidence_for(offer)) else {
            return Ok(CommandAnswer::no("what its plan reads can't be read now; ask again later"));
        };
        let wanted = task.to_lowercase();
        let opaque = &evidence.spec.opaque;
        let found: Vec<String> = opaque
            .iter()
            .filter(|task| task.task.to_lowercase().contains(&wanted))
            .take(5)
            .map(|task| format!("{}: {}", task.task, task.why))
            .collect();
        if !found.is_empty() {
            return Ok(CommandAnswer::yes(format!("can't be foreseen: {}", found.join("; "))));
        }
        let names = opaque.iter().map(|task| task.task.as_str());
        Ok(CommandAnswer::no(match chiffon_schemas::nearest(task, names) {
            Some(near) => format!("no such task among those that can't be foreseen; did you mean `{near}`?"),
            None if opaque.is_empty() => "every task of this plan can be foreseen".to_owned(),
            None => "no such task among those that can't be foreseen; the plan names them".to_owned(),
        }))
    }
}

fn until_when(text: &str) -> Result<Timestamp, String> {
    times::ahead(text).map_err(|error| error.to_string())
}

fn event_of(facts: &RequestFacts, comment: &Comment, done: bool, message: &str) -> chiffon_core::facts::Event {
    let word = if done { "done" } else { "refused" };
    let summary = format!("{}: {} asked in a comment: {word}: {message}", facts.name, comment.by.name);
    let detail = json!({
        "pull": comment.number, "comment": comment.id, "by": comment.by.name, "said": comment.body, "done": done,
        "answer": message,
    });
    events::about(facts, kind::COMMENT, summary, detail, environment::now())
}
