//! What can go wrong in an agent's runtime.

use std::io;
use std::path::PathBuf;

/// Why something of the runtime failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program could not be started.
    #[error("can't start `{}`", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A process could not be waited for.
    #[error("can't wait for process {pid}")]
    Wait {
        /// Its number.
        pid: i32,
        /// Why.
        source: io::Error,
    },
    /// A file of the journal can't be read or written.
    #[error("can't {what} {}", path.display())]
    File {
        /// What was tried: `read`, `write`.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses this journal.
    #[error("the journal {} is in use by another process", path.display())]
    InUse {
        /// The journal's folder.
        path: PathBuf,
    },
    /// The journal is damaged before its end: what it says can't be trusted, and a person must look.
    #[error("{}: line {line} is damaged ({reason})", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry says something that can't follow what the journal holds.
    #[error("attempt {attempt} can't become {next}: the journal says {state}")]
    Order {
        /// The attempt.
        attempt: String,
        /// What was to be written.
        next: &'static str,
        /// What the journal says.
        state: &'static str,
    },
    /// A grant that must not be used.
    #[error("attempt {attempt} can't be granted: {reason}")]
    Refused {
        /// The attempt.
        attempt: String,
        /// Why, in words.
        reason: String,
    },
    /// The link ended for good.
    #[error("the link to the reconciler ended")]
    Link(#[source] chiffon_link::Error),
}
