//! Setting up a repository on Gitea and Forgejo.

use std::collections::BTreeSet;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Gitea, ISSUE, WRITERS, wire};
use crate::Trouble;
use crate::port::Label;
use crate::setup::{Hook, Made, Rule, Setup};

/// What somebody needs who sets up.
const ADMIN: &str = "the scope write:repository of somebody who administers the repository";

/// What a webhook is called for. A pull request's comments, reviews and pushes come with the second.
const EVENTS: [&str; 2] = ["push", "pull_request"];

/// The name of our rule: a pattern that is for both branches, so that what holds of one holds of the other.
fn pattern(rule: &Rule) -> String {
    format!("{{{},{}}}", rule.base, rule.scratch)
}

#[async_trait]
impl Setup for Gitea {
    async fn make_labels(&self, labels: &BTreeSet<Label>) -> Result<usize, Trouble> {
        const ABOUT: (&str, &str) = ("read its labels", ISSUE);
        let there = self.list::<wire::LabelRow>(&["labels"], &[], ABOUT, |_| true).await?;
        let lacking = labels.iter().filter(|label| there.iter().all(|row| row.name != label.name));
        let mut made = 0;
        for label in lacking {
            self.make_label(label).await?;
            made += 1;
        }
        Ok(made)
    }

    async fn make_hook(&self, hook: &Hook) -> Result<(u64, Made), Trouble> {
        const ABOUT: (&str, &str) = ("make a webhook", ADMIN);
        let hooks = self.list::<wire::HookRow>(&["hooks"], &[], ("read its webhooks", ADMIN), |_| true).await?;
        let mut body = json!({
            "active": true, "events": EVENTS, "branch_filter": "*",
            "config": { "url": hook.url, "content_type": "json", "secret": hook.secret },
        });
        if let Some(there) = hooks.into_iter().find(|there| there.is_to(&hook.url)) {
            let path = ["hooks", &there.id.to_string()];
            self.of_repository(Method::PATCH, &path, &[], Some(body), ABOUT).await?;
            return Ok((there.id, Made::Changed(hook.url.clone())));
        }
        body["type"] = json!("gitea");
        let made = self.of_repository(Method::POST, &["hooks"], &[], Some(body), ABOUT).await?;
        Ok((made.read::<wire::HookRow>(ABOUT.0)?.id, Made::New(hook.url.clone())))
    }

    async fn call_hook(&self, hook: u64) -> Result<(), Trouble> {
        const ABOUT: (&str, &str) = ("call a webhook", ADMIN);
        let path = ["hooks", &hook.to_string(), "tests"];
        self.of_repository(Method::POST, &path, &[], None, ABOUT).await.map(drop)
    }

    async fn protect(&self, rule: &Rule) -> Result<Made, Trouble> {
        const ABOUT: (&str, &str) = ("protect a branch", ADMIN);
        let path = ["branch_protections"];
        let answer = self.of_repository(Method::GET, &path, &[], None, ("read its rules", ADMIN)).await?;
        let rules: Vec<wire::RuleRow> = answer.read(ABOUT.0)?;
        let name = pattern(rule);
        let is_ours = rules.iter().any(|there| there.rule_name == name);
        let theirs = rules.into_iter().find(|there| there.rule_name == rule.base);
        if let Some(theirs) = theirs.filter(|_| !is_ours) {
            return Ok(Made::Theirs(theirs.rule_name));
        }
        let people = self.people(&rule.bot).await?;
        let mut body = whitelists(&people);
        let words = format!("{} may push to it and merge into it", people.join(", "));
        if is_ours {
            let path = ["branch_protections", name.as_str()];
            self.of_repository(Method::PATCH, &path, &[], Some(body), ABOUT).await?;
            return Ok(Made::Changed(words));
        }
        body["rule_name"] = json!(name);
        self.of_repository(Method::POST, &path, &[], Some(body), ABOUT).await?;
        Ok(Made::New(words))
    }
}

impl Gitea {
    /// Everybody who may write but the bot. A rule names people: who joins later is let in by doing this again.
    async fn people(&self, bot: &str) -> Result<Vec<String>, Trouble> {
        let all: Vec<wire::User> =
            self.of_repository(Method::GET, &["assignees"], &[], None, WRITERS).await?.read(WRITERS.0)?;
        Ok(all.into_iter().map(|user| user.login).filter(|login| !login.eq_ignore_ascii_case(bot)).collect())
    }
}

/// Who is on the lists may push and merge, and nobody else.
fn whitelists(people: &[String]) -> Value {
    json!({
        "enable_push": true, "enable_push_whitelist": true, "push_whitelist_usernames": people,
        "enable_merge_whitelist": true, "merge_whitelist_usernames": people,
    })
}
