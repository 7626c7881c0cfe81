//! Which bus the configuration names, how it is opened, and what the reconciler signs with.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use chiffon_link::amqp::management::{Management, agent_url};
use chiffon_link::amqp::{AmqpHub, Server, Settings};
use chiffon_link::{Hub, Limits, LocalHub, Signer, read_secret, write_first_secret};
use chiffon_schemas::{AmqpSpec, Name};

use crate::config::Config;
use crate::home::Home;

/// The reconciler's end of the bus.
#[derive(Debug, Clone)]
pub enum Bus {
    /// Inside this process, with the embedded agent on it.
    Embedded(Arc<LocalHub>),
    /// A broker, with agents in processes of their own.
    Broker(Arc<AmqpHub>),
}

impl Bus {
    /// Opens the bus that the configuration names. A broker that is away is waited for by whoever uses it.
    ///
    /// # Errors
    /// A setting can't be used, or there is no key to sign with.
    pub fn open(home: &Home, config: &Config) -> Result<Self> {
        let Some(spec) = &config.spec.bus.amqp else {
            let hub = LocalHub::new(Limits::default()).context("making the key that orders are signed with")?;
            return Ok(Self::Embedded(Arc::new(hub)));
        };
        let server = server(home, spec)?;
        let hub = AmqpHub::new(server, Settings::default(), signer(home)?, BTreeSet::new());
        Ok(Self::Broker(Arc::new(hub)))
    }

    /// As the driver uses it.
    pub fn hub(&self) -> Arc<dyn Hub> {
        match self {
            Self::Embedded(hub) => hub.clone(),
            Self::Broker(hub) => hub.clone(),
        }
    }
}

/// The broker that the configuration names.
///
/// # Errors
/// Its address or its files can't be used.
pub fn server(home: &Home, spec: &AmqpSpec) -> Result<Server> {
    Server::of(spec, home.folder()).context("`bus.amqp` in chiffon.yaml")
}

/// The broker as an agent reaches it, with the agent's own user: its address, and what the agent makes of it.
///
/// # Errors
/// The agent would refuse it: it is no address, or leaves its machine in the clear (S14).
pub fn server_for(agent: &Name, config: &Config, spec: &AmqpSpec) -> Result<(String, Server)> {
    let (setting, url) = match &config.spec.bus.for_agents.amqp_url {
        Some(url) => ("`bus.for_agents.amqp_url` in chiffon.yaml", url),
        None => ("`bus.amqp.url` in chiffon.yaml", &spec.url),
    };
    let url = agent_url(url, agent).context(setting)?;
    let server = Server::new(&url, "", None, spec.insecure_tls).context(setting)?;
    Ok((url, server))
}

/// The broker's management that the configuration names, and the virtual host that is ours.
///
/// # Errors
/// None is named, or its address or its files can't be used.
pub fn management(home: &Home, config: &Config) -> Result<(Management, AmqpSpec)> {
    let bus = &config.spec.bus;
    let Some(amqp) = &bus.amqp else { bail!("chiffon.yaml names no broker: set `bus.amqp` first, see docs/agents.md") };
    let Some(spec) = &bus.management else {
        bail!("chiffon.yaml does not say how the broker is managed: set `bus.management`, see docs/agents.md")
    };
    let management = Management::of(spec, home.folder()).context("`bus.management` in chiffon.yaml")?;
    Ok((management, amqp.clone()))
}

/// What the reconciler signs with; made once for each home. Agents believe nothing else.
///
/// # Errors
/// The file can't be read or written, others can read it, or it holds no key.
pub fn signer(home: &Home) -> Result<Signer> {
    if let Some(signer) = known_signer(home)? {
        return Ok(signer);
    }
    let signer = Signer::generate().context("making the key that orders are signed with")?;
    let keep = || "keeping the key that orders are signed with";
    if write_first_secret(&home.signing_key(), &signer.secret()).with_context(keep)? {
        return Ok(signer);
    }
    // Another process made one at the same time: agents are told one key.
    known_signer(home)?.with_context(keep)
}

/// What the reconciler signs with, where it was made.
///
/// # Errors
/// The file can't be read, others can read it, or it holds no key.
pub fn known_signer(home: &Home) -> Result<Option<Signer>> {
    let path = home.signing_key();
    if !path.exists() {
        return Ok(None);
    }
    let text = read_secret(&path).context("reading the key that orders are signed with")?;
    Signer::parse(&text).map(Some).with_context(|| format!("reading {}", path.display()))
}
