//! Roles: tasks, handlers, defaults, argument specifications, dependencies and descriptions.

use std::collections::BTreeSet;
use std::rc::Rc;

use chiffon_core::catalogue::{Source, Task};
use chiffon_schemas::RepoPath;

use super::playbook::Draft;
use super::tasks::{Inherited, MAX_DEPTH};
use super::yaml::Yaml;
use super::{Reader, variables};
use crate::files;
use crate::words;

impl Reader<'_, '_> {
    /// The `roles:` of a play.
    pub(super) fn read_roles(&mut self, play: &Yaml, from: &Inherited, draft: &mut Draft, tasks: &mut Vec<Task>) {
        for role in play.get("roles").map(|roles| roles.items()).unwrap_or_default() {
            let name = role.text().or_else(|| ["role", "name"].iter().find_map(|key| role.get(key)?.text()));
            let Some(name) = name else {
                draft.refuse(format!("{}:{} is not a role", draft.playbook, role.line));
                continue;
            };
            let known = ["role", "name", "vars", "tags", "when", "become", "become_user", "delegate_to", "environment"];
            let old_style = role.pairs().iter().map(|(key, _)| key).filter(|key| !known.contains(&key.as_str()));
            draft.set_by_caller.extend(old_style.cloned());
            let vars = role.get("vars").map(|vars| vars.pairs()).unwrap_or_default();
            draft.set_by_caller.extend(vars.iter().map(|(name, _)| name.clone()));
            self.read_role(&name, "main", &from.with(role), true, draft, tasks);
        }
    }

    /// Reads one entry point of a role; `direct` where a play names it itself.
    pub(super) fn read_role(
        &mut self,
        name: &str,
        tasks_from: &str,
        from: &Inherited,
        direct: bool,
        draft: &mut Draft,
        out: &mut Vec<Task>,
    ) {
        if from.depth > MAX_DEPTH {
            draft.refuse(format!("role {name} includes itself"));
            return;
        }
        let Some(folder) = self.role_folder(name, draft) else {
            draft.refuse(format!("role {name} is not in this repository"));
            return;
        };
        let short = name.rsplit('/').next().unwrap_or(name).to_owned();
        draft.pin(self.files, &folder);
        draft.all_roles.insert(folder.clone());
        draft.play_roles.insert(folder.clone());
        if direct && !draft.roles.contains(&short) {
            draft.roles.push(short.clone());
            self.describe_role(&folder, tasks_from, draft);
        }
        self.read_role_variables(&folder, tasks_from, direct, draft);
        let inner = Inherited {
            role: Some((short, folder.clone())),
            folder: files::join(&folder, "tasks"),
            depth: from.depth + 1,
            ..from.clone()
        };
        self.read_dependencies(&folder, &inner, draft, out);
        let Some(path) = self.role_file(&folder, "tasks", tasks_from) else {
            if tasks_from != "main" {
                draft.refuse(format!("role {name} has no tasks/{tasks_from}.yml"));
            }
            return;
        };
        match self.yaml_or(&path) {
            Ok(list) => self.read_tasks(&list, &path, &inner, draft, out),
            Err(why) => draft.refuse(why),
        }
    }

    fn role_folder(&self, name: &str, draft: &Draft) -> Option<String> {
        let beside = files::parent(draft.playbook.as_str());
        let places = [files::join(beside, "roles"), "roles".to_owned(), beside.to_owned()];
        places
            .iter()
            .filter_map(|place| files::normal(&files::join(place, name)))
            .find(|folder| !folder.is_empty() && self.files.is_folder(folder))
    }

    fn role_file(&self, folder: &str, part: &str, name: &str) -> Option<String> {
        let stem = files::join(folder, &format!("{part}/{name}"));
        [format!("{stem}.yml"), format!("{stem}.yaml"), stem.clone()]
            .into_iter()
            .filter_map(|path| files::normal(&path))
            .find(|path| path.starts_with(folder) && self.files.is_file(path))
    }

    fn read_dependencies(&mut self, folder: &str, from: &Inherited, draft: &mut Draft, out: &mut Vec<Task>) {
        let Some(meta) = self.role_file(folder, "meta", "main").and_then(|path| self.yaml(&path)) else { return };
        for role in meta.get("dependencies").map(|roles| roles.items()).unwrap_or_default() {
            let name = role.text().or_else(|| ["role", "name"].iter().find_map(|key| role.get(key)?.text()));
            if let Some(name) = name {
                let vars = role.get("vars").map(|vars| vars.pairs()).unwrap_or_default();
                draft.set_by_caller.extend(vars.iter().map(|(name, _)| name.clone()));
                self.read_role(&name, "main", &from.with(role), false, draft, out);
            }
        }
    }

    /// Handlers of every role that the play uses; its own come before.
    pub(super) fn read_handlers(&mut self, from: &Inherited, draft: &mut Draft, handlers: &mut Vec<Task>) {
        let folders: BTreeSet<String> = draft.play_roles.clone();
        for folder in folders {
            let Some(path) = self.role_file(&folder, "handlers", "main") else { continue };
            let short = folder.rsplit('/').next().unwrap_or(&folder).to_owned();
            let inner = Inherited {
                role: Some((short, folder.clone())),
                folder: files::join(&folder, "handlers"),
                ..from.clone()
            };
            match self.yaml_or(&path) {
                Ok(list) => self.read_tasks(&list, &path, &inner, draft, handlers),
                Err(why) => draft.refuse(why),
            }
        }
    }

    fn describe_role(&mut self, folder: &str, tasks_from: &str, draft: &mut Draft) {
        if tasks_from == "main" {
            let readme = ["README.md", "readme.md", "README"].iter().map(|name| files::join(folder, name));
            if let Some(text) =
                readme.filter(|path| self.files.is_file(path)).find_map(|path| self.files.text(&path).ok())
            {
                draft.descriptions.push(words::first_paragraph(&text));
            }
            let meta = self.role_file(folder, "meta", "main").and_then(|path| self.yaml(&path));
            let info = meta.and_then(|meta| meta.get("galaxy_info")?.get("description")?.text());
            draft.descriptions.extend(info);
        }
        let spec = self.argument_spec(folder).and_then(|(spec, _)| spec.get(tasks_from).cloned());
        let short = spec.as_ref().and_then(|spec| spec.get("short_description")?.text());
        draft.descriptions.extend(short);
    }

    /// `argument_specs` of a role, and the file that holds it.
    fn argument_spec(&mut self, folder: &str) -> Option<(Rc<Yaml>, String)> {
        for name in ["argument_specs", "main"] {
            let Some(path) = self.role_file(folder, "meta", name) else { continue };
            if let Some(specs) = self.yaml(&path).and_then(|document| document.get("argument_specs").cloned()) {
                return Some((specs, path));
            }
        }
        None
    }

    fn read_role_variables(&mut self, folder: &str, tasks_from: &str, direct: bool, draft: &mut Draft) {
        let defaults: Vec<(String, Rc<Yaml>, String)> = self.role_mapping(folder, "defaults");
        // What vars/ sets wins over the inventory, but not over a plan's variables; it counts as a default.
        let fixed: Vec<(String, Rc<Yaml>, String)> = self.role_mapping(folder, "vars");
        let specs = self.argument_spec(folder);
        if let Some((specs, path)) = &specs {
            let options = specs.get(tasks_from).and_then(|spec| spec.get("options").cloned());
            for (name, option) in options.iter().flat_map(|options| options.pairs()) {
                let Ok(path) = RepoPath::parse(path.as_str()) else { continue };
                if chiffon_core::refused_name(name).is_some() {
                    continue;
                }
                let mut variable = variables::from_spec(option, Source { path, line: option.line });
                let default = fixed.iter().chain(&defaults).find(|(known, ..)| known == name);
                if let Some((_, value, _)) = default.filter(|(_, value, _)| value.tag.is_none()) {
                    variable.default = Some(value.json());
                }
                draft.variables.insert(name.clone(), variable);
            }
            return;
        }
        if !direct {
            // Switches of a helper that a role pulls in belong to that role, not to whoever asks for the service.
            return;
        }
        for (name, value, path) in defaults {
            if chiffon_core::refused_name(&name).is_none()
                && value.tag.is_none()
                && let Ok(path) = RepoPath::parse(path)
            {
                let at = Source { path, line: value.line };
                draft.variables.entry(name).or_insert_with(|| variables::from_default(&value, at));
            }
        }
    }

    fn role_mapping(&mut self, folder: &str, part: &str) -> Vec<(String, Rc<Yaml>, String)> {
        let mut paths: Vec<String> = self.role_file(folder, part, "main").into_iter().collect();
        let main = files::join(folder, &format!("{part}/main"));
        if self.files.is_folder(&main) {
            paths.extend(self.files.names_in(&main).iter().map(|name| files::join(&main, name)));
        }
        let mut found = Vec::new();
        for path in paths {
            if let Some(document) = self.yaml(&path) {
                found.extend(
                    document.pairs().iter().map(|(name, value)| (name.clone(), Rc::clone(value), path.clone())),
                );
            }
        }
        found
    }
}
