//! Reads an infra repository into a [`Catalogue`]: plain YAML from git objects, at one commit.
//!
//! No Ansible program meets what is read here, and nothing is run: templates stay text, plugins and programs are
//! refused. What can't be read is a finding and costs only the entries that need it.

mod in_checks;
mod ini;
mod inventory;
mod modules;
mod pattern;
mod playbook;
mod portals;
mod roles;
mod secrets;
mod tasks;
mod variables;
mod yaml;

use std::collections::BTreeMap;
use std::rc::Rc;

use chiffon_core::catalogue::{Catalogue, Entry, Finding, Inventory, Source};
use chiffon_schemas::{InfraRef, RepoPath};

use crate::files::{self, Files, Kind};
use yaml::Yaml;

/// Folders below `playbooks/` whose YAML is no playbook.
const NOT_PLAYBOOKS: [&str; 10] =
    ["roles", "group_vars", "host_vars", "vars", "tasks", "handlers", "templates", "files", "library", "defaults"];

/// Reads everything that one commit offers.
pub fn read(files: &Files<'_>, infra: InfraRef) -> Catalogue {
    let mut reader = Reader {
        files,
        inventory_path: infra.inventory.clone(),
        hosts: inventory::Hosts::default(),
        inventory: Inventory::default(),
        variables: secrets::Known::default(),
        role_words: BTreeMap::new(),
        documents: BTreeMap::new(),
        in_checks: BTreeMap::new(),
        own_code: files.paths().any(|(path, _)| in_checks::is_code(path)),
        findings: Vec::new(),
    };
    reader.read_inventory(&infra.inventory);
    reader.inventory = reader.finish_inventory();
    reader.read_inventory_variables();
    let mut entries = reader.read_playbooks();
    entries.sort_by(|a, b| a.playbook.cmp(&b.playbook));
    let portals = reader.read_portals();
    let sources = portals.iter().flat_map(|portal| &portal.sources);
    let portal_files = sources.filter_map(|source| files.pin(source.path.as_str())).collect();
    reader.findings.sort_by(|a, b| (&a.at, &a.message).cmp(&(&b.at, &b.message)));
    reader.findings.dedup();
    Catalogue { infra, entries, inventory: reader.inventory, portals, portal_files, findings: reader.findings }
}

/// What is known while reading.
pub(crate) struct Reader<'f, 'b> {
    pub(crate) files: &'f Files<'b>,
    inventory_path: RepoPath,
    hosts: inventory::Hosts,
    inventory: Inventory,
    variables: secrets::Known,
    role_words: BTreeMap<String, Rc<std::collections::BTreeSet<String>>>,
    documents: BTreeMap<String, Result<Rc<Yaml>, String>>,
    /// What was looked through for what runs in checks.
    in_checks: BTreeMap<String, in_checks::Found>,
    /// The repository has code that Ansible would load into itself.
    own_code: bool,
    findings: Vec<Finding>,
}

impl Reader<'_, '_> {
    fn finding(&mut self, path: &str, line: u32, message: String) {
        // A name that is no path of ours (control characters, say) is reported against the inventory's path.
        let path = RepoPath::parse(path).unwrap_or_else(|_| self.inventory_path.clone());
        self.findings.push(Finding { at: Source { path, line }, message });
    }

    /// The first document of a YAML file; what is wrong with it becomes a finding once.
    fn yaml(&mut self, path: &str) -> Option<Rc<Yaml>> {
        self.yaml_or(path).ok()
    }

    /// As [`Self::yaml`], with the reason.
    fn yaml_or(&mut self, path: &str) -> Result<Rc<Yaml>, String> {
        if let Some(known) = self.documents.get(path) {
            return known.clone();
        }
        let read = self.read_yaml(path);
        self.documents.insert(path.to_owned(), read.clone());
        read
    }

    fn read_yaml(&mut self, path: &str) -> Result<Rc<Yaml>, String> {
        let text = match self.files.text(path) {
            Ok(text) => text,
            Err(why) => {
                self.finding(path, 0, why.to_string());
                return Err(why.to_string());
            }
        };
        if text.starts_with("$ANSIBLE_VAULT") {
            return Err(format!("{path} is vaulted as a whole"));
        }
        match yaml::parse(&text) {
            Ok(documents) => {
                let empty = Yaml { value: yaml::Val::Scalar(chiffon_schemas::Json::Null), line: 1, tag: None };
                Ok(documents.into_iter().next().unwrap_or_else(|| Rc::new(empty)))
            }
            Err((line, message)) => {
                self.finding(path, line, format!("not read as YAML: {message}"));
                Err(format!("{path}:{line} can't be read as YAML"))
            }
        }
    }

    fn read_playbooks(&mut self) -> Vec<Entry> {
        let mut candidates: Vec<(String, Kind)> = Vec::new();
        for (path, entry) in self.files.paths() {
            let is_yaml = path.ends_with(".yml") || path.ends_with(".yaml");
            let in_root = !path.contains('/');
            let in_playbooks = path.strip_prefix("playbooks/").is_some_and(|rest| {
                let folders = files::parent(rest);
                !folders.split('/').any(|folder| NOT_PLAYBOOKS.contains(&folder))
            });
            if entry.kind != Kind::Folder && (in_root || in_playbooks) && (is_yaml || entry.kind == Kind::Submodule) {
                candidates.push((path.to_owned(), entry.kind));
            }
        }
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        let mut aliases: Vec<(String, String)> = Vec::new();
        for (path, kind) in candidates {
            match kind {
                Kind::Link => match self.files.resolve(&path) {
                    Ok(target) => aliases.push((path, target)),
                    Err(why) => self.finding(&path, 0, format!("{why}; it is left out")),
                },
                Kind::Submodule if path.contains('/') => {
                    self.finding(&path, 0, "a submodule, whose content is not read".to_owned());
                }
                Kind::Submodule | Kind::Folder => {}
                Kind::File | Kind::Executable => {
                    if let Some(entry) = self.read_playbook(&path) {
                        entries.insert(path, entry);
                    }
                }
            }
        }
        for (alias, target) in aliases {
            if !entries.contains_key(&target)
                && let Some(entry) = self.read_playbook(&target)
            {
                entries.insert(target.clone(), entry);
            }
            if let (Some(entry), Ok(alias)) = (entries.get_mut(&target), RepoPath::parse(alias)) {
                entry.aliases.push(alias);
            }
        }
        entries.into_values().collect()
    }
}
