//! Tables of fields, from the JSON Schemas of the types.

use crate::Json;

/// A table of an object's fields; the field `type` that tells variants apart is a row like the others.
pub(super) fn table(object: &Json) -> String {
    let mut text = String::from("| field | type | | meaning |\n|---|---|---|---|\n");
    let required: Vec<&str> =
        object["required"].as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
    let Some(fields) = object["properties"].as_object() else { return text };
    let (known, optional): (Vec<_>, Vec<_>) = fields.keys().partition(|name| required.contains(&name.as_str()));
    // Required ones in the order of the type, as the schema lists them; the rest follow by name.
    let order = required.iter().copied().filter(|name| known.iter().any(|field| field == name));
    for name in order.chain(optional.iter().map(|name| name.as_str())) {
        let field = &fields[name];
        let presence = if required.contains(&name) { "always" } else { "may be absent" };
        let meaning = field["description"].as_str().unwrap_or("Which message this is.");
        text.push_str(&format!("| `{name}` | {} | {presence} | {} |\n", kind(field), one_line(meaning)));
    }
    text
}

/// What a value is, in a few words.
fn kind(schema: &Json) -> String {
    if let Some(constant) = schema["const"].as_str() {
        return format!("`\"{constant}\"`");
    }
    if let Some(name) = reference(schema) {
        return name;
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().filter(|choice| choice["type"] != "null").map(kind).collect::<Vec<_>>().join(" or ");
    }
    let word = match &schema["type"] {
        Json::String(word) => word.as_str(),
        Json::Array(words) => words.iter().filter_map(|word| word.as_str()).find(|word| *word != "null").unwrap_or(""),
        _ => "any JSON",
    };
    match word {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" => {
            let pattern = schema["patternProperties"].as_object().and_then(|patterns| patterns.values().next());
            format!("map to {}", kind(pattern.unwrap_or(&schema["additionalProperties"])))
        }
        word => word.to_owned(),
    }
}

/// A link to the type's own section.
fn reference(schema: &Json) -> Option<String> {
    let name = schema["$ref"].as_str()?.strip_prefix("#/$defs/")?;
    Some(format!("[{name}](#{})", name.to_lowercase()))
}

/// What a named type is: a table of its fields, its choices, or its form.
pub(super) fn definition(schema: &Json) -> String {
    let mut text = format!("{}\n", one_line(schema["description"].as_str().unwrap_or_default()));
    if schema["properties"].is_object() {
        text.push_str(&format!("\n{}", table(schema)));
    } else if let Some(choices) = schema["oneOf"].as_array() {
        text.push('\n');
        for choice in choices {
            let (word, meaning) = (choice["const"].as_str(), choice["description"].as_str());
            text.push_str(&format!("- `\"{}\"`: {}\n", word.unwrap_or("?"), one_line(meaning.unwrap_or_default())));
        }
    } else if let Some(pattern) = schema["pattern"].as_str() {
        text.push_str(&format!("\nA string that matches `{pattern}`.\n"));
    } else {
        text.push_str("\nA string, such as `2026-12-06T09:00:00Z`: RFC 3339 in UTC with whole seconds.\n");
    }
    text
}

/// Text of several lines as one cell.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
