//! The agent's folder: its configuration, its secrets and its state.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use chiffon_infra::AnsibleConfig;
use chiffon_requests::{Git, Mirror, RefName};
use chiffon_schemas::yaml::Limits;
use chiffon_schemas::{AgentFile, AgentFileSpec};

use crate::environment::Environment;

/// The agent's folder.
#[derive(Debug, Clone)]
pub struct Home {
    folder: PathBuf,
}

impl Home {
    /// The folder that is named, or the usual one.
    ///
    /// # Errors
    /// None is named, and there is no home folder to have one in.
    pub fn at(dir: Option<&Path>, environment: &Environment) -> Result<Self> {
        if let Some(folder) = dir.or(environment.agent_dir.as_deref()) {
            return Ok(Self { folder: environment.cwd.join(folder) });
        }
        match &environment.home {
            Some(home) => Ok(Self { folder: home.join(".chiffon-agent") }),
            None => bail!("say where the agent's folder is, with --dir DIR or CHIFFON_AGENT_DIR"),
        }
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `agent.yaml`.
    pub fn config(&self) -> PathBuf {
        self.folder.join("agent.yaml")
    }

    /// What the agent itself keeps.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// What an invitation's token gave, until it has become a configuration.
    pub fn enrolment(&self) -> PathBuf {
        self.state().join("enrolment")
    }

    /// The agent's journal, its waiting reports and its work.
    pub fn journal(&self) -> PathBuf {
        self.state().join("agent")
    }

    /// Makes the folder and its state, for their owner alone.
    ///
    /// # Errors
    /// They can't be made.
    pub fn make(&self) -> Result<()> {
        let state = self.state();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&state)
            .with_context(|| format!("making {}", state.display()))?;
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700))
            .with_context(|| format!("making {} private", state.display()))
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// There is none, or it has mistakes; all of them are named.
    pub fn load(&self) -> Result<AgentFileSpec> {
        let path = self.config();
        let bytes = std::fs::read(&path)
            .with_context(|| format!("{} can't be read: `chiffon-agent enrol` writes it", path.display()))?;
        match chiffon_schemas::read::<AgentFile>(&path.display().to_string(), &bytes, &Limits::CONFIG) {
            Ok(file) => Ok(file.spec),
            Err(mistakes) => {
                let texts: Vec<String> = mistakes.iter().map(|mistake| mistake.render(false)).collect();
                bail!("{}\n{} can't be used", texts.join("\n"), path.display())
            }
        }
    }

    /// One agent at a time works in a folder; the kernel frees the lock with the process.
    ///
    /// # Errors
    /// Another one does, or the file can't be had.
    pub fn lock(&self) -> Result<File> {
        let path = self.state().join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                bail!("another `chiffon-agent up` is running for {}", self.folder.display())
            }
            Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// The agent's own copies of the requests and the infra repository.
    ///
    /// # Errors
    /// A branch's name is none.
    pub fn mirrors(&self, spec: &AgentFileSpec) -> Result<[Mirror; 2]> {
        let mirror = |name: &str, of: &chiffon_schemas::MirrorSpec| {
            Mirror::new(self.state().join(name), &of.url, &self.folder, &of.branch)
        };
        let requests = mirror("requests.git", &spec.requests)?;
        // What nobody merged is read on the audit branch; an agent that takes none of it needs no copy.
        let requests = if spec.exempt_check_runs { requests.with(RefName::audit()) } else { requests };
        Ok([requests, mirror("infra.git", &spec.infra)?])
    }

    /// How the agent runs Ansible.
    pub fn ansible(&self, spec: &AgentFileSpec, mirrors: &[Mirror; 2], environment: &Environment) -> AnsibleConfig {
        let found = spec.ansible.playbook.clone().or_else(|| environment.find_program("ansible-playbook"));
        let [requests, infra] = mirrors;
        AnsibleConfig {
            // A program that is not there is said by `doctor`, and when the agent is asked to run something.
            ansible_playbook: found.unwrap_or_else(|| "ansible-playbook".into()),
            requests_repo: requests.path().to_owned(),
            main_branch: spec.requests.branch.clone(),
            infra_repo: infra.path().to_owned(),
            infra_branch: spec.infra.branch.clone(),
            exempt_check_runs: spec.exempt_check_runs,
            vault_password_file: spec.ansible.vault_password_file.as_ref().map(|path| self.folder.join(path)),
            ssh_auth_sock: spec.ansible.ssh_auth_sock.clone(),
            state_folder: self.state(),
            log_cap_bytes: AnsibleConfig::LOG_CAP_BYTES,
            grace: AnsibleConfig::GRACE,
        }
    }
}

/// The git program with a cleared environment.
pub fn git(environment: &Environment) -> Git {
    Git::new(environment.path.clone(), environment.home.clone())
}
