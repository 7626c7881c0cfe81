//! `chiffon-agent enrol`: exchanges an invitation's token for a name, a key to believe and a place on the broker.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use chiffon_link::{Token, write_secret};
use chiffon_schemas::{
    AgentFile, AgentFileKind, AgentFileSpec, AmqpSpec, AnsibleSpec, ApiVersion, Credentials, MirrorSpec,
};
use serde_json::json;

use crate::cli;
use crate::environment::Environment;
use crate::home::Home;
use crate::output::Output;
use crate::redeeming;

/// Names of files in the agent's folder.
const PASSWORD: &str = "broker-password";
const AUTHORITY: &str = "broker-ca.pem";

/// Enrols, and writes the configuration. One that is there keeps all that the reconciler does not say.
///
/// # Errors
/// The invitation is not open, what was given is not for it, or a repository's address is not known.
pub async fn run(
    args: &cli::Enrol,
    dir: Option<&Path>,
    home: &Home,
    environment: &Environment,
    output: &Output,
) -> Result<bool> {
    let token = Token::parse(&token_text(&args.token)?)?;
    let before = if home.config().exists() { Some(home.load()?) } else { None };
    // Whatever can be wrong here is, before the invitation is used up.
    home.make()?;
    let credentials = redeeming::redeem(args, home, environment, &token).await?;
    let spec = settings(args, home, environment, &credentials, before)?;
    write_secret(&home.folder().join(PASSWORD), &credentials.password)?;
    if let Some(ca) = &credentials.ca {
        let path = home.folder().join(AUTHORITY);
        std::fs::write(&path, ca).with_context(|| format!("writing {}", path.display()))?;
    }
    let file = AgentFile { api_version: ApiVersion::V1, kind: AgentFileKind::Agent, spec };
    let path = home.config();
    // All or nothing, and on the disk before what was kept is given up.
    write_secret(&path, chiffon_schemas::to_yaml(&file).trim_end())?;
    redeeming::forget(home);
    let value = json!({ "agent": credentials.agent, "config": path });
    let program = match dir {
        Some(dir) => format!("chiffon-agent --dir {}", shell_word(&dir.display().to_string())),
        None => "chiffon-agent".to_owned(),
    };
    let (agent, path) = (&credentials.agent, path.display());
    let text = format!("enrolled as {agent}: {path}\n\nnext:\n  {program} doctor\n  {program} up");
    output.say(&value, &text);
    Ok(true)
}

/// A word as a shell takes it.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn token_text(argument: &str) -> Result<String> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    std::io::stdin().lock().take(4096).read_to_string(&mut text).context("reading the token from stdin")?;
    Ok(text)
}

/// The configuration: what the reconciler said, what the person said, and what stood there before.
fn settings(
    args: &cli::Enrol,
    home: &Home,
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
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| environment.cwd.join(path));
    let address = |text: &String| {
        let local = environment.cwd.join(text);
        if local.is_dir() { local.display().to_string() } else { text.clone() }
    };
    let (requests, infra) = (args.requests.as_ref().map(address), args.infra.as_ref().map(address));
    let (playbook, vault_password_file) = (path(&args.ansible_playbook), path(&args.vault_password_file));
    if let Some(before) = before {
        if before.name != credentials.agent {
            bail!(
                "this folder is of the agent {}, the invitation was for {new}: `chiffon agent rotate {new}` gives \
                 another token, for another folder (--dir DIR)",
                before.name,
                new = credentials.agent
            );
        }
        let mirror = |url: Option<String>, known: MirrorSpec| MirrorSpec { url: url.unwrap_or(known.url), ..known };
        let mut ansible = before.ansible;
        ansible.playbook = playbook.or(ansible.playbook);
        ansible.vault_password_file = vault_password_file.or(ansible.vault_password_file);
        return Ok(AgentFileSpec {
            amqp,
            reconciler_key: credentials.reconciler_key.clone(),
            requests: mirror(requests, before.requests),
            infra: mirror(infra, before.infra),
            ansible,
            ..before
        });
    }
    let requests = requests.or_else(|| credentials.requests.clone());
    let infra = infra.or_else(|| credentials.infra.url.clone());
    let [requests, infra] = both(requests, infra, home)?;
    Ok(AgentFileSpec {
        name: credentials.agent.clone(),
        amqp,
        reconciler_key: credentials.reconciler_key.clone(),
        requests: MirrorSpec { url: requests, branch: "main".to_owned() },
        infra: MirrorSpec { url: infra, branch: credentials.infra.branch.clone() },
        ansible: AnsibleSpec { playbook, vault_password_file, ssh_auth_sock: None },
        exempt_check_runs: false,
        traces: None,
        heartbeat_secs: 10,
        parallel: 2,
    })
}

/// Both repositories' addresses, or which of them somebody has to name.
fn both(requests: Option<String>, infra: Option<String>, home: &Home) -> Result<[String; 2]> {
    let missing = match (requests, infra) {
        (Some(requests), Some(infra)) => return Ok([requests, infra]),
        (Some(_), None) => "--infra PATH|URL",
        (None, Some(_)) => "--requests PATH|URL",
        (None, None) => "--requests PATH|URL and --infra PATH|URL",
    };
    bail!(
        "the reconciler does not say where the repositories are: say the same again with {missing}. The token is good for \
         that: what it gave is kept in {}",
        home.enrolment().display()
    )
}
