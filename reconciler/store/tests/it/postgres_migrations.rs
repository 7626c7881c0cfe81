//! The schema in PostgreSQL: opened twice and by many, never by an older version than made it, and never emptied.

use std::path::{Path, PathBuf};

use chiffon_schemas::AttemptState;
use chiffon_store::conformance::{Bed, Fixture, kuma, name, oid};
use chiffon_store::{Error, Leading, Postgres, Store};
use sqlx::AssertSqlSafe;
use sqlx::migrate::Migrator;

use crate::migrations::{holds_the_samples, pull_of_kuma, sample, told};
use crate::postgres::{OneDatabase, raw};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/postgres")
}

async fn run(data: &OneDatabase, statements: &'static str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(statements).execute(&mut data.raw().await).await.map(drop)
}

#[tokio::test]
async fn opening_twice_changes_nothing() {
    let data = OneDatabase::new().await;
    let bed = Bed::new(&data).await;
    bed.in_state(AttemptState::Lost).await;
    let before = bed.everything().await;
    for _ in 0..2 {
        let again = data.reopen().await;
        assert_eq!(Bed::at(again.as_ref(), "home").await.everything().await, before);
    }
    assert_eq!(bed.everything().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_database_can_be_opened_by_many_at_the_same_time() {
    let server = OneDatabase::empty().await;
    let opening: Vec<_> = (0..4)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { Postgres::open(&server).await })
        })
        .collect();
    for open in opening {
        let store = open.await.unwrap().unwrap_or_else(|error| panic!("{}", told(&error)));
        Bed::at(&store, "home").await;
    }
}

/// A database of every version, with rows as it could hold them, opens with all of them.
#[tokio::test]
async fn a_database_of_every_version_opens_with_its_rows() {
    let all = Migrator::new(folder()).await.unwrap();
    for last in all.iter().map(|migration| migration.version) {
        let server = OneDatabase::empty().await;
        let mut connection = raw(&server.url).await;
        for version in 1..=last {
            let upto: Vec<_> = all.iter().filter(|migration| migration.version <= version).cloned().collect();
            Migrator::with_migrations(upto).run_direct(None, &mut connection, false).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sample("postgres", version))).execute(&mut connection).await.unwrap();
        }
        let store = Postgres::open(&server).await.unwrap();
        holds_the_samples(&store).await;
        let repository = store.repository(&name("home")).await.unwrap();
        let leading = store.lead(repository, "a later handle", "/home/chiffon (pid 8)", 15).await.unwrap();
        assert_eq!(leading, Leading::Ours, "version {last}: a lease that is long over keeps nobody away");
        assert_eq!(store.parked().await.unwrap().len(), usize::from(last >= 3), "version {last}");
        assert_eq!(store.enrolments().await.unwrap().len(), if last >= 4 { 2 } else { 0 }, "version {last}");
        assert_eq!(pull_of_kuma(&store).await, (last >= 5).then_some(4), "version {last}");
    }
}

/// A database that a later version made is not touched, and neither is one whose migration was edited after it ran.
#[tokio::test]
async fn a_newer_database_and_an_edited_migration_are_refused_and_say_why() {
    let cases = [
        (
            "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
             VALUES (9000, 'later', now(), true, '\\x00', 1)",
            "9000",
        ),
        ("UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1", "1"),
    ];
    for (statement, number) in cases {
        let data = OneDatabase::new().await;
        run(&data, statement).await.unwrap();
        let error = Postgres::open(&data.server).await.unwrap_err();
        assert!(matches!(error, Error::Migrate(_)), "{error:?}");
        let told = told(&error);
        assert!(told.contains(number) && told.contains("migrat"), "{told}");
    }
}

/// The database itself refuses to change or forget what happened.
#[tokio::test]
async fn events_can_be_neither_changed_nor_deleted() {
    let data = OneDatabase::new().await;
    let bed = Bed::new(&data).await;
    bed.request(&kuma()).await;
    let before = bed.everything().await;
    for statement in [
        "DELETE FROM events",
        "TRUNCATE events CASCADE",
        "UPDATE events SET summary = 'x'",
        "UPDATE events SET detail = '{}'",
        "UPDATE events SET hosts = '{}'",
        "UPDATE events SET request = NULL",
        "UPDATE events SET at = now()",
        "UPDATE events SET kind = 'x'",
    ] {
        let error = run(&data, statement).await.unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    assert_eq!(bed.everything().await, before);
    let events = bed.store.unaudited(bed.repository, 10).await.unwrap();
    bed.store.audited(bed.repository, &[events[0].id.clone()], &oid(1)).await.unwrap();
    for statement in
        ["UPDATE events SET audit_commit = NULL", "UPDATE events SET audit_commit = 'x'", "DELETE FROM events"]
    {
        run(&data, statement).await.unwrap_err();
    }
}

/// What can't be read names where it stands, and is no panic.
#[tokio::test]
async fn a_damaged_row_is_named() {
    let damages = [
        ("UPDATE requests SET oid = 'zz'", "requests", "oid"),
        ("UPDATE requests SET oid = NULL", "requests", "file"),
        ("UPDATE requests SET priority = 999", "requests", "priority"),
        ("UPDATE requests SET path = '../x'", "requests", "path"),
        ("UPDATE requests SET unplanned = '{\"kind\":1}'", "requests", "unplanned"),
        ("UPDATE offers SET state = 'odd'", "offers", "state"),
        ("UPDATE offers SET plan = '{}'", "offers", "plan"),
        ("UPDATE runs SET state = 'odd'", "runs", "state"),
        ("UPDATE runs SET round = -1", "runs", "round"),
        ("UPDATE attempts SET state = 'odd'", "attempts", "state"),
        ("UPDATE attempts SET hosts = '{\"-x\"}'", "attempts", "hosts"),
        ("UPDATE attempts SET outcome = 'null'", "attempts", "outcome"),
        ("UPDATE attempts SET fence_incarnation = -1", "attempts", "fence_incarnation"),
    ];
    for (statement, table, column) in damages {
        let data = OneDatabase::new().await;
        let bed = Bed::new(&data).await;
        bed.in_state(AttemptState::Failed).await;
        run(&data, statement).await.unwrap();
        match data.store().facts(bed.repository, &kuma()).await {
            Err(Error::Corrupt { table: in_table, column: in_column, row, reason }) => {
                assert_eq!((in_table, in_column), (table, column), "{statement}: {row}, {reason}");
                assert!(!row.is_empty(), "{statement}");
            }
            other => panic!("{statement}: {other:?}"),
        }
    }
}

/// A day's log goes as a whole partition, without a row being looked at.
#[tokio::test]
async fn old_logs_go_by_dropping_partitions() {
    let data = OneDatabase::new().await;
    let bed = Bed::new(&data).await;
    let key = bed.in_state(AttemptState::Started).await;
    let fence = bed.attempt(&key).await.fence.unwrap();
    let day = |number: i64| chiffon_store::conformance::at(number * 86_400);
    for number in 0..4 {
        let seq = u64::try_from(number).unwrap();
        let line = Some((seq, "a line"));
        bed.store.report(&name("infra"), &key, fence, seq + 1, line, day(number)).await.unwrap();
    }
    bed.apply(chiffon_store::conformance::ended(&key, fence, AttemptState::Failed)).await;
    bed.over(&key).await;
    assert_eq!(bed.store.forget_logs(day(2)).await.unwrap(), 2);
    let left = bed.store.read_log(&key.run, 0, 10).await.unwrap();
    assert_eq!(left.iter().map(|chunk| chunk.chunk).collect::<Vec<_>>(), [2, 3]);
}
