//! Random changes, against a small model that knows only the rules of the port.

use std::collections::{BTreeMap, BTreeSet};

use chiffon_schemas::{AttemptKey, AttemptState, Fence, Host, RunId, RunState};
use chiffon_store::conformance::{Bed, Fixture, at, boot, host, key, kuma, moved, name, ordered, run_id};
use chiffon_store::{Accepted, Applied, Change, Error};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use sqlx::Connection;

use crate::postgres::OneDatabase;
use crate::sqlite::OneFile;

const HOSTS: [&str; 3] = ["nas01", "nas02", "web-1.example.org"];
const RUNS: usize = 2;
/// Attempts by run, step and number.
const ATTEMPTS: [(usize, &str, u32); 5] =
    [(0, "site", 1), (0, "site", 2), (0, "dns", 1), (1, "site", 1), (1, "dns", 1)];

/// One thing that somebody does, rightly or wrongly.
#[derive(Debug, Clone)]
enum Op {
    Order(usize),
    Claim(usize, u64),
    Grant(usize, u64, Vec<bool>),
    Move(usize, AttemptState, AttemptState, Carries),
    /// As a reader of the facts does it: from where the attempt is.
    Step(usize, AttemptState),
    Report(usize, Carries, u64),
    Unlock(usize),
    Finish(usize, RunState),
    Reopen(usize, u32),
    Restart,
}

/// The fence that a report carries.
#[derive(Debug, Clone, Copy)]
enum Carries {
    Nothing,
    Own,
    Older,
    Newer,
}

fn state() -> impl Strategy<Value = AttemptState> {
    proptest::sample::select(AttemptState::ALL.to_vec())
}

fn carries() -> impl Strategy<Value = Carries> {
    proptest::sample::select(vec![Carries::Nothing, Carries::Own, Carries::Own, Carries::Older, Carries::Newer])
}

fn op() -> impl Strategy<Value = Op> {
    let attempt = || 0..ATTEMPTS.len();
    let run_state = proptest::sample::select(vec![RunState::Succeeded, RunState::Failed, RunState::Lost]);
    prop_oneof![
        3 => attempt().prop_map(Op::Order),
        6 => (attempt(), 1..3_u64).prop_map(|(attempt, life)| Op::Claim(attempt, life)),
        8 => (attempt(), 1..3_u64, proptest::collection::vec(any::<bool>(), HOSTS.len()))
            .prop_map(|(attempt, life, on)| Op::Grant(attempt, life, on)),
        4 => (attempt(), state(), state(), carries()).prop_map(|(a, from, to, fence)| Op::Move(a, from, to, fence)),
        12 => (attempt(), state()).prop_map(|(attempt, to)| Op::Step(attempt, to)),
        4 => (attempt(), carries(), 1..5_u64).prop_map(|(attempt, fence, seq)| Op::Report(attempt, fence, seq)),
        1 => (0..HOSTS.len()).prop_map(Op::Unlock),
        1 => (0..RUNS, run_state).prop_map(|(run, state)| Op::Finish(run, state)),
        1 => (0..RUNS, 1..4_u32).prop_map(|(run, round)| Op::Reopen(run, round)),
        1 => Just(Op::Restart),
    ]
}

/// What the model knows of an attempt.
#[derive(Debug, Clone)]
struct Known {
    state: AttemptState,
    life: Option<u64>,
    fence: Option<Fence>,
    seq: u64,
}

/// What the rules of the port say should be so.
#[derive(Debug, Default)]
struct Model {
    attempts: BTreeMap<usize, Known>,
    locks: BTreeMap<Host, usize>,
    over: [bool; RUNS],
    rounds: [u32; RUNS],
    last_fence: Option<Fence>,
    events: usize,
}

fn key_of(attempt: usize) -> AttemptKey {
    let (run, step, number) = ATTEMPTS[attempt];
    key(&run_id(run as u64 + 1), step, number)
}

fn request(run: usize) -> chiffon_schemas::Name {
    if run == 0 { kuma() } else { name("other") }
}

impl Model {
    fn fence(&self, attempt: usize, carries: Carries) -> Option<Fence> {
        let own = self.attempts.get(&attempt).and_then(|known| known.fence);
        let base = own.unwrap_or(Fence { incarnation: 1, counter: 50_000 });
        match carries {
            Carries::Nothing => None,
            Carries::Own => own,
            Carries::Older => Some(Fence { counter: base.counter - 1, ..base }),
            Carries::Newer => Some(Fence { counter: base.counter + 1, ..base }),
        }
    }

    fn ordered(&mut self, attempt: usize) -> bool {
        let (run, _, _) = ATTEMPTS[attempt];
        // The suite's orders are of round 1.
        let may = !self.over[run] && self.rounds[run] == 1 && !self.attempts.contains_key(&attempt);
        if may {
            self.attempts.insert(attempt, Known { state: AttemptState::Ordered, life: None, fence: None, seq: 0 });
        }
        may
    }

    fn moved(&mut self, attempt: usize, from: AttemptState, to: AttemptState, fence: Option<Fence>) -> bool {
        let Some(known) = self.attempts.get_mut(&attempt) else { return false };
        if known.state != from || !from.allows(to) || (fence.is_some() && known.fence != fence) {
            return false;
        }
        known.state = to;
        if to == AttemptState::Ordered {
            (known.life, known.fence) = (None, None);
        }
        self.freed(ATTEMPTS[attempt].0);
        true
    }

    /// A run's locks are freed where it is over and nothing of it may still run.
    fn freed(&mut self, run: usize) {
        let of_run = |attempt: &usize| ATTEMPTS[*attempt].0 == run;
        let may_run = self.attempts.iter().any(|(attempt, known)| of_run(attempt) && known.state.holds_locks());
        if self.over[run] && !may_run {
            self.locks.retain(|_, holder| !of_run(holder));
        }
    }

    /// The host in the way, where one is; `None` where the grant is not this life's to have.
    fn may_grant(&self, attempt: usize, life: u64, on: &[Host]) -> Result<(), Option<Host>> {
        let ours = |holder: &usize| ATTEMPTS[*holder].0 == ATTEMPTS[attempt].0;
        let taken = |host: &&Host| self.locks.get(*host).is_some_and(|holder| !ours(holder));
        let blocked = on.iter().find(taken).cloned();
        let known = self.attempts.get(&attempt);
        let claimed = known.is_some_and(|known| known.state == AttemptState::Claimed && known.life == Some(life));
        if claimed && blocked.is_none() { Ok(()) } else { Err(blocked) }
    }
}

async fn apply(bed: &Bed<'_>, change: Change) -> Result<Applied, Error> {
    bed.store.apply(bed.repository, change, &[bed.event("tried")], &[], at(1)).await
}

/// Does one change that the model knows to be allowed or not.
async fn tried(bed: &Bed<'_>, model: &mut Model, change: Change, may: bool) -> TestCaseResult {
    let shown = format!("{change:?}");
    match apply(bed, change).await {
        Ok(_) => prop_assert!(may, "done, though not allowed: {shown}"),
        Err(Error::Conflict { .. }) => prop_assert!(!may, "refused, though allowed: {shown}"),
        Err(other) => return Err(TestCaseError::fail(format!("{other:?}: {shown}"))),
    }
    model.events += usize::from(may);
    Ok(())
}

async fn grant(bed: &Bed<'_>, model: &mut Model, attempt: usize, life: u64, on: &[bool]) -> TestCaseResult {
    // What a grant of an attempt that is not there says is a test of its own.
    if !model.attempts.contains_key(&attempt) {
        return Ok(());
    }
    let on: Vec<Host> = HOSTS.iter().zip(on).filter(|(_, on)| **on).map(|(text, _)| host(text)).collect();
    let name = request(ATTEMPTS[attempt].0);
    let change =
        Change::Granted { name, key: key_of(attempt), boot: boot(life), hosts: on.clone(), order: "0".repeat(64) };
    match (apply(bed, change).await, model.may_grant(attempt, life, &on)) {
        (Ok(Applied { fence: Some(fence) }), Ok(())) => {
            prop_assert!(Some(fence) > model.last_fence, "{fence} after {:?}", model.last_fence);
            model.last_fence = Some(fence);
            model.events += 1;
            for host in on {
                model.locks.entry(host).or_insert(attempt);
            }
            let known = model.attempts.get_mut(&attempt).expect("it is claimed");
            (known.state, known.fence, known.seq) = (AttemptState::Granted, Some(fence), 0);
        }
        (Err(Error::Locked { host, holder }), Err(Some(blocked))) => {
            let by = key_of(model.locks[&host]);
            prop_assert_eq!(&host, &blocked);
            prop_assert_eq!((holder.run, holder.step, holder.attempt), (by.run, by.step, by.attempt));
        }
        (Err(Error::Conflict { .. }), Err(_)) => {}
        (done, may) => return Err(TestCaseError::fail(format!("{done:?}, where {may:?} was due"))),
    }
    Ok(())
}

async fn report(bed: &Bed<'_>, model: &mut Model, attempt: usize, fence: Option<Fence>, seq: u64) -> TestCaseResult {
    let Some(fence) = fence else { return Ok(()) };
    let accepted = bed.store.report(&name("infra"), &key_of(attempt), fence, seq, Some((seq - 1, "text")), at(1)).await;
    let expected = match model.attempts.get_mut(&attempt).filter(|known| known.fence == Some(fence)) {
        None => Accepted::WrongFence,
        Some(known) if seq > known.seq + 1 => Accepted::Gap(known.seq),
        Some(known) => {
            known.seq = known.seq.max(seq);
            Accepted::Stored(known.seq)
        }
    };
    prop_assert_eq!(accepted.expect("an answer"), expected);
    Ok(())
}

async fn step(bed: &Bed<'_>, model: &mut Model, op: Op) -> TestCaseResult {
    use AttemptState::{Claimed, Granted, Ordered};
    match op {
        Op::Order(attempt) => {
            let may = model.ordered(attempt);
            tried(bed, model, ordered(&request(ATTEMPTS[attempt].0), &key_of(attempt)), may).await
        }
        Op::Claim(attempt, life) => {
            let may = model.moved(attempt, Ordered, Claimed, None);
            if may {
                model.attempts.get_mut(&attempt).expect("it moved").life = Some(life);
            }
            let key = key_of(attempt);
            let boot = Some(boot(life));
            let change = Change::Moved { key, from: Ordered, to: Claimed, fence: None, boot, outcome: None };
            tried(bed, model, change, may).await
        }
        Op::Grant(attempt, life, on) => grant(bed, model, attempt, life, &on).await,
        Op::Move(attempt, from, to, carries) => {
            let fence = model.fence(attempt, carries);
            // Only `Granted` makes grants.
            let may = to != Granted && model.moved(attempt, from, to, fence);
            let change = Change::Moved { key: key_of(attempt), from, to, fence, boot: None, outcome: None };
            tried(bed, model, change, may).await
        }
        Op::Step(attempt, to) => {
            let Some(from) = model.attempts.get(&attempt).map(|known| known.state) else { return Ok(()) };
            let may = to != Granted && model.moved(attempt, from, to, None);
            tried(bed, model, moved(&key_of(attempt), from, to), may).await
        }
        Op::Report(attempt, carries, seq) => {
            let fence = model.fence(attempt, carries);
            report(bed, model, attempt, fence, seq).await
        }
        Op::Unlock(which) => {
            let may = model.locks.remove(&host(HOSTS[which])).is_some();
            tried(bed, model, Change::Unlocked { host: host(HOSTS[which]) }, may).await
        }
        Op::Finish(run, state) => {
            let may = !std::mem::replace(&mut model.over[run], true);
            model.freed(run);
            let change = Change::RunFinished { run: run_id(run as u64 + 1), state, voided: false };
            tried(bed, model, change, may).await
        }
        Op::Reopen(run, round) => {
            let may = model.over[run] && round == model.rounds[run] + 1;
            if may {
                (model.over[run], model.rounds[run]) = (false, round);
            }
            tried(bed, model, Change::RunReopened { run: run_id(run as u64 + 1), round }, may).await
        }
        Op::Restart => Ok(()),
    }
}

/// The store holds what the model knows, and nothing else.
async fn agree(bed: &Bed<'_>, model: &Model) -> TestCaseResult {
    let mut found = 0;
    for run in 0..RUNS {
        let stored = bed.facts(&request(run)).await.run.expect("a run");
        prop_assert_eq!((stored.round, stored.state.is_some()), (model.rounds[run], model.over[run]));
        for attempt in &stored.attempts {
            let place = (run, attempt.step.as_str(), attempt.number);
            let index = ATTEMPTS.iter().position(|one| *one == place).expect("it was ordered");
            let known = &model.attempts[&index];
            prop_assert_eq!((attempt.state, attempt.fence), (known.state, known.fence));
            prop_assert_eq!(&attempt.boot, &known.life.map(boot));
            prop_assert_eq!(attempt.state.holds_locks() && attempt.fence.is_none(), false, "a grant without a fence");
            found += 1;
        }
    }
    prop_assert_eq!(found, model.attempts.len());
    let locks = bed.store.locks(bed.repository).await.expect("locks");
    let holders = locks.into_iter().map(|(host, by)| (host, (by.run, by.step, by.attempt)));
    let expected = model.locks.iter().map(|(host, attempt)| {
        let key = key_of(*attempt);
        (host.clone(), (key.run, key.step, key.attempt))
    });
    prop_assert_eq!(holders.collect::<BTreeMap<_, _>>(), expected.collect::<BTreeMap<_, _>>());
    Ok(())
}

/// A store whose data outlives its handle.
trait Kept: Fixture + Sized {
    async fn fresh() -> Self;
    async fn restart(&mut self);
    /// Run, step, number and state of each row of the table of states, oldest first.
    async fn states(&self) -> Vec<(RunId, String, i64, String)>;
}

impl Kept for OneFile {
    async fn fresh() -> Self {
        Self::new().await
    }

    async fn restart(&mut self) {
        self.store = chiffon_store::Sqlite::open(&self.path()).await.expect("it opens again");
    }

    async fn states(&self) -> Vec<(RunId, String, i64, String)> {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.path());
        let mut raw = sqlx::SqliteConnection::connect_with(&options).await.expect("the file opens");
        let rows: Vec<(String, String, i64, String)> =
            sqlx::query_as("SELECT run_id, step, number, state FROM attempt_states ORDER BY id")
                .fetch_all(&mut raw)
                .await
                .expect("rows");
        let run = |text: String| RunId::parse(text).expect("a run's id");
        rows.into_iter().map(|(id, step, number, state)| (run(id), step, number, state)).collect()
    }
}

impl Kept for OneDatabase {
    async fn fresh() -> Self {
        Self::new().await
    }

    async fn restart(&mut self) {
        self.store = chiffon_store::Postgres::open(&self.server).await.expect("it opens again");
    }

    async fn states(&self) -> Vec<(RunId, String, i64, String)> {
        // Which run a uuid is does not matter here, only that it differs; its last digits tell.
        let rows: Vec<(String, String, i64, String)> =
            sqlx::query_as("SELECT run_id::text, step, number, state FROM attempt_states ORDER BY id")
                .fetch_all(&mut self.raw().await)
                .await
                .expect("rows");
        let known: BTreeMap<String, RunId> =
            (1..=RUNS as u64).map(|number| (uuid_of(&run_id(number)), run_id(number))).collect();
        rows.into_iter().map(|(id, step, number, state)| (known[&id].clone(), step, number, state)).collect()
    }
}

/// A ULID's bits as PostgreSQL shows them.
fn uuid_of(run: &RunId) -> String {
    const ALPHABET: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |c: char| ALPHABET.find(c).expect("a digit") as u128;
    let hex = format!("{:032x}", run.as_str().chars().fold(0, |value, c| (value << 5) | digit(c)));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Every attempt's states, as the table of them has it, are a way through the allowed graph.
async fn paths(data: &impl Kept, model: &Model) -> TestCaseResult {
    let mut ways: BTreeMap<_, Vec<AttemptState>> = BTreeMap::new();
    for (run, step, number, word) in data.states().await {
        let state = AttemptState::from_word(&word).expect("a state");
        ways.entry((run, step, number)).or_default().push(state);
    }
    prop_assert_eq!(ways.len(), model.attempts.len());
    for (attempt, known) in &model.attempts {
        let key = key_of(*attempt);
        let way = &ways[&(key.run, key.step.to_string(), i64::from(key.attempt))];
        prop_assert_eq!((way.first(), way.last()), (Some(&AttemptState::Ordered), Some(&known.state)));
        for pair in way.windows(2) {
            prop_assert!(pair[0].allows(pair[1]), "{:?} to {:?} in {:?}", pair[0], pair[1], way);
        }
    }
    Ok(())
}

async fn history<D: Kept>(ops: Vec<Op>) -> TestCaseResult {
    let mut data = D::fresh().await;
    let mut model = Model { rounds: [1; RUNS], ..Model::default() };
    for run in 0..RUNS {
        Bed::new(&data).await.running(&request(run), run as u64 + 1).await;
    }
    let before = Bed::new(&data).await.kinds().await.len();
    for op in ops {
        let shown = format!("{op:?}");
        if matches!(op, Op::Restart) {
            data.restart().await;
        }
        let bed = Bed::new(&data).await;
        step(&bed, &mut model, op).await?;
        agree(&bed, &model).await.map_err(|error| TestCaseError::fail(format!("after {shown}: {error}")))?;
    }
    let bed = Bed::new(&data).await;
    prop_assert_eq!(bed.kinds().await.len(), before + model.events, "an event of each change that was done");
    let fences: BTreeSet<_> = model.attempts.values().filter_map(|known| known.fence).collect();
    prop_assert_eq!(fences.len(), model.attempts.values().filter(|known| known.fence.is_some()).count());
    paths(&data, &model).await
}

async fn numbers_come_back<D: Kept>(numbers: Vec<f64>) -> TestCaseResult {
    let data = D::fresh().await;
    let bed = Bed::new(&data).await;
    let mut event = bed.event("numbers");
    event.detail = serde_json::json!({ "numbers": numbers });
    bed.append(std::slice::from_ref(&event), 0).await;
    let stored = bed.store.unaudited(bed.repository, 10).await.expect("events").remove(0);
    prop_assert_eq!(stored.detail, event.detail);
    Ok(())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// Makes the properties of an adapter.
macro_rules! properties {
    ($adapter:ident, $data:ty, $cases:expr) => {
        mod $adapter {
            use super::*;

            proptest! {
                #![proptest_config(
                    ProptestConfig { cases: $cases, failure_persistence: None, ..ProptestConfig::default() }
                )]

                #[test]
                fn r6_the_history_of_states_is_a_path_of_the_allowed_graph(
                    ops in proptest::collection::vec(op(), 1..80)
                ) {
                    block_on(history::<$data>(ops))?;
                }

                /// A plan's variables are part of what was approved: they come back as they were, to the last bit.
                #[test]
                fn numbers_come_back_as_they_were(
                    numbers in proptest::collection::vec(proptest::num::f64::NORMAL, 1..200)
                ) {
                    block_on(numbers_come_back::<$data>(numbers))?;
                }
            }
        }
    };
}

properties!(on_sqlite, OneFile, 48);
// Each case makes a database, which takes a while.
properties!(on_postgres, OneDatabase, 12);
