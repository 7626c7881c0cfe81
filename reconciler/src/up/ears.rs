//! Whether the loop has listened to agents all the time: who could not be heard was not silent.

use std::time::Duration;

use chiffon_schemas::Timestamp;
use tokio::time::Instant;

use crate::environment;

/// Shorter gaps than this cost no heartbeat, however short the patience.
const GAP: Duration = Duration::from_secs(5);

/// The two clocks, as they were when the loop last looked at them. The steady one stands still while the machine sleeps.
pub(super) struct Ears {
    wall: Timestamp,
    steady: Instant,
}

impl Ears {
    pub fn new() -> Self {
        Self { wall: environment::now(), steady: Instant::now() }
    }

    /// Begins to listen: whether what came before took so long that agents were not heard in time. What costs less than a
    /// third of the patience with their silence leaves them time enough: a try at a queue that takes nothing lasts ten
    /// seconds, and must not have every silent agent forgiven each time (R4).
    pub fn were_shut(&mut self, patience: Duration) -> bool {
        let (wall, steady) = self.passed();
        wall.max(steady) > GAP.max(patience / 3)
    }

    /// Has listened: whether the machine slept, or its clock was set, in the meantime.
    pub fn slept(&mut self) -> bool {
        let (wall, steady) = self.passed();
        wall.abs_diff(steady) > GAP
    }

    /// How far both clocks went since last time.
    fn passed(&mut self) -> (Duration, Duration) {
        let before = std::mem::replace(self, Self::new());
        let wall = u64::try_from(self.wall.secs() - before.wall.secs()).unwrap_or(0);
        (Duration::from_secs(wall), self.steady - before.steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gap_makes_deaf() {
        let mut ears = Ears::new();
        let short = Duration::from_secs(10);
        assert!(!ears.were_shut(short) && !ears.slept());
        ears.steady -= GAP * 2;
        assert!(ears.were_shut(short), "a tick of ten seconds");
        ears.steady -= GAP * 2;
        assert!(!ears.were_shut(Duration::from_secs(90)), "a tick of ten seconds where ninety are waited for");
        ears.wall = ears.wall.plus_secs(-3600);
        assert!(ears.slept(), "an hour of sleep");
        ears.wall = ears.wall.plus_secs(-60);
        ears.steady -= Duration::from_secs(60);
        assert!(!ears.slept(), "a minute of listening");
    }
}
