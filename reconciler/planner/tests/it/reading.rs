use chiffon_core::catalogue::{Delegate, VarKind};
use chiffon_schemas::{Json, Pin};

use crate::{SHOP, path, read};

#[test]
fn plain_playbooks_are_read_with_hosts_tasks_variables_and_secrets() {
    let catalogue = read(SHOP);
    let names: Vec<&str> = catalogue.entries.iter().map(|entry| entry.playbook.as_str()).collect();
    assert_eq!(names, ["playbooks/nginx.yml", "playbooks/postgres-deploy.yml", "playbooks/postgres-restart.yml"]);
    let nginx = &catalogue.entries[0];
    let hosts: Vec<&str> = nginx.hosts().into_iter().map(|host| host.as_str()).collect();
    assert_eq!(hosts, ["alpha", "beta"]);
    assert_eq!(nginx.variables["nginx_port"].kind, VarKind::Int);
    assert_eq!(nginx.ports, ["8080/tcp"]);
    assert_eq!(nginx.services, ["nginx"]);
    assert_eq!(nginx.description, "The web server of the shop.");
    let task = &nginx.plays[0].tasks[0];
    assert_eq!((task.module.as_str(), task.becomes, &task.args["name"]), ("apt", true, &Json::from("nginx")));
    assert_eq!(nginx.plays[0].handlers.len(), 1);
    let postgres = &catalogue.entries[1];
    assert_eq!(postgres.secrets, ["db_password"]);
    let opaque: Vec<Option<&str>> = postgres.tasks().map(|task| task.opaque.as_deref()).collect();
    assert_eq!(opaque, [Some("command"), Some("waits for what `set the password of {{ db_password }}` finds")]);
    assert_eq!(postgres.reads[&path("playbooks/host_vars")], Pin::Absent);
    assert!(catalogue.findings.is_empty(), "{:?}", catalogue.findings);
    assert_eq!(catalogue.inventory.hosts.values().next().unwrap().address.as_deref(), Some("10.0.0.1"));
}

fn one(playbook: &str, more: &[(&str, &str)]) -> chiffon_core::catalogue::Catalogue {
    let mut texts = vec![("hosts.yml", "all:\n  hosts:\n    a:\n    b:\n    c:\n"), ("playbooks/x.yml", playbook)];
    texts.extend(more);
    read(&texts)
}

#[test]
fn blocks_hand_down_what_they_say_and_delegation_is_seen() {
    let catalogue = one(
        "- hosts: all\n  tasks:\n    - block:\n        - ansible.builtin.copy: {src: a, dest: b}\n        - file: path=/x state=absent\n          delegate_to: b\n        - debug:\n          delegate_to: '{{ other }}'\n      become: true\n      tags: [t]\n      check_mode: false\n      rescue:\n        - local_action: command true\n",
        &[],
    );
    let tasks: Vec<_> = catalogue.entries[0].tasks().collect();
    assert_eq!(tasks.len(), 4);
    assert!(tasks.iter().all(|task| task.becomes && task.escapes_check && task.tags.contains("t")));
    assert_eq!(tasks[0].module, "copy");
    assert_eq!(tasks[1].delegate, Delegate::To("b".to_owned()));
    assert_eq!(tasks[2].delegate, Delegate::Dynamic("{{ other }}".to_owned()));
    assert_eq!(tasks[3].delegate, Delegate::To("localhost".to_owned()));
    assert_eq!(tasks[3].opaque.as_deref(), Some("command"));
}

#[test]
fn roles_are_read_through_includes_dependencies_and_specifications() {
    let catalogue = one(
        "- hosts: a\n  roles:\n    - role: web\n",
        &[
            ("roles/web/tasks/main.yml", "- import_tasks: more.yml\n"),
            (
                "roles/web/tasks/more.yml",
                "- name: say\n  debug: {msg: x}\n- include_role: {name: helper}\n  vars: {given: 1}\n",
            ),
            ("roles/web/meta/main.yml", "dependencies: [base]\n"),
            (
                "roles/web/meta/argument_specs.yml",
                "argument_specs:\n  main:\n    options:\n      web_mode: {type: str, choices: [fast, slow], default: fast}\n      web_sites: {type: list, elements: dict, required: true, options: {name: {required: true}, url: {}}}\n",
            ),
            ("roles/base/tasks/main.yml", "- ping:\n"),
            ("roles/helper/tasks/main.yml", "- stat: {path: /}\n"),
            (
                "roles/helper/meta/argument_specs.yml",
                "argument_specs: {main: {options: {given: {type: int, required: true}}}}\n",
            ),
        ],
    );
    let entry = &catalogue.entries[0];
    let names: Vec<&str> = entry.tasks().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["base : ping", "web : say", "helper : stat"]);
    let variables: Vec<&str> = entry.variables.keys().map(String::as_str).collect();
    assert_eq!(variables, ["web_mode", "web_sites"]);
    assert!(entry.variables["web_sites"].required);
    assert!(matches!(&entry.variables["web_mode"].kind, VarKind::Choice(choices) if choices.len() == 2));
    for role in ["roles/web/", "roles/base/", "roles/helper/"] {
        assert!(entry.reads.contains_key(&path(role)), "{role}");
    }
    assert_eq!(entry.unreadable, None);
}

#[test]
fn s6_what_escapes_or_is_missing_makes_an_entry_unreadable_and_leaves_the_others() {
    let good = ("playbooks/good.yml", "- hosts: a\n  tasks: [{ping: }]\n");
    for (bad, reason) in [
        ("- hosts: a\n  tasks:\n    - include_tasks: ../../../etc/passwd.yml\n", "leaves the repository"),
        ("- hosts: a\n  tasks:\n    - import_tasks: nowhere.yml\n", "is not there"),
        ("- hosts: a\n  roles: [geerlingguy.docker]\n", "is not in this repository"),
        ("- import_playbook: ../../other.yml\n", "is not in this repository"),
        ("- hosts: '{{ target }}'\n  tasks: [{ping: }]\n", "only a run can work out"),
        ("- hosts: a\n  vars_prompt: [{name: x}]\n", "asks for variables"),
        ("- import_playbook: x.yml\n", "imports itself"),
    ] {
        let catalogue = one(bad, &[good]);
        let entry = catalogue.entry(&path("playbooks/x.yml")).unwrap();
        assert!(entry.unreadable.as_ref().is_some_and(|why| why.contains(reason)), "{bad}: {:?}", entry.unreadable);
        assert_eq!(catalogue.entry(&path("playbooks/good.yml")).unwrap().unreadable, None);
    }
}

#[test]
fn s6_broken_yaml_is_a_finding_and_links_are_followed_as_data() {
    let texts = [
        ("hosts.yml", "all: {hosts: {a: }}\n"),
        ("playbooks/bad.yml", "- hosts: [\n"),
        ("playbooks/good.yml", "- hosts: a\n  tasks: [{ping: }]\n"),
        ("playbooks/alias.yml@", "good.yml"),
        ("playbooks/out.yml@", "../../secret.yml"),
        ("playbooks/loop.yml@", "loop.yml"),
    ];
    let catalogue = read(&texts);
    assert_eq!(catalogue.entries.len(), 1);
    assert_eq!(catalogue.entries[0].aliases, [path("playbooks/alias.yml")]);
    let at: Vec<&str> = catalogue.findings.iter().map(|finding| finding.at.path.as_str()).collect();
    assert_eq!(at, ["playbooks/bad.yml", "playbooks/loop.yml", "playbooks/out.yml"]);
}

#[test]
fn an_include_that_only_a_run_can_work_out_pins_everything() {
    let catalogue = one("- hosts: a\n  tasks:\n    - include_tasks: '{{ os }}.yml'\n", &[("other/file.txt", "x")]);
    let entry = &catalogue.entries[0];
    assert!(entry.reads.contains_key(&path("other/")) && entry.reads.contains_key(&path("playbooks/")));
    assert!(entry.tasks().next().unwrap().opaque.as_ref().unwrap().contains("only a run can work out"));
}

#[test]
fn host_patterns_are_put_together_as_ansible_does() {
    for (pattern, expected) in [
        ("all", vec!["a", "b", "c"]),
        ("a:b", vec!["a", "b"]),
        ("all:!b", vec!["a", "c"]),
        ("all:&b", vec!["b"]),
        ("[a, c]", vec!["a", "c"]),
        ("'*'", vec!["a", "b", "c"]),
        ("nobody", vec![]),
        ("localhost", vec!["localhost"]),
    ] {
        let catalogue = one(&format!("- hosts: {pattern}\n  tasks: [{{ping: }}]\n"), &[]);
        let hosts: Vec<&str> = catalogue.entries[0].hosts().into_iter().map(|host| host.as_str()).collect();
        assert_eq!(hosts, expected, "{pattern}");
    }
}

#[test]
fn inventories_of_several_files_are_one_and_plugins_are_refused() {
    let catalogue = read(&[
        ("inventory/one.ini", "[web]\nweb[01:02]\n"),
        ("inventory/two.yml", "all: {children: {db: {hosts: {db1: }}}}\n"),
        ("inventory/cloud.yml", "plugin: amazon.aws.aws_ec2\n"),
        ("inventory/notes.md", "x"),
    ]);
    let hosts: Vec<&str> = catalogue.inventory.hosts.keys().map(|host| host.as_str()).collect();
    assert_eq!(hosts, ["db1", "web01", "web02"]);
    assert_eq!(catalogue.findings.len(), 1);
    assert!(catalogue.findings[0].message.contains("plugin"));
}

#[test]
fn required_variables_that_the_inventory_sets_on_every_host_are_not_required() {
    let spec = "argument_specs: {main: {options: {x_key: {required: true}}}}\n";
    let role = [("roles/x/tasks/main.yml", "- ping:\n"), ("roles/x/meta/argument_specs.yml", spec)];
    let playbook = "- hosts: a,b\n  roles: [x]\n";
    let required = |more: &[(&str, &str)]| {
        let all: Vec<(&str, &str)> = role.iter().chain(more).copied().collect();
        one(playbook, &all).entries[0].variables["x_key"].required
    };
    assert!(required(&[]));
    assert!(required(&[("host_vars/a.yml", "x_key: 1\n")]));
    assert!(!required(&[("host_vars/a.yml", "x_key: 1\n"), ("host_vars/b/main.yml", "x_key: 1\n")]));
    assert!(!required(&[("group_vars/all.yml", "x_key: 1\n")]));
}

#[test]
fn portals_are_found_once_each_with_the_nicest_name() {
    let catalogue = one(
        "- hosts: a\n  tasks: [{ping: }]\n",
        &[
            ("proxy/Caddyfile", "photos.lab.example {\n}\n"),
            ("dash/services.yaml", "- Media:\n    - Photo Album:\n        href: https://photos.lab.example/\n"),
            (
                "compose/compose.yml",
                "services:\n  wiki:\n    labels:\n      - traefik.http.routers.w.rule=Host(`wiki.lab.example`)\n",
            ),
        ],
    );
    let portals: Vec<_> =
        catalogue.portals.iter().map(|p| (p.name.as_str(), p.url.as_str(), p.sources.len())).collect();
    assert_eq!(portals, [("Photo Album", "https://photos.lab.example", 2), ("Wiki", "https://wiki.lab.example", 1)]);
}

/// What a playbook has of code that runs for real in a check run, by the rules that say so.
fn rules(playbook: &str, more: &[(&str, &str)]) -> Vec<String> {
    let catalogue = one(playbook, more);
    let entry = &catalogue.entries[0];
    assert_eq!(entry.unreadable, None);
    let step = chiffon_schemas::Step {
        id: chiffon_schemas::Name::parse("x").unwrap(),
        needs: Vec::new(),
        agent: chiffon_schemas::AgentKind::Infra,
        playbook: entry.playbook.clone(),
        tags: Vec::new(),
        limit: entry.hosts().into_iter().take(1).cloned().collect(),
        vars: std::collections::BTreeMap::new(),
        found: std::collections::BTreeMap::new(),
        timeout_secs: 1,
    };
    let risk = chiffon_core::risk::assess(&[(entry, &step)], &catalogue);
    let in_checks = ["escapes-check-mode", "own-plugins", "unknown-include", "uses-lookups"];
    risk.rules.into_iter().filter(|rule| in_checks.contains(&rule.as_str())).collect()
}

/// Each of these ran for real under `--check`, with ansible-core 2.14 and 2.19.
#[test]
fn n4_whatever_runs_for_real_in_a_check_is_found() {
    let task = "- copy: {src: a, dest: b}\n";
    let play = |tasks: &str| format!("- hosts: all\n  tasks:\n    - {tasks}\n");
    let escapes = ["escapes-check-mode"];
    assert_eq!(rules(&play("copy: {src: a, dest: b}"), &[]), [""; 0]);
    assert_eq!(rules(&play("copy: {src: a, dest: b}\n      check_mode: false"), &[]), escapes);
    let included = [("playbooks/y.yml", task)];
    for include in [
        "include_tasks: {file: y.yml, apply: {check_mode: false}}",
        "ansible.builtin.include_tasks: y.yml\n      args: {apply: {check_mode: no}}",
        "import_tasks: y.yml\n      check_mode: '{{ not ansible_check_mode }}'",
    ] {
        assert_eq!(rules(&play(include), &included), escapes, "{include}");
    }
    let role = [("roles/r/tasks/main.yml", task)];
    let include = "include_role: {name: r, apply: {check_mode: false}}";
    assert_eq!(rules(&play(include), &role), escapes);
    let dependent = [
        ("roles/r/tasks/main.yml", task),
        ("roles/s/tasks/main.yml", task),
        ("roles/s/meta/main.yml", "dependencies: [{role: r, check_mode: false}]\n"),
    ];
    assert_eq!(rules("- hosts: all\n  roles: [s]\n", &dependent), escapes);
    for lookup in [
        "copy: {content: \"{{ lookup('pipe', 'date') }}\", dest: b}",
        "copy: {src: a, dest: b}\n      when: query('lines', 'x') is defined",
        "copy: {src: '{{ item }}', dest: b}\n      with_lines: [date]",
    ] {
        assert_eq!(rules(&play(lookup), &[]), ["uses-lookups"], "{lookup}");
    }
    assert_eq!(rules(&play("copy: {src: '{{ item }}', dest: b}\n      with_items: [a]"), &[]), [""; 0]);
    for lookup in ["with_pipe: [date]", "loop: \"{{ query('pipe', 'date') }}\"", "vars: {a: \"{{ q('lines', 'x') }}\"}"]
    {
        let include = play(&format!("include_tasks: y.yml\n      {lookup}"));
        assert_eq!(rules(&include, &included), ["uses-lookups"], "{lookup}");
    }
    let pipe = "{{-lookup('pipe', 'date') }}";
    let parameter = format!("- hosts: all\n  roles: [{{role: r, word: \"{pipe}\"}}]\n");
    assert_eq!(rules(&parameter, &role), ["uses-lookups"]);
    let become_with = format!("- hosts: all\n  vars: {{ansible_become_password: \"{pipe}\"}}\n  roles: [r]\n");
    assert_eq!(rules(&become_with, &role), ["uses-lookups"]);
    for at in ["roles/r/vars/main.yml", "roles/r/templates/x.j2", "playbooks/group_vars/all.yml"] {
        let files = [("roles/r/tasks/main.yml", task), (at, pipe)];
        assert_eq!(rules("- hosts: all\n  roles: [r]\n", &files), ["uses-lookups"], "{at}");
    }
    let defaults =
        [("roles/r/tasks/main.yml", task), ("roles/r/defaults/main.yml", "word: \"{{ lookup('pipe', 'date') }}\"\n")];
    assert_eq!(rules("- hosts: all\n  roles: [r]\n", &defaults), ["uses-lookups"]);
    for folder in
        ["library", "playbooks/action_plugins", "roles/r/filter_plugins", "collections/ansible_collections/a/b"]
    {
        let plugin = format!("{folder}/x.py");
        let files = [("roles/r/tasks/main.yml", task), (plugin.as_str(), "")];
        assert_eq!(rules("- hosts: all\n  roles: [r]\n", &files), ["own-plugins"], "{folder}");
    }
}
