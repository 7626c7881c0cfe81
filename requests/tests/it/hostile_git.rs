//! No git invocation can be steered by data (S7): every call site, with hostile places, repositories and settings.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chiffon_requests::{FilePolicy, Git, GitUrl, RefName, Repo, WalkLimits};
use chiffon_schemas::Oid;

use crate::bed::{Bed, branch, search_path};

/// Settings that every call must carry.
const SETTINGS: [&str; 7] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "submodule.recurse=false",
    "safe.bareRepository=explicit",
];

/// Every variable that a call may have.
const VARIABLES: [&str; 19] = [
    "CHIFFON_ATTEMPT",
    "PATH",
    "HOME",
    "LC_ALL",
    "PWD",
    "SHLVL",
    "_",
    "OLDPWD",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_TERMINAL_PROMPT",
    "GIT_ASKPASS",
    "SSH_ASKPASS",
    "GIT_ALLOW_PROTOCOL",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_SSH_VARIANT",
    "GIT_SSH_COMMAND",
    "GIT_CONFIG_COUNT",
    "SSH_AUTH_SOCK",
];

/// A `git` before the real one that writes down how it was called, in a world where everything hostile leaves a mark.
struct Trap {
    bed: Bed,
}

impl Trap {
    fn new() -> Self {
        let trap = Self { bed: Bed::new() };
        let folder = trap.bed.folder().to_owned();
        for name in ["bin", "home", "hooks"] {
            std::fs::create_dir(folder.join(name)).unwrap();
        }
        let real = std::env::split_paths(&search_path()).map(|at| at.join("git")).find(|at| at.is_file()).unwrap();
        let log = folder.join("log");
        trap.script("bin/git", &format!(
            "after=no\nprintf 'CALL\\n' >> '{log}'\nfor a in \"$@\"; do printf 'ARG %s\\n' \"$a\" >> '{log}'\n\
             case $after$a in yes-*) printf 'BAD %s\\n' \"$a\" >> '{log}';; esac\n\
             test \"$a\" != --end-of-options || after=yes\ndone\nenv | sed 's/^/ENV /' >> '{log}'\nexec '{real}' \"$@\"\n",
            log = log.display(), real = real.display(),
        ));
        trap.script("owned.sh", &format!("touch '{}'\n", folder.join("owned").display()));
        trap
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.bed.folder().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn owned(&self) -> String {
        self.bed.folder().join("owned.sh").display().to_string()
    }

    fn git(&self) -> Git {
        let mut path = OsString::from(self.bed.folder().join("bin"));
        path.push(":");
        path.push(search_path());
        Git::new(path, Some(self.bed.folder().join("home")))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.bed.folder().join("log")).unwrap_or_default()
    }

    /// Another bare repository, in a folder of any name, with `main`.
    fn source(&self, name: &str) -> (PathBuf, Oid) {
        let commit = self.bed.commit("main", &[("a", "1")], &[]);
        let path = self.bed.folder().join("sources").join(name);
        std::fs::create_dir_all(&path).unwrap();
        let mut copy = std::process::Command::new("cp");
        self.bed.run(copy.arg("-r").arg(self.bed.path().join(".")).arg(path.join(".")), b"");
        (path, commit)
    }

    /// Nothing hostile ran, and every call was as promised.
    fn assert_safe(&self) {
        assert!(!self.bed.folder().join("owned").exists(), "something hostile ran:\n{}", self.log());
        let log = self.log();
        assert!(!log.contains("\nBAD "), "{log}");
        for call in log.split("CALL\n").filter(|call| !call.is_empty()) {
            for setting in SETTINGS {
                assert!(call.contains(&format!("ARG -c\nARG {setting}\n")), "{setting} is missing in\n{call}");
            }
            for variable in call.lines().filter_map(|line| line.strip_prefix("ENV ")?.split('=').next()) {
                let known = VARIABLES.contains(&variable)
                    || variable.starts_with("GIT_CONFIG_KEY_")
                    || variable.starts_with("GIT_CONFIG_VALUE_")
                    || variable.starts_with("CHIFFON_GIT_");
                assert!(known || variable.contains(' '), "{variable} in\n{call}");
            }
        }
    }

    /// Hooks of every name, in the repository and where its settings point.
    fn plant_hooks(&self, repo: &Path) {
        let hooks = repo.join("hooks");
        std::fs::create_dir_all(&hooks).unwrap();
        for name in [
            "pre-push",
            "post-checkout",
            "post-merge",
            "reference-transaction",
            "pre-auto-gc",
            "post-rewrite",
            "fsmonitor-watchman",
            "post-index-change",
            "sendemail-validate",
            "pre-commit",
            "commit-msg",
            "post-commit",
            "update",
            "post-update",
        ] {
            std::fs::copy(self.owned(), hooks.join(name)).unwrap();
            std::fs::copy(self.owned(), self.bed.folder().join("hooks").join(name)).unwrap();
        }
    }

    /// Settings that would run a program, in a file that git might read.
    fn plant_settings(&self, file: &Path) {
        let owned = self.owned();
        let hooks = self.bed.folder().join("hooks");
        let text = format!(
            "[core]\n\thooksPath = {hooks}\n\tfsmonitor = {owned}\n\tsshCommand = {owned}\n\taskPass = {owned}\n\tgitProxy = {owned}\n\
             \tpager = {owned}\n\teditor = {owned}\n\talternateRefsCommand = {owned}\n\
             [credential]\n\thelper = !{owned}\n[protocol]\n\tallow = always\n[protocol \"ext\"]\n\tallow = always\n\
             [alias]\n\tfetch = !{owned}\n\tpush = !{owned}\n\tls-remote = !{owned}\n\tversion = !{owned}\n\
             [gpg]\n\tprogram = {owned}\n[push]\n\tgpgSign = true\n[uploadpack]\n\tpackObjectsHook = {owned}\n\
             [diff]\n\texternal = {owned}\n[pack]\n\tpackSizeLimit = 1\n[fetch]\n\trecurseSubmodules = true\n",
            hooks = hooks.display(),
        );
        let known = std::fs::read_to_string(file).unwrap_or_default();
        std::fs::write(file, known + &text).unwrap();
    }
}

fn local(path: &Path) -> GitUrl {
    GitUrl::parse(path.to_str().unwrap(), FilePolicy::Allow).unwrap()
}

/// Every call that there is, on one repository and one address.
fn every_call(trap: &Trap, git: &Git, repo: &Path, url: &GitUrl, commit: &Oid) {
    git.version().unwrap();
    git.init_bare(repo, "main").unwrap();
    assert_eq!(git.default_branch(url).unwrap(), "main");
    git.fetch(repo, url, &branch("main"), &branch("main")).unwrap();
    git.mirror(repo, url).unwrap();
    assert_eq!(Repo::open(repo).unwrap().reference(&branch("main")).unwrap().as_ref(), Some(commit));
    git.push(repo, url, commit, &branch("new/one"), None).unwrap();
    git.push(repo, url, commit, &branch("new/one"), Some(commit)).unwrap();
    git.config(repo, "core.bare").unwrap();
    git.config(repo, "user.name").unwrap();
    trap.assert_safe();
}

#[test]
fn s7_folders_of_any_name_are_only_folders() {
    for name in [
        "plain",
        "-x",
        "--upload-pack=touch owned",
        "a b",
        "a;touch owned",
        "$(touch owned)",
        "`touch owned`",
        "a'b\"c",
        "a:b",
        "ext::sh -c touch% owned",
        ":(glob)*",
        "*",
        "~root",
        "#x",
        "%2e%2e",
        "a&b|c>d",
        "é",
    ] {
        let trap = Trap::new();
        let (source, commit) = trap.source(name);
        let repo = trap.bed.folder().join("mirrors").join(name).join("repo.git");
        every_call(&trap, &trap.git(), &repo, &local(&source), &commit);
    }
}

#[test]
fn s7_hooks_and_settings_that_were_planted_run_nothing() {
    let trap = Trap::new();
    let (source, commit) = trap.source("plain");
    let repo = trap.bed.folder().join("mirror.git");
    trap.git().init_bare(&repo, "main").unwrap();
    assert!(!repo.join("hooks").exists(), "no template");
    trap.plant_hooks(&repo);
    trap.plant_settings(&repo.join("config"));
    trap.plant_settings(&trap.bed.folder().join("home/.gitconfig"));
    every_call(&trap, &trap.git(), &repo, &local(&source), &commit);
    // A person's own git takes over who they are, and nothing that runs.
    let home = trap.bed.folder().join("home/.gitconfig");
    let text =
        std::fs::read_to_string(&home).unwrap().replace(&format!("helper = !{}", trap.owned()), "helper = cache");
    std::fs::write(&home, format!("{text}[user]\n\tname = Me\n\temail = me@example.org\n")).unwrap();
    let person = trap.git().for_person(Some("/run/agent.sock".into()));
    every_call(&trap, &person, &repo, &local(&source), &commit);
    assert_eq!(person.config(&repo, "user.name").unwrap().as_deref(), Some("Me"));
    assert!(trap.log().contains("ENV SSH_AUTH_SOCK=/run/agent.sock\n"));
    assert!(!trap.log().contains("=core.sshcommand"), "only user.* and credential.* are taken over");
    assert_eq!(trap.git().config(&repo, "user.name").unwrap(), None);
}

#[test]
fn s7_an_address_can_not_be_rewritten_into_a_program() {
    let trap = Trap::new();
    let (source, _) = trap.source("plain");
    let repo = trap.bed.folder().join("mirror.git");
    trap.git().init_bare(&repo, "main").unwrap();
    trap.plant_settings(&repo.join("config"));
    let config = std::fs::read_to_string(repo.join("config")).unwrap();
    let rewrite = format!("[url \"ext::{} \"]\n\tinsteadOf = {}\n", trap.owned(), source.display());
    std::fs::write(repo.join("config"), config + &rewrite).unwrap();
    let url = local(&source);
    trap.git().fetch(&repo, &url, &branch("main"), &branch("main")).unwrap_err();
    let commit = trap.bed.commit("main", &[("a", "2")], &[]);
    trap.git().push(&repo, &url, &commit, &branch("main"), None).unwrap_err();
    trap.assert_safe();
}

#[test]
fn s7_ssh_and_https_are_reached_by_their_own_programs_and_files_only_when_named() {
    let trap = Trap::new();
    let ssh = trap.script(
        "bin/ssh",
        &format!("printf 'SSH %s\\n' \"$@\" >> '{}'\nexit 1\n", trap.bed.folder().join("log").display()),
    );
    assert!(ssh.is_file());
    let repo = trap.bed.folder().join("mirror.git");
    trap.git().init_bare(&repo, "main").unwrap();
    trap.plant_settings(&repo.join("config"));
    for text in ["git@forge.example:a/b.git", "ssh://git@forge.example:2222/a/$(touch%20owned)", "forge.example:--x"] {
        let Ok(url) = GitUrl::parse(text, FilePolicy::Refuse) else { continue };
        trap.git().fetch(&repo, &url, &branch("main"), &branch("main")).unwrap_err();
        trap.git().default_branch(&url).unwrap_err();
    }
    let log = trap.log();
    assert!(log.contains("SSH git@forge.example\n") && log.contains("ENV GIT_ALLOW_PROTOCOL=ssh\n"), "{log}");
    assert!(!log.contains("protocol.file.allow=always"), "{log}");
    trap.assert_safe();
}

#[test]
fn s13_a_password_in_an_address_is_in_no_argument_and_no_error() {
    let trap = Trap::new();
    let url = GitUrl::parse("https://me:s3cret@127.0.0.1:1/a", FilePolicy::Refuse).unwrap();
    let error = trap.git().default_branch(&url).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    let log = trap.log();
    assert!(log.contains("ARG https://127.0.0.1:1/a\n") && !log.contains("ARG https://me"), "{log}");
    assert!(!log.lines().any(|line| line.starts_with("ARG ") && line.contains("s3cret")), "{log}");
    assert!(log.contains("ENV GIT_ALLOW_PROTOCOL=https\n"), "{log}");
    trap.assert_safe();
}

#[test]
fn s7_branches_of_any_name_on_the_other_side_are_only_branches() {
    let trap = Trap::new();
    let (source, commit) = trap.source("plain");
    let names = ["--upload-pack=touch", "-x", "a;touch${IFS}owned", "$(touch${IFS}owned)", "@x", "ext::sh"];
    for name in names {
        let mut plant = std::process::Command::new("git");
        plant.arg("--git-dir").arg(&source).args(["update-ref", &format!("refs/heads/{name}"), commit.as_str()]);
        let planted = trap.bed.try_run(&mut plant, b"").status.success();
        assert!(RefName::branch(name).is_err() || planted, "{name}");
    }
    let repo = trap.bed.folder().join("mirror.git");
    trap.git().mirror(&repo, &local(&source)).unwrap();
    let found: Vec<String> = Repo::open(&repo)
        .unwrap()
        .references("refs/heads/")
        .unwrap()
        .into_iter()
        .map(|(name, _)| name.to_string())
        .collect();
    assert_eq!(found, ["refs/heads/main"], "names that could be options are not even listed");
    // A HEAD that names one is no default branch.
    let mut head = std::process::Command::new("git");
    trap.bed.run(head.arg("--git-dir").arg(&source).args(["symbolic-ref", "HEAD", "refs/heads/-x"]), b"");
    trap.git().default_branch(&local(&source)).unwrap_err();
    trap.assert_safe();
}

/// The shapes of CVE-2018-17456, CVE-2024-32002 and CVE-2025-48384.
#[test]
fn s7_submodules_are_neither_fetched_nor_written() {
    let trap = Trap::new();
    let bed = &trap.bed;
    let modules = [
        format!("[submodule \"a\"]\n\tpath = a\n\turl = -u./{}\n", trap.owned()),
        format!("[submodule \"x/y\"]\n\tpath = A/modules/x\n\turl = {}\n", bed.path().display()),
        format!("[submodule \"a\"]\n\tpath = \"a\\r\"\n\turl = ext::{}\n\tupdate = !{}\n", trap.owned(), trap.owned()),
    ];
    for (number, text) in modules.iter().enumerate() {
        let tree = bed.raw_tree(&[
            ("100644", b".gitmodules".to_vec(), bed.blob(text.as_bytes())),
            ("160000", b"a".to_vec(), "1".repeat(40)),
            ("160000", b"a\r".to_vec(), "2".repeat(40)),
        ]);
        let commit = bed.commit_tree(&tree, &[], "m");
        bed.git(&["update-ref", "refs/heads/main", commit.as_str()]);
        let repo = bed.folder().join(format!("mirror{number}.git"));
        trap.git().mirror(&repo, &local(&bed.path())).unwrap();
        let into = bed.folder().join(format!("checkout{number}"));
        std::fs::create_dir(&into).unwrap();
        Repo::open(&repo).unwrap().checkout(&commit, &into, &WalkLimits::default()).unwrap();
        for name in ["a", "a\r"] {
            assert_eq!(std::fs::read_dir(into.join(name)).unwrap().count(), 0);
        }
    }
    trap.assert_safe();
}
