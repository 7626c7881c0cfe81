//! Plans that take back what a run did: with the playbook that the plan itself named, on the hosts that it ran on.

use std::collections::BTreeSet;

use chiffon_core::CommandAnswer;
use chiffon_core::catalogue::Catalogue;
use chiffon_core::facts::{Blocked, OfferState, RequestFacts, RequestFile, Run, World};
use chiffon_schemas::{AgentKind, Host, Mode, Name, Oid, PlannedBy, PlannerKind, Request, Step, Undo};

use super::{Driver, Error, blocking};

/// Seconds that taking something back may take.
const UNDO_SECS: u32 = 900;

/// The plan that the last offer was to take back, where that offer has to be made anew: then it is not the request that is
/// planned again.
pub(super) fn undone_by_last(facts: &RequestFacts) -> Option<&Oid> {
    let last = facts.offers.last()?;
    let again = matches!(last.state, OfferState::Stale | OfferState::Expired) && facts.is_of_now(&last.plan);
    last.plan.spec.planner.undoes.as_ref().filter(|_| again)
}

impl Driver {
    /// Offers a plan that takes back what the last run did.
    pub(super) async fn undo(&mut self, facts: &RequestFacts, world: &World) -> Result<CommandAnswer, Error> {
        let name = &facts.name;
        let Some(run) = facts.run.as_ref().filter(|run| !run.voided) else {
            return Ok(CommandAnswer::no(format!("{name} has not run yet")));
        };
        if run.state.is_none() {
            return Ok(CommandAnswer::no(format!("{name} is running; cancel it first, or wait")));
        }
        if run.state == Some(chiffon_schemas::RunState::Lost) {
            return Ok(CommandAnswer::no(format!(
                "{name} is lost: look at the host first, then `chiffon resolve {name}`"
            )));
        }
        if run.plan.spec.mode == Mode::Check {
            return Ok(CommandAnswer::no(format!(
                "the last run of {name} was a check, which leaves nothing to undo; what ran before it is not undone by a \
                 command any more: ask for its removal in a request"
            )));
        }
        if let Undo::None { reason } = &run.plan.spec.undo {
            return Ok(CommandAnswer::no(format!("no way to undo it is known: {reason}")));
        }
        let RequestFile::Valid { oid, .. } = &facts.file else {
            return Ok(CommandAnswer::no(format!("{} can't be read, so nothing is planned for it", facts.path)));
        };
        let read = self.read_request(oid, facts).and_then(|request| Ok((request, self.current_catalogue(world)?)));
        let (request, catalogue) = match read {
            Ok(read) => read,
            Err(why) => return Ok(CommandAnswer::no(format!("nothing can be planned now: {why}"))),
        };
        if request.spec.mode == Mode::Check {
            return Ok(CommandAnswer::no(format!(
                "{} asks for a check: take `mode: check` out of it first",
                facts.path
            )));
        }
        let undone = run.plan_oid.clone();
        if !self.offer_undo(facts, world, &catalogue, &request, &undone).await? {
            return Ok(CommandAnswer::no(format!("{name}: there is nothing to undo")));
        }
        Ok(match self.look_at(name).await? {
            Some((now, _))
                if chiffon_core::open_offer(&now).is_some_and(|offer| offer.plan.spec.planner.undoes.is_some()) =>
            {
                CommandAnswer::yes(format!("a plan that undoes {} is offered", undone.short()))
            }
            _ => CommandAnswer::no(format!("no plan could be made that undoes it; `chiffon status {name}` says why")),
        })
    }

    /// Offers a plan that takes back what a plan of the last run did.
    pub(super) async fn offer_undo(
        &mut self,
        facts: &RequestFacts,
        world: &World,
        catalogue: &Catalogue,
        request: &Request,
        undone: &Oid,
    ) -> Result<bool, Error> {
        let (Some(run), Some(oid)) = (facts.run.as_ref().filter(|run| &run.plan_oid == undone), facts.file.oid())
        else {
            return Ok(false);
        };
        let Some(step) = undo_step(run, catalogue) else { return Ok(false) };
        let by = PlannedBy {
            kind: PlannerKind::Undo,
            reason: format!("plan {} names the playbook that undoes it", run.plan.metadata.revision),
            cost_microusd: 0,
            undoes: Some(undone.clone()),
        };
        let summary = format!("Undo plan {} ({})", run.plan.metadata.revision, run.plan.spec.summary);
        let input = self.input(facts, world, request, catalogue, oid);
        match blocking(|| chiffon_planner::plan_from_steps(&input, vec![step], by, Some(summary))) {
            Ok(planned) => self.offer(facts, world, catalogue, planned, |reasons| Blocked::Denied { reasons }).await,
            Err(reason) => self.block(facts, world, Blocked::NothingFits { reason, nearest: Vec::new() }).await,
        }
    }
}

/// The step that undoes a run: on every host of its steps, with those of its variables that the playbook takes as well.
fn undo_step(run: &Run, catalogue: &Catalogue) -> Option<Step> {
    let Undo::Playbook { playbook, .. } = &run.plan.spec.undo else { return None };
    let hosts: BTreeSet<&Host> = run.plan.spec.steps.iter().flat_map(|step| &step.limit).collect();
    let entry = catalogue.entry(playbook);
    let takes = |name: &String| entry.is_some_and(|entry| entry.variables.contains_key(name));
    let vars = run.plan.spec.steps.iter().flat_map(|step| &step.vars).filter(|(name, _)| takes(name));
    Some(Step {
        id: Name::parse("undo").expect("a constant name"),
        needs: Vec::new(),
        agent: AgentKind::Infra,
        playbook: playbook.clone(),
        tags: Vec::new(),
        limit: hosts.into_iter().cloned().collect(),
        vars: vars.map(|(name, value)| (name.clone(), value.clone())).collect(),
        found: std::collections::BTreeMap::new(),
        timeout_secs: UNDO_SECS,
    })
}
