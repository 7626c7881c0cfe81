//! `chiffon parked`: messages of the bus that nobody could use.

use anyhow::Result;
use serde_json::json;

use super::{Desk, Exit};
use crate::cli;
use crate::output::{self, Output, printable};

/// So much of a message's beginning stands in the table.
const SHOWN: usize = 60;

/// Lists them, newest first, and forgets them where that is asked for.
///
/// # Errors
/// The store failed.
pub async fn run(args: &cli::Parked, desk: &Desk, output: &Output) -> Result<Exit> {
    let parked = desk.store.parked().await?;
    let values: Vec<_> = parked
        .iter()
        .map(|one| {
            let message = &one.message;
            json!({
                "at": one.at, "agent": message.agent, "direction": message.direction, "reason": message.reason,
                "head": message.head, "size": message.size,
            })
        })
        .collect();
    let forgotten = match parked.first().filter(|_| args.forget) {
        // What came in the meantime is not forgotten unseen.
        Some(newest) => desk.store.forget_parked(newest.id).await?,
        None => 0,
    };
    output.result(&json!({ "parked": values, "forgotten": forgotten }), || {
        if parked.is_empty() {
            return "no message was put aside".to_owned();
        }
        let rows: Vec<Vec<String>> = parked
            .iter()
            .map(|one| {
                let message = &one.message;
                let head: String = message.head.chars().take(SHOWN).collect();
                let cells = [message.agent.as_str(), message.direction.as_str(), &message.reason, &head];
                std::iter::once(one.at.to_string()).chain(cells.map(printable)).collect()
            })
            .collect();
        let table = output::table(&["AT", "AGENT", "WAY", "WHY", "BEGINS"], &rows, |_, _, cell| cell.to_owned());
        if forgotten > 0 { format!("{table}\n{forgotten} forgotten") } else { table }
    });
    Ok(if parked.is_empty() || args.forget { Exit::Done } else { Exit::Attention })
}
