//! A home with its requests repository, and a person with a clone of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::infra::{git, person_git};
use crate::{Background, Infra, ansible_playbook, chiffon, programs, root};

/// How often it is looked whether something is so, and how often at most: for a minute and a half.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOKS: u32 = 1800;

/// How a person merges a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// `git merge --ff-only`.
    FastForward,
    /// `git merge --no-ff`.
    Commit,
    /// `git merge --squash` and a commit.
    Squash,
    /// `git cherry-pick`, as a rebase merge does.
    Rebase,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// Its exit status.
    pub status: i32,
    /// Its stdout.
    pub out: String,
    /// Its stderr.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// Expects an exit status.
    #[track_caller]
    pub fn ends(self, status: i32) -> Self {
        assert_eq!(self.status, status, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

/// A home, an infra repository and a person with a clone.
#[derive(Debug)]
pub struct Bed {
    folder: TempDir,
    /// The small infra repository; for the homelab, an empty shell of it.
    pub infra: Infra,
}

impl Bed {
    /// A bed with the small infra repository.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let infra = Infra::new(folder.path());
        let bed = Self { infra, folder };
        let repository = bed.infra.folder.clone();
        bed.start(&repository, &[]);
        bed
    }

    /// A bed with the sample homelab.
    pub fn homelab() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let infra = Infra::new(folder.path());
        let bed = Self { infra, folder };
        let repository = crate::homelab(bed.folder.path());
        let password = bed.folder.path().join("vault-password");
        fs::copy(root().join("tests/fixtures/vault-password"), &password).unwrap();
        bed.start(&repository, &["--vault-password-file", password.to_str().unwrap()]);
        bed
    }

    /// Keeps its records in a PostgreSQL database of its own from now on.
    #[must_use]
    pub fn on_postgres(self) -> Self {
        self.keep_records_at(&crate::new_database());
        self
    }

    /// Keeps its records in the PostgreSQL database at an address from now on.
    pub fn keep_records_at(&self, url: &str) {
        let config = self.home().join("chiffon.yaml");
        let text = fs::read_to_string(&config).unwrap();
        let text = text.split("  store:\n").next().unwrap();
        fs::write(&config, format!("{text}  store:\n    postgres:\n      url: {url}\n")).unwrap();
    }

    /// The PostgreSQL database that its records are kept in, where they are.
    pub fn database(&self) -> Option<String> {
        let text = fs::read_to_string(self.home().join("chiffon.yaml")).unwrap();
        text.lines().find_map(|line| {
            line.trim().strip_prefix("url: ").filter(|url| url.starts_with("postgres:")).map(str::to_owned)
        })
    }

    /// Adds lines to the home's configuration.
    pub fn configure(&self, lines: &str) {
        let path = self.home().join("chiffon.yaml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text + lines).unwrap();
    }

    /// Moves the requests repository to a forge: the home gets a copy of it from now on, and the person's clone is of the
    /// forge's. `token` is of the account that Chiffon speaks as. The forge is looked at every second.
    pub fn live_on(&self, forge: &dyn crate::forge::Host, token: &str) {
        self.live_on_polling(forge, token, 1, "");
    }

    /// As [`Bed::live_on`], looked at as often as that, with these lines more under `forge`.
    pub fn live_on_polling(&self, forge: &dyn crate::forge::Host, token: &str, poll_secs: u32, lines: &str) {
        let url = forge.git_url("ann");
        self.git(&["push", "--quiet", &url, "HEAD:main"]);
        forge.settle();
        self.git(&["remote", "set-url", "origin", &url]);
        fs::remove_dir_all(self.requests()).unwrap();
        self.secret("forge-token", token);
        let kind = match forge.dialect() {
            crate::forge::Dialect::Gitea => "forgejo",
            crate::forge::Dialect::GitHub => "github",
        };
        // One that answers git over HTTP is found by its own address.
        let git = if url.starts_with("http") { String::new() } else { format!("    git_url: {url}\n") };
        self.configure(&format!(
            "  poll_secs: {poll_secs}\n  forge:\n    kind: {kind}\n    url: {}\n    repository: {}\n{git}    token_file: forge-token\n{lines}",
            forge.url(),
            forge.slug()
        ));
    }

    /// A secret in a file of the home that nobody else reads.
    pub fn secret(&self, file: &str, secret: &str) {
        let path = self.home().join(file);
        fs::write(&path, secret).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn start(&self, infra: &Path, more: &[&str]) {
        let ansible = ansible_playbook();
        let mut arguments = vec!["init", self.home_text(), "--infra", infra.to_str().unwrap()];
        arguments.extend(["--ansible-playbook", ansible.to_str().unwrap()]);
        arguments.extend(more);
        let said: Said = self.command(&arguments).output().unwrap().into();
        said.ends(0);
        git(self.path(), &["clone", "--quiet", self.home().join("requests.git").to_str().unwrap(), "clone"]);
    }

    /// The temporary folder of it all.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The home.
    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    fn home_text(&self) -> &'static str {
        "home"
    }

    /// The bare requests repository.
    pub fn requests(&self) -> PathBuf {
        self.home().join("requests.git")
    }

    /// The program, in an environment of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(chiffon());
        command.current_dir(self.path()).env_clear().env("PATH", programs());
        command.env("HOME", self.path()).env("GIT_CONFIG_NOSYSTEM", "1");
        command.args(arguments);
        let config = self.path().join(".gitconfig");
        if !config.exists() {
            fs::write(config, "[user]\n\tname = Pat\n\temail = pat@localhost\n").unwrap();
        }
        command
    }

    /// Runs `chiffon --dir HOME …` to its end.
    pub fn chiffon(&self, arguments: &[&str]) -> Said {
        let mut all = vec!["--dir", self.home_text()];
        all.extend(arguments);
        self.command(&all).output().unwrap().into()
    }

    /// Does all that can be done now, and waits for the runs.
    pub fn up_once(&self) -> Said {
        self.chiffon(&["up", "--once"])
    }

    /// As [`Bed::up_once`], killed with SIGKILL at a named crash point, where it reaches that; every point that it
    /// reaches is written to [`Bed::crash_log`]. True where it was killed.
    pub fn up_once_killed_at(&self, point: &str) -> bool {
        let mut command = self.command(&["--dir", self.home_text(), "up", "--once"]);
        command.env("CHIFFON_CRASH_AT", point).env("CHIFFON_CRASH_LOG", self.path().join("crash.log"));
        let said: Said = command.output().unwrap().into();
        assert!([-1, 0, 3].contains(&said.status), "{}{}", said.out, said.err);
        said.status == -1
    }

    /// The crash points that were reached, in order.
    pub fn crash_log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path().join("crash.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// As [`Bed::up_once`], so many days later.
    pub fn up_once_after_days(&self, days: u64) -> Said {
        let mut command = self.command(&["--dir", self.home_text(), "up", "--once"]);
        command.env("CHIFFON_CLOCK_AHEAD", (days * 86_400).to_string()).output().unwrap().into()
    }

    /// Starts `chiffon up` in the background, and waits until it is ready.
    #[track_caller]
    pub fn up(&self) -> Background {
        let mut up = Background::start(self.command(&["--dir", self.home_text(), "up"]));
        up.wait_for("ready");
        up
    }

    /// Waits until something is so that nobody says aloud; fails after a minute and a half.
    #[track_caller]
    pub fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        // Nobody sends anything: what is received is the time that passes.
        let (_sender, nothing) = channel::<()>();
        for _ in 0..LOOKS {
            if holds() {
                return;
            }
            let _ = nothing.recv_timeout(LOOK_EVERY);
        }
        panic!("never came: {what}");
    }

    /// A request's status.
    #[track_caller]
    pub fn status(&self, name: &str) -> Value {
        self.chiffon(&["status", name, "--json"]).json()
    }

    /// A request's state.
    #[track_caller]
    pub fn state(&self, name: &str) -> String {
        self.status(name)["state"].as_str().unwrap().to_owned()
    }

    /// Runs git in the person's clone, and expects it to succeed.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        git(&self.path().join("clone"), arguments)
    }

    /// Runs git in the person's clone, however it ends.
    pub fn try_git(&self, arguments: &[&str]) -> Said {
        person_git(&self.path().join("clone"), arguments).output().unwrap().into()
    }

    /// Runs git in the bare repository: what only its owner does.
    pub fn bare_git(&self, arguments: &[&str]) -> String {
        git(&self.requests(), arguments)
    }

    /// Writes a file of the clone.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join("clone").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads a file of the clone.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join("clone").join(path)).unwrap()
    }

    /// Commits everything in the clone and pushes `main`, however it ends.
    pub fn try_push(&self, message: &str) -> Said {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.try_git(&["push", "--quiet", "origin", "HEAD:main"])
    }

    /// Commits everything in the clone and pushes `main`.
    #[track_caller]
    pub fn push(&self, message: &str) {
        self.try_push(message).ends(0);
    }

    /// Pushes a request that is only a sentence.
    #[track_caller]
    pub fn push_request(&self, name: &str, text: &str) {
        self.write(&format!("requests/{name}.yaml"), &request(text));
        self.push(&format!("request {name}"));
    }

    /// Merges a plan in the clone, without pushing it.
    #[track_caller]
    pub fn merge(&self, name: &str, how: Merge) {
        let branch = format!("origin/chiffon/plan/{name}");
        self.git(&["fetch", "--quiet", "--prune", "origin"]);
        match how {
            Merge::FastForward => self.git(&["merge", "--quiet", "--ff-only", &branch]),
            Merge::Commit => self.git(&["merge", "--quiet", "--no-ff", "--no-edit", &branch]),
            Merge::Squash => {
                self.git(&["merge", "--quiet", "--squash", &branch]);
                self.git(&["commit", "--quiet", "--message", "squashed"])
            }
            Merge::Rebase => self.git(&["cherry-pick", "--allow-empty", "-x", &branch]),
        };
    }

    /// Merges a plan and pushes it.
    #[track_caller]
    pub fn approve(&self, name: &str, how: Merge) {
        self.merge(name, how);
        self.git(&["push", "--quiet", "origin", "HEAD:main"]);
    }

    /// Pushes a request, has it planned, and merges its plan.
    #[track_caller]
    pub fn ask_and_approve(&self, name: &str, text: &str) {
        self.push_request(name, text);
        self.up_once();
        assert_eq!(self.state(name), "proposed", "{}", self.status(name));
        self.approve(name, Merge::Commit);
    }

    /// Takes the hooks away, as somebody with access to the machine could.
    pub fn remove_hooks(&self) {
        fs::remove_dir_all(self.requests().join("hooks")).unwrap();
    }

    /// Wakes the reconciler, as the hook does that was taken away.
    pub fn wake(&self) {
        fs::write(self.home().join("state/wake"), "").unwrap();
    }

    /// The tip of the audit branch.
    pub fn audit_tip(&self) -> String {
        self.bare_git(&["rev-parse", "refs/heads/chiffon/audit"])
    }

    /// The audit log's subjects, oldest first.
    pub fn history(&self) -> Vec<String> {
        let log = self.bare_git(&["log", "--reverse", "--format=%s", "chiffon/audit"]);
        log.lines().map(str::to_owned).collect()
    }

    /// The kinds of all events that the audit branch names, oldest first.
    pub fn kinds(&self) -> Vec<String> {
        let log =
            self.bare_git(&["log", "--reverse", "--format=%(trailers:key=Chiffon-Event,valueonly)", "chiffon/audit"]);
        log.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect()
    }

    /// How many events of a kind the audit branch names.
    pub fn count(&self, kind: &str) -> usize {
        self.kinds().iter().filter(|known| *known == kind).count()
    }
}

impl Default for Bed {
    fn default() -> Self {
        Self::new()
    }
}

/// The smallest request.
fn request(text: &str) -> String {
    format!("apiVersion: chiffon/v1\nkind: Request\nspec:\n  text: {}\n", Value::from(text))
}
