//! Names and ids as types, so that a bare string in a signature is always a question.
//!
//! Parsing happens once, at the rim; whoever holds one of these types never checks it again.

use std::fmt;

/// Why a text is not a value of one of the id types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: {rule}")]
pub struct InvalidId {
    /// The text as it was given.
    pub text: String,
    /// What it should have been, with its article: `a name`.
    pub what: &'static str,
    /// The rule in words.
    pub rule: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String", extend("pattern" = $pattern))]
        pub struct $name(String);

        impl $name {
            #[doc = concat!("Parses ", $what, ": ", $rule, ".")]
            ///
            /// # Errors
            /// The text breaks the rule.
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) {
                    Ok(Self(text))
                } else {
                    Err(InvalidId { text, what: $what, rule: $rule })
                }
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// Whether a text is a name: `[a-z0-9][a-z0-9-]{0,62}`.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes[0] != b'-'
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn is_oid(text: &str) -> bool {
    (text.len() == 40 || text.len() == 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_ulid(text: &str) -> bool {
    text.len() == 26
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b.is_ascii_uppercase() && !matches!(b, b'I' | b'L' | b'O' | b'U')))
}

/// Inventory hosts are other people's names: letters, digits, `.`, `_`, `-` and `:` (IPv6), never
/// beginning with a character that Ansible's patterns or an option parser would read.
fn is_host(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':'))
}

/// A path inside a repository: relative, `/` between parts, no `.`/`..`/`.git` part, no control
/// character, no backslash, and no part that begins with `-`, so that it can't be read as an option.
fn is_repo_path(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 1024
        && !text.chars().any(|c| c.is_control() || c == '\\')
        && text.strip_suffix('/').unwrap_or(text).split('/').all(|part| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && !part.starts_with('-')
                && !part.eq_ignore_ascii_case(".git")
        })
}

text_id!(
    /// The name of a request and of its plan, an agent or a repository; unique over all folders.
    Name, "a name", "1 to 63 of a-z, 0-9 and -, not beginning with -", "^[a-z0-9][a-z0-9-]{0,62}$", is_name
);
text_id!(
    /// A git object id in lower-case hexadecimal: 40 digits (SHA-1) or 64 (SHA-256).
    Oid, "an object id", "40 or 64 lower-case hexadecimal digits", "^([0-9a-f]{40}|[0-9a-f]{64})$", is_oid
);
text_id!(
    /// A host as an inventory names it.
    Host, "an inventory host", "letters, digits, `.`, `_`, `-` and `:`, beginning with a letter, a digit or `_`", "^[A-Za-z0-9_][A-Za-z0-9._:-]{0,252}$", is_host
);
text_id!(
    /// A path inside a repository, `/` between its parts; one that ends in `/` is a folder.
    RepoPath, "a path inside a repository", "relative, without `.`, `..`, `.git`, backslashes, control characters or parts that begin with `-`", "^[^-/\\\\][^\\\\]*$", is_repo_path
);
text_id!(
    /// The id of one run: a ULID, so ids sort by the time at which the run was created.
    RunId, "a run id", "a ULID: 26 of Crockford's base 32", "^[0-9A-HJKMNP-TV-Z]{26}$", is_ulid
);
text_id!(
    /// The id of one recorded event: a ULID; it makes writing the event twice harmless.
    EventId, "an event id", "a ULID: 26 of Crockford's base 32", "^[0-9A-HJKMNP-TV-Z]{26}$", is_ulid
);
text_id!(
    /// One life of an agent process: a ULID made when it starts.
    BootId, "a boot id", "a ULID: 26 of Crockford's base 32", "^[0-9A-HJKMNP-TV-Z]{26}$", is_ulid
);

impl Oid {
    /// The first eight digits, for people; never for looking anything up.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl RepoPath {
    /// The last part without its extension: `kuma` for `plans/media/kuma.yaml`.
    pub fn stem(&self) -> &str {
        let file = self.0.trim_end_matches('/').rsplit('/').next().unwrap_or(&self.0);
        file.rsplit_once('.').map_or(file, |(stem, _)| stem)
    }

    /// Whether this names a folder (it ends in `/`).
    pub fn is_folder(&self) -> bool {
        self.0.ends_with('/')
    }
}

/// Seconds since 1970-01-01T00:00:00Z; printed and parsed as RFC 3339 in UTC.
///
/// Whole seconds are enough for every rule of Chiffon, and make documents stable.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "date-time"))]
pub struct Timestamp(i64);

impl Timestamp {
    /// From seconds since the epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs)
    }

    /// Seconds since the epoch.
    pub const fn secs(self) -> i64 {
        self.0
    }

    /// This time plus `secs`; it saturates at the ends of the range.
    #[must_use]
    pub const fn plus_secs(self, secs: i64) -> Self {
        Self(self.0.saturating_add(secs))
    }

    /// Year, month (1 to 12) and day (1 to 31) in UTC.
    ///
    /// The proleptic Gregorian calendar by Howard Hinnant's `civil_from_days`.
    pub const fn date(self) -> (i64, u8, u8) {
        let z = self.0.div_euclid(86_400) + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = (doy - (153 * mp + 2) / 5 + 1) as u8;
        let month = (if mp < 10 { mp + 3 } else { mp - 9 }) as u8;
        let year = yoe + era * 400 + if month <= 2 { 1 } else { 0 };
        (year, month, day)
    }

    /// Parses RFC 3339 in UTC with whole seconds: `2026-12-06T09:00:00Z`.
    ///
    /// # Errors
    /// Anything else, other zones included.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        parse_rfc3339(text).ok_or_else(|| InvalidId {
            text: text.to_owned(),
            what: "a time",
            rule: "RFC 3339 in UTC with whole seconds, like 2026-12-06T09:00:00Z",
        })
    }
}

fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() != 20 || bytes[19] != b'Z' || bytes[10] != b'T' {
        return None;
    }
    if bytes[4] != b'-' || bytes[7] != b'-' || bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = text.get(range)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    let days = era * 146_097 + doe - 719_468;
    let time = Timestamp(days * 86_400 + hour * 3_600 + minute * 60 + second);
    // 31 February parses as a day of March; only a date that prints as it was given is one.
    (time.to_string() == text).then_some(time)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        let secs = self.0.rem_euclid(86_400);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", secs / 3_600, secs / 60 % 60, secs % 60)
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::parse(&text)
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> String {
        time.to_string()
    }
}

/// Makes a ULID from milliseconds since the epoch and 80 random bits.
pub fn ulid(millis: u64, random: u128) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let value = (u128::from(millis & 0xFFFF_FFFF_FFFF) << 80) | (random & ((1 << 80) - 1));
    (0..26).rev().map(|i| char::from(ALPHABET[(value >> (i * 5)) as usize & 31])).collect()
}

/// A fencing number: which incarnation of the store granted, and its running count.
///
/// Greater means later; an agent refuses a fence lower than the highest that it has seen (R4, R11).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    /// Rises by one with each rebuild of the store.
    pub incarnation: u32,
    /// Rises by one with each grant.
    pub counter: u64,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_and_parse_alike() {
        for text in ["1970-01-01T00:00:00Z", "2000-02-29T23:59:59Z", "2026-12-06T09:00:00Z", "2100-03-01T00:00:00Z"] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "2026-02-30T00:00:00Z",
            "2026-12-06 09:00:00Z",
            "2026-12-06T09:00:00+01:00",
            "2026-13-01T00:00:00Z",
            "",
            "é026-12-06T09:00:00Z",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn s7_paths_that_look_like_options_or_escape_are_no_paths() {
        for text in ["../a", "a/../b", "/a", "-a", "a/-b", "a//b", ".git/config", "a/.GIT/x", "a\\b", "a\nb", ""] {
            assert!(RepoPath::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(RepoPath::parse("plans/media/kuma.yaml").unwrap().stem(), "kuma");
    }

    #[test]
    fn ulids_sort_by_time() {
        assert!(ulid(1, u128::MAX) < ulid(2, 0));
        assert!(RunId::parse(ulid(1_700_000_000_000, 7)).is_ok());
    }
}
