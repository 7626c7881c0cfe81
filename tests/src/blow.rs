//! What befalls a life beside SIGKILL: a process stands still at a point, something happens to a service or to its time,
//! and it goes on.

use std::time::Duration;

use crate::crash::{Life, OTHER, PATIENCE, RECONCILER};
use crate::{Bed, News, Service, new_database_at};

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// The process is killed with SIGKILL.
    Kill,
    /// PostgreSQL stops as if the power had gone, and comes back when the process has gone on without it.
    Database,
    /// RabbitMQ is killed with SIGKILL, and comes back likewise.
    Broker,
    /// RabbitMQ is killed and comes back without anything that it held; `chiffon broker setup` makes it usable again.
    EmptyBroker,
    /// The process stands still for longer than anybody waits for it: three times as long as an agent's silence is borne,
    /// or until another reconciler leads.
    Sleep,
}

impl Blow {
    /// All of them, as the table has them.
    pub const ALL: [Self; 5] = [Self::Kill, Self::Database, Self::Broker, Self::EmptyBroker, Self::Sleep];

    /// Its name in the table and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Database => "database-cut",
            Self::Broker => "broker-killed",
            Self::EmptyBroker => "broker-emptied",
            Self::Sleep => "asleep",
        }
    }
}

/// Seconds for which an agent's silence is borne where a process sleeps; it speaks every second.
const SILENCE_SECS: u32 = 5;

/// The same where the broker is emptied: an order that was lost is said again after as long, and agents must be back by then.
const PATIENT_SECS: u32 = 45;

/// How often it is looked whether a time has come, and how often at most: a minute of waiting, and what happens meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const MAX_LOOKS: u32 = 2000;

/// Services of one lane's own, for one life after the other.
#[derive(Debug)]
pub struct Ground {
    postgres: Service,
    rabbitmq: Service,
}

impl Ground {
    /// Starts both.
    pub fn new() -> Self {
        Self { postgres: Service::postgres(&[]), rabbitmq: Service::rabbitmq(&[]) }
    }

    /// A home with its records and its agents on these services.
    pub(crate) fn bed(&self, blow: Blow) -> Bed {
        let bed = Bed::new();
        bed.keep_records_at(&new_database_at(self.postgres.address("CHIFFON_TEST_POSTGRES_URL")));
        bed.join_broker_of(&self.rabbitmq);
        let silence_secs = match blow {
            Blow::Kill | Blow::Database | Blow::Broker => return bed,
            Blow::EmptyBroker => PATIENT_SECS,
            Blow::Sleep => SILENCE_SECS,
        };
        // A second reconciler hears of a push by looking.
        bed.configure(&format!("  poll_secs: 5\n  policy:\n    agent_silence_secs: {silence_secs}\n"));
        bed
    }
}

impl Default for Ground {
    fn default() -> Self {
        Self::new()
    }
}

impl Life<'_> {
    /// A process stands still at the point: what is to happen happens, and it goes on.
    pub(crate) fn strike(&mut self, name: &str) {
        match self.case.blow {
            Blow::Kill => unreachable!("nothing tells a process to stand still that is to be killed"),
            Blow::Database => self.cut(name, |ground| &mut ground.postgres, &[]),
            Blow::Broker => self.cut(name, |ground| &mut ground.rabbitmq, &[]),
            Blow::EmptyBroker => {
                self.cut(name, |ground| &mut ground.rabbitmq, &["wipe"]);
                self.bed.chiffon(&["broker", "setup"]).ends(0);
            }
            Blow::Sleep if name == RECONCILER => self.depose(),
            Blow::Sleep => self.oversleep(name),
        }
    }

    /// A service is cut, the process goes on without it, and it comes back.
    fn cut(&mut self, name: &str, of: impl Fn(&mut Ground) -> &mut Service, more: &[&str]) {
        let service = of(self.ground.as_mut().expect("services of its own"));
        service.cut();
        if !more.is_empty() {
            service.does(more);
        }
        self.cast.signal(name, "CONT");
        service.start();
    }

    /// An agent wakes up when it has been silent for three times as long as is borne.
    fn oversleep(&mut self, name: &str) {
        let metric = format!("chiffon_agent_silence_seconds{{agent=\"{name}\"}}");
        let mut looks = 0;
        while self.bed.metric(&metric).is_none_or(|seconds| seconds < f64::from(3 * SILENCE_SECS)) && looks < MAX_LOOKS
        {
            looks += 1;
            if let Some(news) = self.cast.next(LOOK_EVERY)
                && !self.take(news)
            {
                break;
            }
        }
        self.cast.signal(name, "CONT");
    }

    /// The reconciler wakes up when another one leads, and ends.
    fn depose(&mut self) {
        self.bed.twin(OTHER);
        // What it says before it is ready counts as well.
        self.reconciler = OTHER.to_owned();
        self.start(OTHER);
        self.until(|news| matches!(news, (name, News::Line(line)) if name == OTHER && line == "ready"));
        self.cast.signal(RECONCILER, "CONT");
        self.until(|news| *news == (RECONCILER.to_owned(), News::Ended(1)));
    }

    /// Takes what happens until something does.
    fn until(&mut self, wanted: impl Fn(&(String, News)) -> bool) {
        for _ in 0..MAX_LOOKS {
            match self.cast.next(PATIENCE) {
                Some(news) if wanted(&news) => return,
                Some(news) => {
                    if !self.take(news) {
                        return;
                    }
                }
                None => break,
            }
        }
        self.outcome.wrong.push("what was waited for never came".to_owned());
    }
}
