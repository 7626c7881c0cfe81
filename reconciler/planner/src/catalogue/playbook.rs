//! Playbooks: plays with their hosts, roles, tasks and variables, imported playbooks expanded.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use chiffon_core::catalogue::{Entry, Play, Source, Variable};
use chiffon_schemas::{Pin, RepoPath};

use super::tasks::{Inherited, MAX_DEPTH};
use super::yaml::Yaml;
use super::{Reader, in_checks, pattern, variables};
use crate::files::{self, Files};
use crate::words;

/// An entry while its playbook is being read.
pub(crate) struct Draft {
    pub(crate) playbook: RepoPath,
    pub(crate) reads: BTreeMap<RepoPath, Pin>,
    pub(crate) unreadable: Option<String>,
    pub(crate) variables: BTreeMap<String, Variable>,
    /// Variables that the playbook itself hands to its roles: nobody else sets those.
    pub(crate) set_by_caller: BTreeSet<String>,
    pub(crate) tags: BTreeSet<String>,
    /// Roles that the plays name themselves, in order; what roles pull in is not what the playbook is about.
    pub(crate) roles: Vec<String>,
    /// Every role that is used.
    pub(crate) all_roles: BTreeSet<String>,
    /// Roles of the play that is being read, whose handlers it has.
    pub(crate) play_roles: BTreeSet<String>,
    pub(crate) descriptions: Vec<String>,
    /// What was registered by tasks that can't be foreseen, with the task.
    pub(crate) unforeseen: Vec<(String, String)>,
    /// Files outside of roles that arguments name.
    pub(crate) mentioned: BTreeSet<String>,
    /// An include that only a run can work out.
    pub(crate) unresolved: bool,
    /// Texts of the playbooks, to see which variables they mention.
    pub(crate) texts: Vec<Rc<str>>,
    pub(crate) visited: BTreeSet<String>,
}

impl Draft {
    fn new(playbook: RepoPath) -> Self {
        Self {
            playbook,
            reads: BTreeMap::new(),
            unreadable: None,
            variables: BTreeMap::new(),
            set_by_caller: BTreeSet::new(),
            tags: BTreeSet::new(),
            roles: Vec::new(),
            all_roles: BTreeSet::new(),
            play_roles: BTreeSet::new(),
            descriptions: Vec::new(),
            unforeseen: Vec::new(),
            mentioned: BTreeSet::new(),
            unresolved: false,
            texts: Vec::new(),
            visited: BTreeSet::new(),
        }
    }

    /// Keeps the first reason why it can't be planned with.
    pub(crate) fn refuse(&mut self, reason: String) {
        self.unreadable.get_or_insert(reason);
    }

    pub(crate) fn pin(&mut self, files: &Files<'_>, path: &str) {
        self.reads.extend(files.pins(path));
    }
}

impl Reader<'_, '_> {
    /// Reads one playbook; `None` where the file is YAML of another kind.
    pub(super) fn read_playbook(&mut self, path: &str) -> Option<Entry> {
        let playbook = RepoPath::parse(path).ok()?;
        let document = match self.yaml_or(path) {
            Ok(document) => document,
            // The finding stands; a root file that can't be read need not be a playbook at all.
            Err(_) => return None,
        };
        if !is_playbook(&document) {
            return None;
        }
        let mut draft = Draft::new(playbook.clone());
        let mut plays = Vec::new();
        self.read_plays(&document, path, &mut draft, &mut plays, 0);
        self.pin_surroundings(path, &mut draft);
        Some(self.finish(playbook, draft, plays))
    }

    fn read_plays(&mut self, document: &Yaml, path: &str, draft: &mut Draft, plays: &mut Vec<Play>, depth: usize) {
        if depth > MAX_DEPTH || !draft.visited.insert(path.to_owned()) {
            draft.refuse(format!("{path} imports itself"));
            return;
        }
        draft.pin(self.files, path);
        draft.texts.extend(self.files.text(path).ok());
        for item in document.items() {
            let import = item.get_builtin("import_playbook").or_else(|| item.get("include"));
            if let Some(import) = import {
                self.import_playbook(import, path, draft, plays, depth);
            } else if item.get("hosts").is_some() {
                let play = self.read_play(item, path, draft);
                plays.push(play);
            } else {
                draft.refuse(format!("{path}:{} is not a play", item.line));
            }
        }
        draft.visited.remove(path);
    }

    fn import_playbook(&mut self, import: &Yaml, path: &str, draft: &mut Draft, plays: &mut Vec<Play>, depth: usize) {
        let name = import.text().unwrap_or_default();
        let target = files::normal(&files::join(files::parent(path), &name));
        let target = match target {
            Some(target) if !name.contains("{{") && self.files.is_file(&target) => target,
            _ => {
                draft.refuse(format!("{path}:{} imports {name}, which is not in this repository", import.line));
                return;
            }
        };
        match self.yaml_or(&target) {
            Ok(document) => self.read_plays(&document, &target, draft, plays, depth + 1),
            Err(why) => draft.refuse(why),
        }
    }

    fn read_play(&mut self, item: &Rc<Yaml>, path: &str, draft: &mut Draft) -> Play {
        let pattern = item.get("hosts").map(|hosts| hosts.words().join(",")).unwrap_or_default();
        let hosts = pattern::hosts(&pattern, &self.inventory).unwrap_or_else(|why| {
            draft.refuse(format!("{path}:{}: {why}", item.line));
            Vec::new()
        });
        if item.get("vars_prompt").is_some() {
            draft.refuse(format!("{path}:{} asks for variables at a terminal, and a run has none", item.line));
        }
        self.read_play_variables(item, path, draft);
        let before = draft.roles.len();
        draft.play_roles.clear();
        let folder = files::parent(path).to_owned();
        let from = Inherited { folder, ..Inherited::default() }.with(item);
        let (mut tasks, mut handlers) = (Vec::new(), Vec::new());
        self.read_list(item, "pre_tasks", path, &from, draft, &mut tasks);
        self.read_roles(item, &from, draft, &mut tasks);
        self.read_list(item, "tasks", path, &from, draft, &mut tasks);
        self.read_list(item, "post_tasks", path, &from, draft, &mut tasks);
        self.read_list(item, "handlers", path, &from, draft, &mut handlers);
        let names: Vec<String> = draft.roles[before..].to_vec();
        self.read_handlers(&from, draft, &mut handlers);
        let name = item.get("name").and_then(|name| name.text()).unwrap_or_else(|| pattern.clone());
        Play { name, pattern, hosts, roles: names, tasks, handlers }
    }

    fn read_list(
        &mut self,
        item: &Yaml,
        key: &str,
        path: &str,
        from: &Inherited,
        draft: &mut Draft,
        out: &mut Vec<chiffon_core::catalogue::Task>,
    ) {
        if let Some(list) = item.get(key) {
            self.read_tasks(list, path, from, draft, out);
        }
    }

    fn read_play_variables(&mut self, item: &Yaml, path: &str, draft: &mut Draft) {
        let mut found: Vec<(String, Rc<Yaml>, String)> = Vec::new();
        for (name, value) in item.get("vars").map(|vars| vars.pairs()).unwrap_or_default() {
            found.push((name.clone(), Rc::clone(value), path.to_owned()));
        }
        for file in item.get("vars_files").map(|files| files.words()).unwrap_or_default() {
            let target = files::normal(&files::join(files::parent(path), &file));
            match target {
                Some(target) if !file.contains("{{") && self.files.is_file(&target) => {
                    draft.pin(self.files, &target);
                    if let Some(document) = self.yaml(&target) {
                        found.extend(document.pairs().iter().map(|(n, v)| (n.clone(), Rc::clone(v), target.clone())));
                    }
                }
                Some(_) if file.contains("{{") => draft.unresolved = true,
                _ => draft.refuse(format!("{path} reads variables from {file}, which is not in this repository")),
            }
        }
        for (name, value, path) in found {
            if chiffon_core::refused_name(&name).is_none()
                && value.tag.is_none()
                && let Ok(path) = RepoPath::parse(path)
            {
                let at = Source { path, line: value.line };
                draft.variables.insert(name, variables::from_default(&value, at));
            }
        }
    }

    /// Pins what lies around a playbook: inventory, variables, roles, requirements, and their absence where it matters.
    fn pin_surroundings(&mut self, path: &str, draft: &mut Draft) {
        let inventory = self.inventory_path.as_str().trim_end_matches('/').to_owned();
        let around =
            if self.files.is_folder(&inventory) { inventory.clone() } else { files::parent(&inventory).to_owned() };
        if around.is_empty() {
            for name in [inventory.as_str(), "group_vars", "host_vars"] {
                draft.pin(self.files, name);
            }
        } else {
            draft.pin(self.files, &around);
        }
        let beside = files::parent(path).to_owned();
        for name in ["group_vars", "host_vars", "roles", "library"] {
            draft.pin(self.files, &files::join(&beside, name));
        }
        let optional = ["requirements.yml", "roles/requirements.yml", "collections/requirements.yml"];
        let plugins = ["library", "module_utils", "filter_plugins", "lookup_plugins", "action_plugins", "test_plugins"];
        for name in optional
            .iter()
            .map(|name| (*name).to_owned())
            .chain(plugins.iter().flat_map(|name| [(*name).to_owned(), files::join(&beside, name)]))
        {
            if self.files.entry(&name).is_some() {
                draft.pin(self.files, &name);
            }
        }
        if draft.unresolved {
            let top: Vec<String> = self.files.names_in("");
            top.iter().for_each(|name| draft.pin(self.files, name));
        }
    }

    fn finish(&mut self, playbook: RepoPath, mut draft: Draft, plays: Vec<Play>) -> Entry {
        let hosts: BTreeSet<String> =
            plays.iter().flat_map(|play| &play.hosts).map(|host| host.as_str().to_owned()).collect();
        for name in &draft.set_by_caller {
            draft.variables.remove(name);
        }
        for (name, variable) in &mut draft.variables {
            if variable.required && variable.default.is_none() {
                variable.required = !self.set_everywhere(name, &hosts);
            } else {
                variable.required = false;
            }
        }
        if plays.is_empty() {
            draft.refuse(format!("{playbook} has no plays that can be read"));
        }
        let own_name = plays.first().filter(|play| play.name != play.pattern).map(|play| play.name.clone());
        let title = own_name.unwrap_or_else(|| words::title_of(playbook.stem()));
        let services = self.services_of(&playbook, &draft);
        let secrets = self.secrets_of(&draft, &hosts);
        let ports = self.ports_of(&draft);
        let mut description = draft.texts.first().map(|text| words::top_comment(text)).unwrap_or_default();
        for more in &draft.descriptions {
            if !description.contains(more.as_str()) {
                description = format!("{description}\n{more}");
            }
        }
        let found = in_checks::find(self.files, &draft.reads, &mut self.in_checks);
        Entry {
            playbook,
            aliases: Vec::new(),
            title,
            description: description.trim().to_owned(),
            services,
            plays,
            variables: draft.variables,
            tags: draft.tags,
            reads: draft.reads,
            ports,
            secrets,
            own_plugins: self.own_code,
            runs_lookups: found.looks_up || draft.unresolved,
            escapes_check: found.escapes,
            unreadable: draft.unreadable,
        }
    }

    /// The services that an entry is about: the roles that it names itself, else its file's name without its verbs.
    fn services_of(&self, playbook: &RepoPath, draft: &Draft) -> Vec<String> {
        let base = words::without_intents(playbook.stem());
        let mut services: Vec<String> = Vec::new();
        for role in &draft.roles {
            let slug = words::slug(role.rsplit(['.', '/']).next().unwrap_or(role));
            if !services.contains(&slug) {
                services.push(slug);
            }
        }
        // The role that the file is named after comes first.
        services.sort_by_key(|slug| !words::shares_word(slug, &base));
        let is_place = self.inventory.named(&base).is_some() || self.inventory.named(&base.replace('-', "_")).is_some();
        if services.is_empty() && !base.is_empty() && !is_place {
            services.push(base);
        }
        services
    }
}

/// A list whose items are plays or imports.
fn is_playbook(document: &Yaml) -> bool {
    let plays = document.items();
    !plays.is_empty()
        && plays.iter().all(|play| play.is_map())
        && plays.iter().any(|play| play.get("hosts").is_some() || play.get_builtin("import_playbook").is_some())
}
