//! A Gitea or Forgejo that somebody runs, for tests that are to hold there as well: `CHIFFON_TEST_GITEA_URL` says where, over
//! plain HTTP on this machine, and `CHIFFON_TEST_GITEA_TOKEN` is an administrator's. Each test gets an owner and a repository
//! of its own there, which are taken away again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use serde_json::{Value, json};

use super::host::{Host, Shown};
use super::{Dialect, Role, git};
use crate::http;

/// What all accounts made here sign in with.
const PASSWORD: &str = "of-a-test-and-no-secret";

/// Tells apart what one process makes.
static MADE: AtomicU64 = AtomicU64::new(0);

/// A repository on a real server.
#[derive(Debug)]
pub struct RealGitea {
    /// `127.0.0.1:3000`.
    address: String,
    admin: String,
    owner: String,
    tokens: Mutex<BTreeMap<String, String>>,
    /// A bare repository through which branches are made.
    copy: tempfile::TempDir,
}

impl RealGitea {
    /// One with an empty repository; `None`, and a word about it, where no server is named.
    #[expect(clippy::disallowed_methods, reason = "the one place of these tests that asks where a server is")]
    pub fn start() -> Option<Self> {
        let (Ok(url), Ok(admin)) = (std::env::var("CHIFFON_TEST_GITEA_URL"), std::env::var("CHIFFON_TEST_GITEA_TOKEN"))
        else {
            eprintln!("left out: CHIFFON_TEST_GITEA_URL and CHIFFON_TEST_GITEA_TOKEN name no server");
            return None;
        };
        let address = url.trim_end_matches('/').strip_prefix("http://");
        let address = address.expect("CHIFFON_TEST_GITEA_URL begins with http://: it is a server on this machine");
        let owner = format!("t{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let copy = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("git")
            .args(["init", "--quiet", "--bare", "--initial-branch=main"])
            .arg(copy.path())
            .status();
        assert!(made.unwrap().success());
        let forge =
            Self { address: address.to_owned(), admin: admin.trim().to_owned(), owner, tokens: Mutex::default(), copy };
        forge.token(&forge.owner);
        let body = json!({ "name": "requests", "private": true, "default_branch": "main" });
        forge.done("POST", &format!("admin/users/{}/repos", forge.owner), &body);
        Some(forge)
    }

    fn bare(&self) -> PathBuf {
        self.copy.path().to_owned()
    }

    /// The token of an account, which is made where it is not there yet.
    fn token(&self, login: &str) -> String {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = tokens.get(login) {
            return token.clone();
        }
        let account = json!({
            "username": login, "email": format!("{login}@forge.test"), "password": PASSWORD, "must_change_password": false,
        });
        let made = self.asked(&self.admin, "POST", "admin/users", &account);
        assert!([201, 422].contains(&made.status), "{made:?}");
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{login}:{PASSWORD}"));
        let name = format!("{}-{}", self.owner, tokens.len());
        let body = json!({ "name": name, "scopes": ["all"] });
        let path = format!("users/{login}/tokens");
        let answer = self.raw(&format!("Basic {basic}"), "POST", &path, &body);
        let token = answer.json()["sha1"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
        tokens.insert(login.to_owned(), token.clone());
        token
    }

    fn raw(&self, authorization: &str, method: &str, path: &str, body: &Value) -> http::Reply {
        let headers = [format!("Authorization: {authorization}"), "Content-Type: application/json".to_owned()];
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        http::ask(&self.address, method, &format!("/api/v1/{path}"), &headers, &body)
    }

    fn asked(&self, token: &str, method: &str, path: &str, body: &Value) -> http::Reply {
        self.raw(&format!("token {token}"), method, path, body)
    }

    /// Does something as the administrator.
    fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        self.done_as(&self.admin, method, path, body)
    }

    fn done_as(&self, token: &str, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.asked(token, method, path, body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    fn get(&self, path: &str) -> Value {
        self.done("GET", &self.below(path), &Value::Null)
    }

    /// A path below the repository.
    fn below(&self, path: &str) -> String {
        format!("repos/{}/requests/{path}", self.owner)
    }

    fn push(&self, login: &str, repository: &str, branch: &str) {
        let url = format!("http://{login}:{}@{}/{repository}.git", self.token(login), self.address);
        let pushed = git::run(&self.bare(), &["push", "--quiet", "--force", &url, branch]);
        assert!(pushed.is_some(), "{branch} was not pushed");
    }
}

impl Host for RealGitea {
    fn dialect(&self) -> Dialect {
        Dialect::Gitea
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn slug(&self) -> String {
        format!("{}/requests", self.owner)
    }

    fn account(&self, login: &str, role: Role) -> String {
        let token = self.token(login);
        let word = match role {
            Role::Read => "read",
            Role::Write => "write",
            Role::Admin => "admin",
        };
        self.done("PUT", &self.below(&format!("collaborators/{login}")), &json!({ "permission": word }));
        token
    }

    fn git_url(&self, login: &str) -> String {
        format!("http://{login}:{}@{}/{}.git", self.token(login), self.address, self.slug())
    }

    fn commit(&self, branch: &str, path: &str, text: &str) -> String {
        let commit = git::commit(&self.bare(), branch, Some("main"), path, text);
        self.push(&self.owner, &self.slug(), branch);
        commit
    }

    fn settle(&self) {
        for _ in 0..1_000 {
            let path = format!("repos/{}/requests", self.owner);
            if self.done("GET", &path, &Value::Null)["empty"] == false {
                return;
            }
        }
        panic!("{} stays empty", self.slug());
    }

    fn remove_branch(&self, branch: &str) {
        let url = self.git_url(&self.owner);
        git::run(&self.bare(), &["push", "--quiet", &url, &format!(":refs/heads/{branch}")]).unwrap();
    }

    fn tip(&self, branch: &str) -> Option<String> {
        let url = self.git_url(&self.owner);
        let listed = git::run(&self.bare(), &["ls-remote", &url, &format!("refs/heads/{branch}")]).unwrap();
        listed.split_whitespace().next().map(str::to_owned)
    }

    fn open_of(&self, head: &str) -> Option<u64> {
        let open = self.get("pulls?state=open&limit=50");
        let found = open.as_array().unwrap().iter().find(|pull| pull["head"]["ref"] == head)?;
        found["number"].as_u64()
    }

    fn shown(&self, number: u64) -> Shown {
        let pull = self.get(&format!("pulls/{number}"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let comments = self.get(&format!("issues/{number}/comments"));
        Shown {
            author: text(&pull["user"]["login"]),
            base: text(&pull["base"]["ref"]),
            title: text(&pull["title"]),
            body: text(&pull["body"]),
            head: text(&pull["head"]["sha"]),
            labels: pull["labels"].as_array().into_iter().flatten().map(|label| text(&label["name"])).collect(),
            merge: (pull["merged"] == true).then(|| text(&pull["merge_commit_sha"])),
            comments: comments
                .as_array()
                .unwrap()
                .iter()
                .map(|c| (text(&c["user"]["login"]), text(&c["body"])))
                .collect(),
        }
    }

    fn status(&self, commit: &str, context: &str) -> String {
        let all = self.get(&format!("commits/{commit}/status"));
        let of =
            |status: &Value| (status["context"] == context).then(|| status["status"].as_str().map(str::to_owned))?;
        all["statuses"].as_array().into_iter().flatten().find_map(of).unwrap_or_default()
    }

    fn merge(&self, login: &str, number: u64) {
        let (token, path) = (self.token(login), self.below(&format!("pulls/{number}/merge")));
        // It finds out after each push whether that can be done; each question takes it a while.
        for _ in 0..1_000 {
            let answer = self.asked(&token, "POST", &path, &json!({ "Do": "merge" }));
            if answer.status == 200 {
                return;
            }
            assert!(answer.status == 405 && answer.body.contains("try again later"), "{answer:?}");
        }
        panic!("pull request #{number} can't be merged");
    }

    fn close(&self, login: &str, number: u64) {
        self.done_as(
            &self.token(login),
            "PATCH",
            &self.below(&format!("pulls/{number}")),
            &json!({ "state": "closed" }),
        );
    }

    fn review(&self, login: &str, number: u64, verdict: &str) {
        let body = json!({ "event": verdict, "body": "looked at" });
        self.done_as(&self.token(login), "POST", &self.below(&format!("pulls/{number}/reviews")), &body);
    }

    fn label(&self, number: u64, name: &str) {
        let made = self.done("POST", &self.below("labels"), &json!({ "name": name, "color": "#cccccc" }));
        self.done("POST", &self.below(&format!("issues/{number}/labels")), &json!({ "labels": [made["id"]] }));
    }

    fn labels(&self) -> usize {
        self.get("labels?limit=50").as_array().unwrap().len()
    }

    fn pulls(&self) -> usize {
        self.get("pulls?state=all&limit=50").as_array().unwrap().len()
    }

    fn reactions(&self, comment: u64) -> BTreeSet<(String, String)> {
        let all = self.get(&format!("issues/comments/{comment}/reactions"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = all.as_array().into_iter().flatten();
        all.map(|reaction| (text(&reaction["user"]["login"]), text(&reaction["content"]))).collect()
    }

    fn open_from_fork(&self, login: &str, branch: &str) -> u64 {
        let token = self.account(login, Role::Read);
        let name = format!("requests-{}", self.owner);
        self.done_as(&token, "POST", &self.below("forks"), &json!({ "name": name }));
        git::commit(&self.bare(), "fork", Some("main"), "theirs", "theirs\n");
        let moved = format!("refs/heads/{branch}");
        git::run(&self.bare(), &["update-ref", &moved, "refs/heads/fork"]).unwrap();
        self.push(login, &format!("{login}/{name}"), branch);
        let body = json!({ "head": format!("{login}:{branch}"), "base": "main", "title": "theirs" });
        self.done_as(&token, "POST", &self.below("pulls"), &body)["number"].as_u64().unwrap()
    }
}

impl Drop for RealGitea {
    /// Its owner goes with all that is theirs. Others are shared by tests that run at the same time, and stay.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let gone = self.asked(&self.admin, "DELETE", &format!("admin/users/{}?purge=true", self.owner), &Value::Null);
        if gone.status != 204 {
            eprintln!("{} is left behind: {gone:?}", self.owner);
        }
    }
}
