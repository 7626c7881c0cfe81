//! A bare repository in a temporary folder, and the git program with an environment that knows nothing of this machine.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use chiffon_requests::{Edit, Expect, RefName, Repo, Signature};
use chiffon_schemas::{Oid, RepoPath, Timestamp};

/// When everything in these tests happens.
pub const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

pub struct Bed {
    folder: tempfile::TempDir,
}

/// An entry of a tree as raw as git stores it: mode, name, object.
pub type RawEntry = (&'static str, Vec<u8>, String);

impl Bed {
    pub fn new() -> Self {
        let bed = Self { folder: tempfile::tempdir().unwrap() };
        bed.run(Command::new("git").args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(bed.path()), b"");
        bed
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("repo.git")
    }

    pub fn repo(&self) -> Repo {
        Repo::open(&self.path()).unwrap()
    }

    /// Runs git on the repository and returns what it printed, without the last newline.
    pub fn git(&self, args: &[&str]) -> String {
        self.git_with(args, b"")
    }

    pub fn git_with(&self, args: &[&str], input: &[u8]) -> String {
        let path = self.path();
        let output = self.run(Command::new("git").arg("--git-dir").arg(&path).args(args), input);
        String::from_utf8(output.stdout).unwrap().trim_end_matches('\n').to_owned()
    }

    /// Runs a command hermetically; it must succeed.
    pub fn run(&self, command: &mut Command, input: &[u8]) -> Output {
        let output = self.try_run(command, input);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    pub fn try_run(&self, command: &mut Command, input: &[u8]) -> Output {
        hermetic(command, self.folder());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // In a thread of its own: a child that prints before it has read everything would wait for ever.
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    pub fn blob(&self, bytes: &[u8]) -> String {
        self.git_with(&["hash-object", "-w", "--stdin"], bytes)
    }

    /// Writes a tree exactly as given: in this order, with these names, however wrong.
    pub fn raw_tree(&self, entries: &[RawEntry]) -> String {
        let mut bytes = Vec::new();
        for (mode, name, oid) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend((0..oid.len()).step_by(2).map(|at| u8::from_str_radix(&oid[at..at + 2], 16).unwrap()));
        }
        self.raw_object("tree", &bytes)
    }

    pub fn raw_object(&self, kind: &str, bytes: &[u8]) -> String {
        self.git_with(&["hash-object", "-w", "-t", kind, "--literally", "--stdin"], bytes)
    }

    /// A tree of regular files, made by git's own index.
    pub fn tree(&self, files: &[(&str, &str)]) -> String {
        let index = tempfile::tempdir_in(self.folder()).unwrap();
        let mut lines = Vec::new();
        for (path, text) in files {
            lines.extend_from_slice(format!("100644 {}\t{path}\0", self.blob(text.as_bytes())).as_bytes());
        }
        let file = index.path().join("index");
        let path = self.path();
        let mut update = Command::new("git");
        update.arg("--git-dir").arg(&path).args(["update-index", "-z", "--add", "--index-info"]);
        self.run(update.env("GIT_INDEX_FILE", &file), &lines);
        let mut write = Command::new("git");
        let output = self.run(write.arg("--git-dir").arg(&path).arg("write-tree").env("GIT_INDEX_FILE", &file), b"");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn commit_tree(&self, tree: &str, parents: &[&str], message: &str) -> Oid {
        let mut args = vec!["commit-tree", tree];
        for parent in parents {
            args.extend(["-p", parent]);
        }
        oid(&self.git_with(&args, message.as_bytes()))
    }

    /// A commit of regular files on a branch, by git.
    pub fn commit(&self, branch: &str, files: &[(&str, &str)], parents: &[&Oid]) -> Oid {
        let parents: Vec<&str> = parents.iter().map(|parent| parent.as_str()).collect();
        let commit = self.commit_tree(&self.tree(files), &parents, "by git\n");
        self.git(&["update-ref", &format!("refs/heads/{branch}"), commit.as_str()]);
        commit
    }

    pub fn fsck(&self) {
        let path = self.path();
        let output =
            self.try_run(Command::new("git").arg("--git-dir").arg(&path).args(["fsck", "--strict", "--full"]), b"");
        let said = String::from_utf8_lossy(&output.stderr);
        let complaints: Vec<&str> =
            said.lines().filter(|line| line.contains("error") || line.contains("warning")).collect();
        assert!(output.status.success() && complaints.is_empty(), "fsck: {said}");
    }
}

/// `PATH` of the test process: the only thing that git here takes from the machine.
#[expect(clippy::disallowed_methods, reason = "the tests' own place that reads the environment")]
pub fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// Clears the environment down to what a test may depend on; variables that the command sets itself stay.
fn hermetic(command: &mut Command, home: &Path) {
    let own: Vec<(OsString, OsString)> =
        command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
    command.env_clear().env("PATH", search_path()).env("HOME", home).env("LC_ALL", "C").env("TZ", "UTC");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Person").env(format!("GIT_{who}_EMAIL"), "person@example.org");
        command.env(format!("GIT_{who}_DATE"), format!("{} +0000", NOW.secs()));
    }
    command.envs(own);
}

pub fn oid(text: &str) -> Oid {
    Oid::parse(text).unwrap()
}

pub fn path(text: &str) -> RepoPath {
    RepoPath::parse(text).unwrap()
}

pub fn branch(name: &str) -> RefName {
    RefName::branch(name).unwrap()
}

pub fn person() -> Signature {
    Signature { name: "Person".to_owned(), email: "person@example.org".to_owned(), time: NOW }
}

/// An edit of a branch by the person that git's own commits here are by.
pub fn edit(name: &str, expect: Expect, files: &[(&str, Option<&str>)]) -> Edit {
    Edit {
        branch: branch(name),
        expect,
        parents: None,
        base: None,
        changes: files.iter().map(|(at, text)| (path(at), text.map(|text| text.as_bytes().to_vec()))).collect(),
        message: "by git\n".to_owned(),
        author: person(),
        committer: person(),
        allow_empty: false,
    }
}
