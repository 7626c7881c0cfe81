//! Many writers of one branch, and nothing lost.

use chiffon_requests::{Error, Expect};

use crate::bed::{Bed, branch, edit};

const WRITERS: usize = 8;
const COMMITS: usize = 25;

#[test]
fn eight_writers_of_one_branch_lose_nothing() {
    let bed = Bed::new();
    let repo = bed.repo();
    repo.commit(&edit("main", Expect::New, &[("start", Some("s"))])).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let repo = repo.clone();
            scope.spawn(move || {
                for commit in 0..COMMITS {
                    let file = format!("w{writer}/{commit}");
                    let done = repo.commit_with_retry(&branch("main"), WRITERS * COMMITS + 1, |tip| {
                        let tip = tip.expect("the branch was made first").clone();
                        Ok::<_, Error>(edit("main", Expect::Tip(tip), &[(&file, Some("x"))]))
                    });
                    assert!(done.unwrap().changed);
                }
            });
        }
    });
    assert_eq!(bed.git(&["rev-list", "--count", "refs/heads/main"]), (WRITERS * COMMITS + 1).to_string());
    assert_eq!(bed.git(&["ls-tree", "-r", "--name-only", "refs/heads/main"]).lines().count(), WRITERS * COMMITS + 1);
    bed.fsck();
}

#[test]
fn gix_and_git_writing_one_branch_lose_nothing() {
    let bed = Bed::new();
    let repo = bed.repo();
    let start = repo.commit(&edit("main", Expect::New, &[("start", Some("s"))])).unwrap().commit;
    let tree = bed.git(&["rev-parse", &format!("{start}^{{tree}}")]);
    let by_git = |bed: &Bed| {
        for _ in 0..COMMITS {
            // As a push does it: only from the value that was seen.
            loop {
                let tip = bed.git(&["rev-parse", "refs/heads/main"]);
                let commit = bed.commit_tree(&tree, &[&tip], "by git\n");
                let mut command = std::process::Command::new("git");
                command.arg("--git-dir").arg(bed.path()).args(["update-ref", "refs/heads/main", commit.as_str(), &tip]);
                if bed.try_run(&mut command, b"").status.success() {
                    break;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| by_git(&bed));
        for commit in 0..COMMITS {
            let file = format!("f{commit}");
            let done = repo.commit_with_retry(&branch("main"), 10_000, |tip| {
                let tip = tip.expect("the branch was made first").clone();
                Ok::<_, Error>(edit("main", Expect::Tip(tip), &[(&file, Some("x"))]))
            });
            assert!(done.unwrap().changed);
        }
    });
    assert_eq!(bed.git(&["rev-list", "--count", "refs/heads/main"]), (2 * COMMITS + 1).to_string());
}
