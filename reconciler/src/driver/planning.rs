//! Makes plans: reads the catalogue at the infra branch's tip, asks the planner, lets the gate judge, and records an
//! offer or why there is none.

use std::sync::Arc;

use chiffon_core::catalogue::Catalogue;
use chiffon_core::facts::{Blocked, Offer, OfferState, Question, RequestFacts, RequestFile, Unplanned, World};
use chiffon_core::{Approval, Verdict, gate};
use chiffon_forge::Proposal;
use chiffon_planner::{Answer, Input, Planned};
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{Evidence, Oid, Plan, PlannedBy, PlannerKind, Request, RequestRef, Tools};
use chiffon_store::Change;

use super::{Driver, Error, blocking, pages};
use crate::events;

/// The version that a plan is made for where no agent has said its own yet.
const UNKNOWN_ANSIBLE: &str = "2.19";

impl Driver {
    /// Plans a request as it is on `main` now.
    pub(super) async fn make_plan(&mut self, facts: &RequestFacts, world: &World) -> Result<bool, Error> {
        if chiffon_core::last_was_edited_by_person(facts) {
            return self.block(facts, world, Blocked::EditedPlanStale).await;
        }
        let RequestFile::Valid { oid, .. } = &facts.file else { return Ok(false) };
        let request = match self.read_request(oid, facts) {
            Ok(request) => request,
            Err(findings) => return self.block(facts, world, Blocked::Invalid { findings }).await,
        };
        let catalogue = match self.current_catalogue(world) {
            Ok(catalogue) => catalogue,
            Err(reason) => return self.block(facts, world, Blocked::Infra { reason }).await,
        };
        if let Some(undone) = super::undo::undone_by_last(facts) {
            let undone = undone.clone();
            return self.offer_undo(facts, world, &catalogue, &request, &undone).await;
        }
        let input = self.input(facts, world, &request, &catalogue, oid);
        match blocking(|| chiffon_planner::plan(&input)) {
            Answer::Plan(planned) => {
                self.offer(facts, world, &catalogue, *planned, |reasons| Blocked::Denied { reasons }).await
            }
            Answer::Questions(questions) => {
                let questions = questions.into_iter().map(question).collect();
                self.block(facts, world, Blocked::Questions { questions }).await
            }
            Answer::Nothing { reason, nearest } => {
                let nearest = nearest.into_iter().map(|entry| (entry.playbook, entry.title)).collect();
                self.block(facts, world, Blocked::NothingFits { reason, nearest }).await
            }
            Answer::Invalid(findings) => {
                let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
                self.block(facts, world, Blocked::Invalid { findings: findings.join("\n") }).await
            }
        }
    }

    pub(super) fn input<'a>(
        &self,
        facts: &'a RequestFacts,
        world: &World,
        request: &'a Request,
        catalogue: &'a Catalogue,
        oid: &Oid,
    ) -> Input<'a> {
        Input {
            name: &facts.name,
            request,
            request_ref: RequestRef { path: facts.path.clone(), oid: oid.clone() },
            revision: facts.offers.last().map_or(0, Offer::revision) + 1,
            catalogue,
            offer_days: self.config.policy.offer_days,
            max_timeout_secs: self.config.policy.max_timeout_secs,
            now: world.now,
            tools: tools(world),
        }
    }

    /// Makes an offer of the plan that a person wrote on the plan branch: its steps stand, all else is worked out anew.
    pub(super) async fn take_edit(
        &mut self,
        facts: &RequestFacts,
        world: &World,
        blob: Option<Oid>,
    ) -> Result<bool, Error> {
        let refused = |reason: String| Blocked::Edit { reason, blob: blob.clone() };
        let Some(edited) = blob.as_ref() else {
            return self.block(facts, world, refused("the plan was removed from its branch".to_owned())).await;
        };
        let plan = match self.read_plan(edited, facts) {
            Ok(plan) => plan,
            Err(findings) => return self.block(facts, world, refused(findings)).await,
        };
        let RequestFile::Valid { oid, .. } = &facts.file else { return Ok(false) };
        let request = match self.read_request(oid, facts) {
            Ok(request) => request,
            Err(findings) => return self.block(facts, world, refused(findings)).await,
        };
        let catalogue = match self.current_catalogue(world) {
            Ok(catalogue) => catalogue,
            // The offer beneath it stays open; the edit is looked at again once the infra repository can be read.
            Err(_) => return Ok(false),
        };
        let input = self.input(facts, world, &request, &catalogue, oid);
        let by = PlannedBy {
            kind: PlannerKind::Person,
            reason: "a person edited the steps on the plan branch".to_owned(),
            cost_microusd: 0,
            undoes: None,
        };
        match blocking(|| chiffon_planner::plan_from_steps(&input, plan.spec.steps, by, None)) {
            Ok(planned) => {
                let denied = |reasons: Vec<String>| refused(format!("denied: {}", reasons.join("; ")));
                self.offer(facts, world, &catalogue, planned, denied).await
            }
            Err(reason) => self.block(facts, world, refused(reason)).await,
        }
    }

    pub(super) async fn offer(
        &mut self,
        facts: &RequestFacts,
        world: &World,
        catalogue: &Catalogue,
        planned: Planned,
        denied: impl FnOnce(Vec<String>) -> Blocked,
    ) -> Result<bool, Error> {
        if let Verdict::Deny { reasons } = gate(&planned.plan, catalogue, &self.config.policy, Approval::None) {
            return self.block(facts, world, denied(reasons)).await;
        }
        let plan_oid = chiffon_schemas::blob_oid(&chiffon_schemas::plan_bytes(&planned.plan));
        let replaces = chiffon_core::open_offer(facts).map(|open| open.plan_oid.clone());
        let offer = Offer {
            plan_oid: plan_oid.clone(),
            path: chiffon_requests::plan_path(&facts.path),
            main: self.store.cursor(self.repository).await?.main,
            branch_commit: None,
            at: world.now,
            state: OfferState::Open,
            plan: planned.plan,
        };
        // Kept alive from the offer on: the infra branch may be rewritten before the merge.
        self.pin(&plan_oid, &offer.plan.spec.infra.commit)?;
        let event = events::offered(facts, &offer, world.now);
        let change = Change::OfferRecorded { name: facts.name.clone(), replaces, offer: Box::new(offer) };
        self.apply(change, &[event]).await?;
        crash_point("offer-row-written");
        self.evidence.insert(plan_oid, planned.evidence);
        Ok(true)
    }

    pub(super) async fn block(&mut self, facts: &RequestFacts, world: &World, reason: Blocked) -> Result<bool, Error> {
        let Some(oid) = facts.file.oid() else { return Ok(false) };
        let unplanned = Unplanned { request: oid.clone(), infra: world.infra.clone(), reason, at: world.now };
        // The same answer as before is no news; only what it was answered against moves on.
        let same = facts
            .unplanned
            .as_ref()
            .is_some_and(|before| before.reason == unplanned.reason && before.request == unplanned.request);
        let against_the_same = facts.unplanned.as_ref().is_some_and(|before| before.infra == unplanned.infra);
        if same && against_the_same && facts.replan_after.is_none() {
            return Ok(false);
        }
        let words = pages::blocked_in_words(&unplanned.reason);
        let event = events::blocked(facts, &unplanned, &words, world.now);
        let events = if same { Vec::new() } else { vec![event] };
        self.apply(Change::Unplanned { name: facts.name.clone(), unplanned }, &events).await?;
        Ok(true)
    }

    /// What a reviewer sees of an offer.
    pub(super) async fn proposal(&mut self, facts: &RequestFacts, offer: &Offer) -> Result<Proposal, Error> {
        let evidence = match self.evidence_for(offer) {
            Some(evidence) => Some(self.with_forecast(evidence, &offer.plan).await?),
            None => None,
        };
        let request = self.read_request(&offer.plan.metadata.request.oid, facts).ok();
        let rendering = request
            .map(|request| chiffon_planner::render_markdown(&offer.plan, evidence.as_ref(), &request, &offer.plan_oid));
        Ok(Proposal {
            name: facts.name.clone(),
            path: offer.path.clone(),
            plan: chiffon_schemas::plan_bytes(&offer.plan),
            plan_oid: offer.plan_oid.clone(),
            rendering,
            tasks: evidence.as_ref().map(|evidence| evidence.spec.hosts.values().map(|host| host.tasks).sum()),
            evidence: evidence.as_ref().map(|evidence| chiffon_schemas::to_yaml(evidence).into_bytes()),
            subject: format!("plan: {}", chiffon_planner::inert_line(&offer.plan.spec.summary)),
            on_top_of: facts.plan_branch.as_ref().filter(|_| offer.by_person()).map(|branch| branch.tip.clone()),
            time: offer.at,
        })
    }

    /// What is foreseen of an offer; worked out again after a restart.
    pub(super) fn evidence_for(&mut self, offer: &Offer) -> Option<Evidence> {
        match self.evidence.get(&offer.plan_oid) {
            Some(known) => Some(known.clone()),
            None => self.evidence_of(offer),
        }
    }

    /// Evidence worked out again after a restart.
    fn evidence_of(&mut self, offer: &Offer) -> Option<Evidence> {
        let catalogue = self.catalogue_at(&offer.plan.spec.infra.commit).ok()?;
        Some(chiffon_planner::static_evidence(&offer.plan, &offer.plan_oid, &catalogue))
    }

    /// Adds what earlier runs of the same playbooks say.
    async fn with_forecast(&self, mut evidence: Evidence, plan: &Plan) -> Result<Evidence, Error> {
        let mut steps = Vec::new();
        for step in &plan.spec.steps {
            steps.push(self.store.history(self.repository, &step.playbook, plan.spec.mode, 50).await?);
        }
        evidence.spec.forecast = chiffon_planner::forecast(&steps);
        Ok(evidence)
    }

    pub(super) fn read_request(&self, oid: &Oid, facts: &RequestFacts) -> Result<Request, String> {
        let limit = chiffon_schemas::yaml::Limits::REQUEST.max_bytes as u64;
        let bytes = blocking(|| self.requests.read_blob(oid, limit)).map_err(|error| error.to_string())?;
        chiffon_schemas::read_request(facts.path.as_str(), &bytes).map_err(|found| in_words(&found))
    }

    fn read_plan(&self, oid: &Oid, facts: &RequestFacts) -> Result<Plan, String> {
        let limit = chiffon_schemas::yaml::Limits::PLAN.max_bytes as u64;
        let bytes = blocking(|| self.requests.read_blob(oid, limit)).map_err(|error| error.to_string())?;
        let path = chiffon_requests::plan_path(&facts.path);
        chiffon_schemas::read_plan(path.as_str(), &bytes).map_err(|found| in_words(&found))
    }

    pub(super) fn current_catalogue(&mut self, world: &World) -> Result<Arc<Catalogue>, String> {
        match (&self.infra_error, &world.infra) {
            (Some(reason), _) => Err(reason.clone()),
            (None, None) => Err("it has no commit yet".to_owned()),
            (None, Some(commit)) => self.catalogue_at(commit),
        }
    }

    /// The catalogue of a commit; the last one is kept.
    pub(super) fn catalogue_at(&mut self, commit: &Oid) -> Result<Arc<Catalogue>, String> {
        if let Some((known, catalogue)) = &self.catalogue
            && known == commit
        {
            return Ok(Arc::clone(catalogue));
        }
        let Some(repo) = &self.infra else { return Err("its mirror is not there yet".to_owned()) };
        let infra = &self.config.spec.infra;
        let read = blocking(|| chiffon_planner::read_catalogue(repo, commit, &infra.name, &infra.inventory));
        let catalogue = Arc::new(read.map_err(|error| crate::commands::chain(&error))?);
        self.catalogue = Some((commit.clone(), Arc::clone(&catalogue)));
        Ok(catalogue)
    }
}

fn in_words(found: &[chiffon_schemas::Diagnostic]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn question(question: chiffon_planner::Question) -> Question {
    let choices = question.choices.into_iter().map(|choice| (choice.value, choice.label)).collect();
    Question { id: question.id, text: question.text, choices }
}

/// The ansible-core that plans are made for, without what is patched in it.
fn tools(world: &World) -> Tools {
    let minor = chiffon_core::ansible_core(world).and_then(|version| {
        let mut parts = version.split('.');
        Some(format!("{}.{}", parts.next()?, parts.next()?))
    });
    Tools { ansible_core: minor.unwrap_or_else(|| UNKNOWN_ANSIBLE.to_owned()) }
}
