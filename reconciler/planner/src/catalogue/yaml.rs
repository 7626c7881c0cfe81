//! YAML of infra repositories as a small tree with lines and tags; the only place that knows the parser's types.

use std::rc::Rc;

use chiffon_schemas::Json;
use chiffon_schemas::yaml::{self, Limits, Node, Value};

/// A value with the line that it begins on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Yaml {
    pub(crate) value: Val,
    /// From 1.
    pub(crate) line: u32,
    /// `!vault` and the like.
    pub(crate) tag: Option<String>,
}

/// What a value is; maps keep the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Val {
    Scalar(Json),
    List(Vec<Rc<Yaml>>),
    Map(Vec<(String, Rc<Yaml>)>),
}

/// Reads all documents of a text; most files hold one.
pub(crate) fn parse(text: &str) -> Result<Vec<Rc<Yaml>>, (u32, String)> {
    let nodes = yaml::parse_all(text, &Limits::INFRA).map_err(|error| (error.span.line, error.to_string()))?;
    Ok(nodes.iter().map(|node| Rc::new(convert(node))).collect())
}

fn convert(node: &Node) -> Yaml {
    let value = match &node.value {
        Value::Seq(items) => Val::List(items.iter().map(|item| Rc::new(convert(item))).collect()),
        Value::Map(pairs) => Val::Map(
            pairs
                .iter()
                .map(|(key, value)| (key.scalar_text().unwrap_or_default().to_string(), Rc::new(convert(value))))
                .collect(),
        ),
        _ => Val::Scalar(node.to_json()),
    };
    Yaml { value, line: node.span.line, tag: node.tag.clone() }
}

impl Yaml {
    pub(crate) fn get(&self, key: &str) -> Option<&Rc<Yaml>> {
        self.pairs().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The value of a key under its short or its fully qualified name.
    pub(crate) fn get_builtin(&self, key: &str) -> Option<&Rc<Yaml>> {
        self.get(key).or_else(|| self.get(&format!("ansible.builtin.{key}")))
    }

    pub(crate) fn pairs(&self) -> &[(String, Rc<Yaml>)] {
        match &self.value {
            Val::Map(pairs) => pairs,
            Val::Scalar(_) | Val::List(_) => &[],
        }
    }

    pub(crate) fn items(&self) -> &[Rc<Yaml>] {
        match &self.value {
            Val::List(items) => items,
            Val::Scalar(_) | Val::Map(_) => &[],
        }
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.value, Val::Map(_))
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.value, Val::List(_))
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Val::Scalar(Json::Null))
    }

    pub(crate) fn str(&self) -> Option<&str> {
        match &self.value {
            Val::Scalar(Json::String(text)) => Some(text),
            _ => None,
        }
    }

    /// A scalar as text: `3` for 3.
    pub(crate) fn text(&self) -> Option<String> {
        match &self.value {
            Val::Scalar(Json::Null) | Val::List(_) | Val::Map(_) => None,
            Val::Scalar(Json::String(text)) => Some(text.clone()),
            Val::Scalar(other) => Some(other.to_string()),
        }
    }

    /// Yes or no, also as the words that Ansible takes for them.
    pub(crate) fn truth(&self) -> Option<bool> {
        match &self.value {
            Val::Scalar(Json::Bool(value)) => Some(*value),
            Val::Scalar(Json::String(text)) => match text.to_lowercase().as_str() {
                "yes" | "true" | "on" | "1" => Some(true),
                "no" | "false" | "off" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// A scalar or a list of scalars as texts: `tags: a`, `tags: a,b` and `tags: [a, b]` alike.
    pub(crate) fn words(&self) -> Vec<String> {
        match &self.value {
            Val::List(items) => items.iter().filter_map(|item| item.text()).collect(),
            _ => self
                .text()
                .map(|text| {
                    text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
                })
                .unwrap_or_default(),
        }
    }

    pub(crate) fn json(&self) -> Json {
        match &self.value {
            Val::Scalar(value) => value.clone(),
            Val::List(items) => Json::Array(items.iter().map(|item| item.json()).collect()),
            Val::Map(pairs) => {
                // Sorted keys: the order in a file carries no meaning in a map.
                let sorted: std::collections::BTreeMap<_, _> =
                    pairs.iter().map(|(key, value)| (key.clone(), value.json())).collect();
                Json::Object(sorted.into_iter().collect())
            }
        }
    }

    /// All text inside: keys and scalars, one a line.
    pub(crate) fn all_text(&self, out: &mut String) {
        match &self.value {
            Val::Scalar(_) => {
                if let Some(text) = self.text() {
                    out.push_str(&text);
                    out.push('\n');
                }
            }
            Val::List(items) => items.iter().for_each(|item| item.all_text(out)),
            Val::Map(pairs) => pairs.iter().for_each(|(key, value)| {
                out.push_str(key);
                out.push('\n');
                value.all_text(out);
            }),
        }
    }
}
