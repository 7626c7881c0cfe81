//! What a person or a program reads: lines for one, JSON for the other.

use std::io::Write;

use serde_json::{Value, json};

/// Where results go and how.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// As JSON or as text.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// A result or a piece of news, to stdout. A reader that went away (`| head`) is no error.
    pub fn say(&self, value: &Value, text: &str) {
        let line = if self.json { value.to_string() } else { printable(text) };
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    /// What went wrong, to stderr.
    pub fn failure(&self, text: &str) {
        let line = if self.json { json!({ "error": text }).to_string() } else { format!("error: {}", printable(text)) };
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}

/// Text from elsewhere: no control character reaches the terminal but the end of a line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
