//! Gitea and Forgejo: one adapter, since what it asks of them is the same to this day.
//!
//! What differs from GitHub: a draft is a title; labels go by number; a merge is refused with 405 while the server still
//! finds out whether it can be done; lists are paged by `limit`; there is no `ETag`, so that being asked seldom is all
//! that saves calls.

mod setup;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use chiffon_schemas::{Oid, Timestamp};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::http::{Address, Answer, Ask, BadAddress, Http};
use crate::port::{
    Comment, Edit, Forge, Identity, Label, NewPull, Permission, Pull, PullState, Reaction, Repository, Review, Status,
};
use crate::setup::Guard;
use crate::{Slug, Trouble};

/// Entries of a page: the most that a server gives unless its owner raised it.
const PAGE: usize = 50;

/// Pages that are read of one list. More pull requests than these in one poll are found by the next ones.
const PAGES: usize = 20;

/// How long until a merge that came too early is tried again.
const MERGEABLE_AFTER: Duration = Duration::from_secs(1);

/// A branch that was just pushed is not known to the server at once: how often a pull request of it is tried again, and how
/// far apart.
const TRIES: usize = 10;
const APART: Duration = Duration::from_millis(200);

/// What the bot needs where only an administrator is told who may write.
const ADMIN: &str = "an account that administers the repository, since it is an organization's";

/// What a token needs, in the words of the page that makes one.
const REPOSITORY: &str = "the scope write:repository, and write access to the repository";
const ISSUE: &str = "the scope write:issue, and write access to the repository";
const USER: &str = "the scope read:user";

/// Everybody to whom something may be assigned.
const WRITERS: (&str, &str) = ("list who may write", REPOSITORY);

/// A repository on a Gitea or Forgejo server.
#[derive(Debug)]
pub struct Gitea {
    http: Http,
    slug: Slug,
}

impl Gitea {
    /// The path of its API.
    pub const API: &'static str = "api/v1";

    /// The repository `slug` of the server at `address`, as who the token speaks for.
    ///
    /// # Errors
    /// The address or the token can't be used.
    pub fn new(address: Address<'_>, slug: Slug, token: &str) -> Result<Self, BadAddress> {
        let token = HeaderValue::try_from(format!("token {token}")).map_err(|_| BadAddress {
            reason: "has a token that is none: it holds other than visible ASCII".to_owned(),
        })?;
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        Ok(Self { http: Http::new(address, token, headers)?, slug })
    }

    async fn ask(&self, ask: Ask<'_>) -> Result<Answer, Trouble> {
        self.http.ask(ask).await
    }

    /// Asks about the repository.
    async fn of_repository(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Value>,
        (what, needs): (&'static str, &'static str),
    ) -> Result<Answer, Trouble> {
        let path: Vec<&str> =
            ["repos", self.slug.owner(), self.slug.name()].into_iter().chain(path.iter().copied()).collect();
        self.ask(Ask { method, path: &path, query, body, by: None, what, needs }).await
    }

    async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        about: (&'static str, &'static str),
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Result<Vec<T>, Trouble> {
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let paged: Vec<_> =
                query.iter().cloned().chain([("limit", PAGE.to_string()), ("page", page.to_string())]).collect();
            let rows: Vec<T> = self.of_repository(Method::GET, path, &paged, None, about).await?.read(about.0)?;
            let is_last = rows.is_empty();
            let before = all.len();
            let found = rows.len();
            all.extend(rows.into_iter().filter(&mut wanted));
            // A server may give fewer than it was asked for; only an empty page is surely behind the last one.
            if is_last || (all.len() - before < found) {
                break;
            }
        }
        Ok(all)
    }

    /// The numbers of labels, those made that are not there.
    async fn label_ids(&self, labels: &BTreeSet<Label>) -> Result<Vec<i64>, Trouble> {
        const ABOUT: (&str, &str) = ("read its labels", ISSUE);
        let rows = self.list::<wire::LabelRow>(&["labels"], &[], ABOUT, |_| true).await?;
        let mut known: BTreeMap<String, i64> = rows.into_iter().map(|row| (row.name, row.id)).collect();
        let mut ids = Vec::new();
        for label in labels {
            let id = match known.remove(&label.name) {
                Some(id) => id,
                None => self.make_label(label).await?,
            };
            ids.push(id);
        }
        Ok(ids)
    }

    async fn make_label(&self, label: &Label) -> Result<i64, Trouble> {
        const ABOUT: (&str, &str) = ("make a label", ISSUE);
        let body = json!({ "name": label.name, "color": format!("#{}", label.color) });
        let made = self.of_repository(Method::POST, &["labels"], &[], Some(body), ABOUT).await?;
        Ok(made.read::<wire::LabelRow>(ABOUT.0)?.id)
    }

    async fn pull_of(&self, answer: &Answer, what: &'static str) -> Result<Pull, Trouble> {
        Ok(answer.read::<wire::PullRow>(what)?.pull())
    }
}

/// A title as the server has it.
fn titled(edit: &Edit) -> String {
    if edit.draft { format!("{}{}", wire::DRAFT, edit.title) } else { edit.title.clone() }
}

impl Gitea {
    /// Whether the repository belongs to an organization, which alone has teams.
    async fn is_of_organization(&self) -> Result<bool, Trouble> {
        const ABOUT: (&str, &str) = ("list the repository's teams", REPOSITORY);
        match self.of_repository(Method::GET, &["teams"], &[], None, ABOUT).await {
            Ok(_) => Ok(true),
            Err(Trouble::Conflict { .. }) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }
}

#[async_trait]
impl Forge for Gitea {
    fn address(&self, login: &str) -> String {
        format!("{login}@noreply.{}", self.http.host())
    }

    async fn identity(&self) -> Result<Identity, Trouble> {
        const WHO: (&str, &str) = ("say who the token is of", USER);
        let get = |path, (what, needs): (&'static str, &'static str)| Ask {
            method: Method::GET,
            path,
            query: &[],
            body: None,
            by: None,
            what,
            needs,
        };
        let user: wire::User = self.ask(get(&["user"], WHO)).await?.read(WHO.0)?;
        const VERSION: (&str, &str) = ("say its version", USER);
        let wire::Version { version } = self.ask(get(&["version"], VERSION)).await?.read(VERSION.0)?;
        // Forgejo says which Gitea it came from, behind a plus sign.
        let server = match version.split_once("+gitea-") {
            Some((own, _)) => format!("Forgejo {own}"),
            None => format!("Gitea {version}"),
        };
        Ok(Identity { login: user.login, server })
    }

    async fn repository(&self) -> Result<Repository, Trouble> {
        const ABOUT: (&str, &str) = ("read the repository", REPOSITORY);
        let row: wire::Repository = self.of_repository(Method::GET, &[], &[], None, ABOUT).await?.read(ABOUT.0)?;
        Ok(Repository {
            permission: row.permissions.permission(),
            full_name: row.full_name,
            default_branch: row.default_branch,
            url: row.html_url,
        })
    }

    async fn find(&self, branch: &str) -> Result<Option<Pull>, Trouble> {
        // The server has a question for this, but wants the base as well, which a person may have changed; and its
        // filter by `head` is passed over by most versions.
        const ABOUT: (&str, &str) = ("list pull requests", REPOSITORY);
        let mut newest: Option<Pull> = None;
        for state in ["open", "all"] {
            let query = [("state", state.to_owned()), ("sort", "recentupdate".to_owned())];
            for row in self.list::<wire::PullRow>(&["pulls"], &query, ABOUT, |_| true).await? {
                let pull = row.pull();
                let ours = pull.head == branch && !pull.foreign;
                if ours && newest.as_ref().is_none_or(|newest| newest.number < pull.number) {
                    newest = Some(pull);
                }
            }
            if newest.is_some() {
                break;
            }
        }
        Ok(newest)
    }

    async fn pull(&self, number: u64) -> Result<Option<Pull>, Trouble> {
        const ABOUT: (&str, &str) = ("read a pull request", REPOSITORY);
        let number = number.to_string();
        match self.of_repository(Method::GET, &["pulls", &number], &[], None, ABOUT).await {
            Ok(answer) => Ok(Some(self.pull_of(&answer, ABOUT.0).await?)),
            Err(Trouble::NotFound { .. }) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    async fn changed(&self, since: Option<Timestamp>) -> Result<Vec<Pull>, Trouble> {
        const ABOUT: (&str, &str) = ("list pull requests", REPOSITORY);
        let state = if since.is_some() { "all" } else { "open" };
        let query = [("state", state.to_owned()), ("sort", "recentupdate".to_owned())];
        let rows = self
            .list::<wire::PullRow>(&["pulls"], &query, ABOUT, |row| since.is_none_or(|since| row.updated() >= since));
        Ok(rows.await?.into_iter().map(wire::PullRow::pull).collect())
    }

    async fn open(&self, new: &NewPull) -> Result<Pull, Trouble> {
        const ABOUT: (&str, &str) = ("open a pull request", REPOSITORY);
        let body = json!({ "head": new.head, "base": new.base, "title": titled(&new.edit), "body": new.edit.body });
        let post = async || self.of_repository(Method::POST, &["pulls"], &[], Some(body.clone()), ABOUT).await;
        let mut opened = post().await;
        for _ in 1..TRIES {
            if !matches!(opened, Err(Trouble::NotFound { .. })) {
                break;
            }
            tokio::time::sleep(APART).await;
            opened = post().await;
        }
        match opened {
            Ok(answer) => self.pull_of(&answer, ABOUT.0).await,
            // It was opened before, and the answer to that was lost.
            Err(conflict @ Trouble::Conflict { .. }) => {
                match self.find(&new.head).await?.filter(|pull| pull.state == PullState::Open) {
                    Some(pull) => self.edit(pull.number, &new.edit).await,
                    None => Err(conflict),
                }
            }
            Err(trouble) => Err(trouble),
        }
    }

    async fn edit(&self, number: u64, edit: &Edit) -> Result<Pull, Trouble> {
        const ABOUT: (&str, &str) = ("edit a pull request", REPOSITORY);
        let body = json!({ "title": titled(edit), "body": edit.body });
        let path = ["pulls", &number.to_string()];
        let answer = self.of_repository(Method::PATCH, &path, &[], Some(body), ABOUT).await?;
        self.pull_of(&answer, ABOUT.0).await
    }

    async fn close(&self, number: u64) -> Result<(), Trouble> {
        const ABOUT: (&str, &str) = ("close a pull request", REPOSITORY);
        let path = ["pulls", &number.to_string()];
        match self.of_repository(Method::PATCH, &path, &[], Some(json!({ "state": "closed" })), ABOUT).await {
            Ok(_) => Ok(()),
            Err(conflict @ Trouble::Conflict { .. }) => match self.pull(number).await? {
                Some(Pull { state: PullState::Open, .. }) => Err(conflict),
                Some(_) | None => Ok(()),
            },
            Err(trouble) => Err(trouble),
        }
    }

    async fn set_labels(&self, number: u64, labels: &BTreeSet<Label>) -> Result<(), Trouble> {
        const ABOUT: (&str, &str) = ("label a pull request", ISSUE);
        let number = number.to_string();
        let path = ["issues", number.as_str(), "labels"];
        let there: Vec<wire::LabelRow> =
            self.of_repository(Method::GET, &path, &[], None, ABOUT).await?.read(ABOUT.0)?;
        let wanted: BTreeSet<&str> = labels.iter().map(|label| label.name.as_str()).collect();
        let ours: BTreeSet<&str> =
            there.iter().map(|row| row.name.as_str()).filter(|name| Label::is_ours(name)).collect();
        if ours == wanted {
            return Ok(());
        }
        let mut ids: Vec<i64> = there.iter().filter(|row| !Label::is_ours(&row.name)).map(|row| row.id).collect();
        ids.extend(self.label_ids(labels).await?);
        self.of_repository(Method::PUT, &path, &[], Some(json!({ "labels": ids })), ABOUT).await.map(drop)
    }

    async fn comments(&self, number: u64, since: Option<Timestamp>) -> Result<Vec<Comment>, Trouble> {
        const ABOUT: (&str, &str) = ("read comments", ISSUE);
        let query: Vec<_> = since.iter().map(|since| ("since", since.to_string())).collect();
        // It gives all of them at once, whatever page is asked for.
        let path = ["issues", &number.to_string(), "comments"];
        let rows: Vec<wire::CommentRow> =
            self.of_repository(Method::GET, &path, &query, None, ABOUT).await?.read(ABOUT.0)?;
        Ok(rows.into_iter().map(wire::CommentRow::comment).collect())
    }

    async fn comment(&self, number: u64, body: &str) -> Result<Comment, Trouble> {
        const ABOUT: (&str, &str) = ("write a comment", ISSUE);
        let path = ["issues", &number.to_string(), "comments"];
        let answer = self.of_repository(Method::POST, &path, &[], Some(json!({ "body": body })), ABOUT).await?;
        Ok(answer.read::<wire::CommentRow>(ABOUT.0)?.comment())
    }

    async fn edit_comment(&self, comment: u64, body: &str) -> Result<bool, Trouble> {
        const ABOUT: (&str, &str) = ("edit a comment", ISSUE);
        let path = ["issues", "comments", &comment.to_string()];
        match self.of_repository(Method::PATCH, &path, &[], Some(json!({ "body": body })), ABOUT).await {
            // It answers 204 where there is no such comment.
            Ok(answer) => Ok(!answer.bytes.is_empty()),
            Err(Trouble::NotFound { .. }) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    async fn react(&self, comment: u64, reaction: Reaction) -> Result<(), Trouble> {
        const ABOUT: (&str, &str) = ("react to a comment", ISSUE);
        let path = ["issues", "comments", &comment.to_string(), "reactions"];
        let body = json!({ "content": reaction.as_str() });
        self.of_repository(Method::POST, &path, &[], Some(body), ABOUT).await.map(drop)
    }

    async fn set_status(&self, commit: &Oid, status: &Status) -> Result<(), Trouble> {
        const ABOUT: (&str, &str) = ("set a commit's status", REPOSITORY);
        let body = json!({
            "context": status.context, "state": status.state.as_str(), "description": status.description,
            "target_url": status.url.as_deref().unwrap_or_default(),
        });
        self.of_repository(Method::POST, &["statuses", commit.as_str()], &[], Some(body), ABOUT).await.map(drop)
    }

    async fn statuses(&self, commit: &Oid) -> Result<Vec<Status>, Trouble> {
        const ABOUT: (&str, &str) = ("read a commit's statuses", REPOSITORY);
        let query = [("sort", "recentupdate".to_owned())];
        let rows = self.list::<wire::StatusRow>(&["statuses", commit.as_str()], &query, ABOUT, |_| true).await?;
        // Those of one second come in any order, and the orders by number that are on offer differ between versions.
        let mut newest: BTreeMap<String, (u64, Status)> = BTreeMap::new();
        for row in rows {
            let (id, status) = row.status();
            let known = newest.entry(status.context.clone()).or_insert_with(|| (id, status.clone()));
            if known.0 < id {
                *known = (id, status);
            }
        }
        Ok(newest.into_values().map(|(_, status)| status).collect())
    }

    async fn reviews(&self, number: u64) -> Result<Vec<Review>, Trouble> {
        const ABOUT: (&str, &str) = ("read reviews", REPOSITORY);
        let path = ["pulls", &number.to_string(), "reviews"];
        let rows = self.list::<wire::ReviewRow>(&path, &[], ABOUT, |_| true).await?;
        Ok(rows.into_iter().filter_map(wire::ReviewRow::review).collect())
    }

    async fn permission(&self, login: &str) -> Result<Permission, Trouble> {
        const ABOUT: (&str, &str) = ("say what somebody may do", REPOSITORY);
        match self.of_repository(Method::GET, &["collaborators", login, "permission"], &[], None, ABOUT).await {
            Ok(answer) => Ok(answer.read::<wire::PermissionRow>(ABOUT.0)?.permission()),
            Err(Trouble::NotFound { .. }) => Ok(Permission::None),
            // Only who may change the repository's settings is told. In one that belongs to a person, whom something may be
            // assigned to is whoever may write. In an organization's also members of teams that only read are listed: there
            // nobody counts as who may write, until the bot may ask.
            Err(Trouble::Forbidden { what, said, .. }) => {
                if self.is_of_organization().await? {
                    return Err(Trouble::Forbidden { what, said, needs: ADMIN });
                }
                let all: Vec<wire::User> =
                    self.of_repository(Method::GET, &["assignees"], &[], None, WRITERS).await?.read(WRITERS.0)?;
                let writes = all.iter().any(|user| user.login.eq_ignore_ascii_case(login));
                Ok(if writes { Permission::Write } else { Permission::None })
            }
            Err(trouble) => Err(trouble),
        }
    }

    async fn guard(&self, branch: &str) -> Result<Guard, Trouble> {
        const ABOUT: (&str, &str) = ("read a branch's rules", REPOSITORY);
        let path = ["branches", branch];
        Ok(self.of_repository(Method::GET, &path, &[], None, ABOUT).await?.read::<wire::BranchRow>(ABOUT.0)?.guard())
    }

    async fn merge(&self, number: u64, head: &Oid) -> Result<Oid, Trouble> {
        const ABOUT: (&str, &str) = ("merge a pull request", REPOSITORY);
        let body = json!({ "Do": "merge", "head_commit_id": head });
        let path = ["pulls", &number.to_string(), "merge"];
        match self.of_repository(Method::POST, &path, &[], Some(body), ABOUT).await {
            Ok(_) => {}
            // Whether it can be merged is found out after each push, in its own time.
            Err(Trouble::Conflict { what, said }) if said.contains("try again later") => {
                return Err(Trouble::Later { what, after: MERGEABLE_AFTER, said });
            }
            Err(trouble) => return Err(trouble),
        }
        // The answer to the merge is empty.
        match self.pull(number).await? {
            Some(Pull { state: PullState::Merged { commit: Some(commit), .. }, .. }) => Ok(commit),
            _ => Err(Trouble::Unreadable { what: ABOUT.0, why: "merged, and no commit is named".to_owned() }),
        }
    }
}
