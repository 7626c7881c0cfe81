//! Removes secrets from a stream of bytes, also where one lies across the border of two chunks.
//!
//! Nothing that might still become a secret leaves before the bytes that decide it have come; what is held back is
//! at most one pattern long. Text without secrets passes unchanged.

use std::collections::BTreeSet;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, BuildError};

use crate::forms;

/// What stands where a secret was; the others serve where a secret would be part of the first.
const MARKS: [&str; 3] = ["«redacted»", "«***»", "«…»"];

/// The secrets of one attempt, ready to be searched for.
#[derive(Debug, Clone)]
pub struct Secrets {
    matcher: Option<AhoCorasick>,
    /// All patterns, sorted, to tell whether the end of a buffer may become one.
    patterns: Vec<Vec<u8>>,
    longest: usize,
    mark: &'static str,
    /// Values that were too short to be removed.
    pub too_short: usize,
}

impl Secrets {
    /// Takes values of any length and content.
    ///
    /// # Errors
    /// There are so many of them that no matcher can be built.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, BuildError> {
        let mut forms = BTreeSet::new();
        let too_short = values.into_iter().filter(|value| !forms::add_forms(value, &mut forms)).count();
        let patterns: Vec<Vec<u8>> = forms.into_iter().collect();
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
        let holds = |mark: &str| {
            patterns.iter().any(|pattern| mark.as_bytes().windows(pattern.len()).any(|part| part == pattern))
        };
        let mark = MARKS.into_iter().find(|mark| !holds(mark)).unwrap_or("");
        let matcher = if patterns.is_empty() { None } else { Some(AhoCorasick::new(&patterns)?) };
        Ok(Self { matcher, patterns, longest, mark, too_short })
    }

    /// No secrets at all: text passes unchanged.
    pub fn none() -> Self {
        Self { matcher: None, patterns: Vec::new(), longest: 0, mark: MARKS[0], too_short: 0 }
    }

    /// The text without secrets.
    pub fn clean(&self, text: &str) -> String {
        let mut out = Vec::with_capacity(text.len());
        self.release(text.as_bytes(), 0, text.len(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Where the longest end of `buffer` begins that may become a secret with what follows.
    fn undecided_from(&self, buffer: &[u8]) -> usize {
        let earliest = buffer.len().saturating_sub(self.longest.saturating_sub(1));
        (earliest..buffer.len())
            .find(|&at| {
                let end = &buffer[at..];
                let next = self.patterns.partition_point(|pattern| pattern.as_slice() < end);
                // A pattern equal to `end` is a match already; one that only begins with it sorts right behind.
                self.patterns[next..].iter().find(|pattern| *pattern != end).is_some_and(|p| p.starts_with(end))
            })
            .unwrap_or(buffer.len())
    }

    /// Writes `buffer` up to `until` without secrets, the first `marked` bytes of it being one whose mark is written
    /// already; returns how many bytes behind `until` belong to a secret whose mark is written.
    fn release(&self, buffer: &[u8], marked: usize, until: usize, out: &mut Vec<u8>) -> usize {
        let mut at = marked;
        for (start, end) in self.covered(buffer) {
            if start >= until {
                break;
            }
            if start > at {
                out.extend_from_slice(&buffer[at..start]);
            }
            // A secret that overlaps the one whose mark is written already continues it.
            if start >= marked {
                out.extend_from_slice(self.mark.as_bytes());
            }
            at = at.max(end);
        }
        if at < until {
            out.extend_from_slice(&buffer[at..until]);
        }
        at.saturating_sub(until)
    }

    /// The ranges of `buffer` that secrets cover, joined where they overlap, in order.
    fn covered(&self, buffer: &[u8]) -> Vec<(usize, usize)> {
        let Some(matcher) = &self.matcher else { return Vec::new() };
        let mut found: Vec<(usize, usize)> =
            matcher.find_overlapping_iter(buffer).map(|found| (found.start(), found.end())).collect();
        found.sort_unstable();
        let mut joined: Vec<(usize, usize)> = Vec::new();
        for (start, end) in found {
            match joined.last_mut() {
                Some(last) if start < last.1 => last.1 = last.1.max(end),
                _ => joined.push((start, end)),
            }
        }
        joined
    }
}

/// One stream from which secrets are removed.
#[derive(Debug)]
pub struct Redactor {
    secrets: Arc<Secrets>,
    held: Vec<u8>,
    /// How many of the held bytes belong to a secret whose mark was already written.
    marked: usize,
}

impl Redactor {
    /// A stream at its beginning.
    pub fn new(secrets: Arc<Secrets>) -> Self {
        Self { secrets, held: Vec::new(), marked: 0 }
    }

    /// Takes bytes and returns those that may leave.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let until = self.secrets.undecided_from(&self.held);
        self.release(until)
    }

    /// Returns what was held back; the stream has ended.
    pub fn finish(&mut self) -> Vec<u8> {
        self.release(self.held.len())
    }

    fn release(&mut self, until: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(until);
        self.marked = self.secrets.release(&self.held, self.marked, until, &mut out);
        self.held.drain(..until);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redact(secrets: &Arc<Secrets>, text: &[u8], cuts: &[usize]) -> Vec<u8> {
        let mut stream = Redactor::new(secrets.clone());
        let (mut out, mut from) = (Vec::new(), 0);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        cuts.sort_unstable();
        for cut in cuts {
            out.extend(stream.push(&text[from..cut]));
            assert!(stream.held.len() < secrets.longest.max(1), "held back more than a pattern");
            from = cut;
        }
        out.extend(stream.push(&text[from..]));
        out.extend(stream.finish());
        out
    }

    fn has(haystack: &[u8], needle: &[u8]) -> bool {
        haystack.windows(needle.len()).any(|part| part == needle)
    }

    #[test]
    fn s13_secrets_leave_one_mark_each() {
        let secrets = Secrets::new(["hunter2-hunter2", "abcdef", "defghi"]).unwrap();
        let clean = |text: &str| secrets.clean(text);
        assert_eq!(clean("pw=hunter2-hunter2;"), "pw=«redacted»;");
        assert_eq!(clean("xabcdefghiy"), "x«redacted»y");
        assert_eq!(clean("abcdef defghi"), "«redacted» «redacted»");
        assert_eq!(clean("abcde hunter2"), "abcde hunter2");
    }

    #[test]
    fn s13_a_secret_that_the_mark_would_spell_changes_the_mark() {
        let secrets = Secrets::new(["redacted"]).unwrap();
        assert_eq!(secrets.clean("a redacted b"), "a «***» b");
    }

    #[test]
    fn s13_values_of_several_lines_go_line_by_line() {
        let secrets = Secrets::new(["-----BEGIN KEY-----\nMIIabcdefg\n  zzzz\n"]).unwrap();
        assert_eq!(secrets.clean("> MIIabcdefg <"), "> «redacted» <");
        assert_eq!(secrets.clean("zzzz"), "«redacted»");
        assert_eq!(
            secrets.clean(r#"{"k": "-----BEGIN KEY-----\nMIIabcdefg\n"}"#),
            r#"{"k": "«redacted»\n«redacted»\n"}"#
        );
    }

    #[test]
    fn s13_a_value_longer_than_a_pattern_leaves_nothing_of_itself() {
        let value: String = (0..5_000).map(|n| char::from(b'a' + (n * n % 23) as u8)).collect();
        let secrets = Secrets::new([value.as_str()]).unwrap();
        assert_eq!(secrets.clean(&format!("<{value}>")), "<«redacted»>");
        assert!(secrets.longest < 8_000);
    }

    #[test]
    fn without_secrets_nothing_is_held_back() {
        let mut stream = Redactor::new(Arc::new(Secrets::new([]).unwrap()));
        assert_eq!(stream.push(b"abc\xff"), b"abc\xff");
        let mut stream = Redactor::new(Arc::new(Secrets::new(["secret"]).unwrap()));
        assert_eq!(stream.push(b"a line\n"), b"a line\n");
        assert_eq!(stream.push(b"sec"), b"");
        assert_eq!(stream.push(b"tor\n"), b"sector\n");
    }

    proptest! {
        #[test]
        fn s13_no_secret_in_any_form_passes_whatever_the_chunks(
            values in prop::collection::vec("[a-c'\"\\\\ é/+]{4,12}", 1..5),
            pieces in prop::collection::vec((0usize..6, "[a-c\\\\\"' ]{0,6}"), 0..20),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let secrets = Arc::new(Secrets::new(values.iter().map(String::as_str)).unwrap());
            let mut text = Vec::new();
            for (which, between) in &pieces {
                if let Some(value) = values.get(*which) {
                    text.extend_from_slice(value.as_bytes());
                } else if let Some(pattern) = secrets.patterns.get(which * between.len()) {
                    text.extend_from_slice(pattern);
                }
                text.extend_from_slice(between.as_bytes());
            }
            let out = redact(&secrets, &text, &cuts);
            for pattern in &secrets.patterns {
                prop_assert!(!has(&out, pattern), "{:?} is in the output", String::from_utf8_lossy(pattern));
            }
            prop_assert_eq!(out, redact(&secrets, &text, &[]), "chunking changed the output");
        }

        #[test]
        fn text_without_secrets_is_unchanged(
            text in prop::collection::vec(any::<u8>(), 0..300),
            values in prop::collection::vec("[a-z0-9]{5,12}", 0..4),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let secrets = Arc::new(Secrets::new(values.iter().map(String::as_str)).unwrap());
            prop_assume!(!secrets.patterns.iter().any(|pattern| has(&text, pattern)));
            prop_assert_eq!(redact(&secrets, &text, &cuts), text);
        }
    }
}
