//! A sentence as tokens and clauses. Text is data here: what looks like a command, markup or a template is a token that
//! nothing explains, so a sentence that holds it is never planned.

use crate::lexicon;
use crate::words;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word, a number, a host with a port.
    Word,
    /// Text in quotes.
    Quoted,
    /// `=` or a `:` after a name.
    Equals,
    /// A path of a YAML file.
    Path,
    /// An address with a scheme.
    Url,
    /// Something that no sentence for people holds.
    Junk,
    /// The end of a clause, perhaps.
    Break,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// As it was written, without punctuation around it.
    pub(crate) text: String,
    /// Folded.
    pub(crate) low: String,
    pub(crate) kind: Kind,
}

impl Token {
    fn new(text: &str, kind: Kind) -> Self {
        Self { text: text.to_owned(), low: words::fold(text), kind }
    }

    pub(crate) fn is_word(&self, list: &[&str]) -> bool {
        self.kind == Kind::Word && list.contains(&self.low.as_str())
    }
}

/// How a fragment follows the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    And,
    Then,
}

/// A part of a sentence between two joints.
#[derive(Debug, Clone)]
pub(crate) struct Fragment {
    pub(crate) tokens: Vec<Token>,
    pub(crate) join: Join,
}

/// Splits a sentence at its joints; quoted text is never split.
pub(crate) fn fragments(text: &str) -> Vec<Fragment> {
    let tokens = phrases(tokens(text));
    let mut found: Vec<Fragment> = Vec::new();
    let mut current = Fragment { tokens: Vec::new(), join: Join::And };
    for token in tokens {
        let then = token.is_word(lexicon::THEN);
        if then || token.kind == Kind::Break || token.is_word(lexicon::AND) {
            if !current.tokens.is_empty() {
                separable(&mut current.tokens);
                found.push(std::mem::replace(&mut current, Fragment { tokens: Vec::new(), join: Join::And }));
            }
            if then {
                current.join = Join::Then;
            }
        } else {
            current.tokens.push(token);
        }
    }
    if !current.tokens.is_empty() {
        separable(&mut current.tokens);
        found.push(current);
    }
    found
}

/// Puts verbs of two parts together: "starte … neu".
fn separable(tokens: &mut Vec<Token>) {
    let hit = lexicon::SEPARABLE.iter().find_map(|(first, last, verb)| {
        let at = tokens.iter().position(|token| token.is_word(&[first]))?;
        tokens.last().is_some_and(|token| token.is_word(&[last])).then_some((at, *verb))
    });
    if let Some((at, verb)) = hit {
        tokens.pop();
        tokens[at] = Token::new(verb, Kind::Word);
    }
}

fn is_hostile(c: char) -> bool {
    let format = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    c.is_control()
        || format
        || matches!(c, '{' | '}' | '<' | '>' | '|' | '`' | '$' | '\\' | '^' | '~' | '*' | ';' | '#' | '%')
}

fn closing(quote: char) -> Option<char> {
    match quote {
        '"' => Some('"'),
        '\'' => Some('\''),
        '“' => Some('”'),
        '„' => Some('“'),
        '«' => Some('»'),
        '‘' => Some('’'),
        _ => None,
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if c.is_whitespace() {
            at += 1;
            continue;
        }
        if let Some(close) = closing(c)
            && let Some(end) = quote_end(&chars, at + 1, close)
        {
            let inside: String = chars[at + 1..end].iter().collect();
            found.push(Token::new(&inside, if inside.chars().any(is_hostile) { Kind::Junk } else { Kind::Quoted }));
            at = end + 1;
            continue;
        }
        let mut end = at;
        while end < chars.len() && !chars[end].is_whitespace() {
            end += 1;
            if chars[end - 1] == '=' && end < chars.len() && closing(chars[end]).is_some() {
                break;
            }
        }
        let word: String = chars[at..end].iter().collect();
        word_tokens(&word, &mut found);
        at = end;
    }
    found
}

/// Where a quotation ends: at a closing mark that no letter follows, so that an apostrophe closes nothing.
fn quote_end(chars: &[char], from: usize, close: char) -> Option<usize> {
    let ends = |i: &usize| chars[*i] == close && !chars.get(i + 1).is_some_and(|next| next.is_alphanumeric());
    (from..chars.len()).find(ends).filter(|end| *end > from)
}

fn word_tokens(word: &str, found: &mut Vec<Token>) {
    let word = word.trim_start_matches(['(', '[', '¿', '¡']);
    let bare = word.trim_end_matches([',', ';', '.', '!', '?', ')', ']', ':', '…', '"']);
    let tail = &word[bare.len()..];
    if bare.is_empty() {
        found.push(Token::new(word, Kind::Break));
        return;
    }
    if matches!(bare, "-" | "–" | "—") {
        found.push(Token::new(bare, Kind::Break));
        return;
    }
    if bare == "&" {
        found.push(Token::new("and", Kind::Word));
    } else if bare == "=" {
        found.push(Token::new("=", Kind::Equals));
    } else if bare.chars().any(is_hostile) || bare.starts_with('-') || bare.starts_with('&') || bare.starts_with('/') {
        found.push(Token::new(bare, Kind::Junk));
    } else if bare.contains("://") {
        let is_web = bare.starts_with("https://") || bare.starts_with("http://");
        found.push(Token::new(bare, if is_web { Kind::Url } else { Kind::Junk }));
    } else if let Some((name, value)) = bare.split_once('=') {
        if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
            found.push(Token::new(bare, Kind::Junk));
        } else {
            found.push(Token::new(name, Kind::Word));
            found.push(Token::new("=", Kind::Equals));
            if !value.is_empty() {
                found.push(Token::new(value, Kind::Word));
            }
        }
    } else if bare.ends_with(".yml") || bare.ends_with(".yaml") {
        found.push(Token::new(bare, Kind::Path));
    } else if bare.contains(',') && !bare.contains(':') && !bare.contains('/') {
        for (index, part) in bare.split(',').filter(|part| !part.is_empty()).enumerate() {
            if index > 0 {
                found.push(Token::new(",", Kind::Break));
            }
            found.push(Token::new(part, Kind::Word));
        }
    } else {
        found.push(Token::new(bare, Kind::Word));
    }
    if tail.starts_with(':') {
        found.push(Token::new(":", Kind::Equals));
    } else if tail.contains([',', ';', '.', '!', '?', '…']) {
        found.push(Token::new(tail, Kind::Break));
    }
}

fn phrases(tokens: Vec<Token>) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let hit = lexicon::PHRASES.iter().find(|(phrase, _)| {
            phrase.iter().enumerate().all(|(offset, word)| {
                tokens.get(at + offset).is_some_and(|token| token.kind == Kind::Word && token.low == *word)
            })
        });
        match hit {
            Some((phrase, word)) => {
                found.push(Token::new(word, Kind::Word));
                at += phrase.len();
            }
            None => {
                found.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    found
}

/// Folded words with phrases put together, for titles.
pub(crate) fn with_phrases(words: Vec<String>) -> Vec<String> {
    let tokens = words.iter().map(|word| Token::new(word, Kind::Word)).collect();
    phrases(tokens).into_iter().map(|token| token.low).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sentence: &str) -> Vec<Vec<String>> {
        let text = |fragment: Fragment| fragment.tokens.into_iter().map(|token| token.text).collect();
        fragments(sentence).into_iter().map(text).collect()
    }

    #[test]
    fn sentences_are_split_at_their_joints_and_never_inside_of_quotes() {
        assert_eq!(
            texts("Set up a, then restart \"b and c\"; x=1."),
            [vec!["deploy", "a"], vec!["restart", "b and c"], vec!["x", "=", "1"]]
        );
        assert_eq!(texts("get it up and running"), [["get", "it", "deploy"]]);
    }

    #[test]
    fn versions_ports_and_addresses_stay_whole() {
        assert_eq!(
            texts("to 10.10.7, with nas01:2342 at https://a.b/c."),
            [vec!["to", "10.10.7"], vec!["with", "nas01:2342", "at", "https://a.b/c"],]
        );
    }

    #[test]
    fn commands_and_markup_are_junk() {
        for text in ["$(curl", "&&", "-rf", "{{", "</request>", "a|b", "\u{202e}x", "/"] {
            let found = fragments(text);
            assert_eq!(found[0].tokens[0].kind, Kind::Junk, "{text}");
        }
    }
}
