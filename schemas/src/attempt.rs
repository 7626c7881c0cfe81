//! The states of an attempt and the allowed ways between them: what reconciler and agents must agree on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// ordered → claimed → granted → started → succeeded, failed, cancelled or lost.
///
/// An attempt's state is a stored fact, unlike a request's, which is derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttemptState {
    /// Written down, and on its way to an agent.
    Ordered,
    /// An agent has it in its journal and asks for the grant.
    Claimed,
    /// The one agent that may start holds a fence; the hosts are locked.
    Granted,
    /// The agent wrote down that it starts.
    Started,
    /// Over, and well.
    Succeeded,
    /// Over, and not well.
    Failed,
    /// Stopped by a person, verified.
    Cancelled,
    /// Nobody can know how far it came.
    Lost,
}

impl AttemptState {
    /// All states, in order.
    pub const ALL: [Self; 8] = [
        Self::Ordered,
        Self::Claimed,
        Self::Granted,
        Self::Started,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Lost,
    ];

    /// Whether the attempt is over. `lost` is over, though a returning agent may still settle it.
    pub fn is_final(self) -> bool {
        match self {
            Self::Ordered | Self::Claimed | Self::Granted | Self::Started => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Lost => true,
        }
    }

    /// Whether an agent may have begun or may yet begin by itself.
    pub fn holds_locks(self) -> bool {
        match self {
            Self::Granted | Self::Started | Self::Lost => true,
            Self::Ordered | Self::Claimed | Self::Succeeded | Self::Failed | Self::Cancelled => false,
        }
    }

    /// Whether `next` may follow this state.
    ///
    /// Back to `ordered` only without a grant (the agent fell silent before one), or where its agent declined the grant.
    /// Straight to `failed` where the agent declined the order. Out of `lost` only to what a returning journal or a
    /// person establishes, or to `ordered` where the journal shows that it never started.
    pub fn allows(self, next: Self) -> bool {
        use AttemptState::{Cancelled, Claimed, Failed, Granted, Lost, Ordered, Started, Succeeded};
        match self {
            Ordered => matches!(next, Claimed | Failed | Cancelled),
            Claimed => matches!(next, Granted | Ordered | Failed | Cancelled),
            Granted => matches!(next, Started | Ordered | Failed | Cancelled | Lost),
            Started => matches!(next, Succeeded | Failed | Cancelled | Lost),
            Lost => matches!(next, Ordered | Succeeded | Failed | Cancelled),
            Succeeded | Failed | Cancelled => false,
        }
    }

    /// The word, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Claimed => "claimed",
            Self::Granted => "granted",
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }

    /// The state for a word; `None` for any other text.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}
