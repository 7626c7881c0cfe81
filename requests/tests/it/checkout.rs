//! Checkouts: what git would write, without what must not be written.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chiffon_requests::{Error, Refusal, WalkLimits};
use chiffon_schemas::Oid;

use crate::bed::{Bed, RawEntry};

fn into(bed: &Bed) -> PathBuf {
    let into = bed.folder().join("checkout");
    std::fs::create_dir(&into).unwrap();
    into
}

fn commit(bed: &Bed, entries: &[RawEntry]) -> Oid {
    bed.commit_tree(&bed.raw_tree(entries), &[], "m")
}

fn refused(bed: &Bed, commit: &Oid, limits: &WalkLimits) -> (String, Refusal) {
    match bed.repo().checkout(commit, &into(bed), limits) {
        Err(Error::Checkout { path, refusal }) => (path, refusal),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_links_and_submodules_are_as_the_tree_has_them() {
    let bed = Bed::new();
    let roles = bed.raw_tree(&[
        ("100644", b"main.yml".to_vec(), bed.blob(b"tasks")),
        ("120000", b"up.yml".to_vec(), bed.blob(b"../site.yml")),
    ]);
    let tip = commit(
        &bed,
        &[
            ("120000", b"alias.yml".to_vec(), bed.blob(b"site.yml")),
            ("100644", b"caf\xe9 \x01.txt".to_vec(), bed.blob(b"latin")),
            ("160000", b"module".to_vec(), "1".repeat(40)),
            ("40000", b"roles".to_vec(), roles),
            ("100755", b"run.sh".to_vec(), bed.blob(b"#!/bin/sh\n")),
            ("100644", b"site.yml".to_vec(), bed.blob(b"play")),
        ],
    );
    let into = into(&bed);
    bed.repo().checkout(&tip, &into, &WalkLimits::default()).unwrap();
    let read = |path: &str| std::fs::read_to_string(into.join(path)).unwrap();
    assert_eq!((read("site.yml").as_str(), read("roles/main.yml").as_str()), ("play", "tasks"));
    assert_eq!((read("alias.yml").as_str(), read("roles/up.yml").as_str()), ("play", "play"));
    assert_eq!(std::fs::read_link(into.join("alias.yml")).unwrap(), Path::new("site.yml"));
    assert_eq!(std::fs::read_dir(into.join("module")).unwrap().count(), 0);
    let mode = |path: &str| std::fs::metadata(into.join(path)).unwrap().permissions().mode() & 0o111;
    assert_ne!(mode("run.sh"), 0);
    assert_eq!(mode("site.yml"), 0);
    let odd = into.join(std::ffi::OsStr::from_bytes(b"caf\xe9 \x01.txt"));
    assert_eq!(std::fs::read_to_string(odd).unwrap(), "latin");
}

#[test]
fn a_folder_that_is_not_empty_is_left_alone() {
    let bed = Bed::new();
    let tip = bed.commit("main", &[("a", "1")], &[]);
    let into = into(&bed);
    std::fs::write(into.join("mine"), "x").unwrap();
    assert!(matches!(bed.repo().checkout(&tip, &into, &WalkLimits::default()), Err(Error::Io { .. })));
    assert!(!into.join("a").exists());
}

#[test]
fn s6_links_out_of_the_tree_are_not_made() {
    for (name, target) in [("l", "/etc/passwd"), ("l", "../../x"), ("l", "deep/up/.."), ("l", ".git/config"), ("l", "")]
    {
        let bed = Bed::new();
        let deep = bed.raw_tree(&[("120000", b"up".to_vec(), bed.blob(b".."))]);
        let tip = commit(
            &bed,
            &[("40000", b"deep".to_vec(), deep), ("120000", name.as_bytes().to_vec(), bed.blob(target.as_bytes()))],
        );
        let left_out = bed.repo().checkout(&tip, &into(&bed), &WalkLimits::default()).unwrap();
        assert_eq!(left_out, ["l"], "{target}");
        assert!(std::fs::symlink_metadata(bed.folder().join("checkout/l")).is_err());
        assert!(std::fs::symlink_metadata(bed.folder().join("checkout/deep/up")).is_ok(), "the good one is made");
    }
}

/// The shape of CVE-2024-32002: a folder and a link to `.git` whose names differ only in case.
#[test]
fn s7_nothing_is_written_through_a_link() {
    let bed = Bed::new();
    let hooks = bed.raw_tree(&[("100755", b"post-checkout".to_vec(), bed.blob(b"touch /tmp/owned"))]);
    let tip = commit(&bed, &[("40000", b"A".to_vec(), hooks.clone()), ("120000", b"a".to_vec(), bed.blob(b".git"))]);
    assert_eq!(bed.repo().checkout(&tip, &into(&bed), &WalkLimits::default()).unwrap(), ["a"]);
    assert!(std::fs::symlink_metadata(bed.folder().join("checkout/a")).is_err());
    // One name twice, first as a link and then as a folder.
    let bed = Bed::new();
    let hooks = bed.raw_tree(&[("100755", b"post-checkout".to_vec(), bed.blob(b"x"))]);
    let outside = bed.folder().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let link = bed.blob(outside.as_os_str().as_bytes());
    let tip = commit(&bed, &[("120000", b"a".to_vec(), link), ("40000", b"a".to_vec(), hooks)]);
    assert!(matches!(bed.repo().checkout(&tip, &into(&bed), &WalkLimits::default()), Err(Error::Damaged { .. })));
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn s6_names_that_leave_the_folder_are_not_written() {
    for name in [
        &b".."[..],
        b".",
        b".git",
        b".GIT",
        b"git~1",
        b".git ",
        b".git.",
        b".g\xe2\x80\x8cit",
        b".git::$INDEX_ALLOCATION",
    ] {
        let bed = Bed::new();
        let tip = commit(&bed, &[("100644", name.to_vec(), bed.blob(b"x"))]);
        assert_eq!(
            refused(&bed, &tip, &WalkLimits::default()).1,
            Refusal::BadName,
            "{:?}",
            String::from_utf8_lossy(name)
        );
        let bed = Bed::new();
        let inner = bed.raw_tree(&[("100644", b"config".to_vec(), bed.blob(b"x"))]);
        let tip = commit(&bed, &[("40000", name.to_vec(), inner)]);
        assert_eq!(refused(&bed, &tip, &WalkLimits::default()).1, Refusal::BadName);
    }
    let bed = Bed::new();
    let tip = commit(&bed, &[("120000", b".gitmodules".to_vec(), bed.blob(b"x"))]);
    assert_eq!(refused(&bed, &tip, &WalkLimits::default()).1, Refusal::BadName);
    let bed = Bed::new();
    let tip = commit(&bed, &[("100644", b"a/../../b".to_vec(), bed.blob(b"x"))]);
    assert_eq!(refused(&bed, &tip, &WalkLimits::default()).1, Refusal::BadName);
}

#[test]
fn s6_checkouts_end_at_their_limits() {
    let bed = Bed::new();
    let tip = bed.commit("main", &[("a/b/c", "12345"), ("d", "12345"), ("e", "12345")], &[]);
    let limits = |max_files, max_depth, max_bytes| WalkLimits { max_files, max_depth, max_bytes };
    for (limits, refusal) in [
        (limits(3, 9, 99), Refusal::TooMany { limit: 3 }),
        (limits(9, 2, 99), Refusal::TooDeep { limit: 2 }),
        (limits(9, 9, 14), Refusal::TooLarge { bytes: 5, limit: 4 }),
    ] {
        let found = refused(&bed, &tip, &limits).1;
        assert_eq!(found, refusal);
        std::fs::remove_dir_all(bed.folder().join("checkout")).unwrap();
    }
    bed.repo().checkout(&tip, &into(&bed), &limits(5, 3, 15)).unwrap();
}
