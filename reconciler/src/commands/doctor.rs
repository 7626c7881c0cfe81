//! `chiffon doctor`: checks that everything Chiffon needs is there, and says the way out where it is not.

mod bus;
mod forge;
mod lines;

use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use chiffon_requests::{RefName, Repo};
use chiffon_schemas::Oid;
use serde::Serialize;

use super::Exit;
use crate::cli;
use crate::config::{self, Config};
use crate::environment::Environment;
use crate::home::Home;
use crate::mirror;
use crate::output::{Output, Tone, printable};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    /// What.
    what: &'static str,
    /// Whether it is as it should be.
    ok: bool,
    /// What was found.
    found: String,
    /// The way out, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

fn good(what: &'static str, found: impl Into<String>) -> Check {
    Check { what, ok: true, found: found.into(), fix: None }
}

fn bad(what: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Check {
    // One line for each cause: git and Ansible say theirs in several.
    let found: String = found.into();
    let lines: Vec<&str> = found.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Check { what, ok: false, found: lines.join("; "), fix: Some(fix.into()) }
}

/// Looks at everything once; changes nothing but the mirror, and opens the database as every command does: its schema is
/// brought up to date.
///
/// # Errors
/// Never for what it finds: that is in the list, and exit status 3.
pub async fn run(args: &cli::Doctor, home: &Home, environment: &Environment, output: &Output) -> Result<Exit> {
    let mut checks = vec![git_program(environment)];
    match config::load(&home.config()) {
        Err(error) => {
            let error = super::config_error(error);
            // Its mistakes are shown where they stand.
            let fix = Some(format!("mend {}", home.config().display()));
            checks.push(Check { what: "configuration", ok: false, found: error.to_string(), fix });
        }
        Ok(config) => {
            checks.push(good("configuration", home.config().display().to_string()));
            checks.extend(with_config(args, home, environment, &config).await);
        }
    }
    let clean = checks.iter().all(|check| check.ok);
    output.result(&serde_json::json!({ "ok": clean, "checks": checks }), || {
        checks.iter().map(|check| line(check, output)).collect::<Vec<_>>().join("\n")
    });
    Ok(if clean { Exit::Done } else { Exit::Attention })
}

fn line(check: &Check, output: &Output) -> String {
    let (tone, word) = if check.ok { (Tone::Good, "ok  ") } else { (Tone::Bad, "FAIL") };
    let fix = check.fix.as_ref().map_or(String::new(), |fix| format!("\n       fix: {fix}"));
    format!("{} {}: {}{fix}", output.paint(tone, word), check.what, printable(&check.found))
}

async fn with_config(args: &cli::Doctor, home: &Home, environment: &Environment, config: &Config) -> Vec<Check> {
    let mirror = mirror::refresh(home, config, environment, &chiffon_requests::StopFlag::default());
    let mut checks = match &config.spec.forge {
        None => vec![requests(config), hooks(config)],
        // Ours is a copy, which is made when it is needed; the forge has rules of its own in place of hooks.
        Some(spec) => forge::checks(home, environment, config, spec, args.prove).await,
    };
    checks.extend([infra(config, &mirror), private_state(home), database(home, config).await, running(home)]);
    match &config.spec.bus.amqp {
        // Agents elsewhere have a doctor of their own.
        Some(spec) => checks.extend(bus::checks(home, config, spec).await),
        None => checks.extend([ansible(home, environment, config), vault(config, &mirror)]),
    }
    checks.extend(lines::database(home, config));
    checks.extend(config.spec.traces.as_ref().map(|spec| lines::traces(home, spec)));
    if let Some(spec) = &config.spec.web {
        checks.push(lines::web(home, spec).await);
    }
    checks
}

fn git_program(environment: &Environment) -> Check {
    match mirror::git(environment).version() {
        Ok(version) => good("git", version),
        Err(error) => bad("git", super::chain(&error), "install git: apt-get install git"),
    }
}

fn requests(config: &Config) -> Check {
    let what = "requests repository";
    let fix = "make a new home with `chiffon init`, or mend `requests` in chiffon.yaml";
    let main = RefName::branch("main").expect("a constant branch name");
    match Repo::open(&config.requests).and_then(|repo| repo.reference(&main)) {
        Ok(Some(tip)) => good(what, format!("{} (main at {})", config.requests.display(), tip.short())),
        Ok(None) => {
            bad(what, format!("{} has no branch main", config.requests.display()), "push a first commit to main")
        }
        Err(error) => bad(what, super::chain(&error), fix),
    }
}

fn hooks(config: &Config) -> Check {
    let what = "hooks";
    // What makes each of them ours, whatever somebody added.
    for (name, call) in [("pre-receive", "hook pre-receive"), ("post-receive", "wake")] {
        let path = config.requests.join("hooks").join(name);
        let Ok(text) = std::fs::read_to_string(&path) else {
            return bad(what, format!("{} is missing", path.display()), "copy it from the project's hooks/ folder");
        };
        if !text.contains(call) {
            let fix = format!("copy it from the project's hooks/ folder, or call what that one calls ({call})");
            return bad(what, format!("{} is not Chiffon's", path.display()), fix);
        }
        let executable = std::fs::metadata(&path).is_ok_and(|data| data.permissions().mode() & 0o111 != 0);
        if !executable {
            return bad(what, format!("{} is not executable", path.display()), format!("chmod +x {}", path.display()));
        }
    }
    good(what, "installed")
}

/// The mirror of the infra repository and its tip, or why there is none.
type Mirror = Result<(Repo, Oid), String>;

fn infra(config: &Config, mirror: &Mirror) -> Check {
    let what = "infra repository";
    let spec = &config.spec.infra;
    let (repo, tip) = match mirror {
        Ok(found) => found,
        Err(reason) => return bad(what, reason, "mend `infra` in chiffon.yaml, or the access of this user"),
    };
    match chiffon_planner::read_catalogue(repo, tip, &spec.name, &spec.inventory) {
        Err(error) => bad(what, super::chain(&error), "mend it in the infra repository"),
        Ok(catalogue) => {
            let found = format!(
                "{} at {}: {} playbooks, {} hosts, {} files that can't be read",
                spec.name,
                tip.short(),
                catalogue.entries.len(),
                catalogue.inventory.hosts.len(),
                catalogue.findings.len()
            );
            if catalogue.entries.is_empty() || catalogue.inventory.hosts.is_empty() {
                return bad(what, found, "no playbook or no host was found: check `inventory` in chiffon.yaml");
            }
            good(what, found)
        }
    }
}

fn private_state(home: &Home) -> Check {
    let what = "state folder";
    match std::fs::metadata(home.state()) {
        Ok(data) if data.permissions().mode() & 0o077 == 0 => good(what, home.state().display().to_string()),
        Ok(_) => bad(what, "others can read it", format!("chmod 700 {}", home.state().display())),
        Err(error) => bad(what, error.to_string(), format!("mkdir -m 700 {}", home.state().display())),
    }
}

async fn database(home: &Home, config: &Config) -> Check {
    let what = "database";
    let name = crate::store::name(home, config);
    let fix = match &config.spec.store.postgres {
        None => "free its disk, or restore it from a copy",
        Some(_) => {
            "see that the server runs, takes this user and, with TLS, shows a certificate of an authority in `ca_file`, then \
             mend `store.postgres` in chiffon.yaml"
        }
    };
    match crate::store::open(home, config).await {
        Ok(store) => match store.agents().await {
            Ok(agents) => good(what, format!("{name} ({} agents known)", agents.len())),
            Err(error) => bad(what, super::chain(&error), fix),
        },
        Err(error) => bad(what, super::chain(error.as_ref()), fix),
    }
}

fn ansible(home: &Home, environment: &Environment, config: &Config) -> Check {
    let what = "ansible-playbook";
    let found = config.spec.ansible.playbook.clone().or_else(|| environment.find_program("ansible-playbook"));
    let mend = "mend `ansible.playbook` in chiffon.yaml";
    match found {
        Some(path) if !path.is_file() => bad(what, format!("{} is not there", path.display()), mend),
        Some(path) => match chiffon_infra::probe_version(&crate::up::ansible_config(home, config, environment)) {
            Ok(version) => good(what, format!("{} (ansible-core {version})", path.display())),
            Err(error) => bad(what, format!("{} can't be run: {}", path.display(), super::chain(&error)), mend),
        },
        None => bad(what, "not found on PATH", "pip install ansible-core, or set `ansible.playbook` in chiffon.yaml"),
    }
}

fn vault(config: &Config, mirror: &Mirror) -> Check {
    let what = "vault password";
    let Some(path) = &config.vault_password_file else { return vaulted(what, mirror) };
    match std::fs::metadata(path) {
        Ok(data) if data.permissions().mode() & 0o077 == 0 => good(what, path.display().to_string()),
        Ok(_) => bad(what, format!("others can read {}", path.display()), format!("chmod 600 {}", path.display())),
        Err(error) => {
            bad(what, format!("{}: {error}", path.display()), "mend `ansible.vault_password_file` in chiffon.yaml")
        }
    }
}

/// Without a password, nothing may be encrypted.
fn vaulted(what: &'static str, mirror: &Mirror) -> Check {
    let Ok((repo, tip)) = mirror else { return good(what, "none is configured") };
    match chiffon_infra::first_vaulted(repo, tip) {
        Ok(None) => good(what, "none is needed"),
        Ok(Some(path)) => {
            let fix = "write the password to a file that only you can read, and name it as `ansible.vault_password_file` \
                       in chiffon.yaml";
            bad(what, format!("none is configured, and {path} is encrypted with ansible-vault: no run can begin"), fix)
        }
        Err(error) => bad(what, super::chain(&error), "mend it in the infra repository"),
    }
}

fn running(home: &Home) -> Check {
    let words = if crate::up::is_running(home) { "`chiffon up` is running" } else { "`chiffon up` is not running" };
    good("reconciler", words)
}
