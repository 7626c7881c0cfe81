//! Variables of a step as inert data (N1): what Ansible reads can't be a template, a magic name or a setting of the
//! connection.
//!
//! Every text is wrapped as `{"__ansible_unsafe": "…"}`, which 2.14 and 2.19 never template. The patterns refused on
//! top of it are a second line only: filtering templates by pattern alone has been bypassed before.

use std::collections::BTreeMap;

use chiffon_schemas::Json;
use serde_json::{Map, json};

/// The key under which Ansible reads a text that it never templates.
const UNSAFE_KEY: &str = "__ansible_unsafe";

/// Deeper values are no configuration, and both sides read them by recursion.
const MAX_DEPTH: usize = 16;

/// A plan is at most this large, so its variables are too; in bytes of JSON.
const MAX_BYTES: usize = 256 * 1024;

/// Names that Ansible gives a meaning of their own, besides those that begin with a refused prefix.
const MAGIC: [&str; 45] = [
    "action",
    "become",
    "become_exe",
    "become_flags",
    "become_method",
    "become_user",
    "block",
    "check_mode",
    "collections",
    "connection",
    "debugger",
    "delegate_facts",
    "delegate_to",
    "diff",
    "environment",
    "group_names",
    "groups",
    "hosts",
    "hostvars",
    "ignore_errors",
    "item",
    "local_action",
    "lookup",
    "loop",
    "module_defaults",
    "no_log",
    "now",
    "omit",
    "play_hosts",
    "playbook_dir",
    "q",
    "query",
    "remote_user",
    "role_name",
    "role_names",
    "role_path",
    "role_uuid",
    "roles",
    "run_once",
    "tasks",
    "undef",
    "until",
    "vars",
    "vars_files",
    "vars_prompt",
];

/// Prefixes of names that steer Ansible itself.
const MAGIC_PREFIXES: [&str; 4] = ["ansible_", "__", "inventory_", "molecule_"];

/// Python's reserved words; Ansible refuses them as names, some versions only later in the run.
const RESERVED: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
    "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Why variables can't be given to a playbook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VarsError {
    /// The name is none.
    #[error("the variable `{0}` has a name that is not letters, digits and `_`")]
    Name(String),
    /// The name steers Ansible.
    #[error("the variable `{0}` has a name that Ansible gives a meaning of its own")]
    Magic(String),
    /// A text holds the beginning of a template, or NUL.
    #[error("the variable `{0}` holds `{1}`, which could be read as a template")]
    Template(String, &'static str),
    /// A nested key steers how Ansible reads the value.
    #[error("the variable `{0}` holds the key `{1}`, which Ansible would read as a type")]
    Key(String, String),
    /// Too deep.
    #[error("the variable `{0}` is nested deeper than {MAX_DEPTH} levels")]
    Deep(String),
    /// Too large.
    #[error("the variables take {0} bytes; at most {MAX_BYTES} are passed on")]
    Large(usize),
}

/// The content of the file that `--extra-vars @file` reads.
///
/// # Errors
/// A name or value that is refused; see [`VarsError`].
pub fn extra_vars(vars: &BTreeMap<String, Json>) -> Result<Vec<u8>, VarsError> {
    let mut wrapped = Map::new();
    for (name, value) in vars {
        check_name(name)?;
        check_value(name, value, 1)?;
        wrapped.insert(name.clone(), wrap(value));
    }
    let bytes = Json::Object(wrapped).to_string().into_bytes();
    if bytes.len() > MAX_BYTES { Err(VarsError::Large(bytes.len())) } else { Ok(bytes) }
}

fn check_name(name: &str) -> Result<(), VarsError> {
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !begins || name.len() > 128 || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(VarsError::Name(name.to_owned()));
    }
    let lower = name.to_ascii_lowercase();
    let magic = MAGIC.contains(&lower.as_str()) || MAGIC_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
    if magic || RESERVED.contains(&name) { Err(VarsError::Magic(name.to_owned())) } else { Ok(()) }
}

fn check_value(name: &str, value: &Json, depth: usize) -> Result<(), VarsError> {
    if depth > MAX_DEPTH {
        return Err(VarsError::Deep(name.to_owned()));
    }
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => Ok(()),
        Json::String(text) => check_text(name, text),
        Json::Array(items) => items.iter().try_for_each(|item| check_value(name, item, depth + 1)),
        Json::Object(map) => map.iter().try_for_each(|(key, item)| {
            check_text(name, key)?;
            if key.starts_with("__ansible") {
                return Err(VarsError::Key(name.to_owned(), key.clone()));
            }
            check_value(name, item, depth + 1)
        }),
    }
}

fn check_text(name: &str, text: &str) -> Result<(), VarsError> {
    for (pattern, shown) in [("{{", "{{"), ("{%", "{%"), ("{#", "{#"), ("\0", "NUL")] {
        if text.contains(pattern) {
            return Err(VarsError::Template(name.to_owned(), shown));
        }
    }
    Ok(())
}

/// Every text of a value as one that Ansible never templates.
fn wrap(value: &Json) -> Json {
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => value.clone(),
        Json::String(text) => json!({ UNSAFE_KEY: text }),
        Json::Array(items) => Json::Array(items.iter().map(wrap).collect()),
        Json::Object(map) => Json::Object(map.iter().map(|(key, item)| (key.clone(), wrap(item))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(value: &Json) -> Json {
        match value {
            Json::Object(map) => match map.get(UNSAFE_KEY) {
                Some(text) if map.len() == 1 => text.clone(),
                _ => Json::Object(map.iter().map(|(key, item)| (key.clone(), decode(item))).collect()),
            },
            Json::Array(items) => Json::Array(items.iter().map(decode).collect()),
            plain => plain.clone(),
        }
    }

    fn has_bare_text(value: &Json) -> bool {
        match value {
            Json::String(_) => true,
            Json::Object(map) if map.len() == 1 && map.contains_key(UNSAFE_KEY) => false,
            Json::Object(map) => map.values().any(has_bare_text),
            Json::Array(items) => items.iter().any(has_bare_text),
            _ => false,
        }
    }

    fn one(name: &str, value: Json) -> Result<Vec<u8>, VarsError> {
        extra_vars(&BTreeMap::from([(name.to_owned(), value)]))
    }

    #[test]
    fn n1_names_that_steer_ansible_are_refused() {
        for name in [
            "ansible_connection",
            "Ansible_Host",
            "__ansible_unsafe",
            "hostvars",
            "groups",
            "vars",
            "omit",
            "environment",
            "play_hosts",
            "inventory_dir",
            "inventory_hostname",
            "delegate_to",
            "lookup",
            "import",
        ] {
            assert_eq!(one(name, json!(1)), Err(VarsError::Magic(name.to_owned())), "{name}");
        }
        for name in ["", "a b", "a-b", "1a", "a.b", "ä", "a\n", "@file", "-e"] {
            assert_eq!(one(name, json!(1)), Err(VarsError::Name(name.to_owned())), "{name}");
        }
        assert!(one("port", json!(3001)).is_ok());
        assert!(one("kuma_portals", json!([{ "name": "Gitea", "url": "https://git.lab.example" }])).is_ok());
    }

    #[test]
    fn n1_templates_and_type_keys_are_refused_at_any_depth() {
        for text in ["{{ x }}", "a{%b", "{#", "a\0b"] {
            assert!(one("v", json!(text)).is_err(), "{text:?}");
            assert!(one("v", json!([[{ "k": text }]])).is_err(), "{text:?}");
            assert!(one("v", json!({ text: 1 })).is_err(), "{text:?}");
        }
        for key in ["__ansible_unsafe", "__ansible_vault", "__ansible_type"] {
            assert!(matches!(one("v", json!([{ key: "x" }])), Err(VarsError::Key(..))));
        }
    }

    #[test]
    fn n1_depth_and_size_are_bounded() {
        let deep = (0..20).fold(json!(1), |value, _| json!([value]));
        assert_eq!(one("v", deep), Err(VarsError::Deep("v".to_owned())));
        assert!(matches!(one("v", json!("x".repeat(300_000))), Err(VarsError::Large(_))));
    }

    fn values() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<String>().prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::btree_map("[a-z_{}%#]{0,6}", inner, 0..4)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn n1_what_is_accepted_is_wrapped_whole_and_decodes_to_itself(value in values()) {
            if let Ok(bytes) = one("v", value.clone()) {
                let read: Json = serde_json::from_slice(&bytes).unwrap();
                prop_assert!(!has_bare_text(&read));
                prop_assert_eq!(&decode(&read)["v"], &value);
            }
        }
    }
}
