//! Why a tick or a message did not come to its end, and whom that concerns.

use chiffon_schemas::{AttemptKey, Name};

/// Why a tick or a message did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A person has to look before anything goes on.
    #[error("{0}")]
    Stalled(String),
    /// The store failed; the next tick tries again.
    #[error("the store failed")]
    Store(#[from] chiffon_store::Error),
    /// A repository failed; the next tick tries again.
    #[error("a git repository failed")]
    Git(#[from] chiffon_requests::Error),
    /// Showing a plan failed; the next tick tries again.
    #[error("the plan could not be shown")]
    Forge(#[from] chiffon_forge::Error),
    /// An agent reported about an attempt that was given to another one.
    #[error("the agent `{agent}` reported about {attempt}, which was given to another agent")]
    Foreign {
        /// Who reported.
        agent: Name,
        /// The attempt.
        attempt: AttemptKey,
    },
    /// What a decision needs of the infra repository can't be read now; the next tick tries again.
    #[error("{0}")]
    Infra(String),
}

impl Error {
    /// Whether somebody was faster, so that looking again is all that is to be done; what was found.
    pub(super) fn is_race(&self) -> Option<String> {
        let of_git = |error: &chiffon_requests::Error| error.is_stale().then(|| error.to_string());
        match self {
            Self::Store(chiffon_store::Error::Conflict { what, found }) => Some(format!("{what}: {found}")),
            Self::Git(error) | Self::Forge(chiffon_forge::Error::Git(error)) => of_git(error),
            Self::Store(_) | Self::Forge(_) | Self::Stalled(_) | Self::Foreign { .. } | Self::Infra(_) => None,
        }
    }

    /// After how many tries the message that met it is put aside, where it is the message's own fault (R7).
    pub fn parks_after(&self) -> Option<u32> {
        match self {
            Self::Foreign { .. } => Some(1),
            Self::Store(error) => error.is_of_the_data().then_some(3),
            Self::Stalled(_) | Self::Git(_) | Self::Forge(_) | Self::Infra(_) => None,
        }
    }

    /// Whether it concerns the request alone that was looked at, so that the others go on.
    pub(super) fn is_of_one_request(&self) -> bool {
        match self {
            Self::Git(_) | Self::Forge(_) | Self::Infra(_) => true,
            Self::Store(_) | Self::Stalled(_) | Self::Foreign { .. } => false,
        }
    }
}
