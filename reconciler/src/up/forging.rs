//! The worker that talks to the forge, beside the loop: it keeps the copy of the repository up to date, does what the driver
//! asks for, one thing after the other, and says what came of it.

mod posted;
mod queue;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chiffon_forge::{Forge, PullState, Trouble};
use chiffon_requests::{StopFlag, Upstream};
use chiffon_schemas::{Name, Timestamp};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::driver::{ForgeJob, ForgeNews};
use posted::Posted;
use queue::Queue;

/// The pauses while nothing can be had of the forge: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How soon a changed look is shown again.
const AGAIN: Duration = Duration::from_secs(1);

/// How soon a merge that the forge has not noticed yet is asked about again.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// Looks are this far apart, however often somebody says that something happened there (S5).
const APART: Duration = Duration::from_secs(1);

/// The branches that plans come from.
const PLAN_BRANCHES: &str = "chiffon/plan/";

/// The forge's worker.
struct Forging {
    forge: Arc<dyn Forge>,
    upstream: Upstream,
    every: Duration,
    /// Told by whoever heard that something happened there.
    wake: Arc<Notify>,
    jobs: UnboundedReceiver<ForgeJob>,
    news: UnboundedSender<ForgeNews>,
    queue: Queue,
    posted: Posted,
    /// Who the token speaks as, once it is known.
    bot: Option<String>,
    /// The latest change of a pull request that was seen.
    seen: Option<Timestamp>,
    /// The open ones have been listed in this life.
    listed: bool,
    /// Pull requests of which something could not be found out: tried again with each look.
    missed: BTreeMap<u64, Name>,
    looked: Option<Instant>,
    next_look: Instant,
    pause: Duration,
    /// What troubles were said and are not over.
    troubles: BTreeSet<String>,
}

/// The worker under way, as the loop has it.
pub(super) struct Worker {
    /// What to ask it for.
    pub jobs: UnboundedSender<ForgeJob>,
    news: UnboundedReceiver<ForgeNews>,
    /// What could not be taken in, and when to try that again.
    unheard: Option<(Instant, ForgeNews)>,
    stop: StopFlag,
    task: JoinHandle<()>,
}

impl Worker {
    /// Starts it over a forge and the copy of its repository, which it looks at as often as `every` says, and whenever it is woken; `stop`
    /// ends the programs that `upstream` runs.
    pub fn start(
        forge: Arc<dyn Forge>,
        upstream: Upstream,
        every: Duration,
        wake: Arc<Notify>,
        stop: StopFlag,
    ) -> Self {
        let ((jobs, asked), (said, news)) = (unbounded_channel(), unbounded_channel());
        let worker = Forging {
            forge,
            upstream,
            every,
            wake,
            jobs: asked,
            news: said,
            queue: Queue::default(),
            posted: Posted::default(),
            bot: None,
            seen: None,
            listed: false,
            missed: BTreeMap::new(),
            looked: None,
            next_look: Instant::now(),
            pause: FIRST_PAUSE,
            troubles: BTreeSet::new(),
        };
        Self { jobs, news, unheard: None, stop, task: tokio::spawn(worker.run()) }
    }

    /// What it says next; nothing more where it has ended.
    pub async fn said(&mut self) -> Option<ForgeNews> {
        if let Some((at, _)) = &self.unheard {
            tokio::time::sleep_until(*at).await;
            return self.unheard.take().map(|(_, news)| news);
        }
        self.news.recv().await
    }

    /// What was said could not be taken in: it is said again, before anything else.
    pub fn again(&mut self, news: ForgeNews) {
        self.unheard = Some((Instant::now() + AGAIN, news));
    }

    /// Ends it and the program that it runs; what it was at is asked for again by the next life.
    pub async fn stop(self) {
        self.stop.set();
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Why something was not done.
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

    /// Whether it says something of the forge as a whole, and not only of what was asked for.
    fn is_of_all(&self) -> bool {
        matches!(self, Self::Forge(Trouble::Later { .. } | Trouble::Unreachable { .. } | Trouble::Unauthorized { .. }))
    }
}

impl Forging {
    /// Works until nobody listens any more.
    async fn run(mut self) {
        while !self.news.is_closed() {
            while let Ok(job) = self.jobs.try_recv() {
                self.take(job);
            }
            let now = Instant::now();
            if self.bot.is_none() {
                let done = self.introduce().await;
                self.of_all(done).await;
            } else if now >= self.next_look {
                self.looked = Some(now);
                let done = self.look().await;
                // After a failure other things get their turn before the next look.
                let pause = if done.is_ok() { self.every } else { self.pause * 2 };
                self.of_all(done).await;
                self.next_look = Instant::now() + pause;
            } else if let Some(job) = self.queue.next(now).cloned() {
                self.try_out(job).await;
            } else if !self.wait().await {
                return;
            }
        }
    }

    /// Waits until there is something to do; whether anybody is there still.
    async fn wait(&mut self) -> bool {
        let due = self.queue.due().map_or(self.next_look, |due| due.max(Instant::now() + AGAIN / 10));
        tokio::select! {
            job = self.jobs.recv() => match job {
                Some(job) => self.take(job),
                None => return false,
            },
            () = self.wake.notified() => {
                let earliest = self.looked.map_or_else(Instant::now, |looked| looked + APART);
                self.next_look = self.next_look.min(earliest);
            }
            () = tokio::time::sleep_until(due.min(self.next_look)) => {}
        }
        true
    }

    fn take(&mut self, job: ForgeJob) {
        let now = Instant::now();
        let due = match &job {
            ForgeJob::Ask { name, .. } => self.posted.may_ask(name, now, ASK_AGAIN),
            ForgeJob::Show { number, .. } => self.posted.may_show(*number, now, AGAIN),
            ForgeJob::Audit { .. }
            | ForgeJob::Branch { .. }
            | ForgeJob::Propose { .. }
            | ForgeJob::Elsewhere { .. }
            | ForgeJob::Status { .. }
            | ForgeJob::Write { .. } => now,
        };
        for useless in self.queue.push(job, due) {
            self.say(ForgeNews::Done(useless));
        }
    }

    async fn try_out(&mut self, job: ForgeJob) {
        let about = job.about();
        match self.carry_out(&job).await {
            Ok(()) => {
                self.queue.remove(&job);
                self.say(ForgeNews::Done(job));
                if !self.queue.holds(&about) {
                    self.over(&about);
                }
                self.of_all(Ok(())).await;
            }
            Err(error) if error.is_of_all() => self.of_all(Err(error)).await,
            Err(error) => {
                self.queue.failed(&job, Instant::now());
                self.trouble(&about, &format!("{about}: {error}"));
            }
        }
    }

    fn say(&self, news: ForgeNews) {
        // Nobody listens any more: the loop has ended, and this does so next.
        let _ = self.news.send(news);
    }

    /// What is wrong, each time that it is another thing; the loop says it once.
    fn trouble(&mut self, about: &str, why: &str) {
        self.troubles.insert(about.to_owned());
        self.say(ForgeNews::Trouble { about: about.to_owned(), why: Some(why.to_owned()) });
    }

    fn over(&mut self, about: &str) {
        if self.troubles.remove(about) {
            self.say(ForgeNews::Trouble { about: about.to_owned(), why: None });
        }
    }

    /// What came of something that stands for the whole forge. After a failure it waits: for as long as the forge asks to,
    /// else ever longer.
    async fn of_all(&mut self, done: Result<(), NotDone>) {
        match done {
            Ok(()) => {
                self.pause = FIRST_PAUSE;
                self.over("");
            }
            Err(error) => {
                self.trouble("", &error.to_string());
                let pause = error.patience().unwrap_or(self.pause);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn introduce(&mut self) -> Result<(), NotDone> {
        let login = self.forge.identity().await?.login;
        self.bot = Some(login.clone());
        self.say(ForgeNews::Identity { login });
        Ok(())
    }

    /// Brings the copy up to date, and looks at what changed of pull requests.
    async fn look(&mut self) -> Result<(), NotDone> {
        self.git(Upstream::fetch).await?;
        self.say(ForgeNews::Fetched);
        let first = !self.listed;
        let pulls = self.forge.changed(self.seen.filter(|_| !first)).await?;
        let latest = pulls.iter().map(|pull| pull.updated).max();
        let open = pulls.iter().filter(|pull| pull.state == PullState::Open).map(|pull| pull.number).collect();
        for (number, name) in self.missed.clone() {
            match self.forge.pull(number).await? {
                Some(pull) => self.tell_or_miss(name, pull, latest).await?,
                None => drop(self.missed.remove(&number)),
            }
        }
        for pull in pulls.into_iter().rev() {
            if let Some(name) = name_of(&pull).filter(|_| first || self.posted.is_news(&pull)) {
                self.tell_or_miss(name, pull, latest).await?;
            }
        }
        if first {
            self.say(ForgeNews::Open(open));
            self.listed = true;
        }
        // The same second is looked at once more: something else may happen in it.
        self.seen = latest.max(self.seen);
        Ok(())
    }
}

impl Forging {
    /// Says how a pull request stands. What can't be found out of one stands in the way of no other, and is tried again.
    async fn tell_or_miss(
        &mut self,
        name: Name,
        pull: chiffon_forge::Pull,
        latest: Option<Timestamp>,
    ) -> Result<(), NotDone> {
        let number = pull.number;
        match self.tell_all(name.clone(), pull, latest).await {
            Ok(()) => drop(self.missed.remove(&number)),
            Err(error) if error.is_of_all() => return Err(error),
            Err(error) => {
                self.missed.insert(number, name.clone());
                self.trouble(name.as_str(), &format!("{name}: pull request #{number}: {error}"));
                return Ok(());
            }
        }
        if !self.queue.holds(name.as_str()) {
            self.over(name.as_str());
        }
        Ok(())
    }
}

/// The request that a pull request is about: by its branch, and never one of a fork (S4).
fn name_of(pull: &chiffon_forge::Pull) -> Option<Name> {
    let name = pull.head.strip_prefix(PLAN_BRANCHES).filter(|_| !pull.foreign)?;
    Name::parse(name).ok()
}

/// What the forge says next; nothing, for ever, where there is none, and `None` where nothing more will come.
pub(super) async fn said_by(forging: &mut Option<Worker>) -> Option<ForgeNews> {
    match forging {
        Some(worker) => worker.said().await,
        None => std::future::pending().await,
    }
}

impl super::Loop<'_> {
    /// Takes in what the forge said; whether to look at everything.
    pub(super) async fn forge_said(&mut self, said: ForgeNews) -> bool {
        self.say_forge(&said);
        match self.driver.forge_said(said.clone()).await {
            Ok(look) => look,
            Err(error) => {
                self.complain(&error);
                if let Some(worker) = &mut self.forging {
                    worker.again(said);
                }
                true
            }
        }
    }

    /// Says each trouble of the forge once, and when there are none any more.
    fn say_forge(&self, said: &ForgeNews) {
        let ForgeNews::Trouble { about, why } = said else { return };
        let known = self.driver.forge_troubles();
        let before = known.and_then(|troubles| troubles.get(about));
        match why {
            Some(why) if before != Some(why) => self.output.failure(why, &[]),
            None if before.is_some() && known.is_some_and(|troubles| troubles.len() == 1) => {
                self.output.progress("the forge works");
            }
            Some(_) | None => {}
        }
    }
}
