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
    /// Why it ended, once it did.
    ended: watch::Receiver<Option<String>>,
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
        let (say, ended) = watch::channel(None);
        let life = tokio::spawn(agent.run(told));
        let task = tokio::spawn(async move { drop(say.send(Some(end_of(life).await))) });
        Ok(Self { task, ansible: work, stop, ended })
    }

    /// Waits until it has ended; why it did. Before [`Embedded::end`] nothing tells it to.
    async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        let why = ended.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| "nobody knows why".to_owned())
    }

    /// Ends it after its processes have ended; whether it did.
    pub async fn end(self) -> bool {
        // It has ended by itself where nobody listens.
        let _ = self.stop.send(Shutdown::Cancel);
        tokio::time::timeout(LONGEST_END, self.task).await.is_ok()
    }
}

/// Why an agent's life ended; a panic is an end as well.
async fn end_of(life: JoinHandle<Result<(), chiffon_runtime::Error>>) -> String {
    let why = match life.await {
        Ok(Ok(())) => return "it was told to".to_owned(),
        Ok(Err(error)) => crate::commands::chain(&error),
        Err(error) => error.to_string(),
    };
    tracing::error!(error = %why, "the agent stopped");
    why
}

/// Waits for the end of the embedded agent, for ever where there is none; why it ended.
pub(super) async fn death(embedded: Option<&Embedded>) -> String {
    match embedded {
        Some(embedded) => embedded.ended().await,
        None => std::future::pending().await,
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
        infra_branch: config.spec.infra.branch.clone(),
        // The owner said so where the policy is.
        exempt_check_runs: config.policy.exempt_check_runs,
        vault_password_file: config.vault_password_file.clone(),
        ssh_auth_sock: spec.ssh_auth_sock.clone(),
        state_folder: home.state(),
        log_cap_bytes: AnsibleConfig::LOG_CAP_BYTES,
        grace: AnsibleConfig::GRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_end_with_a_reason() {
        let why = end_of(tokio::spawn(async { panic!("out of bounds") })).await;
        assert!(why.contains("out of bounds"), "{why}");
        assert_eq!(end_of(tokio::spawn(async { Ok(()) })).await, "it was told to");
    }
}
