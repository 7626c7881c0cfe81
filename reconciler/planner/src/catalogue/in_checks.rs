//! What may run for real in a check run (N4), looked for in the raw text of all that an entry depends on: whoever wants to
//! know must not rely on knowing every place where Ansible takes a keyword or a template.

use std::collections::BTreeMap;

use chiffon_schemas::{Pin, RepoPath};

use crate::files::{Files, Kind};

/// Lookups that do no more than to read what is there.
const ONLY_READ: [&str; 20] = [
    "config",
    "csvfile",
    "dict",
    "env",
    "file",
    "fileglob",
    "filetree",
    "first_found",
    "flattened",
    "indexed_items",
    "ini",
    "inventory_hostnames",
    "items",
    "list",
    "nested",
    "random_choice",
    "sequence",
    "subelements",
    "together",
    "vars",
];

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Something says `check_mode`, and not that it is on.
    pub escapes: bool,
    /// A lookup does more than to read, or nobody can tell what it does.
    pub looks_up: bool,
}

impl Found {
    fn and(self, other: Self) -> Self {
        Self { escapes: self.escapes || other.escapes, looks_up: self.looks_up || other.looks_up }
    }
}

/// Looks through everything that is pinned; what was looked through before is in `known`.
pub(super) fn find(files: &Files<'_>, reads: &BTreeMap<RepoPath, Pin>, known: &mut BTreeMap<String, Found>) -> Found {
    let mut found = Found::default();
    for (path, _) in reads.iter().filter(|(_, pin)| **pin != Pin::Absent) {
        let bare = path.as_str().trim_end_matches('/');
        let folder = format!("{bare}/");
        let below = files.paths().filter(|(path, _)| *path == bare || path.starts_with(&folder));
        for (path, _) in below.filter(|(path, entry)| entry.kind != Kind::Folder && may_hold_templates(path)) {
            let in_file = *known.entry(path.to_owned()).or_insert_with(|| in_file(files, path));
            found = found.and(in_file);
        }
    }
    found
}

/// What a role copies as it is, and what is written for people, is nothing that Ansible works out.
fn may_hold_templates(path: &str) -> bool {
    !path.contains("/files/") && !path.ends_with(".md")
}

fn in_file(files: &Files<'_>, path: &str) -> Found {
    match files.text(path) {
        Ok(text) => in_text(&text),
        // What can't be read as text is no template, unless its name says that it is meant to be one.
        Err(_) => {
            let looks_up = [".yml", ".yaml", ".j2", ".json"].iter().any(|ending| path.ends_with(ending));
            Found { escapes: looks_up, looks_up }
        }
    }
}

fn in_text(text: &str) -> Found {
    let calls = ["lookup", "query", "q"].iter().any(|call| calls(text, call));
    Found { escapes: values_of(text, "check_mode").any(|value| !is_on(value)), looks_up: calls || loops(text) }
}

/// What stands behind a key, wherever it is one.
fn values_of<'t>(text: &'t str, key: &'static str) -> impl Iterator<Item = &'t str> {
    text.match_indices(key).filter_map(move |(at, _)| {
        let begins = !text[..at].chars().next_back().is_some_and(is_part);
        let rest = text[at + key.len()..].trim_start_matches(['\'', '"', ' ']);
        rest.strip_prefix(':').filter(|_| begins)
    })
}

fn is_on(value: &str) -> bool {
    let word = value.trim_start_matches([' ', '\'', '"']);
    let end = word.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(word.len());
    matches!(word[..end].to_ascii_lowercase().as_str(), "true" | "yes" | "on")
}

/// `with_pipe:` and the like.
fn loops(text: &str) -> bool {
    text.match_indices("with_").any(|(at, with)| {
        let begins = !text[..at].chars().next_back().is_some_and(is_part);
        let rest = &text[at + with.len()..];
        let end = rest.find(|c: char| !is_part(c) && c != '.').unwrap_or(rest.len());
        let is_key = rest[end..].trim_start_matches(['\'', '"', ' ']).starts_with(':');
        begins && is_key && !only_reads(&rest[..end])
    })
}

/// A call of that name whose first argument is not a lookup that only reads.
fn calls(text: &str, call: &str) -> bool {
    text.match_indices(call).any(|(at, _)| {
        let begins = !text[..at].chars().next_back().is_some_and(|c| is_part(c) || c == '.');
        let Some(inner) = text[at + call.len()..].trim_start().strip_prefix('(').filter(|_| begins) else {
            return false;
        };
        let inner = inner.trim_start();
        let quote = inner.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let name = quote.and_then(|quote| inner[1..].split(quote).next());
        !name.is_some_and(only_reads)
    })
}

fn only_reads(name: &str) -> bool {
    ONLY_READ.contains(&name.strip_prefix("ansible.builtin.").unwrap_or(name))
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether a path of the repository is code that Ansible would load into itself: collections, plugins, or modules.
pub(super) fn is_code(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let Some((_, folders)) = parts.split_last() else { return false };
    folders.iter().enumerate().any(|(at, name)| {
        // Other things are called a library as well: it counts where Ansible looks for one.
        let library = *name == "library" && (at < 2 || folders[..at].contains(&"roles"));
        name.ends_with("_plugins") || matches!(*name, "module_utils" | "ansible_collections") || library
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n4_a_lookup_that_runs_something_is_found_however_it_is_written() {
        for text in [
            "{{ lookup('pipe', 'date') }}",
            "{{-lookup( \"ansible.builtin.pipe\", 'x')}}",
            "{{ query('lines', 'x') }}",
            "{{ x/q('url', x) }}",
            "{{ lookup(which, x) }}",
            "a\n{{ lookup ('password', '/tmp/x') }}",
            "{{ lookup('env', 'A') }}{{ lookup('pipe', 'x') }}",
            "  with_lines: [date]",
            "- {debug: {}, \"with_pipe\": [date]}",
            "with_community.general.random_string: x",
        ] {
            assert!(in_text(text).looks_up, "{text}");
        }
        for text in [
            "{{ lookup('env', 'HOME') }}",
            "{{ query(\"ansible.builtin.fileglob\", '*.yml') }}",
            "mysql_query(x)",
            "sql.query('x')",
            "a lookup of things",
            "with_items: [a]",
            "goes with_pipe and more",
            "",
        ] {
            assert!(!in_text(text).looks_up, "{text}");
        }
    }

    #[test]
    fn n4_check_mode_that_is_not_on_is_found_wherever_it_stands() {
        for text in
            ["check_mode: false", "{check_mode: no}", "'check_mode' : '{{ x }}'", "check_mode: true\ncheck_mode:"]
        {
            assert!(in_text(text).escapes, "{text}");
        }
        for text in ["check_mode: true", "check_mode: 'yes'", "ansible_check_mode: false", "not ansible_check_mode"] {
            assert!(!in_text(text).escapes, "{text}");
        }
    }

    #[test]
    fn n4_code_of_the_repositorys_own_is_known_by_its_folder() {
        for path in [
            "library/x.py",
            "playbooks/library/x.py",
            "a/roles/r/library/x.py",
            "playbooks/sub/action_plugins/x.py",
            "connection_plugins/x.py",
            "collections/ansible_collections/ns/col/plugins/modules/x.py",
            "roles/r/module_utils/x.py",
        ] {
            assert!(is_code(path), "{path}");
        }
        for path in ["playbooks/library.yml", "compose/media/library/compose.yml", "roles/r/tasks/main.yml", "library"]
        {
            assert!(!is_code(path), "{path}");
        }
    }
}
