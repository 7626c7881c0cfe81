//! `make crash`: the whole crash matrix, its table on stdout, progress on stderr. Exit status 1 where anything is wrong.
//!
//! `chiffon-crash [--seeds N] [--lanes N] [POINT…]`: only these points, where some are named.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use chiffon_tests::crash::{Case, Outcome, POINTS, Point};

/// How a life is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Setting {
    /// One process, SQLite.
    Embedded,
    /// Reconciler, two agents, RabbitMQ and PostgreSQL.
    Apart,
}

/// What the command line asks for.
struct Asked {
    seeds: usize,
    lanes: usize,
    points: Vec<String>,
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked { seeds: 3, lanes: 3, points: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().and_then(|value| value.parse().ok()).filter(|value| *value > 0);
            value.ok_or(format!("{argument} takes a number"))
        };
        match argument.as_str() {
            "--seeds" => asked.seeds = number()?,
            "--lanes" => asked.lanes = number()?,
            name if POINTS.iter().any(|point| point.name == name) => asked.points.push(argument),
            name => return Err(format!("there is no crash point `{name}`; they are in tests/src/crash.rs")),
        }
    }
    Ok(asked)
}

fn main() -> ExitCode {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::from(2);
        }
    };
    let wanted = |point: &&Point| asked.points.is_empty() || asked.points.iter().any(|name| name == point.name);
    let mut lives = Vec::new();
    for point in POINTS.iter().filter(wanted) {
        for times in [1, 2] {
            lives.extend((0..asked.seeds).map(|seed| (Setting::Apart, Case { point: *point, times, seed })));
            if !point.only_apart {
                lives.push((Setting::Embedded, Case { point: *point, times, seed: 0 }));
            }
        }
    }
    let results = run(&lives, asked.lanes);
    print(&lives, &results)
}

/// Runs all lives, some at a time.
fn run(lives: &[(Setting, Case)], lanes: usize) -> Vec<Outcome> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let Some((setting, case)) = lives.get(number) else { return };
                    let outcome = match setting {
                        Setting::Embedded => case.run_embedded(),
                        Setting::Apart => case.run_apart(),
                    };
                    let word = if outcome.is_good() { "good" } else { "WRONG" };
                    let (point, times, seed) = (case.point.name, case.times, case.seed);
                    eprintln!("{}/{} {setting:?} {point} ×{times} seed {seed}: {word}", number + 1, lives.len());
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(number, outcome);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_values().collect()
}

/// One row for each setting and point, and the sums.
fn print(lives: &[(Setting, Case)], results: &[Outcome]) -> ExitCode {
    println!("| where | point | lives | kills | succeeded | lost | double starts | forgotten | neither |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut rows: BTreeMap<(Setting, usize), (usize, Outcome)> = BTreeMap::new();
    let mut all = (0, Outcome::default());
    for ((setting, case), outcome) in lives.iter().zip(results) {
        let place = POINTS.iter().position(|point| point.name == case.point.name).unwrap_or(0);
        for (lives, sum) in [rows.entry((*setting, place)).or_default(), &mut all] {
            *lives += 1;
            add(sum, outcome);
        }
    }
    for ((setting, place), (lives, sum)) in &rows {
        let word = if *setting == Setting::Embedded { "one process" } else { "apart" };
        println!("{}", row(word, POINTS[*place].name, *lives, sum));
    }
    println!("{}", row("**all**", &format!("{} points", rows.len()), all.0, &all.1));
    for ((setting, case), outcome) in lives.iter().zip(results).filter(|(_, outcome)| !outcome.is_good()) {
        println!("\n{setting:?} {} ×{} seed {}: {outcome:#?}", case.point.name, case.times, case.seed);
    }
    if all.1.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn add(sum: &mut Outcome, one: &Outcome) {
    sum.kills += one.kills;
    sum.double_starts += one.double_starts;
    sum.forgotten += one.forgotten;
    sum.unsettled += one.unsettled;
    sum.wrong.extend(one.wrong.iter().cloned());
    for (state, count) in &one.states {
        *sum.states.entry(state.clone()).or_default() += count;
    }
}

fn row(setting: &str, point: &str, lives: usize, sum: &Outcome) -> String {
    let of = |state: &str| sum.states.get(state).copied().unwrap_or(0);
    format!(
        "| {setting} | {point} | {lives} | {} | {} | {} | {} | {} | {} |",
        sum.kills,
        of("succeeded"),
        of("lost"),
        sum.double_starts,
        sum.forgotten,
        sum.unsettled
    )
}
