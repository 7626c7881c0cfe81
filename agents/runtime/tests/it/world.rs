//! An agent with a work that counts its starts, and the reconciler's end of the link in the hands of the test.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chiffon_link::{Hub, Limits, LocalHub};
use chiffon_runtime::{Agent, Error, RunContext, Settings, Shutdown, Work};
use chiffon_schemas::{
    AgentKind, AgentMessage, AttemptKey, BootId, Fence, FromAgent, Grant, Host, LogDigest, Name, Oid, Order, Outcome,
    RepoPath, Report, ReportBody, Timestamp, ToAgent, Verdict, ulid,
};
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn order(key: AttemptKey) -> Order {
    Order {
        approved_by: Oid::parse("b".repeat(40)).unwrap(),
        plan_path: RepoPath::parse("plans/kuma.yaml").unwrap(),
        infra: serde_json::from_value(json!({
            "repository": "infra", "commit": "c".repeat(40), "tree": "d".repeat(40), "inventory": "hosts.ini",
        }))
        .unwrap(),
        step: serde_json::from_value(json!({
            "id": key.step, "agent": "infra", "playbook": "site.yml", "limit": ["nas01"], "vars": {}, "timeout_secs": 60,
        }))
        .unwrap(),
        key,
    }
}

pub fn boot(number: u64) -> BootId {
    BootId::parse(ulid(number, 7)).unwrap()
}

pub fn fence(counter: u64) -> Fence {
    Fence { incarnation: 1, counter }
}

/// What the work does with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Writes a line and succeeds.
    AtOnce,
    /// Waits until it is let go or cancelled.
    UntilLetGo,
    /// Writes 64 KiB again and again until it is cancelled.
    Talking,
    /// Panics.
    Failing,
}

/// A work that counts how often it starts each attempt.
pub struct Counting {
    pub doing: Mutex<Doing>,
    /// By attempt, over all lives.
    pub starts: Mutex<HashMap<AttemptKey, Vec<String>>>,
    pub running: AtomicUsize,
    pub most: AtomicUsize,
    pub written: AtomicU64,
    pub go: Semaphore,
    /// Checks wait for a permit of this.
    pub checks: Semaphore,
    pub refuse: Mutex<Option<String>>,
}

impl Counting {
    pub fn new(doing: Doing) -> Arc<Self> {
        Arc::new(Self {
            doing: Mutex::new(doing),
            starts: Mutex::default(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            go: Semaphore::new(0),
            checks: Semaphore::new(1_000_000),
            refuse: Mutex::default(),
        })
    }

    pub fn starts_of(&self, key: &AttemptKey) -> usize {
        self.starts.lock().unwrap().get(key).map_or(0, Vec::len)
    }
}

#[async_trait::async_trait]
impl Work for Counting {
    fn kind(&self) -> AgentKind {
        AgentKind::Infra
    }

    fn ansible_core(&self) -> Option<String> {
        Some("2.19.14".to_owned())
    }

    async fn check(&self, _: &Order) -> Result<(), String> {
        self.checks.acquire().await.unwrap().forget();
        self.refuse.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    async fn run(&self, order: &Order, mut run: RunContext) -> Outcome {
        assert!(run.work_folder.is_dir());
        self.starts.lock().unwrap().entry(order.key.clone()).or_default().push(run.marker.env_value().to_owned());
        let doing = *self.doing.lock().unwrap();
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let mut verdict = Verdict::Succeeded;
        match doing {
            Doing::AtOnce => {
                run.log.write("PLAY RECAP\n".to_owned()).await;
                run.progress.task(Host::parse("nas01").unwrap(), "kuma : start".to_owned(), "ok".to_owned());
            }
            Doing::UntilLetGo => tokio::select! {
                permit = self.go.acquire() => permit.unwrap().forget(),
                () = run.cancelled() => verdict = Verdict::Cancelled,
            },
            Doing::Talking => {
                while !*run.cancel.borrow() {
                    run.log.write("x".repeat(64 * 1024)).await;
                    self.written.fetch_add(64 * 1024, Ordering::SeqCst);
                }
                verdict = Verdict::Cancelled;
            }
            Doing::Failing => {
                self.running.fetch_sub(1, Ordering::SeqCst);
                panic!("as the test wants it");
            }
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        Outcome {
            verdict,
            reason: None,
            exit_code: Some(0),
            recap: BTreeMap::new(),
            changed: Vec::new(),
            failure: None,
            finished: Vec::new(),
            interrupted: Vec::new(),
            duration_ms: 1,
            usage: None,
            log: LogDigest::default(),
            ansible_core: None,
            suggestions: Vec::new(),
        }
    }
}

fn lives() -> u64 {
    static LIVES: AtomicU64 = AtomicU64::new(0);
    LIVES.fetch_add(1, Ordering::SeqCst)
}

/// The agent's task, and how to tell it to stop.
type Life = (JoinHandle<Result<(), Error>>, watch::Sender<Shutdown>);

/// One agent on one bus.
pub struct World {
    pub hub: LocalHub,
    _folder: tempfile::TempDir,
    pub work: Arc<Counting>,
    pub settings: Settings,
    agent: Option<Life>,
    /// What was heard and not yet expected.
    pub heard: Vec<AgentMessage>,
    /// The life that spoke last.
    pub boot: BootId,
    /// All reports ever heard, repeats included.
    pub reports: Vec<Report>,
}

impl World {
    pub fn new(doing: Doing) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(Name::parse("infra").unwrap(), boot(1), folder.path().join("journal"));
        // Never by time, unless a test asks for it.
        (settings.heartbeat, settings.replay_after) = (PATIENCE * 10, PATIENCE * 10);
        settings.retry = Duration::from_millis(5);
        let hub = LocalHub::new(Limits { queue: 64, blocked_after: Duration::from_millis(50) }).unwrap();
        let work = Counting::new(doing);
        let boot = settings.boot.clone();
        Self { hub, _folder: folder, work, settings, agent: None, heard: Vec::new(), boot, reports: Vec::new() }
    }

    /// The file of the only attempt's reports.
    pub fn spool(&self) -> std::path::PathBuf {
        std::fs::read_dir(self.settings.journal.join("spool")).unwrap().next().unwrap().unwrap().path()
    }

    /// A new life of the agent, which says hello.
    pub async fn start(&mut self) -> chiffon_schemas::Hello {
        let link = Arc::new(self.hub.attach(&self.settings.agent));
        let (shutdown, told) = watch::channel(Shutdown::No);
        let agent = Agent::new(self.settings.clone(), link, self.work.clone());
        self.agent = Some((tokio::spawn(agent.run(told)), shutdown));
        self.heard.clear();
        loop {
            let FromAgent { boot, message, .. } = self.receive().await;
            match message {
                AgentMessage::Hello(hello) if boot == self.settings.boot => return hello,
                _ => {}
            }
        }
    }

    /// Ends the agent as a crash would: nothing more of it runs, and it says nothing.
    pub async fn kill(&mut self) {
        let (agent, _shutdown) = self.agent.take().unwrap();
        agent.abort();
        let _ = agent.await;
        self.settings.boot = boot(2 + lives());
        let journal = self.settings.journal.clone();
        // A write that was under way may hold the journal for a moment longer.
        super::process::until("the journal is free", || {
            !matches!(chiffon_runtime::Journal::open(&journal), Err(Error::InUse { .. }))
        })
        .await;
    }

    /// Tells the agent to stop, and waits until it has.
    pub async fn stop(&mut self) -> Result<(), Error> {
        let (agent, shutdown) = self.agent.take().unwrap();
        shutdown.send_replace(Shutdown::Cancel);
        tokio::time::timeout(PATIENCE, agent).await.unwrap().unwrap()
    }

    pub async fn send(&self, message: ToAgent) {
        self.hub.send(&self.settings.agent, &message).await.unwrap();
    }

    pub async fn order(&self, key: &AttemptKey) {
        self.send(ToAgent::Order(Box::new(order(key.clone())))).await;
    }

    pub async fn grant(&self, key: &AttemptKey, counter: u64) {
        self.grant_for(key, fence(counter), self.settings.boot.clone()).await;
    }

    pub async fn grant_for(&self, key: &AttemptKey, fence: Fence, boot: BootId) {
        self.grant_of(order(key.clone()).digest(), key, fence, boot).await;
    }

    pub async fn grant_of(&self, order: String, key: &AttemptKey, fence: Fence, boot: BootId) {
        let grant = Grant { key: key.clone(), boot, fence, order, at: Timestamp::from_secs(0) };
        self.send(ToAgent::Grant(grant)).await;
    }

    async fn receive(&mut self) -> FromAgent {
        let delivery = tokio::time::timeout(PATIENCE, self.hub.receive()).await;
        let delivery = delivery.unwrap_or_else(|_| panic!("nothing more was heard after {:#?}", self.heard)).unwrap();
        let message = delivery.message.clone();
        delivery.ack().await.unwrap();
        self.boot = message.boot.clone();
        if let AgentMessage::Report(report) = &message.message {
            self.reports.push(report.clone());
        }
        message
    }

    /// Waits for a message; others are kept.
    pub async fn expect<T>(&mut self, mut wanted: impl FnMut(&AgentMessage) -> Option<T>) -> T {
        if let Some(at) = self.heard.iter().position(|message| wanted(message).is_some()) {
            return wanted(&self.heard.remove(at)).unwrap();
        }
        loop {
            let message = self.receive().await.message;
            match wanted(&message) {
                Some(found) => return found,
                None => self.heard.push(message),
            }
        }
    }

    pub async fn claim(&mut self, wanted: &AttemptKey) {
        self.expect(|message| matches!(message, AgentMessage::Claim { key } if key == wanted).then_some(())).await;
    }

    pub async fn decline(&mut self, wanted: &AttemptKey) -> String {
        self.expect(|message| match message {
            AgentMessage::Decline { key, reason, .. } if key == wanted => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    pub async fn started(&mut self, wanted: &AttemptKey) {
        self.expect(|message| match message {
            AgentMessage::Report(Report { key, body: ReportBody::Started {}, .. }) if key == wanted => Some(()),
            _ => None,
        })
        .await;
    }

    /// Waits for the last report, and does not confirm it.
    pub async fn over(&mut self, wanted: &AttemptKey) -> (Report, Outcome) {
        self.expect(|message| match message {
            AgentMessage::Report(report) if report.key == *wanted => match &report.body {
                ReportBody::Over(outcome) => Some((report.clone(), (**outcome).clone())),
                _ => None,
            },
            _ => None,
        })
        .await
    }

    /// Waits until everything that was sent before is handled: a message about no known attempt is answered last.
    pub async fn settled(&mut self) {
        let mut nobody = super::process::key(u32::MAX);
        nobody.attempt = u32::MAX;
        self.send(ToAgent::Cancel { key: nobody.clone() }).await;
        self.decline(&nobody).await;
    }

    /// An order up to its start.
    pub async fn begin(&mut self, key: &AttemptKey, counter: u64) {
        self.order(key).await;
        self.claim(key).await;
        self.grant(key, counter).await;
        self.started(key).await;
    }
}
