//! The embedded agent: the same code as on another machine, over the in-process link.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use chiffon_infra::{Ansible, AnsibleConfig};
use chiffon_link::LocalLink;
use chiffon_runtime::{Agent, Settings, Shutdown};
use chiffon_schemas::Recorder;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::environment::Environment;
use crate::home::Home;

/// The longest that the end of the agent is waited for.
const LONGEST_END: Duration = Duration::from_secs(60);

/// The agent inside this process.
pub(super) struct Embedded {
    task: JoinHandle<()>,
    /// Its work, whose settings may change.
    pub ansible: Ansible,
    stop: watch::Sender<Shutdown>,
}

impl Embedded {
    /// Starts the agent as a task.
    ///
    /// # Errors
    /// Its folders can't be made.
    pub fn start(
        home: &Home,
        config: &Config,
        environment: &Environment,
        link: LocalLink,
        recorder: Recorder,
    ) -> Result<Self> {
        let folder = home.agent();
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let work = Ansible::new(ansible(home, config, environment));
        let name = config.spec.agent.name.clone();
        let mut settings = Settings::new(name, chiffon_runtime::new_boot(), folder);
        settings.parallel = usize::try_from(config.spec.agent.parallel).unwrap_or(1);
        settings.recorder = recorder;
        let agent = Agent::new(settings, Arc::new(link), Arc::new(work.clone()));
        let (stop, told) = watch::channel(Shutdown::No);
        let task = tokio::spawn(async move {
            if let Err(error) = agent.run(told).await {
                tracing::error!(error = %crate::commands::chain(&error), "the agent stopped");
            }
        });
        Ok(Self { task, ansible: work, stop })
    }

    /// Ends it after its processes have ended; whether it did.
    pub async fn end(self) -> bool {
        // It has ended by itself where nobody listens.
        let _ = self.stop.send(Shutdown::Cancel);
        tokio::time::timeout(LONGEST_END, self.task).await.is_ok()
    }
}

/// How the agent runs Ansible.
pub(crate) fn ansible(home: &Home, config: &Config, environment: &Environment) -> AnsibleConfig {
    let spec = &config.spec.ansible;
    let found = spec.playbook.clone().or_else(|| environment.find_program("ansible-playbook"));
    AnsibleConfig {
        // A program that is not there is said by `doctor`, and by the agent when it is asked to run something.
        ansible_playbook: found.unwrap_or_else(|| "ansible-playbook".into()),
        requests_repo: config.requests.clone(),
        main_branch: "main".to_owned(),
        infra_repo: home.infra(),
        vault_password_file: config.vault_password_file.clone(),
        ssh_auth_sock: spec.ssh_auth_sock.clone(),
        state_folder: home.state(),
        log_cap_bytes: AnsibleConfig::LOG_CAP_BYTES,
        grace: AnsibleConfig::GRACE,
    }
}
