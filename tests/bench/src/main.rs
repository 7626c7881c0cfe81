//! What `make bench` measures of the pieces themselves, over a real broker and a real database: `chiffon-bench WHAT OPTIONS`,
//! both from `bench.py`; one JSON document on stdout. With `agent` it is the agent of a measurement, in a process of
//! its own.

mod agent;
mod clock;
mod floor;
mod log;
mod places;
mod publish;
mod questions;
mod reconciler;
mod sample;
mod stats;
mod step;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (what, options) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    match run(&what, &options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chiffon-bench {what}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(what: &str, options: &str) -> Result<()> {
    let said = match what {
        "step" => step::measure(parse(options)?).await?,
        "publish" => publish::measure(parse(options)?).await?,
        "log" => log::measure(parse(options)?).await?,
        "questions" => questions::measure(parse(options)?).await?,
        "agent" => return agent::run(parse(options)?).await,
        _ => bail!("there is no measurement of that name"),
    };
    println!("{said}");
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(options: &str) -> Result<T> {
    serde_json::from_str(options).context("the options can't be read")
}
