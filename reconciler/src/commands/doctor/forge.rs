//! The forge: whether it answers, who the token speaks as, and what that account may do there.

use chiffon_forge::{Forge, Permission, Status, StatusState, Trouble};
use chiffon_schemas::{ForgeSpec, Oid};

use super::{Check, bad, good};
use crate::commands::chain;
use crate::commands::forge::{judged, proved};
use crate::config::Config;
use crate::environment::Environment;
use crate::home::Home;

/// All of it; what can't be asked since something before it failed is left out.
pub(super) async fn checks(
    home: &Home,
    environment: &Environment,
    config: &Config,
    spec: &ForgeSpec,
    prove: bool,
) -> Vec<Check> {
    let stop = chiffon_requests::StopFlag::default();
    let (forge, upstream) = match crate::forge::open(home, config, environment, spec, &stop) {
        Ok(opened) => opened,
        Err(error) => return vec![bad("forge", chain(error.as_ref()), "mend `forge` in chiffon.yaml")],
    };
    let mut checks = Vec::new();
    let login = match forge.identity().await {
        Ok(identity) => {
            checks.push(good("forge", format!("{}, as {}", identity.server, identity.login)));
            identity.login
        }
        Err(trouble) => return vec![failed("forge", &trouble)],
    };
    checks.push(repository(&*forge).await);
    checks.push(match forge.permission(&login).await {
        Ok(_) => good("who may write there", "the forge says it"),
        Err(trouble) => failed("who may write there", &trouble),
    });
    checks.push(scopes(&*forge).await);
    checks.push(rule(&*forge, &login).await);
    if prove {
        checks.push(proof(&*forge, &upstream).await);
    }
    checks.extend(webhook(home, spec));
    let what = "forge's git";
    let upstream = match crate::forge::with_git_token(&*forge, &upstream).await {
        Ok(upstream) => upstream,
        Err(trouble) => return checks.into_iter().chain([failed(what, &trouble)]).collect(),
    };
    let looked = tokio::task::spawn_blocking(move || upstream.default_branch()).await;
    checks.push(match looked {
        Ok(Ok(branch)) if branch == crate::forge::BASE => good(what, "its branch is main"),
        Ok(Ok(branch)) => bad(what, format!("its branch is {branch}"), "make main its default branch"),
        Ok(Err(error)) => bad(what, chain(&error), "mend `forge.git_url`, or push what `chiffon init` made there"),
        Err(error) => bad(what, error.to_string(), "run it again"),
    });
    if spec.insecure_tls {
        let found = "insecure: whoever sits between may read the token and merge plans";
        checks.push(bad(
            "line to the forge",
            found,
            "write https:// and take `forge.insecure_tls` out of chiffon.yaml",
        ));
    }
    checks
}

/// What the rules of `main` let Chiffon's account do (S15).
async fn rule(forge: &dyn Forge, login: &str) -> Check {
    let what = "rule of main";
    match forge.guard(crate::forge::BASE).await {
        // Nothing that it merges counts, so that this is up to people.
        Ok(guard) if !guard.protected => good(
            what,
            "none: Chiffon's account may push and merge there, which approves nothing; `chiffon forge setup` makes one",
        ),
        Ok(guard) => {
            let (ok, found) = judged(&guard, login);
            let found = if ok && may_change_it(forge).await {
                format!("{found}; it administers the repository, and could change that rule")
            } else {
                found
            };
            let fix = "`chiffon forge setup` makes a rule where there is none of yours";
            if ok { good(what, found) } else { bad(what, found, fix) }
        }
        Err(trouble) => failed(what, &trouble),
    }
}

/// Whether the token may write what Chiffon writes, asked about a comment and a commit that are not there: a forge looks at
/// the token first, so that nothing is changed.
async fn scopes(forge: &dyn Forge) -> Check {
    let what = "what the token may write";
    let nowhere = Oid::parse("0".repeat(40)).expect("forty digits");
    let status = Status {
        context: "chiffon/plan".to_owned(),
        state: StatusState::Pending,
        description: String::new(),
        url: None,
    };
    for asked in [forge.edit_comment(0, "-").await.map(drop), forge.set_status(&nowhere, &status).await] {
        if let Err(trouble @ (Trouble::Forbidden { .. } | Trouble::Unauthorized { .. })) = asked {
            return failed(what, &trouble);
        }
    }
    good(what, "comments and commit statuses")
}

async fn may_change_it(forge: &dyn Forge) -> bool {
    forge.repository().await.is_ok_and(|repository| repository.permission == Permission::Admin)
}

async fn proof(forge: &dyn Forge, upstream: &chiffon_requests::Upstream) -> Check {
    let what = "proof";
    match crate::proof::try_out(forge, upstream).await {
        Ok(proof) => {
            let (ok, found) = proved(&proof);
            if ok {
                good(what, found)
            } else {
                bad(what, found, "`chiffon forge setup` makes the rule, or say it in the forge's settings")
            }
        }
        Err(error) => bad(what, chain(error.as_ref()), "mend what is named, and run it again"),
    }
}

fn ago_in_words(ago: std::time::Duration) -> String {
    crate::output::ago(i64::try_from(ago.as_secs()).unwrap_or(i64::MAX))
}

/// When a webhook came last: that none ever did is worth a look, and no mistake.
fn webhook(home: &Home, spec: &ForgeSpec) -> Option<Check> {
    spec.webhook_secret_file.as_ref()?;
    let heard = std::fs::metadata(home.heard()).and_then(|data| data.modified()).ok();
    let ago = heard.and_then(|at| at.elapsed().ok());
    let found = match ago {
        Some(ago) => format!("the last one came {}", ago_in_words(ago)),
        None => "none came yet; polling goes on, and `chiffon forge setup` has one sent".to_owned(),
    };
    Some(good("webhook", found))
}

async fn repository(forge: &dyn Forge) -> Check {
    let what = "forge's repository";
    match forge.repository().await {
        Ok(found) if found.permission < Permission::Write => {
            let found = format!("{}: Chiffon's account may only read", found.full_name);
            bad(what, found, "give that account write access to it")
        }
        Ok(found) => good(what, format!("{}, which Chiffon's account may write to", found.full_name)),
        Err(trouble) => failed(what, &trouble),
    }
}

fn failed(what: &'static str, trouble: &Trouble) -> Check {
    let fix = match trouble {
        Trouble::Unauthorized { fix, .. } => fix,
        Trouble::Forbidden { .. } => "give the token, or its account, what is named",
        Trouble::Unreachable { .. } => "mend `forge.url` in chiffon.yaml, or the line to it",
        _ => "look into the forge's own log, then run it again",
    };
    bad(what, trouble.to_string(), fix)
}
