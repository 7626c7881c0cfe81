//! One connection to the broker, supervised: made, used, and made again when it breaks, ever more patiently.
//!
//! Nothing relies on the library to recover by itself. A session is a number; what belongs to an older one is void.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chiffon_schemas::{Name, TraceParent};
use futures_util::stream::{self, BoxStream, StreamExt};
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio::time::Instant;

use super::inbox::{Inbox, Item};
use super::topology::{self, Bounds, short};
use super::{Server, trouble};

/// The pauses between two tries to connect: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long the beginning of a session may take, declarations included.
const BEGIN_WITHIN: Duration = Duration::from_secs(15);

/// How long a queue may take to begin to hand out what it holds: less than the beginning, to know which one it was.
const QUEUE_WITHIN: Duration = Duration::from_secs(10);

/// How long the broker is given to take leave.
const FAREWELL: Duration = Duration::from_secs(1);

/// A session that held this long was a good one: after it the pauses begin anew.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// How often the reconciler's end sends something that nobody gets.
const PROBE_EVERY: Duration = Duration::from_secs(4);

/// How many messages are here unsettled at once.
const PREFETCH: u16 = 64;

/// Which end of the bus this is.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// The reconciler's: it declares what lies on the broker.
    Hub,
    /// An agent's: it finds its queue there.
    Agent(Name),
}

/// What a session offers while it lasts.
#[derive(Debug)]
pub(super) struct Live {
    /// For messages, with confirms.
    pub publish: Channel,
    /// For everything else; an error on it ends the session.
    pub control: Channel,
}

/// What both ends share with the task that keeps the session.
#[derive(Debug)]
pub(super) struct Shared {
    pub server: Server,
    pub end: End,
    pub bounds: Bounds,
    pub inbox: Inbox,
    pub live: watch::Sender<Option<Arc<Live>>>,
    /// Why nothing goes over the bus just now.
    pub trouble: watch::Sender<Option<String>>,
    pub closed: watch::Sender<bool>,
    /// The agents whose queues this end declares.
    pub agents: Mutex<BTreeSet<Name>>,
}

impl Shared {
    pub fn new(server: Server, end: End, bounds: Bounds, agents: BTreeSet<Name>) -> Arc<Self> {
        let trouble = format!("connecting to the broker at {server}");
        Arc::new(Self {
            server,
            end,
            bounds,
            inbox: Inbox::default(),
            live: watch::Sender::new(None),
            trouble: watch::Sender::new(Some(trouble)),
            closed: watch::Sender::new(false),
            agents: Mutex::new(agents),
        })
    }

    pub fn agents(&self) -> MutexGuard<'_, BTreeSet<Name>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session, where there is one that takes messages now.
    pub fn free(&self) -> Option<Arc<Live>> {
        if *self.closed.borrow() || self.trouble.borrow().is_some() {
            return None;
        }
        self.live.borrow().clone()
    }

    pub fn close(&self) {
        self.closed.send_replace(true);
        self.live.send_replace(None);
        self.inbox.close();
    }

    fn in_trouble(&self, reason: String) {
        self.trouble.send_if_modified(|old| {
            let news = old.as_ref() != Some(&reason);
            if news {
                tracing::debug!(broker = %self.server, reason, "the bus");
                *old = Some(reason);
            }
            news
        });
    }
}

/// Keeps a session until the bus is closed.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let mut closed = shared.closed.subscribe();
    let mut pause = FIRST_PAUSE;
    let mut number = 0;
    loop {
        number += 1;
        let Some((reason, lasted)) = one(&shared, number).await else { return };
        shared.live.send_replace(None);
        shared.in_trouble(reason);
        pause = if lasted > GOOD_AFTER { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = closed.wait_for(|closed| *closed) => return,
        }
    }
}

/// One session from its beginning to its end; why it ended, in words, and how long it could be used, where it was not the
/// bus that was closed.
async fn one(shared: &Shared, number: u64) -> Option<(String, Duration)> {
    let server = &shared.server;
    let mut closed = shared.closed.subscribe();
    // It accepts, and then says nothing.
    let late = || format!("the broker at {server} does not answer in {} s", BEGIN_WITHIN.as_secs());
    let who = match &shared.end {
        End::Hub => "chiffon".to_owned(),
        End::Agent(agent) => format!("chiffon-agent {agent}"),
    };
    let connected = tokio::select! {
        connected = tokio::time::timeout(BEGIN_WITHIN, connect(server, &who)) => connected,
        _ = closed.wait_for(|closed| *closed) => return None,
    };
    let connection = match connected.unwrap_or_else(|_| Err(late())) {
        Err(reason) => return Some((reason, Duration::ZERO)),
        Ok(connection) => connection,
    };
    let used = async {
        let begun = tokio::time::timeout(BEGIN_WITHIN, begin(shared, &connection)).await;
        match begun.unwrap_or_else(|_| Err(late())) {
            Err(reason) => (reason, Duration::ZERO),
            Ok((live, deliveries)) => {
                shared.inbox.begin(number);
                let begun = Instant::now();
                let reason = Session { number, connection: &connection, live, deliveries }.last(shared).await;
                (reason, begun.elapsed())
            }
        }
    };
    let reason = tokio::select! {
        reason = used => Some(reason),
        _ = closed.wait_for(|closed| *closed) => None,
    };
    // Left open it would take messages, as soon as the broker gives it some, and nobody would read them.
    let _ = tokio::time::timeout(FAREWELL, connection.close(200, "it begins anew".into())).await;
    reason
}

/// Connects once and hangs up; what is wrong, in words.
pub(super) async fn probe(server: &Server) -> Result<(), String> {
    let connecting = async {
        let connection = connect(server, "chiffon doctor").await?;
        // It has answered; how it takes the farewell says nothing.
        let _ = connection.close(200, "seen".into()).await;
        Ok(())
    };
    let late = |_| Err(format!("the broker at {server} does not answer in {} s", BEGIN_WITHIN.as_secs()));
    tokio::time::timeout(BEGIN_WITHIN, connecting).await.unwrap_or_else(late)
}

async fn connect(server: &Server, who: &str) -> Result<Connection, String> {
    let properties = ConnectionProperties::default().with_connection_name(who.into());
    let runtime = lapin::runtime::default_runtime().map_err(|error| error.to_string())?;
    Connection::connect_uri_with_config(server.uri(), properties, server.tls(), runtime)
        .await
        .map_err(|error| trouble::connecting(server, &error))
}

struct Session<'a> {
    number: u64,
    connection: &'a Connection,
    live: Arc<Live>,
    deliveries: Deliveries,
}

/// What arrives, from each queue; `None` where the broker ended one of them.
type Deliveries = BoxStream<'static, Option<lapin::Result<lapin::message::Delivery>>>;

/// Declares what there has to be, and begins to take.
async fn begin(shared: &Shared, connection: &Connection) -> Result<(Arc<Live>, Deliveries), String> {
    let server = &shared.server;
    let declare = async {
        let (control, publish) = (connection.create_channel().await?, connection.create_channel().await?);
        publish.confirm_select(ConfirmSelectOptions::default()).await?;
        let queues = match &shared.end {
            End::Agent(agent) => vec![topology::work_queue(agent)],
            End::Hub => {
                topology::declare(&control, shared.bounds).await?;
                let agents = shared.agents().clone();
                for agent in &agents {
                    topology::declare_agent(&control, agent, shared.bounds).await?;
                }
                vec![topology::REPORTS_QUEUE.to_owned(), topology::LIVE_QUEUE.to_owned()]
            }
        };
        // A channel of its own, so that what is wrong with one thing does not end the others unseen.
        let consume = connection.create_channel().await?;
        consume.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        Ok((Arc::new(Live { publish, control }), consume, queues))
    };
    let failed = |error: lapin::Error| trouble::declaring(server, &error);
    let (live, consume, queues) = declare.await.map_err(failed)?;
    let mut deliveries: Deliveries = stream::empty().boxed();
    for queue in queues {
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consuming = consume.basic_consume(short(&queue), short(""), options, arguments);
        let consumer = tokio::time::timeout(QUEUE_WITHIN, consuming).await;
        let consumer = consumer.map_err(|_| trouble::mute(server, &queue))?.map_err(failed)?;
        let ended = stream::once(std::future::ready(None));
        deliveries = stream::select(deliveries, consumer.map(Some).chain(ended)).boxed();
    }
    Ok((live, deliveries))
}

impl Session<'_> {
    /// Hands on what arrives until the line breaks; why it did.
    async fn last(mut self, shared: &Shared) -> String {
        let mut events = std::pin::pin!(self.connection.events_listener());
        shared.trouble.send_replace(None);
        shared.live.send_replace(Some(Arc::clone(&self.live)));
        let server = &shared.server;
        let mut probe = tokio::time::interval(PROBE_EVERY);
        loop {
            tokio::select! {
                _ = probe.tick(), if matches!(shared.end, End::Hub) => {
                    // While it is blocked, the one that noticed is enough.
                    if shared.trouble.borrow().is_none() {
                        self.probe();
                    }
                }
                delivery = self.deliveries.next() => match delivery.flatten() {
                    Some(Ok(delivery)) => self.arrived(shared, delivery),
                    Some(Err(error)) => return trouble::broken(server, &error),
                    None => return format!("the broker at {server} ended the delivery"),
                },
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        shared.in_trouble(format!("bus blocked: the broker at {server} takes nothing: {reason}"));
                    }
                    Some(Event::ConnectionUnblocked) => drop(shared.trouble.send_replace(None)),
                    Some(Event::Error(error)) => return trouble::broken(server, &error),
                    Some(_) => {}
                    None => return format!("the line to the broker at {server} broke"),
                },
            }
            // A channel that the broker closed is as good as no session: a new one begins clean.
            if !self.live.publish.status().connected() || !self.live.control.status().connected() {
                return format!("the broker at {server} closed a channel");
            }
        }
    }

    /// A broker that has run out of disk says so only to who sends something. This is taken by no queue.
    fn probe(&self) {
        let publish = self.live.publish.clone();
        tokio::spawn(async move {
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let sent = publish.basic_publish(short(topology::WORK), short(""), options, b"", properties).await;
            if let Ok(confirm) = sent {
                let _ = confirm.await;
            }
        });
    }

    fn arrived(&self, shared: &Shared, delivery: lapin::message::Delivery) {
        let agent = match &shared.end {
            End::Agent(agent) => agent.clone(),
            // The broker lets an agent use its own name alone as the key; anything else came from somebody mightier.
            End::Hub => Name::parse(delivery.routing_key.as_str()).unwrap_or_else(|_| unknown()),
        };
        let header = |name: &str| delivery.properties.headers().as_ref().and_then(|headers| headers.inner().get(name));
        let before = header("x-delivery-count");
        let trace = header(TraceParent::HEADER).and_then(text).and_then(|text| TraceParent::parse(&text).ok());
        shared.inbox.push(Item {
            session: self.number,
            number: 0,
            agent,
            tries: before.map_or(0, count),
            trace,
            bytes: delivery.data,
            acker: delivery.acker,
        });
    }
}

/// Who sent something in nobody's name.
pub(super) fn unknown() -> Name {
    Name::parse("unknown").expect("a constant name")
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        _ => None,
    }
}

fn count(value: &AMQPValue) -> u32 {
    match value {
        AMQPValue::LongLongInt(count) => u32::try_from(*count).unwrap_or(u32::MAX),
        AMQPValue::LongUInt(count) => *count,
        AMQPValue::LongInt(count) => u32::try_from(*count).unwrap_or(0),
        _ => 0,
    }
}
