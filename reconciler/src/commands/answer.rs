//! `chiffon answer`: shows the questions of a blocked request, or writes answers into its file.

use anyhow::{Context, Result, bail};
use chiffon_core::State;
use chiffon_core::facts::{Blocked, Question};
use chiffon_schemas::{Json, yaml};
use serde_json::json;

use super::person::{self, PersonsChange};
use super::{Desk, Exit};
use crate::cli;
use crate::output::{Output, printable};

/// Shows the questions, or answers them.
///
/// # Errors
/// The request asks nothing, an id or a choice is not one of those offered, or the push was refused.
pub async fn run(args: &cli::Answer, desk: &Desk, output: &Output) -> Result<Exit> {
    let name = desk.known(&args.name).await?;
    let Some((facts, world)) = desk.look_at(&name).await? else { bail!("there is no request `{name}`") };
    let state = chiffon_core::state(&facts, &world);
    let State::Blocked(Blocked::Questions { questions }) = &state else {
        bail!("{name} asks nothing: it is {}", state.word());
    };
    if args.answers.is_empty() {
        let value = json!({ "name": name, "questions": questions_in_json(questions) });
        output.result(&value, || questions_in_words(questions).join("\n"));
        return Ok(Exit::Attention);
    }
    let answers = chiffon_core::answers_to(&args.answers, questions).map_err(anyhow::Error::msg)?;
    let path = facts.path.clone();
    let commit = person::push(desk, |tip| {
        let entry = desk.requests.blob_at(tip, &path)?.with_context(|| format!("{path} is gone"))?;
        let limit = yaml::Limits::REQUEST.max_bytes as u64;
        let text =
            String::from_utf8(desk.requests.read_blob(&entry.oid, limit)?).context("the request is not UTF-8")?;
        let bytes = crate::amend::with_answers(path.as_str(), &text, &answers)?;
        Ok(PersonsChange {
            files: vec![(path.clone(), Some(bytes))],
            message: format!("answer: {name}\n"),
            merges: None,
        })
    })?;
    desk.home.touch_wake()?;
    output.result(&json!({ "name": name, "commit": commit, "answers": answers }), || {
        format!("{name}: answered; `chiffon status {name}` says what follows")
    });
    Ok(Exit::Done)
}

/// Questions with the keys that documents promise.
pub fn questions_in_json(questions: &[Question]) -> Vec<Json> {
    let choice = |(value, meaning): &(String, String)| json!({ "value": value, "meaning": meaning });
    let question = |question: &Question| {
        let choices: Vec<Json> = question.choices.iter().map(choice).collect();
        json!({ "id": question.id, "text": question.text, "choices": choices })
    };
    questions.iter().map(question).collect()
}

/// Questions with their choices, for people.
pub fn questions_in_words(questions: &[Question]) -> Vec<String> {
    let mut lines = Vec::new();
    for question in questions {
        lines.push(format!("  {}: {}", question.id, printable(&question.text)));
        for (value, label) in &question.choices {
            lines.push(format!("    {}={}  {}", question.id, printable(value), printable(label)));
        }
    }
    lines
}
