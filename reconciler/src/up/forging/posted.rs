//! What is known of each pull request in this life of the process, so that nothing is asked or written twice. All of it can
//! be found out again: forgetting it costs questions and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chiffon_forge::{Edit, Label, Pull, PullState, Reaction, Status};
use chiffon_schemas::{Name, Oid, Timestamp};
use tokio::time::Instant;

/// More pull requests than this are forgotten together.
const MOST: usize = 2_000;

/// How often one that may change within the same second is told of.
const TELLINGS: u32 = 2;

/// What is known of all pull requests.
#[derive(Debug, Default)]
pub(super) struct Posted {
    pulls: BTreeMap<u64, OfPull>,
    /// When each request's pull request was asked about last.
    asked: BTreeMap<Name, Instant>,
    /// Requests whose plan branch was moved in this life: nobody else can have opened a pull request of where it is now.
    pushed: BTreeSet<Name>,
}

/// What shows that something about a pull request changed.
type Told = (Timestamp, PullState, Option<Oid>, String);

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
    /// How it was when it was told of last, and how often it was told of like that.
    told: Option<(Told, u32)>,
    /// Since when comments are of interest.
    pub comments_since: Option<Timestamp>,
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
        if self.pulls.len() >= MOST && !self.pulls.contains_key(&number) {
            self.pulls.clear();
        }
        self.pulls.entry(number).or_default()
    }

    /// Whether anything about one changed since it was told of, or may have.
    pub fn is_news(&mut self, pull: &Pull) -> bool {
        let now = told(pull);
        self.of(pull.number).told.as_ref().is_none_or(|(before, times)| *before != now || *times < TELLINGS)
    }

    /// It was told of as it is now. Forges tell the second alone, in which something more may happen: what is of the
    /// `latest` one is told of once more. What is older than another's change will be dated anew when it changes.
    pub fn told(&mut self, pull: &Pull, latest: Option<Timestamp>) {
        let (now, known) = (told(pull), self.of(pull.number));
        let is_past = latest.is_some_and(|latest| pull.updated < latest);
        let before = known.told.take().filter(|(before, _)| *before == now);
        let times = if is_past { TELLINGS } else { before.map_or(1, |(_, times)| times + 1) };
        known.told = Some((now, times));
    }

    /// When one may be asked about again.
    pub fn may_ask(&mut self, name: &Name, now: Instant, apart: Duration) -> Instant {
        if self.asked.len() >= MOST {
            self.asked.clear();
        }
        let due = self.asked.get(name).map_or(now, |asked| (*asked + apart).max(now));
        self.asked.insert(name.clone(), due);
        due
    }

    /// A request's plan branch was moved.
    pub fn pushed(&mut self, name: &Name) {
        if self.pushed.len() >= MOST {
            self.pushed.clear();
        }
        self.pushed.insert(name.clone());
    }

    /// A pull request of a request's plan branch may have been opened, and nobody knows.
    pub fn forget_pushed(&mut self, name: &Name) {
        self.pushed.remove(name);
    }

    /// Whether a request's plan branch was moved in this life, and no pull request of it can be there unknown.
    pub fn is_pushed(&self, name: &Name) -> bool {
        self.pushed.contains(name)
    }

    /// When one may be made to look otherwise again: what changes all the time is shown now and then.
    pub fn may_show(&mut self, number: u64, now: Instant, apart: Duration) -> Instant {
        let known = self.of(number);
        let due = known.shown.map_or(now, |shown| (shown + apart).max(now));
        known.shown = Some(due);
        due
    }
}

fn told(pull: &Pull) -> Told {
    (pull.updated, pull.state.clone(), pull.head_commit.clone(), pull.base.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(number: u64, updated: i64) -> Pull {
        Pull {
            number,
            url: String::new(),
            title: String::new(),
            body: String::new(),
            draft: false,
            state: PullState::Open,
            base: "main".to_owned(),
            head: "chiffon/plan/a".to_owned(),
            head_commit: None,
            foreign: false,
            author: "bot".to_owned(),
            labels: BTreeSet::new(),
            updated: Timestamp::from_secs(updated),
        }
    }

    #[test]
    fn what_may_change_within_its_second_is_told_of_twice_and_nothing_else_again() {
        let (mut posted, latest) = (Posted::default(), Some(Timestamp::from_secs(9)));
        let (old, young) = (pull(1, 8), pull(2, 9));
        assert!(posted.is_news(&old) && posted.is_news(&young));
        posted.told(&old, latest);
        posted.told(&young, latest);
        assert!(!posted.is_news(&old), "another is later than it, so its second is over");
        assert!(posted.is_news(&young), "a comment may have come in the same second");
        posted.told(&young, latest);
        assert!(!posted.is_news(&young));
        assert!(posted.is_news(&pull(1, 10)) && posted.is_news(&Pull { state: PullState::Closed, ..young }));
    }
}
