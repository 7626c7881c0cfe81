//! Commits to `main` as the person who typed the command, through `git`, so that hooks and permissions apply.

use std::path::Path;

use anyhow::{Context, Result, bail};
use chiffon_requests::{Edit, Expect, FilePolicy, GitUrl, RefName, Repo, Signature};
use chiffon_schemas::{Oid, RepoPath};

use super::Desk;
use crate::{environment, mirror};

/// A lost race is tried again this often.
const TRIES: usize = 5;

/// What a person changes on `main`.
pub struct PersonsChange {
    /// Files to write (`None` removes).
    pub files: Vec<(RepoPath, Option<Vec<u8>>)>,
    /// The commit's message.
    pub message: String,
    /// A second parent: what is merged.
    pub merges: Option<Oid>,
}

/// Commits and pushes a change of `main`. `make` is called again on each new tip after a lost race.
///
/// # Errors
/// The push was refused (the hook's words are in the error), or git is not configured.
pub fn push(desk: &Desk, make: impl Fn(&Oid) -> Result<PersonsChange>) -> Result<Oid> {
    let main = RefName::branch("main").expect("a constant branch name");
    let git = mirror::git(&desk.environment).for_person(desk.environment.ssh_auth_sock.clone());
    let scratch = tempfile::tempdir().context("making a temporary folder")?;
    let path = scratch.path().join("push.git");
    git.init_bare(&path, "main").context("making a temporary repository")?;
    // Objects are borrowed from the requests repository: nothing is copied.
    let alternates = path.join("objects").join("info").join("alternates");
    let objects =
        std::fs::canonicalize(desk.config.requests.join("objects")).context("finding the requests repository")?;
    std::fs::write(&alternates, format!("{}\n", objects.display())).context("borrowing objects")?;
    let repo = Repo::open(&path)?;
    let identity = identity(&git, &path, desk)?;
    // On a forge ours is a copy: what is pushed goes to the forge, with the person's own credentials.
    let url = match &desk.config.spec.forge {
        Some(spec) => crate::forge::address(spec)?,
        None => GitUrl::parse(&absolute(&desk.config.requests)?, FilePolicy::Allow)?,
    };
    for attempt in 1..=TRIES {
        let tip = desk.requests.reference(&main)?.context("the requests repository has no branch main yet")?;
        let commit = commit_on(&repo, &tip, make(&tip)?, &identity)?;
        if commit == tip {
            bail!("nothing would change");
        }
        match git.push(&path, &url, &commit, &main, Some(&tip)) {
            Ok(()) => return Ok(commit),
            Err(error) if error.is_stale() && desk.config.spec.forge.is_some() => {
                desk.home.touch_wake()?;
                bail!("main on the forge is ahead of what is known here; try again in a moment");
            }
            Err(error) if error.is_stale() && attempt < TRIES => {}
            Err(error) if error.is_refused_push() && desk.config.spec.forge.is_some() => {
                return Err(error).context(
                    "the forge takes no push to main from you: push it to a branch and open a pull request there",
                );
            }
            Err(error) => return Err(error).context("pushing to main"),
        }
    }
    bail!("main moved {TRIES} times in a row; try again")
}

fn commit_on(repo: &Repo, tip: &Oid, change: PersonsChange, identity: &Signature) -> Result<Oid> {
    let branch = RefName::branch("main").expect("a constant branch name");
    let current = repo.reference(&branch)?;
    repo.set_ref(&branch, tip, current.as_ref())?;
    let mut parents = vec![tip.clone()];
    parents.extend(change.merges);
    let edit = Edit {
        branch,
        expect: Expect::Tip(tip.clone()),
        parents: Some(parents),
        base: Some(tip.clone()),
        changes: change.files,
        message: change.message,
        author: identity.clone(),
        committer: identity.clone(),
        allow_empty: false,
    };
    Ok(repo.commit(&edit)?.commit)
}

/// Who the person is, as their own git configuration says it.
fn identity(git: &chiffon_requests::Git, path: &Path, desk: &Desk) -> Result<Signature> {
    let name = git.config(path, "user.name")?;
    let email = git.config(path, "user.email")?;
    let (Some(name), Some(email)) = (name, email) else {
        bail!(
            "git does not know who you are: git config --global user.name \"Your Name\" and git config --global user.email you@example.org{}",
            if desk.environment.home.is_none() { " (HOME is not set)" } else { "" }
        )
    };
    Ok(Signature { name, email, time: environment::now() })
}

fn absolute(path: &Path) -> Result<String> {
    let path = std::fs::canonicalize(path).with_context(|| format!("finding {}", path.display()))?;
    path.to_str().map(str::to_owned).context("the requests repository's path is not UTF-8")
}
