//! The commands, one file each. A command reads the store and git, or leaves a row for the reconciler; none of them
//! decides anything.

mod agent;
mod answer;
mod approve;
mod ask;
mod audit;
mod broker;
mod doctor;
mod forge;
mod hook;
mod init;
mod inventory;
mod log;
mod parked;
mod person;
mod plan;
pub(crate) mod request;
mod status;
pub(crate) mod times;
mod token;
mod validate;

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use chiffon_core::facts::{Blocked, RequestFacts, Unplanned, World};
use chiffon_requests::Repo;
use chiffon_schemas::Name;
use chiffon_store::{RepositoryId, Store};

use crate::cli::{Cli, Command};
use crate::config::{self, Config};
use crate::environment::Environment;
use crate::home::Home;
use crate::output::Output;
use chiffon_core::{Command as Asked, Resolution};

/// How a command ended, as its exit status says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or at rest.
    Done,
    /// An error.
    Error,
    /// Something is blocked, refused, failed or lost.
    Attention,
}

impl Exit {
    /// The exit status; 2 is wrong usage, as clap has it.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Error => 1,
            Self::Attention => 3,
        }
    }
}

/// Runs one command.
///
/// # Errors
/// It could not be done; the message says the way out.
pub fn dispatch(cli: Cli, environment: Environment, output: &Output) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(run(cli, environment, output))
}

async fn run(cli: Cli, environment: Environment, output: &Output) -> Result<Exit> {
    // These work without a home.
    match cli.command {
        Command::Init(args) => return init::run(&args, &environment, output),
        Command::Hook(args) => return hook::run(&args.which, &environment, output),
        Command::Token(args) => return token::run(&args, output),
        Command::Validate(args) => return validate::run(&args, &environment, cli.dir.as_deref(), output),
        _ => {}
    }
    let home = Home::find(cli.dir.as_deref(), &environment)?;
    match cli.command {
        Command::Init(_) | Command::Hook(_) | Command::Token(_) | Command::Validate(_) => bail!("handled above"),
        Command::Up(args) => {
            let options = crate::up::Options { once: args.once, quiet: args.quiet };
            crate::up::up(home, environment, output, &options).await
        }
        Command::Doctor(args) => doctor::run(&args, &home, &environment, output).await,
        Command::Forge(args) => forge::run(&args.what, &home, &environment, output).await,
        Command::Broker(args) => broker::run(&args.what, &home, output).await,
        other => {
            let context = Desk::open(home, environment).await?;
            with_store(other, &context, output).await
        }
    }
}

async fn with_store(command: Command, context: &Desk, output: &Output) -> Result<Exit> {
    match command {
        Command::Request(args) => request::run(&args, context, output).await,
        Command::Status(args) => status::run(&args, context, output).await,
        Command::Plan(args) => plan::run(&args, context, output).await,
        Command::Approve(args) => approve::run(&args, context, output).await,
        Command::Answer(args) => answer::run(&args, context, output).await,
        Command::Log(args) => log::run(&args, context, output).await,
        Command::Audit(args) => audit::run(&args, context, output).await,
        Command::Agent(args) => agent::run(&args.what, context, output).await,
        Command::Parked(args) => parked::run(&args, context, output).await,
        Command::Reject(args) => {
            let name = context.known(&args.name).await?;
            ask::run(Asked::Reject { name, reason: args.reason }, context, output).await
        }
        Command::Cancel(args) => {
            let name = context.known(&args.name).await?;
            ask::run(Asked::Cancel { name }, context, output).await
        }
        Command::Retry(args) => {
            let name = context.known(&args.name).await?;
            ask::run(Asked::Retry { name }, context, output).await
        }
        Command::Undo(args) => {
            let name = context.known(&args.name).await?;
            ask::run(Asked::Undo { name }, context, output).await
        }
        Command::Pause(args) => {
            let name = context.known(&args.name).await?;
            let until = times::ahead(&args.until)?;
            ask::run(Asked::Pause { name, reason: args.reason, until }, context, output).await
        }
        Command::Resume(args) => {
            let name = context.known(&args.name).await?;
            ask::run(Asked::Resume { name }, context, output).await
        }
        Command::Unlock(args) => {
            let host = context.locked_host(&args.host).await?;
            ask::run(Asked::Unlock { host }, context, output).await
        }
        Command::Resolve(args) => {
            let name = context.known(&args.name).await?;
            let how = match (args.succeeded, args.failed) {
                (true, _) => Resolution::Succeeded,
                (_, true) => Resolution::Failed,
                (false, false) => Resolution::Retry,
            };
            ask::run(Asked::Resolve { name, how }, context, output).await
        }
        Command::Init(_)
        | Command::Hook(_)
        | Command::Validate(_)
        | Command::Token(_)
        | Command::Up(_)
        | Command::Doctor(_)
        | Command::Forge(_)
        | Command::Broker(_) => bail!("this command needs no store"),
    }
}

/// What most commands need: a home, its configuration, store and repository.
pub struct Desk {
    /// The home.
    pub home: Home,
    /// The environment.
    pub environment: Environment,
    /// The configuration.
    pub config: Config,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The requests repository in the store.
    pub repository: RepositoryId,
    /// The requests repository on disk.
    pub requests: Repo,
}

impl Desk {
    async fn open(home: Home, environment: Environment) -> Result<Self> {
        let config = config::load(&home.config()).map_err(config_error)?;
        let store = crate::store::open(&home, &config).await?;
        let repository = store.repository(&config.spec.name).await.context("reading the database")?;
        let requests = Repo::open(&config.requests).context("opening the requests repository")?;
        Ok(Self { home, environment, config, store, repository, requests })
    }

    /// A request's name as a person typed it, or the nearest one in the error.
    pub async fn known(&self, text: &str) -> Result<Name> {
        let names = self.store.names(self.repository, true).await?;
        if let Some(name) = names.iter().find(|name| name.as_str() == text) {
            return Ok(name.clone());
        }
        let candidates: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        match chiffon_schemas::nearest(text, candidates.iter().copied()) {
            Some(near) => bail!("there is no request `{text}`: did you mean `{near}`?"),
            None if names.is_empty() => {
                bail!("there is no request yet: `chiffon request \"…\"` makes one, and `chiffon up` sees it")
            }
            None => bail!("there is no request `{text}`: `chiffon status` lists them"),
        }
    }

    async fn locked_host(&self, text: &str) -> Result<chiffon_schemas::Host> {
        let locks = self.store.locks(self.repository).await?;
        if let Some(host) = locks.keys().find(|host| host.as_str() == text) {
            return Ok(host.clone());
        }
        let candidates: Vec<&str> = locks.keys().map(|host| host.as_str()).collect();
        match chiffon_schemas::nearest(text, candidates.iter().copied()) {
            Some(near) => bail!("host `{text}` is not locked: did you mean `{near}`?"),
            None if locks.is_empty() => bail!("no host is locked"),
            None => bail!("host `{text}` is not locked; locked are {}", candidates.join(", ")),
        }
    }

    /// The facts of a request with what only git knows, and the world.
    pub async fn look_at(&self, name: &Name) -> Result<Option<(RequestFacts, World)>> {
        let Some(mut facts) = self.store.facts(self.repository, name).await? else { return Ok(None) };
        facts.plan_branch = self.plain().plan_branch(name, &chiffon_requests::plan_path(&facts.path))?;
        let cursor = self.store.cursor(self.repository).await?;
        let world = World {
            now: crate::environment::now(),
            // Only the reconciler judges silence.
            listening_since: crate::environment::now(),
            infra: cursor.infra,
            locks: self.store.locks(self.repository).await?,
            agents: self.store.agents().await?,
            load: self.store.load().await?,
            policy: self.config.policy.clone(),
            // Only the reconciler approves.
            forge: None,
        };
        Ok(Some((facts, world)))
    }
}

impl Desk {
    /// Plan branches, where they are.
    fn plain(&self) -> chiffon_forge::Plain {
        match self.config.spec.forge {
            Some(_) => chiffon_forge::Plain::copy(self.requests.clone()),
            None => chiffon_forge::Plain::new(self.requests.clone()),
        }
    }

    /// What a reviewer has to know beside the state, in sentences.
    pub fn notes(&self, facts: &RequestFacts) -> Result<Vec<String>> {
        let (Some(offer), Some(branch)) = (chiffon_core::open_offer(facts), &facts.plan_branch) else {
            return Ok(Vec::new());
        };
        let mut notes = Vec::new();
        if self.plain().rendering_edited(branch, offer)? {
            notes.push(format!(
                "{} on the plan branch is not what Chiffon wrote: only the .yaml runs, `chiffon plan {}` shows it",
                chiffon_requests::rendering_path(&offer.path),
                facts.name
            ));
        }
        if let Some(Unplanned { reason: reason @ Blocked::Edit { blob, .. }, .. }) = &facts.unplanned
            && *blob == branch.plan
        {
            notes.push(format!("{}; the offer beneath it stays open", crate::driver::pages::blocked_in_words(reason)));
        }
        Ok(notes)
    }
}

/// A configuration error with its mistakes shown where they stand.
pub fn config_error(error: config::Error) -> anyhow::Error {
    if let config::Error::Invalid { diagnostics, .. } = &error {
        let texts: Vec<String> = diagnostics.iter().map(|found| found.render(false)).collect();
        return anyhow::anyhow!("{}\n{error}", texts.join("\n"));
    }
    anyhow::Error::new(error)
}

/// An error and everything that led to it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    texts.extend(causes(error));
    texts.join(": ")
}

/// What led to an error, the nearest first. One that only repeats the end of what it led to says nothing new.
pub fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let (mut before, mut causes) = (error.to_string(), Vec::new());
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let text = cause.to_string();
        if !before.ends_with(&text) {
            causes.push(text.clone());
        }
        before = text;
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_only_repeats_is_said_once() {
        let error = anyhow::anyhow!("refused").context("connecting: refused").context("opening").context("opening");
        assert_eq!(chain(error.as_ref()), "opening: connecting: refused");
        assert_eq!(causes(anyhow::anyhow!("alone").as_ref()), Vec::<String>::new());
    }
}
