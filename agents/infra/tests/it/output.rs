//! Floods: bounded memory and nothing silently lost, whatever a playbook prints.

use chiffon_schemas::Verdict;

use crate::ansible::Version;
use crate::bench::{Bench, Ran, step};

fn printing(bench: &Bench, program: &str) {
    bench.file("print.py", program);
    bench.file(
        "print.yml",
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: print\n      command: python3 {{ playbook_dir }}/print.py\n      changed_when: false\n    - name: show\n      debug: {msg: \"{{ out.stdout }}\"}\n      when: out is defined\n",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_five_megabytes_arrives_whole() {
    let bench = Bench::new(Version::V219);
    printing(&bench, "");
    bench.file(
        "long.yml",
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: long\n      debug: {msg: \"{{ 'x' * 5000000 }}\"}\n",
    );
    let Ran { outcome, log, chunks, .. } = bench.run(&step("long.yml", &["one"])).await;
    assert_eq!(outcome.verdict, Verdict::Succeeded, "{outcome:#?}");
    assert!(log.contains(&"x".repeat(5_000_000)));
    assert!(chunks > 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn n7_fifty_thousand_lines_arrive_in_order_and_in_few_pieces() {
    let bench = Bench::new(Version::V219);
    bench.file(
        "lines.yml",
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: lines\n      debug: {msg: \"{{ range(50000) | map('string') | list }}\"}\n",
    );
    let Ran { outcome, log, chunks, .. } = bench.run(&step("lines.yml", &["one"])).await;
    assert_eq!(outcome.verdict, Verdict::Succeeded, "{outcome:#?}");
    let numbers: Vec<u32> = log.lines().filter_map(|line| line.trim().trim_matches([',', '"']).parse().ok()).collect();
    assert_eq!(numbers, (0..50_000).collect::<Vec<_>>());
    assert!(chunks < 200, "{chunks} pieces");
    assert!(!outcome.log.incomplete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_cut_at_the_cap_with_a_mark_and_keeps_its_end() {
    let mut bench = Bench::new(Version::V219);
    bench.config.log_cap_bytes = 1_000_000;
    bench.file(
        "flood.yml",
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: flood\n      debug: {msg: \"{{ ('flood ' * 1000 + '\\n') * 2000 }}\"}\n",
    );
    let Ran { outcome, log, .. } = bench.run(&step("flood.yml", &["one"])).await;
    assert_eq!(outcome.verdict, Verdict::Succeeded, "{outcome:#?}");
    assert!(log.len() < 1_001_000, "{}", log.len());
    assert!(log.contains("bytes cut: the log is longer than 1000000 bytes»"));
    assert!(log.trim_end().lines().last().unwrap().starts_with("one "), "the recap is at the end");
}
