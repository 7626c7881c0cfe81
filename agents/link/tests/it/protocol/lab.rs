//! What an order can truly name: a requests repository with an approved plan, and the infra repository that it pins. Each
//! step appends a line to a file of its own name, and lasts for as long as a file `hold` lies beside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use chiffon_schemas::{AttemptKey, Mode, Name, Oid, Order, Plan, RunId, plan_bytes, ulid};
use serde_json::json;
use tempfile::TempDir;

/// The steps of the plan.
pub const STEPS: [&str; 2] = ["first", "second"];

/// The labs of this process so far.
static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Lab {
    folder: TempDir,
    plan: Plan,
    order: Order,
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

/// A repository with these files in one commit.
fn repository(folder: &Path, files: &[(&str, &str)]) {
    if !folder.exists() {
        std::fs::create_dir_all(folder).unwrap();
        git(folder, &["init", "-q"]);
    }
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "-m", "c"]);
}

impl Lab {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (requests, infra) = (folder.path().join("requests"), folder.path().join("infra"));
        let effects = folder.path().join("effects");
        std::fs::create_dir(&effects).unwrap();
        let playbook = |step: &str| {
            let at = effects.display();
            format!(
                "- hosts: all\n  gather_facts: false\n  tasks:\n    - name: one line\n      ansible.builtin.shell: \
                 echo started >> {at}/{step}; while [ -e {at}/hold ]; do sleep 0.05; done\n"
            )
        };
        let inventory = "all: {hosts: {one: {ansible_connection: local}}}\n";
        let [first, second] = STEPS.map(playbook);
        repository(&infra, &[("first.yml", &first), ("second.yml", &second), ("hosts.yml", inventory)]);
        repository(
            &requests,
            &[("requests/lab.yaml", "apiVersion: chiffon/v1\nkind: Request\nspec:\n  text: do it\n")],
        );
        let plan = plan(&requests, &infra);
        let text = String::from_utf8(plan_bytes(&plan)).unwrap();
        repository(&requests, &[("plans/lab.yaml", &text)]);
        let key = AttemptKey {
            // Agents on one machine know the processes of an attempt by its key: no two tests may share one.
            run: RunId::parse(ulid(u64::from(std::process::id()), NEXT.fetch_add(1, Ordering::Relaxed).into()))
                .unwrap(),
            plan: oid(&requests, "HEAD:plans/lab.yaml"),
            mode: Mode::Apply,
            step: Name::parse(STEPS[0]).unwrap(),
            attempt: 1,
        };
        let order = Order {
            key,
            approved_by: oid(&requests, "HEAD"),
            plan_path: chiffon_schemas::RepoPath::parse("plans/lab.yaml").unwrap(),
            infra: plan.spec.infra.clone(),
            step: plan.spec.steps[0].clone(),
        };
        Self { folder, plan, order }
    }

    /// A folder of its own for somebody.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// The order of an attempt at a step.
    pub fn order(&self, step: &str, attempt: u32) -> Order {
        let planned = self.plan.spec.steps.iter().find(|planned| planned.id.as_str() == step).unwrap();
        let key = AttemptKey { step: planned.id.clone(), attempt, ..self.order.key.clone() };
        Order { key, step: planned.clone(), ..self.order.clone() }
    }

    /// How often a step was started.
    pub fn starts(&self, step: &str) -> usize {
        std::fs::read_to_string(self.folder("effects").join(step)).unwrap_or_default().lines().count()
    }

    /// Has work last until [`Lab::release`].
    pub fn hold(&self) {
        std::fs::write(self.folder("effects").join("hold"), "").unwrap();
    }

    pub fn release(&self) {
        std::fs::remove_file(self.folder("effects").join("hold")).unwrap();
    }
}

fn plan(requests: &Path, infra: &Path) -> Plan {
    let steps = STEPS.map(|step| {
        json!({ "id": step, "agent": "infra", "playbook": format!("{step}.yml"), "limit": ["one"], "vars": {},
                "timeout_secs": 300 })
    });
    let reads = ["first.yml", "second.yml", "hosts.yml"].map(|path| (path, oid(infra, &format!("HEAD:{path}"))));
    serde_json::from_value(json!({
        "apiVersion": "chiffon/v1", "kind": "Plan",
        "metadata": { "name": "lab", "revision": 1, "expires": "2026-12-06T09:00:00Z",
            "request": { "path": "requests/lab.yaml", "oid": oid(requests, "HEAD:requests/lab.yaml") } },
        "spec": {
            "summary": "do it", "planner": { "kind": "catalogue", "reason": "r", "cost_microusd": 0 },
            "infra": { "repository": "lab", "commit": oid(infra, "HEAD"), "tree": oid(infra, "HEAD^{tree}"),
                       "inventory": "hosts.yml" },
            "tools": { "ansible_core": "2.19" }, "mode": "apply",
            "reads": std::collections::BTreeMap::from(reads), "steps": steps,
            "risk": { "level": "low", "rules": [] }, "touches": { "hosts": ["one"] },
            "undo": { "kind": "none", "reason": "a test" }
        }
    }))
    .unwrap()
}
