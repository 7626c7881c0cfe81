//! `chiffon-agent enrol`: exchanges an invitation's token for a name, a key to believe and a place on the broker.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chiffon_link::{Token, write_secret};
use chiffon_schemas::{
    AgentFile, AgentFileKind, AgentFileSpec, AmqpSpec, AnsibleSpec, ApiVersion, Credentials, MirrorSpec,
};
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};

use crate::cli;
use crate::environment::Environment;
use crate::home::Home;
use crate::output::Output;

/// The path that the reconciler answers at.
const PATH: &str = "v1/enrolments";

/// The call is small.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Names of files in the agent's folder.
const PASSWORD: &str = "broker-password";
const AUTHORITY: &str = "broker-ca.pem";

/// Enrols, and writes the configuration. One that is there keeps all that the reconciler does not say.
///
/// # Errors
/// The invitation is not open, what was given is not for it, or a repository's address is not known.
pub async fn run(args: &cli::Enrol, home: &Home, environment: &Environment, output: &Output) -> Result<bool> {
    let token = Token::parse(&token_text(&args.token)?)?;
    let before = if home.config().exists() { Some(home.load()?) } else { None };
    // Whatever can be wrong here is, before the invitation is used up.
    home.make()?;
    let url = address(&args.url)?;
    let sealed = ask(url, args.ca.as_deref().map(|path| environment.cwd.join(path)).as_deref(), &token).await?;
    let credentials = token.open(&sealed)?;
    let spec = settings(args, environment, &credentials, before)?;
    write_secret(&home.folder().join(PASSWORD), &credentials.password)?;
    if let Some(ca) = &credentials.ca {
        let path = home.folder().join(AUTHORITY);
        std::fs::write(&path, ca).with_context(|| format!("writing {}", path.display()))?;
    }
    let file = AgentFile { api_version: ApiVersion::V1, kind: AgentFileKind::Agent, spec };
    let path = home.config();
    std::fs::write(&path, chiffon_schemas::to_yaml(&file)).with_context(|| format!("writing {}", path.display()))?;
    let value = json!({ "agent": credentials.agent, "config": path });
    let text = format!(
        "enrolled as {}: {}\n\nnext:\n  chiffon-agent doctor\n  chiffon-agent up",
        credentials.agent,
        path.display()
    );
    output.say(&value, &text);
    Ok(true)
}

fn token_text(argument: &str) -> Result<String> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    std::io::stdin().lock().take(4096).read_to_string(&mut text).context("reading the token from stdin")?;
    Ok(text)
}

/// Where to ask: another machine by https alone (S14).
fn address(text: &str) -> Result<Url> {
    let url = Url::parse(text).with_context(|| format!("`{text}` is no address"))?;
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
    let mut client = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
    if let Some(path) = ca {
        let pem = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let ca = reqwest::Certificate::from_pem(&pem).with_context(|| format!("reading {}", path.display()))?;
        client = client.add_root_certificate(ca);
    }
    let client = client.build().context("starting the HTTP client")?;
    let mut at = url.clone();
    if let Ok(mut segments) = at.path_segments_mut() {
        segments.pop_if_empty().extend(PATH.split('/'));
    }
    let reply = client.post(at).json(&json!({ "invitation": token.name() })).send().await;
    let reply = reply.with_context(|| format!("{url} does not answer"))?;
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

/// The configuration: what the reconciler said, what the person said, and what stood there before.
fn settings(
    args: &cli::Enrol,
    environment: &Environment,
    credentials: &Credentials,
    before: Option<AgentFileSpec>,
) -> Result<AgentFileSpec> {
    let amqp = AmqpSpec {
        url: credentials.amqp_url.clone(),
        password_file: PASSWORD.into(),
        ca_file: credentials.ca.as_ref().map(|_| AUTHORITY.into()),
        insecure_tls: credentials.insecure_tls,
    };
    let path = |text: &String| {
        let local = environment.cwd.join(text);
        if local.is_dir() { local.display().to_string() } else { text.clone() }
    };
    let (requests, infra) = (args.requests.as_ref().map(path), args.infra.as_ref().map(path));
    if let Some(before) = before {
        if before.name != credentials.agent {
            bail!("this folder is of the agent {}, the invitation is for {}", before.name, credentials.agent);
        }
        let mirror = |url: Option<String>, known: MirrorSpec| MirrorSpec { url: url.unwrap_or(known.url), ..known };
        let mut ansible = before.ansible;
        ansible.playbook = args.ansible_playbook.clone().or(ansible.playbook);
        ansible.vault_password_file = args.vault_password_file.clone().or(ansible.vault_password_file);
        return Ok(AgentFileSpec {
            amqp,
            reconciler_key: credentials.reconciler_key.clone(),
            requests: mirror(requests, before.requests),
            infra: mirror(infra, before.infra),
            ansible,
            ..before
        });
    }
    let known = |said: Option<String>, given: &Option<String>, option: &str| {
        let url = said.or_else(|| given.clone());
        url.with_context(|| format!("the reconciler does not say where the repository is: give {option} PATH|URL"))
    };
    Ok(AgentFileSpec {
        name: credentials.agent.clone(),
        amqp,
        reconciler_key: credentials.reconciler_key.clone(),
        requests: MirrorSpec { url: known(requests, &credentials.requests, "--requests")?, branch: "main".to_owned() },
        infra: MirrorSpec {
            url: known(infra, &credentials.infra.url, "--infra")?,
            branch: credentials.infra.branch.clone(),
        },
        ansible: AnsibleSpec {
            playbook: args.ansible_playbook.as_ref().map(|path| environment.cwd.join(path)),
            vault_password_file: args.vault_password_file.as_ref().map(|path| environment.cwd.join(path)),
            ssh_auth_sock: None,
        },
        heartbeat_secs: 10,
        parallel: 2,
    })
}
