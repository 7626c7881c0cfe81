//! Hosts and groups from YAML and INI inventories and from folders of them; programs and plugins are refused.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::catalogue::{Inventory, InventoryHost, Source};
use chiffon_schemas::{Host, RepoPath};

use super::Reader;
use super::ini;
use super::yaml::Yaml;
use crate::files::{self, Kind};

/// More hosts than this in one inventory are refused: a range such as `[0:9999999]` must not fill the memory.
pub(crate) const MAX_HOSTS: usize = 10_000;

/// An inventory being read: hosts, groups, and which variables it sets where.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    pub(crate) hosts: BTreeMap<String, HostFacts>,
    pub(crate) groups: BTreeMap<String, GroupFacts>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct HostFacts {
    pub(crate) at: Option<(String, u32)>,
    pub(crate) address: Option<String>,
    pub(crate) vars: BTreeMap<String, String>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct GroupFacts {
    pub(crate) hosts: BTreeSet<String>,
    pub(crate) children: BTreeSet<String>,
    pub(crate) vars: BTreeMap<String, String>,
}

impl Hosts {
    pub(crate) fn add_host(&mut self, name: &str, path: &str, line: u32) -> &mut HostFacts {
        let facts = self.hosts.entry(name.to_owned()).or_default();
        facts.at.get_or_insert_with(|| (path.to_owned(), line));
        facts
    }

    /// The groups that a host is in, parents and `all` included.
    pub(crate) fn groups_of(&self, host: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::from(["all".to_owned()]);
        let direct = self.groups.iter().filter(|(_, group)| group.hosts.contains(host)).map(|(name, _)| name.clone());
        let mut todo: Vec<String> = direct.collect();
        while let Some(group) = todo.pop() {
            if found.insert(group.clone()) {
                todo.extend(
                    self.groups.iter().filter(|(_, g)| g.children.contains(&group)).map(|(name, _)| name.clone()),
                );
            }
        }
        found
    }

    fn members(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut members: BTreeMap<String, BTreeSet<String>> =
            self.groups.keys().map(|g| (g.clone(), BTreeSet::new())).collect();
        members.entry("all".to_owned()).or_default();
        members.entry("ungrouped".to_owned()).or_default();
        for host in self.hosts.keys() {
            let groups = self.groups_of(host);
            if groups.len() == 1 || groups.iter().all(|group| group == "all" || group == "ungrouped") {
                members.entry("ungrouped".to_owned()).or_default().insert(host.clone());
            }
            for group in groups {
                members.entry(group).or_default().insert(host.clone());
            }
        }
        members
    }
}

impl Reader<'_, '_> {
    /// Reads the inventory at its path, a file or a folder.
    pub(super) fn read_inventory(&mut self, path: &RepoPath) {
        let bare = path.as_str().trim_end_matches('/').to_owned();
        if self.files.is_folder(&bare) {
            for name in self.files.names_in(&bare) {
                let inner = files::join(&bare, &name);
                if self.files.is_file(&inner) && !is_ignored(&name) {
                    self.read_inventory_file(&inner);
                }
            }
        } else {
            self.read_inventory_file(&bare);
        }
    }

    fn read_inventory_file(&mut self, path: &str) {
        let executable = self
            .files
            .resolve(path)
            .ok()
            .and_then(|path| self.files.entry(&path))
            .is_some_and(|entry| entry.kind == Kind::Executable);
        let text = match self.files.text(path) {
            Ok(text) => text,
            Err(why) => return self.finding(path, 0, format!("{why}, so its hosts are unknown")),
        };
        if executable && text.starts_with("#!") {
            let message = "an inventory that is a program is never run while planning, so its hosts are unknown";
            return self.finding(path, 0, message.to_owned());
        }
        let is_yaml = path.ends_with(".yml") || path.ends_with(".yaml") || path.ends_with(".json");
        if !is_yaml {
            let found = ini::read(&text, path, &mut self.hosts);
            found.into_iter().for_each(|(line, message)| self.finding(path, line, message));
            return;
        }
        let Some(document) = self.yaml(path) else { return };
        if document.get("plugin").is_some() {
            let message = "an inventory plugin asks other systems, which planning never does; its hosts are unknown";
            return self.finding(path, 0, message.to_owned());
        }
        let mut messages = Vec::new();
        for (group, body) in document.pairs() {
            read_group(group, body, path, &mut self.hosts, 0, &mut messages);
        }
        messages.into_iter().for_each(|(line, message)| self.finding(path, line, message));
    }

    /// The inventory as the catalogue has it; names that are no host names become findings.
    pub(super) fn finish_inventory(&mut self) -> Inventory {
        let mut inventory = Inventory::default();
        let mut refused = Vec::new();
        for (name, facts) in &self.hosts.hosts {
            let (path, line) = facts.at.clone().unwrap_or_default();
            match (Host::parse(name.as_str()), RepoPath::parse(path.as_str())) {
                (Ok(host), Ok(path)) => {
                    let at = Source { path, line };
                    inventory.hosts.insert(host, InventoryHost { at, address: facts.address.clone() });
                }
                _ => refused.push((path, line, format!("`{name}` is not a host name that can be planned for"))),
            }
        }
        for (group, members) in self.hosts.members() {
            inventory.groups.insert(group, members.into_iter().filter_map(|host| Host::parse(host).ok()).collect());
        }
        refused.into_iter().for_each(|(path, line, message)| self.finding(&path, line, message));
        inventory
    }
}

fn is_ignored(name: &str) -> bool {
    let ends = ["~", ".orig", ".cfg", ".retry", ".pyc", ".pyo", ".swp", ".bak", ".rpm", ".md", ".txt", ".rst"];
    name.starts_with('.') || ends.iter().any(|end| name.ends_with(end))
}

fn read_group(name: &str, body: &Yaml, path: &str, hosts: &mut Hosts, depth: usize, messages: &mut Vec<(u32, String)>) {
    if depth > 32 {
        messages.push((body.line, format!("group `{name}` is nested too deeply")));
        return;
    }
    hosts.groups.entry(name.to_owned()).or_default();
    if let Some(members) = body.get("hosts") {
        for (pattern, vars) in members.pairs() {
            for host in ini::expand(pattern) {
                if hosts.hosts.len() >= MAX_HOSTS {
                    messages.push((vars.line, format!("more than {MAX_HOSTS} hosts; the rest is left out")));
                    return;
                }
                let facts = hosts.add_host(&host, path, vars.line);
                for (key, value) in vars.pairs() {
                    if key == "ansible_host" {
                        facts.address = value.text();
                    }
                    facts.vars.insert(key.clone(), text_of(value));
                }
                hosts.groups.entry(name.to_owned()).or_default().hosts.insert(host);
            }
        }
    }
    for (key, value) in body.get("vars").map(|vars| vars.pairs()).unwrap_or_default() {
        hosts.groups.entry(name.to_owned()).or_default().vars.insert(key.clone(), text_of(value));
    }
    for (child, inner) in body.get("children").map(|children| children.pairs()).unwrap_or_default() {
        hosts.groups.entry(name.to_owned()).or_default().children.insert(child.clone());
        read_group(child, inner, path, hosts, depth + 1, messages);
    }
}

pub(crate) fn text_of(value: &Yaml) -> String {
    let mut text = String::new();
    value.all_text(&mut text);
    text
}
