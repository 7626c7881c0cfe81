//! `GET /api/v1/openapi.json`: what can be asked here, for programs.

use axum::Json;
use chiffon_schemas::Json as Value;
use schemars::{JsonSchema, schema_for};
use serde_json::json;

use crate::chat::{ChatAnswer, ChatQuestion, problem};

pub(crate) async fn document() -> Json<Value> {
    Json(describe())
}

fn schema<T: JsonSchema>() -> Value {
    schema_for!(T).into()
}

fn body(schema: Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

/// The document.
fn describe() -> Value {
    let refusal = |description: &str| json!({ "description": description, "content": body(problem()) });
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
    paths["/api/v1/chat"] = json!({ "post": {
        "operationId": "chat",
        "summary": "Says what is wanted, and goes on with a conversation",
        "security": [{ "token": [] }],
        "requestBody": { "required": true, "content": body(schema::<ChatQuestion>()) },
        "responses": {
            "200": { "description": "How it stands", "content": body(schema::<ChatAnswer>()) },
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
        "components": { "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } } },
    })
}

fn object(description: &str) -> Value {
    json!({ "description": description, "content": body(json!({ "type": "object" })) })
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_schema_stands_for_itself() {
        let text = super::describe().to_string();
        assert!(text.contains("\"ChatQuestion\"") || text.contains("ChatQuestion"), "{text}");
        assert!(!text.contains("#/$defs/") || text.contains("\"$defs\""), "{text}");
    }
}
