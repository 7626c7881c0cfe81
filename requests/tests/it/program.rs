//! What the git program's calls do when all is well, and what they say when it is not.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use chiffon_requests::{Error, Expect, FilePolicy, Git, GitUrl, Repo, WalkLimits};

use crate::bed::{Bed, branch, edit, path, search_path};

fn git() -> Git {
    Git::new(search_path(), None)
}

fn url(bed: &Bed) -> GitUrl {
    GitUrl::parse(bed.path().to_str().unwrap(), FilePolicy::Allow).unwrap()
}

#[test]
fn a_fetch_follows_the_branch_even_when_it_was_rewritten() {
    let bed = Bed::new();
    let mirror = bed.folder().join("mirror.git");
    git().init_bare(&mirror, "main").unwrap();
    let fetched = || {
        git().fetch(&mirror, &url(&bed), &branch("main"), &branch("main")).unwrap();
        Repo::open(&mirror).unwrap().reference(&branch("main")).unwrap().unwrap()
    };
    let missing = git().fetch(&mirror, &url(&bed), &branch("main"), &branch("main"));
    assert!(matches!(missing, Err(Error::NoRemoteBranch { .. })), "{missing:?}");
    git().default_branch(&url(&bed)).unwrap_err();
    let one = bed.commit("main", &[("a", "1")], &[]);
    assert_eq!(fetched(), one);
    let two = bed.commit("main", &[("a", "2")], &[&one]);
    assert_eq!(fetched(), two);
    let rewritten = bed.commit("main", &[("a", "3")], &[]);
    assert_eq!(fetched(), rewritten);
    assert_eq!(git().default_branch(&url(&bed)).unwrap(), "main");
}

#[test]
fn an_open_repository_sees_what_was_fetched_into_it() {
    let bed = Bed::new();
    let mirror = bed.folder().join("mirror.git");
    git().init_bare(&mirror, "main").unwrap();
    let open = Repo::open(&mirror).unwrap();
    let mut files: Vec<(String, String)> = Vec::new();
    for round in 0..3 {
        // More than a hundred objects come as a pack.
        files.extend((0..150).map(|n| (format!("r{round}/{n}"), format!("{round} {n}"))));
        let listed: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let tip = bed.commit("main", &listed, &[]);
        git().fetch(&mirror, &url(&bed), &branch("main"), &branch("main")).unwrap();
        let entry = open.blob_at(&tip, &path(&format!("r{round}/7"))).unwrap().unwrap();
        assert_eq!(open.read_blob(&entry.oid, 100).unwrap(), format!("{round} 7").as_bytes());
    }
}

#[test]
fn a_push_needs_the_branch_to_be_where_it_was_seen() {
    let bed = Bed::new();
    let work = bed.folder().join("work.git");
    git().init_bare(&work, "main").unwrap();
    let seen = bed.commit("main", &[("a", "1")], &[]);
    git().fetch(&work, &url(&bed), &branch("main"), &branch("main")).unwrap();
    let repo = Repo::open(&work).unwrap();
    let next = repo.commit(&edit("main", Expect::Tip(seen.clone()), &[("b", Some("2"))])).unwrap().commit;
    let push = |lease| git().push(&work, &url(&bed), &next, &branch("main"), lease);
    assert!(push(None).unwrap_err().is_stale(), "it is there already");
    assert!(push(Some(&next)).unwrap_err().is_stale());
    assert_eq!(bed.git(&["rev-parse", "refs/heads/main"]), seen.as_str());
    push(Some(&seen)).unwrap();
    assert_eq!(bed.git(&["rev-parse", "refs/heads/main"]), next.as_str());
    push(Some(&seen)).expect("what is there already is not refused");
    bed.fsck();
}

#[test]
fn a_hook_of_the_other_side_runs_and_its_words_are_in_the_error() {
    let bed = Bed::new();
    let work = bed.folder().join("work.git");
    git().init_bare(&work, "main").unwrap();
    let repo = Repo::open(&work).unwrap();
    let commit = repo.commit(&edit("main", Expect::New, &[("a", Some("1"))])).unwrap().commit;
    let hook = bed.path().join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\nprintf 'no \\033[31mplan (stale info)\\n' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = git().push(&work, &url(&bed), &commit, &branch("main"), None).unwrap_err();
    assert!(!error.is_stale(), "a hook can't make a refusal look like a lost race: {error}");
    let text = error.to_string();
    assert!(text.contains("plan (stale info)") && text.contains("pre-receive hook declined"), "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    assert_eq!(bed.git(&["for-each-ref"]), "");
}

#[test]
fn what_can_not_be_reached_is_said_in_words() {
    let bed = Bed::new();
    let gone = GitUrl::parse(bed.folder().join("none").to_str().unwrap(), FilePolicy::Allow).unwrap();
    let error = git().default_branch(&gone).unwrap_err().to_string();
    assert!(error.contains("does not appear to be a git repository"), "{error}");
    let no_git = Git::new("/nonexistent".into(), None);
    assert!(no_git.version().unwrap_err().to_string().contains("can't be started"));
    let script = bed.folder().join("script");
    std::fs::write(&script, "#!/bin/sh\necho git version 2.30.2\n").unwrap();
    // Written by a process of its own: a descriptor open for writing here may be inherited by a program that another
    // test starts just then, and the kernel refuses to run a file that somebody may write.
    let installed =
        std::process::Command::new("install").arg("-m755").arg(&script).arg(bed.folder().join("git")).status();
    assert!(installed.unwrap().success());
    let old = Git::new(bed.folder().as_os_str().to_owned(), None).version().unwrap_err().to_string();
    assert!(old.contains("too old"), "{old}");
}

#[test]
fn a_hook_reads_the_push_from_its_quarantine() {
    let bed = Bed::new();
    let main = bed.commit("main", &[("requests/a.yaml", "1")], &[]);
    let quarantine = bed.path().join("objects/tmp_objdir-incoming-x");
    std::fs::create_dir(&quarantine).unwrap();
    let work = bed.folder().join("work");
    std::fs::create_dir_all(work.join("requests")).unwrap();
    std::fs::write(work.join("requests/b.yaml"), "2").unwrap();
    let in_quarantine = |args: &[&str]| {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(bed.path()).arg("--work-tree").arg(&work).args(args);
        command.env("GIT_OBJECT_DIRECTORY", &quarantine).env("GIT_INDEX_FILE", bed.folder().join("index"));
        command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", bed.path().join("objects"));
        String::from_utf8(bed.run(&mut command, b"").stdout).unwrap().trim().to_owned()
    };
    in_quarantine(&["read-tree", main.as_str()]);
    in_quarantine(&["add", "requests/b.yaml"]);
    let tree = in_quarantine(&["write-tree"]);
    let pushed = crate::bed::oid(&in_quarantine(&["commit-tree", &tree, "-p", main.as_str(), "-m", "m"]));
    assert!(bed.repo().commit_info(&pushed).is_err(), "nobody else sees it yet");
    let repo = Repo::open_with_objects(&bed.path(), &quarantine).unwrap();
    let changes = repo.changes(Some(&main), &pushed, &path("requests/"), &WalkLimits::default()).unwrap();
    assert_eq!(changes.entries.len(), 1);
    assert_eq!(repo.read_document(&pushed, &path("requests/b.yaml"), 10).unwrap(), b"2");
    assert_eq!(repo.read_document(&pushed, &path("requests/a.yaml"), 10).unwrap(), b"1");
    assert!(repo.is_ancestor(&main, &pushed).unwrap());
}
