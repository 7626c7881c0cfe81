//! The commands that look at folders and files: `init`, `doctor`, `validate`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chiffon_tests::{Bed, Said, ansible_playbook};
use serde_json::Value;

fn run(bed: &Bed, arguments: &[&str]) -> Said {
    bed.command(arguments).output().unwrap().into()
}

/// Every file below a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.insert(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn init_twice_changes_nothing() {
    let bed = Bed::new();
    let before = files(&bed.home());
    let said = run(&bed, &["init", "home", "--infra", "infra"]).ends(1);
    assert!(said.err.contains("home is a chiffon folder already"), "{}", said.err);
    assert_eq!(files(&bed.home()), before);
}

#[test]
fn init_refuses_a_folder_that_holds_something() {
    let bed = Bed::new();
    let other = bed.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter.txt"), "dear").unwrap();
    let said = run(&bed, &["init", "other", "--infra", "infra"]).ends(1);
    assert!(said.err.contains("other"), "{}", said.err);
    assert_eq!(files(&other).len(), 1, "nothing was put beside it");
}

#[test]
fn init_takes_an_empty_folder_and_a_relative_infra() {
    let bed = Bed::new();
    fs::create_dir_all(bed.path().join("a/empty")).unwrap();
    let from = bed.path().join("a");
    let said: Said = bed.command(&["init", "empty", "--infra", "../infra"]).current_dir(&from).output().unwrap().into();
    let said = said.ends(0);
    assert!(said.out.contains("plans are made for infra (inventory/hosts.yml)"), "{}", said.out);
    // The configuration holds from wherever it is read.
    let said: Said = bed.command(&["--dir", "/", "status"]).output().unwrap().into();
    said.ends(1);
    let home = from.join("empty");
    let said: Said =
        bed.command(&["--dir", home.to_str().unwrap(), "up", "--once"]).current_dir("/").output().unwrap().into();
    said.ends(0);
}

#[test]
fn init_says_what_is_wrong_with_the_infra_repository_and_can_be_repeated() {
    let bed = Bed::new();
    fs::create_dir(bed.path().join("plain")).unwrap();
    let empty = bed.path().join("no-commits");
    fs::create_dir(&empty).unwrap();
    assert!(
        std::process::Command::new("git").args(["init", "--quiet"]).current_dir(&empty).status().unwrap().success()
    );
    for infra in ["plain", "no-commits", "not-there", "--upload-pack=touch x", "ext::sh -c true"] {
        let said = run(&bed, &["init", "second", &format!("--infra={infra}")]).ends(1);
        assert!(said.err.starts_with("error: "), "{infra}: {}", said.err);
        assert!(said.err.contains(infra), "{infra}: {}", said.err);
        assert!(!bed.path().join("second/chiffon.yaml").exists(), "{infra}");
        assert!(!bed.path().join("second/requests.git").exists(), "{infra}");
    }
    let said = run(&bed, &["init", "second", "--infra", "infra", "--inventory", "hosts.cfg"]).ends(1);
    assert!(said.err.contains("--inventory hosts.cfg: there is no such file"), "{}", said.err);
    let said = run(&bed, &["init", "second", "--infra", "infra", "--branch", "trunk"]).ends(1);
    assert!(said.err.contains("trunk"), "{}", said.err);
    run(&bed, &["init", "second", "--infra", "infra"]).ends(0);
    run(&bed, &["--dir", "second", "up", "--once"]).ends(0);
}

#[test]
fn s7_a_home_may_have_any_name() {
    let bed = Bed::new();
    let folder = "it's $(touch x) & \"co\" `touch x` {{ y }} #";
    run(&bed, &["init", folder, "--infra", "infra"]).ends(0);
    run(&bed, &["--dir", folder, "request", "Deploy the journal", "--name", "journal"]).ends(0);
    let wake = bed.path().join(folder).join("state/wake");
    fs::remove_file(&wake).unwrap();
    run(&bed, &["--dir", folder, "request", "Deploy the gazette", "--name", "gazette"]).ends(0);
    assert!(wake.exists());
    run(&bed, &["--dir", folder, "up", "--once"]).ends(0);
    let state = run(&bed, &["--dir", folder, "status", "journal", "--json"]).ends(0).json();
    assert_eq!(state["state"], "proposed");
    assert!(!bed.path().join("x").exists());
}

#[test]
fn a_home_that_is_none_is_named() {
    let bed = Bed::new();
    let said = run(&bed, &["--dir", "effects", "status"]).ends(1);
    assert!(said.err.contains("effects holds no chiffon.yaml: `chiffon init effects` makes one"), "{}", said.err);
    let mut command = bed.command(&["status"]);
    let said: Said = command.env("CHIFFON_DIR", bed.home()).current_dir("/").output().unwrap().into();
    said.ends(0);
}

#[test]
fn without_an_identity_git_is_told_how_to_get_one() {
    let bed = Bed::new();
    let stranger = bed.path().join("stranger");
    fs::create_dir(&stranger).unwrap();
    let before = bed.bare_git(&["rev-parse", "main"]);
    let mut command = bed.command(&["--dir", "home", "request", "Deploy the journal"]);
    let said: Said = command.env("HOME", &stranger).output().unwrap().into();
    let said = said.ends(1);
    for part in ["git config --global user.name", "git config --global user.email"] {
        assert!(said.err.contains(part), "{}", said.err);
    }
    assert_eq!(bed.bare_git(&["rev-parse", "main"]), before);
}

/// What doctor found wrong, by name, and all that it said.
fn doctor(bed: &Bed) -> (BTreeMap<String, String>, Said) {
    let json = bed.chiffon(&["doctor", "--json"]);
    let value: Value = json.json();
    let checks = value["checks"].as_array().unwrap().clone();
    let wrong: BTreeMap<String, String> = checks
        .iter()
        .filter(|check| check["ok"] == false)
        .map(|check| {
            assert!(!check["fix"].as_str().unwrap().is_empty(), "{check}");
            (check["what"].as_str().unwrap().to_owned(), check["found"].as_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!(value["ok"], wrong.is_empty());
    assert_eq!(json.status, if wrong.is_empty() { 0 } else { 3 });
    (wrong, bed.chiffon(&["doctor"]).ends(json.status))
}

/// The one line that names a cause, with its fix below.
#[track_caller]
fn says_in_one_line(said: &Said, what: &str, part: &str) {
    let lines: Vec<&str> = said.out.lines().collect();
    let line = lines.iter().position(|line| line.starts_with(&format!("FAIL {what}: ")) && line.contains(part));
    let line = line.unwrap_or_else(|| panic!("no line FAIL {what}: …{part}…: {}", said.out));
    assert!(lines[line + 1].starts_with("       fix: "), "{}", said.out);
    let others =
        lines.iter().filter(|line| !["ok   ", "FAIL ", "       fix: "].iter().any(|start| line.starts_with(start)));
    assert_eq!(others.count(), 0, "{}", said.out);
}

#[test]
fn doctor_finds_nothing_where_all_is_well() {
    let bed = Bed::new();
    let (wrong, said) = doctor(&bed);
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(said.out.lines().all(|line| line.starts_with("ok   ")), "{}", said.out);
    assert!(said.out.contains("`chiffon up` is not running"), "{}", said.out);
    let up = bed.up();
    let said = bed.chiffon(&["doctor"]).ends(0);
    assert!(said.out.contains("`chiffon up` is running"), "{}", said.out);
    up.signal("TERM");
    assert_eq!(up.end(), 0);
}

#[test]
fn doctor_finds_a_missing_ansible_playbook() {
    let bed = Bed::new();
    let config = bed.home().join("chiffon.yaml");
    let text = fs::read_to_string(&config).unwrap();
    let configured = ansible_playbook().display().to_string();
    assert!(text.contains(&configured), "{text}");
    fs::write(&config, text.replace(&configured, "/nowhere/ansible-playbook")).unwrap();
    let (wrong, said) = doctor(&bed);
    assert!(wrong.contains_key("ansible-playbook"), "{wrong:?}");
    says_in_one_line(&said, "ansible-playbook", "/nowhere/ansible-playbook is not there");
}

#[test]
fn doctor_finds_an_ansible_playbook_that_does_not_run() {
    let bed = Bed::new();
    let config = bed.home().join("chiffon.yaml");
    let broken = bed.path().join("ansible-playbook");
    fs::write(&broken, "#!/nowhere/python\n").unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace(ansible_playbook().to_str().unwrap(), broken.to_str().unwrap())).unwrap();
    let (wrong, _) = doctor(&bed);
    assert!(wrong.contains_key("ansible-playbook"), "{wrong:?}");
}

#[test]
fn doctor_finds_that_no_ansible_playbook_is_on_the_path() {
    let bed = Bed::new();
    let programs = bed.path().join("programs");
    fs::create_dir(&programs).unwrap();
    let git = std::process::Command::new("sh").args(["-c", "command -v git"]).output().unwrap();
    std::os::unix::fs::symlink(String::from_utf8(git.stdout).unwrap().trim(), programs.join("git")).unwrap();
    run(&bed, &["init", "second", "--infra", "infra"]).ends(0);
    let said: Said = bed.command(&["--dir", "second", "doctor"]).env("PATH", &programs).output().unwrap().into();
    says_in_one_line(&said.ends(3), "ansible-playbook", "not found on PATH");
    let said: Said = bed.command(&["--dir", "second", "doctor"]).env("PATH", "/nowhere").output().unwrap().into();
    assert!(said.ends(3).out.contains("FAIL git: "));
}

#[test]
fn doctor_finds_what_others_can_read_and_what_is_broken() {
    let bed = Bed::homelab();
    for path in [bed.home().join("state"), bed.path().join("vault-password")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(bed.home().join("state/chiffon.db"), "no database at all, but some text that is long enough").unwrap();
    let (wrong, said) = doctor(&bed);
    for what in ["state folder", "vault password", "database"] {
        assert!(wrong.contains_key(what), "{what}: {wrong:?}");
    }
    says_in_one_line(&said, "state folder", "others can read it");
    says_in_one_line(&said, "vault password", "others can read");
}

#[test]
fn doctor_finds_that_encrypted_files_have_no_password() {
    let bed = Bed::new();
    crate::runs::encrypt_the_journal(&bed);
    let (wrong, said) = doctor(&bed);
    assert_eq!(wrong.keys().collect::<Vec<_>>(), ["vault password"], "{wrong:?}");
    says_in_one_line(&said, "vault password", "inventory/group_vars/journal.yml is encrypted");
    crate::runs::give_the_password(&bed);
    assert_eq!(doctor(&bed).0, BTreeMap::new());
}

#[test]
fn doctor_finds_a_missing_hook() {
    let bed = Bed::new();
    fs::remove_file(bed.requests().join("hooks/post-receive")).unwrap();
    let (wrong, said) = doctor(&bed);
    assert_eq!(wrong.keys().collect::<Vec<_>>(), ["hooks"]);
    says_in_one_line(&said, "hooks", "post-receive is missing");
}

#[test]
fn doctor_finds_an_infra_repository_that_is_gone() {
    let bed = Bed::new();
    fs::rename(&bed.infra.folder, bed.path().join("elsewhere")).unwrap();
    let (wrong, said) = doctor(&bed);
    assert!(wrong.contains_key("infra repository"), "{wrong:?}");
    let folder = bed.infra.folder.display().to_string();
    let line = said.out.lines().find(|line| line.starts_with("FAIL infra repository: ")).unwrap();
    assert!(line.contains(&folder), "{}", said.out);
    fs::rename(bed.path().join("elsewhere"), &bed.infra.folder).unwrap();
    assert!(!doctor(&bed).0.contains_key("infra repository"));
}

#[test]
fn doctor_names_a_cause_in_one_line() {
    let bed = Bed::new();
    fs::rename(&bed.infra.folder, bed.path().join("elsewhere")).unwrap();
    says_in_one_line(&doctor(&bed).1, "infra repository", "infra");
}

#[test]
fn doctor_finds_what_would_keep_up_from_answering() {
    let bed = Bed::new();
    let config = bed.home().join("chiffon.yaml");
    let text = fs::read_to_string(&config).unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    for (web, part) in [
        ("{listen: '0.0.0.0:0', tls: {cert_file: nowhere.pem, key_file: key.pem}}", "nowhere.pem"),
        ("{listen: '0.0.0.0:0'}", "is reached by other machines"),
        ("{listen: here}", "`here` is no address to listen on"),
        (&format!("{{listen: '{taken}'}}"), "can't listen on 127.0.0.1"),
    ] {
        fs::write(&config, format!("{text}  web: {web}\n")).unwrap();
        let (wrong, said) = doctor(&bed);
        assert_eq!(wrong.keys().collect::<Vec<_>>(), ["web"], "{web}");
        says_in_one_line(&said, "web", part);
    }
    fs::write(&config, format!("{text}  web: {{listen: '127.0.0.1:0'}}\n")).unwrap();
    assert_eq!(doctor(&bed).0, BTreeMap::new());
}

#[test]
fn doctor_finds_a_mistake_in_the_configuration() {
    let bed = Bed::new();
    let config = bed.home().join("chiffon.yaml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("branch:", "brnch:")).unwrap();
    let (wrong, said) = doctor(&bed);
    assert_eq!(wrong.keys().collect::<Vec<_>>(), ["configuration"]);
    assert!(said.out.contains("did you mean `branch`?"), "{}", said.out);
}

const WRONG: &str =
    "apiVersion: chiffon/v1\nkind: Request\nspec:\n  txt: Deploy\n  priority: nine\n  schedule: daily\n";

#[test]
fn validate_shows_every_mistake_where_it_stands() {
    let bed = Bed::new();
    fs::write(bed.path().join("wrong.yaml"), WRONG).unwrap();
    let said = run(&bed, &["validate", "wrong.yaml"]).ends(3);
    let shown = "error[CHF0003]: ";
    assert!(said.out.contains(shown), "{}", said.out);
    assert!(said.out.contains("  --> wrong.yaml:4:3\n  4 |   txt: Deploy\n    |   ^^^"), "{}", said.out);
    assert!(said.out.contains("  help: did you mean `text`?"), "{}", said.out);
    for place in ["--> wrong.yaml:5:13\n", "--> wrong.yaml:6:3\n"] {
        assert!(said.out.contains(place), "{place}: {}", said.out);
    }
}

#[test]
fn validate_says_the_same_as_json() {
    let bed = Bed::new();
    fs::write(bed.path().join("wrong.yaml"), WRONG).unwrap();
    let text = run(&bed, &["validate", "wrong.yaml"]).ends(3).out;
    let json = run(&bed, &["validate", "--json", "wrong.yaml"]).ends(3).json();
    assert_eq!(json["valid"], false);
    let found = json["diagnostics"].as_array().unwrap();
    assert!(found.len() >= 3, "{json}");
    for found in found {
        let part = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        let head = format!(
            "error[{}]: {}\n  --> {}:{}:{}\n  {} | {}\n",
            part("code"),
            part("message"),
            part("file"),
            found["line"],
            found["column"],
            found["line"],
            part("source")
        );
        assert!(text.contains(&head), "{head}\n{text}");
        assert!(part("help").is_empty() || text.contains(&format!("  help: {}\n", part("help"))), "{text}");
    }
}

#[test]
fn validate_reads_several_files_and_kinds() {
    let bed = Bed::new();
    let good = "apiVersion: chiffon/v1\nkind: Request\nspec:\n  text: Deploy the journal\n";
    fs::write(bed.path().join("good.yaml"), good).unwrap();
    fs::write(bed.path().join("one.yaml"), WRONG).unwrap();
    fs::write(bed.path().join("two.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    fs::write(bed.path().join("three.yaml"), "kind: Plan\n").unwrap();
    let said = run(&bed, &["validate", "good.yaml", "home/chiffon.yaml"]).ends(0);
    assert_eq!(said.out, "2 files without a mistake\n");
    let json = run(&bed, &["validate", "--json", "good.yaml", "one.yaml", "two.yaml", "three.yaml"]).ends(3).json();
    let mut files: Vec<&str> =
        json["diagnostics"].as_array().unwrap().iter().map(|found| found["file"].as_str().unwrap()).collect();
    files.dedup();
    assert_eq!(files, ["one.yaml", "two.yaml", "three.yaml"]);
    let missing = run(&bed, &["validate", "nothing.yaml"]).ends(1);
    assert!(missing.err.contains("reading nothing.yaml"), "{}", missing.err);
}

#[test]
fn validate_in_a_home_knows_its_hosts() {
    let bed = Bed::new();
    bed.up_once().ends(0);
    let text = "apiVersion: chiffon/v1\nkind: Request\nspec:\n  text: Deploy the journal\n  targets: [alpa]\n";
    fs::write(bed.path().join("host.yaml"), text).unwrap();
    let said = bed.chiffon(&["validate", "host.yaml"]).ends(3);
    for part in ["error[CHF0012]", "--> host.yaml:5:13", "did you mean `alpha`?"] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
}
