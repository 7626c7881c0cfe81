//! Settings of a repository as GitHub has them: webhooks and rulesets.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, patch, post, put};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use super::github::Answer;
use super::state::{No, Role, Rule, State as Forge};
use super::{Login, Shared, git, text};

/// Its routes, below a repository.
pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/hooks", get(hooks).post(make_hook))
        .route("/hooks/{id}", patch(set_hook))
        .route("/hooks/{id}/pings", post(call_hook))
        .route("/rulesets", get(rulesets).post(make_ruleset))
        .route("/rulesets/{id}", put(set_ruleset))
        .route("/rules/branches/{name}", get(rules))
        .route("/branches/{name}", get(branch))
}

fn hook_of(id: u64, url: &str) -> Value {
    json!({ "id": id, "name": "web", "active": true, "config": { "url": url, "content_type": "json" } })
}

async fn hooks(State(shared): State<Shared>, Extension(Login(login)): Extension<Login>) -> Answer {
    let forge = shared.forge();
    forge.require(&login, Role::Admin)?;
    Ok(Json(forge.hooks.iter().map(|(id, (url, _))| hook_of(*id, url)).collect::<Vec<_>>()).into_response())
}

fn keep_hook(forge: &mut Forge, id: u64, body: &Value) -> Value {
    let of = |key: &str| text(&body["config"], key).unwrap_or_default().to_owned();
    assert_eq!(of("content_type"), "json", "forms carry no JSON");
    forge.hooks.insert(id, (of("url"), of("secret")));
    hook_of(id, &of("url"))
}

async fn make_hook(
    State(shared): State<Shared>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.require(&login, Role::Admin)?;
    let id = forge.id();
    Ok((StatusCode::CREATED, Json(keep_hook(&mut forge, id, &body))).into_response())
}

async fn set_hook(
    State(shared): State<Shared>,
    Path((_, _, id)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.require(&login, Role::Admin)?;
    Ok(Json(keep_hook(&mut forge, id, &body)).into_response())
}

async fn call_hook(
    State(shared): State<Shared>,
    Path((_, _, id)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
) -> Answer {
    let forge = shared.forge();
    forge.require(&login, Role::Admin)?;
    forge.call_hook(id, "X-Hub-Signature-256", "sha256=")?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn ruleset_of(rule: &Rule) -> Value {
    json!({ "id": rule.id, "name": rule.name, "source": "ops/requests", "enforcement": "active" })
}

async fn rulesets(State(shared): State<Shared>, Extension(Login(login)): Extension<Login>) -> Answer {
    let forge = shared.forge();
    forge.require(&login, Role::Admin)?;
    Ok(Json(forge.rule.iter().map(ruleset_of).collect::<Vec<_>>()).into_response())
}

fn keep_ruleset(forge: &mut Forge, id: u64, body: &Value) -> Value {
    let include = body.pointer("/conditions/ref_name/include").and_then(Value::as_array).into_iter().flatten();
    let branches = include.filter_map(Value::as_str).map(|name| name.trim_start_matches("refs/heads/").to_owned());
    let name = text(body, "name").unwrap_or_default().to_owned();
    let rule = Rule { id, name, branches: branches.collect(), people: None };
    let shown = ruleset_of(&rule);
    forge.rule = Some(rule);
    shown
}

async fn make_ruleset(
    State(shared): State<Shared>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.require(&login, Role::Admin)?;
    if forge.rule.is_some() {
        return Err(No::Invalid("Name must be unique".to_owned()).into());
    }
    let id = forge.id();
    Ok((StatusCode::CREATED, Json(keep_ruleset(&mut forge, id, &body))).into_response())
}

async fn set_ruleset(
    State(shared): State<Shared>,
    Path((_, _, id)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.require(&login, Role::Admin)?;
    Ok(Json(keep_ruleset(&mut forge, id, &body)).into_response())
}

async fn rules(State(shared): State<Shared>, Path((_, _, name)): Path<(String, String, String)>) -> Json<Value> {
    let forge = shared.forge();
    let of = |kind: &str| json!({ "type": kind });
    let review = json!({
        "type": "pull_request", "parameters": {
            "required_approving_review_count": 1, "dismiss_stale_reviews_on_push": true,
            "require_code_owner_review": false, "require_last_push_approval": false,
            "required_review_thread_resolution": false,
        },
    });
    Json(forge.rule_of(&name).map_or_else(|| json!([]), |_| json!([of("deletion"), of("non_fast_forward"), review])))
}

async fn branch(State(shared): State<Shared>, Path((_, _, name)): Path<(String, String, String)>) -> Answer {
    let forge = shared.forge();
    let tip = git::tip(&forge.bare, &name).ok_or(No::Missing)?;
    let shown = json!({
        "name": name, "commit": { "sha": tip }, "protected": forge.rule_of(&name).is_some(),
        "protection": { "enabled": false },
    });
    Ok(Json(shown).into_response())
}
