//! What somebody does to a broker with a credential and no `chiffon-agent`: publishes in a name, or holds a delivery.

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::Value;

use crate::postgres::block_on;
use crate::{Bed, Service};

impl Bed {
    /// Publishes a message from an agent with that agent's own credential, as `chiffon-agent` would.
    ///
    /// # Panics
    /// The broker does not take it.
    pub fn say_as(&self, agent: &str, message: &Value) {
        self.say_bytes_as(agent, serde_json::json!({ "v": 1, "message": message }).to_string().as_bytes());
    }

    /// As [`Bed::say_as`], any bytes at all.
    ///
    /// # Panics
    /// The broker does not take them.
    pub fn say_bytes_as(&self, agent: &str, body: &[u8]) {
        let folder = self.agent_home(agent);
        let config = std::fs::read_to_string(folder.join("agent.yaml")).unwrap();
        let url = config.split_once("amqp://").unwrap().1.split(['"', '\n']).next().unwrap();
        let password = std::fs::read_to_string(folder.join("broker-password")).unwrap();
        let (user, place) = url.split_once('@').unwrap();
        let url = format!("amqp://{user}:{}@{place}", password.trim());
        block_on(async {
            let (_connection, channel) = channel(&url).await;
            channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let properties = BasicProperties::default().with_delivery_mode(2);
            let sent = channel.basic_publish("chiffon.v1.reports".into(), agent.into(), options, body, properties);
            assert!(sent.await.unwrap().await.unwrap().is_ack());
        });
    }
}

impl Service {
    /// What the broker's management says of a queue of a home.
    ///
    /// # Panics
    /// It says nothing.
    pub fn queue(&self, bed: &Bed, name: &str) -> Value {
        let address = self.address("CHIFFON_TEST_AMQP_MANAGEMENT_URL").rsplit_once('@').unwrap().1;
        let config = std::fs::read_to_string(bed.home().join("chiffon.yaml")).unwrap();
        let vhost =
            config.lines().find_map(|line| line.trim().strip_prefix("url: amqp://")?.split_once('/')).unwrap().1;
        // guest:guest, in the words of HTTP.
        let head = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=";
        let page = crate::broker::get(address, &format!("/api/queues/{vhost}/{name}"), head).unwrap();
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap_or_else(|error| panic!("{error}: {page}"))
    }

    /// Takes a delivery of a queue and holds it until the broker has lost patience with that.
    ///
    /// # Panics
    /// It is no broker.
    pub fn outlast_a_delivery(&self) {
        let url = format!("{}/%2f", self.address("CHIFFON_TEST_AMQP_URL"));
        block_on(async {
            let (_connection, channel) = channel(&url).await;
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare("held".into(), options, arguments).await.unwrap();
            let options = BasicPublishOptions::default();
            channel.basic_publish("".into(), "held".into(), options, b"x", BasicProperties::default()).await.unwrap();
            // What was held before is there again.
            channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
            let options = BasicConsumeOptions::default();
            let mut held =
                channel.basic_consume("held".into(), "".into(), options, FieldTable::default()).await.unwrap();
            let delivery = held.next().await.unwrap().unwrap();
            // Nothing settles it: the next thing to come is the end of the channel.
            assert!(!matches!(held.next().await, Some(Ok(_))));
            drop(delivery);
        });
    }
}

/// A channel, and the connection that it lives with.
async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}
