//! Objects by their ids, and what stands at a path of a commit (S6).
//!
//! An object's size is judged before it is read, and its bytes are hashed again afterwards, so that nothing here ever
//! hands out other bytes than the ones that were reviewed (S1).

use std::collections::HashSet;

use chiffon_schemas::{Oid, RepoPath};
use gix::ObjectId;
use gix::objs::tree::EntryMode;

use crate::repo::{from_gix, to_gix};
use crate::{Error, Refusal, Repo};

/// The largest listing of one folder: some 400 000 files of ordinary names.
const MAX_TREE_BYTES: u64 = 32 * 1024 * 1024;

/// The largest commit, which is as long as its message: far more than any that a person meant.
const MAX_COMMIT_BYTES: u64 = 16 * 1024 * 1024;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its object.
    pub oid: Oid,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A file that may be executed.
    Executable,
    /// A symbolic link.
    Symlink,
    /// A folder.
    Folder,
    /// A submodule.
    Submodule,
}

impl EntryKind {
    /// A file, executable or not.
    pub fn is_file(self) -> bool {
        matches!(self, Self::File | Self::Executable)
    }
}

/// An entry of one tree, by its raw name.
#[derive(Clone)]
pub(crate) struct RawEntry {
    pub name: Vec<u8>,
    pub oid: ObjectId,
    pub kind: EntryKind,
    /// As git has it: old repositories hold modes that no git writes any more, and an edit elsewhere leaves them.
    pub mode: EntryMode,
}

impl Repo {
    /// An object's bytes, where it is of the wanted kind.
    pub(crate) fn object(&self, oid: ObjectId, kind: gix::objs::Kind) -> Result<Vec<u8>, Error> {
        let limit = match kind {
            gix::objs::Kind::Tree => MAX_TREE_BYTES,
            gix::objs::Kind::Commit | gix::objs::Kind::Tag => MAX_COMMIT_BYTES,
            gix::objs::Kind::Blob => u64::MAX,
        };
        self.object_within(oid, kind, limit)
    }

    fn object_within(&self, oid: ObjectId, kind: gix::objs::Kind, limit: u64) -> Result<Vec<u8>, Error> {
        let fail = |reason: String| Error::Object { oid: from_gix(oid), reason };
        for repo in self.places() {
            let Some(header) = repo.try_find_header(oid).map_err(|error| fail(error.to_string()))? else { continue };
            if header.kind() != kind {
                let reason = format!("it is a {}, not a {kind}", header.kind());
                return Err(Error::Damaged { oid: from_gix(oid), reason });
            }
            if header.size() > limit {
                return Err(Error::TooLarge { oid: from_gix(oid), bytes: header.size(), limit });
            }
            let found = repo.try_find_object(oid).map_err(|error| fail(error.to_string()))?;
            let Some(object) = found else { continue };
            let data = object.detach().data;
            let hash = gix::objs::compute_hash(oid.kind(), kind, &data).map_err(|error| fail(error.to_string()))?;
            if hash != oid {
                return Err(Error::Damaged { oid: from_gix(oid), reason: "its bytes have another id".to_owned() });
            }
            return Ok(data);
        }
        Err(fail("it is missing".to_owned()))
    }

    /// A tree's entries in git's order.
    ///
    /// Names that stand twice or out of order would be one file to one reader and another file to the next: such a
    /// tree is damaged, as it is to `git fsck`.
    pub(crate) fn tree(&self, oid: ObjectId) -> Result<Vec<RawEntry>, Error> {
        let data = self.object(oid, gix::objs::Kind::Tree)?;
        let damaged = |reason: String| Error::Damaged { oid: from_gix(oid), reason };
        let mut entries: Vec<RawEntry> = Vec::new();
        let mut rest = data.as_slice();
        for entry in gix::objs::TreeRefIter::from_bytes(&data, gix::hash::Kind::Sha1) {
            let entry = entry.map_err(|error| damaged(error.to_string()))?;
            rest = after_known_mode(rest, entry.filename.len())
                .ok_or_else(|| damaged("an entry is of no kind that git knows".to_owned()))?;
            use gix::objs::tree::EntryKind as Kind;
            let kind = match entry.mode.kind() {
                Kind::Tree => EntryKind::Folder,
                Kind::Blob => EntryKind::File,
                Kind::BlobExecutable => EntryKind::Executable,
                Kind::Link => EntryKind::Symlink,
                Kind::Commit => EntryKind::Submodule,
            };
            let name = entry.filename.to_vec();
            let after = entries.last().is_none_or(|last| {
                let (last_folder, folder) = (last.kind == EntryKind::Folder, kind == EntryKind::Folder);
                gix::objs::tree::name_order(&last.name, last_folder, &name, folder).is_lt()
            });
            if !after {
                return Err(damaged("its names are out of order, or one stands twice".to_owned()));
            }
            entries.push(RawEntry { name, oid: entry.oid.to_owned(), kind, mode: entry.mode });
        }
        // A file and a folder of one name may stand apart from each other in git's order.
        let files: HashSet<&[u8]> =
            entries.iter().filter(|e| e.kind != EntryKind::Folder).map(|e| &e.name[..]).collect();
        if entries.iter().any(|entry| entry.kind == EntryKind::Folder && files.contains(&entry.name[..])) {
            return Err(damaged("a file and a folder have one name".to_owned()));
        }
        Ok(entries)
    }

    /// Whether an object is here.
    pub fn holds(&self, oid: &Oid) -> bool {
        let id = to_gix(oid);
        self.places().iter().any(|place| place.has_object(id))
    }

    /// What stands at a path; one that ends in `/` is only met by a folder. Symbolic links are not followed.
    ///
    /// # Errors
    /// An object is missing or damaged.
    pub fn entry_at(&self, commit: &Oid, path: &RepoPath) -> Result<Option<Entry>, Error> {
        let mut tree = to_gix(&self.tree_of(commit)?);
        let parts: Vec<&str> = path.as_str().trim_end_matches('/').split('/').collect();
        for (index, part) in parts.iter().enumerate() {
            let found = self.tree(tree)?.into_iter().find(|entry| entry.name == part.as_bytes());
            let Some(entry) = found else { return Ok(None) };
            if index + 1 == parts.len() {
                let fits = !path.is_folder() || entry.kind == EntryKind::Folder;
                return Ok(fits.then(|| Entry { oid: from_gix(entry.oid), kind: entry.kind }));
            }
            if entry.kind != EntryKind::Folder {
                return Ok(None);
            }
            tree = entry.oid;
        }
        Ok(None)
    }

    /// The file at a path; symbolic links, folders and submodules are none.
    ///
    /// A link whose target is the text of a plan has the same object id as that plan, so a caller that compares ids
    /// must use this and not [`Repo::entry_at`].
    ///
    /// # Errors
    /// An object is missing or damaged.
    pub fn blob_at(&self, commit: &Oid, path: &RepoPath) -> Result<Option<Entry>, Error> {
        Ok(self.entry_at(commit, path)?.filter(|entry| entry.kind.is_file()))
    }

    /// A blob's bytes; its size is judged before it is read.
    ///
    /// # Errors
    /// It is missing, damaged, no blob, or larger than `max_bytes`.
    pub fn read_blob(&self, oid: &Oid, max_bytes: u64) -> Result<Vec<u8>, Error> {
        self.object_within(to_gix(oid), gix::objs::Kind::Blob, max_bytes)
    }

    /// A document at a path: a regular file, within its limit, UTF-8, and no pointer to something else.
    ///
    /// # Errors
    /// Why it is not read, in words.
    pub fn read_document(&self, commit: &Oid, path: &RepoPath, limit: u64) -> Result<Vec<u8>, Refusal> {
        let unreadable = |error: Error| Refusal::Unreadable(error.to_string());
        let entry = self.entry_at(commit, path).map_err(unreadable)?.ok_or(Refusal::Missing)?;
        match entry.kind {
            EntryKind::File | EntryKind::Executable => {}
            EntryKind::Symlink => return Err(Refusal::Symlink),
            EntryKind::Submodule => return Err(Refusal::Submodule),
            EntryKind::Folder => return Err(Refusal::NotAFile),
        }
        let bytes = match self.read_blob(&entry.oid, limit) {
            Ok(bytes) => bytes,
            Err(Error::TooLarge { bytes, limit, .. }) => return Err(Refusal::TooLarge { bytes, limit }),
            Err(error) => return Err(unreadable(error)),
        };
        if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
            return Err(Refusal::LfsPointer);
        }
        if std::str::from_utf8(&bytes).is_err() {
            return Err(Refusal::NotUtf8);
        }
        Ok(bytes)
    }
}

/// The listing after its first entry, whose name has `name_len` bytes; `None` where that entry's mode is none of git's.
///
/// gix takes every mode that it does not know for a submodule, and `140000` for a folder, where git has a submodule.
fn after_known_mode(listing: &[u8], name_len: usize) -> Option<&[u8]> {
    let end = listing.iter().position(|byte| *byte == b' ')?;
    let mode = u32::from_str_radix(std::str::from_utf8(&listing[..end]).ok()?, 8).ok()?;
    let known = matches!(mode & !0o7777, 0o040_000 | 0o100_000 | 0o120_000 | 0o160_000);
    // A space, the name, a zero, and the id.
    let rest = listing.get(end + 1 + name_len + 1 + gix::hash::Kind::Sha1.len_in_bytes()..)?;
    known.then_some(rest)
}
