//! The plain repository: plan branches, and what git says about an approval.

use chiffon_core::facts::{Offer, PlanBranch, RequestFacts};
use chiffon_requests::{Edit, Expect, RefName, Repo, Signature};
use chiffon_schemas::{Name, Oid, RepoPath, Timestamp};

/// Why a plan could not be shown or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository failed.
    #[error("the requests repository failed")]
    Git(#[from] chiffon_requests::Error),
    /// There is no `main` to propose against.
    #[error("the requests repository has no branch main yet")]
    NoMain,
}

/// What a reviewer sees of an offer.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The request.
    pub name: Name,
    /// The plan's path.
    pub path: RepoPath,
    /// The plan's bytes.
    pub plan: Vec<u8>,
    /// Their object id.
    pub plan_oid: Oid,
    /// The rendering for readers; absent where the request can't be read any more.
    pub rendering: Option<String>,
    /// The evidence's bytes.
    pub evidence: Option<Vec<u8>>,
    /// How many tasks may run, where that is known.
    pub tasks: Option<u32>,
    /// The commit's subject.
    pub subject: String,
    /// A person's edit that the commit goes on top of; else it goes on top of `main`.
    pub on_top_of: Option<Oid>,
    /// The commit's time.
    pub time: Timestamp,
}

/// What came of showing a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// The plan branch is at this commit, and shows it.
    There(Oid),
    /// This commit shows it, once the forge's plan branch is there.
    Prepared(Oid),
}

/// A bare repository on this machine: the requests repository itself, or a copy of a forge's.
#[derive(Debug, Clone)]
pub struct Plain {
    repo: Repo,
    /// Plan branches are the forge's, as they were when last looked at, and are moved there.
    copy: bool,
}

impl Plain {
    /// Over this repository.
    pub fn new(repo: Repo) -> Self {
        Self { repo, copy: false }
    }

    /// Over a copy of a forge's repository.
    pub fn copy(repo: Repo) -> Self {
        Self { repo, copy: true }
    }

    /// Where a request's plan branch is found.
    fn branch(&self, name: &Name) -> RefName {
        if self.copy { RefName::forge_plan_branch(name) } else { RefName::plan_branch(name) }
    }

    /// What a plan branch holds; `None` where there is none.
    ///
    /// # Errors
    /// The repository failed.
    pub fn plan_branch(&self, name: &Name, plan: &RepoPath) -> Result<Option<PlanBranch>, Error> {
        let Some(tip) = self.repo.reference(&self.branch(name))? else { return Ok(None) };
        let plan = self.repo.blob_at(&tip, plan)?.map(|entry| entry.oid);
        Ok(Some(PlanBranch { tip, plan }))
    }

    /// Whether the reader's rendering on the plan branch is another than the one that Chiffon put there: it says nothing
    /// about what runs, so a reviewer has to know.
    ///
    /// # Errors
    /// The repository failed.
    pub fn rendering_edited(&self, branch: &PlanBranch, offer: &Offer) -> Result<bool, Error> {
        let Some(ours) = &offer.branch_commit else { return Ok(false) };
        let path = chiffon_requests::rendering_path(&offer.path);
        let there = self.repo.blob_at(&branch.tip, &path)?;
        let shown = self.repo.blob_at(ours, &path)?;
        Ok(there.map(|entry| entry.oid) != shown.map(|entry| entry.oid))
    }

    /// Whether Chiffon itself wrote a commit of a request's plan branch, or it is on `main` and so lost to nobody.
    ///
    /// # Errors
    /// The repository failed.
    pub fn is_ours(&self, tip: &Oid, facts: &RequestFacts) -> Result<bool, Error> {
        if facts.offers.iter().any(|offer| offer.branch_commit.as_ref() == Some(tip)) {
            return Ok(true);
        }
        let main = RefName::branch("main").expect("a constant branch name");
        match self.repo.reference(&main)? {
            Some(main) => Ok(self.repo.is_ancestor(tip, &main)?),
            None => Ok(false),
        }
    }

    /// Moves the plan branch from where it was `seen` to the proposal, or prepares what a forge's is to be moved to.
    /// Harmless when repeated: a branch that shows it already stays.
    ///
    /// # Errors
    /// The repository failed, has no `main`, or somebody moved the branch.
    pub fn show(&self, proposal: &Proposal, seen: Option<&Oid>) -> Result<Shown, Error> {
        let branch = self.branch(&proposal.name);
        if let Some(tip) = self.repo.reference(&branch)?
            && self.repo.blob_at(&tip, &proposal.path)?.is_some_and(|entry| entry.oid == proposal.plan_oid)
        {
            return Ok(Shown::There(tip));
        }
        let main = RefName::branch("main").expect("a constant branch name");
        let base = match &proposal.on_top_of {
            Some(edit) => edit.clone(),
            None => self.repo.reference(&main)?.ok_or(Error::NoMain)?,
        };
        let edit = Edit {
            branch,
            expect: seen.cloned().map_or(Expect::New, Expect::Tip),
            parents: Some(vec![base.clone()]),
            base: Some(base),
            changes: changes(proposal),
            message: format!("{}\n\nChiffon-Plan: {}\n", one_line(&proposal.subject), proposal.plan_oid),
            author: Signature::chiffon(proposal.time),
            committer: Signature::chiffon(proposal.time),
            allow_empty: true,
        };
        Ok(match self.copy {
            false => Shown::There(self.repo.commit(&edit)?.commit),
            // The same each time that it is made, since everything in it is the offer's.
            true => Shown::Prepared(self.repo.prepare(&edit)?.commit),
        })
    }

    /// Removes a plan branch that was `seen` there; harmless when it is gone.
    ///
    /// # Errors
    /// The repository failed, or somebody moved the branch.
    pub fn remove(&self, name: &Name, seen: &Oid) -> Result<(), Error> {
        let branch = RefName::plan_branch(name);
        match self.repo.reference(&branch)? {
            Some(_) => Ok(self.repo.delete_ref(&branch, seen)?),
            None => Ok(()),
        }
    }

    /// The commit of `main` that approved an offer, and whom it names as its committer.
    ///
    /// After a fast-forward that commit is Chiffon's own, and git does not say who pushed it: `None`.
    ///
    /// # Errors
    /// The repository failed.
    pub fn approval(&self, main: &Oid, offer: &Offer) -> Result<(Oid, Option<String>), Error> {
        let commit = self.repo.introduced(main, offer.main.as_ref(), &offer.path, &offer.plan_oid)?;
        if offer.branch_commit.as_ref() == Some(&commit) {
            return Ok((commit, None));
        }
        let info = self.repo.commit_info(&commit)?;
        let by = format!("{} <{}>", one_line(&info.committer.name), one_line(&info.committer.email));
        Ok((commit, Some(by)))
    }
}

fn changes(proposal: &Proposal) -> Vec<(RepoPath, Option<Vec<u8>>)> {
    let mut changes = vec![(proposal.path.clone(), Some(proposal.plan.clone()))];
    if let Some(text) = &proposal.rendering {
        changes.push((chiffon_requests::rendering_path(&proposal.path), Some(text.clone().into_bytes())));
    }
    if let Some(bytes) = &proposal.evidence {
        changes.push((chiffon_requests::evidence_path(&proposal.path), Some(bytes.clone())));
    }
    changes
}

/// A text as part of one line of a commit.
fn one_line(text: &str) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    flat.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
}
