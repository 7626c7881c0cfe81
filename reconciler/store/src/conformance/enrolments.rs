//! Agents and their places on the bus: invited, enrolled, sent away.

use super::bed::{Fixture, message};
use super::sample::{at, name, run_id};
use crate::{Enrolment, Invitation, Store};

fn invitation(agent: &str, token: &str) -> Invitation {
    let (sealed, password_hash) = (format!("sealed {token}"), format!("hash of {agent}"));
    Invitation { agent: name(agent), token: token.to_owned(), sealed, expires: at(100), password_hash }
}

fn known(agent: &str) -> Enrolment {
    let password_hash = format!("hash of {agent}");
    Enrolment { agent: name(agent), invited: at(1), expires: at(100), enrolled: None, revoked: None, password_hash }
}

async fn all(store: &dyn Store) -> Vec<Enrolment> {
    store.enrolments().await.expect("enrolments")
}

/// A token gives what was sealed for it to the first who comes, and nothing to the next; other tokens are as they were.
pub async fn s12_an_invitation_is_used_once(fixture: &dyn Fixture) {
    let store = fixture.store();
    assert!(all(store).await.is_empty());
    for (agent, token) in [("nas", "t1"), ("gpu", "t2")] {
        store.invite(&invitation(agent, token), at(1)).await.expect("invited");
    }
    assert_eq!(all(store).await, [known("gpu"), known("nas")]);
    let redeemed = store.redeem("t1", at(50)).await.expect("redeemed");
    assert_eq!(redeemed, Some((name("nas"), "sealed t1".to_owned())));
    assert_eq!(store.redeem("t1", at(51)).await.expect("nothing"), None);
    assert_eq!(store.redeem("", at(51)).await.expect("nothing"), None);
    let enrolled = Enrolment { enrolled: Some(at(50)), ..known("nas") };
    assert_eq!(all(&*fixture.reopen().await).await, [known("gpu"), enrolled]);
    assert!(store.redeem("t2", at(52)).await.expect("redeemed").is_some());
}

/// Neither a late token nor one that was taken back gives anything.
pub async fn s12_what_is_over_or_taken_back_invites_nobody(fixture: &dyn Fixture) {
    let store = fixture.store();
    store.invite(&invitation("nas", "t1"), at(1)).await.expect("invited");
    assert_eq!(store.redeem("t1", at(100)).await.expect("nothing"), None);
    let waiting = ["nas", "gpu"].map(|agent| (name(agent), message(&run_id(1), 1)));
    store.send(&waiting, at(2)).await.expect("sent");
    assert!(store.revoke(&name("nas"), at(60)).await.expect("revoked"));
    assert_eq!(store.redeem("t1", at(61)).await.expect("nothing"), None);
    let left = store.outgoing(0, 10).await.expect("messages");
    assert_eq!(left.iter().map(|one| &one.agent).collect::<Vec<_>>(), [&name("gpu")], "what waited for it is dropped");
    assert_eq!(all(store).await, [Enrolment { revoked: Some(at(60)), ..known("nas") }]);
    assert!(!store.revoke(&name("nas"), at(70)).await.expect("no more"), "once");
    assert!(!store.revoke(&name("gpu"), at(70)).await.expect("nobody"));
    assert_eq!(all(store).await[0].revoked, Some(at(60)));
}

/// Inviting again ends what was: the earlier token, the place, and that it was sent away.
pub async fn an_agent_that_is_invited_again_has_no_place_until_it_comes(fixture: &dyn Fixture) {
    let store = fixture.store();
    store.invite(&invitation("nas", "t1"), at(1)).await.expect("invited");
    store.redeem("t1", at(2)).await.expect("redeemed");
    store.revoke(&name("nas"), at(3)).await.expect("revoked");
    store.invite(&invitation("nas", "t2"), at(4)).await.expect("invited");
    let again = Enrolment { invited: at(4), ..known("nas") };
    assert_eq!(all(store).await, std::slice::from_ref(&again));
    store.invite(&invitation("nas", "t3"), at(5)).await.expect("invited");
    assert_eq!(store.redeem("t2", at(6)).await.expect("nothing"), None);
    assert!(store.redeem("t3", at(6)).await.expect("redeemed").is_some());
    assert_eq!(all(store).await, [Enrolment { invited: at(5), enrolled: Some(at(6)), ..again }]);
}
