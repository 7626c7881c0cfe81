//! An authority that nobody knows, and certificates that it signed.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An authority made for one test.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, both in PEM.
#[derive(Debug)]
pub struct Certificate {
    /// What is shown.
    pub cert: String,
    /// What is kept.
    pub key: String,
}

impl Certificate {
    /// Both as files of a [`crate::Service`].
    pub fn files(&self) -> [(&str, &str); 2] {
        [("cert.pem", &self.cert), ("key.pem", &self.key)]
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Another one each time.
    ///
    /// # Panics
    /// There is no key to be had.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for whoever is reached by this name or address.
    ///
    /// # Panics
    /// It is neither.
    pub fn sign(&self, name: &str) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Certificate { cert: cert.pem(), key: key.serialize_pem() }
    }
}
