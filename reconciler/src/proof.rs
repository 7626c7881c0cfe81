//! Whether Chiffon's own account can merge what no person approved, tried out on a branch that nobody uses and that is under
//! the same rule as `main` (S15). A forge's rules are many, and what they come to is known only by trying.

use std::time::Duration;

use anyhow::{Context, Result};
use chiffon_forge::{Edit, Forge, NewPull, Trouble};
use chiffon_requests::{RefName, Upstream};
use chiffon_schemas::Oid;
use serde::Serialize;

/// The branch that it is tried on.
pub(crate) const SCRATCH: &str = "chiffon/proof";

/// A forge takes its time to find out whether something can be merged: it is asked this often.
const TRIES: u32 = 30;

/// A forge that asks for more patience than this is asked another time.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "said", rename_all = "kebab-case")]
pub(crate) enum Proof {
    /// The forge refused, for want of a right; what it said.
    Refused(String),
    /// It was merged.
    Merged,
    /// It was not merged for another reason, which proves nothing.
    Unclear(String),
    /// There is no such branch: `chiffon forge setup` makes it.
    NoScratch,
    /// The rule of `main` is not for that branch, so that nothing can be tried there.
    NoRule,
    /// Neither has a rule.
    Unprotected,
}

/// Tries to merge a pull request without any change, as the account that the token speaks for, and takes away what that
/// needed.
///
/// # Errors
/// The forge can't be reached, or the pull request can't be opened.
pub(crate) async fn try_out(forge: &dyn Forge, upstream: &Upstream) -> Result<Proof> {
    match forge.guard(SCRATCH).await {
        Ok(guard) if guard.protected => {}
        // A rule of somebody's own may be for main alone.
        Ok(_) if forge.guard(crate::forge::BASE).await?.protected => return Ok(Proof::NoRule),
        Ok(_) => return Ok(Proof::Unprotected),
        Err(Trouble::NotFound { .. }) => return Ok(Proof::NoScratch),
        Err(trouble) => return Err(trouble.into()),
    }
    let upstream = &crate::forge::with_git_token(forge, upstream).await?;
    let commit = git(upstream, prepare).await.context("making a commit to try with")?;
    let branch = format!("{SCRATCH}-{}", commit.short());
    let name = RefName::branch(&branch)?;
    let (pushed, at) = (commit.clone(), name.clone());
    git(upstream, move |upstream| upstream.make_branch(&at, &pushed)).await.context("pushing a branch to try with")?;
    let tried = try_on(forge, &branch, &commit).await;
    // A forge may remove the branch of what it merged. What is left behind is in nobody's way, and hides no answer.
    if let Err(error) = git(upstream, move |upstream| upstream.remove_branch(&name, &commit)).await {
        match tried {
            Ok(Proof::Merged) => tracing::debug!(%error, branch, "it went with the merge"),
            _ => tracing::warn!(%error, branch, "the branch that was tried with is left behind: delete it"),
        }
    }
    tried
}

async fn try_on(forge: &dyn Forge, branch: &str, head: &Oid) -> Result<Proof> {
    let body = "Chiffon tries whether its own account may merge this, which it may not. Nothing is to be done here.";
    let edit = Edit { title: "Chiffon tries out a rule".to_owned(), body: body.to_owned(), draft: false };
    let new = NewPull { head: branch.to_owned(), base: SCRATCH.to_owned(), edit };
    let number = forge.open(&new).await.context("opening a pull request to try with")?.number;
    let proof = merge(forge, number, head).await;
    if let Err(trouble) = forge.close(number).await {
        tracing::warn!(%trouble, number, "the pull request that was tried with stays open: close it");
    }
    Ok(proof?)
}

async fn merge(forge: &dyn Forge, number: u64, head: &Oid) -> Result<Proof, Trouble> {
    for _ in 0..TRIES {
        return match forge.merge(number, head).await {
            Ok(_) => Ok(Proof::Merged),
            Err(Trouble::Later { after, .. }) if after <= PATIENCE => {
                tokio::time::sleep(after).await;
                continue;
            }
            Err(Trouble::Forbidden { said, .. }) => Ok(Proof::Refused(said)),
            Err(Trouble::Conflict { said, .. }) if names_a_right(&said) => Ok(Proof::Refused(said)),
            Err(Trouble::Conflict { said, .. }) => Ok(Proof::Unclear(said)),
            Err(trouble) => Err(trouble),
        };
    }
    Ok(Proof::Unclear("it did not find out in time whether it can be merged".to_owned()))
}

/// Whether a refusal is for want of a right, and not since something else stood in the way.
fn names_a_right(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    ["not allowed to merge", "approving review", "repository rule violation", "not authorized"]
        .iter()
        .any(|words| said.contains(words))
}

/// A commit without a change on top of `main`.
fn prepare(upstream: &Upstream) -> Result<Oid, chiffon_requests::Error> {
    use chiffon_requests::{Edit, Expect, Signature};

    let main = upstream.peek()?;
    let author = Signature::chiffon(crate::environment::now());
    let edit = Edit {
        branch: RefName::branch(crate::forge::BASE)?,
        expect: Expect::Any,
        parents: Some(main.iter().cloned().collect()),
        base: main,
        changes: Vec::new(),
        message: "Try out a rule\n".to_owned(),
        committer: author.clone(),
        author,
        allow_empty: true,
    };
    Ok(upstream.open()?.prepare(&edit)?.commit)
}

/// Runs git on a copy of which the login is right already.
async fn git<T: Send + 'static>(
    upstream: &Upstream,
    work: impl FnOnce(&Upstream) -> Result<T, chiffon_requests::Error> + Send + 'static,
) -> Result<T> {
    let upstream = upstream.clone();
    Ok(tokio::task::spawn_blocking(move || work(&upstream)).await??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s15_only_a_refusal_that_names_a_right_proves_something() {
        for said in [
            "User not allowed to merge PR",
            "At least 1 approving review is required by reviewers with write access.",
            "Repository rule violations found",
        ] {
            assert!(names_a_right(said), "{said}");
        }
        for said in
            ["merge conflict", "Please try again later", "head out of date", "Work in progress PRs cannot be merged"]
        {
            assert!(!names_a_right(said), "{said}");
        }
    }
}
