//! The infra agent's work as the agent's loop sees it: check an order, check it out, run it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use chiffon_requests::{Repo, WalkLimits};
use chiffon_runtime::{RunContext, Work};
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{AgentKind, Order, Outcome};

use crate::check::check;
use crate::run::{Playbook, run_playbook};
use crate::version::probe_version;
use crate::{AnsibleConfig, verdict};

/// Runs Ansible playbooks.
#[derive(Debug, Clone)]
pub struct Ansible {
    /// Each run takes those of its beginning.
    settings: Arc<RwLock<Arc<AnsibleConfig>>>,
    /// The full version of ansible-core at the start; `None` inside where there was none.
    version: Arc<OnceLock<Option<String>>>,
}

impl Ansible {
    /// Takes its settings, and begins to ask the program for its version where that is not remembered.
    pub fn new(config: AnsibleConfig) -> Self {
        let work = Self { settings: Arc::new(RwLock::new(Arc::new(config))), version: Arc::default() };
        let asking = work.clone();
        // Asking may take half a second of Python; whoever needs the answer waits for what is left of it.
        std::thread::spawn(move || asking.ansible_core());
        work
    }

    /// Takes other settings; what runs already keeps its own.
    pub fn reconfigure(&self, config: AnsibleConfig) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    fn config(&self) -> Arc<AnsibleConfig> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn blocking<T: Send + 'static>(&self, task: impl FnOnce(&Self) -> T + Send + 'static) -> Result<T, String> {
        let work = self.clone();
        tokio::task::spawn_blocking(move || task(&work)).await.map_err(|error| format!("the agent failed: {error}"))
    }

    /// Checks again what may have changed since the claim, the program itself included, then lays the pinned commit
    /// down; the version that will run.
    fn prepare(config: &AnsibleConfig, order: &Order, into: PathBuf) -> Result<Option<String>, String> {
        let version = probe_version(config).ok();
        check(config, order, version.as_deref()).map_err(|refused| refused.to_string())?;
        let failed = |error: chiffon_requests::Error| {
            format!("can't check out {} of {}: {error}", order.infra.commit, order.infra.repository)
        };
        std::fs::create_dir_all(&into).map_err(|error| format!("can't make {}: {error}", into.display()))?;
        let repo = Repo::open(&config.infra_repo).map_err(failed)?;
        let left_out = repo.checkout(&order.infra.commit, &into, &WalkLimits::default()).map_err(failed)?;
        crash_point("agent-checked-out");
        for path in left_out {
            tracing::warn!(%path, "a symbolic link that leaves the infra repository is not there for the playbook");
        }
        Ok(version)
    }
}

#[async_trait::async_trait]
impl Work for Ansible {
    fn kind(&self) -> AgentKind {
        AgentKind::Infra
    }

    fn ansible_core(&self) -> Option<String> {
        let probe = || match probe_version(&self.config()) {
            Ok(version) => Some(version),
            Err(error) => {
                tracing::warn!(%error, "no ansible-core");
                None
            }
        };
        self.version.get_or_init(probe).clone()
    }

    async fn check(&self, order: &Order) -> Result<(), String> {
        let order = order.clone();
        let check = move |work: &Self| check(&work.config(), &order, probe_version(&work.config()).ok().as_deref());
        self.blocking(check).await?.map_err(|refused| refused.to_string())
    }

    async fn run(&self, order: &Order, run: RunContext) -> Outcome {
        let checkout = run.work_folder.join("checkout");
        let config = self.config();
        let (prepared, ordered, into) = (Arc::clone(&config), order.clone(), checkout.clone());
        let prepare = move |_: &Self| Self::prepare(&prepared, &ordered, into);
        let version = match self.blocking(prepare).await.and_then(|done| done) {
            Ok(version) => version,
            Err(reason) => return verdict::not_started(reason, &order.step.limit),
        };
        let (inventory, step, mode) = (&order.infra.inventory, &order.step, order.key.mode);
        let playbook = Playbook { checkout: &checkout, inventory, step, mode, ansible_core: version.as_deref() };
        run_playbook(&config, &playbook, run).await
    }
}
