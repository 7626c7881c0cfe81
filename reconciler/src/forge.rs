//! The forge that a configuration names: its adapter, and the copy of its repository.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use chiffon_forge::{Address, App, Forge, GitHub, Gitea, Setup, Slug, Trouble};
use chiffon_link::{read_authority, read_private, read_secret};
use chiffon_requests::{GitUrl, StopFlag, Upstream};
use chiffon_schemas::{AppSpec, ForgeKind, ForgeSpec};

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
    match (&spec.token_file, &spec.app) {
        (Some(file), None) => {
            let token = read_secret(&home.folder().join(file)).context("`forge.token_file`")?;
            let forge = as_person(home, spec, &token)?;
            Ok((forge, upstream_as(config, environment, spec, stop, &token)?))
        }
        // Its token for git is asked for when it is needed.
        (None, Some(app)) => Ok((as_app(home, spec, app)?, upstream_as(config, environment, spec, stop, "")?)),
        (None, None) => bail!("`forge` lacks `token_file`, the file with the token of Chiffon's own account"),
        (Some(_), Some(_)) => bail!("`forge` has a `token_file` and an `app`: take one of them out"),
    }
}

/// The forge that a configuration names, as a GitHub App.
fn as_app(home: &Home, spec: &ForgeSpec, app: &AppSpec) -> Result<Arc<dyn Forge>> {
    if spec.kind != ForgeKind::GitHub {
        bail!("`forge.app`: only GitHub has Apps; name the token of an account in `forge.token_file`");
    }
    let key = read_private(&home.folder().join(&app.key_file)).context("`forge.app.key_file`")?;
    let app = App::new(app.id, &key, crate::environment::now).context("`forge.app.key_file`")?;
    let ca = authority(home, spec)?;
    let address = github_address(spec, ca.as_deref());
    Ok(Arc::new(GitHub::as_app(address, slug(spec)?, app)?))
}

fn authority(home: &Home, spec: &ForgeSpec) -> Result<Option<String>> {
    let ca = spec.ca_file.as_ref().map(|file| read_authority(&home.folder().join(file))).transpose();
    ca.context("`forge.ca_file`")
}

fn slug(spec: &ForgeSpec) -> Result<Slug> {
    spec.repository.parse().context("`forge.repository`")
}

fn github_address<'a>(spec: &'a ForgeSpec, ca: Option<&'a str>) -> Address<'a> {
    Address { url: spec.url.as_deref().unwrap_or(GITHUB_API), api: "", ca, insecure: spec.insecure_tls }
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
    let ca = authority(home, spec)?;
    adapter(spec, slug(spec)?, token, ca.as_deref())
}

/// The copy's own way to the forge, with the token that git is to use now.
///
/// # Errors
/// The forge does not give one.
pub(crate) async fn with_git_token(forge: &dyn Forge, upstream: &Upstream) -> Result<Upstream, Trouble> {
    Ok(match forge.git_token().await? {
        Some(token) => upstream.clone().with_login(LOGIN, &token),
        None => upstream.clone(),
    })
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
        ForgeKind::GitHub => Arc::new(GitHub::new(github_address(spec, ca), slug, token)?),
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
            token_file: Some("forge-token".into()),
            app: None,
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
