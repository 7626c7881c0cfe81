//! A run is one trace, over all processes that have a part in it.

use std::collections::BTreeSet;

use chiffon_tests::{Bed, Collector, Merge};

#[test]
fn a_run_is_one_trace_over_reconciler_and_agent() {
    let collector = Collector::start();
    let traces = format!("  traces:\n    otlp_url: {}\n", collector.address());
    let bed = Bed::new();
    bed.join_broker();
    bed.configure(&traces);
    let mut up = bed.up();
    bed.enrol("one");
    let config = bed.agent_home("one").join("agent.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(config, text + &traces).unwrap();
    let agent = bed.start_agent("one");
    bed.push_request("journal", "Deploy the journal");
    up.wait_for("journal: proposed");
    bed.approve("journal", Merge::Commit);
    up.wait_for("journal: succeeded");
    for program in [agent, up] {
        program.signal("TERM");
        assert_eq!(program.end(), 0);
    }
    let seen = collector.seen();
    let names: BTreeSet<(&str, &str)> = seen.iter().map(|span| (span.service.as_str(), span.name.as_str())).collect();
    let expected = ["finish", "grant", "order", "run"].map(|name| ("chiffon", name));
    let of_agent = ["attempt", "check"].map(|name| ("chiffon-agent", name));
    assert_eq!(names, expected.into_iter().chain(of_agent).collect(), "{seen:#?}");
    let run = seen.iter().find(|span| span.name == "run").unwrap();
    assert_eq!(run.parent, "");
    for span in &seen {
        assert_eq!(span.trace, run.trace, "{span:?}");
        assert!(span.name == "run" || span.parent == run.id, "{span:?}");
    }
    let said = bed.chiffon(&["doctor"]).out;
    assert!(said.contains("ok   line to the collector of traces: does not leave this machine"), "{said}");
}

#[test]
fn a_collector_that_is_away_costs_nothing() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bed = Bed::new();
    bed.configure(&format!("  traces:\n    otlp_url: http://{closed}\n"));
    bed.ask_and_approve("journal", "Deploy the journal");
    bed.up_once().ends(0);
    assert_eq!(bed.state("journal"), "succeeded");
}

#[test]
fn s14_a_collector_on_another_machine_needs_tls() {
    let bed = Bed::new();
    bed.configure("  traces:\n    otlp_url: http://traces.lan:4318\n");
    let said = bed.up_once().ends(1);
    assert!(said.err.contains("in the clear") && said.err.contains("`traces` in chiffon.yaml"), "{}", said.err);
    let said = bed.chiffon(&["doctor"]).ends(3).out;
    assert!(said.contains("FAIL line to the collector of traces"), "{said}");
}
