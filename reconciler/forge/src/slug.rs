//! `owner/name`: which repository of a forge.

use std::fmt;
use std::str::FromStr;

/// A repository's place on a forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slug {
    owner: String,
    name: String,
}

/// Why a text names no repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no repository: write it as owner/name")]
pub struct BadSlug(String);

impl Slug {
    /// The account or organisation.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The repository's own name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Slug {
    type Err = BadSlug;

    /// Letters, digits, `-`, `_` and `.`, as all three forges have it; `.` and `..` alone would be another path.
    fn from_str(text: &str) -> Result<Self, BadSlug> {
        let bad = || BadSlug(text.chars().filter(|c| !c.is_control()).take(100).collect());
        let is_part = |part: &str| {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            (1..=100).contains(&part.len()) && part.chars().all(legal) && part.chars().any(|c| c != '.')
        };
        let (owner, name) = text.split_once('/').ok_or_else(bad)?;
        if !is_part(owner) || !is_part(name) {
            return Err(bad());
        }
        Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_repository_is_one() {
        for good in ["ops/requests", "a.b/c_d-e", "1/2"] {
            assert_eq!(good.parse::<Slug>().unwrap().to_string(), good);
        }
        for bad in ["", "ops", "/a", "a/", "a/b/c", "../a", "a/..", "a/b?x=1", "a/b c", "a/ä", "a/b#"] {
            assert!(bad.parse::<Slug>().is_err(), "{bad}");
        }
    }
}
