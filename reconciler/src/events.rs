//! The events that Chiffon records: a row, and then a commit on the audit branch.

use chiffon_core::facts::{Event, Offer, Refusal, RequestFacts, Run, Unplanned};
use chiffon_schemas::{Json, RunState, Timestamp};
use chiffon_store::SeenRequest;
use serde_json::json;

use crate::environment;

/// Every kind of event, in the words that trailers and lists use.
pub mod kind {
    /// A plan was offered.
    pub const OFFERED: &str = "plan-offered";
    /// An offer was closed; `detail.state` says why.
    pub const CLOSED: &str = "offer-closed";
    /// Planning ended without an offer.
    pub const BLOCKED: &str = "request-blocked";
    /// Something on `main` was refused.
    pub const REFUSED: &str = "plan-refused";
    /// An offer was approved.
    pub const APPROVED: &str = "plan-approved";
    /// An attempt was granted.
    pub const GRANTED: &str = "attempt-granted";
    /// An attempt is lost.
    pub const LOST: &str = "attempt-lost";
    /// An agent declined an order.
    pub const DECLINED: &str = "order-declined";
    /// A report came with a fence that is not the attempt's.
    pub const STALE_FENCE: &str = "report-refused";
    /// A cancel was asked for.
    pub const CANCEL: &str = "cancel-asked";
    /// A retry was asked for.
    pub const RETRY: &str = "run-retried";
    /// A person paused a request.
    pub const PAUSED: &str = "request-paused";
    /// A pause ended.
    pub const RESUMED: &str = "request-resumed";
    /// A person freed a host's lock.
    pub const UNLOCKED: &str = "host-unlocked";
    /// A person said how a lost attempt ended.
    pub const RESOLVED: &str = "attempt-resolved";
    /// A person asked for another plan.
    pub const REPLAN: &str = "replan-asked";
    /// A person asked for something in a comment.
    pub const COMMENT: &str = "comment-answered";
    /// A request file was deleted.
    pub const DELETED: &str = "request-deleted";
    /// The list of files that are not read changed.
    pub const FILES: &str = "files-refused";
    /// A commit on a plan branch that was not offered, kept under a reference of its own.
    pub const KEPT: &str = "commit-kept";
    /// A run is over: `run-succeeded`, `run-failed`, `run-cancelled`, `run-lost`.
    pub fn run(state: super::RunState) -> String {
        format!("run-{}", state.as_str())
    }
    /// All of them.
    pub const ALL: [&str; 24] = [
        OFFERED,
        CLOSED,
        BLOCKED,
        REFUSED,
        APPROVED,
        GRANTED,
        LOST,
        DECLINED,
        STALE_FENCE,
        CANCEL,
        RETRY,
        PAUSED,
        RESUMED,
        UNLOCKED,
        RESOLVED,
        REPLAN,
        COMMENT,
        DELETED,
        FILES,
        KEPT,
        "run-succeeded",
        "run-failed",
        "run-cancelled",
        "run-lost",
    ];
}

/// An event about a request, without plan and run.
pub fn about(facts: &RequestFacts, kind: &str, summary: String, detail: Json, at: Timestamp) -> Event {
    Event {
        id: environment::event_id(),
        kind: kind.to_owned(),
        request: Some(facts.name.clone()),
        request_oid: facts.file.oid().cloned(),
        plan: None,
        run: None,
        hosts: Vec::new(),
        services: Vec::new(),
        summary: one_line(&summary),
        detail: with_path(detail, facts),
        at,
    }
}

/// An event about a request's file, whether or not the request was known before.
pub fn about_request_file(request: &SeenRequest, kind: &str, words: String, detail: Json, at: Timestamp) -> Event {
    let mut detail = detail;
    if let Json::Object(map) = &mut detail {
        map.insert("path".to_owned(), json!(request.path));
    }
    Event {
        request: Some(request.name.clone()),
        request_oid: request.file.oid().cloned(),
        ..about_files(kind, format!("{}: {words}", request.name), detail, at)
    }
}

/// An event about files that belong to no request.
pub fn about_files(kind: &str, summary: String, detail: Json, at: Timestamp) -> Event {
    Event {
        id: environment::event_id(),
        kind: kind.to_owned(),
        request: None,
        request_oid: None,
        plan: None,
        run: None,
        hosts: Vec::new(),
        services: Vec::new(),
        summary: one_line(&summary),
        detail,
        at,
    }
}

/// The request's path is in every event's detail: the audit branch keeps a status page beside it.
fn with_path(mut detail: Json, facts: &RequestFacts) -> Json {
    if let Json::Object(map) = &mut detail {
        map.insert("path".to_owned(), json!(facts.path));
    }
    detail
}

/// An event about an offer.
pub fn about_offer(
    facts: &RequestFacts,
    offer: &Offer,
    kind: &str,
    summary: String,
    detail: Json,
    at: Timestamp,
) -> Event {
    Event {
        plan: Some(offer.plan_oid.clone()),
        hosts: offer.plan.spec.touches.hosts.clone(),
        services: offer.plan.spec.touches.services.clone(),
        request_oid: Some(offer.plan.metadata.request.oid.clone()),
        ..about(facts, kind, summary, detail, at)
    }
}

/// An event about a run.
pub fn about_run(facts: &RequestFacts, run: &Run, kind: &str, summary: String, detail: Json, at: Timestamp) -> Event {
    Event {
        plan: Some(run.plan_oid.clone()),
        run: Some(run.id.clone()),
        hosts: run.plan.spec.touches.hosts.clone(),
        services: run.plan.spec.touches.services.clone(),
        request_oid: Some(run.plan.metadata.request.oid.clone()),
        ..about(facts, kind, summary, detail, at)
    }
}

/// `plan-offered`.
pub fn offered(facts: &RequestFacts, offer: &Offer, at: Timestamp) -> Event {
    let summary = format!("{}: offered: {}", facts.name, offer.plan.spec.summary);
    about_offer(facts, offer, kind::OFFERED, summary, json!({ "offer": offer }), at)
}

/// `request-blocked`.
pub fn blocked(facts: &RequestFacts, unplanned: &Unplanned, why: &str, at: Timestamp) -> Event {
    let summary = format!("{}: blocked: {why}", facts.name);
    about(facts, kind::BLOCKED, summary, json!({ "unplanned": unplanned }), at)
}

/// `plan-refused`.
pub fn refused(facts: &RequestFacts, refusal: &Refusal, why: &str, at: Timestamp) -> Event {
    let summary = format!("{}: refused ({}): {why}", facts.name, refusal.reason.as_str());
    let event = about(facts, kind::REFUSED, summary, json!({ "refusal": refusal }), at);
    Event { plan: Some(refusal.blob.clone()), ..event }
}

/// One line, at most 200 characters, without control characters: what a commit's subject and a table can take.
pub fn one_line(text: &str) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let flat = flat.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= 200 {
        return flat;
    }
    flat.chars().take(199).chain(['…']).collect()
}
