//! Questions to the person who asked, and their answers in `spec.answers`.

use std::collections::BTreeSet;

use chiffon_core::catalogue::{Entry, VarKind};
use chiffon_schemas::{Code, Host, Json};

use crate::answer::{About, Answer, Choice, Problem, Question};
use crate::bind;
use crate::choose::MAX_CHOICES;
use crate::clause::Clause;
use crate::cover::Cover;
use crate::hosts;
use crate::plan::{Ended, Work, did_you_mean};
use crate::words;

/// The most questions that one answer asks.
const MAX_QUESTIONS: usize = 3;

impl Work<'_, '_> {
    /// The entry that `spec.answers` chose, or a question.
    pub(crate) fn ask_playbook(
        &mut self,
        clause: &Clause,
        number: usize,
        items: Vec<(usize, Cover)>,
    ) -> Ended<Option<(usize, Cover)>> {
        let entries = &self.index.catalogue.entries;
        let readable: Vec<(usize, Cover)> =
            items.into_iter().filter(|(at, _)| entries[*at].unreadable.is_none()).collect();
        let wanted: BTreeSet<Host> = clause.places.hosts.clone();
        let reaches = |at: usize| wanted.is_empty() || entries[at].hosts().iter().any(|host| wanted.contains(*host));
        let reaching: Vec<(usize, Cover)> = readable.iter().filter(|(at, _)| reaches(*at)).cloned().collect();
        let items = if reaching.is_empty() { readable } else { reaching };
        let id = format!("playbook-{number}");
        if let Some(answer) = self.input.request.spec.answers.get(&id) {
            self.answered.insert(id.clone());
            let same = |at: usize| entries[at].playbook.as_str() == answer || entries[at].playbook.stem() == answer;
            if let Some(found) = items.iter().find(|(at, _)| same(*at)) {
                return Ok(Some(found.clone()));
            }
            let near = words::nearest(answer, items.iter().map(|(at, _)| entries[*at].playbook.as_str()));
            return Err(self.bad_answer(&id, answer, did_you_mean(&near)));
        }
        if items.len() > MAX_CHOICES || items.is_empty() {
            let nearest: Vec<usize> = items.iter().map(|(at, _)| *at).take(5).collect();
            let reason = "too many playbooks fit; say which service is meant".to_owned();
            return Err(self.nothing_near(reason, &nearest));
        }
        let mut choices: Vec<Choice> = items
            .iter()
            .map(|(at, _)| Choice {
                value: entries[*at].playbook.as_str().to_owned(),
                label: entries[*at].title.clone(),
            })
            .collect();
        choices.sort_by(|a, b| a.value.cmp(&b.value));
        let said: Vec<&str> = clause.tokens.iter().map(|token| token.text.as_str()).collect();
        let text = format!("Which playbook is meant by `{}`?", words::limit(&said.join(" "), 120));
        self.ask(Question { id, text, about: About::Playbook, variable: None, choices });
        Ok(None)
    }

    pub(crate) fn ask_host(&mut self, id: &str, text: String, hosts: &[Host]) -> Option<Host> {
        if let Some(answer) = self.input.request.spec.answers.get(id)
            && let Some(host) = hosts.iter().find(|host| host.as_str() == answer)
        {
            self.answered.insert(id.to_owned());
            return Some(host.clone());
        }
        let choices =
            hosts.iter().map(|host| Choice { value: host.as_str().to_owned(), label: host.as_str().to_owned() });
        let choices = choices.collect();
        self.ask(Question { id: id.to_owned(), text, about: About::Host, variable: None, choices });
        None
    }

    /// Asks for a variable, unless `spec.answers` has a value for it that fits.
    pub(crate) fn ask_variable(
        &mut self,
        entry: &Entry,
        name: &str,
        text: String,
    ) -> Ended<Option<(Json, Vec<String>)>> {
        let Some(variable) = entry.variables.get(name) else { return Ok(None) };
        let id = format!("var-{}", words::slug(name));
        let portals =
            bind::portal_keys(&variable.kind).and_then(|keys| bind::existing_portals(&keys, self.input.catalogue));
        if let Some(answer) = self.input.request.spec.answers.get(&id) {
            self.answered.insert(id.clone());
            if let (Some(portals), "existing") = (&portals, answer.as_str()) {
                return Ok(Some(portals.clone()));
            }
            let value = bind::from_text(answer, &variable.kind);
            return match value.filter(|value| chiffon_core::refused_value(value).is_none()) {
                Some(value) => Ok(Some((value, Vec::new()))),
                None => Err(self.bad_answer(&id, answer, Some(format!("it takes {}", variable.kind.describe())))),
            };
        }
        let mut choices: Vec<Choice> = match &variable.kind {
            VarKind::Choice(values) => values.iter().map(choice_of).collect(),
            VarKind::Bool => [true, false].map(Json::from).iter().map(choice_of).collect(),
            _ => Vec::new(),
        };
        if portals.is_some() {
            let names: Vec<String> = self.input.catalogue.portals.iter().map(|portal| portal.name.clone()).collect();
            let label = format!("the {} that the repository names: {}", names.len(), hosts::listed(&names));
            choices.push(Choice { value: "existing".to_owned(), label });
        }
        self.ask(Question { id, text, about: About::Variable, variable: Some(name.to_owned()), choices });
        Ok(None)
    }

    fn ask(&mut self, question: Question) {
        if self.questions.len() < MAX_QUESTIONS && !self.questions.iter().any(|known| known.id == question.id) {
            self.questions.push(question);
        }
    }

    fn bad_answer(&self, id: &str, answer: &str, help: Option<String>) -> Box<Answer> {
        Box::new(Answer::Invalid(vec![Problem {
            code: Code::UnknownAnswer,
            field: format!("spec.answers.{id}"),
            message: format!("`{}` is no answer to this question", words::limit(answer, 80)),
            help,
        }]))
    }
}

fn choice_of(value: &Json) -> Choice {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Choice { value: text.clone(), label: text }
}
