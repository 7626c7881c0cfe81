//! What the agent reads in git before it claims an order, and again before it starts (S1): the approving commit, the
//! plan's own bytes, and every pin of it in the infra repository. The order itself is believed in nothing.

use std::path::PathBuf;

use chiffon_requests::{RefName, Repo};
use chiffon_schemas::{InvalidId, Mode, Oid, Order, Pin, Plan, RepoPath, RequestRef, blob_oid, read_plan};

use crate::AnsibleConfig;
use crate::agree::{Disagreement, agree};

/// The most bytes that a plan takes.
const MAX_PLAN_BYTES: u64 = 256 * 1024;

/// So many commits of `main` are looked at for a request of which nobody merged the plan.
const LOOK_BACK: usize = 256;

/// Why an order is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A repository can't be read.
    #[error("can't read {}: {source}", path.display())]
    Git {
        /// The repository.
        path: PathBuf,
        /// Why.
        source: chiffon_requests::Error,
    },
    /// The configured branch is none.
    #[error("a branch that the agent is to read: {0}")]
    Branch(#[from] InvalidId),
    /// There is no main branch.
    #[error("the requests repository has no branch `{0}`")]
    NoMain(String),
    /// The commit does not approve.
    #[error("commit {0} is neither `main` nor an ancestor of it")]
    NotOnMain(Oid),
    /// Nobody merged the plan, and this agent takes none of that kind.
    #[error(
        "commit {0} is neither `main` nor an ancestor of it, and this agent takes no check runs that nobody merged: \
         `exempt_check_runs: true` in its configuration allows them"
    )]
    NotExempt(Oid),
    /// Nobody merged the plan, and it is no offer either.
    #[error("commit {0} is on neither `main` nor chiffon/audit")]
    NotOffered(Oid),
    /// Nobody merged the plan, and it is of a kind that somebody has to.
    #[error(
        "plan {0} runs only where somebody merged it: a person wrote it, or some of it may run for real in a check"
    )]
    NeedsMerge(Oid),
    /// The infra commit of a plan that nobody merged is not on the infra repository's branch.
    #[error("infra commit {0} is not on the branch `{1}`")]
    NotOnInfraBranch(Oid, String),
    /// The plan is not what that commit holds.
    #[error("commit {commit} does not hold plan {plan} at {path}")]
    NotThere {
        /// The approving commit.
        commit: Oid,
        /// Where the plan should lie.
        path: RepoPath,
        /// The plan.
        plan: Oid,
    },
    /// The bytes that git gave are not what their id says.
    #[error("the bytes of plan {0} are not what its id says")]
    Bytes(Oid),
    /// The plan can't be read.
    #[error("{path} is not a plan: {why}")]
    NoPlan {
        /// Where it lies.
        path: RepoPath,
        /// The first mistake in it.
        why: String,
    },
    /// The request that the plan answers has changed.
    #[error("{path} is not the request that the plan answers")]
    Request {
        /// The request.
        path: RepoPath,
    },
    /// The order is not the plan's.
    #[error(transparent)]
    Order(#[from] Disagreement),
    /// The infra commit has another tree.
    #[error("infra commit {commit} has tree {found}, the plan pins {pinned}")]
    Tree {
        /// The commit.
        commit: Oid,
        /// Its tree.
        found: Oid,
        /// The plan's.
        pinned: Oid,
    },
    /// Something that the plan read is different.
    #[error("{path} is {found} at the pinned commit, the plan pins {pinned}")]
    Pin {
        /// The path.
        path: RepoPath,
        /// What is there.
        found: String,
        /// What should be.
        pinned: String,
    },
}

/// Checks an order against both repositories. Blocks for some milliseconds.
///
/// # Errors
/// The first thing that is not what was merged.
pub fn check(config: &AnsibleConfig, order: &Order, ansible_core: Option<&str>) -> Result<(), Refused> {
    let plan = approved_plan(config, order)?;
    agree(order, &plan, ansible_core)?;
    pins_hold(config, &plan)
}

/// Where an order's approving commit has to lie.
enum Ground {
    /// Somebody merged the plan.
    Main,
    /// Nobody did: it is an offer that policy exempts.
    Audit,
}

/// On `main`, or a `check` order on the audit branch as well where this agent's own configuration allows that.
fn ground(config: &AnsibleConfig, repo: &Repo, order: &Order) -> Result<(Ground, Oid), Refused> {
    let git = |source| Refused::Git { path: config.requests_repo.clone(), source };
    let commit = &order.approved_by;
    let main = RefName::branch(&config.main_branch)?;
    let tip = repo.reference(&main).map_err(git)?.ok_or_else(|| Refused::NoMain(config.main_branch.clone()))?;
    if leads_to(repo, commit, &tip).map_err(git)? {
        return Ok((Ground::Main, tip));
    }
    if order.key.mode != Mode::Check {
        return Err(Refused::NotOnMain(commit.clone()));
    }
    if !config.exempt_check_runs {
        return Err(Refused::NotExempt(commit.clone()));
    }
    match repo.reference(&RefName::audit()).map_err(git)? {
        Some(audit) if leads_to(repo, commit, &audit).map_err(git)? => Ok((Ground::Audit, tip)),
        _ => Err(Refused::NotOffered(commit.clone())),
    }
}

/// The plan that the approving commit holds, from its own bytes; its request as well.
fn approved_plan(config: &AnsibleConfig, order: &Order) -> Result<Plan, Refused> {
    let git = |source| Refused::Git { path: config.requests_repo.clone(), source };
    let repo = Repo::open(&config.requests_repo).map_err(git)?;
    let (ground, main) = ground(config, &repo, order)?;
    let Order { key, approved_by, plan_path, .. } = order;
    if repo.blob_at(approved_by, plan_path).map_err(git)?.is_none_or(|entry| entry.oid != key.plan) {
        let (commit, path, plan) = (approved_by.clone(), plan_path.clone(), key.plan.clone());
        return Err(Refused::NotThere { commit, path, plan });
    }
    let bytes = repo.read_blob(&key.plan, MAX_PLAN_BYTES).map_err(git)?;
    if key.plan.as_str().len() == 40 && blob_oid(&bytes) != key.plan {
        return Err(Refused::Bytes(key.plan.clone()));
    }
    let plan = read_plan(plan_path.as_str(), &bytes).map_err(|mistakes| Refused::NoPlan {
        path: plan_path.clone(),
        why: mistakes.first().map(|mistake| mistake.message.clone()).unwrap_or_default(),
    })?;
    let request = &plan.metadata.request;
    // A merge holds the request beside the plan; an offer is of one that somebody pushed to `main`.
    let asked_for = match ground {
        Ground::Main => {
            repo.blob_at(approved_by, &request.path).map_err(git)?.is_some_and(|found| found.oid == request.oid)
        }
        Ground::Audit => was_on(&repo, &main, request).map_err(git)?,
    };
    if !asked_for {
        return Err(Refused::Request { path: request.path.clone() });
    }
    if let Ground::Audit = ground {
        if !plan.may_be_exempt() {
            return Err(Refused::NeedsMerge(key.plan.clone()));
        }
        on_infra_branch(config, &plan.spec.infra.commit)?;
    }
    Ok(plan)
}

/// Whether a commit is the tip of a branch or an ancestor of it; one that is not here is neither.
fn leads_to(repo: &Repo, commit: &Oid, tip: &Oid) -> Result<bool, chiffon_requests::Error> {
    Ok(commit == tip || (repo.holds(commit) && repo.is_ancestor(commit, tip)?))
}

/// Whether a branch holds a request, or held it lately: what is edited while it runs changes nothing of that.
fn was_on(repo: &Repo, tip: &Oid, request: &RequestRef) -> Result<bool, chiffon_requests::Error> {
    let mut at = Some(tip.clone());
    for _ in 0..LOOK_BACK {
        let Some(commit) = at else { return Ok(false) };
        if repo.blob_at(&commit, &request.path)?.is_some_and(|found| found.oid == request.oid) {
            return Ok(true);
        }
        at = repo.commit_info(&commit)?.parents.into_iter().next();
    }
    Ok(false)
}

/// What nobody merged may pin only what somebody merged in the infra repository.
fn on_infra_branch(config: &AnsibleConfig, commit: &Oid) -> Result<(), Refused> {
    let git = |source| Refused::Git { path: config.infra_repo.clone(), source };
    let repo = Repo::open(&config.infra_repo).map_err(git)?;
    let branch = RefName::branch(&config.infra_branch)?;
    let on_it = match repo.reference(&branch).map_err(git)? {
        Some(tip) => leads_to(&repo, commit, &tip).map_err(git)?,
        None => false,
    };
    if on_it { Ok(()) } else { Err(Refused::NotOnInfraBranch(commit.clone(), config.infra_branch.clone())) }
}

/// The infra repository has the pinned commit, with the pinned tree, and in it every path is what the plan read.
fn pins_hold(config: &AnsibleConfig, plan: &Plan) -> Result<(), Refused> {
    let git = |source| Refused::Git { path: config.infra_repo.clone(), source };
    let repo = Repo::open(&config.infra_repo).map_err(git)?;
    let infra = &plan.spec.infra;
    let found = repo.tree_of(&infra.commit).map_err(git)?;
    if found != infra.tree {
        return Err(Refused::Tree { commit: infra.commit.clone(), found, pinned: infra.tree.clone() });
    }
    for (path, pin) in &plan.spec.reads {
        let found = match repo.entry_at(&infra.commit, path).map_err(git)? {
            None => Pin::Absent,
            Some(entry) => Pin::Object(entry.oid),
        };
        if &found != pin {
            return Err(Refused::Pin { path: path.clone(), found: found.into(), pinned: pin.clone().into() });
        }
    }
    Ok(())
}
