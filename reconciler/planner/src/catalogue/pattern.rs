//! Host patterns: `all`, groups, `a:b`, `a:!b`, `a:&b`, wildcards and lists, as Ansible puts them together.

use std::collections::BTreeSet;

use chiffon_core::catalogue::Inventory;
use chiffon_schemas::Host;

/// The hosts that a pattern names, sorted; `Err` says why it can't be worked out by reading.
pub(crate) fn hosts(pattern: &str, inventory: &Inventory) -> Result<Vec<Host>, String> {
    if pattern.contains("{{") || pattern.contains("{%") {
        return Err(format!("its hosts are the template `{pattern}`, which only a run can work out"));
    }
    let mut union: BTreeSet<Host> = BTreeSet::new();
    let (mut only, mut without): (Vec<BTreeSet<Host>>, Vec<BTreeSet<Host>>) = (Vec::new(), Vec::new());
    for part in parts(pattern) {
        if part.starts_with('~') || part.contains('[') {
            return Err(format!("its hosts `{pattern}` hold a regular expression or a slice, which is not read"));
        }
        if let Some(rest) = part.strip_prefix('&') {
            only.push(named(rest, inventory));
        } else if let Some(rest) = part.strip_prefix('!') {
            without.push(named(rest, inventory));
        } else {
            union.extend(named(part, inventory));
        }
    }
    let first_is_filter = parts(pattern).next().is_some_and(|part| part.starts_with('&') || part.starts_with('!'));
    if union.is_empty() && first_is_filter {
        union = inventory.hosts.keys().cloned().collect();
    }
    union.retain(|host| only.iter().all(|set| set.contains(host)) && !without.iter().any(|set| set.contains(host)));
    Ok(union.into_iter().collect())
}

/// Splits at commas, and at colons unless it is one IPv6 address.
fn parts(pattern: &str) -> impl Iterator<Item = &str> {
    let ipv6 = pattern.matches(':').count() > 1 && pattern.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    pattern.split(move |c| c == ',' || c == ';' || (c == ':' && !ipv6)).map(str::trim).filter(|part| !part.is_empty())
}

fn named(word: &str, inventory: &Inventory) -> BTreeSet<Host> {
    if word == "*" || word == "all" {
        return inventory.hosts.keys().cloned().collect();
    }
    if let Some(found) = inventory.named(word) {
        return found;
    }
    if word == "localhost" || word == "127.0.0.1" {
        // Ansible makes the controller itself a host where no inventory names it.
        return Host::parse("localhost").into_iter().collect();
    }
    let mut found = BTreeSet::new();
    if word.contains('*') || word.contains('?') {
        found.extend(inventory.hosts.keys().filter(|host| matches(word, host.as_str())).cloned());
        let groups = inventory.groups.iter().filter(|(group, _)| matches(word, group));
        found.extend(groups.flat_map(|(_, hosts)| hosts.iter().cloned()));
    }
    found
}

/// Whether a text fits a wildcard pattern of `*` and `?`.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            p = at + 1;
            t = from + 1;
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}
