//! Variables that the inventory sets, vaulted ones by name only, and which of them an entry uses; ports that it opens.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use chiffon_core::catalogue::VarKind;
use chiffon_schemas::Json;

use super::inventory::text_of;
use super::playbook::Draft;
use super::{Reader, tasks};
use crate::files;

/// What group_vars, host_vars and the inventory set: by `group:x` or `host:x`, then by variable, with its text.
#[derive(Debug, Default)]
pub(crate) struct Known {
    set: BTreeMap<String, BTreeMap<String, String>>,
    vaulted: BTreeSet<String>,
    /// Files vaulted as a whole, by the same scope: what they set can't be known.
    closed: BTreeMap<String, BTreeSet<String>>,
}

impl Reader<'_, '_> {
    /// Reads group_vars and host_vars beside the inventory and beside the playbooks.
    pub(super) fn read_inventory_variables(&mut self) {
        for (name, facts) in &self.hosts.hosts {
            self.variables.set.entry(format!("host:{name}")).or_default().extend(facts.vars.clone());
        }
        for (name, facts) in &self.hosts.groups {
            self.variables.set.entry(format!("group:{name}")).or_default().extend(facts.vars.clone());
        }
        let inventory = self.inventory_path.as_str().trim_end_matches('/').to_owned();
        let beside = if self.files.is_folder(&inventory) { inventory } else { files::parent(&inventory).to_owned() };
        let mut folders = vec![beside, "playbooks".to_owned()];
        folders.dedup();
        for folder in folders {
            for (part, scope) in [("group_vars", "group"), ("host_vars", "host")] {
                let base = files::join(&folder, part);
                for name in self.files.names_in(&base) {
                    let path = files::join(&base, &name);
                    let stem =
                        [".yml", ".yaml", ".json"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
                    self.read_variable_files(&path, &format!("{scope}:{stem}"), 0);
                }
            }
        }
    }

    fn read_variable_files(&mut self, path: &str, scope: &str, depth: usize) {
        if self.files.is_folder(path) {
            for name in self.files.names_in(path) {
                if depth < 8 && !name.starts_with('.') {
                    self.read_variable_files(&files::join(path, &name), scope, depth + 1);
                }
            }
            return;
        }
        if self.files.text(path).is_ok_and(|text| text.starts_with("$ANSIBLE_VAULT")) {
            self.variables.closed.entry(scope.to_owned()).or_default().insert(path.to_owned());
            return;
        }
        let Some(document) = self.yaml(path) else { return };
        for (name, value) in document.pairs() {
            if value.tag.as_deref().is_some_and(|tag| tag.trim_start_matches('!').starts_with("vault")) {
                self.variables.vaulted.insert(name.clone());
            }
            let text = if value.tag.is_some() { String::new() } else { text_of(value) };
            self.variables.set.entry(scope.to_owned()).or_default().insert(name.clone(), text);
        }
    }

    /// Whether the inventory sets a variable on each of these hosts.
    pub(super) fn set_everywhere(&self, name: &str, hosts: &BTreeSet<String>) -> bool {
        !hosts.is_empty()
            && hosts.iter().all(|host| {
                self.scopes(host)
                    .iter()
                    .any(|scope| self.variables.set.get(scope).is_some_and(|set| set.contains_key(name)))
            })
    }

    fn scopes(&self, host: &str) -> Vec<String> {
        let groups = self.hosts.groups_of(host).into_iter().map(|group| format!("group:{group}"));
        groups.chain([format!("host:{host}")]).collect()
    }

    /// Names of vaulted variables that an entry's files mention, also through other variables of the inventory.
    pub(super) fn secrets_of(&mut self, draft: &Draft, hosts: &BTreeSet<String>) -> Vec<String> {
        let scopes: BTreeSet<String> = hosts.iter().flat_map(|host| self.scopes(host)).collect();
        let names: BTreeSet<String> = scopes
            .iter()
            .filter_map(|scope| self.variables.set.get(scope))
            .flat_map(|set| set.keys().cloned())
            .collect();
        let mut words: BTreeSet<String> = BTreeSet::new();
        draft.texts.iter().for_each(|text| identifiers(text, &mut words));
        for folder in &draft.all_roles {
            words.extend(self.words_of_role(folder).iter().cloned());
        }
        let mut todo: Vec<String> = names.iter().filter(|name| words.contains(*name)).cloned().collect();
        let mut used: BTreeSet<String> = todo.iter().cloned().collect();
        while let Some(name) = todo.pop() {
            for set in scopes.iter().filter_map(|scope| self.variables.set.get(scope)) {
                let Some(text) = set.get(&name) else { continue };
                let more = names.iter().filter(|other| tasks::mentions(text, other)).cloned().collect::<Vec<_>>();
                todo.extend(more.into_iter().filter(|other| used.insert(other.clone())));
            }
        }
        let mut secrets: BTreeSet<String> = used.intersection(&self.variables.vaulted).cloned().collect();
        // What is inside of a file vaulted as a whole can't be known, so the file itself is named.
        secrets.extend(scopes.iter().filter_map(|scope| self.variables.closed.get(scope)).flatten().cloned());
        secrets.into_iter().collect()
    }

    fn words_of_role(&mut self, folder: &str) -> Rc<BTreeSet<String>> {
        if let Some(known) = self.role_words.get(folder) {
            return Rc::clone(known);
        }
        let prefix = format!("{}/", self.files.resolve(folder).unwrap_or_else(|_| folder.to_owned()));
        let paths: Vec<String> = self
            .files
            .paths()
            .filter(|(path, _)| path.starts_with(&prefix) && !path[prefix.len()..].starts_with("files/"))
            .map(|(path, _)| path.to_owned())
            .collect();
        let mut words = BTreeSet::new();
        for text in paths.iter().filter(|path| self.files.is_file(path)).filter_map(|path| self.files.text(path).ok()) {
            identifiers(&text, &mut words);
        }
        let words = Rc::new(words);
        self.role_words.insert(folder.to_owned(), Rc::clone(&words));
        words
    }

    /// Ports of an entry: variables named so with a number as default, and what its compose files publish.
    pub(super) fn ports_of(&mut self, draft: &Draft) -> Vec<String> {
        let mut ports: BTreeSet<String> = BTreeSet::new();
        for (name, variable) in &draft.variables {
            let is_port = name == "port" || name.ends_with("_port");
            let number = variable.default.as_ref().and_then(Json::as_u64).filter(|n| (1..=65_535).contains(n));
            if let (true, VarKind::Int, Some(number)) = (is_port, &variable.kind, number) {
                ports.insert(format!("{number}/tcp"));
            }
        }
        for path in draft.mentioned.clone() {
            if !(path.ends_with(".yml") || path.ends_with(".yaml")) || !self.files.is_file(&path) {
                continue;
            }
            let Some(document) = self.yaml(&path) else { continue };
            let services = document.get("services").map(|services| services.pairs()).unwrap_or_default();
            for published in
                services.iter().filter_map(|(_, service)| service.get("ports")).flat_map(|list| list.items())
            {
                ports.extend(published_port(published));
            }
        }
        ports.into_iter().collect()
    }
}

/// `8080:80/udp` → `8080/udp`; bound to the machine itself, or with a variable, it is none.
fn published_port(item: &super::yaml::Yaml) -> Option<String> {
    if item.is_map() {
        let protocol = item.get("protocol").and_then(|p| p.text()).unwrap_or_else(|| "tcp".to_owned());
        let port: u16 = item.get("published")?.text()?.parse().ok()?;
        return Some(format!("{port}/{protocol}"));
    }
    let text = item.text()?;
    let (ports, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
    let parts: Vec<&str> = ports.split(':').collect();
    let port = match parts.as_slice() {
        [published, _] => published,
        [address, published, _] if *address != "127.0.0.1" && *address != "localhost" => published,
        _ => return None,
    };
    let port: u16 = port.parse().ok()?;
    Some(format!("{port}/{protocol}"))
}

fn identifiers(text: &str, out: &mut BTreeSet<String>) {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    out.extend(words.filter(|word| word.len() > 2 && !word.as_bytes()[0].is_ascii_digit()).map(str::to_owned));
}
