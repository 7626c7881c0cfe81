//! A forge's repository, of which ours is a copy.
//!
//! `main` and the plan branches are as they are there: people move them, and what we write is pushed first. The audit
//! branch is as it is here: only we write it, and what is there is compared with it.

use std::path::PathBuf;

use chiffon_schemas::{Name, Oid};

use crate::{Error, Git, GitUrl, RefName, Repo};

/// The file that marks a repository as a copy.
const MARK: &str = "chiffon-copy";

/// A forge's repository and our copy of it.
#[derive(Debug, Clone)]
pub struct Upstream {
    git: Git,
    path: PathBuf,
    url: GitUrl,
}

impl Upstream {
    /// The repository at `url`, copied to `path`.
    pub fn new(git: Git, path: impl Into<PathBuf>, url: GitUrl) -> Self {
        Self { git, path: path.into(), url }
    }

    /// The same, reached with this name and token.
    #[must_use]
    pub fn with_login(mut self, login: &str, token: &str) -> Self {
        self.url = self.url.with_login(login, token);
        self
    }

    /// Our copy; made where there is none. A repository that was not made as a copy is left alone: bringing it up to date
    /// would put the forge's `main` in the place of its own.
    ///
    /// # Errors
    /// [`Error::NotACopy`], or it can't be made or opened.
    pub fn open(&self) -> Result<Repo, Error> {
        if !self.path.join("HEAD").is_file() {
            self.git.init_bare(&self.path, "main")?;
        }
        let repo = Repo::open(&self.path)?;
        let mark = self.path.join(MARK);
        if !mark.is_file() {
            if repo.reference(&RefName::branch("main")?)?.is_some() {
                return Err(Error::NotACopy { path: self.path.clone() });
            }
            std::fs::write(&mark, "").map_err(|source| Error::Io { path: mark, source })?;
        }
        Ok(repo)
    }

    /// Brings the copy up to date. Blocks while git runs.
    ///
    /// # Errors
    /// The forge can't be reached, or has no branch `main`.
    pub fn fetch(&self) -> Result<(), Error> {
        // Whatever is missing there must not make git refuse all of it: only patterns may match nothing.
        let of = |what: &str| format!("+refs/heads/chiffon/{what}*:{}{what}*", RefName::FORGE);
        let main = "+refs/heads/main:refs/heads/main".to_owned();
        let refspecs = [main, of("plan/"), of("request/"), of("audit")];
        let fetched = match self.git.fetch_pruned(&self.path, &self.url, &refspecs) {
            // A branch went whose name is now a folder of others, or the other way round.
            Err(Error::Git { message, .. }) if message.contains("cannot lock ref") => {
                self.forget_branches()?;
                self.git.fetch_pruned(&self.path, &self.url, &refspecs)
            }
            fetched => fetched,
        };
        fetched.map_err(|error| match error {
            Error::Git { message, .. } if message.contains("couldn't find remote ref") => {
                Error::NoRemoteBranch { name: "refs/heads/main".to_owned() }
            }
            error => error,
        })
    }

    /// The branch that the forge's HEAD names.
    ///
    /// # Errors
    /// The forge can't be reached, or its HEAD names none.
    pub fn default_branch(&self) -> Result<String, Error> {
        self.git.default_branch(&self.url)
    }

    /// Brings the head of a pull request as well, which is there also where its branch is gone.
    ///
    /// # Errors
    /// The forge can't be reached, or keeps no such head.
    pub fn fetch_pull(&self, number: u64) -> Result<(), Error> {
        let refspec = format!("+refs/pull/{number}/head:refs/chiffon/pulls/{number}");
        self.git.fetch_all(&self.path, &self.url, &[refspec], false)
    }

    /// Whether the copy holds an object.
    ///
    /// # Errors
    /// It can't be read.
    pub fn holds(&self, oid: &Oid) -> Result<bool, Error> {
        Ok(Repo::open(&self.path)?.holds(oid))
    }

    /// Moves a request's plan branch on the forge from where it was `seen` to a commit of the copy, or removes it, and
    /// remembers it. Harmless when repeated.
    ///
    /// # Errors
    /// An error that [`Error::is_stale`] where somebody moved it; or the forge refuses or can't be reached.
    pub fn move_plan_branch(&self, name: &Name, to: Option<&Oid>, seen: Option<&Oid>) -> Result<(), Error> {
        self.git.move_branch(&self.path, &self.url, to, &RefName::plan_branch(name), seen)?;
        self.remember(&RefName::forge_plan_branch(name), to)
    }

    /// Moves `main` on the forge from where it was `seen` to a commit of the copy, and remembers it.
    ///
    /// # Errors
    /// An error that [`Error::is_stale`] where somebody moved it, and [`Error::is_refused_push`] where the forge takes no
    /// such push; or the forge can't be reached.
    pub fn push_main(&self, to: &Oid, seen: &Oid) -> Result<(), Error> {
        let main = RefName::branch("main")?;
        self.git.push(&self.path, &self.url, to, &main, Some(seen))?;
        self.remember(&main, Some(to))
    }

    /// Makes a branch of a request that is to be merged be at a commit of the copy, whatever it was at.
    ///
    /// # Errors
    /// The forge refuses or can't be reached.
    pub fn move_request_branch(&self, branch: &str, to: &Oid) -> Result<(), Error> {
        let name = RefName::branch(branch)?;
        let seen = match branch.strip_prefix("chiffon/") {
            Some(rest) => Repo::open(&self.path)?.reference(&RefName::forge_other(rest)?)?,
            None => None,
        };
        self.git.push(&self.path, &self.url, to, &name, seen.as_ref())
    }

    /// Where `main` is on the forge now; its commit is brought, and nothing else of the copy changes, since another process
    /// may be at work on it.
    ///
    /// # Errors
    /// The forge can't be reached, or has no branch `main`.
    pub fn peek(&self) -> Result<Option<Oid>, Error> {
        let repo = self.open()?;
        let name = RefName::peeked();
        let refspec = format!("+refs/heads/main:{name}");
        self.git.fetch_all(&self.path, &self.url, &[refspec], false)?;
        repo.reference(&name)
    }

    /// Makes a branch on the forge that is not there, at a commit of the copy.
    ///
    /// # Errors
    /// An error that [`Error::is_stale`] where there is one; or the forge refuses or can't be reached.
    pub fn make_branch(&self, branch: &RefName, at: &Oid) -> Result<(), Error> {
        self.git.push(&self.path, &self.url, at, branch, None)
    }

    /// Removes a branch on the forge that must be at this commit.
    ///
    /// # Errors
    /// An error that [`Error::is_stale`] where it is not; or the forge refuses or can't be reached.
    pub fn remove_branch(&self, branch: &RefName, at: &Oid) -> Result<(), Error> {
        self.git.move_branch(&self.path, &self.url, None, branch, Some(at))
    }

    /// Makes the forge's audit branch be at a commit of ours, which comes after where it was `seen`.
    ///
    /// # Errors
    /// An error that [`Error::is_stale`] where somebody else wrote there; or the forge refuses or can't be reached.
    pub fn move_audit(&self, to: &Oid, seen: Option<&Oid>) -> Result<(), Error> {
        self.git.push(&self.path, &self.url, to, &RefName::audit(), seen)?;
        self.remember(&RefName::forge_audit(), Some(to))
    }

    /// Forgets where the forge's branches were; the next fetch finds them again.
    fn forget_branches(&self) -> Result<(), Error> {
        let repo = Repo::open(&self.path)?;
        for (name, at) in repo.references(RefName::FORGE)? {
            if name != RefName::forge_audit() {
                repo.delete_ref(&name, &at)?;
            }
        }
        Ok(())
    }

    /// The next fetch finds the same; this spares waiting for it.
    fn remember(&self, name: &RefName, to: Option<&Oid>) -> Result<(), Error> {
        let repo = Repo::open(&self.path)?;
        let known = repo.reference(name)?;
        match (to, known) {
            (Some(to), known) if known.as_ref() != Some(to) => repo.set_ref(name, to, known.as_ref()),
            (None, Some(known)) => repo.delete_ref(name, &known),
            _ => Ok(()),
        }
    }
}
