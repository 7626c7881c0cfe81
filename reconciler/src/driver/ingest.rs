//! Reads git into facts: what `main` changed since last time, and where the infra branch stands.

use chiffon_core::facts::{OfferState, Refusal, RefusalReason, RequestFile};
use chiffon_requests::{Located, Repo};
use chiffon_schemas::{Name, Oid, RepoPath};
use chiffon_store::{Change, SeenRequest};

use super::{Driver, Error, blocking};
use crate::environment;
use crate::events;

/// What `main` changed, sorted out.
#[derive(Debug, Default)]
struct Seen {
    requests: Vec<SeenRequest>,
    plans: Vec<(Name, Option<Oid>)>,
}

impl Driver {
    /// Takes in what `main` changed since last time. Costs what the change costs, never a walk of everything.
    pub(super) async fn ingest_main(&mut self) -> Result<(), Error> {
        let Some(main) = blocking(|| self.requests.reference(&self.main()))? else { return Ok(()) };
        let cursor = self.store.cursor(self.repository).await?;
        if cursor.main.as_ref() == Some(&main) {
            return Ok(());
        }
        let seen = blocking(|| read_changes(&self.requests, cursor.main.as_ref(), &main))?;
        let again = self.used_again(&seen).await?;
        let change = Change::MainSeen { from: cursor.main, main, requests: seen.requests, plans: seen.plans };
        self.apply(change, &again).await?;
        Ok(())
    }

    /// A plan that ran already and reached `main` once more runs nothing, and that is said.
    async fn used_again(&self, seen: &Seen) -> Result<Vec<chiffon_core::facts::Event>, Error> {
        let mut said = Vec::new();
        for (name, oid) in &seen.plans {
            let Some(oid) = oid else { continue };
            let Some(facts) = self.store.facts(self.repository, name).await? else { continue };
            let used = facts.offers.iter().any(|offer| &offer.plan_oid == oid && offer.state == OfferState::Approved);
            if used {
                let now = environment::now();
                let refusal = Refusal { blob: oid.clone(), reason: RefusalReason::Used, at: now };
                said.push(events::refused(&facts, &refusal, super::pages::refusal_in_words(RefusalReason::Used), now));
            }
        }
        Ok(said)
    }

    /// Brings the mirror of the infra repository up to date and looks at its branch.
    pub(super) async fn fetch_infra(&mut self) -> Result<(), Error> {
        let fetched = blocking(|| crate::mirror::refresh(&self.home, &self.config, &self.environment));
        match fetched {
            Ok((repo, tip)) => {
                self.infra = Some(repo);
                self.infra_error = None;
                let known = self.store.cursor(self.repository).await?.infra;
                if known.as_ref() != Some(&tip) {
                    self.apply(Change::InfraSeen { commit: tip }, &[]).await?;
                }
            }
            Err(reason) => {
                if self.infra_error.as_ref() != Some(&reason) {
                    tracing::warn!(%reason, "the infra repository can't be read");
                }
                self.infra_error = Some(reason);
            }
        }
        Ok(())
    }

    /// Keeps a plan's infra commit alive for as long as it may run.
    pub(super) fn pin(&self, plan: &Oid, commit: &Oid) -> Result<(), Error> {
        if let Some(infra) = &self.infra {
            blocking(|| infra.pin(plan, commit))?;
        }
        Ok(())
    }
}

/// The changes under `requests/` and `plans/` between two commits of `main`.
fn read_changes(repo: &Repo, from: Option<&Oid>, main: &Oid) -> Result<Seen, chiffon_requests::Error> {
    let mut seen = Seen::default();
    let limits = chiffon_requests::WalkLimits::default();
    for change in repo.changes(from, main, &folder("requests/"), &limits)?.entries {
        if let Located::Request { name, .. } = chiffon_requests::locate(&change.path) {
            let file = match &change.new {
                Some(_) => read_request_file(repo, main, &change.path, &change.new_oid()),
                None => RequestFile::Absent,
            };
            merge_seen(&mut seen.requests, SeenRequest { name, path: change.path, file });
        }
    }
    for change in repo.changes(from, main, &folder("plans/"), &limits)?.entries {
        if let Located::Plan { name, .. } = chiffon_requests::locate(&change.path) {
            let oid = change.new.map(|entry| entry.oid);
            merge_plan(&mut seen.plans, name, oid);
        }
    }
    Ok(seen)
}

/// A file that moved between folders is one removal and one addition of the same name: the addition stands.
fn merge_seen(seen: &mut Vec<SeenRequest>, request: SeenRequest) {
    match seen.iter_mut().find(|other| other.name == request.name) {
        None => seen.push(request),
        Some(other) if request.file == RequestFile::Absent && other.file != RequestFile::Absent => {}
        Some(other) if other.file == RequestFile::Absent => *other = request,
        Some(other) => {
            // Two files of one name: neither is taken; the first path is where the mistake is shown.
            let oid = other.file.oid().cloned();
            let findings = format!("two requests are called {}: {} and {}", other.name, other.path, request.path);
            if let Some(oid) = oid {
                other.file = RequestFile::Invalid { oid, findings };
            }
        }
    }
}

fn merge_plan(plans: &mut Vec<(Name, Option<Oid>)>, name: Name, oid: Option<Oid>) {
    match plans.iter_mut().find(|(other, _)| other == &name) {
        None => plans.push((name, oid)),
        Some((_, known)) if known.is_none() => *known = oid,
        Some(_) => {}
    }
}

fn folder(path: &str) -> RepoPath {
    RepoPath::parse(path).expect("a constant path")
}

fn read_request_file(repo: &Repo, main: &Oid, path: &RepoPath, oid: &Oid) -> RequestFile {
    let oid = oid.clone();
    let bytes = match repo.read_document(main, path, chiffon_schemas::yaml::Limits::REQUEST.max_bytes as u64) {
        Ok(bytes) => bytes,
        Err(refusal) => return RequestFile::Invalid { oid, findings: refusal.to_string() },
    };
    match chiffon_schemas::read_request(path.as_str(), &bytes) {
        Ok(request) => RequestFile::Valid { oid, priority: request.spec.priority },
        Err(diagnostics) => {
            let findings: Vec<String> = diagnostics.iter().map(|found| found.to_string()).collect();
            RequestFile::Invalid { oid, findings: findings.join("\n") }
        }
    }
}
