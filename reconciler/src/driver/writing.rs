//! What a person asks for in a comment or over HTTP and what belongs into their request's file: written to `main` with them
//! as the author, under `requests/` and nowhere else (DESIGN section 2).
//!
//! Without a forge it is a commit of ours. On a forge it is pushed, and where `main` is protected, it becomes a pull request.

use chiffon_core::{Command, CommandAnswer, Person};
use chiffon_requests::{Edit, Expect, Signature};
use chiffon_schemas::{Name, Oid, RepoPath, Request};

use super::{Comment, Driver, Error, ForgeJob, blocking};
use crate::environment;

/// One file of `main` that is to be as a person wants it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Write {
    /// The file.
    pub path: RepoPath,
    /// What it is to hold.
    pub bytes: Vec<u8>,
    /// What it held when this was made; `None` where it was not there.
    pub seen: Option<Oid>,
    /// Whose wish it is.
    pub by: Person,
    /// The commit's message; its first line is the title where it becomes a pull request.
    pub message: String,
    /// The branch of that pull request.
    pub branch: String,
}

impl Write {
    /// The commit that does it, on top of one of `main`.
    pub fn edit(&self, branch: chiffon_requests::RefName, tip: &Oid) -> Edit {
        let now = environment::now();
        let author = Signature { name: self.by.name.clone(), email: self.by.email.clone(), time: now };
        Edit {
            branch,
            expect: Expect::Tip(tip.clone()),
            parents: Some(vec![tip.clone()]),
            base: Some(tip.clone()),
            changes: vec![(self.path.clone(), Some(self.bytes.clone()))],
            message: self.message.clone(),
            author,
            committer: Signature::chiffon(now),
            allow_empty: false,
        }
    }
}

/// Where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// On `main`.
    Main,
    /// In a pull request, since `main` is protected.
    Pull {
        /// Its number.
        number: u64,
        /// Where people see it.
        url: String,
    },
}

impl Written {
    /// Where, for people.
    pub fn in_words(&self, path: &RepoPath) -> String {
        match self {
            Self::Main => format!("written to {path}"),
            Self::Pull { number, url } => {
                format!(
                    "main is protected, so {path} is in pull request #{number} ({url}): it counts once that is merged"
                )
            }
        }
    }
}

impl Driver {
    /// Writes a file of `main`, once for each command that asks for it. Nothing yet where the forge has not answered.
    ///
    /// # Errors
    /// The store or the repository failed.
    pub(super) fn write(&mut self, command: i64, write: Write) -> Result<Option<Result<Written, String>>, Error> {
        if let Some(forge) = &mut self.forge {
            return Ok(match forge.written.get(&command) {
                Some(_) => forge.written.remove(&command),
                None => {
                    forge.ask(ForgeJob::Write { command, write: Box::new(write) });
                    None
                }
            });
        }
        let main = self.main();
        let Some(tip) = blocking(|| self.requests.reference(&main))? else {
            return Ok(Some(Err("the requests repository has no branch main yet".to_owned())));
        };
        blocking(|| self.requests.commit(&write.edit(main, &tip)))?;
        self.wrote_main = true;
        Ok(Some(Ok(Written::Main)))
    }

    /// Carries out a command that writes to `main`; nothing yet where the forge has not answered.
    pub(super) async fn take_writing(&mut self, id: i64, command: Command) -> Result<Option<CommandAnswer>, Error> {
        if self.forge.as_ref().is_some_and(|forge| forge.is_writing(id)) {
            return Ok(None);
        }
        let (name, write) = match self.wanted_write(id, &command).await? {
            Ok(found) => found,
            Err(why) => return Ok(Some(CommandAnswer::no(why))),
        };
        let path = write.path.clone();
        let outcome = match self.on_main(&path)? {
            // It is there already: the process ended between the write and its answer.
            Some((oid, text)) if text.as_bytes() == write.bytes && Some(&oid) == write.seen.as_ref() => {
                if let Some(forge) = &mut self.forge {
                    forge.written.remove(&id);
                }
                Some(Ok(Written::Main))
            }
            _ => self.write(id, write)?,
        };
        let Some(outcome) = outcome else { return Ok(None) };
        let answer = match outcome {
            Ok(written) => {
                let pull = match &written {
                    Written::Main => None,
                    Written::Pull { number, url } => Some((*number, url.clone())),
                };
                let answer = CommandAnswer::yes(written.in_words(&path));
                CommandAnswer { request: Some(name.clone()), pull, ..answer }
            }
            Err(why) => CommandAnswer { request: Some(name.clone()), ..CommandAnswer::no(why) },
        };
        if let Command::Amend { by, comment: Some(comment), .. } = command {
            let comment = Comment { id: comment.id, number: comment.pull, by, body: comment.body };
            self.answered(&name, &comment, vec![answer.clone()]).await?;
        }
        Ok(Some(answer))
    }

    /// What a command writes, and for which request; or why it can't.
    async fn wanted_write(&self, id: i64, command: &Command) -> Result<Result<(Name, Write), String>, Error> {
        let (name, by) = match command {
            Command::Submit { request, by } => return self.new_request(id, request, by).await.map(Ok),
            Command::Amend { name, by, .. } | Command::Answer { name, by, .. } => (name, by),
            _ => return Ok(Err("it writes nothing".to_owned())),
        };
        let Some(facts) = self.store.facts(self.repository, name).await? else {
            return Ok(Err(format!("there is no request {name}")));
        };
        let Some((oid, text)) = self.on_main(&facts.path)? else { return Ok(Err(format!("{} is gone", facts.path))) };
        let file = facts.path.as_str();
        let (made, message) = match command {
            Command::Amend { change, .. } => {
                (crate::amend::with_change(file, &text, change), format!("replan {name}: {change}"))
            }
            Command::Answer { answers, .. } => {
                (crate::amend::with_answers(file, &text, answers), format!("answer: {name}"))
            }
            _ => return Ok(Err("it writes nothing".to_owned())),
        };
        let bytes = match made {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if let Err(found) = chiffon_schemas::read_request(file, &bytes) {
            let texts: Vec<String> = found.iter().map(|found| found.render(false)).collect();
            return Ok(Err(texts.join("\n")));
        }
        let message = format!("{}\n", without_effect(&message));
        let branch = format!("chiffon/request/{name}-{id}");
        let write = Write { path: facts.path.clone(), bytes, seen: Some(oid), by: by.clone(), message, branch };
        Ok(Ok((name.clone(), write)))
    }

    /// What stands at a path of `main` now.
    pub(super) fn on_main(&self, path: &RepoPath) -> Result<Option<(Oid, String)>, Error> {
        let Some(tip) = blocking(|| self.requests.reference(&self.main()))? else { return Ok(None) };
        let Some(entry) = blocking(|| self.requests.blob_at(&tip, path))? else { return Ok(None) };
        let limit = chiffon_schemas::yaml::Limits::REQUEST.max_bytes as u64;
        let bytes = blocking(|| self.requests.read_blob(&entry.oid, limit))?;
        Ok(Some((entry.oid, String::from_utf8_lossy(&bytes).into_owned())))
    }

    /// The file of a new request: under a name of its own, or the one that says the same and has not run yet.
    async fn new_request(&self, id: i64, request: &Request, by: &Person) -> Result<(Name, Write), Error> {
        let bytes = crate::commands::request::with_header(request);
        let mut names = crate::commands::request::names_for(&request.spec.text);
        let (name, seen) = loop {
            let name = names.next().expect("numbers do not run out");
            let path = request_path(&name);
            let known = self.store.facts(self.repository, &name).await?;
            let ran = known.as_ref().is_some_and(|facts| facts.run.is_some());
            match self.on_main(&path)? {
                None if known.is_none() => break (name, None),
                Some((oid, text)) if text.as_bytes() == bytes && !ran => break (name, Some(oid)),
                _ => {}
            }
        };
        let message = format!("{}\n", without_effect(&format!("request: {}", request.spec.text)));
        let branch = format!("chiffon/request/{name}-{id}");
        Ok((name.clone(), Write { path: request_path(&name), bytes, seen, by: by.clone(), message, branch }))
    }
}

/// A line for a commit or a title, made of a person's words.
fn without_effect(text: &str) -> String {
    chiffon_planner::inert_line(&crate::events::one_line(text))
}

fn request_path(name: &Name) -> RepoPath {
    RepoPath::parse(format!("requests/{name}.yaml")).expect("a name has no separators")
}
