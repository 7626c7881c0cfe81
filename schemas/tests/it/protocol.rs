//! The examples of `docs/protocol.md`: each is what its type says, strictly, and no message is without one.

use std::collections::BTreeSet;

use chiffon_schemas::protocol::{EXAMPLE_AGENT, EXAMPLES, example, example_of_order, example_of_word};
use chiffon_schemas::{Credentials, FromAgent, Json, ReportBody, ToAgent, Verdict, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What an example holds, whichever way it goes.
enum Sample {
    To(ToAgent),
    From(FromAgent),
    Other,
}

/// Reads a value strictly, and writes it again: nothing is added and nothing is lost.
#[track_caller]
fn round<T: DeserializeOwned + Serialize>(value: &Json) -> T {
    let read: T = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(&serde_json::to_value(&read).unwrap(), value);
    if let Json::Object(mut fields) = value.clone() {
        fields.insert("more".to_owned(), Json::Null);
        let other: Result<T, _> = serde_json::from_value(Json::Object(fields));
        assert!(other.is_err(), "a field that nobody knows is taken: {value}");
    }
    read
}

/// An envelope's fields, and no others.
#[track_caller]
fn fields(envelope: &Json, names: &[&str]) {
    let found: BTreeSet<&str> = envelope.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, names.iter().copied().collect(), "{envelope}");
}

fn sample(name: &str) -> Sample {
    let value: Json = serde_json::from_str(example(name)).unwrap();
    if value["signed"].is_string() {
        fields(&value, &["v", "signed", "signature"]);
        let text = value["signed"].as_str().unwrap();
        let message: ToAgent = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), text, "{name}: byte for byte as it would be signed");
        return Sample::To(message);
    }
    if value["message"].is_object() {
        fields(&value, &["v", "message"]);
        return Sample::From(round(&value["message"]));
    }
    if name == "credentials" {
        round::<Credentials>(&value);
    }
    Sample::Other
}

#[test]
fn each_example_is_what_its_type_says() {
    for example in EXAMPLES {
        match sample(example.name) {
            Sample::To(message) => assert_eq!(example_of_order(&message), example.name),
            Sample::From(message) => {
                assert_eq!(message.agent.as_str(), EXAMPLE_AGENT);
                assert!(example.name.starts_with(example_of_word(&message)), "{}", example.name);
            }
            Sample::Other => assert!(example.name.starts_with("enrolment-") || example.name == "credentials"),
        }
    }
}

/// `example_of_order` and `example_of_word` are exhaustive: a new message does not compile without a name of an example, the
/// schema lists it here, and the name has a file.
#[test]
fn no_message_is_without_an_example() {
    let tags = |schema: &Json| -> BTreeSet<String> {
        let variants = schema["oneOf"].as_array().unwrap().iter();
        variants.map(|variant| variant["properties"]["type"]["const"].as_str().unwrap().to_owned()).collect()
    };
    let names: BTreeSet<String> = EXAMPLES.iter().map(|example| example.name.to_owned()).collect();
    let from = chiffon_schemas::schema_of::<FromAgent>();
    let mut wanted = tags(&chiffon_schemas::schema_of::<ToAgent>());
    wanted.extend(tags(&from["$defs"]["AgentMessage"]).into_iter().filter(|tag| tag != "report"));
    wanted.extend(tags(&from["$defs"]["ReportBody"]).into_iter().map(|tag| format!("report-{tag}")));
    assert_eq!(wanted.difference(&names).collect::<Vec<_>>(), Vec::<&String>::new());
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md")).unwrap();
    for name in names {
        assert!(page.contains(&format!("({})", file(&name))), "the page does not show {name}");
    }
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/protocol")).unwrap();
    assert_eq!(folder.count(), EXAMPLES.len(), "a file that is no example");
}

fn file(name: &str) -> String {
    format!("../schemas/examples/protocol/{name}.json")
}

#[test]
fn the_examples_tell_one_story() {
    let order: Json = serde_json::from_str(example("order")).unwrap();
    let (Sample::To(ToAgent::Order(ordered)), Sample::To(ToAgent::Grant(grant))) = (sample("order"), sample("grant"))
    else {
        panic!("not an order and a grant");
    };
    assert_eq!(grant.order, digest(order["signed"].as_str().unwrap().as_bytes()));
    assert_eq!((&grant.key, &grant.order), (&ordered.key, &ordered.digest()));
    let Sample::From(over) = sample("report-over") else { panic!("not a report") };
    assert_eq!(over.boot, grant.boot);
    let Sample::From(lost) = sample("report-over-lost") else { panic!("not a report") };
    let chiffon_schemas::AgentMessage::Report(report) = lost.message else { panic!("not a report") };
    assert_eq!(report.fence, grant.fence);
    assert!(matches!(report.body, ReportBody::Over(outcome) if outcome.verdict == Verdict::Lost));
}

#[test]
fn the_times_of_the_page_are_the_usual_ones() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md")).unwrap();
    let silence = chiffon_schemas::PolicySpec::default().agent_silence_secs;
    let schema = chiffon_schemas::schema_of::<chiffon_schemas::AgentFile>();
    let beat = &schema["$defs"]["AgentFileSpec"]["properties"]["heartbeat_secs"];
    for said in [
        format!("| silence of an agent | {silence} s (`policy.agent_silence_secs`, 5 to 3600) |"),
        format!(
            "| between two heartbeats | {} s (`heartbeat_secs`, {} to {}) |",
            beat["default"], beat["minimum"], beat["maximum"]
        ),
    ] {
        assert!(page.contains(&said), "the page does not say: {said}");
    }
}
