//! The in-process bus passes the suite for every adapter.

use std::time::Duration;

use chiffon_link::conformance::Fixture;
use chiffon_link::{Direction, Hub, Limits, Link, LocalHub, link_conformance};
use chiffon_schemas::Name;

struct Local(LocalHub);

#[async_trait::async_trait]
impl Fixture for Local {
    fn hub(&self) -> &dyn Hub {
        &self.0
    }

    async fn attach(&self, agent: &Name) -> Box<dyn Link> {
        Box::new(self.0.attach(agent))
    }

    async fn inject(&self, direction: Direction, agent: &Name, bytes: Vec<u8>) {
        self.0.inject(direction, agent, bytes).await.unwrap();
    }

    fn signer(&self) -> &chiffon_link::Signer {
        self.0.signer()
    }

    async fn close(&self) {
        self.0.close();
    }

    fn more_than_fit(&self) -> usize {
        17
    }
}

link_conformance!(Local(LocalHub::new(Limits { queue: 16, blocked_after: Duration::from_millis(50) }).unwrap()));

#[tokio::test]
async fn an_earlier_link_of_the_same_agent_hears_that_it_is_closed() {
    let hub = LocalHub::new(Limits::default()).unwrap();
    let name = Name::parse("infra").unwrap();
    let first = hub.attach(&name);
    let _second = hub.attach(&name);
    assert!(matches!(first.receive().await, Err(chiffon_link::Error::Closed)));
}

#[tokio::test]
async fn dropping_the_hub_closes_the_bus() {
    let hub = LocalHub::new(Limits::default()).unwrap();
    let link = hub.attach(&Name::parse("infra").unwrap());
    drop(hub);
    assert!(matches!(link.receive().await, Err(chiffon_link::Error::Closed)));
}

#[tokio::test]
async fn what_waits_in_each_queue_is_counted() {
    let hub = LocalHub::new(Limits::default()).unwrap();
    let name = Name::parse("infra").unwrap();
    let link = hub.attach(&name);
    let boot = chiffon_schemas::BootId::parse("01J00000000000000000000001").unwrap();
    let beat = chiffon_schemas::AgentMessage::Heartbeat {};
    link.send(&chiffon_schemas::FromAgent { agent: name, boot, message: beat }).await.unwrap();
    let depths = hub.depths().await;
    let found: Vec<(&str, u64)> = depths.iter().map(|depth| (depth.queue.as_str(), depth.messages)).collect();
    assert_eq!(found, [("reports", 1), ("work.infra", 0)]);
}
