//! A collector of OpenTelemetry's spans, as far as a test needs one: it takes what is posted to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// A span as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The service that sent it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// The ids of its trace, of itself and of its parent, which is empty where it has none.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// Its parent's.
    pub parent: String,
}

/// Listens until the test ends.
#[derive(Debug)]
pub struct Collector {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Collector {
    /// Begins to listen.
    ///
    /// # Panics
    /// There is no free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::default());
        let into = Arc::clone(&seen);
        std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(|line| take(line, &into)));
        Self { address, seen }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What came so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// One line may carry several posts.
fn take(stream: TcpStream, into: &Arc<Mutex<Vec<Seen>>>) {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        while let Some(body) = post(&mut reader) {
            into.lock().unwrap().extend(spans(&body));
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
            if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
}

fn post(reader: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

fn spans(body: &Value) -> Vec<Seen> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut seen = Vec::new();
    for resource in list(&body["resourceSpans"]) {
        let attributes = list(&resource["resource"]["attributes"]);
        let service = attributes.iter().find(|one| one["key"] == "service.name");
        let service = service.map(|one| text(&one["value"]["stringValue"])).unwrap_or_default();
        for span in list(&resource["scopeSpans"]).iter().flat_map(|scope| list(&scope["spans"])) {
            let (name, trace, id) = (text(&span["name"]), text(&span["traceId"]), text(&span["spanId"]));
            seen.push(Seen { service: service.clone(), name, trace, id, parent: text(&span["parentSpanId"]) });
        }
    }
    seen
}
