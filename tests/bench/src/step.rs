//! B4: a step that does nothing, through every piece that a real one goes through, beside what broker and database take
//! for the least of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use chiffon_schemas::RunId;
use chiffon_store::Store as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::floor::{self, Echo};
use crate::places::{self, Broker};
use crate::reconciler::{News, Reconciler};
use crate::{sample, stats};

/// Steps between two changes of turn.
const TURN: usize = 50;

/// What to measure.
#[derive(Debug, Deserialize)]
pub struct Options {
    broker: Broker,
    postgres: String,
    folder: PathBuf,
    /// How many one at a time.
    single: usize,
    /// How many in all at the end.
    many: usize,
    /// How many of those are under way at once.
    parallel: usize,
}

/// Times of steps one at a time and of the floors between them, steps a second, and how many were not recorded.
///
/// # Errors
/// A service failed.
pub async fn measure(options: Options) -> Result<Value> {
    let Options { broker, postgres, folder, single, many, parallel } = options;
    let (server, store) = places::new_store(&postgres).await?;
    let mut db = places::connect(&server.url).await?;
    floor::table(&mut db).await?;
    let mut echo = Echo::start(&broker).await?;
    let reconciler = Reconciler::start(store, &broker, &folder, parallel, 0).await?;
    let mut runs = BTreeMap::new();
    // A few to warm up, which count for nothing but their record.
    for number in 0..TURN {
        one(&reconciler, number, &mut runs).await?;
        echo.once().await?;
        floor::commit(&mut db).await?;
    }
    let (mut ours, mut asked, mut committed) = (Vec::new(), Vec::new(), Vec::new());
    reconciler.spent().await;
    for number in TURN..TURN + single {
        ours.push(one(&reconciler, number, &mut runs).await?);
        if number % TURN == 0 {
            for _ in 0..TURN {
                asked.push(echo.once().await?);
                committed.push(floor::commit(&mut db).await?);
            }
        }
    }
    let spent = reconciler.spent().await;
    let took = flood(&reconciler, TURN + single, many, &mut runs).await?;
    let missing = missing(&reconciler, &runs).await?;
    Ok(json!({
        "p50_ms": stats::percentile(&ours, 50), "p99_ms": stats::percentile(&ours, 99),
        "rate": stats::rate(many, took), "not_recorded": missing,
        "ticks_ms": each(spent.ticks, single), "messages_ms": each(spent.messages, single),
        "waiting_ms": each(spent.waiting, single), "ask_ms": stats::percentile(&asked, 50), "commit_ms": stats::percentile(&committed, 50),
    }))
}

/// The part of one step, in milliseconds.
fn each(spent: Duration, steps: usize) -> f64 {
    1000.0 / stats::rate(steps, spent)
}

/// One step from the look that orders it to the row of its outcome.
async fn one(reconciler: &Reconciler, number: usize, runs: &mut BTreeMap<usize, RunId>) -> Result<Duration> {
    let run = reconciler.approve(number).await?;
    runs.insert(number, run.id.clone());
    let begun = Instant::now();
    reconciler.tick().await?;
    'recorded: loop {
        for news in reconciler.take().await? {
            match news {
                News::Nothing => {}
                News::Look => reconciler.tick().await?,
                News::Recorded { run: recorded, .. } => {
                    ensure!(recorded == run.id, "another run's outcome came");
                    break 'recorded;
                }
            }
        }
    }
    let took = begun.elapsed();
    reconciler.tick().await?;
    Ok(took)
}

/// So many steps that are approved already, as many under way at once as the agent does; from the first look to the last row.
async fn flood(
    reconciler: &Reconciler,
    first: usize,
    many: usize,
    runs: &mut BTreeMap<usize, RunId>,
) -> Result<Duration> {
    for number in first..first + many {
        runs.insert(number, reconciler.approve(number).await?.id);
    }
    let begun = Instant::now();
    // What an agent says twice counts once.
    let mut recorded = BTreeSet::new();
    reconciler.tick().await?;
    while recorded.len() < many {
        let news = reconciler.take().await?;
        recorded.extend(news.iter().filter_map(|news| match news {
            News::Recorded { run, .. } => Some(run.clone()),
            News::Nothing | News::Look => None,
        }));
        if news.iter().any(|news| *news != News::Nothing) {
            reconciler.tick().await?;
        }
    }
    Ok(begun.elapsed())
}

/// How many runs are not over, or lack what the agent was to send back.
async fn missing(reconciler: &Reconciler, runs: &BTreeMap<usize, RunId>) -> Result<usize> {
    let mut missing = 0;
    for (number, id) in runs {
        let facts = reconciler.store.facts(reconciler.repository, &sample::name(*number)).await?;
        let run = facts.and_then(|facts| facts.run).filter(|run| &run.id == id && run.state.is_some());
        let outcomes = run.iter().flat_map(|run| &run.attempts).filter_map(|attempt| attempt.outcome.as_ref());
        let payload = sample::payload(*number);
        let echoed = outcomes.filter(|outcome| outcome.reason.as_deref() == Some(&payload)).count();
        missing += usize::from(echoed != 1);
    }
    Ok(missing)
}
