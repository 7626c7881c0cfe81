//! Risk by rules: from the modules, hosts and ports of what a plan runs, never from what somebody says of it (A3).

use std::collections::BTreeSet;

use chiffon_schemas::{Json, Risk, RiskLevel, Step};

use crate::catalogue::{Catalogue, Delegate, Entry, Task};

/// A rule: its name, the level that it raises to, and when it applies.
struct Rule {
    name: &'static str,
    level: RiskLevel,
    applies: fn(&Task) -> bool,
}

/// The rules over single tasks, most dangerous first. Names are stable: people filter by them.
const TASK_RULES: &[Rule] = &[
    Rule { name: "destroys-data", level: RiskLevel::High, applies: destroys_data },
    Rule { name: "reboots", level: RiskLevel::High, applies: |task| is_module(task, &["reboot", "win_reboot"]) },
    Rule { name: "changes-network", level: RiskLevel::High, applies: changes_network },
    Rule { name: "changes-access", level: RiskLevel::High, applies: changes_access },
    Rule { name: "changes-disks", level: RiskLevel::High, applies: changes_disks },
    Rule {
        name: "dynamic-target",
        level: RiskLevel::High,
        applies: |task| matches!(task.delegate, Delegate::Dynamic(_)),
    },
    Rule { name: "unknown-include", level: RiskLevel::High, applies: is_unknown_include },
    Rule { name: "runs-commands", level: RiskLevel::Medium, applies: runs_commands },
    Rule { name: "deletes-files", level: RiskLevel::Medium, applies: deletes },
    Rule { name: "restarts-service", level: RiskLevel::Medium, applies: restarts_service },
    Rule { name: "changes-packages", level: RiskLevel::Medium, applies: changes_packages },
    Rule { name: "unknown-module", level: RiskLevel::Medium, applies: |task| task.module.contains('.') },
    Rule { name: "escapes-check-mode", level: RiskLevel::Medium, applies: |task| task.escapes_check },
    Rule { name: "becomes-root", level: RiskLevel::Low, applies: |task| task.becomes },
];

/// Every rule's name with its level: for documentation and for checking names in policies.
pub fn rules() -> Vec<(&'static str, RiskLevel)> {
    let whole = [
        ("opens-port", RiskLevel::Medium),
        ("own-plugins", RiskLevel::Low),
        ("uses-lookups", RiskLevel::Low),
        ("many-hosts", RiskLevel::Medium),
        ("every-host", RiskLevel::High),
    ];
    TASK_RULES.iter().map(|rule| (rule.name, rule.level)).chain(whole).collect()
}

/// More hosts than this in one plan are worth a second look.
const MANY_HOSTS: usize = 5;

/// The risk of running these steps.
///
/// Handlers count as if they ran. A tag on a step narrows nothing: what a plan could run is what it is judged by.
pub fn assess(steps: &[(&Entry, &Step)], catalogue: &Catalogue) -> Risk {
    let mut names: BTreeSet<&'static str> = BTreeSet::new();
    let mut level = RiskLevel::Low;
    for task in steps.iter().flat_map(|(entry, _)| entry.tasks()) {
        for rule in TASK_RULES.iter().filter(|rule| (rule.applies)(task)) {
            names.insert(rule.name);
            level = level.max(rule.level);
        }
    }
    if steps.iter().any(|(entry, _)| !entry.ports.is_empty()) {
        names.insert("opens-port");
        level = level.max(RiskLevel::Medium);
    }
    if steps.iter().any(|(entry, _)| entry.own_plugins) {
        names.insert("own-plugins");
    }
    if steps.iter().any(|(entry, _)| entry.runs_lookups) {
        names.insert("uses-lookups");
    }
    if steps.iter().any(|(entry, _)| entry.escapes_check) {
        names.insert("escapes-check-mode");
        level = level.max(RiskLevel::Medium);
    }
    let hosts: BTreeSet<_> = steps.iter().flat_map(|(_, step)| &step.limit).collect();
    if hosts.len() > MANY_HOSTS {
        names.insert("many-hosts");
        level = level.max(RiskLevel::Medium);
    }
    if hosts.len() > 1 && hosts.len() == catalogue.inventory.hosts.len() {
        names.insert("every-host");
        level = level.max(RiskLevel::High);
    }
    Risk { level, rules: names.into_iter().map(str::to_owned).collect() }
}

fn is_module(task: &Task, names: &[&str]) -> bool {
    let short = task.module.rsplit('.').next().unwrap_or(&task.module);
    names.contains(&short)
}

/// An argument as text, whatever its type.
fn arg(task: &Task, key: &str) -> Option<String> {
    match task.args.get(key)? {
        Json::String(text) => Some(text.clone()),
        Json::Null => None,
        other => Some(other.to_string()),
    }
}

fn state_is(task: &Task, words: &[&str]) -> bool {
    arg(task, "state").is_some_and(|state| words.contains(&state.as_str()))
}

/// A template anywhere in an argument: what it will be, reading can't tell.
fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

fn deletes(task: &Task) -> bool {
    let file_like = is_module(task, &["file", "win_file", "copy", "template", "lineinfile", "blockinfile", "git"]);
    let templated_state = is_module(task, &["file"]) && arg(task, "state").is_some_and(|state| is_template(&state));
    (file_like && state_is(task, &["absent"])) || templated_state || is_module(task, &["tempfile_cleanup"])
}

/// A deletion so wide, or of such a kind, that something may be gone for good.
fn destroys_data(task: &Task) -> bool {
    let wide_path = deletes(task)
        && is_module(task, &["file", "win_file"])
        && arg(task, "path")
            .or_else(|| arg(task, "dest"))
            .or_else(|| arg(task, "name"))
            .is_none_or(|path| is_wide(&path));
    let database = is_module(task, &["mysql_db", "postgresql_db", "mongodb_user", "influxdb_database"])
        && state_is(task, &["absent", "dump", "restore"]);
    let volume = is_module(task, &["docker_volume", "zfs", "lvol", "lxd_container", "proxmox", "proxmox_kvm"])
        && state_is(task, &["absent"]);
    let container = is_module(task, &["docker_compose_v2", "docker_compose"])
        && arg(task, "remove_volumes").is_some_and(|value| value == "true" || value == "yes");
    wide_path || database || volume || container || destructive_command(task)
}

/// Few parts, a wildcard, or a template at its beginning.
fn is_wide(path: &str) -> bool {
    let parts = path.split('/').filter(|part| !part.is_empty()).count();
    let begins_with_template = path.trim_start_matches('/').starts_with("{{");
    (path.starts_with('/') && parts < 2) || path.contains('*') || (begins_with_template && parts < 2) || parts == 0
}

fn command_text(task: &Task) -> Option<String> {
    if !is_module(task, &["command", "shell", "raw", "script", "win_shell", "win_command", "expect"]) {
        return None;
    }
    ["cmd", "_raw_params", "argv", "command"]
        .iter()
        .find_map(|key| arg(task, key))
        .or_else(|| Some(task.args.to_string()))
}

fn destructive_command(task: &Task) -> bool {
    let Some(text) = command_text(task) else { return false };
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || matches!(c, ';' | '|' | '&' | '"' | '[' | ']' | ',' | '(' | ')'))
        .filter(|word| !word.is_empty())
        .collect();
    let programs: Vec<&str> = words.iter().map(|word| word.rsplit('/').next().unwrap_or(word)).collect();
    let has = |names: &[&str]| {
        programs
            .iter()
            .any(|program| names.iter().any(|name| program == name || program.starts_with(&format!("{name}."))))
    };
    let recursive_rm = programs.contains(&"rm")
        && words.iter().any(|word| word.starts_with('-') && (word.contains('r') || word.contains('R')));
    let lowered = text.to_lowercase();
    recursive_rm
        || has(&[
            "mkfs",
            "wipefs",
            "dd",
            "shred",
            "fdisk",
            "parted",
            "sgdisk",
            "lvremove",
            "vgremove",
            "pvremove",
            "dropdb",
            "blkdiscard",
        ])
        || lowered.contains("drop database")
        || lowered.contains("drop table")
        || (lowered.contains("docker")
            && (lowered.contains("prune") || lowered.contains("volume rm") || lowered.contains("down -v")))
        || (lowered.contains("zfs") && lowered.contains("destroy"))
        || (lowered.contains("zpool") && lowered.contains("destroy"))
}

fn changes_network(task: &Task) -> bool {
    let modules = [
        "nmcli",
        "iptables",
        "iptables_state",
        "ufw",
        "firewalld",
        "nftables",
        "interfaces_file",
        "sysctl_net",
        "hostname",
        "openvswitch_bridge",
        "win_firewall_rule",
        "netplan",
    ];
    let network_file = is_module(task, &["copy", "template", "lineinfile", "blockinfile", "file"])
        && arg(task, "dest").or_else(|| arg(task, "path")).is_some_and(|path| {
            [
                "/etc/network",
                "/etc/netplan",
                "/etc/resolv.conf",
                "/etc/systemd/network",
                "/etc/wireguard",
                "/etc/nftables",
            ]
            .iter()
            .any(|prefix| path.starts_with(prefix))
        });
    let command = command_text(task).is_some_and(|text| {
        text.split(|c: char| c.is_whitespace() || matches!(c, ';' | '|' | '&' | '"')).any(|word| {
            ["iptables", "ip6tables", "nft", "ufw", "ifdown", "ifup", "nmcli", "netplan", "wg-quick", "firewall-cmd"]
                .contains(&word.rsplit('/').next().unwrap_or(word))
        })
    });
    is_module(task, &modules) || network_file || command
}

fn changes_access(task: &Task) -> bool {
    let ssh_or_sudo = arg(task, "dest").or_else(|| arg(task, "path")).is_some_and(|path| {
        ["/etc/ssh", "/etc/sudoers", "/etc/pam.d", "/etc/passwd", "/etc/shadow"]
            .iter()
            .any(|prefix| path.starts_with(prefix))
            || path.contains("authorized_keys")
    });
    ssh_or_sudo
        || is_module(task, &["authorized_key", "sudoers", "pamd", "selinux"])
        || (is_module(task, &["user", "group"]) && state_is(task, &["absent"]))
}

fn changes_disks(task: &Task) -> bool {
    is_module(task, &["parted", "filesystem", "lvg", "lvol", "mount", "crypttab", "luks_device", "zpool", "mdadm"])
}

fn runs_commands(task: &Task) -> bool {
    is_module(task, &["command", "shell", "raw", "script", "win_shell", "win_command", "expect"])
}

fn restarts_service(task: &Task) -> bool {
    let service = is_module(task, &["service", "systemd", "systemd_service", "win_service", "sysvinit"])
        && !state_is(task, &["started"])
        && (arg(task, "state").is_some() || arg(task, "enabled").is_some());
    let container = is_module(task, &["docker_container", "docker_compose", "docker_compose_v2", "podman_container"]);
    let named = task.name.rsplit(" : ").next().is_some_and(|name| name.to_lowercase().starts_with("restart"));
    service || container || named
}

fn changes_packages(task: &Task) -> bool {
    is_module(
        task,
        &[
            "apt",
            "dnf",
            "yum",
            "package",
            "pip",
            "pacman",
            "apk",
            "zypper",
            "snap",
            "homebrew",
            "win_package",
            "flatpak",
        ],
    )
}

fn is_unknown_include(task: &Task) -> bool {
    is_module(task, &["include_tasks", "import_tasks", "include_role", "import_role", "include", "import_playbook"])
}
