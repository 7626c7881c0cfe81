//! Puts a plan together from its steps: order, time limits, what it reads and touches, how to undo it, and in words.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::catalogue::{Delegate, Entry};
use chiffon_core::risk;
use chiffon_schemas::{
    AgentKind, ApiVersion, Host, Json, Mode, Name, Pin, Plan, PlanKind, PlanMetadata, PlanSpec, PlannedBy, PlannerKind,
    RepoPath, Step, Touches, Undo,
};

use crate::answer::{Input, Planned};
use crate::evidence;
use crate::hosts;
use crate::lexicon::{self, Intent};
use crate::words;

/// Seconds that a step may take; at the limit it is ended and has failed.
const STEP_SECS: u32 = 900;

/// Changing a configuration is quicker than installing.
const CONFIG_SECS: u32 = 300;

/// A summary longer than this is cut, as the plan's schema has it.
const SUMMARY_CHARS: usize = 400;

/// A step before it has a name.
#[derive(Debug, Clone)]
pub(crate) struct Draft<'i> {
    pub(crate) entry: &'i Entry,
    pub(crate) limit: Vec<Host>,
    pub(crate) vars: BTreeMap<String, Json>,
    pub(crate) found: BTreeMap<String, Vec<String>>,
    /// "then": it waits for the one before.
    pub(crate) then: bool,
    pub(crate) intents: BTreeSet<Intent>,
    pub(crate) notes: Vec<String>,
}

/// Makes the plan.
pub(crate) fn assemble(
    input: &Input<'_>,
    drafts: Vec<Draft<'_>>,
    kind: PlannerKind,
    reason: String,
) -> Result<Planned, String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut notes: Vec<String> = Vec::new();
    for (at, draft) in drafts.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| (&drafts[before], &steps[before]));
        let needs = before.filter(|(before, _)| draft.then || shares_service(before.entry, draft.entry));
        steps.push(Step {
            id: step_id(draft, &steps)?,
            needs: needs.map(|(_, step)| step.id.clone()).into_iter().collect(),
            agent: AgentKind::Infra,
            playbook: draft.entry.playbook.clone(),
            tags: Vec::new(),
            limit: draft.limit.clone(),
            vars: draft.vars.clone(),
            found: draft.found.clone(),
            timeout_secs: timeout(input, draft),
        });
        notes.extend(draft.notes.iter().cloned());
    }
    let pairs: Vec<(&Entry, &Step)> = drafts.iter().map(|draft| draft.entry).zip(&steps).collect();
    let planner = PlannedBy { kind, reason, cost_microusd: 0, undoes: None };
    Ok(finish(input, &pairs, steps.clone(), planner, summary(&drafts), notes))
}

/// Works out everything but the steps anew, for steps that are given; in the words of `named`, where they are.
///
/// # Errors
/// A step names what the catalogue lacks, in words.
pub fn plan_from_steps(
    input: &Input<'_>,
    steps: Vec<Step>,
    by: PlannedBy,
    named: Option<String>,
) -> Result<Planned, String> {
    let mut pairs: Vec<(&Entry, &Step)> = Vec::new();
    for step in &steps {
        let entry = input.catalogue.entry(&step.playbook);
        let entry = entry.ok_or_else(|| format!("step {}: {} is not in the catalogue", step.id, step.playbook))?;
        if let Some(reason) = &entry.unreadable {
            return Err(format!("step {}: {} can't be planned with: {reason}", step.id, step.playbook));
        }
        pairs.push((entry, step));
    }
    if pairs.is_empty() {
        return Err("the plan has no steps".to_owned());
    }
    let drafts: Vec<Draft<'_>> = pairs
        .iter()
        .map(|(entry, step)| Draft {
            entry,
            limit: step.limit.clone(),
            vars: step.vars.clone(),
            found: step.found.clone(),
            then: false,
            intents: BTreeSet::new(),
            notes: Vec::new(),
        })
        .collect();
    let summary = named.unwrap_or_else(|| summary(&drafts)).chars().take(SUMMARY_CHARS).collect();
    Ok(finish(input, &pairs, steps.clone(), by, summary, Vec::new()))
}

fn finish(
    input: &Input<'_>,
    pairs: &[(&Entry, &Step)],
    steps: Vec<Step>,
    planner: PlannedBy,
    summary: String,
    mut assumptions: Vec<String>,
) -> Planned {
    assumptions.extend(assumed_of(pairs));
    let mut seen = BTreeSet::new();
    assumptions.retain(|note| seen.insert(note.clone()));
    let spec = PlanSpec {
        summary: match input.request.spec.mode {
            Mode::Apply => summary,
            Mode::Check => format!("Check: {summary}").chars().take(SUMMARY_CHARS).collect(),
        },
        planner,
        infra: input.catalogue.infra.clone(),
        tools: input.tools.clone(),
        mode: input.request.spec.mode,
        reads: reads(input, pairs),
        risk: risk::assess(pairs, input.catalogue),
        touches: touches(input, pairs),
        undo: undo(input, pairs),
        assumptions,
        steps,
    };
    let expires = input.now.plus_secs(i64::from(input.offer_days) * 86_400);
    let metadata = PlanMetadata {
        name: input.name.clone(),
        revision: input.revision,
        request: input.request_ref.clone(),
        expires,
    };
    let plan = Plan { api_version: ApiVersion::V1, kind: PlanKind::Plan, metadata, spec };
    let oid = chiffon_schemas::blob_oid(&chiffon_schemas::plan_bytes(&plan));
    let evidence = evidence::static_evidence(&plan, &oid, input.catalogue);
    Planned { plan, evidence }
}

fn shares_service(a: &Entry, b: &Entry) -> bool {
    a.services.iter().any(|service| b.services.contains(service))
}

/// The verb, then the verb and the service, then the file's name; always one of its own.
fn step_id(draft: &Draft<'_>, known: &[Step]) -> Result<Name, String> {
    let intent = draft.intents.iter().next().map(|intent| match intent {
        Intent::Add | Intent::Configure => "configure".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    });
    let stem = words::slug(draft.entry.playbook.stem());
    let service = draft.entry.services.first().cloned().unwrap_or_else(|| stem.clone());
    let verb = intent.unwrap_or_else(|| stem.clone());
    let tries = [verb.clone(), format!("{verb}-{service}"), stem.clone()];
    let numbered = (2..=64).map(|number| format!("{verb}-{number}"));
    tries
        .into_iter()
        .chain(numbered)
        .map(|text| words::limit(&text, 63))
        .filter_map(|text| Name::parse(text).ok())
        .find(|id| !known.iter().any(|step| step.id == *id))
        .ok_or_else(|| format!("no name can be made for a step of {}", draft.entry.playbook))
}

fn timeout(input: &Input<'_>, draft: &Draft<'_>) -> u32 {
    let quick = draft.intents.iter().any(|intent| matches!(intent, Intent::Configure | Intent::Add | Intent::Check));
    let rule = if quick { CONFIG_SECS } else { STEP_SECS };
    let asked = input.request.spec.timeout_secs.unwrap_or(rule);
    rule.min(asked).min(input.max_timeout_secs).max(1)
}

/// What the steps' entries depend on, and the files that values were found in.
fn reads(input: &Input<'_>, pairs: &[(&Entry, &Step)]) -> BTreeMap<RepoPath, Pin> {
    let mut reads: BTreeMap<RepoPath, Pin> = BTreeMap::new();
    for (entry, _) in pairs {
        reads.extend(entry.reads.clone());
    }
    let uses_portals = pairs.iter().any(|(_, step)| !step.found.is_empty());
    if uses_portals {
        let sources = input.catalogue.portals.iter().flat_map(|portal| &portal.sources);
        for path in sources.map(|source| &source.path) {
            if let Some(pin) = input.catalogue.portal_files.get(path) {
                reads.insert(path.clone(), pin.clone());
            }
        }
    }
    reads
}

/// As the rules of the core have it, with the ports that the plan itself chooses.
fn touches(input: &Input<'_>, pairs: &[(&Entry, &Step)]) -> Touches {
    let mut touches = chiffon_core::touches(pairs, input.catalogue);
    let mut ports: BTreeSet<String> = touches.ports.iter().cloned().collect();
    for (entry, step) in pairs {
        for (name, value) in step.vars.iter().filter(|(name, _)| *name == "port" || name.ends_with("_port")) {
            let default = entry.variables.get(name).and_then(|variable| variable.default.as_ref());
            for host in &step.limit {
                let shared = pairs.iter().any(|(other, at)| {
                    other.playbook != entry.playbook
                        && at.limit.contains(host)
                        && default.is_some_and(|port| other.ports.contains(&format!("{port}/tcp")))
                });
                if let Some(default) = default.filter(|default| !shared && *default != value) {
                    ports.remove(&format!("{host}:{default}/tcp"));
                }
                if value.is_u64() {
                    ports.insert(format!("{host}:{value}/tcp"));
                }
            }
        }
    }
    touches.ports = ports.into_iter().collect();
    touches
}

/// A playbook that removes what the first service gains; with several services there is no single way back.
fn undo(input: &Input<'_>, pairs: &[(&Entry, &Step)]) -> Undo {
    let services: BTreeSet<&String> = pairs.iter().filter_map(|(entry, _)| entry.services.first()).collect();
    let hosts: BTreeSet<&Host> = pairs.iter().flat_map(|(_, step)| &step.limit).collect();
    let none = |reason: String| Undo::None { reason };
    if input.request.spec.mode == Mode::Check {
        return none("a check run leaves nothing to undo".to_owned());
    }
    if services.len() > 1 {
        return none("several services are changed, and no single playbook takes that back".to_owned());
    }
    let Some(service) = services.into_iter().next() else {
        return none("no playbook of the repository takes this back".to_owned());
    };
    let undoes = |entry: &&Entry| {
        let verbs = words::split(entry.playbook.stem());
        let takes_back = verbs.iter().flat_map(|word| lexicon::intents_of(word));
        entry.unreadable.is_none()
            && entry.services.first() == Some(service)
            && takes_back.clone().any(|intent| matches!(intent, Intent::Remove | Intent::Rollback))
            && hosts.iter().all(|host| entry.hosts().contains(*host))
            && !pairs.iter().any(|(used, _)| used.playbook == entry.playbook)
    };
    match input.catalogue.entries.iter().find(undoes) {
        Some(entry) => Undo::Playbook { playbook: entry.playbook.clone(), tested: false },
        None => none(format!("the repository has no playbook that removes {service}")),
    }
}

/// What reading alone could not settle.
fn assumed_of(pairs: &[(&Entry, &Step)]) -> Vec<String> {
    let mut notes = Vec::new();
    for (entry, _) in pairs {
        for task in entry.tasks() {
            let is_include = ["include_tasks", "import_tasks", "include_role", "import_role", "include"];
            if let (true, Some(why)) = (is_include.contains(&task.module.as_str()), &task.opaque) {
                notes.push(format!("{} at {} {why}, so everything in the repository is pinned", task.name, task.at));
            }
            if let Delegate::Dynamic(host) = &task.delegate {
                notes.push(format!(
                    "{} at {} is done by `{}`, which only a run can work out",
                    task.name,
                    task.at,
                    words::limit(host, 60)
                ));
            }
        }
    }
    notes
}

/// `Deploy Uptime Kuma on nas01 and register 5 portals`.
fn summary(drafts: &[Draft<'_>]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut hosts_before: Option<&Vec<Host>> = None;
    for (at, draft) in drafts.iter().enumerate() {
        let list = draft.vars.iter().find(|(name, value)| value.is_array() && draft.found.contains_key(*name));
        let mut words_of = match list {
            Some((name, value)) => {
                let what = name.rsplit('_').next().unwrap_or(name);
                let count = value.as_array().map_or(0, Vec::len);
                format!("register {count} {what}")
            }
            None => uncapitalised(&draft.entry.title),
        };
        if hosts_before != Some(&draft.limit) {
            let named = if draft.limit.len() > 4 {
                format!("{} hosts", draft.limit.len())
            } else {
                hosts::names(draft.limit.iter())
            };
            words_of = format!("{words_of} on {named}");
        }
        hosts_before = Some(&draft.limit);
        if at == 0 {
            words_of = capitalised(&words_of);
        }
        parts.push(words_of);
    }
    let text: String = hosts::listed(&parts).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    words::limit(&text, SUMMARY_CHARS)
}

fn uncapitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next();
    // "DNS …" keeps its capitals.
    let acronym = chars.clone().next().is_some_and(char::is_uppercase);
    match first {
        Some(first) if !acronym => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
