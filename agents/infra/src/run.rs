//! Runs `ansible-playbook` once from a checkout, and says how it ended.
//!
//! The arguments hold nothing sensitive (N2): hosts and variables go by private files, the vault password by an
//! inherited pipe. One process is started, and nothing runs around it.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chiffon_runtime::{Ending, RunContext, Running, Spawn, Survivor};
use chiffon_schemas::crash::crash_point;
use chiffon_schemas::{Host, Mode, Outcome, RepoPath, Step};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::output::{Log, LogEnd};
use crate::pump::{Filled, Pipes, pump};
use crate::redact::Secrets;
use crate::room::{Room, ignored_settings};
use crate::vaulted::vaulted_files;
use crate::verdict::{self, Exit, Seen, Stopped};
use crate::{AnsibleConfig, vars};

/// A password longer than a pipe holds could not be handed over before the run; real ones have dozens of bytes.
const MAX_PASSWORD_BYTES: usize = 4096;

/// Why a run was not begun.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A file of the checkout or of the private folder.
    #[error("can't prepare {}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A pipe can't be made.
    #[error("can't make a pipe: {0}")]
    Pipe(std::io::Error),
    /// The variables.
    #[error(transparent)]
    Vars(#[from] vars::VarsError),
    /// A tag.
    #[error("the tag `{0}` is not made of letters, digits, `_`, `-`, `.` and `:`")]
    Tag(String),
    /// Vaulted content without a password.
    #[error(
        "{file} is encrypted with ansible-vault: name the password's file as `ansible.vault_password_file` in chiffon.yaml, \
             then retry"
    )]
    NoPassword {
        /// The first encrypted file.
        file: String,
    },
    /// The password can't be used.
    #[error("the vault_password_file {} {why}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A vaulted file of which the redactor can't be told.
    #[error("the vaulted file {0:?} has a name that is not UTF-8: its values could not be removed from the log")]
    VaultedName(PathBuf),
    /// The program could not be started.
    #[error("{0}")]
    Start(String),
}

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Playbook<'a> {
    /// The checkout of the pinned commit; nothing outside of it is read as content.
    pub checkout: &'a Path,
    /// The inventory inside it.
    pub inventory: &'a RepoPath,
    /// The step: playbook, tags, hosts, variables, time-out.
    pub step: &'a Step,
    /// Whether it is to change anything.
    pub mode: Mode,
    /// The version of ansible-core, for the record.
    pub ansible_core: Option<&'a str>,
}

/// Runs a playbook to its end, its time-out or its cancellation.
///
/// Returns only when every process of it is gone, or its survivors are named in an outcome of `lost`.
pub async fn run_playbook(config: &AnsibleConfig, playbook: &Playbook<'_>, run: RunContext) -> Outcome {
    let planned = &playbook.step.limit;
    if *run.cancel.borrow() {
        return cancelled_before(planned);
    }
    let prepared = match prepare(config, playbook, &run) {
        Ok(prepared) => prepared,
        Err(error) => return verdict::not_started(error.to_string(), planned),
    };
    supervise(config, playbook, run, prepared).await
}

fn cancelled_before(planned: &[Host]) -> Outcome {
    let reason = "cancelled before anything of it was started".to_owned();
    Outcome { verdict: chiffon_schemas::Verdict::Cancelled, failure: None, ..verdict::not_started(reason, planned) }
}

struct Prepared {
    running: Running,
    events: Receiver,
    log: Log,
    /// The vault's password, to be removed from the log as well.
    known: Vec<String>,
}

fn prepare(config: &AnsibleConfig, playbook: &Playbook<'_>, run: &RunContext) -> Result<Prepared, PrepareError> {
    let step = playbook.step;
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| PrepareError::File { path, source }
    };
    let folder = run.work_folder.join("private");
    let room = Room::create(folder.clone()).map_err(file(&folder))?;
    let vaulted = vaulted_files(playbook.checkout).map_err(file(playbook.checkout))?;
    let names: Vec<&str> = vaulted
        .iter()
        .map(|path| path.to_str().ok_or_else(|| PrepareError::VaultedName(path.clone())))
        .collect::<Result<_, _>>()?;
    room.write("vaulted.json", serde_json::Value::from(names).to_string().as_bytes()).map_err(file(&folder))?;
    let limit = room.write_limit(&step.limit).map_err(file(&folder))?;
    let vars = room.write("vars.json", &vars::extra_vars(&step.vars)?).map_err(file(&folder))?;
    let password = match vaulted.first() {
        Some(first) => Some(vault_password(config, playbook.checkout, first)?),
        None => None,
    };

    let (events, events_in) = pipe()?;
    let mut env = room.env(config, playbook.checkout);
    env.push(("CHIFFON_EVENTS".into(), Spawn::number_of(&events_in).to_string().into()));
    let password_pipe = password.as_deref().map(filled_pipe).transpose()?;
    let args = arguments(playbook, &limit, &vars, password_pipe.as_ref())?;
    let events = Receiver::from_owned_fd(events).map_err(PrepareError::Pipe)?;
    let running = Spawn {
        program: config.ansible_playbook.clone(),
        args,
        env,
        cwd: playbook.checkout.to_owned(),
        pass_fds: [Some(events_in), password_pipe].into_iter().flatten().collect(),
        marker: run.marker.clone(),
    }
    .start()
    .map_err(|error| PrepareError::Start(with_sources(&error)))?;

    crash_point("agent-process-started");

    let mut log = Log::new(run.log.clone(), config.log_cap_bytes);
    if vaulted.is_empty() {
        // Nothing can be decrypted, so nothing has to be waited for.
        log.know(&no_secrets());
    }
    Ok(Prepared { running, events, log, known: password.into_iter().collect() })
}

fn no_secrets() -> Arc<Secrets> {
    Arc::new(Secrets::none())
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

fn arguments(
    playbook: &Playbook<'_>,
    limit: &Path,
    vars: &Path,
    password: Option<&OwnedFd>,
) -> Result<Vec<OsString>, PrepareError> {
    let at = |path: &Path| {
        let mut arg = OsString::from("@");
        arg.push(path);
        arg
    };
    let mut args: Vec<OsString> = vec!["-i".into(), playbook.checkout.join(playbook.inventory.as_str()).into()];
    args.extend(["--limit".into(), at(limit), "--extra-vars".into(), at(vars)]);
    if !playbook.step.tags.is_empty() {
        if let Some(tag) = playbook.step.tags.iter().find(|tag| !is_tag(tag)) {
            return Err(PrepareError::Tag(tag.clone()));
        }
        args.extend(["--tags".into(), playbook.step.tags.join(",").into()]);
    }
    match playbook.mode {
        Mode::Apply => {}
        Mode::Check => args.extend(["--check".into(), "--diff".into()]),
    }
    if let Some(password) = password {
        args.extend(["--vault-password-file".into(), format!("/dev/fd/{}", Spawn::number_of(password)).into()]);
    }
    args.extend(["--".into(), playbook.step.playbook.as_str().into()]);
    Ok(args)
}

/// Whether a text is one tag: no comma, which would make it two, and no beginning that an option has.
pub(crate) fn is_tag(tag: &str) -> bool {
    tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag.len() <= 128
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':'))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), PrepareError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|error| PrepareError::Pipe(error.into()))
}

/// The reading end of a pipe that holds `text` and has ended.
fn filled_pipe(text: &str) -> Result<OwnedFd, PrepareError> {
    let (read, write) = pipe()?;
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let written = rustix::io::write(&write, rest).map_err(|error| PrepareError::Pipe(error.into()))?;
        rest = &rest[written..];
    }
    Ok(read)
}

fn vault_password(config: &AnsibleConfig, checkout: &Path, vaulted: &Path) -> Result<String, PrepareError> {
    let Some(path) = &config.vault_password_file else {
        let file = vaulted.strip_prefix(checkout).unwrap_or(vaulted).display().to_string();
        return Err(PrepareError::NoPassword { file });
    };
    let wrong = |why: &str| PrepareError::Password { path: path.clone(), why: why.to_owned() };
    let unreadable = |error: std::io::Error| wrong(&format!("can't be read: {error}"));
    let meta = fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() || meta.len() > MAX_PASSWORD_BYTES as u64 {
        return Err(wrong("is not a small plain file"));
    }
    if meta.permissions().mode() & 0o111 != 0 {
        return Err(wrong("is a program; put the password itself into a file of mode 0600"));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    if text.trim().is_empty() { Err(wrong("is empty")) } else { Ok(text) }
}

async fn supervise(config: &AnsibleConfig, playbook: &Playbook<'_>, run: RunContext, prepared: Prepared) -> Outcome {
    let Prepared { mut running, events, log, known } = prepared;
    let begun = Instant::now();
    let step = playbook.step;
    let (Some(out), Some(err)) = (running.stdout.take(), running.stderr.take()) else {
        running.end(Duration::ZERO).await;
        return verdict::not_started("the process has no pipes".to_owned(), &step.limit);
    };
    let filled = Filled { story: crate::events::Story::default(), log, secrets: no_secrets() };
    let (tell_over, over) = oneshot::channel();
    let pumped = pump(Pipes { events, out, err }, filled, &known, &run.progress, over);
    let watched = async {
        let stopped = until_stopped(&mut running, run.cancel.clone(), step.timeout_secs).await;
        let ending = running.end(config.grace).await;
        let took = begun.elapsed();
        // The pump may have ended by itself already.
        let _ = tell_over.send(());
        (stopped, ending, took)
    };
    let (filled, (stopped, ending, took)) = tokio::join!(pumped, watched);
    let Filled { story, mut log, secrets } = filled;
    let (survivors, leftover) = match ending {
        Ending::Verified { leftover } => (Vec::new(), leftover),
        Ending::Survivors(survivors) => (survivors.iter().map(describe).collect(), Vec::new()),
    };
    if let Stopped::TimedOut(secs) = stopped {
        log.note(&format!("timed out after {secs} s"));
    }
    let LogEnd { excerpt, first_error } = log.finish().await;
    let ended = running.ended();
    let checkout = format!("{}/", playbook.checkout.display());
    let first_error = first_error.map(|error| error.replace(&checkout, ""));
    let mut outcome = verdict::outcome(&Seen {
        planned: &step.limit,
        exit: ended.and_then(|ended| ended.exit_code).map_or(Exit::Signalled, Exit::Status),
        stopped,
        survivors: &survivors,
        story: &story,
        first_error: first_error.as_deref(),
        excerpt: &excerpt,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        usage: ended.and_then(|ended| ended.usage),
        ansible_core: playbook.ansible_core.map(str::to_owned),
    });
    outcome.suggestions.extend(more_suggestions(playbook.checkout, &secrets, stopped, &leftover));
    outcome
}

fn describe(survivor: &Survivor) -> String {
    let Survivor { pid, why, command } = survivor;
    format!("{pid} ({command}): {why}")
}

fn more_suggestions(
    checkout: &Path,
    secrets: &Secrets,
    stopped: Stopped,
    leftover: &[chiffon_runtime::Leftover],
) -> Vec<String> {
    let mut all = Vec::new();
    let ignored = ignored_settings(checkout);
    if !ignored.is_empty() {
        let keys = ignored.join(", ");
        all.push(format!("The repository's ansible.cfg sets {keys}; runs ignore it, so set them in the inventory."));
    }
    if secrets.too_short > 0 {
        let count = secrets.too_short;
        all.push(format!(
            "{count} vault values are too short to be removed from logs; use values of 4 characters or more."
        ));
    }
    // ssh keeps a connection open for the next task; that it is ended with the run is no news.
    let left: Vec<&str> =
        leftover.iter().map(|left| left.command.as_str()).filter(|name| !name.starts_with("ssh")).collect();
    if stopped == Stopped::No && !left.is_empty() {
        let names = left.join(", ");
        all.push(format!("The playbook left these running on the controller, and they were ended: {names}."));
    }
    all
}

/// Waits for the run's own end, its cancellation or its time-out.
async fn until_stopped(running: &mut Running, mut cancel: watch::Receiver<bool>, timeout_secs: u32) -> Stopped {
    let cancelled = async {
        if cancel.wait_for(|cancel| *cancel).await.is_err() {
            // Nobody is left who could cancel.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // A leader that can't be waited for is ended like any other; what is found then decides.
        _ = running.wait() => Stopped::No,
        () = cancelled => Stopped::Cancelled,
        () = tokio::time::sleep(Duration::from_secs(u64::from(timeout_secs))) => Stopped::TimedOut(timeout_secs),
    }
}
