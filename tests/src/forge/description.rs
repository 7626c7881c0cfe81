//! What a vendor says of its interface, and whether a question or an answer is like that.
//!
//! `tests/tools/forge_descriptions.py` cuts these documents out of what the vendors publish: OpenAPI 3.0 of GitHub, and
//! Swagger 2.0 of Forgejo.

use std::sync::OnceLock;

use axum::http::Method;
use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

use super::Dialect;

/// One vendor's description.
#[derive(Debug)]
pub struct Description {
    document: Value,
    /// Swagger 2.0, whose schemas leave out that a field may be null.
    swagger: bool,
}

/// One thing that can be asked.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    path: &'a str,
    value: &'a Value,
}

impl Description {
    /// That of a dialect.
    pub fn of(dialect: Dialect) -> &'static Self {
        static GITHUB: OnceLock<Description> = OnceLock::new();
        static FORGEJO: OnceLock<Description> = OnceLock::new();
        match dialect {
            Dialect::Gitea => {
                FORGEJO.get_or_init(|| Self::read(include_str!("../../fixtures/forges/forgejo.json"), true))
            }
            Dialect::GitHub => {
                GITHUB.get_or_init(|| Self::read(include_str!("../../fixtures/forges/github.json"), false))
            }
        }
    }

    fn read(text: &str, swagger: bool) -> Self {
        let mut document: Value = serde_json::from_str(text).unwrap();
        as_json_schema(&mut document, swagger);
        Self { document, swagger }
    }

    /// The operation that a question is for.
    pub fn operation(&self, method: &Method, path: &str) -> Option<Operation<'_>> {
        let base = self.document["basePath"].as_str().unwrap_or_default();
        let path = path.strip_prefix(base)?;
        let key = method.as_str().to_ascii_lowercase();
        let found = self.document["paths"].as_object()?.iter().filter(|(template, _)| fits(template, path));
        // Of two that fit, what is written out counts before what stands for anything.
        let (path, methods) = found.min_by_key(|(template, _)| template.matches('{').count())?;
        Some(Operation { path, value: methods.get(key)? })
    }

    /// Whether a question is like the description.
    pub fn asked(
        &self,
        operation: Operation<'_>,
        query: &[(String, String)],
        body: Option<&Value>,
    ) -> Result<(), String> {
        let parameters: Vec<&Value> = self.each(&operation.value["parameters"]).collect();
        let may = |name: &str| parameters.iter().any(|at| at["in"] == "query" && at["name"] == name);
        if let Some((name, _)) = query.iter().find(|(name, _)| !may(name)) {
            return Err(format!("{} takes no `{name}`", operation.path));
        }
        let schema = match self.swagger {
            true => parameters.iter().find(|at| at["in"] == "body").map(|at| &at["schema"]),
            false => operation.value.pointer("/requestBody/content/application~1json/schema"),
        };
        match (schema, body) {
            (Some(schema), Some(body)) => self.holds(schema, body, operation.path),
            (None, Some(body)) => Err(format!("{} takes no body: {body}", operation.path)),
            (_, None) => Ok(()),
        }
    }

    /// Whether an answer is like the description.
    pub fn answered(&self, operation: Operation<'_>, status: u16, body: &[u8]) -> Result<(), String> {
        let answers = &operation.value["responses"];
        let Some(answer) = answers.get(status.to_string()) else {
            return Err(format!("{} never answers {status}", operation.path));
        };
        let answer = self.resolved(answer);
        let schema = match self.swagger {
            true => answer.get("schema"),
            false => answer.pointer("/content/application~1json/schema"),
        };
        let Some(schema) = schema else { return Ok(()) };
        let body = serde_json::from_slice(body).map_err(|error| format!("{}: {error}", operation.path))?;
        self.holds(schema, &body, operation.path)
    }

    /// An answer with what the description asks for and the test forge has no idea of: the least that is allowed.
    pub fn completed(&self, operation: Operation<'_>, status: u16, body: &[u8]) -> Vec<u8> {
        let answer = operation.value["responses"].get(status.to_string()).map(|answer| self.resolved(answer));
        let schema = answer.and_then(|answer| answer.pointer("/content/application~1json/schema"));
        match (schema, serde_json::from_slice::<Value>(body)) {
            (Some(schema), Ok(mut value)) => {
                self.complete(schema, &mut value);
                value.to_string().into_bytes()
            }
            _ => body.to_vec(),
        }
    }

    fn complete(&self, schema: &Value, value: &mut Value) {
        let schema = self.resolved(schema);
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.complete(part, value);
        }
        if let Some(choice) = self.choice(schema).filter(|_| !value.is_null()) {
            self.complete(choice, value);
        }
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.complete(&schema["items"], item)),
            Value::Object(fields) => {
                let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                for name in required.filter(|_| schema["properties"].is_object()) {
                    let least = || self.least(&schema["properties"][name]);
                    fields.entry(name).or_insert_with(least);
                }
                for (name, field) in fields.iter_mut() {
                    if let Some(schema) = schema["properties"].get(name) {
                        self.complete(schema, field);
                    }
                }
            }
            _ => {}
        }
    }

    /// The first of several that is not null.
    fn choice<'a>(&'a self, schema: &'a Value) -> Option<&'a Value> {
        let choices = ["oneOf", "anyOf"].into_iter().find_map(|key| schema[key].as_array())?;
        choices.iter().find(|choice| choice["type"] != "null")
    }

    /// The least value that a schema allows.
    fn least(&self, schema: &Value) -> Value {
        let schema = self.resolved(schema);
        let choices = ["oneOf", "anyOf"].into_iter().find_map(|key| schema[key].as_array());
        if choices.is_some_and(|choices| choices.iter().any(|choice| choice["type"] == "null")) {
            return Value::Null;
        }
        if let Some(first) = schema["enum"].get(0) {
            return first.clone();
        }
        let mut least = match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("string"), Some("uri")) => json!("https://github.test"),
            (Some("string"), Some("date-time")) => json!("2026-01-01T00:00:00Z"),
            (Some("string"), _) => json!(""),
            (Some("integer" | "number"), _) => json!(0),
            (Some("boolean"), _) => json!(false),
            (Some("array"), _) => json!([]),
            _ => json!({}),
        };
        self.complete(schema, &mut least);
        least
    }

    fn each<'a>(&'a self, list: &'a Value) -> impl Iterator<Item = &'a Value> {
        list.as_array().into_iter().flatten().map(|item| self.resolved(item))
    }

    /// What a reference stands for.
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let reference = value.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
        reference.and_then(|pointer| self.document.pointer(pointer)).unwrap_or(value)
    }

    fn holds(&self, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
        let mut root = Map::from_iter([("allOf".to_owned(), json!([schema]))]);
        for part in ["definitions", "components"] {
            if let Some(schemas) = self.document.get(part) {
                root.insert(part.to_owned(), schemas.clone());
            }
        }
        let validator: Validator = jsonschema::options()
            .with_draft(Draft::Draft4)
            .build(&Value::Object(root))
            .map_err(|error| error.to_string())?;
        match validator.iter_errors(value).next() {
            None => Ok(()),
            Some(error) => Err(format!("{path}: {error} at {}", error.instance_path())),
        }
    }
}

/// Whether a path is one of a template's.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    let same = |(part, is): (&&str, &&str)| part == is || (part.starts_with('{') && !is.is_empty());
    template.len() == path.len() && template.iter().zip(&path).all(same)
}

/// Makes plain JSON Schema of the two dialects: null where it may be, and nothing that is not described.
fn as_json_schema(node: &mut Value, swagger: bool) {
    match node {
        Value::Array(items) => items.iter_mut().for_each(|item| as_json_schema(item, swagger)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| as_json_schema(field, swagger));
            let closed =
                fields.get("properties").is_some_and(Value::is_object) && !fields.contains_key("additionalProperties");
            if closed && swagger {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            if let Some(properties) = fields.get_mut("properties").filter(|_| swagger).and_then(Value::as_object_mut) {
                properties.values_mut().for_each(or_null);
            }
            if fields.remove("nullable") == Some(json!(true)) {
                or_null(node);
            }
        }
        _ => {}
    }
}

fn or_null(schema: &mut Value) {
    *schema = json!({ "anyOf": [schema.take(), { "type": "null" }] });
}
