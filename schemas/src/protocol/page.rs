//! The page: `page.md` with its marks filled in.
//!
//! A mark is a line of its own. `{{message NAME}}` is the table and the example of a message, `{{report}}` and `{{body NAME}}`
//! those of a report and of what it says, `{{envelope}}` what stands around each message of an agent, `{{example NAME}}` an example alone, `{{credentials}}` what an agent is given, and `{{types}}` every
//! type that the tables name.

use std::collections::BTreeMap;

use super::{EXAMPLE_KEY, EXAMPLE_SECRET, EXAMPLE_TOKEN, example, fields};
use crate::{Credentials, FromAgent, Json, ToAgent, schema_of};

const TEMPLATE: &str = include_str!("page.md");

/// `docs/protocol.md`.
pub(crate) fn page() -> String {
    let schemas = [schema_of::<ToAgent>(), schema_of::<FromAgent>(), schema_of::<Credentials>()];
    let mut page = String::with_capacity(64 * 1024);
    for line in TEMPLATE.lines() {
        match line.strip_prefix("{{").and_then(|mark| mark.strip_suffix("}}")) {
            Some(mark) => page.push_str(&filled(mark, &schemas)),
            None => page.push_str(&with_keys(line)),
        }
        page.push('\n');
    }
    page
}

fn with_keys(line: &str) -> String {
    line.replace("EXAMPLE_SECRET", EXAMPLE_SECRET)
        .replace("EXAMPLE_KEY", EXAMPLE_KEY)
        .replace("EXAMPLE_TOKEN", EXAMPLE_TOKEN)
}

/// What stands in a mark's place.
fn filled(mark: &str, [to_agent, from_agent, credentials]: &[Json; 3]) -> String {
    let (word, name) = mark.split_once(' ').unwrap_or((mark, ""));
    let words = &from_agent["$defs"]["AgentMessage"];
    match word {
        "message" => match variant(to_agent, name) {
            Some(object) => described("to-agent", object, &signed(name), name),
            None => described("from-agent", known(variant(words, name), name), example(name), name),
        },
        "report" => fields::table(known(variant(words, "report"), "report")),
        "body" => {
            let object = known(variant(&from_agent["$defs"]["ReportBody"], name), name);
            let file = format!("report-{name}");
            described("from-agent", object, example(&file), &file)
        }
        "example" => format!("{}\n{}", link(name), block(example(name))),
        "credentials" => fields::table(credentials),
        "envelope" => fields::table(from_agent),
        "types" => types(&[to_agent, from_agent, credentials]),
        _ => panic!("page.md has a mark that nobody fills: {mark}"),
    }
}

/// The variant of a tagged type that has this name.
fn variant<'a>(schema: &'a Json, name: &str) -> Option<&'a Json> {
    schema["oneOf"].as_array()?.iter().find(|variant| variant["properties"]["type"]["const"] == name)
}

fn known<'a>(found: Option<&'a Json>, name: &str) -> &'a Json {
    found.unwrap_or_else(|| panic!("page.md names a message that is none: {name}"))
}

fn described(schema: &str, object: &Json, example: &str, file: &str) -> String {
    format!(
        "{}\nSchema: [`{schema}.schema.json`](../schemas/json/{schema}.schema.json). {}\n{}",
        fields::table(object),
        link(file),
        block(example)
    )
}

/// The message in a sealed example, spread out for reading.
fn signed(name: &str) -> String {
    let envelope: Json = serde_json::from_str(example(name)).expect("an example is JSON");
    let text = envelope["signed"].as_str().expect("a sealed example holds a text");
    // As its type, which keeps the fields in their order.
    let message: ToAgent = serde_json::from_str(text).expect("an example is a message");
    serde_json::to_string_pretty(&message).expect("a message is plain data")
}

fn link(file: &str) -> String {
    format!("Example: [`{file}.json`](../schemas/examples/protocol/{file}.json).\n")
}

fn block(text: &str) -> String {
    format!("```json\n{}\n```\n", text.trim_end())
}

/// Every named type but the messages themselves, which have sections of their own.
fn types(schemas: &[&Json]) -> String {
    let mut all: BTreeMap<&String, &Json> = BTreeMap::new();
    for schema in schemas {
        all.extend(schema["$defs"].as_object().into_iter().flatten());
    }
    all.retain(|name, _| !["AgentMessage", "ReportBody"].contains(&name.as_str()));
    let sections: Vec<String> =
        all.iter().map(|(name, schema)| format!("### {name}\n\n{}", fields::definition(schema))).collect();
    sections.join("\n")
}
