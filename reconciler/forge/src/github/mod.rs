//! GitHub and GitHub Enterprise Server.
//!
//! What differs from Gitea: who asks often is told to wait, and what is asked with the `ETag` of the last answer counts for
//! nothing where nothing changed; a pull request is opened as a draft, and later only the GraphQL interface can make it one
//! or none; a body is at most 65 536 characters long.

mod app;
mod setup;
mod wire;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use chiffon_schemas::{Oid, Timestamp};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use app::{AppRow, InstallationRow, Issued};

pub use app::{App, BadKey};

use crate::http::{Address, Answer, Ask, BadAddress, Http};
use crate::port::{
    Comment, Edit, Forge, Identity, Label, NewPull, Permission, Pull, PullState, Reaction, Repository, Review, Status,
};
use crate::setup::Guard;
use crate::{Slug, Trouble};

/// The version of the interface that this is written for; the server keeps to it.
const VERSION: &str = "2022-11-28";

/// Entries of a page: the most that there are.
const PAGE: &str = "100";

/// Pages that are read of one list.
const PAGES: usize = 10;

/// The longest body of a pull request or a comment, in characters.
const MAX_BODY: usize = 65_536;

/// How long until a merge that came too early is tried again.
const MERGEABLE_AFTER: Duration = Duration::from_secs(1);

/// What a token needs: in the words of the page that makes one.
const PULLS: &str = "read and write access to pull requests";
const CONTENTS: &str = "read and write access to contents";
const STATUSES: &str = "read and write access to commit statuses";
const METADATA: &str = "read access to metadata";

/// The way out where an App is not known.
const RIGHT_KEY: &str = "`forge.app` needs the App's own number and key, and this machine's clock has to be right";

/// A repository on GitHub.
#[derive(Debug)]
pub struct GitHub {
    http: Http,
    slug: Slug,
    /// Where GraphQL is asked, below the API.
    graphql: &'static [&'static str],
    /// Who it speaks for, where that is an App.
    app: Option<App>,
}

impl GitHub {
    /// The repository `slug` of the server whose API is at `address`, as who the token speaks for.
    ///
    /// # Errors
    /// The address or the token can't be used.
    pub fn new(address: Address<'_>, slug: Slug, token: &str) -> Result<Self, BadAddress> {
        let token = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| BadAddress {
            reason: "has a token that is none: it holds other than visible ASCII".to_owned(),
        })?;
        Ok(Self { http: Http::new(address, token, headers())?, slug, graphql: &["graphql"], app: None })
    }

    /// The same, as an App.
    ///
    /// # Errors
    /// The address can't be used.
    pub fn as_app(address: Address<'_>, slug: Slug, app: App) -> Result<Self, BadAddress> {
        let http = Http::new(address, app.said(), headers())?;
        Ok(Self { http, slug, graphql: &["graphql"], app: Some(app) })
    }

    /// The App's token for the repository, made anew before it ends.
    async fn issued(&self) -> Result<Option<Issued>, Trouble> {
        const PLACE: (&str, &str) = ("find the App's installation", "to be installed on the repository");
        const TOKEN: (&str, &str) = ("get the App's token", "to be installed on the repository");
        let Some(app) = &self.app else { return Ok(None) };
        if let Some(issued) = app.token() {
            return Ok(Some(issued));
        }
        let path = ["repos", self.slug.owner(), self.slug.name(), "installation"];
        let place: InstallationRow = self.ask_as_app(app, Method::GET, &path, PLACE).await?;
        let path = ["app", "installations", &place.id.to_string(), "access_tokens"];
        let issued = app.keep(self.ask_as_app(app, Method::POST, &path, TOKEN).await?);
        let by = HeaderValue::try_from(format!("Bearer {}", issued.token));
        self.http.is_asked_by(by.map_err(|error| Trouble::Unreadable { what: TOKEN.0, why: error.to_string() })?);
        Ok(Some(issued))
    }

    async fn ask_as_app<T: DeserializeOwned>(
        &self,
        app: &App,
        method: Method,
        path: &[&str],
        (what, needs): (&'static str, &'static str),
    ) -> Result<T, Trouble> {
        let ask = Ask { method, path, query: &[], body: None, by: Some(app.said()), what, needs };
        match self.http.ask(ask).await {
            Ok(answer) => answer.read(what),
            Err(Trouble::NotFound { said, .. }) => Err(Trouble::Forbidden { what, said, needs }),
            Err(Trouble::Unauthorized { said, .. }) => Err(Trouble::Unauthorized { said, fix: RIGHT_KEY }),
            Err(trouble) => Err(trouble),
        }
    }

    /// Asks as who it speaks for.
    async fn ask(&self, ask: Ask<'_>) -> Result<Answer, Trouble> {
        let Some(app) = &self.app else { return self.http.ask(ask).await };
        self.issued().await?;
        match self.http.ask(ask.clone()).await {
            // Installed anew, or its rights were changed: it has another token by now.
            Err(Trouble::Unauthorized { .. }) => {
                app.drop_token();
                self.issued().await?;
                self.http.ask(ask).await
            }
            answer => answer,
        }
    }

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

    /// Reads a list page by page, for as long as every entry is wanted.
    async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        about: (&'static str, &'static str),
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, Trouble> {
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let paged: Vec<_> =
                query.iter().cloned().chain([("per_page", PAGE.to_owned()), ("page", page.to_string())]).collect();
            let answer = self.of_repository(Method::GET, path, &paged, None, about).await?;
            let rows: Vec<T> = answer.read(about.0)?;
            let found = rows.len();
            let before = all.len();
            all.extend(rows.into_iter().filter(|row| wanted(row)));
            if !answer.more || all.len() - before < found {
                break;
            }
        }
        Ok(all)
    }

    async fn row(&self, number: u64) -> Result<wire::PullRow, Trouble> {
        const ABOUT: (&str, &str) = ("read a pull request", PULLS);
        self.of_repository(Method::GET, &["pulls", &number.to_string()], &[], None, ABOUT).await?.read(ABOUT.0)
    }

    /// Makes a pull request a draft, or none.
    async fn set_draft(&self, row: &wire::PullRow, draft: bool) -> Result<(), Trouble> {
        const ABOUT: (&str, &str) = ("make a pull request a draft or none", PULLS);
        let mutation = if draft { "convertPullRequestToDraft" } else { "markPullRequestReadyForReview" };
        let query =
            format!("mutation($id: ID!) {{ {mutation}(input: {{pullRequestId: $id}}) {{ clientMutationId }} }}");
        let body = json!({ "query": query, "variables": { "id": row.node_id } });
        let ask = Ask {
            method: Method::POST,
            path: self.graphql,
            query: &[],
            body: Some(body),
            by: None,
            what: ABOUT.0,
            needs: ABOUT.1,
        };
        let graph: wire::Graph = self.ask(ask).await?.read(ABOUT.0)?;
        match graph.errors.into_iter().next() {
            Some(error) => Err(Trouble::Conflict { what: ABOUT.0, said: crate::http::said(&error.message) }),
            None => Ok(()),
        }
    }

    /// Makes a label; whether it was not there.
    async fn make_label(&self, label: &Label) -> Result<bool, Trouble> {
        const ABOUT: (&str, &str) = ("make a label", PULLS);
        let body = json!({ "name": label.name, "color": label.color });
        match self.of_repository(Method::POST, &["labels"], &[], Some(body), ABOUT).await {
            Ok(_) => Ok(true),
            Err(Trouble::Conflict { .. }) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }
}

/// What goes with every question.
fn headers() -> HeaderMap {
    HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("application/vnd.github+json")),
        (HeaderName::from_static("x-github-api-version"), HeaderValue::from_static(VERSION)),
    ])
}

/// A body that fits, with a mark where it was cut.
fn fitting(body: &str) -> String {
    const MARK: &str = "\n… cut here: GitHub takes no more";
    if body.chars().count() <= MAX_BODY {
        return body.to_owned();
    }
    body.chars().take(MAX_BODY - MARK.chars().count()).chain(MARK.chars()).collect()
}

#[async_trait]
impl Forge for GitHub {
    fn address(&self, login: &str) -> String {
        format!("{login}@users.noreply.github.com")
    }

    async fn identity(&self) -> Result<Identity, Trouble> {
        const ABOUT: (&str, &str) = ("say who the token is of", METADATA);
        let server = "GitHub".to_owned();
        if let Some(app) = &self.app {
            let AppRow { slug } = self.ask_as_app(app, Method::GET, &["app"], ABOUT).await?;
            // So it is called wherever it writes something.
            return Ok(Identity { login: format!("{slug}[bot]"), server });
        }
        let (what, needs) = ABOUT;
        let ask = Ask { method: Method::GET, path: &["user"], query: &[], body: None, by: None, what, needs };
        let user: wire::User = self.ask(ask).await?.read(what)?;
        Ok(Identity { login: user.login, server })
    }

    async fn git_token(&self) -> Result<Option<String>, Trouble> {
        Ok(self.issued().await?.map(|issued| issued.token))
    }

    fn git_failed(&self) {
        if let Some(app) = &self.app {
            app.drop_token();
        }
    }

    async fn repository(&self) -> Result<Repository, Trouble> {
        const ABOUT: (&str, &str) = ("read the repository", METADATA);
        let row: wire::Repository = self.of_repository(Method::GET, &[], &[], None, ABOUT).await?.read(ABOUT.0)?;
        // Of an App it is said with its token.
        let permission = self.issued().await?.map_or_else(|| row.permission(), |issued| issued.permission);
        Ok(Repository { permission, full_name: row.full_name, default_branch: row.default_branch, url: row.html_url })
    }

    async fn find(&self, branch: &str) -> Result<Option<Pull>, Trouble> {
        const ABOUT: (&str, &str) = ("list pull requests", PULLS);
        let query = [("state", "all".to_owned()), ("head", format!("{}:{branch}", self.slug.owner()))];
        let rows = self.list::<wire::PullRow>(&["pulls"], &query, ABOUT, |_| true).await?;
        let ours = rows.into_iter().map(wire::PullRow::pull).filter(|pull| pull.head == branch && !pull.foreign);
        Ok(ours.max_by_key(|pull| (pull.state == PullState::Open, pull.number)))
    }

    async fn pull(&self, number: u64) -> Result<Option<Pull>, Trouble> {
        match self.row(number).await {
            Ok(row) => Ok(Some(row.pull())),
            Err(Trouble::NotFound { .. }) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    async fn changed(&self, since: Option<Timestamp>) -> Result<Vec<Pull>, Trouble> {
        const ABOUT: (&str, &str) = ("list pull requests", PULLS);
        let state = if since.is_some() { "all" } else { "open" };
        let query = [("state", state.to_owned()), ("sort", "updated".to_owned()), ("direction", "desc".to_owned())];
        let wanted = |row: &wire::PullRow| since.is_none_or(|since| row.updated() >= since);
        let rows = self.list(&["pulls"], &query, ABOUT, wanted).await?;
        Ok(rows.into_iter().map(wire::PullRow::pull).collect())
    }

    async fn open(&self, new: &NewPull) -> Result<Pull, Trouble> {
        const ABOUT: (&str, &str) = ("open a pull request", PULLS);
        let Edit { title, body, draft } = &new.edit;
        let body = json!({ "head": new.head, "base": new.base, "title": title, "body": fitting(body), "draft": draft });
        match self.of_repository(Method::POST, &["pulls"], &[], Some(body), ABOUT).await {
            Ok(answer) => Ok(answer.read::<wire::PullRow>(ABOUT.0)?.pull()),
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
        const ABOUT: (&str, &str) = ("edit a pull request", PULLS);
        let body = json!({ "title": edit.title, "body": fitting(&edit.body) });
        let path = ["pulls", &number.to_string()];
        let mut row: wire::PullRow =
            self.of_repository(Method::PATCH, &path, &[], Some(body), ABOUT).await?.read(ABOUT.0)?;
        if row.draft != edit.draft {
            self.set_draft(&row, edit.draft).await?;
            row.draft = edit.draft;
        }
        Ok(row.pull())
    }

    async fn close(&self, number: u64) -> Result<(), Trouble> {
        const ABOUT: (&str, &str) = ("close a pull request", PULLS);
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
        const ABOUT: (&str, &str) = ("label a pull request", PULLS);
        let number = number.to_string();
        let path = ["issues", number.as_str(), "labels"];
        let there: Vec<wire::LabelRow> =
            self.of_repository(Method::GET, &path, &[], None, ABOUT).await?.read(ABOUT.0)?;
        let wanted: BTreeSet<&str> = labels.iter().map(|label| label.name.as_str()).collect();
        let has: BTreeSet<&str> = there.iter().map(|row| row.name.as_str()).collect();
        if has.iter().copied().filter(|name| Label::is_ours(name)).collect::<BTreeSet<_>>() == wanted {
            return Ok(());
        }
        for label in labels.iter().filter(|label| !has.contains(label.name.as_str())) {
            self.make_label(label).await?;
        }
        let theirs = has.iter().copied().filter(|name| !Label::is_ours(name));
        let all: Vec<&str> = theirs.chain(wanted.iter().copied()).collect();
        self.of_repository(Method::PUT, &path, &[], Some(json!({ "labels": all })), ABOUT).await.map(drop)
    }

    async fn comments(&self, number: u64, since: Option<Timestamp>) -> Result<Vec<Comment>, Trouble> {
        const ABOUT: (&str, &str) = ("read comments", PULLS);
        let query: Vec<_> = since.iter().map(|since| ("since", since.to_string())).collect();
        let path = ["issues", &number.to_string(), "comments"];
        let rows = self.list::<wire::CommentRow>(&path, &query, ABOUT, |_| true).await?;
        Ok(rows.into_iter().map(wire::CommentRow::comment).collect())
    }

    async fn comment(&self, number: u64, body: &str) -> Result<Comment, Trouble> {
        const ABOUT: (&str, &str) = ("write a comment", PULLS);
        let path = ["issues", &number.to_string(), "comments"];
        let body = json!({ "body": fitting(body) });
        let answer = self.of_repository(Method::POST, &path, &[], Some(body), ABOUT).await?;
        Ok(answer.read::<wire::CommentRow>(ABOUT.0)?.comment())
    }

    async fn edit_comment(&self, comment: u64, body: &str) -> Result<bool, Trouble> {
        const ABOUT: (&str, &str) = ("edit a comment", PULLS);
        let path = ["issues", "comments", &comment.to_string()];
        match self.of_repository(Method::PATCH, &path, &[], Some(json!({ "body": fitting(body) })), ABOUT).await {
            Ok(_) => Ok(true),
            Err(Trouble::NotFound { .. }) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    async fn react(&self, comment: u64, reaction: Reaction) -> Result<(), Trouble> {
        const ABOUT: (&str, &str) = ("react to a comment", PULLS);
        let path = ["issues", "comments", &comment.to_string(), "reactions"];
        let body = json!({ "content": reaction.as_str() });
        self.of_repository(Method::POST, &path, &[], Some(body), ABOUT).await.map(drop)
    }

    async fn set_status(&self, commit: &Oid, status: &Status) -> Result<(), Trouble> {
        const ABOUT: (&str, &str) = ("set a commit's status", STATUSES);
        let mut body = json!({
            "context": status.context, "state": status.state.as_str(), "description": status.description,
        });
        if let Some(url) = &status.url {
            body["target_url"] = json!(url);
        }
        match self.of_repository(Method::POST, &["statuses", commit.as_str()], &[], Some(body), ABOUT).await {
            Ok(_) => Ok(()),
            // So it says where there is no such commit.
            Err(Trouble::Conflict { what, said }) if said.contains("No commit found") => {
                Err(Trouble::NotFound { what, said })
            }
            Err(trouble) => Err(trouble),
        }
    }

    async fn statuses(&self, commit: &Oid) -> Result<Vec<Status>, Trouble> {
        const ABOUT: (&str, &str) = ("read a commit's statuses", STATUSES);
        let query = [("per_page", PAGE.to_owned())];
        let path = ["commits", commit.as_str(), "status"];
        let all: wire::Combined = self.of_repository(Method::GET, &path, &query, None, ABOUT).await?.read(ABOUT.0)?;
        Ok(all.statuses.into_iter().map(wire::StatusRow::status).collect())
    }

    async fn reviews(&self, number: u64) -> Result<Vec<Review>, Trouble> {
        const ABOUT: (&str, &str) = ("read reviews", PULLS);
        let path = ["pulls", &number.to_string(), "reviews"];
        let rows = self.list::<wire::ReviewRow>(&path, &[], ABOUT, |_| true).await?;
        Ok(rows.into_iter().map(wire::ReviewRow::review).collect())
    }

    async fn permission(&self, login: &str) -> Result<Permission, Trouble> {
        const ABOUT: (&str, &str) = ("say what somebody may do", METADATA);
        match self.of_repository(Method::GET, &["collaborators", login, "permission"], &[], None, ABOUT).await {
            Ok(answer) => Ok(answer.read::<wire::PermissionRow>(ABOUT.0)?.permission()),
            Err(Trouble::NotFound { .. }) => Ok(Permission::None),
            Err(trouble) => Err(trouble),
        }
    }

    async fn guard(&self, branch: &str) -> Result<Guard, Trouble> {
        self.guard_of(branch).await
    }

    async fn merge(&self, number: u64, head: &Oid) -> Result<Oid, Trouble> {
        const ABOUT: (&str, &str) = ("merge a pull request", CONTENTS);
        let body = json!({ "sha": head, "merge_method": "merge" });
        let path = ["pulls", &number.to_string(), "merge"];
        match self.of_repository(Method::PUT, &path, &[], Some(body), ABOUT).await {
            Ok(answer) => {
                let merged: wire::Merged = answer.read(ABOUT.0)?;
                Oid::parse(merged.sha).map_err(|error| Trouble::Unreadable { what: ABOUT.0, why: error.to_string() })
            }
            // `main` moved while it looked at it.
            Err(Trouble::Conflict { what, said }) if said.contains("try the merge again") => {
                Err(Trouble::Later { what, after: MERGEABLE_AFTER, said })
            }
            Err(trouble) => Err(trouble),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_too_long_is_cut_at_a_character_with_a_mark() {
        assert_eq!(fitting("short"), "short");
        let cut = fitting(&"ä".repeat(MAX_BODY + 1));
        assert_eq!(cut.chars().count(), MAX_BODY);
        assert!(cut.ends_with("no more"));
        assert_eq!(fitting(&"ä".repeat(MAX_BODY)).chars().count(), MAX_BODY);
    }
}
