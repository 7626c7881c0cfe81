//! The folder that `chiffon init` makes, and how a command finds it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::environment::Environment;

/// Names inside the folder.
const CONFIG: &str = "chiffon.yaml";

/// The folder that `chiffon init` made.
#[derive(Debug, Clone)]
pub struct Home {
    folder: PathBuf,
}

impl Home {
    /// A home at this folder, whether it is there or not.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Finds the home: `--dir`, then `CHIFFON_DIR`, then the current folder and those above it, then the repository
    /// that a clone here was made from.
    ///
    /// # Errors
    /// None is found, or the one that was named is none.
    pub fn find(dir: Option<&Path>, environment: &Environment) -> Result<Self> {
        if let Some(folder) = dir.or(environment.chiffon_dir.as_deref()) {
            let home = Self::at(environment.cwd.join(folder));
            if home.config().is_file() {
                return Ok(home);
            }
            bail!("{} holds no {CONFIG}: `chiffon init {}` makes one", folder.display(), folder.display());
        }
        for folder in environment.cwd.ancestors() {
            if folder.join(CONFIG).is_file() {
                return Ok(Self::at(folder));
            }
            if let Some(home) = of_clone(folder) {
                return Ok(home);
            }
        }
        bail!(
            "there is no {CONFIG} here or above: say where with --dir DIR or CHIFFON_DIR, or make one with `chiffon init DIR --infra PATH`"
        )
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `chiffon.yaml`.
    pub fn config(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }

    /// The requests repository, where the configuration does not say otherwise.
    pub fn requests(&self) -> PathBuf {
        self.folder.join("requests.git")
    }

    /// What Chiffon itself keeps; private to its user.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.state().join("chiffon.db")
    }

    /// What tells this home from every other one on the same store; made once.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn id(&self) -> Result<String> {
        let path = self.state().join("home-id");
        if let Ok(text) = std::fs::read_to_string(&path)
            && !text.trim().is_empty()
        {
            return Ok(text.trim().to_owned());
        }
        let id = crate::environment::run_id().to_string();
        // No secret, and kept with the same care.
        if chiffon_link::write_first_secret(&path, &id)? {
            return Ok(id);
        }
        // Another process of this home was first.
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        match text.trim() {
            "" => bail!("{} is empty: remove it", path.display()),
            id => Ok(id.to_owned()),
        }
    }

    /// The mirror of the infra repository.
    pub fn infra(&self) -> PathBuf {
        self.state().join("infra.git")
    }

    /// The embedded agent's journal and spool.
    pub fn agent(&self) -> PathBuf {
        self.state().join("agent")
    }

    /// What orders are signed with, where agents are processes of their own.
    pub fn signing_key(&self) -> PathBuf {
        self.state().join("signing-key")
    }

    /// Where a running `chiffon up` answers over HTTP.
    pub fn web_address(&self) -> PathBuf {
        self.state().join("web-address")
    }

    /// Touched to wake a running `chiffon up`.
    pub fn wake(&self) -> PathBuf {
        self.state().join("wake")
    }

    /// Written anew when a webhook was heard, at most ten times a second.
    pub fn heard(&self) -> PathBuf {
        self.state().join("webhook-heard")
    }

    /// Held by a running `chiffon up`.
    pub fn lock(&self) -> PathBuf {
        self.state().join("lock")
    }

    /// Touches the wake file.
    ///
    /// # Errors
    /// It can't be written.
    pub fn touch_wake(&self) -> Result<()> {
        let path = self.wake();
        std::fs::write(&path, b"").with_context(|| format!("touching {}", path.display()))
    }
}

/// The home whose bare repository the clone at `folder` has as its `origin`.
fn of_clone(folder: &Path) -> Option<Home> {
    let config = std::fs::read_to_string(folder.join(".git").join("config")).ok()?;
    let mut in_origin = false;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            in_origin = line == "[remote \"origin\"]";
        } else if let Some((key, value)) = line.split_once('=').filter(|_| in_origin)
            && key.trim() == "url"
        {
            let path = Path::new(value.trim().trim_start_matches("file://"));
            let home = Home::at(folder.join(path).parent()?);
            return home.config().is_file().then_some(home);
        }
    }
    None
}
