//! The canonical form of documents: same value, same bytes; and the object id that git gives those bytes (S1).

use serde::Serialize;
use sha2::Digest;

use crate::{Json, Oid, Plan};

/// A document as canonical YAML: fields in the order of their type, maps sorted, block style, text in quotes wherever
/// it could be read as anything else.
pub fn to_yaml<T: Serialize>(value: &T) -> String {
    // `serde_json` keeps a struct's fields in order only while it writes, so the emitter works on its text.
    let ordered: Ordered = serde_json::from_str(&serde_json::to_string(value).expect("documents are plain data"))
        .expect("what was just written can be read");
    let mut out = String::new();
    emit(&ordered, 0, &mut out);
    out
}

/// A plan's bytes, as they lie in git: what is approved is exactly these.
pub fn plan_bytes(plan: &Plan) -> Vec<u8> {
    to_yaml(plan).into_bytes()
}

/// SHA-256 in lower-case hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

/// The object id that git gives a file with these bytes.
pub fn blob_oid(bytes: &[u8]) -> Oid {
    let mut hasher = sha1::Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    Oid::parse(hex(&hasher.finalize())).expect("a SHA-1 has forty digits")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// JSON with its keys in the order of the text.
enum Ordered {
    Scalar(Json),
    List(Vec<Ordered>),
    Map(Vec<(String, Ordered)>),
}

impl<'de> serde::Deserialize<'de> for Ordered {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Ordered;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Ordered, E> {
                Ok(Ordered::Scalar(Json::Null))
            }
            fn visit_bool<E>(self, truth: bool) -> Result<Ordered, E> {
                Ok(Ordered::Scalar(Json::Bool(truth)))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Ordered, E> {
                Ok(Ordered::Scalar(number.into()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Ordered, E> {
                Ok(Ordered::Scalar(number.into()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Ordered, E> {
                Ok(Ordered::Scalar(number.into()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Ordered, E> {
                Ok(Ordered::Scalar(text.into()))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Ordered, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Ordered::List(items))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered::Map(entries))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Writes a value that stands at the beginning of a line.
fn emit(value: &Ordered, indent: usize, out: &mut String) {
    let pad = "  ".repeat(indent);
    match value {
        Ordered::Map(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                out.push_str(&format!("{pad}{}:", text(key)));
                emit_after(value, indent, out);
            }
        }
        Ordered::List(items) if !items.is_empty() => {
            for item in items {
                emit_item(item, indent, out);
            }
        }
        other => out.push_str(&format!("{pad}{}\n", inline(other))),
    }
}

/// Writes what follows `key:`.
fn emit_after(value: &Ordered, indent: usize, out: &mut String) {
    let block = match value {
        Ordered::Map(entries) => !entries.is_empty(),
        Ordered::List(items) => !items.is_empty(),
        Ordered::Scalar(_) => false,
    };
    if block {
        out.push('\n');
        emit(value, indent + 1, out);
    } else {
        out.push_str(&format!(" {}\n", inline(value)));
    }
}

/// Writes an item of a list; a map's first field stands behind the dash.
fn emit_item(item: &Ordered, indent: usize, out: &mut String) {
    let pad = "  ".repeat(indent);
    match item {
        Ordered::Map(entries) if !entries.is_empty() => {
            let mut inner = String::new();
            emit(item, indent + 1, &mut inner);
            out.push_str(&format!("{pad}- {}", inner.trim_start_matches(' ')));
        }
        Ordered::List(items) if !items.is_empty() => {
            let mut inner = String::new();
            emit(item, indent + 1, &mut inner);
            out.push_str(&format!("{pad}- {}", inner.trim_start_matches(' ')));
        }
        other => out.push_str(&format!("{pad}- {}\n", inline(other))),
    }
}

fn inline(value: &Ordered) -> String {
    match value {
        Ordered::Scalar(Json::String(string)) => text(string),
        Ordered::Scalar(other) => other.to_string(),
        Ordered::List(_) => "[]".to_owned(),
        Ordered::Map(_) => "{}".to_owned(),
    }
}

/// A text as a scalar: plain where nobody could read it as anything else, in JSON's quotes otherwise.
fn text(string: &str) -> String {
    if is_plain(string) { string.to_owned() } else { quoted(string) }
}

fn is_plain(string: &str) -> bool {
    let mut bytes = string.bytes();
    let Some(first) = bytes.next() else { return false };
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b" _./@+~()-".contains(&byte) || byte >= 0x80;
    let starts_well = first.is_ascii_alphabetic() || first == b'_' || (first == b'/' && string.len() > 1);
    // An object id or a date begins with a digit and is no number to anybody, but only quotes make that certain.
    let reserved = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    starts_well
        && bytes.all(inner)
        && !string.ends_with(' ')
        && !string.contains("  ")
        && string.chars().all(|c| !c.is_control() && !is_strange(c))
        && !reserved.contains(&string.to_ascii_lowercase().as_str())
}

fn is_strange(c: char) -> bool {
    matches!(c, '\u{85}' | '\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON's quoting is YAML's double quoting, once every character that YAML can't print is escaped.
fn quoted(string: &str) -> String {
    let json = serde_json::to_string(string).expect("text is plain data");
    json.chars()
        .map(|c| if is_strange(c) || c == '\u{7f}' { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() })
        .collect()
}
