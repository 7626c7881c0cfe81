//! What a forge remembers, and the rules by which it changes: the same for every dialect.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use super::git;

/// What somebody may do in the repository, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read.
    Read,
    /// Push and merge.
    Write,
    /// Everything.
    Admin,
}

/// Why the forge says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum No {
    /// 404.
    Missing,
    /// 403, and why.
    Forbidden(String),
    /// 405, and why.
    NotNow(String),
    /// 409, and why.
    Conflict(String),
    /// 412, and why.
    Precondition(String),
    /// 422, and why.
    Invalid(String),
}

/// What goes wrong on demand, once each time that it is put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The next answer is this status, with these headers, before anything is done.
    Refuse(u16, Vec<(&'static str, String)>),
    /// The next question is done, and its answer lost.
    LoseAnswer,
    /// The next look at mergeability is not done yet.
    StillComputing,
}

/// Whether a pull request is open, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It may be merged.
    Open,
    /// Closed without a merge.
    Closed,
    /// Merged.
    Merged {
        /// The commit on the base branch.
        commit: String,
        /// Who did it.
        by: String,
    },
}

/// A comment.
#[derive(Debug, Clone)]
pub struct Comment {
    /// Its id.
    pub id: u64,
    /// Who wrote it.
    pub author: String,
    /// What it says.
    pub body: String,
    /// When it was written, in the forge's own count of seconds.
    pub created: i64,
    /// When it was changed last.
    pub updated: i64,
    /// Who put what beneath it.
    pub reactions: BTreeSet<(String, String)>,
}

/// A review.
#[derive(Debug, Clone)]
pub struct Review {
    /// Its id.
    pub id: u64,
    /// Who.
    pub author: String,
    /// `APPROVED`, `REQUEST_CHANGES` or `COMMENT`.
    pub verdict: String,
    /// The head that was looked at.
    pub commit: String,
    /// When.
    pub at: i64,
}

/// A commit's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its id.
    pub id: u64,
    /// Whose word it is.
    pub context: String,
    /// How it stands.
    pub state: String,
    /// One line.
    pub description: String,
    /// Where there is more.
    pub url: String,
}

/// A pull request.
#[derive(Debug, Clone)]
pub struct Pull {
    /// Its number.
    pub number: u64,
    /// Its title as the dialect keeps it.
    pub title: String,
    /// Its body.
    pub body: String,
    /// It is a draft, where the dialect knows drafts beside titles.
    pub draft: bool,
    /// Open, or what became of it.
    pub fate: Fate,
    /// The branch that it goes into.
    pub base: String,
    /// The branch that it comes from.
    pub head: String,
    /// The commit of that branch, as last seen.
    pub head_commit: String,
    /// The fork that it comes from.
    pub fork: Option<String>,
    /// Who opened it.
    pub author: String,
    /// Ids of its labels.
    pub labels: BTreeSet<u64>,
    /// When anything about it changed, in the forge's own count of seconds.
    pub updated: i64,
    /// Its comments.
    pub comments: Vec<Comment>,
    /// Its reviews.
    pub reviews: Vec<Review>,
}

/// A rule of some branches.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The branches.
    pub branches: Vec<String>,
    /// Who may push and merge; where it is none, administrators, and others what somebody else approved.
    pub people: Option<BTreeSet<String>>,
}

/// A forge with one repository.
#[derive(Debug)]
pub struct State {
    /// The bare repository.
    pub bare: PathBuf,
    /// `owner/name`.
    pub slug: (String, String),
    /// Accounts and what they may do in the repository.
    pub roles: BTreeMap<String, Role>,
    /// Tokens, whose they are, and their scopes.
    pub tokens: BTreeMap<String, (String, BTreeSet<String>)>,
    /// Labels by id.
    pub labels: BTreeMap<u64, (String, String)>,
    /// Pull requests by number.
    pub pulls: BTreeMap<u64, Pull>,
    /// Statuses by commit, oldest first.
    pub statuses: BTreeMap<String, Vec<Status>>,
    /// The repository belongs to an organization.
    pub of_organization: bool,
    /// Webhooks: where they go to, and what they are signed with.
    pub hooks: BTreeMap<u64, (String, String)>,
    /// The rule of some branches.
    pub rule: Option<Rule>,
    /// An App that is installed: its number, the public half of its key in DER (PKCS #1), and for how many seconds its
    /// tokens are good.
    pub app: Option<(u64, Vec<u8>, i64)>,
    /// The ssh key that merges are signed with.
    pub sign_with: Option<String>,
    /// What goes wrong next.
    pub faults: VecDeque<Fault>,
    /// What is done and not answered for as long as this is here: a method and how the path ends.
    pub loses: Option<(&'static str, &'static str)>,
    /// Nothing is answered.
    pub down: bool,
    /// What is refused for as long as this is here: a method and how the path ends.
    pub refuses: Option<(&'static str, &'static str)>,
    /// Questions so far: method and path.
    pub asked: Vec<String>,
    /// How many of them were answered by nothing but that nothing changed.
    pub unchanged: usize,
    /// Webhooks go to no address of the local network, as is so on Gitea unless its owner says otherwise.
    pub shuns_local_network: bool,
    /// Questions and answers that are not as the vendor describes them.
    pub undescribed: Vec<String>,
    /// Seconds since the forge began; each change takes one.
    now: i64,
    last_id: u64,
}

impl State {
    /// A forge over a bare repository.
    pub fn new(bare: &Path) -> Self {
        Self {
            bare: bare.to_owned(),
            slug: ("ops".to_owned(), "requests".to_owned()),
            roles: BTreeMap::new(),
            tokens: BTreeMap::new(),
            labels: BTreeMap::new(),
            pulls: BTreeMap::new(),
            statuses: BTreeMap::new(),
            of_organization: false,
            hooks: BTreeMap::new(),
            rule: None,
            app: None,
            sign_with: None,
            faults: VecDeque::new(),
            loses: None,
            down: false,
            refuses: None,
            asked: Vec::new(),
            unchanged: 0,
            shuns_local_network: false,
            undescribed: Vec::new(),
            now: 1_700_000_000,
            last_id: 0,
        }
    }

    /// Another second.
    pub fn tick(&mut self) -> i64 {
        self.now += 1;
        self.now
    }

    /// An id that is like no other.
    pub fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// An account as it is written, and its role: names tell no case apart.
    pub fn known_as(&self, login: &str) -> Option<(String, Role)> {
        let known = self.roles.iter().find(|(known, _)| known.eq_ignore_ascii_case(login));
        known.map(|(known, role)| (known.clone(), *role))
    }

    /// Whether somebody may do what needs a role.
    pub fn require(&self, login: &str, role: Role) -> Result<(), No> {
        match self.roles.get(login) {
            Some(has) if *has >= role => Ok(()),
            Some(_) => Err(No::Forbidden(format!("user should have a permission to {role:?}").to_lowercase())),
            None => Err(No::Missing),
        }
    }

    /// Brings pull requests to where their branches are: who deletes one closes its pull request.
    pub fn follow_branches(&mut self) {
        let bare = self.bare.clone();
        let open: Vec<u64> = self
            .pulls
            .values()
            .filter(|pull| pull.fate == Fate::Open && pull.fork.is_none())
            .map(|pull| pull.number)
            .collect();
        for number in open {
            let tip = git::tip(&bare, &self.pulls[&number].head);
            if tip.as_deref() == Some(self.pulls[&number].head_commit.as_str()) {
                continue;
            }
            let now = self.tick();
            let Some(pull) = self.pulls.get_mut(&number) else { continue };
            pull.updated = now;
            match tip {
                Some(tip) => {
                    git::keep_head(&bare, number, &tip);
                    pull.head_commit = tip;
                }
                None => pull.fate = Fate::Closed,
            }
        }
    }

    /// A pull request as it is now.
    pub fn pull(&mut self, number: u64) -> Result<&mut Pull, No> {
        self.pulls.get_mut(&number).ok_or(No::Missing)
    }

    /// Opens a pull request between two branches of the repository.
    pub fn open(&mut self, author: &str, head: &str, base: &str, title: &str, body: &str) -> Result<u64, No> {
        self.require(author, Role::Read)?;
        let head_commit = git::tip(&self.bare, head).ok_or(No::Missing)?;
        git::tip(&self.bare, base).ok_or(No::Missing)?;
        let is_open =
            |pull: &&Pull| pull.fate == Fate::Open && pull.head == head && pull.base == base && pull.fork.is_none();
        if let Some(there) = self.pulls.values().find(is_open) {
            return Err(No::Conflict(format!("pull request already exists for these targets [id: {}]", there.number)));
        }
        let (number, updated) = (self.pulls.len() as u64 + 1, self.tick());
        git::keep_head(&self.bare, number, &head_commit);
        let pull = Pull {
            number,
            title: title.to_owned(),
            body: body.to_owned(),
            draft: false,
            fate: Fate::Open,
            base: base.to_owned(),
            head: head.to_owned(),
            head_commit,
            fork: None,
            author: author.to_owned(),
            labels: BTreeSet::new(),
            updated,
            comments: Vec::new(),
            reviews: Vec::new(),
        };
        self.pulls.insert(number, pull);
        Ok(number)
    }

    /// Changes something of a pull request.
    pub fn change(
        &mut self,
        login: &str,
        number: u64,
        change: impl FnOnce(&mut Pull) -> Result<(), No>,
    ) -> Result<(), No> {
        let author = self.pull(number)?.author.clone();
        if author != login {
            self.require(login, Role::Write)?;
        }
        let now = self.tick();
        let pull = self.pull(number)?;
        change(pull)?;
        pull.updated = now;
        Ok(())
    }

    /// Merges a pull request by a merge commit of its own.
    pub fn merge(
        &mut self,
        login: &str,
        number: u64,
        head: Option<&str>,
        is_draft: impl FnOnce(&Pull) -> bool,
    ) -> Result<String, No> {
        self.require(login, Role::Read)?;
        if self.faults.front() == Some(&Fault::StillComputing) {
            self.faults.pop_front();
            return Err(No::NotNow("Please try again later".to_owned()));
        }
        let pull = self.pull(number)?.clone();
        match pull.fate {
            Fate::Closed => return Err(No::Missing),
            Fate::Merged { .. } => return Err(No::NotNow("The PR is already merged".to_owned())),
            Fate::Open => {}
        }
        if self.require(login, Role::Write).is_err() {
            return Err(No::NotNow("User not allowed to merge PR".to_owned()));
        }
        self.keep_to_the_rule(login, &pull)?;
        if is_draft(&pull) {
            return Err(No::NotNow("Work in progress PRs cannot be merged".to_owned()));
        }
        if head.is_some_and(|head| head != pull.head_commit) {
            return Err(No::Conflict("head out of date".to_owned()));
        }
        let message = format!("Merge pull request '{}' (#{number})", pull.title);
        let key = self.sign_with.as_deref();
        let merged = git::merge(&self.bare, &pull.base, &pull.head_commit, (login, key), &message);
        let commit = merged.ok_or_else(|| No::Conflict("merge conflict".to_owned()))?;
        let now = self.tick();
        let pull = self.pull(number)?;
        (pull.fate, pull.updated) = (Fate::Merged { commit: commit.clone(), by: login.to_owned() }, now);
        Ok(commit)
    }

    /// The rule of a branch.
    pub fn rule_of(&self, branch: &str) -> Option<&Rule> {
        self.rule.as_ref().filter(|rule| rule.branches.iter().any(|known| known == branch))
    }

    fn keep_to_the_rule(&self, login: &str, pull: &Pull) -> Result<(), No> {
        let is_approved =
            || pull.reviews.iter().any(|review| review.verdict == "APPROVED" && review.author != pull.author);
        match self.rule_of(&pull.base) {
            Some(Rule { people: Some(people), .. }) if !people.contains(login) => {
                Err(No::NotNow("User not allowed to merge PR".to_owned()))
            }
            Some(Rule { people: None, .. }) if self.roles[login] < Role::Admin && !is_approved() => {
                Err(No::NotNow("At least 1 approving review is required by reviewers with write access.".to_owned()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Sends a webhook to where it goes, in its own time.
    pub fn call_hook(&self, id: u64, header: &'static str, prefix: &'static str) -> Result<(), No> {
        let (url, secret) = self.hooks.get(&id).ok_or(No::Missing)?.clone();
        if self.shuns_local_network {
            // Who asked for it is not told.
            return Ok(());
        }
        let body = format!("{{\"repository\": {{\"full_name\": \"{}/{}\"}}}}", self.slug.0, self.slug.1);
        std::thread::spawn(move || {
            let signature = super::hmac_sha256(secret.as_bytes(), body.as_bytes());
            let (address, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).unwrap();
            let headers = [format!("{header}: {prefix}{signature}"), "Content-Type: application/json".to_owned()];
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            crate::http::ask(address, "POST", &format!("/{path}"), &headers, body.as_bytes());
        });
        Ok(())
    }

    /// Writes a comment.
    pub fn comment(&mut self, login: &str, number: u64, body: &str) -> Result<Comment, No> {
        self.require(login, Role::Read)?;
        let (id, now) = (self.id(), self.tick());
        let pull = self.pull(number)?;
        let comment = Comment {
            id,
            author: login.to_owned(),
            body: body.to_owned(),
            created: now,
            updated: now,
            reactions: BTreeSet::new(),
        };
        pull.comments.push(comment.clone());
        pull.updated = now;
        Ok(comment)
    }

    /// Changes a comment, which only its author may.
    pub fn edit_comment(&mut self, login: &str, id: u64, body: &str) -> Result<Comment, No> {
        let now = self.tick();
        let (number, comment) = self.comment_of(id)?;
        if comment.author != login {
            return Err(No::Forbidden("it is somebody else's".to_owned()));
        }
        (comment.body, comment.updated) = (body.to_owned(), now);
        let edited = comment.clone();
        self.pull(number)?.updated = now;
        Ok(edited)
    }

    /// A comment, and the pull request that it is on.
    pub fn comment_of(&mut self, id: u64) -> Result<(u64, &mut Comment), No> {
        self.pulls
            .values_mut()
            .find_map(|pull| {
                let number = pull.number;
                pull.comments.iter_mut().find(|comment| comment.id == id).map(|comment| (number, comment))
            })
            .ok_or(No::Missing)
    }

    /// Reviews a pull request at its head.
    pub fn review(&mut self, login: &str, number: u64, verdict: &str) -> Result<u64, No> {
        self.require(login, Role::Read)?;
        let (id, at) = (self.id(), self.tick());
        let pull = self.pull(number)?;
        let commit = pull.head_commit.clone();
        pull.reviews.push(Review { id, author: login.to_owned(), verdict: verdict.to_owned(), commit, at });
        pull.updated = at;
        Ok(id)
    }

    /// A label that somebody made; its id.
    pub fn label(&mut self, name: &str) -> u64 {
        let id = self.id();
        self.labels.insert(id, (name.to_owned(), "cccccc".to_owned()));
        id
    }

    /// Sets a status of a commit that is there.
    pub fn set_status(&mut self, login: &str, commit: &str, status: Status) -> Result<Status, No> {
        self.require(login, Role::Write)?;
        if !git::is_commit(&self.bare, commit) {
            return Err(No::Missing);
        }
        let status = Status { id: self.id(), ..status };
        self.statuses.entry(commit.to_owned()).or_default().push(status.clone());
        Ok(status)
    }
}
