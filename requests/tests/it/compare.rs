//! What this crate reads and writes is what git reads and writes.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_requests::{Error, Expect, WalkLimits};
use chiffon_schemas::{Oid, RepoPath};
use proptest::prelude::*;

use crate::bed::{Bed, branch, edit, oid, path, person};

#[test]
fn commits_have_the_ids_that_git_gives_the_same_content() {
    let bed = Bed::new();
    let repo = bed.repo();
    let first = repo.commit(&edit("main", Expect::New, &[("a.txt", Some("1")), ("b/c/d.txt", Some("2"))])).unwrap();
    assert!(first.changed);
    let by_git = bed.commit("git", &[("a.txt", "1"), ("b/c/d.txt", "2")], &[]);
    assert_eq!(first.commit, by_git);

    let changes = [("b/c/d.txt", None), ("b.txt", Some("3")), ("b/e.txt", Some("4"))];
    let second = repo.commit(&edit("main", Expect::Tip(first.commit.clone()), &changes)).unwrap();
    let by_git = bed.commit("git", &[("a.txt", "1"), ("b.txt", "3"), ("b/e.txt", "4")], &[&by_git]);
    assert_eq!(second.commit, by_git);
    assert_eq!(bed.git(&["rev-parse", "refs/heads/main"]), second.commit.as_str());
    bed.fsck();
}

#[test]
fn a_folder_that_loses_its_last_file_is_gone() {
    let bed = Bed::new();
    let repo = bed.repo();
    bed.commit("main", &[("a", "1"), ("b/c/d", "2")], &[]);
    let done = repo.commit(&edit("main", Expect::Any, &[("b/c/d", None)])).unwrap();
    assert_eq!(repo.tree_of(&done.commit).unwrap().as_str(), bed.tree(&[("a", "1")]));
    let done = repo.commit(&edit("main", Expect::Any, &[("a", None)])).unwrap();
    assert_eq!(bed.git(&["ls-tree", done.commit.as_str()]), "");
    bed.fsck();
}

#[test]
fn a_file_that_may_be_executed_stays_so_when_edited() {
    let bed = Bed::new();
    let tree = bed.raw_tree(&[("100755", b"run.sh".to_vec(), bed.blob(b"old"))]);
    let tip = bed.commit_tree(&tree, &[], "m");
    bed.git(&["update-ref", "refs/heads/main", tip.as_str()]);
    let done = bed.repo().commit(&edit("main", Expect::Tip(tip), &[("run.sh", Some("new"))])).unwrap();
    assert!(bed.git(&["ls-tree", done.commit.as_str()]).starts_with("100755 blob"));
}

#[test]
fn an_edit_that_changes_nothing_makes_no_commit() {
    let bed = Bed::new();
    let repo = bed.repo();
    let tip = bed.commit("main", &[("a", "1")], &[]);
    let mut same = edit("main", Expect::Any, &[("a", Some("1"))]);
    let done = repo.commit(&same).unwrap();
    assert!(!done.changed);
    assert_eq!(done.commit, tip);
    same.allow_empty = true;
    let done = repo.commit(&same).unwrap();
    assert!(done.changed);
    assert_eq!(repo.commit_info(&done.commit).unwrap().parents, vec![tip]);
}

#[test]
fn refs_move_only_from_the_value_that_was_expected() {
    let bed = Bed::new();
    let repo = bed.repo();
    let one = bed.commit("main", &[("a", "1")], &[]);
    let two = bed.commit("main", &[("a", "2")], &[&one]);
    let moved = |result: Result<(), Error>| matches!(result, Err(Error::Moved { .. }));
    let stale = repo.commit(&edit("main", Expect::Tip(one.clone()), &[("a", Some("3"))]));
    assert!(moved(stale.map(drop)));
    assert!(moved(repo.commit(&edit("main", Expect::New, &[("a", Some("3"))])).map(drop)));
    assert!(moved(repo.set_ref(&branch("main"), &one, Some(&one))));
    assert!(moved(repo.set_ref(&branch("main"), &one, None)));
    assert!(moved(repo.set_ref(&branch("other"), &one, Some(&one))));
    assert!(moved(repo.delete_ref(&branch("main"), &one)));
    assert_eq!(repo.reference(&branch("main")).unwrap(), Some(two.clone()));
    repo.set_ref(&branch("main"), &one, Some(&two)).unwrap();
    repo.set_ref(&branch("new"), &two, None).unwrap();
    repo.delete_ref(&branch("main"), &one).unwrap();
    assert_eq!(repo.reference(&branch("main")).unwrap(), None);
    assert_eq!(repo.reference(&branch("new")).unwrap(), Some(two));
}

#[test]
fn packed_refs_and_packed_objects_are_seen() {
    let bed = Bed::new();
    let repo = bed.repo();
    let one = bed.commit("main", &[("a", "1")], &[]);
    assert_eq!(repo.reference(&branch("main")).unwrap(), Some(one.clone()));
    let two = bed.commit("main", &[("a", "2")], &[&one]);
    bed.git(&["gc", "--quiet", "--prune=now"]);
    assert_eq!(repo.reference(&branch("main")).unwrap(), Some(two.clone()));
    assert_eq!(repo.commit_info(&two).unwrap().parents, vec![one]);
    assert_eq!(repo.references("refs/heads/").unwrap(), vec![(branch("main"), two.clone())]);
    repo.delete_ref(&branch("main"), &two).unwrap();
    assert_eq!(bed.git(&["for-each-ref"]), "");
}

#[test]
fn pins_keep_a_commit_through_gc() {
    let bed = Bed::new();
    let repo = bed.repo();
    let kept = bed.commit("main", &[("a", "1")], &[]);
    let plan = oid(&bed.blob(b"plan"));
    repo.pin(&plan, &kept).unwrap();
    repo.pin(&plan, &kept).unwrap();
    repo.delete_ref(&branch("main"), &kept).unwrap();
    bed.git(&["gc", "--quiet", "--prune=now"]);
    assert_eq!(bed.repo().tree_of(&kept).unwrap().as_str(), bed.tree(&[("a", "1")]));
    assert_eq!(repo.pins().unwrap(), vec![(plan.clone(), kept)]);
    repo.unpin(&plan).unwrap();
    repo.unpin(&plan).unwrap();
    assert_eq!(repo.pins().unwrap(), vec![]);
}

#[test]
fn blobs_are_read_within_their_limit_only() {
    let bed = Bed::new();
    let repo = bed.repo();
    let blob = oid(&bed.blob(b"12345"));
    assert_eq!(repo.read_blob(&blob, 5).unwrap(), b"12345");
    assert!(matches!(repo.read_blob(&blob, 4), Err(Error::TooLarge { bytes: 5, limit: 4, .. })));
    assert!(repo.read_blob(&oid(&bed.tree(&[("a", "1")])), 1000).is_err(), "a tree is no blob");
    assert!(repo.read_blob(&oid(&"0".repeat(40)), 5).is_err());
    assert!(repo.read_blob(&oid(&"a".repeat(64)), 5).is_err(), "an id of another kind of repository");
}

#[test]
fn s1_replaced_objects_are_not_what_is_read() {
    let bed = Bed::new();
    let (reviewed, other) = (bed.blob(b"reviewed"), bed.blob(b"evil"));
    bed.git(&["update-ref", &format!("refs/replace/{reviewed}"), &other]);
    assert_eq!(bed.repo().read_blob(&oid(&reviewed), 100).unwrap(), b"reviewed");
}

#[test]
fn s1_bytes_that_are_not_what_their_id_says_are_not_read() {
    let bed = Bed::new();
    let (wanted, other) = (bed.blob(b"reviewed"), bed.blob(b"evil"));
    let at = |oid: &str| bed.path().join("objects").join(&oid[..2]).join(&oid[2..]);
    std::fs::remove_file(at(&wanted)).unwrap();
    std::fs::copy(at(&other), at(&wanted)).unwrap();
    assert!(bed.repo().read_blob(&oid(&wanted), 100).is_err());
}

#[test]
fn paths_are_found_as_git_finds_them() {
    let bed = Bed::new();
    let repo = bed.repo();
    let tip = bed.commit("main", &[("a.txt", "1"), ("b/c/d.txt", "2")], &[]);
    let at = |text: &str| repo.entry_at(&tip, &path(text)).unwrap().map(|entry| entry.oid.to_string());
    for text in ["a.txt", "b/c", "b/c/d.txt", "b"] {
        assert_eq!(at(text), Some(bed.git(&["rev-parse", &format!("{tip}:{text}")])), "{text}");
    }
    assert_eq!(at("b/c/"), at("b/c"));
    assert_eq!(at("a.txt/"), None);
    assert_eq!(at("a.txt/b"), None);
    assert_eq!(at("none/at/all"), None);
    assert_eq!(repo.blob_at(&tip, &path("b/c")).unwrap(), None);
}

#[test]
fn ancestors_are_as_git_says() {
    let bed = Bed::new();
    let repo = bed.repo();
    let root = bed.commit("main", &[("a", "1")], &[]);
    let left = bed.commit("main", &[("a", "2")], &[&root]);
    let right = bed.commit("side", &[("b", "2")], &[&root]);
    let merge = bed.commit("main", &[("a", "2"), ("b", "2")], &[&left, &right]);
    let lone = bed.commit("lone", &[("c", "2")], &[]);
    let all = [&root, &left, &right, &merge, &lone];
    for a in all {
        for b in all {
            let mut command = std::process::Command::new("git");
            let git_dir = bed.path();
            command.arg("--git-dir").arg(&git_dir).args(["merge-base", "--is-ancestor", a.as_str(), b.as_str()]);
            let expected = bed.try_run(&mut command, b"").status.success();
            assert_eq!(repo.is_ancestor(a, b).unwrap(), expected, "{a} of {b}");
        }
    }
}

/// `main` with a request, and an offer of a plan on a branch of its own.
struct Offered {
    bed: Bed,
    main: Oid,
    offer: Oid,
    blob: Oid,
}

const PLAN: &str = "plans/kuma.yaml";

fn offered() -> Offered {
    let bed = Bed::new();
    let main = bed.commit("main", &[("requests/kuma.yaml", "r")], &[]);
    let offer = bed.commit("chiffon/plan/kuma", &[("requests/kuma.yaml", "r"), (PLAN, "plan 1")], &[&main]);
    let blob = oid(&bed.blob(b"plan 1"));
    Offered { bed, main, offer, blob }
}

impl Offered {
    fn introduced(&self, tip: &Oid) -> Oid {
        self.bed.repo().introduced(tip, Some(&self.main), &path(PLAN), &self.blob).unwrap()
    }
}

#[test]
fn s2_a_fast_forward_is_introduced_by_the_offers_own_commit() {
    let it = offered();
    let files = [("requests/kuma.yaml", "r"), (PLAN, "plan 1"), ("plans/kuma.evidence.yaml", "e")];
    let evidence = it.bed.commit("chiffon/plan/kuma", &files, &[&it.offer]);
    assert_eq!(it.introduced(&evidence), it.offer);
}

#[test]
fn s2_a_merge_is_introduced_by_the_merge_commit() {
    let it = offered();
    let moved = it.bed.commit("main", &[("requests/kuma.yaml", "r"), ("requests/b.yaml", "b")], &[&it.main]);
    let all = [("requests/kuma.yaml", "r"), ("requests/b.yaml", "b"), (PLAN, "plan 1")];
    let merge = it.bed.commit("main", &all, &[&moved, &it.offer]);
    let later = it.bed.commit("main", &[all.as_slice(), &[("requests/c.yaml", "c")]].concat(), &[&merge]);
    assert_eq!(it.introduced(&later), merge);
}

#[test]
fn s2_a_squash_and_a_rebase_are_introduced_by_their_new_commit() {
    let it = offered();
    let moved = it.bed.commit("main", &[("requests/kuma.yaml", "r"), ("x", "x")], &[&it.main]);
    let squash = it.bed.commit("main", &[("requests/kuma.yaml", "r"), ("x", "x"), (PLAN, "plan 1")], &[&moved]);
    let later = it.bed.commit("main", &[("requests/kuma.yaml", "r"), (PLAN, "plan 1")], &[&squash]);
    assert_eq!(it.introduced(&later), squash);
}

#[test]
fn s2_a_rebase_is_introduced_by_its_replayed_commit_that_brings_the_plan() {
    let it = offered();
    let moved = it.bed.commit("main", &[("requests/kuma.yaml", "r"), ("x", "x")], &[&it.main]);
    // The offer was two commits, evidence first; both are made anew on the moved branch.
    let evidence = [("requests/kuma.yaml", "r"), ("x", "x"), ("plans/kuma.evidence.yaml", "e")];
    let replayed = it.bed.commit("main", &evidence, &[&moved]);
    let brings = it.bed.commit("main", &[evidence.as_slice(), &[(PLAN, "plan 1")]].concat(), &[&replayed]);
    let last = it.bed.commit("main", &[evidence.as_slice(), &[(PLAN, "plan 1"), ("y", "y")]].concat(), &[&brings]);
    assert_eq!(it.introduced(&last), brings);
    assert!(!it.bed.repo().is_ancestor(&it.offer, &last).unwrap(), "the offer's own commit is not in it");
}

#[test]
fn s2_a_plan_taken_away_and_put_back_is_introduced_by_the_later_commit() {
    let it = offered();
    let gone = it.bed.commit("main", &[("requests/kuma.yaml", "r")], &[&it.offer]);
    let back = it.bed.commit("main", &[("requests/kuma.yaml", "r"), (PLAN, "plan 1")], &[&gone]);
    assert_eq!(it.introduced(&back), back);
    let repo = it.bed.repo();
    let absent = repo.introduced(&gone, Some(&it.main), &path(PLAN), &it.blob);
    assert!(matches!(absent, Err(Error::NotThere { .. })));
}

#[test]
fn s2_a_symbolic_link_with_the_plans_bytes_is_not_the_plan() {
    let it = offered();
    let plans = it.bed.raw_tree(&[("120000", b"kuma.yaml".to_vec(), it.blob.to_string())]);
    let root = it.bed.raw_tree(&[("40000", b"plans".to_vec(), plans)]);
    let commit = it.bed.commit_tree(&root, &[it.main.as_str()], "m");
    let repo = it.bed.repo();
    assert_eq!(repo.blob_at(&commit, &path(PLAN)).unwrap(), None);
    let changes = repo.changes(Some(&it.main), &commit, &path("plans/"), &WalkLimits::default()).unwrap();
    assert!(changes.entries.is_empty());
    assert_eq!(changes.refused.len(), 1);
}

#[test]
fn merges_take_both_parents_and_the_first_ones_tree() {
    let it = offered();
    let mut merge = edit("main", Expect::Tip(it.main.clone()), &[(PLAN, Some("plan 1"))]);
    merge.parents = Some(vec![it.main.clone(), it.offer.clone()]);
    merge.base = Some(it.main.clone());
    let done = it.bed.repo().commit(&merge).unwrap();
    let info = it.bed.repo().commit_info(&done.commit).unwrap();
    assert_eq!(info.parents, vec![it.main.clone(), it.offer.clone()]);
    assert_eq!((info.author.clone(), info.committer.clone(), info.message.as_str()), (person(), person(), "by git\n"));
    assert_eq!(it.introduced(&done.commit), done.commit);
    it.bed.fsck();
}

/// Files by path, as one side of a random change.
type Files = BTreeMap<String, String>;

fn files() -> impl Strategy<Value = Files> {
    let at = prop::sample::select(vec![
        "a",
        "a.b",
        "a-b",
        "a/x",
        "a/y/z",
        "a0",
        "b/c",
        "b/c/d",
        "requests/a.yaml",
        "requests/m/b.yaml",
        "requests/m.yaml",
        "requests/m-n/c.yaml",
        "requests/m/n/d.yaml",
        "requestsx/e.yaml",
    ]);
    prop::collection::btree_map(at.prop_map(str::to_owned), "[0-2]", 0..10).prop_map(|mut files| {
        // A path can't be a file and a folder at once.
        let folders: BTreeSet<String> = files
            .keys()
            .flat_map(|path| path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect::<Vec<_>>())
            .collect();
        files.retain(|path, _| !folders.contains(path));
        files
    })
}

fn commit_of(bed: &Bed, files: &Files) -> Oid {
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    bed.commit_tree(&bed.tree(&files), &[], "m")
}

fn by_git(bed: &Bed, old: &Oid, new: &Oid, under: &str) -> BTreeMap<String, (String, String)> {
    let raw = bed.git(&["diff-tree", "-r", "-z", "--no-renames", old.as_str(), new.as_str(), "--", under]);
    let mut fields = raw.split('\0').filter(|field| !field.is_empty());
    let mut found = BTreeMap::new();
    while let (Some(head), Some(path)) = (fields.next(), fields.next()) {
        let words: Vec<&str> = head.split(' ').collect();
        // Git's own `a/` also means a file `a`.
        if !path.starts_with(under) {
            continue;
        }
        found.insert(path.to_owned(), (words[2].to_owned(), words[3].to_owned()));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_are_what_git_diff_tree_says(old in files(), new in files()) {
        let bed = Bed::new();
        let (old, new) = (commit_of(&bed, &old), commit_of(&bed, &new));
        let zeros = "0".repeat(40);
        for under in ["requests/", "a/", "b/"] {
            let changes = bed.repo().changes(Some(&old), &new, &path(under), &WalkLimits::default()).unwrap();
            // A file that stands where the folder is looked for is said; what it replaced is removed all the same.
            let replaced = bed.repo().blob_at(&new, &path(under.trim_end_matches('/'))).unwrap().is_some();
            prop_assert_eq!(changes.refused.len(), usize::from(replaced));
            let hex = |entry: Option<&chiffon_requests::Entry>| entry.map_or(zeros.clone(), |entry| entry.oid.to_string());
            let ours: BTreeMap<String, (String, String)> = changes
                .entries
                .iter()
                .map(|change| (change.path.to_string(), (hex(change.old.as_ref()), hex(change.new.as_ref()))))
                .collect();
            prop_assert_eq!(ours.len(), changes.entries.len());
            prop_assert_eq!(ours, by_git(&bed, &old, &new, under));
        }
    }

    #[test]
    fn a_walk_finds_what_git_ls_tree_finds(files in files()) {
        let bed = Bed::new();
        let commit = commit_of(&bed, &files);
        let walk = bed.repo().walk(&commit, None, &WalkLimits::default()).unwrap();
        let ours: Vec<String> = walk.entries.iter().map(|(path, entry)| format!("{} {path}", entry.oid)).collect();
        let theirs = bed.git(&["ls-tree", "-r", "--format=%(objectname) %(path)", commit.as_str()]);
        let theirs: Vec<String> = theirs.lines().map(str::to_owned).collect();
        prop_assert_eq!(ours, theirs);
    }
}

#[test]
fn changes_of_a_first_look_are_every_file_below() {
    let bed = Bed::new();
    let tip = bed.commit("main", &[("requests/a.yaml", "1"), ("requests/m/b.yaml", "2"), ("plans/a.yaml", "3")], &[]);
    let changes = bed.repo().changes(None, &tip, &path("requests/"), &WalkLimits::default()).unwrap();
    let paths: Vec<&RepoPath> = changes.entries.iter().map(|change| &change.path).collect();
    assert_eq!(paths, [&path("requests/a.yaml"), &path("requests/m/b.yaml")]);
    assert!(changes.entries.iter().all(|change| change.old.is_none() && change.new.is_some()));
}
