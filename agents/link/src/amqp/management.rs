//! The broker's management API: virtual hosts, users, and what each of them may do.
//!
//! An agent's user may read its own queue, and write to three exchanges with its own name as the key. It may declare
//! nothing. So a credential that was stolen speaks for that agent alone, and the broker itself refuses the rest (S12).

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chiffon_schemas::{ManagementSpec, Name};
use lapin::uri::AMQPUri;
use reqwest::{Client, Method, StatusCode, Url};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use super::server::authority;
use super::{BadAddress, BadSettings, topology};
use crate::{KeyError, read_secret};

/// Every call is small.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The exchanges that agents write to, each with its own name as the key.
const AGENTS_WRITE: [&str; 3] = [topology::REPORTS, topology::LIVE, topology::PARKED];

/// How the user of an agent is called on the broker. Users belong to no virtual host, and other reconcilers may have
/// agents of this name in theirs.
pub fn agent_user(vhost: &str, agent: &Name) -> String {
    format!("{vhost}.agent.{agent}")
}

/// A broker's address for an agent: as a configuration has it for somebody, with the agent's own user.
///
/// # Errors
/// It is no address.
pub fn agent_url(url: &str, agent: &Name) -> Result<String, BadAddress> {
    let bad = |reason: String| BadAddress { reason };
    let mut parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
    let vhost = AMQPUri::from_str(url).map_err(bad)?.vhost;
    let named = parsed.set_username(&agent_user(&vhost, agent)).and_then(|()| parsed.set_password(None));
    named.map_err(|()| bad("it names no host".to_owned()))?;
    Ok(parsed.to_string())
}

/// The broker's own hash of a password: who holds it can make the user again, and can't come in as it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Hashes a password as the broker does: SHA-256 over four random bytes and the password, in base64 behind them.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn of(password: &str) -> Result<Self, KeyError> {
        let mut salt = [0; 4];
        SystemRandom::new().fill(&mut salt).map_err(|_| KeyError::NoRandomness)?;
        let hashed = digest(&SHA256, &[&salt, password.as_bytes()].concat());
        Ok(Self(BASE64.encode([&salt, hashed.as_ref()].concat())))
    }

    /// One that was kept as text.
    pub fn kept(text: String) -> Self {
        Self(text)
    }

    /// For keeping.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a call did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// Nobody answered.
    #[error("the broker's management at {at} does not answer")]
    Unreachable {
        /// Where.
        at: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It does not take the user, or the user may not do this.
    #[error(
        "the broker's management at {at} does not take the user {user} ({said}): see that its `password_file` holds \
         the right password, and that it has the tag administrator (rabbitmqctl set_user_tags {user} administrator)"
    )]
    Unauthorized {
        /// Where.
        at: String,
        /// Who asked.
        user: String,
        /// What it said of it.
        said: String,
    },
    /// It answered no.
    #[error("the broker's management at {at} refuses to {what}: {status} {said}")]
    Refused {
        /// Where.
        at: String,
        /// What was asked for.
        what: String,
        /// The answer's status.
        status: StatusCode,
        /// What it said of it.
        said: String,
    },
}

/// A broker's management.
#[derive(Clone)]
pub struct Management {
    base: Url,
    user: String,
    password: String,
    client: Client,
}

impl std::fmt::Debug for Management {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Management")
            .field("base", &self.base.as_str())
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Management {
    /// Reads `http://user@host:15672`, without a password in it. Another machine is reached by `https` alone, unless
    /// `insecure` says that a person wants it otherwise (S14). `ca` is the certificate, in PEM, of the authority that
    /// signed the broker's.
    ///
    /// # Errors
    /// It is no address, holds a password, or leaves this machine in the clear.
    pub fn new(url: &str, password: &str, ca: Option<&str>, insecure: bool) -> Result<Self, BadAddress> {
        let bad = |reason: String| BadAddress { reason };
        let mut base = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        if !["http", "https"].contains(&base.scheme()) || base.cannot_be_a_base() {
            return Err(bad("it does not begin with http:// or https://".to_owned()));
        }
        if base.password().is_some() {
            return Err(bad("it holds a password: put that into a file that only you can read".to_owned()));
        }
        let user = base.username().to_owned();
        if user.is_empty() {
            return Err(bad("it names no user: http://user@host:15672".to_owned()));
        }
        if base.scheme() == "http" && !is_local(&base) && !insecure {
            return Err(bad(
                "it leaves this machine in the clear: write https://, or set `insecure_tls: true` if you \
                            trust everybody on the way"
                    .to_owned(),
            ));
        }
        // What is shown and logged holds no user.
        let _ = base.set_username("");
        // The process may have chosen another one before; either will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder().no_proxy().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if let Some(ca) = ca {
            let found = reqwest::Certificate::from_pem_bundle(ca.as_bytes()).map_err(|error| bad(error.to_string()))?;
            client = found.into_iter().fold(client, reqwest::ClientBuilder::add_root_certificate);
        }
        let client = client.build().map_err(|error| bad(error.to_string()))?;
        Ok(Self { base, user, password: password.to_owned(), client })
    }

    /// The management that a configuration names; its paths are relative to `folder`.
    ///
    /// # Errors
    /// The address is none or leaves this machine in the clear, or a file can't be read.
    pub fn of(spec: &ManagementSpec, folder: &Path) -> Result<Self, BadSettings> {
        let password = read_secret(&folder.join(&spec.password_file))?;
        let ca = authority(spec.ca_file.as_deref(), folder)?;
        Ok(Self::new(&spec.url, &password, ca.as_deref(), spec.insecure_tls)?)
    }

    /// Whether the line to it leaves this machine.
    pub fn is_remote(&self) -> bool {
        !is_local(&self.base)
    }

    /// Whether nobody on the way can read along.
    pub fn is_encrypted(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Makes a virtual host, where there is none of that name.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn make_vhost(&self, vhost: &str) -> Result<(), Error> {
        self.put("make the virtual host", &["vhosts", vhost], json!({})).await
    }

    /// Removes a virtual host with everything in it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_vhost(&self, vhost: &str) -> Result<(), Error> {
        self.delete("remove the virtual host", &["vhosts", vhost]).await
    }

    /// Makes the reconciler's user, or gives it another password: it may use what begins as Chiffon's names do.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn make_reconciler(&self, vhost: &str, user: &str, password: &PasswordHash) -> Result<(), Error> {
        self.make_user(user, password).await?;
        let ours = r"^(chiffon\.v1\..*|work\.v1\..*|reports\.v1|live\.v1|parked\.v1)$";
        self.permit(vhost, user, ours, ours, ours).await?;
        for exchange in [topology::REPORTS, topology::LIVE] {
            self.permit_keys(vhost, user, exchange, "^$", ".*").await?;
        }
        self.permit_keys(vhost, user, topology::PARKED, ".*", ".*").await
    }

    /// Makes an agent's user, or gives it another password: it may read its own queue, and write in its own name.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn make_agent(&self, vhost: &str, agent: &Name, password: &PasswordHash) -> Result<(), Error> {
        let user = agent_user(vhost, agent);
        self.make_user(&user, password).await?;
        let written = AGENTS_WRITE.map(regex).join("|");
        let write = format!("^({written})$");
        let read = format!("^{}$", regex(&topology::work_queue(agent)));
        self.permit(vhost, &user, "^$", &write, &read).await?;
        let key = format!("^{agent}$");
        for exchange in AGENTS_WRITE {
            self.permit_keys(vhost, &user, exchange, &key, "^$").await?;
        }
        Ok(())
    }

    /// Removes an agent's user, which ends its connections, and deletes its queue with what waits there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_agent(&self, vhost: &str, agent: &Name) -> Result<(), Error> {
        let user = agent_user(vhost, agent);
        // The broker ends the connections of a user that is gone.
        self.delete("remove the user", &["users", &user]).await?;
        self.delete("delete the queue", &["queues", vhost, &topology::work_queue(agent)]).await
    }

    /// Ends the connections of a user.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn disconnect(&self, user: &str) -> Result<(), Error> {
        let path = ["connections", "username", user];
        // A connection that ends by itself meanwhile makes the broker stumble.
        match self.delete("end the connections of the user", &path).await {
            Err(Error::Refused { status: StatusCode::INTERNAL_SERVER_ERROR, .. }) => {
                self.delete("end the connections of the user", &path).await
            }
            done => done,
        }
    }

    /// The version of the broker.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn version(&self) -> Result<String, Error> {
        let said = self.call(Method::GET, "say its version in the", &["overview"], None).await?;
        let value: Value = serde_json::from_str(&said).unwrap_or_default();
        Ok(value["rabbitmq_version"].as_str().unwrap_or("of unknown version").to_owned())
    }

    async fn make_user(&self, user: &str, password: &PasswordHash) -> Result<(), Error> {
        let algorithm = "rabbit_password_hashing_sha256";
        let body = json!({ "password_hash": password.as_str(), "hashing_algorithm": algorithm, "tags": "" });
        self.put("make the user", &["users", user], body).await
    }

    async fn permit(&self, vhost: &str, user: &str, configure: &str, write: &str, read: &str) -> Result<(), Error> {
        let body = json!({ "configure": configure, "write": write, "read": read });
        self.put("give permissions", &["permissions", vhost, user], body).await
    }

    async fn permit_keys(&self, vhost: &str, user: &str, exchange: &str, write: &str, read: &str) -> Result<(), Error> {
        let body = json!({ "exchange": exchange, "write": write, "read": read });
        self.put("give permissions for keys", &["topic-permissions", vhost, user], body).await
    }

    async fn put(&self, what: &str, path: &[&str], body: Value) -> Result<(), Error> {
        self.call(Method::PUT, what, path, Some(body)).await.map(drop)
    }

    /// What is not there is as good as deleted.
    async fn delete(&self, what: &str, path: &[&str]) -> Result<(), Error> {
        match self.call(Method::DELETE, what, path, None).await {
            Err(Error::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(()),
            done => done.map(drop),
        }
    }

    async fn call(&self, method: Method, what: &str, path: &[&str], body: Option<Value>) -> Result<String, Error> {
        let at = self.base.as_str().trim_end_matches('/').to_owned();
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // Each part is encoded, whatever it holds.
            segments.pop_if_empty().push("api").extend(path);
        }
        let mut request = self.client.request(method, url).basic_auth(&self.user, Some(&self.password));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let unreachable = |source: reqwest::Error| Error::Unreachable { at: at.clone(), source: source.without_url() };
        let reply = request.send().await.map_err(unreachable)?;
        let status = reply.status();
        let said = reply.text().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok(said);
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(Error::Unauthorized { at, user: self.user.clone(), said: reason_of(&said) });
        }
        let what = format!("{what} {}", path.last().unwrap_or(&""));
        Err(Error::Refused { at, what, status, said: reason_of(&said) })
    }
}

/// What a refusal says, short.
fn reason_of(said: &str) -> String {
    let value: Value = serde_json::from_str(said).unwrap_or_default();
    value["reason"].as_str().unwrap_or(said).chars().take(200).collect()
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || IpAddr::from_str(host).is_ok_and(|address| address.is_loopback())
}

/// A constant name in a pattern.
fn regex(name: &str) -> String {
    name.replace('.', r"\.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_address_is_the_brokers_with_its_own_user() {
        let agent = Name::parse("nas01").unwrap();
        for (url, expected) in [
            ("amqps://chiffon@broker.lan:5671/home", "amqps://home.agent.nas01@broker.lan:5671/home"),
            ("amqp://127.0.0.1:5672/%2f", "amqp://%2F.agent.nas01@127.0.0.1:5672/%2f"),
            ("amqp://c:secret@[::1]/my%20home", "amqp://my%20home.agent.nas01@[::1]/my%20home"),
        ] {
            let url = agent_url(url, &agent).unwrap();
            assert_eq!(url, expected);
            let parsed = AMQPUri::from_str(&url).unwrap();
            assert_eq!(parsed.authority.userinfo.username, agent_user(&parsed.vhost, &agent));
        }
        assert!(agent_url("broker.lan", &agent).is_err());
    }
}
