//! What a forge may answer other than what was asked for.

use std::time::Duration;

/// Why a forge did not do what was asked. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Nobody answered, or the answer broke off.
    #[error("the forge at {at} does not answer: {why}")]
    Unreachable {
        /// Where.
        at: String,
        /// Why.
        why: String,
    },
    /// The token is none, or no longer.
    #[error("the forge does not take the token ({said}): {fix}")]
    Unauthorized {
        /// What it said.
        said: String,
        /// The way out.
        fix: &'static str,
    },
    /// The token may not do this.
    #[error("the forge's token may not {what} ({said}): it needs {needs}")]
    Forbidden {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        said: String,
        /// What a token needs for that.
        needs: &'static str,
    },
    /// What was asked for is not there.
    #[error("the forge has nothing there: {what} ({said})")]
    NotFound {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        said: String,
    },
    /// It says that it is elsewhere now, where nobody told us to go (S11).
    #[error("the forge will not {what}: it is at {to} now: set `forge` to that")]
    Moved {
        /// What was asked for.
        what: &'static str,
        /// Where it says that it is.
        to: String,
    },
    /// Something else is there than was expected.
    #[error("the forge will not {what}: {said}")]
    Conflict {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        said: String,
    },
    /// It asks for patience.
    #[error("the forge asks to wait {} s before it will {what} ({said})", after.as_secs())]
    Later {
        /// What was asked for.
        what: &'static str,
        /// For how long.
        after: Duration,
        /// What it said.
        said: String,
    },
    /// It failed, or refused for a reason of its own.
    #[error("the forge failed to {what}: {status} {said}")]
    Failed {
        /// What was asked for.
        what: &'static str,
        /// The answer's status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// What it answered is not what its own description says.
    #[error("the forge's answer to `{what}` can't be read: {why}")]
    Unreadable {
        /// What was asked for.
        what: &'static str,
        /// Why.
        why: String,
    },
}

impl Trouble {
    /// Whether the same question may be answered otherwise after a while, without anybody changing a setting.
    pub fn passes(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Later { .. } | Self::Failed { .. } | Self::Conflict { .. } => true,
            Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::Moved { .. }
            | Self::Unreadable { .. } => false,
        }
    }
}
