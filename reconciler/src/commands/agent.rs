//! `chiffon agent`: makes places on the broker for agents, lists them, and takes them away.

use anyhow::{Context, Result, bail};
use chiffon_link::Token;
use chiffon_link::amqp::management::PasswordHash;
use chiffon_requests::{FilePolicy, GitUrl};
use chiffon_schemas::{AmqpSpec, Credentials, InfraSource, Name, Timestamp};
use chiffon_store::{Enrolment, Invitation};
use serde_json::json;

use super::{Desk, Exit, broker, times};
use crate::cli::{AgentCommand, Invite};
use crate::environment;
use crate::output::{self, Output};

/// Does what was asked.
///
/// # Errors
/// The broker's management refuses, the store failed, or there is no such agent.
pub async fn run(what: &AgentCommand, desk: &Desk, output: &Output) -> Result<Exit> {
    match what {
        AgentCommand::List => list(desk, output).await,
        AgentCommand::Invite(args) => {
            let name = Name::parse(&args.name)?;
            if let Some(known) = find(desk, &name).await?.filter(|known| known.revoked.is_none())
                && known.enrolled.is_some()
            {
                bail!("{name} is enrolled: `chiffon agent rotate {name}` gives it new credentials");
            }
            invite(&name, args, desk, output).await
        }
        AgentCommand::Rotate(args) => {
            let name = known(&args.name, desk).await?;
            invite(&name, args, desk, output).await
        }
        AgentCommand::Revoke(args) => revoke(&known(&args.name, desk).await?, desk, output).await,
    }
}

async fn find(desk: &Desk, name: &Name) -> Result<Option<Enrolment>> {
    Ok(desk.store.enrolments().await?.into_iter().find(|enrolment| &enrolment.agent == name))
}

/// An agent's name as a person typed it, or the nearest one in the error.
async fn known(text: &str, desk: &Desk) -> Result<Name> {
    let names: Vec<Name> = desk.store.enrolments().await?.into_iter().map(|enrolment| enrolment.agent).collect();
    if let Some(name) = names.iter().find(|name| name.as_str() == text) {
        return Ok(name.clone());
    }
    match chiffon_schemas::nearest(text, names.iter().map(Name::as_str)) {
        Some(near) => bail!("there is no agent `{text}`: did you mean `{near}`?"),
        None => bail!("there is no agent `{text}`: `chiffon agent list` shows them"),
    }
}

async fn invite(name: &Name, args: &Invite, desk: &Desk, output: &Output) -> Result<Exit> {
    let expires = times::ahead(&args.valid)?;
    let (management, amqp) = crate::bus::management(&desk.home, &desk.config)?;
    let server = crate::bus::server(&desk.home, &amqp)?;
    let url = enrolment_url(desk)?;
    let token = Token::generate().context("making a token")?;
    let password = broker::new_password()?;
    let credentials = credentials(name, &password, &amqp, desk)?;
    // First the broker: a token that is printed works.
    let hash = PasswordHash::of(&password).context("hashing the password")?;
    management.make_agent(server.vhost(), name, &hash).await?;
    let invitation = Invitation {
        agent: name.clone(),
        token: chiffon_schemas::digest(token.name().as_bytes()),
        sealed: token.seal(&credentials),
        expires,
        password_hash: hash.as_str().to_owned(),
    };
    let again = format!("say it again: the broker knows the new password of {name} already, and nobody else does");
    desk.store.invite(&invitation, environment::now()).await.context(again)?;
    // Whoever is in with earlier credentials goes out; they would be let stay until their line broke.
    let user = chiffon_link::amqp::management::agent_user(server.vhost(), name);
    let again = format!("say it again: who came in with the earlier credentials of {name} may still be there");
    management.disconnect(&user).await.context(again)?;
    desk.home.touch_wake()?;
    let secret = token.secret();
    output.result(&json!({ "agent": name, "url": url, "token": secret, "expires": expires }), || {
        format!("invited {name} until {expires}; on its machine, once:\n\n  chiffon-agent enrol {url} {secret}")
    });
    Ok(Exit::Done)
}

/// Where agents enrol, as they reach it.
fn enrolment_url(desk: &Desk) -> Result<String> {
    let Some(web) = &desk.config.spec.web else {
        bail!("agents enrol over HTTP: set `web.listen` in chiffon.yaml first, see docs/agents.md");
    };
    if let Some(url) = &web.url {
        return Ok(url.clone());
    }
    let scheme = if web.tls.is_some() { "https" } else { "http" };
    // The system may have chosen the port.
    let address = std::fs::read_to_string(desk.home.web_address()).unwrap_or_else(|_| web.listen.clone());
    Ok(format!("{scheme}://{}", address.trim()))
}

fn credentials(name: &Name, password: &str, amqp: &AmqpSpec, desk: &Desk) -> Result<Credentials> {
    let for_agents = &desk.config.spec.bus.for_agents;
    let infra = &desk.config.spec.infra;
    let ca = match &amqp.ca_file {
        Some(file) => {
            let path = desk.home.folder().join(file);
            Some(std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?)
        }
        None => None,
    };
    // A path means nothing on another machine.
    let elsewhere = |url: &String| GitUrl::parse(url, FilePolicy::Refuse).is_ok();
    let (amqp_url, _) = crate::bus::server_for(name, &desk.config, amqp)?;
    Ok(Credentials {
        agent: name.clone(),
        amqp_url,
        password: password.to_owned(),
        ca,
        insecure_tls: amqp.insecure_tls,
        reconciler_key: crate::bus::signer(&desk.home)?.verifier().to_string(),
        requests: for_agents.requests_url.clone(),
        infra: InfraSource {
            url: for_agents.infra_url.clone().or_else(|| Some(infra.url.clone()).filter(elsewhere)),
            branch: infra.branch.clone(),
        },
    })
}

async fn revoke(name: &Name, desk: &Desk, output: &Output) -> Result<Exit> {
    let (management, amqp) = crate::bus::management(&desk.home, &desk.config)?;
    let server = crate::bus::server(&desk.home, &amqp)?;
    // First the store, so that the reconciler makes no queue for it again; its credentials end with its user.
    let revoked = desk.store.revoke(name, environment::now()).await?;
    desk.home.touch_wake()?;
    management.remove_agent(server.vhost(), name).await.with_context(|| {
        format!(
            "{name} is revoked here and not yet on the broker, which takes its credentials until then: say `chiffon agent \
             revoke {name}` again once its management answers"
        )
    })?;
    output.result(&json!({ "agent": name, "revoked": revoked }), || {
        let words = if revoked { "is" } else { "had been" };
        format!("{name} {words} sent away: its credentials have ended")
    });
    Ok(Exit::Done)
}

async fn list(desk: &Desk, output: &Output) -> Result<Exit> {
    let (enrolments, heard, load) =
        (desk.store.enrolments().await?, desk.store.agents().await?, desk.store.load().await?);
    let now = environment::now();
    let mut names: Vec<&Name> = enrolments.iter().map(|known| &known.agent).chain(heard.keys()).collect();
    names.sort();
    names.dedup();
    let rows = names.into_iter().map(|name| {
        let place = enrolments.iter().find(|known| &known.agent == name);
        (name, place, heard.get(name), load.get(name).copied().unwrap_or(0))
    });
    let rows: Vec<_> = rows.collect();
    let values: Vec<_> = rows
        .iter()
        .map(|(name, place, facts, load)| {
            json!({
                "name": name, "place": place_word(*place, now), "invited": place.map(|place| place.invited),
                "enrolled": place.and_then(|place| place.enrolled), "revoked": place.and_then(|place| place.revoked),
                "kind": facts.map(|facts| facts.kind), "heard": facts.map(|facts| facts.heard),
                "ansible_core": facts.and_then(|facts| facts.ansible_core.clone()), "attempts": load,
            })
        })
        .collect();
    output.result(&json!({ "agents": values }), || {
        if rows.is_empty() {
            return "no agent is known: `chiffon agent invite NAME` makes a place for one".to_owned();
        }
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|(name, place, facts, load)| {
                let heard = facts.map_or("never".to_owned(), |facts| facts.heard.to_string());
                let core = facts.and_then(|facts| facts.ansible_core.clone()).unwrap_or_else(|| "-".to_owned());
                vec![name.to_string(), place_word(*place, now).to_owned(), heard, core, load.to_string()]
            })
            .collect();
        output::table(&["AGENT", "PLACE", "HEARD", "ANSIBLE", "ATTEMPTS"], &cells, |_, _, cell| cell.to_owned())
    });
    Ok(Exit::Done)
}

fn place_word(place: Option<&Enrolment>, now: Timestamp) -> &'static str {
    match place {
        None => "embedded",
        Some(place) if place.revoked.is_some() => "revoked",
        Some(place) if place.enrolled.is_some() => "enrolled",
        Some(place) if place.expires > now => "invited",
        Some(_) => "invitation over",
    }
}
