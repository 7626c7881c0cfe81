//! Tasks, blocks and includes: what a play does, in order, static includes expanded.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use chiffon_core::catalogue::{Delegate, Source, Task};
use chiffon_schemas::{Json, RepoPath};

use super::playbook::Draft;
use super::yaml::Yaml;
use super::{Reader, modules};
use crate::files;

/// Includes deeper than this, or more tasks than [`MAX_TASKS`], are refused: a repository could otherwise include itself.
pub(crate) const MAX_DEPTH: usize = 24;
pub(crate) const MAX_TASKS: usize = 5_000;

/// What blocks, roles and plays hand down to their tasks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inherited {
    pub(crate) becomes: bool,
    pub(crate) escapes_check: bool,
    pub(crate) no_log: bool,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) delegate: Option<String>,
    pub(crate) when: String,
    /// The role that the tasks belong to, and its folder.
    pub(crate) role: Option<(String, String)>,
    /// The folder that relative includes begin at.
    pub(crate) folder: String,
    pub(crate) depth: usize,
}

impl Inherited {
    /// What a block, role or task says itself, on top of what it inherits.
    pub(crate) fn with(&self, body: &Yaml) -> Self {
        let mut inner = self.clone();
        if let Some(becomes) = body.get("become") {
            // A template could be true; whoever weighs risk wants to know.
            inner.becomes = becomes.truth().unwrap_or(true);
        }
        if let Some(check) = body.get("check_mode") {
            inner.escapes_check = check.truth() != Some(true);
        }
        inner.no_log |= body.get("no_log").is_some_and(|value| value.truth().unwrap_or(true));
        inner.tags.extend(body.get("tags").map(|tags| tags.words()).unwrap_or_default());
        if let Some(host) = body.get("delegate_to") {
            inner.delegate = Some(host.text().unwrap_or_default());
        }
        if let Some(when) = body.get("when") {
            when.all_text(&mut inner.when);
        }
        inner
    }
}

impl Reader<'_, '_> {
    /// Reads a list of tasks into `out`.
    pub(super) fn read_tasks(
        &mut self,
        list: &Yaml,
        path: &str,
        from: &Inherited,
        draft: &mut Draft,
        out: &mut Vec<Task>,
    ) {
        for item in list.items() {
            if out.len() >= MAX_TASKS || from.depth > MAX_DEPTH {
                draft.refuse(format!("{path} includes too deeply or holds too many tasks"));
                return;
            }
            if !item.is_map() {
                if !item.is_null() {
                    draft.refuse(format!("{path}:{} is not a task", item.line));
                }
                continue;
            }
            let inner = from.with(item);
            let mut is_block = false;
            for part in ["block", "rescue", "always"] {
                if let Some(tasks) = item.get(part) {
                    is_block = true;
                    self.read_tasks(tasks, path, &Inherited { depth: from.depth + 1, ..inner.clone() }, draft, out);
                }
            }
            if !is_block {
                self.read_task(item, path, &inner, draft, out);
            }
        }
    }

    fn read_task(&mut self, item: &Rc<Yaml>, path: &str, from: &Inherited, draft: &mut Draft, out: &mut Vec<Task>) {
        let Some((module, args, local)) = module_of(item) else {
            draft.refuse(format!("{path}:{} names no module", item.line));
            return;
        };
        let task = self.make_task(item, path, from, draft, module, args, local);
        match task.module.as_str() {
            "import_tasks" | "include_tasks" | "include" => self.include_tasks(task, item, from, draft, out),
            "import_role" | "include_role" => self.include_role(task, item, from, draft, out),
            _ => {
                self.pin_mentioned(&task.args, draft);
                out.push(task);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one task, used in one place")]
    fn make_task(
        &mut self,
        item: &Rc<Yaml>,
        path: &str,
        from: &Inherited,
        draft: &mut Draft,
        module: String,
        args: Json,
        local: bool,
    ) -> Task {
        let own = item.get("name").and_then(|name| name.text()).filter(|name| !name.trim().is_empty());
        let name = own.unwrap_or_else(|| module.clone());
        let name = match &from.role {
            Some((role, _)) => format!("{role} : {name}"),
            None => name,
        };
        let delegate = match (&from.delegate, local) {
            (_, true) => Delegate::To("localhost".to_owned()),
            (None, false) => Delegate::No,
            (Some(host), false) if host.contains("{{") || host.contains("{%") || host.is_empty() => {
                if is_own_host(host) { Delegate::No } else { Delegate::Dynamic(host.clone()) }
            }
            (Some(host), false) => Delegate::To(host.clone()),
        };
        let mut text = from.when.clone();
        args_text(&args, &mut text);
        for key in ["loop", "until", "changed_when", "vars", "environment"] {
            item.get(key).iter().for_each(|value| value.all_text(&mut text));
        }
        item.pairs()
            .iter()
            .filter(|(key, _)| key.starts_with("with_"))
            .for_each(|(_, value)| value.all_text(&mut text));
        let waits = draft.unforeseen.iter().find(|(name, _)| mentions(&text, name)).map(|(_, task)| task.clone());
        let opaque = match modules::opaque(&module) {
            Some(why) => Some(why),
            None if modules::looks_only(&module) => None,
            None => waits.map(|task| format!("waits for what `{task}` finds")),
        };
        if let (Some(register), Some(_)) = (item.get("register").and_then(|name| name.text()), &opaque) {
            draft.unforeseen.push((register, name.clone()));
        }
        draft.tags.extend(from.tags.iter().cloned());
        let at = RepoPath::parse(path).unwrap_or_else(|_| draft.playbook.clone());
        let mut notifies = item.get("notify").map(|notify| notify.words()).unwrap_or_default();
        notifies.sort();
        Task {
            name,
            module,
            args,
            at: Source { path: at, line: item.line },
            becomes: from.becomes,
            escapes_check: from.escapes_check,
            no_log: from.no_log,
            delegate,
            opaque,
            notifies,
            tags: from.tags.clone(),
        }
    }

    fn include_tasks(&mut self, mut task: Task, item: &Yaml, from: &Inherited, draft: &mut Draft, out: &mut Vec<Task>) {
        let name = ["file", "_raw_params"].iter().find_map(|key| task.args.get(*key)).and_then(Json::as_str);
        let Some(name) = name.map(|name| name.split_whitespace().next().unwrap_or_default().to_owned()) else {
            draft.refuse(format!("{} includes no file", task.at));
            return;
        };
        if name.contains("{{") || task.args.get("file").and_then(Json::as_str).is_some_and(|file| file.contains("{{")) {
            task.opaque = Some(format!("includes `{}`, which only a run can work out", self.template_of(&task)));
            draft.unresolved = true;
            out.push(task);
            return;
        }
        let mut folders = vec![from.folder.clone()];
        if let Some((_, role)) = &from.role {
            folders.push(files::join(role, "tasks"));
        }
        let found = folders.iter().filter_map(|folder| files::normal(&files::join(folder, &name)));
        let Some(path) = found.clone().find(|path| self.files.is_file(path)) else {
            let escapes = folders.iter().all(|folder| files::normal(&files::join(folder, &name)).is_none());
            let why = if escapes { "leaves the repository" } else { "is not there or can't be read" };
            draft.refuse(format!("{} includes {name}, which {why}", task.at));
            return;
        };
        draft.pin(self.files, &path);
        let vars = item.get("vars");
        draft.set_by_caller.extend(vars.iter().flat_map(|vars| vars.pairs()).map(|(name, _)| name.clone()));
        match self.yaml_or(&path) {
            Ok(list) => {
                let from = applied(item, from);
                let inner = Inherited { folder: files::parent(&path).to_owned(), depth: from.depth + 1, ..from };
                self.read_tasks(&list, &path, &inner, draft, out);
            }
            Err(why) => draft.refuse(why),
        }
    }

    fn template_of(&self, task: &Task) -> String {
        let mut text = String::new();
        args_text(&task.args, &mut text);
        text.trim().chars().take(120).collect()
    }

    fn include_role(&mut self, mut task: Task, item: &Yaml, from: &Inherited, draft: &mut Draft, out: &mut Vec<Task>) {
        let arg = |key: &str| task.args.get(key).and_then(Json::as_str).map(str::to_owned);
        let Some(name) = arg("name").or_else(|| arg("role")) else {
            draft.refuse(format!("{} includes no role", task.at));
            return;
        };
        let tasks_from = arg("tasks_from").unwrap_or_else(|| "main".to_owned());
        if name.contains("{{") || tasks_from.contains("{{") {
            task.opaque = Some(format!("includes the role `{name}`, which only a run can work out"));
            draft.unresolved = true;
            out.push(task);
            return;
        }
        let vars: BTreeMap<String, ()> =
            item.get("vars").iter().flat_map(|vars| vars.pairs()).map(|(name, _)| (name.clone(), ())).collect();
        let direct = from.role.is_none();
        draft.set_by_caller.extend(vars.into_keys());
        let from = applied(item, from);
        self.read_role(&name, &tasks_from, &Inherited { depth: from.depth + 1, ..from }, direct, draft, out);
    }

    /// Pins files of the repository that arguments name below some template: `{{ repo_root }}/compose/x.yml`.
    fn pin_mentioned(&mut self, args: &Json, draft: &mut Draft) {
        match args {
            Json::String(text) if text.contains("}}/") => {
                let tail = text.rsplit("}}/").next().unwrap_or_default();
                if !tail.contains("{{") && tail.contains('/') && self.files.entry(tail).is_some() {
                    draft.mentioned.insert(tail.trim_end_matches('/').to_owned());
                    draft.pin(self.files, tail);
                }
            }
            Json::Array(items) => items.iter().for_each(|item| self.pin_mentioned(item, draft)),
            Json::Object(map) => map.values().for_each(|item| self.pin_mentioned(item, draft)),
            _ => {}
        }
    }
}

/// What an include hands on, with what its `apply` says of every task in it.
fn applied(item: &Yaml, from: &Inherited) -> Inherited {
    let arguments = item.pairs().iter().map(|(_, value)| value).chain(item.get("args"));
    let apply = arguments.filter_map(|value| value.get("apply")).next();
    apply.map_or_else(|| from.clone(), |apply| from.with(apply))
}

/// A template that only ever names the play's own host.
fn is_own_host(template: &str) -> bool {
    let inner: String = template.chars().filter(|c| !c.is_whitespace() && *c != '{' && *c != '}').collect();
    inner == "inventory_hostname"
}

fn args_text(args: &Json, out: &mut String) {
    match args {
        Json::String(text) => {
            out.push_str(text);
            out.push('\n');
        }
        Json::Array(items) => items.iter().for_each(|item| args_text(item, out)),
        Json::Object(map) => map.values().for_each(|item| args_text(item, out)),
        _ => {}
    }
}

/// Whether a text holds `name` as a whole identifier.
pub(crate) fn mentions(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(is_part)
            && !text[at + name.len()..].chars().next().is_some_and(is_part)
    })
}

/// The module of a task, its arguments, and whether it is a `local_action`.
fn module_of(item: &Yaml) -> Option<(String, Json, bool)> {
    for (key, local) in [("action", false), ("local_action", true)] {
        if let Some(action) = item.get(key) {
            let (module, args) = match action.str() {
                Some(text) => {
                    let (module, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
                    (modules::short_name(module), Json::String(rest.trim().to_owned()))
                }
                None => (modules::short_name(&action.get("module")?.text()?), without_module(action)),
            };
            return Some((module.clone(), arguments(&module, args, item), local));
        }
    }
    let (key, value) = item.pairs().iter().find(|(key, _)| modules::is_module_key(key))?;
    let module = modules::short_name(key);
    let args = arguments(&module, value.json(), item);
    Some((module, args, false))
}

fn without_module(action: &Yaml) -> Json {
    let mut json = action.json();
    if let Some(map) = json.as_object_mut() {
        map.remove("module");
    }
    json
}

/// Arguments as a map: free text as `_raw_params`, `k=v` text split, `args:` on top.
fn arguments(module: &str, value: Json, item: &Yaml) -> Json {
    let mut map = match value {
        Json::Object(map) => map,
        Json::String(text) if modules::FREE_FORM.contains(&module.rsplit('.').next().unwrap_or(module)) => {
            let mut map = serde_json::Map::new();
            map.insert("_raw_params".to_owned(), Json::String(text));
            map
        }
        Json::String(text) => key_values(&text),
        Json::Null => serde_json::Map::new(),
        other => {
            let mut map = serde_json::Map::new();
            map.insert("_raw_params".to_owned(), other);
            map
        }
    };
    if let Some(Json::Object(extra)) = item.get("args").map(|args| args.json()) {
        extra.into_iter().for_each(|(key, value)| {
            map.entry(key).or_insert(value);
        });
    }
    Json::Object(map)
}

/// Splits `src=a dest="b c"`; words without `=` come together as `_raw_params`.
fn key_values(text: &str) -> serde_json::Map<String, Json> {
    let mut words: Vec<String> = Vec::new();
    let (mut word, mut quote, mut braces) = (String::new(), None, 0_u32);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') if braces == 0 => quote = Some(c),
            (None, c) if c.is_whitespace() && braces == 0 => words.push(std::mem::take(&mut word)),
            (_, c) => {
                match c {
                    '{' => braces += 1,
                    '}' => braces = braces.saturating_sub(1),
                    _ => {}
                }
                word.push(c);
            }
        }
    }
    words.push(word);
    let mut map = serde_json::Map::new();
    let mut raw: Vec<String> = Vec::new();
    for word in words.into_iter().filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some((key, value)) if key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !key.is_empty() => {
                map.insert(key.to_owned(), Json::String(value.to_owned()));
            }
            _ => raw.push(word),
        }
    }
    if !raw.is_empty() {
        map.insert("_raw_params".to_owned(), Json::String(raw.join(" ")));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_form_arguments_are_split_outside_of_quotes_and_templates() {
        let map = key_values("src=a.j2 dest=\"/etc/my file\" mode={{ mode | default('0644') }}");
        assert_eq!(map["src"], "a.j2");
        assert_eq!(map["dest"], "/etc/my file");
        assert_eq!(map["mode"], "{{ mode | default('0644') }}");
    }

    #[test]
    fn identifiers_are_found_whole_only() {
        assert!(mentions("{{ kuma_setup.stdout }}", "kuma_setup"));
        assert!(!mentions("{{ my_kuma_setup }}", "kuma_setup"));
        assert!(!mentions("kuma_setups", "kuma_setup"));
    }
}
