//! The broker, the lines to it (S14), and the key that agents believe.

use anyhow::Result;
use chiffon_link::amqp::management::Management;
use chiffon_link::{amqp, read_authority};
use chiffon_schemas::{AmqpSpec, ManagementSpec, Name};

use super::{Check, bad, good};
use crate::commands::chain;
use crate::config::Config;
use crate::home::Home;

/// Why a line is insecure.
const INSECURE: &str = "insecure: whoever sits between reads everything";

/// All of them.
pub(super) async fn checks(home: &Home, config: &Config, spec: &AmqpSpec) -> Vec<Check> {
    let mut checks = broker(home, spec).await;
    checks.extend(management(home, config));
    checks.extend(for_agents(config, spec));
    checks.push(key(home));
    checks
}

async fn broker(home: &Home, spec: &AmqpSpec) -> Vec<Check> {
    let what = "broker";
    let server = match crate::bus::server(home, spec) {
        Ok(server) => server,
        Err(error) => {
            let fix = "mend `bus.amqp` in chiffon.yaml; `chiffon broker setup` makes what is missing";
            return vec![bad(what, chain(error.as_ref()), fix)];
        }
    };
    let reached = match amqp::probe(&server).await {
        Ok(()) => good(what, format!("{server} takes `{}`", server.user())),
        Err(reason) => {
            let fix = "see that the broker runs and that `bus.amqp` in chiffon.yaml fits, then `chiffon broker setup`";
            bad(what, reason, fix)
        }
    };
    vec![reached, line("line to the broker", server.is_remote(), server.is_encrypted())]
}

fn line(what: &'static str, is_remote: bool, is_encrypted: bool) -> Check {
    match (is_remote, is_encrypted) {
        (false, _) => good(what, "does not leave this machine"),
        (true, true) => good(what, "TLS; a broker whose certificate can't be verified is refused"),
        (true, false) => {
            bad(what, INSECURE, "give the broker a certificate and take `insecure_tls` out of chiffon.yaml")
        }
    }
}

fn management(home: &Home, config: &Config) -> Option<Check> {
    let what = "line to the broker's management";
    let spec = config.spec.bus.management.as_ref()?;
    let password = home.folder().join(&spec.password_file);
    // Where the file can't even be looked for, reading it says why.
    let is_away = password.try_exists().is_ok_and(|there| !there);
    let management = if is_away { without_password(home, spec) } else { managed(home, config) };
    let mut check = match management {
        Ok(management) => line(what, management.is_remote(), management.is_encrypted()),
        Err(error) => bad(what, chain(error.as_ref()), "mend `bus.management` in chiffon.yaml"),
    };
    if is_away {
        let only = "`chiffon broker setup` and `chiffon agent` alone need it";
        check.found = format!("{}; {} is not here: {only}", check.found, password.display());
    }
    Some(check)
}

fn managed(home: &Home, config: &Config) -> Result<Management> {
    crate::bus::management(home, config).map(|(management, _)| management)
}

/// The management, for whoever asks it nothing: `chiffon up` goes without its password, which may be kept elsewhere.
fn without_password(home: &Home, spec: &ManagementSpec) -> Result<Management> {
    let ca = spec.ca_file.as_deref().map(|file| read_authority(&home.folder().join(file))).transpose()?;
    Ok(Management::new(&spec.url, "", ca.as_deref(), spec.insecure_tls)?)
}

/// The broker as agents reach it, where that differs: each of them would refuse it after its token is used up.
fn for_agents(config: &Config, spec: &AmqpSpec) -> Option<Check> {
    let what = "line from agents to the broker";
    config.spec.bus.for_agents.amqp_url.as_ref()?;
    let somebody = Name::parse("agent").expect("a constant name");
    Some(match crate::bus::server_for(&somebody, config, spec) {
        Ok((_, server)) => line(what, server.is_remote(), server.is_encrypted()),
        Err(error) => bad(what, chain(error.as_ref()), "mend `bus.for_agents.amqp_url` in chiffon.yaml"),
    })
}

fn key(home: &Home) -> Check {
    let what = "signing key";
    let back = "put the key back from a copy; with another one all agents enrol again";
    match crate::bus::known_signer(home) {
        Ok(Some(signer)) => good(what, format!("agents believe what {} signed", signer.verifier())),
        Ok(None) => {
            let found = format!("{} is not there", home.signing_key().display());
            bad(what, found, format!("`chiffon broker setup` makes it; where agents are enrolled, {back}"))
        }
        Err(error) => bad(what, chain(error.as_ref()), back),
    }
}
