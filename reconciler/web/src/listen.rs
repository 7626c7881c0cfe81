//! Where to listen, and how: on this machine alone, or with TLS.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use axum_server::tls_rustls::RustlsConfig;
use chiffon_schemas::WebSpec;

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and those that lead to its authority, in PEM.
    pub cert: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    address: SocketAddr,
    tls: Option<Tls>,
}

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum BadListen {
    /// The text is no address.
    #[error("`{0}` is no address to listen on: write one like 127.0.0.1:7440")]
    Address(String),
    /// Whoever is on the way could read along.
    #[error("{0} is reached by other machines: name a certificate in `web.tls`, or listen on 127.0.0.1")]
    Open(SocketAddr),
    /// The system refuses.
    #[error("can't listen on {address}")]
    Taken {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The certificate or its key can't be used.
    #[error("{} or {} can't be used", tls.cert.display(), tls.key.display())]
    Certificate {
        /// Both.
        tls: Tls,
        /// Why.
        source: std::io::Error,
    },
}

impl Listen {
    /// What a configuration says; its paths are relative to `folder`.
    ///
    /// # Errors
    /// The address is none, or is reached by other machines and has no certificate.
    pub fn of(spec: &WebSpec, folder: &Path) -> Result<Self, BadListen> {
        let address: SocketAddr = spec.listen.parse().map_err(|_| BadListen::Address(spec.listen.clone()))?;
        if spec.tls.is_none() && !address.ip().is_loopback() {
            return Err(BadListen::Open(address));
        }
        let tls =
            spec.tls.as_ref().map(|tls| Tls { cert: folder.join(&tls.cert_file), key: folder.join(&tls.key_file) });
        Ok(Self { address, tls })
    }

    /// Whether the certificate and its key can be used, where they are named.
    ///
    /// # Errors
    /// [`BadListen::Certificate`].
    pub async fn check_certificate(&self) -> Result<(), BadListen> {
        self.tls().await.map(drop)
    }

    /// Whether the system would let somebody listen here.
    ///
    /// # Errors
    /// [`BadListen::Taken`].
    pub fn check_address(&self) -> Result<(), BadListen> {
        self.bind().map(drop)
    }

    pub(crate) fn bind(&self) -> Result<TcpListener, BadListen> {
        let socket = TcpListener::bind(self.address).map_err(|source| self.failed(source))?;
        socket.set_nonblocking(true).map_err(|source| self.failed(source))?;
        Ok(socket)
    }

    pub(crate) async fn tls(&self) -> Result<Option<RustlsConfig>, BadListen> {
        let Some(tls) = &self.tls else { return Ok(None) };
        // The process may have chosen another one before; either will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        match RustlsConfig::from_pem_file(&tls.cert, &tls.key).await {
            Ok(config) => Ok(Some(config)),
            Err(source) => Err(BadListen::Certificate { tls: tls.clone(), source }),
        }
    }

    pub(crate) fn failed(&self, source: std::io::Error) -> BadListen {
        BadListen::Taken { address: self.address, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chiffon_schemas::TlsSpec;

    fn listen(address: &str, tls: bool) -> Result<Listen, BadListen> {
        let tls = tls.then(|| TlsSpec { cert_file: "cert.pem".into(), key_file: "key.pem".into() });
        Listen::of(
            &WebSpec { listen: address.to_owned(), url: None, hosts: Vec::new(), tls, tokens: Vec::new() },
            Path::new("/home"),
        )
    }

    #[test]
    fn s14_what_other_machines_reach_needs_tls() {
        for address in ["127.0.0.1:7440", "[::1]:7440", "127.8.9.10:0"] {
            assert!(listen(address, false).is_ok(), "{address}");
        }
        for address in ["0.0.0.0:7440", "[::]:7440", "192.168.1.2:7440"] {
            assert!(matches!(listen(address, false), Err(BadListen::Open(_))), "{address}");
            let listen = listen(address, true).unwrap();
            assert_eq!(listen.tls.unwrap().key, Path::new("/home/key.pem"));
        }
        for address in ["", "localhost", "7440", "chiffon.lan:7440"] {
            assert!(matches!(listen(address, false), Err(BadListen::Address(_))), "{address}");
        }
    }
}
