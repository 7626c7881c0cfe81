//! Checks a document against its own JSON Schema: every mistake in one pass, each with its place and the way out.
//!
//! The schema is the one that `make gen` publishes, so that an editor and Chiffon never disagree.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;

use crate::diagnostic::{Code, Diagnostic};
use crate::yaml::{self, Limits, Node, Span, Value};
use crate::{Evidence, Json, NOT_BUILT_YET, Plan, Request, nearest};

/// The published JSON Schema of a document.
pub fn schema_of<T: JsonSchema>() -> Json {
    let generator = SchemaSettings::draft2020_12().into_generator();
    serde_json::to_value(generator.into_root_schema_for::<T>()).expect("a schema is plain data")
}

/// Reads a document.
///
/// # Errors
/// All its mistakes.
pub fn read<T: DeserializeOwned + JsonSchema>(file: &str, bytes: &[u8], limits: &Limits) -> Result<T, Vec<Diagnostic>> {
    let (value, found) = read_tree::<T>(file, bytes, limits)?;
    match value {
        Some(value) if found.is_empty() => Ok(value),
        _ => Err(found),
    }
}

/// Reads a request.
///
/// # Errors
/// All its mistakes.
pub fn read_request(file: &str, bytes: &[u8]) -> Result<Request, Vec<Diagnostic>> {
    let text = String::from_utf8_lossy(bytes);
    let node = tree(file, bytes, &Limits::REQUEST)?;
    let mut found = check_tree::<Request>(file, &text, &node);
    check_request_texts(file, &text, &node, &mut found);
    finish(file, &text, &node, found)
}

/// Reads a plan.
///
/// # Errors
/// All its mistakes.
pub fn read_plan(file: &str, bytes: &[u8]) -> Result<Plan, Vec<Diagnostic>> {
    read(file, bytes, &Limits::PLAN)
}

/// Reads evidence.
///
/// # Errors
/// All its mistakes.
pub fn read_evidence(file: &str, bytes: &[u8]) -> Result<Evidence, Vec<Diagnostic>> {
    read(file, bytes, &Limits::PLAN)
}

type Tree<T> = (Option<T>, Vec<Diagnostic>);

fn read_tree<T: DeserializeOwned + JsonSchema>(
    file: &str,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Tree<T>, Vec<Diagnostic>> {
    let text = String::from_utf8_lossy(bytes);
    let node = tree(file, bytes, limits)?;
    let found = check_tree::<T>(file, &text, &node);
    match finish(file, &text, &node, found) {
        Ok(value) => Ok((Some(value), Vec::new())),
        Err(found) => Ok((None, found)),
    }
}

fn tree(file: &str, bytes: &[u8], limits: &Limits) -> Result<Node, Vec<Diagnostic>> {
    yaml::parse_bytes(bytes, limits).map_err(|error| {
        let text =
            if bytes.len() > limits.max_bytes { String::new() } else { String::from_utf8_lossy(bytes).into_owned() };
        let code = if std::str::from_utf8(bytes).is_err() { Code::NotUtf8 } else { Code::Malformed };
        let mut diagnostic = Diagnostic::new(code, file, &text, error.span, error.message);
        diagnostic.help = error.help;
        vec![diagnostic]
    })
}

fn check_tree<T: JsonSchema>(file: &str, text: &str, node: &Node) -> Vec<Diagnostic> {
    let root = schema_of::<T>();
    let mut checker = Checker { root: &root, file, text, found: Vec::new() };
    checker.check(node, &root, "the document");
    checker.found
}

/// The typed value. Where serde refuses what the schema took, that is a finding too, never a panic.
fn finish<T: DeserializeOwned>(
    file: &str,
    text: &str,
    node: &Node,
    mut found: Vec<Diagnostic>,
) -> Result<T, Vec<Diagnostic>> {
    if !found.is_empty() {
        found.sort_by_key(|found| (found.line, found.column));
        return Err(found);
    }
    serde_json::from_value(node.to_json())
        .map_err(|error| vec![Diagnostic::new(Code::BadFormat, file, text, node.span, error.to_string())])
}

struct Checker<'a> {
    root: &'a Json,
    file: &'a str,
    text: &'a str,
    found: Vec<Diagnostic>,
}

impl Checker<'_> {
    fn say(&mut self, code: Code, span: Span, message: String) -> &mut Diagnostic {
        self.found.push(Diagnostic::new(code, self.file, self.text, span, message));
        self.found.last_mut().expect("just pushed")
    }

    fn resolve<'s>(&'s self, schema: &'s Json) -> &'s Json {
        let target = schema.get("$ref").and_then(Json::as_str).and_then(|path| path.strip_prefix('#'));
        target.and_then(|path| self.root.pointer(path)).unwrap_or(schema)
    }

    fn check(&mut self, node: &Node, schema: &Json, what: &str) {
        let schema = self.resolve(schema).clone();
        if let Some(options) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
            self.check_any(node, options, what);
            return;
        }
        if let Some(constant) = schema.get("const") {
            self.check_words(node, std::slice::from_ref(constant), what);
            return;
        }
        if let Some(words) = schema.get("enum").and_then(Json::as_array) {
            self.check_words(node, words, what);
            return;
        }
        if !self.check_type(node, &schema, what) {
            return;
        }
        match &node.value {
            Value::Map(entries) => self.check_map(node, entries, &schema, what),
            Value::Seq(items) => self.check_list(node, items, &schema, what),
            Value::String(text) => self.check_text(node, text, &schema, what),
            Value::Int(number) => self.check_number(node, *number as f64, &schema, what),
            Value::Float(number) => self.check_number(node, *number, &schema, what),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// One of several forms: an optional value, an enum with documented words, or a tagged map.
    fn check_any(&mut self, node: &Node, options: &[Json], what: &str) {
        let words: Option<Vec<Json>> = options.iter().map(|option| option.get("const").cloned()).collect();
        if let Some(words) = words {
            self.check_words(node, &words, what);
            return;
        }
        let mut fewest: Option<Vec<Diagnostic>> = None;
        for option in options {
            let resolved = self.resolve(option).clone();
            if let Some(tag) = wrong_tag(node, &resolved) {
                let _ = tag;
                continue;
            }
            let mut trial = Checker { root: self.root, file: self.file, text: self.text, found: Vec::new() };
            trial.check(node, &resolved, what);
            if trial.found.is_empty() {
                return;
            }
            let is_null = resolved.get("type").and_then(Json::as_str) == Some("null");
            if !is_null && fewest.as_ref().is_none_or(|known| trial.found.len() < known.len()) {
                fewest = Some(trial.found);
            }
        }
        match fewest {
            Some(found) => self.found.extend(found),
            None => {
                self.say(Code::WrongValue, node.span, format!("{what} has none of the forms that it may have"));
            }
        }
    }

    fn check_words(&mut self, node: &Node, words: &[Json], what: &str) {
        if words.contains(&node.to_json()) {
            return;
        }
        let known: Vec<String> =
            words.iter().map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned)).collect();
        let given = node.scalar_text().unwrap_or_else(|| describe(node).to_owned());
        let near = nearest(&given, known.iter().map(String::as_str)).map(str::to_owned);
        let message = format!("{what} can't be `{given}`");
        let found = self.say(Code::WrongValue, node.span, message);
        found.label = format!("{} {}", if known.len() == 1 { "must be" } else { "one of" }, known.join(", "));
        found.help = near.map(|near| format!("did you mean `{near}`?"));
    }

    fn check_type(&mut self, node: &Node, schema: &Json, what: &str) -> bool {
        let wanted: Vec<&str> = match schema.get("type") {
            Some(Json::String(one)) => vec![one.as_str()],
            Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
            _ => return true,
        };
        let is = |kind: &str| {
            matches!(
                (kind, &node.value),
                ("object", Value::Map(_))
                    | ("array", Value::Seq(_))
                    | ("string", Value::String(_))
                    | ("integer", Value::Int(_))
                    | ("number", Value::Int(_) | Value::Float(_))
                    | ("boolean", Value::Bool(_))
                    | ("null", Value::Null)
            )
        };
        if wanted.iter().any(|kind| is(kind)) {
            return true;
        }
        let words: Vec<&str> = wanted.iter().filter(|kind| **kind != "null").map(|kind| type_word(kind)).collect();
        let message = format!("{what} must be {}, not {}", words.join(" or "), describe(node));
        let quoted = wanted.contains(&"string")
            && matches!(node.value, Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Null);
        let scalar = node.scalar_text();
        let found = self.say(Code::WrongType, node.span, message);
        if quoted {
            found.help = Some(match scalar {
                Some(text) => format!("put it in quotes: \"{text}\""),
                None => "write a text here".to_owned(),
            });
        }
        false
    }

    fn check_map(&mut self, node: &Node, entries: &[(Node, Node)], schema: &Json, what: &str) {
        let empty = serde_json::Map::new();
        let fields = schema.get("properties").and_then(Json::as_object).unwrap_or(&empty);
        let patterns = schema.get("patternProperties").and_then(Json::as_object).unwrap_or(&empty);
        let more = schema.get("additionalProperties");
        for (key, value) in entries {
            let name = key.scalar_text().unwrap_or_default();
            if let Some(field) = fields.get(&name) {
                self.check(value, field, &format!("`{name}`"));
            } else if let Some((pattern, field)) = patterns.iter().next() {
                // Maps have at most one pattern: the type of their keys.
                self.check(value, field, &format!("`{name}`"));
                if let Some(rule) = broken_form(pattern, &name) {
                    self.say(Code::BadFormat, key.span, format!("{what} can't have `{name}`")).help = Some(rule);
                }
            } else {
                match more {
                    Some(Json::Bool(false)) => self.unknown_field(key, &name, fields, what),
                    Some(other) => self.check(value, other, &format!("`{name}`")),
                    None => {}
                }
            }
        }
        let required = schema.get("required").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        for name in required.iter().filter_map(Json::as_str) {
            if !entries.iter().any(|(key, _)| key.as_str() == Some(name)) {
                let span = first_place(node);
                self.say(Code::MissingField, span, format!("{what} has no `{name}`"));
            }
        }
    }

    fn unknown_field(&mut self, key: &Node, name: &str, fields: &serde_json::Map<String, Json>, what: &str) {
        if fields.contains_key("text") && NOT_BUILT_YET.contains(&name) {
            let found = self.say(Code::NotBuiltYet, key.span, format!("`{name}` is agreed but not built yet"));
            found.help = Some("remove it; nothing of it would be done".to_owned());
            return;
        }
        let near = nearest(name, fields.keys().map(String::as_str)).map(str::to_owned);
        let known: Vec<String> = fields.keys().cloned().collect();
        let found = self.say(Code::UnknownField, key.span, format!("{what} has no field `{name}`"));
        found.help = Some(match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its fields are {}", known.join(", ")),
        });
    }

    fn check_list(&mut self, node: &Node, items: &[Node], schema: &Json, what: &str) {
        self.check_size(node, items.len(), schema, ("minItems", "maxItems"), "items", what);
        if let Some(item_schema) = schema.get("items") {
            for item in items {
                self.check(item, item_schema, &format!("an item of {what}"));
            }
        }
    }

    fn check_text(&mut self, node: &Node, text: &str, schema: &Json, what: &str) {
        self.check_size(node, text.chars().count(), schema, ("minLength", "maxLength"), "characters", what);
        if let Some(pattern) = schema.get("pattern").and_then(Json::as_str)
            && let Some(rule) = broken_form(pattern, text)
        {
            let found = self.say(Code::BadFormat, node.span, format!("{what} can't be `{text}`"));
            found.help = Some(rule);
        }
        if schema.get("format").and_then(Json::as_str) == Some("date-time") && crate::Timestamp::parse(text).is_err() {
            let found = self.say(Code::BadFormat, node.span, format!("{what} is no time: `{text}`"));
            found.help = Some("write it like 2026-12-06T09:00:00Z".to_owned());
        }
    }

    fn check_number(&mut self, node: &Node, number: f64, schema: &Json, what: &str) {
        let bound = |key: &str| schema.get(key).and_then(Json::as_f64);
        let (low, high) = (bound("minimum"), bound("maximum"));
        if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
            let message = format!("{what} is out of range: {}", node.scalar_text().unwrap_or_default());
            let found = self.say(Code::OutOfRange, node.span, message);
            found.label = match (low, high) {
                (Some(low), Some(high)) => format!("from {low} to {high}"),
                (Some(low), None) => format!("at least {low}"),
                (None, Some(high)) => format!("at most {high}"),
                (None, None) => String::new(),
            };
        }
    }

    fn check_size(&mut self, node: &Node, size: usize, schema: &Json, keys: (&str, &str), unit: &str, what: &str) {
        let bound = |key: &str| schema.get(key).and_then(Json::as_u64).and_then(|bound| usize::try_from(bound).ok());
        let (low, high) = (bound(keys.0), bound(keys.1));
        if low.is_some_and(|low| size < low) {
            self.say(
                Code::OutOfRange,
                node.span,
                format!("{what} has {size} {unit}; at least {} are needed", low.unwrap_or(0)),
            );
        }
        if high.is_some_and(|high| size > high) {
            self.say(
                Code::OutOfRange,
                node.span,
                format!("{what} has {size} {unit}; at most {} are taken", high.unwrap_or(0)),
            );
        }
    }
}

/// Of tagged forms (`kind: playbook`), the ones whose tag this is not.
fn wrong_tag(node: &Node, option: &Json) -> Option<String> {
    let fields = option.get("properties")?.as_object()?;
    fields.iter().find_map(|(name, field)| {
        let wanted = field.get("const")?.as_str()?;
        let given = node.get(name)?.as_str()?;
        (given != wanted && !node.entries().is_empty()).then(|| name.clone())
    })
}

/// The forms that our types ask for, judged by the types themselves.
fn broken_form(pattern: &str, text: &str) -> Option<String> {
    use crate::{EventId, Host, Name, Oid, Pin, RepoPath};
    let judge = |error: Option<crate::InvalidId>| error.map(|error| format!("write {}: {}", error.what, error.rule));
    match pattern {
        "^[a-z0-9][a-z0-9-]{0,62}$" => judge(Name::parse(text).err()),
        "^([0-9a-f]{40}|[0-9a-f]{64})$" => judge(Oid::parse(text).err()),
        "^[A-Za-z0-9_][A-Za-z0-9._:-]{0,252}$" => judge(Host::parse(text).err()),
        "^[^-/\\\\][^\\\\]*$" => judge(RepoPath::parse(text).err()),
        "^[0-9A-HJKMNP-TV-Z]{26}$" => judge(EventId::parse(text).err()),
        "^(absent|[0-9a-f]{40}|[0-9a-f]{64})$" => judge(Pin::try_from(text.to_owned()).err()),
        r"^[0-9]+\.[0-9]+$" => {
            let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let fits = text.split_once('.').is_some_and(|(major, minor)| digits(major) && digits(minor));
            (!fits).then(|| "write major and minor version, like 2.19, in quotes".to_owned())
        }
        "^[0-9a-f]{64}$" => {
            let fits = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            (!fits).then(|| "write a SHA-256: 64 lower-case hexadecimal digits; `chiffon token` prints one".to_owned())
        }
        // A pattern that nobody judges would be a promise of the schema that Chiffon does not keep.
        _ => Some(format!("its form is {pattern}")),
    }
}

fn type_word(kind: &str) -> &str {
    match kind {
        "object" => "a map",
        "array" => "a list",
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        other => other,
    }
}

fn describe(node: &Node) -> &'static str {
    match &node.value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Int(_) => "a number",
        Value::Float(_) => "a number with a fraction",
        Value::String(_) => "text",
        Value::Seq(_) => "a list",
        Value::Map(_) => "a map",
    }
}

/// Where a map begins, as a place of one line.
fn first_place(node: &Node) -> Span {
    match node.entries().first() {
        Some((key, _)) => key.span,
        None => Span { end_line: node.span.line, end_column: node.span.column + 1, ..node.span },
    }
}

/// What a schema can't say of a request's texts and names.
fn check_request_texts(file: &str, text: &str, node: &Node, found: &mut Vec<Diagnostic>) {
    let Some(spec) = node.get("spec") else { return };
    let mut sentences: Vec<(&Node, &str)> = Vec::new();
    if let Some(sentence) = spec.get("text") {
        sentences.push((sentence, "`text`"));
    }
    if let Some(changes) = spec.get("changes") {
        sentences.extend(changes.items().iter().map(|change| (change, "an item of `changes`")));
    }
    for (sentence, what) in sentences {
        let Some(words) = sentence.as_str() else { continue };
        if let Some(c) = words.chars().find(|c| is_unsafe(*c)) {
            let message = format!("{what} holds the character U+{:04X}", u32::from(c));
            found.push(Diagnostic::new(Code::UnsafeText, file, text, sentence.span, message).help("write it without"));
        } else if words.trim().is_empty() && !words.is_empty() {
            found.push(Diagnostic::new(Code::EmptyText, file, text, sentence.span, format!("{what} has no words")));
        }
    }
    for (key, _) in spec.get("vars").map(Node::entries).unwrap_or_default() {
        let Some(name) = key.as_str() else { continue };
        let identifier = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !identifier || name.starts_with("ansible_") || name.starts_with("__") {
            let message = format!("`{name}` can't be a variable");
            found.push(
                Diagnostic::new(Code::BadVariableName, file, text, key.span, message)
                    .help("letters, digits and `_`, not beginning with a digit, `__` or `ansible_`"),
            );
        }
    }
}

/// Control characters but line breaks and tabs, and what reverses the direction of writing.
fn is_unsafe(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t' | '\r'))
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}
