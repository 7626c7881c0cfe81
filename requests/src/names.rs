//! Names of refs and the people in commits.

use chiffon_schemas::{InvalidId, Name, Timestamp};

/// The full name of a ref, validated: never an option, never a refspec, never outside the two places that we use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefName(String);

impl RefName {
    /// A branch: `main` is `refs/heads/main`.
    ///
    /// # Errors
    /// The text is no branch name.
    pub fn branch(name: &str) -> Result<Self, InvalidId> {
        Self::parse(&format!("refs/heads/{name}"))
    }

    /// The branch that shows a request's open offer.
    pub fn plan_branch(name: &Name) -> Self {
        Self(format!("refs/heads/chiffon/plan/{name}"))
    }

    /// The audit branch.
    pub fn audit() -> Self {
        Self("refs/heads/chiffon/audit".to_owned())
    }

    /// Where the forge's own plan branches, and its audit branch, are remembered as they were when last looked at.
    pub(crate) const FORGE: &str = "refs/chiffon/forge/";

    /// The forge's plan branch of a request, as it was when last looked at.
    pub fn forge_plan_branch(name: &Name) -> Self {
        Self(format!("{}plan/{name}", Self::FORGE))
    }

    /// Another branch of the forge below `chiffon/`, as it was when last looked at.
    ///
    /// # Errors
    /// It is no name of a branch.
    pub(crate) fn forge_other(rest: &str) -> Result<Self, crate::Error> {
        Self::branch(&format!("chiffon/{rest}"))?;
        Ok(Self(format!("{}{rest}", Self::FORGE)))
    }

    /// The forge's audit branch, as it was when last looked at.
    pub fn forge_audit() -> Self {
        Self(format!("{}audit", Self::FORGE))
    }

    /// Where pins lie.
    pub(crate) const PINS: &str = "refs/chiffon/pins/";

    /// What keeps the infra commit of a plan alive.
    pub(crate) fn pin(plan: &chiffon_schemas::Oid) -> Self {
        Self(format!("{}{plan}", Self::PINS))
    }

    /// What keeps a commit that a request's plan branch lost.
    pub(crate) fn kept(request: &Name, commit: &chiffon_schemas::Oid) -> Self {
        Self(format!("refs/chiffon/kept/{request}/{commit}"))
    }

    /// Where `main` of a forge was when somebody looked beside whoever keeps the copy up to date.
    pub(crate) fn peeked() -> Self {
        Self("refs/chiffon/peeked".to_owned())
    }

    /// A full name under `refs/heads/` or `refs/chiffon/`.
    ///
    /// # Errors
    /// The text breaks git's rules for refs, or lies elsewhere.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let inside = text.strip_prefix("refs/heads/").or_else(|| text.strip_prefix("refs/chiffon/"));
        if inside.is_some_and(is_ref_path) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidId {
            text: text.to_owned(),
            what: "a branch",
            rule: "parts of letters, digits and `._-/+`, none empty, none beginning with `-` or `.`, without `..`",
        })
    }

    /// The full name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for RefName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Narrower than `git check-ref-format`: what it leaves out is never needed and often an attack.
fn is_ref_path(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['-', '.'])
            && !part.ends_with('.')
            && !part.ends_with(".lock")
            && !part.contains("..")
            && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '#' | '='))
    };
    text.len() <= 200 && text.split('/').all(part)
}

/// A person or program in a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
    /// When.
    pub time: Timestamp,
}

impl Signature {
    /// Chiffon's own.
    pub fn chiffon(time: Timestamp) -> Self {
        Self { name: "Chiffon".to_owned(), email: "chiffon@localhost".to_owned(), time }
    }

    /// As gix has it, without what would break a commit's header.
    pub(crate) fn to_gix(&self) -> gix::actor::Signature {
        let clean = |text: &str| {
            let kept: String = text.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).collect();
            kept.trim().to_owned()
        };
        gix::actor::Signature {
            name: clean(&self.name).into(),
            email: clean(&self.email).into(),
            time: gix::date::Time { seconds: self.time.secs(), offset: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_refs_that_could_be_options_or_refspecs_are_none() {
        for text in [
            "--upload-pack=id",
            "-x",
            "a..b",
            "a b",
            "a:b",
            "+a:b",
            "a~1",
            "a^",
            "a?*",
            "a\\b",
            ".a",
            "a.lock",
            "a/",
            "/a",
            "a//b",
            "a/.b",
            "a/-b",
            "@{1}",
            "a\nb",
            "",
            "a\u{7f}",
        ] {
            assert!(RefName::branch(text).is_err(), "{text:?}");
        }
        assert!(RefName::parse("refs/tags/v1").is_err());
        assert!(RefName::parse("HEAD").is_err());
        assert_eq!(RefName::branch("feature/x-1").unwrap().as_str(), "refs/heads/feature/x-1");
    }
}
