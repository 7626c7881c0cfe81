//! The hosts of a step: those of its playbook that the sentence and `targets` also name. Never one that nobody named.

use std::collections::BTreeSet;

use chiffon_core::catalogue::{Entry, Inventory};
use chiffon_schemas::Host;

use crate::clause::Places;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bound {
    /// These hosts, sorted; with what was taken for granted.
    Hosts(Vec<Host>, Vec<String>),
    /// One of these: a question.
    Ask(String, Vec<Host>),
    /// No host fits; why.
    None(String),
}

/// Binds the hosts of an entry. `inherited`: the places come from a clause before, so they only narrow where they can.
pub(crate) fn bind(
    entry: &Entry,
    places: &Places,
    targets: &[(String, BTreeSet<Host>)],
    inherited: bool,
    inventory: &Inventory,
) -> Bound {
    let of_playbook: BTreeSet<Host> = entry.hosts().into_iter().cloned().collect();
    if of_playbook.is_empty() {
        let patterns: Vec<&str> = entry.plays.iter().map(|play| play.pattern.as_str()).collect();
        return Bound::None(format!("the inventory has no host for `{}` of {}", patterns.join("`, `"), entry.playbook));
    }
    if let Some((word, hosts)) = &places.one_of {
        let of_both: Vec<Host> = hosts.iter().filter(|host| of_playbook.contains(*host)).cloned().collect();
        return match of_both.len() {
            0 => Bound::None(format!("{} runs on no host like `{word}`", entry.playbook)),
            _ => Bound::Ask(format!("Which host is meant by `{word}`?"), of_both),
        };
    }
    let mut notes = Vec::new();
    let mut wanted: BTreeSet<Host> = of_playbook.clone();
    if !places.is_empty() && !places.all {
        let mut named: BTreeSet<Host> = places.hosts.clone();
        named.extend(places.groups.iter().flat_map(|(_, hosts)| hosts.iter().cloned()));
        let outside: Vec<&Host> = places.hosts.iter().filter(|host| !of_playbook.contains(*host)).collect();
        let both: BTreeSet<Host> = named.intersection(&of_playbook).cloned().collect();
        if inherited {
            if !both.is_empty() {
                wanted = both;
            }
        } else if let Some(host) = outside.first() {
            return not_here(entry, host.as_str(), &of_playbook);
        } else if let Some((group, _)) = places.groups.iter().find(|(_, hosts)| hosts.is_disjoint(&of_playbook)) {
            return not_here(entry, group, &of_playbook);
        } else {
            notes.extend(places.groups.iter().filter_map(|group| group_note(group, &of_playbook)));
            wanted = both;
        }
    }
    if !targets.is_empty() {
        let named: BTreeSet<Host> = targets.iter().flat_map(|(_, hosts)| hosts.iter().cloned()).collect();
        if let Some((target, _)) = targets.iter().find(|(_, hosts)| hosts.is_disjoint(&of_playbook)) {
            return not_here(entry, target, &of_playbook);
        }
        notes.extend(
            targets
                .iter()
                .filter(|(name, _)| inventory.groups.contains_key(name))
                .filter_map(|group| group_note(group, &of_playbook)),
        );
        wanted = wanted.intersection(&named).cloned().collect();
        if wanted.is_empty() {
            return Bound::None("`targets` and the sentence have no host in common".to_owned());
        }
    }
    if of_playbook.iter().any(|host| !inventory.hosts.contains_key(host)) {
        notes.push("localhost is the machine that runs the agent".to_owned());
    }
    Bound::Hosts(wanted.into_iter().collect(), notes)
}

fn not_here(entry: &Entry, word: &str, of_playbook: &BTreeSet<Host>) -> Bound {
    let names = names(of_playbook.iter());
    if of_playbook.len() == 1 {
        let question = format!("{} does not run on {word}, only on {names}. Should it run there?", entry.playbook);
        return Bound::Ask(question, of_playbook.iter().cloned().collect());
    }
    Bound::None(format!("{} does not run on {word}; it runs on {names}", entry.playbook))
}

fn group_note((group, hosts): &(String, BTreeSet<Host>), of_playbook: &BTreeSet<Host>) -> Option<String> {
    let both: Vec<&Host> = hosts.intersection(of_playbook).collect();
    (both.len() < hosts.len()).then(|| {
        let verb = if both.len() == 1 { "is" } else { "are" };
        format!(
            "{group} means the group `{group}`; of it, only {} {verb} among the hosts of the playbook",
            names(both.into_iter())
        )
    })
}

/// `a, b and c`.
pub(crate) fn names<'h>(hosts: impl Iterator<Item = &'h Host>) -> String {
    listed(&hosts.map(|host| host.as_str().to_owned()).collect::<Vec<_>>())
}

/// `a, b and c`.
pub(crate) fn listed(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
