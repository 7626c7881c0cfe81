//! The forge as Gitea and Forgejo speak it, below `/api/v1`.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Extension, Json};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::state::{Comment, Fate, No, Pull, Review, Role, State as Forge, Status};
use super::{Login, Shared, text};

/// What makes a title a draft.
const DRAFTS: [&str; 2] = ["WIP:", "[WIP]"];

/// Entries of a page, where nobody asks for fewer.
const PAGE: usize = 30;

/// The most of a page.
const MAX_PAGE: usize = 50;

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
            No::Missing => (StatusCode::NOT_FOUND, "The target couldn't be found.".to_owned()),
            No::Forbidden(why) => (StatusCode::FORBIDDEN, why),
            No::NotNow(why) => (StatusCode::METHOD_NOT_ALLOWED, why),
            No::Conflict(why) => (StatusCode::CONFLICT, why),
            No::Precondition(why) => (StatusCode::PRECONDITION_FAILED, why),
            No::Invalid(why) => (StatusCode::UNPROCESSABLE_ENTITY, why),
        };
        (status, Json(json!({ "message": message, "url": "http://forge.test/api/swagger" }))).into_response()
    }
}

/// Its routes.
pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/version", get(version))
        .route("/api/v1/user", get(user))
        .nest("/api/v1/repos/{owner}/{repo}", of_repository())
}

fn of_repository() -> Router<Shared> {
    Router::new()
        .route("/", get(repository))
        .route("/pulls", get(pulls).post(open))
        .route("/pulls/{number}", get(pull).patch(edit))
        .route("/pulls/{number}/merge", post(merge))
        .route("/pulls/{number}/reviews", get(reviews))
        .route("/issues/{number}/comments", get(comments).post(comment))
        .route("/issues/{number}/labels", get(labels_of).put(set_labels))
        .route("/issues/comments/{id}", patch(edit_comment))
        .route("/issues/comments/{id}/reactions", post(react))
        .route("/labels", get(labels).post(make_label))
        .route("/statuses/{commit}", get(statuses).post(set_status))
        .route("/collaborators/{login}/permission", get(permission))
        .route("/assignees", get(assignees))
        .route("/teams", get(teams))
        .merge(super::gitea_setup::routes())
}

async fn version() -> Json<Value> {
    Json(json!({ "version": "13.0.0+gitea-1.22.0" }))
}

async fn user(Extension(Login(login)): Extension<Login>) -> Json<Value> {
    Json(account(&login))
}

fn account(login: &str) -> Value {
    json!({
        "id": 1 + login.bytes().map(u64::from).sum::<u64>(), "login": login, "login_name": "", "full_name": "",
        "email": format!("{login}@forge.test"), "is_admin": false, "created": time(0), "last_login": time(0),
        "active": true, "visibility": "public",
    })
}

/// A time in the zone of some server far to the east.
fn time(secs: i64) -> String {
    let there = secs + 9 * 3600;
    let (days, rest) = (there.div_euclid(86_400), there.rem_euclid(86_400));
    // Days since 1970, after Howard Hinnant's `civil_from_days`.
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}+09:00",
        doy - (153 * mp + 2) / 5 + 1,
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    )
}

fn repository_of(forge: &Forge, login: &str) -> Value {
    let role = forge.roles.get(login);
    let (owner, name) = &forge.slug;
    json!({
        "id": 1, "owner": account(owner), "name": name, "full_name": format!("{owner}/{name}"), "private": true,
        "default_branch": "main", "html_url": format!("http://forge.test/{owner}/{name}"), "archived": false,
        "permissions": {
            "admin": role >= Some(&Role::Admin), "push": role >= Some(&Role::Write), "pull": role.is_some(),
        },
    })
}

async fn repository(State(shared): State<Shared>, Extension(Login(login)): Extension<Login>) -> Json<Value> {
    Json(repository_of(&shared.forge(), &login))
}

/// Whether a title says that its pull request is a draft.
fn is_draft(pull: &Pull) -> bool {
    let title = pull.title.to_ascii_uppercase();
    DRAFTS.iter().any(|mark| title.starts_with(mark))
}

fn pull_of(forge: &Forge, pull: &Pull) -> Value {
    let (merged, commit, by) = match &pull.fate {
        Fate::Merged { commit, by } => (true, json!(commit), account(by)),
        Fate::Open | Fate::Closed => (false, Value::Null, Value::Null),
    };
    let repository = |id: u64| json!({ "id": id, "name": forge.slug.1 });
    let head_repository = if pull.fork.is_some() { 2 } else { 1 };
    let open = pull.fate == Fate::Open;
    // Who deleted the branch is shown where its last commit is kept.
    let is_there = pull.fork.is_some() || super::git::tip(&forge.bare, &pull.head).is_some();
    let head = if is_there { pull.head.clone() } else { format!("refs/pull/{}/head", pull.number) };
    json!({
        "id": pull.number, "number": pull.number, "user": account(&pull.author), "title": pull.title, "body": pull.body,
        "labels": pull.labels.iter().filter_map(|id| label_of(forge, *id)).collect::<Vec<_>>(),
        "state": if open { "open" } else { "closed" }, "draft": is_draft(pull), "is_locked": false,
        "comments": pull.comments.len(), "mergeable": open, "merged": merged, "merged_by": by,
        "merge_commit_sha": commit, "updated_at": time(pull.updated), "created_at": time(pull.updated),
        "html_url": format!("http://forge.test/{}/{}/pulls/{}", forge.slug.0, forge.slug.1, pull.number),
        "base": { "label": pull.base, "ref": pull.base, "sha": "", "repo_id": 1, "repo": repository(1) },
        "head": {
            "label": pull.head, "ref": head, "sha": pull.head_commit, "repo_id": head_repository,
            "repo": repository(head_repository),
        },
    })
}

/// One page of what there is.
fn page<T>(all: Vec<T>, asked: &BTreeMap<String, String>) -> Vec<T> {
    let number = |key: &str| asked.get(key).and_then(|text| text.parse::<usize>().ok());
    let limit = number("limit").unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let first = (number("page").unwrap_or(1).max(1) - 1) * limit;
    all.into_iter().skip(first).take(limit).collect()
}

async fn pulls(State(shared): State<Shared>, Query(asked): Asked) -> Json<Value> {
    let mut forge = shared.forge();
    forge.follow_branches();
    let state = asked.get("state").map_or("open", String::as_str);
    let mut all: Vec<&Pull> =
        forge.pulls.values().filter(|pull| state == "all" || (state == "open") == (pull.fate == Fate::Open)).collect();
    if asked.get("sort").is_some_and(|sort| sort == "recentupdate") {
        all.sort_by_key(|pull| std::cmp::Reverse(pull.updated));
    }
    // `head` is passed over, as by the servers that are out there.
    Json(page(all, &asked).into_iter().map(|pull| pull_of(&forge, pull)).collect())
}

async fn pull(State(shared): State<Shared>, Path((_, _, number)): Path<(String, String, u64)>) -> Answer {
    let mut forge = shared.forge();
    forge.follow_branches();
    let pull = forge.pull(number)?.clone();
    Ok(Json(pull_of(&forge, &pull)).into_response())
}

async fn open(
    State(shared): State<Shared>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    let (head, base) = (text(&body, "head").unwrap_or_default(), text(&body, "base").unwrap_or_default());
    let title = text(&body, "title").filter(|title| !title.is_empty());
    let title = title.ok_or_else(|| No::Invalid("[Title]: Required".to_owned()))?;
    let number = forge.open(&login, head, base, title, text(&body, "body").unwrap_or_default())?;
    let pull = forge.pull(number)?.clone();
    Ok((StatusCode::CREATED, Json(pull_of(&forge, &pull))).into_response())
}

async fn edit(
    State(shared): State<Shared>,
    Path((_, _, number)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.follow_branches();
    forge.change(&login, number, |pull| {
        if let Some(title) = text(&body, "title").filter(|title| !title.is_empty()) {
            pull.title = title.to_owned();
        }
        if let Some(text) = text(&body, "body") {
            pull.body = text.to_owned();
        }
        if let Some(base) = text(&body, "base") {
            pull.base = base.to_owned();
        }
        match (text(&body, "state"), &pull.fate) {
            (Some(_), Fate::Merged { .. }) => {
                Err(No::Precondition("cannot change state of this pull request, it was already merged".to_owned()))
            }
            (Some(state), _) => {
                pull.fate = if state == "open" { Fate::Open } else { Fate::Closed };
                Ok(())
            }
            (None, _) => Ok(()),
        }
    })?;
    let pull = forge.pull(number)?.clone();
    Ok((StatusCode::CREATED, Json(pull_of(&forge, &pull))).into_response())
}

async fn merge(
    State(shared): State<Shared>,
    Path((_, _, number)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.follow_branches();
    if text(&body, "Do") != Some("merge") {
        return Err(No::NotNow("Invalid merge style".to_owned()).into());
    }
    forge.merge(&login, number, text(&body, "head_commit_id"), is_draft)?;
    Ok(StatusCode::OK.into_response())
}

async fn reviews(
    State(shared): State<Shared>,
    Path((_, _, number)): Path<(String, String, u64)>,
    Query(asked): Asked,
) -> Answer {
    let mut forge = shared.forge();
    forge.follow_branches();
    let pull = forge.pull(number)?;
    let head = pull.head_commit.clone();
    let all: Vec<Value> =
        page(pull.reviews.iter().collect(), &asked).into_iter().map(|row| review_of(row, &head)).collect();
    Ok(Json(all).into_response())
}

fn review_of(review: &Review, head: &str) -> Value {
    json!({
        "id": review.id, "user": account(&review.author), "state": review.verdict, "commit_id": review.commit,
        "stale": review.commit != head, "official": true, "dismissed": false, "body": "", "comments_count": 0,
        "submitted_at": time(review.at), "updated_at": time(review.at),
    })
}

fn comment_of(comment: &Comment) -> Value {
    json!({
        "id": comment.id, "user": account(&comment.author), "body": comment.body,
        "created_at": time(comment.created), "updated_at": time(comment.updated),
    })
}

async fn comments(
    State(shared): State<Shared>,
    Path((_, _, number)): Path<(String, String, u64)>,
    Query(asked): Asked,
) -> Answer {
    let mut forge = shared.forge();
    let since = asked.get("since").cloned().unwrap_or_default();
    // Both are of one shape, so that later is greater; the question comes in UTC.
    let is_due = |comment: &&Comment| since.is_empty() || super::utc(comment.updated) >= since;
    let all: Vec<Value> = forge.pull(number)?.comments.iter().filter(is_due).map(comment_of).collect();
    Ok(Json(all).into_response())
}

async fn comment(
    State(shared): State<Shared>,
    Path((_, _, number)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let comment = shared.forge().comment(&login, number, text(&body, "body").unwrap_or_default())?;
    Ok((StatusCode::CREATED, Json(comment_of(&comment))).into_response())
}

async fn edit_comment(
    State(shared): State<Shared>,
    Path((_, _, id)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
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
    let (_, comment) = forge.comment_of(id)?;
    let created = comment.created;
    let is_new = comment.reactions.insert((login.clone(), content.clone()));
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let shown = json!({ "user": account(&login), "content": content, "created_at": time(created) });
    Ok((status, Json(shown)).into_response())
}

fn label_of(forge: &Forge, id: u64) -> Option<Value> {
    let (name, color) = forge.labels.get(&id)?;
    Some(json!({ "id": id, "name": name, "color": color, "description": "", "exclusive": false, "is_archived": false }))
}

async fn labels(State(shared): State<Shared>, Query(asked): Asked) -> Json<Value> {
    let forge = shared.forge();
    Json(page(forge.labels.keys().collect(), &asked).into_iter().filter_map(|id| label_of(&forge, *id)).collect())
}

async fn make_label(
    State(shared): State<Shared>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.require(&login, Role::Write)?;
    let color = text(&body, "color").unwrap_or_default();
    let digits = color.strip_prefix('#').unwrap_or(color);
    if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(No::Invalid("bad color code".to_owned()).into());
    }
    let id = forge.id();
    let label = (text(&body, "name").unwrap_or_default().to_owned(), digits.to_owned());
    forge.labels.insert(id, label);
    Ok((StatusCode::CREATED, Json(label_of(&forge, id))).into_response())
}

async fn labels_of(State(shared): State<Shared>, Path((_, _, number)): Path<(String, String, u64)>) -> Answer {
    let mut forge = shared.forge();
    let ids = forge.pull(number)?.labels.clone();
    Ok(Json(ids.into_iter().filter_map(|id| label_of(&forge, id)).collect::<Vec<_>>()).into_response())
}

async fn set_labels(
    State(shared): State<Shared>,
    Path((_, _, number)): Path<(String, String, u64)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let mut forge = shared.forge();
    forge.require(&login, Role::Write)?;
    let ids = body["labels"].as_array().cloned().unwrap_or_default();
    let ids = ids.iter().filter_map(Value::as_u64).filter(|id| forge.labels.contains_key(id)).collect();
    forge.change(&login, number, |pull| {
        pull.labels = ids;
        Ok(())
    })?;
    let ids = forge.pull(number)?.labels.clone();
    Ok(Json(ids.into_iter().filter_map(|id| label_of(&forge, id)).collect::<Vec<_>>()).into_response())
}

fn status_of(status: &Status) -> Value {
    json!({
        "id": status.id, "status": status.state, "context": status.context, "description": status.description,
        "target_url": status.url, "created_at": time(0), "updated_at": time(0),
    })
}

async fn statuses(
    State(shared): State<Shared>,
    Path((_, _, commit)): Path<(String, String, String)>,
    Query(asked): Asked,
) -> Json<Value> {
    let forge = shared.forge();
    // All of them are of one second, in which none is the latest.
    let all: Vec<&Status> = forge.statuses.get(&commit).into_iter().flatten().collect();
    Json(page(all, &asked).into_iter().map(status_of).collect())
}

async fn set_status(
    State(shared): State<Shared>,
    Path((_, _, commit)): Path<(String, String, String)>,
    Extension(Login(login)): Extension<Login>,
    Json(body): Json<Value>,
) -> Answer {
    let of = |key: &str| text(&body, key).unwrap_or_default().to_owned();
    let status = Status {
        id: 0,
        context: of("context"),
        state: of("state"),
        description: of("description"),
        url: of("target_url"),
    };
    let status = shared.forge().set_status(&login, &commit, status)?;
    Ok((StatusCode::CREATED, Json(status_of(&status))).into_response())
}

async fn permission(
    State(shared): State<Shared>,
    Path((_, _, login)): Path<(String, String, String)>,
    Extension(Login(asks)): Extension<Login>,
) -> Answer {
    let forge = shared.forge();
    // Only who may change settings may ask, about themselves as well: that goes by a name that local accounts have not.
    forge.require(&asks, Role::Admin)?;
    let word = match forge.roles.get(&login).ok_or(No::Missing)? {
        Role::Admin => "admin",
        Role::Write => "write",
        Role::Read => "read",
    };
    Ok(Json(json!({ "permission": word, "role_name": word, "user": account(&login) })).into_response())
}

/// The teams of an organization's repository; a person's has none.
async fn teams(State(shared): State<Shared>) -> Answer {
    if shared.forge().of_organization {
        return Ok(Json(json!([])).into_response());
    }
    Err(No::NotNow("repo is not owned by an organization".to_owned()).into())
}

/// Whom something may be assigned to: whoever may write.
async fn assignees(State(shared): State<Shared>) -> Json<Value> {
    let forge = shared.forge();
    Json(forge.roles.iter().filter(|(_, role)| **role >= Role::Write).map(|(login, _)| account(login)).collect())
}
