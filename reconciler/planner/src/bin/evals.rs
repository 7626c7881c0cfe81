//! Measures the planner against golden sentences and prints the figures: `chiffon-evals CASES REPOSITORY INVENTORY`.
//!
//! Exits with 1 if a plan is made where none should be, or if fewer cases than the threshold go as expected.

use std::path::PathBuf;
use std::process::ExitCode;

use chiffon_planner::evals;
use chiffon_schemas::RepoPath;

/// Below this share of exact answers the planner is worse than it was; raise it with the planner, never lower it.
const THRESHOLD: f64 = 0.9;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let mut args = std::env::args_os().skip(1);
    let mut next = |default: &str| args.next().map_or_else(|| PathBuf::from(default), PathBuf::from);
    let cases = next("tests/evals/homelab.yaml");
    let folder = next("tests/fixtures/homelab-infra");
    let inventory = next("inventory/hosts.yml").to_string_lossy().into_owned();
    let text = std::fs::read_to_string(&cases).map_err(|error| format!("{}: {error}", cases.display()))?;
    let cases = evals::read(&text)?;
    let inventory = RepoPath::parse(inventory).map_err(|error| error.to_string())?;
    let catalogue =
        evals::catalogue_of(&folder, &inventory).map_err(|error| format!("{}: {error}", folder.display()))?;
    let score = evals::score(&cases, &catalogue);
    for outcome in score.outcomes.iter().filter(|outcome| !outcome.exact) {
        let mark = if outcome.is_unsafe() { "UNSAFE" } else { "missed" };
        println!("{mark} {}: expected {}, said {}: {}", outcome.id, outcome.expected, outcome.said, outcome.detail);
    }
    print!("{}", score.table());
    Ok(score.unsafe_acceptances() == 0 && score.exact() >= THRESHOLD)
}
