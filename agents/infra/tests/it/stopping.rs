//! R9: cancelled means that no process of the run is alive here.

use chiffon_schemas::Verdict;

use crate::ansible::BOTH;
use crate::bench::{Bench, Ran, step};

#[tokio::test(flavor = "multi_thread")]
async fn r9_cancel_in_a_task_ends_every_process_and_names_the_host() {
    for version in BOTH {
        let bench = Bench::new(version);
        bench.fixtures("outcomes");
        bench.file(
            "stubborn.yml",
            "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: before\n      command: 'true'\n    \
             - name: stay\n      shell: |\n        trap '' TERM INT HUP\n        setsid sh -c 'trap \"\" TERM; sleep 301' &\n        sleep 300\n",
        );
        let mut attempt = bench.begin(&step("stubborn.yml", &["one"]), "inventory/hosts.yml");
        attempt.until_done("before").await;
        let sleeping = async {
            while !attempt.processes().iter().any(|(_, args)| args.starts_with(b"sleep\x00301")) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), sleeping).await.expect("the child starts");
        attempt.cancel.send(true).unwrap();
        let marker = attempt.marker.clone();
        let Ran { outcome, .. } = attempt.end().await;
        assert_eq!(outcome.verdict, Verdict::Cancelled, "{outcome:#?}");
        assert_eq!(outcome.interrupted.iter().map(|host| host.as_str()).collect::<Vec<_>>(), ["one"]);
        let alive = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .any(|entry| std::fs::read(entry.path().join("environ")).is_ok_and(|environ| marker.is_in(&environ)));
        assert!(!alive, "a process of the run is alive");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r9_cancel_before_the_start_starts_nothing() {
    let bench = Bench::new(BOTH[1]);
    bench.fixtures("outcomes");
    let attempt = bench.begin(&step("ok.yml", &["one"]), "inventory/hosts.yml");
    attempt.cancel.send(true).unwrap();
    let Ran { outcome, .. } = attempt.end().await;
    assert_eq!(outcome.verdict, Verdict::Cancelled);
}
