//! Trees that no honest git makes (S6): each is refused with a line that names it, and what lies beside it is read.

use chiffon_requests::{Error, Refusal, Repo, WalkLimits};
use chiffon_schemas::{Oid, RepoPath};

use crate::bed::{Bed, RawEntry, oid, path};

/// The limit of a request file.
const LIMIT: u64 = 64 * 1024;

const FILE: &str = "100644";
const FOLDER: &str = "40000";
const LINK: &str = "120000";
const MODULE: &str = "160000";

/// A commit whose `requests/` is this tree.
fn commit(bed: &Bed, requests: &str) -> Oid {
    commit_root(bed, FOLDER, requests)
}

fn commit_root(bed: &Bed, mode: &'static str, requests: &str) -> Oid {
    let root = bed.raw_tree(&[(mode, b"requests".to_vec(), requests.to_owned())]);
    bed.commit_tree(&root, &[], "m")
}

/// Beside one hostile entry, an honest file before and after it.
fn beside(bed: &Bed, entry: RawEntry) -> Oid {
    let good = bed.blob(b"good");
    let mut entries = vec![(FILE, b"!good.yaml".to_vec(), good.clone()), entry, (FILE, b"~good.yaml".to_vec(), good)];
    entries.sort_by(|a, b| {
        let key = |entry: &RawEntry| [entry.1.as_slice(), if entry.0 == FOLDER { b"/" } else { b"" }].concat();
        key(a).cmp(&key(b))
    });
    commit(bed, &bed.raw_tree(&entries))
}

fn look(repo: &Repo, commit: &Oid, limits: &WalkLimits) -> (Vec<String>, Vec<(String, Refusal)>) {
    let changes = repo.changes(None, commit, &path("requests/"), limits).unwrap();
    (changes.entries.iter().map(|change| change.path.to_string()).collect(), changes.refused)
}

const GOOD: [&str; 2] = ["requests/!good.yaml", "requests/~good.yaml"];

#[test]
fn s6_names_that_are_no_paths_are_refused_and_their_neighbours_read() {
    let long = [b'x'; 1100];
    let names: [&[u8]; 32] = [
        b"..",
        b".",
        b".git",
        b".GIT",
        b".gIt",
        b"git~1",
        b"GIT~1",
        b".git ",
        b".git.",
        b".git. .",
        b".git::$INDEX_ALLOCATION",
        b".g\xe2\x80\x8cit",
        b".git\xef\xbb\xbf",
        b"-x.yaml",
        b"--upload-pack=touch owned",
        b"a\nb.yaml",
        b"a\tb.yaml",
        b"\x1b[2Jx.yaml",
        b"\x7f.yaml",
        b"\xc2\x85.yaml",
        b"a\\b.yaml",
        b"..\\x.yaml",
        b"a/b.yaml",
        b"/etc/passwd",
        b"../x.yaml",
        b"\xff.yaml",
        b"\xc0\xae\xc0\xae",
        b"\xed\xa0\x80.yaml",
        b"a\rb.yaml",
        b"\x01",
        b"\\",
        &long,
    ];
    let bed = Bed::new();
    for name in names {
        for kind in [FILE, FOLDER, LINK, MODULE] {
            let object = match kind {
                FOLDER => bed.raw_tree(&[(FILE, b"kuma.yaml".to_vec(), bed.blob(b"x"))]),
                MODULE => "1".repeat(40),
                _ => bed.blob(b"x"),
            };
            let tip = beside(&bed, (kind, name.to_vec(), object));
            let (found, refused) = look(&bed.repo(), &tip, &WalkLimits::default());
            let case = format!("{kind} {:?}", String::from_utf8_lossy(name));
            assert_eq!(found, GOOD, "{case}");
            let [(shown, Refusal::BadName)] = refused.as_slice() else { panic!("{case}: {refused:?}") };
            assert!(!shown.chars().any(char::is_control), "{case}: {shown:?}");
            let walk = bed.repo().walk(&tip, None, &WalkLimits::default()).unwrap();
            assert_eq!((walk.entries.len(), walk.refused.len()), (2, 1), "{case}");
        }
    }
}

#[test]
fn s6_what_is_no_file_is_refused_by_its_kind() {
    let cases: [(&str, &[u8], Refusal); 6] = [
        (LINK, b"kuma.yaml", Refusal::Symlink),
        (LINK, b"/etc/passwd", Refusal::Symlink),
        (LINK, b"../../../x", Refusal::Symlink),
        (LINK, b"", Refusal::Symlink),
        (LINK, b"\xff", Refusal::Symlink),
        (MODULE, b"", Refusal::Submodule),
    ];
    for (kind, target, refusal) in cases {
        let bed = Bed::new();
        let object = if kind == MODULE { "1".repeat(40) } else { bed.blob(target) };
        let tip = beside(&bed, (if kind == LINK { LINK } else { MODULE }, b"x.yaml".to_vec(), object));
        let (found, refused) = look(&bed.repo(), &tip, &WalkLimits::default());
        assert_eq!(found, GOOD);
        assert_eq!(refused, vec![("requests/x.yaml".to_owned(), refusal.clone())]);
        assert_eq!(bed.repo().read_document(&tip, &path("requests/x.yaml"), LIMIT), Err(refusal));
        assert_eq!(bed.repo().blob_at(&tip, &path("requests/x.yaml")).unwrap(), None);
    }
}

#[test]
fn s6_a_file_replaced_by_a_link_is_gone_and_the_link_refused() {
    let bed = Bed::new();
    let before = bed.commit("main", &[("requests/x.yaml", "r")], &[]);
    let link = bed.raw_tree(&[(LINK, b"x.yaml".to_vec(), bed.blob(b"r"))]);
    let after = commit(&bed, &link);
    let changes = bed.repo().changes(Some(&before), &after, &path("requests/"), &WalkLimits::default()).unwrap();
    assert_eq!(changes.refused, vec![("requests/x.yaml".to_owned(), Refusal::Symlink)]);
    let [change] = changes.entries.as_slice() else { panic!("{changes:?}") };
    assert!(change.old.is_some() && change.new.is_none());
    // And back: that the link is gone counts too, so that what was said of it can be taken back.
    let changes = bed.repo().changes(Some(&after), &before, &path("requests/"), &WalkLimits::default()).unwrap();
    let [change] = changes.entries.as_slice() else { panic!("{changes:?}") };
    assert!(change.old.is_some() && change.new.is_some() && changes.refused.is_empty());
}

#[test]
fn s6_documents_are_small_text_and_no_pointers() {
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    let large = vec![b'x'; LIMIT as usize + 1];
    let cases: [(&[u8], Result<(), Refusal>); 8] = [
        (b"fine", Ok(())),
        (b"", Ok(())),
        (&large[1..], Ok(())),
        (&large, Err(Refusal::TooLarge { bytes: LIMIT + 1, limit: LIMIT })),
        (lfs, Err(Refusal::LfsPointer)),
        (b"caf\xe9", Err(Refusal::NotUtf8)),
        (b"\xff\xfea\0", Err(Refusal::NotUtf8)),
        (b"\xed\xa0\x80", Err(Refusal::NotUtf8)),
    ];
    for (content, expected) in cases {
        let bed = Bed::new();
        let tip = beside(&bed, (FILE, b"x.yaml".to_vec(), bed.blob(content)));
        assert_eq!(bed.repo().read_document(&tip, &path("requests/x.yaml"), LIMIT).map(drop), expected);
    }
    let bed = Bed::new();
    let tip = bed.commit("main", &[("requests/m/x.yaml", "r")], &[]);
    let read = |text: &str| bed.repo().read_document(&tip, &path(text), LIMIT).map(drop);
    assert_eq!(read("requests/none.yaml"), Err(Refusal::Missing));
    assert_eq!(read("requests/m/x.yaml/y"), Err(Refusal::Missing));
    assert_eq!(read("requests/m"), Err(Refusal::NotAFile));
    assert_eq!(read("requests/m/"), Err(Refusal::NotAFile));
}

/// A blob of a gigabyte is a megabyte to push: its size is judged before it is unpacked.
#[test]
fn s6_a_file_that_unpacks_to_far_more_than_was_pushed_is_never_unpacked() {
    let bed = Bed::new();
    let zeros = vec![0_u8; 64 * 1024 * 1024];
    let blob = bed.blob(&zeros);
    let tip = beside(&bed, (FILE, b"x.yaml".to_vec(), blob));
    let refused = bed.repo().read_document(&tip, &path("requests/x.yaml"), LIMIT);
    assert_eq!(refused, Err(Refusal::TooLarge { bytes: zeros.len() as u64, limit: LIMIT }));
}

#[test]
fn s6_damaged_folders_are_refused_and_nothing_below_them_changes() {
    type Make = fn(&Bed) -> String;
    let cases: [(&str, Make); 11] = [
        ("one name twice", |bed| {
            let blob = |text: &[u8]| (FILE, b"a.yaml".to_vec(), bed.blob(text));
            bed.raw_tree(&[blob(b"1"), blob(b"2")])
        }),
        ("a file and a folder of one name", |bed| {
            let folder = bed.tree(&[("x.yaml", "1")]);
            let blob = bed.blob(b"1");
            bed.raw_tree(&[
                (FILE, b"a".to_vec(), blob.clone()),
                (FILE, b"a.b".to_vec(), blob),
                (FOLDER, b"a".to_vec(), folder),
            ])
        }),
        ("a file and a link of one name", |bed| {
            bed.raw_tree(&[(FILE, b"a".to_vec(), bed.blob(b"1")), (LINK, b"a".to_vec(), bed.blob(b"1"))])
        }),
        ("out of order", |bed| {
            bed.raw_tree(&[(FILE, b"b".to_vec(), bed.blob(b"1")), (FILE, b"a".to_vec(), bed.blob(b"1"))])
        }),
        ("no folder's order", |bed| {
            let folder = bed.tree(&[("x.yaml", "1")]);
            bed.raw_tree(&[(FOLDER, b"a".to_vec(), folder), (FILE, b"a.b".to_vec(), bed.blob(b"1"))])
        }),
        ("cut off", |bed| bed.raw_object("tree", b"100644 a.yaml\0\x01\x02\x03")),
        ("a mode that is none", |bed| bed.raw_object("tree", b"9999 a.yaml\0aaaaaaaaaaaaaaaaaaaa")),
        ("no name's end", |bed| bed.raw_object("tree", b"100644 a.yaml")),
        ("noise", |bed| bed.raw_object("tree", &[0xff; 100])),
        ("a blob", |bed| bed.blob(b"100644 a.yaml")),
        ("larger than any folder", |bed| {
            bed.raw_object("tree", &b"100644 aaaaaaaaaaa\0aaaaaaaaaaaaaaaaaaaa".repeat(1_000_000))
        }),
    ];
    for (case, make) in cases {
        let bed = Bed::new();
        let hostile = make(&bed);
        let before = bed.commit("main", &[("requests/m/x.yaml", "1"), ("requests/y.yaml", "1")], &[]);
        let requests =
            bed.raw_tree(&[(FOLDER, b"m".to_vec(), hostile.clone()), (FILE, b"y.yaml".to_vec(), bed.blob(b"2"))]);
        let after = commit(&bed, &requests);
        let limits = WalkLimits::default();
        let repo = bed.repo();
        let changes = repo.changes(Some(&before), &after, &path("requests/"), &limits).unwrap();
        let paths: Vec<&RepoPath> = changes.entries.iter().map(|change| &change.path).collect();
        assert_eq!(paths, [&path("requests/y.yaml")], "{case}: {changes:?}");
        let [(shown, Refusal::Unreadable(_))] = changes.refused.as_slice() else {
            panic!("{case}: {:?}", changes.refused)
        };
        assert_eq!(shown, "requests/m/", "{case}");
        assert!(repo.read_document(&after, &path("requests/m/a.yaml"), LIMIT).is_err(), "{case}");
        // Mended, everything is seen again.
        let changes = repo.changes(Some(&after), &before, &path("requests/"), &limits).unwrap();
        assert_eq!((changes.entries.len(), changes.refused.len()), (2, 0), "{case}");
        // As the folder of all requests, or as the root.
        let whole = commit(&bed, &hostile);
        let (found, refused) = look(&repo, &whole, &limits);
        assert!(found.is_empty() && refused.len() == 1, "{case}");
        let root = bed.raw_object(
            "commit",
            format!("tree {hostile}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nm\n").as_bytes(),
        );
        let (found, refused) = look(&repo, &oid(&root), &limits);
        assert!(found.is_empty() && refused.len() == 1, "{case}");
    }
}

#[test]
fn s6_a_folder_of_requests_that_is_a_link_or_a_submodule_is_refused_whole() {
    for (mode, refusal) in [(LINK, Refusal::Symlink), (MODULE, Refusal::Submodule)] {
        let bed = Bed::new();
        let before = bed.commit("main", &[("requests/x.yaml", "1")], &[]);
        let after = commit_root(&bed, mode, &bed.blob(b"elsewhere"));
        let changes = bed.repo().changes(Some(&before), &after, &path("requests/"), &WalkLimits::default()).unwrap();
        assert_eq!(changes.refused, vec![("requests".to_owned(), refusal)]);
        assert!(changes.entries.iter().all(|change| change.new.is_none()), "nothing is read through it");
        assert_eq!(changes.entries.len(), 1);
    }
}

#[test]
fn s6_more_files_than_the_limit_are_refused_once() {
    let bed = Bed::new();
    let blob = bed.blob(b"x");
    let files: Vec<RawEntry> = (0..3000).map(|n| (FILE, format!("r{n:04}.yaml").into_bytes(), blob.clone())).collect();
    let tip = commit(&bed, &bed.raw_tree(&files));
    let limits = WalkLimits { max_files: 1000, ..WalkLimits::default() };
    let (found, refused) = look(&bed.repo(), &tip, &limits);
    assert_eq!(found.len(), 1000);
    assert_eq!(refused, vec![("requests/r1000.yaml".to_owned(), Refusal::TooMany { limit: 1000 })]);
    let (found, refused) = look(&bed.repo(), &tip, &WalkLimits::default());
    assert_eq!((found.len(), refused.len()), (3000, 0));
}

/// Ten folders that each hold the same ten folders, and so on: ten thousand million files in eleven small objects.
#[test]
fn s6_a_tree_bomb_costs_no_more_than_the_limit() {
    let bed = Bed::new();
    for leaf in
        [bed.tree(&[("x.yaml", "x")]), bed.raw_tree(&[]), bed.raw_tree(&[(FILE, b"..".to_vec(), bed.blob(b"x"))])]
    {
        let mut tree = leaf;
        for _ in 0..10 {
            let entries: Vec<RawEntry> = (0..10).map(|n| (FOLDER, vec![b'a' + n], tree.clone())).collect();
            tree = bed.raw_tree(&entries);
        }
        let tip = commit(&bed, &tree);
        let limits = WalkLimits { max_files: 500, ..WalkLimits::default() };
        let (found, refused) = look(&bed.repo(), &tip, &limits);
        assert!(found.len() <= 500 && refused.len() <= 501, "{} {}", found.len(), refused.len());
        assert!(refused.iter().any(|(_, why)| matches!(why, Refusal::TooMany { limit: 500 })));
        let walk = bed.repo().walk(&tip, None, &limits).unwrap();
        assert!(walk.entries.len() <= 500 && !walk.refused.is_empty());
    }
}

#[test]
fn s6_folders_nested_too_deep_are_refused() {
    let bed = Bed::new();
    let mut tree = bed.tree(&[("x.yaml", "x")]);
    for _ in 0..2000 {
        tree = bed.raw_tree(&[(FOLDER, b"d".to_vec(), tree)]);
    }
    let tip = commit(&bed, &tree);
    let (found, refused) = look(&bed.repo(), &tip, &WalkLimits::default());
    assert!(found.is_empty());
    let [(_, Refusal::TooDeep { limit: 32 })] = refused.as_slice() else { panic!("{refused:?}") };
}

#[test]
fn s6_old_modes_are_read_and_kept() {
    let bed = Bed::new();
    for mode in ["100664", "100600", "100755", "100775"] {
        let tip = beside(&bed, (mode, b"x.yaml".to_vec(), bed.blob(b"x")));
        assert_eq!(bed.repo().read_document(&tip, &path("requests/x.yaml"), LIMIT).unwrap(), b"x", "{mode}");
        bed.git(&["update-ref", "refs/heads/main", tip.as_str()]);
        let edit = crate::bed::edit("main", chiffon_requests::Expect::Tip(tip), &[("requests/new.yaml", Some("n"))]);
        let done = bed.repo().commit(&edit).unwrap();
        let tree = bed.git(&["rev-parse", &format!("{}:requests", done.commit)]);
        let raw = bed.try_run(
            std::process::Command::new("git").arg("--git-dir").arg(bed.path()).args(["cat-file", "tree", &tree]),
            b"",
        );
        let kept = raw.stdout.windows(mode.len()).any(|window| window == mode.as_bytes());
        assert!(kept, "{mode}");
    }
}

#[test]
fn s6_objects_that_are_missing_are_an_error_and_no_empty_folder() {
    let bed = Bed::new();
    let tip = commit(&bed, &bed.raw_tree(&[(FOLDER, b"m".to_vec(), "1".repeat(40))]));
    let missing = bed.repo().changes(None, &tip, &path("requests/"), &WalkLimits::default());
    assert!(matches!(missing, Err(Error::Object { .. })));
    let tip = beside(&bed, (FILE, b"x.yaml".to_vec(), "1".repeat(40)));
    let read = bed.repo().read_document(&tip, &path("requests/x.yaml"), LIMIT);
    assert!(matches!(read, Err(Refusal::Unreadable(_))));
}

#[test]
fn s6_commits_that_git_would_not_make_do_not_stop_the_reader() {
    let bed = Bed::new();
    let tree = commit(&bed, &bed.tree(&[("x.yaml", "x")]));
    let tree = bed.git(&["rev-parse", &format!("{tree}^{{tree}}")]);
    for head in [
        "author \ncommitter \n",
        "author a <a> x\ncommitter a <a> 99999999999999999999 +9999\n",
        "author \u{fffd}<\u{1b}[2J> 1 +0000\ncommitter a <a> -1 -0000\nencoding latin1\nx-odd y\n",
    ] {
        let text = [format!("tree {tree}\n").as_bytes(), head.as_bytes(), b"\nm\xff\0\n"].concat();
        let tip = oid(&bed.raw_object("commit", &text));
        let (found, _) = look(&bed.repo(), &tip, &WalkLimits::default());
        assert_eq!(found, ["requests/x.yaml"], "{head:?}");
        assert!(bed.repo().is_ancestor(&tip, &tip).unwrap());
    }
}
