//! Reads git into facts: what `main` changed since last time, and where the infra branch stands.

use std::collections::BTreeSet;

use chiffon_core::facts::{Event, OfferState, Refusal, RefusalReason, RequestFacts, RequestFile};
use chiffon_requests::{Located, Locks, Repo, StopFlag, locate};
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{Name, Oid, RepoPath, Timestamp};
use chiffon_store::{Change, SeenRequest};
use serde_json::json;

use super::main_branch::{self, Difference, Known};
use super::{Driver, Error, blocking, say_removed};
use crate::config::Config;
use crate::environment::{self, Environment};
use crate::events::{self, kind};
use crate::home::Home;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// A fetch of the infra repository that has not begun.
#[derive(Debug)]
pub struct Fetch {
    home: Home,
    config: Config,
    environment: Environment,
    first: bool,
}

/// What a fetch brought: the mirror and where its branch stands, or why not.
#[derive(Debug)]
pub struct Fetched(Result<(Repo, Oid), String>);

impl Fetched {
    /// A fetch that came to nothing, and why.
    pub fn failed(reason: String) -> Self {
        Self(Err(reason))
    }
}

impl Fetch {
    /// Fetches; blocks until that is done, has failed, or `stop` says so.
    pub fn run(self, stop: &StopFlag) -> Fetched {
        if self.first {
            say_removed(&crate::mirror::clear_locks(&self.home, &self.config));
        }
        Fetched(crate::mirror::refresh(&self.home, &self.config, &self.environment, stop))
    }
}

/// What `main` changed, as the store takes it, with what is to be remembered of it.
#[derive(Debug, Default)]
struct Seen {
    requests: Vec<SeenRequest>,
    plans: Vec<(Name, Option<Oid>)>,
    /// Plans at a path that no request has.
    strays: BTreeSet<RepoPath>,
    events: Vec<Event>,
}

impl Driver {
    /// Takes in what `main` changed since last time. Costs what the change costs, never a walk of everything, except
    /// while something lies there that can't be read.
    pub(super) async fn ingest_main(&mut self) -> Result<(), Error> {
        let cursor = self.cursor().await?;
        let Some(main) = blocking(|| self.requests.reference(&self.main()))? else {
            return match cursor.main {
                None => Ok(()),
                Some(last) => Err(Error::Stalled(format!(
                    "the requests repository has no branch main any more; it was at {last}: push it again, or \
                     `git branch main {last}`"
                ))),
            };
        };
        if cursor.main.as_ref() == Some(&main) {
            return Ok(());
        }
        let difference = blocking(|| main_branch::difference(&self.requests, cursor.main.as_ref(), &main))?;
        let seen = self.sort_out(&difference, &main).await?;
        self.list_refused(&difference, &seen.strays, &main).await?;
        let change = Change::MainSeen { from: cursor.main, main, requests: seen.requests, plans: seen.plans };
        self.apply(change, &seen.events).await?;
        crash_point("main-read");
        Ok(())
    }

    async fn sort_out(&self, difference: &Difference, main: &Oid) -> Result<Seen, Error> {
        let now = environment::now();
        let mut seen = Seen::default();
        for (name, changed) in &difference.requests {
            let facts = self.store.facts(self.repository, name).await?;
            let known = facts.as_ref().map(|facts| Known { path: facts.path.clone(), file: facts.file.clone() });
            let request = blocking(|| main_branch::request(&self.requests, main, name, changed, known.as_ref()))?;
            let moved = known.as_ref().is_some_and(|known| known.path != request.path);
            if moved && live_plan(facts.as_ref()).is_none() {
                // It moved: what counts as its plan is what lies beside it now.
                let plan = blocking(|| main_branch::plan_blob(&self.requests, main, &request.path))?;
                seen.plans.push((name.clone(), plan));
            }
            seen.events.extend(said_of(&request, facts.as_ref(), now));
            seen.requests.push(request);
        }
        for path in &difference.plans {
            self.sort_out_plan(path, main, &mut seen).await?;
        }
        Ok(seen)
    }

    /// A plan counts only at the path that belongs to its request (S2).
    async fn sort_out_plan(&self, path: &RepoPath, main: &Oid, seen: &mut Seen) -> Result<(), Error> {
        let Located::Plan { name, folder } = locate(path) else { return Ok(()) };
        if seen.plans.iter().any(|(known, _)| known == &name) {
            return Ok(());
        }
        let facts = self.store.facts(self.repository, &name).await?;
        let now_at = seen.requests.iter().find(|request| request.name == name).map(|request| &request.path);
        let beside = now_at.or(facts.as_ref().map(|facts| &facts.path));
        let blob = blocking(|| self.requests.blob_at(main, path))?.map(|entry| entry.oid);
        let belongs = match live_plan(facts.as_ref()).or(beside_plan(beside).as_ref()) {
            Some(plan) => path == plan,
            // A plan without a request is refused by its name, so that it shows where its request would.
            None => folder.is_empty(),
        };
        if !belongs {
            if blob.is_some() {
                seen.strays.insert(path.clone());
            }
            return Ok(());
        }
        seen.events.extend(facts.as_ref().and_then(|facts| used_again(facts, blob.as_ref(), environment::now())));
        seen.plans.push((name, blob));
        Ok(())
    }

    /// Keeps the list of files that nobody reads, so that each is shown for as long as it is there.
    async fn list_refused(
        &self,
        difference: &Difference,
        strays: &BTreeSet<RepoPath>,
        main: &Oid,
    ) -> Result<(), Error> {
        let before = self.store.refused_files(self.repository).await?;
        if before.is_empty() && strays.is_empty() && !difference.refused {
            return Ok(());
        }
        let mut strays = strays.clone();
        let plans = before.iter().filter_map(|(path, _)| RepoPath::parse(path.clone()).ok());
        strays.extend(plans.filter(|path| matches!(locate(path), Located::Plan { .. })));
        let files = blocking(|| main_branch::refused_files(&self.requests, main, &strays))?;
        let files: Vec<(String, String)> = files.into_iter().collect();
        if files == before {
            return Ok(());
        }
        let summary = match files.len() {
            0 => "every file of main is read again".to_owned(),
            1 => format!("a file of main is not read: {}: {}", files[0].0, files[0].1),
            more => format!("{more} files of main are not read, {} among them: {}", files[0].0, files[0].1),
        };
        let event = events::about_files(kind::FILES, summary, json!({ "files": files }), environment::now());
        self.apply(Change::FilesRefused { files }, &[event]).await?;
        Ok(())
    }

    /// Files of `main` that are not read and belong to no request: path and why.
    ///
    /// # Errors
    /// The store failed.
    pub async fn refused_files(&self) -> Result<Vec<(String, String)>, Error> {
        Ok(self.store.refused_files(self.repository).await?)
    }

    /// What brings the mirror of the infra repository up to date, to be done beside everything else: a remote may take
    /// minutes to answer.
    pub fn fetch(&mut self) -> Fetch {
        let first = self.infra.is_none();
        say_removed(&blocking(|| self.requests.clear_locks(Locks::PlanBranches)));
        Fetch { home: self.home.clone(), config: self.config.clone(), environment: self.environment.clone(), first }
    }

    /// Takes what a fetch brought.
    ///
    /// # Errors
    /// The store failed; the next fetch brings it again.
    pub async fn fetched(&mut self, fetched: Fetched) -> Result<(), Error> {
        if let Err(error) = self.forget_logs().await {
            tracing::warn!(%error, "old logs could not be forgotten");
        }
        // What was blocked while the repository was away is looked at again, although its branch did not move.
        let back = self.infra.is_none() || self.infra_error.is_some();
        match fetched.0 {
            Ok((repo, tip)) => {
                self.infra = Some(repo);
                self.infra_error = None;
                let known = self.store.cursor(self.repository).await?.infra;
                if back || known.as_ref() != Some(&tip) {
                    self.apply(Change::InfraSeen { commit: tip }, &[]).await?;
                }
            }
            Err(reason) => {
                if self.infra_error.as_ref() != Some(&reason) {
                    tracing::warn!(reason = events::one_line(&reason), "the infra repository can't be read");
                }
                self.infra_error = Some(reason);
            }
        }
        Ok(())
    }

    /// Forgets the text of logs that is older than the configuration says; looked at once a day.
    async fn forget_logs(&mut self) -> Result<(), Error> {
        let now = environment::now();
        if self.logs_forgotten.is_some_and(|last| now < last.plus_secs(DAY)) {
            return Ok(());
        }
        let kept = i64::from(self.config.spec.store.log_days) * DAY;
        let gone = self.store.forget_logs(now.plus_secs(-kept)).await?;
        self.logs_forgotten = Some(now);
        if gone > 0 {
            tracing::info!(gone, "forgot old logs");
        }
        Ok(())
    }

    /// Goes on with the mirror that an earlier life left, where there is one, until a fetch brings news.
    ///
    /// # Errors
    /// The store failed.
    pub async fn go_on_without_fetch(&mut self) -> Result<(), Error> {
        if !self.has_fetched() && self.store.cursor(self.repository).await?.infra.is_some() {
            self.infra = Repo::open(&self.home.infra()).ok();
        }
        Ok(())
    }

    /// Whether the infra repository was looked at in this life.
    pub fn has_fetched(&self) -> bool {
        self.infra.is_some() || self.infra_error.is_some()
    }

    /// Keeps a plan's infra commit alive for as long as it may run.
    pub(super) fn pin(&self, plan: &Oid, commit: &Oid) -> Result<(), Error> {
        if let Some(infra) = &self.infra {
            blocking(|| infra.pin(plan, commit))?;
        }
        Ok(())
    }
}

/// The plan of a run that goes on: it stays where it was merged, wherever its request moves.
fn live_plan(facts: Option<&RequestFacts>) -> Option<&RepoPath> {
    facts?.run.as_ref().filter(|run| run.state.is_none()).map(|run| &run.plan_path)
}

fn beside_plan(request: Option<&RepoPath>) -> Option<RepoPath> {
    request.map(chiffon_requests::plan_path)
}

/// What is remembered of a request file at once: that it can't be read, or that it is gone.
fn said_of(request: &SeenRequest, before: Option<&RequestFacts>, at: Timestamp) -> Option<Event> {
    let same = before.is_some_and(|before| before.file == request.file && before.path == request.path);
    if same {
        return None;
    }
    let (kind, words, detail) = match &request.file {
        RequestFile::Valid { .. } => return None,
        RequestFile::Invalid { findings, .. } => {
            (kind::BLOCKED, format!("blocked: {findings}"), json!({ "invalid": findings }))
        }
        RequestFile::Absent if before.is_none_or(|before| before.file == RequestFile::Absent) => return None,
        RequestFile::Absent => (kind::DELETED, "the request was deleted".to_owned(), json!({})),
    };
    Some(events::about_request_file(request, kind, words, detail, at))
}

/// A plan that ran already and reached `main` once more runs nothing, and that is said.
fn used_again(facts: &RequestFacts, blob: Option<&Oid>, at: Timestamp) -> Option<Event> {
    let blob = blob?;
    let used = facts.offers.iter().any(|offer| &offer.plan_oid == blob && offer.state == OfferState::Approved);
    if !used {
        return None;
    }
    let refusal = Refusal { blob: blob.clone(), reason: RefusalReason::Used, at, why: None };
    Some(events::refused(facts, &refusal, super::pages::refusal_in_words(RefusalReason::Used), at))
}
