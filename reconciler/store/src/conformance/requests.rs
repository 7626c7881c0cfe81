//! Requests as `main` shows them, what is said of them, and which of them are to be looked at.

use std::collections::BTreeSet;

use chiffon_core::facts::{
    Answer, Blocked, Pause, Pull, PullState, Question, Refusal, RefusalReason, RequestFile, Unplanned,
};
use chiffon_schemas::AttemptState::{Claimed, Failed, Granted, Lost, Ordered, Started};
use chiffon_schemas::{Name, RunState};

use super::bed::{Bed, Fixture, granted, key, kuma, moved, ordered, recorded, seen};
use super::sample::{at, boot, name, offer, oid, path, plan_oid, run, run_id};
use crate::{Change, Cursor};

fn valid(number: u32, priority: u8) -> RequestFile {
    RequestFile::Valid { oid: oid(number), priority }
}

fn invalid(number: u32) -> RequestFile {
    RequestFile::Invalid { oid: oid(number), findings: "line 3: é\n\tno such field".to_owned() }
}

fn unplanned(reason: Blocked) -> Change {
    let unplanned = Unplanned { request: oid(1), infra: Some(oid(2)), reason, at: at(5) };
    Change::Unplanned { name: kuma(), unplanned }
}

fn pause() -> Pause {
    Pause { reason: "holidays; \"off\" — é".to_owned(), until: at(86_400) }
}

fn refusal(reason: RefusalReason) -> Refusal {
    Refusal { blob: oid(8), reason, at: at(6), why: Some("it is so".to_owned()) }
}

fn pull(state: PullState) -> Pull {
    Pull {
        number: 4,
        url: "https://forge.example/4".to_owned(),
        plan: oid(8),
        state,
        base: "main".to_owned(),
        head: "chiffon/plan/kuma".to_owned(),
        head_commit: Some(oid(9)),
        foreign: false,
        carried: true,
        approved_by: BTreeSet::from(["ben".to_owned()]),
        may_write: true,
        denied: 2,
        shown: Some("digest".to_owned()),
        heard: 12,
        answers: vec![Answer { comment: 12, to: "ann".to_owned(), done: true, text: "done".to_owned() }],
    }
}

/// A moved `main` is recorded only over the tip that was seen before, and then with all of its files.
pub async fn main_is_moved_only_from_where_it_was(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    assert_eq!(bed.store.cursor(bed.repository).await.expect("a cursor"), Cursor::default());
    let change = |from, main: u32| Change::MainSeen {
        from,
        main: oid(main),
        requests: vec![seen(&kuma(), valid(main, 2))],
        plans: vec![(kuma(), Some(oid(9)))],
    };
    bed.conflict(change(Some(oid(1)), 2), "main").await;
    assert_eq!(bed.store.facts(bed.repository, &kuma()).await.expect("facts"), None);
    bed.apply(change(None, 1)).await;
    bed.conflict(change(None, 2), "main").await;
    bed.conflict(change(Some(oid(7)), 2), "main").await;
    bed.apply(change(Some(oid(1)), 2)).await;
    let cursor = bed.store.cursor(bed.repository).await.expect("a cursor");
    assert_eq!(cursor, Cursor { main: Some(oid(2)), infra: None, audit: None });
    let facts = bed.facts(&kuma()).await;
    assert_eq!((facts.file, facts.plan_on_main), (valid(2, 2), Some(oid(9))));
    assert_eq!(facts.path, path("requests/kuma.yaml"));
}

/// Every kind of file comes back as it was, and so does a plan that is gone again.
pub async fn files_come_back_as_they_were_seen(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    for file in [valid(1, 5), invalid(2), RequestFile::Absent, valid(3, 1)] {
        bed.file(&kuma(), file.clone(), 3).await;
        assert_eq!(bed.facts(&kuma()).await.file, file);
    }
    for plan in [Some(oid(4)), None] {
        let change = bed.main_seen(Vec::new(), vec![(kuma(), plan.clone())]).await;
        bed.apply(change).await;
        assert_eq!(bed.facts(&kuma()).await.plan_on_main, plan);
    }
    let moved = crate::SeenRequest { name: kuma(), path: path("requests/media/kuma.yaml"), file: valid(3, 1) };
    let change = bed.main_seen(vec![moved], Vec::new()).await;
    bed.apply(change).await;
    assert_eq!(bed.facts(&kuma()).await.path, path("requests/media/kuma.yaml"));
}

/// A plan that nobody requested has a row, so that it can be refused in words.
pub async fn a_plan_without_a_request_is_known(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let change = bed.main_seen(Vec::new(), vec![(kuma(), Some(oid(4)))]).await;
    bed.apply(change).await;
    let facts = bed.facts(&kuma()).await;
    assert_eq!((facts.file, facts.plan_on_main), (RequestFile::Absent, Some(oid(4))));
    bed.apply(Change::Refused { name: kuma(), refusal: refusal(RefusalReason::NotOffered) }).await;
    assert_eq!(bed.facts(&kuma()).await.refusal, Some(refusal(RefusalReason::NotOffered)));
    assert_eq!(bed.active().await, [kuma()]);
}

/// The age of a request is that of its content, wherever the file lies and however often it is seen.
pub async fn since_is_kept_while_the_content_is_the_same(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.file(&kuma(), valid(1, 3), 10).await;
    bed.file(&kuma(), valid(1, 3), 20).await;
    assert_eq!(bed.facts(&kuma()).await.since, at(10));
    bed.file(&kuma(), valid(2, 3), 30).await;
    assert_eq!(bed.facts(&kuma()).await.since, at(30));
    bed.file(&kuma(), RequestFile::Absent, 40).await;
    bed.file(&kuma(), RequestFile::Absent, 50).await;
    assert_eq!(bed.facts(&kuma()).await.since, at(40));
    bed.file(&kuma(), valid(2, 3), 60).await;
    let plan_only = bed.main_seen(Vec::new(), vec![(kuma(), Some(oid(9)))]).await;
    bed.apply_at(plan_only, 70).await;
    assert_eq!(bed.facts(&kuma()).await.since, at(60));
}

/// What a person or the planner said of a request comes back whole, in each of its kinds.
pub async fn what_is_said_of_a_request_comes_back_whole(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.request(&kuma()).await;
    let question = Question {
        id: "host".to_owned(),
        text: "On which „host“?".to_owned(),
        choices: vec![("nas01".to_owned(), "the big one".to_owned())],
    };
    let text = || "because é\u{1b}\n".to_owned();
    let reasons = [
        Blocked::Questions { questions: vec![question, Question { id: text(), text: text(), choices: Vec::new() }] },
        Blocked::NothingFits { reason: text(), nearest: vec![(path("playbooks/a.yml"), text())] },
        Blocked::Invalid { findings: text() },
        Blocked::Denied { reasons: vec![text(), String::new()] },
        Blocked::Infra { reason: text() },
        Blocked::Edit { reason: text(), blob: Some(oid(5)) },
        Blocked::Edit { reason: text(), blob: None },
        Blocked::EditedPlanStale,
    ];
    for reason in reasons {
        bed.apply(unplanned(reason.clone())).await;
        let stored = bed.facts(&kuma()).await.unplanned.expect("it was stored");
        assert_eq!((stored.reason, stored.infra, stored.at), (reason, Some(oid(2)), at(5)));
    }
    use RefusalReason::{
        Closed, Denied, Edited, EditedInMerge, Expired, NotAllowed, NotOffered, NotThroughPull, Stale, Used,
    };
    let reasons = [NotOffered, EditedInMerge, Closed, Used, Stale, Edited, Expired, Denied, NotThroughPull, NotAllowed];
    for reason in reasons {
        bed.apply(Change::Refused { name: kuma(), refusal: refusal(reason) }).await;
        assert_eq!(bed.facts(&kuma()).await.refusal, Some(refusal(reason)));
    }
    for pause in [Some(pause()), None, None] {
        bed.apply(Change::PauseSet { name: kuma(), pause: pause.clone() }).await;
        assert_eq!(bed.facts(&kuma()).await.pause, pause);
    }
    let merged = PullState::Merged { commit: Some(oid(3)), by: Some("ann".to_owned()) };
    for state in [PullState::Open, PullState::Closed, merged, PullState::Merged { commit: None, by: None }] {
        let seen = pull(state);
        bed.apply(Change::PullSeen { name: kuma(), pull: Box::new(seen.clone()) }).await;
        assert_eq!(bed.facts(&kuma()).await.pull, Some(seen));
    }
    bed.apply(Change::ReplanAsked { name: kuma(), after: 7 }).await;
    assert_eq!(bed.facts(&kuma()).await.replan_after, Some(7));
    bed.apply(unplanned(Blocked::EditedPlanStale)).await;
    assert_eq!(bed.facts(&kuma()).await.replan_after, None, "planning ended");
}

/// Nothing is said of a request that is not there.
pub async fn what_is_not_there_is_not_changed(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.request(&name("other")).await;
    bed.conflict(unplanned(Blocked::EditedPlanStale), "kuma").await;
    bed.conflict(Change::Refused { name: kuma(), refusal: refusal(RefusalReason::Used) }, "kuma").await;
    bed.conflict(Change::PauseSet { name: kuma(), pause: Some(pause()) }, "kuma").await;
    bed.conflict(Change::PauseSet { name: kuma(), pause: None }, "kuma").await;
    bed.conflict(Change::ReplanAsked { name: kuma(), after: 1 }, "kuma").await;
    bed.refused(recorded(&kuma(), &offer(&kuma(), 1))).await;
    assert_eq!(bed.version(&kuma()).await, 0);
}

/// The list of files that are not read is replaced as a whole.
pub async fn files_that_are_not_read_are_listed(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let other = Bed::at(fixture.store(), "other").await;
    let file = |path: &str| (path.to_owned(), format!("{path} can't be read: é\n"));
    for files in [vec![file("plans/x"), file("requests/\u{fffd}")], vec![file("requests/a b")], Vec::new()] {
        bed.apply(Change::FilesRefused { files: files.clone() }).await;
        assert_eq!(bed.store.refused_files(bed.repository).await.expect("files"), files);
        assert!(other.store.refused_files(other.repository).await.expect("files").is_empty());
    }
}

async fn settle(bed: &Bed<'_>, request: &Name) {
    let version = bed.version(request).await;
    bed.store.settle(bed.repository, request, version).await.expect("settled");
}

/// Whatever happens between looking and settling has the request looked at again.
pub async fn r3_a_change_between_looking_and_settling_is_not_forgotten(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.running(&kuma(), 1).await;
    let run = bed.run().await.id;
    bed.finish(&run, RunState::Cancelled).await;
    let seen = bed.version(&kuma()).await;
    bed.apply(Change::ReplanAsked { name: kuma(), after: 1 }).await;
    bed.store.settle(bed.repository, &kuma(), seen).await.expect("settled");
    assert_eq!(bed.active().await, [kuma()], "the change came after the look");
    settle(&bed, &kuma()).await;
    assert!(bed.active().await.is_empty());
}

/// Each change of a request at rest wakes it.
pub async fn r3_every_change_wakes_a_request_at_rest(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let run = bed.running(&kuma(), 1).await;
    bed.finish(&run, RunState::Lost).await;
    let next = offer(&kuma(), 2);
    let again = bed.main_seen(vec![seen(&kuma(), valid(6, 3))], Vec::new()).await;
    let changes = [
        again,
        Change::Unplanned {
            name: kuma(),
            unplanned: Unplanned { request: oid(6), infra: None, reason: Blocked::EditedPlanStale, at: at(1) },
        },
        Change::InfraSeen { commit: oid(77) },
        Change::Refused { name: kuma(), refusal: refusal(RefusalReason::Used) },
        Change::ReplanAsked { name: kuma(), after: 1 },
        Change::OfferShown { name: kuma(), plan: plan_oid(1), commit: oid(3) },
        Change::RunResolved { run: run.clone(), state: RunState::Succeeded },
        Change::PauseSet { name: kuma(), pause: None },
        recorded(&kuma(), &next),
    ];
    for change in changes {
        settle(&bed, &kuma()).await;
        assert!(bed.active().await.is_empty(), "{change:?}");
        bed.apply(change.clone()).await;
        assert_eq!(bed.active().await, [kuma()], "{change:?}");
    }
}

/// Every step of an attempt raises the request's version: what was decided before it may be wrong after it.
pub async fn r3_every_step_of_an_attempt_is_a_change_of_its_request(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let key = key(&bed.running(&kuma(), 1).await, "site", 1);
    let claim =
        Change::Moved { key: key.clone(), from: Ordered, to: Claimed, fence: None, boot: Some(boot(1)), outcome: None };
    let changes = [
        ordered(&kuma(), &key),
        claim,
        granted(&kuma(), &key, &["nas01"]),
        moved(&key, Granted, Started),
        Change::CancelAsked { run: key.run.clone() },
        moved(&key, Started, Lost),
        Change::RunFinished { run: key.run.clone(), state: RunState::Lost, voided: false },
    ];
    for change in changes {
        let before = bed.version(&kuma()).await;
        bed.apply(change.clone()).await;
        assert!(bed.version(&kuma()).await > before, "{change:?}");
    }
    settle(&bed, &kuma()).await;
    assert!(bed.active().await.is_empty());
    bed.apply(moved(&key, Lost, Failed)).await;
    assert_eq!(bed.active().await, [kuma()], "a late report wakes what is over");
}

/// Open offers, runs that go on and pauses are looked at in every tick, settled or not.
pub async fn what_waits_for_time_is_always_looked_at(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let run = bed.running(&kuma(), 1).await;
    settle(&bed, &kuma()).await;
    assert_eq!(bed.active().await, [kuma()], "a run goes on");
    bed.apply(ordered(&kuma(), &key(&run, "site", 1))).await;
    settle(&bed, &kuma()).await;
    assert_eq!(bed.active().await, [kuma()], "a run goes on");
    bed.finish(&run, RunState::Succeeded).await;
    settle(&bed, &kuma()).await;
    assert!(bed.active().await.is_empty(), "all is done");
    bed.apply(Change::PauseSet { name: kuma(), pause: Some(pause()) }).await;
    settle(&bed, &kuma()).await;
    assert_eq!(bed.active().await, [kuma()], "a pause ends by itself");
    bed.apply(Change::PauseSet { name: kuma(), pause: None }).await;
    bed.apply(recorded(&kuma(), &offer(&kuma(), 2))).await;
    settle(&bed, &kuma()).await;
    assert_eq!(bed.active().await, [kuma()], "an offer expires");
}

/// What a failed run's plan reads may be mended at any time: it is looked at for as long as it is the last one, and its
/// request is there.
pub async fn a_failure_is_always_looked_at(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let failed = bed.running(&kuma(), 1).await;
    bed.finish(&failed, RunState::Failed).await;
    settle(&bed, &kuma()).await;
    assert_eq!(bed.active().await, [kuma()], "it failed");
    bed.file(&kuma(), RequestFile::Absent, 60).await;
    settle(&bed, &kuma()).await;
    assert!(bed.active().await.is_empty(), "nobody wants it any more");
    bed.file(&kuma(), RequestFile::Valid { oid: oid(1), priority: 3 }, 61).await;
    settle(&bed, &kuma()).await;
    assert_eq!(bed.active().await, [kuma()], "somebody does");
    let offer = offer(&kuma(), 2);
    bed.apply(recorded(&kuma(), &offer)).await;
    let next = run_id(2);
    bed.apply(Change::Approved { name: kuma(), run: Box::new(run(&next, &offer)) }).await;
    bed.finish(&next, RunState::Succeeded).await;
    settle(&bed, &kuma()).await;
    assert!(bed.active().await.is_empty(), "the next one did not fail");
}

/// The urgent first, then the old.
pub async fn active_requests_come_by_priority_and_age(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    for (request, priority, secs) in [("a", 3, 50), ("b", 5, 40), ("c", 3, 10), ("d", 1, 1), ("e", 5, 30)] {
        bed.file(&name(request), valid(1, priority), secs).await;
    }
    let order = ["e", "b", "c", "a", "d"].map(name);
    assert_eq!(bed.active().await, order);
}

/// A request whose file is gone is listed only with the archive, once its run is over.
pub async fn archived_requests_are_listed_only_when_asked_for(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let run = bed.running(&kuma(), 1).await;
    bed.request(&name("a-second")).await;
    let names = async |archived| bed.store.names(bed.repository, archived).await.expect("names");
    bed.file(&kuma(), RequestFile::Absent, 1).await;
    assert_eq!(names(false).await, [name("a-second"), kuma()], "its run goes on");
    bed.finish(&run, RunState::Succeeded).await;
    assert_eq!(names(false).await, [name("a-second")]);
    assert_eq!(names(true).await, [name("a-second"), kuma()]);
}

/// Without a file and without a run there is nothing to show either.
pub async fn a_deleted_request_without_a_run_is_archived(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    bed.request(&kuma()).await;
    bed.file(&kuma(), RequestFile::Absent, 1).await;
    assert_eq!(bed.store.names(bed.repository, true).await.expect("names"), [kuma()]);
    assert!(bed.store.names(bed.repository, false).await.expect("names").is_empty());
}

/// A plan on `main` that was refused and belongs to no request is shown as long as it lies there.
pub async fn a_refused_plan_without_a_request_is_no_archive_matter(fixture: &dyn Fixture) {
    let bed = Bed::new(fixture).await;
    let change = bed.main_seen(Vec::new(), vec![(kuma(), Some(oid(8)))]).await;
    bed.apply(change).await;
    bed.apply(Change::Refused { name: kuma(), refusal: refusal(RefusalReason::NotOffered) }).await;
    assert_eq!(bed.store.names(bed.repository, false).await.expect("names"), [kuma()]);
    let change = bed.main_seen(Vec::new(), vec![(kuma(), None)]).await;
    bed.apply(change).await;
    assert!(bed.store.names(bed.repository, false).await.expect("names").is_empty());
}
