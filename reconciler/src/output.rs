//! What a person or a program reads: tables and colour for one, JSON for the other.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::cli::When;
use crate::environment::Environment;

/// Where results go and how.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    colour: bool,
    colour_errors: bool,
}

/// A colour by its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// Good.
    Good,
    /// Needs a look.
    Warn,
    /// Bad.
    Bad,
    /// Less important.
    Faint,
}

impl Output {
    /// By flags, terminal and environment.
    pub fn new(json: bool, when: When, environment: &Environment) -> Self {
        let on = |terminal: bool| match when {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && !environment.no_color,
        };
        Self { json, colour: on(std::io::stdout().is_terminal()), colour_errors: on(std::io::stderr().is_terminal()) }
    }

    /// Whether JSON is asked for.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether text is coloured.
    pub fn is_coloured(&self) -> bool {
        self.colour
    }

    /// Whether what goes to stderr is coloured.
    pub fn is_coloured_errors(&self) -> bool {
        self.colour_errors
    }

    /// The result: JSON as it is, or text made by `text`.
    pub fn result<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) {
        if self.json {
            let json = serde_json::to_string_pretty(value).expect("results are plain data");
            self.line(&json);
        } else {
            let text = text();
            if !text.is_empty() {
                self.line(text.trim_end_matches('\n'));
            }
        }
    }

    /// A line to stdout. A reader that went away (`| head`) is no error.
    pub fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// Text to stdout as it is.
    pub fn raw(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }

    /// Progress, to stderr, and never where JSON is asked for.
    pub fn progress(&self, text: &str) {
        if !self.json {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// An error with everything that led to it.
    pub fn error(&self, error: &anyhow::Error) {
        self.failure(&error.to_string(), &crate::commands::causes(error.as_ref()));
    }

    /// An error in words, with what led to it.
    pub fn failure(&self, error: &str, causes: &[String]) {
        if self.json {
            let value = serde_json::json!({ "error": error, "causes": causes });
            let _ = writeln!(std::io::stderr().lock(), "{value}");
            return;
        }
        let head = paint(self.colour_errors, Tone::Bad, "error");
        let mut text = format!("{head}: {}", printable(error));
        for cause in causes {
            text.push_str(&format!("\n  because: {}", continued(cause)));
        }
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Text in a colour, where colour is on.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        paint(self.colour, tone, text)
    }
}

fn paint(on: bool, tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Good => "32",
        Tone::Warn => "33",
        Tone::Bad => "31",
        Tone::Faint => "2",
    };
    if on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Columns that fit their widest cell; the last one is not padded.
pub fn table(head: &[&str], rows: &[Vec<String>], paint: impl Fn(usize, usize, &str) -> String) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let pad = |text: &str, column: usize| {
        let fill = if column + 1 == head.len() { 0 } else { widths[column] - text.chars().count() };
        " ".repeat(fill)
    };
    let mut out = String::new();
    for (column, title) in head.iter().enumerate() {
        out.push_str(title);
        out.push_str(&pad(title, column));
        out.push_str(if column + 1 == head.len() { "\n" } else { "  " });
    }
    for (index, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(&paint(index, column, cell));
            out.push_str(&pad(cell, column));
            out.push_str(if column + 1 == head.len() { "\n" } else { "  " });
        }
    }
    out
}

/// Seconds in words: `2 min`, `1 h`, `3 d`.
pub fn ago(secs: i64) -> String {
    match secs.max(0) {
        secs @ 0..60 => format!("{secs} s"),
        secs @ 60..3_600 => format!("{} min", secs / 60),
        secs @ 3_600..86_400 => format!("{} h", secs / 3_600),
        secs => format!("{} d", secs / 86_400),
    }
}

/// Text from outside for a terminal: no control character reaches it.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Text from outside after words of ours: its further lines are indented, so that none of them looks like ours.
pub fn continued(text: &str) -> String {
    printable(text).trim_end().replace('\n', "\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_pad_every_column_but_the_last() {
        let rows = vec![vec!["kuma".to_owned(), "proposed".to_owned()], vec!["a".to_owned(), "x".to_owned()]];
        let text = table(&["NAME", "STATE"], &rows, |_, _, cell| cell.to_owned());
        assert_eq!(text, "NAME  STATE\nkuma  proposed\na     x\n");
    }

    #[test]
    fn s9_escapes_from_outside_never_reach_a_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\u{202e}c\u{9b}d"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}d");
    }
}
