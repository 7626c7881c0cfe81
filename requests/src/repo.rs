//! A bare repository on disk: how it is opened, its refs and its commits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chiffon_schemas::{Oid, Timestamp};
use gix::ObjectId;

use crate::{Error, RefName, Signature};

/// Settings that no repository's own configuration can change.
///
/// Without the first, whoever may push `refs/replace/<oid>` decides what the bytes of a reviewed object are (S1). The
/// others are how long another writer of the same ref is waited for, in milliseconds; git's 100 are too few for a
/// disk that is busy.
const SETTINGS: [&str; 3] =
    ["core.useReplaceRefs=false", "core.filesRefLockTimeout=5000", "core.packedRefsTimeout=5000"];

/// Packs that a repository may come to hold while it is open; at the limit, objects in further packs are not found.
const PACK_SLOTS: gix::odb::store::init::Slots =
    gix::odb::store::init::Slots::AsNeededByDiskState { multiplier: 2.0, minimum: 1024 };

/// A repository. Cheap to clone, and safe to use from several threads.
#[derive(Clone)]
pub struct Repo {
    path: PathBuf,
    main: gix::ThreadSafeRepository,
    /// Objects of a push that git keeps in quarantine until its hook agrees.
    quarantine: Option<Arc<Quarantine>>,
}

struct Quarantine {
    repo: gix::ThreadSafeRepository,
    /// A skeleton of a repository that borrows the quarantine's objects; removed with this value.
    _skeleton: tempfile::TempDir,
}

impl std::fmt::Debug for Repo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repo").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its tree.
    pub tree: Oid,
    /// Its parents, first first.
    pub parents: Vec<Oid>,
    /// Who wrote it.
    pub author: Signature,
    /// Who committed it.
    pub committer: Signature,
    /// Its message.
    pub message: String,
}

/// An id that this kind of repository can't have becomes one that no object has.
pub(crate) fn to_gix(oid: &Oid) -> ObjectId {
    ObjectId::from_hex(oid.as_str().as_bytes()).unwrap_or_else(|_| ObjectId::null(gix::hash::Kind::Sha1))
}

pub(crate) fn from_gix(oid: ObjectId) -> Oid {
    Oid::parse(oid.to_hex().to_string()).expect("git's ids are hexadecimal")
}

fn open_isolated(path: &Path) -> Result<gix::ThreadSafeRepository, Error> {
    let fail = |reason: String| Error::Open { path: path.to_owned(), reason };
    let path = std::fs::canonicalize(path).map_err(|error| fail(error.to_string()))?;
    // Isolated: no configuration but the repository's own, no environment; and nothing here runs programs.
    let options = gix::open::Options::isolated().object_store_slots(PACK_SLOTS).config_overrides(SETTINGS);
    options.open(path.clone()).map_err(|error| fail(error.to_string()))
}

impl Repo {
    /// Opens a bare repository, or the one of a work tree.
    ///
    /// # Errors
    /// There is none, or it can't be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let main = open_isolated(path)?;
        Ok(Self { path: main.refs.git_dir().to_owned(), main, quarantine: None })
    }

    /// Opens a repository inside git's pre-receive hook, with the quarantined objects of the push.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn open_with_objects(path: &Path, objects: &Path) -> Result<Self, Error> {
        let mut repo = Self::open(path)?;
        let io = |source| Error::Io { path: objects.to_owned(), source };
        let skeleton = tempfile::tempdir().map_err(io)?;
        let root = skeleton.path();
        for folder in ["objects/info", "refs/heads"] {
            std::fs::create_dir_all(root.join(folder)).map_err(io)?;
        }
        std::fs::write(root.join("HEAD"), "ref: refs/heads/main\n").map_err(io)?;
        std::fs::write(root.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = true\n").map_err(io)?;
        let objects = std::fs::canonicalize(objects).map_err(io)?;
        std::fs::write(root.join("objects/info/alternates"), format!("{}\n", objects.display())).map_err(io)?;
        let borrowed = open_isolated(root)?;
        repo.quarantine = Some(Arc::new(Quarantine { repo: borrowed, _skeleton: skeleton }));
        Ok(repo)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn gix(&self) -> gix::Repository {
        self.main.to_thread_local()
    }

    /// Where objects are looked for, first first.
    pub(crate) fn places(&self) -> Vec<gix::Repository> {
        let borrowed = self.quarantine.as_ref().map(|other| other.repo.to_thread_local());
        borrowed.into_iter().chain([self.gix()]).collect()
    }

    /// The commit that a ref points at; `None` where there is no such ref.
    ///
    /// # Errors
    /// The repository can't be read.
    pub fn reference(&self, name: &RefName) -> Result<Option<Oid>, Error> {
        let fail = |reason: String| Error::Reference { name: name.to_string(), reason };
        let repo = self.gix();
        let found = repo.try_find_reference(name.as_str()).map_err(|error| fail(error.to_string()))?;
        let Some(mut reference) = found else { return Ok(None) };
        let id = reference.peel_to_id().map_err(|error| fail(error.to_string()))?;
        Ok(Some(from_gix(id.detach())))
    }

    /// Every ref under a prefix like `refs/heads/chiffon/plan/`, sorted. Names that are no [`RefName`] are left out.
    ///
    /// # Errors
    /// The repository can't be read.
    pub fn references(&self, prefix: &str) -> Result<Vec<(RefName, Oid)>, Error> {
        let fail = |reason: String| Error::Reference { name: prefix.to_owned(), reason };
        let repo = self.gix();
        let platform = repo.references().map_err(|error| fail(error.to_string()))?;
        let iter = platform.prefixed(prefix).map_err(|error| fail(error.to_string()))?;
        let mut found = Vec::new();
        for reference in iter {
            let mut reference = reference.map_err(|error| fail(error.to_string()))?;
            // Names that we would never write are somebody else's.
            let Ok(name) = RefName::parse(&reference.name().as_bstr().to_string()) else { continue };
            let id = reference.peel_to_id().map_err(|error| fail(error.to_string()))?;
            found.push((name, from_gix(id.detach())));
        }
        found.sort();
        Ok(found)
    }

    /// A commit.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn commit_info(&self, commit: &Oid) -> Result<CommitInfo, Error> {
        let data = self.object(to_gix(commit), gix::objs::Kind::Commit)?;
        let fail = |reason: String| Error::Damaged { oid: commit.clone(), reason };
        let parsed =
            gix::objs::CommitRef::from_bytes(&data, gix::hash::Kind::Sha1).map_err(|error| fail(error.to_string()))?;
        let person = |signature: gix::actor::SignatureRef<'_>| Signature {
            name: signature.name.to_string(),
            email: signature.email.to_string(),
            time: Timestamp::from_secs(signature.seconds()),
        };
        let author = parsed.author().map_err(|error| fail(error.to_string()))?;
        let committer = parsed.committer().map_err(|error| fail(error.to_string()))?;
        Ok(CommitInfo {
            tree: from_gix(parsed.tree()),
            parents: parsed.parents().map(from_gix).collect(),
            author: person(author),
            committer: person(committer),
            message: parsed.message.to_string(),
        })
    }

    /// The tree of a commit.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn tree_of(&self, commit: &Oid) -> Result<Oid, Error> {
        Ok(self.links(commit)?.tree)
    }

    /// The parents of a commit, first first.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn parents(&self, commit: &Oid) -> Result<Vec<Oid>, Error> {
        Ok(self.links(commit)?.parents)
    }

    /// What a commit points at. Unlike [`Repo::commit_info`], this needs nothing of what its maker wrote by hand.
    pub(crate) fn links(&self, commit: &Oid) -> Result<Links, Error> {
        let data = self.object(to_gix(commit), gix::objs::Kind::Commit)?;
        let mut fields = gix::objs::CommitRefIter::from_bytes(&data, gix::hash::Kind::Sha1);
        // A person's clock only orders searches: a date that can't be read is the oldest.
        let time = fields.committer().map_or(0, |by| by.seconds());
        let parents = fields.parent_ids().map(from_gix).collect();
        let tree =
            fields.tree_id().map_err(|error| Error::Damaged { oid: commit.clone(), reason: error.to_string() })?;
        Ok(Links { tree: from_gix(tree), parents, time })
    }
}

/// What a commit points at, and when it was made, in seconds.
pub(crate) struct Links {
    pub tree: Oid,
    pub parents: Vec<Oid>,
    pub time: i64,
}
