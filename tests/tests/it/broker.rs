//! Agents in processes of their own, over a real broker.

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
    std::fs::write(bed.infra.effects.join("mended"), "").unwrap();
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
