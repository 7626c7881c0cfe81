//! The one place of this binary that reads the environment. Everything else takes it as a value.

#![expect(clippy::disallowed_methods, reason = "this is the file that the rule names")]

use std::ffi::OsString;
use std::path::PathBuf;

/// What the process was started with.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `PATH`.
    pub path: OsString,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `CHIFFON_AGENT_DIR`: the agent's folder.
    pub agent_dir: Option<PathBuf>,
    /// `CHIFFON_LOG`: a filter for the process's own log, like `info,chiffon_runtime=debug`.
    pub log: Option<String>,
    /// The folder in which the process was started.
    pub cwd: PathBuf,
}

impl Environment {
    /// Reads it.
    pub fn read() -> Self {
        let text = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            path: text("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
            home: text("HOME").map(PathBuf::from),
            agent_dir: text("CHIFFON_AGENT_DIR").map(PathBuf::from),
            log: text("CHIFFON_LOG").and_then(|value| value.into_string().ok()),
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
        }
    }

    /// A program on `PATH`.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path).map(|folder| folder.join(name)).find(|path| path.is_file())
    }
}
