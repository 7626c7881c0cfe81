//! Clauses: fragments put together again where they belong together, with their verbs and places.

use std::collections::BTreeSet;

use chiffon_core::catalogue::Inventory;
use chiffon_schemas::Host;

use crate::index::Index;
use crate::lexicon::{self, Intent};
use crate::sentence::{Fragment, Join, Kind, Token};
use crate::words;

/// What a token does in its clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing.
    Stop,
    /// Says what is to be done.
    Verb,
    /// Says where.
    Place,
    /// Must be explained by what is chosen.
    Content,
}

/// Where a clause says that something happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Hosts named one by one.
    pub(crate) hosts: BTreeSet<Host>,
    /// Groups, with their hosts.
    pub(crate) groups: Vec<(String, BTreeSet<Host>)>,
    /// Everywhere.
    pub(crate) all: bool,
    /// Words for one of several hosts.
    pub(crate) one_of: Option<(String, Vec<Host>)>,
}

impl Places {
    pub(crate) fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.groups.is_empty() && !self.all && self.one_of.is_none()
    }
}

/// One thing to do.
#[derive(Debug, Clone)]
pub(crate) struct Clause {
    pub(crate) tokens: Vec<Token>,
    pub(crate) roles: Vec<Role>,
    pub(crate) join: Join,
    pub(crate) intents: BTreeSet<Intent>,
    /// The verb's own word, as it is said to people.
    pub(crate) verb: Option<String>,
    /// "run", "make": a verb that leaves what to the next word.
    pub(crate) neutral: bool,
    /// Its verb could as well be a noun or say what was done.
    pub(crate) nominal: bool,
    /// Its verb is that of the clause before.
    pub(crate) inherited_verb: bool,
    pub(crate) places: Places,
    /// Stems of group names that may also be what the clause is about.
    pub(crate) optional: Vec<String>,
}

impl Clause {
    /// The tokens that must be explained, with their places.
    pub(crate) fn content(&self) -> impl Iterator<Item = (usize, &Token)> {
        self.tokens.iter().enumerate().filter(|(index, _)| self.roles[*index] == Role::Content)
    }

    pub(crate) fn has_pronoun(&self) -> bool {
        self.tokens.iter().any(|token| token.is_word(&["it", "them", "es", "ihn", "lo"]))
    }
}

/// The clauses of a sentence.
pub(crate) fn clauses(fragments: Vec<Fragment>, index: &Index<'_>) -> Vec<Clause> {
    let mut found: Vec<Clause> = Vec::new();
    for fragment in fragments {
        let clause = analyse(fragment, index);
        match found.last_mut() {
            Some(before) if belongs_to(&clause, before, index) => merge(before, clause, index),
            _ => {
                if clause.content().next().is_some() || !clause.places.is_empty() || clause.verb.is_some() {
                    found.push(clause);
                }
            }
        }
    }
    inherit_verbs(&mut found);
    found
}

/// Whether a fragment only goes on with the clause before: hosts, values, politeness, or the verb that was missing.
fn belongs_to(clause: &Clause, before: &Clause, index: &Index<'_>) -> bool {
    if clause.join == Join::Then {
        return false;
    }
    if clause.verb.is_some() {
        return before.verb.is_none() && clause.content().next().is_none() && !before.tokens.is_empty();
    }
    let bare_value = |token: &Token| token.kind == Kind::Equals || token.low.bytes().any(|b| b.is_ascii_digit());
    let names_value = clause.content().any(|(_, token)| bare_value(token));
    let is_about = clause.content().any(|(_, token)| is_anchor(token, index));
    let starts_as_value = clause.tokens.first().is_some_and(|token| {
        token.is_word(&["with", "on", "and", "mit", "avec", "con", "at", "to"]) || token.low.contains('_')
    });
    clause.content().next().is_none()
        || (!is_about && (names_value || starts_as_value))
        || (names_value && starts_as_value)
}

fn is_anchor(token: &Token, index: &Index<'_>) -> bool {
    let parts = words::split(&token.low);
    token.kind == Kind::Path
        || parts.iter().any(|part| index.anchors.contains(&words::stem(part)))
        || index.parts_of(&parts.concat()).is_some()
}

fn merge(before: &mut Clause, clause: Clause, index: &Index<'_>) {
    let mut tokens = std::mem::take(&mut before.tokens);
    // A list of hosts goes on after its joint: "on pi01 and pi02" is one place.
    let in_list = !before.places.is_empty() && !clause.places.is_empty();
    tokens.extend(clause.tokens);
    let join = before.join;
    let mut merged = analyse(Fragment { tokens, join }, index);
    if in_list {
        merged.places.groups.extend(clause.places.groups.into_iter().filter(|g| !before.places.groups.contains(g)));
        merged.places.groups.dedup();
    }
    *before = merged;
}

/// "deploy a, b and c": the verb goes for all, and so do hosts that only the last one names.
fn inherit_verbs(clauses: &mut [Clause]) {
    for at in 1..clauses.len() {
        if clauses[at].verb.is_none() && clauses[at].intents.is_empty() && clauses[at].join == Join::And {
            let (before, rest) = clauses.split_at_mut(at);
            let source = &before[at - 1];
            rest[0].intents = source.intents.clone();
            rest[0].verb = source.verb.clone();
            rest[0].neutral = source.neutral;
            rest[0].nominal = source.nominal;
            rest[0].inherited_verb = true;
        }
    }
    let mut at = 0;
    while at < clauses.len() {
        let mut end = at + 1;
        while end < clauses.len() && clauses[end].inherited_verb {
            end += 1;
        }
        let only_last = end - at > 1
            && !clauses[end - 1].places.is_empty()
            && clauses[at..end - 1].iter().all(|clause| clause.places.is_empty());
        if only_last {
            let places = clauses[end - 1].places.clone();
            clauses[at..end - 1].iter_mut().for_each(|clause| clause.places = places.clone());
        }
        at = end;
    }
}

fn analyse(fragment: Fragment, index: &Index<'_>) -> Clause {
    let tokens = fragment.tokens;
    let mut roles: Vec<Role> = tokens
        .iter()
        .map(|token| match token.kind {
            Kind::Word if lexicon::is_stop(&token.low) => Role::Stop,
            _ => Role::Content,
        })
        .collect();
    let mut places = Places::default();
    let mut optional = Vec::new();
    find_places(&tokens, &mut roles, index, &mut places, &mut optional);
    // "all servers", "every one of the servers": how many is said by the place itself.
    for at in (1..tokens.len()).rev() {
        let before_place =
            roles[at] == Role::Place || (roles[at] == Role::Stop && tokens[at].is_word(lexicon::DETERMINERS));
        if before_place
            && tokens[at - 1].is_word(lexicon::ALL)
            && tokens[at..]
                .iter()
                .zip(&roles[at..])
                .find(|(t, _)| !t.is_word(lexicon::DETERMINERS))
                .is_some_and(|(_, role)| *role == Role::Place)
        {
            roles[at - 1] = Role::Place;
        }
    }
    let mut clause = Clause {
        tokens,
        roles,
        join: fragment.join,
        intents: BTreeSet::new(),
        verb: None,
        neutral: false,
        nominal: false,
        inherited_verb: false,
        places,
        optional,
    };
    find_verb(&mut clause, index);
    clause
}

fn find_verb(clause: &mut Clause, index: &Index<'_>) {
    let is_verb = |at: usize, clause: &Clause| {
        clause.roles[at] == Role::Content
            && clause.tokens[at].kind == Kind::Word
            && !clause.tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Equals)
    };
    for at in 0..clause.tokens.len() {
        let low = clause.tokens[at].low.clone();
        // A neutral verb is one only before its object; "start" as the last word of a name is not.
        let neutral = lexicon::NEUTRAL.contains(&low.as_str()) && !clause.neutral && clause.verb.is_none();
        if is_verb(at, clause) && neutral {
            clause.neutral = true;
            clause.verb = Some("run".to_owned());
            clause.roles[at] = Role::Verb;
        }
    }
    let positions: Vec<usize> = (0..clause.tokens.len()).filter(|at| is_verb(*at, clause)).collect();
    let says = |at: &usize| !lexicon::intents_of(&clause.tokens[*at].low).is_empty();
    let plain = |at: &usize| says(at) && !lexicon::NOMINAL.contains(&clause.tokens[*at].low.as_str());
    let exact = positions.iter().copied().find(plain).or_else(|| positions.iter().copied().find(says));
    let wish = clause.tokens.iter().position(|token| token.is_word(lexicon::WISHES));
    let spelled = || {
        positions.iter().copied().find_map(|at| {
            let low = &clause.tokens[at].low;
            let known = index.knows(&words::stem(low)) || index.parts_of(low).is_some();
            let verb = words::spelled(low, lexicon::all_verbs()).filter(|_| !known && clause.verb.is_none())?;
            let other = words::spelled(low, index.vocabulary());
            other.is_none_or(|other| !lexicon::intents_of(other).is_empty()).then_some((at, verb))
        })
    };
    if let Some(at) = exact {
        let low = clause.tokens[at].low.clone();
        clause.intents = lexicon::intents_of(&low).iter().copied().collect();
        clause.nominal = lexicon::NOMINAL.contains(&low.as_str()) && !clause.neutral && wish.is_none();
        clause.verb = Some(low);
        clause.roles[at] = Role::Verb;
    } else if let Some((at, verb)) = spelled() {
        clause.intents = lexicon::intents_of(verb).iter().copied().collect();
        clause.verb = Some(verb.to_owned());
        clause.roles[at] = Role::Verb;
    }
    if let Some(at) = wish {
        clause.roles[at] = Role::Verb;
        if clause.intents.is_empty() {
            clause.intents.insert(Intent::Deploy);
            clause.verb = Some("deploy".to_owned());
        }
    }
}

/// Whether a token stands where a place stands: after a preposition, determiners between them skipped.
pub(crate) fn in_place_position(tokens: &[Token], at: usize) -> bool {
    let mut before = at;
    while before > 0 {
        let token = &tokens[before - 1];
        if token.is_word(lexicon::PLACE) {
            return true;
        }
        if !token.is_word(lexicon::DETERMINERS) {
            return false;
        }
        before -= 1;
    }
    false
}

fn find_places(
    tokens: &[Token],
    roles: &mut [Role],
    index: &Index<'_>,
    places: &mut Places,
    optional: &mut Vec<String>,
) {
    let inventory = &index.catalogue.inventory;
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].kind != Kind::Word {
            at += 1;
            continue;
        }
        if let Some(host) = inventory.hosts.keys().find(|host| words::fold(host.as_str()) == tokens[at].low) {
            places.hosts.insert(host.clone());
            roles[at] = Role::Place;
            at += 1;
            continue;
        }
        let listed = at > 0 && roles[at - 1] == Role::Place;
        let positioned = in_place_position(tokens, at) || listed;
        if let Some((group, length)) = group_at(tokens, at, inventory) {
            let noun_follows = tokens.get(at + length).is_some_and(|token| {
                token.is_word(&["group", "gruppe", "groupe", "grupo", "hosts", "machines", "servers"])
            });
            if positioned || noun_follows {
                let one = is_one_of(tokens, at);
                take_group(&group, one, inventory, places);
                for (offset, token) in tokens[at..at + length].iter().enumerate() {
                    optional.extend(words::split(&token.low).iter().map(|word| words::stem(word)));
                    roles[at + offset] = Role::Place;
                }
                at += length;
                if noun_follows {
                    roles[at] = Role::Place;
                    at += 1;
                }
                continue;
            }
        }
        at += take_other_place(tokens, at, positioned, roles, inventory, places);
    }
}

/// "all machines", "everywhere", "the pi": how many tokens that took.
fn take_other_place(
    tokens: &[Token],
    at: usize,
    positioned: bool,
    roles: &mut [Role],
    inventory: &Inventory,
    places: &mut Places,
) -> usize {
    let token = &tokens[at];
    if token.is_word(&["everywhere", "uberall", "partout"]) {
        places.all = true;
        roles[at] = Role::Place;
        return 1;
    }
    if token.is_word(lexicon::MACHINES) && at > 0 && tokens[at - 1].is_word(lexicon::ALL) {
        places.all = true;
        roles[at - 1] = Role::Place;
        roles[at] = Role::Place;
        return 1;
    }
    if positioned && roles[at] == Role::Content {
        let alike = hosts_like(&token.low, inventory);
        let is_verb = !lexicon::intents_of(&token.low).is_empty();
        if !alike.is_empty() && !is_verb && token.low.bytes().all(|b| b.is_ascii_alphabetic()) {
            places.one_of = Some((token.text.clone(), alike));
            roles[at] = Role::Place;
        }
    }
    1
}

/// Hosts whose name is this word and a number: `pi01`, `pi02` for `pi` or `pis`.
fn hosts_like(word: &str, inventory: &Inventory) -> Vec<Host> {
    let base = |host: &Host| {
        let low = words::fold(host.as_str());
        low.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['-', '_']).to_owned()
    };
    inventory.hosts.keys().filter(|host| base(host) == word || base(host) == words::stem(word)).cloned().collect()
}

fn is_one_of(tokens: &[Token], at: usize) -> bool {
    let before: Vec<&str> = tokens[at.saturating_sub(4)..at].iter().map(|token| token.low.as_str()).collect();
    let text = before.join(" ");
    ["one of", "any of", "some of", "either of", "einem der", "einen der", "un des", "uno de"]
        .iter()
        .any(|phrase| text.contains(phrase))
}

fn take_group(group: &str, one: bool, inventory: &Inventory, places: &mut Places) {
    let hosts = inventory.groups.get(group).cloned().unwrap_or_default();
    if one {
        places.one_of = Some((group.to_owned(), hosts.into_iter().collect()));
    } else if group == "all" {
        places.all = true;
    } else {
        places.groups.push((group.to_owned(), hosts));
    }
}

/// A group named by one to three tokens: `smart home` for `smart_home`.
fn group_at(tokens: &[Token], at: usize, inventory: &Inventory) -> Option<(String, usize)> {
    for length in (1..=3).rev() {
        let Some(run) = tokens.get(at..at + length) else { continue };
        if !run.iter().all(|token| token.kind == Kind::Word) {
            continue;
        }
        let name: Vec<String> = run.iter().flat_map(|token| words::split(&token.low)).collect();
        let hit = inventory.groups.keys().find(|group| group.as_str() != "ungrouped" && words::split(group) == name);
        // "all" alone says how many of something, not where.
        let noun = tokens.get(at + length).is_some_and(|next| next.kind == Kind::Word && !lexicon::is_stop(&next.low));
        if let Some(group) = hit.filter(|group| group.as_str() != "all" || !noun) {
            return Some((group.clone(), length));
        }
    }
    None
}
