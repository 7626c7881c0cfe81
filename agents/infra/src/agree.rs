//! Whether an order is what its plan says (S1): recomputed from the plan's own bytes, whatever the bus brought.

use std::collections::BTreeSet;

use chiffon_schemas::{AgentKind, Host, InfraRef, Name, Oid, Order, Plan, RepoPath, Step};

use crate::run::is_tag;
use crate::vars::{VarsError, extra_vars};
use crate::version::major_minor;

/// Why an order is not what was merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// The plan's name is not its file's.
    #[error("the plan at {path} calls itself `{name}`")]
    PlanName {
        /// Where the plan lies.
        path: RepoPath,
        /// What it says.
        name: Name,
    },
    /// The infra repository, commit, tree or inventory.
    #[error("the order names {ordered}, the plan {planned}")]
    Infra {
        /// As ordered.
        ordered: String,
        /// As planned.
        planned: String,
    },
    /// No such step.
    #[error("the plan has no step `{0}`")]
    NoStep(Name),
    /// The order's key and its step differ.
    #[error("the order is for step `{key}` and carries step `{step}`")]
    StepName {
        /// In the key.
        key: Name,
        /// In the step.
        step: Name,
    },
    /// A field of the step differs.
    #[error("the order's `{field}` of step `{step}` is not the plan's")]
    Step {
        /// The step.
        step: Name,
        /// The field.
        field: &'static str,
    },
    /// Hosts that the plan does not have.
    #[error("the order has hosts that step `{step}` of the plan has not: {hosts}")]
    Hosts {
        /// The step.
        step: Name,
        /// The hosts.
        hosts: String,
    },
    /// No hosts at all.
    #[error("the order has no host, one twice, or hosts out of order")]
    HostList,
    /// Another mode.
    #[error("the order's mode is not the plan's")]
    Mode,
    /// Another version of Ansible.
    #[error("the plan was made for ansible-core {planned}, this agent has {found}")]
    Tools {
        /// Major and minor, as planned.
        planned: String,
        /// The version here, or that there is none.
        found: String,
    },
    /// A tag that can't be passed on.
    #[error("the tag `{0}` is not made of letters, digits, `_`, `-`, `.` and `:`")]
    Tag(String),
    /// Variables that can't be passed on.
    #[error(transparent)]
    Vars(#[from] VarsError),
}

/// Checks everything in an order that its plan decides.
///
/// # Errors
/// The first difference.
pub fn agree(order: &Order, plan: &Plan, ansible_core: Option<&str>) -> Result<(), Disagreement> {
    // Destructured whole, so that a new field must be decided about here.
    let Order { key, approved_by: _, plan_path, infra, step } = order;
    if plan_path.stem() != plan.metadata.name.as_str() {
        return Err(Disagreement::PlanName { path: plan_path.clone(), name: plan.metadata.name.clone() });
    }
    if infra != &plan.spec.infra {
        return Err(Disagreement::Infra { ordered: words(infra), planned: words(&plan.spec.infra) });
    }
    if key.mode != plan.spec.mode {
        return Err(Disagreement::Mode);
    }
    if key.step != step.id {
        return Err(Disagreement::StepName { key: key.step.clone(), step: step.id.clone() });
    }
    let Some(planned) = plan.spec.steps.iter().find(|planned| planned.id == step.id) else {
        return Err(Disagreement::NoStep(step.id.clone()));
    };
    step_agrees(step, planned)?;
    let found = ansible_core.map_or("none", major_minor);
    if found != plan.spec.tools.ansible_core {
        let planned = plan.spec.tools.ansible_core.clone();
        return Err(Disagreement::Tools { planned, found: ansible_core.unwrap_or("none").to_owned() });
    }
    if let Some(tag) = step.tags.iter().find(|tag| !is_tag(tag)) {
        return Err(Disagreement::Tag(tag.clone()));
    }
    extra_vars(&step.vars)?;
    Ok(())
}

/// Everything but the hosts must be the plan's; of these the unfinished ones may be left, and the time may be shorter.
fn step_agrees(step: &Step, planned: &Step) -> Result<(), Disagreement> {
    let Step { id, needs, agent, playbook, tags, limit, vars, found, timeout_secs } = step;
    let fields = [
        ("needs", needs == &planned.needs),
        ("agent", agent == &planned.agent),
        ("playbook", playbook == &planned.playbook),
        ("tags", tags == &planned.tags),
        ("vars", vars == &planned.vars),
        ("found", found == &planned.found),
        ("timeout_secs", (1..=planned.timeout_secs).contains(timeout_secs)),
    ];
    if let Some((field, _)) = fields.into_iter().find(|(_, same)| !same) {
        return Err(Disagreement::Step { step: id.clone(), field });
    }
    match agent {
        AgentKind::Infra => {}
    }
    if limit.is_empty() || !limit.is_sorted_by(|a, b| a < b) {
        return Err(Disagreement::HostList);
    }
    let allowed: BTreeSet<&Host> = planned.limit.iter().collect();
    let others: Vec<&str> = limit.iter().filter(|host| !allowed.contains(host)).map(Host::as_str).collect();
    if others.is_empty() { Ok(()) } else { Err(Disagreement::Hosts { step: id.clone(), hosts: others.join(", ") }) }
}

fn words(infra: &InfraRef) -> String {
    let InfraRef { repository, commit, tree, inventory } = infra;
    format!("{repository} at {} (tree {}) with {inventory}", Oid::short(commit), Oid::short(tree))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn plan() -> Value {
        let oid = |digit: &str| digit.repeat(40);
        json!({
            "apiVersion": "chiffon/v1", "kind": "Plan",
            "metadata": { "name": "kuma", "revision": 1, "expires": "2026-12-06T09:00:00Z",
                          "request": { "path": "requests/kuma.yaml", "oid": oid("1") } },
            "spec": {
                "summary": "s", "planner": { "kind": "catalogue", "reason": "r", "cost_microusd": 0 },
                "infra": { "repository": "lab", "commit": oid("2"), "tree": oid("3"), "inventory": "inventory/hosts.yml" },
                "tools": { "ansible_core": "2.19" }, "mode": "apply",
                "reads": { "site.yml": oid("4"), "roles/kuma/": oid("5"), "host_vars/a.yml": "absent" },
                "steps": [
                    { "id": "first", "agent": "infra", "playbook": "first.yml", "limit": ["a", "b"], "vars": {}, "timeout_secs": 60 },
                    { "id": "deploy", "needs": ["first"], "agent": "infra", "playbook": "site.yml", "tags": ["web"],
                      "limit": ["a", "b", "c"], "vars": { "port": 80, "names": ["x", "y"] },
                      "found": { "names": ["Caddyfile:1", "Caddyfile:2"] }, "timeout_secs": 900 }
                ],
                "risk": { "level": "low", "rules": [] }, "touches": { "hosts": ["a", "b", "c"] },
                "undo": { "kind": "none", "reason": "x" }
            }
        })
    }

    fn order() -> Value {
        let plan = plan();
        json!({
            "key": { "run": "01JD0000000000000000000000", "plan": "9".repeat(40), "mode": "apply", "step": "deploy", "attempt": 1 },
            "approved_by": "8".repeat(40), "plan_path": "plans/kuma.yaml",
            "infra": plan["spec"]["infra"], "step": plan["spec"]["steps"][1]
        })
    }

    fn judge(order: Value, plan: Value) -> Option<Result<(), Disagreement>> {
        let (order, plan) = (serde_json::from_value(order).ok()?, serde_json::from_value(plan).ok()?);
        Some(agree(&order, &plan, Some("2.19.14")))
    }

    /// Every place of a document that holds a scalar, or a list or map that may be emptied.
    fn places(value: &Value, at: &str, all: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(key, item)| places(item, &format!("{at}/{}", key.replace('/', "~1")), all))
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(n, item)| places(item, &format!("{at}/{n}"), all))
            }
            _ => all.push(at.to_owned()),
        }
    }

    /// Other values that the same place may hold.
    fn others(old: &Value) -> Vec<Value> {
        let mut all =
            vec![json!("other"), json!("zz"), json!("7".repeat(40)), json!("plans/other.yaml"), json!("2.20")];
        all.extend([json!(1), json!(901), json!(true), json!("-e"), json!("a"), json!("first")]);
        all.retain(|other| other != old);
        all
    }

    /// What git decides, or what an order may choose freely: checked elsewhere, or harmless.
    const FREE: [&str; 5] = ["/key/run", "/key/plan", "/key/attempt", "/approved_by", "/step/timeout_secs"];

    #[test]
    fn s1_an_order_as_planned_is_agreed_to_with_fewer_hosts_and_less_time() {
        assert_eq!(judge(order(), plan()), Some(Ok(())));
        let mut fewer = order();
        fewer["step"]["limit"] = json!(["a", "c"]);
        fewer["step"]["timeout_secs"] = json!(10);
        assert_eq!(judge(fewer, plan()), Some(Ok(())));
        for limit in [json!([]), json!(["b", "a"]), json!(["a", "a"]), json!(["a", "d"]), json!(["all"])] {
            let mut wrong = order();
            wrong["step"]["limit"] = limit.clone();
            assert!(judge(wrong, plan()).unwrap().is_err(), "{limit}");
        }
        for secs in [0, 901] {
            let mut longer = order();
            longer["step"]["timeout_secs"] = json!(secs);
            assert!(judge(longer, plan()).unwrap().is_err());
        }
    }

    #[test]
    fn s1_any_other_change_of_an_order_is_refused() {
        let mut all = Vec::new();
        places(&order(), "", &mut all);
        let mut tried = 0;
        for place in all.iter().filter(|place| !FREE.contains(&place.as_str())) {
            let old = order().pointer(place).unwrap().clone();
            for other in others(&old) {
                let mut changed = order();
                *changed.pointer_mut(place).unwrap() = other.clone();
                if let Some(judged) = judge(changed, plan()) {
                    tried += 1;
                    assert!(judged.is_err(), "{place}: {old} as {other} was agreed to");
                }
            }
        }
        assert!(tried > 60, "only {tried} changes were documents at all");
    }

    #[test]
    fn s1_dropping_or_adding_to_the_step_is_refused() {
        for field in ["needs", "tags", "found"] {
            let mut less = order();
            less["step"].as_object_mut().unwrap().remove(field);
            assert!(judge(less, plan()).unwrap().is_err(), "{field}");
        }
        let mut more = order();
        more["step"]["vars"]["extra"] = json!(1);
        assert!(judge(more, plan()).unwrap().is_err());
    }

    #[test]
    fn s1_a_plan_for_another_ansible_is_refused() {
        let parse = || (serde_json::from_value(order()).unwrap(), serde_json::from_value(plan()).unwrap());
        let (order, plan): (Order, Plan) = parse();
        assert!(agree(&order, &plan, Some("2.14.18")).is_err());
        assert!(agree(&order, &plan, Some("2.190.1")).is_err());
        assert!(agree(&order, &plan, None).is_err());
    }

    proptest! {
        #[test]
        fn s1_a_plan_changed_in_what_its_step_does_never_agrees(
            place in prop::sample::select(vec![
                "/metadata/name", "/spec/infra/repository", "/spec/infra/commit", "/spec/infra/tree",
                "/spec/infra/inventory", "/spec/tools/ansible_core", "/spec/steps/1/id", "/spec/steps/1/playbook",
                "/spec/steps/1/tags/0", "/spec/steps/1/needs/0", "/spec/steps/1/vars/port", "/spec/steps/1/vars/names/1",
                "/spec/steps/1/found/names/0", "/spec/steps/1/limit/1",
            ]),
            other in prop_oneof!["[a-z0-9]{1,12}", "[0-9a-f]{40}", "[0-9]\\.[0-9]{1,2}", "[a-z]{1,5}/[a-z]{1,5}\\.yml"],
        ) {
            let mut changed = plan();
            let old = changed.pointer(place).unwrap().clone();
            prop_assume!(old != json!(other));
            *changed.pointer_mut(place).unwrap() = json!(other);
            if let Some(judged) = judge(order(), changed) {
                prop_assert!(judged.is_err(), "{} as {} was agreed to", place, other);
            }
        }
    }
}
