//! The mirror of the infra repository: a bare copy that the reconciler and the embedded agent read.

use chiffon_requests::{FilePolicy, Git, GitUrl, Locks, RefName, Repo, StopFlag};
use chiffon_schemas::Oid;

use crate::config::Config;
use crate::environment::Environment;
use crate::home::Home;

/// The git program with Chiffon's own, cleared environment.
pub fn git(environment: &Environment) -> Git {
    Git::new(environment.path.clone(), environment.home.clone())
}

/// Brings the mirror up to date and says where its branch stands. The error is for people, in words.
///
/// # Errors
/// The repository can't be reached, is empty, or has no such branch.
pub fn refresh(
    home: &Home,
    config: &Config,
    environment: &Environment,
    stop: &StopFlag,
) -> Result<(Repo, Oid), String> {
    let infra = &config.spec.infra;
    let branch = RefName::branch(&infra.branch).map_err(|error| error.to_string())?;
    let text = local_url(&infra.url, home);
    let url = GitUrl::parse(&text, FilePolicy::Allow).map_err(|error| error.to_string())?;
    let git = git(environment).stoppable(stop.clone());
    let path = home.infra();
    if !path.join("HEAD").is_file() {
        git.init_bare(&path, "main").map_err(|error| in_words(&error))?;
    }
    let repo = Repo::open(&path).map_err(|error| in_words(&error))?;
    if let Some(tip) = unchanged(&text, &branch, &repo) {
        return Ok((repo, tip));
    }
    git.fetch(&path, &url, &branch, &branch).map_err(|error| in_words(&error))?;
    match repo.reference(&branch) {
        Ok(Some(tip)) => Ok((repo, tip)),
        Ok(None) => Err(format!("{} has no branch {}: is it empty?", infra.url, infra.branch)),
        Err(error) => Err(in_words(&error)),
    }
}

/// Removes locks that a killed fetch left behind: the mirror has no other writer.
pub fn clear_locks(home: &Home) -> Vec<String> {
    Repo::open(&home.infra()).map(|repo| repo.clear_locks(Locks::Mirror)).unwrap_or_default()
}

/// A local repository's branch is looked at directly: no program has to run to see that it did not move.
fn unchanged(url: &str, branch: &RefName, mirror: &Repo) -> Option<Oid> {
    let source = Repo::open(std::path::Path::new(url)).ok()?;
    let theirs = source.reference(branch).ok()??;
    let ours = mirror.reference(branch).ok()??;
    (theirs == ours).then_some(ours)
}

/// A relative path is relative to the configuration.
fn local_url(url: &str, home: &Home) -> String {
    let looks_remote = url.contains("://") || url.contains(':');
    if looks_remote || url.starts_with('/') {
        return url.to_owned();
    }
    home.folder().join(url).display().to_string()
}

fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
