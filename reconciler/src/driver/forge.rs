//! The driver's side of a forge: what it asks to be done there, and what it takes in of what was said.
//!
//! A forge is far away, so that nothing here waits for it. What is to be done goes to a worker beside the loop
//! (`up::forging`), which does one thing after the other and says what came of it; the next look finds what is then so. What
//! is under way is not asked for twice, and what is lost with the process is asked for again by the next one.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_core::facts::{ForgeFacts, OfferState, Pull, PullState, RequestFacts, Run};
use chiffon_core::{Freshness, State};
use chiffon_forge::{NewPull, Status};
use chiffon_requests::RefName;
use chiffon_schemas::{Name, Oid};
use chiffon_store::Change;
use tokio::sync::mpsc::UnboundedSender;

use super::comments::Comment;
use super::view::{self, View};
use super::writing::{Write, Written};
use super::{Driver, Error, blocking};

/// Something to be done on the forge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForgeJob {
    /// Make the audit branch there be at this commit.
    Audit {
        /// The commit.
        commit: Oid,
    },
    /// Move a request's plan branch there from where it was seen, or remove it.
    Branch {
        /// The request.
        name: Name,
        /// The commit that it is to be at.
        commit: Option<Oid>,
        /// Where it was seen.
        seen: Option<Oid>,
    },
    /// Show an offer in the request's pull request: in this one, or in a new one.
    Propose {
        /// The request.
        name: Name,
        /// The plan's blob.
        plan: Oid,
        /// The pull request that is open already.
        number: Option<u64>,
        /// How it is to look.
        new: NewPull,
    },
    /// Make a pull request look like this.
    Show {
        /// The request.
        name: Name,
        /// Its number.
        number: u64,
        /// How it is to look.
        view: Box<View>,
    },
    /// Say how a run without a pull request stands.
    Status {
        /// The request.
        name: Name,
        /// The commit that says it.
        commit: Oid,
        /// What it says.
        status: Status,
    },
    /// Tell who commented on an earlier pull request of a request where it goes on.
    Elsewhere {
        /// The request.
        name: Name,
        /// The earlier one.
        number: u64,
        /// The comment.
        comment: u64,
        /// The one that counts now.
        now: u64,
    },
    /// Write a file of `main` as a person wants it.
    Write {
        /// The command that asks for it.
        command: i64,
        /// The file.
        write: Box<Write>,
    },
    /// Say how a request's pull request stands.
    Ask {
        /// The request.
        name: Name,
        /// Its number, where it is known.
        number: Option<u64>,
        /// The plan that it shows.
        plan: Oid,
    },
}

impl ForgeJob {
    /// What it is about, for people: a request, or the audit branch.
    pub fn about(&self) -> String {
        match self {
            Self::Audit { .. } => "chiffon/audit".to_owned(),
            Self::Write { write, .. } => write.path.to_string(),
            Self::Branch { name, .. }
            | Self::Propose { name, .. }
            | Self::Show { name, .. }
            | Self::Status { name, .. }
            | Self::Elsewhere { name, .. }
            | Self::Ask { name, .. } => name.to_string(),
        }
    }
}

/// What the forge said.
#[derive(Debug, Clone)]
pub enum ForgeNews {
    /// Who the token speaks as.
    Identity {
        /// The account.
        login: String,
    },
    /// The copy of the repository is up to date.
    Fetched,
    /// A job was done, or found to be of no use any more: what is so now is looked at.
    Done(ForgeJob),
    /// The pull requests that are open; whatever else was open before is to be asked about.
    Open(BTreeSet<u64>),
    /// How a request's pull request stands.
    Pull {
        /// The request.
        name: Name,
        /// What was said of it. Its plan is what it shows where that is `certain`, else what its body claims.
        pull: Box<Pull>,
        /// Whether we made it show that plan ourselves, or know it otherwise.
        certain: bool,
        /// Whether the account that Chiffon speaks as opened it.
        by_bot: bool,
    },
    /// There is no pull request of a request's plan.
    Gone {
        /// The request.
        name: Name,
        /// The plan that it was to show.
        plan: Oid,
    },
    /// A file of `main` was written, or why it can't be.
    Written {
        /// The command that asked for it.
        command: i64,
        /// Where, or why not.
        outcome: Result<Written, String>,
    },
    /// Somebody asks for something in a comment.
    Comment {
        /// The request.
        name: Name,
        /// The comment.
        comment: Comment,
    },
    /// Nothing can be had of it now, or a job can't be done, and why; or it works again.
    Trouble {
        /// What it is about; empty for the forge as a whole.
        about: String,
        /// What is wrong; `None` where nothing is any more.
        why: Option<String>,
    },
}

/// What the driver keeps of the forge.
#[derive(Debug)]
pub(super) struct ForgeSide {
    pub facts: ForgeFacts,
    jobs: UnboundedSender<ForgeJob>,
    /// Asked for, and not answered yet.
    under_way: BTreeSet<ForgeJob>,
    /// The copy was brought up to date at least once.
    fetched: bool,
    /// What is wrong, by what it is about.
    troubles: BTreeMap<String, String>,
    /// What came of files that were to be written, by the command that asked for it.
    pub written: BTreeMap<i64, Result<Written, String>>,
    /// What commits say of runs without a pull request, by request.
    told: BTreeMap<Name, (Oid, Status)>,
    /// The audit branch there, when it was last found to be ours.
    audit_checked: Option<Oid>,
}

impl ForgeSide {
    pub fn new(base: String, jobs: UnboundedSender<ForgeJob>) -> Self {
        Self {
            facts: ForgeFacts { bot: None, base },
            jobs,
            under_way: BTreeSet::new(),
            fetched: false,
            troubles: BTreeMap::new(),
            written: BTreeMap::new(),
            told: BTreeMap::new(),
            audit_checked: None,
        }
    }

    /// Whether a file is being written for a command.
    pub fn is_writing(&self, command: i64) -> bool {
        self.under_way.iter().any(|job| matches!(job, ForgeJob::Write { command: other, .. } if *other == command))
    }

    /// Asks for something, once for as long as it is under way.
    pub fn ask(&mut self, job: ForgeJob) {
        if self.under_way.insert(job.clone()) && self.jobs.send(job).is_err() {
            tracing::debug!("the forge's worker has ended");
        }
    }
}

impl Driver {
    /// What is wrong with the forge, by what it is about.
    pub fn forge_troubles(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.forge.as_ref()?.troubles)
    }

    /// Whether nothing is under way on the forge, or nothing can be had of it: `up --once` waits for no more.
    pub fn forge_at_rest(&self) -> bool {
        let at_rest = |forge: &ForgeSide| forge.fetched && forge.facts.bot.is_some() && forge.under_way.is_empty();
        self.forge.as_ref().is_none_or(|forge| at_rest(forge) || !forge.troubles.is_empty())
    }

    /// Takes in what the forge said; whether to look at everything.
    ///
    /// # Errors
    /// The store failed; it will be said again.
    pub async fn forge_said(&mut self, news: ForgeNews) -> Result<bool, Error> {
        let Some(forge) = &mut self.forge else { return Ok(false) };
        match news {
            ForgeNews::Identity { login } => forge.facts.bot = Some(login),
            ForgeNews::Fetched => forge.fetched = true,
            ForgeNews::Done(job) => {
                forge.under_way.remove(&job);
                match job {
                    ForgeJob::Show { name, number, view } => self.shown(&name, number, &view).await?,
                    ForgeJob::Status { name, commit, status } => drop(forge.told.insert(name, (commit, status))),
                    _ => {}
                }
            }
            ForgeNews::Open(numbers) => self.ask_for_others(&numbers).await?,
            ForgeNews::Trouble { about, why } => match why {
                Some(why) => drop(forge.troubles.insert(about, why)),
                None => drop(forge.troubles.remove(&about)),
            },
            ForgeNews::Written { command, outcome } => drop(forge.written.insert(command, outcome)),
            ForgeNews::Comment { name, comment } => return self.comment_heard(&name, comment).await,
            ForgeNews::Gone { name, plan } => return self.pull_gone(&name, &plan).await,
            ForgeNews::Pull { name, pull, certain, by_bot } => {
                // One that is not known yet is ours only where we opened it, into the branch that plans go into.
                let ours = certain || (by_bot && pull.base == forge.facts.base);
                return self.pull_seen(&name, *pull, (certain, ours)).await;
            }
        }
        Ok(true)
    }

    /// Remembers what the forge said of a pull request; whether that is news.
    async fn pull_seen(&mut self, name: &Name, mut pull: Pull, (certain, ours): (bool, bool)) -> Result<bool, Error> {
        let Some(facts) = self.store.facts(self.repository, name).await? else { return Ok(false) };
        let before = facts.pull.as_ref().filter(|before| before.number == pull.number);
        if let Some(before) = before {
            // What we made it show counts, not what somebody wrote into its body since.
            if !certain {
                pull.plan = before.plan.clone();
            }
            (pull.shown, pull.heard) = (before.shown.clone(), before.heard);
            pull.answers = before.answers.clone();
        } else if !ours || facts.pull.as_ref().is_some_and(|known| known.number > pull.number) {
            // Somebody else's, or an older one, of an earlier plan of the same request.
            return Ok(false);
        }
        let merged = matches!(pull.state, PullState::Merged { .. });
        pull.carried = merged && self.carries(&facts, &pull)?;
        let on_main = facts.plan_on_main.as_ref() == Some(&pull.plan);
        pull.denied = match before {
            // Each time that it is asked and says no, until it is believed.
            Some(before) if on_main && !merged => before.denied.saturating_add(1),
            _ => u32::from(on_main && !merged),
        };
        if facts.pull.as_ref() == Some(&pull) {
            return Ok(false);
        }
        self.apply(Change::PullSeen { name: name.clone(), pull: Box::new(pull) }, &[]).await?;
        Ok(true)
    }

    /// The forge knows no pull request of a plan: one that was there is as good as closed. Where there was none and its plan
    /// lies on `main`, it is not merged.
    async fn pull_gone(&mut self, name: &Name, plan: &Oid) -> Result<bool, Error> {
        let Some(facts) = self.store.facts(self.repository, name).await? else { return Ok(false) };
        let known = facts.pull.clone().filter(|pull| &pull.plan == plan);
        let Some(forge) = &self.forge else { return Ok(false) };
        let gone = known.unwrap_or_else(|| Pull::none(name, plan, &forge.facts.base));
        let pull = Pull { state: PullState::Closed, denied: gone.denied.saturating_add(1), ..gone };
        self.apply(Change::PullSeen { name: name.clone(), pull: Box::new(pull) }, &[]).await?;
        Ok(true)
    }

    /// Whether the commit that a merge made is on `main`, and it and the head that was merged hold the plan at its path:
    /// whoever merged saw it, and nobody else put it there.
    fn carries(&self, facts: &RequestFacts, pull: &Pull) -> Result<bool, Error> {
        let PullState::Merged { commit: Some(merge), .. } = &pull.state else { return Ok(false) };
        let Some(offer) = facts.offers.iter().find(|offer| offer.plan_oid == pull.plan) else { return Ok(false) };
        let head = match &pull.head_commit {
            Some(head) => head,
            None => return Ok(false),
        };
        blocking(|| {
            let Some(main) = self.requests.reference(&self.main())? else { return Ok(false) };
            for commit in [merge, head] {
                if !self.requests.holds(commit) {
                    return Ok(false);
                }
                let there = self.requests.blob_at(commit, &offer.path)?.map(|entry| entry.oid);
                if there.as_ref() != Some(&pull.plan) {
                    return Ok(false);
                }
            }
            self.requests.is_ancestor(merge, &main)
        })
        .map_err(Error::from)
    }

    /// Asks about every pull request that was open when it was last seen and is not any more: nothing is missed that
    /// happened while nobody looked.
    async fn ask_for_others(&mut self, open: &BTreeSet<u64>) -> Result<(), Error> {
        for name in self.store.names(self.repository, false).await? {
            let Some(pull) = self.store.facts(self.repository, &name).await?.and_then(|facts| facts.pull) else {
                continue;
            };
            if let Some(forge) = &mut self.forge
                && pull.state == PullState::Open
                && !open.contains(&pull.number)
            {
                forge.ask(ForgeJob::Ask { name, number: Some(pull.number), plan: pull.plan });
            }
        }
        Ok(())
    }

    /// The forge's audit branch is where ours was, or a person looks (S2). Where ours is gone, with the copy that it lay
    /// in, theirs is taken for it, and judged as ours is.
    pub(super) fn check_forge_audit(&mut self) -> Result<(), Error> {
        let Some(forge) = &mut self.forge else { return Ok(()) };
        let theirs = blocking(|| self.requests.reference(&RefName::forge_audit()))?;
        let Some(theirs) = theirs.filter(|theirs| forge.audit_checked.as_ref() != Some(theirs)) else { return Ok(()) };
        let ours = blocking(|| self.requests.reference(&RefName::audit()))?;
        let Some(ours) = ours else {
            return Ok(blocking(|| self.requests.set_ref(&RefName::audit(), &theirs, None))?);
        };
        if !blocking(|| self.requests.is_ancestor(&theirs, &ours))? {
            return Err(Error::Stalled(format!(
                "the branch chiffon/audit on the forge is at {theirs}, which is not Chiffon's. Nothing goes on until a \
                 person has looked: `git log chiffon/audit` in a clone shows what is there; put it back with \
                 `git push --force origin {ours}:refs/heads/chiffon/audit`"
            )));
        }
        forge.audit_checked = Some(theirs);
        Ok(())
    }

    /// Has the forge's audit branch be at ours. Nothing that others see is asked for before this is.
    pub(super) fn push_audit(&mut self) -> Result<(), Error> {
        if self.forge.is_none() {
            return Ok(());
        }
        let ours = blocking(|| self.requests.reference(&RefName::audit()))?;
        let theirs = blocking(|| self.requests.reference(&RefName::forge_audit()))?;
        if let (Some(commit), Some(forge)) = (ours.filter(|ours| theirs.as_ref() != Some(ours)), &mut self.forge) {
            forge.ask(ForgeJob::Audit { commit });
        }
        Ok(())
    }

    /// Has a plan branch be moved on the forge, or removed there.
    pub(super) fn push_branch(&mut self, facts: &RequestFacts, commit: Option<Oid>) -> Result<(), Error> {
        self.push_audit()?;
        let seen = facts.plan_branch.as_ref().map(|branch| branch.tip.clone());
        if let Some(forge) = &mut self.forge {
            forge.ask(ForgeJob::Branch { name: facts.name.clone(), commit, seen });
        }
        Ok(())
    }

    /// Has an offer be shown in its pull request.
    pub(super) async fn propose(&mut self, facts: &RequestFacts, plan: &Oid) -> Result<bool, Error> {
        let Some(offer) = facts.offers.iter().find(|offer| &offer.plan_oid == plan) else { return Ok(false) };
        let proposal = self.proposal(facts, offer).await?;
        self.push_audit()?;
        let number = facts.pull.as_ref().filter(|pull| pull.state == PullState::Open).map(|pull| pull.number);
        if let Some(forge) = &mut self.forge {
            let new = NewPull {
                head: format!("chiffon/plan/{}", facts.name),
                base: forge.facts.base.clone(),
                edit: view::edit(&offer.plan, &proposal, None),
            };
            forge.ask(ForgeJob::Propose { name: facts.name.clone(), plan: plan.clone(), number, new });
        }
        Ok(false)
    }

    /// Has a request's pull request look as it is to; whether it does already, so that nothing is left to do.
    pub(super) async fn show_on_forge(
        &mut self,
        facts: &RequestFacts,
        state: &State,
        freshness: Freshness,
    ) -> Result<bool, Error> {
        let told = self.show_check(facts, state).await?;
        let (Some(_), Some(pull)) = (&self.forge, &facts.pull) else { return Ok(told) };
        let Some(offer) = facts.offers.iter().find(|offer| offer.plan_oid == pull.plan) else { return Ok(told) };
        // Of a plan that ran everything is told; what ran since, by policy, has no pull request.
        let has_run = |run: &Run| offer.state == OfferState::Approved && run.plan_oid != pull.plan;
        if facts.run.as_ref().is_some_and(has_run) {
            return Ok(self.show_view(facts, pull, view::answers(pull)).await? && told);
        }
        let edit = if pull.state == PullState::Open {
            let held_back = view::held_back(facts, offer, state, freshness);
            Some(view::edit(&offer.plan, &self.proposal(facts, offer).await?, held_back.as_deref()))
        } else {
            None
        };
        let view = view::view(facts, pull, offer, (state, freshness), &self.config.policy.approval, edit);
        Ok(self.show_view(facts, pull, view).await? && told)
    }

    async fn show_view(&mut self, facts: &RequestFacts, pull: &Pull, view: View) -> Result<bool, Error> {
        if pull.number == 0 || pull.shown.as_ref() == Some(&view.digest()) {
            return Ok(true);
        }
        // What it says is on record before anybody sees it.
        self.drain_audit().await?;
        let job = ForgeJob::Show { name: facts.name.clone(), number: pull.number, view: Box::new(view) };
        self.push_audit()?;
        self.forge_ask(job);
        Ok(false)
    }

    /// Whether a request's pull request is about to look otherwise.
    pub(super) fn is_being_shown(&self, facts: &RequestFacts) -> bool {
        let (Some(forge), Some(pull)) = (&self.forge, &facts.pull) else { return false };
        forge.under_way.iter().any(|job| matches!(job, ForgeJob::Show { number, .. } if *number == pull.number))
    }

    /// Has the commit that a run without a pull request was planned at say how that stands; whether it does already.
    async fn show_check(&mut self, facts: &RequestFacts, state: &State) -> Result<bool, Error> {
        let Some((commit, status)) = self.forge.as_ref().and_then(|_| view::of_check(facts, state)) else {
            return Ok(true);
        };
        let wanted = (commit.clone(), status.clone());
        if self.forge.as_ref().is_some_and(|forge| forge.told.get(&facts.name) == Some(&wanted)) {
            return Ok(true);
        }
        self.drain_audit().await?;
        self.push_audit()?;
        self.forge_ask(ForgeJob::Status { name: facts.name.clone(), commit, status });
        Ok(false)
    }

    /// A pull request looks as it was to.
    async fn shown(&mut self, name: &Name, number: u64, view: &View) -> Result<(), Error> {
        let Some(facts) = self.store.facts(self.repository, name).await? else { return Ok(()) };
        let Some(pull) = facts.pull.filter(|pull| pull.number == number) else { return Ok(()) };
        let pull = Pull { shown: Some(view.digest()), ..pull };
        self.apply(Change::PullSeen { name: name.clone(), pull: Box::new(pull) }, &[]).await?;
        Ok(())
    }

    /// Asks for something there, where there is a forge.
    pub(super) fn forge_ask(&mut self, job: ForgeJob) {
        if let Some(forge) = &mut self.forge {
            forge.ask(job);
        }
    }

    /// Has the forge be asked what became of a request's pull request.
    pub(super) fn ask_forge(&mut self, facts: &RequestFacts) -> bool {
        let plan = chiffon_core::open_offer(facts).map(|offer| offer.plan_oid.clone());
        if let (Some(plan), Some(forge)) = (plan, &mut self.forge) {
            let number = facts.pull.as_ref().filter(|pull| pull.plan == plan).map(|pull| pull.number);
            forge.ask(ForgeJob::Ask { name: facts.name.clone(), number, plan });
        }
        false
    }
}
