//! Which hosts of a failed attempt are finished: a retry leaves out those that came to the end of every play, and no
//! other, however clean Ansible's recap looks.

use chiffon_schemas::Verdict;

use crate::ansible::BOTH;
use crate::bench::{Bench, Ran, step};

const HOSTS: &str = "all:\n  vars: {ansible_connection: local}\n  hosts: {one: , two: , three: }\n";

const FAILS_ON_TWO: &str = "    - {name: check, command: \"false\", when: inventory_hostname == 'two'}\n";

/// A play of `all` hosts with these keywords and tasks.
fn play(hosts: &str, keywords: &str, tasks: &str) -> String {
    format!("- hosts: {hosts}\n  gather_facts: false\n{keywords}  tasks:\n{tasks}    - {{name: after, ping: }}\n")
}

async fn finished(playbook: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for version in BOTH {
        let bench = Bench::new(version);
        bench.file("hosts.yml", HOSTS);
        bench.file("play.yml", playbook);
        let Ran { outcome, log, .. } = bench.run(&step("play.yml", &["one", "two", "three"])).await;
        assert_eq!(outcome.verdict, Verdict::Failed, "{log}");
        all.push(outcome.finished.iter().map(ToString::to_string).collect());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_went_on_to_the_end_are_finished() {
    assert_eq!(finished(&play("all", "", FAILS_ON_TWO)).await, [["one", "three"], ["one", "three"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_were_stopped_with_another_are_not_finished() {
    for keywords in ["  any_errors_fatal: true\n", "  max_fail_percentage: 10\n"] {
        assert_eq!(finished(&play("all", keywords, FAILS_ON_TWO)).await, [[""; 0]; 2], "{keywords}");
    }
    let once = "    - {name: check, command: \"false\", run_once: true}\n";
    assert_eq!(finished(&play("all", "", once)).await, [[""; 0]; 2], "run_once");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_not_finished_where_a_later_play_never_began() {
    let plays = [play("one", "", ""), play("two", "", FAILS_ON_TWO), play("one,three", "", "")];
    assert_eq!(finished(&plays.concat()).await, [[""; 0]; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_later_batches_are_not_finished() {
    let plays = [play("all", "", ""), play("all", "  serial: 1\n", FAILS_ON_TWO)];
    assert_eq!(finished(&plays.concat()).await, [["one"], ["one"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescued_host_and_a_play_without_hosts_are_no_failure_of_the_others() {
    let rescued =
        "    - block:\n        - {name: try, command: \"false\"}\n      rescue:\n        - {name: mend, ping: }\n";
    let plays = [play("all", "", rescued), play("nobody", "", ""), play("all", "", FAILS_ON_TWO)];
    assert_eq!(finished(&plays.concat()).await, [["one", "three"], ["one", "three"]]);
}
