//! Settings of a repository as Gitea and Forgejo have them: webhooks and rules of branches.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, patch, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use super::gitea::Answer;
use super::state::{No, Role, Rule, State as Forge};
use super::{Login, Shared, git, text};

/// Its routes, below a repository.
pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/hooks", get(hooks).post(make_hook))
        .route("/hooks/{id}", patch(set_hook))
        .route("/hooks/{id}/tests", post(call_hook))
        .route("/branch_protections", get(rules).post(make_rule))
        .route("/branch_protections/{name}", patch(set_rule))
        .route("/branches/{name}", get(branch))
}

fn hook_of(id: u64, url: &str) -> Value {
    // The secret is never told again.
    json!({ "id": id, "type": "gitea", "active": true, "config": { "url": url, "content_type": "json" } })
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
    forge.call_hook(id, "X-Gitea-Signature", "")?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn rule_of(rule: &Rule) -> Value {
    json!({
        "rule_name": rule.name, "branch_name": "", "enable_push": true, "enable_push_whitelist": true,
        "push_whitelist_usernames": rule.people, "enable_merge_whitelist": true,
        "merge_whitelist_usernames": rule.people,
    })
}

async fn rules(State(shared): State<Shared>, Extension(Login(login)): Extension<Login>) -> Answer {
    let forge = shared.forge();
    forge.require(&login, Role::Admin)?;
    Ok(Json(forge.rule.iter().map(rule_of).collect::<Vec<_>>()).into_response())
}

fn keep_rule(forge: &mut Forge, name: &str, body: &Value) -> Value {
    // A name is a pattern: here a branch, or several in braces.
    let branches = name.trim_matches(['{', '}']).split(',').map(str::to_owned).collect();
    let people = body["merge_whitelist_usernames"].as_array().into_iter().flatten();
    let people: BTreeSet<String> = people.filter_map(Value::as_str).map(str::to_owned).collect();
    let is_open = body["enable_merge_whitelist"] != true;
    let people = if is_open { forge.roles.keys().cloned().collect() } else { people };
    let rule = Rule { id: forge.id(), name: name.to_owned(), branches, people: Some(people) };
    let shown = rule_of(&rule);
    forge.rule = Some(rule);
    shown
}

async fn make_rule(
    State(shared): State<Shared>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.require(&login, Role::Admin)?;
    if forge.rule.is_some() {
        return Err(No::Forbidden("Branch protection already exist".to_owned()).into());
    }
    let name = text(&body, "rule_name").unwrap_or_default().to_owned();
    Ok((StatusCode::CREATED, Json(keep_rule(&mut forge, &name, &body))).into_response())
}

async fn set_rule(
    State(shared): State<Shared>,
    Path((_, _, name)): Path<(String, String, String)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.require(&login, Role::Admin)?;
    if forge.rule.as_ref().is_none_or(|rule| rule.name != name) {
        return Err(No::Missing.into());
    }
    Ok(Json(keep_rule(&mut forge, &name, &body)).into_response())
}

async fn branch(
    State(shared): State<Shared>,
    Path((_, _, name)): Path<(String, String, String)>,
    Extension(Login(login)): Extension<Login>,
) -> Answer {
    let forge = shared.forge();
    git::tip(&forge.bare, &name).ok_or(No::Missing)?;
    let rule = forge.rule_of(&name);
    let may = match rule.and_then(|rule| rule.people.as_ref()) {
        Some(people) => people.contains(&login),
        None => forge.roles.get(&login) >= Some(&Role::Write),
    };
    let shown = json!({
        "name": name, "protected": rule.is_some(), "user_can_push": may, "user_can_merge": may,
        "effective_branch_protection_name": "", "required_approvals": 0, "enable_status_check": false,
        "status_check_contexts": [],
    });
    Ok(Json(shown).into_response())
}
