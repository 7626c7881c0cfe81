//! The gate: plan × catalogue × policy → allow, deny or needs a person, with reasons (A2).
//!
//! It trusts nothing that a planner, a person or a model wrote into the plan: every atom must be in the catalogue at
//! the pinned commit, and risk and reach are worked out again. No model is called after it.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_schemas::{Host, Json, Mode, Name, Plan, RiskLevel, Step, Touches};

use crate::Policy;
use crate::catalogue::{Catalogue, Delegate, Entry};
use crate::risk;

/// Whether a person has merged exactly this plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// Nobody has yet.
    None,
    /// The open offer's blob is on `main`.
    Merged,
}

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may run.
    Allow {
        /// Why.
        reasons: Vec<String>,
    },
    /// It may be offered, and runs only if a person merges it.
    NeedsPerson {
        /// Why.
        reasons: Vec<String>,
    },
    /// It may neither run nor be offered; every reason, not only the first.
    Deny {
        /// Why.
        reasons: Vec<String>,
    },
}

impl Verdict {
    /// The word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Allow { .. } => "allow",
            Self::NeedsPerson { .. } => "needs-person",
            Self::Deny { .. } => "deny",
        }
    }

    /// The reasons.
    pub fn reasons(&self) -> &[String] {
        match self {
            Self::Allow { reasons } | Self::NeedsPerson { reasons } | Self::Deny { reasons } => reasons,
        }
    }
}

/// Judges a plan.
pub fn gate(plan: &Plan, catalogue: &Catalogue, policy: &Policy, approval: Approval) -> Verdict {
    let mut denials = Vec::new();
    check_infra(plan, catalogue, &mut denials);
    check_order(&plan.spec.steps, &mut denials);
    for step in &plan.spec.steps {
        check_step(step, catalogue, policy, &mut denials);
    }
    check_reach(plan, catalogue, policy, &mut denials);
    if !denials.is_empty() {
        return Verdict::Deny { reasons: denials };
    }
    match approval {
        Approval::None if is_exempt(plan, policy) => Verdict::Allow {
            reasons: vec!["a check run, which policy.exempt_check_runs lets begin by itself".to_owned()],
        },
        Approval::Merged => Verdict::Allow { reasons: vec!["a person merged exactly this plan".to_owned()] },
        Approval::None => Verdict::NeedsPerson { reasons: reasons_for_a_person(plan) },
    }
}

/// Whether policy lets a plan begin without anybody's approval: off unless the owner says so. The gate sees to it that no
/// rule is left out of a plan.
pub fn is_exempt(plan: &Plan, policy: &Policy) -> bool {
    policy.exempt_check_runs && plan.may_be_exempt()
}

fn reasons_for_a_person(plan: &Plan) -> Vec<String> {
    let level = match plan.spec.risk.level {
        RiskLevel::Low => "low",
        RiskLevel::Medium => "medium",
        RiskLevel::High => "high",
    };
    let does = match plan.spec.mode {
        Mode::Apply => "changes",
        Mode::Check => "executes a check on",
    };
    let mut reasons = vec![format!("it {does} {} (risk {level})", hosts_in_words(&plan.spec.touches.hosts))];
    reasons.extend(plan.spec.risk.rules.iter().map(|rule| format!("rule {rule}")));
    reasons
}

fn hosts_in_words(hosts: &[Host]) -> String {
    if hosts.len() == 1 { "1 host".to_owned() } else { format!("{} hosts", hosts.len()) }
}

fn check_infra(plan: &Plan, catalogue: &Catalogue, denials: &mut Vec<String>) {
    if plan.spec.infra != catalogue.infra {
        denials.push("the plan pins another commit, tree or inventory than the catalogue was read from".to_owned());
    }
}

/// Unique ids, at least one step, and `needs` that name only earlier steps: so there can be no cycle.
fn check_order(steps: &[Step], denials: &mut Vec<String>) {
    if steps.is_empty() {
        denials.push("the plan has no steps".to_owned());
    }
    let mut seen: BTreeSet<&Name> = BTreeSet::new();
    for step in steps {
        for need in &step.needs {
            if !seen.contains(need) {
                denials.push(format!("step {} needs {need}, which is no earlier step", step.id));
            }
        }
        if !seen.insert(&step.id) {
            denials.push(format!("two steps are called {}", step.id));
        }
    }
}

fn check_step(step: &Step, catalogue: &Catalogue, policy: &Policy, denials: &mut Vec<String>) {
    let id = &step.id;
    if policy.deny_playbooks.contains(&step.playbook) {
        denials.push(format!("step {id}: the policy denies {}", step.playbook));
    }
    if step.timeout_secs == 0 || step.timeout_secs > policy.max_timeout_secs {
        denials.push(format!(
            "step {id}: a time-out of {} s is not within 1 to {} s, which the policy allows",
            step.timeout_secs, policy.max_timeout_secs
        ));
    }
    let Some(entry) = catalogue.entry(&step.playbook) else {
        denials.push(format!("step {id}: {} is not in the catalogue", step.playbook));
        return;
    };
    if let Some(reason) = &entry.unreadable {
        denials.push(format!("step {id}: {} can't be planned with: {reason}", step.playbook));
    }
    check_limit(step, entry, denials);
    check_vars(step, entry, denials);
    for tag in step.tags.iter().filter(|tag| !entry.tags.contains(*tag)) {
        denials.push(format!("step {id}: no task of {} has the tag `{tag}`", step.playbook));
    }
}

fn check_limit(step: &Step, entry: &Entry, denials: &mut Vec<String>) {
    let id = &step.id;
    if step.limit.is_empty() {
        denials.push(format!("step {id}: no host"));
    }
    if step.limit.windows(2).any(|pair| pair[0] >= pair[1]) {
        denials.push(format!("step {id}: its hosts are not sorted or repeat"));
    }
    let hosts = entry.hosts();
    for host in step.limit.iter().filter(|host| !hosts.contains(host)) {
        denials.push(format!("step {id}: {} does not run on {host}", step.playbook));
    }
}

fn check_vars(step: &Step, entry: &Entry, denials: &mut Vec<String>) {
    let id = &step.id;
    for (name, value) in &step.vars {
        if let Some(reason) = refused_name(name) {
            denials.push(format!("step {id}: variable `{name}` {reason}"));
            continue;
        }
        if let Some(reason) = refused_value(value) {
            denials.push(format!("step {id}: the value of `{name}` {reason}"));
        }
        match entry.variables.get(name) {
            None => denials.push(format!("step {id}: {} takes no variable `{name}`", step.playbook)),
            Some(variable) if !variable.kind.accepts(value) => {
                denials.push(format!("step {id}: `{name}` takes {}, not {value}", variable.kind.describe()));
            }
            Some(_) => {}
        }
    }
    for (name, variable) in &entry.variables {
        if variable.required && !step.vars.contains_key(name) {
            denials.push(format!("step {id}: `{name}` has no value"));
        }
    }
    for name in step.found.keys().filter(|name| !step.vars.contains_key(*name)) {
        denials.push(format!("step {id}: `{name}` was found somewhere but is not set"));
    }
}

/// Names that Ansible gives a meaning of its own, or that are no identifiers (N1).
pub fn refused_name(name: &str) -> Option<&'static str> {
    const MAGIC: &[&str] = &[
        "hostvars",
        "groups",
        "group_names",
        "inventory_hostname",
        "inventory_hostname_short",
        "inventory_dir",
        "inventory_file",
        "play_hosts",
        "playbook_dir",
        "role_path",
        "role_name",
        "role_names",
        "vars",
        "omit",
        "environment",
        "item",
        "lookup",
        "query",
        "q",
        "undef",
        "now",
        "namespace",
        "self",
    ];
    let identifier = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= 128;
    if !identifier {
        Some("is not a variable name")
    } else if name.starts_with("ansible_") || name.starts_with("__") {
        Some("belongs to Ansible itself")
    } else if MAGIC.contains(&name) {
        Some("has a meaning of its own in Ansible")
    } else {
        None
    }
}

/// Values that could become code: templates and NUL, at any depth, keys included (N1).
pub fn refused_value(value: &Json) -> Option<&'static str> {
    match value {
        Json::String(text) => refused_text(text),
        Json::Array(items) => items.iter().find_map(refused_value),
        Json::Object(map) => map.iter().find_map(|(key, value)| {
            let reserved = key.starts_with("__ansible").then_some("has a key that Ansible itself uses");
            reserved.or_else(|| refused_text(key)).or_else(|| refused_value(value))
        }),
        Json::Null | Json::Bool(_) | Json::Number(_) => None,
    }
}

fn refused_text(text: &str) -> Option<&'static str> {
    if ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) {
        Some("holds a template; only plain values are taken")
    } else if text.contains('\0') {
        Some("holds a NUL byte")
    } else {
        None
    }
}

fn check_reach(plan: &Plan, catalogue: &Catalogue, policy: &Policy, denials: &mut Vec<String>) {
    let pairs: Vec<(&Entry, &Step)> =
        plan.spec.steps.iter().filter_map(|step| Some((catalogue.entry(&step.playbook)?, step))).collect();
    let touched = touched_hosts(&pairs, catalogue);
    let said: BTreeSet<&Host> = plan.spec.touches.hosts.iter().collect();
    if said != touched.iter().collect() {
        denials.push("`touches.hosts` is not what the steps touch".to_owned());
    }
    for host in touched.iter().filter(|host| policy.deny_hosts.contains(*host)) {
        denials.push(format!("the policy denies host {host}"));
    }
    if touched.len() > policy.max_hosts {
        denials.push(format!("it touches {} hosts; the policy allows {}", touched.len(), policy.max_hosts));
    }
    let computed = risk::assess(&pairs, catalogue);
    if plan.spec.risk.level < computed.level {
        denials.push(format!("its risk is said to be lower than the rules find ({})", computed.rules.join(", ")));
    }
    for rule in computed.rules.iter().filter(|rule| !plan.spec.risk.rules.contains(rule)) {
        denials.push(format!("its risk leaves out the rule {rule}"));
    }
    check_reads(plan, &pairs, denials);
}

/// Everything that the entries depend on is pinned as the catalogue has it.
fn check_reads(plan: &Plan, pairs: &[(&Entry, &Step)], denials: &mut Vec<String>) {
    let mut wanted = BTreeMap::new();
    for (entry, _) in pairs {
        wanted.extend(entry.reads.iter());
    }
    for (path, pin) in wanted {
        if plan.spec.reads.get(path) != Some(pin) {
            denials.push(format!("`reads` does not pin {path} as it is"));
        }
    }
}

/// The hosts that steps touch: their own, and those that their tasks delegate to by name.
pub fn touched_hosts(steps: &[(&Entry, &Step)], catalogue: &Catalogue) -> BTreeSet<Host> {
    let mut hosts: BTreeSet<Host> = steps.iter().flat_map(|(_, step)| step.limit.iter().cloned()).collect();
    for task in steps.iter().flat_map(|(entry, _)| entry.tasks()) {
        if let Delegate::To(name) = &task.delegate
            && let Some(host) = catalogue.inventory.hosts.keys().find(|host| host.as_str() == name)
        {
            hosts.insert(host.clone());
        }
    }
    hosts
}

/// What steps touch, for the planner and for the gate alike.
pub fn touches(steps: &[(&Entry, &Step)], catalogue: &Catalogue) -> Touches {
    let set = |items: BTreeSet<String>| items.into_iter().collect::<Vec<_>>();
    let services = steps.iter().flat_map(|(entry, _)| entry.services.iter().cloned()).collect();
    let secrets = steps.iter().flat_map(|(entry, _)| entry.secrets.iter().cloned()).collect();
    let ports = steps.iter().flat_map(|(entry, step)| {
        step.limit.iter().flat_map(|host| entry.ports.iter().map(move |port| format!("{host}:{port}")))
    });
    Touches {
        hosts: touched_hosts(steps, catalogue).into_iter().collect(),
        services: set(services),
        ports: set(ports.collect()),
        secrets: set(secrets),
    }
}
