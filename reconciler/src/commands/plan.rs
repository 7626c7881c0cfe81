//! `chiffon plan`: a plan as its reviewer sees it.

use anyhow::{Context, Result, bail};
use chiffon_core::Command;
use serde_json::json;

use super::{Desk, Exit, ask};
use crate::cli;
use crate::driver::pages;
use crate::output::{Output, printable};

/// Shows the open offer, or the plan that ran last; with `--again` has another one made.
///
/// # Errors
/// There is no such request, or no plan to show.
pub async fn run(args: &cli::Plan, desk: &Desk, output: &Output) -> Result<Exit> {
    let name = desk.known(&args.name).await?;
    if args.again {
        return ask::run(Command::Replan { name }, desk, output).await;
    }
    let Some((facts, world)) = desk.look_at(&name).await? else { bail!("there is no request `{name}`") };
    let open = chiffon_core::open_offer(&facts);
    let ran =
        || facts.offers.iter().rev().find(|offer| Some(&offer.plan_oid) == facts.run.as_ref().map(|run| &run.plan_oid));
    let Some(offer) = open.or_else(ran) else {
        let state = chiffon_core::state(&facts, &world);
        bail!("{name} has no plan: {} {}", state.word(), pages::why(&state, &facts));
    };
    let yaml = String::from_utf8(chiffon_schemas::plan_bytes(&offer.plan)).context("a plan is UTF-8")?;
    let rendering = rendering(desk, offer)?;
    let value = json!({
        "name": name,
        "oid": offer.plan_oid,
        "state": offer.state,
        "path": offer.path,
        "plan": offer.plan,
        "rendering": rendering,
    });
    output.result(&value, || match (&rendering, args.yaml) {
        (Some(text), false) => printable(text),
        (None, _) | (_, true) => printable(&yaml),
    });
    Ok(Exit::Done)
}

/// The rendering that lies beside the plan on its branch, or on `main` after the merge.
fn rendering(desk: &Desk, offer: &chiffon_core::facts::Offer) -> Result<Option<String>> {
    let Some(commit) = &offer.branch_commit else { return rendered(desk, offer) };
    let path = chiffon_requests::rendering_path(&offer.path);
    let Some(entry) = desk.requests.blob_at(commit, &path)? else { return Ok(None) };
    let bytes = desk.requests.read_blob(&entry.oid, 256 * 1024)?;
    Ok(String::from_utf8(bytes).ok())
}

/// The rendering of a plan that was never shown on a branch, since policy exempts it from approval.
fn rendered(desk: &Desk, offer: &chiffon_core::facts::Offer) -> Result<Option<String>> {
    let request = &offer.plan.metadata.request;
    let bytes = desk.requests.read_blob(&request.oid, chiffon_schemas::yaml::Limits::REQUEST.max_bytes as u64)?;
    let read = chiffon_schemas::read_request(request.path.as_str(), &bytes).ok();
    let note = "(It was never shown for approval: policy exempts check runs, and it begins by itself.)\n\n";
    let text = |request| chiffon_planner::render_markdown(&offer.plan, None, &request, &offer.plan_oid);
    Ok(read.map(|request| format!("{note}{}", text(request))))
}
