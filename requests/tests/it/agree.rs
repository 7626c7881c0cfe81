//! What this crate writes to disk and to trees is what git would have written.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use chiffon_requests::{Expect, WalkLimits};

use crate::bed::{Bed, edit};

/// Every file and link below a folder: whether it may be executed, and its bytes or target.
fn on_disk(root: &Path, at: &Path, found: &mut BTreeMap<String, (bool, Vec<u8>)>) {
    for entry in std::fs::read_dir(at).unwrap() {
        let place = entry.unwrap().path();
        let name = place.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let meta = std::fs::symlink_metadata(&place).unwrap();
        if meta.is_dir() {
            found.insert(format!("{name}/"), (false, Vec::new()));
            on_disk(root, &place, found);
        } else if meta.is_symlink() {
            found.insert(name, (false, std::fs::read_link(&place).unwrap().into_os_string().into_encoded_bytes()));
        } else {
            found.insert(name, (meta.permissions().mode() & 0o100 != 0, std::fs::read(&place).unwrap()));
        }
    }
}

#[test]
fn a_checkout_is_what_git_archive_unpacks() {
    let bed = Bed::new();
    let tasks = bed.raw_tree(&[
        ("100644", b"main.yml".to_vec(), bed.blob(b"tasks\r\n")),
        ("120000", b"up.yml".to_vec(), bed.blob(b"../../site.yml")),
    ]);
    let roles = bed.raw_tree(&[("40000", b"web".to_vec(), tasks)]);
    let tree = bed.raw_tree(&[
        ("100644", b"-rf".to_vec(), bed.blob(b"a name")),
        ("100644", b"empty".to_vec(), bed.blob(b"")),
        ("100644", "grün \"x\".yml".as_bytes().to_vec(), bed.blob(&[0, 1, 2, 255])),
        ("160000", b"module".to_vec(), "1".repeat(40)),
        ("40000", b"roles".to_vec(), roles),
        ("100755", b"run.sh".to_vec(), bed.blob(b"#!/bin/sh\n")),
        ("100644", b"site.yml".to_vec(), bed.blob(b"play")),
    ]);
    let commit = bed.commit_tree(&tree, &[], "m");
    let (ours, theirs) = (bed.folder().join("ours"), bed.folder().join("theirs"));
    std::fs::create_dir(&ours).unwrap();
    std::fs::create_dir(&theirs).unwrap();
    bed.repo().checkout(&commit, &ours, &WalkLimits::default()).unwrap();
    let archive = bed.folder().join("a.tar");
    bed.git(&["archive", "--format=tar", "-o", archive.to_str().unwrap(), commit.as_str()]);
    bed.run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&theirs), b"");
    let (mut a, mut b) = (BTreeMap::new(), BTreeMap::new());
    on_disk(&ours, &ours, &mut a);
    on_disk(&theirs, &theirs, &mut b);
    assert_eq!(a.len(), 10, "{a:?}");
    assert_eq!(a, b);
}

/// What was there, what is edited, and what must be there afterwards.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [(&'a str, Option<&'a str>)], &'a [(&'a str, &'a str)]);

#[test]
fn files_and_folders_take_each_others_place() {
    let cases: [Case<'_>; 7] = [
        (&[("a", "1"), ("z", "1")], &[("a/b/c", Some("2"))], &[("a/b/c", "2"), ("z", "1")]),
        (&[("a/b/c", "1"), ("z", "1")], &[("a", Some("2"))], &[("a", "2"), ("z", "1")]),
        (&[("a/b/c", "1")], &[("a/b", Some("2"))], &[("a/b", "2")]),
        (&[("a", "1")], &[("a", None), ("a/b", Some("2"))], &[("a/b", "2")]),
        (&[("a/b", "1"), ("a/c", "1")], &[("a/b", None), ("a/c", None), ("a", Some("2"))], &[("a", "2")]),
        (&[("a", "1"), ("z", "1")], &[("a/b", None)], &[("a", "1"), ("z", "1")]),
        (
            &[("a.b", "1"), ("a/c", "1"), ("a0", "1")],
            &[("a-b", Some("2"))],
            &[("a-b", "2"), ("a.b", "1"), ("a/c", "1"), ("a0", "1")],
        ),
    ];
    for (before, changes, after) in cases {
        let bed = Bed::new();
        let tip = bed.commit("main", before, &[]);
        let done = bed.repo().commit(&edit("main", Expect::Tip(tip), changes)).unwrap();
        assert_eq!(bed.repo().tree_of(&done.commit).unwrap().as_str(), bed.tree(after), "{before:?} + {changes:?}");
        bed.fsck();
    }
}

#[test]
fn texts_of_people_break_no_commit() {
    let bed = Bed::new();
    let mut forged = edit("main", Expect::New, &[("a", Some("1"))]);
    forged.author.name = "A <a@b> 1 +0000\nparent 1111111111111111111111111111111111111111".to_owned();
    forged.author.email = "x>\0\ncommitter me <y".to_owned();
    forged.message = "one\0two".to_owned();
    let done = bed.repo().commit(&forged).unwrap();
    assert_eq!(bed.git(&["rev-list", "--count", "--parents", done.commit.as_str()]), "1");
    assert_eq!(bed.git(&["log", "-1", "--format=%cn|%B", done.commit.as_str()]).trim_end(), "Person|onetwo");
    assert!(bed.repo().commit_info(&done.commit).unwrap().parents.is_empty());
    bed.fsck();
}
