//! The nearest right word for one that was mistyped.

/// The candidate that `word` most likely meant; `None` where none is near enough to suggest.
///
/// Near means: at most a third of the letters differ (swapped neighbours count as one), or one is the other's beginning.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lowered = word.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other = candidate.to_lowercase();
        let prefix = lowered.len() >= 3 && other.starts_with(&lowered);
        let distance = if prefix { 1 } else { strsim::damerau_levenshtein(&lowered, &other) };
        let allowed = (word.chars().count().max(candidate.chars().count()) / 3).max(1);
        // Ties go to the first in order, so that the suggestion never depends on chance.
        if distance <= allowed && best.is_none_or(|(known, _)| distance < known) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn typos_are_met_and_strangers_are_not() {
        assert_eq!(nearest("nas1", ["nas01", "web01"]), Some("nas01"));
        assert_eq!(nearest("taget", ["text", "targets", "vars"]), Some("targets"));
        assert_eq!(nearest("kuma", ["kuma-uptime", "jellyfin"]), Some("kuma-uptime"));
        assert_eq!(nearest("zebra", ["nas01", "web01"]), None);
        assert_eq!(nearest("a", []), None);
    }
}
