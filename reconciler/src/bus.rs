//! Which bus the configuration names, how it is opened, and what the reconciler signs with.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use chiffon_link::amqp::management::Management;
use chiffon_link::amqp::{AmqpHub, Server, Settings};
use chiffon_link::{Hub, Limits, LocalHub, Signer, read_secret, write_secret};
use chiffon_schemas::AmqpSpec;

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
    let path = home.signing_key();
    if path.exists() {
        let text = read_secret(&path).context("reading the key that orders are signed with")?;
        return Signer::parse(&text).with_context(|| format!("reading {}", path.display()));
    }
    let signer = Signer::generate().context("making the key that orders are signed with")?;
    write_secret(&path, &signer.secret()).context("keeping the key that orders are signed with")?;
    Ok(signer)
}
