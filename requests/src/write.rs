//! Commits without a work tree, and refs by compare-and-swap.

use std::collections::BTreeMap;

use chiffon_schemas::{Name, Oid, RepoPath};
use gix::ObjectId;
use gix::refs::Target;
use gix::refs::transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog};

use crate::objects::RawEntry;
use crate::repo::{from_gix, to_gix};
use crate::{EntryKind, Error, RefName, Repo, Signature};

/// What the branch must be for the commit to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// At this commit.
    Tip(Oid),
    /// Not there.
    New,
    /// Anything: the tip is read first, and must not move until the commit is written.
    Any,
}

/// A commit to be made.
#[derive(Debug, Clone)]
pub struct Edit {
    /// The branch that moves to it.
    pub branch: RefName,
    /// What the branch must be.
    pub expect: Expect,
    /// Its parents; `None` means the branch's tip, where there is one.
    pub parents: Option<Vec<Oid>>,
    /// The commit whose tree is edited; `None` means the branch's tip, or an empty tree.
    pub base: Option<Oid>,
    /// Files to write, or to remove (`None`).
    pub changes: Vec<(RepoPath, Option<Vec<u8>>)>,
    /// The message.
    pub message: String,
    /// Who wrote it.
    pub author: Signature,
    /// Who committed it.
    pub committer: Signature,
    /// Whether a commit is made even if its tree is its first parent's.
    pub allow_empty: bool,
}

/// A commit that was made, or the tip where nothing would have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// It.
    pub commit: Oid,
    /// Whether it is new.
    pub changed: bool,
}

/// A tree under construction: what changes in it, by name.
#[derive(Default)]
struct Plan<'a> {
    files: BTreeMap<&'a str, Option<&'a [u8]>>,
    folders: BTreeMap<&'a str, Plan<'a>>,
}

impl<'a> Plan<'a> {
    fn add(&mut self, path: &'a str, content: Option<&'a [u8]>) {
        match path.split_once('/') {
            Some((folder, rest)) if !rest.is_empty() => self.folders.entry(folder).or_default().add(rest, content),
            _ => {
                self.files.insert(path.trim_end_matches('/'), content);
            }
        }
    }
}

impl Repo {
    /// Makes a commit and moves the branch to it, unless somebody else moved it in the meantime.
    ///
    /// # Errors
    /// [`Error::Moved`] where somebody did; or the repository can't be read or written.
    pub fn commit(&self, edit: &Edit) -> Result<Committed, Error> {
        let (made, tip) = self.make(edit)?;
        if made.changed {
            self.swap(&edit.branch, Some(&made.commit), tip.as_ref())?;
        }
        Ok(made)
    }

    /// Makes a commit and moves no branch: it is to be pushed to where the branch really is.
    ///
    /// # Errors
    /// As [`Repo::commit`].
    pub fn prepare(&self, edit: &Edit) -> Result<Committed, Error> {
        Ok(self.make(edit)?.0)
    }

    /// A commit, and the tip that its branch has now.
    fn make(&self, edit: &Edit) -> Result<(Committed, Option<Oid>), Error> {
        let tip = self.reference(&edit.branch)?;
        let fits = match &edit.expect {
            Expect::Tip(expected) => tip.as_ref() == Some(expected),
            Expect::New => tip.is_none(),
            Expect::Any => true,
        };
        if !fits {
            return Err(Error::Moved { name: edit.branch.to_string() });
        }
        let base = edit.base.clone().or_else(|| tip.clone());
        let before = base.as_ref().map(|commit| self.tree_of(commit)).transpose()?;
        let mut plan = Plan::default();
        for (path, content) in &edit.changes {
            plan.add(path.as_str(), content.as_deref());
        }
        let tree = self.write_tree(before.as_ref().map(to_gix), &plan)?;
        let tree = match tree {
            Some(tree) => tree,
            None => self.write_object(&gix::objs::Tree::empty())?,
        };
        let unchanged = before.as_ref().is_some_and(|before| to_gix(before) == tree);
        if unchanged
            && !edit.allow_empty
            && let Some(tip) = tip
        {
            return Ok((Committed { commit: tip.clone(), changed: false }, Some(tip)));
        }
        let parents = edit.parents.clone().unwrap_or_else(|| tip.iter().cloned().collect());
        let commit = gix::objs::Commit {
            tree,
            parents: parents.iter().map(to_gix).collect(),
            author: edit.author.to_gix(),
            committer: edit.committer.to_gix(),
            encoding: None,
            message: message(&edit.message).into(),
            extra_headers: Vec::new(),
        };
        let commit = from_gix(self.write_object(&commit)?);
        Ok((Committed { commit, changed: true }, tip))
    }

    /// Makes a commit, again on each new tip where somebody was faster, at most `tries` times.
    ///
    /// # Errors
    /// As [`Repo::commit`], and whatever `edit` fails with.
    pub fn commit_with_retry<E: From<Error>>(
        &self,
        branch: &RefName,
        tries: usize,
        mut edit: impl FnMut(Option<&Oid>) -> Result<Edit, E>,
    ) -> Result<Committed, E> {
        let mut attempt = 1;
        loop {
            let tip = self.reference(branch)?;
            let edit = Edit { branch: branch.clone(), ..edit(tip.as_ref())? };
            match self.commit(&edit) {
                Err(Error::Moved { .. }) if attempt < tries => attempt += 1,
                done => return Ok(done?),
            }
        }
    }

    fn write_object(&self, object: &impl gix::objs::WriteTo) -> Result<ObjectId, Error> {
        let repo = self.gix();
        let id = repo.write_object(object).map_err(|error| self.write_error(error.to_string()))?;
        Ok(id.detach())
    }

    fn write_error(&self, reason: String) -> Error {
        Error::Write { path: self.path().to_owned(), reason }
    }

    /// Writes a tree with its changes; `None` where nothing is left in it, since git knows no empty folders.
    fn write_tree(&self, before: Option<ObjectId>, plan: &Plan<'_>) -> Result<Option<ObjectId>, Error> {
        let entries = before.map(|tree| self.tree(tree)).transpose()?.unwrap_or_default();
        let mut by_name: BTreeMap<Vec<u8>, RawEntry> =
            entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        let repo = self.gix();
        for (name, content) in &plan.files {
            let Some(bytes) = content else {
                by_name.remove(name.as_bytes());
                continue;
            };
            let id = repo.write_blob(bytes).map_err(|error| self.write_error(error.to_string()))?.detach();
            let executable = by_name.get(name.as_bytes()).is_some_and(|old| old.kind == EntryKind::Executable);
            let kind = if executable { EntryKind::Executable } else { EntryKind::File };
            by_name.insert(name.as_bytes().to_vec(), new_entry(name, id, kind));
        }
        for (name, inner) in &plan.folders {
            let old = by_name.get(name.as_bytes()).filter(|old| old.kind == EntryKind::Folder).map(|old| old.oid);
            match (self.write_tree(old, inner)?, old) {
                (Some(id), _) => {
                    by_name.insert(name.as_bytes().to_vec(), new_entry(name, id, EntryKind::Folder));
                }
                (None, Some(_)) => {
                    by_name.remove(name.as_bytes());
                }
                // Nothing was there to remove; what has the folder's name is something else and stays.
                (None, None) => {}
            }
        }
        if by_name.is_empty() {
            return Ok(None);
        }
        let entry =
            |entry: RawEntry| gix::objs::tree::Entry { mode: entry.mode, filename: entry.name.into(), oid: entry.oid };
        let mut tree = gix::objs::Tree { entries: by_name.into_values().map(entry).collect() };
        tree.entries.sort();
        self.write_object(&tree).map(Some)
    }

    /// Moves a ref from what it must be (`None`: not there) to a commit.
    ///
    /// # Errors
    /// [`Error::Moved`] where it is something else.
    pub fn set_ref(&self, name: &RefName, new: &Oid, expected: Option<&Oid>) -> Result<(), Error> {
        self.swap(name, Some(new), expected)
    }

    /// Removes a ref that must be at this commit.
    ///
    /// # Errors
    /// [`Error::Moved`] where it is not.
    pub fn delete_ref(&self, name: &RefName, expected: &Oid) -> Result<(), Error> {
        self.swap(name, None, Some(expected))
    }

    fn swap(&self, name: &RefName, new: Option<&Oid>, expected: Option<&Oid>) -> Result<(), Error> {
        let fail = |reason: String| Error::Reference { name: name.to_string(), reason };
        let full = gix::refs::FullName::try_from(name.as_str()).map_err(|error| fail(error.to_string()))?;
        let previous = match expected {
            Some(oid) => PreviousValue::MustExistAndMatch(Target::Object(to_gix(oid))),
            None => PreviousValue::MustNotExist,
        };
        let change = match new {
            Some(oid) => Change::Update {
                // Bare repositories keep no reflog; the audit branch is the record.
                log: LogChange { mode: RefLog::AndReference, force_create_reflog: false, message: "chiffon".into() },
                expected: previous,
                new: Target::Object(to_gix(oid)),
            },
            None => Change::Delete { expected: previous, log: RefLog::AndReference },
        };
        let edit = RefEdit { change, name: full, deref: false };
        let repo = self.gix();
        // No reflog means no need for a committer from anybody's configuration.
        let committer = Signature::chiffon(chiffon_schemas::Timestamp::from_secs(0)).to_gix();
        let mut buffer = gix::date::parse::TimeBuf::default();
        let committer = committer.to_ref(&mut buffer);
        match repo.edit_references_as(Some(edit), Some(committer)) {
            Ok(_) => Ok(()),
            Err(error) => {
                // Told apart by looking, not by the error's words.
                let now = self.reference(name)?;
                if now.as_ref() == expected {
                    Err(fail(error.to_string()))
                } else {
                    Err(Error::Moved { name: name.to_string() })
                }
            }
        }
    }

    /// Keeps a commit alive for as long as a plan may need it. Harmless when repeated.
    ///
    /// # Errors
    /// The repository can't be written, or the plan is pinned to another commit.
    pub fn pin(&self, plan: &Oid, commit: &Oid) -> Result<(), Error> {
        let name = RefName::pin(plan);
        match self.reference(&name)? {
            Some(known) if &known == commit => Ok(()),
            known => self.set_ref(&name, commit, known.as_ref()),
        }
    }

    /// Keeps a commit of a request's plan branch that would be lost; gives the reference back. Harmless when repeated.
    ///
    /// # Errors
    /// The commit is not there, or the repository can't be written.
    pub fn keep(&self, request: &Name, commit: &Oid) -> Result<RefName, Error> {
        let name = RefName::kept(request, commit);
        if self.reference(&name)?.is_none() {
            self.set_ref(&name, commit, None)?;
        }
        Ok(name)
    }

    /// Every pinned plan with its commit.
    ///
    /// # Errors
    /// The repository can't be read.
    pub fn pins(&self) -> Result<Vec<(Oid, Oid)>, Error> {
        let pins = self.references(RefName::PINS)?;
        let plan = |name: &RefName| Oid::parse(name.as_str().strip_prefix(RefName::PINS)?).ok();
        Ok(pins.into_iter().filter_map(|(name, commit)| Some((plan(&name)?, commit))).collect())
    }

    /// Lets a plan's commit go. Harmless when repeated.
    ///
    /// # Errors
    /// The repository can't be written.
    pub fn unpin(&self, plan: &Oid) -> Result<(), Error> {
        let name = RefName::pin(plan);
        match self.reference(&name)? {
            Some(known) => self.delete_ref(&name, &known),
            None => Ok(()),
        }
    }
}

fn new_entry(name: &str, oid: ObjectId, kind: EntryKind) -> RawEntry {
    use gix::objs::tree::EntryKind as Kind;
    let mode = match kind {
        EntryKind::File => Kind::Blob,
        EntryKind::Executable => Kind::BlobExecutable,
        EntryKind::Symlink => Kind::Link,
        EntryKind::Folder => Kind::Tree,
        EntryKind::Submodule => Kind::Commit,
    };
    RawEntry { name: name.as_bytes().to_vec(), oid, kind, mode: mode.into() }
}

/// A message as git would store it: no NUL, and a line break at its end.
fn message(text: &str) -> String {
    let text = text.replace('\0', "");
    format!("{}\n", text.trim_end_matches('\n'))
}
