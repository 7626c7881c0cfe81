use std::path::Path;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn generated_files_are_fresh() {
    for (path, text) in chiffon_schemas::generated_files() {
        let known = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
        assert!(known == text, "{path} is stale: run `make gen` and commit what it writes");
    }
}

#[test]
fn every_pattern_of_a_schema_is_judged_by_its_type() {
    // `broken_form` answers an unknown pattern with the pattern itself; a valid sample of each must pass.
    let oid = "a".repeat(40);
    let request = format!(
        "apiVersion: chiffon/v1\nkind: Evidence\nspec:\n  plan: {oid}\n  mode: static\n  hosts: {{nas01: {{tasks: 1, foreseen: 1}}}}\n  opaque: []\n"
    );
    let found = chiffon_schemas::read_evidence("e.yaml", request.as_bytes()).err().unwrap_or_default();
    assert!(found.is_empty(), "{found:?}");
}
