//! The journal outlives what can happen to a file.

use std::fs;
use std::path::Path;

use chiffon_runtime::{Durability, Entry, Error, Journal, Stage, confirm_incarnation};
use chiffon_schemas::{AttemptKey, Fence};

use super::process::key;
use super::world::{boot, fence, order};

fn file(folder: &Path) -> std::path::PathBuf {
    folder.join("journal.jsonl")
}

fn ordered(key: &AttemptKey) -> Entry {
    Entry::Ordered { order: Box::new(order(key.clone())) }
}

fn granted(key: &AttemptKey, counter: u64) -> Entry {
    Entry::Granted { key: key.clone(), fence: fence(counter), boot: boot(1) }
}

fn two_attempts(journal: &mut Journal) {
    for number in 1..3 {
        let key = key(number);
        journal.append(&[ordered(&key)], Durability::Synced).unwrap();
        journal.append(&[Entry::Claimed { key: key.clone() }], Durability::Lazy).unwrap();
        let counter = u64::from(number);
        journal.append(&[granted(&key, counter), Entry::Started { key: key.clone() }], Durability::Synced).unwrap();
    }
}

fn has_started(journal: &Journal, number: u32) -> bool {
    journal.get(&key(number)).is_some_and(|record| matches!(record.stage, Stage::Started { .. }))
}

#[test]
fn r1_a_file_cut_at_any_byte_still_says_started_where_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    two_attempts(&mut Journal::open(folder.path()).unwrap());
    let whole = fs::read(file(folder.path())).unwrap();
    let ends: Vec<usize> = whole
        .split_inclusive(|byte| *byte == b'\n')
        .scan(0, |end, line| {
            *end += line.len();
            Some((*end, line.windows(17).any(|part| part == b"\"entry\":\"started\"")))
        })
        .filter_map(|(end, started)| started.then_some(end - 1))
        .collect();
    assert_eq!(ends.len(), 2);
    for cut in 0..=whole.len() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(file(folder.path()), &whole[..cut]).unwrap();
        let mut journal = Journal::open(folder.path()).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        for (number, end) in (1..3).zip(&ends) {
            assert_eq!(has_started(&journal, number), cut >= *end, "cut at {cut}");
            if cut >= *end {
                let again = [Entry::Started { key: key(number) }];
                assert!(matches!(journal.append(&again, Durability::Synced), Err(Error::Order { .. })));
            }
        }
        // What was torn is kept aside, and the file is whole again.
        let torn = folder.path().join("journal.jsonl.torn");
        let lost = whole[..cut].rsplit(|byte| *byte == b'\n').next().unwrap().len();
        assert_eq!(
            fs::metadata(torn).map_or(0, |torn| torn.len()) as usize,
            if ends_whole(&whole, cut) { 0 } else { lost }
        );
        drop(journal);
        Journal::open(folder.path()).unwrap();
    }
}

/// Whether a cut leaves only whole lines, the last with or without its end.
fn ends_whole(whole: &[u8], cut: usize) -> bool {
    cut == 0 || whole[cut - 1] == b'\n' || whole.get(cut) == Some(&b'\n')
}

#[test]
fn r1_damage_in_the_middle_is_an_error_that_names_the_line() {
    let folder = tempfile::tempdir().unwrap();
    two_attempts(&mut Journal::open(folder.path()).unwrap());
    let whole = fs::read(file(folder.path())).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap();
    for at in [0, 16, 20, first, first + 1, first + 40, whole.len() - 10] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(file(folder.path()), &damaged).unwrap();
        let error = Journal::open(folder.path()).unwrap_err();
        let line = whole[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        assert!(matches!(&error, Error::Damaged { line: found, .. } if *found == line), "{at}: {error}");
        assert!(error.to_string().contains("journal.jsonl"), "{error}");
    }
}

#[test]
fn r1_a_line_that_cannot_follow_the_others_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    two_attempts(&mut Journal::open(folder.path()).unwrap());
    let whole = fs::read_to_string(file(folder.path())).unwrap();
    let without_grants: String =
        whole.lines().filter(|line| !line.contains("granted")).map(|l| format!("{l}\n")).collect();
    fs::write(file(folder.path()), without_grants).unwrap();
    assert!(matches!(Journal::open(folder.path()).unwrap_err(), Error::Damaged { line: 3, .. }));
}

#[test]
fn r11_the_highest_fence_outlives_compaction_and_lower_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    two_attempts(&mut Journal::open(folder.path()).unwrap());
    for _ in 0..2 {
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.highest(), Some(fence(2)));
        assert!(journal.admits(fence(1)).is_err() && journal.admits(fence(2)).is_err());
        assert!(journal.admits(fence(3)).is_ok());
        assert!(journal.admits(Fence { incarnation: 2, counter: 9 }).unwrap_err().contains("a person must confirm"));
        assert!(journal.admits(Fence { incarnation: 0, counter: 9 }).is_err());
    }
    confirm_incarnation(folder.path(), 2).unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    assert!(journal.admits(Fence { incarnation: 2, counter: 1 }).is_ok());
    assert!(journal.admits(fence(3)).is_err());
    assert!(has_started(&journal, 1) && has_started(&journal, 2));
}

#[test]
fn one_process_at_a_time_has_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let first = Journal::open(folder.path()).unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(Error::InUse { .. })));
    drop(first);
    Journal::open(folder.path()).unwrap();
}

#[test]
fn entries_of_one_write_are_written_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    let before = fs::read(file(folder.path())).unwrap();
    let key = key(1);
    let wrong = [ordered(&key), Entry::Claimed { key: key.clone() }, Entry::Started { key: key.clone() }];
    assert!(matches!(journal.append(&wrong, Durability::Synced), Err(Error::Order { .. })));
    assert_eq!(fs::read(file(folder.path())).unwrap(), before);
    assert!(journal.get(&key).is_none());
}
