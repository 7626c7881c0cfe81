//! `make crash`: the whole crash matrix, its table on stdout, progress on stderr. Exit status 1 where anything is wrong.
//!
//! `chiffon-crash [--seeds N] [--lanes N] [POINT…] [BLOW…]`: only these points and blows, where some are named.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use chiffon_tests::blow::{Blow, Ground};
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
    blows: Vec<Blow>,
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked { seeds: 3, lanes: 3, points: Vec::new(), blows: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().and_then(|value| value.parse().ok()).filter(|value| *value > 0);
            value.ok_or(format!("{argument} takes a number"))
        };
        if let Some(blow) = Blow::ALL.into_iter().find(|blow| blow.word() == argument) {
            asked.blows.push(blow);
            continue;
        }
        match argument.as_str() {
            "--seeds" => asked.seeds = number()?,
            "--lanes" => asked.lanes = number()?,
            name if POINTS.iter().any(|point| point.name == name) => asked.points.push(argument),
            name => return Err(format!("there is no point and no blow `{name}`: see tests/src/crash.rs and blow.rs")),
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
    let lives = lives(&asked);
    let results = run(&lives, asked.lanes);
    print(&lives, &results)
}

/// All lives that are asked for. What takes its time comes first, so that nothing long is left at the end.
fn lives(asked: &Asked) -> Vec<(Setting, Case)> {
    let wanted = |point: &&Point| asked.points.is_empty() || asked.points.iter().any(|name| name == point.name);
    let mut lives = Vec::new();
    for blow in Blow::ALL.into_iter().rev() {
        if !asked.blows.is_empty() && !asked.blows.contains(&blow) {
            continue;
        }
        for (number, point) in POINTS.iter().enumerate().filter(|(_, point)| wanted(point)) {
            match blow {
                Blow::Kill => lives.extend(kills(*point, asked.seeds)),
                // An agent keeps no records there.
                Blow::Database if point.is_of_agent() => {}
                // A broker takes long to come back: of its two ends each befalls every second point.
                Blow::Broker if number % 2 == 1 && asked.points.is_empty() => {}
                Blow::EmptyBroker if number % 2 == 0 && asked.points.is_empty() => {}
                Blow::Database | Blow::Broker | Blow::EmptyBroker | Blow::Sleep => {
                    lives.push((Setting::Apart, Case { point: *point, blow, times: 1, seed: number % asked.seeds }));
                }
            }
        }
    }
    lives
}

fn kills(point: Point, seeds: usize) -> Vec<(Setting, Case)> {
    let mut lives = Vec::new();
    for times in [1, 2] {
        let case = |seed| Case { point, blow: Blow::Kill, times, seed };
        lives.extend((0..seeds).map(|seed| (Setting::Apart, case(seed))));
        if !point.only_apart {
            lives.push((Setting::Embedded, case(0)));
        }
    }
    lives
}

/// Runs all lives, some at a time: what sleeps and waits for services in lanes of its own, beside what needs the processor.
fn run(lives: &[(Setting, Case)], lanes: usize) -> Vec<Outcome> {
    let results = Mutex::new(BTreeMap::new());
    let (waiting, busy): (Vec<usize>, Vec<usize>) =
        (0..lives.len()).partition(|number| lives[*number].1.blow != Blow::Kill);
    std::thread::scope(|scope| {
        for queue in [waiting, busy] {
            let (queue, next) = (std::sync::Arc::new(queue), std::sync::Arc::new(AtomicUsize::new(0)));
            for _ in 0..lanes {
                let (queue, next, results) = (queue.clone(), next.clone(), &results);
                scope.spawn(move || {
                    let mut ground = None;
                    while let Some(number) = queue.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let (setting, case) = &lives[*number];
                        let outcome = live(*setting, case, &mut ground);
                        let mut done = results.lock().unwrap_or_else(PoisonError::into_inner);
                        done.insert(*number, outcome.clone());
                        say(done.len(), lives.len(), *setting, case, &outcome);
                    }
                });
            }
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// One life. Where it is broken off by a panic, that is what came of it, and the next one gets services that are whole.
fn live(setting: Setting, case: &Case, ground: &mut Option<Ground>) -> Outcome {
    let lived = catch_unwind(AssertUnwindSafe(|| match (setting, case.blow) {
        (Setting::Embedded, _) => case.run_embedded(),
        (Setting::Apart, Blow::Kill) => case.run_apart(),
        (Setting::Apart, _) => case.run_on(ground.get_or_insert_with(Ground::new)),
    }));
    lived.unwrap_or_else(|panic| {
        *ground = None;
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Outcome::broken_off(format!("broken off: {}", said.unwrap_or("without a word")))
    })
}

fn say(done: usize, of: usize, setting: Setting, case: &Case, outcome: &Outcome) {
    let word = if outcome.is_good() { "good" } else { "WRONG" };
    let (point, blow, times, seed) = (case.point.name, case.blow.word(), case.times, case.seed);
    eprintln!("{done}/{of} {setting:?} {point} {blow} ×{times} seed {seed}: {word}");
}

/// One row for each setting, blow and point, and the sums.
fn print(lives: &[(Setting, Case)], results: &[Outcome]) -> ExitCode {
    println!("| where | what | point | lives | blows | succeeded | lost | double starts | forgotten | neither |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut rows: BTreeMap<(Setting, Blow, usize), (usize, Outcome)> = BTreeMap::new();
    let mut sums: BTreeMap<(Setting, Blow), (usize, usize, Outcome)> = BTreeMap::new();
    let mut all = Outcome::default();
    for ((setting, case), outcome) in lives.iter().zip(results) {
        let place = POINTS.iter().position(|point| point.name == case.point.name).unwrap_or(0);
        let of = rows.entry((*setting, case.blow, place)).or_default();
        let sum = sums.entry((*setting, case.blow)).or_default();
        sum.0 += usize::from(of.0 == 0);
        sum.1 += 1;
        of.0 += 1;
        for sum in [&mut of.1, &mut sum.2, &mut all] {
            add(sum, outcome);
        }
    }
    for ((setting, blow, place), (lives, sum)) in &rows {
        println!("{}", row(*setting, *blow, POINTS[*place].name, *lives, sum));
    }
    println!("\n| where | what | points | lives | blows | succeeded | lost | double starts | forgotten | neither |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for ((setting, blow), (points, lives, sum)) in &sums {
        println!("{}", row(*setting, *blow, &points.to_string(), *lives, sum));
    }
    for ((setting, case), outcome) in lives.iter().zip(results).filter(|(_, outcome)| !outcome.is_good()) {
        let (point, blow) = (case.point.name, case.blow.word());
        println!("\n{setting:?} {point} {blow} ×{} seed {}: {outcome:#?}", case.times, case.seed);
    }
    if all.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn add(sum: &mut Outcome, one: &Outcome) {
    sum.blows += one.blows;
    sum.double_starts += one.double_starts;
    sum.forgotten += one.forgotten;
    sum.unsettled += one.unsettled;
    sum.wrong.extend(one.wrong.iter().cloned());
    for (state, count) in &one.states {
        *sum.states.entry(state.clone()).or_default() += count;
    }
}

fn row(setting: Setting, blow: Blow, point: &str, lives: usize, sum: &Outcome) -> String {
    let word = if setting == Setting::Embedded { "one process" } else { "apart" };
    let of = |state: &str| sum.states.get(state).copied().unwrap_or(0);
    format!(
        "| {word} | {} | {point} | {lives} | {} | {} | {} | {} | {} | {} |",
        blow.word(),
        sum.blows,
        of("succeeded"),
        of("lost"),
        sum.double_starts,
        sum.forgotten,
        sum.unsettled
    )
}
