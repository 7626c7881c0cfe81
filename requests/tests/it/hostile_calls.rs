//! What steers neither a read nor a call, beyond the names and settings of [`crate::hostile_git`] (S6, S7).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use chiffon_requests::{Error, Expect, FilePolicy, Git, GitUrl, RefName, Refusal, Repo, WalkLimits};

use crate::bed::{Bed, branch, edit, oid, path, search_path};

fn git() -> Git {
    Git::new(search_path(), None)
}

fn local(path: &Path) -> GitUrl {
    GitUrl::parse(path.to_str().unwrap(), FilePolicy::Allow).unwrap()
}

/// A repository of ours, empty, beside the bed's, which plays the remote.
fn ours(bed: &Bed) -> PathBuf {
    let ours = bed.folder().join("ours.git");
    git().init_bare(&ours, "main").unwrap();
    ours
}

fn program(path: &Path, script: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Texts that are an option, a refspec, a revision, or something else than one branch.
const REFS: [&str; 21] = [
    "--upload-pack=id",
    "-x",
    "--",
    "+main",
    "main:evil",
    ":main",
    "a..b",
    "a...b",
    "a^{}",
    "a~1",
    "a@{1}",
    "*",
    "a b",
    "a\nb",
    "a\0b",
    "\u{1b}[2J",
    "a.lock",
    ".a",
    "a//b",
    "../../config",
    "",
];

#[test]
fn s7_hostile_branches_reach_no_call() {
    let bed = Bed::new();
    let made = bed.folder().join("new");
    // A git that would be noticed, were it called.
    let mark = bed.folder().join("called");
    program(&bed.folder().join("bin/git"), &format!("#!/bin/sh\ntouch '{}'\n", mark.display()));
    let watched = Git::new(bed.folder().join("bin").into_os_string(), None);
    for text in REFS {
        // A leading `+` is an ordinary letter of a name, and harmless behind `refs/heads/`.
        let accepted = text == "+main";
        assert_eq!(RefName::branch(text).is_ok(), accepted, "{text:?}");
        assert!(RefName::parse(text).is_err(), "{text:?}");
        if !accepted {
            assert!(matches!(watched.init_bare(&made, text), Err(Error::Id(_))), "{text:?}");
        }
    }
    assert!(!mark.exists() && !made.exists());
}

#[test]
fn s7_an_https_address_that_a_repository_rewrites_to_a_path_is_not_followed() {
    let bed = Bed::new();
    bed.commit("main", &[("a", "1")], &[]);
    let ours = ours(&bed);
    for (key, value) in [
        ("protocol.allow", "always".to_owned()),
        ("protocol.file.allow", "always".to_owned()),
        (&format!("url.{}.insteadOf", bed.path().display()), "https://forge.invalid/a".to_owned()),
    ] {
        bed.run(Command::new("git").arg("--git-dir").arg(&ours).args(["config", key, &value]), b"");
    }
    let url = GitUrl::parse("https://forge.invalid/a", FilePolicy::Refuse).unwrap();
    let error = git().fetch(&ours, &url, &branch("main"), &branch("main")).unwrap_err().to_string();
    assert!(error.contains("not allowed"), "refused for another reason: {error}");
    assert_eq!(Repo::open(&ours).unwrap().reference(&branch("main")).unwrap(), None);
}

#[test]
fn s7_a_hook_on_our_side_fires_for_another_git_and_not_for_ours() {
    let bed = Bed::new();
    let tip = bed.commit("main", &[("a", "1")], &[]);
    let (ours, mark) = (ours(&bed), bed.folder().join("fired"));
    for hook in ["reference-transaction", "pre-push"] {
        program(&ours.join("hooks").join(hook), &format!("#!/bin/sh\ntouch '{}'\n", mark.display()));
    }
    git().fetch(&ours, &local(&bed.path()), &branch("main"), &branch("main")).unwrap();
    git().push(&ours, &local(&bed.path()), &tip, &branch("copy"), None).unwrap();
    let repo = Repo::open(&ours).unwrap();
    let done = repo.commit(&edit("ours", Expect::New, &[("b", Some("2"))])).unwrap();
    repo.delete_ref(&branch("ours"), &done.commit).unwrap();
    assert!(!mark.exists());
    bed.run(Command::new("git").arg("--git-dir").arg(&ours).args(["update-ref", "refs/heads/x", tip.as_str()]), b"");
    assert!(mark.exists(), "the trap itself is broken");
}

#[test]
fn s7_our_settings_do_not_reach_the_hooks_of_the_receiving_side() {
    let bed = Bed::new();
    let ours = ours(&bed);
    let commit = Repo::open(&ours).unwrap().commit(&edit("main", Expect::New, &[("a", Some("1"))])).unwrap().commit;
    let seen = bed.folder().join("seen");
    let script = format!(
        "#!/bin/sh\ncat > '{0}'\nenv > '{0}.env'\ngit config core.hooksPath > '{0}.path'\nexit 0\n",
        seen.display()
    );
    program(&bed.path().join("hooks/pre-receive"), &script);
    git().push(&ours, &local(&bed.path()), &commit, &branch("main"), None).unwrap();
    let read = |ending: &str| std::fs::read_to_string(format!("{}{ending}", seen.display())).unwrap();
    assert!(read("").contains(&format!("{commit} refs/heads/main")), "{}", read(""));
    assert_eq!(read(".path"), "", "a hook of theirs would be silenced by a setting of ours");
    let env = read(".env");
    assert!(!env.contains("GIT_CONFIG_PARAMETERS") && !env.contains("CHIFFON_GIT"), "{env}");
}

#[test]
fn s6_documents_are_not_reached_through_links_submodules_or_files() {
    let bed = Bed::new();
    let real = bed.raw_tree(&[("100644", b"a.yaml".to_vec(), bed.blob(b"a"))]);
    let requests = bed.raw_tree(&[
        ("100644", b"file.yaml".to_vec(), bed.blob(b"f")),
        ("120000", b"link".to_vec(), bed.blob(b"real")),
        ("160000", b"module".to_vec(), "1".repeat(40)),
        ("40000", b"real".to_vec(), real),
    ]);
    let root = bed.raw_tree(&[("40000", b"requests".to_vec(), requests)]);
    let commit = bed.commit_tree(&root, &[], "m");
    let read = |at: &str| bed.repo().read_document(&commit, &path(at), 100);
    assert_eq!(read("requests/real/a.yaml").unwrap(), b"a");
    for at in ["requests/link/a.yaml", "requests/module/a.yaml", "requests/file.yaml/a.yaml"] {
        assert_eq!(read(at).unwrap_err(), Refusal::Missing, "{at}");
    }
}

#[test]
fn s6_an_object_of_another_kind_than_its_entry_says_is_not_read() {
    let bed = Bed::new();
    let blob = bed.blob(b"100644 x.yaml\0aaaaaaaaaaaaaaaaaaaa");
    let tree = bed.tree(&[("a", "1")]);
    // A file that is a folder's listing, and a folder that is a file's bytes.
    let root = bed.raw_tree(&[("100644", b"file.yaml".to_vec(), tree), ("40000", b"folder".to_vec(), blob)]);
    let commit = bed.commit_tree(&root, &[], "m");
    let repo = bed.repo();
    assert!(matches!(repo.read_document(&commit, &path("file.yaml"), 100), Err(Refusal::Unreadable(_))));
    assert!(repo.entry_at(&commit, &path("folder/x.yaml")).is_err());
    assert!(repo.tree_of(&oid(&bed.blob(b"no commit"))).is_err());
}

/// Git has a submodule there, and other readers a folder: neither is taken.
#[test]
fn s6_a_mode_that_two_readers_take_for_different_things_is_damage() {
    let bed = Bed::new();
    let folder = bed.tree(&[("x.yaml", "x")]);
    for mode in ["140000", "0", "60000", "20000", "170000", "1160000"] {
        let requests = bed.raw_tree(&[(mode, b"m".to_vec(), folder.clone())]);
        let root = bed.raw_tree(&[("40000", b"requests".to_vec(), requests)]);
        let commit = bed.commit_tree(&root, &[], "m");
        let changes = bed.repo().changes(None, &commit, &path("requests/"), &WalkLimits::default()).unwrap();
        assert!(changes.entries.is_empty(), "{mode}: {changes:?}");
        assert!(matches!(&changes.refused[..], [(_, Refusal::Unreadable(_))]), "{mode}: {changes:?}");
        assert!(bed.repo().entry_at(&commit, &path("requests/m/x.yaml")).is_err(), "{mode}");
    }
}
