//! The files of one commit, as the readers of the catalogue see them: paths, object ids, and bytes read when asked for.
//!
//! Symlinks are followed as data, never by the file system; what escapes the tree is an error with its reason. A test
//! fills this from a folder, production from git objects.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use chiffon_schemas::{Oid, Pin, RepoPath};

/// The most bytes that a file may have to be read as configuration: 1 MiB; hand-written YAML stays far below.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// How many links may lead to a file before it counts as a loop.
const MAX_LINKS: usize = 16;

/// What a path of the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A plain file.
    File,
    /// A plain file that may be executed: as an inventory it would be a program.
    Executable,
    /// A symlink; its blob is the target.
    Link,
    /// A submodule: its content is not in this repository.
    Submodule,
    /// A folder.
    Folder,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its object.
    pub oid: Oid,
}

/// Why a file can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is nothing at this path.
    #[error("{0} is not there")]
    Missing(String),
    /// A link leads out of the repository, or in a circle.
    #[error("{0} is a link that leaves the repository or runs in a circle")]
    Escapes(String),
    /// A submodule.
    #[error("{0} lies in a submodule, whose content this repository does not have")]
    Submodule(String),
    /// Not a file.
    #[error("{0} is a folder")]
    Folder(String),
    /// More than [`MAX_FILE_BYTES`], or the object can't be had.
    #[error("{path} can't be read: {reason}")]
    Object {
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
    /// Bytes that are no text.
    #[error("{0} is not UTF-8 text")]
    NotText(String),
}

type ReadBlob<'a> = Box<dyn Fn(&Oid, u64) -> Result<Vec<u8>, String> + 'a>;

/// The files of one commit.
pub struct Files<'a> {
    entries: BTreeMap<String, Entry>,
    read: ReadBlob<'a>,
    texts: RefCell<BTreeMap<Oid, Rc<str>>>,
}

impl<'a> Files<'a> {
    /// From all paths (folders without a trailing slash) and a way to read blobs.
    pub fn new(entries: BTreeMap<String, Entry>, read: impl Fn(&Oid, u64) -> Result<Vec<u8>, String> + 'a) -> Self {
        Self { entries, read: Box::new(read), texts: RefCell::default() }
    }

    /// The entry of a path as it stands, links not followed.
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path.trim_end_matches('/'))
    }

    /// All paths in order.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The names directly in a folder (links inside the tree followed), sorted; empty where there is none.
    pub fn names_in(&self, folder: &str) -> Vec<String> {
        let Ok(folder) = self.resolve(folder) else { return Vec::new() };
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let below = self.entries.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let names: BTreeSet<&str> = below
            .map(|(path, _)| &path[prefix.len()..])
            .filter(|rest| !rest.is_empty() && !rest.contains('/'))
            .collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// Follows links until the path names something that is none; `a/../b` is worked out as text.
    ///
    /// # Errors
    /// Nothing is there, or a link escapes.
    pub fn resolve(&self, path: &str) -> Result<String, Unreadable> {
        let mut links = 0;
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop().ok_or_else(|| Unreadable::Escapes(path.to_owned()))?;
                    continue;
                }
                _ => done.push(part),
            }
            let here = done.join("/");
            let entry = self.entries.get(&here).ok_or_else(|| Unreadable::Missing(path.to_owned()))?;
            match entry.kind {
                Kind::Submodule => return Err(Unreadable::Submodule(path.to_owned())),
                Kind::Link => {
                    links += 1;
                    let target = self.link_target(path, &entry.oid)?;
                    if links > MAX_LINKS || target.starts_with('/') {
                        return Err(Unreadable::Escapes(path.to_owned()));
                    }
                    done.pop();
                    todo.extend(target.split('/').rev().map(str::to_owned));
                }
                Kind::File | Kind::Executable | Kind::Folder => {}
            }
        }
        Ok(done.join("/"))
    }

    fn link_target(&self, path: &str, oid: &Oid) -> Result<String, Unreadable> {
        let bytes = (self.read)(oid, 4096).map_err(|_| Unreadable::Escapes(path.to_owned()))?;
        String::from_utf8(bytes).map_err(|_| Unreadable::Escapes(path.to_owned()))
    }

    /// Whether a path names a file, links followed.
    pub fn is_file(&self, path: &str) -> bool {
        self.resolve(path)
            .ok()
            .and_then(|path| self.entries.get(&path))
            .is_some_and(|entry| matches!(entry.kind, Kind::File | Kind::Executable))
    }

    /// Whether a path names a folder, links followed.
    pub fn is_folder(&self, path: &str) -> bool {
        self.resolve(path)
            .ok()
            .is_some_and(|path| path.is_empty() || self.entries.get(&path).is_some_and(|e| e.kind == Kind::Folder))
    }

    /// The text of a file, links followed.
    ///
    /// # Errors
    /// Why it can't be read.
    pub fn text(&self, path: &str) -> Result<Rc<str>, Unreadable> {
        let resolved = self.resolve(path)?;
        let entry = self.entries.get(&resolved).ok_or_else(|| Unreadable::Missing(path.to_owned()))?;
        if entry.kind == Kind::Folder {
            return Err(Unreadable::Folder(path.to_owned()));
        }
        if let Some(text) = self.texts.borrow().get(&entry.oid) {
            return Ok(Rc::clone(text));
        }
        let bytes = (self.read)(&entry.oid, MAX_FILE_BYTES)
            .map_err(|reason| Unreadable::Object { path: path.to_owned(), reason })?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let reason = format!("it has more than {MAX_FILE_BYTES} bytes");
            return Err(Unreadable::Object { path: path.to_owned(), reason });
        }
        let text = String::from_utf8(bytes).map_err(|_| Unreadable::NotText(path.to_owned()))?;
        let text: Rc<str> = Rc::from(text.trim_start_matches('\u{feff}'));
        self.texts.borrow_mut().insert(entry.oid.clone(), Rc::clone(&text));
        Ok(text)
    }

    /// What pins a path: its object as it stands (a link by its own blob), or its absence; folders end in `/`.
    pub fn pin(&self, path: &str) -> Option<(RepoPath, Pin)> {
        let bare = path.trim_end_matches('/');
        match self.entries.get(bare) {
            Some(entry) => {
                let name = if entry.kind == Kind::Folder { format!("{bare}/") } else { bare.to_owned() };
                Some((RepoPath::parse(name).ok()?, Pin::Object(entry.oid.clone())))
            }
            None => Some((RepoPath::parse(path).ok()?, Pin::Absent)),
        }
    }

    /// Pins of a path, of what it leads to where links are on the way, and of those links.
    pub fn pins(&self, path: &str) -> Vec<(RepoPath, Pin)> {
        let mut found: Vec<(RepoPath, Pin)> = Vec::new();
        let mut prefix = String::new();
        for part in path.trim_end_matches('/').split('/') {
            prefix = if prefix.is_empty() { part.to_owned() } else { format!("{prefix}/{part}") };
            if self.entries.get(&prefix).is_some_and(|entry| entry.kind == Kind::Link) {
                found.extend(self.pin(&prefix));
                if let Ok(target) = self.resolve(path) {
                    found.extend(self.pin(&target));
                }
                return found;
            }
        }
        found.extend(self.pin(path));
        found
    }
}

/// Joins a folder and a relative path as text; the result may still hold `..`, which [`Files::resolve`] works out.
pub fn join(folder: &str, rest: &str) -> String {
    let folder = folder.trim_end_matches('/');
    if folder.is_empty() { rest.to_owned() } else { format!("{folder}/{rest}") }
}

/// The folder of a path, without a slash at its end; empty for the root.
pub fn parent(path: &str) -> &str {
    path.trim_end_matches('/').rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Works out `.` and `..` as text; `None` where it leaves the tree.
pub fn normal(path: &str) -> Option<String> {
    let mut done: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                done.pop()?;
            }
            part => done.push(part),
        }
    }
    Some(done.join("/"))
}
