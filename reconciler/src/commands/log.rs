//! `chiffon log`: what a run printed, as it left the agent.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;

use super::{Desk, Exit};
use crate::cli;
use crate::driver::pages;
use crate::output::{Output, printable};

/// Chunks that one look takes.
const CHUNKS: u32 = 64;

/// Between two looks at a run that goes on.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Prints the log of the last run.
///
/// # Errors
/// There is no such request, or it has not run.
pub async fn run(args: &cli::Log, desk: &Desk, output: &Output) -> Result<Exit> {
    let name = desk.known(&args.name).await?;
    let mut after = 0;
    let mut run_id = None;
    loop {
        let facts = desk.store.facts(desk.repository, &name).await?;
        let failure = facts.as_ref().and_then(pages::failure);
        let run = facts.and_then(|facts| facts.run).filter(|run| !run.voided);
        let Some(run) = run else {
            if !args.follow {
                bail!("{name} has not run yet");
            }
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        // The state is read before the log, so that nothing written before the end is missed.
        let over = run.state;
        run_id.get_or_insert_with(|| run.id.clone());
        after = print_after(&run.id, after, desk, output).await?;
        match over {
            Some(state) => {
                // A log that is empty needs a reason.
                let cause = failure.filter(|_| after == 0);
                let cause = cause.map_or(String::new(), |failure| format!(": nothing was printed: {}", failure.cause));
                let outcomes = run.attempts.iter().filter_map(|attempt| attempt.outcome.as_ref());
                let is_torn = outcomes.clone().any(|outcome| outcome.log.incomplete);
                let torn = if is_torn { "; its log is not whole: an agent lost a part of it" } else { "" };
                output.progress(&printable(&format!("{name}: {}{cause}{torn}", state.as_str())));
                let ended_well = state == chiffon_schemas::RunState::Succeeded;
                return Ok(if ended_well || !args.follow { Exit::Done } else { Exit::Attention });
            }
            None if !args.follow => return Ok(Exit::Done),
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

async fn print_after(run: &chiffon_schemas::RunId, mut after: i64, desk: &Desk, output: &Output) -> Result<i64> {
    loop {
        let chunks = desk.store.read_log(run, after, CHUNKS).await?;
        let Some(last) = chunks.last() else { return Ok(after) };
        after = last.position;
        for chunk in &chunks {
            if output.is_json() {
                let value = json!({ "position": chunk.position, "step": chunk.step, "attempt": chunk.attempt, "chunk": chunk.chunk, "text": chunk.text });
                output.line(&value.to_string());
            } else {
                output.raw(&printable(&chunk.text));
            }
        }
    }
}
