//! Setting up a repository on GitHub.

use std::collections::BTreeSet;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};

use super::{CONTENTS, GitHub, wire};
use crate::Trouble;
use crate::port::{Forge as _, Label, Permission};
use crate::setup::{Guard, Hook, Made, Rule, Setup};

/// What the token of somebody needs who sets up.
const ADMIN: &str = "read and write access to administration, of somebody who administers the repository";
const HOOKS: &str = "read and write access to webhooks, of somebody who administers the repository";

/// What a webhook is called for.
const EVENTS: [&str; 4] = ["push", "pull_request", "pull_request_review", "issue_comment"];

/// The name of our ruleset.
const RULESET: &str = "Chiffon";

/// The number of the role that administers a repository, the same everywhere.
const ADMINISTRATOR: u64 = 5;

#[async_trait]
impl Setup for GitHub {
    async fn make_labels(&self, labels: &BTreeSet<Label>) -> Result<usize, Trouble> {
        let mut made = 0;
        for label in labels {
            made += usize::from(self.make_label(label).await?);
        }
        Ok(made)
    }

    async fn make_hook(&self, hook: &Hook) -> Result<(u64, Made), Trouble> {
        const ABOUT: (&str, &str) = ("make a webhook", HOOKS);
        let hooks = self.list::<wire::HookRow>(&["hooks"], &[], ("read its webhooks", HOOKS), |_| true).await?;
        let mut body = json!({
            "active": true, "events": EVENTS,
            "config": { "url": hook.url, "content_type": "json", "secret": hook.secret, "insecure_ssl": "0" },
        });
        if let Some(there) = hooks.into_iter().find(|there| there.config.url == hook.url) {
            let path = ["hooks", &there.id.to_string()];
            self.of_repository(Method::PATCH, &path, &[], Some(body), ABOUT).await?;
            return Ok((there.id, Made::Changed(hook.url.clone())));
        }
        body["name"] = json!("web");
        let made = self.of_repository(Method::POST, &["hooks"], &[], Some(body), ABOUT).await?;
        Ok((made.read::<wire::HookRow>(ABOUT.0)?.id, Made::New(hook.url.clone())))
    }

    async fn call_hook(&self, hook: u64) -> Result<(), Trouble> {
        const ABOUT: (&str, &str) = ("call a webhook", HOOKS);
        let path = ["hooks", &hook.to_string(), "pings"];
        self.of_repository(Method::POST, &path, &[], None, ABOUT).await.map(drop)
    }

    async fn protect(&self, rule: &Rule) -> Result<Made, Trouble> {
        const ABOUT: (&str, &str) = ("protect a branch", ADMIN);
        let query = [("includes_parents", "false".to_owned())];
        let rulesets = self.list::<wire::Ruleset>(&["rulesets"], &query, ABOUT, |_| true).await?;
        let words = "others than administrators need a pull request that somebody else approved".to_owned();
        if let Some(there) = rulesets.into_iter().find(|there| there.name == RULESET) {
            let path = ["rulesets", &there.id.to_string()];
            self.of_repository(Method::PUT, &path, &[], Some(ruleset(rule)), ABOUT).await?;
            return Ok(Made::Changed(words));
        }
        self.of_repository(Method::POST, &["rulesets"], &[], Some(ruleset(rule)), ABOUT).await?;
        Ok(Made::New(words))
    }
}

impl GitHub {
    /// What the rules of a branch let the token's account do. Only rulesets are told to everybody who may read; the older
    /// kind of rule is known to be there and no more.
    pub(super) async fn guard_of(&self, branch: &str) -> Result<Guard, Trouble> {
        const ABOUT: (&str, &str) = ("read a branch's rules", CONTENTS);
        let there = self.of_repository(Method::GET, &["branches", branch], &[], None, ABOUT).await?;
        let there: wire::BranchRow = there.read(ABOUT.0)?;
        let path = ["rules", "branches", branch];
        let rules = self.list::<wire::RuleRow>(&path, &[], ABOUT, |_| true).await?;
        // Who administers it may go past our ruleset, and change every other.
        if self.repository().await?.permission == Permission::Admin {
            return Ok(Guard { protected: there.protected, may_push: Some(true), may_merge: Some(true) });
        }
        Ok(Guard {
            protected: there.protected || !rules.is_empty(),
            may_push: may(&rules, there.protection.enabled, wire::RuleRow::forbids_push),
            may_merge: may(&rules, there.protection.enabled, wire::RuleRow::forbids_merge),
        })
    }
}

/// Whether something is allowed by rules, which all hold. Where one of the `classic` kind is in force as well, whose words are
/// for administrators alone, only a no is known.
fn may(rules: &[wire::RuleRow], classic: bool, forbids: fn(&wire::RuleRow) -> bool) -> Option<bool> {
    match rules.iter().any(forbids) {
        true => Some(false),
        false => (!classic).then_some(true),
    }
}

/// Our ruleset. Reviews that are needed are whose pull request it is not: so Chiffon can't merge its own.
fn ruleset(rule: &Rule) -> Value {
    let branch = |name: &str| format!("refs/heads/{name}");
    json!({
        "name": RULESET, "target": "branch", "enforcement": "active",
        "bypass_actors": [
            { "actor_id": ADMINISTRATOR, "actor_type": "RepositoryRole", "bypass_mode": "always" },
        ],
        "conditions": { "ref_name": { "include": [branch(&rule.base), branch(&rule.scratch)], "exclude": [] } },
        "rules": [
            { "type": "deletion" },
            { "type": "non_fast_forward" },
            { "type": "pull_request", "parameters": {
                "required_approving_review_count": 1, "dismiss_stale_reviews_on_push": true,
                "require_code_owner_review": false, "require_last_push_approval": false,
                "required_review_thread_resolution": false,
            } },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s15_only_rules_that_are_known_to_forbid_a_merge_count() {
        let rules = |text: &str| serde_json::from_str::<Vec<wire::RuleRow>>(text).unwrap();
        let review = |count: u32| {
            format!(r#"[{{"type": "pull_request", "parameters": {{"required_approving_review_count": {count}}}}}]"#)
        };
        for (text, classic, merge, push) in [
            ("[]", false, Some(true), Some(true)),
            ("[]", true, None, None),
            (r#"[{"type": "non_fast_forward"}]"#, false, Some(true), Some(true)),
            (r#"[{"type": "non_fast_forward"}]"#, true, None, None),
            (r#"[{"type": "update"}]"#, false, Some(false), Some(false)),
            (&review(0), false, Some(true), Some(false)),
            (&review(1), true, Some(false), Some(false)),
        ] {
            let rules = rules(text);
            assert_eq!(may(&rules, classic, wire::RuleRow::forbids_merge), merge, "{text}");
            assert_eq!(may(&rules, classic, wire::RuleRow::forbids_push), push, "{text}");
        }
    }
}
