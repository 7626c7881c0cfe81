//! INI inventories: `[group]`, `[group:children]`, `[group:vars]`, ranges such as `web[01:03]`.

use super::inventory::{Hosts, MAX_HOSTS};

enum Section {
    Hosts(String),
    Children(String),
    Vars(String),
}

/// Reads a text into `hosts`; gives back what was wrong, by line.
pub(crate) fn read(text: &str, path: &str, hosts: &mut Hosts) -> Vec<(u32, String)> {
    let mut findings = Vec::new();
    let mut section = Section::Hosts("ungrouped".to_owned());
    for (index, line) in text.lines().enumerate() {
        let number = index as u32 + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with(';') {
            continue;
        }
        if let Some(head) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(head, _)| head) {
            match parse_section(head) {
                Some(found) => section = found,
                None => findings.push((number, format!("`[{head}]` is not a section of an inventory"))),
            }
            let (Section::Hosts(group) | Section::Children(group) | Section::Vars(group)) = &section;
            hosts.groups.entry(group.clone()).or_default();
            continue;
        }
        match &section {
            Section::Hosts(group) => {
                let words = split_words(line);
                let Some((pattern, vars)) = words.split_first() else { continue };
                for host in expand(pattern) {
                    if hosts.hosts.len() >= MAX_HOSTS {
                        findings.push((number, format!("more than {MAX_HOSTS} hosts; the rest is left out")));
                        return findings;
                    }
                    let facts = hosts.add_host(&host, path, number);
                    for (key, value) in vars.iter().filter_map(|word| word.split_once('=')) {
                        if key == "ansible_host" {
                            facts.address = Some(value.to_owned());
                        }
                        facts.vars.insert(key.to_owned(), value.to_owned());
                    }
                    hosts.groups.entry(group.clone()).or_default().hosts.insert(host);
                }
            }
            Section::Children(group) => {
                let child = line.split_whitespace().next().unwrap_or(line).to_owned();
                hosts.groups.entry(child.clone()).or_default();
                hosts.groups.entry(group.clone()).or_default().children.insert(child);
            }
            Section::Vars(group) => match line.split_once('=') {
                Some((key, value)) => {
                    let vars = &mut hosts.groups.entry(group.clone()).or_default().vars;
                    vars.insert(key.trim().to_owned(), value.trim().to_owned());
                }
                None => findings.push((number, "a variable without a value".to_owned())),
            },
        }
    }
    findings
}

fn parse_section(head: &str) -> Option<Section> {
    match head.trim().split_once(':') {
        None => Some(Section::Hosts(head.trim().to_owned())),
        Some((group, "children")) => Some(Section::Children(group.to_owned())),
        Some((group, "vars")) => Some(Section::Vars(group.to_owned())),
        Some(_) => None,
    }
}

/// Splits at white space outside of quotes; quotes are taken off, a `#` word ends the line.
fn split_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (None, '#') if word.is_empty() => return words,
            (_, c) => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The hosts of a pattern with ranges: `web[01:03].lan`, `db[a:c]`, `n[1:9:2]`; a port after `:` is taken off.
pub(crate) fn expand(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('[') else {
        // `host:2222` is a host with a port; more than one colon is an IPv6 address.
        let name = match pattern.split_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.is_empty() => host,
            _ => pattern,
        };
        return vec![name.to_owned()];
    };
    let Some((range, after)) = rest.split_once(']') else { return vec![pattern.to_owned()] };
    let Some(middles) = expand_range(range) else { return vec![pattern.to_owned()] };
    let tails = expand(after);
    let mut found = Vec::new();
    for middle in &middles {
        for tail in &tails {
            if found.len() >= MAX_HOSTS {
                return found;
            }
            found.push(format!("{before}{middle}{tail}"));
        }
    }
    found
}

fn expand_range(range: &str) -> Option<Vec<String>> {
    let parts: Vec<&str> = range.split(':').collect();
    let (first, last, step) = match parts.as_slice() {
        [first, last] => (*first, *last, 1),
        [first, last, step] => (*first, *last, step.parse::<usize>().ok().filter(|step| *step > 0)?),
        _ => return None,
    };
    if let (Ok(from), Ok(to)) = (first.parse::<usize>(), last.parse::<usize>()) {
        let width = first.len();
        return Some((from..=to).step_by(step).take(MAX_HOSTS).map(|n| format!("{n:0width$}")).collect());
    }
    let (mut a, mut b) = (first.chars(), last.chars());
    match (a.next(), a.next(), b.next(), b.next()) {
        (Some(from), None, Some(to), None) if from.is_ascii_alphabetic() && to.is_ascii_alphabetic() => {
            Some((from..=to).step_by(step).map(String::from).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_expanded_with_their_zeros_and_steps() {
        assert_eq!(expand("web[01:03].lan"), ["web01.lan", "web02.lan", "web03.lan"]);
        assert_eq!(expand("db[a:c]"), ["dba", "dbb", "dbc"]);
        assert_eq!(expand("n[1:5:2]"), ["n1", "n3", "n5"]);
        assert_eq!(expand("r[1:2]-[a:b]"), ["r1-a", "r1-b", "r2-a", "r2-b"]);
        assert_eq!(expand("host:2222"), ["host"]);
        assert_eq!(expand("fe80::1"), ["fe80::1"]);
        assert_eq!(expand("h[0:99999999]").len(), MAX_HOSTS);
    }

    #[test]
    fn sections_children_and_variables_are_read() {
        let mut hosts = Hosts::default();
        let text = "lone ansible_host=10.0.0.9\n[web]\nweb[1:2] http_port=80 note='a b' # c\n[all_web:children]\nweb\n[web:vars]\nx = 1\n[odd:thing]\n";
        let findings = read(text, "hosts", &mut hosts);
        assert_eq!(findings.len(), 1);
        assert_eq!(hosts.hosts["lone"].address.as_deref(), Some("10.0.0.9"));
        assert_eq!(hosts.hosts["web2"].vars["note"], "a b");
        assert!(hosts.groups_of("web1").contains("all_web"));
        assert_eq!(hosts.groups["web"].vars["x"], "1");
    }
}
