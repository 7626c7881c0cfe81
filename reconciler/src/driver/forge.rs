//! The driver's side of a forge: what it asks to be done there, and what it takes in of what was said.
//!
//! A forge is far away, so that nothing here waits for it. What is to be done goes to a worker beside the loop
//! (`up::forging`), which does one thing after the other and says what came of it; the next look finds what is then so. What
//! is under way is not asked for twice, and what is lost with the process is asked for again by the next one.

use std::collections::BTreeSet;

use chiffon_core::facts::{ForgeFacts, Pull, PullState, RequestFacts};
use chiffon_forge::NewPull;
use chiffon_requests::RefName;
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{Name, Oid};
use chiffon_store::Change;
use tokio::sync::mpsc::UnboundedSender;

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

/// What the forge said.
#[derive(Debug)]
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
    /// How a request's pull request stands.
    Pull {
        /// The request.
        name: Name,
        /// What was said of it.
        pull: Box<Pull>,
    },
    /// Nothing can be had of it now, and why; or it works again.
    Trouble(Option<String>),
}

/// What the driver keeps of the forge.
#[derive(Debug)]
pub(super) struct ForgeSide {
    pub facts: ForgeFacts,
    jobs: UnboundedSender<ForgeJob>,
    /// Asked for, and not answered yet.
    under_way: BTreeSet<ForgeJob>,
    trouble: Option<String>,
}

impl ForgeSide {
    pub fn new(base: String, jobs: UnboundedSender<ForgeJob>) -> Self {
        Self { facts: ForgeFacts { bot: None, base }, jobs, under_way: BTreeSet::new(), trouble: None }
    }

    /// Asks for something, once for as long as it is under way.
    fn ask(&mut self, job: ForgeJob) {
        if self.under_way.insert(job.clone()) && self.jobs.send(job).is_err() {
            tracing::debug!("the forge's worker has ended");
        }
    }
}

impl Driver {
    /// Why nothing can be had of the forge now, where that is so.
    pub fn forge_trouble(&self) -> Option<&str> {
        self.forge.as_ref()?.trouble.as_deref()
    }

    /// Takes in what the forge said; whether to look at everything.
    ///
    /// # Errors
    /// The store failed; it will be said again.
    pub async fn forge_said(&mut self, news: ForgeNews) -> Result<bool, Error> {
        let Some(forge) = &mut self.forge else { return Ok(false) };
        match news {
            ForgeNews::Identity { login } => forge.facts.bot = Some(login),
            ForgeNews::Fetched => {}
            ForgeNews::Done(job) => drop(forge.under_way.remove(&job)),
            ForgeNews::Trouble(trouble) => {
                forge.trouble = trouble;
                return Ok(false);
            }
            ForgeNews::Pull { name, pull } => return self.pull_seen(&name, *pull).await,
        }
        Ok(true)
    }

    /// Remembers what the forge said of a pull request; whether that is news.
    async fn pull_seen(&mut self, name: &Name, mut pull: Pull) -> Result<bool, Error> {
        let Some(facts) = self.store.facts(self.repository, name).await? else { return Ok(false) };
        let merged = matches!(pull.state, PullState::Merged { .. });
        let on_main = facts.plan_on_main.as_ref() == Some(&pull.plan);
        let before = facts.pull.as_ref().filter(|before| before.number == pull.number);
        pull.denied = match before {
            // Each time that it is asked and says no, until it is believed.
            Some(before) if on_main && !merged => before.denied.saturating_add(1),
            _ => u32::from(on_main && !merged),
        };
        if facts.pull.as_ref() == Some(&pull) {
            return Ok(false);
        }
        self.apply(Change::PullSeen { name: name.clone(), pull: Box::new(pull) }, &[]).await?;
        crash_point("pull-recorded");
        Ok(true)
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
        let number = facts.pull.as_ref().filter(|pull| pull.state == PullState::Open).map(|pull| pull.number);
        if let Some(forge) = &mut self.forge {
            let new = NewPull {
                head: format!("chiffon/plan/{}", facts.name),
                base: forge.facts.base.clone(),
                edit: chiffon_forge::Edit {
                    title: proposal.subject,
                    body: proposal.rendering.unwrap_or_default(),
                    draft: false,
                },
            };
            forge.ask(ForgeJob::Propose { name: facts.name.clone(), plan: plan.clone(), number, new });
        }
        Ok(false)
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
