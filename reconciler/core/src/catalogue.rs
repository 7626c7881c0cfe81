//! What an infra repository can do, as types. The planner crate fills them; gate and risk read them.
//!
//! Everything here was read as plain YAML at one pinned commit; no Ansible program has seen it.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_schemas::{Host, InfraRef, Json, Pin, RepoPath};

/// All that one commit of an infra repository offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    /// Which commit this was read from.
    pub infra: InfraRef,
    /// What can be run, sorted by playbook.
    pub entries: Vec<Entry>,
    /// Hosts and groups.
    pub inventory: Inventory,
    /// Addresses that existing configuration names, in the order in which they are found: proxies, dashboards,
    /// compose files; each by path and line.
    pub portals: Vec<Portal>,
    /// The files that portals were found in: a plan that uses them depends on these.
    pub portal_files: BTreeMap<RepoPath, Pin>,
    /// What could not be read and what that costs; an entry that depends on it is absent or `unreadable`.
    pub findings: Vec<Finding>,
}

impl Catalogue {
    /// The entry of a playbook.
    pub fn entry(&self, playbook: &RepoPath) -> Option<&Entry> {
        self.entries.iter().find(|entry| &entry.playbook == playbook)
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The file.
    pub path: RepoPath,
    /// The line, from 1.
    pub line: u32,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path, self.line)
    }
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where; a line of 0 means the whole file.
    pub at: Source,
    /// What and what it costs, in a sentence.
    pub message: String,
}

/// A playbook that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its path.
    pub playbook: RepoPath,
    /// Other paths that lead to it: symlinks inside the repository, sorted.
    pub aliases: Vec<RepoPath>,
    /// What it says of itself: the first play's name, or a title made from the file's name.
    pub title: String,
    /// The comment at its top, play and role descriptions and README's first lines: words to rank by.
    pub description: String,
    /// Services that it is about, as slugs: `uptime-kuma`; the first is the main one.
    pub services: Vec<String>,
    /// Its plays, imported playbooks expanded.
    pub plays: Vec<Play>,
    /// Variables that it takes, by name.
    pub variables: BTreeMap<String, Variable>,
    /// Tags that its tasks carry.
    pub tags: BTreeSet<String>,
    /// What a plan with this entry depends on.
    pub reads: BTreeMap<RepoPath, Pin>,
    /// The repository has modules, plugins or collections of its own.
    pub own_plugins: bool,
    /// Something that it depends on says `check_mode`, and not that it is on.
    pub escapes_check: bool,
    /// Something that it depends on calls a lookup that does more than to read, or nobody can tell whether it does.
    pub runs_lookups: bool,
    /// Ports that its variables and compose files publish: `3001/tcp`, sorted.
    pub ports: Vec<String>,
    /// Names of vaulted variables that it uses, sorted.
    pub secrets: Vec<String>,
    /// Why it can't be planned with (an include that escapes the tree, YAML that can't be read); `None` when it can.
    pub unreadable: Option<String>,
}

impl Entry {
    /// All hosts that its plays' patterns name, sorted.
    pub fn hosts(&self) -> BTreeSet<&Host> {
        self.plays.iter().flat_map(|play| &play.hosts).collect()
    }

    /// All tasks in order, handlers after the tasks of their play.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.plays.iter().flat_map(|play| play.tasks.iter().chain(&play.handlers))
    }
}

/// One play.
#[derive(Debug, Clone, PartialEq)]
pub struct Play {
    /// Its name, or its pattern where it has none.
    pub name: String,
    /// Its `hosts` as written.
    pub pattern: String,
    /// What the pattern names in the inventory, sorted; empty where it names nothing.
    pub hosts: Vec<Host>,
    /// Roles in order.
    pub roles: Vec<String>,
    /// Tasks in the order in which they run: pre_tasks, roles, tasks, post_tasks; static includes expanded.
    pub tasks: Vec<Task>,
    /// Handlers.
    pub handlers: Vec<Task>,
}

/// One task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// As Ansible prints it: `role : name`, or the module where it has no name.
    pub name: String,
    /// The module by its short name: `copy` for `ansible.builtin.copy`, else fully qualified.
    pub module: String,
    /// Its arguments; templates are text.
    pub args: Json,
    /// Where it stands.
    pub at: Source,
    /// Whether it runs with other rights (task, block, play or role).
    pub becomes: bool,
    /// `check_mode: false`: it runs for real in a check run.
    pub escapes_check: bool,
    /// `no_log: true`.
    pub no_log: bool,
    /// Another host that does it.
    pub delegate: Delegate,
    /// Why its effect can't be foreseen by reading and check mode; `None` when it can.
    pub opaque: Option<String>,
    /// Handlers that it notifies.
    pub notifies: Vec<String>,
    /// Its tags, inherited ones included.
    pub tags: BTreeSet<String>,
}

/// Another host that does a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delegate {
    /// None: the play's own host.
    No,
    /// A host that the text names (`localhost` included).
    To(String),
    /// A template or variable that reading can't resolve.
    Dynamic(String),
}

/// A variable that an entry takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// Whether the entry can't run without it and nothing in the repository sets it.
    pub required: bool,
    /// What the repository sets it to by default; templates are text.
    pub default: Option<Json>,
    /// What values it takes.
    pub kind: VarKind,
    /// What it is for.
    pub description: String,
    /// Where it is declared.
    pub at: Source,
}

/// What values a variable takes.
#[derive(Debug, Clone, PartialEq)]
pub enum VarKind {
    /// Nothing is known: any scalar.
    Any,
    /// Text.
    Str,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// Yes or no.
    Bool,
    /// A path.
    Path,
    /// One of these.
    Choice(Vec<Json>),
    /// A list of such values.
    List(Box<VarKind>),
    /// A map; known keys with their kinds and whether they must be there. Empty: any keys.
    Map(BTreeMap<String, (VarKind, bool)>),
}

impl VarKind {
    /// Whether `value` is one that this variable takes.
    pub fn accepts(&self, value: &Json) -> bool {
        match self {
            Self::Any => !value.is_object() && !value.is_array() && !value.is_null(),
            Self::Str | Self::Path => value.is_string(),
            Self::Int => value.is_i64() || value.is_u64(),
            Self::Float => value.is_number(),
            Self::Bool => value.is_boolean(),
            Self::Choice(choices) => choices.contains(value),
            Self::List(kind) => value.as_array().is_some_and(|items| items.iter().all(|item| kind.accepts(item))),
            Self::Map(keys) => value.as_object().is_some_and(|map| {
                let known = map
                    .iter()
                    .all(|(key, value)| keys.get(key).map_or(keys.is_empty(), |(kind, _)| kind.accepts(value)));
                known && keys.iter().all(|(key, (_, required))| !required || map.contains_key(key))
            }),
        }
    }

    /// In words, for an error: `a list of maps`.
    pub fn describe(&self) -> String {
        match self {
            Self::Any => "a plain value".to_owned(),
            Self::Str => "text".to_owned(),
            Self::Int => "a whole number".to_owned(),
            Self::Float => "a number".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Choice(choices) => {
                let words: Vec<String> = choices.iter().map(ToString::to_string).collect();
                format!("one of {}", words.join(", "))
            }
            Self::List(kind) => format!("a list, each item {}", kind.describe()),
            Self::Map(keys) if keys.is_empty() => "a map".to_owned(),
            Self::Map(keys) => {
                let words: Vec<&str> = keys.keys().map(String::as_str).collect();
                format!("a map with {}", words.join(", "))
            }
        }
    }
}

/// Hosts and groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Hosts by name.
    pub hosts: BTreeMap<Host, InventoryHost>,
    /// Groups by name, `all` and `ungrouped` included; the hosts of child groups are in their parents.
    pub groups: BTreeMap<String, BTreeSet<Host>>,
}

/// One host of the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryHost {
    /// Where it is first named.
    pub at: Source,
    /// Names that resolve to the same machine: `ansible_host` and the like; locks are held by host name.
    pub address: Option<String>,
}

impl Inventory {
    /// The hosts that a word names: a host itself or a group.
    pub fn named(&self, word: &str) -> Option<BTreeSet<Host>> {
        if let Some((host, _)) = self.hosts.iter().find(|(host, _)| host.as_str() == word) {
            return Some(BTreeSet::from([host.clone()]));
        }
        self.groups.get(word).cloned()
    }
}

/// An address that existing configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portal {
    /// Its name for people: `Home Assistant`.
    pub name: String,
    /// Its address, with scheme and without a trailing slash.
    pub url: String,
    /// Every place that names it, best first.
    pub sources: Vec<Source>,
}
