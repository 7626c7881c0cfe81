//! What git's hooks call. They work while the reconciler is down: they read the repository and nothing else.
//!
//! Catalogue findings never refuse a push, since the catalogue may move; they make the request `blocked`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use chiffon_requests::{Changes, Located, Repo};
use chiffon_schemas::{Diagnostic, Name, Oid, RepoPath};

use super::Exit;
use super::inventory::Inventory;
use crate::cli::WhichHook;
use crate::driver::main_branch::{refusal_in_words, taken_twice};
use crate::environment::Environment;
use crate::home::Home;
use crate::output::Output;

/// The most that git may tell a hook about one push.
const MAX_INPUT: u64 = 4 * 1024 * 1024;

/// One line of what git tells a hook.
struct Update {
    old: Option<Oid>,
    new: Option<Oid>,
    reference: String,
}

/// Runs a hook inside the repository that git started it in.
///
/// # Errors
/// The push is refused; the error says why.
pub fn run(which: &WhichHook, environment: &Environment, output: &Output) -> Result<Exit> {
    match which {
        WhichHook::PreReceive => pre_receive(environment, output),
    }
}

fn pre_receive(environment: &Environment, output: &Output) -> Result<Exit> {
    let updates = read_updates()?;
    let repo = open_in_quarantine(environment)?;
    let mut refused = Vec::new();
    for update in &updates {
        match update.reference.as_str() {
            "refs/heads/chiffon/audit" => {
                refused.push("chiffon/audit is Chiffon's own record: nobody else writes to it".to_owned())
            }
            "refs/heads/main" => refused.extend(judge_main(&repo, update, output)?),
            other if other.starts_with("refs/chiffon/") => {
                refused.push(format!("{other} is Chiffon's own: nobody else writes to it"));
            }
            other => refused.extend(not_a_plan_branch(other)),
        }
    }
    if refused.is_empty() {
        return Ok(Exit::Done);
    }
    for text in &refused {
        output.progress(text);
    }
    bail!("the push is refused: {} reason{}", refused.len(), if refused.len() == 1 { "" } else { "s" })
}

/// A branch below `chiffon/plan/` that belongs to no request would stand in the way of one that does.
fn not_a_plan_branch(reference: &str) -> Option<String> {
    let name = reference.strip_prefix("refs/heads/chiffon/plan/")?;
    let reason = Name::parse(name).err()?;
    Some(format!("{reference}: plan branches are called chiffon/plan/<request>: {reason}"))
}

/// Everything wrong with a new `main`, in one pass.
fn judge_main(repo: &Repo, update: &Update, output: &Output) -> Result<Vec<String>> {
    let Some(new) = &update.new else {
        return Ok(vec!["main can't be deleted: it holds what everybody asked for".to_owned()]);
    };
    let mut refused = Vec::new();
    let home = repo.path().canonicalize().ok().and_then(|path| Some(Home::at(path.parent()?)));
    let mut inventory = Inventory::of(home);
    let limits = chiffon_requests::WalkLimits::default();
    let requests = repo.changes(update.old.as_ref(), new, &folder("requests/"), &limits)?;
    refused.extend(requests.refused.iter().map(|(path, why)| refusal_in_words(path, why)));
    for change in &requests.entries {
        if change.new.is_none() {
            continue;
        }
        match judge_request(repo, new, &change.path, output) {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                for found in inventory.unknown_targets(change.path.as_str(), &bytes) {
                    output.progress(&format!("warning: {found}"));
                }
            }
            Err(mistakes) => refused.extend(mistakes),
        }
    }
    refused.extend(names_taken(repo, new, &requests)?);
    let plans = repo.changes(update.old.as_ref(), new, &folder("plans/"), &limits)?;
    refused.extend(plans.refused.iter().map(|(path, why)| refusal_in_words(path, why)));
    for change in &plans.entries {
        let (Located::Plan { .. }, Some(entry)) = (chiffon_requests::locate(&change.path), &change.new) else {
            continue;
        };
        let open = chiffon_requests::offer(repo, &change.path)?.is_some_and(|offer| offer.plan == entry.oid);
        if !open {
            refused.push(format!(
                "{}: this plan ({}) is not on offer. Merge chiffon/plan/… as it is; to change a plan, edit it on its branch",
                change.path,
                entry.oid.short()
            ));
        }
    }
    Ok(refused)
}

/// New request files whose name another file has already, in whatever folder.
fn names_taken(repo: &Repo, new: &Oid, requests: &Changes) -> Result<Vec<String>> {
    let name_of = |path: &RepoPath| match chiffon_requests::locate(path) {
        Located::Request { name, .. } => Some(name),
        Located::Mistake { .. } | Located::Plan { .. } | Located::Other => None,
    };
    let added = requests.entries.iter().filter(|change| change.old.is_none());
    let added: BTreeSet<Name> = added.filter_map(|change| name_of(&change.path)).collect();
    if added.is_empty() {
        return Ok(Vec::new());
    }
    let mut files: BTreeMap<Name, Vec<RepoPath>> = BTreeMap::new();
    let walk = repo.walk(new, Some(&folder("requests/")), &chiffon_requests::WalkLimits::default())?;
    for (path, _) in walk.entries {
        if let Some(name) = name_of(&path).filter(|name| added.contains(name)) {
            files.entry(name).or_default().push(path);
        }
    }
    let twice = files.iter().filter(|(_, paths)| paths.len() > 1);
    let in_words = |(name, paths): (&Name, &Vec<RepoPath>)| {
        let paths: Vec<&str> = paths.iter().map(RepoPath::as_str).collect();
        taken_twice(name, &paths)
    };
    Ok(twice.map(in_words).collect())
}

/// The bytes of a request without a mistake, `None` where the file is none of ours, or its mistakes.
fn judge_request(repo: &Repo, commit: &Oid, path: &RepoPath, output: &Output) -> Result<Option<Vec<u8>>, Vec<String>> {
    match chiffon_requests::locate(path) {
        Located::Request { .. } => {}
        Located::Mistake { reason } => return Err(vec![format!("{path}: {reason}")]),
        Located::Plan { .. } | Located::Other => return Ok(None),
    }
    let limit = chiffon_schemas::yaml::Limits::REQUEST.max_bytes as u64;
    let bytes =
        repo.read_document(commit, path, limit).map_err(|refusal| vec![refusal_in_words(path.as_str(), &refusal)])?;
    let shown = |found: &Diagnostic| found.render(output.is_coloured_errors());
    let mistakes = |found: Vec<Diagnostic>| -> Vec<String> { found.iter().map(shown).collect() };
    chiffon_schemas::read_request(path.as_str(), &bytes).map_err(mistakes)?;
    Ok(Some(bytes))
}

fn folder(path: &str) -> RepoPath {
    RepoPath::parse(path).expect("a constant path")
}

/// `<old> <new> <ref>` lines, zeros meaning nothing.
fn read_updates() -> Result<Vec<Update>> {
    let mut text = String::new();
    std::io::stdin().take(MAX_INPUT).read_to_string(&mut text).context("reading what git says")?;
    let mut updates = Vec::new();
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(old), Some(new), Some(reference)) = (words.next(), words.next(), words.next()) else {
            bail!("git said something that is no update: {line:?}");
        };
        let oid = |text: &str| -> Result<Option<Oid>> {
            if text.bytes().all(|byte| byte == b'0') { Ok(None) } else { Ok(Some(Oid::parse(text)?)) }
        };
        updates.push(Update { old: oid(old)?, new: oid(new)?, reference: reference.to_owned() });
    }
    Ok(updates)
}

/// The repository with the objects of the push, which git keeps in quarantine until the hook agrees.
fn open_in_quarantine(environment: &Environment) -> Result<Repo> {
    let variable =
        |name: &str| environment.git_objects.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let git_dir = variable("GIT_DIR").map_or_else(|| environment.cwd.clone(), |dir| environment.cwd.join(dir));
    let quarantine = variable("GIT_OBJECT_DIRECTORY").map(|dir| environment.cwd.join(dir));
    match quarantine {
        Some(objects) => Ok(Repo::open_with_objects(&git_dir, Path::new(&objects))?),
        None => Ok(Repo::open(&git_dir)?),
    }
}
