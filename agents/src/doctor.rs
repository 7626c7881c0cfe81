//! `chiffon-agent doctor`: checks that everything the agent needs is there, and says the way out where it is not.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Result;
use chiffon_infra::first_vaulted;
use chiffon_link::Verifier;
use chiffon_link::amqp::{self, Server};
use chiffon_requests::Mirror;
use chiffon_schemas::{AgentFileSpec, AmqpSpec, TracesSpec};
use serde_json::json;

use crate::environment::Environment;
use crate::home::{self, Home};
use crate::output::Output;

/// One thing that was looked at: what, and what was found, or what is wrong and the way out.
type Check = (&'static str, Result<String, (String, &'static str)>);

/// Looks at everything once; changes nothing but its copies of the repositories.
///
/// # Errors
/// Never for what it finds: that is in the list, and `false` comes back.
pub async fn run(home: &Home, environment: &Environment, output: &Output) -> Result<bool> {
    let mut checks: Vec<Check> = vec![git(environment)];
    match home.load().and_then(|spec| home.make().map(|()| spec)) {
        Err(error) => checks.push(("configuration", Err((format!("{error:#}"), "mend agent.yaml, or enrol again")))),
        Ok(spec) => {
            checks.push(("configuration", Ok(format!("{} as {}", home.config().display(), spec.name))));
            checks.push(key(&spec));
            checks.extend(broker(home, &spec.amqp).await);
            checks.extend(with_mirrors(home, &spec, environment));
            checks.extend(spec.traces.as_ref().map(|spec| traces(home, spec)));
        }
    }
    let good = checks.iter().all(|(_, found)| found.is_ok());
    let values: Vec<_> = checks
        .iter()
        .map(|(what, found)| match found {
            Ok(found) => json!({ "what": what, "ok": true, "found": found }),
            Err((found, fix)) => json!({ "what": what, "ok": false, "found": found, "fix": fix }),
        })
        .collect();
    let lines: Vec<String> = checks
        .iter()
        .map(|(what, found)| match found {
            Ok(found) => format!("ok   {what}: {found}"),
            Err((found, fix)) => format!("FAIL {what}: {found}\n       fix: {fix}"),
        })
        .collect();
    output.say(&json!({ "ok": good, "checks": values }), &lines.join("\n"));
    Ok(good)
}

fn git(environment: &Environment) -> Check {
    let version = home::git(environment).version();
    ("git", version.map_err(|error| (error.to_string(), "install git: apt-get install git")))
}

/// The line to the collector of traces.
fn traces(home: &Home, spec: &TracesSpec) -> Check {
    let found = match chiffon_trace::check(spec, home.folder()) {
        Err(error) => Err((error.to_string(), "mend `traces` in agent.yaml")),
        Ok(()) if chiffon_trace::is_open(spec) => {
            let words = "insecure: whoever sits between reads names of hosts and steps".to_owned();
            Err((words, "write https:// and take `insecure_tls` out of agent.yaml"))
        }
        Ok(()) => Ok("does not leave this machine, or speaks TLS".to_owned()),
    };
    ("line to the collector of traces", found)
}

fn key(spec: &AgentFileSpec) -> Check {
    let found = Verifier::parse(&spec.reconciler_key).map(|key| format!("orders are believed that {key} signed"));
    ("reconciler's key", found.map_err(|error| (error.to_string(), "enrol again")))
}

async fn broker(home: &Home, spec: &AmqpSpec) -> Vec<Check> {
    let fix = "mend `amqp` in agent.yaml, or enrol again";
    let server = match Server::of(spec, home.folder()) {
        Ok(server) => server,
        Err(error) => return vec![("broker", Err((format!("{:#}", anyhow::Error::new(error)), fix)))],
    };
    let line = match (server.is_remote(), server.is_encrypted()) {
        (false, _) => Ok("does not leave this machine".to_owned()),
        (true, true) => Ok("TLS; a broker whose certificate can't be verified is refused".to_owned()),
        (true, false) => Err((
            "insecure: whoever sits between reads everything".to_owned(),
            "give the broker a certificate, and take `insecure_tls` out of agent.yaml",
        )),
    };
    let reached = amqp::probe(&server).await;
    let fix = "see that the broker runs and that this agent's place was not revoked, or enrol again";
    let reached = reached.map(|()| format!("{server} takes {}", server.user())).map_err(|reason| (reason, fix));
    vec![("broker", reached), ("line to the broker", line)]
}

fn with_mirrors(home: &Home, spec: &AgentFileSpec, environment: &Environment) -> Vec<Check> {
    let mirrors = match home.mirrors(spec) {
        Ok(mirrors) => mirrors,
        Err(error) => return vec![("repositories", Err((format!("{error:#}"), "mend agent.yaml")))],
    };
    let [requests, infra] = &mirrors;
    let ansible = home.ansible(spec, &mirrors, environment);
    let version = chiffon_infra::probe_version(&ansible);
    let program = ansible.ansible_playbook.display();
    let fix = "pip install ansible-core, or set `ansible.playbook` in agent.yaml";
    vec![
        mirror("requests repository", requests, &spec.requests.url, environment),
        mirror("infra repository", infra, &spec.infra.url, environment),
        (
            "ansible-playbook",
            version.map(|version| format!("{program} (ansible-core {version})")).map_err(|e| (e.to_string(), fix)),
        ),
        ("vault password", vault(ansible.vault_password_file.as_deref(), infra, environment)),
    ]
}

fn mirror(what: &'static str, mirror: &Mirror, url: &str, environment: &Environment) -> Check {
    let fix = "mend its address in agent.yaml, or the access of this user";
    let found = mirror.refresh(&home::git(environment)).map(|(_, tip)| format!("{url} at {}", tip.short()));
    (what, found.map_err(|error| (format!("{:#}", anyhow::Error::new(error)), fix)))
}

fn vault(file: Option<&Path>, infra: &Mirror, environment: &Environment) -> Result<String, (String, &'static str)> {
    let fix = "write the password to a file that only this user reads, and name it as `ansible.vault_password_file`";
    match file.map(|path| (path, std::fs::metadata(path))) {
        Some((path, Ok(data))) if data.permissions().mode() & 0o077 == 0 => Ok(path.display().to_string()),
        Some((path, Ok(_))) => Err((format!("others can read {}", path.display()), "chmod 600 it")),
        Some((path, Err(error))) => Err((format!("{}: {error}", path.display()), fix)),
        None => {
            let Ok((repo, tip)) = infra.refresh(&home::git(environment)) else { return Ok("none is set".to_owned()) };
            match first_vaulted(&repo, &tip) {
                Ok(None) => Ok("none is needed".to_owned()),
                Ok(Some(path)) => Err((format!("none is set, and {path} is encrypted with ansible-vault"), fix)),
                Err(error) => Err((error.to_string(), "mend it in the infra repository")),
            }
        }
    }
}
