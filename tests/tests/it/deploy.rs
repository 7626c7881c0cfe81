//! What lies in `deploy/`, and the documents about running it: every command, key and metric in them is a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use chiffon_tests::{Bed, ansible_playbook, chiffon, chiffon_agent, root};
use serde_json::Value;

const DOCUMENTS: [&str; 3] = ["docs/agents.md", "docs/operations.md", "deploy/README.md"];
const UNITS: [&str; 2] = ["chiffon", "chiffon-agent"];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The helps of both programs, each asked for once.
#[derive(Default)]
struct Helps(BTreeMap<Vec<String>, String>);

impl Helps {
    fn of(&mut self, command: &[String]) -> &str {
        self.0.entry(command.to_vec()).or_insert_with(|| {
            let program = if command[0] == "chiffon" { chiffon() } else { chiffon_agent() };
            let output = Command::new(program).args(&command[1..]).arg("--help").output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        })
    }

    fn has_command(&mut self, command: &[String], word: &str) -> bool {
        let help = self.of(command);
        let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
        listed.lines().any(|line| line.split_whitespace().next() == Some(word))
    }

    /// Follows the words of a command line; what is wrong with it.
    fn check(&mut self, words: &[&str]) -> Result<(), String> {
        let mut command = vec![words[0].to_owned()];
        let mut flags = Vec::new();
        let mut is_value = false;
        for word in &words[1..] {
            if word.starts_with("--") {
                is_value = *word == "--dir";
                flags.push(*word);
            } else if !std::mem::take(&mut is_value) && self.has_command(&command, word) {
                command.push((*word).to_owned());
            } else if command.len() == 1 && !word.starts_with(['/', '"', '$']) && *word != "DIR" {
                return Err(format!("{} has no command {word}", words[0]));
            }
        }
        let help = self.of(&command).to_owned();
        let known: BTreeSet<&str> = help.split([' ', ',', '\n', '|', '<', '>', '[', ']']).collect();
        match flags.iter().find(|flag| !known.contains(**flag)) {
            Some(flag) => Err(format!("{} has no {flag}", command.join(" "))),
            None => Ok(()),
        }
    }
}

/// Code of a Markdown document: each line of a fenced block, with its continuations, and each inline span.
fn code_of(text: &str) -> Vec<String> {
    let mut code = Vec::new();
    for (number, part) in text.replace("\\\n", " ").split("```").enumerate() {
        if number % 2 == 1 {
            code.extend(part.lines().skip(1).map(str::to_owned));
        } else {
            code.extend(part.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    code
}

/// The command lines of Chiffon in a line of a shell, as words.
fn commands_in(line: &str) -> Vec<Vec<&str>> {
    let ends = ["|", "||", "&&", ";", "&", "<", ">"];
    let words: Vec<&str> = line.split(" #").next().unwrap().split_whitespace().collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let name = word.trim_start_matches("/usr/local/bin/").trim_start_matches("ExecStart=/usr/local/bin/");
        let is_first = at == 0 || ["--", "&&", "|"].contains(&words[at - 1]);
        let is_service = line.starts_with("docker compose run") && *word == "agent" && !line.contains("--entrypoint");
        let is_inside = at > 0 && line.starts_with("docker compose") && UNITS.contains(&name);
        if !(UNITS.contains(&name) && (is_first || is_inside)) && !is_service {
            continue;
        }
        let rest: Vec<&str> = words[at + 1..].iter().copied().take_while(|word| !ends.contains(word)).collect();
        // The name of a service, before the program's own.
        let follows = rest.first().is_some_and(|next| !UNITS.contains(next) && *next != "--");
        if follows && !found.iter().any(|known: &Vec<&str>| known.contains(word)) {
            found.push([vec![if is_service { "chiffon-agent" } else { name }], rest].concat());
        }
    }
    found
}

#[test]
fn every_command_line_of_the_deployment_is_one_that_help_knows() {
    let mut helps = Helps::default();
    let mut checked = 0;
    let mut check = |file: &str, lines: Vec<String>| {
        for line in &lines {
            for words in commands_in(line.trim()) {
                helps.check(&words).unwrap_or_else(|wrong| panic!("{file}: {wrong}: {line}"));
                checked += 1;
            }
        }
    };
    for file in DOCUMENTS {
        check(file, code_of(&read(file)));
    }
    for file in ["deploy/setup.sh", "deploy/systemd/chiffon.service", "deploy/systemd/chiffon-agent.service"] {
        check(file, read(file).lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect());
    }
    for file in ["deploy/compose.yaml", "deploy/services.yaml", "deploy/prepare.sh", "deploy/chiffon.yaml"] {
        check(file, code_of(&read(file)));
    }
    // The image's own words: its program and what it is told.
    let dockerfile = read("deploy/Dockerfile");
    for program in UNITS {
        assert!(dockerfile.contains(&format!("ENTRYPOINT [\"/usr/local/bin/{program}\"]\nCMD [\"up\"]")), "{program}");
        check("deploy/Dockerfile", vec![format!("{program} up")]);
    }
    assert!(checked > 50, "only {checked} command lines were found");
}

#[test]
fn a_command_line_that_is_none_is_found() {
    let mut helps = Helps::default();
    for (line, wrong) in [
        ("chiffon broker setup --force", "no --force"),
        ("chiffon frobnicate", "no command frobnicate"),
        ("runuser -u chiffon -- chiffon --dir /x doctor --fix", "no --fix"),
        ("docker compose run --rm -T agent enroll https://x -", "no command enroll"),
        ("docker compose exec chiffon chiffon statsu", "no command statsu"),
    ] {
        let found: Vec<_> = commands_in(line).iter().filter_map(|words| helps.check(words).err()).collect();
        assert!(found.len() == 1 && found[0].ends_with(wrong), "{line}: {found:?}");
    }
}

#[test]
fn every_metric_is_in_the_table_and_every_one_of_the_table_is_there() {
    let folder = fs::read_dir(root().join("reconciler/web/src")).unwrap();
    let code: String = folder.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    // As the formatter breaks lines, the name may stand on the next one.
    let code = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let named = |before: &str| -> BTreeSet<String> {
        let rest = code.split(before).skip(1);
        rest.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    let mut metrics = named("register(\"");
    for before in ["register( \"", "gauge(registry, \"", "gauge( registry, \"", "gauge(&mut registry, \""] {
        metrics.extend(named(before));
    }
    assert!(metrics.len() > 10, "{metrics:?}");
    let text = read("docs/operations.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `chiffon_")?.split('`').next());
    let rows: BTreeSet<String> =
        rows.filter(|name| !name.contains('{')).map(|name| name.trim_end_matches("_total").to_owned()).collect();
    let missing: Vec<_> = metrics.difference(&rows).collect();
    assert!(missing.is_empty(), "docs/operations.md has no row for {missing:?}");
    let gone: Vec<_> = rows.difference(&metrics).collect();
    assert!(gone.is_empty(), "docs/operations.md has rows for {gone:?}, which are not there");
}

/// Loads a configuration in a home; what was wrong next, which is a file of the sample's that is not there.
fn load(bed: &Bed, config: &str) -> String {
    fs::write(bed.home().join("chiffon.yaml"), config).unwrap();
    let said = bed.chiffon(&["broker", "setup"]).ends(1).err;
    assert!(!said.contains("mistake") && !said.contains("CHF"), "{config}\n{said}");
    said
}

fn load_agent(bed: &Bed, config: &str) {
    let home = bed.agent_home("sample");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("agent.yaml"), config).unwrap();
    let said = bed.agent("sample", &["up"]).ends(1).err;
    assert!(said.contains("broker-password can't be read"), "{config}\n{said}");
}

#[test]
fn every_sample_configuration_loads() {
    let bed = Bed::new();
    let made = fs::read_to_string(bed.home().join("chiffon.yaml")).unwrap();
    assert!(load(&bed, &read("deploy/chiffon.yaml")).contains("management-password can't be read"));
    let with_services = format!("{made}{}", read("deploy/services.yaml"));
    assert!(load(&bed, &with_services).contains("management-password can't be read"));
    load_agent(&bed, &read("deploy/agent.yaml"));
    let mut blocks = 0;
    for block in read("docs/agents.md").split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        blocks += 1;
        if block.contains("heartbeat_secs") {
            let sample = read("deploy/agent.yaml");
            let (head, _) = sample.split_once("  ansible:").unwrap();
            load_agent(&bed, &format!("{head}{}", block.strip_prefix("spec:\n").unwrap()));
        } else {
            let infra = "  infra: {name: infra, url: /infra, inventory: hosts.yml}\n";
            load(&bed, &format!("apiVersion: chiffon/v1\nkind: Config\n{block}{infra}"));
        }
    }
    assert!(blocks >= 4, "{blocks}");
}

/// The settings of a unit: a setting that is given again adds a line.
fn unit(program: &str) -> BTreeMap<String, Vec<String>> {
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in read(&format!("deploy/systemd/{program}.service")).lines() {
        if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            settings.entry(key.to_owned()).or_default().push(value.to_owned());
        }
    }
    settings
}

#[test]
fn the_units_give_no_more_than_is_needed_and_stop_as_the_programs_do() {
    let wanted = "Type=exec KillMode=mixed Restart=on-failure NoNewPrivileges=yes CapabilityBoundingSet= AmbientCapabilities= \
        ProtectSystem=strict ProtectHome=yes PrivateTmp=yes PrivateDevices=yes ProtectKernelTunables=yes \
        ProtectKernelModules=yes ProtectKernelLogs=yes ProtectControlGroups=yes ProtectClock=yes ProtectHostname=yes \
        RestrictNamespaces=yes RestrictRealtime=yes RestrictSUIDSGID=yes LockPersonality=yes MemoryDenyWriteExecute=yes \
        SystemCallArchitectures=native UMask=0077 LimitCORE=0 StateDirectoryMode=0700";
    for (program, folder) in UNITS.into_iter().zip(["home/chiffon.yaml", "agent/agent.yaml"]) {
        let settings = unit(program);
        for (key, value) in wanted.split_whitespace().filter_map(|setting| setting.split_once('=')) {
            assert_eq!(settings.get(key).map(Vec::as_slice), Some(&[value.to_owned()][..]), "{program}: {key}");
        }
        let one = |key: &str| settings[key].join(" ");
        assert_eq!(one("ExecStart"), format!("/usr/local/bin/{program} up"));
        assert_eq!((one("User"), one("StateDirectory")), (program.to_owned(), program.to_owned()));
        let config = format!("/var/lib/{program}/{folder}");
        assert_eq!(one("ConditionPathExists"), config);
        let (_, home) = settings["Environment"][0].split_once('=').unwrap();
        assert_eq!(Path::new(home), Path::new(&config).parent().unwrap());
        assert!(one("SystemCallFilter").contains("@system-service ~@privileged"), "{program}");
        // The first signal comes from ExecStop, which waits; the second from systemd. Each needs its time.
        let stop = one("ExecStop");
        let waits: u32 = stop.split("timeout ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(stop.contains("kill -TERM \"$MAINPID\"") && one("TimeoutStopSec").parse::<u32>().unwrap() > waits);
    }
}

#[test]
fn systemd_takes_the_units() {
    let folder = tempfile::tempdir().unwrap();
    for (program, built) in UNITS.into_iter().zip([chiffon(), chiffon_agent()]) {
        let text = read(&format!("deploy/systemd/{program}.service"));
        let text = text.replace(&format!("/usr/local/bin/{program}"), built.to_str().unwrap());
        let path = folder.path().join(format!("{program}.service"));
        fs::write(&path, text).unwrap();
        match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success() && said.is_empty(), "{program}: {said}");
            }
            // The test above has read the settings all the same.
            Err(error) => println!("{program}.service is not verified: systemd-analyze: {error}"),
        }
    }
}

/// compose.yaml with its anchors worked out.
fn compose() -> Value {
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))";
    let python = ansible_playbook().with_file_name("python3");
    let file = fs::File::open(root().join("deploy/compose.yaml")).unwrap();
    let output = Command::new(python).args(["-c", script]).stdin(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn s13_compose_hands_out_secrets_as_files_and_publishes_to_this_machine_alone() {
    let compose = compose();
    let prepare = read("deploy/prepare.sh");
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_default();
    for (name, secret) in entries(&compose["secrets"]) {
        let file = Path::new(secret["file"].as_str().unwrap()).file_name().unwrap().to_str().unwrap().to_owned();
        assert!(prepare.contains(&file), "prepare.sh makes no {file} for {name}");
    }
    for (_, config) in entries(&compose["configs"]) {
        assert!(root().join("deploy").join(config["file"].as_str().unwrap()).is_file(), "{config}");
    }
    for (name, service) in entries(&compose["services"]) {
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
        assert!(!service["user"].as_str().unwrap().starts_with('0'), "{name} runs as root");
        assert_eq!(service["restart"], if name == "setup" { "no" } else { "unless-stopped" }, "{name}");
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("${CHIFFON_LISTEN:-127.0.0.1}:"), "{name}: {port}");
        }
        for (key, value) in entries(&service["environment"]) {
            assert!(!key.contains("PASSWORD") || value.as_str().unwrap().starts_with("/run/secrets/"), "{name}: {key}");
        }
        for secret in service["secrets"].as_array().into_iter().flatten() {
            let secret = secret.as_str().or_else(|| secret["source"].as_str()).unwrap();
            assert!(!compose["secrets"][secret].is_null(), "{name}: {secret}");
            assert!(secret != "management-password" || name == "setup", "{name} could manage the broker");
        }
        for other in entries(&service["depends_on"]).keys().filter(|other| *other != "setup") {
            assert!(!compose["services"][other]["healthcheck"].is_null(), "{other} has no health check");
        }
    }
}

#[test]
fn the_scripts_are_scripts() {
    for script in ["prepare.sh", "setup.sh"] {
        let output = Command::new("sh").arg("-n").arg(root().join("deploy").join(script)).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
