//! A catalogue of five entries on six hosts, and a plan over it that the gate lets through.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::catalogue::{
    Catalogue, Delegate, Entry, Inventory, InventoryHost, Play, Source, Task, VarKind, Variable,
};
use chiffon_core::{risk, touches};
use chiffon_schemas::{
    AgentKind, ApiVersion, Host, InfraRef, Json, Mode, Name, Oid, Pin, Plan, PlanKind, PlanMetadata, PlanSpec,
    PlannedBy, PlannerKind, RepoPath, RequestRef, Step, Timestamp, Tools, Undo,
};
use serde_json::json;

pub const HOSTS: [&str; 6] = ["backup01", "gpu01", "nas01", "pi01", "pi02", "web01"];

pub fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn path(text: &str) -> RepoPath {
    RepoPath::parse(text).unwrap()
}

/// An object id made of one digit.
pub fn oid(digit: char) -> Oid {
    Oid::parse(digit.to_string().repeat(40)).unwrap()
}

pub fn source() -> Source {
    Source { path: path("playbooks/x.yml"), line: 1 }
}

/// A task with a module and its arguments, and nothing else.
pub fn task(module: &str, args: Json) -> Task {
    Task {
        name: format!("uses {module}"),
        module: module.to_owned(),
        args,
        at: source(),
        becomes: false,
        escapes_check: false,
        no_log: false,
        delegate: Delegate::No,
        opaque: None,
        notifies: Vec::new(),
        tags: BTreeSet::new(),
    }
}

fn variable(kind: VarKind) -> Variable {
    Variable { required: false, default: None, kind, description: String::new(), at: source() }
}

/// An entry with one play over `hosts`.
pub fn entry(playbook: &str, hosts: &[&str], tasks: Vec<Task>) -> Entry {
    let play = Play {
        name: playbook.to_owned(),
        pattern: "all".to_owned(),
        hosts: hosts.iter().map(|text| host(text)).collect(),
        roles: Vec::new(),
        tasks,
        handlers: Vec::new(),
    };
    Entry {
        playbook: path(playbook),
        aliases: Vec::new(),
        title: playbook.to_owned(),
        description: String::new(),
        services: vec!["kuma".to_owned()],
        plays: vec![play],
        variables: BTreeMap::new(),
        tags: BTreeSet::new(),
        reads: BTreeMap::from([(path(playbook), Pin::Object(oid('a')))]),
        own_plugins: false,
        escapes_check: false,
        runs_lookups: false,
        ports: Vec::new(),
        secrets: Vec::new(),
        unreadable: None,
    }
}

/// Every kind of variable, by its name.
fn variables() -> BTreeMap<String, Variable> {
    let map = VarKind::Map(BTreeMap::from([
        ("name".to_owned(), (VarKind::Str, true)),
        ("port".to_owned(), (VarKind::Int, false)),
    ]));
    let kinds = [
        ("any", VarKind::Any),
        ("text", VarKind::Str),
        ("path", VarKind::Path),
        ("count", VarKind::Int),
        ("ratio", VarKind::Float),
        ("flag", VarKind::Bool),
        ("colour", VarKind::Choice(vec![json!("red"), json!("blue"), json!(7)])),
        ("texts", VarKind::List(Box::new(VarKind::Str))),
        ("portals", VarKind::List(Box::new(map.clone()))),
        ("portal", map),
        ("free", VarKind::Map(BTreeMap::new())),
    ];
    kinds.into_iter().map(|(name, kind)| (name.to_owned(), variable(kind))).collect()
}

pub fn catalogue() -> Catalogue {
    let copy = || task("copy", json!({"dest": "/srv/x"}));
    let mut deploy = entry("playbooks/deploy.yml", &["nas01", "pi01", "web01"], vec![copy()]);
    deploy.variables = variables();
    deploy.tags = BTreeSet::from(["config".to_owned(), "install".to_owned()]);
    deploy.ports = vec!["3001/tcp".to_owned()];
    deploy.secrets = vec!["vault_password".to_owned()];
    deploy.reads.insert(path("roles/kuma/"), Pin::Object(oid('b')));
    deploy.reads.insert(path("host_vars/nas01.yml"), Pin::Absent);
    let configure = entry("playbooks/configure.yml", &["nas01"], vec![copy()]);
    let mut needy = entry("playbooks/needy.yml", &["nas01"], vec![copy()]);
    needy.variables.insert("needed".to_owned(), Variable { required: true, ..variable(VarKind::Str) });
    let mut broken = entry("playbooks/broken.yml", &["nas01"], vec![copy()]);
    broken.unreadable = Some("an include leaves the repository".to_owned());
    let mut delegated = copy();
    delegated.delegate = Delegate::To("backup01".to_owned());
    let backup = entry("playbooks/backup.yml", &["nas01"], vec![delegated]);
    let hosts = HOSTS.map(|text| (host(text), InventoryHost { at: source(), address: None }));
    Catalogue {
        infra: infra(),
        entries: vec![backup, broken, configure, deploy, needy],
        inventory: Inventory { hosts: hosts.into(), groups: BTreeMap::new() },
        portals: Vec::new(),
        portal_files: BTreeMap::new(),
        findings: Vec::new(),
    }
}

pub fn infra() -> InfraRef {
    InfraRef { repository: name("homelab"), commit: oid('1'), tree: oid('2'), inventory: path("inventory/hosts.yml") }
}

pub fn step(id: &str, playbook: &str, limit: &[&str]) -> Step {
    Step {
        id: name(id),
        needs: Vec::new(),
        agent: AgentKind::Infra,
        playbook: path(playbook),
        tags: Vec::new(),
        limit: limit.iter().map(|text| host(text)).collect(),
        vars: BTreeMap::new(),
        found: BTreeMap::new(),
        timeout_secs: 900,
    }
}

/// A plan of these steps whose risk, reach and reads are what the catalogue says they are.
pub fn plan_of(steps: Vec<Step>, catalogue: &Catalogue) -> Plan {
    let pairs: Vec<(&Entry, &Step)> =
        steps.iter().filter_map(|step| Some((catalogue.entry(&step.playbook)?, step))).collect();
    let mut reads = BTreeMap::new();
    for (entry, _) in &pairs {
        reads.extend(entry.reads.clone());
    }
    let (risk, touches) = (risk::assess(&pairs, catalogue), touches(&pairs, catalogue));
    Plan {
        api_version: ApiVersion::V1,
        kind: PlanKind::Plan,
        metadata: PlanMetadata {
            name: name("kuma"),
            revision: 1,
            request: RequestRef { path: path("requests/kuma.yaml"), oid: oid('3') },
            expires: Timestamp::from_secs(1_790_000_000),
        },
        spec: PlanSpec {
            summary: "Deploy Kuma".to_owned(),
            planner: PlannedBy {
                kind: PlannerKind::Catalogue,
                reason: "one match".to_owned(),
                cost_microusd: 0,
                undoes: None,
            },
            infra: catalogue.infra.clone(),
            tools: Tools { ansible_core: "2.19".to_owned() },
            mode: Mode::Apply,
            reads,
            steps,
            risk,
            touches,
            undo: Undo::None { reason: "nothing takes it back".to_owned() },
            assumptions: Vec::new(),
        },
    }
}

/// Two steps on two hosts, with variables: nothing about it is wrong.
pub fn good_plan(catalogue: &Catalogue) -> Plan {
    let mut deploy = step("deploy", "playbooks/deploy.yml", &["nas01", "pi01"]);
    deploy.vars.insert("count".to_owned(), json!(3));
    let mut configure = step("configure", "playbooks/configure.yml", &["nas01"]);
    configure.needs = vec![name("deploy")];
    plan_of(vec![deploy, configure], catalogue)
}
