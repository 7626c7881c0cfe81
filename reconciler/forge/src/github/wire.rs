//! What GitHub sends, and GitHub Enterprise Server of some years: only what is asked for, everything optional.

use std::collections::BTreeSet;

use chiffon_schemas::{Oid, Timestamp};
use serde::Deserialize;

use crate::port::{Comment, Permission, Pull, PullState, Review, ReviewVerdict, Status, StatusState};
use crate::times::time;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct User {
    pub login: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rights {
    admin: bool,
    maintain: bool,
    push: bool,
    pull: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Repository {
    pub id: i64,
    pub full_name: String,
    pub default_branch: String,
    pub html_url: String,
    permissions: Rights,
}

impl Repository {
    pub fn permission(&self) -> Permission {
        match self.permissions {
            Rights { admin: true, .. } => Permission::Admin,
            Rights { maintain: true, .. } | Rights { push: true, .. } => Permission::Write,
            Rights { pull: true, .. } => Permission::Read,
            Rights { .. } => Permission::None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Branch {
    #[serde(rename = "ref")]
    name: String,
    sha: String,
    /// Gone where the fork was deleted.
    repo: Option<Repository>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HookRow {
    pub id: u64,
    pub config: HookConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HookConfig {
    pub url: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BranchRow {
    /// By a rule of either kind.
    pub protected: bool,
    pub protection: Protection,
}

/// The older kind of rule; rulesets are not in it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Protection {
    pub enabled: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ruleset {
    pub id: u64,
    pub name: String,
}

/// A rule that is in force for a branch.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RuleRow {
    #[serde(rename = "type")]
    kind: String,
    parameters: RuleParameters,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuleParameters {
    required_approving_review_count: u32,
}

impl RuleRow {
    pub fn forbids_push(&self) -> bool {
        ["update", "pull_request"].contains(&self.kind.as_str())
    }

    pub fn forbids_merge(&self) -> bool {
        self.kind == "update" || (self.kind == "pull_request" && self.parameters.required_approving_review_count > 0)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LabelRow {
    pub name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PullRow {
    /// What its other interface, the only one that knows how to make a draft of it, calls it.
    pub node_id: String,
    number: u64,
    html_url: String,
    title: String,
    body: Option<String>,
    pub draft: bool,
    state: String,
    merged_at: Option<String>,
    merge_commit_sha: Option<String>,
    merged_by: Option<User>,
    base: Branch,
    head: Branch,
    user: Option<User>,
    labels: Vec<LabelRow>,
    updated_at: Option<String>,
}

impl PullRow {
    pub fn updated(&self) -> Timestamp {
        time(self.updated_at.as_deref())
    }

    pub fn pull(self) -> Pull {
        let updated = self.updated();
        let state = match (self.merged_at, self.state.as_str()) {
            (Some(_), _) => PullState::Merged {
                commit: self.merge_commit_sha.and_then(|sha| Oid::parse(sha).ok()),
                // Lists leave it out.
                by: self.merged_by.map(|user| user.login).filter(|login| !login.is_empty()),
            },
            (None, "open") => PullState::Open,
            (None, _) => PullState::Closed,
        };
        let id = |branch: &Branch| branch.repo.as_ref().map(|repository| repository.id);
        Pull {
            number: self.number,
            url: self.html_url,
            title: self.title,
            body: self.body.unwrap_or_default(),
            draft: self.draft,
            state,
            foreign: id(&self.head).is_none() || id(&self.head) != id(&self.base),
            base: self.base.name,
            head: self.head.name,
            head_commit: Oid::parse(self.head.sha).ok(),
            author: self.user.unwrap_or_default().login,
            labels: self.labels.into_iter().map(|label| label.name).collect::<BTreeSet<_>>(),
            updated,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CommentRow {
    id: u64,
    user: Option<User>,
    body: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
}

impl CommentRow {
    pub fn comment(self) -> Comment {
        Comment {
            id: self.id,
            author: self.user.unwrap_or_default().login,
            body: self.body.unwrap_or_default(),
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
    submitted_at: Option<String>,
}

impl ReviewRow {
    pub fn review(self) -> Review {
        Review {
            author: self.user.unwrap_or_default().login,
            verdict: match self.state.as_str() {
                // What was dismissed said yes or no before; which, it does not say.
                "APPROVED" | "DISMISSED" => ReviewVerdict::Approved,
                "CHANGES_REQUESTED" => ReviewVerdict::ChangesRequested,
                _ => ReviewVerdict::Remark,
            },
            dismissed: self.state == "DISMISSED",
            commit: self.commit_id.and_then(|sha| Oid::parse(sha).ok()),
            at: time(self.submitted_at.as_deref()),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Combined {
    pub statuses: Vec<StatusRow>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StatusRow {
    context: String,
    state: String,
    description: Option<String>,
    target_url: Option<String>,
}

impl StatusRow {
    pub fn status(self) -> Status {
        Status {
            context: self.context,
            state: match self.state.as_str() {
                "success" => StatusState::Success,
                "failure" => StatusState::Failure,
                "pending" => StatusState::Pending,
                _ => StatusState::Error,
            },
            description: self.description.unwrap_or_default(),
            url: self.target_url.filter(|url| !url.is_empty()),
        }
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
            "admin" => Permission::Admin,
            // Older servers have these two as words of their own.
            "write" | "maintain" => Permission::Write,
            "read" | "triage" => Permission::Read,
            _ => Permission::None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Merged {
    pub sha: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GraphError {
    pub message: String,
}

/// An answer of its other interface, whose status is 200 also where it refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Graph {
    pub errors: Vec<GraphError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_that_is_gone_is_still_a_fork() {
        let row = r#"{"base": {"repo": {"id": 1}}, "head": {"ref": "chiffon/plan/a", "repo": null}, "state": "open"}"#;
        let pull = serde_json::from_str::<PullRow>(row).unwrap().pull();
        assert!(pull.foreign && pull.state == PullState::Open);
        let row = r#"{"base": {"repo": {"id": 1}}, "head": {"repo": {"id": 1}}, "merged_at": "2026-11-26T01:00:00Z"}"#;
        let pull = serde_json::from_str::<PullRow>(row).unwrap().pull();
        assert!(!pull.foreign && pull.state == PullState::Merged { commit: None, by: None });
    }
}
