//! Requests, plans and runs to measure with: one step on one host of its own, whose order is about 1 KiB.

use anyhow::Result;
use chiffon_core::facts::{Offer, OfferState, RequestFile, Run};
use chiffon_schemas::{ApprovalRecord, Established, Name, Oid, Plan, RepoPath};
use chiffon_store::{Change, SeenRequest};
use serde_json::json;

use crate::clock;

/// What makes an order 1 KiB long.
const PAYLOAD: usize = 420;

/// The variable of the step that the agent sends back.
pub const ECHO: &str = "echo";

/// The name of the request with a number.
pub fn name(number: usize) -> Name {
    Name::parse(format!("request-{number}")).expect("a valid name")
}

/// What the agent is to send back for the request with a number.
pub fn payload(number: usize) -> String {
    format!("{number:0>PAYLOAD$}")
}

fn oid(kind: u8, number: usize) -> Oid {
    Oid::parse(format!("{kind:02x}{number:038x}")).expect("40 digits are an object id")
}

fn plan(number: usize) -> Result<Plan> {
    let (name, host) = (name(number), format!("host-{number}"));
    Ok(serde_json::from_value(json!({
        "apiVersion": "chiffon/v1",
        "kind": "Plan",
        "metadata": {
            "name": name, "revision": 1, "expires": clock::now().plus_secs(86_400),
            "request": { "path": format!("requests/{name}.yaml"), "oid": oid(1, number) },
        },
        "spec": {
            "summary": "Does nothing",
            "planner": { "kind": "catalogue", "reason": "one fits", "cost_microusd": 0 },
            "infra": { "repository": "infra", "commit": oid(2, 0), "tree": oid(3, 0), "inventory": "hosts.yml" },
            "tools": { "ansible_core": "2.19" },
            "mode": "apply",
            "reads": {},
            "steps": [{
                "id": "site", "agent": "infra", "playbook": "site.yml", "limit": [host],
                "vars": { ECHO: payload(number) }, "timeout_secs": 60,
            }],
            "risk": { "level": "low", "rules": [] },
            "touches": { "hosts": [host], "services": ["echo"], "ports": [], "secrets": [] },
            "undo": { "kind": "none", "reason": "nothing was done" },
            "assumptions": [],
        },
    }))?)
}

fn offer(number: usize) -> Result<Offer> {
    Ok(Offer {
        plan_oid: oid(4, number),
        plan: plan(number)?,
        path: RepoPath::parse(format!("plans/{}.yaml", name(number))).expect("a valid path"),
        main: None,
        branch_commit: None,
        at: clock::now(),
        state: OfferState::Open,
    })
}

/// That a request and its merged plan are seen on `main`, and that the plan was offered.
///
/// # Errors
/// The plan is none.
pub fn merged(number: usize, before: Option<usize>) -> Result<[Change; 2]> {
    let (name, offer) = (name(number), offer(number)?);
    let path = RepoPath::parse(format!("requests/{name}.yaml")).expect("a valid path");
    let file = RequestFile::Valid { oid: oid(1, number), priority: 3 };
    let seen = Change::MainSeen {
        from: before.map(|before| oid(5, before)),
        main: oid(5, number),
        requests: vec![SeenRequest { name: name.clone(), path, file }],
        plans: vec![(name.clone(), Some(offer.plan_oid.clone()))],
    };
    Ok([seen, Change::OfferRecorded { name, replaces: None, offer: Box::new(offer) }])
}

/// That the plan is approved.
///
/// # Errors
/// The plan is none.
pub fn approved(number: usize) -> Result<(Run, Change)> {
    let offer = offer(number)?;
    let run = Run {
        id: clock::run_id(),
        plan_oid: offer.plan_oid.clone(),
        plan: offer.plan,
        plan_path: offer.path,
        approval: ApprovalRecord {
            commit: oid(5, number),
            by: Some("A person".to_owned()),
            approved_by: Vec::new(),
            pull: None,
            established: Established::Claimed,
            config_digest: "0".repeat(64),
        },
        approved_at: clock::now(),
        round: 1,
        cancel: false,
        state: None,
        finished_at: None,
        voided: false,
        attempts: Vec::new(),
    };
    Ok((run.clone(), Change::Approved { name: name(number), run: Box::new(run) }))
}
