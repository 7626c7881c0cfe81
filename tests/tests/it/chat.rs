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
    // Only to see what it would change: said with the first message, and with no other.
    let check = bed.chat(&token, &json!({ "message": "Deploy the gazette", "mode": "check" })).json();
    assert_eq!(check["plan"]["summary"], "Check: Deploy the gazette on beta", "{check}");
    let late = bed.chat(&token, &json!({ "message": "x", "mode": "apply", "conversation": "deploy-gazette" }));
    assert_eq!(late.status, 400, "{late:?}");
    end(up);
}

/// Nothing else wakes the loop here: what it wrote itself it has to see itself.
#[test]
fn every_message_is_answered_at_once_also_where_nothing_else_happens() {
    let (bed, up, token) = talking();
    for number in 0..18 {
        let message = format!("{} {number}", "0".repeat(3_900));
        let asked = tokio::time::Instant::now();
        let answer = bed.chat(&token, &json!({ "message": message }));
        assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("blocked")), "{answer:?}");
        // It gives up waiting after 20 s, and says how it stands then.
        assert!(asked.elapsed().as_secs() < 15, "message {number} took {:?}", asked.elapsed());
    }
    end(up);
}

#[test]
fn a_message_with_a_character_that_no_request_can_hold_is_refused_in_words() {
    let (bed, up, token) = talking();
    for (message, named) in [("Deploy\u{95} it", "U+0095"), ("\u{1b}[31mDeploy", "U+001B"), ("a\u{fffe}", "U+FFFE")] {
        for conversation in [json!(null), json!("deploy-journal")] {
            let answer = bed.chat(&token, &json!({ "message": message, "conversation": conversation }));
            assert_eq!(answer.status, 400, "{answer:?}");
            assert!(answer.body.contains(named), "{answer:?}");
        }
    }
    assert_eq!(bed.chat(&token, &json!({ "message": "Deploy\nthe\tjournal" })).status, 200);
    end(up);
}

/// Runs Schemathesis over everything that the server says can be asked; its words where it found something.
fn asked_by_schemathesis(bed: &Bed, tokens: &[String]) -> Result<(), String> {
    let program = chiffon_tests::root().join(".venv/schemathesis/bin/schemathesis");
    assert!(program.is_file(), "{} is missing: run `make test`", program.display());
    let hooks = chiffon_tests::root().join("tests/api");
    let output = std::process::Command::new(program)
        .args(["--no-color", "run", "--seed", "7", "--max-examples", "150", "--continue-on-failure"])
        // A sentence may well ask for what can't be: that it fits its schema does not mean that it can be done.
        .args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"])
        .args(["--request-timeout", "60", "--generation-database", "none", "--suppress-health-check", "all"])
        .args(["--url", &format!("http://{}", bed.web_address())])
        .arg(format!("http://{}/api/v1/openapi.json", bed.web_address()))
        .current_dir(bed.path())
        .env("PYTHONPATH", hooks)
        .env("SCHEMATHESIS_HOOKS", "tokens")
        .env("CHIFFON_TEST_TOKENS", tokens.join(" "))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn s10_nothing_that_can_be_asked_fails_or_goes_without_a_token() {
    let bed = Bed::new();
    let made: Vec<(String, String)> = (0..40).map(|number| bed.token(&format!("person-{number}"))).collect();
    let entries: String = made.iter().map(|(_, lines)| lines.replacen("    tokens:\n", "", 1)).collect();
    bed.answer_over_http(&format!("    tokens:\n{entries}"));
    let up = bed.up();
    let tokens: Vec<String> = made.into_iter().map(|(token, _)| token).collect();
    asked_by_schemathesis(&bed, &tokens).unwrap();
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
