//! Documents for the other tests.

use std::collections::BTreeMap;

use chiffon_schemas::*;
use serde_json::json;

pub fn oid(digit: char) -> Oid {
    Oid::parse(digit.to_string().repeat(40)).unwrap()
}

pub fn plan() -> Plan {
    let host = |name: &str| Host::parse(name).unwrap();
    let path = |text: &str| RepoPath::parse(text).unwrap();
    let step = Step {
        id: Name::parse("configure").unwrap(),
        needs: Vec::new(),
        agent: AgentKind::Infra,
        playbook: path("playbooks/kuma-config-update.yml"),
        tags: Vec::new(),
        limit: vec![host("nas01")],
        vars: BTreeMap::from([(
            "kuma_portals".to_owned(),
            json!([{"name": "Home Assistant", "url": "https://ha.lab.example"}, {"name": "yes", "url": "0644"}]),
        )]),
        found: BTreeMap::from([("kuma_portals".to_owned(), vec!["compose/proxy/Caddyfile:3".to_owned()])]),
        timeout_secs: 300,
    };
    Plan {
        api_version: ApiVersion::V1,
        kind: PlanKind::Plan,
        metadata: PlanMetadata {
            name: Name::parse("uptime-kuma").unwrap(),
            revision: 1,
            request: RequestRef { path: path("requests/uptime-kuma.yaml"), oid: oid('5') },
            expires: Timestamp::parse("2026-12-06T09:00:00Z").unwrap(),
        },
        spec: PlanSpec {
            summary: "Configure Uptime Kuma on nas01".to_owned(),
            planner: PlannedBy {
                kind: PlannerKind::Catalogue,
                reason: "one clear match: yes".to_owned(),
                cost_microusd: 0,
                undoes: None,
            },
            infra: InfraRef {
                repository: Name::parse("homelab-infra").unwrap(),
                commit: oid('9'),
                tree: oid('3'),
                inventory: path("inventory/hosts.yml"),
            },
            tools: Tools { ansible_core: "2.19".to_owned() },
            mode: Mode::Apply,
            reads: BTreeMap::from([
                (path("roles/uptime_kuma/"), Pin::Object(oid('8'))),
                (path("host_vars/nas01.yml"), Pin::Absent),
            ]),
            steps: vec![step],
            risk: Risk { level: RiskLevel::Medium, rules: vec!["restarts-service".to_owned()] },
            touches: Touches { hosts: vec![host("nas01")], ..Touches::default() },
            undo: Undo::Playbook { playbook: path("playbooks/kuma-remove.yml"), tested: false },
            assumptions: vec!["\"homelab\" means the group `homelab`".to_owned()],
        },
    }
}
