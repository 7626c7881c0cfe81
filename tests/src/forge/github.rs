//! The forge as GitHub speaks it.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post, put};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use super::state::{Comment, Fate, No, Pull, Review, Role, State as Forge, Status};
use super::{Login, Shared, text, utc};

/// Entries of a page, where nobody asks for another number, and the most of one.
const PAGE: usize = 30;
const MAX_PAGE: usize = 100;

/// The longest body in characters.
const MAX_BODY: usize = 65_536;

type Asked = Query<BTreeMap<String, String>>;
pub(super) type Answer = Result<Response, Refused>;

/// A no, as this dialect says it.
pub struct Refused(No);

impl From<No> for Refused {
    fn from(no: No) -> Self {
        Self(no)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, message) = match self.0 {
            No::Missing => (StatusCode::NOT_FOUND, "Not Found".to_owned()),
            No::Forbidden(_) => (StatusCode::FORBIDDEN, "Resource not accessible by personal access token".to_owned()),
            No::NotNow(why) => (StatusCode::METHOD_NOT_ALLOWED, why),
            No::Conflict(why) => (StatusCode::CONFLICT, why),
            No::Precondition(why) | No::Invalid(why) => (StatusCode::UNPROCESSABLE_ENTITY, why),
        };
        let body = json!({ "message": message, "documentation_url": "https://docs.github.com/rest" });
        (status, Json(body)).into_response()
    }
}

/// Its routes.
pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/user", get(user))
        .route("/graphql", post(graphql))
        .merge(super::app::routes())
        .route("/repos/{owner}/{repo}", get(repository))
        .nest("/repos/{owner}/{repo}", of_repository())
        .layer(axum::middleware::from_fn(conditional))
}

fn of_repository() -> Router<Shared> {
    Router::new()
        .route("/pulls", get(pulls).post(open))
        .route("/pulls/{number}", get(pull).patch(edit))
        .route("/pulls/{number}/merge", put(merge))
        .route("/pulls/{number}/reviews", get(reviews))
        .route("/issues/{number}/comments", get(comments).post(comment))
        .route("/issues/{number}/labels", get(labels_of).put(set_labels))
        .route("/issues/comments/{id}", patch(edit_comment))
        .route("/issues/comments/{id}/reactions", post(react))
        .route("/labels", post(make_label))
        .route("/statuses/{commit}", post(set_status))
        .route("/commits/{commit}/status", get(statuses))
        .route("/collaborators/{login}/permission", get(permission))
        .merge(super::github_setup::routes())
}

/// Answers that are as they were cost nothing.
async fn conditional(request: Request, next: Next) -> Response {
    let asked = request.headers().get(header::IF_NONE_MATCH).cloned();
    let reads = request.method() == Method::GET;
    let response = next.run(request).await;
    if !reads || !response.status().is_success() {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let etag = format!("W/\"{}\"", chiffon_schemas::digest(&bytes));
    if asked.is_some_and(|asked| asked == etag.as_str()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    head.headers.insert(header::ETAG, HeaderValue::try_from(etag).unwrap());
    Response::from_parts(head, Body::from(bytes))
}

fn account(login: &str) -> Value {
    let id = 1 + login.bytes().map(u64::from).sum::<u64>();
    let in_url = login.replace('[', "%5B").replace(']', "%5D");
    let of = |what: &str| format!("https://api.github.test/users/{in_url}{what}");
    json!({
        "login": login, "id": id, "node_id": format!("U_{id}"), "avatar_url": of("/avatar"), "gravatar_id": "",
        "url": of(""), "html_url": of(""), "followers_url": of("/followers"), "following_url": of("/following"),
        "gists_url": of("/gists"), "starred_url": of("/starred"), "subscriptions_url": of("/subscriptions"),
        "organizations_url": of("/orgs"), "repos_url": of("/repos"), "events_url": of("/events"),
        "received_events_url": of("/received_events"), "type": "User", "site_admin": false,
    })
}

async fn user(Extension(Login(login)): Extension<Login>) -> Json<Value> {
    Json(account(&login))
}

fn repository_of(forge: &Forge, id: u64, login: Option<&str>) -> Value {
    let role = login.and_then(|login| forge.roles.get(login));
    let (owner, name) = &forge.slug;
    let may = |least: Role| role.is_some_and(|role| *role >= least);
    json!({
        "id": id, "node_id": format!("R_{id}"), "name": name, "full_name": format!("{owner}/{name}"),
        "owner": account(owner), "private": true, "default_branch": "main",
        "html_url": format!("https://github.test/{owner}/{name}"),
        "permissions": {
            "admin": may(Role::Admin), "maintain": may(Role::Admin), "push": may(Role::Write),
            "triage": may(Role::Write), "pull": may(Role::Read),
        },
    })
}

async fn repository(State(shared): State<Shared>, Extension(Login(login)): Extension<Login>) -> Json<Value> {
    Json(repository_of(&shared.forge(), 1, Some(&login)))
}

/// A pull request; who merged it is told only where one is asked for.
fn pull_of(forge: &Forge, pull: &Pull, alone: bool) -> Value {
    let (owner, name) = &forge.slug;
    let merged = match &pull.fate {
        Fate::Merged { commit, by } => Some((commit, by)),
        Fate::Open | Fate::Closed => None,
    };
    let repository = |id: u64| repository_of(forge, id, None);
    let head_repository = if pull.fork.is_some() { 2 } else { 1 };
    let mut shown = json!({
        "id": pull.number, "node_id": format!("PR_{}", pull.number), "number": pull.number,
        "user": account(&pull.author), "title": pull.title, "body": pull.body, "draft": pull.draft, "locked": false,
        "labels": pull.labels.iter().filter_map(|id| label_of(forge, *id)).collect::<Vec<_>>(),
        "state": if pull.fate == Fate::Open { "open" } else { "closed" },
        "html_url": format!("https://github.test/{owner}/{name}/pull/{}", pull.number),
        "merged_at": merged.map(|_| utc(pull.updated)), "merge_commit_sha": merged.map(|(commit, _)| commit),
        "created_at": utc(pull.updated), "updated_at": utc(pull.updated),
        "closed_at": (pull.fate != Fate::Open).then(|| utc(pull.updated)),
        "base": {
            "label": format!("{owner}:{}", pull.base), "ref": pull.base, "sha": "0".repeat(40), "user": account(owner),
            "repo": repository(1),
        },
        "head": {
            "label": format!("{owner}:{}", pull.head), "ref": pull.head, "sha": pull.head_commit,
            "user": account(owner), "repo": repository(head_repository),
        },
    });
    if alone {
        shown["merged"] = json!(merged.is_some());
        shown["merged_by"] = merged.map_or(Value::Null, |(_, by)| account(by));
        shown["mergeable"] = json!(pull.fate == Fate::Open);
    }
    shown
}

/// One page of what there is, and whether another one follows.
fn page<T>(all: Vec<T>, asked: &BTreeMap<String, String>) -> (Vec<T>, Option<usize>) {
    let number = |key: &str| asked.get(key).and_then(|text| text.parse::<usize>().ok());
    let size = number("per_page").unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let page = number("page").unwrap_or(1).max(1);
    let next = (all.len() > page * size).then_some(page + 1);
    (all.into_iter().skip((page - 1) * size).take(size).collect(), next)
}

fn paged(rows: Vec<Value>, next: Option<usize>) -> Response {
    let mut response = Json(rows).into_response();
    if let Some(next) = next {
        let link = format!("<https://api.github.test/list?page={next}>; rel=\"next\"");
        response.headers_mut().insert(header::LINK, HeaderValue::try_from(link).unwrap());
    }
    response
}

async fn pulls(State(shared): State<Shared>, Query(asked): Asked) -> Response {
    let mut forge = shared.forge();
    forge.follow_branches();
    let state = asked.get("state").map_or("open", String::as_str);
    let owner = forge.slug.0.clone();
    let of_head = |pull: &Pull| asked.get("head").is_none_or(|head| *head == format!("{owner}:{}", pull.head));
    let of_state = |pull: &Pull| state == "all" || (state == "open") == (pull.fate == Fate::Open);
    let mut all: Vec<&Pull> = forge.pulls.values().filter(|pull| of_state(pull) && of_head(pull)).collect();
    if asked.get("sort").is_some_and(|sort| sort == "updated") {
        all.sort_by_key(|pull| pull.updated);
    }
    // The latest first is what it gives unless another order is asked for.
    all.reverse();
    let (rows, next) = page(all, &asked);
    paged(rows.into_iter().map(|pull| pull_of(&forge, pull, false)).collect(), next)
}

async fn pull(State(shared): State<Shared>, Path((_, _, number)): Path<(String, String, u64)>) -> Answer {
    let mut forge = shared.forge();
    forge.follow_branches();
    let pull = forge.pull(number)?.clone();
    Ok(Json(pull_of(&forge, &pull, true)).into_response())
}

/// Refuses what is too long, as the vendor does.
fn fitting(body: &Value) -> Result<(), No> {
    match text(body, "body").map(|text| text.chars().count()) {
        Some(length) if length > MAX_BODY => {
            Err(No::Invalid(format!("Validation Failed: body is too long (maximum is {MAX_BODY} characters)")))
        }
        _ => Ok(()),
    }
}

async fn open(
    State(shared): State<Shared>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    fitting(&body)?;
    let of = |key: &str| text(&body, key).unwrap_or_default();
    let opened = forge.open(&login, of("head"), of("base"), of("title"), of("body"));
    let number = opened.map_err(|no| match no {
        No::Conflict(_) => {
            No::Invalid(format!("Validation Failed: A pull request already exists for ops:{}.", of("head")))
        }
        No::Missing => No::Invalid("Validation Failed: head invalid".to_owned()),
        no => no,
    })?;
    forge.pull(number)?.draft = body["draft"] == json!(true);
    let pull = forge.pull(number)?.clone();
    Ok((StatusCode::CREATED, Json(pull_of(&forge, &pull, true))).into_response())
}

async fn edit(
    State(shared): State<Shared>,
    Path((_, _, number)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.follow_branches();
    fitting(&body)?;
    forge.change(&login, number, |pull| {
        for (key, field) in [("title", &mut pull.title), ("body", &mut pull.body), ("base", &mut pull.base)] {
            if let Some(text) = text(&body, key) {
                *field = text.to_owned();
            }
        }
        match (text(&body, "state"), &pull.fate) {
            (Some("open"), Fate::Closed) => pull.fate = Fate::Open,
            (Some("closed"), Fate::Open) => pull.fate = Fate::Closed,
            _ => {}
        }
        Ok(())
    })?;
    let pull = forge.pull(number)?.clone();
    Ok(Json(pull_of(&forge, &pull, true)).into_response())
}

/// The two mutations that are asked for.
async fn graphql(
    State(shared): State<Shared>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    let query = text(&body, "query").unwrap_or_default();
    let draft = match (query.contains("convertPullRequestToDraft"), query.contains("markPullRequestReadyForReview")) {
        (true, false) => true,
        (false, true) => false,
        _ => return Ok(Json(json!({ "errors": [{ "message": "Parse error" }] })).into_response()),
    };
    let id = body["variables"]["id"].as_str().and_then(|id| id.strip_prefix("PR_")).and_then(|id| id.parse().ok());
    let done = id.ok_or(No::Missing).and_then(|number: u64| {
        forge.change(&login, number, |pull| {
            pull.draft = draft;
            Ok(())
        })
    });
    Ok(match done {
        Ok(()) => Json(json!({ "data": { "done": { "clientMutationId": null } } })).into_response(),
        Err(_) => {
            let message = "Could not resolve to a node with that global id";
            Json(json!({ "data": null, "errors": [{ "type": "NOT_FOUND", "message": message }] })).into_response()
        }
    })
}

async fn merge(
    State(shared): State<Shared>,
    Path((_, _, number)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.follow_branches();
    let merged = forge.merge(&login, number, text(&body, "sha"), |pull| pull.draft);
    let commit = merged.map_err(|no| match no {
        No::NotNow(why) if why.contains("try again") => {
            No::NotNow("Base branch was modified. Review and try the merge again.".to_owned())
        }
        No::Conflict(why) if why.contains("out of date") => {
            No::Conflict("Head branch was modified. Review and try the merge again, out of date".to_owned())
        }
        no => no,
    })?;
    let body = json!({ "sha": commit, "merged": true, "message": "Pull Request successfully merged" });
    Ok(Json(body).into_response())
}

fn review_of(review: &Review) -> Value {
    let state = match review.verdict.as_str() {
        "REQUEST_CHANGES" => "CHANGES_REQUESTED",
        "COMMENT" => "COMMENTED",
        other => other,
    };
    let url = format!("https://github.test/reviews/{}", review.id);
    json!({
        "id": review.id, "node_id": format!("PRR_{}", review.id), "user": account(&review.author), "state": state,
        "body": "", "commit_id": review.commit, "submitted_at": utc(review.at), "html_url": url,
        "pull_request_url": url, "author_association": "MEMBER",
        "_links": { "html": { "href": url }, "pull_request": { "href": url } },
    })
}

async fn reviews(
    State(shared): State<Shared>,
    Path((_, _, number)): Path<(String, String, u64)>,
    Query(asked): Asked,
) -> Answer {
    let mut forge = shared.forge();
    let (rows, next) = page(forge.pull(number)?.reviews.iter().map(review_of).collect(), &asked);
    Ok(paged(rows, next))
}

fn comment_of(comment: &Comment) -> Value {
    let url = format!("https://api.github.test/comments/{}", comment.id);
    json!({
        "id": comment.id, "node_id": format!("IC_{}", comment.id), "url": url, "html_url": url, "issue_url": url,
        "user": account(&comment.author), "body": comment.body, "author_association": "MEMBER",
        "created_at": utc(comment.created), "updated_at": utc(comment.updated),
    })
}

async fn comments(
    State(shared): State<Shared>,
    Path((_, _, number)): Path<(String, String, u64)>,
    Query(asked): Asked,
) -> Answer {
    let mut forge = shared.forge();
    let since = asked.get("since").cloned().unwrap_or_default();
    let is_due = |comment: &&Comment| since.is_empty() || utc(comment.updated) >= since;
    let all: Vec<Value> = forge.pull(number)?.comments.iter().filter(is_due).map(comment_of).collect();
    let (rows, next) = page(all, &asked);
    Ok(paged(rows, next))
}

async fn comment(
    State(shared): State<Shared>,
    Path((_, _, number)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    fitting(&body)?;
    let comment = shared.forge().comment(&login, number, text(&body, "body").unwrap_or_default())?;
    Ok((StatusCode::CREATED, Json(comment_of(&comment))).into_response())
}

async fn edit_comment(
    State(shared): State<Shared>,
    Path((_, _, id)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    fitting(&body)?;
    let comment = shared.forge().edit_comment(&login, id, text(&body, "body").unwrap_or_default())?;
    Ok(Json(comment_of(&comment)).into_response())
}

async fn react(
    State(shared): State<Shared>,
    Path((_, _, id)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    let content = text(&body, "content").unwrap_or_default().to_owned();
    if !["+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"].contains(&content.as_str()) {
        return Err(No::Invalid("Validation Failed: content".to_owned()).into());
    }
    let (_, comment) = forge.comment_of(id)?;
    let created = utc(comment.created);
    let is_new = comment.reactions.insert((login.clone(), content.clone()));
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let shown =
        json!({ "id": 1, "node_id": "REA_1", "user": account(&login), "content": content, "created_at": created });
    Ok((status, Json(shown)).into_response())
}

fn label_of(forge: &Forge, id: u64) -> Option<Value> {
    let (name, color) = forge.labels.get(&id)?;
    Some(json!({
        "id": id, "node_id": format!("LA_{id}"), "url": format!("https://api.github.test/labels/{id}"), "name": name,
        "color": color, "description": "", "default": false,
    }))
}

async fn make_label(
    State(shared): State<Shared>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.require(&login, Role::Write)?;
    let name = text(&body, "name").unwrap_or_default();
    if forge.labels.values().any(|(there, _)| there == name) {
        return Err(No::Invalid("Validation Failed: already_exists".to_owned()).into());
    }
    let color = text(&body, "color").unwrap_or("ededed").to_owned();
    let id = forge.id();
    forge.labels.insert(id, (name.to_owned(), color));
    Ok((StatusCode::CREATED, Json(label_of(&forge, id))).into_response())
}

fn labels_shown(forge: &mut Forge, number: u64) -> Answer {
    let ids = forge.pull(number)?.labels.clone();
    Ok(Json(ids.into_iter().filter_map(|id| label_of(forge, id)).collect::<Vec<_>>()).into_response())
}

async fn labels_of(State(shared): State<Shared>, Path((_, _, number)): Path<(String, String, u64)>) -> Answer {
    labels_shown(&mut shared.forge(), number)
}

async fn set_labels(
    State(shared): State<Shared>,
    Path((_, _, number)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.require(&login, Role::Write)?;
    let mut ids = BTreeSet::new();
    for name in body["labels"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let there = forge.labels.iter().find(|(_, (there, _))| there == name).map(|(id, _)| *id);
        ids.insert(there.unwrap_or_else(|| forge.label(name)));
    }
    forge.change(&login, number, |pull| {
        pull.labels = ids;
        Ok(())
    })?;
    labels_shown(&mut forge, number)
}

fn status_of(status: &Status) -> Value {
    let url = (!status.url.is_empty()).then_some(&status.url);
    json!({
        "id": status.id, "node_id": format!("SC_{}", status.id), "url": "https://api.github.test/statuses",
        "avatar_url": null, "state": status.state, "description": status.description, "target_url": url,
        "context": status.context, "created_at": utc(0), "updated_at": utc(0),
    })
}

/// The newest of each context.
async fn statuses(State(shared): State<Shared>, Path((_, _, commit)): Path<(String, String, String)>) -> Json<Value> {
    let forge = shared.forge();
    let mut newest = BTreeMap::new();
    for status in forge.statuses.get(&commit).into_iter().flatten() {
        newest.insert(status.context.clone(), status_of(status));
    }
    let count = newest.len();
    Json(json!({
        "state": "pending", "sha": commit, "total_count": count, "statuses": newest.into_values().collect::<Vec<_>>(),
        "repository": repository_of(&forge, 1, None), "commit_url": "https://api.github.test", "url": "https://api.github.test",
    }))
}

async fn set_status(
    State(shared): State<Shared>,
    Path((_, _, commit)): Path<(String, String, String)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let of = |key: &str| text(&body, key).unwrap_or_default().to_owned();
    if of("description").chars().count() > 140 {
        return Err(
            No::Invalid("Validation Failed: description is too long (maximum is 140 characters)".to_owned()).into()
        );
    }
    let status = Status {
        id: 0,
        context: of("context"),
        state: of("state"),
        description: of("description"),
        url: of("target_url"),
    };
    let set = shared.forge().set_status(&login, &commit, status).map_err(|no| match no {
        No::Missing => No::Invalid(format!("No commit found for SHA: {commit}")),
        no => no,
    })?;
    let mut shown = status_of(&set);
    shown["creator"] = account(&login);
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

async fn permission(
    State(shared): State<Shared>,
    Path((_, _, login)): Path<(String, String, String)>,
    Extension(Login(asks)): Extension<Login>,
) -> Answer {
    let forge = shared.forge();
    forge.require(&asks, Role::Write)?;
    let (login, role) = forge.known_as(&login).ok_or(No::Missing)?;
    let word = match role {
        Role::Admin => "admin",
        Role::Write => "write",
        Role::Read => "read",
    };
    Ok(Json(json!({ "permission": word, "role_name": word, "user": account(&login) })).into_response())
}
