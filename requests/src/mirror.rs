//! A bare copy of one branch of somebody's repository.

use std::path::{Path, PathBuf};

use chiffon_schemas::Oid;

use crate::{Error, FilePolicy, Git, GitUrl, Locks, RefName, Repo};

/// A bare copy of one branch, and of others where they are there. Whoever makes it is its only writer.
#[derive(Debug, Clone)]
pub struct Mirror {
    path: PathBuf,
    address: String,
    branch: RefName,
    others: Vec<RefName>,
}

impl Mirror {
    /// A copy at `path` of a branch of the repository at `url`: a path, which the operator named, or an https or ssh
    /// address. A relative path is relative to `base`.
    ///
    /// # Errors
    /// The branch's name is none.
    pub fn new(path: impl Into<PathBuf>, url: &str, base: &Path, branch: &str) -> Result<Self, Error> {
        let is_path = !url.contains(':');
        let address = if is_path { base.join(url).display().to_string() } else { url.to_owned() };
        Ok(Self { path: path.into(), address, branch: RefName::branch(branch)?, others: Vec::new() })
    }

    /// A copy of another branch as well, which need not be there.
    #[must_use]
    pub fn with(mut self, branch: RefName) -> Self {
        self.others.push(branch);
        self
    }

    /// Where the copy lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings the copy up to date, makes it where there is none, and says where the branch stands. Blocks while the git
    /// program runs, which it does only where something may have changed.
    ///
    /// # Errors
    /// The repository can't be reached, or has no such branch.
    pub fn refresh(&self, git: &Git) -> Result<(Repo, Oid), Error> {
        let url = GitUrl::parse(&self.address, FilePolicy::Allow)?;
        if !self.path.join("HEAD").is_file() {
            git.init_bare(&self.path, "main")?;
        }
        let repo = Repo::open(&self.path)?;
        if let Some(tip) = self.unchanged(&repo) {
            return Ok((repo, tip));
        }
        git.fetch(&self.path, &url, &self.branch, &self.branch)?;
        for other in &self.others {
            match git.fetch(&self.path, &url, other, other) {
                Ok(()) | Err(Error::NoRemoteBranch { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match repo.reference(&self.branch)? {
            Some(tip) => Ok((repo, tip)),
            None => Err(Error::NoRemoteBranch { name: self.branch.to_string() }),
        }
    }

    /// Removes locks that a killed fetch left behind; their paths.
    pub fn clear_locks(&self) -> Vec<String> {
        Repo::open(&self.path).map(|repo| repo.clear_locks(Locks::Mirror)).unwrap_or_default()
    }

    /// A local repository's branch is looked at directly: no program has to run to see that it did not move.
    fn unchanged(&self, mirror: &Repo) -> Option<Oid> {
        let source = Repo::open(Path::new(&self.address)).ok()?;
        let theirs = source.reference(&self.branch).ok()??;
        let ours = mirror.reference(&self.branch).ok()??;
        let same = |other: &RefName| Some(source.reference(other).ok()? == mirror.reference(other).ok()?);
        (theirs == ours && self.others.iter().all(|other| same(other) == Some(true))).then_some(ours)
    }
}
