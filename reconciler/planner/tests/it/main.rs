//! The planner from outside: catalogues from small repositories, plans from sentences, golden sentences.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod bodies;
mod git;
mod golden;
mod planning;
mod reading;
mod rendering;

use chiffon_core::catalogue::Catalogue;
use chiffon_planner::{Answer, Input, catalogue, folder, plan};
use chiffon_schemas::{InfraRef, Name, Oid, RepoPath, Request, RequestRef, Timestamp, Tools};

/// A path.
pub fn path(text: &str) -> RepoPath {
    RepoPath::parse(text).unwrap()
}

/// The catalogue of files; the inventory is `hosts.yml` unless there is an `inventory/` folder.
pub fn read(texts: &[(&str, &str)]) -> Catalogue {
    let files = folder::files_from(texts);
    let inventory = if files.is_folder("inventory") { "inventory/" } else { "hosts.yml" };
    let oid = Oid::parse("1".repeat(40)).unwrap();
    let repository = Name::parse("infra").unwrap();
    catalogue::read(&files, InfraRef { repository, commit: oid.clone(), tree: oid, inventory: path(inventory) })
}

/// What the planner says to a request.
pub fn answer(catalogue: &Catalogue, request: &Request) -> Answer {
    let name = Name::parse("a-request").unwrap();
    let input = Input {
        name: &name,
        request,
        request_ref: RequestRef { path: path("requests/a-request.yaml"), oid: Oid::parse("2".repeat(40)).unwrap() },
        revision: 1,
        catalogue,
        offer_days: 14,
        max_timeout_secs: 3_600,
        now: Timestamp::parse("2026-11-22T09:00:00Z").unwrap(),
        tools: Tools { ansible_core: "2.19".to_owned() },
    };
    plan(&input)
}

/// What the planner says to a sentence.
pub fn ask(catalogue: &Catalogue, text: &str) -> Answer {
    answer(catalogue, &Request::from_text(text))
}

/// A small repository of another kind than the sample one: plain tasks, no argument specifications.
pub const SHOP: &[(&str, &str)] = &[
    (
        "hosts.yml",
        "all:\n  children:\n    web:\n      hosts:\n        alpha: {ansible_host: 10.0.0.1}\n        beta:\n    db:\n      hosts:\n        gamma:\n",
    ),
    ("group_vars/db.yml", "db_password: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6161\n"),
    (
        "playbooks/nginx.yml",
        "# The web server of the shop.\n- name: Nginx on the web servers\n  hosts: web\n  become: true\n  vars:\n    nginx_port: 8080\n    nginx_workers: 4\n  tasks:\n    - name: install it\n      apt: name=nginx state=present\n    - name: configuration\n      template: src=nginx.j2 dest=/etc/nginx/nginx.conf\n      notify: restart nginx\n  handlers:\n    - name: restart nginx\n      service: {name: nginx, state: restarted}\n",
    ),
    (
        "playbooks/postgres-deploy.yml",
        "- name: Deploy PostgreSQL\n  hosts: db\n  tasks:\n    - name: set the password of {{ db_password }}\n      command: psql\n      register: outcome\n    - name: grants\n      copy: {content: x, dest: /x}\n      when: outcome.rc == 0\n",
    ),
    (
        "playbooks/postgres-restart.yml",
        "- name: Restart PostgreSQL\n  hosts: db\n  tasks:\n    - service: {name: postgresql, state: restarted}\n",
    ),
];
