//! What waits to be done on the forge, and what of it is next. Pure: the time comes in.

use std::time::Duration;

use tokio::time::Instant;

use crate::driver::ForgeJob;

/// The pauses of one job after failures: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Jobs that wait.
#[derive(Debug, Default)]
pub(super) struct Queue(Vec<Waiting>);

#[derive(Debug)]
struct Waiting {
    job: ForgeJob,
    due: Instant,
    failed: u32,
}

impl Queue {
    /// Takes a job in. What a newer one of the same pull request or branch makes useless is given back.
    pub fn push(&mut self, job: ForgeJob, due: Instant) -> Vec<ForgeJob> {
        let (useless, kept) = std::mem::take(&mut self.0).into_iter().partition(|other| replaces(&job, &other.job));
        self.0 = kept;
        self.0.push(Waiting { job, due, failed: 0 });
        useless.into_iter().map(|waiting: Waiting| waiting.job).collect()
    }

    /// The job to do now. While the audit branch is not there, nothing is done that others would see.
    pub fn next(&self, now: Instant) -> Option<&ForgeJob> {
        self.allowed().find(|waiting| waiting.due <= now).map(|waiting| &waiting.job)
    }

    fn allowed(&self) -> impl Iterator<Item = &Waiting> {
        let audit = self.0.iter().any(|waiting| matches!(waiting.job, ForgeJob::Audit { .. }));
        let may = move |job: &ForgeJob| !audit || matches!(job, ForgeJob::Audit { .. } | ForgeJob::Ask { .. });
        self.0.iter().filter(move |waiting| may(&waiting.job))
    }

    /// When the next job that waits is due.
    pub fn due(&self) -> Option<Instant> {
        self.allowed().map(|waiting| waiting.due).min()
    }

    /// A job is done, or of no use any more.
    pub fn remove(&mut self, job: &ForgeJob) {
        self.0.retain(|waiting| &waiting.job != job);
    }

    /// A job failed: it is tried again later, ever more seldom.
    pub fn failed(&mut self, job: &ForgeJob, now: Instant) {
        if let Some(waiting) = self.0.iter_mut().find(|waiting| &waiting.job == job) {
            waiting.due = now + (FIRST_PAUSE * 2_u32.saturating_pow(waiting.failed.min(16))).min(LONGEST_PAUSE);
            waiting.failed += 1;
        }
    }

    /// Whether a job about the same waits for another try.
    pub fn holds(&self, about: &str) -> bool {
        self.0.iter().any(|waiting| waiting.failed > 0 && waiting.job.about() == about)
    }
}

/// Whether one job makes another useless.
fn replaces(one: &ForgeJob, other: &ForgeJob) -> bool {
    match (one, other) {
        (ForgeJob::Audit { .. }, ForgeJob::Audit { .. }) => true,
        (ForgeJob::Show { number, .. }, ForgeJob::Show { number: other, .. }) => number == other,
        (ForgeJob::Branch { name, .. }, ForgeJob::Branch { name: other, .. })
        | (ForgeJob::Status { name, .. }, ForgeJob::Status { name: other, .. })
        | (ForgeJob::Propose { name, .. }, ForgeJob::Propose { name: other, .. }) => name == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use chiffon_schemas::{Name, Oid};

    use super::*;

    fn oid(digit: &str) -> Oid {
        Oid::parse(digit.repeat(40)).unwrap()
    }

    fn audit(digit: &str) -> ForgeJob {
        ForgeJob::Audit { commit: oid(digit) }
    }

    fn branch(name: &str, digit: &str) -> ForgeJob {
        ForgeJob::Branch { name: Name::parse(name).unwrap(), commit: Some(oid(digit)), seen: None }
    }

    fn ask(name: &str) -> ForgeJob {
        ForgeJob::Ask { name: Name::parse(name).unwrap(), number: None, plan: oid("a") }
    }

    #[test]
    fn nothing_is_shown_before_it_is_recorded_on_the_forge() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(branch("kuma", "a"), now);
        queue.push(audit("b"), now);
        assert_eq!(queue.next(now), Some(&audit("b")));
        queue.failed(&audit("b"), now);
        assert_eq!(queue.next(now), None, "it waits for the audit branch");
        queue.push(ask("kuma"), now);
        assert_eq!(queue.next(now), Some(&ask("kuma")), "to ask shows nobody anything");
        queue.remove(&audit("b"));
        assert_eq!(queue.next(now), Some(&branch("kuma", "a")));
    }

    #[test]
    fn one_job_that_fails_stands_in_the_way_of_no_other() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(branch("kuma", "a"), now);
        queue.push(branch("vpn", "b"), now);
        queue.failed(&branch("kuma", "a"), now);
        assert_eq!(queue.next(now), Some(&branch("vpn", "b")));
        assert!(queue.holds("kuma") && !queue.holds("vpn"));
        assert_eq!(queue.next(now + FIRST_PAUSE), Some(&branch("kuma", "a")));
        for _ in 0..40 {
            queue.failed(&branch("kuma", "a"), now);
        }
        queue.remove(&branch("vpn", "b"));
        assert_eq!(queue.due(), Some(now + LONGEST_PAUSE));
    }

    #[test]
    fn what_is_newer_takes_the_place_of_what_was_to_be_done() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(branch("kuma", "a"), now);
        assert_eq!(queue.push(branch("kuma", "b"), now), [branch("kuma", "a")]);
        assert_eq!(queue.push(branch("vpn", "a"), now), []);
        queue.push(audit("a"), now);
        assert_eq!(queue.push(audit("b"), now), [audit("a")]);
    }
}
