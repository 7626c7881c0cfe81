//! Addresses that existing configuration names: sites of a Caddyfile, tiles of a dashboard, labels of compose files.

use std::collections::BTreeMap;

use chiffon_core::catalogue::{Portal, Source};
use chiffon_schemas::RepoPath;

use super::Reader;
use super::yaml::Yaml;
use crate::files::Kind;
use crate::words;

/// More addresses than this in one repository are not portals of a person.
const MAX_PORTALS: usize = 500;

/// How good a name is: what a person wrote for people beats what was made from a host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Naming {
    Tile,
    Comment,
    Service,
    HostName,
}

struct Found {
    naming: Naming,
    name: String,
    url: String,
    at: Source,
    /// Proxies, then dashboards, then compose files.
    rank: u8,
}

impl Reader<'_, '_> {
    /// Reads all portals, each address once, in the order in which they are found.
    pub(super) fn read_portals(&mut self) -> Vec<Portal> {
        let paths: Vec<String> = self
            .files
            .paths()
            .filter(|(_, entry)| matches!(entry.kind, Kind::File | Kind::Executable))
            .map(|(path, _)| path.to_owned())
            .collect();
        let mut found: Vec<Found> = Vec::new();
        for path in &paths {
            let Ok(at) = RepoPath::parse(path.as_str()) else { continue };
            let name = path.rsplit('/').next().unwrap_or(path);
            let is_yaml = name.ends_with(".yml") || name.ends_with(".yaml");
            if name == "Caddyfile" || name.ends_with(".caddy") || name.starts_with("Caddyfile.") {
                if let Ok(text) = self.files.text(path) {
                    caddyfile(&text, &at, &mut found);
                }
            } else if is_yaml && is_compose(name) {
                if let Some(document) = self.yaml(path) {
                    compose(&document, &at, &mut found);
                }
            } else if is_yaml
                && may_be_dashboard(path)
                && let Some(document) = self.yaml(path)
            {
                dashboard(&document, &at, &mut found, 0);
            }
            if found.len() > MAX_PORTALS {
                break;
            }
        }
        merge(found)
    }
}

fn is_compose(name: &str) -> bool {
    ["compose.yml", "compose.yaml", "docker-compose.yml", "docker-compose.yaml"].contains(&name)
        || name.starts_with("docker-compose.")
        || name.starts_with("compose.")
}

/// Dashboards lie anywhere; what Ansible itself reads is none.
fn may_be_dashboard(path: &str) -> bool {
    let not = ["playbooks", "roles", "group_vars", "host_vars", "inventory", "tasks", "meta", "collections"];
    !path.split('/').any(|part| not.contains(&part) || part.starts_with('.')) && path.contains('/')
}

fn merge(mut found: Vec<Found>) -> Vec<Portal> {
    found.sort_by(|a, b| (a.rank, &a.at).cmp(&(b.rank, &b.at)));
    let mut order: Vec<String> = Vec::new();
    let mut by_host: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for item in found {
        let host = host_of(&item.url).to_owned();
        if !by_host.contains_key(&host) {
            order.push(host.clone());
        }
        by_host.entry(host).or_default().push(item);
    }
    order
        .iter()
        .filter_map(|host| by_host.remove(host))
        .filter_map(|items| {
            let name = items.iter().min_by_key(|item| item.naming)?.name.clone();
            let url = items.first()?.url.clone();
            let mut sources: Vec<Source> = Vec::new();
            items.into_iter().for_each(|item| {
                if !sources.contains(&item.at) {
                    sources.push(item.at);
                }
            });
            Some(Portal { name, url, sources })
        })
        .collect()
}

fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// An address with a scheme; `None` for templates, loopback names and what is no address.
fn clean_url(text: &str) -> Option<String> {
    let text = text.trim().trim_end_matches('/');
    let is_web = text.starts_with("https://") || text.starts_with("http://");
    let host = host_of(text);
    let plain = text
        .chars()
        .all(|c| c.is_ascii_graphic() && !matches!(c, '{' | '}' | '$' | '<' | '>' | '"' | '\'' | '`' | '\\'));
    (is_web && plain && is_host(host)).then(|| text.to_owned())
}

fn is_host(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or(host);
    name.contains('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
        && name.bytes().any(|b| b.is_ascii_alphabetic())
        && !name.starts_with('.')
}

/// The first label of a host name as a name: `Git` for `git.lab.example`.
fn name_of_host(host: &str) -> String {
    words::title_of(host.split('.').next().unwrap_or(host))
}

fn caddyfile(text: &str, path: &RepoPath, found: &mut Vec<Found>) {
    let mut depth = 0_usize;
    let mut comment: Option<String> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(words) = line.strip_prefix('#') {
            if depth == 0 && comment.is_none() {
                comment = Some(words.trim().to_owned());
            } else if depth == 0 && !words.contains(':') && words.trim().len() < 30 {
                // A short last line right above a site names it better than the paragraph before it.
                comment = comment.filter(|first| first.contains(':')).or_else(|| Some(words.trim().to_owned()));
            }
            continue;
        }
        if depth == 0 && line.ends_with('{') && line.len() > 1 {
            let sites = line.trim_end_matches('{').split([',', ' ']).filter(|site| !site.is_empty());
            for site in sites.take(1) {
                let url = if site.contains("://") { site.to_owned() } else { format!("https://{site}") };
                let Some(url) = clean_url(&url).filter(|_| !site.contains('*')) else { continue };
                let said = comment.as_deref().and_then(name_in_comment);
                let (naming, name) = match said {
                    Some(name) => (Naming::Comment, name),
                    None => (Naming::HostName, name_of_host(host_of(&url))),
                };
                let at = Source { path: path.clone(), line: index as u32 + 1 };
                found.push(Found { naming, name, url, at, rank: 0 });
            }
        }
        depth = (depth + line.matches('{').count()).saturating_sub(line.matches('}').count());
        comment = None;
    }
}

/// `Gitea` of `Gitea: the web pages only`; a whole sentence is no name.
fn name_in_comment(comment: &str) -> Option<String> {
    let name = comment.split([':', ',', '(']).next()?.trim().trim_end_matches('.');
    let short = !name.is_empty() && name.len() <= 40 && name.split_whitespace().count() <= 3;
    (short && name.chars().next().is_some_and(char::is_uppercase)).then(|| name.to_owned())
}

/// Tiles such as `- Grafana: {href: …}`, `{name: Grafana, url: …}` and `{title: …, link: …}`, at any depth.
fn dashboard(node: &Yaml, path: &RepoPath, found: &mut Vec<Found>, depth: usize) {
    if depth > 16 {
        return;
    }
    node.items().iter().for_each(|item| dashboard(item, path, found, depth + 1));
    let own = ["name", "title"].iter().find_map(|key| node.get(key)?.text());
    if let Some(name) = own {
        tile(&name, node, &["href", "url", "link"], path, found);
    }
    for (key, value) in node.pairs() {
        let named = ["name", "title"].iter().any(|name| value.get(name).is_some());
        if !named && key != "widget" && key != "widgets" {
            tile(key, value, &["href"], path, found);
        }
        if key != "widget" && key != "widgets" {
            dashboard(value, path, found, depth + 1);
        }
    }
}

fn tile(name: &str, node: &Yaml, keys: &[&str], path: &RepoPath, found: &mut Vec<Found>) {
    let Some(address) = keys.iter().find_map(|key| node.get(key)) else { return };
    let Some(url) = address.text().and_then(|url| clean_url(&url)) else { return };
    let at = Source { path: path.clone(), line: address.line };
    found.push(Found { naming: Naming::Tile, name: name.trim().to_owned(), url, at, rank: 1 });
}

fn compose(document: &Yaml, path: &RepoPath, found: &mut Vec<Found>) {
    for (service, body) in document.get("services").map(|services| services.pairs()).unwrap_or_default() {
        let Some(labels) = body.get("labels") else { continue };
        let pairs: Vec<(String, String, u32)> = if labels.is_map() {
            labels.pairs().iter().filter_map(|(key, value)| Some((key.clone(), value.text()?, value.line))).collect()
        } else {
            labels
                .items()
                .iter()
                .filter_map(|item| {
                    let text = item.text()?;
                    let (key, value) = text.split_once('=')?;
                    Some((key.trim().to_owned(), value.trim().to_owned(), item.line))
                })
                .collect()
        };
        let label = |name: &str| pairs.iter().find(|(key, ..)| key == name);
        let at = |line: u32| Source { path: path.clone(), line };
        if let Some((_, href, line)) = label("homepage.href")
            && let Some(url) = clean_url(href)
        {
            let said = label("homepage.name").map(|(_, name, _)| name.clone());
            let naming = if said.is_some() { Naming::Tile } else { Naming::Service };
            let name = said.unwrap_or_else(|| words::title_of(service));
            found.push(Found { naming, name, url, at: at(*line), rank: 2 });
        }
        for (key, value, line) in &pairs {
            let hosts: Vec<String> = if key.starts_with("traefik.") && key.ends_with(".rule") {
                traefik_hosts(value)
            } else if key == "caddy" || (key.starts_with("caddy_") && !key.contains('.')) {
                value.split([' ', ',']).map(|site| host_of(site).to_owned()).collect()
            } else {
                continue;
            };
            for host in hosts {
                if let Some(url) = clean_url(&format!("https://{host}")) {
                    let name = words::title_of(service);
                    found.push(Found { naming: Naming::Service, name, url, at: at(*line), rank: 2 });
                }
            }
        }
    }
}

/// The names in ``Host(`a`, `b`) || Host(`c`)``.
fn traefik_hosts(rule: &str) -> Vec<String> {
    let mut hosts = Vec::new();
    for part in rule.split("Host(").skip(1) {
        let inside = part.split(')').next().unwrap_or_default();
        hosts.extend(inside.split(',').map(|host| host.trim().trim_matches(['`', '"', '\'']).to_owned()));
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_of_a_caddyfile_are_found_with_their_names_and_lines() {
        let path = RepoPath::parse("Caddyfile").unwrap();
        let mut found = Vec::new();
        let text = "{\n\temail a@b.example\n}\n# Gitea: pages only.\n# More words about it here, quite a lot.\ngit.lab.example {\n\treverse_proxy x:1\n}\n\nfoo.lab.example, bar.lab.example {\n}\n:8080 {\n}\n*.lab.example {\n}\n";
        caddyfile(text, &path, &mut found);
        let seen: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.url.as_str(), f.at.line)).collect();
        assert_eq!(seen, [("Gitea", "https://git.lab.example", 6), ("Foo", "https://foo.lab.example", 10)]);
    }

    #[test]
    fn traefik_rules_name_their_hosts() {
        assert_eq!(traefik_hosts("Host(`a.b`) || Host(`c.d`, `e.f`)"), ["a.b", "c.d", "e.f"]);
    }

    #[test]
    fn addresses_with_templates_or_markup_are_none() {
        for text in ["https://{{ x }}/", "javascript:alert(1)", "https://a<b.c", "http://localhost", "https://$H.a"] {
            assert_eq!(clean_url(text), None, "{text}");
        }
        assert_eq!(clean_url("https://a.example/"), Some("https://a.example".to_owned()));
    }
}
