//! How a broker is reached: its address as a person writes it, its password, and how far its line is trusted.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use chiffon_schemas::AmqpSpec;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};

use crate::{AuthorityError, SecretError, read_authority, read_secret};

/// Seconds between two signs of life; the broker takes a line for dead after two without one.
const HEARTBEAT_SECS: u16 = 10;

/// How long a connection may take to be made, in milliseconds.
const CONNECT_MS: u64 = 10_000;

/// A broker, its virtual host, and who connects.
#[derive(Clone)]
pub struct Server {
    uri: AMQPUri,
    tls: OwnedTLSConfig,
    insecure: bool,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("at", &self.to_string()).finish_non_exhaustive()
    }
}

/// `host:port`, for people.
impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.uri.authority.host, self.uri.authority.port)
    }
}

/// Why an address can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address can't be used: {reason}")]
pub struct BadAddress {
    /// Why.
    pub reason: String,
}

/// Why a broker that a configuration names can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    /// Its address is none.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// Its password can't be had.
    #[error(transparent)]
    Password(#[from] SecretError),
    /// Its authority's certificate can't be had.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// The text of a certificate file that a configuration names, where it names one.
pub(super) fn authority(file: Option<&Path>, folder: &Path) -> Result<Option<String>, AuthorityError> {
    file.map(|file| read_authority(&folder.join(file))).transpose()
}

impl Server {
    /// The broker that a configuration names; its paths are relative to `folder`.
    ///
    /// # Errors
    /// The address is none or leaves this machine in the clear, or a file can't be read.
    pub fn of(spec: &AmqpSpec, folder: &Path) -> Result<Self, BadSettings> {
        let password = read_secret(&folder.join(&spec.password_file))?;
        let ca = authority(spec.ca_file.as_deref(), folder)?;
        Ok(Self::new(&spec.url, &password, ca, spec.insecure_tls)?)
    }

    /// Reads `amqp://user@host:5672/vhost`, or `amqps://…`, without a password in it.
    ///
    /// A broker on another machine is reached by `amqps` alone, unless `insecure` says that a person wants it otherwise
    /// (S14). `ca` is the certificate, in PEM, of the authority that signed the broker's; the system's authorities
    /// count in any case.
    ///
    /// # Errors
    /// It is no address, holds a password, or leaves this machine in the clear.
    pub fn new(url: &str, password: &str, ca: Option<String>, insecure: bool) -> Result<Self, BadAddress> {
        let bad = |reason: &str| BadAddress { reason: reason.to_owned() };
        let rest = url.strip_prefix("amqp://").or_else(|| url.strip_prefix("amqps://"));
        let rest = rest.ok_or_else(|| bad("it does not begin with amqp:// or amqps://"))?;
        let authority = rest.split('/').next().unwrap_or(rest);
        match authority.rsplit_once('@') {
            None => return Err(bad("it names no user: amqp://user@host/vhost")),
            Some((user, _)) if user.contains(':') => {
                return Err(bad("it holds a password: put that into a file that only you can read"));
            }
            Some(_) => {}
        }
        if rest.split_once('/').is_none_or(|(_, vhost)| vhost.split('?').next().is_none_or(str::is_empty)) {
            return Err(bad("it names no virtual host: amqp://user@host/vhost"));
        }
        let mut uri = AMQPUri::from_str(url).map_err(|reason| BadAddress { reason })?;
        uri.authority.userinfo.password = password.to_owned();
        uri.query.heartbeat = Some(HEARTBEAT_SECS);
        uri.query.connection_timeout = Some(CONNECT_MS);
        let server = Self { uri, tls: OwnedTLSConfig { identity: None, cert_chain: ca }, insecure };
        if server.is_remote() && !server.is_encrypted() && !insecure {
            return Err(bad(
                "it leaves this machine in the clear: write amqps://, or set `insecure_tls: true` if you \
                            trust everybody on the way",
            ));
        }
        Ok(server)
    }

    /// Whether the line to the broker leaves this machine.
    pub fn is_remote(&self) -> bool {
        let host = self.uri.authority.host.trim_matches(['[', ']']);
        host != "localhost" && !IpAddr::from_str(host).is_ok_and(|address| address.is_loopback())
    }

    /// Whether nobody on the way can read along.
    pub fn is_encrypted(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }

    /// Whether a person said that the line need not be safe.
    pub fn is_insecure(&self) -> bool {
        self.insecure
    }

    /// The user that connects.
    pub fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// The virtual host.
    pub fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    pub(super) fn uri(&self) -> AMQPUri {
        self.uri.clone()
    }

    pub(super) fn tls(&self) -> OwnedTLSConfig {
        self.tls.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str, insecure: bool) -> Result<Server, BadAddress> {
        Server::new(url, "secret", None, insecure)
    }

    #[test]
    fn s14_a_broker_on_another_machine_needs_tls() {
        for url in ["amqp://c@broker.lan/chiffon", "amqp://c@10.0.0.7:5673/chiffon"] {
            assert!(server(url, false).unwrap_err().reason.contains("in the clear"), "{url}");
            let insecure = server(url, true).unwrap();
            assert!(insecure.is_remote() && !insecure.is_encrypted() && insecure.is_insecure());
        }
        assert!(server("amqps://c@broker.lan/chiffon", false).unwrap().is_encrypted());
        for url in ["amqp://c@127.0.0.1/chiffon", "amqp://c@localhost:5673/chiffon", "amqp://c@[::1]/%2f"] {
            assert!(!server(url, false).unwrap().is_remote(), "{url}");
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_none_of_an_authority() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), "a key, or a shopping list").unwrap();
        let error = authority(Some(Path::new("ca.pem")), folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("ca.pem holds no certificate in PEM"), "{error}");
        assert!(matches!(authority(Some(Path::new("none")), folder.path()), Err(AuthorityError::Unreadable { .. })));
    }

    #[test]
    fn an_address_that_is_none_says_why_and_never_the_password() {
        for (url, why) in [
            ("http://c@broker/v", "does not begin with amqp://"),
            ("amqp://broker/v", "names no user"),
            ("amqp://c:secret@broker/v", "holds a password"),
            ("amqp://c@localhost", "names no virtual host"),
            ("amqp://c@localhost/", "names no virtual host"),
            ("amqp://c@localhost/?heartbeat=1", "names no virtual host"),
        ] {
            let error = server(url, false).unwrap_err();
            assert!(error.reason.contains(why) && !error.to_string().contains("secret"), "{url}: {error}");
        }
        assert!(!format!("{:?}", server("amqps://c@broker/v", false)).contains("secret"));
    }
}
