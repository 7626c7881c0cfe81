//! What Gitea and Forgejo send, as tolerant as it has to be: every field may be missing, and new ones are passed over.
//! The two have gone apart since 2024, and servers of both, years old, are in use.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_schemas::{Oid, Timestamp};
use serde::Deserialize;

use crate::port::{Comment, Permission, Pull, PullState, Review, ReviewVerdict, Status, StatusState};
use crate::setup::Guard;
use crate::times::time;

/// What makes a title a draft, and what other prefixes count as one by default.
pub(super) const DRAFT: &str = "WIP: ";
const DRAFTS: [&str; 3] = ["WIP:", "[WIP]", "(WIP)"];

#[derive(Debug, Deserialize)]
pub(super) struct User {
    #[serde(default)]
    pub login: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Version {
    #[serde(default)]
    pub version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rights {
    admin: bool,
    push: bool,
    pull: bool,
}

impl Rights {
    pub fn permission(&self) -> Permission {
        match self {
            Self { admin: true, .. } => Permission::Admin,
            Self { push: true, .. } => Permission::Write,
            Self { pull: true, .. } => Permission::Read,
            Self { .. } => Permission::None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Repository {
    pub full_name: String,
    pub default_branch: String,
    pub html_url: String,
    pub permissions: Rights,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Branch {
    #[serde(rename = "ref")]
    name: String,
    label: String,
    sha: String,
    repo_id: i64,
}

impl Branch {
    /// The branch's name. Once it is deleted, the server says where it keeps the commit instead, and the name beside that.
    fn name(self) -> String {
        if self.name.starts_with("refs/pull/") && !self.label.is_empty() { self.label } else { self.name }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LabelRow {
    pub id: i64,
    pub name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PullRow {
    number: u64,
    html_url: String,
    title: String,
    body: Option<String>,
    draft: bool,
    state: String,
    merged: bool,
    merge_commit_sha: Option<String>,
    merged_by: Option<User>,
    base: Branch,
    head: Branch,
    user: Option<User>,
    labels: Option<Vec<LabelRow>>,
    updated_at: Option<String>,
}

impl PullRow {
    pub fn updated(&self) -> Timestamp {
        time(self.updated_at.as_deref())
    }

    pub fn pull(self) -> Pull {
        let updated = self.updated();
        let state = match (self.merged, self.state.as_str()) {
            (true, _) => PullState::Merged {
                commit: self.merge_commit_sha.and_then(|sha| Oid::parse(sha).ok()),
                by: self.merged_by.map(|user| user.login).filter(|login| !login.is_empty()),
            },
            (false, "open") => PullState::Open,
            (false, _) => PullState::Closed,
        };
        let marked = undrafted(&self.title);
        Pull {
            number: self.number,
            url: self.html_url,
            // Older servers say nothing of drafts, and all of them go by the title.
            draft: self.draft || marked.is_some(),
            title: marked.unwrap_or(&self.title).to_owned(),
            body: self.body.unwrap_or_default(),
            state,
            foreign: self.head.repo_id != self.base.repo_id,
            base: self.base.name(),
            head_commit: Oid::parse(&self.head.sha).ok(),
            head: self.head.name(),
            author: login(self.user),
            labels: self.labels.unwrap_or_default().into_iter().map(|label| label.name).collect::<BTreeSet<_>>(),
            updated,
        }
    }
}

/// A draft's title without what makes it one.
fn undrafted(title: &str) -> Option<&str> {
    let is_prefix = |mark: &&str| title.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark));
    DRAFTS.iter().find(|mark| is_prefix(mark)).map(|mark| title[mark.len()..].trim_start())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CommentRow {
    id: u64,
    user: Option<User>,
    body: String,
    created_at: Option<String>,
    updated_at: Option<String>,
}

impl CommentRow {
    pub fn comment(self) -> Comment {
        Comment {
            id: self.id,
            author: login(self.user),
            body: self.body,
            created: time(self.created_at.as_deref()),
            updated: time(self.updated_at.as_deref()),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ReviewRow {
    user: Option<User>,
    state: String,
    commit_id: Option<String>,
    dismissed: bool,
    stale: bool,
    submitted_at: Option<String>,
}

impl ReviewRow {
    /// `None` for what is no review but a wish for one.
    pub fn review(self) -> Option<Review> {
        let verdict = match self.state.as_str() {
            "APPROVED" => ReviewVerdict::Approved,
            "REQUEST_CHANGES" => ReviewVerdict::ChangesRequested,
            "REQUEST_REVIEW" => return None,
            _ => ReviewVerdict::Remark,
        };
        Some(Review {
            author: login(self.user),
            verdict,
            commit: self.commit_id.and_then(|sha| Oid::parse(sha).ok()),
            dismissed: self.dismissed || self.stale,
            at: time(self.submitted_at.as_deref()),
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StatusRow {
    id: u64,
    context: String,
    status: String,
    description: Option<String>,
    target_url: Option<String>,
}

impl StatusRow {
    /// Its number, which grows, and what it says.
    pub fn status(self) -> (u64, Status) {
        let status = Status {
            context: self.context,
            state: match self.status.as_str() {
                "success" => StatusState::Success,
                "failure" => StatusState::Failure,
                "pending" => StatusState::Pending,
                // Only here there is `warning` as well; what is none of ours never says it.
                _ => StatusState::Error,
            },
            description: self.description.unwrap_or_default(),
            url: self.target_url.filter(|url| !url.is_empty()),
        };
        (self.id, status)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PermissionRow {
    permission: String,
}

impl PermissionRow {
    pub fn permission(&self) -> Permission {
        match self.permission.as_str() {
            "owner" | "admin" => Permission::Admin,
            "write" => Permission::Write,
            "read" => Permission::Read,
            _ => Permission::None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BranchRow {
    protected: bool,
    user_can_push: Option<bool>,
    user_can_merge: Option<bool>,
}

impl BranchRow {
    pub fn guard(&self) -> Guard {
        Guard { protected: self.protected, may_push: self.user_can_push, may_merge: self.user_can_merge }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HookRow {
    pub id: u64,
    config: BTreeMap<String, String>,
}

impl HookRow {
    pub fn is_to(&self, url: &str) -> bool {
        self.config.get("url").is_some_and(|known| known == url)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RuleRow {
    pub rule_name: String,
}

fn login(user: Option<User>) -> String {
    user.map(|user| user.login).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_tells_a_draft_whoever_wrote_it() {
        for (title, rest) in [
            ("WIP: plan: a", Some("plan: a")),
            ("wip:plan: a", Some("plan: a")),
            ("[WIP] plan: a", Some("plan: a")),
            ("(wip) plan: a", Some("plan: a")),
            ("plan: WIP: a", None),
            ("WIPE the disk", None),
            ("W\u{130}P: a", None),
            ("", None),
        ] {
            assert_eq!(undrafted(title), rest, "{title}");
        }
    }

    #[test]
    fn a_reply_with_nothing_in_it_is_read() {
        let pull = serde_json::from_str::<PullRow>("{}").unwrap().pull();
        assert_eq!((pull.state, pull.head_commit, pull.updated.secs()), (PullState::Closed, None, 0));
        assert!(serde_json::from_str::<ReviewRow>(r#"{"state": "REQUEST_REVIEW"}"#).unwrap().review().is_none());
    }
}
