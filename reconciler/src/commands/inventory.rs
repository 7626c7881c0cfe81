//! Targets that the inventory does not have, as its mirror was last seen: a finding of `validate`, and of a push only a
//! warning, since the inventory may move before the plan is made. Then the request is asked about, in words.

use chiffon_core::catalogue::Catalogue;
use chiffon_requests::{RefName, Repo};
use chiffon_schemas::{Code, Diagnostic, yaml};

use crate::config;
use crate::home::Home;

/// The hosts and groups of a home, read when the first request names a target.
pub struct Inventory {
    home: Option<Home>,
    catalogue: Option<Option<Catalogue>>,
}

impl Inventory {
    /// Of a home; without one, nothing is unknown.
    pub fn of(home: Option<Home>) -> Self {
        Self { home, catalogue: None }
    }

    /// Each target of a request that is neither host nor group, where it stands. None where the inventory can't be
    /// read: what stands in the way is for the reconciler to say.
    pub fn unknown_targets(&mut self, file: &str, bytes: &[u8]) -> Vec<Diagnostic> {
        let Ok(node) = yaml::parse_bytes(bytes, &yaml::Limits::REQUEST) else { return Vec::new() };
        let targets = node.get("spec").and_then(|spec| spec.get("targets"));
        let Some(targets) = targets.filter(|targets| !targets.items().is_empty()) else { return Vec::new() };
        let home = self.home.as_ref();
        let read = self.catalogue.get_or_insert_with(|| home.and_then(read));
        let Some(inventory) = read.as_ref().map(|catalogue| &catalogue.inventory) else { return Vec::new() };
        let known: Vec<&str> = inventory
            .hosts
            .keys()
            .map(|host| host.as_str())
            .chain(inventory.groups.keys().map(String::as_str))
            .collect();
        let text = String::from_utf8_lossy(bytes);
        let unknown = targets.items().iter().filter_map(|item| {
            let word = item.as_str()?;
            if inventory.named(word).is_some() {
                return None;
            }
            let message = format!("the inventory has no host or group `{word}`");
            let found = Diagnostic::new(Code::UnknownHost, file, &text, item.span, message).label("not there");
            Some(match chiffon_schemas::nearest(word, known.iter().copied()) {
                Some(near) => found.help(format!("did you mean `{near}`?")),
                None => found,
            })
        });
        unknown.collect()
    }
}

fn read(home: &Home) -> Option<Catalogue> {
    let infra = config::load(&home.config()).ok()?.spec.infra;
    let repo = Repo::open(&home.infra()).ok()?;
    let tip = repo.reference(&RefName::branch(&infra.branch).ok()?).ok()??;
    chiffon_planner::read_catalogue(&repo, &tip, &infra.name, &infra.inventory).ok()
}
