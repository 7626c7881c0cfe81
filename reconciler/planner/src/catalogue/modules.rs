//! Module names: short forms, which key of a task is the module, and what check mode can foresee.

/// Keys of a task that are no module.
const KEYWORDS: &[&str] = &[
    "action",
    "any_errors_fatal",
    "args",
    "async",
    "become",
    "become_exe",
    "become_flags",
    "become_method",
    "become_user",
    "changed_when",
    "check_mode",
    "collections",
    "connection",
    "debugger",
    "delay",
    "delegate_facts",
    "delegate_to",
    "diff",
    "environment",
    "failed_when",
    "ignore_errors",
    "ignore_unreachable",
    "listen",
    "local_action",
    "loop",
    "loop_control",
    "module_defaults",
    "name",
    "no_log",
    "notify",
    "poll",
    "port",
    "register",
    "remote_user",
    "retries",
    "run_once",
    "tags",
    "throttle",
    "timeout",
    "until",
    "vars",
    "when",
    "block",
    "rescue",
    "always",
];

/// Whether a key of a task is the module's name.
pub(crate) fn is_module_key(key: &str) -> bool {
    !KEYWORDS.contains(&key) && !key.starts_with("with_")
}

/// `copy` for `ansible.builtin.copy` and `ansible.legacy.copy`; other collections stay whole.
pub(crate) fn short_name(module: &str) -> String {
    module
        .strip_prefix("ansible.builtin.")
        .or_else(|| module.strip_prefix("ansible.legacy."))
        .unwrap_or(module)
        .to_owned()
}

/// Modules that take one free text instead of arguments.
pub(crate) const FREE_FORM: &[&str] = &[
    "command",
    "shell",
    "raw",
    "script",
    "win_command",
    "win_shell",
    "meta",
    "include",
    "include_tasks",
    "import_tasks",
    "include_vars",
    "import_playbook",
    "add_host",
    "group_by",
    "set_fact",
    "expect",
];

/// Modules that change something which check mode can't foresee; the name itself is the reason.
const UNFORESEEN: &[&str] =
    &["command", "shell", "raw", "script", "uri", "expect", "win_command", "win_shell", "async_status"];

/// Modules that only look, decide or steer: there is nothing to foresee.
const LOOKS_ONLY: &[&str] = &[
    "assert",
    "async_status",
    "debug",
    "fail",
    "find",
    "getent",
    "gather_facts",
    "group_by",
    "include_role",
    "include_tasks",
    "import_role",
    "import_tasks",
    "include_vars",
    "meta",
    "package_facts",
    "pause",
    "ping",
    "service_facts",
    "set_fact",
    "set_stats",
    "setup",
    "slurp",
    "stat",
    "validate_argument_spec",
    "wait_for",
    "wait_for_connection",
    "mount_facts",
    "add_host",
    "tempfile",
];

/// Modules whose check mode foresees what they would change.
const FORESEEN: &[&str] = &[
    "apt",
    "apt_key",
    "apt_repository",
    "assemble",
    "authorized_key",
    "blockinfile",
    "copy",
    "cron",
    "deb822_repository",
    "debconf",
    "dnf",
    "dnf5",
    "dpkg_selections",
    "fetch",
    "file",
    "get_url",
    "git",
    "group",
    "hostname",
    "ini_file",
    "iptables",
    "known_hosts",
    "lineinfile",
    "mount",
    "package",
    "pip",
    "reboot",
    "replace",
    "rpm_key",
    "service",
    "subversion",
    "synchronize",
    "sysctl",
    "systemd",
    "systemd_service",
    "sysvinit",
    "template",
    "timezone",
    "ufw",
    "unarchive",
    "user",
    "yum",
    "yum_repository",
    "docker_compose",
    "docker_compose_v2",
    "docker_compose_v2_pull",
    "docker_container",
    "docker_image",
    "docker_image_pull",
    "docker_login",
    "docker_network",
    "docker_prune",
    "docker_volume",
    "firewalld",
    "htpasswd",
    "modprobe",
    "nmcli",
    "npm",
    "openssl_certificate",
    "openssl_csr",
    "openssl_privatekey",
    "pamd",
    "parted",
    "podman_container",
    "postgresql_db",
    "postgresql_user",
    "mysql_db",
    "mysql_user",
    "seboolean",
    "selinux",
    "snap",
    "x509_certificate",
    "xml",
    "alternatives",
    "filesystem",
    "lvg",
    "lvol",
    "locale_gen",
    "acl",
    "sudoers",
    "homebrew",
    "pacman",
    "apk",
    "zypper",
    "flatpak",
    "archive",
];

/// Whether a module only looks.
pub(crate) fn looks_only(module: &str) -> bool {
    LOOKS_ONLY.contains(&module.rsplit('.').next().unwrap_or(module))
}

/// Why a module's effect can't be foreseen; `None` when check mode can.
pub(crate) fn opaque(module: &str) -> Option<String> {
    let last = module.rsplit('.').next().unwrap_or(module);
    if UNFORESEEN.contains(&last) {
        return Some(last.to_owned());
    }
    if FORESEEN.contains(&last) || LOOKS_ONLY.contains(&last) {
        return None;
    }
    Some(format!("unknown module {module}"))
}
