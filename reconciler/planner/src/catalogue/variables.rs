//! What values a variable takes: from argument specifications, else from its default.

use std::collections::BTreeMap;

use chiffon_core::catalogue::{Source, VarKind, Variable};
use chiffon_schemas::Json;

use super::yaml::Yaml;

/// From an option of `argument_specs`.
pub(crate) fn from_spec(option: &Yaml, at: Source) -> Variable {
    let description = option.get("description").map(|text| text.words_or_text()).unwrap_or_default();
    Variable {
        required: option.get("required").and_then(|required| required.truth()).unwrap_or(false),
        default: option.get("default").map(|default| default.json()).filter(|default| !default.is_null()),
        kind: kind_of(option, 0),
        description,
        at,
    }
}

fn kind_of(option: &Yaml, depth: usize) -> VarKind {
    let plain = |name: &str| match name {
        "int" => VarKind::Int,
        "float" => VarKind::Float,
        "bool" => VarKind::Bool,
        "path" => VarKind::Path,
        "str" | "bytes" | "bits" => VarKind::Str,
        "dict" => VarKind::Map(BTreeMap::new()),
        "list" => VarKind::List(Box::new(VarKind::Any)),
        _ => VarKind::Any,
    };
    let name = option.get("type").and_then(|kind| kind.text()).unwrap_or_else(|| "str".to_owned());
    if let Some(choices) = option.get("choices").filter(|choices| choices.is_list()) {
        let choices: Vec<Json> = choices.items().iter().map(|choice| choice.json()).collect();
        let one = VarKind::Choice(choices);
        return if name == "list" { VarKind::List(Box::new(one)) } else { one };
    }
    let keys = || -> VarKind {
        let options = option.get("options").map(|options| options.pairs()).unwrap_or_default();
        VarKind::Map(
            options
                .iter()
                .filter(|_| depth < 8)
                .map(|(name, inner)| {
                    let required = inner.get("required").and_then(|required| required.truth()).unwrap_or(false);
                    (name.clone(), (kind_of(inner, depth + 1), required))
                })
                .collect(),
        )
    };
    match name.as_str() {
        "dict" => keys(),
        "list" => {
            let elements =
                option.get("elements").and_then(|elements| elements.text()).unwrap_or_else(|| "raw".to_owned());
            VarKind::List(Box::new(if elements == "dict" { keys() } else { plain(&elements) }))
        }
        other => plain(other),
    }
}

/// From a default alone: its type is what the variable takes.
pub(crate) fn from_default(value: &Yaml, at: Source) -> Variable {
    let json = value.json();
    Variable { required: false, kind: kind_of_default(&json), default: Some(json), description: String::new(), at }
}

fn kind_of_default(value: &Json) -> VarKind {
    match value {
        Json::Bool(_) => VarKind::Bool,
        Json::Number(number) if number.is_f64() => VarKind::Float,
        Json::Number(_) => VarKind::Int,
        Json::String(text) if text.contains("{{") => VarKind::Any,
        Json::String(_) => VarKind::Str,
        Json::Array(items) => {
            let kinds: Vec<VarKind> = items.iter().map(kind_of_default).collect();
            let same = kinds.windows(2).all(|pair| pair[0] == pair[1]);
            let one = kinds.into_iter().next().filter(|_| same).unwrap_or(VarKind::Any);
            VarKind::List(Box::new(one))
        }
        Json::Object(_) => VarKind::Map(BTreeMap::new()),
        Json::Null => VarKind::Any,
    }
}

impl Yaml {
    /// A description: one text, or a list of sentences.
    fn words_or_text(&self) -> String {
        if self.is_list() {
            self.items().iter().filter_map(|item| item.text()).collect::<Vec<_>>().join(" ")
        } else {
            self.text().unwrap_or_default()
        }
    }
}
