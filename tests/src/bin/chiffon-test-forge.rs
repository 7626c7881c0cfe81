//! The test forge in a process of its own, for benchmarks: `chiffon-test-forge gitea|github`.
//!
//! The first line on stdout says where it is. Then each line on stdin is a question, and gets a line: `calls` how many
//! questions it was asked so far; `open BRANCH` waits until a pull request of that branch is open. It ends with stdin.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use chiffon_tests::forge::{Dialect, Host, Role, TestForge};
use serde_json::json;

/// How often it is looked at whether a pull request is open: well below what is measured.
const LOOK_EVERY: Duration = Duration::from_micros(500);

#[expect(clippy::disallowed_methods, reason = "between two looks at what is waited for")]
fn main() -> ExitCode {
    let dialect = match std::env::args().nth(1).as_deref() {
        Some("gitea") => Dialect::Gitea,
        Some("github") => Dialect::GitHub,
        _ => {
            eprintln!("chiffon-test-forge gitea|github");
            return ExitCode::FAILURE;
        }
    };
    let forge = TestForge::start(dialect);
    let token = forge.account("chiffon-bot", Role::Write);
    forge.account("ann", Role::Write);
    let mut out = std::io::stdout();
    let mut say = |line: String| writeln!(out, "{line}").and_then(|()| out.flush()).is_ok();
    say(json!({ "url": forge.url(), "bare": forge.bare(), "token": token, "slug": forge.slug() }).to_string());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let answer = match line.split_once(' ') {
            Some(("open", branch)) => {
                while forge.open_of(branch).is_none() {
                    std::thread::sleep(LOOK_EVERY);
                }
                branch.to_owned()
            }
            _ => forge.state().asked.len().to_string(),
        };
        if !say(answer) {
            break;
        }
    }
    ExitCode::SUCCESS
}
