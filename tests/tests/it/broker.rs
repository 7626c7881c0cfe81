//! Agents in processes of their own, over a real broker.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use chiffon_tests::{Bed, Merge};

#[test]
fn the_story_is_the_same_with_an_agent_on_a_broker() {
    let bed = Bed::new();
    bed.join_broker();
    let mut up = bed.up();
    bed.enrol("nas01");
    let agent = bed.start_agent("nas01");
    bed.push_request("faulty", "Deploy the faulty one");
    up.wait_for("faulty: proposed");
    bed.approve("faulty", Merge::Commit);
    up.wait_for("faulty: failed: beta: need a mended part");
    fs::write(bed.infra.effects.join("mended"), "").unwrap();
    bed.chiffon(&["retry", "faulty"]).ends(0);
    up.wait_for("faulty: succeeded");
    let mut lines = bed.infra.lines("faulty");
    lines.sort();
    assert_eq!(lines, ["alpha", "beta", "beta"], "alpha is not run again");
    let log = bed.chiffon(&["log", "faulty"]).ends(0).out;
    assert!(log.contains("PLAY RECAP"), "{log}");
    agent.signal("TERM");
    assert_eq!(agent.end(), 0);
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn a_token_is_good_until_its_enrolment_is_done() {
    let bed = Bed::new();
    bed.join_broker();
    let up = bed.up();
    let invited = bed.chiffon(&["agent", "invite", "nas01", "--json"]).ends(0).json();
    let (url, token) = (invited["url"].as_str().unwrap(), invited["token"].as_str().unwrap());
    let said = bed.agent("nas01", &["enrol", url, token]).ends(1).err;
    assert!(said.contains("again with --requests PATH|URL and --infra PATH|URL"), "{said}");
    let kept = bed.agent_home("nas01").join("state/enrolment");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    // Another token does not open it, and goes its own way.
    let other = bed.chiffon(&["agent", "invite", "nas02", "--json"]).ends(0).json();
    bed.enrol_with("nas02", url, other["token"].as_str().unwrap()).ends(0);
    up.signal("TERM");
    assert_eq!(up.end(), 0);
    // Nobody is asked any more.
    let said = bed.enrol_with("nas01", url, &format!("{token}\r\n")).ends(0).out;
    let dir = bed.agent_home("nas01").display().to_string();
    assert!(said.contains(&format!("chiffon-agent --dir {dir} doctor")), "{said}");
    assert!(!kept.exists());
    bed.agent("nas01", &["doctor"]).ends(0);
}

#[test]
fn a_management_that_does_not_take_the_user_says_what_to_look_at() {
    let bed = Bed::new();
    bed.join_broker();
    fs::write(bed.home().join("management-password"), "wrong").unwrap();
    let said = bed.chiffon(&["broker", "setup"]).ends(1).err;
    assert!(said.contains("`password_file`") && said.contains("tag administrator"), "{said}");
}
