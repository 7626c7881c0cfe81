//! What only a broker can do: refuse who is not allowed, lose connections, hold queues that are not as they should be.

use std::collections::BTreeSet;

use chiffon_link::amqp::management::{PasswordHash, agent_user};
use chiffon_link::amqp::{AmqpHub, AmqpLink};
use chiffon_link::{Direction, Error, Hub, Link, Signer};
use chiffon_schemas::{AgentMessage, BootId, FromAgent, Name, ToAgent, TraceParent};
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind};

use super::amqp::{Broker, settings};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The reconciler's key: the same in both ends' hands.
fn signer() -> Signer {
    Signer::parse("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap()
}

fn hash(password: &str) -> PasswordHash {
    PasswordHash::of(password).unwrap()
}

fn heartbeat(agent: &Name) -> FromAgent {
    let boot = BootId::parse("01J00000000000000000000001").unwrap();
    FromAgent { agent: agent.clone(), boot, message: AgentMessage::Heartbeat {} }
}

fn cancel(step: &str) -> ToAgent {
    let key = serde_json::json!({"run": "01J00000000000000000000000", "plan": "a".repeat(40), "mode": "apply",
        "step": step, "attempt": 1});
    ToAgent::Cancel { key: serde_json::from_value(key).unwrap() }
}

async fn hub_of(broker: &Broker, vhost: &str, agents: &[&Name]) -> AmqpHub {
    let agents: BTreeSet<Name> = agents.iter().map(|agent| (*agent).clone()).collect();
    let hub = AmqpHub::new(broker.server(vhost), settings(), signer(), agents);
    hub.connected().await.unwrap();
    hub
}

async fn link_of(broker: &Broker, vhost: &str, agent: &Name, password: &str) -> AmqpLink {
    let server = broker.server_as(&agent_user(vhost, agent), password, vhost);
    let link = AmqpLink::new(server, settings(), agent.clone(), signer().verifier());
    link.trouble().wait_for(Option::is_none).await.unwrap();
    link
}

/// The code with which the broker refused, where it did.
fn code<T>(done: lapin::Result<T>) -> Option<u16> {
    let error = done.err()?;
    let ErrorKind::ProtocolError(error) = error.kind() else { panic!("{error}") };
    Some(error.get_id())
}

async fn publish(channel: &Channel, exchange: &str, key: &str) -> lapin::Result<()> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let sent = channel.basic_publish(exchange.into(), key.into(), options, b"{}", BasicProperties::default());
    sent.await?.await.map(drop)
}

/// An agent's credential does what that agent may do, and the broker refuses everything else.
#[tokio::test]
async fn s12_an_agents_credential_acts_as_that_agent_alone() {
    let broker = Broker::new();
    let vhost = broker.vhost().await;
    let (one, two) = (name("one"), name("two"));
    let hub = hub_of(&broker, &vhost, &[&one, &two]).await;
    for agent in [&one, &two] {
        broker.management.make_agent(&vhost, agent, &hash(agent.as_str())).await.unwrap();
    }
    let link = link_of(&broker, &vhost, &one, "one").await;
    hub.send(&one, &cancel("site")).await.unwrap();
    let delivery = link.receive().await.unwrap();
    assert_eq!(delivery.message, cancel("site"));
    delivery.ack().await.unwrap();
    link.send(&heartbeat(&one)).await.unwrap();
    assert_eq!(hub.receive().await.unwrap().message, heartbeat(&one));

    let connection = broker.connect(&agent_user(&vhost, &one), "one", &vhost).await;
    // Each refusal closes its channel.
    let channel = async || connection.create_channel().await.unwrap();
    for (exchange, key) in [
        ("chiffon.v1.reports", "two"),
        ("chiffon.v1.reports", "one.more"),
        ("chiffon.v1.reports", ""),
        ("chiffon.v1.live", "two"),
        ("chiffon.v1.parked", "two"),
        ("chiffon.v1.work", "one"),
        ("chiffon.v1.work", "two"),
        ("", "work.v1.two"),
        ("", "reports.v1"),
        ("amq.topic", "one"),
    ] {
        assert_eq!(code(publish(&channel().await, exchange, key).await), Some(403), "{exchange} {key}");
    }
    for queue in ["work.v1.two", "reports.v1", "live.v1", "parked.v1"] {
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumed = channel().await.basic_consume(queue.into(), "".into(), options, arguments).await;
        assert_eq!(code(consumed), Some(403), "consume {queue}");
        let got = channel().await.basic_get(queue.into(), lapin::options::BasicGetOptions::default()).await;
        assert_eq!(code(got), Some(403), "get {queue}");
    }
    for queue in ["work.v1.one", "mine"] {
        let declared =
            channel().await.queue_declare(queue.into(), QueueDeclareOptions::default(), FieldTable::default()).await;
        assert_eq!(code(declared), Some(403), "declare {queue}");
    }
    let bind = |queue: &str, exchange: &str| {
        let (queue, exchange): (String, String) = (queue.into(), exchange.into());
        async {
            let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
            channel().await.queue_bind(queue.into(), exchange.into(), "#".into(), options, arguments).await
        }
    };
    assert_eq!(code(bind("work.v1.one", "chiffon.v1.reports").await), Some(403), "it can't listen to reports");
    assert_eq!(code(bind("work.v1.one", "chiffon.v1.work").await), Some(403), "it can't listen to others' orders");
    let deleted = channel().await.queue_delete("work.v1.one".into(), QueueDeleteOptions::default()).await;
    assert_eq!(code(deleted), Some(403), "it can't delete its queue");
    let purged = channel().await.queue_purge("work.v1.two".into(), QueuePurgeOptions::default()).await;
    assert_eq!(code(purged), Some(403), "it can't empty another's queue");
    let uri = format!("amqp://{}:one@{}/%2f", agent_user(&vhost, &one), broker.host);
    assert!(Connection::connect(&uri, ConnectionProperties::default()).await.is_err(), "it has one virtual host");

    broker.management.remove_agent(&vhost, &one).await.unwrap();
    let mut trouble = link.trouble();
    let reason = trouble.wait_for(|trouble| trouble.as_ref().is_some_and(|why| why.contains("wrong name or password")));
    assert!(reason.await.unwrap().is_some(), "a revoked agent hears why");
}

/// A message whose reader dies over it again and again is put aside by the broker, and shown.
#[tokio::test]
async fn r7_what_is_never_settled_is_parked_by_the_broker() {
    let broker = Broker::new();
    let vhost = broker.vhost().await;
    let one = name("one");
    let hub = hub_of(&broker, &vhost, &[&one]).await;
    hub.send(&one, &cancel("poison")).await.unwrap();
    let connection = broker.connect(&broker.user, &broker.password, &vhost).await;
    let channel = connection.create_channel().await.unwrap();
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut reader = channel.basic_consume("work.v1.one".into(), "".into(), options, arguments).await.unwrap();
    for _ in 0..=20 {
        let delivery = reader.next().await.unwrap().unwrap();
        delivery.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await.unwrap();
    }
    let parked = loop {
        if let Some(parked) = hub.next_parked().await.unwrap() {
            break parked;
        }
    };
    assert_eq!((&parked.message.agent, parked.message.direction), (&one, Direction::ToAgent));
    assert!(parked.message.reason.starts_with("delivered too often"), "{}", parked.message.reason);
    assert!(String::from_utf8_lossy(&parked.message.head).contains("poison"));
}

/// A connection that the broker ends is made again; what was not settled comes again, and what was is gone.
#[tokio::test]
async fn r5_a_broken_line_loses_nothing() {
    let broker = Broker::new();
    let vhost = broker.vhost().await;
    let one = name("one");
    let hub = hub_of(&broker, &vhost, &[&one]).await;
    broker.management.make_agent(&vhost, &one, &hash("one")).await.unwrap();
    let link = link_of(&broker, &vhost, &one, "one").await;
    for step in ["settled", "held"] {
        hub.send(&one, &cancel(step)).await.unwrap();
    }
    link.receive().await.unwrap().ack().await.unwrap();
    let held = link.receive().await.unwrap();
    let mut trouble = link.trouble();
    // The management learns of a connection some seconds after it was made.
    while trouble.borrow().is_none() {
        let _ = broker.management.disconnect(&agent_user(&vhost, &one)).await;
        let _ = tokio::time::timeout(std::time::Duration::from_millis(100), trouble.changed()).await;
    }
    trouble.wait_for(Option::is_none).await.unwrap();
    assert!(matches!(held.ack().await, Err(Error::Unheard)), "an old session settles nothing");
    hub.send(&one, &cancel("later")).await.unwrap();
    for step in ["held", "later"] {
        let delivery = link.receive().await.unwrap();
        assert_eq!(delivery.message, cancel(step));
        delivery.ack().await.unwrap();
    }
}

/// What goes over the broker says which trace it belongs to: an order its run's, a claim its attempt's.
#[tokio::test]
async fn a_message_says_which_trace_it_belongs_to() {
    let broker = Broker::new();
    let vhost = broker.vhost().await;
    let one = name("one");
    let hub = hub_of(&broker, &vhost, &[&one]).await;
    let link = AmqpLink::new(broker.server(&vhost), settings(), one.clone(), signer().verifier());
    link.trouble().wait_for(Option::is_none).await.unwrap();
    let ToAgent::Cancel { key } = cancel("site") else { unreachable!() };
    hub.send(&one, &cancel("site")).await.unwrap();
    let delivery = link.receive().await.unwrap();
    assert_eq!(delivery.trace, Some(TraceParent::of_run(&key.run)));
    delivery.ack().await.unwrap();
    link.send(&FromAgent { message: AgentMessage::Claim { key: key.clone() }, ..heartbeat(&one) }).await.unwrap();
    let delivery = hub.receive().await.unwrap();
    assert_eq!(delivery.trace, Some(TraceParent::of_attempt(&key)));
    delivery.ack().await.unwrap();
}

/// While no reconciler listens, signs of life neither pile up nor take the room of reports.
#[tokio::test]
async fn r5_signs_of_life_fill_nothing() {
    let broker = Broker::new();
    let vhost = broker.vhost().await;
    let one = name("one");
    hub_of(&broker, &vhost, &[&one]).await.close();
    // A busy machine connects late.
    let patient = chiffon_link::amqp::Settings { blocked_after: std::time::Duration::from_secs(10), ..settings() };
    let link = AmqpLink::new(broker.server(&vhost), patient, one.clone(), signer().verifier());
    for _ in 0..100 {
        link.send(&heartbeat(&one)).await.unwrap();
    }
    let claim = |step: &str| {
        let ToAgent::Cancel { key } = cancel(step) else { unreachable!() };
        FromAgent { message: AgentMessage::Claim { key }, ..heartbeat(&one) }
    };
    link.send(&claim("site")).await.unwrap();
    let hub = hub_of(&broker, &vhost, &[&one]).await;
    let mut heard = Vec::new();
    while !heard.contains(&claim("site")) || heard.len() < 2 {
        let delivery = hub.receive().await.unwrap();
        heard.push(delivery.message.clone());
        delivery.ack().await.unwrap();
    }
}

/// A queue that somebody deleted is made again when something is for it.
#[tokio::test]
async fn r5_a_deleted_queue_is_made_again() {
    let broker = Broker::new();
    let vhost = broker.vhost().await;
    let one = name("one");
    let hub = hub_of(&broker, &vhost, &[&one]).await;
    let connection = broker.connect(&broker.user, &broker.password, &vhost).await;
    let channel = connection.create_channel().await.unwrap();
    channel.queue_delete("work.v1.one".into(), QueueDeleteOptions::default()).await.unwrap();
    hub.send(&one, &cancel("site")).await.unwrap();
    let link = AmqpLink::new(broker.server(&vhost), settings(), one, signer().verifier());
    assert_eq!(link.receive().await.unwrap().message, cancel("site"));
}

/// Queues that exist otherwise, wrong passwords, missing hosts: one line each that says what to do.
#[tokio::test]
async fn what_is_wrong_with_a_broker_is_said_in_a_line() {
    let broker = Broker::new();
    let vhost = broker.vhost().await;
    let says = async |hub: AmqpHub, part: &str| {
        loop {
            let trouble = hub.trouble().borrow().clone().unwrap_or_default();
            if trouble.contains(part) {
                assert_eq!(trouble.lines().count(), 1, "{trouble}");
                return;
            }
            assert!(trouble.is_empty() || trouble.starts_with("connecting"), "{trouble} instead of {part}");
            tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
        }
    };
    let connection = broker.connect(&broker.user, &broker.password, &vhost).await;
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("reports.v1".into(), options, FieldTable::default()).await.unwrap();
    let hub = |server| AmqpHub::new(server, settings(), signer(), BTreeSet::new());
    says(hub(broker.server(&vhost)), "rabbitmqctl delete_queue").await;
    let vhost = broker.vhost().await;
    let connection = broker.connect(&broker.user, &broker.password, &vhost).await;
    let channel = connection.create_channel().await.unwrap();
    channel.queue_declare("work.v1.one".into(), options, FieldTable::default()).await.unwrap();
    let with_one = AmqpHub::new(broker.server(&vhost), settings(), signer(), BTreeSet::from([name("one")]));
    says(with_one, "'work.v1.one'").await;
    says(hub(broker.server_as(&broker.user, "wrong", &vhost)), "wrong name or password").await;
    says(hub(broker.server("no-such-host")), "chiffon broker setup").await;
    let nobody = chiffon_link::amqp::Server::new("amqp://c@127.0.0.1:9/x", "", None, false).unwrap();
    says(hub(nobody), "the broker at 127.0.0.1:9 does not answer").await;
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://c@{}/x", silent.local_addr().unwrap());
    says(hub(chiffon_link::amqp::Server::new(&url, "", None, false).unwrap()), "does not answer in").await;
}

#[tokio::test]
async fn what_waits_in_each_queue_is_counted() {
    let broker = Broker::new();
    let vhost = broker.vhost().await;
    let one = name("one");
    let hub = hub_of(&broker, &vhost, &[&one]).await;
    for number in 0..3 {
        hub.send(&one, &cancel(&format!("step{number}"))).await.unwrap();
    }
    let depths = hub.depths().await;
    let found: Vec<(&str, u64)> = depths.iter().map(|depth| (depth.queue.as_str(), depth.messages)).collect();
    assert_eq!(found, [("reports.v1", 0), ("live.v1", 0), ("parked.v1", 0), ("work.v1.one", 3)]);
}
