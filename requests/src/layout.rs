//! Where things lie in a requests repository: what a path means, and what belongs beside what.

use chiffon_schemas::{Name, RepoPath, RunId, Timestamp};

/// Levels of folders between `requests/` and a request.
const MAX_LEVELS: usize = 8;

/// What a path of `main` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// A request: `requests/[<folder>/]<name>.yaml`.
    Request {
        /// The folder between, without slashes at its ends; empty where there is none.
        folder: String,
        /// Its name.
        name: Name,
    },
    /// A plan: `plans/[<folder>/]<name>.yaml`.
    Plan {
        /// The folder between.
        folder: String,
        /// Its name.
        name: Name,
    },
    /// Something that was surely meant as a request and is none.
    Mistake {
        /// Why, with the way out.
        reason: String,
    },
    /// Nothing to Chiffon.
    Other,
}

/// What a path of `main` is.
pub fn locate(path: &RepoPath) -> Located {
    let text = path.as_str();
    if let Some(rest) = text.strip_prefix("requests/") {
        return request(rest);
    }
    let Some(rest) = text.strip_prefix("plans/") else { return Located::Other };
    if rest.ends_with(".evidence.yaml") {
        return Located::Other;
    }
    match rest.strip_suffix(".yaml").and_then(split) {
        Some((folder, name)) => Located::Plan { folder, name },
        None => Located::Other,
    }
}

fn request(rest: &str) -> Located {
    let file = rest.rsplit('/').next().unwrap_or(rest);
    let mistake = |reason: String| Located::Mistake { reason };
    if let Some((folder, name)) = rest.strip_suffix(".yaml").and_then(split) {
        let levels = folder.split('/').filter(|level| !level.is_empty()).count();
        if levels > MAX_LEVELS {
            return mistake(format!("its folders are nested deeper than {MAX_LEVELS} levels: move it up"));
        }
        return Located::Request { folder, name };
    }
    let lower = file.to_lowercase();
    if file.starts_with('.') || lower.ends_with(".md") {
        return Located::Other;
    }
    if let Some(stem) = rest.strip_suffix(".yml") {
        return mistake(format!("requests end in .yaml: rename it to {stem}.yaml"));
    }
    if rest.ends_with(".yaml") {
        return mistake("its name and folders must be 1 to 63 of a-z, 0-9 and -, not beginning with -".to_owned());
    }
    // Editors and file managers make these of `kuma.yaml`; silence would let a person wait for a plan for ever.
    if [".yaml", ".yml"].iter().any(|ending| lower.contains(ending)) || lower.ends_with(".json") {
        return mistake("requests are YAML files that end in .yaml: rename it".to_owned());
    }
    Located::Other
}

/// `media/kuma` as folder and name.
fn split(stem: &str) -> Option<(String, Name)> {
    let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    let name = Name::parse(name).ok()?;
    let folders_fit = folder.is_empty() || folder.split('/').all(|part| Name::parse(part).is_ok());
    folders_fit.then(|| (folder.to_owned(), name))
}

/// `plans/media/kuma.yaml` for `requests/media/kuma.yaml`.
pub fn plan_path(request: &RepoPath) -> RepoPath {
    beside(request, "requests/", "plans/", ".yaml", ".yaml")
}

/// `plans/media/kuma.md` for its plan.
pub fn rendering_path(plan: &RepoPath) -> RepoPath {
    beside(plan, "plans/", "plans/", ".yaml", ".md")
}

/// `plans/media/kuma.evidence.yaml` for its plan.
pub fn evidence_path(plan: &RepoPath) -> RepoPath {
    beside(plan, "plans/", "plans/", ".yaml", ".evidence.yaml")
}

/// `status/media/kuma.md` for `requests/media/kuma.yaml`.
pub fn status_path(request: &RepoPath) -> RepoPath {
    beside(request, "requests/", "status/", ".yaml", ".md")
}

/// `results/2026-11/22/<run>/result-<n>.yaml`: the record of a run, in the folder of the day on which it ended.
pub fn result_path(ended: Timestamp, run: &RunId, number: u64) -> RepoPath {
    let (year, month, day) = ended.date();
    RepoPath::parse(format!("results/{year:04}-{month:02}/{day:02}/{run}/result-{number}.yaml"))
        .expect("made of numbers and an id")
}

fn beside(path: &RepoPath, from: &str, to: &str, extension: &str, with: &str) -> RepoPath {
    let text = path.as_str();
    let stem = text.strip_prefix(from).unwrap_or(text);
    let stem = stem.strip_suffix(extension).unwrap_or(stem);
    RepoPath::parse(format!("{to}{stem}{with}")).expect("a path stays one under another folder and ending")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Located {
        locate(&RepoPath::parse(text).unwrap())
    }

    #[test]
    fn only_plans_are_plans() {
        let name = Name::parse("kuma").unwrap();
        assert_eq!(at("plans/media/kuma.yaml"), Located::Plan { folder: "media".to_owned(), name: name.clone() });
        assert_eq!(at("plans/kuma.md"), Located::Other);
        assert_eq!(at("plans/kuma.evidence.yaml"), Located::Other);
        assert_eq!(at("requests/kuma.yaml"), Located::Request { folder: String::new(), name });
        for text in [
            "requests/README.md",
            "requests/m/readme.md",
            "requests/.gitkeep",
            "requests/.hidden.yml",
            "requests/a.png",
            "a",
        ] {
            assert_eq!(at(text), Located::Other, "{text}");
        }
        let deep = format!("requests/{}kuma.yaml", "d/".repeat(9));
        for text in [
            "requests/kuma.yml",
            "requests/Kuma.yaml",
            "requests/My Folder/kuma.yaml",
            "requests/kuma.YAML",
            "requests/kuma.yaml.txt",
            "requests/kuma.json",
            "requests/k_uma.yaml",
            "requests/m/.x/kuma.yaml",
            &deep,
        ] {
            assert!(matches!(at(text), Located::Mistake { .. }), "{text}");
        }
    }

    #[test]
    fn paths_stand_beside_each_other() {
        let request = RepoPath::parse("requests/media/kuma.yaml").unwrap();
        let plan = plan_path(&request);
        assert_eq!(plan.as_str(), "plans/media/kuma.yaml");
        assert_eq!(rendering_path(&plan).as_str(), "plans/media/kuma.md");
        assert_eq!(evidence_path(&plan).as_str(), "plans/media/kuma.evidence.yaml");
        assert_eq!(status_path(&request).as_str(), "status/media/kuma.md");
    }
}
