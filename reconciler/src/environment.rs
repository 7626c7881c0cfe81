//! The one place of this binary that reads the environment, the wall clock and randomness.
//!
//! Everything else takes them as values, so that decisions can be tested and two runs can be compared.

#![expect(clippy::disallowed_methods, reason = "this is the file that the rule names")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::SystemTime;

use chiffon_schemas::{EventId, RunId, Timestamp, ulid};

/// What the process was started with.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `PATH`.
    pub path: OsString,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `CHIFFON_DIR`: the folder that `init` made.
    pub chiffon_dir: Option<PathBuf>,
    /// `SSH_AUTH_SOCK`, for a person's own pushes.
    pub ssh_auth_sock: Option<OsString>,
    /// `CHIFFON_FORGE_TOKEN`: a person's own token of the forge.
    pub forge_token: Option<OsString>,
    /// `NO_COLOR` is set and not empty.
    pub no_color: bool,
    /// `CHIFFON_LOG`: a filter for the process's own log, like `info,chiffon=debug`.
    pub log: Option<String>,
    /// The folder in which the process was started.
    pub cwd: PathBuf,
    /// Git's quarantine variables inside a hook, by name: `GIT_OBJECT_DIRECTORY` and its alternates.
    pub git_objects: Vec<(String, OsString)>,
    /// `COLUMNS`, the width of the terminal where the shell says it.
    pub columns: Option<usize>,
}

impl Environment {
    /// Reads it.
    pub fn read() -> Self {
        let text = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let git_objects =
            ["GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH", "GIT_DIR"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), text(name)?)))
                .collect();
        Self {
            path: text("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
            home: text("HOME").map(PathBuf::from),
            chiffon_dir: text("CHIFFON_DIR").map(PathBuf::from),
            ssh_auth_sock: text("SSH_AUTH_SOCK"),
            forge_token: text("CHIFFON_FORGE_TOKEN"),
            no_color: text("NO_COLOR").is_some(),
            log: text("CHIFFON_LOG").and_then(|value| value.into_string().ok()),
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            git_objects,
            columns: text("COLUMNS").and_then(|value| value.to_str()?.parse().ok()),
        }
    }

    /// A program on `PATH`.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path).map(|folder| folder.join(name)).find(|path| path.is_file())
    }
}

/// The wall clock, in whole seconds.
pub fn now() -> Timestamp {
    Timestamp::from_secs(i64::try_from(millis() / 1000).unwrap_or(i64::MAX))
}

/// Milliseconds since the epoch; 0 before it.
pub fn millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ahead = chiffon_schemas::crash::clock_ahead().saturating_mul(1000);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add(ahead)
}

/// A new ULID. Within one process ids rise even inside one millisecond, so that sorting by id is sorting by time.
fn new_ulid() -> String {
    use std::sync::Mutex;
    static LAST: Mutex<(u64, u128)> = Mutex::new((0, 0));
    let mut last = LAST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let now = millis();
    *last = if now > last.0 { (now, random() >> 1) } else { (last.0, last.1 + 1) };
    ulid(last.0, last.1)
}

/// 80 random bits.
fn random() -> u128 {
    let mut bytes = [0_u8; 16];
    bytes[..10].copy_from_slice(&random_bytes::<10>());
    u128::from_le_bytes(bytes)
}

/// Random bytes from the kernel.
fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            // No kernel that runs this lacks getrandom(2); ids must never repeat in silence.
            Err(error) => panic!("the kernel gives no random bytes: {error}"),
        }
    }
    bytes
}

/// A new secret that nobody guesses: 256 random bits in hexadecimal.
pub fn secret() -> String {
    random_bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new event's id.
pub fn event_id() -> EventId {
    EventId::parse(new_ulid()).expect("a ULID is an event id")
}

/// A new run's id.
pub fn run_id() -> RunId {
    RunId::parse(new_ulid()).expect("a ULID is a run id")
}
