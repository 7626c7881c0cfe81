use std::path::Path;
use std::process::Command;

use chiffon_planner::read_catalogue;
use chiffon_requests::Repo;
use chiffon_schemas::{Name, Oid, Pin};

use crate::golden::{fixture, homelab};
use crate::path;

fn git(folder: &Path, work_tree: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@chiffon.test", "-c", "core.hooksPath=/dev/null"])
        .arg(format!("--git-dir={}", folder.display()))
        .arg(format!("--work-tree={}", work_tree.display()))
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_commit_is_read_as_its_folder_is_and_folders_are_pinned_by_their_trees() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, tree) = (temporary.path().join("infra.git"), fixture());
    git(&folder, &tree, &["init", "-q", "--initial-branch=main"]);
    git(&folder, &tree, &["add", "-A", "--force"]);
    git(&folder, &tree, &["commit", "-q", "-m", "infra"]);
    let commit = Oid::parse(git(&folder, &tree, &["rev-parse", "HEAD"])).unwrap();
    let repo = Repo::open(&folder).unwrap();
    let repository = Name::parse("infra").unwrap();
    let from_git = read_catalogue(&repo, &commit, &repository, &path("inventory/hosts.yml")).unwrap();
    let from_folder = homelab();
    assert_eq!(from_git.portals, from_folder.portals);
    assert_eq!(from_git.inventory, from_folder.inventory);
    assert_eq!(from_git.findings, from_folder.findings);
    for (a, b) in from_git.entries.iter().zip(&from_folder.entries) {
        assert_eq!(
            (&a.playbook, &a.plays, &a.variables, &a.secrets),
            (&b.playbook, &b.plays, &b.variables, &b.secrets)
        );
        assert!(a.reads.keys().eq(b.reads.keys()));
    }
    let kuma = from_git.entry(&path("playbooks/kuma-deployment.yml")).unwrap();
    let role = Oid::parse(git(&folder, &tree, &["rev-parse", "HEAD:roles/uptime_kuma"])).unwrap();
    assert_eq!(kuma.reads[&path("roles/uptime_kuma/")], Pin::Object(role));
    assert_eq!(from_git.infra.tree.as_str(), git(&folder, &tree, &["rev-parse", "HEAD^{tree}"]));
}
