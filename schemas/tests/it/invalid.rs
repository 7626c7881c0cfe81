use std::collections::BTreeSet;
use std::path::PathBuf;

use chiffon_schemas::{Code, Diagnostic, read_request};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../requests/invalid"))
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn diagnose(path: &PathBuf) -> Vec<Diagnostic> {
    let name = path.file_name().unwrap().to_str().unwrap();
    read_request(name, &std::fs::read(path).unwrap()).err().unwrap_or_default()
}

#[test]
fn every_wrong_file_is_answered_as_expected() {
    assert!(files().len() >= 15);
    for path in files() {
        let found = diagnose(&path);
        assert!(!found.is_empty(), "{} was taken", path.display());
        let text: Vec<String> = found.iter().map(|found| found.render(false)).collect();
        let expected = std::fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
        assert_eq!(text.join("\n"), expected, "{}: look, then `make gen`", path.display());
    }
}

#[test]
fn all_mistakes_of_a_file_come_in_one_pass_and_in_order() {
    let found = diagnose(&folder().join("several-mistakes.yaml"));
    let codes: Vec<Code> = found.iter().map(|found| found.code).collect();
    assert_eq!(
        codes,
        [Code::WrongValue, Code::WrongValue, Code::UnknownField, Code::MissingField, Code::OutOfRange, Code::WrongType]
    );
    assert!(found.windows(2).all(|pair| (pair[0].line, pair[0].column) <= (pair[1].line, pair[1].column)));
}

#[test]
fn json_has_stable_keys() {
    let found = diagnose(&folder().join("unknown-field.yaml"));
    let json = serde_json::to_value(&found[0]).unwrap();
    let keys: BTreeSet<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["code", "column", "end_column", "file", "help", "label", "line", "message", "source"];
    assert_eq!(keys, BTreeSet::from(expected));
    assert_eq!(json["code"], "CHF0003");
    assert_eq!(json["help"], "did you mean `targets`?");
}

#[test]
fn s9_no_control_character_of_a_file_reaches_a_terminal() {
    for path in files() {
        for found in diagnose(&path) {
            let text = found.render(false);
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{}: {text:?}", path.display());
            assert!(!text.contains('\u{202e}'), "{}", path.display());
        }
    }
}

#[test]
fn carriage_returns_and_a_byte_order_mark_are_taken() {
    let text = "\u{feff}apiVersion: chiffon/v1\r\nkind: Request\r\nspec:\r\n  text: Deploy Jellyfin\r\n";
    let request = read_request("a.yaml", text.as_bytes()).unwrap();
    assert_eq!(request.spec.text, "Deploy Jellyfin");
}
