//! B6: a million lines from the agent's spool to the store, beside `COPY` into a table of its own.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chiffon_schemas::RunId;
use chiffon_store::Store as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::places::{self, Broker};
use crate::reconciler::{News, Reconciler};
use crate::{agent, floor, stats};

/// Chunks that are read at a time.
const PAGE: u32 = 100;

/// What to measure.
#[derive(Debug, Deserialize)]
pub struct Options {
    broker: Broker,
    postgres: String,
    folder: PathBuf,
    lines: usize,
    rounds: usize,
}

/// Lines a second of ours and of both floors, medians over rounds in turn, and the most that the agent held.
///
/// # Errors
/// A service failed, or a line is missing.
pub async fn measure(options: Options) -> Result<Value> {
    let Options { broker, postgres, folder, lines, rounds } = options;
    let (server, store) = places::new_store(&postgres).await?;
    let mut db = places::connect_closely(&server.url).await?;
    floor::table(&mut db).await?;
    let reconciler = Reconciler::start(store, &broker, &folder, 1, lines).await?;
    let pid = reconciler.agent.id().context("the agent has ended")?;
    let (mut ours, mut thousands, mut hundreds) = (Vec::new(), Vec::new(), Vec::new());
    let mut stored = 0;
    for round in 0..rounds {
        thousands.push(stats::rate(lines, floor::copy(&mut db, lines, 1000).await?));
        let run = reconciler.approve(round).await?.id;
        let (took, chunks) = one(&reconciler, &run, stored, lines).await?;
        stored += chunks;
        check(&reconciler, &run, lines).await?;
        ours.push(stats::rate(lines, took));
        hundreds.push(stats::rate(lines, floor::copy(&mut db, lines, 100).await?));
    }
    let median = stats::median;
    Ok(json!({
        "rate": median(&ours), "copy_1000": median(&thousands), "copy_100": median(&hundreds), "agent_kib": peak(pid)?,
    }))
}

/// One run from the look that orders it until its last line is read; how long it took, and how many chunks it has.
async fn one(reconciler: &Reconciler, run: &RunId, before: i64, lines: usize) -> Result<(Duration, i64)> {
    let begun = Instant::now();
    reconciler.tick().await?;
    let chunks = 'recorded: loop {
        for news in reconciler.take().await? {
            match news {
                News::Nothing => {}
                News::Look => reconciler.tick().await?,
                News::Recorded { chunks, .. } => break 'recorded i64::try_from(chunks)?,
            }
        }
    };
    // Positions rise by one, so the last chunk's is known.
    let last = reconciler.store.read_log(run, before + chunks - 1, PAGE).await?;
    let took = begun.elapsed();
    let end = last.last().context("the last chunk is not there")?;
    ensure!(end.text.ends_with(&agent::line(lines - 1)), "the last line is not there");
    reconciler.tick().await?;
    Ok((took, chunks))
}

/// Reads the whole log and counts its lines.
async fn check(reconciler: &Reconciler, run: &RunId, lines: usize) -> Result<()> {
    let (mut after, mut found) = (0, 0);
    loop {
        let page = reconciler.store.read_log(run, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.position;
        for line in page.iter().flat_map(|chunk| chunk.text.split_inclusive('\n')) {
            ensure!(line == agent::line(found), "line {found} of the log is another one");
            found += 1;
        }
    }
    ensure!(found == lines, "{found} of {lines} lines are there");
    Ok(())
}

/// The most memory that a process ever held, what it shares with others included, in KiB.
fn peak(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no memory is named")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
