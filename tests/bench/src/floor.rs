//! What the broker and the database can do by themselves, asked with nothing of ours around them.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt as _;
use futures_util::stream;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tokio::time::Instant;

use crate::places::Broker;

/// Bytes of a message and of a row.
pub const BYTES: usize = 1024;

/// Persistent, in the words of AMQP.
const PERSISTENT: u8 = 2;

/// A durable queue of a type, empty.
///
/// # Errors
/// The broker failed.
pub async fn queue(channel: &Channel, name: &str, kind: &str) -> Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, arguments).await?;
    channel.queue_purge(name.into(), QueuePurgeOptions::default()).await?;
    Ok(())
}

/// Publishes one persistent message and waits for its confirm.
///
/// # Errors
/// The broker failed or did not take it.
pub async fn publish(channel: &Channel, exchange: &str, key: &str, bytes: &[u8]) -> Result<()> {
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirm = channel.basic_publish(exchange.into(), key.into(), options, bytes, properties).await?.await?;
    anyhow::ensure!(matches!(confirm, lapin::Confirmation::Ack(None)), "the broker did not take a message");
    Ok(())
}

/// A channel with confirms.
///
/// # Errors
/// The broker failed.
pub async fn channel(connection: &Connection) -> Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Asks and answers over two quorum queues, everything persistent and confirmed.
pub struct Echo {
    _connections: [Connection; 2],
    asking: Channel,
    answers: Consumer,
    answering: tokio::task::JoinHandle<Result<()>>,
}

impl Echo {
    /// Makes the queues, and somebody who answers.
    ///
    /// # Errors
    /// The broker failed.
    pub async fn start(broker: &Broker) -> Result<Self> {
        let connections = [broker.connect().await?, broker.connect().await?];
        let (asking, other) = (channel(&connections[0]).await?, channel(&connections[1]).await?);
        queue(&asking, "floor.ask", "quorum").await?;
        queue(&asking, "floor.answer", "quorum").await?;
        let asked = consume(&other, "floor.ask").await?;
        let answers = consume(&asking, "floor.answer").await?;
        let answering = tokio::spawn(answer(other, asked));
        Ok(Self { _connections: connections, asking, answers, answering })
    }

    /// One question and its answer; how long it took.
    ///
    /// # Errors
    /// The broker failed.
    pub async fn once(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        publish(&self.asking, "", "floor.ask", &[b'x'; BYTES]).await?;
        let delivery = self.answers.next().await.context("the broker ended the delivery")??;
        let took = begun.elapsed();
        delivery.acker.ack(BasicAckOptions::default()).await?;
        Ok(took)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

async fn consume(channel: &Channel, queue: &str) -> Result<Consumer> {
    Ok(channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?)
}

async fn answer(channel: Channel, mut asked: Consumer) -> Result<()> {
    while let Some(delivery) = asked.next().await {
        let delivery = delivery?;
        publish(&channel, "", "floor.answer", &delivery.data).await?;
        delivery.acker.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

/// A table for rows of the floor.
///
/// # Errors
/// The database failed.
pub async fn table(db: &mut PgConnection) -> Result<()> {
    db.execute("CREATE TABLE IF NOT EXISTS floor (text text NOT NULL)").await?;
    Ok(())
}

/// One row in a commit of its own; how long it took.
///
/// # Errors
/// The database failed.
pub async fn commit(db: &mut PgConnection) -> Result<Duration> {
    let begun = Instant::now();
    sqlx::query("INSERT INTO floor (text) VALUES ($1)").bind("x".repeat(BYTES)).execute(&mut *db).await?;
    Ok(begun.elapsed())
}

/// So many lines by `COPY`, so many a commit; how long it took.
///
/// # Errors
/// The database failed.
pub async fn copy(db: &mut PgConnection, lines: usize, each: usize) -> Result<Duration> {
    db.execute(AssertSqlSafe("TRUNCATE floor".to_owned())).await?;
    let text: String = (0..each).map(crate::agent::line).collect();
    let begun = Instant::now();
    for _ in 0..lines / each {
        let mut copy = db.copy_in_raw("COPY floor FROM STDIN").await?;
        copy.send(text.as_bytes()).await?;
        copy.finish().await?;
    }
    Ok(begun.elapsed())
}

/// So many messages, so many in flight; how long it took until the last was confirmed.
///
/// # Errors
/// The broker failed.
pub async fn flood(
    channel: &Channel,
    (exchange, key): (&str, &str),
    messages: usize,
    flight: usize,
) -> Result<Duration> {
    let bytes = [b'x'; BYTES];
    let begun = Instant::now();
    let mut sending =
        stream::iter(0..messages).map(|_| publish(channel, exchange, key, &bytes)).buffer_unordered(flight);
    while let Some(sent) = sending.next().await {
        sent?;
    }
    Ok(begun.elapsed())
}
