//! Services and agents that come to harm, beside what the crash matrix does at each point.

use std::fs;
use std::str::FromStr as _;
use std::time::Duration;

use chiffon_tests::{Background, Bed, Merge, Service, new_database_at};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, SqliteConnection};

/// Patience of an agent's silence in these tests, in seconds; agents speak every second.
const SILENCE: f64 = 5.0;

/// A home on a broker of its own with an agent, and `slow` in the midst of its run.
fn slow_on(broker: &Service, more: &str) -> (Bed, Background, Background) {
    let bed = Bed::new();
    bed.join_broker_of(broker);
    bed.configure(more);
    let mut up = bed.up();
    bed.enrol("one");
    bed.let_speak_often("one");
    let agent = bed.start_agent("one");
    bed.push_request("slow", "Deploy the slow one");
    up.wait_for("slow: proposed");
    bed.approve("slow", Merge::Commit);
    up.wait_for("slow: running");
    bed.wait_until("the task waits", || bed.infra.slow_is_alive());
    (bed, up, agent)
}

fn end(bed: &Bed, mut up: Background, agent: Background) {
    bed.infra.open_gate();
    up.wait_for("slow: succeeded");
    assert_eq!(bed.infra.lines("slow").len(), 1, "it ran once");
    let log = bed.chiffon(&["log", "slow"]).ends(0).out;
    assert_eq!(log.matches("PLAY RECAP").count(), 1, "the log is whole: {log}");
    for program in [agent, up] {
        program.signal("TERM");
        assert_eq!(program.end(), 0);
    }
}

#[test]
fn r2_a_run_outlives_the_brokers_patience_with_a_delivery() {
    let patience = "[{rabbit, [{consumer_timeout, 8000}, {channel_tick_interval, 1000}]}].\n";
    let broker = Service::rabbitmq(&[("advanced.config", patience)]);
    let (bed, up, agent) = slow_on(&broker, "");
    bed.enrol("two");
    let second = bed.start_agent("two");
    // Three times as long as this broker lets anybody hold a delivery.
    for _ in 0..3 {
        broker.outlast_a_delivery();
    }
    assert!(bed.infra.slow_is_alive());
    end(&bed, up, agent);
    second.signal("TERM");
    assert_eq!(second.end(), 0);
    for queue in ["work.v1.one", "work.v1.two", "reports.v1"] {
        let count = |what: &str| broker.queue(&bed, queue)["message_stats"][what].as_u64().unwrap_or(0);
        // The statistics come some seconds late. Nothing was for `two`.
        bed.wait_until("the deliveries are counted", || queue == "work.v1.two" || count("deliver") >= 1);
        assert_eq!(count("redeliver"), 0, "{queue} delivered something twice");
    }
}

/// Some versions of RabbitMQ leave a queue in that state after a crash.
#[test]
fn r5_a_queue_that_does_not_answer_is_named_and_no_line_is_left_behind() {
    let broker = Service::rabbitmq(&[]);
    let bed = Bed::new();
    let place = bed.join_broker_of(&broker);
    let mut up = bed.up();
    bed.enrol("one");
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let queue = format!("whereis('{}_work.v1.one')", place.vhost);
    // `up` declares it once it sees the agent, which nothing said so far waits for.
    bed.wait_until("the queue is there", || broker.does(&["ctl", "eval", &format!("{queue}.")]).trim() != "undefined");
    broker.does(&["ctl", "eval", &format!("sys:suspend({queue}).")]);
    let mut agent = chiffon_tests::Background::start(bed.agent_command("one", &["up"]));
    agent.wait_for("error: the queue work.v1.one of the broker at ");
    broker.does(&["ctl", "eval", &format!("sys:resume({queue}).")]);
    agent.wait_for("ready");
    bed.approve("journal", Merge::Commit);
    up.wait_for("journal: succeeded");
    let lines = || broker.does(&["ctl", "list_connections", "client_properties"]).matches("chiffon-agent one").count();
    bed.wait_until("one line is left", || lines() == 1);
    for program in [agent, up] {
        program.signal("TERM");
        assert_eq!(program.end(), 0);
    }
}

#[test]
fn r4_a_silent_agent_loses_its_attempt_and_its_late_result_counts() {
    let broker = Service::rabbitmq(&[]);
    let (bed, mut up, agent) = slow_on(&broker, "  policy:\n    agent_silence_secs: 5\n");
    let mut stale = report(&bed, json!({ "type": "log", "chunk": 0, "text": "forged" }));
    agent.signal("STOP");
    up.wait_for("slow: lost");
    assert_eq!(bed.count("attempt-lost"), 1);
    let page = bed.bare_git(&["show", "chiffon/audit:status/slow.md"]);
    assert!(page.contains("lost"), "{page}");
    let silent =
        || bed.metric("chiffon_agent_silence_seconds{agent=\"one\"}").is_some_and(|secs| secs >= 3.0 * SILENCE);
    up.wait_until("three times as long", Duration::from_secs(60), silent);
    // Somebody else's fence is refused and recorded; the agent's own counts, late as it is.
    stale["fence"]["counter"] = json!(stale["fence"]["counter"].as_u64().unwrap() - 1);
    bed.say_as("one", &said("one", &stale));
    bed.wait_until("it is recorded", || bed.count("report-refused") == 1);
    agent.signal("CONT");
    end(&bed, up, agent);
    let log = bed.chiffon(&["log", "slow"]).ends(0).out;
    assert!(!log.contains("forged"), "{log}");
}

#[test]
fn s12_a_report_about_another_agents_attempt_is_put_aside() {
    let broker = Service::rabbitmq(&[]);
    let (bed, mut up, agent) = slow_on(&broker, "");
    bed.enrol("two");
    let log = json!({ "sha256": "", "bytes": 0, "chunks": 0, "incomplete": false });
    let forged =
        report(&bed, json!({ "type": "over", "verdict": "failed", "duration_ms": 1, "recap": {}, "log": log }));
    bed.say_as("two", &said("two", &forged));
    up.wait_for("error: a message of the bus was put aside (two): refused: the agent `two` reported about");
    let parked = bed.chiffon(&["parked"]).ends(3).out;
    assert!(parked.contains("was given to another agent"), "{parked}");
    assert_eq!(bed.state("slow"), "running");
    end(&bed, up, agent);
}

#[test]
fn r7_what_nobody_can_read_is_put_aside_and_the_run_beside_it_goes_on() {
    let broker = Service::rabbitmq(&[]);
    let (bed, up, agent) = slow_on(&broker, "");
    let unreadable: [&[u8]; 3] = [b"\xff\x00", b"{}", br#"{"v": 1, "message": {"agent": "one"}}"#];
    for message in unreadable {
        bed.say_bytes_as("one", message);
    }
    bed.wait_until("all are counted", || bed.metric("chiffon_parked_messages") == Some(3.0));
    let parked = bed.chiffon(&["parked"]).ends(3).out;
    assert_eq!(parked.matches("malformed: ").count(), 3, "{parked}");
    assert_eq!(bed.state("slow"), "running");
    end(&bed, up, agent);
}

#[test]
fn s12_made_up_fences_and_attempts_are_recorded_once_for_each_attempt() {
    let broker = Service::rabbitmq(&[]);
    let (bed, mut up, agent) = slow_on(&broker, "");
    let mut made_up = report(&bed, json!({ "type": "log", "chunk": 0, "text": "forged" }));
    made_up["seq"] = json!(1);
    let counter = made_up["fence"]["counter"].as_u64().unwrap();
    for more in 1..=3 {
        made_up["fence"]["counter"] = json!(counter + more);
        bed.say_as("one", &said("one", &made_up));
    }
    // The last one is taken in after all the others.
    for attempt in [7, 7, 8] {
        made_up["key"]["attempt"] = json!(attempt);
        bed.say_as("one", &said("one", &made_up));
    }
    up.wait_for("error: a message of the bus was put aside (one): a report about an attempt that is not known: run ");
    bed.wait_until("both attempts are counted", || bed.metric("chiffon_parked_messages") == Some(2.0));
    let parked = bed.chiffon(&["parked"]).ends(3).out;
    for attempt in ["attempt 7", "attempt 8"] {
        assert_eq!(parked.matches(attempt).count(), 1, "{parked}");
    }
    end(&bed, up, agent);
    assert_eq!(bed.count("report-refused"), 1);
}

#[test]
fn a_folder_that_two_processes_use_is_named_once() {
    let broker = Service::rabbitmq(&[]);
    let bed = Bed::new();
    bed.join_broker_of(&broker);
    let mut up = bed.up();
    bed.enrol("one");
    bed.let_speak_often("one");
    let [folder, copy] = ["one", "copy"].map(|name| bed.agent_home(name));
    assert!(std::process::Command::new("cp").arg("-a").args([folder, copy]).status().unwrap().success());
    let first = bed.start_agent("one");
    let second = bed.start_agent("copy");
    up.wait_for("error: a message of the bus was put aside (one): two processes seem to use the name");
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    assert_eq!(bed.chiffon(&["parked"]).ends(3).out.matches("two processes").count(), 1);
    for program in [second, first, up] {
        program.signal("TERM");
        assert_eq!(program.end(), 0);
    }
}

/// A report about the attempt of `slow`, under its fence.
fn report(bed: &Bed, body: Value) -> Value {
    let run = bed.status("slow")["run"].clone();
    let attempt = &run["attempts"][0];
    let key = json!({ "run": run["id"], "plan": run["plan"], "mode": "apply", "step": attempt["step"], "attempt": 1 });
    json!({ "type": "report", "key": key, "fence": attempt["fence"], "seq": 2, "body": body })
}

/// A message in an agent's name, of a life that nobody knows.
fn said(agent: &str, message: &Value) -> Value {
    json!({ "agent": agent, "boot": "01J00000000000000000000000", "message": message })
}

#[test]
fn r5_a_broker_without_room_is_named_within_ten_seconds_and_loses_nothing() {
    let broker = Service::rabbitmq(&[]);
    let (bed, mut up, agent) = slow_on(&broker, "");
    bed.push_request("gazette", "Deploy the gazette");
    up.wait_for("gazette: proposed");
    broker.does(&["ctl", "set_disk_free_limit", "500GB"]);
    up.wait_for_within("error: bus blocked: the broker at", Duration::from_secs(10));
    let ready = bed.page("/readyz").unwrap();
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("bus blocked"), "{ready}");
    bed.approve("gazette", Merge::Commit);
    let waits = || bed.metric("chiffon_outbox_messages") == Some(1.0);
    up.wait_until("the order waits", Duration::from_secs(60), waits);
    broker.does(&["ctl", "set_disk_free_limit", "1MB"]);
    up.wait_for("gazette: succeeded");
    assert_eq!(bed.metric("chiffon_outbox_messages"), Some(0.0));
    end(&bed, up, agent);
}

#[test]
fn r5_a_broker_that_is_emptied_in_mid_run_is_set_up_again_and_loses_nothing() {
    let mut broker = Service::rabbitmq(&[]);
    let (bed, mut up, agent) = slow_on(&broker, "");
    broker.cut();
    up.wait_for("error: the broker at");
    broker.does(&["wipe"]);
    broker.start();
    up.wait_for_part("or the broker was set up anew and needs `chiffon broker setup`");
    let said = bed.chiffon(&["broker", "setup"]).ends(0).out;
    assert!(said.contains("with the passwords they know: one"), "{said}");
    up.wait_for("the bus works");
    end(&bed, up, agent);
}

#[test]
fn a_database_that_is_away_is_named_at_once() {
    let mut database = Service::postgres(&[]);
    let bed = Bed::new();
    bed.keep_records_at(&new_database_at(database.address("CHIFFON_TEST_POSTGRES_URL")));
    bed.configure("  web:\n    listen: 127.0.0.1:0\n");
    let mut up = bed.up();
    assert!(bed.page("/readyz").unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(bed.metric("chiffon_outbox_messages"), Some(0.0));
    database.cut();
    let ready = bed.page("/readyz").unwrap();
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(r#""what":"store""#), "{ready}");
    assert_eq!(bed.metric("chiffon_missing{part=\"store\"}"), Some(1.0));
    assert!(bed.metric("chiffon_loop_turns_total{loop=\"look\"}").is_some_and(|turns| turns >= 1.0));
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("error: the store failed");
    database.start();
    up.wait_for("journal: proposed");
    up.wait_until("it is ready again", Duration::from_secs(60), || {
        bed.page("/readyz").unwrap().starts_with("HTTP/1.1 200")
    });
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

/// Makes a database take no word of an agent, as one without room takes none.
const REFUSE: &str = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'no room' USING ERRCODE = '53100'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON agents FOR EACH ROW EXECUTE FUNCTION refuse()";
const ALLOW: &str = "DROP TRIGGER refuse ON agents";

/// The same in SQLite, which undoes the whole change by itself then.
const REFUSE_IN_SQLITE: &str =
    "CREATE TRIGGER refuse BEFORE UPDATE ON agents BEGIN SELECT RAISE(ROLLBACK, 'no room'); END";
const ALLOW_IN_SQLITE: &str = "DROP TRIGGER refuse";

/// Does something in the database of a bed, past everybody who uses it.
fn tell(bed: &Bed, what: &'static str) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        match bed.database() {
            Some(url) => {
                let mut raw = PgConnection::connect_with(&PgConnectOptions::from_str(&url).unwrap()).await.unwrap();
                sqlx::raw_sql(what).execute(&mut raw).await.unwrap();
                raw.close().await.unwrap();
            }
            None => {
                let url = format!("sqlite:{}", bed.home().join("state/chiffon.db").display());
                let mut raw = SqliteConnection::connect(&url).await.unwrap();
                sqlx::raw_sql(what).execute(&mut raw).await.unwrap();
                raw.close().await.unwrap();
            }
        }
    });
}

fn takes_nothing_for_a_while(bed: &Bed, refuse: &'static str, allow: &'static str) {
    bed.configure("  web:\n    listen: 127.0.0.1:0\n");
    let mut up = bed.up();
    tell(bed, refuse);
    up.wait_for("error: the store failed");
    // What is decided goes on, and does not hide that agents are not heard.
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let ready = bed.page("/readyz").unwrap();
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(r#""what":"store""#), "{ready}");
    assert!(bed.metric("chiffon_errors_total").is_some_and(|errors| errors < 10.0), "it pauses in between");
    assert_eq!(up.seen().iter().filter(|line| line.starts_with("error")).count(), 1, "{:#?}", up.seen());
    tell(bed, allow);
    up.wait_until("it is ready again", Duration::from_secs(60), || {
        bed.page("/readyz").unwrap().starts_with("HTTP/1.1 200")
    });
    bed.approve("journal", Merge::Commit);
    up.wait_for("journal: succeeded");
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn a_database_that_takes_nothing_is_named_once_and_asked_ever_more_seldom() {
    takes_nothing_for_a_while(&Bed::new().on_postgres(), REFUSE, ALLOW);
}

#[test]
fn r6_a_sqlite_file_that_took_nothing_for_a_while_is_written_to_again() {
    takes_nothing_for_a_while(&Bed::new(), REFUSE_IN_SQLITE, ALLOW_IN_SQLITE);
}

#[test]
fn an_embedded_agent_that_can_not_go_on_ends_the_process_with_the_reason() {
    let bed = Bed::new();
    let folder = bed.home().join("state/agent");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("journal.jsonl"), "no entry\nno entry\n").unwrap();
    let said = bed.up_once().ends(1).err;
    assert!(said.contains("the embedded agent has ended") && said.contains("journal.jsonl"), "{said}");
}

#[test]
fn what_stops_all_work_is_named_and_never_called_ready() {
    let bed = Bed::new();
    bed.configure("  web:\n    listen: 127.0.0.1:0\n");
    let mut up = bed.up();
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    let tip = bed.audit_tip();
    bed.bare_git(&["update-ref", "refs/heads/chiffon/audit", "main"]);
    bed.wake();
    up.wait_for("error: the branch chiffon/audit");
    let ready = bed.page("/readyz").unwrap();
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(r#""what":"work""#), "{ready}");
    up.signal("TERM");
    assert_eq!(up.end(), 1, "it ends as it stood");
    let mut up = Background::start(bed.command(&["--dir", "home", "up"]));
    up.wait_for("error: the branch chiffon/audit");
    bed.bare_git(&["update-ref", "refs/heads/chiffon/audit", &tip]);
    bed.wake();
    up.wait_for("ready");
    let order: Vec<&String> = up.seen().iter().filter(|line| *line == "ready" || line.starts_with("error")).collect();
    assert!(order[0].starts_with("error") && order.last().is_some_and(|line| *line == "ready"), "{order:?}");
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}
