//! The forge that a configuration names: its adapter, and the copy of its repository.

use std::sync::Arc;

use anyhow::{Context, Result};
use chiffon_forge::{Address, Forge, GitHub, Gitea, Setup, Slug};
use chiffon_link::{read_authority, read_secret};
use chiffon_requests::{GitUrl, StopFlag, Upstream};
use chiffon_schemas::{ForgeKind, ForgeSpec};

use crate::config::Config;
use crate::environment::Environment;
use crate::home::Home;

/// Where GitHub's interface is, and its repositories.
const GITHUB_API: &str = "https://api.github.com";
const GITHUB: &str = "https://github.com";

/// The name that git gives with a token; forges look at the token alone.
const LOGIN: &str = "x-access-token";

/// The branch that plans are merged into.
pub(crate) const BASE: &str = "main";

/// The forge that a configuration names, as who the token in its file speaks for, and our copy of its repository, whose
/// programs end when `stop` is set.
///
/// # Errors
/// A setting can't be used; the error says which.
pub(crate) fn open(
    home: &Home,
    config: &Config,
    environment: &Environment,
    spec: &ForgeSpec,
    stop: &StopFlag,
) -> Result<(Arc<dyn Forge>, Upstream)> {
    let token = read_secret(&home.folder().join(&spec.token_file)).context("`forge.token_file`")?;
    let forge = as_person(home, spec, &token)?;
    Ok((forge, upstream_as(config, environment, spec, stop, &token)?))
}

/// Our copy of the forge's repository, for who a token speaks for.
///
/// # Errors
/// `forge.git_url` can't be used.
pub(crate) fn upstream_as(
    config: &Config,
    environment: &Environment,
    spec: &ForgeSpec,
    stop: &StopFlag,
    token: &str,
) -> Result<Upstream> {
    let git = crate::mirror::git(environment).stoppable(stop.clone());
    Ok(Upstream::new(git, config.requests.clone(), address(spec)?.with_login(LOGIN, token)))
}

/// The forge that a configuration names, as who a token speaks for.
///
/// # Errors
/// A setting can't be used; the error says which.
pub(crate) fn as_person(home: &Home, spec: &ForgeSpec, token: &str) -> Result<Arc<dyn Forge>> {
    Ok(administrator(home, spec, token)?)
}

/// The forge that a configuration names, as who a token speaks for, who administers the repository.
///
/// # Errors
/// A setting can't be used; the error says which.
pub(crate) fn administrator(home: &Home, spec: &ForgeSpec, token: &str) -> Result<Arc<dyn Setup>> {
    let ca = spec.ca_file.as_ref().map(|file| read_authority(&home.folder().join(file))).transpose();
    let ca = ca.context("`forge.ca_file`")?;
    let slug: Slug = spec.repository.parse().context("`forge.repository`")?;
    adapter(spec, slug, token, ca.as_deref())
}

/// Where git finds the forge's repository, as nobody in particular.
///
/// # Errors
/// It is no address, or leaves this machine in the clear.
pub(crate) fn address(spec: &ForgeSpec) -> Result<GitUrl> {
    GitUrl::of_forge(&git_url(spec)?, spec.insecure_tls).context("`forge.git_url`")
}

fn adapter(spec: &ForgeSpec, slug: Slug, token: &str, ca: Option<&str>) -> Result<Arc<dyn Setup>> {
    let address = |url, api| Address { url, api, ca, insecure: spec.insecure_tls };
    Ok(match spec.kind {
        ForgeKind::Gitea | ForgeKind::Forgejo => {
            let url = spec.url.as_deref().context("`forge.url` is missing: https://git.example")?;
            Arc::new(Gitea::new(address(url, Gitea::API), slug, token)?)
        }
        ForgeKind::GitHub => {
            Arc::new(GitHub::new(address(spec.url.as_deref().unwrap_or(GITHUB_API), ""), slug, token)?)
        }
    })
}

/// How git reaches the repository.
fn git_url(spec: &ForgeSpec) -> Result<String> {
    if let Some(url) = &spec.git_url {
        return Ok(url.clone());
    }
    let url = match (spec.kind, &spec.url) {
        (ForgeKind::GitHub, None) => GITHUB,
        // An Enterprise Server has its interface below its own address.
        (ForgeKind::GitHub, Some(url)) => url.trim_end_matches('/').trim_end_matches("/api/v3"),
        (ForgeKind::Gitea | ForgeKind::Forgejo, Some(url)) => url.trim_end_matches('/'),
        (ForgeKind::Gitea | ForgeKind::Forgejo, None) => anyhow::bail!("`forge.url` is missing: https://git.example"),
    };
    Ok(format!("{url}/{}.git", spec.repository))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: ForgeKind, url: Option<&str>) -> ForgeSpec {
        ForgeSpec {
            kind,
            url: url.map(str::to_owned),
            repository: "ops/requests".to_owned(),
            git_url: None,
            token_file: "forge-token".into(),
            webhook_secret_file: None,
            ca_file: None,
            insecure_tls: false,
        }
    }

    #[test]
    fn git_finds_the_repository_where_people_do() {
        for (kind, url, expected) in [
            (ForgeKind::Gitea, Some("https://git.example/"), "https://git.example/ops/requests.git"),
            (ForgeKind::Forgejo, Some("https://x.example/git"), "https://x.example/git/ops/requests.git"),
            (ForgeKind::GitHub, None, "https://github.com/ops/requests.git"),
            (ForgeKind::GitHub, Some("https://ghe.example/api/v3"), "https://ghe.example/ops/requests.git"),
        ] {
            assert_eq!(git_url(&spec(kind, url)).unwrap(), expected);
        }
        assert!(git_url(&spec(ForgeKind::Gitea, None)).is_err());
    }
}
