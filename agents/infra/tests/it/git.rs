//! S1: the agent recomputes everything from git, and runs exactly the pinned commit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use chiffon_infra::{Ansible, AnsibleConfig, major_minor, probe_version};
use chiffon_runtime::{LogSink, Marker, ProgressSink, RunContext, Work as _};
use chiffon_schemas::{
    AttemptKey, Fence, Json, Mode, Oid, Order, Pin, Plan, RepoPath, RunId, Verdict, plan_bytes, ulid,
};
use serde_json::json;
use tokio::sync::watch;

use crate::ansible::Version;
use crate::bench::Bench;

/// Two repositories with one approved plan.
struct World {
    bench: Bench,
    order: Order,
    plan: Plan,
}

fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "init.defaultBranch=main", "-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(["-c", "commit.gpgsign=false"])
        .args(args)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn oid(folder: &Path, what: &str) -> Oid {
    Oid::parse(git(folder, &["rev-parse", what])).unwrap()
}

fn commit(folder: &Path, files: &[(&str, &str)]) -> Oid {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "--allow-empty", "-m", "c"]);
    oid(folder, "HEAD")
}

fn new_repo(path: PathBuf) -> PathBuf {
    fs::create_dir_all(&path).unwrap();
    git(&path, &["init", "-q"]);
    path
}

/// An object that no repository has.
fn sevens() -> Oid {
    Oid::parse("7".repeat(40)).unwrap()
}

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text).unwrap()
}

impl World {
    fn new() -> Self {
        let mut bench = Bench::new(Version::V219);
        let infra = new_repo(bench.beside("infra"));
        let requests = new_repo(bench.beside("requests"));
        bench.config.infra_repo = infra.join(".git");
        bench.config.requests_repo = requests.join(".git");
        let marker = bench.beside("ran").display().to_string();
        let site = format!(
            "- hosts: all\n  gather_facts: false\n  roles: [site]\n  tasks:\n    - name: append\n      shell: echo {{{{ word }}}} >> {marker}\n"
        );
        let pinned = commit(
            &infra,
            &[
                ("site.yml", &site),
                ("roles/site/tasks/main.yml", "- name: from the role\n  debug: {msg: the reviewed role}\n"),
                (
                    "inventory/hosts.yml",
                    "all: {hosts: {one: {ansible_connection: local}, two: {ansible_connection: local}}}\n",
                ),
            ],
        );
        let request = "apiVersion: chiffon/v1\nkind: Request\nspec:\n  text: run the site\n";
        commit(&requests, &[("requests/site.yaml", request)]);
        let reads: BTreeMap<&str, String> = BTreeMap::from([
            ("site.yml", git(&infra, &["rev-parse", "HEAD:site.yml"])),
            ("roles/site/", git(&infra, &["rev-parse", "HEAD:roles/site"])),
            ("inventory/", git(&infra, &["rev-parse", "HEAD:inventory"])),
            ("host_vars/one.yml", "absent".to_owned()),
        ]);
        let core = probe_version(&bench.config).unwrap();
        let plan: Plan = serde_json::from_value(json!({
            "apiVersion": "chiffon/v1", "kind": "Plan",
            "metadata": { "name": "site", "revision": 1, "expires": "2026-12-06T09:00:00Z",
                "request": { "path": "requests/site.yaml", "oid": oid(&requests, "HEAD:requests/site.yaml") } },
            "spec": {
                "summary": "run the site", "planner": { "kind": "catalogue", "reason": "r", "cost_microusd": 0 },
                "infra": { "repository": "lab", "commit": pinned, "tree": oid(&infra, "HEAD^{tree}"), "inventory": "inventory/hosts.yml" },
                "tools": { "ansible_core": major_minor(&core) }, "mode": "apply", "reads": reads,
                "steps": [{ "id": "site", "agent": "infra", "playbook": "site.yml", "limit": ["one", "two"],
                            "vars": { "word": "reviewed" }, "timeout_secs": 60 }],
                "risk": { "level": "low", "rules": [] }, "touches": { "hosts": ["one", "two"] },
                "undo": { "kind": "none", "reason": "a test" }
            }
        }))
        .unwrap();
        let mut world = Self { order: order(&plan, &pinned), bench, plan };
        world.approve(&world.plan.clone());
        world
    }

    fn requests(&self) -> PathBuf {
        self.bench.beside("requests")
    }

    fn infra(&self) -> PathBuf {
        self.bench.beside("infra")
    }

    /// Puts a plan on `main` and orders what it says.
    fn approve(&mut self, plan: &Plan) {
        let text = String::from_utf8(plan_bytes(plan)).unwrap();
        let approved_by = commit(&self.requests(), &[("plans/site.yaml", &text)]);
        self.order = order(plan, &approved_by);
        self.order.key.plan = oid(&self.requests(), "HEAD:plans/site.yaml");
    }

    /// Puts a plan on a branch that nobody merged, without its request, and orders what it says.
    fn offer(&mut self, plan: &Plan, branch: &str) {
        let requests = self.requests();
        git(&requests, &["checkout", "-q", "--orphan", branch]);
        git(&requests, &["rm", "-rqf", "."]);
        self.approve(plan);
        git(&requests, &["checkout", "-q", "main"]);
    }

    /// The world's plan, in mode `check`.
    fn check_plan(&self) -> Plan {
        let mut plan = self.plan.clone();
        plan.spec.mode = Mode::Check;
        plan
    }

    async fn check(&self) -> Result<(), String> {
        self.agent().check(&self.order).await
    }

    async fn refused(&self, words: &str) {
        let refused = self.check().await.expect_err("it is refused");
        assert!(refused.contains(words), "`{refused}` does not say `{words}`");
        // Nor does it run when the check is left out.
        let (outcome, log) = self.run().await;
        assert_eq!(outcome.verdict, Verdict::Failed);
        assert!(outcome.exit_code.is_none() && log.is_empty() && !self.bench.beside("ran").exists());
    }

    fn agent(&self) -> Ansible {
        let config: AnsibleConfig = self.bench.config.clone();
        Ansible::new(config)
    }

    async fn run(&self) -> (chiffon_schemas::Outcome, String) {
        let (log, mut chunks) = LogSink::channel(1000);
        let (progress, _reader) = ProgressSink::channel(10);
        let (_cancel, cancel) = watch::channel(false);
        let folder = tempfile::tempdir().unwrap();
        let marker = Marker::new(&self.order.key, Fence { incarnation: 1, counter: 1 });
        let context = RunContext { marker, log, progress, cancel, work_folder: folder.path().to_owned() };
        let outcome = self.agent().run(&self.order, context).await;
        let mut text = String::new();
        while let Some(chunk) = chunks.recv().await {
            text.push_str(&chunk.text);
        }
        (outcome, text)
    }
}

fn order(plan: &Plan, approved_by: &Oid) -> Order {
    let step = plan.spec.steps[0].clone();
    // The processes of a run are found by its id: two tests of one would end each other's.
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let number = u128::from(std::process::id()) << 32 | u128::from(RUNS.fetch_add(1, Ordering::Relaxed));
    let run = RunId::parse(ulid(7, number)).unwrap();
    let (plan_oid, mode) = (approved_by.clone(), plan.spec.mode);
    let key = AttemptKey { run, plan: plan_oid, mode, step: step.id.clone(), attempt: 1 };
    let (approved_by, plan_path, infra) = (approved_by.clone(), path("plans/site.yaml"), plan.spec.infra.clone());
    Order { key, approved_by, plan_path, infra, step }
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_what_was_merged_runs_also_when_the_infra_branch_moved_on() {
    let world = World::new();
    commit(
        &world.infra(),
        &[("site.yml", "- hosts: all\n  tasks: [{fail: {}}]\n"), ("host_vars/one.yml", "word: evil\n")],
    );
    commit(&world.requests(), &[("requests/other.yaml", "x\n")]);
    world.check().await.unwrap();
    let (outcome, log) = world.run().await;
    assert_eq!(outcome.verdict, Verdict::Succeeded, "{outcome:#?}\n{log}");
    assert!(log.contains("the reviewed role"));
    assert_eq!(fs::read_to_string(world.bench.beside("ran")).unwrap(), "reviewed\nreviewed\n");
    assert_eq!(outcome.ansible_core.as_deref().map(major_minor), Some(world.plan.spec.tools.ansible_core.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_a_commit_that_is_not_on_main_approves_nothing() {
    let mut world = World::new();
    git(&world.requests(), &["checkout", "-q", "-b", "chiffon/plan/site"]);
    let mut plan = world.plan.clone();
    plan.metadata.revision = 2;
    world.approve(&plan);
    world.refused("is neither `main` nor an ancestor of it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_a_plan_that_the_approving_commit_does_not_hold_is_refused() {
    let mut world = World::new();
    let good = world.order.clone();
    world.order.key.plan = oid(&world.requests(), "HEAD:requests/site.yaml");
    world.refused("does not hold plan").await;
    world.order = good.clone();
    world.order.plan_path = path("plans/other.yaml");
    world.refused("does not hold plan").await;
    world.order = good;
    world.order.approved_by = oid(&world.requests(), "HEAD~1");
    world.refused("does not hold plan").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_every_pin_of_the_plan_must_hold_at_the_pinned_commit() {
    type Change = fn(&mut Plan);
    let changes: [(Change, &str); 7] = [
        (|plan| plan.spec.infra.tree = sevens(), "the plan pins 7777"),
        (|plan| plan.spec.infra.commit = sevens(), "can't read"),
        (|plan| drop(plan.spec.reads.insert(path("site.yml"), Pin::Absent)), "site.yml is"),
        (
            |plan| drop(plan.spec.reads.insert(path("host_vars/one.yml"), Pin::Object(sevens()))),
            "host_vars/one.yml is absent",
        ),
        (|plan| drop(plan.spec.reads.insert(path("roles/site/"), Pin::Object(sevens()))), "roles/site/ is"),
        (|plan| plan.spec.tools.ansible_core = "2.99".to_owned(), "made for ansible-core 2.99"),
        (|plan| plan.metadata.request.oid = sevens(), "is not the request"),
    ];
    for (change, words) in changes {
        let mut world = World::new();
        let mut plan = world.plan.clone();
        change(&mut plan);
        world.approve(&plan);
        world.refused(words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_an_order_that_differs_from_the_merged_plan_is_refused() {
    type Change = fn(&mut Order);
    let changes: [(Change, &str); 6] = [
        (|order| order.step.playbook = path("other.yml"), "`playbook`"),
        (|order| drop(order.step.vars.insert("word".to_owned(), Json::from("evil"))), "`vars`"),
        (|order| order.step.timeout_secs = 61, "`timeout_secs`"),
        (|order| order.step.tags = vec!["x".to_owned()], "`tags`"),
        (|order| order.step.limit.push(chiffon_schemas::Host::parse("zed").unwrap()), "zed"),
        (|order| order.infra.inventory = path("other"), "the plan"),
    ];
    for (change, words) in changes {
        let mut world = World::new();
        change(&mut world.order);
        world.refused(words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n4_a_merged_check_run_changes_nothing() {
    let mut world = World::new();
    world.approve(&world.check_plan());
    let (outcome, log) = world.run().await;
    assert_eq!(outcome.verdict, Verdict::Succeeded, "{outcome:#?}\n{log}");
    assert!(log.contains("the reviewed role"), "{log}");
    let skipped: u32 = outcome.recap.values().map(|host| host.skipped).sum();
    assert_eq!(skipped, 2, "the shell task is skipped on both hosts: {log}");
    assert!(!world.bench.beside("ran").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn n4_a_check_run_that_nobody_merged_is_the_owners_choice_on_the_agent_as_well() {
    let mut world = World::new();
    world.offer(&world.check_plan(), "chiffon/audit");
    world.refused("takes no check runs that nobody merged").await;
    world.bench.config.exempt_check_runs = true;
    world.check().await.unwrap();
    let (outcome, log) = world.run().await;
    assert_eq!(outcome.verdict, Verdict::Succeeded, "{outcome:#?}\n{log}");
    assert!(!world.bench.beside("ran").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn n4_no_plan_but_a_check_is_exempt() {
    let mut world = World::new();
    world.bench.config.exempt_check_runs = true;
    let mut plan = world.plan.clone();
    plan.metadata.revision = 2;
    world.offer(&plan, "chiffon/audit");
    world.refused("is neither `main` nor an ancestor of it").await;
    // Nor does an order pass for a check whose plan is none.
    world.order.key.mode = Mode::Check;
    world.refused("runs only where somebody merged it").await;
    // And where somebody did, the plan's own mode counts.
    let merged = world.plan.clone();
    world.approve(&merged);
    world.order.key.mode = Mode::Check;
    world.refused("the order's mode is not the plan's").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn n4_a_check_run_that_nobody_merged_is_an_offer_of_what_somebody_merged() {
    let exempting = || {
        let mut world = World::new();
        world.bench.config.exempt_check_runs = true;
        world
    };
    let mut world = exempting();
    world.offer(&world.check_plan(), "chiffon/plan/site");
    world.refused("is on neither `main` nor chiffon/audit").await;

    // A request that nobody pushed to `main`; one that was edited since was.
    let mut world = exempting();
    world.offer(&world.check_plan(), "chiffon/audit");
    commit(&world.requests(), &[("requests/site.yaml", "apiVersion: chiffon/v1\nkind: Request\nspec:\n  text: no\n")]);
    world.check().await.unwrap();
    let mut plan = world.check_plan();
    plan.metadata.request.oid = sevens();
    world.offer(&plan, "another");
    git(&world.requests(), &["branch", "-f", "chiffon/audit", "another"]);
    world.refused("is not the request that the plan answers").await;

    type Change = fn(&mut Plan);
    let changes: [Change; 2] = [
        |plan| plan.spec.planner.kind = chiffon_schemas::PlannerKind::Person,
        |plan| plan.spec.risk.rules = vec!["escapes-check-mode".to_owned()],
    ];
    for change in changes {
        let mut world = exempting();
        let mut plan = world.check_plan();
        change(&mut plan);
        world.offer(&plan, "chiffon/audit");
        world.refused("runs only where somebody merged it").await;
    }

    let mut world = exempting();
    git(&world.infra(), &["checkout", "-q", "-b", "unmerged"]);
    let mut plan = world.check_plan();
    plan.spec.infra.commit = commit(&world.infra(), &[]);
    world.offer(&plan, "chiffon/audit");
    world.refused("is not on the branch `main`").await;
}
