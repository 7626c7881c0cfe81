//! Fetches the infra repository beside the loop: a remote may take minutes, and agents are to be heard meanwhile.

use std::time::Duration;

use chiffon_requests::StopFlag;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::driver::{Driver, Fetched};

/// How long a look waits for the fetch that was begun with it; then it goes on with what is known.
const PATIENCE: Duration = Duration::from_secs(5);

/// The fetch that is under way, if one is, and when the next one begins.
pub(super) struct Fetching {
    under_way: Option<JoinHandle<Fetched>>,
    /// Until when a look waits for the one under way.
    patience: Option<Instant>,
    /// Another one was asked for while one was under way.
    again: bool,
    next: Instant,
    stop: StopFlag,
}

impl Fetching {
    pub fn new() -> Self {
        Self { under_way: None, patience: None, again: false, next: Instant::now(), stop: StopFlag::default() }
    }

    /// Begins a fetch, or has another one follow the one that is under way.
    pub fn begin(&mut self, driver: &mut Driver) {
        self.patience = Some(Instant::now() + PATIENCE);
        if self.under_way.is_some() {
            self.again = true;
            return;
        }
        let (fetch, stop) = (driver.fetch(), self.stop.clone());
        self.under_way = Some(tokio::task::spawn_blocking(move || fetch.run(&stop)));
    }

    /// Waits for the end of the fetch under way; for ever where there is none.
    pub async fn done(&mut self) -> Fetched {
        match &mut self.under_way {
            Some(fetch) => match fetch.await {
                Ok(fetched) => fetched,
                Err(error) => Fetched::failed(format!("the fetch itself failed: {error}")),
            },
            None => std::future::pending().await,
        }
    }

    /// The fetch under way has ended.
    pub fn ended(&mut self, poll: Duration, driver: &mut Driver) {
        (self.under_way, self.patience) = (None, None);
        self.next = Instant::now() + poll;
        if std::mem::take(&mut self.again) {
            self.begin(driver);
        }
    }

    /// When to look at the latest: when something is due, when the next fetch is, or when this one has taken too long.
    pub fn due(&self, look_again: Option<Instant>) -> Instant {
        let of_fetch = match (&self.under_way, self.patience) {
            (Some(_), Some(patience)) => Some(patience),
            (Some(_), None) => None,
            (None, _) => Some(self.next),
        };
        // Nothing at all is due only while a fetch is waited for that has been slow before.
        [look_again, of_fetch].into_iter().flatten().min().unwrap_or_else(|| Instant::now() + PATIENCE * 12)
    }

    /// Whether patience with the fetch under way was what came due; it is lost once.
    pub fn is_slow(&mut self, due: Instant) -> bool {
        self.under_way.is_some() && self.patience.take_if(|patience| *patience <= due).is_some()
    }

    /// Whether the next fetch is to begin now.
    pub fn is_due(&self) -> bool {
        self.under_way.is_none() && Instant::now() >= self.next
    }

    /// Ends the fetch under way and waits until its program is gone.
    pub async fn stop(mut self) {
        self.stop.set();
        if let Some(fetch) = self.under_way.take() {
            // What it brought is brought again.
            let _ = fetch.await;
        }
    }
}
