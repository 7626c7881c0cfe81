//! What people do on a forge, and what they see there: the same on the test forge and on a real server.

use std::collections::BTreeSet;

use super::{Dialect, Fate, Role, TestForge, git};

/// A forge with one repository of its own for a test.
pub trait Host: Send + Sync {
    /// How it speaks.
    fn dialect(&self) -> Dialect;

    /// Its address.
    fn url(&self) -> String;

    /// `owner/name` of the repository.
    fn slug(&self) -> String;

    /// An account with a role in the repository; a token that may do all that the account may.
    fn account(&self, login: &str, role: Role) -> String;

    /// Where git finds the repository as somebody who has an account.
    fn git_url(&self, login: &str) -> String;

    /// Commits a file on a branch, which begins at `main` where it is not there yet; the commit.
    fn commit(&self, branch: &str, path: &str, text: &str) -> String;

    /// Waits until the first push has arrived in all that the server knows of a repository.
    fn settle(&self) {}

    /// Takes a branch away.
    fn remove_branch(&self, branch: &str);

    /// The commit of a branch.
    fn tip(&self, branch: &str) -> Option<String>;

    /// The open pull request of a branch.
    fn open_of(&self, head: &str) -> Option<u64>;

    /// A pull request as people see it.
    fn shown(&self, number: u64) -> Shown;

    /// The newest status of a commit in a context; empty where there is none.
    fn status(&self, commit: &str, context: &str) -> String;

    /// Merges a pull request as somebody.
    fn merge(&self, login: &str, number: u64);

    /// Closes a pull request as somebody.
    fn close(&self, login: &str, number: u64);

    /// Reviews a pull request at its head: `APPROVED` or `REQUEST_CHANGES`.
    fn review(&self, login: &str, number: u64, verdict: &str);

    /// Puts a label of a person's own on a pull request.
    fn label(&self, number: u64, name: &str);

    /// How many labels the repository has.
    fn labels(&self) -> usize;

    /// How many pull requests there are, open or not.
    fn pulls(&self) -> usize;

    /// Who put what beneath a comment.
    fn reactions(&self, comment: u64) -> BTreeSet<(String, String)>;

    /// A pull request from somebody's fork, from a branch of this name; its number.
    fn open_from_fork(&self, login: &str, branch: &str) -> u64;
}

/// A pull request as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Who opened it.
    pub author: String,
    /// The branch that it goes into.
    pub base: String,
    /// Its title.
    pub title: String,
    /// Its body.
    pub body: String,
    /// The commit of its head.
    pub head: String,
    /// The names of its labels.
    pub labels: BTreeSet<String>,
    /// The commit that its merge made.
    pub merge: Option<String>,
    /// What was said beneath it, and by whom.
    pub comments: Vec<(String, String)>,
}

impl Host for TestForge {
    fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn slug(&self) -> String {
        let forge = self.state();
        format!("{}/{}", forge.slug.0, forge.slug.1)
    }

    fn account(&self, login: &str, role: Role) -> String {
        let token = format!("token-of-{login}");
        let mut forge = self.state();
        forge.roles.insert(login.to_owned(), role);
        forge.tokens.insert(token.clone(), (login.to_owned(), BTreeSet::from(["all".to_owned()])));
        token
    }

    fn git_url(&self, _login: &str) -> String {
        self.bare.to_str().unwrap().to_owned()
    }

    fn commit(&self, branch: &str, path: &str, text: &str) -> String {
        git::commit(&self.bare, branch, Some("main"), path, text)
    }

    fn remove_branch(&self, branch: &str) {
        git::remove(&self.bare, branch);
    }

    fn tip(&self, branch: &str) -> Option<String> {
        git::tip(&self.bare, branch)
    }

    fn open_of(&self, head: &str) -> Option<u64> {
        let forge = self.state();
        let mut open = forge.pulls.values().filter(|pull| pull.head == head && pull.fate == Fate::Open);
        open.next().map(|pull| pull.number)
    }

    fn shown(&self, number: u64) -> Shown {
        let mut forge = self.state();
        forge.follow_branches();
        let pull = forge.pull(number).unwrap().clone();
        Shown {
            author: pull.author,
            base: pull.base,
            title: pull.title,
            body: pull.body,
            head: pull.head_commit,
            labels: pull.labels.iter().map(|id| forge.labels[id].0.clone()).collect(),
            merge: match pull.fate {
                Fate::Merged { commit, .. } => Some(commit),
                Fate::Open | Fate::Closed => None,
            },
            comments: pull.comments.into_iter().map(|comment| (comment.author, comment.body)).collect(),
        }
    }

    fn status(&self, commit: &str, context: &str) -> String {
        let forge = self.state();
        let mut all = forge.statuses.get(commit).into_iter().flatten();
        all.rfind(|status| status.context == context).map_or_else(String::new, |status| status.state.clone())
    }

    fn merge(&self, login: &str, number: u64) {
        let mut forge = self.state();
        forge.follow_branches();
        forge.merge(login, number, None, |_| false).unwrap();
    }

    fn close(&self, login: &str, number: u64) {
        let close = |pull: &mut super::Pull| {
            pull.fate = Fate::Closed;
            Ok(())
        };
        self.state().change(login, number, close).unwrap();
    }

    fn review(&self, login: &str, number: u64, verdict: &str) {
        let mut forge = self.state();
        forge.follow_branches();
        forge.review(login, number, verdict).unwrap();
    }

    fn label(&self, number: u64, name: &str) {
        let mut forge = self.state();
        let id = forge.label(name);
        forge.pull(number).unwrap().labels.insert(id);
    }

    fn labels(&self) -> usize {
        self.state().labels.len()
    }

    fn pulls(&self) -> usize {
        self.state().pulls.len()
    }

    fn reactions(&self, comment: u64) -> BTreeSet<(String, String)> {
        self.state().comment_of(comment).unwrap().1.reactions.clone()
    }

    fn open_from_fork(&self, login: &str, branch: &str) -> u64 {
        let mut forge = self.state();
        let author = self.bare.clone();
        git::commit(&author, "fork", Some("main"), "theirs", "theirs\n");
        let number = forge.open(login, "fork", "main", "theirs", "").unwrap();
        let pull = forge.pull(number).unwrap();
        (pull.fork, pull.head) = (Some(login.to_owned()), branch.to_owned());
        number
    }
}
