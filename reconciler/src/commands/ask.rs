//! Leaves a command for the reconciler and waits for its answer.

use std::time::Duration;

use anyhow::{Context, Result};
use chiffon_core::{Command, CommandAnswer};
use serde_json::json;

use super::{Desk, Exit};
use crate::output::Output;

/// The longest that a command waits for a running reconciler.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Between two looks at the answer's row.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Leaves the command, and says what became of it, or that it waits for the next `chiffon up`.
///
/// # Errors
/// The store failed.
pub async fn run(command: Command, desk: &Desk, output: &Output) -> Result<Exit> {
    let value = serde_json::to_value(&command).context("writing the command")?;
    let id = desk.store.command(desk.repository, &value, crate::environment::now()).await?;
    desk.home.touch_wake()?;
    if !crate::up::is_running(&desk.home) {
        let message = "noted; `chiffon up` is not running and will do it when it starts";
        output.result(&json!({ "done": false, "waiting": true, "message": message }), || message.to_owned());
        return Ok(Exit::Done);
    }
    let asked = tokio::time::Instant::now();
    while asked.elapsed() < ANSWER_TIMEOUT {
        let row = desk.store.command_by_id(id).await?;
        if let Some(answer) = row.and_then(|row| row.answer) {
            let answer: CommandAnswer = serde_json::from_value(answer).context("reading the answer")?;
            output.result(&answer, || answer.message.clone());
            return Ok(if answer.done { Exit::Done } else { Exit::Error });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let message = "noted; `chiffon up` is busy and will do it next";
    output.result(&json!({ "done": false, "waiting": true, "message": message }), || message.to_owned());
    Ok(Exit::Done)
}
