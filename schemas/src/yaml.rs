//! YAML as a tree with places, read within a budget: never stalls, never confuses (S8).
//!
//! Our own documents may hold no anchors, aliases, tags, merge keys or repeated keys. Other people's files (`foreign`)
//! may: aliases are expanded within the budget, tags are kept, merge keys are merged, and of repeated keys the last
//! wins, as Ansible has it.

use std::collections::{HashMap, HashSet, hash_map};

use granit_parser::{Event, Parser, ScalarStyle, Span as Place};

use crate::Json;

/// What a text may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of text; judged before anything is parsed.
    pub max_bytes: usize,
    /// Levels of nesting.
    pub max_depth: usize,
    /// Nodes, after aliases are expanded.
    pub max_nodes: usize,
    /// Nodes that come from aliases: a few bytes can ask for very many.
    pub max_aliased: usize,
    /// Bytes of one scalar.
    pub max_scalar_bytes: usize,
    /// Documents in one file.
    pub max_documents: usize,
    /// Whether the file is somebody else's: see the module.
    pub foreign: bool,
}

impl Limits {
    /// A request.
    pub const REQUEST: Self = Self::own(64 * 1024, 4_000);
    /// A plan, with its evidence or result.
    pub const PLAN: Self = Self::own(256 * 1024, 40_000);
    /// The configuration.
    pub const CONFIG: Self = Self::own(64 * 1024, 4_000);
    /// A file of an infra repository.
    pub const INFRA: Self = Self {
        max_bytes: 1024 * 1024,
        max_depth: 64,
        max_nodes: 200_000,
        max_aliased: 20_000,
        max_scalar_bytes: 1024 * 1024,
        max_documents: 64,
        foreign: true,
    };

    const fn own(max_bytes: usize, max_nodes: usize) -> Self {
        Self {
            max_bytes,
            max_depth: 16,
            max_nodes,
            max_aliased: 0,
            max_scalar_bytes: max_bytes,
            max_documents: 1,
            foreign: false,
        }
    }
}

/// Where something stands; lines and columns from 1, columns in characters, the end exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first line.
    pub line: u32,
    /// The first column.
    pub column: u32,
    /// The last line.
    pub end_line: u32,
    /// The column after the last character.
    pub end_column: u32,
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it stands.
    pub span: Span,
    /// A tag that is not of YAML's core: `!vault`.
    pub tag: Option<String>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Text.
    String(String),
    /// A list.
    Seq(Vec<Node>),
    /// A map, in the order of the text.
    Map(Vec<(Node, Node)>),
}

/// Why a text can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", span.line, span.column)]
pub struct Error {
    /// Where.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub help: Option<String>,
}

/// Reads a text that holds one document; an empty one is `Null`.
///
/// # Errors
/// It is no YAML, holds several documents, or breaks a limit.
pub fn parse(text: &str, limits: &Limits) -> Result<Node, Error> {
    let mut documents = parse_all(text, limits)?;
    if documents.len() > 1 {
        let span = documents[1].span;
        return Err(error(
            span,
            "a second document begins here",
            Some("one file holds one document; remove the `---`"),
        ));
    }
    let nothing = Node { value: Value::Null, span: Span { line: 1, column: 1, end_line: 1, end_column: 1 }, tag: None };
    Ok(documents.pop().unwrap_or(nothing))
}

/// Reads every document of a text.
///
/// # Errors
/// It is no YAML or breaks a limit.
pub fn parse_all(text: &str, limits: &Limits) -> Result<Vec<Node>, Error> {
    if text.len() > limits.max_bytes {
        let message = format!("the file has {} bytes; at most {} are read", text.len(), limits.max_bytes);
        return Err(error(Span { line: 1, column: 1, end_line: 1, end_column: 1 }, &message, None));
    }
    deep_flow(text, limits)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Reader { limits, nodes: 0, aliased: 0, anchors: HashMap::new(), documents: Vec::new() }.read(text)
}

/// The same for bytes.
///
/// # Errors
/// They are not UTF-8, or as for [`parse`].
pub fn parse_bytes(bytes: &[u8], limits: &Limits) -> Result<Node, Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text, limits),
        Err(bad) => {
            let before = &bytes[..bad.valid_up_to()];
            let line = u32::try_from(before.iter().filter(|byte| **byte == b'\n').count() + 1).unwrap_or(u32::MAX);
            let last = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
            let column = u32::try_from(String::from_utf8_lossy(last).chars().count() + 1).unwrap_or(u32::MAX);
            let span = Span { line, column, end_line: line, end_column: column + 1 };
            Err(error(span, "the file is not UTF-8", Some("save it as UTF-8")))
        }
    }
}

/// Brackets nested deeper than any real file are refused before a parser sees them.
fn deep_flow(text: &str, limits: &Limits) -> Result<(), Error> {
    // Strings may hold brackets too, so only runs that could be nothing else count: many more than the depth allows.
    let allowed = limits.max_depth * 8;
    let mut run = 0_usize;
    for (number, line) in text.lines().enumerate() {
        for (column, c) in line.chars().enumerate() {
            match c {
                '[' | '{' => run += 1,
                c if c.is_whitespace() => {}
                _ => run = 0,
            }
            if run > allowed {
                return Err(too_deep(at(number + 1, column + 1), limits));
            }
        }
    }
    Ok(())
}

fn at(line: usize, column: usize) -> Span {
    let (line, column) = (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX));
    Span { line, column, end_line: line, end_column: column.saturating_add(1) }
}

fn too_deep(span: Span, limits: &Limits) -> Error {
    error(span, &format!("nested deeper than {} levels", limits.max_depth), None)
}

/// What the parser says, in words; a tab is the mistake that it has none for.
fn malformed(text: &str, bad: &granit_parser::ScanError) -> Error {
    let mark = bad.marker();
    let span = at(mark.line(), mark.col() + 1);
    let line = text.lines().nth(mark.line().saturating_sub(1)).unwrap_or_default();
    let indent = line.len() - line.trim_start().len();
    if line[..indent].contains('\t') {
        return error(span, "a tab can't indent YAML", Some("indent with spaces"));
    }
    let words = bad.info();
    let words = if words.is_empty() { bad.to_string() } else { words };
    error(span, &words, None)
}

fn error(span: Span, message: &str, help: Option<&str>) -> Error {
    Error { span, message: message.to_owned(), help: help.map(str::to_owned) }
}

fn span_of(place: Place) -> Span {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Span {
        line: number(place.start.line()),
        column: number(place.start.col() + 1),
        end_line: number(place.end.line()),
        end_column: number(place.end.col() + 1),
    }
}

/// A collection that is being read.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<Node>,
    /// Place and span of each key so far, by its identity.
    keys: HashMap<String, (usize, Span)>,
}

struct Reader<'a> {
    limits: &'a Limits,
    nodes: usize,
    aliased: usize,
    anchors: HashMap<usize, Node>,
    documents: Vec<Node>,
}

impl Reader<'_> {
    fn read(mut self, text: &str) -> Result<Vec<Node>, Error> {
        let mut stack: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(text) {
            let (event, place) = event.map_err(|bad| malformed(text, &bad))?;
            let span = span_of(place);
            match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let tag = self.tag(tag.as_deref(), span)?;
                    let node = self.scalar(&text, style, tag, span)?;
                    self.keep(anchor, &node, span)?;
                    self.place(&mut stack, node)?;
                }
                Event::SequenceStart(_, anchor, tag) => {
                    let tag = self.tag(tag.as_deref(), span)?;
                    self.open(&mut stack, Value::Seq(Vec::new()), anchor, tag, span)?;
                }
                Event::MappingStart(_, anchor, tag) => {
                    let tag = self.tag(tag.as_deref(), span)?;
                    self.open(&mut stack, Value::Map(Vec::new()), anchor, tag, span)?;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let Some(mut open) = stack.pop() else { continue };
                    (open.node.span.end_line, open.node.span.end_column) = (span.end_line, span.end_column);
                    if self.limits.foreign {
                        merge(&mut open.node);
                    }
                    self.keep(open.anchor, &open.node, span)?;
                    self.place(&mut stack, open.node)?;
                }
                Event::Alias(id) => {
                    let node = self.alias(id, span)?;
                    self.place(&mut stack, node)?;
                }
                _ => {}
            }
        }
        Ok(self.documents)
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Error> {
        self.nodes += nodes;
        if self.nodes > self.limits.max_nodes {
            return Err(error(span, &format!("more than {} values", self.limits.max_nodes), None));
        }
        Ok(())
    }

    fn tag(&self, tag: Option<&granit_parser::Tag>, span: Span) -> Result<Option<String>, Error> {
        let Some(tag) = tag else { return Ok(None) };
        if !self.limits.foreign {
            return Err(error(span, "tags are not taken here", Some("remove the `!…`")));
        }
        let text = tag.to_string();
        let core = text.strip_prefix("tag:yaml.org,2002:").map(|suffix| format!("!!{suffix}"));
        Ok(Some(core.unwrap_or(text)))
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<String>, span: Span) -> Result<Node, Error> {
        self.count(1, span)?;
        if text.len() > self.limits.max_scalar_bytes {
            return Err(error(span, &format!("a value of more than {} bytes", self.limits.max_scalar_bytes), None));
        }
        let plain =
            style == ScalarStyle::Plain && tag.as_deref().is_none_or(|tag| tag.starts_with("!!") && tag != "!!str");
        let value = if plain { resolve(text, self.limits.foreign) } else { Value::String(text.to_owned()) };
        let tag = tag.filter(|tag| !tag.starts_with("!!"));
        Ok(Node { value, span, tag })
    }

    fn open(
        &mut self,
        stack: &mut Vec<Open>,
        value: Value,
        anchor: usize,
        tag: Option<String>,
        span: Span,
    ) -> Result<(), Error> {
        self.count(1, span)?;
        if stack.len() >= self.limits.max_depth {
            return Err(too_deep(span, self.limits));
        }
        let tag = tag.filter(|tag| !tag.starts_with("!!"));
        stack.push(Open { node: Node { value, span, tag }, anchor, key: None, keys: HashMap::new() });
        Ok(())
    }

    fn keep(&mut self, anchor: usize, node: &Node, span: Span) -> Result<(), Error> {
        if anchor == 0 {
            return Ok(());
        }
        if !self.limits.foreign {
            return Err(error(span, "anchors are not taken here", Some("write the value out where it is needed")));
        }
        self.anchors.insert(anchor, node.clone());
        Ok(())
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Node, Error> {
        if !self.limits.foreign {
            return Err(error(span, "aliases are not taken here", Some("write the value out")));
        }
        let Some(nodes) = self.anchors.get(&id).map(size) else {
            return Err(error(span, "an alias of itself or of nothing", None));
        };
        // Counted as if it were written out: a bomb of aliases breaks the budget before anything is copied.
        self.count(nodes, span)?;
        self.aliased += nodes;
        if self.aliased > self.limits.max_aliased {
            return Err(error(span, &format!("more than {} values by aliases", self.limits.max_aliased), None));
        }
        Ok(self.anchors[&id].clone())
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, stack: &mut [Open], node: Node) -> Result<(), Error> {
        let Some(open) = stack.last_mut() else {
            if self.documents.len() >= self.limits.max_documents.max(2) {
                return Err(error(node.span, "too many documents in one file", None));
            }
            self.documents.push(node);
            return Ok(());
        };
        match &mut open.node.value {
            Value::Seq(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                None => {
                    check_key(&node, &open.keys, self.limits)?;
                    open.key = Some(node);
                }
                Some(key) if is_merge(&key) => entries.push((key, node)),
                Some(key) => match open.keys.entry(identity(&key.value)) {
                    // Only in other people's files: there the last one wins, as it does in Ansible.
                    hash_map::Entry::Occupied(known) => entries[known.get().0] = (key, node),
                    hash_map::Entry::Vacant(free) => {
                        free.insert((entries.len(), key.span));
                        entries.push((key, node));
                    }
                },
            },
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => {}
        }
        Ok(())
    }
}

fn check_key(key: &Node, known: &HashMap<String, (usize, Span)>, limits: &Limits) -> Result<(), Error> {
    if limits.foreign {
        return Ok(());
    }
    let Some(text) = key.as_str() else {
        return Err(error(key.span, "a key must be text", Some("put it in quotes")));
    };
    if text == "<<" {
        return Err(error(key.span, "merge keys are not taken here", Some("write the fields out")));
    }
    if let Some((_, first)) = known.get(&identity(&key.value)) {
        let message = format!("`{text}` is there twice; first in line {}", first.line);
        return Err(error(key.span, &message, Some("remove one of them")));
    }
    Ok(())
}

/// What two keys have in common that are the same one.
fn identity(key: &Value) -> String {
    match key {
        Value::String(text) => format!("\"{text}"),
        other => format!("{other:?}"),
    }
}

fn is_merge(key: &Node) -> bool {
    key.as_str() == Some("<<")
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Seq(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(key, value)| size(key) + size(value)).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => 1,
    }
}

/// Takes `<<` in: what the map says itself wins, then earlier merged maps.
fn merge(node: &mut Node) {
    let Value::Map(entries) = &mut node.value else { return };
    if !entries.iter().any(|(key, _)| is_merge(key)) {
        return;
    }
    let (merged, mut own): (Vec<_>, Vec<_>) = std::mem::take(entries).into_iter().partition(|(key, _)| is_merge(key));
    let mut known: HashSet<String> = own.iter().map(|(key, _)| identity(&key.value)).collect();
    for (_, value) in merged {
        let maps = match value.value {
            Value::Map(map) => vec![map],
            Value::Seq(items) => items
                .into_iter()
                .filter_map(|item| match item.value {
                    Value::Map(map) => Some(map),
                    _ => None,
                })
                .collect(),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => Vec::new(),
        };
        for (key, value) in maps.into_iter().flatten() {
            if known.insert(identity(&key.value)) {
                own.push((key, value));
            }
        }
    }
    *entries = own;
}

/// A plain scalar by YAML 1.2's core schema; for foreign files also the booleans of YAML 1.1, as Ansible reads them.
fn resolve(text: &str, foreign: bool) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if foreign {
        match text {
            "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
            "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Value::Bool(false),
            _ => {}
        }
    }
    number(text, foreign).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn number(text: &str, foreign: bool) -> Option<Value> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let first = digits.bytes().next()?;
    if !first.is_ascii_digit() && first != b'.' {
        return None;
    }
    if let Some(hex) = digits.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().filter(|_| digits.len() == text.len()).map(Value::Int);
    }
    if let Some(octal) = digits.strip_prefix("0o") {
        return i64::from_str_radix(octal, 8).ok().filter(|_| digits.len() == text.len()).map(Value::Int);
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // `0644` is octal to YAML 1.1 and so to Ansible; our own documents read it as text, since it was hardly meant
        // as six hundred and forty-four.
        let leading_zero = digits.len() > 1 && first == b'0';
        if leading_zero {
            return foreign.then(|| i64::from_str_radix(digits, 8).ok().map(Value::Int)).flatten();
        }
        return text.parse().ok().map(Value::Int);
    }
    let float = digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+'))
        && digits.bytes().filter(|byte| *byte == b'.').count() <= 1
        && digits.bytes().any(|byte| byte.is_ascii_digit());
    float.then(|| text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float)).flatten()
}

impl Node {
    /// The value of a key, where this is a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(known, _)| known.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// The entries, where this is a map; else none.
    pub fn entries(&self) -> &[(Node, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items, where this is a list; else none.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Seq(items) => items,
            _ => &[],
        }
    }

    /// The text, where this is text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth, where this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    /// The number, where this is a whole one.
    pub fn as_int(&self) -> Option<i64> {
        match self.value {
            Value::Int(number) => Some(number),
            _ => None,
        }
    }

    /// Whether this is nothing.
    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// Any scalar as text.
    pub fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Value::Null | Value::Seq(_) | Value::Map(_) => None,
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Int(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::String(text) => Some(text.clone()),
        }
    }

    /// As JSON; keys that are not text are written as text.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(truth) => Json::Bool(*truth),
            Value::Int(number) => Json::from(*number),
            Value::Float(number) => Json::from(*number),
            Value::String(text) => Json::String(text.clone()),
            Value::Seq(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(entries) => {
                let pair = |(key, value): &(Node, Node)| Some((key.scalar_text()?, value.to_json()));
                Json::Object(entries.iter().filter_map(pair).collect())
            }
        }
    }
}
