//! `chiffon token`: makes a token by which a person asks over HTTP.

use anyhow::{Result, bail};
use chiffon_schemas::{Scope, TokenSpec};
use serde_json::json;

use super::Exit;
use crate::cli;
use crate::environment;
use crate::output::Output;

/// Makes one, and says what to write into the configuration. The token itself is kept nowhere: it is shown this once.
///
/// # Errors
/// The name or the address can't stand in a commit.
pub fn run(args: &cli::Token, output: &Output) -> Result<Exit> {
    for (what, text) in [("name", &args.name), ("address", &args.email)] {
        if text.trim().is_empty() || text.len() > 200 || text.chars().any(|c| c.is_control() || "<>".contains(c)) {
            bail!("`{}` can't be the {what} of a commit's author", crate::output::printable(text));
        }
    }
    let token = environment::secret();
    let entry = TokenSpec {
        name: args.name.clone(),
        email: args.email.clone(),
        sha256: chiffon_schemas::digest(token.as_bytes()),
        scopes: vec![Scope::Chat],
    };
    let value = json!({ "token": token, "entry": entry });
    output.result(&value, || {
        let lines = chiffon_schemas::to_yaml(&[&entry]);
        let lines: String = lines.lines().map(|line| format!("      {line}\n")).collect();
        format!("{token}\n\nIt is shown this once. Into chiffon.yaml, under `web`, belongs what it is known by:\n\n    tokens:\n{lines}\n`chiffon up` takes it in when it is started again.")
    });
    Ok(Exit::Done)
}
