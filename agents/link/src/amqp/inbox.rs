//! What has arrived and is not settled yet. What a receiver drops comes again from here, at its old place; what the
//! session's end takes away comes again from the broker.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chiffon_schemas::{Name, TraceParent};
use lapin::Acker;
use tokio::sync::Notify;

/// A message that has arrived.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Which session brought it: it can be settled only there.
    pub session: u64,
    /// Its place in the session.
    pub number: u64,
    /// The agent that it is for or comes from.
    pub agent: Name,
    pub bytes: Vec<u8>,
    /// How often it was delivered, by the broker and from here.
    pub tries: u32,
    /// The span that it was sent in.
    pub trace: Option<TraceParent>,
    pub acker: Acker,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Item>,
    session: u64,
    next: u64,
    closed: bool,
}

/// The messages of the present session.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Notify,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before anything can panic, so a poisoned lock still guards whole data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new session: what the old one brought comes again from the broker.
    pub fn begin(&self, session: u64) {
        let mut state = self.lock();
        state.waiting.clear();
        state.session = session;
    }

    /// A message has arrived.
    pub fn push(&self, mut item: Item) {
        let mut state = self.lock();
        item.number = state.next;
        state.next += 1;
        state.waiting.push_back(item);
        drop(state);
        self.changed.notify_one();
    }

    /// A receiver did not want it: it comes again, before those that came later.
    pub fn put_back(&self, item: Item) {
        let mut state = self.lock();
        if item.session != state.session {
            return;
        }
        let at = state.waiting.partition_point(|waiting| waiting.number < item.number);
        state.waiting.insert(at, item);
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for the next; `None` once closed.
    pub async fn take(&self) -> Option<Item> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a change between look and wait is not missed.
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                if state.closed {
                    // Whoever else waits hears it as well.
                    self.changed.notify_one();
                    return None;
                }
                if let Some(mut item) = state.waiting.pop_front() {
                    item.tries += 1;
                    if !state.waiting.is_empty() {
                        self.changed.notify_one();
                    }
                    return Some(item);
                }
            }
            changed.await;
        }
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }
}
