//! `GET /api/v1/openapi.json`: what can be asked here, for programs.

use axum::Json;
use chiffon_schemas::Json as Value;
use schemars::generate::SchemaSettings;
use serde_json::json;

use crate::chat::{ChatAnswer, ChatQuestion, Problem};

pub(crate) async fn document() -> Json<Value> {
    Json(describe())
}

fn body(schema: Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

/// The document.
fn describe() -> Value {
    // Every type stands once, where the others refer to it.
    let mut schemas = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let problem: Value = schemas.subschema_for::<Problem>().into();
    let question: Value = schemas.subschema_for::<ChatQuestion>().into();
    let told: Value = schemas.subschema_for::<ChatAnswer>().into();
    let refusal = |description: &str| json!({ "description": description, "content": body(problem.clone()) });
    let mut paths = json!({
        "/livez": { "get": {
            "operationId": "livez", "summary": "Whether the loop turns",
            "responses": { "200": object("It does"), "503": object("It does not") },
        } },
        "/readyz": { "get": {
            "operationId": "readyz", "summary": "Whether everything is there; else what is missing",
            "responses": { "200": object("It is"), "503": object("It is not") },
        } },
        "/metrics": { "get": {
            "operationId": "metrics", "summary": "Metrics, for Prometheus",
            "responses": { "200": { "description": "Metrics" }, "503": { "description": "The store does not answer" } },
        } },
    });
    paths["/api/v1/openapi.json"] = json!({ "get": {
        "operationId": "openapi", "summary": "This document", "responses": { "200": object("It") },
    } });
    paths["/webhooks/{forge}"] = json!({ "post": {
        "operationId": "webhook",
        "summary": "A forge says that something happened; it is signed, and decides nothing",
        "parameters": [{
            "name": "forge", "in": "path", "required": true,
            "schema": { "enum": ["gitea", "forgejo", "github"] },
        }],
        "requestBody": { "required": true, "content": body(json!({ "type": "object" })) },
        "responses": {
            "200": object("It is of another repository"),
            "202": object("It is looked at the forge at once"),
            "400": refusal("It is cut off, or no JSON"),
            "401": refusal("It is not signed, or wrongly"),
            "403": refusal("A page of somebody else's asks"),
            "404": refusal("No such forge is configured with a secret"),
            "408": refusal("It came too slowly"),
            "413": refusal("It is longer than any event"),
            "421": refusal("This server is not called so"),
            "503": refusal("Too many at once: send it again"),
        },
    } });
    paths["/api/v1/chat"] = json!({ "post": {
        "operationId": "chat",
        "summary": "Says what is wanted, and goes on with a conversation",
        "security": [{ "token": [] }],
        "requestBody": { "required": true, "content": body(question) },
        "responses": {
            "200": { "description": "How it stands", "content": body(told) },
            "400": refusal("It can't be read"),
            "401": refusal("No token, or none that is known"),
            "403": refusal("The token may not do that, or a page of somebody else's asks"),
            "404": refusal("There is no such conversation"),
            "409": refusal("It can't be done now"),
            "413": refusal("It is too long"),
            "415": refusal("It is no JSON"),
            "421": refusal("This server is not called so"),
            "422": refusal("It says something that it can't"),
            "429": refusal("The token asks too often"),
            "503": refusal("It can't be answered now: ask again"),
        },
    } });
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Chiffon", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": schemas.take_definitions(true), "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } } },
    })
}

fn object(description: &str) -> Value {
    json!({ "description": description, "content": body(json!({ "type": "object" })) })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    fn references<'a>(node: &'a Value, found: &mut Vec<&'a str>) {
        match node {
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Object(fields) => fields.iter().for_each(|(key, value)| match value.as_str() {
                Some(to) if key == "$ref" => found.push(to),
                _ => references(value, found),
            }),
            _ => {}
        }
    }

    #[test]
    fn whatever_is_referred_to_is_there() {
        let document = super::describe();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 4, "{found:?}");
        for to in found {
            assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to}");
        }
    }
}
