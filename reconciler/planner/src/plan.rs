//! From a request to a plan, questions, or a refusal: pure and deterministic, no model.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::catalogue::Entry;
use chiffon_schemas::{Code, Host, Json, PlannerKind};

use crate::answer::{Answer, Input, Nearest, Problem, Question};
use crate::choose::{self, Chosen, Context};
use crate::clause::{self, Clause, Places};
use crate::cover::{self, Cover};
use crate::hosts;
use crate::index::Index;
use crate::lexicon::{self, Intent};
use crate::sentence::{self, Join};
use crate::steps::{self, Draft};
use crate::words;

/// The most steps that one request may become.
const MAX_STEPS: usize = 16;

/// Answers a request.
pub fn plan(input: &Input<'_>) -> Answer {
    let index = Index::new(input.catalogue);
    let mut work = Work { input, index: &index, questions: Vec::new(), answered: BTreeSet::new(), chosen: Vec::new() };
    match work.run() {
        Ok(drafts) if work.questions.is_empty() => {
            if let Some(problems) = work.unused() {
                return Answer::Invalid(problems);
            }
            let reason = "one clear match for each clause, no model needed".to_owned();
            match steps::assemble(input, drafts, PlannerKind::Catalogue, reason) {
                Ok(planned) => Answer::Plan(Box::new(planned)),
                Err(reason) => Answer::Nothing { reason, nearest: Vec::new() },
            }
        }
        Ok(_) => match work.unused() {
            Some(problems) => Answer::Invalid(problems),
            None => Answer::Questions(std::mem::take(&mut work.questions)),
        },
        Err(answer) => *answer,
    }
}

/// What is known so far; an early end is an answer of its own.
pub(crate) struct Work<'a, 'i> {
    pub(crate) input: &'a Input<'i>,
    pub(crate) index: &'a Index<'i>,
    pub(crate) questions: Vec<Question>,
    /// Ids of questions that `spec.answers` answered.
    pub(crate) answered: BTreeSet<String>,
    /// Entries that earlier clauses chose, for answers that have to name what is near.
    chosen: Vec<usize>,
}

pub(crate) type Ended<T> = Result<T, Box<Answer>>;

impl<'i> Work<'_, 'i> {
    fn run(&mut self) -> Ended<Vec<Draft<'i>>> {
        let spec = &self.input.request.spec;
        let mut context = self.first_context()?;
        let targets = self.targets();
        let mut drafts: Vec<Draft<'i>> = Vec::new();
        let mut last_places = Places::default();
        let mut number = 0;
        let sentences = std::iter::once(&spec.text).chain(&spec.changes);
        for (round, text) in sentences.enumerate() {
            let clauses = clause::clauses(sentence::fragments(text), self.index);
            self.refuse_negations(text, &clauses)?;
            self.refuse_questions(text, &clauses)?;
            if clauses.is_empty() {
                return Err(
                    self.nothing(format!("`{}` asks for nothing that can be planned", words::limit(text, 80)), &[])
                );
            }
            for clause in clauses {
                number += 1;
                if round > 0 && self.amends(&clause, drafts.last()) {
                    self.amend(&clause, &mut drafts, &targets)?;
                    continue;
                }
                let Some(draft) = self.clause(&clause, number, &context, &last_places, &targets)? else { continue };
                context = Context { services: draft.entry.services.clone(), by_request: false };
                if !clause.places.is_empty() {
                    last_places = clause.places.clone();
                }
                add(&mut drafts, draft, round > 0).map_err(|reason| self.nothing(reason, &[]))?;
                if drafts.len() > MAX_STEPS {
                    return Err(self.nothing(format!("more than {MAX_STEPS} steps are too many for one request"), &[]));
                }
            }
        }
        self.refuse_contradictions(&drafts)?;
        self.request_variables(&mut drafts)?;
        self.missing_variables(&mut drafts)?;
        Ok(drafts)
    }

    fn first_context(&self) -> Ended<Context> {
        let Some(service) = &self.input.request.spec.service else { return Ok(Context::default()) };
        let wanted = words::slug(service);
        let known: BTreeSet<&str> =
            self.input.catalogue.entries.iter().flat_map(|entry| &entry.services).map(String::as_str).collect();
        let by_file = |entry: &&Entry| words::without_intents(entry.playbook.stem()) == wanted;
        let services: Vec<String> = match known.contains(wanted.as_str()) {
            true => vec![wanted],
            false => {
                self.input.catalogue.entries.iter().filter(by_file).flat_map(|entry| entry.services.clone()).collect()
            }
        };
        if services.is_empty() {
            let near = words::nearest(service, known.into_iter());
            return Err(Box::new(Answer::Invalid(vec![Problem {
                code: Code::WrongValue,
                field: "spec.service".to_owned(),
                message: format!("no playbook is about `{service}`"),
                help: did_you_mean(&near),
            }])));
        }
        Ok(Context { services, by_request: true })
    }

    /// The hosts of `targets`; unknown ones become questions, which end nothing yet.
    fn targets(&mut self) -> Vec<(String, BTreeSet<Host>)> {
        let inventory = &self.input.catalogue.inventory;
        let mut found = Vec::new();
        for target in &self.input.request.spec.targets {
            if let Some(hosts) = inventory.named(target.as_str()) {
                found.push((target.as_str().to_owned(), hosts));
            } else if let Some(near) = cover::hosts_near(&words::fold(target.as_str()), self.index) {
                let id = format!("target-{}", words::slug(target.as_str()));
                let text = format!("The inventory has no `{target}`. Which host is meant?");
                if let Some(host) = self.ask_host(&id, text, &near) {
                    found.push((host.as_str().to_owned(), BTreeSet::from([host])));
                }
            } else {
                // No host fits: whatever is chosen then, the step has none.
                found.push((target.as_str().to_owned(), BTreeSet::new()));
            }
        }
        found
    }

    fn refuse_negations(&self, text: &str, clauses: &[Clause]) -> Ended<()> {
        let negation = clauses.iter().flat_map(|clause| &clause.tokens).find(|token| token.is_word(lexicon::NEGATIONS));
        let also = words::fold(text).contains("n't ");
        if negation.is_none() && !also {
            return Ok(());
        }
        let word = negation.map_or("not", |token| token.text.as_str());
        let reason = format!("the sentence holds `{word}`; say what is to be done, and leave out what is not");
        Err(self.nothing(reason, clauses))
    }

    /// "Is it deployed?" asks for an answer, and a plan is none.
    fn refuse_questions(&self, text: &str, clauses: &[Clause]) -> Ended<()> {
        let first = words::split(text).into_iter().next().unwrap_or_default();
        if lexicon::QUESTIONS.contains(&first.as_str()) {
            return Err(self.nothing("the sentence is a question; say what is to be done".to_owned(), clauses));
        }
        Ok(())
    }

    fn clause(
        &mut self,
        clause: &Clause,
        number: usize,
        context: &Context,
        last_places: &Places,
        targets: &[(String, BTreeSet<Host>)],
    ) -> Ended<Option<Draft<'i>>> {
        let (at, cover) = match choose::choose(clause, context, self.index) {
            Chosen::One(at, cover) => (at, *cover),
            Chosen::Several(items) => match self.ask_playbook(clause, number, items)? {
                Some(chosen) => chosen,
                None => return Ok(None),
            },
            Chosen::None { unexplained, nearest } => return Err(self.not_found(clause, &unexplained, &nearest)),
        };
        self.chosen.push(at);
        let entry = &self.index.catalogue.entries[at];
        if let Some(reason) = &entry.unreadable {
            return Err(self.nothing_near(format!("{} can't be planned with: {reason}", entry.playbook), &[at]));
        }
        if let Some(reason) = &cover.bound.refused {
            return Err(self.nothing_near(reason.clone(), &[at]));
        }
        if let Some(name) = &cover.bound.twice {
            return Err(self.nothing_near(format!("`{name}` is given two different values"), &[at]));
        }
        let mut places = clause.places.clone();
        if let Some((word, near)) = &cover.near_host {
            let id = format!("hosts-{number}");
            match self.ask_host(&id, format!("The inventory has no `{word}`. Which host is meant?"), near) {
                Some(host) => drop(places.hosts.insert(host)),
                None => return Ok(None),
            }
        }
        let inherited = places.is_empty();
        let used = if inherited { last_places } else { &places };
        let bound = hosts::bind(entry, used, targets, inherited, &self.index.catalogue.inventory);
        let (limit, mut notes) = match bound {
            hosts::Bound::Hosts(hosts, notes) => (hosts, notes),
            hosts::Bound::None(reason) => return Err(self.nothing_near(reason, &[at])),
            hosts::Bound::Ask(text, choices) => match self.ask_host(&format!("hosts-{number}"), text, &choices) {
                Some(host) => (vec![host], Vec::new()),
                None => return Ok(None),
            },
        };
        notes.extend(cover.bound.notes.iter().cloned());
        notes.extend(cover.spelled.iter().map(|(said, read)| format!("`{said}` was read as `{read}`")));
        if inherited && !last_places.is_empty() && limit.len() < entry.hosts().len() {
            notes.push(format!("{} names no host, so it is for the hosts named before", entry.title));
        }
        self.unfit_values(entry, &cover)?;
        Ok(Some(Draft {
            entry,
            limit,
            vars: cover.bound.values,
            found: cover.bound.found,
            then: clause.join == Join::Then,
            intents: clause.intents.clone(),
            notes,
        }))
    }

    /// Values that a variable does not take become questions.
    fn unfit_values(&mut self, entry: &Entry, cover: &Cover) -> Ended<()> {
        for (name, value) in &cover.bound.unfit {
            if self.input.request.spec.vars.contains_key(name) {
                continue;
            }
            let Some(variable) = entry.variables.get(name) else { continue };
            let kind = variable.kind.describe();
            let text = match value {
                Some(value) => {
                    format!("`{value}` is no value for `{name}` of {}: it takes {kind}. Which is it?", entry.playbook)
                }
                None => format!("Which value should `{name}` of {} have? It takes {kind}.", entry.playbook),
            };
            self.ask_variable(entry, name, text)?;
        }
        Ok(())
    }

    /// Whether a later sentence only changes hosts or values of what is planned already.
    fn amends(&self, clause: &Clause, last: Option<&Draft<'_>>) -> bool {
        let names_nothing = match choose::choose(clause, &Context::default(), self.index) {
            Chosen::One(..) => false,
            Chosen::Several(_) => clause.content().next().is_none(),
            Chosen::None { .. } => true,
        };
        let no_task = clause.intents.is_empty() || clause.intents.contains(&Intent::Configure);
        last.is_some() && names_nothing && (no_task || clause.content().next().is_none())
    }

    fn amend(&mut self, clause: &Clause, drafts: &mut [Draft<'i>], targets: &[(String, BTreeSet<Host>)]) -> Ended<()> {
        let Some(last) = drafts.last_mut() else { return Ok(()) };
        let at = self.index.catalogue.entries.iter().position(|entry| entry.playbook == last.entry.playbook);
        let Some(at) = at else { return Ok(()) };
        let cover = cover::cover(clause, at, self.index);
        if !cover.complete()
            || cover.near_host.is_some()
            || cover.bound.refused.is_some()
            || cover.bound.twice.is_some()
        {
            return Err(self.not_found(clause, &cover.unexplained, &[at]));
        }
        if !clause.places.is_empty() {
            match hosts::bind(last.entry, &clause.places, targets, false, &self.index.catalogue.inventory) {
                hosts::Bound::Hosts(hosts, notes) => {
                    last.limit = hosts;
                    last.notes.extend(notes);
                }
                hosts::Bound::None(reason) | hosts::Bound::Ask(reason, _) => {
                    return Err(self.nothing_near(reason, &[at]));
                }
            }
        }
        last.found.retain(|name, _| !cover.bound.values.contains_key(name));
        last.vars.extend(cover.bound.values.clone());
        last.found.extend(cover.bound.found.clone());
        let entry = last.entry;
        self.unfit_values(entry, &cover)
    }

    /// Installing and removing the same thing side by side means nothing.
    fn refuse_contradictions(&self, drafts: &[Draft<'_>]) -> Ended<()> {
        for (at, a) in drafts.iter().enumerate() {
            for b in &drafts[at + 1..] {
                let same = a.entry.services.iter().any(|service| b.entry.services.contains(service));
                let opposed = |x: &Draft<'_>, y: &Draft<'_>| {
                    x.intents.contains(&Intent::Remove) && !y.intents.contains(&Intent::Remove)
                };
                if same && !b.then && (opposed(a, b) || opposed(b, a)) {
                    let reason = format!("{} and {} contradict each other", a.entry.playbook, b.entry.playbook);
                    let index =
                        |entry: &Entry| self.input.catalogue.entries.iter().position(|e| e.playbook == entry.playbook);
                    let near: Vec<usize> = [index(a.entry), index(b.entry)].into_iter().flatten().collect();
                    return Err(self.nothing_near(reason, &near));
                }
            }
        }
        Ok(())
    }

    /// Hands `spec.vars` to the steps that declare them; they win over the sentence.
    fn request_variables(&mut self, drafts: &mut [Draft<'i>]) -> Ended<()> {
        let vars = &self.input.request.spec.vars;
        let mut problems = Vec::new();
        for (name, value) in vars {
            let field = format!("spec.vars.{name}");
            let refused = chiffon_core::refused_name(name).or_else(|| chiffon_core::refused_value(value));
            let takers: Vec<&mut Draft<'i>> =
                drafts.iter_mut().filter(|draft| draft.entry.variables.contains_key(name)).collect();
            if let Some(reason) = refused {
                let (code, message) = (Code::BadVariableName, format!("`{name}` {reason}"));
                problems.push(Problem { code, field, message, help: None });
                continue;
            }
            if takers.is_empty() && self.questions.is_empty() {
                let known: Vec<&str> =
                    drafts.iter().flat_map(|draft| draft.entry.variables.keys()).map(String::as_str).collect();
                let playbooks: Vec<String> = drafts.iter().map(|draft| draft.entry.playbook.to_string()).collect();
                let message = format!("{} takes no variable `{name}`", hosts::listed(&playbooks));
                let help = did_you_mean(&words::nearest(name, known.into_iter()));
                problems.push(Problem { code: Code::UnknownVariable, field, message, help });
                continue;
            }
            for draft in takers {
                let kind = &draft.entry.variables[name].kind;
                if kind.accepts(value) {
                    draft.vars.insert(name.clone(), value.clone());
                    draft.found.remove(name);
                } else {
                    let message = format!("`{name}` of {} takes {}", draft.entry.playbook, kind.describe());
                    problems.push(Problem { code: Code::WrongType, field: field.clone(), message, help: None });
                }
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        let near: Vec<String> = drafts.iter().map(|draft| draft.entry.playbook.to_string()).collect();
        if let Some(first) = problems.first_mut().filter(|problem| problem.help.is_none() && !near.is_empty()) {
            first.help = Some(format!("planned so far: {}", hosts::listed(&near)));
        }
        Err(Box::new(Answer::Invalid(problems)))
    }

    /// Required variables without a value become questions.
    fn missing_variables(&mut self, drafts: &mut [Draft<'i>]) -> Ended<()> {
        for draft in drafts {
            let entry = draft.entry;
            for (name, variable) in &entry.variables {
                let unfit = self.input.request.spec.answers.contains_key(&format!("var-{}", words::slug(name)));
                if draft.vars.contains_key(name) || !(variable.required || unfit) {
                    continue;
                }
                let about = if variable.description.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", variable.description.trim_end_matches('.'))
                };
                let text = format!(
                    "Which value should `{name}`{about} have for {}? It takes {}.",
                    entry.playbook,
                    variable.kind.describe()
                );
                if let Some((value, found)) = self.ask_variable(entry, name, text)? {
                    draft.vars.insert(name.clone(), value);
                    if !found.is_empty() {
                        draft.found.insert(name.clone(), found);
                    }
                }
            }
        }
        Ok(())
    }

    /// Answers to questions that nobody asks.
    fn unused(&self) -> Option<Vec<Problem>> {
        let asked: BTreeSet<&str> = self
            .answered
            .iter()
            .chain(self.questions.iter().map(|question| &question.id))
            .map(String::as_str)
            .collect();
        let unknown = self.input.request.spec.answers.keys().filter(|id| !asked.contains(id.as_str()));
        let problems: Vec<Problem> = unknown
            .map(|id| Problem {
                code: Code::UnknownAnswer,
                field: format!("spec.answers.{id}"),
                message: "answers a question that is not asked (any more)".to_owned(),
                help: did_you_mean(&words::nearest(id, asked.iter().copied()))
                    .or_else(|| Some("take it out".to_owned())),
            })
            .collect();
        (!problems.is_empty()).then_some(problems)
    }

    fn not_found(&self, clause: &Clause, unexplained: &[String], nearest: &[usize]) -> Box<Answer> {
        let words: Vec<String> =
            unexplained.iter().take(4).map(|word| format!("`{}`", words::limit(word, 40))).collect();
        let reason = match (words.is_empty(), clause.verb.as_deref()) {
            (false, _) => format!("nothing in the catalogue explains {}", hosts::listed(&words)),
            (true, Some(verb)) => format!("no playbook does `{verb}` for what the sentence names"),
            (true, None) => "the sentence names nothing that the catalogue has".to_owned(),
        };
        self.nothing_near(reason, nearest)
    }

    fn nothing(&self, reason: String, clauses: &[Clause]) -> Box<Answer> {
        let mut nearest = Vec::new();
        for clause in clauses {
            match choose::choose(clause, &Context::default(), self.index) {
                Chosen::One(at, _) => nearest.push(at),
                Chosen::Several(items) => nearest.extend(items.iter().map(|(at, _)| *at).take(5)),
                Chosen::None { nearest: near, .. } => nearest.extend(near),
            }
        }
        self.nothing_near(reason, &nearest)
    }

    pub(crate) fn nothing_near(&self, reason: String, nearest: &[usize]) -> Box<Answer> {
        let mut seen = BTreeSet::new();
        let near = self.chosen.iter().chain(nearest).filter(|at| seen.insert(**at)).map(|at| {
            let entry = &self.input.catalogue.entries[*at];
            let why = match entry.services.first() {
                Some(service) => format!("about {service}"),
                None => "shares words with the sentence".to_owned(),
            };
            Nearest { playbook: entry.playbook.clone(), title: entry.title.clone(), why }
        });
        Box::new(Answer::Nothing { reason, nearest: near.take(5).collect() })
    }
}

/// Adds a step, or puts it together with an earlier one of the same playbook.
fn add<'i>(drafts: &mut Vec<Draft<'i>>, draft: Draft<'i>, amending: bool) -> Result<(), String> {
    let Some(known) = drafts.iter_mut().find(|known| known.entry.playbook == draft.entry.playbook) else {
        drafts.push(draft);
        return Ok(());
    };
    if !amending && draft.vars.is_empty() {
        // A clause that adds nothing was probably meant otherwise.
        return Err(format!("{} is asked for twice; say what the second time is for", draft.entry.playbook));
    }
    if amending {
        known.limit = draft.limit;
    } else if known.limit != draft.limit {
        return Err(format!("{} is asked for twice, for different hosts", draft.entry.playbook));
    }
    let clash: BTreeMap<&String, &Json> =
        draft.vars.iter().filter(|(name, value)| known.vars.get(*name).is_some_and(|other| other != *value)).collect();
    if let Some((name, _)) = clash.first_key_value().filter(|_| !amending) {
        return Err(format!("`{name}` is given two different values"));
    }
    known.vars.extend(draft.vars);
    known.found.extend(draft.found);
    known.notes.extend(draft.notes);
    known.intents.extend(draft.intents);
    Ok(())
}

pub(crate) fn did_you_mean(near: &[String]) -> Option<String> {
    (!near.is_empty()).then(|| {
        let quoted: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
        format!("did you mean {}?", quoted.join(" or "))
    })
}
