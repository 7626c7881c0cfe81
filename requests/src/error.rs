//! What can go wrong with a repository, and what is refused in one.

use std::path::PathBuf;

use chiffon_schemas::{InvalidId, Oid};

/// Why a repository did not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be opened.
    #[error("{path} can't be opened as a git repository: {reason}")]
    Open {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An object is missing or is not what it should be.
    #[error("object {oid} can't be read: {reason}")]
    Object {
        /// Which.
        oid: Oid,
        /// Why.
        reason: String,
    },
    /// An object's bytes are not what they should be; whoever wrote it did not use git, or the disk lost them.
    #[error("object {oid} is damaged: {reason}")]
    Damaged {
        /// Which.
        oid: Oid,
        /// Why.
        reason: String,
    },
    /// An object is larger than the caller takes.
    #[error("object {oid} has {bytes} bytes; at most {limit} are read")]
    TooLarge {
        /// Which.
        oid: Oid,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A ref moved between looking and writing. Look again.
    #[error("{name} moved in the meantime")]
    Moved {
        /// Which.
        name: String,
    },
    /// A ref can't be read or written.
    #[error("{name} can't be read or written: {reason}")]
    Reference {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// An object can't be written.
    #[error("writing to {path} failed: {reason}")]
    Write {
        /// The repository.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A name is none.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A file on disk.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A tree holds what must not be written to disk.
    #[error("{path} is not checked out: {refusal}")]
    Checkout {
        /// Which path of the tree.
        path: String,
        /// Why.
        refusal: Refusal,
    },
    /// The blob is not on the way from the tip back.
    #[error("{path} does not hold {blob} at the tip")]
    NotThere {
        /// The path.
        path: String,
        /// The blob.
        blob: Oid,
    },
    /// The git program failed.
    #[error("git {command} failed: {message}")]
    Git {
        /// Its command.
        command: &'static str,
        /// What it said, without control characters.
        message: String,
    },
    /// A remote has no such branch.
    #[error("the remote has no branch {name}")]
    NoRemoteBranch {
        /// Which.
        name: String,
    },
    /// The git program took too long, and was ended.
    #[error("git {command} took longer than {secs} s and was ended")]
    Timeout {
        /// Its command.
        command: &'static str,
        /// The limit.
        secs: u64,
    },
    /// The git program was ended, since Chiffon stops.
    #[error("git {command} was ended: Chiffon stops")]
    Stopped {
        /// Its command.
        command: &'static str,
    },
    /// A repository that was to be a copy of a forge's is one of its own.
    #[error("{} is a repository of its own and no copy of the forge's: push what it holds to the forge, then move it away", path.display())]
    NotACopy {
        /// The repository.
        path: std::path::PathBuf,
    },
    /// A remote's hooks or rules took a push for one that they do not take; its words are in the message.
    #[error("git push failed: {message}")]
    RefusedPush {
        /// What was said.
        message: String,
    },
    /// The remote moved since it was looked at: a push with a lease was refused.
    #[error("the remote's {name} moved in the meantime")]
    StalePush {
        /// The branch.
        name: String,
    },
    /// An address of a repository is none that is taken.
    #[error("`{shown}` is no address of a repository: {reason}")]
    Url {
        /// The address, without a password.
        shown: String,
        /// Why.
        reason: &'static str,
    },
}

impl Error {
    /// Whether a remote's hooks or rules refused a push, which they would do again.
    pub fn is_refused_push(&self) -> bool {
        matches!(self, Self::RefusedPush { .. })
    }

    /// Whether looking again and trying once more may help.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::StalePush { .. } | Self::Moved { .. })
    }
}

/// Why something in a repository is not read (S6). Each is a sentence's end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A symbolic link.
    #[error("symbolic links are not read here")]
    Symlink,
    /// A submodule.
    #[error("submodules are not read here")]
    Submodule,
    /// A large file kept elsewhere.
    #[error("a pointer to a large file (LFS), not a document")]
    LfsPointer,
    /// Too many bytes.
    #[error("it has {bytes} bytes; at most {limit} are read")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// A name that is not one.
    #[error("its name is not taken: no control characters, backslashes, `..`, `.git`, or parts that begin with `-`")]
    BadName,
    /// Too many files.
    #[error("there are more than {limit} files")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// Too deep.
    #[error("folders are nested deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// Nothing there.
    #[error("there is no such file")]
    Missing,
    /// Something else than a file.
    #[error("it is not a file")]
    NotAFile,
    /// Something else than a folder.
    #[error("it is not a folder")]
    NotAFolder,
    /// The repository itself is damaged.
    #[error("it can't be read: {0}")]
    Unreadable(String),
}
