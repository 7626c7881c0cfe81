//! What an invitation's token is exchanged for. The reconciler gives it once, so it is kept in the agent's folder, sealed
//! as it came, until it has become a configuration: whatever fails in between, the same token goes on from there.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chiffon_link::{Token, write_secret};
use chiffon_schemas::Credentials;
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};

use crate::cli;
use crate::environment::Environment;
use crate::home::Home;

/// The path that the reconciler answers at.
const PATH: &str = "v1/enrolments";

/// The call is small.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Gives what was kept for this token, or asks the reconciler and keeps it.
///
/// # Errors
/// The reconciler does not answer or refuses, or what it gave can't be kept or was not made for this token.
pub async fn redeem(args: &cli::Enrol, home: &Home, environment: &Environment, token: &Token) -> Result<Credentials> {
    // What another token gave does not open with this one.
    if let Ok(sealed) = std::fs::read_to_string(home.enrolment())
        && let Ok(credentials) = token.open(sealed.trim())
    {
        return Ok(credentials);
    }
    let url = address(&args.url)?;
    let ca = args.ca.as_deref().map(|path| environment.cwd.join(path));
    let sealed = ask(url, ca.as_deref(), token).await?;
    let credentials = token.open(&sealed)?;
    let agent = &credentials.agent;
    write_secret(&home.enrolment(), &sealed)
        .with_context(|| format!("the token is used up: `chiffon agent rotate {agent}` gives another"))?;
    Ok(credentials)
}

/// Gives up what was kept: it has become a configuration.
pub fn forget(home: &Home) {
    let path = home.enrolment();
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!(%error, path = %path.display(), "what the token gave could not be removed");
    }
}

/// Where to ask: another machine by https alone (S14).
fn address(text: &str) -> Result<Url> {
    let url = Url::parse(text).with_context(|| format!("`{text}` is no address, which is https://HOST:PORT"))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_local = host == "localhost" || IpAddr::from_str(host).is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if is_local => {}
        "http" => bail!("{text} would go over the network in the clear: use https"),
        _ => bail!("`{text}` does not begin with https://"),
    }
    Ok(url)
}

/// Names the invitation, and gets what was sealed for it.
async fn ask(url: Url, ca: Option<&Path>, token: &Token) -> Result<String> {
    // Nothing else in this process has chosen one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = Client::builder().no_proxy().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
    if let Some(path) = ca {
        let pem = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let found = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if found.is_empty() {
            bail!("{} holds no certificate in PEM", path.display());
        }
        client = found.into_iter().fold(client, reqwest::ClientBuilder::add_root_certificate);
    }
    let client = client.build().context("starting the HTTP client")?;
    let mut at = url.clone();
    if let Ok(mut segments) = at.path_segments_mut() {
        segments.pop_if_empty().extend(PATH.split('/'));
    }
    let reply = client.post(at).json(&json!({ "invitation": token.name() })).send().await;
    let reply = reply.map_err(reqwest::Error::without_url).with_context(|| format!("{url} does not answer"))?;
    let status = reply.status();
    let said: Value = reply.json().await.unwrap_or_default();
    if status == StatusCode::OK
        && let Some(sealed) = said["sealed"].as_str()
    {
        return Ok(sealed.to_owned());
    }
    let why: String = said["error"].as_str().unwrap_or("it is no Chiffon reconciler").chars().take(300).collect();
    bail!("{url} refuses ({status}): {why}")
}
