//! `chiffon request`: commits and pushes a request as the person who typed it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use chiffon_core::State;
use chiffon_schemas::{Host, Json, Mode, Name, RepoPath, Request};
use serde_json::json;

use super::person::{self, PersonsChange};
use super::{Desk, Exit, status};
use crate::cli;
use crate::output::Output;

/// The longest that `--wait` waits for a plan.
const PLAN_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes the request and pushes it.
///
/// # Errors
/// The name is taken or no name, a variable can't be read, or the push was refused.
pub async fn run(args: &cli::Request, desk: &Desk, output: &Output) -> Result<Exit> {
    let request = build(args)?;
    let taken = desk.store.names(desk.repository, true).await?;
    let name = match &args.name {
        Some(text) => Name::parse(text.as_str())?,
        None => free_name(&args.text, |candidate| taken.contains(candidate) || on_main(desk, candidate)),
    };
    if on_main(desk, &name) {
        bail!("there is a request {name} already: edit requests/{name}.yaml, or choose another --name");
    }
    let path = RepoPath::parse(format!("requests/{name}.yaml"))?;
    let bytes = with_header(&request);
    if let Err(found) = chiffon_schemas::read_request(path.as_str(), &bytes) {
        let texts: Vec<String> = found.iter().map(|found| found.render(false)).collect();
        bail!("{}", texts.join("\n"));
    }
    let message = format!("request: {}\n", chiffon_planner::inert_line(&crate::events::one_line(&args.text)));
    let commit = person::push(desk, |_| {
        Ok(PersonsChange { files: vec![(path.clone(), Some(bytes.clone()))], message: message.clone(), merges: None })
    })?;
    desk.home.touch_wake()?;
    if args.wait {
        output.progress(&format!("{name}: pushed, waiting for its plan"));
        return wait(&name, desk, output).await;
    }
    let value = json!({ "name": name, "path": path, "commit": commit });
    output.result(&value, || format!("{name}: pushed as {path}; see `chiffon status {name}`"));
    Ok(Exit::Done)
}

fn build(args: &cli::Request) -> Result<Request> {
    let mut request = Request::from_text(args.text.trim());
    request.spec.mode = if args.check { Mode::Check } else { Mode::Apply };
    for target in &args.targets {
        request.spec.targets.push(Host::parse(target.as_str())?);
    }
    for var in &args.vars {
        let (name, value) = var.split_once('=').with_context(|| format!("--var {var}: write NAME=VALUE"))?;
        request.spec.vars.insert(name.to_owned(), scalar(value));
    }
    Ok(request)
}

/// Numbers and booleans as such, all else as text; JSON for lists and maps.
fn scalar(text: &str) -> Json {
    let structured = text.starts_with('[') || text.starts_with('{');
    let simple = matches!(text, "true" | "false") || text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    if structured || simple {
        serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.to_owned()))
    } else {
        Json::String(text.to_owned())
    }
}

/// A request's file, with the line by which editors find its schema.
pub(crate) fn with_header(request: &Request) -> Vec<u8> {
    let header = "# yaml-language-server: $schema=../.chiffon/schemas/request.schema.json\n";
    format!("{header}{}", chiffon_schemas::to_yaml(request)).into_bytes()
}

fn on_main(desk: &Desk, name: &Name) -> bool {
    let Ok(main) = chiffon_requests::RefName::branch("main") else { return false };
    let Ok(Some(tip)) = desk.requests.reference(&main) else { return false };
    let Ok(path) = RepoPath::parse(format!("requests/{name}.yaml")) else { return false };
    desk.requests.blob_at(&tip, &path).ok().flatten().is_some()
}

/// A name made of the sentence's first words, with a number where it is taken.
fn free_name(text: &str, taken: impl Fn(&Name) -> bool) -> Name {
    names_for(text).find(|candidate| !taken(candidate)).expect("numbers do not run out")
}

/// Names made of a sentence's first words: the one without a number first. They do not run out.
pub(crate) fn names_for(text: &str) -> impl Iterator<Item = Name> {
    const FILLERS: [&str; 16] = [
        "the", "a", "an", "to", "on", "and", "please", "of", "for", "in", "with", "my", "our", "it", "then", "existing",
    ];
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_lowercase);
    let words: Vec<String> =
        words.filter(|word| !word.is_empty() && !FILLERS.contains(&word.as_str())).take(4).collect();
    let mut base = words.join("-");
    base.truncate(50);
    let base = base.trim_matches('-').to_owned();
    let base = if base.is_empty() { "request".to_owned() } else { base };
    (1_u32..)
        .map(move |number| if number == 1 { base.clone() } else { format!("{base}-{number}") })
        .filter_map(|candidate| Name::parse(candidate).ok())
}

async fn wait(name: &Name, desk: &Desk, output: &Output) -> Result<Exit> {
    if !crate::up::is_running(&desk.home) {
        bail!("`chiffon up` is not running, so no plan is made yet; the request is pushed");
    }
    let asked = tokio::time::Instant::now();
    while asked.elapsed() < PLAN_TIMEOUT {
        if let Some((facts, world)) = desk.look_at(name).await? {
            let state = chiffon_core::state(&facts, &world);
            let shown = facts.offers.last().is_some_and(|offer| offer.branch_commit.is_some());
            let settled = match state {
                State::Planning(_) => false,
                State::Proposed => shown,
                _ => true,
            };
            if settled {
                return status::show_one(name, desk, output).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    bail!("no plan after {} s; `chiffon status {name}` says where it stands", PLAN_TIMEOUT.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_the_words_that_matter() {
        let name = free_name("Deploy Kuma Uptime to homelab and add existing portals to config", |_| false);
        assert_eq!(name.as_str(), "deploy-kuma-uptime-homelab");
        let taken = |name: &Name| name.as_str() == "deploy-kuma";
        assert_eq!(free_name("Deploy Kuma", taken).as_str(), "deploy-kuma-2");
        assert_eq!(free_name("¡¿?!", |_| false).as_str(), "request");
    }

    #[test]
    fn variables_keep_their_type_only_where_it_is_plain() {
        assert_eq!(scalar("3001"), json!(3001));
        assert_eq!(scalar("0755"), json!("0755"));
        assert_eq!(scalar("true"), json!(true));
        assert_eq!(scalar("[1, 2]"), json!([1, 2]));
        assert_eq!(scalar("{{ x }}"), json!("{{ x }}"));
    }
}
