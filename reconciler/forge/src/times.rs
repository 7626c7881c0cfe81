//! Times as forges write them.

use chiffon_schemas::Timestamp;

/// A time of the forge's, in whatever zone its server lives; the beginning of time where it says none.
pub(crate) fn time(text: Option<&str>) -> Timestamp {
    let parsed = text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    Timestamp::from_secs(parsed.map_or(0, jiff::Timestamp::as_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_any_zone_are_read() {
        assert_eq!(time(Some("2026-11-26T03:00:00+02:00")), time(Some("2026-11-26T01:00:00Z")));
        assert_eq!(time(Some("2026-11-26T01:00:00.5Z")).secs() % 60, 0);
    }
}
