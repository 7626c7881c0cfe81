//! `chiffon approve`: merges the plan branch into `main`, as the person who typed it; on a forge the pull request, by that
//! person's own token.

use std::path::Path;

use anyhow::{Context, Result, bail};
use chiffon_core::facts::{Offer, Pull, PullState, RequestFacts};
use chiffon_forge::{Forge, Trouble};
use chiffon_schemas::{ForgeSpec, Oid, RepoPath};
use serde_json::json;

use super::person::{self, PersonsChange};
use super::{Desk, Exit};
use crate::cli;
use crate::environment::Environment;
use crate::output::Output;

/// A merge that comes too early is tried again this often.
const MERGE_TRIES: u32 = 10;

/// Merges exactly the open offer.
///
/// # Errors
/// There is no open offer, the branch shows something else, or the push was refused.
pub async fn run(args: &cli::Approve, desk: &Desk, output: &Output) -> Result<Exit> {
    let name = desk.known(&args.name).await?;
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
    if let Some(spec) = &desk.config.spec.forge {
        return on_forge(args, desk, output, spec, (&facts, offer, &branch.tip)).await;
    }
    let files = merged_files(desk, offer, &branch.tip)?;
    let message = format!("Merge plan for {name}: {}\n", chiffon_planner::inert_line(&offer.plan.spec.summary));
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

/// Merges the pull request by the API, if it shows what was looked at.
async fn on_forge(
    args: &cli::Approve,
    desk: &Desk,
    output: &Output,
    spec: &ForgeSpec,
    (facts, offer, tip): (&RequestFacts, &Offer, &Oid),
) -> Result<Exit> {
    let name = &facts.name;
    let shows = |pull: &&Pull| pull.plan == offer.plan_oid && pull.state == PullState::Open;
    let Some(pull) = facts.pull.as_ref().filter(shows) else {
        bail!("the pull request of {name} is not there yet; try again");
    };
    let Some(token) = persons_token(args.token_file.as_deref(), &desk.environment)? else {
        bail!(
            "merge {} to approve; or name a token of your own account: --token-file FILE, or CHIFFON_FORGE_TOKEN",
            pull.url
        );
    };
    let forge = crate::forge::as_person(&desk.home, spec, &token)?;
    let commit = merge(&*forge, pull.number, tip).await.with_context(|| format!("merging {}", pull.url))?;
    desk.home.touch_wake()?;
    let value = json!({ "name": name, "plan": offer.plan_oid, "commit": commit });
    output.result(&value, || {
        format!("{name}: plan {} is merged; `chiffon log {name} --follow` shows it run", offer.plan_oid.short())
    });
    Ok(Exit::Done)
}

/// The token of a person's own account: of a file, or else of the environment.
///
/// # Errors
/// The file can't be read, others may read it, or what the environment holds is no text.
pub(super) fn persons_token(file: Option<&Path>, environment: &Environment) -> Result<Option<String>> {
    match (file, &environment.forge_token) {
        (Some(file), _) => Ok(Some(chiffon_link::read_secret(file).context("--token-file")?)),
        (None, Some(token)) => Ok(Some(token.to_str().context("CHIFFON_FORGE_TOKEN is not UTF-8")?.trim().to_owned())),
        (None, None) => Ok(None),
    }
}

/// A forge may have to find out first whether it can be merged.
async fn merge(forge: &dyn Forge, number: u64, head: &Oid) -> Result<Oid, Trouble> {
    let mut tries = 0;
    loop {
        match forge.merge(number, head).await {
            Err(Trouble::Later { after, .. }) if tries < MERGE_TRIES => tokio::time::sleep(after).await,
            done => return done,
        }
        tries += 1;
    }
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
