//! The bus between reconciler and agents: claim → grant → run → report, as messages.
//!
//! The store is the only authority; the bus carries hints and bytes. Every message may arrive twice, and a receiver
//! is written for that. What a sender was told is confirmed stays until a receiver acknowledges it or the bus is
//! lost. Messages travel as bytes in every adapter, so that all of them refuse the same things. Nothing here decides.

pub mod amqp;
mod authority;
#[cfg(feature = "conformance")]
pub mod conformance;
mod invitation;
mod local;
mod seal;
mod secret;
mod wire;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;

pub use chiffon_schemas::Direction;
use chiffon_schemas::{FromAgent, Name, ToAgent, TraceParent};

pub use authority::{AuthorityError, read_authority};
pub use invitation::{BadToken, Token};
pub use local::{Limits, LocalHub, LocalLink};
pub use seal::{KeyError, Signer, Verifier};
pub use secret::{SecretError, read_private, read_secret, write_first_secret, write_secret};
pub use wire::{MAX_MESSAGE_BYTES, VERSION};

/// Why a message was not taken or can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No agent of this name was ever attached.
    #[error("no agent `{agent}` is known to the bus")]
    Unroutable {
        /// The agent.
        agent: Name,
    },
    /// The bus takes nothing more for now; sending again later is right.
    #[error("the bus is blocked: it took nothing for {waited:?}")]
    Blocked {
        /// How long the sender waited.
        waited: Duration,
    },
    /// The bus is closed, or another link took this agent's place.
    #[error("the bus is closed")]
    Closed,
    /// The line broke before the bus heard that a message is settled; it comes again.
    #[error("the bus did not hear that a message is settled; it comes again")]
    Unheard,
    /// The message is over [`MAX_MESSAGE_BYTES`]; sending it again is useless.
    #[error("a message of {bytes} bytes is over the limit of {limit}")]
    Oversized {
        /// Its size on the wire.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// An agent spoke in another's name.
    #[error("the agent `{agent}` can't send in the name of `{claimed}`")]
    Foreign {
        /// Who sent it.
        agent: Name,
        /// Whom the message names.
        claimed: Name,
    },
    /// The message has no form on the wire; sending it again is useless.
    #[error("the message can't be written as JSON")]
    Encode(#[source] serde_json::Error),
}

impl Error {
    /// Whether sending the same message again later may succeed.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Blocked { .. } | Self::Unroutable { .. } | Self::Unheard => true,
            Self::Closed | Self::Oversized { .. } | Self::Foreign { .. } | Self::Encode(_) => false,
        }
    }
}

/// The agent's end of the bus.
#[async_trait::async_trait]
pub trait Link: Send + Sync + 'static {
    /// Sends to the reconciler; returns once the bus has it and will deliver it.
    ///
    /// Messages of one sender arrive in order, repeats aside.
    ///
    /// # Errors
    /// See [`Error`]; the message may have been taken all the same when the bus failed at the wrong moment.
    async fn send(&self, message: &FromAgent) -> Result<(), Error>;

    /// Waits for the next message. Not acknowledged, it comes again.
    ///
    /// # Errors
    /// [`Error::Closed`].
    async fn receive(&self) -> Result<Delivery<ToAgent>, Error>;
}

/// The reconciler's end of the bus.
#[async_trait::async_trait]
pub trait Hub: Send + Sync + 'static {
    /// Sends to one agent; returns once the bus has it and will deliver it, also when the agent is away just now.
    ///
    /// # Errors
    /// See [`Error`]; the message may have been taken all the same when the bus failed at the wrong moment.
    async fn send(&self, agent: &Name, message: &ToAgent) -> Result<(), Error>;

    /// Sends to one agent, in order as far as all goes well; how many from the first on the bus has and will deliver, and
    /// why not the next one. Those after it may have been taken all the same, as after any error: a later message may then
    /// come before an earlier one that is sent again.
    async fn send_all(&self, agent: &Name, messages: &[&ToAgent]) -> (usize, Option<Error>) {
        for (sent, message) in messages.iter().enumerate() {
            if let Err(error) = self.send(agent, message).await {
                return (sent, Some(error));
            }
        }
        (messages.len(), None)
    }

    /// Waits for the next message from any agent. Not acknowledged, it comes again. The agent that it names is the
    /// one that sent it.
    ///
    /// # Errors
    /// [`Error::Closed`].
    async fn receive(&self) -> Result<Delivery<FromAgent>, Error>;

    /// The next message that could not be delivered, in either direction, to be shown to a person (R7); `None` where
    /// there is none now. Not acknowledged, it is there again.
    ///
    /// # Errors
    /// [`Error::Closed`].
    async fn next_parked(&self) -> Result<Option<Delivery<Parked>>, Error>;

    /// Why nothing goes over the bus just now, in words, and each change of that; `None` where all is well.
    fn trouble(&self) -> watch::Receiver<Option<String>>;

    /// How many messages wait in each queue, for those who watch; empty where the bus can't say now.
    async fn depths(&self) -> Vec<Depth>;

    /// Makes these agents known to the bus, and no others: nothing is sent to the rest.
    async fn admit(&self, agents: &BTreeSet<Name>);
}

/// How full a queue of the bus is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    /// The queue.
    pub queue: String,
    /// Messages that wait in it for a receiver.
    pub messages: u64,
}

/// A message that waits to be acknowledged. Dropped without that, it is delivered again.
pub struct Delivery<T> {
    /// The message.
    pub message: T,
    /// How often it was delivered, this time included.
    pub tries: u32,
    /// The span that it was sent in, where its sender named one.
    pub trace: Option<TraceParent>,
    receipt: Box<dyn Receipt>,
}

impl<T> Delivery<T> {
    /// A delivery, made by an adapter.
    pub fn new(message: T, tries: u32, receipt: Box<dyn Receipt>) -> Self {
        Self { message, tries, trace: None, receipt }
    }

    /// It was sent in this span.
    #[must_use]
    pub fn within(self, trace: Option<TraceParent>) -> Self {
        Self { trace, ..self }
    }

    /// Says that it need not come again: everything that must outlive this process is written down.
    ///
    /// # Errors
    /// The bus did not hear it; the message comes again.
    pub async fn ack(self) -> Result<(), Error> {
        self.receipt.ack().await
    }

    /// Puts it aside with a reason, since trying it again is useless.
    ///
    /// # Errors
    /// The bus did not hear it; the message comes again.
    pub async fn park(self, reason: String) -> Result<(), Error> {
        self.receipt.park(reason).await
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("message", &self.message).field("tries", &self.tries).finish_non_exhaustive()
    }
}

/// What an adapter does when a delivery is settled. Dropped unsettled, it must have the message delivered again.
#[async_trait::async_trait]
pub trait Receipt: Send {
    /// Forgets the message.
    ///
    /// # Errors
    /// The bus did not hear it.
    async fn ack(self: Box<Self>) -> Result<(), Error>;

    /// Puts the message aside.
    ///
    /// # Errors
    /// The bus did not hear it.
    async fn park(self: Box<Self>, reason: String) -> Result<(), Error>;
}

/// A message that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The agent that it came from or was for.
    pub agent: Name,
    /// Which way it went.
    pub direction: Direction,
    /// Why it was put aside, in words.
    pub reason: String,
    /// Its first bytes, at most 4 KiB.
    pub head: Vec<u8>,
    /// Its whole size in bytes.
    pub size: usize,
}
