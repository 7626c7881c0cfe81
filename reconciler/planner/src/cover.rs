//! Which words of a clause an entry explains: a clause with a word that nothing explains is never planned.

use std::collections::BTreeSet;

use chiffon_schemas::Host;

use crate::bind::{self, Bound};
use crate::clause::{self, Clause, Role};
use crate::index::Index;
use crate::lexicon;
use crate::sentence::{Kind, Token};
use crate::words;

/// How an entry explains a clause.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cover {
    pub(crate) bound: Bound,
    /// Stems found in the file name, services or titles.
    pub(crate) strong: BTreeSet<String>,
    /// Stems found elsewhere.
    pub(crate) weak: BTreeSet<String>,
    /// Words that the entry does not explain.
    pub(crate) unexplained: Vec<String>,
    /// A word that is almost the name of a host, with those hosts.
    pub(crate) near_host: Option<(String, Vec<Host>)>,
    /// Words that were read as others.
    pub(crate) spelled: Vec<(String, String)>,
    /// The clause names the playbook by its path.
    pub(crate) by_path: bool,
}

impl Cover {
    pub(crate) fn complete(&self) -> bool {
        self.unexplained.is_empty()
    }

    pub(crate) fn hits(&self) -> usize {
        self.strong.iter().chain(&self.weak).filter(|word| !word.starts_with('@')).count()
    }
}

/// Works out how the entry at `at` explains a clause.
pub(crate) fn cover(clause: &Clause, at: usize, index: &Index<'_>) -> Cover {
    let entry = &index.catalogue.entries[at];
    let terms = &index.terms[at];
    let known: BTreeSet<String> = terms.strong.union(&terms.weak).cloned().collect();
    let bound = bind::bind(clause, entry, &bind::Known { all: &known, strong: &terms.strong }, index.catalogue);
    let mut cover = Cover { bound, ..Cover::default() };
    let used: Vec<String> = cover.bound.used.iter().map(|at| words::stem(&clause.tokens[*at].low)).collect();
    cover.strong.extend(used.into_iter().filter(|stem| terms.strong.contains(stem)));
    let mut skip: BTreeSet<usize> = BTreeSet::new();
    for (position, token) in clause.content() {
        if cover.bound.used.contains(&position) || skip.contains(&position) {
            continue;
        }
        match token.kind {
            Kind::Path => {
                let named = |path: &str| path == token.text || path.ends_with(&format!("/{}", token.text));
                let hit = named(entry.playbook.as_str()) || entry.aliases.iter().any(|alias| named(alias.as_str()));
                if hit {
                    cover.by_path = true;
                } else {
                    cover.unexplained.push(token.text.clone());
                }
            }
            Kind::Word => explain_word(clause, position, at, index, &mut cover, &mut skip),
            Kind::Quoted => {
                for word in words::split(&token.text) {
                    if !lexicon::is_stop(&word) && !explain(&word, at, index, &mut cover) {
                        cover.unexplained.push(word);
                    }
                }
            }
            Kind::Equals | Kind::Url | Kind::Junk | Kind::Break => cover.unexplained.push(token.text.clone()),
        }
    }
    for stem in &clause.optional {
        if terms.strong.contains(stem) {
            cover.strong.insert(stem.clone());
        }
    }
    cover
}

/// Notes a stem as explained by the entry, or says that it is not.
fn explain(word: &str, at: usize, index: &Index<'_>, cover: &mut Cover) -> bool {
    let terms = &index.terms[at];
    let stem = words::stem(word);
    if terms.strong.contains(&stem) {
        cover.strong.insert(stem);
        return true;
    }
    if terms.weak.contains(&stem) {
        cover.weak.insert(stem);
        return true;
    }
    for intent in lexicon::intents_of(word) {
        let mark = format!("@{intent:?}");
        if terms.strong.contains(&mark) {
            cover.strong.insert(mark);
            return true;
        }
        if terms.weak.contains(&mark) {
            cover.weak.insert(mark);
            return true;
        }
    }
    false
}

fn explain_word(
    clause: &Clause,
    position: usize,
    at: usize,
    index: &Index<'_>,
    cover: &mut Cover,
    skip: &mut BTreeSet<usize>,
) {
    let token = &clause.tokens[position];
    if explain(&token.low, at, index, cover) {
        return;
    }
    let parts = words::split(&token.low);
    if parts.len() > 1 && parts.iter().all(|part| lexicon::is_stop(part) || explain(part, at, index, cover)) {
        return;
    }
    let joined = parts.concat();
    if let Some(compound) = index.parts_of(&joined).filter(|_| joined.len() > 4)
        && compound.iter().all(|part| explain(part, at, index, cover))
    {
        return;
    }
    if parts.len() > 1 && explain(&joined, at, index, cover) {
        return;
    }
    // "pi hole" for `pihole`, "up time" for `uptime`.
    if let Some(next) = clause.tokens.get(position + 1).filter(|next| next.kind == Kind::Word)
        && clause.roles[position + 1] == Role::Content
        && explain(&format!("{}{}", token.low, next.low), at, index, cover)
    {
        skip.insert(position + 1);
        return;
    }
    if lexicon::GENERAL.contains(&token.low.as_str()) {
        return;
    }
    let unknown = !index.knows(&words::stem(&token.low)) && lexicon::intents_of(&token.low).is_empty();
    if let Some(other) = words::spelled(&token.low, index.vocabulary()).filter(|_| unknown).map(str::to_owned)
        && explain(&other, at, index, cover)
    {
        cover.spelled.push((token.text.clone(), other));
        return;
    }
    if let Some(hosts) = near_hosts(clause, position, token, index).filter(|_| cover.near_host.is_none()) {
        cover.near_host = Some((token.text.clone(), hosts));
        return;
    }
    cover.unexplained.push(token.text.clone());
}

/// Hosts that a word in a host's place is almost the name of: `nas1` for `nas01`.
fn near_hosts(clause: &Clause, position: usize, token: &Token, index: &Index<'_>) -> Option<Vec<Host>> {
    if !clause::in_place_position(&clause.tokens, position) {
        return None;
    }
    hosts_near(&token.low, index)
}

/// Hosts with almost this name, or with this name and another number.
pub(crate) fn hosts_near(word: &str, index: &Index<'_>) -> Option<Vec<Host>> {
    let hosts = &index.catalogue.inventory.hosts;
    let base = |text: &str| text.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    let numbered = word.bytes().any(|b| b.is_ascii_digit());
    let near: Vec<Host> = hosts
        .keys()
        .filter(|host| {
            let low = words::fold(host.as_str());
            let slips = if low.len() > 6 { 2 } else { 1 };
            let sibling = numbered && !base(&low).is_empty() && base(&low) == base(word);
            sibling || (low.len() > 3 && strsim::osa_distance(&low, word) <= slips)
        })
        .cloned()
        .collect();
    (!near.is_empty()).then_some(near)
}
