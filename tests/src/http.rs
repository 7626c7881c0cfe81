//! Questions over HTTP, in the words of the protocol: also those that no client would ask.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::Bed;

/// The longest that an answer may take.
const WITHIN: Duration = Duration::from_secs(90);

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its head, in lower case.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Asks; `headers` are whole lines, and `Host` is among them where it is not to be the address.
///
/// # Panics
/// Nobody answers.
#[track_caller]
pub fn ask(address: &str, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    let own = headers.iter().any(|line| line.to_ascii_lowercase().starts_with("host:"));
    let host = if own { String::new() } else { format!("Host: {address}\r\n") };
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let head =
        format!("{method} {path} HTTP/1.1\r\n{host}{lines}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    // Who says no before the end does not read it.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    let head = head.to_ascii_lowercase();
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    Reply { status, head, body }
}

/// A body that came in pieces (RFC 9112, 7.1).
fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

/// A connection that many questions go over, one after the other.
#[derive(Debug)]
pub struct Stream {
    stream: std::io::BufReader<TcpStream>,
    address: String,
}

impl Stream {
    /// Opens it.
    ///
    /// # Panics
    /// Nobody listens.
    #[track_caller]
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        Self { stream: std::io::BufReader::new(stream), address: address.to_owned() }
    }

    /// Asks, and reads the answer to its end; its status.
    ///
    /// # Panics
    /// The answer is none.
    #[track_caller]
    pub fn ask(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> u16 {
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{lines}Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat()).unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest.split(' ').next().unwrap().parse().unwrap();
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
        }
        self.stream.read_exact(&mut vec![0; length]).unwrap();
        status
    }
}

impl Bed {
    /// Has `chiffon up` answer over HTTP, with these lines more under `web`; before it is started.
    pub fn answer_over_http(&self, lines: &str) {
        self.configure(&format!("  web:\n    listen: 127.0.0.1:0\n{lines}"));
    }

    /// Where it answers.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn web_address(&self) -> String {
        let file = self.home().join("state").join("web-address");
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).trim().to_owned()
    }

    /// A new token of a person, and the lines under `web` that make it known.
    #[track_caller]
    pub fn token(&self, name: &str) -> (String, String) {
        let made = self.chiffon(&["--json", "token", name, "--email", &format!("{name}@lab.example")]).ends(0).json();
        let entry = &made["entry"];
        let text = |key: &str| entry[key].as_str().unwrap().to_owned();
        let lines = format!(
            "    tokens:\n    - {{name: {}, email: {}, sha256: '{}', scopes: [chat]}}\n",
            text("name"),
            text("email"),
            text("sha256")
        );
        (made["token"].as_str().unwrap().to_owned(), lines)
    }

    /// Says something in chat.
    #[track_caller]
    pub fn chat(&self, token: &str, question: &Value) -> Reply {
        let bearer = format!("Authorization: Bearer {token}");
        let headers = [bearer.as_str(), "Content-Type: application/json"];
        ask(&self.web_address(), "POST", "/api/v1/chat", &headers, question.to_string().as_bytes())
    }
}
