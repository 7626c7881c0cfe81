//! Writes events to the audit branch: rows first, then commits, each idempotent by its events' ids.
//!
//! A tip that is neither the last one recorded nor our own commit for events still in the outbox stops everything
//! until a person looks (S2).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use chiffon_core::facts::Event;
use chiffon_requests::{AuditCommit, TipState, Trailer};
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{Mode, Name, Oid, Plan, RepoPath, Timestamp};
use serde_json::json;

use super::{Driver, Error, blocking, pages};
use crate::events::kind;

/// Events that one look takes from the outbox.
const BATCH: u32 = 128;

impl Driver {
    /// Looks at the audit tip once at the start, and again whenever it is not where we left it.
    pub(super) async fn check_audit(&mut self) -> Result<(), Error> {
        self.check_forge_audit()?;
        let cursor = self.cursor().await?;
        let tip = blocking(|| self.requests.reference(&chiffon_requests::RefName::audit()))?;
        if self.audit_checked && tip == cursor.audit {
            return Ok(());
        }
        let waiting = self.store.unaudited(self.repository, BATCH).await?;
        let ids: Vec<_> = waiting.iter().map(|event| event.id.clone()).collect();
        match blocking(|| chiffon_requests::check_tip(&self.requests, cursor.audit.as_ref(), &ids))? {
            TipState::AsRecorded => {}
            TipState::OursAhead { commits } => {
                // The crash came between the commit and its row.
                for (commit, events) in commits {
                    self.store.audited(self.repository, &events, &commit).await?;
                }
                self.forget_ground();
            }
            TipState::Foreign { reason } => {
                return Err(Error::Stalled(format!(
                    "the branch chiffon/audit is not as Chiffon left it: {reason}. Nothing goes on until a person has \
                     looked: `git log chiffon/audit` shows what is there; put it back with \
                     `git update-ref refs/heads/chiffon/audit {}`",
                    cursor.audit.map_or_else(|| "<the last good commit>".to_owned(), |oid| oid.to_string()),
                )));
            }
        }
        self.audit_checked = true;
        Ok(())
    }

    /// Writes every waiting event, in order; consecutive events of one request share a commit.
    pub(super) async fn drain_audit(&mut self) -> Result<(), Error> {
        while !self.all_audited.load(Ordering::Relaxed) {
            let waiting = self.store.unaudited(self.repository, BATCH).await?;
            self.write_events(&waiting).await?;
            self.all_audited.store(waiting.len() < BATCH as usize, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn write_events(&mut self, waiting: &[Event]) -> Result<(), Error> {
        for group in waiting.chunk_by(|one, next| one.request == next.request) {
            let commit = self.commit_events(group).await?;
            crash_point("audit-committed");
            let ids: Vec<_> = group.iter().map(|event| event.id.clone()).collect();
            self.store.audited(self.repository, &ids, &commit).await?;
            self.audit_moved(&commit);
            crash_point("audit-marked");
        }
        Ok(())
    }

    async fn commit_events(&mut self, group: &[Event]) -> Result<Oid, Error> {
        let cursor = self.cursor().await?;
        let last = group.last().expect("a group has at least its first event");
        let mut files = Vec::new();
        for event in group {
            files.extend(files_of(event));
        }
        let names: BTreeSet<&Name> = group.iter().filter_map(|event| event.request.as_ref()).collect();
        for name in names {
            if let Some((facts, world)) = self.look_at(name).await? {
                let page = pages::status_page(&facts, &world);
                files.push((chiffon_requests::status_path(&facts.path), Some(page.into_bytes())));
            }
        }
        if group.iter().any(|event| event.kind == kind::FILES) {
            let page = pages::unread_page(&self.store.refused_files(self.repository).await?);
            files.push((path("status/NOT-READ.md".to_owned()), page.map(String::into_bytes)));
        }
        let commit = AuditCommit {
            subject: last.summary.clone(),
            body: body_of(group),
            trailers: trailers_of(group),
            files,
            time: last.at,
        };
        let tip = cursor.audit;
        Ok(blocking(|| chiffon_requests::append(&self.requests, &commit, tip.as_ref()))?)
    }
}

/// The files that an event leaves on the audit branch, beside its own.
fn files_of(event: &Event) -> Vec<(RepoPath, Option<Vec<u8>>)> {
    let (year, month, day) = event.at.date();
    let own = path(format!("events/{year:04}-{month:02}/{day:02}/{}.json", event.id));
    let text = serde_json::to_vec_pretty(&event_json(event)).expect("an event is plain data");
    let mut files = vec![(own, Some(text))];
    let detail = |key: &str| event.detail.get(key);
    if event.kind == kind::OFFERED
        && let (Some(offer), Some(plan)) = (detail("offer"), &event.plan)
        && let Some(at) = offer_path(offer.get("path"))
    {
        let expires = offer.pointer("/plan/metadata/expires").cloned().unwrap_or_default();
        let revision = offer.pointer("/plan/metadata/revision").cloned().unwrap_or_default();
        let open = json!({ "plan": plan, "revision": revision, "expires": expires });
        files.push((at, Some(chiffon_schemas::to_yaml(&open).into_bytes())));
        files.extend(check_plan(offer));
    }
    if [kind::CLOSED, kind::APPROVED].contains(&event.kind.as_str())
        && let Some(at) = offer_path(detail("plan_path"))
    {
        files.push((at, None));
        let plan = detail("plan_path").and_then(|path| path.as_str()).and_then(|path| RepoPath::parse(path).ok());
        files.extend(plan.map(|plan| (plan, None)));
    }
    if let (Some(result), Some(run), Some(number)) =
        (detail("result"), &event.run, detail("number").and_then(|n| n.as_u64()))
    {
        let at = path(format!("results/{year:04}-{month:02}/{day:02}/{run}/result-{number}.yaml"));
        let typed: Result<chiffon_schemas::RunResult, _> = serde_json::from_value(result.clone());
        let text = typed.map_or_else(|_| chiffon_schemas::to_yaml(result), |typed| chiffon_schemas::to_yaml(&typed));
        files.push((at, Some(text.into_bytes())));
    }
    files
}

/// A plan in mode `check`, for as long as it is on offer: where policy exempts it, it never lies on `main`, and agents read
/// it here (DESIGN section 9).
fn check_plan(offer: &chiffon_schemas::Json) -> Option<(RepoPath, Option<Vec<u8>>)> {
    let plan: Plan = serde_json::from_value(offer.get("plan")?.clone()).ok()?;
    let at = RepoPath::parse(offer.get("path")?.as_str()?).ok()?;
    (plan.spec.mode == Mode::Check).then(|| (at, Some(chiffon_schemas::plan_bytes(&plan))))
}

/// `offers/…` for the `plans/…` that an event names.
fn offer_path(plan_path: Option<&chiffon_schemas::Json>) -> Option<RepoPath> {
    let plan_path = plan_path?.as_str()?.strip_prefix("plans/")?;
    RepoPath::parse(format!("offers/{plan_path}")).ok()
}

fn path(text: String) -> RepoPath {
    RepoPath::parse(text).expect("made of ids and numbers")
}

/// An event as its file has it.
fn event_json(event: &Event) -> chiffon_schemas::Json {
    serde_json::to_value(event).expect("an event is plain data")
}

fn body_of(group: &[Event]) -> String {
    let lines: Vec<String> = group.iter().map(|event| format!("{} {}", at(event.at), event.summary)).collect();
    lines.join("\n")
}

fn at(time: Timestamp) -> String {
    time.to_string()
}

fn trailers_of(group: &[Event]) -> Vec<Trailer> {
    let mut trailers = Vec::new();
    let mut add = |key: &str, value: String| {
        let trailer = Trailer { key: key.to_owned(), value };
        if !trailers.contains(&trailer) {
            trailers.push(trailer);
        }
    };
    for event in group {
        add("Chiffon-Event", format!("{} {}", event.id, event.kind));
    }
    for event in group {
        if let Some(name) = &event.request {
            let oid = event.request_oid.as_ref().map_or(String::new(), |oid| format!(" {oid}"));
            add("Chiffon-Request", format!("{name}{oid}"));
        }
        if let Some(plan) = &event.plan {
            add("Chiffon-Plan", plan.to_string());
        }
        if let Some(run) = &event.run {
            add("Chiffon-Run", run.to_string());
        }
        for host in &event.hosts {
            add("Chiffon-Host", host.to_string());
        }
        for service in &event.services {
            add("Chiffon-Service", service.clone());
        }
    }
    trailers
}
