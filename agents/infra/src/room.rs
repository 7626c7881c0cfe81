//! The clean room of one attempt (N6): a private folder and an environment built from nothing.
//!
//! Nothing of the agent's own environment, no `ansible.cfg` in a current or home folder, and nothing of the account's
//! `~/.ansible` reaches a run. Of the repository's own `ansible.cfg` only `roles_path` is read, as data.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chiffon_schemas::Host;

use crate::AnsibleConfig;

const CALLBACK: &str = include_str!("callback.py");

/// Where the programs lie that Ansible starts on the controller: ssh, git, a shell.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The path of a socket takes at most 107 bytes, and ssh adds up to 28 to the folder's.
const MAX_SOCKET_FOLDER_BYTES: usize = 78;

/// The private files of one attempt.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    folder: PathBuf,
}

impl Room {
    /// Lays down the files that do not depend on the order.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn create(folder: PathBuf) -> io::Result<Self> {
        let room = Self { folder };
        for name in ["", "callback", "home", "ansible", "tmp", "cp"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(room.folder.join(name))?;
        }
        room.write("callback/chiffon_events.py", CALLBACK.as_bytes())?;
        // All settings are in the environment; this file is there so that no other one is looked for.
        room.write("ansible.cfg", b"[defaults]\n")?;
        Ok(room)
    }

    /// Writes a file that only this user may read, and returns its path.
    ///
    /// # Errors
    /// It can't be written, or it is there already.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(bytes)?;
        Ok(path)
    }

    /// Writes the hosts to which the run is limited: a file, so that no host stands in the arguments.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write_limit(&self, hosts: &[Host]) -> io::Result<PathBuf> {
        let lines: String = hosts.iter().map(|host| format!("{host}\n")).collect();
        self.write("limit", lines.as_bytes())
    }

    /// The whole environment of a run.
    pub fn env(&self, config: &AnsibleConfig, checkout: &Path) -> Vec<(OsString, OsString)> {
        let at = |name: &str| self.folder.join(name).into_os_string();
        let mut env = base_env(config, at("home"), at("ansible"), at("ansible.cfg"));
        let sockets = at("cp");
        let mut set = |name: &str, value: OsString| env.push((name.into(), value));
        if sockets.len() > MAX_SOCKET_FOLDER_BYTES {
            set("ANSIBLE_SSH_ARGS", "-C -o ControlMaster=no".into());
        }
        set("ANSIBLE_SSH_CONTROL_PATH_DIR", sockets);
        set("TMPDIR", at("tmp"));
        set("ANSIBLE_LOCAL_TEMP", at("tmp"));
        set("ANSIBLE_ROLES_PATH", roles_path(checkout));
        set("ANSIBLE_COLLECTIONS_PATH", checkout.join("collections").into_os_string());
        set("ANSIBLE_CALLBACK_PLUGINS", at("callback"));
        set("ANSIBLE_CALLBACKS_ENABLED", "chiffon_events".into());
        set("ANSIBLE_STDOUT_CALLBACK", "default".into());
        set("ANSIBLE_RETRY_FILES_ENABLED", "0".into());
        set("ANSIBLE_HOST_KEY_CHECKING", "1".into());
        set("ANSIBLE_PYTHON_INTERPRETER", "auto_silent".into());
        if let Some(socket) = &config.ssh_auth_sock {
            set("SSH_AUTH_SOCK", socket.into());
        }
        set("CHIFFON_PRIVATE", self.folder.clone().into_os_string());
        env
    }
}

/// What every Ansible program gets: the programs' paths, folders of its own, a fixed language, no colours.
pub(crate) fn base_env(
    config: &AnsibleConfig,
    home: OsString,
    ansible_home: OsString,
    ansible_cfg: OsString,
) -> Vec<(OsString, OsString)> {
    let mut path = config.ansible_playbook.parent().map(OsString::from).unwrap_or_default();
    path.push(":");
    path.push(SYSTEM_PATH);
    [
        ("PATH", path),
        ("HOME", home),
        ("LANG", "C.UTF-8".into()),
        ("LC_ALL", "C.UTF-8".into()),
        ("ANSIBLE_CONFIG", ansible_cfg),
        ("ANSIBLE_HOME", ansible_home),
        ("ANSIBLE_NOCOLOR", "1".into()),
        ("ANSIBLE_NOCOWS", "1".into()),
    ]
    .map(|(name, value)| (name.into(), value))
    .into()
}

/// `roles/` of the checkout, then what the repository's `ansible.cfg` names inside the checkout.
fn roles_path(checkout: &Path) -> OsString {
    let mut all = checkout.join("roles").into_os_string();
    let text = fs::read_to_string(checkout.join("ansible.cfg")).unwrap_or_default();
    for folder in configured_roles(&text) {
        let path = checkout.join(folder);
        // A link out of the checkout is no folder of it.
        let inside = path.canonicalize().ok().zip(checkout.canonicalize().ok()).is_some_and(|(p, c)| p.starts_with(c));
        if inside {
            all.push(":");
            all.push(path);
        }
    }
    all
}

/// The settings of an `ansible.cfg` as `section.key`, with their values.
fn settings(text: &str) -> impl Iterator<Item = (String, &str)> {
    let mut section = "";
    text.lines().filter_map(move |line| {
        let line = line.split(" ;").next().unwrap_or_default();
        if line.starts_with(['#', ';', ' ', '\t']) || line.trim().is_empty() {
            return None;
        }
        if let Some(name) = line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            return None;
        }
        let (key, value) = line.split_once(['=', ':'])?;
        Some((format!("{section}.{}", key.trim().to_ascii_lowercase()), value.trim()))
    })
}

fn configured_roles(text: &str) -> Vec<&str> {
    settings(text)
        .filter(|(key, _)| key == "defaults.roles_path")
        .flat_map(|(_, value)| value.split(':'))
        .map(|folder| folder.trim_start_matches("./").trim_end_matches('/'))
        .filter(|folder| {
            // Ansible would expand `~` and `$`; an absolute path or `..` leaves the checkout.
            folder.split('/').all(|part| !matches!(part, "" | "." | ".."))
                && folder.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'))
        })
        .collect()
}

/// The settings of the repository's own `ansible.cfg` that a run goes without, for a suggestion.
pub(crate) fn ignored_settings(checkout: &Path) -> Vec<String> {
    // These change nothing that matters here, or say what the clean room says anyway.
    const HARMLESS: [&str; 12] = [
        "defaults.roles_path",
        "defaults.inventory",
        "defaults.host_key_checking",
        "defaults.retry_files_enabled",
        "defaults.stdout_callback",
        "defaults.nocows",
        "defaults.collections_path",
        "defaults.collections_paths",
        "defaults.vault_password_file",
        "defaults.interpreter_python",
        "defaults.callbacks_enabled",
        "defaults.deprecation_warnings",
    ];
    let text = fs::read_to_string(checkout.join("ansible.cfg")).unwrap_or_default();
    settings(&text).map(|(key, _)| key).filter(|key| !HARMLESS.contains(&key.as_str())).take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n6_roles_outside_of_the_checkout_are_left_out() {
        let text =
            "[defaults]\nroles_path = ./roles : more/roles/:../other:/etc/ansible/roles:~/.ansible/roles:$HOME/r\n";
        assert_eq!(configured_roles(&text.replace(' ', "")), ["roles", "more/roles"]);
        assert!(configured_roles("[galaxy]\nroles_path=a\n").is_empty());
    }

    #[test]
    fn settings_that_are_ignored_are_known_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            "[defaults]\nremote_user = admin ; me\ninventory=hosts\n# x = y\n[privilege_escalation]\nbecome: true\n";
        fs::write(folder.path().join("ansible.cfg"), text).unwrap();
        assert_eq!(ignored_settings(folder.path()), ["defaults.remote_user", "privilege_escalation.become"]);
    }
}
