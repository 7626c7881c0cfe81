//! What a forge says of itself: it wakes, and decides nothing (S5).

use chiffon_tests::forge::{Dialect, Host, Role, TestForge};
use chiffon_tests::http::{Reply, ask};
use chiffon_tests::{Background, Bed};
use serde_json::json;

const SECRET: &str = "a-secret-of-both";

/// A home that polls its forge once an hour, and hears webhooks.
fn knocked_at(dialect: Dialect) -> (TestForge, Bed, Background) {
    let forge = TestForge::start(dialect);
    let token = forge.account("chiffon-bot", Role::Write);
    forge.account("ann", Role::Write);
    let bed = Bed::new();
    bed.live_on_polling(&forge, &token, 3_600, "    webhook_secret_file: webhook-secret\n");
    bed.answer_over_http("");
    bed.secret("webhook-secret", SECRET);
    let up = bed.up();
    (forge, bed, up)
}

fn event() -> Vec<u8> {
    json!({ "action": "opened", "repository": { "full_name": "ops/requests" } }).to_string().into_bytes()
}

fn signature(body: &[u8]) -> String {
    chiffon_tests::forge::hmac_sha256(SECRET.as_bytes(), body)
}

fn knock(bed: &Bed, path: &str, header: &str, body: &[u8]) -> Reply {
    ask(&bed.web_address(), "POST", path, &[header, "Content-Type: application/json"], body)
}

#[test]
fn s5_a_push_is_seen_at_once_where_the_forge_says_so_and_each_signs_in_its_way() {
    let digest = |prefix: &str| format!("{prefix}{}", signature(&event()));
    for (dialect, path, header) in [
        (Dialect::Gitea, "/webhooks/gitea", digest("X-Gitea-Signature: ")),
        (Dialect::Gitea, "/webhooks/forgejo", digest("X-Forgejo-Signature: ")),
        (Dialect::GitHub, "/webhooks/github", digest("X-Hub-Signature-256: sha256=")),
    ] {
        let (_forge, bed, mut up) = knocked_at(dialect);
        bed.push_request("journal", "Deploy the journal");
        let reply = knock(&bed, path, &header, &event());
        assert_eq!((reply.status, &reply.json()["woken"]), (202, &json!(true)), "{reply:?}");
        up.wait_for("journal: proposed");
        up.signal("TERM");
        assert_eq!(up.end(), 0);
    }
}

/// Gitea and Forgejo send GitHub's headers beside their own.
#[test]
fn s5_an_event_with_the_headers_of_every_forge_is_taken_once() {
    let (_forge, bed, up) = knocked_at(Dialect::Gitea);
    let digest = signature(&event());
    let lines = [
        "X-GitHub-Event: push".to_owned(),
        "X-Gitea-Event: push".to_owned(),
        "X-Forgejo-Event: push".to_owned(),
        format!("X-Gitea-Signature: {digest}"),
        format!("X-Forgejo-Signature: {digest}"),
        format!("X-Hub-Signature-256: sha256={digest}"),
        "Content-Type: application/json".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let reply = ask(&bed.web_address(), "POST", "/webhooks/forgejo", &lines, &event());
    assert_eq!((reply.status, &reply.json()["woken"]), (202, &json!(true)), "{reply:?}");
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn s5_what_is_not_signed_by_the_forge_is_refused_before_it_is_read() {
    let (forge, bed, up) = knocked_at(Dialect::Gitea);
    bed.wait_until("the forge was asked who we are", || !forge.state().asked.is_empty());
    let right = signature(&event());
    let not_json = b"<html>".to_vec();
    let other = json!({ "repository": { "full_name": "evil/requests" } }).to_string().into_bytes();
    let signed = |body: &[u8]| format!("X-Gitea-Signature: {}", signature(body));
    for (status, path, header, body) in [
        (401, "/webhooks/gitea", "X-Nothing: 1".to_owned(), event()),
        (401, "/webhooks/gitea", format!("X-Gitea-Signature: {}", "0".repeat(64)), event()),
        (401, "/webhooks/gitea", format!("X-Gitea-Signature: {}", &right[..40]), event()),
        (401, "/webhooks/gitea", format!("X-Hub-Signature: sha1={}", &right[..40]), event()),
        (401, "/webhooks/gitea", format!("X-Gitea-Signature: {right}"), other.clone()),
        (404, "/webhooks/github", format!("X-Hub-Signature-256: sha256={right}"), event()),
        (404, "/webhooks/gitlab", format!("X-Gitea-Signature: {right}"), event()),
        (400, "/webhooks/gitea", signed(&not_json), not_json.clone()),
        (200, "/webhooks/gitea", signed(&other), other.clone()),
    ] {
        let reply = knock(&bed, path, &header, &body);
        assert_eq!(reply.status, status, "{path} {header}: {reply:?}");
        assert_ne!(reply.json()["woken"], json!(true), "{reply:?}");
    }
    let large = vec![b' '; 50 * 1024 * 1024];
    let reply = knock(&bed, "/webhooks/gitea", &format!("X-Gitea-Signature: {right}"), &large);
    assert_eq!(reply.status, 413);
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn s5_events_that_come_twice_too_late_or_never_change_nothing_of_what_is_found() {
    let (forge, bed, mut up) = knocked_at(Dialect::Gitea);
    let say = |action: &str| {
        let body = json!({ "action": action, "repository": { "full_name": "ops/requests" } }).to_string().into_bytes();
        let header = format!("X-Gitea-Signature: {}", signature(&body));
        assert_eq!(knock(&bed, "/webhooks/gitea", &header, &body).status, 202);
    };
    bed.push_request("journal", "Deploy the journal");
    // A merge is told of before anything is there to merge, and each event twice.
    for action in ["closed", "closed", "opened", "opened"] {
        say(action);
    }
    up.wait_for("journal: proposed");
    bed.wait_until("its pull request is open", || forge.open_of("chiffon/plan/journal").is_some());
    let number = forge.open_of("chiffon/plan/journal").unwrap();
    // That of the merge never comes; a late one of something else does.
    forge.merge("ann", number);
    say("opened");
    up.wait_for("journal: succeeded");
    say("closed");
    bed.git(&["pull", "--quiet", "--rebase"]);
    bed.push_request("gazette", "Deploy the gazette");
    say("opened");
    up.wait_for("gazette: proposed");
    bed.wait_until("it has its pull request", || forge.open_of("chiffon/plan/gazette").is_some());
    assert_eq!((bed.infra.lines("journal").len(), forge.pulls()), (1, 2));
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

/// What GitHub itself shows of its events, for the repository that each is of.
#[test]
fn s5_githubs_own_examples_are_taken_for_what_they_are() {
    let (forge, bed, up) = knocked_at(Dialect::GitHub);
    bed.wait_until("the forge was asked who we are", || !forge.state().asked.is_empty());
    let text = std::fs::read(chiffon_tests::root().join("tests/fixtures/forges/github-webhooks.json")).unwrap();
    let events: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let events = events.as_object().unwrap();
    assert_eq!(events.len(), 5);
    for (name, event) in events {
        let mut event = event.clone();
        for (repository, status) in [("somebody/else", 200), ("ops/requests", 202), ("Ops/Requests", 202)] {
            event["repository"]["full_name"] = json!(repository);
            let body = event.to_string().into_bytes();
            let header = format!("X-Hub-Signature-256: sha256={}", signature(&body));
            let reply = knock(&bed, "/webhooks/github", &header, &body);
            assert_eq!(reply.status, status, "{name} of {repository}: {reply:?}");
        }
    }
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn s5_ten_thousand_webhooks_cost_a_look_a_second_and_no_memory() {
    let (forge, bed, up) = knocked_at(Dialect::Gitea);
    let header = format!("X-Gitea-Signature: {}", signature(&event()));
    bed.wait_until("the first look is done", || forge.state().asked.iter().any(|asked| asked.contains("/pulls")));
    let looks = || forge.state().asked.iter().filter(|asked| asked.contains("/pulls?")).count();
    let (before, began, memory) = (looks(), tokio::time::Instant::now(), up.memory_kib());
    let mut stream = chiffon_tests::http::Stream::open(&bed.web_address());
    for _ in 0..10_000 {
        let lines = [header.as_str(), "Content-Type: application/json"];
        assert_eq!(stream.ask("POST", "/webhooks/gitea", &lines, &event()), 202);
    }
    let (more, secs, grown) = (looks() - before, began.elapsed().as_secs(), up.memory_kib().saturating_sub(memory));
    assert!((1..=secs + 2).contains(&(more as u64)), "{more} looks in {secs} s");
    assert!(grown < 16 * 1024, "{grown} KiB more");
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}
