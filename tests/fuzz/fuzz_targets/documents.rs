//! Any bytes as any of our documents and as other people's YAML: no panic, and no input that takes 50 ms (S8).

#![no_main]

use std::time::{Duration, Instant};

use chiffon_schemas::yaml::{self, Limits};
use libfuzzer_sys::fuzz_target;

/// The longest that reading one input may take.
const LIMIT: Duration = Duration::from_millis(50);

fuzz_target!(|bytes: &[u8]| {
    let begun = Instant::now();
    let _ = chiffon_schemas::read_request("any.yaml", bytes);
    let _ = chiffon_schemas::read_plan("any.yaml", bytes);
    let _ = chiffon_schemas::read_evidence("any.yaml", bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = yaml::parse_all(text, &Limits::INFRA);
    }
    assert!(begun.elapsed() < LIMIT, "{} bytes took {:?}", bytes.len(), begun.elapsed());
});
