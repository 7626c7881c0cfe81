//! The certificate of an authority that a file vouches for.

use std::path::{Path, PathBuf};

/// How each certificate in PEM begins.
const PEM: &str = "-----BEGIN CERTIFICATE-----";

/// Why a file vouches for nobody.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It can't be read.
    #[error("{} can't be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{} holds no certificate in PEM", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the certificate of an authority, in PEM.
///
/// # Errors
/// See [`AuthorityError`].
pub fn read_authority(path: &Path) -> Result<String, AuthorityError> {
    let path = path.to_owned();
    match std::fs::read_to_string(&path) {
        // What holds none would be taken, and then nobody be believed.
        Ok(text) if !text.contains(PEM) => Err(AuthorityError::NoCertificate { path }),
        Ok(text) => Ok(text),
        Err(source) => Err(AuthorityError::Unreadable { path, source }),
    }
}
