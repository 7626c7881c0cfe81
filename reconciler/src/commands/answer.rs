//! `chiffon answer`: shows the questions of a blocked request, or writes answers into its file.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use chiffon_core::State;
use chiffon_core::facts::{Blocked, Question};
use chiffon_schemas::{Json, Request, yaml};
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
    let answers = parse(&args.answers, questions)?;
    let path = facts.path.clone();
    let commit = person::push(desk, |tip| {
        let entry = desk.requests.blob_at(tip, &path)?.with_context(|| format!("{path} is gone"))?;
        let limit = yaml::Limits::REQUEST.max_bytes as u64;
        let text =
            String::from_utf8(desk.requests.read_blob(&entry.oid, limit)?).context("the request is not UTF-8")?;
        let bytes = with_answers(path.as_str(), &text, &answers)?;
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

/// `ID=VALUE`s, or a lone value where there is one question.
fn parse(texts: &[String], questions: &[Question]) -> Result<BTreeMap<String, String>> {
    let mut answers = BTreeMap::new();
    for text in texts {
        let (id, value) = match (text.split_once('='), questions) {
            (Some((id, value)), _) => (id, value),
            (None, [only]) => (only.id.as_str(), text.as_str()),
            (None, _) => bail!("`{text}`: write ID=VALUE, since there are several questions"),
        };
        let Some(question) = questions.iter().find(|question| question.id == id) else {
            let ids: Vec<&str> = questions.iter().map(|question| question.id.as_str()).collect();
            match chiffon_schemas::nearest(id, ids.iter().copied()) {
                Some(near) => bail!("there is no question `{id}`: did you mean `{near}`?"),
                None => bail!("there is no question `{id}`; there are {}", ids.join(", ")),
            }
        };
        let choices: Vec<&str> = question.choices.iter().map(|(value, _)| value.as_str()).collect();
        if !choices.is_empty() && !choices.contains(&value) {
            match chiffon_schemas::nearest(value, choices.iter().copied()) {
                Some(near) => bail!("`{value}` is no answer to {id}: did you mean `{near}`?"),
                None => bail!("`{value}` is no answer to {id}; choose from {}", choices.join(", ")),
            }
        }
        answers.insert(id.to_owned(), value.to_owned());
    }
    Ok(answers)
}

/// The request's text with answers added. What the person wrote stays as it is, comments included, where the file is
/// in block style; otherwise it is written anew.
fn with_answers(file: &str, text: &str, answers: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let read = |bytes: &[u8]| chiffon_schemas::read_request(file, bytes);
    let mut wanted: Request = read(text.as_bytes()).map_err(|_| anyhow::anyhow!("{file} can't be read"))?;
    let edited = if wanted.spec.answers.is_empty() { appended(text, answers) } else { amended(text, answers) };
    wanted.spec.answers.extend(answers.clone());
    if let Some(edited) = edited
        && read(edited.as_bytes()).is_ok_and(|request| request == wanted)
    {
        return Ok(edited.into_bytes());
    }
    Ok(chiffon_schemas::to_yaml(&wanted).into_bytes())
}

/// `answers:` as the last field of a `spec` that is the file's last block.
fn appended(text: &str, answers: &BTreeMap<String, String>) -> Option<String> {
    let node = yaml::parse(text, &yaml::Limits::REQUEST).ok()?;
    let spec = node.get("spec")?;
    let column = spec.entries().first()?.0.span.column;
    let indent = " ".repeat(usize::try_from(column.checked_sub(1)?).ok()?);
    let mut out = text.trim_end().to_owned();
    out.push_str(&format!("\n{indent}answers:\n"));
    for line in chiffon_schemas::to_yaml(answers).lines() {
        out.push_str(&format!("{indent}  {line}\n"));
    }
    Some(out)
}

/// More entries, or other values, in the `answers:` that are there, in block style.
fn amended(text: &str, answers: &BTreeMap<String, String>) -> Option<String> {
    let node = yaml::parse(text, &yaml::Limits::REQUEST).ok()?;
    let there = node.get("spec")?.get("answers")?.entries();
    let indent = " ".repeat(usize::try_from(there.first()?.0.span.column.checked_sub(1)?).ok()?);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut after = 0;
    for (key, value) in there {
        let at = usize::try_from(value.span.line.checked_sub(1)?).ok()?;
        after = after.max(usize::try_from(value.span.end_line).ok()?);
        let Some(answer) = key.as_str().and_then(|key| answers.get(key)) else { continue };
        let column = usize::try_from(value.span.column.checked_sub(1)?).ok()?;
        let end = usize::try_from(value.span.end_column.checked_sub(1)?).ok()?;
        let scalar = chiffon_schemas::to_yaml(&BTreeMap::from([("v", answer)]));
        let scalar = scalar.trim_end().strip_prefix("v: ")?.to_owned();
        let line: Vec<char> = lines.get(at)?.chars().collect();
        lines[at] =
            line.get(..column)?.iter().chain(&scalar.chars().collect::<Vec<_>>()).chain(line.get(end..)?).collect();
    }
    let known = |id: &String| there.iter().any(|(key, _)| key.as_str() == Some(id));
    let new: BTreeMap<&String, &String> = answers.iter().filter(|(id, _)| !known(id)).collect();
    let new = if new.is_empty() { String::new() } else { chiffon_schemas::to_yaml(&new) };
    for (offset, line) in new.lines().enumerate() {
        lines.insert(after + offset, format!("{indent}{line}"));
    }
    Some(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_what_the_person_wrote_as_it_is() {
        let text = "# mine\napiVersion: chiffon/v1\nkind: Request\nspec:\n  text: Deploy it   # here\n";
        let answers = BTreeMap::from([("hosts-deploy".to_owned(), "nas01".to_owned())]);
        let bytes = with_answers("requests/a.yaml", text, &answers).unwrap();
        let edited = String::from_utf8(bytes).unwrap();
        assert!(edited.starts_with(text.trim_end()), "{edited}");
        assert!(edited.contains("  answers:\n    hosts-deploy: nas01\n"), "{edited}");
    }

    #[test]
    fn answers_in_flow_style_are_kept_by_writing_the_file_anew() {
        let text = "{apiVersion: chiffon/v1, kind: Request, spec: {text: Deploy it}}\n";
        let answers = BTreeMap::from([("hosts-deploy".to_owned(), "nas01".to_owned())]);
        let bytes = with_answers("requests/a.yaml", text, &answers).unwrap();
        let request = chiffon_schemas::read_request("requests/a.yaml", &bytes).unwrap();
        assert_eq!(request.spec.answers, answers);
    }
}
