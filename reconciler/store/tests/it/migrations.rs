//! The file and its schema: opened twice, opened by a later version's predecessor, and never emptied.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chiffon_schemas::{AttemptState, Outcome, RunState, Verdict};
use chiffon_store::conformance::{Bed, Fixture, key, kuma, moved, name, oid, outcome, path as path_in_repo, plan};
use chiffon_store::{Error, EventFilter, Sqlite, Store};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection};

use crate::sqlite::OneFile;

/// Statements that lose data, each with the reason why it may stay: `file: statement`.
const ALLOWED: [&str; 0] = [];

async fn raw(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn run(path: &Path, statements: &'static str) {
    let mut raw = raw(path).await;
    sqlx::raw_sql(statements).execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite")
}

/// Every migration of both adapters.
fn migrations() -> Vec<(String, String)> {
    let both = ["sqlite", "postgres"].map(|adapter| folder().with_file_name(adapter));
    let mut found: Vec<_> = both
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    found.sort();
    found
}

/// An error with all of its causes, as a person reads it.
pub fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}

#[tokio::test]
async fn opening_twice_changes_nothing() {
    let file = OneFile::new().await;
    let bed = Bed::new(&file).await;
    bed.in_state(AttemptState::Lost).await;
    let before = bed.everything().await;
    for _ in 0..2 {
        let again = Sqlite::open(&file.path()).await.unwrap();
        assert_eq!(Bed::at(&again, "home").await.everything().await, before);
    }
    assert_eq!(bed.everything().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_file_can_be_opened_by_many_at_the_same_time() {
    for _ in 0..5 {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("store.db");
        let opening: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                tokio::spawn(async move { Sqlite::open(&path).await })
            })
            .collect();
        for open in opening {
            let store = open.await.unwrap().unwrap_or_else(|error| panic!("{}", told(&error)));
            Bed::at(&store, "home").await;
        }
    }
}

/// The statements of a migration's sample: rows as that version could hold them. Every migration has one.
pub fn sample(adapter: &str, version: i64) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/samples/{adapter}-{version:04}.sql"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A database of every version, with rows as it could hold them, opens with all of them.
#[tokio::test]
async fn a_database_of_every_version_opens_with_its_rows() {
    let all = Migrator::new(self::folder()).await.unwrap();
    for last in all.iter().map(|migration| migration.version) {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("store.db");
        let mut raw = raw(&path).await;
        for version in 1..=last {
            let upto: Vec<_> = all.iter().filter(|migration| migration.version <= version).cloned().collect();
            Migrator::with_migrations(upto).run_direct(None, &mut raw, false).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sample("sqlite", version))).execute(&mut raw).await.unwrap();
        }
        raw.close().await.unwrap();
        let store = Sqlite::open(&path).await.unwrap();
        holds_the_samples(&store).await;
        assert_eq!(store.parked().await.unwrap().len(), usize::from(last >= 2), "version {last}");
        assert_eq!(store.enrolments().await.unwrap().len(), if last >= 3 { 2 } else { 0 }, "version {last}");
        assert_eq!(pull_of_kuma(&store).await, (last >= 4).then_some(4), "version {last}");
    }
}

/// The number of the pull request in the samples.
pub async fn pull_of_kuma(store: &dyn Store) -> Option<u64> {
    Bed::at(store, "home").await.facts(&kuma()).await.pull.map(|pull| pull.number)
}

/// What the samples of the first migration hold.
pub async fn holds_the_samples(store: &dyn Store) {
    let bed = Bed::at(store, "home").await;
    let kuma = bed.facts(&kuma()).await;
    assert_eq!(kuma.offers[0].plan, plan(&kuma.name, 1));
    let failed = kuma.run.unwrap();
    assert_eq!((failed.state, failed.attempts[0].state), (Some(RunState::Failed), AttemptState::Failed));
    // What came to an outcome later is absent in these rows.
    let ended = Outcome { finished: Vec::new(), ..outcome(Verdict::Failed, 1234) };
    assert_eq!(failed.attempts[0].outcome, Some(ended));
    let wiki = bed.facts(&name("wiki")).await;
    assert!(wiki.pause.is_some() && wiki.refusal.is_some() && wiki.unplanned.is_some());
    let lost = wiki.run.unwrap();
    assert_eq!((lost.state, lost.attempts[0].state), (None, AttemptState::Lost));

    assert_eq!(store.locks(bed.repository).await.unwrap().len(), 2);
    assert_eq!(store.read_log(&failed.id, 0, 10).await.unwrap().len(), 2);
    assert_eq!(store.unaudited(bed.repository, 10).await.unwrap().len(), 2);
    assert_eq!(store.events(bed.repository, &EventFilter::default()).await.unwrap().len(), 3);
    assert_eq!(store.outgoing(0, 10).await.unwrap().len(), 2);
    assert_eq!(store.commands(bed.repository).await.unwrap().len(), 1);
    assert_eq!(store.agents().await.unwrap().len(), 1);
    let cursor = store.cursor(bed.repository).await.unwrap();
    assert!(cursor.main.is_some() && cursor.infra.is_some() && cursor.audit.is_some());
    assert_eq!(
        store
            .history(bed.repository, &path_in_repo("playbooks/kuma.yml"), chiffon_schemas::Mode::Apply, 9)
            .await
            .unwrap(),
        [(1234, false)]
    );

    // And life goes on in it, with later fences.
    let next = key(&lost.id, "site", 1);
    bed.apply(moved(&next, AttemptState::Lost, AttemptState::Ordered)).await;
    let fence = bed.walk(&wiki.name, &next, AttemptState::Granted).await.unwrap();
    assert!(fence > lost.attempts[0].fence.unwrap());
}

/// A database that a later version made is not touched: its rows may mean something else.
#[tokio::test]
async fn a_newer_database_is_refused_and_says_why() {
    let file = OneFile::new().await;
    run(
        &file.path(),
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
         VALUES (9000, 'later', CURRENT_TIMESTAMP, TRUE, X'00', 1)",
    )
    .await;
    let error = Sqlite::open(&file.path()).await.unwrap_err();
    assert!(matches!(error, Error::Migrate(_)), "{error:?}");
    let told = told(&error);
    assert!(told.contains("9000") && told.contains("migrat"), "{told}");
}

/// A migration that was edited after it ran is refused as well.
#[tokio::test]
async fn an_edited_migration_is_refused_and_says_which() {
    let file = OneFile::new().await;
    run(&file.path(), "UPDATE _sqlx_migrations SET checksum = X'00' WHERE version = 1").await;
    let error = Sqlite::open(&file.path()).await.unwrap_err();
    assert!(told(&error).contains('1') && matches!(error, Error::Migrate(_)), "{}", told(&error));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_kept() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    let text = "not a database, but somebody's notes\n".repeat(50);
    std::fs::write(&path, &text).unwrap();
    assert!(Sqlite::open(&path).await.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error() {
    let folder = tempfile::TempDir::new().unwrap();
    assert!(Sqlite::open(&folder.path().join("none/store.db")).await.is_err());
}

/// The file may name what others should not read, and so may the files that SQLite keeps beside it.
#[tokio::test]
async fn the_files_are_their_owners_alone() {
    let file = OneFile::new().await;
    let bed = Bed::new(&file).await;
    bed.request(&kuma()).await;
    let mut found = 0;
    for entry in std::fs::read_dir(file.folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?} has {mode:o}", entry.file_name());
        found += 1;
    }
    assert!(found >= 2, "the file and its log");
}

/// Words that lose what was stored, in one statement.
fn destroys(statement: &str) -> bool {
    let upper = statement.to_uppercase();
    let words: Vec<_> =
        upper.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    match words.first() {
        Some(&"DROP" | &"DELETE" | &"TRUNCATE" | &"REPLACE") => true,
        Some(&"ALTER") => words.contains(&"DROP") || words.contains(&"RENAME"),
        Some(&"INSERT") => words.get(1..3) == Some(&["OR", "REPLACE"]),
        Some(&"PRAGMA") => words.contains(&"WRITABLE_SCHEMA"),
        _ => false,
    }
}

/// Statements without their comments. A trigger's body counts as statements of its own, which is stricter.
fn statements(sql: &str) -> Vec<String> {
    let bare: String = sql.lines().map(|line| line.split("--").next().unwrap_or("").to_owned() + "\n").collect();
    let apart = bare.split(';').map(|one| one.trim().trim_start_matches("BEGIN").trim().to_owned());
    apart.filter(|statement| !statement.is_empty()).collect()
}

#[test]
fn no_migration_loses_data() {
    let all = migrations();
    assert!(!all.is_empty());
    for (file, sql) in all {
        for statement in statements(&sql) {
            let line = format!("{file}: {}", statement.split_whitespace().collect::<Vec<_>>().join(" "));
            assert!(!destroys(&statement) || ALLOWED.contains(&line.as_str()), "{line}");
        }
    }
}

#[test]
fn what_loses_data_is_recognised() {
    let bad = "-- fine\nDROP TABLE runs; delete from runs;\nALTER TABLE a\n DROP COLUMN b;INSERT OR REPLACE INTO a VALUES (1);";
    assert!(statements(bad).iter().all(|statement| destroys(statement)));
    assert_eq!(statements(bad).len(), 4);
    let good = "CREATE TRIGGER t BEFORE DELETE ON a BEGIN SELECT RAISE(ABORT, 'x'); END; -- DROP TABLE a;\nALTER TABLE a ADD b;";
    assert!(!statements(good).iter().any(|statement| destroys(statement)));
}

/// The database itself refuses to change or forget what happened.
#[tokio::test]
async fn events_can_be_neither_changed_nor_deleted() {
    let file = OneFile::new().await;
    let bed = Bed::new(&file).await;
    bed.request(&kuma()).await;
    let before = bed.everything().await;
    let mut raw = raw(&file.path()).await;
    for statement in [
        "DELETE FROM events",
        "UPDATE events SET summary = 'x'",
        "UPDATE events SET detail = '{}'",
        "UPDATE events SET hosts = '[]'",
        "UPDATE events SET request = NULL",
        "UPDATE events SET at = 0",
        "UPDATE events SET kind = 'x'",
    ] {
        let error = sqlx::raw_sql(statement).execute(&mut raw).await.unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    assert_eq!(bed.everything().await, before);
    let events = bed.store.unaudited(bed.repository, 10).await.unwrap();
    bed.store.audited(bed.repository, &[events[0].id.clone()], &oid(1)).await.unwrap();
    for statement in
        ["UPDATE events SET audit_commit = NULL", "UPDATE events SET audit_commit = 'x'", "DELETE FROM events"]
    {
        sqlx::raw_sql(statement).execute(&mut raw).await.unwrap_err();
    }
}

/// What can't be read names where it stands, and is no panic.
#[tokio::test]
async fn a_damaged_row_is_named() {
    let damages = [
        ("UPDATE requests SET file = 'odd'", "requests", "file"),
        ("UPDATE requests SET oid = 'zz'", "requests", "oid"),
        ("UPDATE requests SET oid = NULL", "requests", "file"),
        ("UPDATE requests SET priority = 999", "requests", "priority"),
        ("UPDATE requests SET path = '../x'", "requests", "path"),
        ("UPDATE requests SET pause = '{'", "requests", "pause"),
        ("UPDATE requests SET unplanned = '{\"kind\":1}'", "requests", "unplanned"),
        ("UPDATE offers SET state = 'odd'", "offers", "state"),
        ("UPDATE offers SET plan = '{}'", "offers", "plan"),
        ("UPDATE runs SET state = 'odd'", "runs", "state"),
        ("UPDATE runs SET round = -1", "runs", "round"),
        ("UPDATE attempts SET state = 'odd'", "attempts", "state"),
        ("UPDATE attempts SET outcome = 'null'", "attempts", "outcome"),
        ("UPDATE attempts SET fence_incarnation = -1", "attempts", "fence_incarnation"),
    ];
    for (statement, table, column) in damages {
        let file = OneFile::new().await;
        let bed = Bed::new(&file).await;
        bed.in_state(AttemptState::Failed).await;
        run(&file.path(), statement).await;
        match file.store().facts(bed.repository, &kuma()).await {
            Err(Error::Corrupt { table: in_table, column: in_column, row, reason }) => {
                assert_eq!((in_table, in_column), (table, column), "{statement}: {row}, {reason}");
                assert!(row.contains("kuma") || row.contains("00000000010000000000000000"), "{statement}: `{row}`");
            }
            other => panic!("{statement}: {other:?}"),
        }
    }
}
