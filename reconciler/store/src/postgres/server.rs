//! How a PostgreSQL server is reached: its address as a person writes it, its password, and how far its line is trusted.

use std::net::IpAddr;
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::Error;

/// A server, its database, and how it is reached.
#[derive(Clone)]
pub struct Server {
    /// `postgres://user@host:5432/database`, without a password.
    pub url: String,
    /// The password.
    pub password: Option<String>,
    /// The certificate, in PEM, of the authority that the server's is signed by; the system's authorities where absent.
    pub ca: Option<String>,
    /// Takes a server on another machine without TLS, or with a certificate that nobody vouches for.
    pub insecure_tls: bool,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("url", &self.shown()).finish_non_exhaustive()
    }
}

impl Server {
    /// What the driver takes. A server on this machine may go without TLS; any other one has to show a certificate that
    /// names it and that somebody known vouches for (S14).
    ///
    /// # Errors
    /// [`Error::Address`]: the address is none, or holds a password.
    pub(super) fn options(&self) -> Result<PgConnectOptions, Error> {
        let bad = |reason: String| Error::Address { reason };
        let rest = self.url.strip_prefix("postgres://").or_else(|| self.url.strip_prefix("postgresql://"));
        let Some(rest) = rest else { return Err(bad("it does not begin with postgres://".to_owned())) };
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        let asks_for_one = query.split('&').any(|pair| pair.split('=').next() == Some("password"));
        if asks_for_one || rest.split_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(bad("it holds a password: put that into a file that only you can read".to_owned()));
        }
        let mut options = PgConnectOptions::from_str(&self.url).map_err(|error| bad(error.to_string()))?;
        if options.get_database().is_none() {
            return Err(bad("it names no database: postgres://user@host/database".to_owned()));
        }
        if let Some(password) = &self.password {
            options = options.password(password);
        }
        if let Some(pem) = &self.ca {
            options = options.ssl_root_cert_from_pem(pem.clone().into_bytes());
        }
        let mode = match (self.is_local(&options), self.insecure_tls) {
            (false, false) => PgSslMode::VerifyFull,
            _ => options.get_ssl_mode(),
        };
        Ok(options.ssl_mode(mode))
    }

    /// The address for people: a password that should not be in it is not shown.
    pub fn shown(&self) -> String {
        let address = self.url.split('?').next().unwrap_or_default();
        match address.split_once("://").zip(address.rsplit_once('@')) {
            Some(((scheme, rest), (_, host))) => {
                let user = rest.split([':', '@']).next().unwrap_or_default();
                format!("{scheme}://{user}@{host}")
            }
            None => address.to_owned(),
        }
    }

    /// Whether the line to the server leaves this machine.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn is_remote(&self) -> Result<bool, Error> {
        Ok(!self.is_local(&self.options()?))
    }

    fn is_local(&self, options: &PgConnectOptions) -> bool {
        let host = options.get_host().trim_matches(['[', ']']);
        options.get_socket().is_some()
            || host.starts_with('/')
            || host == "localhost"
            || IpAddr::from_str(host).is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        Server { url: url.to_owned(), password: None, ca: None, insecure_tls: false }
    }

    fn mode(server: &Server) -> String {
        format!("{:?}", server.options().unwrap().get_ssl_mode())
    }

    #[test]
    fn s14_a_server_on_another_machine_needs_tls_that_is_verified() {
        for url in ["postgres://c@db.lan/chiffon", "postgres://c@10.0.0.7:5433/c", "postgres://c@db/c?sslmode=disable"]
        {
            assert_eq!(mode(&server(url)), "VerifyFull", "{url}");
            assert!(server(url).is_remote().unwrap());
        }
        let insecure = Server { insecure_tls: true, ..server("postgres://c@db.lan/c?sslmode=disable") };
        assert_eq!(mode(&insecure), "Disable");
        for url in ["postgres://c@127.0.0.1/c", "postgres://c@localhost/c", "postgres://c@[::1]/c"] {
            assert_eq!(mode(&server(url)), "Prefer", "{url}");
            assert!(!server(url).is_remote().unwrap());
        }
    }

    #[test]
    fn an_address_that_is_none_says_why() {
        for (url, why) in [
            ("mysql://c@db/c", "does not begin with postgres://"),
            ("postgres://c:secret@db/c", "holds a password"),
            ("postgres://c@db/c?sslmode=disable&password=secret", "holds a password"),
            ("postgres://c@db", "names no database"),
        ] {
            let error = server(url).options().unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn s13_a_password_in_an_address_is_shown_nowhere() {
        for (url, shown) in [
            ("postgres://c:s@cret@db:5433/c?password=secret", "postgres://c@db:5433/c"),
            ("postgres://c@db/c?sslmode=disable", "postgres://c@db/c"),
            ("postgres://db/c", "postgres://db/c"),
            ("", ""),
        ] {
            assert_eq!(server(url).shown(), shown);
            assert!(!format!("{:?}", server(url)).contains("cret"));
        }
    }
}
