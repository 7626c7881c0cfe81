//! Which entry a clause means: one clear match, a choice to put to a person, or none.

use std::collections::BTreeSet;

use crate::clause::Clause;
use crate::cover::{self, Cover};
use crate::index::{Index, Terms};
use crate::lexicon::{self, Intent};
use crate::words;

/// How much better than the second the best entry must score where its name alone does not tell (θ).
const MARGIN: f64 = 1.6;

/// More choices than this are no question but a catalogue.
pub(crate) const MAX_CHOICES: usize = 6;

/// What was chosen.
#[derive(Debug, Clone)]
pub(crate) enum Chosen {
    /// One entry, clearly.
    One(usize, Box<Cover>),
    /// Several that fit equally well, best first.
    Several(Vec<(usize, Cover)>),
    /// None; words that nothing explains, and what fitted best apart from them.
    None { unexplained: Vec<String>, nearest: Vec<usize> },
}

/// What the clauses before were about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context {
    /// Services of the last entry.
    pub(crate) services: Vec<String>,
    /// The person named the service in the request itself.
    pub(crate) by_request: bool,
}

/// Chooses the entry of a clause.
pub(crate) fn choose(clause: &Clause, context: &Context, index: &Index<'_>) -> Chosen {
    let covers: Vec<(usize, Cover)> = (0..index.terms.len()).map(|at| (at, cover::cover(clause, at, index))).collect();
    let complete: Vec<(usize, Cover)> = covers.iter().filter(|(_, cover)| cover.complete()).cloned().collect();
    if let Some((at, cover)) = complete.iter().find(|(_, cover)| cover.by_path) {
        return Chosen::One(*at, Box::new(cover.clone()));
    }
    let fitting: Vec<(usize, Cover)> =
        complete.into_iter().filter(|(at, cover)| fits(&clause.intents, &index.terms[*at], cover)).collect();
    let fitting = in_context(clause, context, fitting, index);
    if fitting.is_empty() {
        return Chosen::None { unexplained: least_unexplained(&covers), nearest: nearest(&covers, index) };
    }
    // What the clause before was about needs no second naming.
    let fitting = fitting
        .into_iter()
        .map(|(at, mut cover)| {
            if shares(at, context, index) {
                let said = context.services.iter().flat_map(|service| words::split(service));
                cover.strong.extend(said.map(|word| words::stem(&word)));
            }
            (at, cover)
        })
        .collect();
    pick(clause, fitting, index)
}

/// Adding to something and configuring it are one thing.
fn says(known: &BTreeSet<Intent>, intent: Intent) -> bool {
    let also = match intent {
        Intent::Add => Intent::Configure,
        Intent::Configure => Intent::Add,
        other => other,
    };
    known.contains(&intent) || known.contains(&also)
}

/// Whether an entry does what the verb asks for.
fn fits(intents: &BTreeSet<Intent>, terms: &Terms, cover: &Cover) -> bool {
    if intents.is_empty() {
        return cover.hits() > 0;
    }
    let touches_title = cover.strong.iter().any(|stem| terms.objects.contains(stem))
        || terms.stem_intents.iter().any(|intent| cover.strong.contains(&format!("@{intent:?}")));
    intents.iter().any(|intent| {
        let plain = terms.stem_intents.is_empty() && *intent == Intent::Deploy && terms.title_intents.is_empty();
        says(&terms.stem_intents, *intent) || plain || (says(&terms.title_intents, *intent) && touches_title)
    })
}

fn shares(at: usize, context: &Context, index: &Index<'_>) -> bool {
    index.catalogue.entries[at].services.iter().any(|service| context.services.contains(service))
}

/// A clause that names nothing itself is about what the one before was about.
fn in_context(
    clause: &Clause,
    context: &Context,
    fitting: Vec<(usize, Cover)>,
    index: &Index<'_>,
) -> Vec<(usize, Cover)> {
    if context.services.is_empty() {
        return fitting;
    }
    let silent = fitting.iter().all(|(_, cover)| cover.hits() == 0 && cover.bound.values.is_empty());
    if context.by_request || silent || clause.has_pronoun() {
        return fitting.into_iter().filter(|(at, _)| shares(*at, context, index)).collect();
    }
    let self_named = fitting.iter().any(|(at, cover)| is_named(&index.terms[*at], cover));
    let sharing: Vec<(usize, Cover)> = fitting.iter().filter(|(at, _)| shares(*at, context, index)).cloned().collect();
    if self_named || sharing.is_empty() { fitting } else { sharing }
}

/// Whether the words of the clause hold all of a name of the entry.
fn is_named(terms: &Terms, cover: &Cover) -> bool {
    terms.names.iter().any(|name| !name.is_empty() && name.iter().all(|word| cover.strong.contains(word)))
}

fn pick(clause: &Clause, fitting: Vec<(usize, Cover)>, index: &Index<'_>) -> Chosen {
    let strong: Vec<(usize, Cover)> = fitting.iter().filter(|(_, cover)| cover.weak.is_empty()).cloned().collect();
    let is_weak = strong.is_empty();
    let mut best = if is_weak { fitting } else { strong };
    rank(&mut best, index);
    let named: Vec<(usize, Cover)> =
        best.iter().filter(|(at, cover)| is_named(&index.terms[*at], cover)).cloned().collect();
    let says_nothing = clause.intents.is_empty() || clause.nominal;
    if says_nothing {
        // No verb, or one such as "run": only a playbook that does one thing and is called by it is clear.
        let clear = clause.neutral
            && best.len() == 1
            && index.terms[best[0].0].stem_intents.is_empty()
            && best[0].1.hits() >= 2;
        return if clear { one(best) } else { Chosen::Several(best) };
    }
    if !named.is_empty() {
        let missing = |at: usize, cover: &Cover| missing(clause, &index.terms[at], cover);
        let fewest = named.iter().map(|(at, cover)| missing(*at, cover)).min().unwrap_or(0);
        let closest: Vec<(usize, Cover)> =
            named.into_iter().filter(|(at, cover)| missing(*at, cover) == fewest).collect();
        // Alone, but about a part that nobody named: "update grafana" is not its dashboards.
        let certain = fewest == 0 || closest.iter().all(|(at, cover)| says_more(&index.terms[*at], cover));
        return if closest.len() == 1 && certain { one(closest) } else { Chosen::Several(closest) };
    }
    let hits = best[0].1.hits();
    if best.len() == 1 {
        // A value that was bound is a word that this entry, and no other, has a use for.
        let evidence = hits + best[0].1.bound.values.len();
        let terms = &index.terms[best[0].0];
        let by_verb = clause.intents.iter().any(|intent| says(&terms.stem_intents, *intent));
        let clear = evidence >= 2 || (by_verb && !best[0].1.bound.values.is_empty());
        return if clear { one(best) } else { Chosen::Several(best) };
    }
    let score = |item: &(usize, Cover)| scored(item, index);
    if hits >= 2 && score(&best[0]) >= MARGIN * score(&best[1]) {
        return one(best);
    }
    Chosen::Several(best)
}

/// How much of what the entry is about the clause leaves out: words of its file name, or that it is the configuration.
fn missing(clause: &Clause, terms: &Terms, cover: &Cover) -> usize {
    let words = terms.extra.iter().filter(|word| !cover.strong.contains(*word)).count();
    let config = terms.stem_intents.contains(&Intent::Configure)
        && terms.stem_intents.len() > 1
        && !says(&clause.intents, Intent::Configure)
        && !cover.strong.iter().any(|word| lexicon::intents_of(word).contains(&Intent::Configure));
    words + usize::from(config)
}

/// Whether the clause names more of the entry than its name: another word of its titles, or a value.
fn says_more(terms: &Terms, cover: &Cover) -> bool {
    let in_name = |stem: &String| terms.names.iter().any(|name| name.contains(stem));
    !cover.bound.values.is_empty() || cover.strong.iter().any(|stem| terms.objects.contains(stem) && !in_name(stem))
}

fn one(best: Vec<(usize, Cover)>) -> Chosen {
    match best.into_iter().next() {
        Some((at, cover)) => Chosen::One(at, Box::new(cover)),
        None => Chosen::None { unexplained: Vec::new(), nearest: Vec::new() },
    }
}

fn scored((at, cover): &(usize, Cover), index: &Index<'_>) -> f64 {
    let stems: Vec<String> = cover.strong.union(&cover.weak).cloned().collect();
    index.score(*at, &stems)
}

/// Best score first; equal ones by playbook, so that the order never depends on chance.
fn rank(items: &mut [(usize, Cover)], index: &Index<'_>) {
    items.sort_by(|a, b| scored(b, index).total_cmp(&scored(a, index)).then(a.0.cmp(&b.0)));
}

fn least_unexplained(covers: &[(usize, Cover)]) -> Vec<String> {
    let best = covers.iter().min_by_key(|(_, cover)| (cover.unexplained.len(), usize::MAX - cover.hits()));
    best.map(|(_, cover)| cover.unexplained.clone()).unwrap_or_default()
}

/// Entries that share words with the clause, best first.
fn nearest(covers: &[(usize, Cover)], index: &Index<'_>) -> Vec<usize> {
    let mut sharing: Vec<(usize, Cover)> =
        covers.iter().filter(|(_, cover)| !cover.strong.is_empty() || !cover.weak.is_empty()).cloned().collect();
    rank(&mut sharing, index);
    sharing.into_iter().map(|(at, _)| at).take(5).collect()
}
