//! The mirror of the infra repository: a bare copy that the reconciler and the embedded agent read.

use chiffon_requests::{Git, Mirror, Repo, StopFlag};
use chiffon_schemas::Oid;

use crate::commands::chain;
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
    let git = git(environment).stoppable(stop.clone());
    mirror(home, config).and_then(|mirror| mirror.refresh(&git)).map_err(|error| match error {
        chiffon_requests::Error::NoRemoteBranch { .. } => {
            format!("{} has no branch {}: is it empty?", infra.url, infra.branch)
        }
        error => chain(&error),
    })
}

/// Removes locks that a killed fetch left behind: the mirror has no other writer.
pub fn clear_locks(home: &Home, config: &Config) -> Vec<String> {
    mirror(home, config).map(|mirror| mirror.clear_locks()).unwrap_or_default()
}

fn mirror(home: &Home, config: &Config) -> Result<Mirror, chiffon_requests::Error> {
    let infra = &config.spec.infra;
    Mirror::new(home.infra(), &infra.url, home.folder(), &infra.branch)
}
