//! Lock files of refs that a killed process left behind. Each would stop every later write of its ref for ever.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::Repo;

/// Moving a ref takes milliseconds: a lock that stands for so long has no owner any more.
const ABANDONED: Duration = Duration::from_secs(60);

/// Which lock files may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// Of the refs that Chiffon alone writes: the caller holds the lock of its home, so nobody is writing them now.
    Own,
    /// Of plan branches, which people push to as well: only those that are a minute old.
    PlanBranches,
    /// Of every ref: the repository is a mirror of Chiffon's own.
    Mirror,
}

impl Repo {
    /// Removes lock files without an owner, and says which. What can't be removed is left: writing says why then.
    pub fn clear_locks(&self, which: Locks) -> Vec<String> {
        let folder = self.path();
        let mut removed = Vec::new();
        match which {
            Locks::Own => {
                remove(&folder.join("refs/heads/chiffon/audit.lock"), Duration::ZERO, &mut removed);
                below(&folder.join("refs/chiffon"), Duration::ZERO, &mut removed);
            }
            Locks::PlanBranches => below(&folder.join("refs/heads/chiffon/plan"), ABANDONED, &mut removed),
            Locks::Mirror => {
                below(&folder.join("refs"), Duration::ZERO, &mut removed);
                for name in ["packed-refs.lock", "HEAD.lock", "config.lock", "shallow.lock"] {
                    remove(&folder.join(name), Duration::ZERO, &mut removed);
                }
            }
        }
        removed
    }
}

fn below(folder: &Path, age: Duration, removed: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&path, age, removed);
        } else if path.extension().is_some_and(|extension| extension == "lock") {
            remove(&path, age, removed);
        }
    }
}

fn remove(path: &Path, age: Duration, removed: &mut Vec<String>) {
    let old = fs::symlink_metadata(path)
        .and_then(|found| found.modified())
        .is_ok_and(|written| age.is_zero() || written.elapsed().is_ok_and(|since| since >= age));
    if old && fs::remove_file(path).is_ok() {
        removed.push(path.display().to_string());
    }
}
