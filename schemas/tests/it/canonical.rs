use std::collections::BTreeMap;

use chiffon_schemas::yaml::{Limits, parse};
use chiffon_schemas::{Json, blob_oid, plan_bytes, read_plan, read_request, to_yaml};
use proptest::prelude::*;

use crate::samples;

#[test]
fn a_plan_reads_back_as_it_was_written() {
    let plan = samples::plan();
    let bytes = plan_bytes(&plan);
    let back = read_plan("plans/uptime-kuma.yaml", &bytes).unwrap_or_else(|found| panic!("{found:#?}"));
    assert_eq!(back, plan);
    assert_eq!(plan_bytes(&back), bytes);
}

#[test]
fn the_object_id_is_the_one_that_git_gives() {
    // `printf 'hello\n' | git hash-object --stdin`
    assert_eq!(blob_oid(b"hello\n").as_str(), "ce013625030ba8dba906f756967f9e9ca394464a");
    assert_eq!(blob_oid(b"").as_str(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}

/// Changes every leaf of a JSON value, one at a time.
fn mutations(value: &Json) -> Vec<Json> {
    match value {
        Json::Object(map) => map
            .iter()
            .flat_map(|(key, inner)| {
                let changed = mutations(inner).into_iter().map(|inner| {
                    let mut map = map.clone();
                    map.insert(key.clone(), inner);
                    Json::Object(map)
                });
                changed.collect::<Vec<_>>()
            })
            .collect(),
        Json::Array(items) => (0..items.len())
            .flat_map(|index| {
                let changed = mutations(&items[index]).into_iter().map(|inner| {
                    let mut items = items.clone();
                    items[index] = inner;
                    Json::Array(items)
                });
                changed.collect::<Vec<_>>()
            })
            .collect(),
        Json::String(text) => {
            let mut chars: Vec<char> = text.chars().collect();
            match chars.first().copied() {
                Some(first) => chars[0] = if first == 'a' { 'b' } else { 'a' },
                None => chars.push('a'),
            }
            vec![Json::String(chars.into_iter().collect())]
        }
        Json::Number(number) => vec![(number.as_u64().unwrap_or(0) + 1).into()],
        Json::Bool(truth) => vec![Json::Bool(!truth)],
        Json::Null => vec![],
    }
}

#[test]
fn s1_every_field_of_a_plan_is_in_its_object_id() {
    let plan = samples::plan();
    let whole = serde_json::to_value(&plan).unwrap();
    let before = blob_oid(to_yaml(&whole).as_bytes());
    let changed = mutations(&whole);
    assert!(changed.len() > 25, "{}", changed.len());
    for other in changed {
        assert_ne!(blob_oid(to_yaml(&other).as_bytes()), before, "{other}");
    }
}

#[test]
fn s1_every_byte_of_a_plan_is_in_its_object_id() {
    let bytes = plan_bytes(&samples::plan());
    let before = blob_oid(&bytes);
    for index in 0..bytes.len() {
        let mut other = bytes.clone();
        other[index] ^= 1;
        assert_ne!(blob_oid(&other), before);
    }
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(Json::from),
        "\\PC{0,24}".prop_map(Json::String),
        "[ \\t\\n:#&*!|>'\"%@`,\\[\\]{}?-]{0,8}".prop_map(Json::String),
        "(null|true|no|~|0x1f|1e3|0644|-|\\.5|<<|---|\\.\\.\\.|2026-12-06)".prop_map(Json::String),
        any::<String>().prop_map(Json::String),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            proptest::collection::btree_map("\\PC{1,8}", inner, 0..4)
                .prop_map(|map: BTreeMap<String, Json>| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_reads_back_as_it_was_written(value in json()) {
        let value = serde_json::json!({ "value": value });
        let text = to_yaml(&value);
        let limits = Limits { max_depth: 32, ..Limits::PLAN };
        // `<<` is a key that our own documents refuse, whatever its quotes.
        prop_assume!(!value.to_string().contains("\"<<\":"));
        let back = parse(&text, &limits).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(back.to_json(), value, "{}", text);
    }

    #[test]
    fn any_sentence_survives_a_request(words in "[^\\p{C}]{1,200}") {
        prop_assume!(!words.trim().is_empty());
        let request = chiffon_schemas::Request::from_text(words);
        match read_request("a.yaml", to_yaml(&request).as_bytes()) {
            Ok(back) => prop_assert_eq!(back, request),
            Err(found) => prop_assert!(found.iter().all(|found| found.code == chiffon_schemas::Code::UnsafeText), "{:?}", found),
        }
    }
}
