//! `chiffon.yaml`: read at start and whenever it changes; its digest is in each approval's record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chiffon_core::{ApprovalPolicy, ApprovalRule, Policy};
use chiffon_schemas::yaml::Limits;
use chiffon_schemas::{AnsibleSpec, ApprovalSpec, ConfigFile, ConfigSpec, Diagnostic, InfraSpec, PolicySpec};

/// The configuration as the rest of the program uses it: paths made absolute, policy as core has it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The settings as written.
    pub spec: ConfigSpec,
    /// The bare requests repository.
    pub requests: PathBuf,
    /// The vault password file.
    pub vault_password_file: Option<PathBuf>,
    /// What the owner allows.
    pub policy: Policy,
    /// SHA-256 of the file, for records.
    pub digest: String,
}

impl Config {
    /// This configuration with what a running process can't change as it was before, and the names of what that is.
    pub fn keeping_fixed(mut self, before: &Self) -> (Self, Vec<&'static str>) {
        let mut kept = Vec::new();
        if self.spec.name != before.spec.name {
            self.spec.name = before.spec.name.clone();
            kept.push("`name`");
        }
        if self.requests != before.requests {
            self.requests = before.requests.clone();
            kept.push("`requests`");
        }
        if self.spec.agent != before.spec.agent {
            self.spec.agent = before.spec.agent.clone();
            kept.push("`agent`");
        }
        if self.spec.store.postgres != before.spec.store.postgres {
            self.spec.store.postgres = before.spec.store.postgres.clone();
            kept.push("`store.postgres`");
        }
        if self.spec.bus.amqp != before.spec.bus.amqp {
            self.spec.bus.amqp = before.spec.bus.amqp.clone();
            kept.push("`bus.amqp`");
        }
        if self.spec.forge != before.spec.forge {
            self.spec.forge = before.spec.forge.clone();
            kept.push("`forge`");
        }
        if self.spec.web != before.spec.web {
            self.spec.web = before.spec.web.clone();
            kept.push("`web`");
        }
        if self.spec.traces != before.spec.traces {
            self.spec.traces = before.spec.traces.clone();
            kept.push("`traces`");
        }
        (self, kept)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("{path} can't be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file says something that it can't.
    #[error("{path} has {} mistake{}", diagnostics.len(), if diagnostics.len() == 1 { "" } else { "s" })]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The mistakes.
        diagnostics: Vec<Diagnostic>,
    },
}

/// Reads the configuration.
///
/// # Errors
/// The file is not there, or has mistakes; all of them are named.
pub fn load(path: &Path) -> Result<Config, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let file: ConfigFile = chiffon_schemas::read(&path.display().to_string(), &bytes, &Limits::CONFIG)
        .map_err(|diagnostics| Error::Invalid { path: path.to_owned(), diagnostics })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut policy = policy(&file.spec.policy);
    policy.approval.signers = policy.approval.signers.map(|path| folder.join(path));
    Ok(Config {
        requests: folder.join(&file.spec.requests),
        vault_password_file: file.spec.ansible.vault_password_file.as_ref().map(|path| folder.join(path)),
        policy,
        digest: chiffon_schemas::digest(&bytes),
        spec: file.spec,
    })
}

fn policy(spec: &PolicySpec) -> Policy {
    Policy {
        deny_hosts: spec.deny_hosts.iter().cloned().collect::<BTreeSet<_>>(),
        deny_playbooks: spec.deny_playbooks.iter().cloned().collect::<BTreeSet<_>>(),
        max_hosts: spec.max_hosts,
        max_timeout_secs: spec.max_timeout_secs,
        offer_days: spec.offer_days,
        agent_silence_secs: spec.agent_silence_secs,
        exempt_check_runs: spec.exempt_check_runs,
        approval: ApprovalPolicy {
            rules: spec.approval.iter().map(approval_rule).collect(),
            signers: spec.allowed_signers_file.clone(),
        },
    }
}

fn approval_rule(spec: &ApprovalSpec) -> ApprovalRule {
    ApprovalRule {
        risk: spec.risk,
        hosts: spec.hosts.iter().cloned().collect(),
        services: spec.services.iter().cloned().collect(),
        by: spec.by.iter().cloned().collect(),
        count: spec.count.map_or(1, usize::from),
    }
}

/// The text of a first configuration, with what a person is likely to change named in comments.
pub fn template(infra: &InfraSpec, ansible: &AnsibleSpec) -> String {
    let mut lines = vec![
        "# yaml-language-server: $schema=./.chiffon/schemas/config.schema.json".to_owned(),
        "# What Chiffon watches, what it runs, and what it is allowed to. Read again whenever it changes.".to_owned(),
        "apiVersion: chiffon/v1".to_owned(),
        "kind: Config".to_owned(),
        "spec:".to_owned(),
        "  infra:".to_owned(),
    ];
    let mut field = |indent: usize, key: &str, value: &str| {
        let scalar = chiffon_schemas::to_yaml(&BTreeMap::from([(key, value)]));
        lines.push(format!("{}{}", " ".repeat(indent), scalar.trim_end()));
    };
    field(4, "name", infra.name.as_str());
    field(4, "url", &infra.url);
    field(4, "branch", &infra.branch);
    field(4, "inventory", infra.inventory.as_str());
    let playbook = ansible.playbook.as_ref().map(|path| path.display().to_string());
    let vault = ansible.vault_password_file.as_ref().map(|path| path.display().to_string());
    if playbook.is_some() || vault.is_some() {
        lines.push("  ansible:".to_owned());
        let mut field = |key: &str, value: &str| {
            let scalar = chiffon_schemas::to_yaml(&BTreeMap::from([(key, value)]));
            lines.push(format!("    {}", scalar.trim_end()));
        };
        if let Some(playbook) = &playbook {
            field("playbook", playbook);
        }
        if let Some(vault) = &vault {
            field("vault_password_file", vault);
        }
    }
    if vault.is_none() {
        let commented = if playbook.is_some() { "    # " } else { "  # ansible:\n  #   " };
        lines.push(format!("{commented}vault_password_file: vault-password   # a file that only you can read"));
    }
    lines.push("  # policy:".to_owned());
    lines.push("  #   deny_hosts: []".to_owned());
    lines.push("  #   deny_playbooks: []".to_owned());
    lines.push("  #   max_hosts: 50".to_owned());
    lines.push("  #   offer_days: 14".to_owned());
    lines.push("  #   exempt_check_runs: true   # plans in mode `check` begin by themselves".to_owned());
    lines.join("\n") + "\n"
}
