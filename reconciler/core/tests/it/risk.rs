//! Risk by rules (A3): what each rule catches, and what stands just beside it.

use chiffon_core::catalogue::{Catalogue, Delegate, Task};
use chiffon_core::{Approval, Policy, gate, risk};
use chiffon_schemas::{Json, RiskLevel};
use serde_json::json;

use crate::plans::{HOSTS, catalogue, entry, plan_of, step, task};

use RiskLevel::{High, Low, Medium};

/// The risk of one task on one host.
fn of(task: Task) -> (RiskLevel, Vec<String>) {
    let (entry, step) = (entry("playbooks/x.yml", &["nas01"], vec![task]), step("x", "playbooks/x.yml", &["nas01"]));
    let risk = risk::assess(&[(&entry, &step)], &catalogue());
    (risk.level, risk.rules)
}

type Row = (&'static str, Json, RiskLevel, &'static [&'static str]);

/// Tasks that take something away for good.
const NONE: &[&str] = &[];

fn destroying() -> Vec<Row> {
    const GONE: &[&str] = &["deletes-files", "destroys-data"];
    const SOME: &[&str] = &["deletes-files"];
    const RUN: &[&str] = &["destroys-data", "runs-commands"];
    vec![
        ("file", json!({"path": "/", "state": "absent"}), High, GONE),
        ("file", json!({"path": "/srv", "state": "absent"}), High, GONE),
        ("file", json!({"path": "/srv/kuma", "state": "absent"}), Medium, SOME),
        ("file", json!({"path": "/srv/*/x", "state": "absent"}), High, GONE),
        ("file", json!({"dest": "/", "state": "absent"}), High, GONE),
        ("file", json!({"name": "{{ folder }}", "state": "absent"}), High, GONE),
        ("file", json!({"path": "{{ folder }}/kuma", "state": "absent"}), Medium, SOME),
        ("file", json!({"state": "absent"}), High, GONE),
        ("file", json!({"path": "", "state": "absent"}), High, GONE),
        ("file", json!({"path": "/srv/kuma", "state": "{{ state }}"}), Medium, SOME),
        ("file", json!({"path": "/srv/kuma", "state": "directory"}), Low, NONE),
        ("lineinfile", json!({"path": "/srv/x", "line": "a", "state": "absent"}), Medium, SOME),
        ("lineinfile", json!({"path": "/srv/x", "line": "a"}), Low, NONE),
        ("mysql_db", json!({"name": "x", "state": "absent"}), High, &["destroys-data"]),
        ("mysql_db", json!({"name": "x", "state": "present"}), Low, NONE),
        ("docker_volume", json!({"name": "x", "state": "absent"}), High, &["destroys-data"]),
        ("docker_volume", json!({"name": "x"}), Low, NONE),
        ("docker_compose_v2", json!({"remove_volumes": true}), High, &["destroys-data", "restarts-service"]),
        ("docker_compose_v2", json!({"remove_volumes": false}), Medium, &["restarts-service"]),
        ("command", json!({"cmd": "rm -rf /srv/x"}), High, RUN),
        ("command", json!({"argv": ["rm", "-r", "/srv/x"]}), High, RUN),
        ("shell", json!({"_raw_params": "cd /srv && /bin/rm -Rf x"}), High, RUN),
        ("command", json!({"cmd": "rm /srv/x"}), Medium, &["runs-commands"]),
        ("command", json!({"cmd": "echo term -r"}), Medium, &["runs-commands"]),
        ("shell", json!({"cmd": "mkfs.ext4 /dev/sdb"}), High, RUN),
        ("shell", json!({"cmd": "dd if=/dev/zero of=/dev/sdb"}), High, RUN),
        ("shell", json!({"cmd": "docker system prune -f"}), High, RUN),
        ("shell", json!({"cmd": "docker compose down -v"}), High, RUN),
        ("shell", json!({"cmd": "docker compose down"}), Medium, &["runs-commands"]),
        ("shell", json!({"cmd": "psql -c 'DROP TABLE x'"}), High, RUN),
        ("shell", json!({"cmd": "zfs destroy tank/x"}), High, RUN),
        ("shell", json!({"cmd": "zfs list"}), Medium, &["runs-commands"]),
    ]
}

/// Tasks that lock out, cut off or stop.
fn reaching() -> Vec<Row> {
    vec![
        ("reboot", json!({}), High, &["reboots"]),
        ("ansible.builtin.reboot", json!({}), High, &["reboots", "unknown-module"]),
        ("ufw", json!({"rule": "deny"}), High, &["changes-network"]),
        ("template", json!({"dest": "/etc/netplan/01.yaml"}), High, &["changes-network"]),
        ("template", json!({"dest": "/etc/nginx/01.conf"}), Low, NONE),
        ("copy", json!({"dest": "/etc/wireguard/wg0.conf"}), High, &["changes-network"]),
        ("command", json!({"cmd": "/usr/sbin/iptables -F"}), High, &["changes-network", "runs-commands"]),
        ("command", json!({"cmd": "nft list"}), High, &["changes-network", "runs-commands"]),
        ("command", json!({"cmd": "nftables-report"}), Medium, &["runs-commands"]),
        ("copy", json!({"dest": "/etc/ssh/sshd_config"}), High, &["changes-access"]),
        ("lineinfile", json!({"path": "/etc/sudoers"}), High, &["changes-access"]),
        ("copy", json!({"dest": "/home/a/.ssh/authorized_keys"}), High, &["changes-access"]),
        ("authorized_key", json!({"user": "a"}), High, &["changes-access"]),
        ("user", json!({"name": "a", "state": "absent"}), High, &["changes-access"]),
        ("user", json!({"name": "a"}), Low, NONE),
        ("filesystem", json!({"dev": "/dev/sdb"}), High, &["changes-disks"]),
        ("mount", json!({"path": "/srv"}), High, &["changes-disks"]),
        ("include_tasks", json!({"file": "{{ x }}.yml"}), High, &["unknown-include"]),
        ("import_role", json!({"name": "x"}), High, &["unknown-include"]),
    ]
}

/// Tasks that are worth a look.
fn everyday() -> Vec<Row> {
    vec![
        ("command", json!({"cmd": "true"}), Medium, &["runs-commands"]),
        ("raw", json!({"_raw_params": "true"}), Medium, &["runs-commands"]),
        ("script", json!({"cmd": "x.sh"}), Medium, &["runs-commands"]),
        ("service", json!({"name": "x", "state": "restarted"}), Medium, &["restarts-service"]),
        ("systemd", json!({"name": "x", "state": "stopped"}), Medium, &["restarts-service"]),
        ("service", json!({"name": "x", "state": "started"}), Low, NONE),
        ("service", json!({"name": "x", "enabled": true}), Medium, &["restarts-service"]),
        ("service", json!({"name": "x"}), Low, NONE),
        ("docker_container", json!({"name": "x"}), Medium, &["restarts-service"]),
        ("apt", json!({"name": "x"}), Medium, &["changes-packages"]),
        ("pip", json!({"name": "x"}), Medium, &["changes-packages"]),
        ("community.zabbix.host", json!({}), Medium, &["unknown-module"]),
        ("community.docker.docker_volume", json!({"state": "absent"}), High, &["destroys-data", "unknown-module"]),
        ("copy", json!({"dest": "/srv/x"}), Low, NONE),
        ("debug", json!({"msg": "rm -rf /"}), Low, NONE),
        ("stat", json!({"path": "/"}), Low, NONE),
    ]
}

#[test]
fn a3_every_rule_applies_where_it_should_and_nowhere_else() {
    let rows: Vec<Row> = [destroying(), reaching(), everyday()].concat();
    for (module, args, level, rules) in &rows {
        let (found, names) = of(task(module, args.clone()));
        assert_eq!(names, *rules, "{module} {args}");
        assert_eq!(found, *level, "{module} {args}");
    }
    assert!(rows.len() >= 60, "{} tasks", rows.len());
}

#[test]
fn a3_what_a_task_says_of_itself_counts_too() {
    let plain = || task("copy", json!({"dest": "/srv/x"}));
    let become_root = Task { becomes: true, ..plain() };
    assert_eq!(of(become_root), (Low, vec!["becomes-root".to_owned()]));
    let escapes = Task { escapes_check: true, ..plain() };
    assert_eq!(of(escapes), (Medium, vec!["escapes-check-mode".to_owned()]));
    let elsewhere = Task { delegate: Delegate::Dynamic("{{ host }}".to_owned()), ..plain() };
    assert_eq!(of(elsewhere), (High, vec!["dynamic-target".to_owned()]));
    let named = Task { delegate: Delegate::To("backup01".to_owned()), ..plain() };
    assert_eq!(of(named), (Low, vec![]));
    for (name, found) in [("kuma : Restart kuma", true), ("restart it", true), ("Do not restart", false)] {
        let named = Task { name: name.to_owned(), ..plain() };
        assert_eq!(of(named).1.contains(&"restarts-service".to_owned()), found, "{name}");
    }
}

#[test]
fn a3_the_highest_of_all_tasks_counts_and_handlers_with_them() {
    let mut entry = entry("playbooks/x.yml", &["nas01"], vec![task("copy", json!({})), task("apt", json!({}))]);
    let step = step("x", "playbooks/x.yml", &["nas01"]);
    let before = risk::assess(&[(&entry, &step)], &catalogue());
    assert_eq!((before.level, before.rules.as_slice()), (Medium, &["changes-packages".to_owned()][..]));
    entry.plays[0].handlers.push(task("reboot", json!({})));
    let after = risk::assess(&[(&entry, &step)], &catalogue());
    assert_eq!(after.level, High);
    assert_eq!(after.rules, ["changes-packages", "reboots"]);
}

#[test]
fn a3_ports_and_many_hosts_raise_the_risk() {
    let with = |hosts: &[&str], ports: &[&str]| {
        let mut entry = entry("playbooks/x.yml", hosts, vec![]);
        entry.ports = ports.iter().map(|port| (*port).to_owned()).collect();
        let risk = risk::assess(&[(&entry, &step("x", "playbooks/x.yml", hosts))], &catalogue());
        (risk.level, risk.rules)
    };
    assert_eq!(with(&["nas01"], &[]), (Low, vec![]));
    assert_eq!(with(&["nas01"], &["80/tcp"]), (Medium, vec!["opens-port".to_owned()]));
    assert_eq!(with(&HOSTS[..5], &[]), (Low, vec![]));
    assert_eq!(with(&HOSTS, &[]), (High, vec!["every-host".to_owned(), "many-hosts".to_owned()]));
    // One host that is every host there is, is not many.
    let mut alone: Catalogue = catalogue();
    alone.inventory.hosts.retain(|host, _| host.as_str() == "nas01");
    let (entry, step) = (entry("playbooks/x.yml", &["nas01"], vec![]), step("x", "playbooks/x.yml", &["nas01"]));
    assert_eq!(risk::assess(&[(&entry, &step)], &alone).level, Low);
}

#[test]
fn a3_a_plan_that_calls_a_wide_deletion_low_is_denied() {
    let mut catalogue = catalogue();
    catalogue.entries[2] =
        entry("playbooks/configure.yml", &["nas01"], vec![task("file", json!({"path": "/", "state": "absent"}))]);
    let mut plan = plan_of(vec![step("x", "playbooks/configure.yml", &["nas01"])], &catalogue);
    assert_eq!(plan.spec.risk.level, High);
    plan.spec.risk.level = Low;
    plan.spec.risk.rules.clear();
    let verdict = gate(&plan, &catalogue, &Policy::default(), Approval::Merged);
    assert_eq!(verdict.word(), "deny");
    assert!(verdict.reasons()[0].contains("deletes-files, destroys-data"), "{verdict:?}");
}

#[test]
fn a3_every_rule_is_listed_once_with_its_level() {
    let rules = risk::rules();
    let names: std::collections::BTreeSet<&str> = rules.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), rules.len());
    assert!(rules.contains(&("destroys-data", High)) && rules.contains(&("opens-port", Medium)), "{rules:?}");
}
