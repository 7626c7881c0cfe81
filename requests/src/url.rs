//! Addresses of repositories: https, ssh, and paths where the operator allows them. Nothing else is one (S7).
//!
//! A user and password in an https address are taken out of it and handed to git on their own way, so that neither a
//! list of processes nor an error shows them.

use std::path::Path;

use crate::Error;

/// The longest address.
const MAX_LEN: usize = 2_000;

/// Whether a path on this machine may be an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilePolicy {
    /// It may: the operator named it.
    Allow,
    /// It may not.
    Refuse,
}

/// An address that is safe to give to the git program.
#[derive(Clone, PartialEq, Eq)]
pub struct GitUrl {
    /// Without user and password where it is https.
    text: String,
    transport: Transport,
    user: Option<String>,
    password: Option<String>,
}

/// How an address is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// In the clear: on this machine, or where the operator said so (S14).
    Http,
    Https,
    Ssh,
    File,
}

impl GitUrl {
    /// Parses `https://[user[:password]@]host/path`, `ssh://[user@]host[:port]/path`, `[user@]host:path`,
    /// `file:///path` or an absolute path.
    ///
    /// # Errors
    /// Anything else, and whatever could be read as an option or run a program.
    pub fn parse(text: &str, files: FilePolicy) -> Result<Self, Error> {
        parse(text, files).map_err(|reason| Error::Url { shown: without_password(text), reason })
    }

    /// Parses the address of a forge's repository: as [`GitUrl::parse`], and `http://` as well where it stays on this
    /// machine, or `insecure` says that somebody on the way is trusted (S14).
    ///
    /// # Errors
    /// As [`GitUrl::parse`].
    pub fn of_forge(text: &str, insecure: bool) -> Result<Self, Error> {
        let Some(rest) = text.strip_prefix("http://") else { return Self::parse(text, FilePolicy::Allow) };
        let fail = |reason| Error::Url { shown: without_password(text), reason };
        if text.len() > MAX_LEN || text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(fail("it is too long, or has characters that no address has"));
        }
        let mut url = web(rest, "http", Transport::Http).map_err(fail)?;
        let host = url.text["http://".len()..].split(['/', ':']).next().unwrap_or_default();
        let local =
            host == "localhost" || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
        if !local && !insecure {
            return Err(fail("it leaves this machine in the clear: write https://"));
        }
        url.transport = Transport::Http;
        Ok(url)
    }

    /// The same address, reached as somebody; of no meaning for ssh and for paths.
    #[must_use]
    pub fn with_login(mut self, user: &str, password: &str) -> Self {
        // A line break would be a further line of the credential protocol.
        let clean = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
        if matches!(self.transport, Transport::Http | Transport::Https) {
            (self.user, self.password) = (Some(clean(user)), Some(clean(password)));
        }
        self
    }

    /// The address as git takes it.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Whether it is a path on this machine.
    pub fn is_local(&self) -> bool {
        self.transport == Transport::File
    }
}

fn parse(text: &str, files: FilePolicy) -> Result<GitUrl, &'static str> {
    if text.is_empty() || text.len() > MAX_LEN || text.chars().any(|c| c.is_control()) {
        return Err("it is empty, too long, or has control characters");
    }
    if text.starts_with('-') {
        return Err("it begins with `-`");
    }
    let plain = |text: &str, transport| GitUrl { text: text.to_owned(), transport, user: None, password: None };
    if text.starts_with('/') || text.starts_with("file:") {
        let path = text.strip_prefix("file://").unwrap_or(text);
        if files == FilePolicy::Refuse {
            return Err("paths are not taken here");
        }
        return if Path::new(path).is_absolute() {
            Ok(plain(path, Transport::File))
        } else {
            Err("its path is not absolute")
        };
    }
    if text.contains(|c: char| c.is_whitespace() || c == '\\') || text.contains("::") {
        return Err("write https://host/path, user@host:path, or an absolute path");
    }
    if let Some(rest) = text.strip_prefix("https://") {
        return web(rest, "https", Transport::Https);
    }
    if let Some(rest) = text.strip_prefix("ssh://") {
        let (authority, path) = rest.split_once('/').ok_or("its path is missing")?;
        return if is_ssh_authority(authority) && !path.is_empty() {
            Ok(plain(text, Transport::Ssh))
        } else {
            Err("its host is no host")
        };
    }
    if text.contains("://") {
        return Err("only https and ssh are taken");
    }
    match text.split_once(':') {
        Some((_, path)) if path.contains('@') => Err("ssh takes no password in an address"),
        Some((authority, path)) if is_ssh_authority(authority) && !path.is_empty() && !path.starts_with('-') => {
            Ok(plain(text, Transport::Ssh))
        }
        _ => Err("write https://host/path, user@host:path, or an absolute path"),
    }
}

fn web(rest: &str, scheme: &str, transport: Transport) -> Result<GitUrl, &'static str> {
    let (authority, path) = rest.split_once('/').ok_or("its path is missing")?;
    let (login, host) = authority.rsplit_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
    if !is_host(host) || path.is_empty() {
        return Err("its host is no host");
    }
    let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        None => (None, None),
        Some((user, password)) => (Some(decoded(user)?), Some(decoded(password)?).filter(|it| !it.is_empty())),
    };
    Ok(GitUrl { text: format!("{scheme}://{host}/{path}"), transport, user, password })
}

impl std::fmt::Display for GitUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let login = if self.user.is_some() { "***@" } else { "" };
        match self.text.split_once("://") {
            Some((scheme, rest)) => write!(f, "{scheme}://{login}{rest}"),
            None => f.write_str(&self.text),
        }
    }
}

impl std::fmt::Debug for GitUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GitUrl({self})")
    }
}

/// `[user@]host[:port]`; ssh takes no password in an address.
fn is_ssh_authority(text: &str) -> bool {
    let (user, host) = text.split_once('@').map_or((None, text), |(user, host)| (Some(user), host));
    let is_user = |user: &str| {
        !user.is_empty()
            && !user.starts_with('-')
            && user.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+'))
    };
    is_host(host) && user.is_none_or(is_user)
}

/// `host[:port]`.
fn is_host(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !host.is_empty()
        && !host.starts_with(['-', '.'])
        && host.chars().all(letters)
        && port.is_none_or(|port| (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()))
}

/// `%2B` as `+`: what git would do with a user and password.
fn decoded(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "its user or password is not written as addresses have it";
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let byte = if *first == b'%' {
            let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or(WRONG)?;
            rest = &tail[2..];
            u8::from_str_radix(digits, 16).map_err(|_| WRONG)?
        } else {
            *first
        };
        bytes.push(byte);
    }
    let text = String::from_utf8(bytes).map_err(|_| WRONG)?;
    // A line break would be a further line of the credential protocol.
    if text.chars().any(char::is_control) { Err(WRONG) } else { Ok(text) }
}

/// A text that is no address, for an error: without control characters and without whatever stands before an `@`.
fn without_password(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    let (scheme, rest) = clean.split_once("://").unwrap_or(("", &clean));
    let shown = rest.rsplit_once('@').map_or_else(|| rest.to_owned(), |(_, host)| format!("***@{host}"));
    if scheme.is_empty() { shown } else { format!("{scheme}://{shown}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_addresses_that_run_programs_or_are_options_are_none() {
        for text in [
            "ext::sh -c id",
            "--upload-pack=id",
            "-oProxyCommand=id",
            "ssh://-oProxyCommand=id/x",
            "-x:y",
            "git://h/x",
            "http://h/x",
            "fd::7",
            "https://",
            "ssh://h",
            "user@-h:x",
            "h:-x",
            "file2://x",
            "\u{1b}[2J",
            "",
            "h::x",
            "user@h",
            "ssh://h/",
            "https://h",
            "https:///x",
            "https://-h/x",
            "https://h:x/y",
            "ssh://a@b@h/x",
            "file://x",
            "file://-x",
            "file:-x",
            "file:x",
            "ssh://-a@h/x",
            "ssh://u:p@h/x",
            "ssh://h:22:22/x",
            "h x:y",
            "./x",
            "../x",
            "x",
            "ssh://h%2d/x",
            "https://a%0ab@h/x",
            "https://a%zz@h/x",
            "https://a%2@h/x",
            "EXT::x",
            "HTTPS::x",
            "a/b:c",
            "ftp://h/x",
            "file\n:///x",
            "ssh:///x",
            "\\\\h\\x",
            "~/x",
            "ssh+git://h/x",
            "https://h\\@evil/x",
        ] {
            assert!(GitUrl::parse(text, FilePolicy::Allow).is_err(), "{text:?}");
        }
        for text in ["/srv/infra", "file:///srv/infra"] {
            assert!(GitUrl::parse(text, FilePolicy::Refuse).is_err());
        }
        for text in [
            "https://forge.example/a/b.git",
            "git@forge.example:a/b.git",
            "ssh://git@forge.example:2222/a/b",
            "/srv/infra",
            "file:///srv/in fra",
            "forge:a",
            "https://u:p%40ss@forge.example:8443/a",
            "/srv/a:b",
        ] {
            assert!(GitUrl::parse(text, FilePolicy::Allow).is_ok(), "{text}");
        }
    }

    #[test]
    fn s14_a_forge_in_the_clear_is_one_on_this_machine() {
        for text in ["http://127.0.0.1:3000/a/b.git", "http://localhost/a/b.git", "http://127.1.2.3/a"] {
            assert!(GitUrl::of_forge(text, false).is_ok(), "{text}");
        }
        for text in
            ["http://forge.lan/a/b.git", "http://10.0.0.2:3000/a", "http://127.0.0.1.evil/a", "http://localhost.evil/a"]
        {
            assert!(GitUrl::of_forge(text, false).is_err(), "{text}");
            assert!(GitUrl::of_forge(text, true).is_ok(), "{text}");
        }
        for text in ["http://-h/x", "http://127.0.0.1", "http:///x", "http://127.0.0.1/a b", "ext::sh -c id"] {
            assert!(GitUrl::of_forge(text, true).is_err(), "{text}");
        }
    }

    #[test]
    fn s13_a_login_is_no_part_of_the_address() {
        let url = GitUrl::of_forge("http://127.0.0.1:3000/a/b.git", false).unwrap().with_login("bot", "t0k\nen");
        assert_eq!((url.user(), url.password()), (Some("bot"), Some("t0ken")));
        assert!(!format!("{url} {url:?} {}", url.as_str()).contains("t0k"));
        let path = GitUrl::of_forge("/srv/requests.git", false).unwrap().with_login("bot", "t0ken");
        assert_eq!((path.user(), path.password()), (None, None));
    }

    #[test]
    fn s13_passwords_are_shown_nowhere() {
        let url = GitUrl::parse("https://me:s3cr%2Bet@forge.example/a", FilePolicy::Refuse).unwrap();
        assert_eq!(format!("{url} {url:?}"), "https://***@forge.example/a GitUrl(https://***@forge.example/a)");
        assert_eq!(url.as_str(), "https://forge.example/a");
        assert_eq!((url.user(), url.password()), (Some("me"), Some("s3cr+et")));
        let url = GitUrl::parse("https://tok3n@forge.example/a", FilePolicy::Refuse).unwrap();
        assert!(!url.to_string().contains("tok3n") && !url.as_str().contains("tok3n"));
        for text in ["http://me:s3cret@h/x", "ext://me:s3cret@h@i", "me:s3cret@h:x"] {
            let error = GitUrl::parse(text, FilePolicy::Refuse).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
