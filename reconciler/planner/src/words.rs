//! Small operations on words: folding, stems, titles, slugs and spelling.

use crate::lexicon;

/// Lower case without accents: `Löschen` → `loschen`.
pub(crate) fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        match c {
            'ä' | 'à' | 'á' | 'â' | 'ã' | 'å' => out.push('a'),
            'ö' | 'ò' | 'ó' | 'ô' | 'õ' => out.push('o'),
            'ü' | 'ù' | 'ú' | 'û' => out.push('u'),
            'è' | 'é' | 'ê' | 'ë' => out.push('e'),
            'ì' | 'í' | 'î' | 'ï' => out.push('i'),
            'ç' => out.push('c'),
            'ñ' => out.push('n'),
            'ß' => out.push_str("ss"),
            '’' => out.push('\''),
            c => out.push(c),
        }
    }
    out
}

/// A folded word without a plural's ending: `dashboards` → `dashboard`, `repositories` → `repository`.
pub(crate) fn stem(word: &str) -> String {
    if word.len() > 4
        && let Some(body) = word.strip_suffix("ies")
    {
        return format!("{body}y");
    }
    let sibilant = ["sses", "xes", "ches", "shes"].iter().any(|end| word.ends_with(end));
    if word.len() > 4 && sibilant {
        return word[..word.len() - 2].to_owned();
    }
    // `https` is no plural: it would be taken for `http`.
    let kept = ["ss", "us", "is", "https"].iter().any(|end| word.ends_with(end));
    match word.strip_suffix('s') {
        Some(body) if word.len() > 3 && !kept => body.to_owned(),
        _ => word.to_owned(),
    }
}

/// The folded words of a text, split at everything that is no letter or digit.
pub(crate) fn split(text: &str) -> Vec<String> {
    fold(text).split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// `uptime_kuma` → `uptime-kuma`: lower-case words with `-` between them.
pub(crate) fn slug(text: &str) -> String {
    split(text).join("-")
}

/// `home-assistant` → `Home Assistant`.
pub(crate) fn title_of(text: &str) -> String {
    let words = text.split(['-', '_', ' ']).filter(|word| !word.is_empty());
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
    };
    words.map(capital).collect::<Vec<_>>().join(" ")
}

/// A file's stem without the words that say what is done: `kuma-config-update` → `kuma`.
pub(crate) fn without_intents(stem: &str) -> String {
    let words = split(stem);
    let words: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| lexicon::intents_of(word).is_empty() && *word != "playbook")
        .collect();
    words.join("-")
}

/// Whether two slugs share a word.
pub(crate) fn shares_word(a: &str, b: &str) -> bool {
    a.split('-').any(|word| b.split('-').any(|other| other == word))
}

/// The comment lines at the top of a file, as one text.
pub(crate) fn top_comment(text: &str) -> String {
    let lines = text.lines().map(str::trim).skip_while(|line| *line == "---" || line.is_empty());
    let comment = lines.take_while(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    limit(&comment.collect::<Vec<_>>().join(" "), 600)
}

/// The first paragraph below the title of a README, up to three lines.
pub(crate) fn first_paragraph(text: &str) -> String {
    let lines = text
        .lines()
        .map(str::trim)
        .skip_while(|line| line.is_empty() || line.starts_with('#') || line.starts_with('='));
    let body: Vec<&str> =
        lines.take_while(|line| !line.is_empty() && !line.starts_with(['|', '-', '`'])).take(3).collect();
    limit(&body.join(" "), 400)
}

/// At most `max` characters.
pub(crate) fn limit(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

/// How many slips of the pen a word of this length may have.
fn slips(length: usize) -> usize {
    match length {
        0..=4 => 0,
        5..=7 => 1,
        _ => 2,
    }
}

/// The word among `known` that this one is most likely a misspelling of; the first letter is never wrong.
pub(crate) fn spelled<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let allowed = slips(word.chars().count());
    if allowed == 0 || word.chars().any(|c| c.is_ascii_digit()) {
        return None;
    }
    let near =
        known.filter(|other| other.len() >= 4 && other.chars().next() == word.chars().next()).filter_map(|other| {
            let distance = strsim::osa_distance(word, other);
            (distance > 0 && distance <= allowed.min(slips(other.chars().count()).max(1))).then_some((distance, other))
        });
    near.min().map(|(_, word)| word)
}

/// Names near to a word, best first, at most three: what somebody may have meant.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Vec<String> {
    let word = fold(word);
    let mut near: Vec<(usize, &str)> = known
        .map(|other| (strsim::osa_distance(&word, &fold(other)), other))
        .filter(|(distance, other)| *distance <= 1 + other.len() / 4)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, other)| other.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_read_and_short_or_other_words_are_not() {
        let known = ["assistant", "kuma", "prometheus", "gitea"];
        assert_eq!(spelled("asistant", known.into_iter()), Some("assistant"));
        assert_eq!(spelled("kumma", known.into_iter()), Some("kuma"));
        assert_eq!(spelled("kima", known.into_iter()), None);
        assert_eq!(spelled("gitlab", known.into_iter()), None);
    }

    #[test]
    fn stems_are_of_one_kind_for_one_and_many() {
        for (many, one) in
            [("dashboards", "dashboard"), ("repositories", "repository"), ("boxes", "box"), ("dns", "dns")]
        {
            assert_eq!(stem(many), stem(one));
        }
    }

    #[test]
    fn names_of_files_lose_what_is_done() {
        assert_eq!(without_intents("kuma-config-update"), "kuma");
        assert_eq!(without_intents("home_assistant-restart"), "home-assistant");
        assert_eq!(without_intents("update"), "");
    }
}
