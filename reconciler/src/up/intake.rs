//! When messages of agents are taken in. After one that could not be, none is for a while: what refused it would refuse
//! it again at once, and it waits at the head of the inbox.

use std::time::Duration;

use chiffon_link::{Delivery, Error, Hub};
use chiffon_schemas::FromAgent;
use chiffon_web::Part;
use tokio::time::Instant;

/// The pauses after a message that could not be taken in: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What failed comes again as soon as the pause is over. Where it does not, it is gone: with its session, or parked.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// Whether messages are taken in, and where they are not, why.
pub(super) struct Intake {
    next_pause: Duration,
    retry_at: Option<Instant>,
    trouble: Option<(Part, String)>,
}

impl Intake {
    pub fn new() -> Self {
        Self { next_pause: FIRST_PAUSE, retry_at: None, trouble: None }
    }

    /// The next message, once one is to be taken in.
    ///
    /// # Errors
    /// The bus was closed.
    pub async fn next(&self, hub: &dyn Hub) -> Result<Delivery<FromAgent>, Error> {
        if let Some(at) = self.retry_at {
            tokio::time::sleep_until(at).await;
        }
        hub.receive().await
    }

    /// One could not be taken in: whether the reason is a new one.
    pub fn failed(&mut self, part: Part, why: String) -> bool {
        let is_new = self.trouble() != Some(&(part, why.clone()));
        self.retry_at = Some(Instant::now() + self.next_pause);
        self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
        self.trouble = Some((part, why));
        is_new
    }

    /// One was taken in: whether that ends a trouble.
    pub fn took(&mut self) -> bool {
        std::mem::replace(self, Self::new()).trouble.is_some()
    }

    /// Why nothing is taken in, and what is missing for it.
    pub fn trouble(&self) -> Option<&(Part, String)> {
        self.trouble_at(Instant::now())
    }

    fn trouble_at(&self, now: Instant) -> Option<&(Part, String)> {
        self.trouble.as_ref().filter(|_| self.retry_at.is_some_and(|at| now < at + GONE_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(intake: &mut Intake, why: &str) -> (bool, u64) {
        let pause = intake.next_pause;
        let is_new = intake.failed(Part::Store, why.to_owned());
        assert!(intake.retry_at.is_some_and(|at| at <= Instant::now() + pause));
        (is_new, pause.as_secs())
    }

    #[test]
    fn a_store_that_refuses_is_asked_ever_more_seldom_and_named_once() {
        let mut intake = Intake::new();
        assert!(!intake.took() && intake.trouble().is_none());
        assert_eq!(fails(&mut intake, "read-only"), (true, 1));
        for pause in [2, 4, 5, 5] {
            assert_eq!(fails(&mut intake, "read-only"), (false, pause));
        }
        assert_eq!(fails(&mut intake, "no space"), (true, 5));
        assert_eq!(intake.trouble(), Some(&(Part::Store, "no space".to_owned())));
        let later = Instant::now() + LONGEST_PAUSE + GONE_AFTER;
        assert!(intake.trouble_at(later).is_none(), "it never came again");
        assert!(intake.took() && intake.trouble().is_none() && intake.retry_at.is_none());
        assert_eq!(fails(&mut intake, "no space"), (true, 1));
    }
}
