//! What the worker does for each job, and how it finds out what it says of a pull request.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::Person;
use chiffon_core::facts::{Pull, PullState};
use chiffon_forge::{Edit, NewPull, Permission, Reaction, ReviewVerdict, Trouble};
use chiffon_requests::{RefName, Upstream};
use chiffon_schemas::{Name, Oid, Timestamp};

use super::posted::Ours;
use super::{Forging, NotDone, PLAN_BRANCHES};
use crate::driver::{Comment, ForgeJob, ForgeNews, STICKY, View, Write, Written};

/// A lost race for `main` is tried again this often.
const TRIES: usize = 5;

impl Forging {
    /// Runs git beside everything else.
    pub(super) async fn git<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Upstream) -> Result<T, chiffon_requests::Error> + Send + 'static,
    ) -> Result<T, NotDone> {
        let upstream = crate::forge::with_git_token(&*self.forge, &self.upstream).await?;
        match tokio::task::spawn_blocking(move || work(&upstream)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                self.forge.git_failed();
                Err(NotDone::Git(crate::commands::chain(&error)))
            }
            Err(error) => Err(NotDone::Git(error.to_string())),
        }
    }

    /// Does a job.
    pub(super) async fn carry_out(&mut self, job: &ForgeJob) -> Result<(), NotDone> {
        match job.clone() {
            ForgeJob::Audit { commit } => self.push_audit(commit).await,
            ForgeJob::Branch { name, commit, seen } => {
                let about = name.clone();
                let moved =
                    self.git(move |upstream| match upstream.move_plan_branch(&name, commit.as_ref(), seen.as_ref()) {
                        // A person was faster: the next look sees what they did.
                        Err(error) if error.is_stale() => upstream.fetch(),
                        done => done,
                    });
                moved.await?;
                self.posted.pushed(&about);
                Ok(())
            }
            ForgeJob::Propose { name, plan, number, new } => {
                let before = match number {
                    Some(_) => None,
                    None => self.opened_before(&name, &new).await?,
                };
                let edited = match number {
                    Some(number) => Some(self.forge.edit(number, &new.edit).await?),
                    None => None,
                };
                // One that was closed meanwhile never showed this plan: nobody rejected it by that.
                let edited = edited.filter(|pull| pull.state != chiffon_forge::PullState::Closed);
                let pull = match (edited, before) {
                    (Some(pull), _) => pull,
                    (None, Some(pull)) if pull.state == chiffon_forge::PullState::Open => {
                        self.forge.edit(pull.number, &new.edit).await?
                    }
                    (None, Some(pull)) => pull,
                    // Whatever is said, it may be open by now.
                    (None, None) => match self.forge.open(&new).await {
                        Err(trouble) => {
                            self.posted.forget_pushed(&name);
                            return Err(trouble.into());
                        }
                        Ok(pull) => pull,
                    },
                };
                self.posted.of(pull.number).edit = Some(new.edit);
                // From here on the list of changes has everything.
                self.seen = self.seen.or(Some(pull.updated));
                self.tell(name, Some(plan), pull).await
            }
            ForgeJob::Show { number, view, .. } => self.show(number, &view).await,
            ForgeJob::Status { commit, status, .. } => {
                if !self.forge.statuses(&commit).await?.contains(&status) {
                    self.forge.set_status(&commit, &status).await?;
                }
                Ok(())
            }
            ForgeJob::Elsewhere { number, comment, now, .. } => match self.point(number, comment, now).await {
                // The comment is gone, or nobody may write there any more.
                Err(NotDone::Forge(Trouble::NotFound { .. } | Trouble::Forbidden { .. })) => Ok(()),
                done => done,
            },
            ForgeJob::Write { command, write } => {
                let outcome = self.write(&write).await?;
                self.say(ForgeNews::Written { command, outcome });
                Ok(())
            }
            ForgeJob::Ask { name, number, plan } => {
                let pull = match number {
                    Some(number) => self.forge.pull(number).await?,
                    None => self.forge.find(&format!("{PLAN_BRANCHES}{name}")).await?,
                };
                match pull {
                    Some(pull) => self.tell(name, Some(plan), pull).await,
                    None => {
                        self.say(ForgeNews::Gone { name, plan });
                        Ok(())
                    }
                }
            }
        }
    }

    /// The pull request of the very commit that the plan branch is at, where another life of this process may have opened it
    /// and have ended before that was recorded. A person may have merged or closed it since: then that is the answer, and a
    /// second one would only hide it.
    async fn opened_before(&mut self, name: &Name, new: &NewPull) -> Result<Option<chiffon_forge::Pull>, NotDone> {
        if self.posted.is_pushed(name) {
            return Ok(None);
        }
        let branch = RefName::forge_plan_branch(name);
        let tip = self.git(move |upstream| upstream.open()?.reference(&branch)).await?;
        let found = self.forge.find(&new.head).await?;
        let is_it = |pull: &chiffon_forge::Pull| {
            pull.base == new.base && self.is_bot(&pull.author) && tip.is_some() && pull.head_commit == tip
        };
        Ok(found.filter(is_it))
    }

    /// Writes a file of `main`, or opens a pull request with it where `main` is protected.
    async fn write(&self, write: &Write) -> Result<Result<Written, String>, NotDone> {
        for _ in 0..TRIES {
            let wanted = write.clone();
            let pushed = self.git(move |upstream| push_write(upstream, &wanted)).await?;
            match pushed {
                Pushed::Main => return Ok(Ok(Written::Main)),
                Pushed::Otherwise(why) => return Ok(Err(why)),
                Pushed::Moved => {}
                Pushed::Refused(commit) => return self.propose_write(write, commit).await.map(Ok),
            }
        }
        Ok(Err(format!("main moved {TRIES} times in a row; try again")))
    }

    async fn propose_write(&self, write: &Write, commit: Oid) -> Result<Written, NotDone> {
        let branch = write.branch.clone();
        self.git(move |upstream| upstream.move_request_branch(&branch, &commit)).await?;
        let title = write.message.lines().next().unwrap_or("request").to_owned();
        let body = format!(
            "{} asks for this through Chiffon. Merging it makes it a request; a plan follows, and runs nothing until it is \
             merged as well.\n",
            chiffon_planner::inert(&write.by.name, 100)
        );
        let edit = Edit { title, body, draft: false };
        let new = NewPull { head: write.branch.clone(), base: crate::forge::BASE.to_owned(), edit };
        let pull = self.forge.open(&new).await?;
        Ok(Written::Pull { number: pull.number, url: pull.url })
    }

    async fn push_audit(&self, commit: Oid) -> Result<(), NotDone> {
        self.git(move |upstream| {
            let seen = upstream.open()?.reference(&RefName::forge_audit())?;
            match upstream.move_audit(&commit, seen.as_ref()) {
                // Somebody else wrote there: the next look at what was fetched stops everything.
                Err(error) if error.is_stale() => upstream.fetch(),
                done => done,
            }
        })
        .await
    }

    /// Says how a pull request stands, and what is asked for in its comments since the last time.
    pub(super) async fn tell_all(
        &mut self,
        name: Name,
        pull: chiffon_forge::Pull,
        latest: Option<Timestamp>,
    ) -> Result<(), NotDone> {
        let number = pull.number;
        let told = pull.clone();
        self.tell(name.clone(), None, pull).await?;
        self.listen(&name, number).await?;
        self.posted.told(&told, latest);
        Ok(())
    }

    /// Says what is asked for in comments. Those of ours are what we said; those of strangers ask for nothing that costs
    /// more than a look at who they are.
    async fn listen(&mut self, name: &Name, number: u64) -> Result<(), NotDone> {
        let since = self.posted.of(number).comments_since;
        let comments = self.forge.comments(number, since).await?;
        if since.is_none() {
            let ours = self.ours_of(&comments);
            self.posted.of(number).ours = Some(ours);
        }
        let heard = self.posted.of(number).ours.as_ref().map_or(0, |ours| ours.heard);
        let latest = comments.iter().map(|comment| comment.updated).max();
        for comment in comments.into_iter().filter(|comment| comment.id > heard) {
            if chiffon_core::commands(&comment.body).is_empty() || self.is_bot(&comment.author) {
                continue;
            }
            if !self.may_write(&comment.author).await? {
                // They get a sign and no more: nothing is written down for people who may do nothing.
                if self.posted.of(number).reacted(comment.id, Reaction::Confused) {
                    self.forge.react(comment.id, Reaction::Confused).await?;
                }
                continue;
            }
            let comment = Comment {
                id: comment.id,
                number,
                by: Person { email: self.forge.address(&comment.author), name: comment.author },
                body: comment.body,
            };
            self.say(ForgeNews::Comment { name: name.clone(), comment });
        }
        self.posted.of(number).comments_since = latest.max(since);
        Ok(())
    }

    fn is_bot(&self, login: &str) -> bool {
        self.bot.as_ref().is_some_and(|bot| login.eq_ignore_ascii_case(bot))
    }

    /// Says how a pull request stands that shows `plan`, or what its body says; of a merged one also who stands behind it.
    async fn tell(&mut self, name: Name, plan: Option<Oid>, mut pull: chiffon_forge::Pull) -> Result<(), NotDone> {
        // Lists leave out who merged.
        if matches!(&pull.state, chiffon_forge::PullState::Merged { by: None, .. }) {
            pull = self.forge.pull(pull.number).await?.unwrap_or(pull);
        }
        let certain = plan.is_some();
        let Some(plan) = plan.or_else(|| plan_of(&pull.body)) else { return Ok(()) };
        // Anybody may open a pull request of a branch that is there, and write into it what they like.
        let by_bot = self.is_bot(&pull.author);
        let mut facts = Pull {
            number: pull.number,
            url: pull.url.clone(),
            plan,
            state: PullState::Open,
            base: pull.base.clone(),
            head: pull.head.clone(),
            head_commit: pull.head_commit.clone(),
            foreign: pull.foreign,
            carried: false,
            approved_by: self.approved_by(&pull).await?,
            may_write: false,
            denied: 0,
            shown: None,
            heard: 0,
            answers: Vec::new(),
        };
        facts.state = match &pull.state {
            chiffon_forge::PullState::Open => PullState::Open,
            chiffon_forge::PullState::Closed => PullState::Closed,
            chiffon_forge::PullState::Merged { commit, by } => {
                if let Some(by) = by {
                    facts.may_write = self.may_write(by).await?;
                }
                self.bring(&pull, commit.clone()).await?;
                PullState::Merged { commit: commit.clone(), by: by.clone() }
            }
        };
        self.say(ForgeNews::Pull { name, pull: Box::new(facts), certain, by_bot });
        Ok(())
    }

    /// Brings what a merge made, and what was merged, into the copy: the driver looks at both.
    async fn bring(&self, pull: &chiffon_forge::Pull, merge: Option<Oid>) -> Result<(), NotDone> {
        let (number, head) = (pull.number, pull.head_commit.clone());
        self.git(move |upstream| {
            let lacks = |oid: &Option<Oid>| oid.as_ref().map_or(Ok(false), |oid| upstream.holds(oid).map(|held| !held));
            if merge.is_some() {
                upstream.fetch()?;
            }
            if lacks(&head)? {
                upstream.fetch_pull(number)?;
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn may_write(&self, login: &str) -> Result<bool, NotDone> {
        Ok(self.forge.permission(login).await? >= Permission::Write)
    }

    /// Who approved the head as it is, may write, and did not say otherwise afterwards.
    async fn approved_by(&self, pull: &chiffon_forge::Pull) -> Result<BTreeSet<String>, NotDone> {
        let mut last = BTreeMap::new();
        for review in self.forge.reviews(pull.number).await? {
            if review.verdict != ReviewVerdict::Remark {
                last.insert(review.author.clone(), review);
            }
        }
        let mut approved = BTreeSet::new();
        for (login, review) in last {
            let counts =
                review.verdict == ReviewVerdict::Approved && !review.dismissed && review.commit == pull.head_commit;
            if counts && self.may_write(&login).await? {
                approved.insert(login);
            }
        }
        Ok(approved)
    }

    /// Makes a pull request look as it is to, writing what differs from what is there.
    async fn show(&mut self, number: u64, view: &View) -> Result<(), NotDone> {
        if let Some(edit) = &view.edit
            && self.posted.of(number).edit.as_ref() != Some(edit)
        {
            self.forge.edit(number, edit).await?;
            self.posted.of(number).edit = Some(edit.clone());
        }
        if let Some(labels) = &view.labels
            && self.posted.of(number).labels.as_ref() != Some(labels)
        {
            self.forge.set_labels(number, labels).await?;
            self.posted.of(number).labels = Some(labels.clone());
        }
        for (commit, status) in &view.statuses {
            self.set_status(number, commit, status).await?;
        }
        self.comment(number, view).await?;
        for (comment, reaction) in &view.reactions {
            if self.posted.of(number).reacted(*comment, *reaction) {
                self.forge.react(*comment, *reaction).await?;
            }
        }
        Ok(())
    }

    /// The same status is not set twice: GitHub takes a thousand of a commit and a context.
    async fn set_status(&mut self, number: u64, commit: &Oid, status: &chiffon_forge::Status) -> Result<(), NotDone> {
        if !self.posted.of(number).statuses.contains_key(commit) {
            let there = self.forge.statuses(commit).await?;
            self.posted.of(number).statuses.insert(commit.clone(), there);
        }
        let known = self.posted.of(number).statuses.entry(commit.clone()).or_default();
        if known.contains(status) {
            return Ok(());
        }
        self.forge.set_status(commit, status).await?;
        let known = self.posted.of(number).statuses.entry(commit.clone()).or_default();
        known.retain(|other| other.context != status.context);
        known.push(status.clone());
        Ok(())
    }

    /// Writes the sticky comment, or edits it, and what is worth a comment of its own.
    async fn comment(&mut self, number: u64, view: &View) -> Result<(), NotDone> {
        if view.sticky.is_none() && view.ping.is_none() {
            return Ok(());
        }
        if let Some(ping) = &view.ping {
            self.write_once(number, &ping.mark, &ping.body).await?;
        }
        self.look_for_ours(number).await?;
        let Some(text) = &view.sticky else { return Ok(()) };
        let known = self.posted.of(number).ours.get_or_insert_default().sticky.clone();
        let id = match known {
            Some((_, said)) if &said == text => return Ok(()),
            Some((id, _)) if self.forge.edit_comment(id, text).await? => id,
            // There is none yet, or a person removed it.
            Some(_) | None => self.forge.comment(number, text).await?.id,
        };
        self.posted.of(number).ours.get_or_insert_default().sticky = Some((id, text.clone()));
        Ok(())
    }

    /// Finds the comments of ours, where that was not done yet.
    async fn look_for_ours(&mut self, number: u64) -> Result<(), NotDone> {
        if self.posted.of(number).ours.is_none() {
            let found = self.ours(number).await?;
            self.posted.of(number).ours = Some(found);
        }
        Ok(())
    }

    /// Writes a comment that begins with a mark, unless one of ours does already.
    async fn write_once(&mut self, number: u64, mark: &str, body: &str) -> Result<(), NotDone> {
        self.look_for_ours(number).await?;
        if self.posted.of(number).ours.get_or_insert_default().marks.contains(mark) {
            return Ok(());
        }
        // Where the answer is lost, what is there is looked at again.
        let ours = self.posted.of(number).ours.take();
        self.forge.comment(number, body).await?;
        self.posted.of(number).ours = ours;
        self.posted.of(number).ours.get_or_insert_default().marks.insert(mark.to_owned());
        Ok(())
    }

    /// Says beneath a comment, and once in words, that nothing is heard there any more.
    async fn point(&mut self, number: u64, comment: u64, now: u64) -> Result<(), NotDone> {
        if self.posted.of(number).reacted(comment, Reaction::Confused) {
            self.forge.react(comment, Reaction::Confused).await?;
        }
        let mark = format!("<!-- chiffon:elsewhere {now} -->");
        let body = format!("{mark}\nThis request goes on in #{now}: nothing is done here any more, so say it there.\n");
        self.write_once(number, &mark, &body).await
    }

    /// The comments of ours that a pull request has, by their first lines.
    async fn ours(&self, number: u64) -> Result<Ours, NotDone> {
        Ok(self.ours_of(&self.forge.comments(number, None).await?))
    }

    fn ours_of(&self, comments: &[chiffon_forge::Comment]) -> Ours {
        let mut found = Ours::default();
        for comment in comments.iter().filter(|comment| self.is_bot(&comment.author)) {
            let Some(mark) = comment.body.lines().next().map(str::trim_end) else { continue };
            match mark.strip_prefix(STICKY) {
                Some(rest) => {
                    found.heard = rest.split(' ').next().and_then(|heard| heard.parse().ok()).unwrap_or(0);
                    found.sticky = Some((comment.id, comment.body.clone()));
                }
                None => drop(found.marks.insert(mark.to_owned())),
            }
        }
        found
    }
}

/// What came of a push to `main`.
enum Pushed {
    Main,
    /// Somebody else was faster.
    Moved,
    /// The forge takes no pushes to `main`; the commit that it did not take.
    Refused(Oid),
    /// It can't be done.
    Otherwise(String),
}

fn push_write(upstream: &Upstream, write: &Write) -> Result<Pushed, chiffon_requests::Error> {
    upstream.fetch()?;
    let repo = upstream.open()?;
    let main = RefName::branch(crate::forge::BASE)?;
    let Some(tip) = repo.reference(&main)? else {
        return Ok(Pushed::Otherwise("the requests repository has no branch main yet".to_owned()));
    };
    let there = repo.blob_at(&tip, &write.path)?.map(|entry| entry.oid);
    if there != write.seen {
        return Ok(Pushed::Otherwise(format!("{} changed in the meantime; look again", write.path)));
    }
    let made = repo.prepare(&write.edit(main.clone(), &tip))?;
    if !made.changed {
        return Ok(Pushed::Main);
    }
    match upstream.push_main(&made.commit, &tip) {
        Ok(()) => Ok(Pushed::Main),
        Err(error) if error.is_stale() => Ok(Pushed::Moved),
        Err(error) if error.is_refused_push() => Ok(Pushed::Refused(made.commit)),
        Err(error) => Err(error),
    }
}

/// The plan that a pull request shows, by the first line that we wrote there.
fn plan_of(body: &str) -> Option<Oid> {
    let mark = body.lines().next()?.strip_prefix("<!-- chiffon:v1 ")?;
    let plan = mark.split_whitespace().find_map(|word| word.strip_prefix("plan="))?;
    Oid::parse(plan).ok()
}
