//! Changes of a request's file that a person asks for in words. What they wrote stays as it is, comments included, where the
//! file is in block style; otherwise it is written anew.

use std::collections::BTreeMap;

use anyhow::Result;
use chiffon_schemas::{Request, yaml};

/// The request's text with one more sentence that amends it. One that is the last already is not added again.
///
/// # Errors
/// The text is no request.
pub fn with_change(file: &str, text: &str, change: &str) -> Result<Vec<u8>> {
    let read = |bytes: &[u8]| chiffon_schemas::read_request(file, bytes);
    let mut wanted: Request = read(text.as_bytes()).map_err(|_| anyhow::anyhow!("{file} can't be read"))?;
    if wanted.spec.changes.last().is_some_and(|last| last == change) {
        return Ok(text.as_bytes().to_vec());
    }
    let changes = vec![change.to_owned()];
    let edited =
        if wanted.spec.changes.is_empty() { appended(text, "changes", &changes) } else { one_more(text, change) };
    wanted.spec.changes.push(change.to_owned());
    if let Some(edited) = edited
        && read(edited.as_bytes()).is_ok_and(|request| request == wanted)
    {
        return Ok(edited.into_bytes());
    }
    Ok(chiffon_schemas::to_yaml(&wanted).into_bytes())
}

/// One more item of the `changes:` that are there, in block style.
fn one_more(text: &str, change: &str) -> Option<String> {
    let node = yaml::parse(text, &yaml::Limits::REQUEST).ok()?;
    let last = node.get("spec")?.get("changes")?.items().last()?.span;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let first = lines.get(usize::try_from(last.line.checked_sub(1)?).ok()?)?.clone();
    let dash = first.find('-')?;
    let item = chiffon_schemas::to_yaml(&[change]);
    let item = item.trim_end().lines().map(|line| format!("{}{line}", " ".repeat(dash)));
    let after = usize::try_from(last.end_line).ok()?;
    lines.splice(after..after, item);
    Some(lines.join("\n") + "\n")
}

/// The request's text with answers added.
///
/// # Errors
/// The text is no request.
pub fn with_answers(file: &str, text: &str, answers: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let read = |bytes: &[u8]| chiffon_schemas::read_request(file, bytes);
    let mut wanted: Request = read(text.as_bytes()).map_err(|_| anyhow::anyhow!("{file} can't be read"))?;
    let edited =
        if wanted.spec.answers.is_empty() { appended(text, "answers", answers) } else { amended(text, answers) };
    wanted.spec.answers.extend(answers.clone());
    if let Some(edited) = edited
        && read(edited.as_bytes()).is_ok_and(|request| request == wanted)
    {
        return Ok(edited.into_bytes());
    }
    Ok(chiffon_schemas::to_yaml(&wanted).into_bytes())
}

/// A field as the last one of a `spec` that is the file's last block.
fn appended(text: &str, field: &str, value: &impl serde::Serialize) -> Option<String> {
    let node = yaml::parse(text, &yaml::Limits::REQUEST).ok()?;
    let spec = node.get("spec")?;
    let column = spec.entries().first()?.0.span.column;
    let indent = " ".repeat(usize::try_from(column.checked_sub(1)?).ok()?);
    let mut out = text.trim_end().to_owned();
    out.push_str(&format!("\n{indent}{field}:\n"));
    for line in chiffon_schemas::to_yaml(value).lines() {
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

    #[test]
    fn a_change_is_one_more_sentence_beneath_what_the_person_wrote() {
        let text = "# mine\napiVersion: chiffon/v1\nkind: Request\nspec:\n  text: Deploy it   # here\n";
        let once = with_change("requests/a.yaml", text, "only on nas01: really").unwrap();
        let once = String::from_utf8(once).unwrap();
        assert!(once.starts_with(text.trim_end()), "{once}");
        let twice = String::from_utf8(with_change("requests/a.yaml", &once, "- and at night #1").unwrap()).unwrap();
        assert!(twice.starts_with(once.trim_end()), "{twice}");
        let request = chiffon_schemas::read_request("requests/a.yaml", twice.as_bytes()).unwrap();
        assert_eq!(request.spec.changes, ["only on nas01: really", "- and at night #1"]);
        let again = with_change("requests/a.yaml", &twice, "- and at night #1").unwrap();
        assert_eq!(again, twice.as_bytes(), "said twice, it is one change");
        let flow = "{apiVersion: chiffon/v1, kind: Request, spec: {text: Deploy it, changes: [a]}}\n";
        let request = with_change("requests/a.yaml", flow, "b").unwrap();
        assert_eq!(chiffon_schemas::read_request("requests/a.yaml", &request).unwrap().spec.changes, ["a", "b"]);
    }
}
