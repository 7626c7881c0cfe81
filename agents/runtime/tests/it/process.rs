//! R9: what a run began is gone when its end says so, whatever its processes do to get away.
//!
//! Whether something is alive is read from `/proc/*/cmdline` by a number of seconds that each test sleeps for alone,
//! not by the means that the code under test uses.

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use chiffon_runtime::{Ending, Marker, Running, Spawn, end_orphans};
use chiffon_schemas::{AttemptKey, Fence, Mode, Name, Oid, RunId};
use tokio::io::AsyncReadExt as _;

/// Generous: a busy machine only makes a test slow.
const PATIENCE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(20);

/// Orphans are told apart by which attempts run beside them, so these tests run one after the other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub fn key(number: u32) -> AttemptKey {
    AttemptKey {
        run: RunId::parse("01J00000000000000000000000").unwrap(),
        plan: Oid::parse("a".repeat(40)).unwrap(),
        mode: Mode::Apply,
        step: Name::parse("site").unwrap(),
        attempt: number,
    }
}

fn marker(number: u32) -> Marker {
    Marker::new(&key(number), Fence { incarnation: std::process::id(), counter: u64::from(number) })
}

/// Seconds to sleep, by which the processes of one test are found: no other process of the machine sleeps as long.
fn nap(number: u32) -> String {
    format!("{}", 5_000_000_000_u64 + u64::from(std::process::id()) * 1_000 + u64::from(number))
}

fn spawn(number: u32, folder: &Path, script: &str) -> Running {
    let path = OsString::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    Spawn {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.replace("NAP", &nap(number)).into()],
        env: vec![("PATH".into(), path)],
        cwd: folder.to_owned(),
        pass_fds: Vec::new(),
        marker: marker(number),
    }
    .start()
    .unwrap()
}

/// How many processes sleep for this test's time, the dead not counted.
fn sleepers(number: u32) -> usize {
    let nap = nap(number);
    let of_test = |pid: &str| {
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
        args.len() == 3 && args[0].ends_with(b"sleep") && args[1] == nap.as_bytes()
    };
    let names = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|b| b.is_ascii_digit()) && of_test(name)).count()
}

pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "never happened: {what}");
}

/// Runs a script until `alive` processes sleep, ends it, and sees that none is left.
async fn cancelled(number: u32, script: &str, alive: usize, grace: Duration) -> Running {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let mut running = spawn(number, folder.path(), script);
    until("the processes sleep", || sleepers(number) == alive).await;
    let ending = tokio::time::timeout(PATIENCE, running.end(grace)).await.unwrap();
    assert!(matches!(ending, Ending::Verified { .. }), "{ending:?}");
    assert_eq!(sleepers(number), 0);
    running
}

#[tokio::test]
async fn r9_children_of_children_are_ended() {
    let running = cancelled(1, "sleep NAP & (sleep NAP & sleep NAP) & wait", 3, GRACE).await;
    assert_eq!(running.ended().unwrap().signal, Some(15));
}

#[tokio::test]
async fn r9_a_child_in_a_session_of_its_own_is_ended() {
    cancelled(2, "setsid sleep NAP & setsid setsid sleep NAP & wait", 2, GRACE).await;
}

#[tokio::test]
async fn r9_processes_that_ignore_sigterm_are_killed_after_the_grace() {
    let script = "trap '' TERM INT HUP; sleep NAP & setsid sleep NAP & while :; do wait; done";
    let running = cancelled(3, script, 2, Duration::from_millis(100)).await;
    assert_eq!(running.ended().unwrap().signal, Some(9));
}

#[tokio::test]
async fn r9_a_daemon_that_forked_twice_is_ended() {
    cancelled(4, "setsid sh -c 'sleep NAP & sleep NAP &' & wait; sleep NAP", 3, GRACE).await;
}

#[tokio::test]
async fn r9_a_child_that_cleared_its_environment_is_ended() {
    cancelled(5, "env -i setsid sleep NAP & wait", 1, GRACE).await;
}

#[tokio::test]
async fn r9_an_orphan_without_marker_group_or_parent_is_ended() {
    cancelled(6, "env -i setsid sh -c 'sleep NAP &' ; sleep NAP", 2, GRACE).await;
}

#[tokio::test]
async fn r9_a_stopped_process_is_ended() {
    let script = "sleep NAP & until grep -q sleep /proc/$!/comm; do :; done; kill -STOP $!; wait";
    cancelled(7, script, 1, GRACE).await;
}

#[tokio::test]
async fn r9_what_is_born_while_the_end_goes_on_is_ended() {
    let script = "trap 'setsid sh -c \"trap : TERM; sleep NAP; sleep NAP\" & setsid sleep NAP &' TERM
                  sleep NAP & while :; do wait; done";
    cancelled(8, script, 1, Duration::from_millis(300)).await;
}

#[tokio::test]
async fn r9_processes_of_another_user_are_ended_where_that_is_allowed() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let script = "setpriv --reuid 65534 --clear-groups setsid sleep NAP & setpriv --reuid 65534 --clear-groups \
                  env -i sh -c 'setsid sleep NAP &' ; wait";
    cancelled(9, script, 2, GRACE).await;
}

#[tokio::test]
async fn r9_what_a_run_left_behind_after_a_normal_end_is_ended_and_named() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let mut running = spawn(10, folder.path(), "setsid sleep NAP & exit 3");
    let ended = tokio::time::timeout(PATIENCE, running.wait()).await.unwrap().unwrap();
    assert_eq!((ended.exit_code, ended.signal), (Some(3), None));
    until("the daemon sleeps", || sleepers(10) == 1).await;
    let Ending::Verified { leftover } = running.end(GRACE).await else { panic!("survivors") };
    assert_eq!(leftover.iter().map(|process| process.command.as_str()).collect::<Vec<_>>(), ["sleep"]);
    assert_eq!(sleepers(10), 0);
}

#[tokio::test]
async fn r9_a_run_that_is_over_ends_at_once_with_nothing_left() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let mut running = spawn(11, folder.path(), "exit 0");
    running.wait().await.unwrap();
    assert_eq!(running.end(GRACE).await, Ending::Verified { leftover: Vec::new() });
}

#[tokio::test]
async fn r9_dropping_a_run_kills_it() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let running = spawn(12, folder.path(), "setsid sleep NAP & sleep NAP");
    until("the processes sleep", || sleepers(12) == 2).await;
    drop(running);
    until("they are gone", || sleepers(12) == 0).await;
}

#[tokio::test]
async fn r9_children_of_others_are_neither_ended_nor_reaped() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let mut other = tokio::process::Command::new("/bin/sh");
    let mut other = other.args(["-c", "read line; exit 7"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut running = spawn(13, folder.path(), "setsid sleep NAP & wait");
    until("the processes sleep", || sleepers(13) == 1).await;
    assert!(matches!(running.end(GRACE).await, Ending::Verified { .. }));
    drop(other.stdin.take());
    assert_eq!(other.wait().await.unwrap().code(), Some(7));
}

#[tokio::test]
async fn r9_a_dead_stranger_makes_no_run_beside_another_lost() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let mut beside = spawn(20, folder.path(), "sleep NAP");
    let mut running = spawn(21, folder.path(), "sleep NAP");
    until("both sleep", || sleepers(20) == 1 && sleepers(21) == 1).await;
    // As the middle process of a daemon that a playbook left: dead, in a group of its own, and waited for by nobody.
    use std::os::unix::process::CommandExt as _;
    let mut stranger = std::process::Command::new("/bin/true").process_group(0).spawn().unwrap();
    let stat = format!("/proc/{}/stat", stranger.id());
    until("it is dead", || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "))).await;
    assert!(matches!(running.end(GRACE).await, Ending::Verified { .. }));
    assert!(matches!(beside.end(GRACE).await, Ending::Verified { .. }));
    let _ = stranger.wait();
}

#[tokio::test]
async fn r9_the_git_that_this_process_runs_itself_is_neither_ended_nor_reaped() {
    let _alone = ALONE.lock().await;
    for (number, beside) in [(22, false), (23, true)] {
        let folder = tempfile::tempdir().unwrap();
        let git = folder.path().join("git");
        let script = format!(
            "#!/bin/sh\n: > {0}/runs\nread line < {0}/gate\necho git version 2.39.5\n",
            folder.path().display()
        );
        fs::write(&git, script).unwrap();
        fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).unwrap();
        let gate = folder.path().join("gate");
        assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let mut other = beside.then(|| spawn(number + 10, folder.path(), "sleep NAP"));
        let mut running = spawn(number, folder.path(), "sleep NAP");
        let asked = std::thread::spawn(move || chiffon_requests::Git::new(path.into(), None).version());
        until("git runs", || folder.path().join("runs").exists()).await;
        let Ending::Verified { leftover } = running.end(GRACE).await else { panic!("it ends") };
        assert!(leftover.iter().all(|left| left.command == "sleep"), "{leftover:?}");
        fs::write(&gate, "go\n").unwrap();
        assert_eq!(asked.join().unwrap().unwrap(), "git version 2.39.5");
        if let Some(other) = &mut other {
            assert!(matches!(other.end(GRACE).await, Ending::Verified { .. }));
        }
    }
}

#[tokio::test]
async fn r9_orphans_of_an_earlier_life_are_found_by_their_marker_and_ended() {
    let _alone = ALONE.lock().await;
    let mark = marker(14);
    let mut first = std::process::Command::new("/bin/sh")
        .args(["-c", &format!("setsid sleep {0} & env -i sleep {0} & wait", nap(14))])
        .env(mark.env_name(), mark.env_value())
        .spawn()
        .unwrap();
    until("the orphans sleep", || sleepers(14) == 2).await;
    let reaper = std::thread::spawn(move || first.wait());
    let ending = end_orphans(&mark, GRACE).await;
    assert!(matches!(&ending, Ending::Verified { leftover } if leftover.len() == 3), "{ending:?}");
    assert_eq!(sleepers(14), 0);
    reaper.join().unwrap().unwrap();
    assert_eq!(end_orphans(&mark, GRACE).await, Ending::Verified { leftover: Vec::new() });
}

#[tokio::test]
async fn a_run_says_what_it_wrote_and_used() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let script = "echo out; echo err >&2; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; kill -USR1 $$";
    let mut running = spawn(15, folder.path(), script);
    let (mut stdout, mut stderr) = (running.stdout.take().unwrap(), running.stderr.take().unwrap());
    let (mut out, mut err) = (String::new(), String::new());
    // Asked for again and again, as a loop over several sources does.
    while tokio::time::timeout(Duration::from_millis(1), running.wait()).await.is_err() {}
    stdout.read_to_string(&mut out).await.unwrap();
    stderr.read_to_string(&mut err).await.unwrap();
    let ended = running.wait().await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    assert_eq!((ended.exit_code, ended.signal), (None, Some(10)));
    assert!(ended.usage.unwrap().cpu_ms >= 10, "{ended:?}");
    assert!(ended.usage.unwrap().max_rss_kib >= 100, "{ended:?}");
}

#[tokio::test]
async fn a_descriptor_reaches_this_child_and_no_other() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "by descriptor").unwrap();
    let fd = std::os::fd::OwnedFd::from(fs::File::open(&secret).unwrap());
    let kept = fd.try_clone().unwrap();
    let number = Spawn::number_of(&fd);
    let mut running = Spawn {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), format!("cat /proc/self/fd/{number}").into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        cwd: folder.path().to_owned(),
        pass_fds: vec![fd],
        marker: marker(16),
    }
    .start()
    .unwrap();
    let mut text = String::new();
    running.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "by descriptor");
    assert!(rustix::io::fcntl_getfd(&kept).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    let mut other = spawn(17, folder.path(), &format!("test ! -e /proc/self/fd/{number} && env"));
    let mut env = String::new();
    other.stdout.take().unwrap().read_to_string(&mut env).await.unwrap();
    assert_eq!(other.wait().await.unwrap().exit_code, Some(0));
    let names: Vec<&str> = env.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(
        names.iter().all(|name| ["PATH", "CHIFFON_ATTEMPT", "PWD", "_", "SHLVL", "OLDPWD"].contains(name)),
        "{env}"
    );
    assert!(names.contains(&"CHIFFON_ATTEMPT"));
}

/// Says in which folder [`inner_runner_that_is_not_root`] is to work.
const INNER: &str = "chiffon-inner-runner";

/// The second half of [`r9_a_survivor_that_may_not_be_touched_is_named`]: only where that one has laid out a folder.
#[tokio::test]
async fn inner_runner_that_is_not_root() {
    if !Path::new(INNER).exists() {
        return;
    }
    let folder = std::env::current_dir().unwrap();
    let nap = fs::read_to_string(INNER).unwrap();
    let mut running = spawn(18, &folder, &format!("./other setsid sleep {nap} & exit 0"));
    println!("inner: started");
    running.wait().await.unwrap();
    std::io::stdin().read_exact(&mut [0]).unwrap();
    match running.end(Duration::from_millis(100)).await {
        Ending::Survivors(left) => println!("inner: survivors {}", left.len()),
        Ending::Verified { .. } => println!("inner: verified"),
    }
}

#[tokio::test]
async fn r9_a_survivor_that_may_not_be_touched_is_named() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(folder.path(), 0o777);
    fs::write(folder.path().join(INNER), nap(18)).unwrap();
    // A program that becomes a third user, as sudo does: whoever started it may neither read nor signal it.
    let becomes = folder.path().join("becomes");
    fs::copy("/usr/bin/setpriv", &becomes).unwrap();
    open(&becomes, 0o4755);
    let other = folder.path().join("other");
    fs::write(&other, "#!/bin/sh\nexec ./becomes --reuid 65533 --regid 65533 --clear-groups \"$@\"\n").unwrap();
    open(&other, 0o755);
    let exe = folder.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    open(&exe, 0o755);
    let mut inner = std::process::Command::new("/usr/bin/setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&exe)
        .args(["--exact", "process::inner_runner_that_is_not_root", "--nocapture"])
        .current_dir(folder.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("the untouchable one sleeps", || sleepers(18) == 1).await;
    inner.stdin.take().unwrap().write_all(b"x").unwrap();
    let mut said = String::new();
    inner.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    inner.wait().unwrap();
    assert!(said.contains("inner: survivors 1"), "{said}");
    assert_eq!(sleepers(18), 1);
    for entry in fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let cmdline = fs::read(format!("/proc/{entry}/cmdline")).unwrap_or_default();
        if cmdline.starts_with(format!("sleep\0{}", nap(18)).as_bytes()) {
            let pid = rustix::process::Pid::from_raw(entry.parse().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
    until("it is gone", || sleepers(18) == 0).await;
}
