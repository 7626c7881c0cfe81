//! The gate as a table (A2): every denial with its reason, and beside each the neighbour that is let through.

use chiffon_core::catalogue::Catalogue;
use chiffon_core::{Approval, Policy, Verdict, gate, refused_name};
use chiffon_schemas::{Json, Mode, Pin, Plan, RiskLevel};
use serde_json::json;

use crate::plans::{HOSTS, catalogue, good_plan, host, name, oid, path, plan_of, step};

/// What is judged.
pub struct Case {
    pub plan: Plan,
    pub catalogue: Catalogue,
    pub policy: Policy,
}

impl Case {
    pub fn good() -> Self {
        let catalogue = catalogue();
        Self { plan: good_plan(&catalogue), catalogue, policy: Policy::default() }
    }

    fn of(steps: Vec<chiffon_schemas::Step>) -> Self {
        let catalogue = catalogue();
        Self { plan: plan_of(steps, &catalogue), catalogue, policy: Policy::default() }
    }

    pub fn with_var(name: &str, value: Json) -> Self {
        let mut case = Self::good();
        case.plan.spec.steps[0].vars.insert(name.to_owned(), value);
        case
    }
}

/// A name, a way to make the case, and the one reason for its denial; `None` where it is let through.
type Row = (String, Case, Option<String>);

fn changed(name: &str, change: impl FnOnce(&mut Case), reason: Option<&str>) -> Row {
    let mut case = Case::good();
    change(&mut case);
    (name.to_owned(), case, reason.map(str::to_owned))
}

fn steps(name: &str, steps: Vec<chiffon_schemas::Step>, reason: Option<&str>) -> Row {
    (name.to_owned(), Case::of(steps), reason.map(str::to_owned))
}

fn pins() -> Vec<Row> {
    let other = Some("pins another commit, tree or inventory");
    vec![
        changed("good", |_| {}, None),
        changed("other commit", |case| case.plan.spec.infra.commit = oid('9'), other),
        changed("other tree", |case| case.plan.spec.infra.tree = oid('9'), other),
        changed("other inventory", |case| case.plan.spec.infra.inventory = path("hosts.ini"), other),
        changed("other repository", |case| case.plan.spec.infra.repository = name("work"), other),
        changed("catalogue moved", |case| case.catalogue.infra.commit = oid('9'), other),
    ]
}

fn order() -> Vec<Row> {
    let deploy = || step("deploy", "playbooks/deploy.yml", &["nas01"]);
    let configure = |needs: &[&str]| {
        let mut step = step("configure", "playbooks/configure.yml", &["nas01"]);
        step.needs = needs.iter().map(|text| name(text)).collect();
        step
    };
    vec![
        steps("no steps", vec![], Some("the plan has no steps")),
        steps("one step", vec![deploy()], None),
        steps("needs the one before", vec![deploy(), configure(&["deploy"])], None),
        steps("needs nothing", vec![deploy(), configure(&[])], None),
        steps("needs a later one", vec![configure(&["deploy"]), deploy()], Some("needs deploy, which is no earlier")),
        steps("needs itself", vec![deploy(), configure(&["configure"])], Some("needs configure, which is no earlier")),
        steps("needs an unknown one", vec![deploy(), configure(&["start"])], Some("needs start, which is no earlier")),
        steps(
            "needs one that is there and one that is not",
            vec![deploy(), configure(&["deploy", "start"])],
            Some("needs start, which is no earlier"),
        ),
        steps("two of one name", vec![deploy(), deploy()], Some("two steps are called deploy")),
    ]
}

fn step_fields() -> Vec<Row> {
    let mut rows = vec![
        steps("unknown playbook", vec![step("x", "playbooks/none.yml", &["nas01"])], Some("is not in the catalogue")),
        steps("unreadable", vec![step("x", "playbooks/broken.yml", &["nas01"])], Some("an include leaves")),
        steps(
            "required variable lacks",
            vec![step("x", "playbooks/needy.yml", &["nas01"])],
            Some("`needed` has no value"),
        ),
        steps("no host", vec![step("x", "playbooks/deploy.yml", &[])], Some("no host")),
    ];
    let mut needy = step("x", "playbooks/needy.yml", &["nas01"]);
    needy.vars.insert("needed".to_owned(), json!("here"));
    rows.push(steps("required variable is there", vec![needy], None));
    let max = Policy::default().max_timeout_secs;
    for (secs, fine) in [(0, false), (1, true), (max - 1, true), (max, true), (max + 1, false), (u32::MAX, false)] {
        let reason = (!fine).then_some("is not within 1 to");
        rows.push(changed(&format!("time-out {secs}"), |case| case.plan.spec.steps[0].timeout_secs = secs, reason));
    }
    rows.push(changed(
        "time-out of a shorter policy",
        |case| {
            case.policy.max_timeout_secs = 899;
            case.plan.spec.steps[1].timeout_secs = 1;
        },
        Some("within 1 to 899 s"),
    ));
    rows.push(changed("time-out of just that policy", |case| case.policy.max_timeout_secs = 900, None));
    for (tags, reason) in [
        (vec!["config"], None),
        (vec!["config", "install"], None),
        (vec!["Config"], Some("has the tag `Config`")),
        (vec!["config", "all"], Some("has the tag `all`")),
        (vec![""], Some("has the tag ``")),
    ] {
        let set = |case: &mut Case| case.plan.spec.steps[0].tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        rows.push(changed(&format!("tags {tags:?}"), set, reason));
    }
    rows
}

fn hosts() -> Vec<Row> {
    let on = |hosts: &[&str]| vec![step("x", "playbooks/deploy.yml", hosts)];
    vec![
        steps("all its hosts", on(&["nas01", "pi01", "web01"]), None),
        steps("one of its hosts", on(&["web01"]), None),
        steps("a foreign host", on(&["gpu01"]), Some("does not run on gpu01")),
        steps("one foreign host among its own", on(&["nas01", "pi02"]), Some("does not run on pi02")),
        steps("a host that is nowhere", on(&["nas99"]), Some("does not run on nas99")),
        steps("a pattern is no host", on(&["all"]), Some("does not run on all")),
        steps("not sorted", on(&["pi01", "nas01"]), Some("not sorted or repeat")),
        steps("repeated", on(&["nas01", "nas01"]), Some("not sorted or repeat")),
        changed(
            "policy denies a host",
            |case| {
                case.policy.deny_hosts.insert(host("pi01"));
            },
            Some("denies host pi01"),
        ),
        changed(
            "policy denies another host",
            |case| {
                case.policy.deny_hosts.insert(host("gpu01"));
            },
            None,
        ),
        changed(
            "policy denies a playbook",
            |case| {
                case.policy.deny_playbooks.insert(path("playbooks/configure.yml"));
            },
            Some("the policy denies playbooks/configure.yml"),
        ),
        changed(
            "policy denies another playbook",
            |case| {
                case.policy.deny_playbooks.insert(path("playbooks/needy.yml"));
            },
            None,
        ),
        changed("as many hosts as the policy allows", |case| case.policy.max_hosts = 2, None),
        changed(
            "one host more than the policy allows",
            |case| case.policy.max_hosts = 1,
            Some("touches 2 hosts; the policy allows 1"),
        ),
        changed("no host at all allowed", |case| case.policy.max_hosts = 0, Some("the policy allows 0")),
        steps("delegation touches a host", vec![step("x", "playbooks/backup.yml", &["nas01"])], None),
    ]
}

fn reach() -> Vec<Row> {
    let touches = Some("`touches.hosts` is not what the steps touch");
    let backup = || Case::of(vec![step("x", "playbooks/backup.yml", &["nas01"])]);
    let mut denied = backup();
    denied.policy.deny_hosts.insert(host("backup01"));
    let mut hidden = backup();
    hidden.plan.spec.touches.hosts = vec![host("nas01")];
    vec![
        ("denied through delegation".to_owned(), denied, Some("denies host backup01".to_owned())),
        ("delegation left out of touches".to_owned(), hidden, touches.map(str::to_owned)),
        changed(
            "touches one host less",
            |case| {
                case.plan.spec.touches.hosts.pop();
            },
            touches,
        ),
        changed("touches one host more", |case| case.plan.spec.touches.hosts.push(host("web01")), touches),
        changed("touches nothing", |case| case.plan.spec.touches.hosts.clear(), touches),
        changed("risk said lower", |case| case.plan.spec.risk.level = RiskLevel::Low, Some("said to be lower")),
        changed("risk raised", |case| case.plan.spec.risk.level = RiskLevel::High, None),
        changed("a rule left out", |case| case.plan.spec.risk.rules.clear(), Some("leaves out the rule opens-port")),
        changed("a rule added", |case| case.plan.spec.risk.rules.push("a-feeling".to_owned()), None),
        changed(
            "a read left out",
            |case| {
                case.plan.spec.reads.remove(&path("roles/kuma/"));
            },
            Some("does not pin roles/kuma/"),
        ),
        changed(
            "a read of another object",
            |case| {
                case.plan.spec.reads.insert(path("roles/kuma/"), Pin::Object(oid('9')));
            },
            Some("does not pin roles/kuma/"),
        ),
        changed(
            "a read said to be absent",
            |case| {
                case.plan.spec.reads.insert(path("roles/kuma/"), Pin::Absent);
            },
            Some("does not pin roles/kuma/"),
        ),
        changed(
            "an absent read said to be there",
            |case| {
                case.plan.spec.reads.insert(path("host_vars/nas01.yml"), Pin::Object(oid('9')));
            },
            Some("does not pin host_vars/nas01.yml"),
        ),
        changed(
            "a read more",
            |case| {
                case.plan.spec.reads.insert(path("README.md"), Pin::Absent);
            },
            None,
        ),
        changed(
            "found without a value",
            |case| {
                case.plan.spec.steps[0].found.insert("text".to_owned(), vec!["a:1".to_owned()]);
            },
            Some("`text` was found somewhere but is not set"),
        ),
        changed(
            "found with a value",
            |case| {
                case.plan.spec.steps[0].found.insert("count".to_owned(), vec!["a:1".to_owned()]);
            },
            None,
        ),
    ]
}

/// Names that are no variables, that are Ansible's own, or that the entry does not take.
fn variable_names() -> Vec<Row> {
    let not_one = ["", "1st", "a-b", "a b", "a.b", "ä", "a\n", "a=b", "{{x}}", "-e", "@file"];
    let own = [
        "ansible_connection",
        "ansible_host",
        "ansible_become_pass",
        "ansible_ssh_common_args",
        "ansible_python_interpreter",
        "ansible_",
        "__ansible_unsafe",
        "__x",
        "__",
    ];
    let magic = [
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
    let row = |name: &str, reason: &str| {
        (format!("variable {name:?}"), Case::with_var(name, json!("x")), Some(reason.to_owned()))
    };
    let mut rows: Vec<Row> = not_one.iter().map(|name| row(name, "is not a variable name")).collect();
    rows.extend(own.iter().map(|name| row(name, "belongs to Ansible itself")));
    rows.extend(magic.iter().map(|name| row(name, "has a meaning of its own")));
    rows.push(row(&"a".repeat(129), "is not a variable name"));
    rows.extend(
        ["unknown", "_text", "Text", "text2", "hostvars2", "ansible"].map(|name| row(name, "takes no variable")),
    );
    rows.push(row(&"a".repeat(128), "takes no variable"));
    rows
}

#[test]
fn a2_the_gate_says_what_the_table_says() {
    let mut rows = pins();
    rows.extend([order(), step_fields(), hosts(), reach(), variable_names(), crate::gate_values::rows()].concat_rows());
    for (name, case, reason) in &rows {
        for approval in [Approval::None, Approval::Merged] {
            let verdict = gate(&case.plan, &case.catalogue, &case.policy, approval);
            match reason {
                Some(reason) => {
                    assert_eq!(verdict.word(), "deny", "{name}: {verdict:?}");
                    let fits = verdict.reasons().iter().filter(|text| text.contains(reason.as_str())).count();
                    assert_eq!(fits, 1, "{name}: `{reason}` is not among {:?}", verdict.reasons());
                    let alone = verdict.reasons().len() == 1 || consequences(verdict.reasons(), reason);
                    assert!(alone, "{name}: {:?}", verdict.reasons());
                }
                None => assert_eq!(verdict.word(), approved(approval), "{name}: {verdict:?}"),
            }
        }
    }
    let names: std::collections::BTreeSet<&String> = rows.iter().map(|(name, _, _)| name).collect();
    assert_eq!(names.len(), rows.len(), "no case is there twice");
    assert!(rows.len() >= 200, "{} cases", rows.len());
}

trait ConcatRows {
    fn concat_rows(self) -> Vec<Row>;
}

impl<const N: usize> ConcatRows for [Vec<Row>; N] {
    fn concat_rows(self) -> Vec<Row> {
        self.into_iter().flatten().collect()
    }
}

/// What else is wrong with a plan whose hosts are denied: a host that is nowhere can't be in anybody's reach either.
fn consequences(reasons: &[String], reason: &str) -> bool {
    reasons.iter().all(|text| text.contains(reason) || text.contains("is not in the catalogue"))
}

fn approved(approval: Approval) -> &'static str {
    match approval {
        Approval::None => "needs-person",
        Approval::Merged => "allow",
    }
}

#[test]
fn a2_every_reason_is_given_and_not_only_the_first() {
    let mut case = Case::with_var("hostvars", json!("x"));
    case.plan.spec.steps[0].timeout_secs = 0;
    case.plan.spec.infra.commit = oid('9');
    case.plan.spec.touches.hosts.clear();
    case.plan.spec.reads.clear();
    let verdict = gate(&case.plan, &case.catalogue, &case.policy, Approval::Merged);
    assert_eq!(
        verdict.reasons().len(),
        4 + case.catalogue.entries[2].reads.len() + case.catalogue.entries[3].reads.len()
    );
}

#[test]
fn a2_a_person_is_told_risk_rules_and_hosts() {
    let case = Case::good();
    let verdict = gate(&case.plan, &case.catalogue, &case.policy, Approval::None);
    assert_eq!(
        verdict,
        Verdict::NeedsPerson {
            reasons: vec!["it changes 2 hosts (risk medium)".to_owned(), "rule opens-port".to_owned()]
        }
    );
    let one = Case::of(vec![step("x", "playbooks/configure.yml", &["nas01"])]);
    let verdict = gate(&one.plan, &one.catalogue, &one.policy, Approval::None);
    assert_eq!(verdict.reasons(), ["it changes 1 host (risk low)"]);
    let mut high = Case::good();
    high.plan.spec.risk.level = RiskLevel::High;
    let verdict = gate(&high.plan, &high.catalogue, &high.policy, Approval::None);
    assert_eq!(verdict.reasons()[0], "it changes 2 hosts (risk high)");
}

/// A case in mode `check` under a policy that exempts that.
fn exempt() -> Case {
    let mut case = Case::good();
    case.plan.spec.mode = Mode::Check;
    case.policy.exempt_check_runs = true;
    case
}

fn word(case: &Case) -> &'static str {
    gate(&case.plan, &case.catalogue, &case.policy, Approval::None).word()
}

#[test]
fn s2_n4_policy_exempts_plans_in_mode_check_and_no_other() {
    assert_eq!(word(&exempt()), "allow");
    let mut off = exempt();
    off.policy = Policy::default();
    assert_eq!(word(&off), "needs-person");
    let verdict = gate(&off.plan, &off.catalogue, &off.policy, Approval::None);
    assert_eq!(verdict.reasons()[0], "it executes a check on 2 hosts (risk medium)");
    let mut apply = exempt();
    apply.plan.spec.mode = Mode::Apply;
    assert_eq!(word(&apply), "needs-person");
    let mut denied = exempt();
    denied.policy.deny_hosts.insert(host("nas01"));
    assert_eq!(word(&denied), "deny");
}

#[test]
fn n4_what_may_run_for_real_in_a_check_is_exempt_from_nothing() {
    type Change = fn(&mut chiffon_core::catalogue::Task);
    let changes: [(Change, &str); 2] = [
        (|task| task.escapes_check = true, "escapes-check-mode"),
        (|task| task.module = "include_tasks".to_owned(), "unknown-include"),
    ];
    for (change, rule) in changes {
        let mut case = exempt();
        let entry = case.catalogue.entries.iter_mut().find(|entry| entry.playbook == path("playbooks/configure.yml"));
        change(&mut entry.unwrap().plays[0].tasks[0]);
        let mut plan = plan_of(case.plan.spec.steps.clone(), &case.catalogue);
        plan.spec.mode = Mode::Check;
        assert!(plan.spec.risk.rules.contains(&rule.to_owned()), "{:?}", plan.spec.risk);
        case.plan = plan;
        assert_eq!(word(&case), "needs-person", "{rule}");
        // Nor by leaving the rule out.
        case.plan.spec.risk.rules.retain(|known| known != rule);
        assert_eq!(word(&case), "deny", "{rule}");
    }
}

#[test]
fn a2_the_same_input_gives_the_same_bytes_a_thousand_times() {
    let case = Case::with_var("ansible_host", json!("{{ x }}"));
    let first = format!("{:?}", gate(&case.plan, &case.catalogue, &case.policy, Approval::None));
    for _ in 0..1_000 {
        assert_eq!(format!("{:?}", gate(&case.plan, &case.catalogue, &case.policy, Approval::None)), first);
    }
}

#[test]
fn a2_what_the_steps_touch_is_worked_out_whole() {
    let catalogue = catalogue();
    let plan = plan_of(vec![step("x", "playbooks/deploy.yml", &["nas01", "pi01"])], &catalogue);
    let touches = &plan.spec.touches;
    assert_eq!(touches.ports, ["nas01:3001/tcp", "pi01:3001/tcp"]);
    assert_eq!(
        (touches.services.as_slice(), touches.secrets.as_slice()),
        (&["kuma".to_owned()][..], &["vault_password".to_owned()][..])
    );
    let plan = plan_of(vec![step("x", "playbooks/backup.yml", &["nas01"])], &catalogue);
    assert_eq!(plan.spec.touches.hosts, [host("backup01"), host("nas01")]);
    assert_eq!(HOSTS.len(), catalogue.inventory.hosts.len());
}

#[test]
fn n1_names_that_are_variables_are_let_through() {
    for name in ["a", "_a", "A1", "vault_password", "kuma_portals", "hostvars2", "items", "ansible", &"a".repeat(128)] {
        assert_eq!(refused_name(name), None, "{name}");
    }
}
