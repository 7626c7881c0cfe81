//! Sends spans to a collector of OpenTelemetry (OTLP over HTTP), where a configuration names one.
//!
//! Traces are for people who look for time; nothing is decided by them. So a collector that is slow or away costs spans
//! and nothing else: they wait in memory up to a number, and what is beyond it is dropped and counted.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use chiffon_schemas::{Recorder, Span, TracesSpec};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use reqwest::{Certificate, Client, Url};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Spans that wait for the collector; a run makes about ten.
const WAITING: usize = 4096;

/// Spans that are sent at a time, and how long one waits for others.
const BATCH: usize = 256;
const BATCH_EVERY: Duration = Duration::from_secs(1);

/// How long a collector may take for a batch.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// How long the last batches may take at the end.
const END_WITHIN: Duration = Duration::from_secs(3);

/// Why a collector can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its address is none, or leaves this machine in the clear.
    #[error("the address of the collector can't be used: {0}")]
    Address(String),
    /// The authority's certificate can't be read.
    #[error("{path} can't be used as an authority's certificate: {reason}")]
    Authority {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The library refuses.
    #[error("spans can't be sent: {0}")]
    Exporter(String),
}

/// What sends spans until it is stopped.
#[derive(Debug)]
pub struct Traces {
    recorder: Recorder,
    task: JoinHandle<()>,
}

impl Traces {
    /// Begins to send to the collector that a configuration names, as a service of this name. `now` is the wall clock in
    /// milliseconds; paths are relative to `folder`.
    ///
    /// # Errors
    /// See [`Error`]. A collector that is away is none.
    pub fn start(spec: &TracesSpec, folder: &Path, service: &str, now: fn() -> u64) -> Result<Self, Error> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(send(exporter(spec, folder, service)?, receiver, Arc::clone(&dropped)));
        let recorder = Recorder::new(now, move |span| {
            if sender.try_send(span).is_err() {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Self { recorder, task })
    }

    /// Where spans go.
    pub fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    /// Sends what waits, for a short while, and ends. Every other recorder must be gone by then.
    pub async fn stop(self) {
        let Self { recorder, task } = self;
        drop(recorder);
        let _ = tokio::time::timeout(END_WITHIN, task).await;
    }
}

/// Whether a collector can be used as it is configured.
///
/// # Errors
/// See [`Error`].
pub fn check(spec: &TracesSpec, folder: &Path) -> Result<(), Error> {
    exporter(spec, folder, "check").map(drop)
}

/// Whether the line to a collector leaves this machine in the clear, as a person said it may (S14).
pub fn is_open(spec: &TracesSpec) -> bool {
    Url::parse(&spec.otlp_url).is_ok_and(|url| url.scheme() == "http" && !is_local(&url))
}

fn exporter(spec: &TracesSpec, folder: &Path, service: &str) -> Result<SpanExporter, Error> {
    let url = Url::parse(&spec.otlp_url).map_err(|error| Error::Address(error.to_string()))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(Error::Address("it does not begin with http:// or https://".to_owned()));
    }
    if is_open(spec) && !spec.insecure_tls {
        let why = "it leaves this machine in the clear: write https://, or set `insecure_tls: true` if you trust \
                   everybody on the way";
        return Err(Error::Address(why.to_owned()));
    }
    // The process may have chosen another one before; either will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = Client::builder().no_proxy().timeout(SEND_WITHIN).redirect(reqwest::redirect::Policy::none());
    if let Some(file) = &spec.ca_file {
        let path = folder.join(file);
        let failed = |reason: String| Error::Authority { path: path.display().to_string(), reason };
        let pem = std::fs::read(&path).map_err(|error| failed(error.to_string()))?;
        client = client.add_root_certificate(Certificate::from_pem(&pem).map_err(|error| failed(error.to_string()))?);
    }
    let client = client.build().map_err(|error| Error::Exporter(error.to_string()))?;
    let endpoint = format!("{}/v1/traces", url.as_str().trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_http_client(client).with_protocol(Protocol::HttpJson);
    let mut exporter = exporter.with_endpoint(endpoint).build().map_err(|error| Error::Exporter(error.to_string()))?;
    exporter.set_resource(&Resource::builder_empty().with_service_name(service.to_owned()).build());
    Ok(exporter)
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || IpAddr::from_str(host).is_ok_and(|address| address.is_loopback())
}

/// Sends batches until nobody records any more. What could not be sent is dropped and said once until it works again.
async fn send(exporter: SpanExporter, mut spans: mpsc::Receiver<Span>, dropped: Arc<AtomicU64>) {
    let mut failed = false;
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(first) = spans.recv().await {
        batch.push(data(first));
        let more = async {
            while batch.len() < BATCH
                && let Some(span) = spans.recv().await
            {
                batch.push(data(span));
            }
        };
        let _ = tokio::time::timeout(BATCH_EVERY, more).await;
        match exporter.export(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).await {
            Ok(()) => failed = false,
            Err(error) if !failed => {
                failed = true;
                let dropped = dropped.load(Ordering::Relaxed);
                tracing::warn!(%error, dropped, "the collector took no spans; they are dropped until it does");
            }
            Err(_) => {}
        }
    }
}

/// A span in the library's words.
fn data(span: Span) -> SpanData {
    let time = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    let trace = TraceId::from_bytes(span.at.trace().to_be_bytes());
    let id = SpanId::from_bytes(span.at.span().to_be_bytes());
    SpanData {
        span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
        parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.span().to_be_bytes())),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: span.name.into(),
        start_time: time(span.began_ms),
        end_time: time(span.ended_ms),
        attributes: span.facts.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.failure.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder("chiffon").build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(url: &str, insecure_tls: bool) -> TracesSpec {
        TracesSpec { otlp_url: url.to_owned(), ca_file: None, insecure_tls }
    }

    #[test]
    fn s14_a_collector_on_another_machine_needs_tls() {
        let check = |url, insecure| check(&spec(url, insecure), Path::new("/"));
        for url in ["http://127.0.0.1:4318", "http://[::1]:4318/", "http://localhost:4318", "https://traces.lan"] {
            check(url, false).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
        for url in ["http://traces.lan:4318", "http://10.0.0.7:4318"] {
            assert!(check(url, false).unwrap_err().to_string().contains("in the clear"), "{url}");
            check(url, true).unwrap();
            assert!(is_open(&spec(url, true)));
        }
        for url in ["", "traces.lan", "grpc://traces.lan"] {
            assert!(matches!(check(url, true), Err(Error::Address(_))), "{url}");
        }
    }
}
