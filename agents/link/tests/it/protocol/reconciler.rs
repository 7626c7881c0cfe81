//! The reconciler's part, played by a test: it orders and grants as it likes, also what no reconciler would.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chiffon_link::amqp::management::{PasswordHash, agent_url, agent_user};
use chiffon_link::amqp::{AmqpHub, Settings};
use chiffon_link::{Hub as _, Parked, Signer};
use chiffon_schemas::{
    AgentMessage, AttemptKey, BootId, Fence, FromAgent, Grant, Hello, Name, Order, Report, ReportBody, Timestamp,
    ToAgent,
};
use lapin::options::{
    BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection};
use ring::signature::Ed25519KeyPair;

use super::super::amqp::Broker;
use super::lab::Lab;
use super::subject::{Kind, Life, Told};

/// Longer than anything here takes on a busy machine, the 30 s before a replay included.
const PATIENCE: Duration = Duration::from_secs(120);

/// The reconciler's secret key: nothing is kept with it.
const SECRET: [u8; 32] = [7; 32];

pub struct Reconciler {
    /// Ended before the lab is gone.
    pub life: Option<Life>,
    pub lab: Lab,
    kind: Kind,
    told: Told,
    vhost: String,
    broker: Broker,
    hub: AmqpHub,
    _connection: Connection,
    raw: Channel,
    /// What was heard so far, for who wonders why something was not.
    heard: Vec<FromAgent>,
    counter: u64,
}

/// The bytes that are signed: from the page, and not by the code that is tested.
fn bytes_signed(agent: &str, text: &str) -> Vec<u8> {
    [b"chiffon v1 to ", agent.as_bytes(), b"\n", text.as_bytes()].concat()
}

/// An envelope with a signature by this key for this agent.
pub fn sealed(secret: [u8; 32], agent: &str, text: &str) -> Vec<u8> {
    let key = Ed25519KeyPair::from_seed_unchecked(&secret).unwrap();
    let signature = BASE64.encode(key.sign(&bytes_signed(agent, text)));
    serde_json::json!({ "v": 1, "signed": text, "signature": signature }).to_string().into_bytes()
}

pub fn as_text(order: &Order) -> String {
    serde_json::to_string(&ToAgent::Order(Box::new(order.clone()))).unwrap()
}

impl Reconciler {
    /// A reconciler with a virtual host of its own, and an agent that it has invited and started.
    pub async fn of(kind: Kind) -> Self {
        let broker = Broker::new();
        let vhost = broker.vhost().await;
        let name = Name::parse("nas01").unwrap();
        let signer = Signer::parse(&BASE64.encode(SECRET)).unwrap();
        let key = signer.verifier().to_string();
        let agents = BTreeSet::from([name.clone()]);
        let hub = AmqpHub::new(broker.server(&vhost), Settings::default(), signer, agents);
        hub.connected().await.unwrap();
        let password = "a password for one test";
        broker.management.make_agent(&vhost, &name, &PasswordHash::of(password).unwrap()).await.unwrap();
        let url = agent_url(&format!("amqp://{}@{}/{vhost}", broker.user, broker.host), &name).unwrap();
        let connection = broker.connect(&broker.user, &broker.password, &vhost).await;
        let raw = connection.create_channel().await.unwrap();
        raw.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let told = Told { name, url, password, key };
        let lab = Lab::new();
        let (heard, counter, life) = (Vec::new(), 0, None);
        let mut new = Self { kind, lab, life, told, vhost, broker, hub, _connection: connection, raw, heard, counter };
        new.start();
        new
    }

    /// Starts the agent's next life.
    pub fn start(&mut self) {
        self.life = Some(Life::start(self.kind, &self.told, &self.lab));
    }

    /// Ends the agent's life as a power cut would.
    pub fn kill(&mut self) {
        self.life.take().unwrap().kill();
    }

    /// Breaks the agent's line to the broker.
    pub async fn disconnect(&self) {
        let user = agent_user(&self.vhost, &self.told.name);
        // The management learns of a connection some seconds after it was made.
        while self.readers().await > 0 {
            let _ = self.broker.management.disconnect(&user).await;
        }
    }

    /// Waits until nothing lies in the queue of an agent that is gone: it had acknowledged all that it was sent.
    pub async fn all_acknowledged(&self) {
        let waiting = async { while self.readers().await > 0 || self.queue().await.message_count() > 0 {} };
        tokio::time::timeout(PATIENCE, waiting).await.expect("what the agent held back lies in its queue again");
    }

    /// How many read the agent's queue.
    async fn readers(&self) -> u32 {
        self.queue().await.consumer_count()
    }

    async fn queue(&self) -> lapin::Queue {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = format!("work.v1.{}", self.told.name);
        let declared = self.raw.queue_declare(queue.as_str().into(), options, FieldTable::default()).await;
        declared.unwrap()
    }

    pub async fn send(&self, message: ToAgent) {
        self.hub.send(&self.told.name, &message).await.unwrap();
    }

    pub async fn order(&self, order: &Order) {
        self.send(ToAgent::Order(Box::new(order.clone()))).await;
    }

    pub async fn cancel(&self, key: &AttemptKey) {
        self.send(ToAgent::Cancel { key: key.clone() }).await;
    }

    pub async fn stored(&self, key: &AttemptKey, seq: u64) {
        self.send(ToAgent::Stored { key: key.clone(), seq }).await;
    }

    /// Puts bytes into the agent's queue as they are.
    pub async fn inject(&self, bytes: &[u8]) {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let key = self.told.name.as_str();
        let sent = self.raw.basic_publish("chiffon.v1.work".into(), key.into(), options, bytes, properties);
        sent.await.unwrap().await.unwrap();
    }

    /// A text in an envelope that the reconciler signed for its agent.
    pub fn seal(&self, text: &str) -> Vec<u8> {
        sealed(SECRET, self.told.name.as_str(), text)
    }

    /// A new grant of an order, for a life.
    pub fn grant(&mut self, order: &Order, boot: &BootId) -> Grant {
        self.counter += 1;
        self.grant_with(order, boot, Fence { incarnation: 1, counter: self.counter })
    }

    pub fn grant_with(&self, order: &Order, boot: &BootId, fence: Fence) -> Grant {
        // From the page: over the text that was signed.
        let digest = chiffon_schemas::digest(as_text(order).as_bytes());
        let at = Timestamp::parse("2026-12-06T09:00:00Z").unwrap();
        Grant { key: order.key.clone(), boot: boot.clone(), fence, order: digest, at }
    }

    /// Waits for what `wanted` makes something of; all else is heard, acknowledged and remembered.
    pub async fn until<T>(&mut self, what: &str, wanted: impl Fn(&FromAgent) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let Ok(delivery) = tokio::time::timeout_at(deadline, self.hub.receive()).await else {
                let alive = self.life.as_mut().map(Life::is_alive);
                let log = self.life.as_ref().map(Life::log).unwrap_or_default();
                panic!("no {what} came; alive: {alive:?}; heard: {:#?}\nthe agent printed:\n{log}", self.heard);
            };
            let delivery = delivery.unwrap();
            let message = delivery.message.clone();
            delivery.ack().await.unwrap();
            assert_eq!(message.agent, self.told.name);
            let found = wanted(&message);
            if !matches!(message.message, AgentMessage::Heartbeat {} | AgentMessage::Progress { .. }) {
                self.heard.push(message);
            }
            if let Some(found) = found {
                return found;
            }
        }
    }

    pub async fn hello(&mut self) -> (BootId, Hello) {
        self.until("hello", |said| match &said.message {
            AgentMessage::Hello(hello) => Some((said.boot.clone(), hello.clone())),
            _ => None,
        })
        .await
    }

    pub async fn heartbeat(&mut self) -> BootId {
        self.until("heartbeat", |said| (said.message == AgentMessage::Heartbeat {}).then(|| said.boot.clone())).await
    }

    pub async fn claim(&mut self, order: &Order) -> BootId {
        self.until("claim", |said| match &said.message {
            AgentMessage::Claim { key } if *key == order.key => Some(said.boot.clone()),
            _ => None,
        })
        .await
    }

    /// The next decline of an attempt: why, and of which grant.
    pub async fn decline(&mut self, wanted: &AttemptKey) -> (String, Option<Fence>) {
        self.until("decline", |said| match &said.message {
            AgentMessage::Decline { key, reason, fence } if key == wanted => Some((reason.clone(), *fence)),
            _ => None,
        })
        .await
    }

    /// The next report of an attempt, with the life that sends it.
    pub async fn report(&mut self, wanted: &AttemptKey) -> (BootId, Report) {
        self.until("report", |said| match &said.message {
            AgentMessage::Report(report) if report.key == *wanted => Some((said.boot.clone(), report.clone())),
            _ => None,
        })
        .await
    }

    /// Orders, and grants upon the claim.
    pub async fn order_and_grant(&mut self, order: &Order) -> Grant {
        self.order(order).await;
        let boot = self.claim(order).await;
        let grant = self.grant(order, &boot);
        self.send(ToAgent::Grant(grant.clone())).await;
        grant
    }

    /// The reports of an attempt up to its end, none of them confirmed.
    pub async fn reports_of(&mut self, key: &AttemptKey) -> Vec<Report> {
        let mut reports = Vec::new();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (_, report) = self.report(key).await;
            // Repeats without an end are not waited for longer than silence.
            assert!(tokio::time::Instant::now() < deadline, "no end came: {reports:#?}");
            let over = matches!(report.body, ReportBody::Over(_));
            reports.push(report);
            if over {
                return reports;
            }
        }
    }

    /// Waits until a step was started.
    pub async fn at_work(&mut self, step: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.lab.starts(step) == 0 {
            assert!(tokio::time::Instant::now() < deadline, "{step} was never started");
            self.heartbeat().await;
        }
    }

    /// Runs an order to its end, and stores all of it.
    pub async fn run(&mut self, order: &Order) -> Vec<Report> {
        self.order_and_grant(order).await;
        let reports = self.reports_of(&order.key).await;
        self.stored(&order.key, reports.last().unwrap().seq).await;
        reports
    }

    /// The next message that was put aside.
    pub async fn parked(&self) -> Parked {
        let waiting = async {
            self.parked_is_short().await;
            loop {
                if let Some(parked) = self.hub.next_parked().await.unwrap() {
                    let message = parked.message.clone();
                    parked.ack().await.unwrap();
                    return message;
                }
                tokio::task::yield_now().await;
            }
        };
        let log = || self.life.as_ref().map(Life::log).unwrap_or_default();
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("nothing was parked:\n{}", log()))
    }

    /// Waits until something is put aside, looks at its size as it lies on the broker, and puts it back.
    async fn parked_is_short(&self) {
        loop {
            let got = self.raw.basic_get("parked.v1".into(), BasicGetOptions::default()).await.unwrap();
            if let Some(message) = got {
                assert!(message.data.len() <= 4096, "{} bytes", message.data.len());
                let again = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                message.acker.nack(again).await.unwrap();
                return;
            }
        }
    }

    /// How often the agent said something that matches.
    pub fn count(&self, wanted: impl Fn(&AgentMessage) -> bool) -> usize {
        self.heard.iter().filter(|said| wanted(&said.message)).count()
    }
}
