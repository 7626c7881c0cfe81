//! Commands: what a person typed waits until it is answered, once; and what is known of agents.

use std::collections::BTreeMap;

use chiffon_core::facts::AgentFacts;
use chiffon_schemas::AgentKind;
use serde_json::json;

use super::bed::{Bed, Fixture, command};
use super::sample::{at, boot, name};
use crate::{Change, Command};

/// Commands wait in the order in which they were typed, each in its repository.
pub async fn commands_wait_in_order(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let other = Bed::at(fixture.store(), "other").await;
    let mut ids = Vec::new();
    for (text, secs) in [("c", 3), ("a", 2), ("b", 1)] {
        ids.push(bed.store.command(bed.repository, &command(text), at(secs)).await.expect("left"));
        other.store.command(other.repository, &command("other"), at(secs)).await.expect("left");
    }
    let waiting = bed.store.commands(bed.repository).await.expect("commands");
    let expected: Vec<_> = ["c", "a", "b"].into_iter().map(command).collect();
    assert_eq!(waiting.iter().map(|one| one.command.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(waiting.iter().map(|one| one.id).collect::<Vec<_>>(), ids);
    assert_eq!(waiting[0], Command { id: ids[0], command: command("c"), at: at(3), answer: None });
    assert_eq!(other.store.commands(other.repository).await.expect("commands").len(), 3);
    assert_eq!(fixture.reopen().await.commands(bed.repository).await.expect("commands"), waiting);
}

/// An answered command waits no more, keeps its answer, and its first answer is the only one.
pub async fn a_command_is_answered_once(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let first = bed.store.command(bed.repository, &command("a"), at(1)).await.expect("left");
    let second = bed.store.command(bed.repository, &command("b"), at(1)).await.expect("left");
    bed.store.answer(first, &json!({"done": "é\u{0}"})).await.expect("answered");
    let _ = bed.store.answer(first, &json!("too late")).await;
    let waiting = bed.store.commands(bed.repository).await.expect("commands");
    assert_eq!(waiting.iter().map(|one| one.id).collect::<Vec<_>>(), [second]);
    let again = fixture.reopen().await;
    let answered = again.command_by_id(first).await.expect("a command").expect("it is kept");
    assert_eq!((answered.command, answered.answer), (command("a"), Some(json!({"done": "é\u{0}"}))));
    assert_eq!(again.command_by_id(second).await.expect("a command").and_then(|one| one.answer), None);
}

/// An answer is any JSON, `null` as well: what is answered does not wait.
pub async fn any_json_is_an_answer(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    for answer in [json!(null), json!(false), json!(""), json!([]), json!({"n": u64::MAX})] {
        let id = bed.store.command(bed.repository, &command("a"), at(1)).await.expect("left");
        bed.store.answer(id, &answer).await.expect("answered");
        let stored = bed.store.command_by_id(id).await.expect("a command").expect("it is kept");
        assert_eq!(stored.answer, Some(answer));
        assert!(bed.store.commands(bed.repository).await.expect("commands").is_empty());
    }
}

/// Answering what was never asked makes nothing.
pub async fn an_unknown_command_has_no_answer(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let _ = bed.store.answer(77, &json!("x")).await;
    assert_eq!(bed.store.command_by_id(77).await.expect("none"), None);
    assert!(bed.store.commands(bed.repository).await.expect("commands").is_empty());
}

/// The last thing heard of an agent is what is known of it.
pub async fn an_agent_is_known_by_what_was_heard_last(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let facts = |life, secs, version: Option<&str>| AgentFacts {
        kind: AgentKind::Infra,
        boot: boot(life),
        heard: at(secs),
        ansible_core: version.map(str::to_owned),
    };
    for (agent, facts) in [
        ("infra", facts(1, 1, Some("2.19.3"))),
        ("second", facts(2, 2, Some("2.18.0rc1"))),
        ("infra", facts(3, 3, None)),
    ] {
        bed.apply(Change::AgentHeard { agent: name(agent), facts, ended: Vec::new() }).await;
    }
    let expected =
        BTreeMap::from([(name("infra"), facts(3, 3, None)), (name("second"), facts(2, 2, Some("2.18.0rc1")))]);
    assert_eq!(bed.store.agents().await.expect("agents"), expected);
    assert_eq!(fixture.reopen().await.agents().await.expect("agents"), expected);
}
