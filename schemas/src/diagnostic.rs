//! Findings in a document: what is wrong, where, and the way out; for terminals and as JSON.

use std::fmt;

use serde::Serialize;

use crate::yaml::Span;

macro_rules! codes {
    ($($variant:ident = $code:literal, $doc:literal;)*) => {
        /// What kind of mistake a finding is. Codes are stable: a code never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $doc] $variant,)* }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as printed: `CHF0012`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

codes! {
    Malformed = "CHF0001", "The text is no YAML, or more than is read.";
    NotUtf8 = "CHF0002", "The file is not UTF-8.";
    UnknownField = "CHF0003", "A field that the document does not have.";
    MissingField = "CHF0004", "A field that must be there is missing.";
    WrongType = "CHF0005", "A value of another type than the field takes.";
    WrongValue = "CHF0006", "A value that is not one of those the field takes.";
    BadFormat = "CHF0007", "A text that does not have the form that the field asks for.";
    OutOfRange = "CHF0008", "A number, a text or a list that is too small, too large, too short or too long.";
    NotBuiltYet = "CHF0009", "A field that is agreed but not built yet.";
    UnsafeText = "CHF0010", "A text with control characters, or characters that reverse the direction of writing.";
    EmptyText = "CHF0011", "A sentence without words.";
    UnknownHost = "CHF0012", "A host or group that the inventory does not have.";
    UnknownVariable = "CHF0013", "A variable that no chosen playbook takes.";
    UnknownAnswer = "CHF0014", "An answer to a question that was not asked, or one that was not to choose from.";
    NameTaken = "CHF0015", "Two requests of one name in different folders.";
    BadVariableName = "CHF0016", "A name that Ansible does not take for a variable, or keeps for itself.";
    Refused = "CHF0017", "Something that a requests repository must not hold: a symbolic link, a submodule, a file too large.";
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// What kind of mistake it is.
    #[serde(serialize_with = "code_text")]
    pub code: Code,
    /// What is wrong, in one line.
    pub message: String,
    /// The file, as the reader was told.
    pub file: String,
    /// The first line, from 1.
    pub line: u32,
    /// The first column, from 1, in characters.
    pub column: u32,
    /// The column after the last character, in the same line.
    pub end_column: u32,
    /// The line itself, with control characters made visible.
    pub source: String,
    /// What stands there, in a few words; shown under the line.
    pub label: String,
    /// The way out.
    pub help: Option<String>,
}

fn code_text<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.as_str())
}

/// Longer lines are cropped around the mistake.
const WIDEST_LINE: usize = 120;

impl Diagnostic {
    /// A finding at a place of a text.
    pub fn new(code: Code, file: &str, text: &str, span: Span, message: impl Into<String>) -> Self {
        let line_text = text.lines().nth(span.line.saturating_sub(1) as usize).unwrap_or_default();
        let chars = line_text.chars().count();
        let end =
            if span.end_line == span.line { span.end_column } else { u32::try_from(chars + 1).unwrap_or(u32::MAX) };
        let crop = crop(line_text, span.column);
        Self {
            code,
            message: inert(&message.into()),
            file: file.to_owned(),
            line: span.line,
            column: span.column,
            end_column: end.max(span.column + 1),
            source: crop,
            label: String::new(),
            help: None,
        }
    }

    /// With the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(inert(&help.into()));
        self
    }

    /// With a few words under the line.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = inert(&label.into());
        self
    }

    /// As a terminal shows it, several lines.
    pub fn render(&self, colour: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
        };
        let head = paint("31;1", &format!("error[{}]", self.code.as_str()));
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let mut out = format!("{head}: {}\n  --> {}:{}:{}\n", self.message, self.file, self.line, self.column);
        if !self.source.is_empty() {
            let (before, width) = self.caret();
            let carets = paint("31", &"^".repeat(width));
            let label = if self.label.is_empty() { String::new() } else { format!(" {}", self.label) };
            out.push_str(&format!("  {number} | {}\n", self.source));
            out.push_str(&format!("  {gutter} | {}{carets}{label}\n", " ".repeat(before)));
        }
        if let Some(help) = &self.help {
            out.push_str(&format!("  help: {help}\n"));
        }
        out
    }

    /// Where the carets go under the (perhaps cropped) line, and how many.
    fn caret(&self) -> (usize, usize) {
        let start = crop_start(self.column);
        let shift = if start == 0 { 0 } else { start - 1 };
        let before = (self.column as usize).saturating_sub(1).saturating_sub(shift);
        let shown = self.source.chars().count();
        let width = (self.end_column.saturating_sub(self.column) as usize).max(1);
        (before.min(shown), width.min(shown.saturating_sub(before).max(1)))
    }
}

impl fmt::Display for Diagnostic {
    /// One line: for records and lists.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {} [{}]", self.file, self.line, self.column, self.message, self.code.as_str())?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// From where a long line is shown.
fn crop_start(column: u32) -> usize {
    let column = column as usize;
    if column > WIDEST_LINE { column - WIDEST_LINE / 2 } else { 0 }
}

fn crop(line: &str, column: u32) -> String {
    let start = crop_start(column);
    let shown: String = line.chars().skip(start).take(WIDEST_LINE).collect();
    let head = if start > 0 { "…" } else { "" };
    let more = line.chars().count() > start + WIDEST_LINE;
    format!("{head}{}{}", inert(&shown), if more { "…" } else { "" })
}

/// Control characters and direction overrides made visible, one character each, so that columns stay true.
fn inert(text: &str) -> String {
    let visible = |c: char| match c {
        '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.trim_end_matches('\r').chars().map(visible).collect()
}
