//! The crash harness: one or two requests' lives in which something is struck at a named point, and what must be true
//! afterwards whatever was struck and whenever (R1, R3).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::blow::{Blow, Ground};
use crate::{Bed, Cast, Merge, News};

/// Nothing is silent for longer in a life that goes on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a process does when it starts, it does within this; and each agent says in the meantime that it lives.
const SOON: Duration = Duration::from_secs(30);

/// A crash point, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Its name in `schemas/src/crash.rs`.
    pub name: &'static str,
    /// Nobody can know how far the work came: the run may be `lost`. Where agents are processes of their own, a
    /// reconciler that dies takes nothing with it.
    pub may_lose: bool,
    /// It is reached once in each life of a process, whatever is asked for.
    pub once_a_life: bool,
    /// Only where agents are processes of their own.
    pub only_apart: bool,
    /// What a request needs of it is durable by then, and no later life comes there again for its sake: a second blow falls
    /// as the next life begins.
    pub passed: bool,
}

const fn point(name: &'static str) -> Point {
    Point { name, may_lose: false, once_a_life: false, only_apart: false, passed: false }
}

const fn losing(name: &'static str) -> Point {
    Point { may_lose: true, ..point(name) }
}

const fn passed(point: Point) -> Point {
    Point { passed: true, ..point }
}

/// Every point. Whoever adds one to `schemas/src/crash.rs` adds it here: a test compares the two.
pub const POINTS: &[Point] = &[
    Point { once_a_life: true, ..point("agent-said-hello") },
    Point { once_a_life: true, ..point("hello-settled") },
    point("message-acknowledged"),
    point("main-read"),
    passed(point("offer-row-written")),
    point("audit-committed"),
    point("audit-marked"),
    passed(point("plan-branch-moved")),
    passed(point("offer-shown")),
    passed(point("commit-pinned")),
    passed(point("approval-recorded")),
    passed(point("order-recorded")),
    // The second time it is the grant that is on its way, and in one process its agent may have begun.
    losing("messages-sent"),
    losing("messages-marked"),
    passed(point("agent-journalled-order")),
    point("agent-acknowledged-order"),
    Point { only_apart: true, ..point("agent-fetched") },
    passed(point("agent-journalled-claim")),
    passed(point("claim-recorded")),
    // The journal shows that nothing started, so the same attempt is ordered again.
    passed(point("grant-recorded")),
    // The journal says `started`: whether anything ran nobody can know.
    passed(losing("agent-journalled-started")),
    losing("start-recorded"),
    passed(losing("agent-checked-out")),
    passed(losing("agent-process-started")),
    losing("report-stored"),
    losing("report-confirmed"),
    passed(losing("agent-playbook-ended")),
    passed(point("agent-journalled-end")),
    passed(point("agent-reported-end")),
    passed(point("end-recorded")),
    passed(point("agent-end-stored")),
    passed(point("result-row-written")),
    passed(point("result-audited")),
    passed(point("commit-unpinned")),
];

impl Point {
    /// Whether an agent reaches it.
    pub fn is_of_agent(&self) -> bool {
        self.name.starts_with("agent-")
    }
}

/// What one life of the matrix is.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Where it happens.
    pub point: Point,
    /// What happens there.
    pub blow: Blow,
    /// How often in a row.
    pub times: usize,
    /// What else varies: how many requests, how they are merged, at which time the point is reached.
    pub seed: usize,
}

/// What came of one life.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Blows that fell.
    pub blows: usize,
    /// Final states of requests, counted.
    pub states: BTreeMap<String, usize>,
    /// Effects that happened more than once under one grant.
    pub double_starts: usize,
    /// Requests that reached no final, visible state.
    pub forgotten: usize,
    /// Runs that are neither final nor `lost`.
    pub unsettled: usize,
    /// Whatever else is wrong, in words.
    pub wrong: Vec<String>,
}

impl Outcome {
    /// Of a life that was broken off.
    pub fn broken_off(why: String) -> Self {
        Self { wrong: vec![why], ..Self::default() }
    }

    /// Whether everything is as it must be.
    pub fn is_good(&self) -> bool {
        self.double_starts == 0 && self.forgotten == 0 && self.unsettled == 0 && self.wrong.is_empty()
    }
}

impl Case {
    /// Requests of this life: what is asked for, by name.
    fn requests(&self) -> &'static [(&'static str, &'static str)] {
        const BOTH: [(&str, &str); 2] = [("journal", "Deploy the journal"), ("gazette", "Deploy the gazette")];
        if self.seed.is_multiple_of(3) { &BOTH[..1] } else { &BOTH }
    }

    fn merge(&self) -> Merge {
        [Merge::Commit, Merge::Squash, Merge::Rebase][self.seed % 3]
    }

    /// Whether a run may be lost. An agent that dies over one run may be in the midst of the other; one that sleeps comes
    /// back with the end, and what happens to services costs no run.
    fn may_lose(&self, apart: bool) -> bool {
        let of_agent = self.point.is_of_agent();
        if self.blow != Blow::Kill {
            return false;
        }
        self.point.may_lose && (!apart || of_agent) || apart && of_agent && self.requests().len() > 1
    }

    /// At which time that the point is reached the process dies.
    fn occurrence(&self) -> usize {
        let again = self.seed % 3 == 2 && !self.point.once_a_life && !self.point.is_of_agent();
        if again { 2 } else { 1 }
    }

    /// Where the next blow falls, after so many.
    fn next(&self, blows: usize) -> String {
        match (blows, self.point.passed) {
            (0, _) => return format!("{}:{}", self.point.name, self.occurrence()),
            (_, false) if self.occurrence() == 1 => return self.point.name.to_owned(),
            _ => {}
        }
        // An agent says hello before it does anything, and a reconciler hears of two agents at least.
        let reached = if self.point.is_of_agent() { 1 } else { 1 + self.seed % 2 };
        format!("any:{reached}")
    }

    /// Runs it in one process that holds reconciler and agent, with records in SQLite.
    pub fn run_embedded(&self) -> Outcome {
        self.live(&Bed::new(), None, false)
    }

    /// Runs it with two agents in processes of their own, over a broker, with records in PostgreSQL.
    pub fn run_apart(&self) -> Outcome {
        let bed = Bed::new().on_postgres();
        bed.join_broker();
        enrol_all(&bed);
        self.live(&bed, None, true)
    }

    /// The same on services of its own, which may come to harm.
    pub fn run_on(&self, ground: &mut Ground) -> Outcome {
        let bed = ground.bed(self.blow);
        enrol_all(&bed);
        for agent in AGENTS {
            bed.let_speak_often(agent);
        }
        self.live(&bed, Some(ground), true)
    }

    fn live(&self, bed: &Bed, ground: Option<&mut Ground>, apart: bool) -> Outcome {
        let (cast, outcome) = (Cast::default(), Outcome::default());
        let reconciler = RECONCILER.to_owned();
        let mut life = Life { case: self, bed, ground, apart, reconciler, cast, outcome, states: BTreeMap::new() };
        life.live();
        life.judge();
        life.outcome
    }
}

/// Gives the agents of a life their places.
fn enrol_all(bed: &Bed) {
    let up = bed.up();
    for agent in AGENTS {
        bed.enrol(agent);
    }
    up.signal("TERM");
    up.end();
}

/// The agents of a life.
const AGENTS: [&str; 2] = ["one", "two"];

/// The reconciler of a life, and the one that takes over where that one sleeps.
pub(crate) const RECONCILER: &str = "chiffon";
pub(crate) const OTHER: &str = "other";

pub(crate) struct Life<'a> {
    pub(crate) case: &'a Case,
    pub(crate) bed: &'a Bed,
    /// The services that may come to harm.
    pub(crate) ground: Option<&'a mut Ground>,
    /// Agents are processes of their own.
    apart: bool,
    /// Who leads.
    pub(crate) reconciler: String,
    pub(crate) cast: Cast,
    pub(crate) outcome: Outcome,
    states: BTreeMap<String, String>,
}

impl Life<'_> {
    fn live(&mut self) {
        self.start(RECONCILER);
        let agents = if self.apart { &AGENTS[..] } else { &[] };
        for name in agents {
            self.start(name);
        }
        for (name, text) in self.case.requests() {
            self.bed.push_request(name, text);
        }
        if !self.wait_for(|state| state == "proposed") {
            return;
        }
        for (name, _) in self.case.requests() {
            self.bed.approve(name, self.case.merge());
        }
        if !self.wait_for(is_final) {
            return;
        }
        // Who was killed last may not have come to where the next blow falls.
        while self.outcome.blows < self.case.times
            && let Some(news) = self.cast.next(SOON)
            && self.take(news)
        {}
        self.settle();
    }

    /// Starts a process, armed where it is the one to be struck and was not struck often enough.
    pub(crate) fn start(&mut self, name: &str) {
        let mut command = match name {
            RECONCILER => self.bed.command(&["--dir", "home", "up"]),
            OTHER => self.bed.command(&["--dir", "other", "up"]),
            agent => self.bed.agent_command(agent, &["up"]),
        };
        // Whichever agent gets the order is the one that is struck.
        let is_agent = ![RECONCILER, OTHER].contains(&name);
        let is_victim = !self.apart || self.case.point.is_of_agent() == is_agent;
        if is_victim && name != OTHER && self.outcome.blows < self.case.times {
            let at = self.case.next(self.outcome.blows);
            let variable = if self.case.blow == Blow::Kill { "CHIFFON_CRASH_AT" } else { "CHIFFON_STOP_AT" };
            command.env(variable, at);
        }
        // Clocks that differ by an hour change nothing.
        if self.case.seed % 3 == 1 && name == RECONCILER {
            command.env("CHIFFON_CLOCK_AHEAD", "3600");
        }
        command.env("CHIFFON_CRASH_LOG", self.bed.path().join("crash.log"));
        self.cast.start(name, command);
    }

    /// Takes what happens until every request is in a state; brings back to life whoever was killed. False where it
    /// never came.
    fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        loop {
            let reached = |(name, _): &(&str, &str)| self.states.get(*name).is_some_and(|state| wanted(state));
            if self.case.requests().iter().all(reached) {
                return true;
            }
            if !self.step() {
                return false;
            }
        }
    }

    /// Takes one thing that happens; false where nothing does any more.
    pub(crate) fn step(&mut self) -> bool {
        let Some(news) = self.cast.next(PATIENCE) else {
            self.outcome.wrong.push(format!("nothing happens any more: {:?}", self.states));
            return false;
        };
        self.take(news)
    }

    /// Takes a thing that happened: who was killed is brought back to life, who stands still is struck. False where a
    /// process ended that nobody had killed.
    pub(crate) fn take(&mut self, (name, news): (String, News)) -> bool {
        match news {
            News::Ended(-1) => {
                self.outcome.blows += 1;
                self.start(&name);
            }
            News::Ended(status) => {
                self.outcome.wrong.push(format!("{name} ended by itself with {status}"));
                return false;
            }
            News::Stopped => {
                self.outcome.blows += 1;
                self.strike(&name);
            }
            News::Line(line) => {
                if name == self.reconciler
                    && let Some((request, rest)) = line.split_once(": ")
                    && self.case.requests().iter().any(|(known, _)| *known == request)
                {
                    let state = rest.split(':').next().unwrap_or_default().to_owned();
                    self.states.insert(request.to_owned(), state);
                }
            }
        }
        true
    }

    /// What comes after the last word: kills that are still due, and the end of all processes.
    fn settle(&mut self) {
        for (name, news) in self.cast.end(PATIENCE) {
            match news {
                News::Ended(0) | News::Line(_) => {}
                // A point that lies behind the last word of a request: in its farewell.
                News::Ended(-1) | News::Stopped => self.outcome.blows += 1,
                News::Ended(status) => self.outcome.wrong.push(format!("{name} ended with {status}")),
            }
        }
    }

    /// Whether an agent sleeps in this life.
    fn sleeper(&self) -> bool {
        self.case.blow == Blow::Sleep && self.case.point.is_of_agent()
    }

    /// Compares what is with what must be.
    fn judge(&mut self) {
        let (bed, case) = (self.bed, self.case);
        // What was killed at the very end is settled by the next life.
        let home = if self.reconciler == OTHER { "other" } else { "home" };
        bed.command(&["--dir", home, "up", "--once"]).output().unwrap();
        let mut wrong = Vec::new();
        if self.outcome.blows < case.times {
            wrong.push(format!("{} of {} blows fell", self.outcome.blows, case.times));
        }
        for (name, _) in case.requests() {
            let status = bed.status(name);
            let state = status["state"].as_str().unwrap_or("nothing").to_owned();
            *self.outcome.states.entry(state.clone()).or_default() += 1;
            if !is_final(&state) {
                self.outcome.forgotten += 1;
                if !status["run"].is_null() {
                    self.outcome.unsettled += 1;
                }
            }
            let starts = bed.infra.lines(name).len();
            self.outcome.double_starts += starts.saturating_sub(1);
            match state.as_str() {
                "succeeded" if recaps(bed, name) != 1 => wrong.push(format!("the log of {name} is not whole")),
                "succeeded" if starts == 0 => wrong.push(format!("{name} succeeded, and nothing happened")),
                "lost" if !case.may_lose(self.apart) => wrong.push(format!("{name} is lost")),
                "succeeded" | "lost" => {}
                // What was given to a sleeper and lost with it never started, as it says when it wakes.
                "failed" if self.sleeper() && starts == 0 && bed.count("order-declined") == 0 => {}
                other => wrong.push(format!("{name} is {other}")),
            }
        }
        wrong.extend(bed.database().into_iter().flat_map(|database| forbidden(&crate::attempt_states(&database))));
        let kinds = bed.kinds();
        let count = |kind: &str| kinds.iter().filter(|known| *known == kind).count();
        let asked = case.requests().len();
        for kind in ["plan-offered", "plan-approved"] {
            if count(kind) != asked {
                wrong.push(format!("{} × {kind} for {asked} requests", count(kind)));
            }
        }
        let ends: usize =
            ["succeeded", "failed", "cancelled", "lost"].iter().map(|end| count(&format!("run-{end}"))).sum();
        // Who sleeps for long is lost first, and comes back with the end.
        let late = if self.sleeper() { count("run-lost") } else { 0 };
        if ends != asked && ends != asked + late {
            wrong.push(format!("{ends} ends for {asked} requests"));
        }
        let ids = bed.bare_git(&["log", "--format=%(trailers:key=Chiffon-Event,valueonly)", "chiffon/audit"]);
        let mut ids: Vec<&str> = ids.lines().filter(|line| !line.is_empty()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != all {
            wrong.push("an event is recorded twice".to_owned());
        }
        self.outcome.wrong.extend(wrong);
        if !self.outcome.wrong.is_empty() {
            self.outcome.wrong.push(self.cast.seen.join("\n    "));
        }
    }
}

/// How often the last thing that Ansible says is in a request's log: once where nothing is missing or stored twice.
fn recaps(bed: &Bed, name: &str) -> usize {
    bed.chiffon(&["log", name]).out.matches("PLAY RECAP").count()
}

/// Steps of attempts that the protocol does not know (R6).
fn forbidden(histories: &[Vec<String>]) -> Vec<String> {
    let allowed = |from: &str, to: &str| match from {
        "ordered" => ["claimed", "failed", "cancelled"].contains(&to),
        "claimed" => ["granted", "ordered", "failed", "cancelled"].contains(&to),
        "granted" => ["started", "ordered", "failed", "cancelled", "lost"].contains(&to),
        "started" => ["succeeded", "failed", "cancelled", "lost"].contains(&to),
        "lost" => ["ordered", "succeeded", "failed", "cancelled"].contains(&to),
        _ => false,
    };
    let is_path = |states: &Vec<String>| {
        states.first().is_some_and(|first| first == "ordered")
            && states.windows(2).all(|pair| allowed(&pair[0], &pair[1]))
    };
    histories.iter().filter(|states| !is_path(states)).map(|states| format!("an attempt went {states:?}")).collect()
}

fn is_final(state: &str) -> bool {
    matches!(state, "succeeded" | "failed" | "cancelled" | "lost")
}
