//! Which version of ansible-core would run: asked of the program once, then remembered beside its path, time and size.
//!
//! Asking costs half a second of Python's start, which nobody should wait for at every start of the agent.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::AnsibleConfig;
use crate::room::base_env;

/// Why the version is not known.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The program or the folder that remembers can't be used.
    #[error("can't use {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The program does not say a version.
    #[error("{} --version says no version of ansible-core: {said}", program.display())]
    Silent {
        /// The program.
        program: PathBuf,
        /// What it said instead.
        said: String,
    },
}

/// What is remembered about a program.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    program: PathBuf,
    /// Of the file that the path names in the end, and of ansible-core's folder beside it where there is one: an
    /// upgrade in place may leave the small starter as it was.
    stamps: Vec<(i64, i64, u64)>,
    version: String,
}

/// The full version of ansible-core behind `ansible-playbook`: `2.19.14`.
///
/// Blocks for about half a second where it is not remembered.
///
/// # Errors
/// There is no such program, or it says no version.
pub fn probe_version(config: &AnsibleConfig) -> Result<String, ProbeError> {
    let stamps = stamps(&config.ansible_playbook)?;
    let memory = config.state_folder.join("ansible-version.json");
    if let Some(known) = fs::read(&memory).ok().and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok())
        && known.program == config.ansible_playbook
        && known.stamps == stamps
    {
        return Ok(known.version);
    }
    let version = ask(config)?;
    let known = Remembered { program: config.ansible_playbook.clone(), stamps, version: version.clone() };
    // Not remembering costs the next start half a second and nothing else.
    let text = serde_json::to_vec(&known).unwrap_or_default();
    if let Err(error) = fs::write(&memory, text) {
        tracing::debug!(path = %memory.display(), %error, "the version of ansible-core is not remembered");
    }
    Ok(version)
}

/// Major and minor version, as plans name it: `2.19` for `2.19.14`.
pub fn major_minor(version: &str) -> &str {
    version.match_indices('.').nth(1).map_or(version, |(at, _)| &version[..at])
}

fn stamps(program: &Path) -> Result<Vec<(i64, i64, u64)>, ProbeError> {
    let stamp = |path: &Path| fs::metadata(path).map(|meta| (meta.mtime(), meta.mtime_nsec(), meta.size()));
    let first = stamp(program).map_err(|source| ProbeError::File { path: program.to_owned(), source })?;
    let mut all = vec![first];
    // A virtual environment keeps the libraries in `lib/python3.*/site-packages` beside `bin`; installing renews it.
    let libraries = program.parent().and_then(Path::parent).map(|root| root.join("lib"));
    let mut folders: Vec<PathBuf> = libraries
        .and_then(|lib| fs::read_dir(lib).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages")))
        .collect();
    folders.sort();
    all.extend(folders.iter().filter_map(|folder| stamp(folder).ok()));
    Ok(all)
}

fn ask(config: &AnsibleConfig) -> Result<String, ProbeError> {
    let folder = config.state_folder.join("ansible-home");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ProbeError::File { path, source }
    };
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let cfg = folder.join("ansible.cfg");
    fs::write(&cfg, "[defaults]\n").map_err(failed(&cfg))?;
    let home = folder.clone().into_os_string();
    let output = Command::new(&config.ansible_playbook)
        .arg("--version")
        .env_clear()
        .envs(base_env(config, home.clone(), home, cfg.into_os_string()))
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .map_err(failed(&config.ansible_playbook))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        let said = format!("{text}{errors}").chars().take(300).collect();
        ProbeError::Silent { program: config.ansible_playbook.clone(), said }
    })
}

/// `ansible-playbook [core 2.19.14]` is the first line.
fn parse(text: &str) -> Option<String> {
    let version = text.lines().next()?.split_once("[core ")?.1.split_once(']')?.0;
    let parts: Vec<&str> = version.split('.').collect();
    let numbers = parts.len() >= 3 && parts[..2].iter().all(|part| part.parse::<u32>().is_ok());
    numbers.then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_first_line_only() {
        assert_eq!(parse("ansible-playbook [core 2.19.14]\n  config file = x").as_deref(), Some("2.19.14"));
        assert_eq!(parse("ansible-playbook [core 2.14.18.dev0]").as_deref(), Some("2.14.18.dev0"));
        for text in ["", "ansible-playbook 2.9.27", "[core ]", "[core a.b.c]"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(major_minor("2.19.14"), "2.19");
        assert_eq!(major_minor("2.19"), "2.19");
    }
}
