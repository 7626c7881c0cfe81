//! `chiffon validate`: checks request and plan files, every mistake in one pass.

use std::path::Path;

use anyhow::{Context, Result};
use chiffon_schemas::Diagnostic;
use serde_json::json;

use super::Exit;
use super::inventory::Inventory;
use crate::cli;
use crate::environment::Environment;
use crate::home::Home;
use crate::output::Output;

/// Checks files.
///
/// # Errors
/// A file can't be read at all.
pub fn run(args: &cli::Validate, environment: &Environment, dir: Option<&Path>, output: &Output) -> Result<Exit> {
    // Without a home a file is still checked, only not against anybody's hosts.
    let home = Home::find(dir, environment).ok();
    let mut inventory = Inventory::of(home);
    let mut found = Vec::new();
    for file in &args.files {
        let path = environment.cwd.join(file);
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", file.display()))?;
        let name = file.display().to_string();
        let mistakes = check(&name, &bytes);
        if mistakes.is_empty() {
            found.extend(inventory.unknown_targets(&name, &bytes));
        }
        found.extend(mistakes);
    }
    let clean = found.is_empty();
    let value = json!({ "valid": clean, "diagnostics": found });
    output.result(&value, || {
        if clean {
            return format!(
                "{} file{} without a mistake",
                args.files.len(),
                if args.files.len() == 1 { "" } else { "s" }
            );
        }
        found.iter().map(|found| found.render(output.is_coloured())).collect::<Vec<_>>().join("\n")
    });
    Ok(if clean { Exit::Done } else { Exit::Attention })
}

/// The mistakes of one document; its kind is what the document itself says, and a request where it says none.
pub fn check(file: &str, bytes: &[u8]) -> Vec<Diagnostic> {
    let text = String::from_utf8_lossy(bytes);
    let kind = text.lines().find_map(|line| line.strip_prefix("kind:")).map(str::trim);
    let answer = match kind {
        Some("Plan") => chiffon_schemas::read_plan(file, bytes).map(|_| ()),
        Some("Evidence") => chiffon_schemas::read_evidence(file, bytes).map(|_| ()),
        Some("Config") => {
            chiffon_schemas::read::<chiffon_schemas::ConfigFile>(file, bytes, &chiffon_schemas::yaml::Limits::CONFIG)
                .map(|_| ())
        }
        _ => chiffon_schemas::read_request(file, bytes).map(|_| ()),
    };
    answer.err().unwrap_or_default()
}
