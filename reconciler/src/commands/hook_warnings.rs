//! What a push is warned of and never refused for: targets that the inventory does not have, as its mirror was last
//! seen. The inventory may move before the plan is made; then the request is asked about or blocked, in words.

use std::path::Path;

use chiffon_core::catalogue::Catalogue;
use chiffon_requests::{RefName, Repo};
use chiffon_schemas::Request;

use crate::config;
use crate::home::Home;

/// The catalogue, read when the first request names a target.
pub struct Inventory<'a> {
    git_dir: &'a Path,
    catalogue: Option<Option<Catalogue>>,
}

impl<'a> Inventory<'a> {
    /// Of the home that the requests repository at `git_dir` lies in.
    pub fn beside(git_dir: &'a Path) -> Self {
        Self { git_dir, catalogue: None }
    }

    /// One warning for each target that is neither host nor group. None where the inventory can't be read: what
    /// stands in the way is for the reconciler to say.
    pub fn warnings(&mut self, file: &str, request: &Request) -> Vec<String> {
        if request.spec.targets.is_empty() {
            return Vec::new();
        }
        let git_dir = self.git_dir;
        let Some(catalogue) = self.catalogue.get_or_insert_with(|| read(git_dir)) else { return Vec::new() };
        let inventory = &catalogue.inventory;
        let unknown = request.spec.targets.iter().filter(|target| inventory.named(target.as_str()).is_none());
        let known: Vec<&str> = inventory
            .hosts
            .keys()
            .map(|host| host.as_str())
            .chain(inventory.groups.keys().map(String::as_str))
            .collect();
        unknown
            .map(|target| {
                let near = chiffon_schemas::nearest(target.as_str(), known.iter().copied());
                let near = near.map_or_else(String::new, |near| format!(": did you mean `{near}`?"));
                format!("warning: {file}: the inventory has no `{target}`{near}")
            })
            .collect()
    }
}

fn read(git_dir: &Path) -> Option<Catalogue> {
    let home = Home::at(git_dir.canonicalize().ok()?.parent()?);
    let infra = config::load(&home.config()).ok()?.spec.infra;
    let repo = Repo::open(&home.infra()).ok()?;
    let tip = repo.reference(&RefName::branch(&infra.branch).ok()?).ok()??;
    chiffon_planner::read_catalogue(&repo, &tip, &infra.name, &infra.inventory).ok()
}
