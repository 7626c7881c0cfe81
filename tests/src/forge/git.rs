//! What a forge does in the repository behind it, by the `git` program.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs git in a bare repository as somebody; what it printed, where it succeeded.
fn git(bare: &Path, login: &str, arguments: &[&str]) -> Option<String> {
    let email = format!("{login}@forge.test");
    let done = Command::new("git")
        .arg("--git-dir")
        .arg(bare)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([("GIT_AUTHOR_NAME", login), ("GIT_COMMITTER_NAME", login)])
        .envs([("GIT_AUTHOR_EMAIL", &email), ("GIT_COMMITTER_EMAIL", &email)])
        .output()
        .unwrap();
    done.status.success().then(|| String::from_utf8(done.stdout).unwrap().trim().to_owned())
}

/// Runs git in a bare repository as nobody in particular; what it printed, where it succeeded.
pub fn run(bare: &Path, arguments: &[&str]) -> Option<String> {
    git(bare, "forge", arguments)
}

/// The commit of a branch.
pub fn tip(bare: &Path, branch: &str) -> Option<String> {
    let reference = format!("refs/heads/{branch}");
    git(bare, "forge", &["rev-parse", "--verify", "--quiet", "--end-of-options", &reference])
}

/// Whether a commit is there.
pub fn is_commit(bare: &Path, commit: &str) -> bool {
    commit.len() == 40 && git(bare, "forge", &["cat-file", "-e", &format!("{commit}^{{commit}}")]).is_some()
}

/// Merges a commit into a branch as somebody, signed where they have a key; `None` where they conflict.
pub fn merge(bare: &Path, base: &str, head: &str, (login, key): (&str, Option<&str>), message: &str) -> Option<String> {
    let before = tip(bare, base)?;
    let tree = git(bare, login, &["merge-tree", "--write-tree", &before, head])?;
    let parents = ["-p", before.as_str(), "-p", head];
    let setting = key.map(|key| format!("user.signingKey={key}")).unwrap_or_default();
    let signing = ["-c", "gpg.format=ssh", "-c", &setting, "commit-tree", "-S", &tree, "-m", message];
    let words: &[&str] = if key.is_some() { &signing } else { &["commit-tree", &tree, "-m", message] };
    let commit = git(bare, login, &[words, &parents[..]].concat())?;
    git(bare, login, &["update-ref", &format!("refs/heads/{base}"), &commit, &before])?;
    Some(commit)
}

/// Commits one file on a branch, which begins at another where it is not there yet; the commit.
pub fn commit(bare: &Path, branch: &str, from: Option<&str>, path: &str, text: &str) -> String {
    let start = tip(bare, branch).or_else(|| from.and_then(|from| tip(bare, from)));
    let parent = start.map(|start| format!("from {start}\n")).unwrap_or_default();
    let message = format!("change {path}");
    let stream = format!(
        "commit refs/heads/{branch}\ncommitter somebody <somebody@forge.test> 1700000000 +0000\n\
         data {}\n{message}\n{parent}M 100644 inline {path}\ndata {}\n{text}\n\n",
        message.len(),
        text.len()
    );
    let mut child = Command::new("git")
        .arg("--git-dir")
        .arg(bare)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{stream}");
    tip(bare, branch).unwrap()
}

/// Takes a branch away.
pub fn remove(bare: &Path, branch: &str) {
    git(bare, "forge", &["update-ref", "-d", &format!("refs/heads/{branch}")]).unwrap();
}

/// Keeps the head of a pull request, whatever becomes of its branch.
pub fn keep_head(bare: &Path, number: u64, commit: &str) {
    git(bare, "forge", &["update-ref", &format!("refs/pull/{number}/head"), commit]).unwrap();
}

/// What a file of a branch holds.
pub fn read(bare: &Path, branch: &str, path: &str) -> Option<String> {
    git(bare, "forge", &["cat-file", "blob", &format!("refs/heads/{branch}:{path}")])
}
