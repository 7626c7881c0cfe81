//! What is known of each pull request in this life of the process, so that nothing is asked or written twice. All of it can
//! be found out again: forgetting it costs questions and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chiffon_forge::{Edit, Label, Pull, Reaction, Status};
use chiffon_schemas::{Oid, Timestamp};
use tokio::time::Instant;

/// More pull requests than this are forgotten together.
const MOST: usize = 2_000;

/// What is known of all pull requests.
#[derive(Debug, Default)]
pub(super) struct Posted(BTreeMap<u64, OfPull>);

/// What is known of one.
#[derive(Debug, Default)]
pub(super) struct OfPull {
    pub edit: Option<Edit>,
    pub labels: Option<BTreeSet<Label>>,
    /// Newest statuses by commit; a commit that is not here was not looked at.
    pub statuses: BTreeMap<Oid, Vec<Status>>,
    /// The comments of ours: found, or not looked for yet.
    pub ours: Option<Ours>,
    pub reactions: BTreeSet<(u64, &'static str)>,
    /// When it was changed, as of the last time that it was told of.
    told: Option<Timestamp>,
    /// Since when comments are of interest.
    pub comments_since: Option<Timestamp>,
    asked: Option<Instant>,
    shown: Option<Instant>,
}

/// Comments of ours.
#[derive(Debug, Default)]
pub(super) struct Ours {
    /// The sticky one, and what it says.
    pub sticky: Option<(u64, String)>,
    /// The newest comment that it says was heard.
    pub heard: u64,
    /// First lines of the others.
    pub marks: BTreeSet<String>,
}

impl OfPull {
    /// A reaction that was put beneath a comment.
    pub fn reacted(&mut self, comment: u64, reaction: Reaction) -> bool {
        self.reactions.insert((comment, reaction.as_str()))
    }
}

impl Posted {
    /// What is known of one.
    pub fn of(&mut self, number: u64) -> &mut OfPull {
        if self.0.len() >= MOST && !self.0.contains_key(&number) {
            self.0.clear();
        }
        self.0.entry(number).or_default()
    }

    /// Whether anything about one changed since it was told of.
    pub fn is_news(&mut self, pull: &Pull) -> bool {
        self.of(pull.number).told != Some(pull.updated)
    }

    /// It was told of as it is now.
    pub fn told(&mut self, pull: &Pull) {
        self.of(pull.number).told = Some(pull.updated);
    }

    /// When one may be asked about again.
    pub fn may_ask(&mut self, number: Option<u64>, now: Instant, apart: Duration) -> Instant {
        let Some(number) = number else { return now };
        let known = self.of(number);
        let due = known.asked.map_or(now, |asked| (asked + apart).max(now));
        known.asked = Some(due);
        due
    }

    /// When one may be made to look otherwise again: what changes all the time is shown now and then.
    pub fn may_show(&mut self, number: u64, now: Instant, apart: Duration) -> Instant {
        let known = self.of(number);
        let due = known.shown.map_or(now, |shown| (shown + apart).max(now));
        known.shown = Some(due);
        due
    }
}
