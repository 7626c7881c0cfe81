//! `chiffon approve`: merges the plan branch into `main`, as the person who typed it.

use anyhow::{Context, Result, bail};
use chiffon_core::facts::Offer;
use chiffon_schemas::{Oid, RepoPath};
use serde_json::json;

use super::person::{self, PersonsChange};
use super::{Desk, Exit};
use crate::output::Output;

/// Merges exactly the open offer.
///
/// # Errors
/// There is no open offer, the branch shows something else, or the push was refused.
pub async fn run(text: &str, desk: &Desk, output: &Output) -> Result<Exit> {
    let name = desk.known(text).await?;
    let Some((facts, world)) = desk.look_at(&name).await? else { bail!("there is no request `{name}`") };
    let Some(offer) = chiffon_core::open_offer(&facts) else {
        let state = chiffon_core::state(&facts, &world);
        bail!("{name} has no open offer: it is {}", state.word());
    };
    let Some(branch) = &facts.plan_branch else { bail!("the branch chiffon/plan/{name} is not there yet; try again") };
    if branch.plan.as_ref() != Some(&offer.plan_oid) {
        bail!(
            "chiffon/plan/{name} was edited and is not on offer yet; wait for `chiffon up`, then look at the plan again"
        );
    }
    let files = merged_files(desk, offer, &branch.tip)?;
    let message = format!("Merge plan for {name}: {}\n", crate::events::one_line(&offer.plan.spec.summary));
    let tip = branch.tip.clone();
    let commit = person::push(desk, |_| {
        Ok(PersonsChange { files: files.clone(), message: message.clone(), merges: Some(tip.clone()) })
    })?;
    desk.home.touch_wake()?;
    let value = json!({ "name": name, "plan": offer.plan_oid, "commit": commit });
    output.result(&value, || {
        format!("{name}: plan {} is merged; `chiffon log {name} --follow` shows it run", offer.plan_oid.short())
    });
    Ok(Exit::Done)
}

/// The plan's files as its branch has them; the plan itself is the offered blob and no other.
fn merged_files(desk: &Desk, offer: &Offer, tip: &Oid) -> Result<Vec<(RepoPath, Option<Vec<u8>>)>> {
    let mut files = Vec::new();
    let rendering = chiffon_requests::rendering_path(&offer.path);
    let evidence = chiffon_requests::evidence_path(&offer.path);
    for path in [offer.path.clone(), rendering, evidence] {
        let Some(entry) = desk.requests.blob_at(tip, &path)? else { continue };
        if path == offer.path && entry.oid != offer.plan_oid {
            bail!("the branch moved; look at the plan again");
        }
        let bytes = desk.requests.read_blob(&entry.oid, 1024 * 1024).with_context(|| format!("reading {path}"))?;
        files.push((path, Some(bytes)));
    }
    Ok(files)
}
