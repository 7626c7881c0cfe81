//! The kept corpus of `make fuzz`, replayed without a fuzzer.

use std::path::Path;

use chiffon_schemas::yaml::{Limits, parse_all};
use chiffon_schemas::{read_evidence, read_plan, read_request};

#[test]
fn s8_the_kept_corpus_is_read_without_a_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/documents");
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 50, "{} files", files.len());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let bomb = file.file_name().unwrap().to_str().unwrap().starts_with("bomb-");
        let request = read_request("any.yaml", &bytes);
        let _ = read_plan("any.yaml", &bytes);
        let _ = read_evidence("any.yaml", &bytes);
        let foreign = std::str::from_utf8(&bytes).map(|text| parse_all(text, &Limits::INFRA));
        if bomb {
            assert!(request.is_err() && foreign.unwrap().is_err(), "{} was taken", file.display());
        }
    }
}
