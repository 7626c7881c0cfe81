//! `chiffon audit`: what was decided and done.

use anyhow::{Result, bail};
use chiffon_schemas::Host;
use chiffon_store::EventFilter;
use serde_json::json;

use super::{Desk, Exit, times};
use crate::cli;
use crate::events::kind;
use crate::output::{self, Output, printable};

/// The words that `--status` takes.
const STATUSES: [&str; 4] = ["succeeded", "failed", "cancelled", "lost"];

/// Lists events, newest first.
///
/// # Errors
/// A filter is no such thing, or the store failed.
pub async fn run(args: &cli::Audit, desk: &Desk, output: &Output) -> Result<Exit> {
    let filter = EventFilter {
        run: None,
        request: None,
        service: args.service.clone(),
        host: args.host.as_deref().map(Host::parse).transpose()?,
        kinds: args.status.as_deref().map(kinds).transpose()?.unwrap_or_default(),
        since: args.since.as_deref().map(times::before).transpose()?,
        limit: Some(args.limit),
    };
    let events = desk.store.events(desk.repository, &filter).await?;
    let values: Vec<_> = events
        .iter()
        .map(|event| {
            json!({
                "id": event.id, "kind": event.kind, "at": event.at, "request": event.request, "plan": event.plan,
                "run": event.run, "hosts": event.hosts, "services": event.services, "summary": event.summary,
            })
        })
        .collect();
    output.result(&json!({ "events": values }), || {
        if events.is_empty() {
            return "nothing recorded that fits".to_owned();
        }
        let rows: Vec<Vec<String>> = events
            .iter()
            .map(|event| {
                let hosts: Vec<&str> = event.hosts.iter().map(|host| host.as_str()).collect();
                vec![event.at.to_string(), event.kind.clone(), hosts.join(","), printable(&event.summary)]
            })
            .collect();
        output::table(&["AT", "KIND", "HOSTS", "WHAT"], &rows, |_, _, cell| cell.to_owned())
    });
    Ok(Exit::Done)
}

fn kinds(status: &str) -> Result<Vec<String>> {
    if STATUSES.contains(&status) {
        return Ok(vec![format!("run-{status}")]);
    }
    if kind::ALL.contains(&status) {
        return Ok(vec![status.to_owned()]);
    }
    let candidates = STATUSES.iter().chain(&kind::ALL).copied();
    match chiffon_schemas::nearest(status, candidates) {
        Some(near) => bail!("there is no status `{status}`: did you mean `{near}`?"),
        None => bail!("there is no status `{status}`; there are {}", STATUSES.join(", ")),
    }
}
