//! What can't be read or believed: it is parked, with its reason, and nothing comes of it.

use chiffon_link::{Direction, Parked};
use serde_json::{Value, json};

use super::super::reconciler::{Reconciler, as_text, sealed};
use super::claims;

/// Checks that something was parked for this reason, as it should be.
fn parked_so(parked: &Parked, reason: &str, bytes: &[u8]) {
    assert!(parked.reason.starts_with(reason), "`{}` instead of `{reason}…`", parked.reason);
    assert_eq!((parked.agent.as_str(), parked.direction), ("nas01", Direction::ToAgent));
    assert_eq!(parked.size, bytes.len(), "{}", parked.reason);
    assert_eq!(parked.head, bytes[..bytes.len().min(4096)], "{}", parked.reason);
}

pub async fn s12_what_is_not_signed_for_this_agent_is_parked_and_nothing_is_claimed(mut play: Reconciler) {
    let forged = play.lab.order("first", 1);
    let text = as_text(&forged);
    let good: Value = serde_json::from_slice(&play.seal(&text)).unwrap();
    let with = |field: &str, value: Value| {
        let mut envelope = good.clone();
        envelope[field] = value;
        envelope.to_string().into_bytes()
    };
    let unsigned = json!({ "v": 1, "message": serde_json::from_str::<Value>(&text).unwrap() });
    let forgeries = [
        (unsigned.to_string().into_bytes(), "malformed"),
        (sealed([8; 32], "nas01", &text), "forged"),
        (sealed([7; 32], "nas02", &text), "forged"),
        (with("signed", Value::from(text.replace("\"attempt\":1", "\"attempt\":2"))), "forged"),
        (with("signed", Value::from(format!("{text} "))), "forged"),
        (with("signature", Value::from("")), "forged"),
        (with("signature", Value::from("no base64!")), "forged"),
    ];
    for (bytes, reason) in &forgeries {
        play.inject(bytes).await;
        parked_so(&play.parked().await, reason, bytes);
    }
    let order = play.lab.order("second", 1);
    play.order(&order).await;
    play.claim(&order).await;
    assert_eq!(claims(&play, &forged.key), 0);
    assert_eq!(play.lab.starts("first"), 0);
}

pub async fn r7_what_cannot_be_read_is_parked_with_its_reason(mut play: Reconciler) {
    let order = as_text(&play.lab.order("first", 1));
    let mut more: Value = serde_json::from_str(&order).unwrap();
    more["more"] = Value::from(1);
    let mut less: Value = serde_json::from_str(&order).unwrap();
    less.as_object_mut().unwrap().remove("approved_by");
    let mut later: Value = serde_json::from_slice(&play.seal(&order)).unwrap();
    later["v"] = Value::from(2);
    let mut wider: Value = serde_json::from_slice(&play.seal(&order)).unwrap();
    wider["more"] = Value::from(1);
    let versioned = |version: Value| {
        let mut envelope: Value = serde_json::from_slice(&play.seal(&order)).unwrap();
        envelope["v"] = version;
        (envelope.to_string().into_bytes(), "malformed")
    };
    let unreadable = [
        (b"no JSON".to_vec(), "malformed"),
        (vec![0xff, 0xfe, 0], "malformed"),
        (b"[1]".to_vec(), "malformed"),
        (b"{}".to_vec(), "malformed"),
        (b"{\"v\":\"1\"}".to_vec(), "malformed"),
        (b"{\"v\":1}".to_vec(), "malformed"),
        (wider.to_string().into_bytes(), "malformed"),
        versioned(Value::from("1")),
        versioned(Value::from(true)),
        versioned(Value::from(1.0)),
        (play.seal("no JSON"), "malformed"),
        (play.seal("{\"type\":\"dance\"}"), "malformed"),
        (play.seal(&more.to_string()), "malformed"),
        (play.seal(&less.to_string()), "malformed"),
        (b"{\"v\":2,\"anything\":[]}".to_vec(), "unknown version"),
        (later.to_string().into_bytes(), "unknown version"),
        (vec![b'x'; 1024 * 1024 + 1], "oversized"),
        (vec![b' '; 1024 * 1024], "malformed"),
    ];
    for (bytes, reason) in &unreadable {
        play.inject(bytes).await;
        parked_so(&play.parked().await, reason, bytes);
    }
    // Whoever reads after them is not held up.
    let order = play.lab.order("second", 1);
    play.order(&order).await;
    play.claim(&order).await;
    assert_eq!(play.lab.starts("first"), 0);
}
