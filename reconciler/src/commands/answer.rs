//! `chiffon answer`: shows the questions of a blocked request, or writes answers into its file.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use chiffon_core::State;
use chiffon_core::facts::{Blocked, Question};
use chiffon_schemas::{Request, yaml};
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
        let value = json!({ "name": name, "questions": questions });
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
    let had_answers = !wanted.spec.answers.is_empty();
    wanted.spec.answers.extend(answers.clone());
    if !had_answers
        && let Some(edited) = appended(text, answers)
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
