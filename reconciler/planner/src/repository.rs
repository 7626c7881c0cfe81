//! The catalogue of a commit of a git repository: paths and blobs from its objects, never from a checkout.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::catalogue::{Catalogue, Finding, Source};
use chiffon_requests::{EntryKind, Refusal, Repo, WalkLimits};
use chiffon_schemas::{InfraRef, Name, Oid, RepoPath};

use crate::catalogue;
use crate::files::{Entry, Files, Kind};

/// An infra repository with more files than this is no hand-made one; the rest is left out, with a finding.
const LIMITS: WalkLimits = WalkLimits { max_files: 50_000, max_depth: 32, max_bytes: u64::MAX };

/// Why a catalogue can't be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The repository or the commit can't be read.
    #[error("commit {commit} of the infra repository can't be read")]
    Repository {
        /// The commit.
        commit: Oid,
        /// Why.
        #[source]
        source: chiffon_requests::Error,
    },
}

/// Reads the catalogue of a commit.
///
/// # Errors
/// The commit or an object of it can't be read from the repository, which says nothing about what it holds. Files that
/// are there and can't be used are findings of the catalogue.
pub fn read_catalogue(
    repo: &Repo,
    commit: &Oid,
    repository: &Name,
    inventory: &RepoPath,
) -> Result<Catalogue, ReadError> {
    let failed = |source| ReadError::Repository { commit: commit.clone(), source };
    let tree = repo.tree_of(commit).map_err(failed)?;
    let walk = repo.walk(commit, None, &LIMITS).map_err(failed)?;
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let mut folders: BTreeSet<String> = BTreeSet::new();
    for (path, entry) in walk.entries {
        let kind = match entry.kind {
            EntryKind::File => Kind::File,
            EntryKind::Executable => Kind::Executable,
            EntryKind::Symlink => Kind::Link,
            EntryKind::Submodule => Kind::Submodule,
            EntryKind::Folder => Kind::Folder,
        };
        add_folders(path.as_str(), &mut folders);
        entries.insert(path.as_str().to_owned(), Entry { kind, oid: entry.oid });
    }
    let mut findings = Vec::new();
    for (path, refusal) in walk.refused {
        let parsed = RepoPath::parse(path.trim_end_matches('/'));
        let submodule = matches!(refusal, Refusal::Submodule);
        if let (true, Ok(known)) = (submodule, &parsed)
            && let Some(entry) = repo.entry_at(commit, known).map_err(failed)?
        {
            add_folders(known.as_str(), &mut folders);
            entries.insert(known.as_str().to_owned(), Entry { kind: Kind::Submodule, oid: entry.oid });
            continue;
        }
        let at = Source { path: parsed.unwrap_or_else(|_| inventory.clone()), line: 0 };
        let shown: String = path.chars().filter(|c| !c.is_control()).take(200).collect();
        findings.push(Finding { at, message: format!("{shown} is left out: {refusal}") });
    }
    for folder in folders {
        let Ok(path) = RepoPath::parse(folder.as_str()) else { continue };
        if let Some(entry) = repo.entry_at(commit, &path).map_err(failed)? {
            entries.insert(folder, Entry { kind: Kind::Folder, oid: entry.oid });
        }
    }
    // The first object that the repository could not give: a catalogue without it would deny what it does not know.
    let lost = RefCell::new(None);
    let files = Files::new(entries, |oid, max| {
        repo.read_blob(oid, max).map_err(|error| {
            let reason = error.to_string();
            if !matches!(error, chiffon_requests::Error::TooLarge { .. }) {
                lost.borrow_mut().get_or_insert(error);
            }
            reason
        })
    });
    let infra = InfraRef { repository: repository.clone(), commit: commit.clone(), tree, inventory: inventory.clone() };
    let mut catalogue = catalogue::read(&files, infra);
    drop(files);
    if let Some(source) = lost.into_inner() {
        return Err(failed(source));
    }
    catalogue.findings.extend(findings);
    catalogue.findings.sort_by(|a, b| (&a.at, &a.message).cmp(&(&b.at, &b.message)));
    Ok(catalogue)
}

fn add_folders(path: &str, folders: &mut BTreeSet<String>) {
    let mut rest = path;
    while let Some((folder, _)) = rest.rsplit_once('/') {
        if !folders.insert(folder.to_owned()) {
            return;
        }
        rest = folder;
    }
}
