//! GitHub Apps: who proves with a key to be one gets tokens of its installation.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::github::Answer;
use super::state::{No, Role};
use super::{Login, Shared, utc};

/// What the App is called where it writes something.
pub const BOT: &str = "chiffon[bot]";

/// Who has proved to be the App; nobody has a name like it.
const PROVED: &str = "[app]";

/// Its routes.
pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/app", get(app))
        .route("/repos/{owner}/{repo}/installation", get(installation))
        .route("/app/installations/{id}/access_tokens", post(issue))
}

/// Whether a token is an App's own word, signed with its key, and not said for longer than GitHub takes it.
pub fn proved((id, key, _): &(u64, Vec<u8>, i64), token: &str) -> Option<String> {
    let (text, signature) = token.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::RSA_PKCS1_2048_8192_SHA256, key);
    key.verify(text.as_bytes(), &signature).ok()?;
    let claims = claims(token)?;
    let secs = |name: &str| claims[name].as_i64().unwrap_or_default();
    let holds = claims["iss"].as_str().and_then(|iss| iss.parse().ok()) == Some(*id)
        && secs("iat") > 1_700_000_000
        && secs("exp") - secs("iat") <= 600;
    holds.then(|| PROVED.to_owned())
}

fn claims(token: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?).ok()
}

fn only_the_app(login: &str) -> Result<(), No> {
    if login == PROVED { Ok(()) } else { Err(No::Forbidden("a token is no App".to_owned())) }
}

async fn app(State(shared): State<Shared>, Extension(Login(login)): Extension<Login>) -> Answer {
    only_the_app(&login)?;
    let id = shared.forge().app.as_ref().map(|(id, _, _)| *id);
    Ok(Json(json!({ "id": id, "slug": "chiffon", "name": "Chiffon" })).into_response())
}

async fn installation(Extension(Login(login)): Extension<Login>) -> Answer {
    only_the_app(&login)?;
    Ok(Json(json!({ "id": 77, "app_slug": "chiffon", "repository_selection": "selected" })).into_response())
}

async fn issue(
    State(shared): State<Shared>,
    Path(id): Path<u64>,
    Extension(Login(login)): Extension<Login>,
    headers: HeaderMap,
) -> Answer {
    only_the_app(&login)?;
    if id != 77 {
        return Err(No::Missing.into());
    }
    let said = headers[header::AUTHORIZATION].to_str().unwrap().trim_start_matches("Bearer ");
    let now = claims(said).unwrap()["iat"].as_i64().unwrap() + 60;
    let mut forge = shared.forge();
    let token = format!("ghs_{}", forge.id());
    let good_for = forge.app.as_ref().map_or(0, |(_, _, secs)| *secs);
    forge.roles.insert(BOT.to_owned(), Role::Write);
    forge.tokens.retain(|_, (login, _)| login != BOT);
    forge.tokens.insert(token.clone(), (BOT.to_owned(), ["all".to_owned()].into()));
    let permissions = json!({ "contents": "write", "pull_requests": "write", "statuses": "write", "metadata": "read" });
    let made = json!({ "token": token, "expires_at": utc(now + good_for), "permissions": permissions });
    Ok((StatusCode::CREATED, Json(made)).into_response())
}
