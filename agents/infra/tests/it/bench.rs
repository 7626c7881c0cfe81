//! One attempt in a folder of its own: a checkout from files, a run, and what came of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chiffon_infra::{AnsibleConfig, Playbook, run_playbook};
use chiffon_runtime::{LogChunk, LogSink, Marker, Progress, ProgressSink, RunContext};
use chiffon_schemas::{
    AgentKind, AttemptKey, Fence, Host, Json, Mode, Name, Oid, Outcome, RepoPath, RunId, Step, ulid,
};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use crate::ansible::Version;

/// Where an attempt takes place.
pub struct Bench {
    folder: TempDir,
    pub config: AnsibleConfig,
}

/// What came of an attempt.
#[derive(Debug)]
pub struct Ran {
    pub outcome: Outcome,
    pub log: String,
    pub chunks: usize,
    pub progress: Vec<Progress>,
}

/// An attempt that runs.
pub struct Attempt {
    pub marker: Marker,
    pub cancel: watch::Sender<bool>,
    pub progress: mpsc::Receiver<Progress>,
    chunks: mpsc::Receiver<LogChunk>,
    work: tokio::task::JoinHandle<Outcome>,
    _work_folder: TempDir,
}

impl Bench {
    pub fn new(version: Version) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = AnsibleConfig {
            ansible_playbook: version.program(),
            requests_repo: folder.path().join("requests.git"),
            main_branch: "main".to_owned(),
            infra_repo: folder.path().join("infra.git"),
            infra_branch: "main".to_owned(),
            exempt_check_runs: false,
            vault_password_file: None,
            ssh_auth_sock: None,
            state_folder: folder.path().join("state"),
            log_cap_bytes: AnsibleConfig::LOG_CAP_BYTES,
            grace: Duration::from_secs(3),
        };
        let bench = Self { folder, config };
        fs::create_dir_all(bench.checkout()).unwrap();
        bench.file("hosts.yml", "all: {hosts: {one: {ansible_connection: local}}}\n");
        bench
    }

    pub fn checkout(&self) -> PathBuf {
        self.folder.path().join("checkout")
    }

    /// A path beside the checkout.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn file(&self, name: &str, text: &str) {
        let path = self.checkout().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Copies a folder of the fixtures into the checkout.
    pub fn fixtures(&self, name: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        copy(&from, &self.checkout());
    }

    /// Begins an attempt; nobody reads its log until [`Attempt::end`].
    pub fn begin(&self, step: &Step, inventory: &str) -> Attempt {
        let run = RunId::parse(ulid(1, rand_of(self.folder.path()))).unwrap();
        let plan = Oid::parse("0".repeat(40)).unwrap();
        let key = AttemptKey { run, plan, mode: Mode::Apply, step: step.id.clone(), attempt: 1 };
        let marker = Marker::new(&key, Fence { incarnation: 1, counter: 1 });
        let (log, chunks) = LogSink::channel(8);
        let (sink, progress) = ProgressSink::channel(1000);
        let (cancel, cancelled) = watch::channel(false);
        let work_folder = tempfile::tempdir().unwrap();
        let context = RunContext {
            marker: marker.clone(),
            log,
            progress: sink,
            cancel: cancelled,
            work_folder: work_folder.path().to_owned(),
        };
        let (config, checkout, step) = (self.config.clone(), self.checkout(), step.clone());
        let inventory = RepoPath::parse(inventory).unwrap();
        let work = tokio::spawn(async move {
            let playbook = Playbook {
                checkout: &checkout,
                inventory: &inventory,
                step: &step,
                mode: Mode::Apply,
                ansible_core: Some("2.0.0"),
            };
            run_playbook(&config, &playbook, context).await
        });
        Attempt { marker, cancel, progress, chunks, work, _work_folder: work_folder }
    }

    pub async fn run(&self, step: &Step) -> Ran {
        self.begin(step, "hosts.yml").end().await
    }
}

impl Attempt {
    /// Reads the log to its end.
    pub async fn end(mut self) -> Ran {
        let (mut log, mut chunks, mut progress) = (String::new(), 0, Vec::new());
        while let Some(LogChunk { chunk, text }) = self.chunks.recv().await {
            assert_eq!(chunk, chunks as u64);
            log.push_str(&text);
            chunks += 1;
        }
        let outcome = self.work.await.unwrap();
        while let Ok(task) = self.progress.try_recv() {
            progress.push(task);
        }
        Ran { outcome, log, chunks, progress }
    }

    /// Waits until a task has ended on some host.
    pub async fn until_done(&mut self, task: &str) {
        let seen = async {
            while let Some(progress) = self.progress.recv().await {
                if progress.task == task {
                    return;
                }
            }
            panic!("it ended before `{task}`");
        };
        tokio::time::timeout(Duration::from_secs(60), seen).await.expect("the task ends within a minute");
    }

    /// Waits until one of its processes has a word among its arguments.
    pub async fn until_runs(&self, word: &[u8]) {
        let seen = async {
            while !self.processes().iter().any(|(_, args)| args.split(|byte| *byte == 0).any(|arg| arg == word)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), seen).await.expect("it runs within a minute");
    }

    /// The process that this one started: its number says nothing, since numbers begin anew at the end of their range.
    pub fn leader(&self) -> i32 {
        let ours = std::process::id().to_string();
        let parent = |pid: i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some(stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned())
        };
        let mut all = self.processes().into_iter().map(|(pid, _)| pid);
        all.find(|pid| parent(*pid).as_ref() == Some(&ours)).expect("it runs")
    }

    /// The processes that carry this attempt's marker: number and arguments.
    pub fn processes(&self) -> Vec<(i32, Vec<u8>)> {
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid: i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
            self.marker.is_in(&environ).then(|| (pid, fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()))
        })
        .collect()
    }
}

/// A step that runs a playbook on some hosts.
pub fn step(playbook: &str, hosts: &[&str]) -> Step {
    Step {
        id: Name::parse("step").unwrap(),
        needs: Vec::new(),
        agent: AgentKind::Infra,
        playbook: RepoPath::parse(playbook).unwrap(),
        tags: Vec::new(),
        limit: hosts.iter().map(|host| Host::parse(*host).unwrap()).collect(),
        vars: BTreeMap::new(),
        found: BTreeMap::new(),
        timeout_secs: 120,
    }
}

/// A step with variables.
pub fn step_with(playbook: &str, vars: &[(&str, Json)]) -> Step {
    let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Step { vars, ..step(playbook, &["one"]) }
}

/// A number that differs between benches: made from the random name of the folder.
fn rand_of(folder: &Path) -> u128 {
    folder.to_str().unwrap().bytes().fold(7, |n: u128, b| n.wrapping_mul(131).wrapping_add(b.into()))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
