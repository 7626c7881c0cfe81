//! What was merged is what runs (S1): no field and no byte of a plan can change without its object id changing, and
//! only the id on offer approves.

use chiffon_core::facts::{Offer, OfferState};
use chiffon_schemas::{Json, Plan, blob_oid, plan_bytes, read_plan};
use proptest::prelude::*;
use serde_json::json;

use crate::plans::{catalogue, good_plan, oid, path};

fn plan() -> Plan {
    let mut plan = good_plan(&catalogue());
    plan.spec.steps[0].vars.insert("portals".to_owned(), json!([{"name": "a", "port": 1}, {"name": "b"}]));
    plan.spec.steps[0].found.insert("portals".to_owned(), vec!["Caddyfile:3".to_owned(), "Caddyfile:9".to_owned()]);
    plan.spec.steps[0].tags = vec!["config".to_owned()];
    plan.spec.assumptions = vec!["homelab is a group".to_owned()];
    plan
}

#[test]
fn s1_a_plan_reads_back_as_itself_and_has_one_spelling() {
    let plan = plan();
    let bytes = plan_bytes(&plan);
    let read = read_plan("plans/kuma.yaml", &bytes).unwrap();
    assert_eq!(read, plan);
    assert_eq!(plan_bytes(&read), bytes);
}

/// Every place of a document, as JSON pointers.
fn places(value: &Json, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Json::Object(map) => map.iter().for_each(|(key, value)| {
            places(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), all);
        }),
        Json::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| places(value, &format!("{at}/{index}"), all));
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

/// Other values for a place, of its own type and of others.
fn others(value: &Json) -> Vec<Json> {
    match value {
        Json::String(text) => {
            let last = text.chars().last().unwrap_or('a');
            let head: String = text.chars().take(text.chars().count().saturating_sub(1)).collect();
            let next = if last == 'f' { 'e' } else { 'f' };
            vec![json!(format!("{head}{next}")), json!(format!("{text}f")), json!(""), json!(null)]
        }
        Json::Number(number) => {
            let one_more = number.as_u64().unwrap_or(0) + 1;
            vec![json!(one_more), json!(one_more.to_string()), json!(0)]
        }
        Json::Bool(flag) => vec![json!(!flag)],
        Json::Null => vec![json!(0)],
        Json::Array(items) => {
            let mut more = items.clone();
            more.extend(items.first().cloned());
            let reversed: Vec<Json> = items.iter().rev().cloned().collect();
            vec![json!([]), json!(more), json!(reversed)]
        }
        Json::Object(map) => {
            let mut less = map.clone();
            let first = map.keys().next().cloned();
            first.map(|key| less.remove(&key));
            vec![json!({}), json!(less)]
        }
    }
}

#[test]
fn s1_no_field_changes_without_the_plans_id() {
    let plan = plan();
    let value = serde_json::to_value(&plan).unwrap();
    let id = blob_oid(&plan_bytes(&plan));
    let mut all = Vec::new();
    places(&value, "", &mut all);
    let mut read = 0;
    for at in &all {
        let before = value.pointer(at).unwrap();
        for other in others(before).into_iter().filter(|other| other != before) {
            let mut changed = value.clone();
            *changed.pointer_mut(at).unwrap() = other;
            // What is no plan any more can't be read, and so not run.
            let Ok(plan) = serde_json::from_value::<Plan>(changed) else { continue };
            read += 1;
            assert_ne!(blob_oid(&plan_bytes(&plan)), id, "{at}");
        }
    }
    assert!(read > 100, "{read} of the changes are plans, at {} places", all.len());
}

proptest! {
    #[test]
    fn s1_no_byte_changes_without_the_plans_id(at in any::<prop::sample::Index>(), with in any::<u8>(), how in 0..3) {
        let bytes = plan_bytes(&plan());
        let at = at.index(bytes.len());
        let mut changed = bytes.clone();
        match how {
            0 => changed[at] = with,
            1 => changed.insert(at, with),
            _ => { changed.remove(at); }
        }
        prop_assume!(changed != bytes);
        prop_assert_ne!(blob_oid(&changed), blob_oid(&bytes));
        // Should it still be a plan, then it is another one, and its own spelling is another too.
        if let Ok(read) = read_plan("plans/kuma.yaml", &changed) {
            prop_assert!(read != plan() || plan_bytes(&read) == bytes);
        }
    }
}

#[test]
fn s1_an_offer_is_of_one_content_at_one_path() {
    let plan = plan();
    let facts = |at: &str, digit: char| {
        let mut facts = crate::facts::request("kuma");
        facts.path = path(at);
        facts.file = chiffon_core::facts::RequestFile::Valid { oid: oid(digit), priority: 3 };
        facts
    };
    assert!(facts("requests/kuma.yaml", '3').is_of_now(&plan));
    assert!(!facts("requests/kuma.yaml", '4').is_of_now(&plan));
    assert!(!facts("requests/media/kuma.yaml", '3').is_of_now(&plan));
}

#[test]
fn words_of_offers_are_read_back() {
    for state in crate::facts::OFFER_STATES {
        assert_eq!(OfferState::from_word(state.as_str()), Some(state));
    }
    assert_eq!(OfferState::from_word("opened"), None);
    let offer = crate::facts::offer(&plan(), OfferState::Open);
    let closed = Offer { state: OfferState::Stale, ..offer.clone() };
    assert!(offer.is_open() && !closed.is_open());
}
