//! Reads what `main` holds: requests, plans, and what is neither and must not be passed over in silence (S6).

use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::facts::RequestFile;
use chiffon_requests::{Changes, EntryKind, Error, Located, Refusal, Repo, WalkLimits, locate, plan_path};
use chiffon_schemas::{Code, Name, Oid, RepoPath};
use chiffon_store::SeenRequest;

/// What marks a request whose name another file has too.
const NAME_TAKEN: &str = Code::NameTaken.as_str();

/// A refusal in words, with its number in docs/diagnostics.md.
pub fn refusal_in_words(path: &str, refusal: &Refusal) -> String {
    format!("{path}: {refusal} [{}]", Code::Refused.as_str())
}

/// What two commits of `main` differ in, sorted out by what it may concern.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Request files by name; every path at which one was added, changed, removed or refused.
    pub requests: BTreeMap<Name, BTreeSet<RepoPath>>,
    /// Paths of plans that were added, changed or removed.
    pub plans: Vec<RepoPath>,
    /// Whether something was found that is not read and belongs to no request.
    pub refused: bool,
}

/// Where a request stands in the store: what is needed to see whether two files have one name.
#[derive(Debug)]
pub(super) struct Known {
    /// Its path.
    pub path: RepoPath,
    /// What was there.
    pub file: RequestFile,
}

impl Known {
    /// Whether its name was found in two files.
    fn collides(&self) -> bool {
        matches!(&self.file, RequestFile::Invalid { findings, .. } if findings.contains(NAME_TAKEN))
    }
}

/// What `main` changed since a commit. Costs what the change costs, never a walk of everything.
pub(super) fn difference(repo: &Repo, from: Option<&Oid>, main: &Oid) -> Result<Difference, Error> {
    let mut difference = Difference::default();
    let requests = changes(repo, from, main, "requests/")?;
    for path in paths(&requests) {
        match locate(&path) {
            Located::Request { name, .. } => {
                difference.requests.entry(name).or_default().insert(path);
            }
            Located::Mistake { .. } => difference.refused = true,
            Located::Plan { .. } | Located::Other => {}
        }
    }
    let plans = changes(repo, from, main, "plans/")?;
    difference.plans = paths(&plans).into_iter().filter(|path| matches!(locate(path), Located::Plan { .. })).collect();
    let unplaced = |changes: &Changes| {
        changes.refused.iter().any(|(path, _)| !matches!(located(path), Located::Request { .. } | Located::Plan { .. }))
    };
    difference.refused |= unplaced(&requests) || unplaced(&plans);
    Ok(difference)
}

fn changes(repo: &Repo, from: Option<&Oid>, main: &Oid, folder: &str) -> Result<Changes, Error> {
    let folder = RepoPath::parse(folder).expect("a constant path");
    repo.changes(from, main, &folder, &WalkLimits::default())
}

/// Every path that differs, refused ones included as far as they are paths.
fn paths(changes: &Changes) -> BTreeSet<RepoPath> {
    let refused = changes.refused.iter().filter_map(|(path, _)| RepoPath::parse(path.clone()).ok());
    changes.entries.iter().map(|change| change.path.clone()).chain(refused).collect()
}

fn located(path: &str) -> Located {
    RepoPath::parse(path).map_or(Located::Other, |path| locate(&path))
}

/// What a request's name stands for now: one file, none, or two of which neither is taken.
///
/// `changed` are the paths at which something differs. The path known before counts too; and where the name was
/// taken twice before, every file of that name is looked for.
pub(super) fn request(
    repo: &Repo,
    main: &Oid,
    name: &Name,
    changed: &BTreeSet<RepoPath>,
    known: Option<&Known>,
) -> Result<SeenRequest, Error> {
    let mut candidates = changed.clone();
    if let Some(known) = known {
        candidates.insert(known.path.clone());
        if known.collides() {
            candidates.extend(files_called(repo, main, name)?);
        }
    }
    let mut there = Vec::new();
    for path in candidates {
        if let Some(entry) = repo.entry_at(main, &path)?
            && entry.kind != EntryKind::Folder
        {
            there.push((path, entry.oid));
        }
    }
    let before = known.map(|known| &known.path);
    let place = there.iter().position(|(path, _)| Some(path) == before).unwrap_or(0);
    let Some((path, oid)) = there.get(place).cloned() else {
        let path = before.or_else(|| changed.first()).cloned().expect("a name was seen at a path");
        return Ok(SeenRequest { name: name.clone(), path, file: RequestFile::Absent });
    };
    let file = if there.len() > 1 {
        let all: Vec<&str> = there.iter().map(|(path, _)| path.as_str()).collect();
        RequestFile::Invalid { oid, findings: taken_twice(name, &all) }
    } else {
        read(repo, main, &path, oid)
    };
    Ok(SeenRequest { name: name.clone(), path, file })
}

/// Why two files of one name are not taken, with the way out.
pub fn taken_twice(name: &Name, paths: &[&str]) -> String {
    format!(
        "two requests are called {name}: {}. A name is unique over all folders: rename one of them [{NAME_TAKEN}]",
        paths.join(" and ")
    )
}

fn files_called(repo: &Repo, main: &Oid, name: &Name) -> Result<Vec<RepoPath>, Error> {
    let folder = RepoPath::parse("requests/").expect("a constant path");
    let walk = repo.walk(main, Some(&folder), &WalkLimits::default())?;
    let called = |path: &RepoPath| matches!(locate(path), Located::Request { name: found, .. } if found == *name);
    Ok(walk.entries.into_iter().map(|(path, _)| path).filter(called).collect())
}

fn read(repo: &Repo, main: &Oid, path: &RepoPath, oid: Oid) -> RequestFile {
    let bytes = match repo.read_document(main, path, chiffon_schemas::yaml::Limits::REQUEST.max_bytes as u64) {
        Ok(bytes) => bytes,
        Err(refusal) => return RequestFile::Invalid { oid, findings: refusal_in_words(path.as_str(), &refusal) },
    };
    match chiffon_schemas::read_request(path.as_str(), &bytes) {
        Ok(request) => RequestFile::Valid { oid, priority: request.spec.priority },
        Err(diagnostics) => {
            let findings: Vec<String> = diagnostics.iter().map(|found| found.to_string()).collect();
            RequestFile::Invalid { oid, findings: findings.join("\n") }
        }
    }
}

/// The blob at a request's plan path.
pub(super) fn plan_blob(repo: &Repo, main: &Oid, request: &RepoPath) -> Result<Option<Oid>, Error> {
    Ok(repo.blob_at(main, &plan_path(request))?.map(|entry| entry.oid))
}

/// The request that a plan's path belongs to.
pub(super) fn request_path(plan: &RepoPath) -> Option<RepoPath> {
    let stem = plan.as_str().strip_prefix("plans/")?;
    RepoPath::parse(format!("requests/{stem}")).ok()
}

/// Everything of a commit that is not read and belongs to no request, beside the stray plans that are handed in.
/// Walks the whole tree: only called while there is such a thing.
pub(super) fn refused_files(
    repo: &Repo,
    main: &Oid,
    strays: &BTreeSet<RepoPath>,
) -> Result<BTreeMap<String, String>, Error> {
    let mut files = BTreeMap::new();
    for folder in ["requests/", "plans/"] {
        let all = changes(repo, None, main, folder)?;
        for (path, refusal) in &all.refused {
            if !matches!(located(path), Located::Request { .. }) {
                files.insert(path.clone(), refusal.to_string());
            }
        }
        for change in &all.entries {
            if let Located::Mistake { reason } = locate(&change.path) {
                files.insert(change.path.to_string(), reason);
            }
        }
    }
    for path in strays {
        if repo.entry_at(main, path)?.is_some_and(|entry| entry.kind != EntryKind::Folder) {
            files.insert(path.to_string(), stray_in_words(path));
        }
    }
    Ok(files)
}

fn stray_in_words(plan: &RepoPath) -> String {
    let request = request_path(plan).map_or_else(String::new, |path| format!(" {path}"));
    format!("a plan whose request{request} is not there: it was never offered, and nothing runs")
}
