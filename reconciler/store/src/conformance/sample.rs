//! Values for the suite: valid, full and different from one another.

use std::collections::BTreeMap;

use chiffon_core::facts::{Offer, OfferState, Run};
use chiffon_schemas::{
    AgentKind, ApiVersion, ApprovalRecord, BootId, ChangedTask, Established, Failure, Host, InfraRef, LogDigest, Mode,
    Name, Oid, Outcome, Pin, Plan, PlanKind, PlanMetadata, PlanSpec, PlannedBy, PlannerKind, Recap, RepoPath,
    RequestRef, Risk, RiskLevel, RunId, Step, Timestamp, Tools, Touches, Undo, Usage, Verdict, ulid,
};
use serde_json::json;

/// A name.
pub fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

/// A host.
pub fn host(text: &str) -> Host {
    Host::parse(text).expect("a valid host")
}

/// Hosts.
pub fn hosts(texts: &[&str]) -> Vec<Host> {
    texts.iter().map(|text| host(text)).collect()
}

/// An object id, another one for each number.
pub fn oid(number: u32) -> Oid {
    Oid::parse(format!("{number:040x}")).expect("a valid object id")
}

/// A path.
pub fn path(text: &str) -> RepoPath {
    RepoPath::parse(text).expect("a valid path")
}

/// A run's id; a greater number is a later run.
pub fn run_id(number: u64) -> RunId {
    RunId::parse(ulid(number, 0)).expect("a valid run id")
}

/// A life of an agent.
pub fn boot(number: u64) -> BootId {
    BootId::parse(ulid(number, 7)).expect("a valid boot id")
}

/// A time, in seconds after the suite's beginning.
pub fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000).plus_secs(secs)
}

/// The blob of a request's plan of a revision.
pub fn plan_oid(revision: u32) -> Oid {
    oid(0xa000 + revision)
}

fn step(id: &str, playbook: &str, needs: &[&str], limit: &[&str]) -> Step {
    Step {
        id: name(id),
        needs: needs.iter().map(|id| name(id)).collect(),
        agent: AgentKind::Infra,
        playbook: path(playbook),
        tags: vec!["compose".to_owned(), "'; DROP TABLE runs; --".to_owned()],
        limit: hosts(limit),
        vars: BTreeMap::from([
            ("domain".to_owned(), json!("kuma.example.org")),
            ("odd".to_owned(), json!({"é\u{1b}\u{0}\u{2028}": [null, true, 0.1, 1e300, -5e-324, u64::MAX, i64::MIN]})),
        ]),
        found: BTreeMap::from([("domain".to_owned(), vec!["group_vars/all.yml:3".to_owned()])]),
        timeout_secs: 3600,
    }
}

/// A plan with two steps, every field of it used: `site` on `nas01` and `nas02`, then `dns` on `web-1.example.org`.
pub fn plan(request: &Name, revision: u32) -> Plan {
    let reads =
        [("site.yml", Pin::Object(oid(21))), ("roles/kuma/", Pin::Object(oid(22))), ("host_vars/x", Pin::Absent)];
    Plan {
        api_version: ApiVersion::V1,
        kind: PlanKind::Plan,
        metadata: PlanMetadata {
            name: request.clone(),
            revision,
            request: RequestRef { path: path(&format!("requests/{request}.yaml")), oid: oid(1) },
            expires: at(14 * 86_400),
        },
        spec: PlanSpec {
            summary: "Sets up Uptime Kuma — „schnell“, with 'quotes', %s and \\".to_owned(),
            planner: PlannedBy {
                kind: PlannerKind::Catalogue,
                reason: "one fits".to_owned(),
                cost_microusd: 17,
                undoes: None,
            },
            infra: InfraRef { repository: name("infra"), commit: oid(2), tree: oid(3), inventory: path("hosts.yml") },
            tools: Tools { ansible_core: "2.19".to_owned() },
            mode: Mode::Apply,
            reads: reads.into_iter().map(|(file, pin)| (path(file), pin)).collect(),
            steps: vec![
                step("site", "playbooks/kuma.yml", &[], &["nas01", "nas02"]),
                step("dns", "playbooks/dns.yml", &["site"], &["web-1.example.org"]),
            ],
            risk: Risk { level: RiskLevel::Medium, rules: vec!["opens-port".to_owned()] },
            touches: Touches {
                hosts: hosts(&["nas01", "nas02", "web-1.example.org"]),
                services: vec!["kuma".to_owned()],
                ports: vec!["nas01:3001/tcp".to_owned()],
                secrets: vec!["vault_kuma".to_owned()],
            },
            undo: Undo::Playbook { playbook: path("playbooks/kuma-remove.yml"), tested: true },
            assumptions: vec!["the disk has room".to_owned(), String::new()],
        },
    }
}

/// An open offer of a request's plan.
pub fn offer(request: &Name, revision: u32) -> Offer {
    Offer {
        plan_oid: plan_oid(revision),
        plan: plan(request, revision),
        path: path(&format!("plans/{request}.yaml")),
        main: Some(oid(100)),
        branch_commit: None,
        at: at(i64::from(revision)),
        state: OfferState::Open,
    }
}

/// The run of an offer.
pub fn run(id: &RunId, offer: &Offer) -> Run {
    Run {
        id: id.clone(),
        plan_oid: offer.plan_oid.clone(),
        plan: offer.plan.clone(),
        plan_path: offer.path.clone(),
        approval: ApprovalRecord {
            commit: oid(200),
            by: Some("A \"person\" <person@example.org>".to_owned()),
            approved_by: Vec::new(),
            pull: None,
            established: Established::Claimed,
            config_digest: "00".repeat(32),
        },
        approved_at: at(50),
        round: 1,
        cancel: false,
        state: None,
        finished_at: None,
        voided: false,
        attempts: Vec::new(),
    }
}

/// An outcome with every field used.
pub fn outcome(verdict: Verdict, duration_ms: u64) -> Outcome {
    let recap = Recap { ok: 12, changed: 3, unreachable: 1, failed: 1, skipped: 4, rescued: 1, ignored: 2 };
    let changed = ChangedTask { host: host("nas01"), task: "kuma : Start it ✓".to_owned() };
    Outcome {
        verdict,
        reason: Some("a task failed".to_owned()),
        exit_code: Some(2),
        recap: BTreeMap::from([(host("nas01"), recap), (host("nas02"), Recap::default())]),
        changed: vec![changed],
        failure: Some(Failure {
            host: Some(host("nas01")),
            task: Some("kuma : Start it".to_owned()),
            cause: "no space left on device".to_owned(),
            excerpt: "line 1\nline 2\u{1b}[0m".to_owned(),
            done: vec!["nas01: kuma : Pull".to_owned()],
            not_started: vec!["dns".to_owned()],
            retry_safe: true,
        }),
        finished: hosts(&["nas01"]),
        interrupted: hosts(&["nas02"]),
        duration_ms,
        usage: Some(Usage { cpu_ms: u64::MAX, max_rss_kib: 70_000 }),
        log: LogDigest { sha256: "11".repeat(32), bytes: 123, chunks: 4, incomplete: true },
        ansible_core: Some("2.19.3".to_owned()),
        suggestions: vec!["clean up".to_owned()],
    }
}
