//! Times as people type them.

use anyhow::{Result, bail};
use chiffon_schemas::Timestamp;

use crate::environment;

/// A time ahead: RFC 3339, or `30m`, `12h`, `3d` from now.
///
/// # Errors
/// The text is neither, or the time has passed.
pub fn ahead(text: &str) -> Result<Timestamp> {
    let now = environment::now();
    let at = match span(text) {
        Some(secs) => now.plus_secs(secs),
        None => parse(text)?,
    };
    if at <= now {
        bail!("{at} has passed already");
    }
    Ok(at)
}

/// A time before: RFC 3339, or `12h`, `7d` ago.
///
/// # Errors
/// The text is neither.
pub fn before(text: &str) -> Result<Timestamp> {
    match span(text) {
        Some(secs) => Ok(environment::now().plus_secs(-secs)),
        None => parse(text),
    }
}

fn parse(text: &str) -> Result<Timestamp> {
    match Timestamp::parse(text) {
        Ok(at) => Ok(at),
        Err(_) => bail!("`{text}` is no time: write 2026-12-06T09:00:00Z, or a span like 30m, 12h or 3d"),
    }
}

/// `90s`, `30m`, `12h`, `3d`, `2w` in seconds.
fn span(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: i64 = number.parse().ok().filter(|number| (0..=100_000).contains(number))?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    Some(number * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_a_number_and_a_unit() {
        assert_eq!(span("30m"), Some(1_800));
        assert_eq!(span("3d"), Some(259_200));
        for text in ["", "m", "-1h", "3", "3y", "é", "99999999999d"] {
            assert_eq!(span(text), None, "{text}");
        }
    }
}
