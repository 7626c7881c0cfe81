//! What was put aside, by a receiver that can't use it or by the broker that delivered it too often.

use chiffon_schemas::Name;
use lapin::Acker;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::session::{Live, unknown};
use super::topology::{self, short};
use crate::{Delivery, Direction, Error, Parked, Receipt};

/// How much of a message that was put aside is kept, in bytes.
pub(super) const HEAD: usize = 4 * 1024;

/// The longest reason that is kept, in bytes: a header is part of a frame.
const MAX_REASON: usize = 1024;

const DIRECTION: &str = "chiffon-direction";
const REASON: &str = "chiffon-reason";
const SIZE: &str = "chiffon-size";

pub(super) fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(HEAD)]
}

/// What is written beside the head of a message.
pub(super) fn headers(direction: Direction, reason: &str, size: usize) -> FieldTable {
    let mut headers = FieldTable::default();
    let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
    headers.insert(short(DIRECTION), AMQPValue::LongString(direction.as_str().into()));
    headers.insert(short(REASON), AMQPValue::LongString(reason.into()));
    headers.insert(short(SIZE), AMQPValue::LongLongInt(i64::try_from(size).unwrap_or(i64::MAX)));
    headers
}

/// The next one that waits for a person. `None` where none does, and where the broker does not answer: the session ends
/// then, and the next one sees it.
pub(super) async fn next(live: &Live) -> Option<Delivery<Parked>> {
    let got = live.control.basic_get(short(topology::PARKED_QUEUE), BasicGetOptions::default()).await;
    let delivery = got.ok()??.delivery;
    let agent = Name::parse(delivery.routing_key.as_str()).unwrap_or_else(|_| unknown());
    let headers = delivery.properties.headers().clone().unwrap_or_default();
    let parked = describe(agent, &headers, &delivery.data);
    Some(Delivery::new(parked, 1, Box::new(ParkedReceipt { acker: Some(delivery.acker) })))
}

fn describe(agent: Name, headers: &FieldTable, data: &[u8]) -> Parked {
    let text = |key: &str| match headers.inner().get(key) {
        Some(AMQPValue::LongString(text)) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        Some(AMQPValue::ShortString(text)) => Some(text.as_str().to_owned()),
        _ => None,
    };
    let direction = text(DIRECTION).and_then(|direction| Direction::parse(direction).ok()).unwrap_or_else(|| {
        let queue = text("x-first-death-queue").and_then(|queue| topology::agent_of(&queue));
        if queue.is_some() { Direction::ToAgent } else { Direction::FromAgent }
    });
    let reason = text(REASON).unwrap_or_else(|| match text("x-first-death-reason").as_deref() {
        Some("delivery_limit") => "delivered too often: no receiver could settle it".to_owned(),
        Some(reason) => format!("put aside by the broker: {reason}"),
        None => "put aside without a reason".to_owned(),
    });
    let size = headers.inner().get(SIZE).and_then(whole).unwrap_or(data.len());
    Parked { agent, direction, reason, head: head(data).to_vec(), size }
}

/// A number, of whatever width: libraries in other languages choose the narrowest.
fn whole(value: &AMQPValue) -> Option<usize> {
    match *value {
        AMQPValue::LongLongInt(number) => usize::try_from(number).ok(),
        AMQPValue::LongInt(number) => usize::try_from(number).ok(),
        AMQPValue::LongUInt(number) => usize::try_from(number).ok(),
        AMQPValue::ShortInt(number) => usize::try_from(number).ok(),
        AMQPValue::ShortUInt(number) => Some(usize::from(number)),
        AMQPValue::ShortShortInt(number) => usize::try_from(number).ok(),
        AMQPValue::ShortShortUInt(number) => Some(usize::from(number)),
        _ => None,
    }
}

/// Dropped unsettled, it is there again.
struct ParkedReceipt {
    acker: Option<Acker>,
}

#[async_trait::async_trait]
impl Receipt for ParkedReceipt {
    async fn ack(mut self: Box<Self>) -> Result<(), Error> {
        let Some(acker) = self.acker.take() else { return Ok(()) };
        match tokio::time::timeout(super::WRITTEN_WITHIN, acker.ack(BasicAckOptions::default())).await {
            Ok(Ok(true)) => Ok(()),
            _ => Err(Error::Unheard),
        }
    }

    async fn park(self: Box<Self>, _reason: String) -> Result<(), Error> {
        // It is put aside already.
        Ok(())
    }
}

impl Drop for ParkedReceipt {
    fn drop(&mut self) {
        let Some(acker) = self.acker.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                drop(acker.nack(options).await);
            });
        }
    }
}
