//! The bus over RabbitMQ passes the suite for every adapter, against a real broker.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chiffon_link::amqp::management::Management;
use chiffon_link::amqp::{AmqpHub, AmqpLink, Bounds, Server, Settings};
use chiffon_link::conformance::Fixture;
use chiffon_link::{Direction, Hub, Link, Signer, link_conformance};
use chiffon_schemas::Name;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};

/// A broker for tests: its address, its management's, and the user and password of both.
pub struct Broker {
    pub host: String,
    pub user: String,
    pub password: String,
    pub management: Management,
}

#[allow(clippy::disallowed_methods, reason = "a test asks where the broker is")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this by tests/tools/services.sh"))
}

/// `scheme`, `user`, `password` and `host:port` of a URL.
fn parts(url: &str) -> [String; 4] {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (who, host) = rest.split_once('@').unwrap();
    let (user, password) = who.split_once(':').unwrap();
    [scheme, user, password, host.trim_end_matches('/')].map(str::to_owned)
}

impl Broker {
    pub fn new() -> Self {
        let [_, user, password, host] = parts(&variable("CHIFFON_TEST_AMQP_URL"));
        let [scheme, admin, secret, at] = parts(&variable("CHIFFON_TEST_AMQP_MANAGEMENT_URL"));
        let management = Management::new(&format!("{scheme}://{admin}@{at}"), &secret, None, true).unwrap();
        Self { host, user, password, management }
    }

    /// A virtual host of its own, where the administrator may do everything.
    pub async fn vhost(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let vhost = format!("link-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        self.management.make_vhost(&vhost).await.unwrap();
        vhost
    }

    pub fn server(&self, vhost: &str) -> Server {
        self.server_as(&self.user, &self.password, vhost)
    }

    pub fn server_as(&self, user: &str, password: &str, vhost: &str) -> Server {
        Server::new(&format!("amqp://{user}@{}/{vhost}", self.host), password, None, true).unwrap()
    }

    /// A connection below everything that is tested.
    pub async fn connect(&self, user: &str, password: &str, vhost: &str) -> Connection {
        let uri = format!("amqp://{user}:{password}@{}/{vhost}", self.host);
        Connection::connect(&uri, ConnectionProperties::default()).await.unwrap()
    }
}

pub fn settings() -> Settings {
    Settings { blocked_after: Duration::from_millis(500), bounds: Bounds { work: 16, reports: 16 } }
}

struct Rabbit {
    broker: Broker,
    hub: AmqpHub,
    links: std::sync::Mutex<Vec<std::sync::Arc<AmqpLink>>>,
    known: std::sync::Mutex<BTreeSet<Name>>,
    vhost: String,
}

impl Rabbit {
    async fn new() -> Self {
        let broker = Broker::new();
        let vhost = broker.vhost().await;
        // Time enough for a broker that is asked for a hundred things at once.
        let patient = Settings { blocked_after: Duration::from_secs(2), ..settings() };
        let hub = AmqpHub::new(broker.server(&vhost), patient, Signer::generate().unwrap(), BTreeSet::new());
        hub.connected().await.unwrap();
        Self { broker, vhost, hub, links: std::sync::Mutex::default(), known: std::sync::Mutex::default() }
    }
}

/// A link that the fixture can close.
struct Shared(std::sync::Arc<AmqpLink>);

#[async_trait::async_trait]
impl Link for Shared {
    async fn send(&self, message: &chiffon_schemas::FromAgent) -> Result<(), chiffon_link::Error> {
        self.0.send(message).await
    }

    async fn receive(&self) -> Result<chiffon_link::Delivery<chiffon_schemas::ToAgent>, chiffon_link::Error> {
        self.0.receive().await
    }
}

#[async_trait::async_trait]
impl Fixture for Rabbit {
    fn hub(&self) -> &dyn Hub {
        &self.hub
    }

    async fn attach(&self, agent: &Name) -> Box<dyn Link> {
        // An agent has one life at a time.
        for earlier in self.links.lock().unwrap().drain(..).filter(|link| link.agent() == agent) {
            earlier.close();
        }
        self.known.lock().unwrap().insert(agent.clone());
        let known = self.known.lock().unwrap().clone();
        self.hub.admit(&known).await;
        let patient = Settings { blocked_after: Duration::from_secs(2), ..settings() };
        let link = std::sync::Arc::new(AmqpLink::new(
            self.broker.server(&self.vhost),
            patient,
            agent.clone(),
            self.hub.signer().verifier(),
        ));
        link.trouble().wait_for(Option::is_none).await.unwrap();
        self.links.lock().unwrap().push(link.clone());
        Box::new(Shared(link))
    }

    async fn inject(&self, direction: Direction, agent: &Name, bytes: Vec<u8>) {
        let connection = self.broker.connect(&self.broker.user, &self.broker.password, &self.vhost).await;
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let exchange = match direction {
            Direction::FromAgent => "chiffon.v1.reports",
            Direction::ToAgent => "chiffon.v1.work",
        };
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent = channel.basic_publish(exchange.into(), agent.as_str().into(), options, &bytes, properties);
        sent.await.unwrap().await.unwrap();
    }

    fn signer(&self) -> &Signer {
        self.hub.signer()
    }

    async fn close(&self) {
        self.hub.close();
        self.links.lock().unwrap().iter().for_each(|link| link.close());
    }

    fn more_than_fit(&self) -> usize {
        1000
    }
}

link_conformance!(Rabbit::new().await);
