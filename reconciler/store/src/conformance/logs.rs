//! Reports and logs: each piece is stored once, in order, and only under the attempt's own fence.

use chiffon_schemas::{AttemptKey, AttemptState, Fence};

use super::bed::{Bed, Fixture, ended, key, kuma, moved, ordered};
use super::sample::{at, name, run_id};
use crate::{Accepted, LogChunk};

async fn started(bed: &Bed<'_>) -> (AttemptKey, Fence) {
    let key = bed.in_state(AttemptState::Started).await;
    let fence = bed.attempt(&key).await.fence.expect("a fence");
    (key, fence)
}

async fn report(bed: &Bed<'_>, of: &(AttemptKey, Fence), seq: u64, log: Option<(u64, &str)>) -> Accepted {
    bed.store.report(&name("infra"), &of.0, of.1, seq, log, at(9)).await.expect("an answer")
}

async fn texts(bed: &Bed<'_>, of: &AttemptKey) -> Vec<String> {
    let chunks = bed.store.read_log(&of.run, 0, 1000).await.expect("a log");
    chunks.into_iter().map(|chunk| chunk.text).collect()
}

/// Reports in order are stored and confirmed one by one; a log comes back as it was, byte for byte.
pub async fn reports_in_order_are_stored(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let of = started(&bed).await;
    assert_eq!(report(&bed, &of, 1, None).await, Accepted::Stored(1));
    let odd = "é\u{0}\u{1b}[0m\r\n'; DROP TABLE log_chunks; --";
    assert_eq!(report(&bed, &of, 2, Some((0, odd))).await, Accepted::Stored(2));
    assert_eq!(report(&bed, &of, 3, Some((1, ""))).await, Accepted::Stored(3));
    let large = "x".repeat(64 * 1024);
    assert_eq!(report(&bed, &of, 4, Some((2, &large))).await, Accepted::Stored(4));
    assert_eq!(texts(&bed, &of.0).await, [odd, "", &large]);
    let chunks = fixture.reopen().await.read_log(&of.0.run, 0, 1).await.expect("a log");
    let place = |chunk: &LogChunk| (chunk.step.clone(), chunk.attempt, chunk.chunk);
    assert_eq!(chunks.iter().map(place).collect::<Vec<_>>(), [(name("site"), 1, 0)]);
}

/// A report that arrives again changes nothing, whatever it says now; the answer is how far the store is.
pub async fn r7_a_report_is_stored_once(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let of = started(&bed).await;
    for (seq, text) in [(1, "one"), (2, "two"), (3, "three")] {
        report(&bed, &of, seq, Some((seq - 1, text))).await;
    }
    let before = bed.everything().await;
    for seq in [0, 1, 2, 3] {
        assert_eq!(report(&bed, &of, seq, Some((7, "again"))).await, Accepted::Stored(3));
        assert_eq!(report(&bed, &of, seq, None).await, Accepted::Stored(3));
    }
    assert_eq!(bed.everything().await, before);
}

/// What comes after a gap is not stored, and is taken when the missing one came.
pub async fn n7_after_a_gap_nothing_is_stored(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let of = started(&bed).await;
    for seq in [2, 3, u64::MAX] {
        assert_eq!(report(&bed, &of, seq, Some((seq - 1, "early"))).await, Accepted::Gap(0));
    }
    assert!(texts(&bed, &of.0).await.is_empty());
    assert_eq!(report(&bed, &of, 1, Some((0, "a"))).await, Accepted::Stored(1));
    assert_eq!(report(&bed, &of, 3, Some((2, "c"))).await, Accepted::Gap(1));
    assert_eq!(report(&bed, &of, 2, Some((1, "b"))).await, Accepted::Stored(2));
    assert_eq!(report(&bed, &of, 3, Some((2, "c"))).await, Accepted::Stored(3));
    assert_eq!(texts(&bed, &of.0).await, ["a", "b", "c"]);
}

/// A chunk that comes again under a new number is confirmed, and kept as it first was.
pub async fn n7_a_chunk_is_stored_once(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let of = started(&bed).await;
    report(&bed, &of, 1, Some((0, "first"))).await;
    assert_eq!(report(&bed, &of, 2, Some((0, "second"))).await, Accepted::Stored(2));
    assert_eq!(texts(&bed, &of.0).await, ["first"]);
}

/// A report under another fence, of an attempt without one or of none at all, is never stored.
pub async fn r4_a_report_under_another_fence_is_refused(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let of = started(&bed).await;
    let ordered_only = key(&of.0.run, "dns", 1);
    bed.apply(ordered(&kuma(), &ordered_only)).await;
    let before = bed.everything().await;
    let fence = of.1;
    let strangers = [
        (of.0.clone(), Fence { counter: fence.counter - 1, ..fence }),
        (of.0.clone(), Fence { counter: fence.counter + 1, ..fence }),
        (of.0.clone(), Fence { incarnation: fence.incarnation + 1, ..fence }),
        (ordered_only, fence),
        (key(&of.0.run, "site", 2), fence),
        (key(&run_id(9), "site", 1), fence),
    ];
    for stranger in strangers {
        for seq in [0, 1, 2] {
            assert_eq!(report(&bed, &stranger, seq, Some((0, "x"))).await, Accepted::WrongFence);
        }
    }
    assert_eq!(bed.everything().await, before);
    assert_eq!(report(&bed, &of, 1, Some((0, "mine"))).await, Accepted::Stored(1));
}

/// A report of another agent than the one that the attempt was given to is never stored, whatever fence it names.
pub async fn s12_a_report_of_another_agent_is_refused(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let (key, fence) = started(&bed).await;
    let before = bed.everything().await;
    for (agent, fence) in [("desk", fence), ("infra2", fence), ("desk", Fence { counter: fence.counter + 1, ..fence })]
    {
        let said = bed.store.report(&name(agent), &key, fence, 1, Some((0, "x")), at(9)).await.expect("an answer");
        assert_eq!(said, Accepted::Foreign);
    }
    assert_eq!(bed.everything().await, before);
}

/// A late report is taken by its fence, lost or over as the attempt may be.
pub async fn r4_a_late_report_is_stored(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let of = started(&bed).await;
    bed.apply(moved(&of.0, AttemptState::Started, AttemptState::Lost)).await;
    assert_eq!(report(&bed, &of, 1, Some((0, "late"))).await, Accepted::Stored(1));
    bed.apply(moved(&of.0, AttemptState::Lost, AttemptState::Failed)).await;
    assert_eq!(report(&bed, &of, 2, Some((1, "later"))).await, Accepted::Stored(2));
    assert_eq!(texts(&bed, &of.0).await, ["late", "later"]);
}

/// A new grant begins its own numbering; the old one's reports are a stranger's.
pub async fn a_new_grant_begins_to_count_anew(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let old = started(&bed).await;
    for seq in 1..4 {
        report(&bed, &old, seq, None).await;
    }
    bed.apply(moved(&old.0, AttemptState::Started, AttemptState::Lost)).await;
    bed.apply(moved(&old.0, AttemptState::Lost, AttemptState::Ordered)).await;
    let fence = bed.walk(&kuma(), &old.0, AttemptState::Started).await.expect("a fence");
    let new = (old.0.clone(), fence);
    assert_eq!(report(&bed, &old, 4, None).await, Accepted::WrongFence);
    assert_eq!(report(&bed, &new, 2, None).await, Accepted::Gap(0));
    assert_eq!(report(&bed, &new, 1, Some((0, "new"))).await, Accepted::Stored(1));
    assert_eq!(texts(&bed, &new.0).await, ["new"]);
}

/// A log is read in pages, over all attempts of the run and no other run's, in the order in which it was stored.
pub async fn a_log_is_read_in_pages(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let site = started(&bed).await;
    bed.apply(ended(&site.0, site.1, AttemptState::Failed)).await;
    let again = key(&site.0.run, "site", 2);
    bed.apply(ordered(&kuma(), &again)).await;
    let second = (again.clone(), bed.walk(&kuma(), &again, AttemptState::Started).await.expect("a fence"));
    bed.apply(ended(&second.0, second.1, AttemptState::Failed)).await;
    bed.over(&site.0).await;
    let other = key(&bed.running(&name("other"), 2).await, "site", 1);
    bed.apply(ordered(&name("other"), &other)).await;
    let third = (other.clone(), bed.walk(&name("other"), &other, AttemptState::Started).await.expect("a fence"));
    let order = [
        (&site, "site", 1),
        (&site, "site", 2),
        (&third, "other", 1),
        (&second, "again", 1),
        (&site, "site", 3),
        (&third, "other", 2),
        (&second, "again", 2),
        (&second, "again", 3),
        (&site, "site", 4),
    ];
    for (of, word, seq) in order {
        let stored = report(&bed, of, seq, Some((seq - 1, &format!("{word} {seq}")))).await;
        assert_eq!(stored, Accepted::Stored(seq));
    }
    let whole = bed.store.read_log(&site.0.run, 0, 1000).await.expect("a log");
    let expected = ["site 1", "site 2", "again 1", "site 3", "again 2", "again 3", "site 4"];
    assert_eq!(whole.iter().map(|chunk| chunk.text.as_str()).collect::<Vec<_>>(), expected);
    assert!(whole.is_sorted_by(|a, b| a.position < b.position));
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map_or(0, |chunk: &LogChunk| chunk.position);
        let page = bed.store.read_log(&site.0.run, after, 3).await.expect("a page");
        assert!(page.len() <= 3 && page.iter().all(|chunk| chunk.position > after));
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, whole);
    assert!(bed.store.read_log(&site.0.run, 0, 0).await.expect("a page").is_empty());
    assert!(bed.store.read_log(&run_id(99), 0, 10).await.expect("a page").is_empty());
}

/// What is older goes with its run; what goes on keeps all of its log, however old it is.
pub async fn old_logs_are_forgotten_and_those_of_runs_that_go_on_are_not(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let of = started(&bed).await;
    report(&bed, &of, 1, Some((0, "text"))).await;
    let years = 86_400 * 3_000;
    bed.store.forget_logs(at(years)).await.expect("forgotten");
    assert_eq!(texts(&bed, &of.0).await, ["text"], "its run goes on");
    bed.apply(ended(&of.0, of.1, AttemptState::Failed)).await;
    bed.finish(&of.0.run, chiffon_schemas::RunState::Failed).await;
    bed.store.forget_logs(at(-years)).await.expect("forgotten");
    assert_eq!(texts(&bed, &of.0).await, ["text"], "it is not older");
    assert_eq!(bed.store.forget_logs(at(years)).await.expect("forgotten"), 1);
    assert!(texts(&bed, &of.0).await.is_empty());
    assert_eq!(bed.store.forget_logs(at(years)).await.expect("forgotten"), 0);
    assert!(bed.attempt(&of.0).await.outcome.is_some(), "all else stays");
    let again = key(&bed.running(&name("other"), 9).await, "site", 1);
    bed.apply(ordered(&name("other"), &again)).await;
    let fence = bed.walk(&name("other"), &again, AttemptState::Started).await.expect("a fence");
    report(&bed, &(again.clone(), fence), 1, Some((0, "later"))).await;
    assert_eq!(texts(&bed, &again).await, ["later"]);
}
