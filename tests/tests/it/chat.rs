//! What people say over HTTP, and who is let in.

use chiffon_tests::http::ask;
use chiffon_tests::{Background, Bed};
use serde_json::json;

/// A home that answers over HTTP, and a token of `ann`.
fn talking() -> (Bed, Background, String) {
    let bed = Bed::new();
    let (token, lines) = bed.token("ann");
    bed.answer_over_http(&lines);
    let up = bed.up();
    (bed, up, token)
}

fn end(up: Background) {
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn a_sentence_said_over_http_is_a_request_of_its_person_with_a_plan() {
    let (bed, mut up, token) = talking();
    let answer = bed.chat(&token, &json!({ "message": "Deploy the journal" }));
    assert_eq!(answer.status, 200, "{answer:?}");
    let said = answer.json();
    assert_eq!((&said["conversation"], &said["state"]), (&json!("deploy-journal"), &json!("proposed")), "{said}");
    assert_eq!(said["plan"]["hosts"], json!(["alpha"]));
    assert!(said["next"].as_str().unwrap().contains("chiffon approve deploy-journal"), "{said}");
    let author = bed.bare_git(&["log", "-1", "--format=%an <%ae> by %cn", "main"]);
    assert_eq!(author.trim(), "ann <ann@lab.example> by Chiffon");
    // The same words are the same request, for as long as it did not run.
    let again = bed.chat(&token, &json!({ "message": "Deploy the journal" })).json();
    assert_eq!(again["conversation"], "deploy-journal");
    // What follows in the conversation is a change, or a look.
    let changed =
        bed.chat(&token, &json!({ "message": "and deploy the gazette", "conversation": "deploy-journal" })).json();
    assert_eq!((&changed["state"], &changed["plan"]["revision"]), (&json!("proposed"), &json!(2)), "{changed}");
    assert_eq!(changed["plan"]["hosts"], json!(["alpha", "beta"]));
    bed.chiffon(&["approve", "deploy-journal"]).ends(0);
    up.wait_for("deploy-journal: succeeded");
    let status = bed.chat(&token, &json!({ "message": "status?", "conversation": "deploy-journal" })).json();
    assert_eq!(status["state"], "succeeded", "{status}");
    let next = bed.chat(&token, &json!({ "message": "Deploy the journal" })).json();
    assert_eq!(next["conversation"], "deploy-journal-2", "what ran is not asked for twice by mistake");
    end(up);
}

#[test]
fn what_is_asked_back_is_answered_in_the_conversation() {
    let (bed, up, token) = talking();
    let asked = bed.chat(&token, &json!({ "message": "Deploy something" })).json();
    let conversation = asked["conversation"].as_str().unwrap();
    assert_eq!(asked["state"], "blocked", "{asked}");
    if let Some(question) = asked["questions"].get(0) {
        let wrong = bed.chat(&token, &json!({ "message": "no-such=thing", "conversation": conversation }));
        assert_eq!(wrong.status, 422, "{wrong:?}");
        let message = format!("{}={}", question["id"].as_str().unwrap(), question["choices"][0].as_str().unwrap());
        let answered = bed.chat(&token, &json!({ "message": message, "conversation": conversation })).json();
        assert_eq!(answered["state"], "proposed", "{answered}");
    } else {
        let changed =
            bed.chat(&token, &json!({ "message": "deploy the journal", "conversation": conversation })).json();
        assert_ne!(changed["why"], "", "{changed}");
    }
    end(up);
}

#[test]
fn s10_who_is_not_let_in_gets_no_answer_and_changes_nothing() {
    let (bed, up, token) = talking();
    let address = bed.web_address();
    let before = bed.bare_git(&["rev-parse", "main"]);
    let body = json!({ "message": "Deploy the journal" }).to_string();
    let bearer = format!("Authorization: Bearer {token}");
    let (bearer, json_type) = (bearer.as_str(), "Content-Type: application/json");
    let form = "Content-Type: application/x-www-form-urlencoded";
    let cases: [(u16, &[&str], &str); 10] = [
        (401, &[json_type], &body),
        (401, &["Authorization: Bearer wrong", json_type], &body),
        (401, &["Authorization: Basic YTpi", json_type], &body),
        // A page whose name was made to lead here.
        (421, &["Host: evil.test", bearer, json_type], &body),
        (421, &["Host: evil.test:7440", json_type], &body),
        // A page of somebody else's, and a form on it.
        (403, &["Origin: https://evil.test", bearer, json_type], &body),
        (403, &["Sec-Fetch-Site: cross-site", bearer, form], "message=x"),
        (400, &[bearer, form], "message=x"),
        (400, &[bearer, json_type], "{\"message\": \"x\", \"approve\": true}"),
        (404, &[bearer, json_type], "{\"message\": \"x\", \"conversation\": \"../../main\"}"),
    ];
    for (status, headers, body) in cases {
        let reply = ask(&address, "POST", "/api/v1/chat", headers, body.as_bytes());
        assert_eq!(reply.status, status, "{headers:?} {body}: {reply:?}");
        assert!(reply.json()["error"].as_str().is_some_and(|why| !why.is_empty()), "{reply:?}");
        assert!(reply.head.contains("content-security-policy: default-src 'none'"), "{reply:?}");
        assert!(!reply.head.contains("access-control-allow-origin"), "{reply:?}");
    }
    let large = json!({ "message": "x".repeat(70_000) }).to_string();
    assert_eq!(ask(&address, "POST", "/api/v1/chat", &[bearer, json_type], large.as_bytes()).status, 400);
    for path in ["/webhooks/github", "/webhooks/gitea", "/api/v1/nothing"] {
        assert_eq!(ask(&address, "POST", path, &[json_type], b"{}").status, 404, "{path}");
    }
    assert_eq!(bed.bare_git(&["rev-parse", "main"]), before);
    end(up);
}

#[test]
fn s9_what_somebody_says_is_data_wherever_it_lands() {
    let (bed, up, token) = talking();
    let hostile = "Deploy the journal --help; $(touch x) <script>alert(1)</script> @admin Closes #1\n\nChiffon-Event: 1 plan-approved";
    let answer = bed.chat(&token, &json!({ "message": hostile }));
    assert_eq!(answer.status, 200, "{answer:?}");
    let name = answer.json()["conversation"].as_str().unwrap().to_owned();
    let message = bed.bare_git(&["log", "-1", "--format=%B", "main"]);
    assert!(!message.contains("\nChiffon-Event"), "no line of it is a trailer: {message}");
    let text = bed.bare_git(&["show", &format!("main:requests/{name}.yaml")]);
    assert!(text.contains("script"), "{text}");
    end(up);
}
