//! Infra repositories for tests: a small one, quick to run, and the sample homelab.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::root;

/// A small infra repository with a work tree: `journal` writes a line to a file on `alpha`, `gazette` on `beta`,
/// `slow` waits on `alpha` until a file appears, `faulty` fails on `beta` until a file appears.
#[derive(Debug)]
pub struct Infra {
    /// Its work tree.
    pub folder: PathBuf,
    /// Where its playbooks write.
    pub effects: PathBuf,
}

const HOSTS: &str = "all:
  vars:
    ansible_connection: local
    ansible_remote_tmp: TMP
    ansible_python_interpreter: \"{{ ansible_playbook_python }}\"
  children:
    lab: {hosts: {alpha: {}, beta: {}}}
    journal: {hosts: {alpha: {}}}
    gazette: {hosts: {beta: {}}}
    slow: {hosts: {alpha: {}}}
    faulty: {hosts: {alpha: {}, beta: {}}}
";

impl Infra {
    /// Makes it under `folder`.
    pub fn new(folder: &Path) -> Self {
        let infra = Self { folder: folder.join("infra"), effects: folder.join("effects") };
        fs::create_dir_all(infra.folder.join("playbooks")).unwrap();
        fs::create_dir_all(infra.folder.join("inventory")).unwrap();
        fs::create_dir_all(&infra.effects).unwrap();
        infra.write("inventory/hosts.yml", &HOSTS.replace("TMP", folder.join("ansible-tmp").to_str().unwrap()));
        infra.write("playbooks/journal-deployment.yml", &infra.line("journal", "Deploy the journal", "journal"));
        infra.write("playbooks/gazette-deployment.yml", &infra.line("gazette", "Deploy the gazette", "gazette"));
        infra.write("playbooks/slow-deployment.yml", &infra.slow());
        infra.write("playbooks/faulty-deployment.yml", &infra.faulty());
        infra.git(&["init", "--quiet", "--initial-branch=main"]);
        infra.commit("start");
        infra
    }

    fn line(&self, group: &str, name: &str, file: &str) -> String {
        let path = self.effects.join(file);
        format!(
            "- name: {name}\n  hosts: {group}\n  gather_facts: false\n  tasks:\n    - name: write a line\n      ansible.builtin.shell: echo {{{{ inventory_hostname }}}} >> {}\n",
            path.display()
        )
    }

    fn slow(&self) -> String {
        // It ends with its test's folder, so that nothing of a test that died stays behind.
        format!(
            "- name: Deploy the slow one\n  hosts: slow\n  gather_facts: false\n  tasks:\n    - name: begin\n      ansible.builtin.shell: echo begun >> {0}\n    - name: wait for the gate\n      ansible.builtin.shell: \"echo $$ > {0}.pid; while [ ! -e {1}/gate ] && [ -d {1} ]; do sleep 0.1; done\"\n",
            self.effects.join("slow").display(),
            self.effects.display()
        )
    }

    fn faulty(&self) -> String {
        let (done, mended) = (self.effects.join("faulty"), self.effects.join("mended"));
        format!(
            "- name: Deploy the faulty one\n  hosts: faulty\n  gather_facts: false\n  tasks:\n    - name: write a line\n      ansible.builtin.shell: echo {{{{ inventory_hostname }}}} >> {}\n    - name: need a mended part\n      ansible.builtin.stat:\n        path: {}\n      register: part\n      failed_when: inventory_hostname == 'beta' and not part.stat.exists\n",
            done.display(),
            mended.display()
        )
    }

    /// Writes a file of the work tree.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Commits everything.
    pub fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
    }

    /// Runs git in the work tree.
    pub fn git(&self, arguments: &[&str]) -> String {
        git(&self.folder, arguments)
    }

    /// Lets `slow` come to its end.
    pub fn open_gate(&self) {
        fs::write(self.effects.join("gate"), "").unwrap();
    }

    /// Whether the task that waits for the gate is alive.
    pub fn slow_is_alive(&self) -> bool {
        is_alive(&self.effects.join("slow.pid"))
    }

    /// The lines that playbooks wrote to a file of `effects`.
    pub fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.effects.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Whether the process whose number a file holds is there and no zombie.
pub fn is_alive(file: &Path) -> bool {
    let Ok(pid) = fs::read_to_string(file) else { return false };
    let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", pid.trim())) else { return false };
    // The state follows the name, which may hold anything, in brackets.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// A copy of the sample homelab whose hosts live under `<folder>/hosts`; gives its work tree.
pub fn homelab(folder: &Path) -> PathBuf {
    let copy = folder.join("homelab-infra");
    let status = Command::new("cp").arg("-R").arg(root().join("tests/fixtures/homelab-infra")).arg(&copy).status();
    assert!(status.unwrap().success());
    let tmp = folder.join("ansible-tmp");
    let text = format!("homelab_root: {}\nansible_remote_tmp: {}\n", folder.join("hosts").display(), tmp.display());
    fs::write(copy.join("inventory/group_vars/all/root.yml"), text).unwrap();
    git(&copy, &["init", "--quiet", "--initial-branch=main"]);
    git(&copy, &["add", "--all"]);
    git(&copy, &["commit", "--quiet", "--message", "the homelab as it is"]);
    copy
}

/// Runs git with nobody's configuration, and expects it to succeed.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = person_git(folder, arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A person's git, without this machine's configuration.
pub(crate) fn person_git(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments);
    for (name, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "Pat"),
        ("GIT_AUTHOR_EMAIL", "pat@localhost"),
        ("GIT_COMMITTER_NAME", "Pat"),
        ("GIT_COMMITTER_EMAIL", "pat@localhost"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ] {
        command.env(name, value);
    }
    command
}
