//! Writes a commit's files into an empty folder, from objects, without ever following a link (S6).
//!
//! Names stay the bytes that they are: other people's trees hold names that are no UTF-8, and Ansible reads them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chiffon_schemas::Oid;
use gix::ObjectId;

use crate::objects::RawEntry;
use crate::repo::{from_gix, to_gix};
use crate::walk::{is_disguised_git, shown};
use crate::{EntryKind, Error, Refusal, Repo, WalkLimits};

/// No file of an infra repository is larger than this: a blob is read into memory whole.
const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;

/// The longest target of a symbolic link, as Linux has it.
const MAX_TARGET_BYTES: u64 = 4096;

/// Links on one way; at the next, Linux itself gives up, so whatever lies behind is not reached.
const MAX_LINKS: usize = 40;

/// What is being written.
struct Writer<'a> {
    repo: &'a Repo,
    limits: &'a WalkLimits,
    files: usize,
    bytes: u64,
    /// Links by their paths in the tree; made last, so that nothing can be written through one.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Repo {
    /// Writes a commit's tree into an empty folder: files with their executable bits, links that stay inside, and
    /// empty folders for submodules, which are named in the log. Links that leave the tree are left out, and given back
    /// as far as their paths can be shown: other people's trees hold them, and whoever reads one finds nothing there.
    ///
    /// # Errors
    /// The folder is not empty; or the tree holds what must not be written, which is named. What was written by then
    /// stays for the caller to remove; links are made last, so that nothing is written through one.
    pub fn checkout(&self, commit: &Oid, into: &Path, limits: &WalkLimits) -> Result<Vec<String>, Error> {
        let io = |source| Error::Io { path: into.to_owned(), source };
        if fs::read_dir(into).map_err(io)?.next().is_some() {
            let reason = std::io::Error::new(std::io::ErrorKind::DirectoryNotEmpty, "the folder is not empty");
            return Err(io(reason));
        }
        let mut writer = Writer { repo: self, limits, files: 0, bytes: 0, links: BTreeMap::new() };
        writer.folder(to_gix(&self.tree_of(commit)?), into, &[], 1)?;
        let mut left_out = Vec::new();
        for (path, target) in &writer.links {
            if leaves_tree(path, target, &writer.links) {
                left_out.push(shown("", path));
                continue;
            }
            let place = into.join(OsStr::from_bytes(path));
            std::os::unix::fs::symlink(OsStr::from_bytes(target), &place)
                .map_err(|source| Error::Io { path: place, source })?;
        }
        Ok(left_out)
    }
}

fn refuse(path: &[u8], refusal: Refusal) -> Error {
    Error::Checkout { path: shown("", path), refusal }
}

/// Whether a link at `path` of the tree names something outside of it.
///
/// The way is gone as the kernel goes it, through the tree's other links: judged by its text alone, `a/up/..` stays
/// inside, and leaves when `a/up` is a link to `..`.
fn leaves_tree(path: &[u8], target: &[u8], links: &BTreeMap<Vec<u8>, Vec<u8>>) -> bool {
    let mut at: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    at.pop();
    if target.is_empty() || target.starts_with(b"/") || target.contains(&0) {
        return true;
    }
    let mut todo: Vec<&[u8]> = target.split(|byte| *byte == b'/').rev().collect();
    let mut followed = 0;
    while let Some(part) = todo.pop() {
        match part {
            b"" | b"." => {}
            b".." => {
                if at.pop().is_none() {
                    return true;
                }
            }
            name if is_disguised_git(name) => return true,
            name => {
                at.push(name);
                let Some(next) = links.get(&at.join(&b'/')) else { continue };
                followed += 1;
                if next.starts_with(b"/") {
                    return true;
                }
                if followed > MAX_LINKS {
                    return false;
                }
                at.pop();
                todo.extend(next.split(|byte| *byte == b'/').rev());
            }
        }
    }
    false
}

impl Writer<'_> {
    fn folder(&mut self, tree: ObjectId, into: &Path, prefix: &[u8], depth: usize) -> Result<(), Error> {
        if depth > self.limits.max_depth {
            return Err(refuse(prefix, Refusal::TooDeep { limit: self.limits.max_depth }));
        }
        for entry in self.repo.tree(tree)? {
            let path = if prefix.is_empty() { entry.name.clone() } else { [prefix, &entry.name].join(&b'/') };
            if !is_writable(&entry) {
                return Err(refuse(&path, Refusal::BadName));
            }
            self.files += 1;
            if self.files > self.limits.max_files {
                return Err(refuse(&path, Refusal::TooMany { limit: self.limits.max_files }));
            }
            let place = into.join(OsStr::from_bytes(&entry.name));
            match entry.kind {
                EntryKind::Folder => {
                    make_folder(&place)?;
                    self.folder(entry.oid, &place, &path, depth + 1)?;
                }
                EntryKind::Submodule => {
                    tracing::info!(path = %shown("", &path), "a submodule is left as an empty folder");
                    make_folder(&place)?;
                }
                EntryKind::Symlink => {
                    let target = self.repo.read_blob(&from_gix(entry.oid), MAX_TARGET_BYTES)?;
                    self.links.insert(path, target);
                }
                EntryKind::File | EntryKind::Executable => self.file(&entry, &path, place)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, entry: &RawEntry, path: &[u8], place: PathBuf) -> Result<(), Error> {
        let room = self.limits.max_bytes - self.bytes;
        let bytes = match self.repo.read_blob(&from_gix(entry.oid), room.min(MAX_FILE_BYTES)) {
            Ok(bytes) => bytes,
            Err(Error::TooLarge { bytes, limit, .. }) => {
                return Err(refuse(path, Refusal::TooLarge { bytes, limit }));
            }
            Err(error) => return Err(error),
        };
        self.bytes += bytes.len() as u64;
        let io = |source| Error::Io { path: place.clone(), source };
        let mode = if entry.kind == EntryKind::Executable { 0o755 } else { 0o644 };
        // `create_new` never follows a link and never overwrites: a name that is there already, be it by a file
        // system that knows no case, is an error.
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&place).map_err(io)?;
        file.write_all(&bytes).map_err(io)?;
        if entry.kind == EntryKind::Executable {
            file.set_permissions(fs::Permissions::from_mode(0o755)).map_err(io)?;
        }
        Ok(())
    }
}

/// Whether a name is one that stays where it is put.
fn is_writable(entry: &RawEntry) -> bool {
    use gix::validate::path::component::{Mode, Options};
    let options = Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    let mode = (entry.kind == EntryKind::Symlink).then_some(Mode::Symlink);
    !entry.name.contains(&0) && gix::validate::path::component(entry.name.as_slice().into(), mode, options).is_ok()
}

fn make_folder(place: &Path) -> Result<(), Error> {
    fs::create_dir(place).map_err(|source| Error::Io { path: place.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s6_links_that_leave_the_tree_are_seen() {
        let links: BTreeMap<Vec<u8>, Vec<u8>> =
            [("deep/up", ".."), ("loop", "loop"), ("far", "deep/down/er"), ("deep/down", "..")]
                .map(|(path, target)| (path.as_bytes().to_vec(), target.as_bytes().to_vec()))
                .into();
        let leaves = |path: &str, target: &str| leaves_tree(path.as_bytes(), target.as_bytes(), &links);
        for (path, target) in [
            ("a", "../x"),
            ("a/b", "../../x"),
            ("a", "/etc/passwd"),
            ("a/b", "c/../../../x"),
            ("a", ""),
            ("a", ".git/config"),
            ("a", "b/.GIT/x"),
            ("a", "deep/up/.."),
            ("a", "deep/down/../etc/passwd"),
        ] {
            assert!(leaves(path, target), "{path} -> {target}");
        }
        for (path, target) in [
            ("a/b", "../x"),
            ("playbooks/monitoring.yml", "prometheus.yml"),
            ("docs/m.yml", "../inventory/hosts.yml"),
            ("a", "deep/up"),
            ("a", "deep/up/deep/up/b"),
            ("a", "loop/x"),
            ("a", "nowhere/yet"),
        ] {
            assert!(!leaves(path, target), "{path} -> {target}");
        }
    }
}
