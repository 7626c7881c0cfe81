//! Walks trees and finds what two commits differ in, within limits; what must not be read is named, never followed.
//!
//! One limit bounds everything that is looked at, so that a few hundred bytes of trees that hold each other many times
//! over cost no more than they may.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use chiffon_schemas::{Oid, RepoPath};
use gix::ObjectId;

use crate::objects::RawEntry;
use crate::repo::{from_gix, to_gix};
use crate::{Entry, EntryKind, Error, Refusal, Repo};

/// How much of a tree is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkLimits {
    /// Files and folders in all.
    pub max_files: usize,
    /// Levels of folders.
    pub max_depth: usize,
    /// Bytes that a checkout writes in all.
    pub max_bytes: u64,
}

impl Default for WalkLimits {
    /// Room for 100 000 requests with a plan, a rendering and evidence each; past it, the rest is refused and said.
    fn default() -> Self {
        Self { max_files: 1_000_000, max_depth: 32, max_bytes: 4 * 1024 * 1024 * 1024 }
    }
}

/// Every file under a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walk {
    /// Files, sorted by path. Symbolic links are among them by their kind, since other people's trees hold them; they
    /// are never followed.
    pub entries: Vec<(RepoPath, Entry)>,
    /// What is not read: its path as far as it can be shown, and why.
    pub refused: Vec<(String, Refusal)>,
}

/// What two commits differ in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files that were added, changed or removed, sorted by path. One that something else than a file has replaced is
    /// removed here, and that something is among the refused.
    pub entries: Vec<FileChange>,
    /// What the newer commit holds there and must not be read.
    pub refused: Vec<(String, Refusal)>,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Its path.
    pub path: RepoPath,
    /// What was there, also where it was never read (a symbolic link, a submodule); `None` where it was added.
    pub old: Option<Entry>,
    /// What is there now; `None` where it was removed.
    pub new: Option<Entry>,
}

impl FileChange {
    /// The object that is there now, or was.
    pub fn new_oid(&self) -> Oid {
        let entry = self.new.as_ref().or(self.old.as_ref());
        entry.map(|entry| entry.oid.clone()).expect("a change has at least one side")
    }
}

/// A name inside a folder as a path, or why it is none.
fn join(prefix: &str, entry: &RawEntry) -> Result<RepoPath, Refusal> {
    let name = std::str::from_utf8(&entry.name).map_err(|_| Refusal::BadName)?;
    if name.contains('/') || is_disguised_git(&entry.name) {
        return Err(Refusal::BadName);
    }
    RepoPath::parse(format!("{prefix}{name}")).map_err(|_| Refusal::BadName)
}

/// A name for people: what can't be shown is replaced.
pub(crate) fn shown(prefix: &str, name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let clean: String = text.chars().take(300).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    format!("{prefix}{clean}")
}

/// Names that some file system takes for `.git` (CVE-2014-9390 and its kin), `.` or `..`.
pub(crate) fn is_disguised_git(name: &[u8]) -> bool {
    let options =
        gix::validate::path::component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    gix::validate::path::component(name.into(), None, options).is_err()
}

impl Repo {
    /// Every file of a commit, or of a folder of it.
    ///
    /// # Errors
    /// An object is missing.
    pub fn walk(&self, commit: &Oid, under: Option<&RepoPath>, limits: &WalkLimits) -> Result<Walk, Error> {
        let mut look = Look::new(self, limits, Links::Kept);
        if let Below::Tree(tree) = look.below(commit, under)? {
            look.compare(None, Some(tree), under)?;
        }
        let entry = |change: FileChange| change.new.map(|entry| (change.path, entry));
        Ok(Walk { entries: look.found.into_iter().filter_map(entry).collect(), refused: look.refused })
    }

    /// The files of a folder that differ between two commits. Costs what differs: equal folders are not opened.
    ///
    /// A folder that can't be read in the newer commit is refused, and nothing below it counts as changed. One that
    /// something else has replaced is refused as well, and what was below it is removed.
    ///
    /// # Errors
    /// An object is missing.
    pub fn changes(
        &self,
        old: Option<&Oid>,
        new: &Oid,
        under: &RepoPath,
        limits: &WalkLimits,
    ) -> Result<Changes, Error> {
        // What is refused in the older commit was said when that was the newer one.
        let before = match old.map(|old| Look::new(self, limits, Links::Refused).below(old, Some(under))).transpose()? {
            Some(Below::Tree(tree)) => Some(tree),
            Some(Below::Nothing | Below::Refused) | None => None,
        };
        let mut look = Look::new(self, limits, Links::Refused);
        match look.below(new, Some(under))? {
            Below::Tree(tree) => look.compare(before, Some(tree), Some(under))?,
            Below::Nothing => look.compare(before, None, Some(under))?,
            Below::Refused => {}
        }
        Ok(Changes { entries: look.found, refused: look.refused })
    }
}

/// Whether symbolic links count as files of their own kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    Kept,
    Refused,
}

/// What stands where a look begins.
enum Below {
    Tree(ObjectId),
    Nothing,
    Refused,
}

/// A look that is under way, and what it found.
struct Look<'a> {
    repo: &'a Repo,
    limits: &'a WalkLimits,
    links: Links,
    /// Entries that were looked at, equal ones left out.
    seen: usize,
    found: Vec<FileChange>,
    refused: Vec<(String, Refusal)>,
}

impl<'a> Look<'a> {
    fn new(repo: &'a Repo, limits: &'a WalkLimits, links: Links) -> Self {
        Self { repo, limits, links, seen: 0, found: Vec::new(), refused: Vec::new() }
    }

    fn below(&mut self, commit: &Oid, under: Option<&RepoPath>) -> Result<Below, Error> {
        let Some(path) = under else { return Ok(Below::Tree(to_gix(&self.repo.tree_of(commit)?))) };
        let name = path.as_str().trim_end_matches('/');
        let plain = RepoPath::parse(name)?;
        let refusal = match self.repo.entry_at(commit, &plain) {
            Ok(None) => return Ok(Below::Nothing),
            Ok(Some(entry)) => match entry.kind {
                EntryKind::Folder => return Ok(Below::Tree(to_gix(&entry.oid))),
                EntryKind::File | EntryKind::Executable => Refusal::NotAFolder,
                EntryKind::Symlink => Refusal::Symlink,
                EntryKind::Submodule => Refusal::Submodule,
            },
            Err(error) => {
                self.refused.push((name.to_owned(), unreadable(error)?));
                return Ok(Below::Refused);
            }
        };
        // It is known what stands there, and that it is no folder: what was below is gone, as git sees it.
        self.refused.push((name.to_owned(), refusal));
        Ok(Below::Nothing)
    }

    fn compare(&mut self, old: Option<ObjectId>, new: Option<ObjectId>, under: Option<&RepoPath>) -> Result<(), Error> {
        let prefix = under.map_or_else(String::new, |path| format!("{}/", path.as_str().trim_end_matches('/')));
        // Whether it broke off is among the refused.
        let _ = self.trees(old, new, &prefix, 1)?;
        self.found.sort_by(|a, b| a.path.cmp(&b.path));
        self.refused.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(())
    }

    /// Two folders of one name.
    fn trees(&mut self, old: Option<ObjectId>, new: Option<ObjectId>, prefix: &str, depth: usize) -> Walked {
        if old == new {
            return Ok(ControlFlow::Continue(()));
        }
        if depth > self.limits.max_depth {
            if new.is_some() {
                self.refused.push((prefix.to_owned(), Refusal::TooDeep { limit: self.limits.max_depth }));
            }
            return Ok(ControlFlow::Continue(()));
        }
        let after = match new.map(|tree| self.repo.tree(tree)).transpose() {
            Ok(after) => after.unwrap_or_default(),
            Err(error) => {
                self.refused.push((prefix.to_owned(), unreadable(error)?));
                return Ok(ControlFlow::Continue(()));
            }
        };
        let before = match old.map(|tree| self.repo.tree(tree)).transpose() {
            Ok(before) => before.unwrap_or_default(),
            Err(error) => unreadable(error).map(|_| Vec::new())?,
        };
        let mut before: BTreeMap<Vec<u8>, RawEntry> =
            before.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        for entry in after {
            let was = before.remove(&entry.name);
            if was.as_ref().is_some_and(|was| was.oid == entry.oid && was.kind == entry.kind) {
                continue;
            }
            if self.name(was, Some(entry), prefix, depth)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        for (_, was) in before {
            if self.name(Some(was), None, prefix, depth)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// One name that differs; a folder on either side is gone into.
    fn name(&mut self, was: Option<RawEntry>, is: Option<RawEntry>, prefix: &str, depth: usize) -> Walked {
        let Some(any) = is.as_ref().or(was.as_ref()) else { return Ok(ControlFlow::Continue(())) };
        self.seen += 1;
        if self.seen > self.limits.max_files {
            let refusal = Refusal::TooMany { limit: self.limits.max_files };
            self.refused.push((shown(prefix, &any.name), refusal));
            return Ok(ControlFlow::Break(()));
        }
        let path = match join(prefix, any) {
            Ok(path) => path,
            Err(refusal) => {
                // What is removed harms nobody, whatever its name.
                if is.is_some() {
                    self.refused.push((shown(prefix, &any.name), refusal));
                }
                return Ok(ControlFlow::Continue(()));
            }
        };
        let tree = |entry: &Option<RawEntry>| {
            entry.as_ref().filter(|entry| entry.kind == EntryKind::Folder).map(|entry| entry.oid)
        };
        let (old_tree, new_tree) = (tree(&was), tree(&is));
        // Of what was never read the removal still counts: what was said of it is over.
        let old = was.filter(|entry| entry.kind != EntryKind::Folder);
        let old = old.map(|entry| Entry { oid: from_gix(entry.oid), kind: entry.kind });
        let new = match is.as_ref().map(|entry| self.file(entry)).transpose() {
            Ok(new) => new.flatten(),
            Err(refusal) => {
                self.refused.push((path.to_string(), refusal));
                None
            }
        };
        if old.is_some() || new.is_some() {
            self.found.push(FileChange { path: path.clone(), old, new });
        }
        if old_tree.is_some() || new_tree.is_some() {
            return self.trees(old_tree, new_tree, &format!("{path}/"), depth + 1);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// An entry as a file; `None` for a folder.
    fn file(&self, entry: &RawEntry) -> Result<Option<Entry>, Refusal> {
        match entry.kind {
            EntryKind::Folder => Ok(None),
            EntryKind::Submodule => Err(Refusal::Submodule),
            EntryKind::Symlink if self.links == Links::Refused => Err(Refusal::Symlink),
            kind @ (EntryKind::File | EntryKind::Executable | EntryKind::Symlink) => {
                Ok(Some(Entry { oid: from_gix(entry.oid), kind }))
            }
        }
    }
}

/// Whether to go on.
type Walked = Result<ControlFlow<()>, Error>;

/// What somebody could have pushed is refused; what only a failing disk explains is an error.
fn unreadable(error: Error) -> Result<Refusal, Error> {
    match error {
        Error::Damaged { .. } | Error::TooLarge { .. } => Ok(Refusal::Unreadable(error.to_string())),
        other => Err(other),
    }
}
