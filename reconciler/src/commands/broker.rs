//! `chiffon broker setup`: makes Chiffon's place on a RabbitMQ broker.

use anyhow::{Context, Result};
use chiffon_link::amqp;
use chiffon_link::write_secret;
use serde_json::json;

use super::Exit;
use crate::cli::BrokerCommand;
use crate::config;
use crate::home::Home;
use crate::output::Output;

/// Makes the virtual host and the reconciler's user, and sees that it can come in. Says what it did.
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
    management.make_reconciler(server.vhost(), server.user(), &password).await?;
    did.push(format!("made the user `{}`, which may use Chiffon's queues and exchanges in it alone", server.user()));
    crate::bus::signer(home)?;
    did.push(format!("orders are signed with {}", home.signing_key().display()));
    amqp::probe(&server).await.map_err(anyhow::Error::msg)?;
    did.push(format!("came in as `{}` at {server}", server.user()));
    output.result(&json!({ "did": did }), || {
        let next = "next: `chiffon agent invite NAME` makes a place for an agent, `chiffon up` works";
        format!("{}\n\n{next}", did.join("\n"))
    });
    Ok(Exit::Done)
}

/// A password that nobody types.
pub(super) fn new_password() -> Result<String> {
    // A token is 48 random bytes; its text has no character that an address would have to hide.
    Ok(chiffon_link::Token::generate().context("making a password")?.secret())
}
