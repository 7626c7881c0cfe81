//! The worker that talks to the forge, beside the loop: it keeps the copy of the repository up to date, does what the driver
//! asks for, one thing after the other, and says what came of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chiffon_core::facts::{Pull, PullState};
use chiffon_forge::{Changes, Forge, Permission, ReviewVerdict, Trouble};
use chiffon_requests::Upstream;
use chiffon_schemas::{Name, Oid, Timestamp};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::driver::{ForgeJob, ForgeNews};

/// The pauses after a failure: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How soon a merge that the forge has not noticed yet is asked about again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The branches that plans come from.
const PLAN_BRANCHES: &str = "chiffon/plan/";

/// The forge's worker.
pub(super) struct Forging {
    forge: Arc<dyn Forge>,
    upstream: Upstream,
    every: Duration,
    /// Told by whoever heard that something happened there.
    wake: Arc<Notify>,
    jobs: UnboundedReceiver<ForgeJob>,
    news: UnboundedSender<ForgeNews>,
    waiting: VecDeque<ForgeJob>,
    /// The latest change of a pull request that was seen.
    seen: Option<Timestamp>,
    pause: Duration,
    /// What is wrong, as it was said last.
    trouble: Option<String>,
}

/// The worker under way, as the loop has it.
pub(super) struct Worker {
    /// What to ask it for.
    pub jobs: UnboundedSender<ForgeJob>,
    /// Told by whoever heard that something happened on the forge.
    pub wake: Arc<Notify>,
    news: UnboundedReceiver<ForgeNews>,
    task: JoinHandle<()>,
}

impl Worker {
    /// Starts it over a forge and the copy of its repository, which it looks at as often as `every` says.
    pub fn start(forge: Arc<dyn Forge>, upstream: Upstream, every: Duration) -> Self {
        let ((jobs, asked), (said, news)) = (unbounded_channel(), unbounded_channel());
        let wake = Arc::new(Notify::new());
        let worker = Forging::new(forge, upstream, every, Arc::clone(&wake), (asked, said));
        Self { jobs, wake, news, task: tokio::spawn(worker.run()) }
    }

    /// What it says next.
    pub async fn said(&mut self) -> Option<ForgeNews> {
        self.news.recv().await
    }

    /// Ends it; what it was at is asked for again by the next life.
    pub async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
enum NotDone {
    #[error(transparent)]
    Forge(#[from] Trouble),
    #[error("{0}")]
    Git(String),
}

impl NotDone {
    /// How long the forge asks to wait.
    fn patience(&self) -> Option<Duration> {
        match self {
            Self::Forge(Trouble::Later { after, .. }) => Some(*after),
            Self::Forge(_) | Self::Git(_) => None,
        }
    }
}

impl Forging {
    pub fn new(
        forge: Arc<dyn Forge>,
        upstream: Upstream,
        every: Duration,
        wake: Arc<Notify>,
        (jobs, news): (UnboundedReceiver<ForgeJob>, UnboundedSender<ForgeNews>),
    ) -> Self {
        let waiting = VecDeque::new();
        Self { forge, upstream, every, wake, jobs, news, waiting, seen: None, pause: FIRST_PAUSE, trouble: None }
    }

    /// Works until nobody listens any more.
    pub async fn run(mut self) {
        let (mut next_look, mut known) = (Instant::now(), false);
        loop {
            let done = if !known {
                self.introduce().await.map(|()| known = true)
            } else if Instant::now() >= next_look {
                self.look().await.map(|()| next_look = Instant::now() + self.every)
            } else if let Some(job) = self.waiting.front().cloned() {
                self.carry_out(&job).await.map(|()| {
                    self.waiting.pop_front();
                    self.say(ForgeNews::Done(job));
                })
            } else {
                tokio::select! {
                    job = self.jobs.recv() => match job {
                        Some(job) => self.waiting.push_back(job),
                        None => return,
                    },
                    () = self.wake.notified() => next_look = Instant::now(),
                    () = tokio::time::sleep_until(next_look) => {}
                }
                continue;
            };
            match done {
                Ok(()) => self.works(),
                Err(error) => self.rest(&error).await,
            }
            if self.news.is_closed() {
                return;
            }
        }
    }

    fn say(&self, news: ForgeNews) {
        // Nobody listens any more: the loop has ended, and this does so next.
        let _ = self.news.send(news);
    }

    fn works(&mut self) {
        self.pause = FIRST_PAUSE;
        if self.trouble.take().is_some() {
            self.say(ForgeNews::Trouble(None));
        }
    }

    /// Says what is wrong, and waits: for as long as the forge asks to, else ever longer.
    async fn rest(&mut self, error: &NotDone) {
        let why = Some(error.to_string());
        if self.trouble != why {
            self.trouble = why.clone();
            self.say(ForgeNews::Trouble(why));
        }
        let pause = error.patience().unwrap_or(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        tokio::time::sleep(pause).await;
    }

    async fn introduce(&self) -> Result<(), NotDone> {
        let identity = self.forge.identity().await?;
        self.say(ForgeNews::Identity { login: identity.login });
        Ok(())
    }

    /// Runs git beside everything else.
    async fn git<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Upstream) -> Result<T, chiffon_requests::Error> + Send + 'static,
    ) -> Result<T, NotDone> {
        let upstream = self.upstream.clone();
        match tokio::task::spawn_blocking(move || work(&upstream)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(NotDone::Git(crate::commands::chain(&error))),
            Err(error) => Err(NotDone::Git(error.to_string())),
        }
    }

    /// Brings the copy up to date, and looks at what changed of pull requests.
    async fn look(&mut self) -> Result<(), NotDone> {
        self.git(Upstream::fetch).await?;
        self.say(ForgeNews::Fetched);
        let Changes::Pulls(pulls) = self.forge.changed(self.seen).await? else { return Ok(()) };
        let latest = pulls.iter().map(|pull| pull.updated).max();
        for pull in pulls.into_iter().rev() {
            let Some(name) = name_of(&pull) else { continue };
            let Some(plan) = plan_of(&pull.body) else { continue };
            self.tell(name, plan, pull).await?;
        }
        // The same second is looked at once more: something else may happen in it.
        self.seen = latest.max(self.seen);
        Ok(())
    }

    async fn carry_out(&mut self, job: &ForgeJob) -> Result<(), NotDone> {
        match job.clone() {
            ForgeJob::Audit { commit } => self.push_audit(commit).await,
            ForgeJob::Branch { name, commit, seen } => {
                let moved =
                    self.git(move |upstream| match upstream.move_plan_branch(&name, commit.as_ref(), seen.as_ref()) {
                        // A person was faster: the next look sees what they did.
                        Err(error) if error.is_stale() => upstream.fetch(),
                        done => done,
                    });
                moved.await
            }
            ForgeJob::Propose { name, plan, number, new } => {
                let pull = match number {
                    Some(number) => self.forge.edit(number, &new.edit).await?,
                    None => self.forge.open(&new).await?,
                };
                self.tell(name, plan, pull).await
            }
            ForgeJob::Ask { name, number, plan } => self.ask(name, number, plan).await,
        }
    }

    async fn push_audit(&self, commit: Oid) -> Result<(), NotDone> {
        self.git(move |upstream| {
            let seen = upstream.open()?.reference(&chiffon_requests::RefName::forge_audit())?;
            upstream.move_audit(&commit, seen.as_ref())
        })
        .await
    }

    /// Asks what became of a pull request. A forge may take a moment to notice a merge.
    async fn ask(&self, name: Name, number: Option<u64>, plan: Oid) -> Result<(), NotDone> {
        let pull = match number {
            Some(number) => self.forge.pull(number).await?,
            None => self.forge.find(&format!("{PLAN_BRANCHES}{name}")).await?,
        };
        let Some(pull) = pull else { return Ok(()) };
        if !matches!(pull.state, chiffon_forge::PullState::Merged { .. }) {
            tokio::time::sleep(ASK_AGAIN).await;
        }
        self.tell(name, plan, pull).await
    }

    /// Says how a pull request stands; of a merged one, who stands behind it.
    async fn tell(&self, name: Name, plan: Oid, mut pull: chiffon_forge::Pull) -> Result<(), NotDone> {
        // Lists leave out who merged.
        if matches!(&pull.state, chiffon_forge::PullState::Merged { by: None, .. }) {
            pull = self.forge.pull(pull.number).await?.unwrap_or(pull);
        }
        let mut facts = Pull {
            number: pull.number,
            url: pull.url.clone(),
            plan,
            state: PullState::Open,
            base: pull.base.clone(),
            head: pull.head.clone(),
            foreign: pull.foreign,
            approved_by: std::collections::BTreeSet::new(),
            may_write: false,
            unsigned: Some("signatures are not looked at".to_owned()),
            denied: 0,
        };
        facts.state = match &pull.state {
            chiffon_forge::PullState::Open => PullState::Open,
            chiffon_forge::PullState::Closed => PullState::Closed,
            chiffon_forge::PullState::Merged { commit, by } => {
                if let Some(by) = by {
                    facts.may_write = self.may_write(by).await?;
                }
                facts.approved_by = self.approved_by(&pull).await?;
                PullState::Merged { commit: commit.clone(), by: by.clone() }
            }
        };
        self.say(ForgeNews::Pull { name, pull: Box::new(facts) });
        Ok(())
    }

    async fn may_write(&self, login: &str) -> Result<bool, NotDone> {
        Ok(self.forge.permission(login).await? >= Permission::Write)
    }

    /// Who approved the very commit that was merged, may write, and did not say otherwise afterwards.
    async fn approved_by(&self, pull: &chiffon_forge::Pull) -> Result<std::collections::BTreeSet<String>, NotDone> {
        let mut last = std::collections::BTreeMap::new();
        for review in self.forge.reviews(pull.number).await? {
            if review.verdict != ReviewVerdict::Remark {
                last.insert(review.author.clone(), review);
            }
        }
        let mut approved = std::collections::BTreeSet::new();
        for (login, review) in last {
            let counts =
                review.verdict == ReviewVerdict::Approved && !review.dismissed && review.commit == pull.head_commit;
            if counts && self.may_write(&login).await? {
                approved.insert(login);
            }
        }
        Ok(approved)
    }
}

/// The request that a pull request is about: by its branch, and never one of a fork (S4).
fn name_of(pull: &chiffon_forge::Pull) -> Option<Name> {
    let name = pull.head.strip_prefix(PLAN_BRANCHES).filter(|_| !pull.foreign)?;
    Name::parse(name).ok()
}

/// The plan that a pull request shows, by the first line that we wrote there.
fn plan_of(body: &str) -> Option<Oid> {
    let mark = body.lines().next()?.strip_prefix("<!-- chiffon:v1 ")?;
    let plan = mark.split_whitespace().find_map(|word| word.strip_prefix("plan="))?;
    Oid::parse(plan).ok()
}
