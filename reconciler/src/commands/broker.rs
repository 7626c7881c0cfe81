//! `chiffon broker setup`: makes Chiffon's place on a RabbitMQ broker.

use anyhow::{Context, Result};
use chiffon_link::amqp;
use chiffon_link::amqp::management::{Management, PasswordHash};
use chiffon_link::write_secret;
use serde_json::json;

use super::Exit;
use crate::cli::BrokerCommand;
use crate::config::{self, Config};
use crate::home::Home;
use crate::output::Output;

/// Makes the virtual host, the reconciler's user and those of agents that have a place, and sees that it can come in. Says
/// what it did. Done again it changes nothing, and makes a broker that was emptied usable.
///
/// # Errors
/// The configuration names no broker, or its management does not answer or refuses.
pub async fn run(what: &BrokerCommand, home: &Home, output: &Output) -> Result<Exit> {
    let BrokerCommand::Setup = what;
    let config = config::load(&home.config()).map_err(super::config_error)?;
    let (management, amqp) = crate::bus::management(home, &config)?;
    let mut did = Vec::new();
    let password_file = home.folder().join(&amqp.password_file);
    if !password_file.exists() {
        write_secret(&password_file, &new_password()?)?;
        did.push(format!("made a password: {}", password_file.display()));
    }
    let server = crate::bus::server(home, &amqp)?;
    let password = chiffon_link::read_secret(&password_file)?;
    let version = management.version().await.context("asking the broker for its version")?;
    did.push(format!("asked RabbitMQ {version}"));
    management.make_vhost(server.vhost()).await?;
    did.push(format!("made the virtual host `{}`", server.vhost()));
    let hash = PasswordHash::of(&password).context("hashing the password")?;
    management.make_reconciler(server.vhost(), server.user(), &hash).await?;
    did.push(format!("made the user `{}`, which may use Chiffon's queues and exchanges in it alone", server.user()));
    crate::bus::signer(home)?;
    did.push(format!("orders are signed with {}", home.signing_key().display()));
    amqp::probe(&server).await.map_err(anyhow::Error::msg)?;
    did.push(format!("came in as `{}` at {server}", server.user()));
    let agents = restore_agents(home, &config, &management, server.vhost()).await?;
    if !agents.is_empty() {
        did.push(format!(
            "made the users of agents that have a place, with the passwords they know: {}",
            agents.join(", ")
        ));
    }
    output.result(&json!({ "did": did }), || {
        let next = "next: `chiffon agent invite NAME` makes a place for an agent, `chiffon up` works";
        format!("{}\n\n{next}", did.join("\n"))
    });
    Ok(Exit::Done)
}

/// Makes the users of all agents that have a place: a broker that was emptied has none of them. Their names.
async fn restore_agents(home: &Home, config: &Config, management: &Management, vhost: &str) -> Result<Vec<String>> {
    let store = crate::store::open(home, config).await.context("looking up which agents have a place")?;
    let mut names = Vec::new();
    for enrolment in store.enrolments().await?.into_iter().filter(|enrolment| enrolment.revoked.is_none()) {
        let password = PasswordHash::kept(enrolment.password_hash);
        management.make_agent(vhost, &enrolment.agent, &password).await?;
        names.push(enrolment.agent.to_string());
    }
    Ok(names)
}

/// A password that nobody types.
pub(super) fn new_password() -> Result<String> {
    // A token is 48 random bytes; its text has no character that an address would have to hide.
    Ok(chiffon_link::Token::generate().context("making a password")?.secret())
}
