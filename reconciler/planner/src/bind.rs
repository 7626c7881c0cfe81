//! Values of variables: from the words of a clause, and from what the repository already says. Nothing is guessed: a
//! value that does not fit is a question.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::catalogue::{Catalogue, Entry, VarKind, Variable};
use chiffon_schemas::Json;

use crate::clause::{Clause, Role};
use crate::lexicon;
use crate::sentence::{Kind, Token};
use crate::words;

/// What was bound, and what could not be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bound {
    pub(crate) values: BTreeMap<String, Json>,
    /// Where values came from that nobody typed.
    pub(crate) found: BTreeMap<String, Vec<String>>,
    /// Variables that were named with a value that they don't take, or with none: the value as it was written.
    pub(crate) unfit: BTreeMap<String, Option<String>>,
    /// Two values for one variable.
    pub(crate) twice: Option<String>,
    /// A value that could become code.
    pub(crate) refused: Option<String>,
    /// Tokens that are explained by this.
    pub(crate) used: BTreeSet<usize>,
    /// What was taken for granted.
    pub(crate) notes: Vec<String>,
    /// Portals were asked for and the repository names none.
    pub(crate) no_portals: bool,
}

impl Bound {
    fn set(&mut self, name: &str, value: Json) {
        if let Some(reason) = chiffon_core::refused_value(&value) {
            self.refused = Some(format!("the value of `{name}` {reason}"));
        } else if self.values.get(name).is_some_and(|known| *known != value) {
            self.twice = Some(name.to_owned());
        } else {
            self.values.insert(name.to_owned(), value);
        }
    }
}

/// Words that the entry itself explains.
#[derive(Clone, Copy)]
pub(crate) struct Known<'k> {
    /// Anywhere.
    pub(crate) all: &'k BTreeSet<String>,
    /// In its file name, services or titles.
    pub(crate) strong: &'k BTreeSet<String>,
}

struct Target<'e> {
    name: &'e str,
    variable: &'e Variable,
    core: Vec<String>,
}

/// Binds what a clause says to the variables of an entry.
pub(crate) fn bind(clause: &Clause, entry: &Entry, known: &Known<'_>, catalogue: &Catalogue) -> Bound {
    let targets = targets(entry);
    let mut bound = Bound::default();
    for target in &targets {
        if let Some(keys) = portal_keys(&target.variable.kind) {
            bind_portals(clause, target, keys, catalogue, &mut bound);
        }
    }
    let mut at = 0;
    while at < clause.tokens.len() {
        let free =
            clause.roles[at] == Role::Content && !bound.used.contains(&at) && clause.tokens[at].kind == Kind::Word;
        let hit = if free { mention(clause, at, &targets, known, &bound) } else { None };
        match hit {
            Some((target, length, explicit)) => {
                take_value(clause, at, length, target, explicit, known, &mut bound);
                at += length;
            }
            None => at += 1,
        }
    }
    bind_by_shape(clause, &targets, known, &mut bound);
    bound
}

/// A value that no word names goes to the one required variable whose description gives an example of its shape:
/// "update it to 10.10.7", "block ads.example".
fn bind_by_shape(clause: &Clause, targets: &[Target<'_>], known: &Known<'_>, bound: &mut Bound) {
    let open: Vec<(usize, &Token)> = clause
        .content()
        .filter(|(at, token)| {
            let marked = token.low.contains(['.', ':', '/']) && token.kind == Kind::Word;
            marked && !bound.used.contains(at) && is_bare_value(clause, *at, known)
        })
        .collect();
    let [(at, token)] = open.as_slice() else { return };
    let wants = |target: &&Target<'_>| {
        target.variable.required
            && !bound.values.contains_key(target.name)
            && example(target.variable).is_some_and(|example| shape(&example) == shape(&token.text))
    };
    let fitting: Vec<&Target<'_>> = targets.iter().filter(wants).collect();
    if let ([target], Some(value)) =
        (fitting.as_slice(), fitting.first().and_then(|t| convert(token, &t.variable.kind)))
    {
        bound.used.insert(*at);
        bound.notes.push(format!("`{}` was taken as the value of `{}`", token.text, target.name));
        bound.set(target.name, value);
    }
}

/// The words that tell an entry's variables apart: `retention`, `days` for `prometheus_retention_days`.
fn targets(entry: &Entry) -> Vec<Target<'_>> {
    let own: BTreeSet<String> =
        entry.services.iter().flat_map(|service| words::split(service)).map(|word| words::stem(&word)).collect();
    let firsts: BTreeSet<&str> = entry.variables.keys().filter_map(|name| name.split('_').next()).collect();
    let shared = (entry.variables.len() > 1 && firsts.len() == 1)
        .then(|| firsts.first().map(|word| words::stem(word)))
        .flatten();
    entry
        .variables
        .iter()
        .map(|(name, variable)| {
            let all: Vec<String> = words::split(name).iter().map(|word| words::stem(word)).collect();
            let core: Vec<String> =
                all.iter().filter(|word| !own.contains(*word) && shared.as_ref() != Some(word)).cloned().collect();
            Target { name, variable, core: if core.is_empty() { all } else { core } }
        })
        .collect()
}

/// The variable that the tokens from `at` name, how many tokens that takes, and whether by its own name.
fn mention<'t, 'e>(
    clause: &Clause,
    at: usize,
    targets: &'t [Target<'e>],
    known: &Known<'_>,
    bound: &Bound,
) -> Option<(&'t Target<'e>, usize, bool)> {
    let token = &clause.tokens[at];
    let parts: Vec<String> = words::split(&token.low).iter().map(|word| words::stem(word)).collect();
    let is_name = token.low.contains('_') || token.low.contains('-') || assigned(clause, at);
    let by_name = targets.iter().find(|target| {
        token.low == target.name.to_lowercase()
            || (is_name && (parts == target.core || words::slug(&token.low) == words::slug(target.name)))
    });
    if let Some(target) = by_name {
        return Some((target, 1, true));
    }
    let run = |target: &Target<'_>| -> usize {
        let mut length = 0;
        let mut taken: BTreeSet<&str> = BTreeSet::new();
        while let Some(next) = clause.tokens.get(at + length) {
            let stem = words::stem(&next.low);
            let Some(hit) = target.core.iter().find(|word| **word == stem) else { break };
            if clause.roles[at + length] == Role::Place || !taken.insert(hit) {
                break;
            }
            length += 1;
        }
        length
    };
    let rated: Vec<(usize, usize, &Target<'_>)> = targets
        .iter()
        .map(|target| (run(target), target))
        .filter(|(length, _)| *length > 0)
        .map(|(length, target)| (length, target.core.len() - length.min(target.core.len()), target))
        .collect();
    let longest = rated.iter().map(|(length, ..)| *length).max()?;
    let least = rated.iter().filter(|(length, ..)| *length == longest).map(|(_, missing, _)| *missing).min()?;
    let best: Vec<&Target<'_>> = rated
        .iter()
        .filter(|(length, missing, _)| *length == longest && *missing == least)
        .map(|(.., target)| *target)
        .collect();
    let chosen = match best.as_slice() {
        [one] => *one,
        several => {
            // Several share the word: the value's shape may tell, as the examples in their descriptions have it.
            let (_, text) = value_near(clause, at, longest, known, bound)?;
            let alike: Vec<&&Target<'_>> = several
                .iter()
                .filter(|target| example(target.variable).is_some_and(|example| shape(&example) == shape(&text)))
                .collect();
            match alike.as_slice() {
                [one] => **one,
                _ => return None,
            }
        }
    };
    let target = targets.iter().find(|target| target.name == chosen.name)?;
    Some((target, longest, false))
}

fn assigned(clause: &Clause, at: usize) -> bool {
    clause.tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Equals)
}

/// The value after a mention, else before it; with its position and text.
fn value_near(clause: &Clause, at: usize, length: usize, known: &Known<'_>, bound: &Bound) -> Option<(usize, String)> {
    let after = next_value(clause, at + length, known, bound, false);
    after.map(|position| (position, clause.tokens[position].text.clone()))
}

/// The first token after a mention that can be a value; words that join the two are skipped.
fn next_value(clause: &Clause, from: usize, known: &Known<'_>, bound: &Bound, explicit: bool) -> Option<usize> {
    let joins = ["to", "of", "is", "as", "at", "auf", "von", "de", "a", "=", ":", "named", "called", "be", "zu", "en"];
    let mut at = from;
    let mut assigned = false;
    while let Some(token) = clause.tokens.get(at) {
        if bound.used.contains(&at) {
            return None;
        }
        if token.kind == Kind::Equals {
            assigned = true;
            at += 1;
            continue;
        }
        if assigned || explicit && !lexicon::is_stop(&token.low) {
            return (token.kind != Kind::Junk).then_some(at);
        }
        if joins.contains(&token.low.as_str()) && token.kind == Kind::Word {
            at += 1;
            continue;
        }
        return is_bare_value(clause, at, known).then_some(at);
    }
    None
}

/// Whether a token can be a value without being assigned: it is none of the words that something else explains.
fn is_bare_value(clause: &Clause, at: usize, known: &Known<'_>) -> bool {
    let token = &clause.tokens[at];
    match token.kind {
        Kind::Quoted | Kind::Url => true,
        Kind::Word => {
            clause.roles[at] == Role::Content
                && !known.all.contains(&words::stem(&token.low))
                && lexicon::intents_of(&token.low).is_empty()
        }
        Kind::Equals | Kind::Path | Kind::Junk | Kind::Break => false,
    }
}

fn take_value(
    clause: &Clause,
    at: usize,
    length: usize,
    target: &Target<'_>,
    explicit: bool,
    known: &Known<'_>,
    bound: &mut Bound,
) {
    let after = next_value(clause, at + length, known, bound, explicit);
    let value = after.and_then(|position| convert(&clause.tokens[position], &target.variable.kind));
    let is_port = target.name == "port" || target.name.ends_with("_port");
    let value = value.filter(|value| !is_port || value.as_i64().is_none_or(|port| (1..=65_535).contains(&port)));
    let (position, value) = match (after, value) {
        (Some(position), Some(value)) => (Some(position), Some(value)),
        _ => {
            // "the light theme", "90 days": the value may stand before.
            let before = at
                .checked_sub(1)
                .filter(|before| !explicit && !bound.used.contains(before) && clause.roles[*before] == Role::Content);
            let typed = before.and_then(|before| {
                let strict = matches!(target.variable.kind, VarKind::Choice(_) | VarKind::Int | VarKind::Float);
                convert(&clause.tokens[before], &target.variable.kind).filter(|_| strict)
            });
            match typed {
                Some(value) => (before, Some(value)),
                None => (after, None),
            }
        }
    };
    let words: Vec<usize> = (at..at + length).collect();
    match (position, value) {
        (Some(position), Some(value)) => {
            bound.used.extend(words);
            bound.used.extend(at.min(position)..=position.max(at));
            // "90 days": words of the variable's name that follow its value belong to it.
            let mut next = position + 1;
            while clause.tokens.get(next).is_some_and(|token| target.core.contains(&words::stem(&token.low))) {
                bound.used.insert(next);
                next += 1;
            }
            bound.set(target.name, value);
        }
        (Some(position), None) => {
            let known_word =
                !explicit && words.iter().all(|at| known.strong.contains(&words::stem(&clause.tokens[*at].low)));
            if !known_word {
                bound.used.extend(at..=position.max(at + length - 1));
                bound.unfit.insert(target.name.to_owned(), Some(clause.tokens[position].text.clone()));
            }
        }
        (None, _) => {
            // "with data" names a value and leaves it out; "a media server" merely shares a word with a variable.
            let with =
                at.checked_sub(1).is_some_and(|before| clause.tokens[before].is_word(&["with", "mit", "avec", "con"]));
            let switch = target.variable.kind == VarKind::Bool;
            let explains = if with || explicit || switch { known.strong } else { known.all };
            let known_word = words.iter().all(|at| explains.contains(&words::stem(&clause.tokens[*at].low)));
            if !known_word {
                bound.used.extend(words);
                bound.unfit.entry(target.name.to_owned()).or_insert(None);
            }
        }
    }
}

/// A token as a value of a kind; `None` where it is none.
pub(crate) fn convert(token: &Token, kind: &VarKind) -> Option<Json> {
    if matches!(token.kind, Kind::Junk | Kind::Break | Kind::Equals) {
        return None;
    }
    from_text(&token.text, kind)
}

/// A text as a value of a kind, as somebody types it.
pub(crate) fn from_text(text: &str, kind: &VarKind) -> Option<Json> {
    let value = match kind {
        VarKind::Int => Json::from(text.parse::<i64>().ok()?),
        VarKind::Float => text
            .parse::<i64>()
            .map(Json::from)
            .ok()
            .or_else(|| text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Json::Number))?,
        VarKind::Bool => match words::fold(text).as_str() {
            "true" | "yes" | "on" | "ja" | "oui" | "si" => Json::Bool(true),
            "false" | "no" | "off" | "nein" | "non" => Json::Bool(false),
            _ => return None,
        },
        VarKind::Choice(choices) => {
            let same = |choice: &&Json| match choice {
                Json::String(word) => words::fold(word) == words::fold(text),
                other => format!("{other}") == text,
            };
            choices.iter().find(same)?.clone()
        }
        VarKind::Str => Json::from(text),
        VarKind::Path => Json::from(text).as_str().filter(|text| text.contains('/')).map(Json::from)?,
        VarKind::Any => match text.parse::<i64>() {
            Ok(number) => Json::from(number),
            Err(_) => match text {
                "true" => Json::Bool(true),
                "false" => Json::Bool(false),
                text => Json::from(text),
            },
        },
        VarKind::List(_) | VarKind::Map(_) => serde_json::from_str(text).ok()?,
    };
    kind.accepts(&value).then_some(value)
}

/// The keys of a list of addresses: which holds the name, which the address.
pub(crate) fn portal_keys(kind: &VarKind) -> Option<(String, String)> {
    let VarKind::List(item) = kind else { return None };
    let VarKind::Map(keys) = item.as_ref() else { return None };
    let find = |names: &[&str]| names.iter().find(|name| keys.contains_key(**name)).map(|name| (*name).to_owned());
    let (name, url) = (find(&["name", "title"])?, find(&["url", "href", "link", "address"])?);
    let others_needed = keys.iter().any(|(key, (_, required))| *required && *key != name && *key != url);
    (!others_needed).then_some((name, url))
}

/// The portals of the catalogue as a value, with where each was found.
pub(crate) fn existing_portals(keys: &(String, String), catalogue: &Catalogue) -> Option<(Json, Vec<String>)> {
    let item = |name: &str, url: &str| {
        let mut map = serde_json::Map::new();
        map.insert(keys.0.clone(), Json::from(name));
        map.insert(keys.1.clone(), Json::from(url));
        Json::Object(map)
    };
    let values: Vec<Json> = catalogue.portals.iter().map(|portal| item(&portal.name, &portal.url)).collect();
    let found: Vec<String> =
        catalogue.portals.iter().filter_map(|portal| portal.sources.first()).map(ToString::to_string).collect();
    (!values.is_empty()).then_some((Json::Array(values), found))
}

fn bind_portals(
    clause: &Clause,
    target: &Target<'_>,
    keys: (String, String),
    catalogue: &Catalogue,
    bound: &mut Bound,
) {
    let named = clause.content().find(|(_, token)| {
        let stem = words::stem(&token.low);
        target.core.contains(&stem) || words::spelled(&stem, target.core.iter().map(String::as_str)).is_some()
    });
    let Some((mention, _)) = named else { return };
    let urls: Vec<usize> =
        clause.content().filter(|(_, token)| token.kind == Kind::Url).map(|(index, _)| index).collect();
    if !urls.is_empty() {
        return bind_named_portals(clause, target, &keys, mention, &urls, bound);
    }
    let markers: Vec<usize> = (0..clause.tokens.len())
        .filter(|at| clause.tokens[*at].is_word(lexicon::EXISTING) && clause.roles[*at] != Role::Place)
        .collect();
    if markers.is_empty() {
        return;
    }
    match existing_portals(&keys, catalogue) {
        Some((value, found)) => {
            bound.used.insert(mention);
            bound.used.extend(markers);
            bound.found.insert(target.name.to_owned(), found);
            bound.set(target.name, value);
        }
        None => bound.no_portals = true,
    }
}

/// "the portal Photos at https://…": each address with the words before it as its name.
fn bind_named_portals(
    clause: &Clause,
    target: &Target<'_>,
    keys: &(String, String),
    mention: usize,
    urls: &[usize],
    bound: &mut Bound,
) {
    let mut items = Vec::new();
    let mut from = mention + 1;
    bound.used.insert(mention);
    for url in urls {
        let is_name = |at: &usize| {
            clause.roles[*at] == Role::Content && matches!(clause.tokens[*at].kind, Kind::Word | Kind::Quoted)
        };
        let name: Vec<&str> =
            (from.min(*url)..*url).filter(is_name).map(|at| clause.tokens[at].text.as_str()).collect();
        bound.used.extend(from.min(*url)..=*url);
        if name.is_empty() {
            bound.unfit.insert(target.name.to_owned(), Some(clause.tokens[*url].text.clone()));
            return;
        }
        let mut map = serde_json::Map::new();
        map.insert(keys.0.clone(), Json::from(name.join(" ")));
        map.insert(keys.1.clone(), Json::from(clause.tokens[*url].text.trim_end_matches('/')));
        items.push(Json::Object(map));
        from = url + 1;
    }
    bound.set(target.name, Json::Array(items));
}

/// The example that a description gives: `such as nas01:2342`.
fn example(variable: &Variable) -> Option<String> {
    let text = &variable.description;
    let rest = ["such as ", "e.g. ", "for example ", "like ", "z.B. "].iter().find_map(|mark| text.split_once(mark))?.1;
    let word = rest.split_whitespace().next()?.trim_end_matches(['.', ',', ';', ')']);
    (!word.is_empty()).then(|| word.trim_matches(['`', '"', '\'']).to_owned())
}

/// The coarse shape of a value: a name with dots, a host with a port, a number, a path, a word.
fn shape(text: &str) -> &'static str {
    let port = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    if text.contains("://") {
        "address"
    } else if port {
        "host with port"
    } else if text.contains('/') {
        "path"
    } else if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        "number"
    } else if text.contains('.') {
        "dotted name"
    } else {
        "word"
    }
}
