//! Many write at once, through one handle and through two on the same data: one wins, and nobody is sent away as busy.

use std::future::Future;
use std::sync::Arc;

use chiffon_schemas::AttemptState::{Claimed, Failed, Granted, Ordered, Started};
use chiffon_store::conformance::{
    Bed, Fixture, at, boot, command, granted, hosts, key, kuma, message, moved, name, offer, oid, ordered, recorded,
    run, run_id,
};
use chiffon_store::{Accepted, Change, Error, RepositoryId, Store};
use serde_json::json;
use tokio::sync::Barrier;

use crate::postgres::OneDatabase;
use crate::sqlite::OneFile;

const TASKS: u64 = 16;

/// Runs as many tasks at once, every second one on the second handle, and gathers what each got.
async fn together<T, F>(stores: &[Handle], task: impl Fn(Handle, u64) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(usize::try_from(TASKS).unwrap()));
    let spawn = |number: u64| {
        let store = &stores[usize::try_from(number).unwrap() % stores.len()];
        let (work, barrier) = (task(store.clone(), number), barrier.clone());
        tokio::spawn(async move {
            barrier.wait().await;
            work.await
        })
    };
    let tasks: Vec<_> = (0..TASKS).map(spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

type Handle = Arc<dyn Store>;

/// Data that several handles share.
trait Shared: Fixture + Sized {
    async fn fresh() -> Self;
    fn handle(&self) -> Handle;
}

impl Shared for OneFile {
    async fn fresh() -> Self {
        Self::new().await
    }

    fn handle(&self) -> Handle {
        Arc::new(self.store.clone())
    }
}

impl Shared for OneDatabase {
    async fn fresh() -> Self {
        Self::new().await
    }

    fn handle(&self) -> Handle {
        Arc::new(self.store.clone())
    }
}

/// One handle, and then two on the same data.
async fn handles(data: &impl Shared) -> [Vec<Handle>; 2] {
    let second = Handle::from(data.reopen().await);
    [vec![data.handle()], vec![data.handle(), second]]
}

/// Makes a test of each race on each adapter.
macro_rules! races {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                super::$name::<super::OneFile>().await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                super::$name::<super::OneDatabase>().await;
            })*
        }
    };
}

races!(
    r1_one_of_many_grants_of_an_attempt_wins,
    r1_one_of_many_approvals_of_an_offer_wins,
    one_of_many_answers_to_a_command_stays,
    one_of_many_offers_orders_and_moves_wins,
    one_of_many_grants_on_a_host_wins,
    r11_fences_given_out_at_once_all_differ,
    nothing_is_lost_when_everybody_writes,
);

/// Exactly one did it, and the others were told that somebody was faster.
fn one_won<T: std::fmt::Debug>(results: Vec<Result<T, Error>>) -> T {
    let mut won = Vec::new();
    for result in results {
        match result {
            Ok(done) => won.push(done),
            Err(Error::Conflict { .. }) => {}
            Err(other) => panic!("neither done nor a conflict: {other:?}"),
        }
    }
    assert_eq!(won.len(), 1, "{won:?}");
    won.remove(0)
}

async fn apply(store: Handle, repository: RepositoryId, change: Change) -> Result<chiffon_store::Applied, Error> {
    store.apply(repository, change, &[], &[], at(1)).await
}

async fn r1_one_of_many_grants_of_an_attempt_wins<S: Shared>() {
    let file = S::fresh().await;
    let bed = Bed::new(&file).await;
    for (number, stores) in (1..).zip(handles(&file).await) {
        let request = name(&format!("request-{number}"));
        let key = key(&bed.running(&request, number).await, "site", 1);
        bed.apply(ordered(&request, &key)).await;
        bed.walk(&request, &key, Claimed).await;
        let change = granted(&request, &key, &["nas01", "nas02"]);
        let fence = one_won(together(&stores, |store, _| apply(store, bed.repository, change.clone())).await).fence;
        let attempt = bed.facts(&request).await.run.unwrap().attempts.remove(0);
        assert_eq!((attempt.state, attempt.fence), (Granted, fence));
        assert_eq!(bed.store.outgoing(0, 100).await.unwrap().len() as u64, number, "one grant goes out");
        bed.apply(moved(&key, Granted, Failed)).await;
        bed.over(&key).await;
    }
}

async fn r1_one_of_many_approvals_of_an_offer_wins<S: Shared>() {
    let file = S::fresh().await;
    let bed = Bed::new(&file).await;
    for (round, stores) in (1..).zip(handles(&file).await) {
        let request = name(&format!("request-{round}"));
        let offer = bed.offered(&request).await;
        let approved = |number| {
            let run = run(&run_id(round * 100 + number), &offer);
            Change::Approved { name: request.clone(), run: Box::new(run) }
        };
        let task = |store, number| apply(store, bed.repository, approved(number));
        one_won(together(&stores, task).await);
        let mut known = 0;
        for number in 0..TASKS {
            known += usize::from(bed.request_of(&run_id(round * 100 + number)).await.is_some());
        }
        assert_eq!(known, 1);
    }
}

async fn one_of_many_answers_to_a_command_stays<S: Shared>() {
    let file = S::fresh().await;
    let bed = Bed::new(&file).await;
    for stores in handles(&file).await {
        let id = bed.store.command(bed.repository, &command("kuma"), at(1)).await.unwrap();
        let task = |store: Handle, number| async move {
            store.answer(id, &json!(number)).await?;
            Ok::<_, Error>(store.command_by_id(id).await?.unwrap().answer)
        };
        let seen: Vec<_> = together(&stores, task).await.into_iter().map(|seen| seen.unwrap()).collect();
        assert!(seen[0].is_some() && seen.iter().all(|answer| answer == &seen[0]), "{seen:?}");
        assert!(bed.store.commands(bed.repository).await.unwrap().is_empty());
    }
}

async fn one_of_many_offers_orders_and_moves_wins<S: Shared>() {
    let file = S::fresh().await;
    let bed = Bed::new(&file).await;
    for (number, stores) in (1..).zip(handles(&file).await) {
        let request = name(&format!("request-{number}"));
        bed.request(&request).await;
        let offer = offer(&request, 1);
        let run_id = run_id(number);
        let key = key(&run_id, "site", 1);
        let claim = Change::Moved {
            key: key.clone(),
            from: Ordered,
            to: Claimed,
            fence: None,
            boot: Some(boot(1)),
            outcome: None,
        };
        let changes = [
            recorded(&request, &offer),
            Change::Approved { name: request.clone(), run: Box::new(run(&run_id, &offer)) },
            ordered(&request, &key),
            claim,
            Change::Granted {
                name: request.clone(),
                key: key.clone(),
                boot: boot(1),
                hosts: hosts(&["nas01"]),
                order: "0".repeat(64),
            },
            moved(&key, Granted, Started),
            moved(&key, Started, Failed),
        ];
        for change in changes {
            one_won(together(&stores, |store, _| apply(store, bed.repository, change.clone())).await);
        }
        bed.over(&key).await;
        let from = bed.store.cursor(bed.repository).await.unwrap().main;
        let task = |store, task: u64| {
            let main = oid(u32::try_from(number * 1000 + task).unwrap());
            let change = Change::MainSeen { from: from.clone(), main, requests: Vec::new(), plans: Vec::new() };
            apply(store, bed.repository, change)
        };
        one_won(together(&stores, task).await);
    }
}

async fn one_of_many_grants_on_a_host_wins<S: Shared>() {
    let file = S::fresh().await;
    let bed = Bed::new(&file).await;
    for (round, stores) in (1..).zip(handles(&file).await) {
        let mut claims = Vec::new();
        for number in 0..TASKS {
            let request = name(&format!("request-{round}-{number}"));
            let key = key(&bed.running(&request, round * 100 + number).await, "site", 1);
            bed.apply(ordered(&request, &key)).await;
            bed.walk(&request, &key, Claimed).await;
            claims.push((request, key));
        }
        let task = |store, number: u64| {
            let (request, key) = &claims[usize::try_from(number).unwrap()];
            let own = format!("host-{number}");
            apply(store, bed.repository, granted(request, key, &[&own, "shared"]))
        };
        let results = together(&stores, task).await;
        let winner = results.iter().position(Result::is_ok).expect("one has it");
        for (number, result) in results.iter().enumerate().filter(|(number, _)| *number != winner) {
            let Err(Error::Locked { host, holder }) = result else { panic!("{number}: {result:?}") };
            assert_eq!((host.as_str(), &holder.request), ("shared", &claims[winner].0));
        }
        let locks = bed.store.locks(bed.repository).await.unwrap();
        assert_eq!(locks.len(), 2, "{locks:?}");
        bed.apply(moved(&claims[winner].1, Granted, Failed)).await;
        bed.over(&claims[winner].1).await;
    }
}

async fn r11_fences_given_out_at_once_all_differ<S: Shared>() {
    let file = S::fresh().await;
    let bed = Bed::new(&file).await;
    let stores = &handles(&file).await[1];
    let mut claims = Vec::new();
    for number in 0..TASKS {
        let request = name(&format!("request-{number}"));
        let key = key(&bed.running(&request, number).await, "site", 1);
        bed.apply(ordered(&request, &key)).await;
        bed.walk(&request, &key, Claimed).await;
        claims.push((request, key));
    }
    let task = |store, number: u64| {
        let (request, key) = &claims[usize::try_from(number).unwrap()];
        apply(store, bed.repository, granted(request, key, &[&format!("host-{number}")]))
    };
    let fences: Vec<_> = together(stores, task).await.into_iter().map(|done| done.unwrap().fence.unwrap()).collect();
    let distinct: std::collections::BTreeSet<_> = fences.iter().collect();
    assert_eq!(distinct.len() as u64, TASKS, "{fences:?}");
}

async fn nothing_is_lost_when_everybody_writes<S: Shared>() {
    let file = S::fresh().await;
    let bed = Bed::new(&file).await;
    let stores = &handles(&file).await[1];
    let key = bed.in_state(Started).await;
    let fence = bed.attempt(&key).await.fence.unwrap();
    let events: Vec<Vec<_>> = (0..TASKS).map(|_| (0..5).map(|_| bed.event("written")).collect()).collect();
    let known = bed.store.unaudited(bed.repository, 1000).await.unwrap().len();
    let waiting = bed.store.outgoing(0, 1000).await.unwrap().len();
    let repository = bed.repository;
    let task = |store: Handle, number: u64| {
        let (events, key) = (events[usize::try_from(number).unwrap()].clone(), key.clone());
        async move {
            for (step, event) in (0..).zip(events) {
                let change = Change::ReplanAsked { name: kuma(), after: step };
                let sent = [(name("infra"), message(&key.run, u64::from(step)))];
                store.apply(repository, change, &[event], &sent, at(1)).await?;
                store.send(&sent, at(1)).await?;
                store.command(repository, &command("kuma"), at(1)).await?;
                let seen = store.seen(repository, &kuma()).await?.map_or(0, |seen| seen.version);
                store.settle(repository, &kuma(), seen).await?;
                store.repository(&name(&format!("repository-{number}"))).await?;
                store
                    .report(&name("infra"), &key, fence, u64::from(step) + 1, Some((u64::from(step), "text")), at(1))
                    .await?;
                store.ground(repository).await?;
            }
            Ok::<_, Error>(())
        }
    };
    for done in together(stores, task).await {
        done.expect("nobody is busy");
    }
    let all = usize::try_from(TASKS).unwrap() * 5;
    assert_eq!(bed.store.unaudited(bed.repository, 1000).await.unwrap().len(), known + all);
    assert_eq!(bed.store.outgoing(0, 1000).await.unwrap().len(), waiting + 2 * all);
    assert_eq!(bed.store.commands(bed.repository).await.unwrap().len(), all);
    let chunks = bed.store.read_log(&key.run, 0, 1000).await.unwrap();
    assert_eq!(chunks.iter().map(|chunk| chunk.chunk).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(bed.store.report(&name("infra"), &key, fence, 1, None, at(1)).await.unwrap(), Accepted::Stored(5));
}
