//! `chiffon init`: makes a folder with a requests repository, its hooks, a configuration and private state.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use chiffon_requests::{Edit, Expect, FilePolicy, GitUrl, RefName, Repo, Signature};
use chiffon_schemas::{AnsibleSpec, InfraSpec, Name, Oid, RepoPath};
use serde_json::json;

use super::Exit;
use crate::config;
use crate::environment::{self, Environment};
use crate::home::Home;
use crate::output::Output;
use crate::{cli, mirror};

/// Inventories that are looked for, best first.
const INVENTORIES: [&str; 9] = [
    "inventory/hosts.yml",
    "inventory/hosts.yaml",
    "inventory/hosts.ini",
    "inventory/hosts",
    "inventory.yml",
    "inventory.ini",
    "hosts.yml",
    "hosts.ini",
    "hosts",
];

/// What the first commit of a requests repository holds, beside the schemas.
const TEMPLATE: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/template.rs"));

/// The JSON Schemas that editors use.
const SCHEMAS: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/schemas.rs"));

/// The hooks, thin shell around this program.
const HOOKS: [(&str, &str); 2] = [
    ("pre-receive", include_str!("../../../hooks/pre-receive")),
    ("post-receive", include_str!("../../../hooks/post-receive")),
];

/// Makes the folder.
///
/// # Errors
/// It holds something already, or the infra repository can't be read.
pub fn run(args: &cli::Init, environment: &Environment, output: &Output) -> Result<Exit> {
    let folder = environment.cwd.join(&args.folder);
    if folder.join("chiffon.yaml").exists() || folder.join("requests.git").exists() {
        bail!("{} is a chiffon folder already", args.folder.display());
    }
    if let Some(name) = stranger_in(&folder) {
        bail!("{} is not empty: it holds {name}; init makes a folder of its own", args.folder.display());
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let folder = std::fs::canonicalize(&folder).context("finding the folder")?;
    let home = Home::at(&folder);
    make_state(&home)?;
    let infra = infra_spec(args, environment, &home, output)?;
    let ansible = AnsibleSpec {
        playbook: args.ansible_playbook.as_ref().map(|path| environment.cwd.join(path)),
        vault_password_file: args.vault_password_file.as_ref().map(|path| environment.cwd.join(path)),
        ssh_auth_sock: None,
    };
    make_requests(&home, environment)?;
    write_schemas(&home)?;
    // Last: a folder with this file is a home.
    std::fs::write(home.config(), config::template(&infra, &ansible)).context("writing chiffon.yaml")?;
    let requests = home.requests();
    let value =
        json!({ "folder": folder, "requests": requests, "config": home.config(), "inventory": infra.inventory });
    output.result(&value, || next_steps(&folder, &requests, &infra));
    Ok(Exit::Done)
}

/// Something in the folder that an earlier, failed `init` did not leave there.
fn stranger_in(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.into_iter().find(|name| name != "state" && name != ".chiffon")
}

fn next_steps(folder: &Path, requests: &Path, infra: &InfraSpec) -> String {
    format!(
        "made {}: requests go to {}, plans are made for {} ({})\n\nnext:\n  chiffon --dir {} up &\n  git clone {} my-requests\n  chiffon --dir {} request \"what you want\" --wait",
        folder.display(),
        requests.display(),
        infra.name,
        infra.inventory,
        folder.display(),
        requests.display(),
        folder.display(),
    )
}

fn make_state(home: &Home) -> Result<()> {
    let state = home.state();
    std::fs::create_dir_all(&state).with_context(|| format!("making {}", state.display()))?;
    // Logs and plans may name what others should not read.
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).context("making state private")?;
    home.touch_wake()
}

/// The infra repository as the configuration will name it, checked by reading it.
fn infra_spec(args: &cli::Init, environment: &Environment, home: &Home, output: &Output) -> Result<InfraSpec> {
    let local = environment.cwd.join(&args.infra);
    let url = if local.is_dir() {
        std::fs::canonicalize(&local).context("finding the infra repository")?.display().to_string()
    } else {
        args.infra.clone()
    };
    let address = GitUrl::parse(&url, FilePolicy::Allow).with_context(|| format!("--infra {}", args.infra))?;
    let git = mirror::git(environment);
    let branch = match &args.branch {
        Some(branch) => branch.clone(),
        None => git.default_branch(&address).with_context(|| format!("asking {} for its branch", args.infra))?,
    };
    let name = RefName::branch(&branch)?;
    output.progress(&format!("reading {} ({branch})", args.infra));
    git.init_bare(&home.infra(), "main").context("making the mirror")?;
    git.fetch(&home.infra(), &address, &name, &name)
        .with_context(|| format!("fetching {branch} from {}", args.infra))?;
    let repo = Repo::open(&home.infra())?;
    let tip = repo.reference(&name)?.with_context(|| format!("{} has no branch {branch}: is it empty?", args.infra))?;
    let inventory = inventory(args.inventory.as_deref(), &repo, &tip)?;
    Ok(InfraSpec { name: repository_name(&url), url, branch, inventory })
}

fn inventory(asked: Option<&str>, repo: &Repo, tip: &Oid) -> Result<RepoPath> {
    if let Some(text) = asked {
        let path = RepoPath::parse(text)?;
        if repo.entry_at(tip, &path)?.is_none() {
            bail!("--inventory {text}: there is no such file in the infra repository");
        }
        return Ok(path);
    }
    for candidate in INVENTORIES {
        let path = RepoPath::parse(candidate).expect("a constant path");
        if repo.blob_at(tip, &path)?.is_some() {
            return Ok(path);
        }
    }
    bail!("no inventory found (looked for {}): name it with --inventory PATH", INVENTORIES.join(", "))
}

/// `homelab-infra` for `/srv/Homelab_Infra.git`.
fn repository_name(url: &str) -> Name {
    let last = url.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or("infra");
    let last = last.trim_end_matches(".git").to_lowercase();
    let clean: String = last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let mut clean = clean.trim_matches('-').to_owned();
    clean.truncate(63);
    Name::parse(clean).unwrap_or_else(|_| Name::parse("infra").expect("a constant name"))
}

fn make_requests(home: &Home, environment: &Environment) -> Result<()> {
    let path = home.requests();
    mirror::git(environment).init_bare(&path, "main").context("making the requests repository")?;
    let program = std::env::current_exe().context("finding this program")?;
    for (name, text) in HOOKS {
        let hook = path.join("hooks").join(name);
        std::fs::create_dir_all(path.join("hooks")).context("making hooks")?;
        let text = text.replace("@CHIFFON@", &shell_quoted(&program)).replace("@DIR@", &shell_quoted(home.folder()));
        std::fs::write(&hook, text).with_context(|| format!("writing {}", hook.display()))?;
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).context("making a hook executable")?;
    }
    let repo = Repo::open(&path)?;
    first_commit(&repo)
}

/// A path as one word of a POSIX shell.
fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

fn first_commit(repo: &Repo) -> Result<()> {
    let signature = Signature::chiffon(environment::now());
    let mut changes = Vec::new();
    for (path, text) in TEMPLATE {
        changes.push((RepoPath::parse(*path)?, Some(text.as_bytes().to_vec())));
    }
    for (name, text) in SCHEMAS {
        changes.push((RepoPath::parse(format!(".chiffon/schemas/{name}"))?, Some(text.as_bytes().to_vec())));
    }
    repo.commit(&Edit {
        branch: RefName::branch("main")?,
        expect: Expect::New,
        parents: Some(Vec::new()),
        base: None,
        changes,
        message: "Start of the requests repository\n".to_owned(),
        author: signature.clone(),
        committer: signature,
        allow_empty: false,
    })?;
    Ok(())
}

/// Beside the configuration too, so that an editor checks it.
fn write_schemas(home: &Home) -> Result<()> {
    let folder: PathBuf = home.folder().join(".chiffon").join("schemas");
    std::fs::create_dir_all(&folder).context("making .chiffon/schemas")?;
    for (name, text) in SCHEMAS {
        std::fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_named_after_their_folder() {
        assert_eq!(repository_name("/srv/Homelab_Infra.git").as_str(), "homelab-infra");
        assert_eq!(repository_name("git@forge.example:me/infra.git").as_str(), "infra");
        assert_eq!(repository_name("/").as_str(), "infra");
    }

    #[test]
    fn s7_hook_paths_are_one_word_of_the_shell() {
        assert_eq!(shell_quoted(Path::new("/a b/$(x)'y")), "'/a b/$(x)'\\''y'");
    }
}
