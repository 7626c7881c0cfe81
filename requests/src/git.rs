//! The `git` program, for what gix can't do: making repositories, fetching and pushing (S7).
//!
//! Its environment is cleared and its configuration is ours; what comes from outside is of a validated type and stands
//! behind `--end-of-options`. Secrets go through the environment of the child, never through its arguments.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chiffon_schemas::Oid;

use crate::process::{Finished, Group, StopFlag, run};
use crate::url::Transport;
use crate::{Error, GitUrl, RefName};

/// The oldest git that is taken: the first that knows `safe.bareRepository` (2.38). Debian 12 has 2.39, and no test
/// runs on anything older than that.
const MIN_GIT: (u32, u32) = (2, 38);

/// The longest that a fetch may take: a first one of a large repository over a slow line.
const FETCH_LIMIT: Duration = Duration::from_secs(600);

/// The longest that any other call may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The most settings that are taken over from a person's configuration.
const MAX_SETTINGS: usize = 64;

/// Settings of every call: no hooks, no helpers, no protocol but those that we name, no work in the background, and
/// nothing that a repository's own configuration could start.
const SETTINGS: [&str; 11] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.alternateRefsCommand=:",
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "submodule.recurse=false",
    "safe.bareRepository=explicit",
    "http.followRedirects=false",
    "maintenance.auto=false",
    "gc.auto=0",
];

/// A credential helper whose text is constant; what it prints comes from its environment.
const HELPER: &str = r#"!f() {
    test "$1" = get || exit 0
    printf 'username=%s\n' "$CHIFFON_GIT_USER"
    test -z "$CHIFFON_GIT_PASSWORD" || printf 'password=%s\n' "$CHIFFON_GIT_PASSWORD"
}; f"#;

/// The git program with a cleared environment.
#[derive(Debug, Clone)]
pub struct Git {
    path: OsString,
    home: Option<PathBuf>,
    person: Option<Person>,
    stop: StopFlag,
}

/// What a person's own commands have in addition.
#[derive(Debug, Clone)]
struct Person {
    ssh_auth_sock: Option<OsString>,
}

impl Git {
    /// Chiffon's own git: nobody's configuration is read. `path` is where programs are looked for; `home` is for ssh,
    /// which finds its keys and known hosts there.
    pub fn new(path: OsString, home: Option<PathBuf>) -> Self {
        Self { path, home, person: None, stop: StopFlag::default() }
    }

    /// A person's own git: with their `user.*` and `credential.*`, which is all that is read of their configuration,
    /// and their ssh agent.
    #[must_use]
    pub fn for_person(mut self, ssh_auth_sock: Option<OsString>) -> Self {
        self.person = Some(Person { ssh_auth_sock });
        self
    }

    /// With a flag that ends its programs when it is set.
    #[must_use]
    pub fn stoppable(mut self, stop: StopFlag) -> Self {
        self.stop = stop;
        self
    }

    /// The program's version, like `git version 2.39.5`.
    ///
    /// # Errors
    /// There is no git, or it is too old.
    pub fn version(&self) -> Result<String, Error> {
        let mut command = self.command();
        command.arg("version");
        let said = self.succeed("version", command, LIMIT)?.out.trim().to_owned();
        match version_of(&said) {
            Some(version) if version >= MIN_GIT => Ok(said),
            _ => {
                let message = format!("`{said}` is too old: {}.{} is the oldest that is taken", MIN_GIT.0, MIN_GIT.1);
                Err(Error::Git { command: "version", message })
            }
        }
    }

    /// Makes a bare repository without hooks; harmless where there is one.
    ///
    /// # Errors
    /// The branch is none, or the repository can't be made.
    pub fn init_bare(&self, path: &Path, branch: &str) -> Result<(), Error> {
        RefName::branch(branch)?;
        let mut command = self.command();
        command.args(["init", "--quiet", "--bare", "--template=", &format!("--initial-branch={branch}")]);
        command.arg("--end-of-options").arg(absolute(path)?);
        self.succeed("init", command, LIMIT).map(drop)
    }

    /// Brings a branch of a remote into a branch of `repo`, whatever stood there.
    ///
    /// # Errors
    /// [`Error::NoRemoteBranch`], or the remote can't be reached.
    pub fn fetch(&self, repo: &Path, url: &GitUrl, remote: &RefName, local: &RefName) -> Result<(), Error> {
        self.fetch_refs(repo, url, &format!("+{remote}:{local}")).map_err(|error| match error {
            Error::Git { message, .. } if message.contains("couldn't find remote ref") => {
                Error::NoRemoteBranch { name: remote.to_string() }
            }
            error => error,
        })
    }

    /// Makes `repo` a bare copy of every branch of a remote; where there is a copy, it is brought up to date.
    ///
    /// # Errors
    /// The remote can't be reached.
    pub fn mirror(&self, repo: &Path, url: &GitUrl) -> Result<(), Error> {
        if !repo.join("HEAD").is_file() {
            self.init_bare(repo, "main")?;
        }
        self.fetch_refs(repo, url, "+refs/heads/*:refs/heads/*")
    }

    /// Brings refs of a remote into refs of `repo`, and removes those of ours that theirs are gone of.
    ///
    /// # Errors
    /// The remote can't be reached.
    pub(crate) fn fetch_pruned(&self, repo: &Path, url: &GitUrl, refspecs: &[String]) -> Result<(), Error> {
        self.fetch_all(repo, url, refspecs, true)
    }

    fn fetch_refs(&self, repo: &Path, url: &GitUrl, refspec: &str) -> Result<(), Error> {
        self.fetch_all(repo, url, &[refspec.to_owned()], false)
    }

    pub(crate) fn fetch_all(&self, repo: &Path, url: &GitUrl, refspecs: &[String], prune: bool) -> Result<(), Error> {
        let mut command = self.remote_command(Some(repo), url)?;
        command.args([
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--refmap=",
        ]);
        if prune {
            command.args(["--prune", "--atomic"]);
        }
        command.args(["--end-of-options", url.as_str()]).args(refspecs);
        self.succeed("fetch", command, FETCH_LIMIT).map(drop)
    }

    /// Pushes a commit to a branch that must be at `lease` (`None`: not there).
    ///
    /// The remote's hooks and permissions apply; the words of a hook that refuses are in the error.
    ///
    /// # Errors
    /// An error that [`Error::is_stale`] where the branch is elsewhere; or the remote refuses or can't be reached.
    pub fn push(
        &self,
        repo: &Path,
        url: &GitUrl,
        commit: &Oid,
        to: &RefName,
        lease: Option<&Oid>,
    ) -> Result<(), Error> {
        self.move_branch(repo, url, Some(commit), to, lease)
    }

    /// As [`Git::push`]; `None` in place of a commit removes the branch.
    pub(crate) fn move_branch(
        &self,
        repo: &Path,
        url: &GitUrl,
        commit: Option<&Oid>,
        to: &RefName,
        lease: Option<&Oid>,
    ) -> Result<(), Error> {
        let mut command = self.remote_command(Some(repo), url)?;
        let lease = lease.map_or_else(String::new, ToString::to_string);
        let from = commit.map_or_else(String::new, ToString::to_string);
        command.args([
            "push",
            "--porcelain",
            "--no-verify",
            "--no-signed",
            "--no-follow-tags",
            "--no-recurse-submodules",
        ]);
        command.arg(format!("--force-with-lease={to}:{lease}"));
        command.args(["--end-of-options", url.as_str(), &format!("{from}:{to}")]);
        let done = self.finish("push", command, LIMIT)?;
        if done.status.success() {
            return Ok(());
        }
        if is_stale(&done.out) {
            return Err(Error::StalePush { name: to.to_string() });
        }
        let rejected: String = done.out.lines().filter(|line| line.starts_with('!')).collect();
        let message = printable(&format!("{}\n{rejected}", done.complaint));
        let refused = rejected.contains("[remote rejected]");
        Err(if refused { Error::RefusedPush { message } } else { Error::Git { command: "push", message } })
    }

    /// Whether a commit is signed by a key of a file in the form of `gpg.ssh.allowedSignersFile`, as of the commit's own
    /// time; why not, where it is not (S3).
    ///
    /// # Errors
    /// git can't be run.
    pub fn verify_commit(&self, repo: &Path, commit: &Oid, signers: &Path) -> Result<Result<(), String>, Error> {
        if !signers.is_file() {
            return Ok(Err(format!("there is no file {}", signers.display())));
        }
        let mut command = self.command();
        git_dir(&mut command, repo)?;
        // The programs for other kinds of signature are none, so that nothing but this file says who counts.
        command.args(["-c", "gpg.program=false", "-c", "gpg.x509.program=false", "-c", "gpg.ssh.program=ssh-keygen"]);
        let signers = absolute(signers)?;
        set(&mut command, &[("gpg.ssh.allowedSignersFile".to_owned(), signers.to_string_lossy().into_owned())]);
        command.args(["verify-commit", "--end-of-options", commit.as_str()]);
        let done = self.finish("verify-commit", command, LIMIT)?;
        if done.status.success() {
            return Ok(Ok(()));
        }
        let said = printable(&done.complaint).lines().collect::<Vec<_>>().join("; ");
        Ok(Err(if said.is_empty() { "it has no signature".to_owned() } else { said.chars().take(300).collect() }))
    }

    /// The branch that a remote's HEAD names.
    ///
    /// # Errors
    /// The remote can't be reached, or its HEAD is no branch.
    pub fn default_branch(&self, url: &GitUrl) -> Result<String, Error> {
        let mut command = self.remote_command(None, url)?;
        command.args(["ls-remote", "--quiet", "--symref", "--end-of-options", url.as_str(), "HEAD"]);
        let said = self.succeed("ls-remote", command, LIMIT)?.out;
        let target = said.lines().find_map(|line| line.strip_prefix("ref: ")?.split('\t').next());
        let branch = target.and_then(|name| name.strip_prefix("refs/heads/"));
        let branch = branch.filter(|name| RefName::branch(name).is_ok()).map(str::to_owned);
        branch.ok_or_else(|| {
            let message = "its HEAD names no branch: is it empty?".to_owned();
            Error::Git { command: "ls-remote", message }
        })
    }

    /// A value of the configuration that this git reads: the repository's own, and a person's `user.*`.
    ///
    /// # Errors
    /// The configuration is damaged.
    pub fn config(&self, repo: &Path, key: &'static str) -> Result<Option<String>, Error> {
        let mut command = self.command();
        git_dir(&mut command, repo)?;
        set(&mut command, &self.persons_settings()?);
        command.args(["config", "--get", "--end-of-options", key]);
        let done = self.finish("config", command, LIMIT)?;
        match done.status.code() {
            Some(0) => Ok(Some(done.out.trim_end_matches('\n').to_owned()).filter(|value| !value.is_empty())),
            Some(1) => Ok(None),
            _ => Err(Error::Git { command: "config", message: printable(&done.complaint) }),
        }
    }

    /// A command with a cleared environment that can reach nothing.
    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.env_clear().env("PATH", &self.path).env("LC_ALL", "C").current_dir("/");
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ASKPASS", "").env("SSH_ASKPASS", "");
        // Unlike `protocol.*.allow`, this has the last word over a repository's own configuration.
        command.env("GIT_ALLOW_PROTOCOL", "").env("GIT_NO_REPLACE_OBJECTS", "1");
        // What it may leave behind, a master connection of ssh say, is no attempt's.
        command.env("CHIFFON_ATTEMPT", "git");
        if let Some(home) = &self.home {
            command.env("HOME", home);
        }
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command
    }

    /// A command that can reach what this address names, and nothing else.
    fn remote_command(&self, repo: Option<&Path>, url: &GitUrl) -> Result<Command, Error> {
        let mut command = self.command();
        let protocol = match url.transport() {
            Transport::Https => "https",
            Transport::Http => {
                command.args(["-c", "protocol.http.allow=always"]);
                "http"
            }
            Transport::Ssh => "ssh",
            Transport::File => {
                command.args(["-c", "protocol.file.allow=always"]);
                "file"
            }
        };
        command.env("GIT_ALLOW_PROTOCOL", protocol).env("GIT_SSH_VARIANT", "ssh");
        if let Some(repo) = repo {
            git_dir(&mut command, repo)?;
        }
        // An empty helper forgets those of the repository's own configuration.
        let mut settings = vec![("credential.helper".to_owned(), String::new())];
        if let Some(user) = url.user() {
            command.env("CHIFFON_GIT_USER", user).env("CHIFFON_GIT_PASSWORD", url.password().unwrap_or_default());
            settings.push(("credential.helper".to_owned(), HELPER.to_owned()));
        }
        settings.extend(self.persons_settings()?);
        set(&mut command, &settings);
        match &self.person {
            None => {
                // Nobody sits there to be asked.
                command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
            }
            Some(person) => {
                command.env("GIT_SSH_COMMAND", "ssh");
                if let Some(socket) = &person.ssh_auth_sock {
                    command.env("SSH_AUTH_SOCK", socket);
                }
            }
        }
        Ok(command)
    }

    /// The `user.*` and `credential.*` of a person's own configuration; none for Chiffon's own git.
    fn persons_settings(&self) -> Result<Vec<(String, String)>, Error> {
        if self.person.is_none() {
            return Ok(Vec::new());
        }
        let mut command = self.command();
        command.env_remove("GIT_CONFIG_GLOBAL").env_remove("GIT_CONFIG_NOSYSTEM");
        command.args(["config", "--null", "--get-regexp", r"^(user|credential)\."]);
        let done = self.finish("config", command, LIMIT)?;
        match done.status.code() {
            Some(0) => {}
            Some(1) => return Ok(Vec::new()),
            _ => return Err(Error::Git { command: "config", message: printable(&done.complaint) }),
        }
        let pair = |entry: &str| {
            let (key, value) = entry.split_once('\n').unwrap_or((entry, "true"));
            (key.starts_with("user.") || key.starts_with("credential.")).then(|| (key.to_owned(), value.to_owned()))
        };
        Ok(done.out.split('\0').filter_map(pair).take(MAX_SETTINGS).collect())
    }

    /// Runs a call to its end, whatever its status.
    fn finish(&self, name: &'static str, command: Command, limit: Duration) -> Result<Finished, Error> {
        // A person's ssh may ask at the terminal, which only the terminal's own process group can.
        let group = if self.person.is_some() { Group::Callers } else { Group::Own };
        let done = run(command, group, limit, &self.stop)
            .map_err(|error| Error::Git { command: name, message: format!("git can't be started: {error}") })?;
        match done {
            Some(done) => Ok(done),
            None if self.stop.is_set() => Err(Error::Stopped { command: name }),
            None => Err(Error::Timeout { command: name, secs: limit.as_secs() }),
        }
    }

    fn succeed(&self, name: &'static str, command: Command, limit: Duration) -> Result<Finished, Error> {
        let done = self.finish(name, command, limit)?;
        if done.status.success() {
            return Ok(done);
        }
        Err(Error::Git { command: name, message: printable(&done.complaint) })
    }
}

/// Settings in the environment: values may be secret, and may be what `-c` can't carry.
fn set(command: &mut Command, settings: &[(String, String)]) {
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (index, (key, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{index}"), key).env(format!("GIT_CONFIG_VALUE_{index}"), value);
    }
}

/// The repository by name: with `safe.bareRepository=explicit`, none is ever found by looking around.
fn git_dir(command: &mut Command, repo: &Path) -> Result<(), Error> {
    let mut argument = OsString::from("--git-dir=");
    argument.push(absolute(repo)?);
    command.arg(argument);
    Ok(())
}

/// Git runs in `/`, so a path must not depend on where it runs; and no absolute path begins with `-`.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// Porcelain output names a refused ref as `!\t<from>:<to>\t[rejected] (stale info)`. Only git writes there; what the
/// remote's hooks say comes on the other output.
fn is_stale(porcelain: &str) -> bool {
    let reasons = ["(stale info)", "(fetch first)", "(failed to update ref)", "(failed to lock)", "cannot lock ref"];
    let mut refused = porcelain.lines().filter(|line| line.starts_with('!'));
    refused.any(|line| reasons.iter().any(|reason| line.contains(reason)))
}

/// `(2, 39)` for `git version 2.39.5`.
fn version_of(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("git version ")?.split(['.', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Git's words, which may quote a remote's, without control characters but line breaks.
fn printable(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    let lines: Vec<&str> = clean.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_every_vendor_prints_them() {
        assert_eq!(version_of("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version_of("git version 2.47.1.windows.2"), Some((2, 47)));
        assert_eq!(version_of("something else"), None);
    }

    #[test]
    fn only_git_itself_says_that_a_push_is_stale() {
        assert!(is_stale("To /x\n!\tabc:refs/heads/main\t[rejected] (stale info)\nDone"));
        assert!(!is_stale("To /x\n!\tabc:refs/heads/main\t[remote rejected] (pre-receive hook declined)\nDone"));
        assert!(!is_stale("=\tabc:refs/heads/main\t(stale info)"));
    }
}
