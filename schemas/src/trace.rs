//! Which trace something belongs to, and the spans of it.
//!
//! A run is a trace: its id is the run's own 128 bits, and the ids of its spans are derived from what they are about. So
//! they need no place in any record, are the same after a crash, and anybody who knows the run finds its trace.

use std::fmt;
use std::sync::Arc;

use crate::{AttemptKey, InvalidId, RunId, digest};

/// A trace and a span of it, as the header `traceparent` of W3C's Trace Context has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: u128,
    span: u64,
}

impl TraceParent {
    /// How the header and the field of a message are called.
    pub const HEADER: &'static str = "traceparent";

    /// A run as a whole.
    pub fn of_run(run: &RunId) -> Self {
        Self { trace: bits(run), span: span_id(run.as_str()) }
    }

    /// One attempt, as its agent knows it.
    pub fn of_attempt(key: &AttemptKey) -> Self {
        Self::of_run(&key.run).child(&key.to_string())
    }

    /// Something inside the same trace.
    #[must_use]
    pub fn child(self, name: &str) -> Self {
        Self { span: span_id(&format!("{self} {name}")), ..self }
    }

    /// Reads what its `Display` wrote, or somebody else in the same words.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let parsed = || {
            let mut parts = text.split('-');
            let (version, trace, span, _flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
            let hex = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
            if !hex(version, 2) || version == "ff" || !hex(trace, 32) || !hex(span, 16) {
                return None;
            }
            let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
            (trace != 0 && span != 0).then_some(Self { trace, span })
        };
        let rule = "`00-` 32 hexadecimal digits, `-`, 16 of them, `-01`";
        parsed().ok_or_else(|| InvalidId { text: text.to_owned(), what: "a traceparent", rule })
    }

    /// The trace's id.
    pub fn trace(self) -> u128 {
        self.trace
    }

    /// The span's id.
    pub fn span(self) -> u64 {
        self.span
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

/// The milliseconds since the epoch at which a run was made.
pub fn began_ms(run: &RunId) -> u64 {
    u64::try_from(bits(run) >> 80).unwrap_or(0)
}

/// A ULID's bits: 26 digits to the base of 32.
fn bits(run: &RunId) -> u128 {
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |byte: u8| ALPHABET.iter().position(|known| *known == byte).unwrap_or(0);
    run.as_str().bytes().fold(0, |value, byte| value << 5 | digit(byte) as u128)
}

/// The first bytes of a digest; never 0, which means no span.
fn span_id(name: &str) -> u64 {
    let digest = digest(name.as_bytes());
    u64::from_str_radix(&digest[..16], 16).unwrap_or(0).max(1)
}

/// Something that took time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What it is: `run`, `check`, `attempt`, or an action of the reconciler's.
    pub name: &'static str,
    /// Its place.
    pub at: TraceParent,
    /// What it is a part of; absent for a run as a whole.
    pub parent: Option<TraceParent>,
    /// When it began, in milliseconds since the epoch.
    pub began_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
    /// What else is known of it.
    pub facts: Vec<(&'static str, String)>,
    /// Why it failed, where it did.
    pub failure: Option<String>,
}

/// Where spans go: to nobody, unless traces are configured.
#[derive(Clone)]
pub struct Recorder {
    now: fn() -> u64,
    take: Option<Arc<dyn Fn(Span) + Send + Sync>>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("records", &self.take.is_some()).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Has every span taken, with times by this clock, in milliseconds since the epoch.
    pub fn new(now: fn() -> u64, take: impl Fn(Span) + Send + Sync + 'static) -> Self {
        Self { now, take: Some(Arc::new(take)) }
    }

    /// Has none taken.
    pub fn nobody() -> Self {
        Self { now: || 0, take: None }
    }

    /// The time; 0 where nobody records.
    pub fn now(&self) -> u64 {
        if self.take.is_some() { (self.now)() } else { 0 }
    }

    /// Takes a span.
    pub fn take(&self, span: impl FnOnce() -> Span) {
        if let Some(take) = &self.take {
            take(span());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ulid;

    #[test]
    fn a_run_is_its_trace_and_the_same_names_are_the_same_spans() {
        let run = RunId::parse(ulid(1_700_000_000_000, 7)).unwrap();
        let at = TraceParent::of_run(&run);
        assert_eq!((at.trace(), began_ms(&run)), ((1_700_000_000_000_u128 << 80) | 7, 1_700_000_000_000));
        assert_eq!(at.child("grant"), TraceParent::of_run(&run).child("grant"));
        assert!(at.child("grant") != at.child("order") && at.child("grant").trace() == at.trace());
        assert_eq!(TraceParent::parse(&at.to_string()).unwrap(), at);
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(TraceParent::parse(good).unwrap().to_string(), good);
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for bad in ["", "00", zero, &good[1..], &good.replace('0', "+"), &good[..52], &good.replacen("00", "ff", 1)] {
            assert!(TraceParent::parse(bad).is_err(), "{bad}");
        }
    }
}
