//! Lookups in templates: code that Ansible runs on its own machine while it works out what a task would do, in a check run
//! as in any other.

use chiffon_schemas::Json;

/// Those that do no more than to read what is there.
const ONLY_READ: [&str; 21] = [
    "config",
    "dict",
    "env",
    "file",
    "fileglob",
    "filetree",
    "first_found",
    "flattened",
    "indexed_items",
    "inventory_hostnames",
    "items",
    "list",
    "nested",
    "random_choice",
    "sequence",
    "subelements",
    "together",
    "vars",
    "varnames",
    "ini",
    "csvfile",
];

/// Whether a lookup only reads, by its name with or without the collection that every Ansible has.
pub(super) fn only_reads(name: &str) -> bool {
    ONLY_READ.contains(&name.strip_prefix("ansible.builtin.").unwrap_or(name))
}

/// Whether a text calls a lookup that does more than to read, or whose name reading can't tell.
pub(super) fn any_in(text: &str) -> bool {
    ["lookup", "query", "q"].iter().any(|call| calls(text, call))
}

/// As [`any_in`], for every text of a value.
pub(super) fn any_within(value: &Json) -> bool {
    match value {
        Json::String(text) => any_in(text),
        Json::Array(items) => items.iter().any(any_within),
        Json::Object(map) => map.values().any(any_within),
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}

fn calls(text: &str, call: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    text.match_indices(call).any(|(at, _)| {
        let begins = !text[..at].chars().next_back().is_some_and(is_part);
        let Some(inner) = text[at + call.len()..].trim_start().strip_prefix('(').filter(|_| begins) else {
            return false;
        };
        let inner = inner.trim_start();
        let quote = inner.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let name = quote.and_then(|quote| inner[1..].split(quote).next());
        !name.is_some_and(only_reads)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n4_a_lookup_that_runs_something_is_found_however_it_is_written() {
        for text in [
            "{{ lookup('pipe', 'date') }}",
            "{{lookup( \"ansible.builtin.pipe\", 'x')}}",
            "{{ query('lines', 'x') }}",
            "{{ q('url', x) }}",
            "{{ lookup(which, x) }}",
            "a\n{{ lookup ('password', '/tmp/x') }}",
            "{{ lookup('env', 'A') }}{{ lookup('pipe', 'x') }}",
        ] {
            assert!(any_in(text), "{text}");
        }
        for text in [
            "{{ lookup('env', 'HOME') }}",
            "{{ query(\"ansible.builtin.fileglob\", '*.yml') }}",
            "the query (of a person)",
            "mysql_query(x)",
            "sql.query('x')",
            "a lookup of things",
            "",
        ] {
            assert_eq!(any_in(text), text.contains("the query ("), "{text}");
        }
    }
}
