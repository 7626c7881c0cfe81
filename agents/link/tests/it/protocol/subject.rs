//! The agent that is tested: a process, started by a command line, killed at will and started again over what it left.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use chiffon_schemas::{
    AgentFile, AgentFileKind, AgentFileSpec, AmqpSpec, AnsibleSpec, ApiVersion, MirrorSpec, Name, to_yaml,
};

use super::lab::Lab;

/// Which agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `tests/protocol/agent.py`.
    Python,
    /// `chiffon-agent`.
    Chiffon,
}

/// What an agent is told before it starts.
pub struct Told {
    pub name: Name,
    pub url: String,
    pub password: &'static str,
    pub key: String,
}

/// One life of an agent. Killed when dropped.
pub struct Life {
    child: Child,
    log: PathBuf,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn there(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "{} is missing: run this by `make test`", path.display());
    path
}

/// The built program, in the folder that this test itself was built into.
fn chiffon_agent() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    there(test.parent().and_then(Path::parent).unwrap().join("chiffon-agent"))
}

#[allow(clippy::disallowed_methods, reason = "a test says where programs are found")]
fn programs() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

impl Life {
    /// Starts an agent in the lab, over what earlier lives of it left there.
    pub fn start(kind: Kind, told: &Told, lab: &Lab) -> Self {
        let home = lab.folder("home");
        let password = home.join("broker-password");
        fs::write(&password, told.password).unwrap();
        fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut command = match kind {
            Kind::Python => python(told, lab, &password),
            Kind::Chiffon => chiffon(told, lab, &home),
        };
        let log = home.join("log");
        let to = File::options().create(true).append(true).open(&log).unwrap();
        command.env_clear().env("PATH", programs()).env("HOME", &home).current_dir(&home);
        command.stdin(Stdio::null()).stdout(to.try_clone().unwrap()).stderr(to);
        Self { child: command.spawn().unwrap(), log }
    }

    /// Ends it as a power cut would, the disk aside.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it and its earlier lives printed.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still lives.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn python(told: &Told, lab: &Lab, password: &Path) -> Command {
    let mut command = Command::new(there(root().join(".venv/protocol/bin/python")));
    command.arg(there(root().join("tests/protocol/agent.py")));
    command.args(["--amqp-url", &told.url, "--reconciler-key", &told.key, "--agent", told.name.as_str()]);
    command.arg("--password-file").arg(password).arg("--folder").arg(lab.folder("journal"));
    command.arg("--work").arg(lab.folder("effects")).args(["--heartbeat", "1", "--replay", "10"]);
    command
}

fn chiffon(told: &Told, lab: &Lab, home: &Path) -> Command {
    let mirror = |name: &str| MirrorSpec { url: lab.folder(name).display().to_string(), branch: "main".to_owned() };
    let spec = AgentFileSpec {
        name: told.name.clone(),
        amqp: AmqpSpec {
            url: told.url.clone(),
            password_file: "broker-password".into(),
            ca_file: None,
            insecure_tls: false,
        },
        exempt_check_runs: false,
        traces: None,
        reconciler_key: told.key.clone(),
        requests: mirror("requests"),
        infra: mirror("infra"),
        ansible: AnsibleSpec {
            playbook: Some(there(root().join(".venv/ansible-2.19/bin/ansible-playbook"))),
            vault_password_file: None,
            ssh_auth_sock: None,
        },
        heartbeat_secs: 1,
        parallel: 2,
    };
    let file = AgentFile { api_version: ApiVersion::V1, kind: AgentFileKind::Agent, spec };
    fs::write(home.join("agent.yaml"), to_yaml(&file)).unwrap();
    let mut command = Command::new(chiffon_agent());
    command.arg("--dir").arg(home).arg("up");
    command
}
