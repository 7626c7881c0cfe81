//! The suite that every adapter of the bus must pass, so that nothing above can tell them apart.
//!
//! An adapter's test gives a [`Fixture`] and calls [`crate::link_conformance!`]; each behaviour becomes a test.

use std::time::Duration;

use chiffon_schemas::{
    AgentMessage, AttemptKey, BootId, Fence, FromAgent, Mode, Name, Oid, Report, ReportBody, RunId, ToAgent,
};

use crate::{Direction, Error, Hub, Link, MAX_MESSAGE_BYTES, Signer, wire};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bus to test: fresh, and nobody else's.
#[async_trait::async_trait]
pub trait Fixture: Send + Sync {
    /// The reconciler's end.
    fn hub(&self) -> &dyn Hub;
    /// The end of an agent, which is thereby known.
    async fn attach(&self, agent: &Name) -> Box<dyn Link>;
    /// Puts bytes on the bus in an agent's name, or for it, as they are.
    async fn inject(&self, direction: Direction, agent: &Name, bytes: Vec<u8>);
    /// The reconciler's key.
    fn signer(&self) -> &Signer;
    /// Closes the bus.
    async fn close(&self);
    /// More messages than one queue of this bus takes.
    fn more_than_fit(&self) -> usize;
}

/// Makes a test of each behaviour; the expression gives a fresh [`Fixture`] and may await.
#[macro_export]
macro_rules! link_conformance {
    ($fixture:expr) => {
        $crate::link_conformance!(@ $fixture;
            order_is_kept_in_both_directions,
            what_is_not_acknowledged_comes_again_in_its_place,
            what_is_acknowledged_does_not_come_again,
            an_unknown_agent_is_unroutable,
            what_is_sent_together_comes_in_order,
            what_is_sent_together_to_a_full_queue_says_how_much_of_it_was_taken,
            messages_wait_for_an_agent_that_is_away,
            agents_get_only_their_own,
            an_agent_speaks_only_for_itself,
            a_full_queue_blocks_and_goes_on_when_there_is_room,
            a_full_queue_blocks_agents_too,
            closing_is_heard_by_everybody,
            oversized_messages_are_refused_by_the_sender,
            s12_what_the_reconciler_did_not_sign_never_arrives,
            r7_what_cannot_be_read_is_parked_with_its_reason,
            r7_a_receiver_can_park_with_a_reason,
        );
    };
    (@ $fixture:expr; $($name:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $name() {
            $crate::conformance::$name(&$fixture).await;
        })*
    };
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("the bus answers in time")
}

fn agent(name: &str) -> Name {
    Name::parse(name).expect("a valid name")
}

fn key() -> AttemptKey {
    AttemptKey {
        run: RunId::parse("01J00000000000000000000000").expect("a valid id"),
        plan: Oid::parse("a".repeat(40)).expect("a valid id"),
        mode: Mode::Apply,
        step: agent("site"),
        attempt: 1,
    }
}

fn stored(seq: u64) -> ToAgent {
    ToAgent::Stored { key: key(), seq }
}

fn log(from: &Name, seq: u64, text: &str) -> FromAgent {
    FromAgent {
        agent: from.clone(),
        boot: BootId::parse("01J00000000000000000000001").expect("a valid id"),
        message: AgentMessage::Report(Report {
            key: key(),
            fence: Fence { incarnation: 1, counter: 1 },
            seq,
            body: ReportBody::Log { chunk: seq, text: text.to_owned() },
        }),
    }
}

/// Everything that was put aside. What is looked at and not acknowledged is there again.
async fn all_parked(bus: &dyn Fixture) -> Vec<crate::Parked> {
    let mut all = Vec::new();
    while let Some(parked) = soon(bus.hub().next_parked()).await.expect("the bus is there") {
        all.push(parked.message.clone());
        parked.ack().await.expect("acknowledged");
    }
    all
}

/// Messages of one sender arrive in the order in which they were sent.
pub async fn order_is_kept_in_both_directions(bus: &dyn Fixture) {
    let (name, count) = (agent("infra"), 500);
    let link = bus.attach(&name).await;
    let down = async {
        for seq in 0..count {
            soon(bus.hub().send(&name, &stored(seq))).await.expect("sent");
        }
    };
    let down_end = async {
        for seq in 0..count {
            let delivery = soon(link.receive()).await.expect("received");
            assert_eq!(delivery.message, stored(seq));
            delivery.ack().await.expect("acknowledged");
        }
    };
    tokio::join!(down, down_end);
    let up = async {
        for seq in 0..count {
            soon(link.send(&log(&name, seq, "é\0\u{1b}"))).await.expect("sent");
        }
    };
    let up_end = async {
        for seq in 0..count {
            let delivery = soon(bus.hub().receive()).await.expect("received");
            assert_eq!(delivery.message, log(&name, seq, "é\0\u{1b}"));
            delivery.ack().await.expect("acknowledged");
        }
    };
    tokio::join!(up, up_end);
}

/// A delivery that was dropped comes again, before what was sent later.
pub async fn what_is_not_acknowledged_comes_again_in_its_place(bus: &dyn Fixture) {
    let name = agent("infra");
    let link = bus.attach(&name).await;
    for seq in 0..3 {
        soon(bus.hub().send(&name, &stored(seq))).await.expect("sent");
        soon(link.send(&log(&name, seq, "x"))).await.expect("sent");
    }
    for tries in 1..4 {
        let delivery = soon(link.receive()).await.expect("received");
        assert_eq!((&delivery.message, delivery.tries), (&stored(0), tries));
        drop(delivery);
        let delivery = soon(bus.hub().receive()).await.expect("received");
        assert_eq!((&delivery.message, delivery.tries), (&log(&name, 0, "x"), tries));
        drop(delivery);
    }
}

/// An acknowledged delivery is gone, also when the agent comes back.
pub async fn what_is_acknowledged_does_not_come_again(bus: &dyn Fixture) {
    let name = agent("infra");
    let link = bus.attach(&name).await;
    for seq in 0..2 {
        soon(bus.hub().send(&name, &stored(seq))).await.expect("sent");
    }
    soon(soon(link.receive()).await.expect("received").ack()).await.expect("acknowledged");
    drop(link);
    let link = bus.attach(&name).await;
    assert_eq!(soon(link.receive()).await.expect("received").message, stored(1));
}

/// Sending to nobody is an error, never a silent success.
pub async fn an_unknown_agent_is_unroutable(bus: &dyn Fixture) {
    let known = bus.attach(&agent("infra")).await;
    let error = soon(bus.hub().send(&agent("nobody"), &stored(1))).await.expect_err("nobody is there");
    assert!(matches!(&error, Error::Unroutable { agent } if agent.as_str() == "nobody"), "{error}");
    drop(known);
}

/// Messages that are sent together are as good as sent one by one.
pub async fn what_is_sent_together_comes_in_order(bus: &dyn Fixture) {
    let name = agent("infra");
    let link = bus.attach(&name).await;
    let messages: Vec<ToAgent> = (0..12).map(stored).collect();
    let (sent, error) = soon(bus.hub().send_all(&name, &messages.iter().collect::<Vec<_>>())).await;
    assert!(sent == messages.len() && error.is_none(), "{sent}: {error:?}");
    for message in &messages {
        let delivery = soon(link.receive()).await.expect("received");
        assert_eq!(delivery.message, *message);
        delivery.ack().await.expect("acknowledged");
    }
    let (sent, error) = soon(bus.hub().send_all(&agent("nobody"), &[&stored(0), &stored(1)])).await;
    assert!(sent == 0 && matches!(error, Some(Error::Unroutable { .. })), "{sent}: {error:?}");
}

/// Of what has no room, the sender knows how much was taken, and none of that is lost.
pub async fn what_is_sent_together_to_a_full_queue_says_how_much_of_it_was_taken(bus: &dyn Fixture) {
    let name = agent("infra");
    let link = bus.attach(&name).await;
    let messages: Vec<ToAgent> = (0..bus.more_than_fit() as u64).map(stored).collect();
    let (sent, error) = soon(bus.hub().send_all(&name, &messages.iter().collect::<Vec<_>>())).await;
    assert!(sent > 0 && sent < messages.len(), "{sent} were taken");
    assert!(matches!(error, Some(Error::Blocked { .. })), "{error:?}");
    for message in &messages[..sent] {
        let delivery = soon(link.receive()).await.expect("received");
        assert_eq!(delivery.message, *message);
        delivery.ack().await.expect("acknowledged");
    }
}

/// A known agent's messages survive its absence.
pub async fn messages_wait_for_an_agent_that_is_away(bus: &dyn Fixture) {
    let name = agent("infra");
    let link = bus.attach(&name).await;
    soon(bus.hub().send(&name, &stored(1))).await.expect("sent");
    let unacknowledged = soon(link.receive()).await.expect("received");
    drop(unacknowledged);
    drop(link);
    soon(bus.hub().send(&name, &stored(2))).await.expect("sent while it is away");
    let link = bus.attach(&name).await;
    for seq in 1..3 {
        let delivery = soon(link.receive()).await.expect("received");
        assert_eq!(delivery.message, stored(seq));
        delivery.ack().await.expect("acknowledged");
    }
}

/// Two agents do not see each other's messages.
pub async fn agents_get_only_their_own(bus: &dyn Fixture) {
    let (one, two) = (agent("one"), agent("two"));
    let (link_one, link_two) = (bus.attach(&one).await, bus.attach(&two).await);
    soon(bus.hub().send(&two, &stored(2))).await.expect("sent");
    soon(bus.hub().send(&one, &stored(1))).await.expect("sent");
    assert_eq!(soon(link_one.receive()).await.expect("received").message, stored(1));
    assert_eq!(soon(link_two.receive()).await.expect("received").message, stored(2));
}

/// A message in another's name is refused or parked, never delivered.
pub async fn an_agent_speaks_only_for_itself(bus: &dyn Fixture) {
    let (one, two) = (agent("one"), agent("two"));
    let link = bus.attach(&one).await;
    let error = soon(link.send(&log(&two, 1, "x"))).await.expect_err("it is not `two`");
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
    let bytes = crate::wire::encode(&log(&two, 1, "x")).expect("it has a form");
    bus.inject(Direction::FromAgent, &one, bytes).await;
    soon(link.send(&log(&one, 2, "x"))).await.expect("sent");
    assert_eq!(soon(bus.hub().receive()).await.expect("received").message, log(&one, 2, "x"));
    let parked = all_parked(bus).await;
    assert_eq!(parked.len(), 1);
    assert!(parked[0].reason.starts_with("foreign"), "{}", parked[0].reason);
}

/// A sender meets the bound, hears it, and can go on when a receiver made room; nothing confirmed is lost.
pub async fn a_full_queue_blocks_and_goes_on_when_there_is_room(bus: &dyn Fixture) {
    let name = agent("infra");
    let link = bus.attach(&name).await;
    let mut confirmed = 0;
    while confirmed < bus.more_than_fit() as u64 {
        match soon(bus.hub().send(&name, &stored(confirmed))).await {
            Ok(()) => confirmed += 1,
            Err(error) => {
                assert!(matches!(error, Error::Blocked { .. }) && error.is_temporary(), "{error}");
                break;
            }
        }
    }
    assert!(confirmed > 0 && confirmed < bus.more_than_fit() as u64, "{confirmed} were taken");
    // A queue may want more room than for one before it takes the next.
    let send_one_more = async {
        while let Err(error) = soon(bus.hub().send(&name, &stored(confirmed))).await {
            assert!(matches!(error, Error::Blocked { .. }), "{error}");
        }
    };
    let receive_all = async {
        let mut seq = 0;
        while seq <= confirmed {
            let delivery = soon(link.receive()).await.expect("received");
            // What was refused may have been taken all the same, and a repeat is a repeat.
            assert_eq!(delivery.message, stored(seq));
            delivery.ack().await.expect("acknowledged");
            seq += 1;
        }
    };
    tokio::join!(send_one_more, receive_all);
}

/// The same towards the reconciler.
pub async fn a_full_queue_blocks_agents_too(bus: &dyn Fixture) {
    let name = agent("infra");
    let link = bus.attach(&name).await;
    let mut confirmed = 0;
    let error = loop {
        assert!(confirmed < bus.more_than_fit() as u64, "there is no bound");
        match soon(link.send(&log(&name, confirmed, "x"))).await {
            Ok(()) => confirmed += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Blocked { .. }), "{error}");
    for seq in 0..confirmed {
        let delivery = soon(bus.hub().receive()).await.expect("received");
        assert_eq!(delivery.message, log(&name, seq, "x"));
        delivery.ack().await.expect("acknowledged");
    }
}

/// Those who wait and those who come later hear that the bus is closed.
pub async fn closing_is_heard_by_everybody(bus: &dyn Fixture) {
    let name = agent("infra");
    let link = bus.attach(&name).await;
    let close = async {
        tokio::task::yield_now().await;
        bus.close().await;
    };
    let (to_agent, to_hub, ()) = tokio::join!(soon(link.receive()), soon(bus.hub().receive()), close);
    assert!(matches!(to_agent, Err(Error::Closed)));
    assert!(matches!(to_hub, Err(Error::Closed)));
    assert!(matches!(soon(link.send(&log(&name, 1, "x"))).await, Err(Error::Closed)));
    assert!(matches!(soon(bus.hub().send(&name, &stored(1))).await, Err(Error::Closed)));
}

/// A message over the limit is an error at the sender, and the bus goes on.
pub async fn oversized_messages_are_refused_by_the_sender(bus: &dyn Fixture) {
    let name = agent("infra");
    let link = bus.attach(&name).await;
    let error = soon(link.send(&log(&name, 1, &"x".repeat(MAX_MESSAGE_BYTES)))).await.expect_err("it is too big");
    assert!(matches!(error, Error::Oversized { .. }) && !error.is_temporary(), "{error}");
    // The largest chunk of a log in its worst form must pass.
    let worst = log(&name, 2, &"\u{1}".repeat(64 * 1024));
    soon(link.send(&worst)).await.expect("sent");
    assert_eq!(soon(bus.hub().receive()).await.expect("received").message, worst);
}

/// What can't be read is put aside with a reason, and what follows it arrives.
pub async fn r7_what_cannot_be_read_is_parked_with_its_reason(bus: &dyn Fixture) {
    let name = agent("infra");
    let link = bus.attach(&name).await;
    let poison: [(&str, Vec<u8>); 7] = [
        ("malformed", b"\xff\xfe not JSON".to_vec()),
        ("malformed", Vec::new()),
        ("malformed", br#"{"message":{"type":"heartbeat"}}"#.to_vec()),
        ("malformed", br#"{"v":1,"message":{"type":"no-such-type"}}"#.to_vec()),
        ("malformed", br#"{"v":1,"message":{},"more":1}"#.to_vec()),
        ("unknown version 2", br#"{"v":2,"body":"from a later life"}"#.to_vec()),
        ("oversized", vec![b'['; MAX_MESSAGE_BYTES + 1]),
    ];
    for direction in [Direction::FromAgent, Direction::ToAgent] {
        for (_, bytes) in &poison {
            bus.inject(direction, &name, bytes.clone()).await;
        }
    }
    soon(bus.hub().send(&name, &stored(1))).await.expect("sent");
    soon(link.send(&log(&name, 1, "x"))).await.expect("sent");
    assert_eq!(soon(link.receive()).await.expect("received").message, stored(1));
    assert_eq!(soon(bus.hub().receive()).await.expect("received").message, log(&name, 1, "x"));
    let parked = all_parked(bus).await;
    for direction in [Direction::FromAgent, Direction::ToAgent] {
        let of_direction: Vec<_> = parked.iter().filter(|message| message.direction == direction).collect();
        assert_eq!(of_direction.len(), poison.len());
        for (message, (reason, bytes)) in of_direction.iter().zip(&poison) {
            assert!(message.reason.starts_with(reason), "{} is not {reason}", message.reason);
            assert_eq!((&message.agent, message.size), (&name, bytes.len()));
            assert!(bytes.starts_with(&message.head) && message.head.len() <= 4096);
        }
    }
    assert!(all_parked(bus).await.is_empty());
}

/// What somebody else wrote, changed or meant for another agent is put aside, and what follows it arrives.
pub async fn s12_what_the_reconciler_did_not_sign_never_arrives(bus: &dyn Fixture) {
    let (name, other) = (agent("infra"), agent("other"));
    let link = bus.attach(&name).await;
    let seal = |signer: &Signer, agent: &Name| wire::seal(signer, agent, &stored(7)).expect("it has a form");
    let stranger = Signer::generate().expect("randomness");
    let ours = String::from_utf8(seal(bus.signer(), &name)).expect("JSON");
    let altered = ours.replace(r#"\"seq\":7"#, r#"\"seq\":8"#);
    assert_ne!(ours, altered);
    let unsigned = r#"{"v":1,"message":{"type":"cancel"}}"#;
    let forged = [
        ("forged", seal(&stranger, &name)),
        ("forged", seal(bus.signer(), &other)),
        ("forged", altered.into_bytes()),
        ("forged", ours.replace("signature\":\"", "signature\":\"A").into_bytes()),
        ("malformed", unsigned.as_bytes().to_vec()),
    ];
    for (_, bytes) in &forged {
        bus.inject(Direction::ToAgent, &name, bytes.clone()).await;
    }
    bus.inject(Direction::ToAgent, &name, ours.into_bytes()).await;
    assert_eq!(soon(link.receive()).await.expect("received").message, stored(7));
    let parked = all_parked(bus).await;
    let reasons: Vec<&str> = parked.iter().map(|parked| parked.reason.split(':').next().unwrap_or("")).collect();
    assert_eq!(reasons, forged.map(|(reason, _)| reason));
}

/// A receiver that can't use a message puts it aside, and it does not come again.
pub async fn r7_a_receiver_can_park_with_a_reason(bus: &dyn Fixture) {
    let name = agent("infra");
    let link = bus.attach(&name).await;
    for seq in 0..2 {
        soon(link.send(&log(&name, seq, "x"))).await.expect("sent");
    }
    let delivery = soon(bus.hub().receive()).await.expect("received");
    delivery.park("refused three times".to_owned()).await.expect("parked");
    assert_eq!(soon(bus.hub().receive()).await.expect("received").message, log(&name, 1, "x"));
    let parked = all_parked(bus).await;
    assert_eq!(parked.iter().map(|message| message.reason.as_str()).collect::<Vec<_>>(), ["refused three times"]);
}
