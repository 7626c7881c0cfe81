//! Records in PostgreSQL: the same story, and what is said where the server is not as it should be.

use chiffon_tests::{Background, Bed, Merge};

#[test]
fn the_story_is_the_same_with_records_in_postgres() {
    let bed = Bed::new().on_postgres();
    let mut up = bed.up();
    bed.push_request("faulty", "Deploy the faulty one");
    up.wait_for("faulty: proposed");
    bed.approve("faulty", Merge::Squash);
    up.wait_for("faulty: failed: beta: need a mended part");
    std::fs::write(bed.infra.effects.join("mended"), "").unwrap();
    bed.chiffon(&["retry", "faulty"]).ends(0);
    up.wait_for("faulty: succeeded");
    let mut lines = bed.infra.lines("faulty");
    lines.sort();
    assert_eq!(lines, ["alpha", "beta", "beta"], "alpha is not run again");
    let log = bed.chiffon(&["log", "faulty"]).ends(0).out;
    assert!(log.contains("PLAY RECAP"), "{log}");
    let events = bed.chiffon(&["audit", "--status", "failed", "--json"]).ends(0).json();
    assert_eq!(events["events"].as_array().unwrap().len(), 1, "{events}");
    up.signal("TERM");
    assert_eq!(up.end(), 0);
    assert!(!bed.home().join("state/chiffon.db").exists(), "nothing was kept elsewhere");
    let said = bed.chiffon(&["doctor"]).ends(0).out;
    assert!(said.contains("line to the database: does not leave this machine"), "{said}");
}

#[test]
fn a_server_that_is_not_there_is_waited_for_and_named_once() {
    let bed = Bed::new();
    let database = chiffon_tests::new_database();
    // A port that takes nobody, until something listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bed.keep_records_at(&format!("postgres://chiffon@{closed}/chiffon"));
    let said = bed.up_once().ends(1);
    assert!(said.err.contains(&closed.to_string()) && said.err.contains("refused"), "{}", said.err);
    let said = bed.chiffon(&["doctor"]).ends(3).out;
    assert!(said.contains("FAIL database: opening the database postgres://chiffon@"), "{said}");
    let mut up = Background::start(bed.command(&["--dir", "home", "up"]));
    up.wait_for("opening the database postgres://chiffon@");
    up.signal("INT");
    assert_eq!(up.end(), 0, "it can be stopped while it waits");
    bed.keep_records_at(&database);
    bed.push_request("journal", "Deploy the journal");
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "proposed");
}

#[test]
fn what_waiting_does_not_mend_ends_at_once() {
    let bed = Bed::new();
    for (url, words) in [
        ("postgres://chiffon:s3cret@127.0.0.1/chiffon", "it holds a password"),
        ("postgres://chiffon@127.0.0.1/chiffon?password=s3cret", "it holds a password"),
        ("mysql://chiffon@127.0.0.1/chiffon", "does not begin with postgres://"),
        (&chiffon_tests::new_database().replace("chiffon@", "nobody@"), "nobody"),
    ] {
        bed.keep_records_at(url);
        let said: chiffon_tests::Said = bed.command(&["--dir", "home", "up"]).output().unwrap().into();
        assert!(said.status == 1 && said.err.contains(words), "{url}: {}", said.err);
        let doctor = bed.chiffon(&["doctor"]);
        assert!(!format!("{}{}{}", said.err, doctor.out, doctor.err).contains("s3cret"), "{}", doctor.out);
    }
}

#[test]
fn r8_a_stopped_leader_that_wakes_again_changes_nothing() {
    let bed = Bed::new().on_postgres();
    let mut first = bed.up();
    bed.push_request("journal", "Deploy the journal");
    first.wait_for("journal: proposed");
    // Another home on the same requests repository and the same database.
    let other = bed.path().join("other");
    std::fs::create_dir_all(other.join("state")).unwrap();
    let config = std::fs::read_to_string(bed.home().join("chiffon.yaml")).unwrap();
    let requests = format!("spec:\n  requests: {}\n", bed.requests().display());
    std::fs::write(other.join("chiffon.yaml"), config.replacen("spec:\n", &requests, 1)).unwrap();
    let said: chiffon_tests::Said = bed.command(&["--dir", "other", "up", "--once"]).output().unwrap().into();
    assert!(said.status == 1 && said.err.contains("another reconciler leads"), "{}", said.err);
    let mut second = Background::start(bed.command(&["--dir", "other", "up"]));
    second.wait_for("another reconciler leads");
    first.signal("STOP");
    bed.approve("journal", Merge::Commit);
    second.wait_for("ready");
    second.wait_for("journal: succeeded");
    first.signal("CONT");
    assert_eq!(first.end(), 1, "it sees that it was deposed, and ends");
    assert_eq!(bed.infra.lines("journal").len(), 1);
    assert_eq!((bed.count("plan-approved"), bed.count("run-succeeded")), (1, 1));
    second.signal("TERM");
    assert_eq!(second.end(), 0);
}
