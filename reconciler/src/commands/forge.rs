//! `chiffon forge setup`: makes a repository on a forge ready, as somebody who administers it, and proves that it is.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use chiffon_forge::{Forge, Hook, Made, Rule, Setup, Trouble};
use chiffon_requests::{RefName, StopFlag};
use chiffon_schemas::{ForgeKind, ForgeSpec};
use serde::Serialize;

use super::Exit;
use crate::cli::{ForgeCommand, ForgeSetup};
use crate::config::{self, Config};
use crate::environment::Environment;
use crate::home::Home;
use crate::output::{Output, Tone};
use crate::proof::{self, Proof, SCRATCH};

/// How long a webhook may take to come. One that comes right behind another is not noted by itself: so it is called again.
const KNOCK_WITHIN: Duration = Duration::from_secs(5);
const KNOCKS: u32 = 2;
const KNOCK_EVERY: Duration = Duration::from_millis(100);

/// One thing that was made or found.
#[derive(Debug, Serialize)]
struct Step {
    what: &'static str,
    ok: bool,
    said: String,
}

/// Makes labels, the webhook and the rule of `main`, each once, and proves the last two.
///
/// # Errors
/// No forge is configured, the token is none, or the forge refuses; what was made before stays, and doing it again goes on.
pub async fn run(what: &ForgeCommand, home: &Home, environment: &Environment, output: &Output) -> Result<Exit> {
    let ForgeCommand::Setup(args) = what;
    let config = config::load(&home.config()).map_err(super::config_error)?;
    let Some(spec) = &config.spec.forge else {
        bail!("{} names no forge: `forge` says which one, as docs/forges.md shows", home.config().display());
    };
    let token = super::approve::persons_token(args.token_file.as_deref(), environment)?;
    let Some(token) = token else {
        bail!(
            "name a token of somebody who administers {}: --token-file FILE, or CHIFFON_FORGE_TOKEN; it is used this once",
            spec.repository
        );
    };
    let site = Site { home, config: &config, spec, output };
    let admin = crate::forge::administrator(home, spec, &token)?;
    let stop = StopFlag::default();
    let (bot, upstream) = crate::forge::open(home, &config, environment, spec, &stop)?;
    let login = bot.identity().await.context("asking whose token `forge.token_file` holds")?.login;
    let mut steps = vec![site.labels(&*admin).await?];
    let hook = site.hook(args, &*admin).await?;
    if args.no_rule {
        site.tell("main", true, "its rules stay as they are".to_owned());
    } else {
        let persons = crate::forge::upstream_as(&config, environment, spec, &stop, &token)?;
        steps.extend(site.rule(&*admin, &*bot, &login, persons).await?);
        steps.push(site.proof(&*bot, &upstream).await?);
    }
    // The pull request that the proof opens is one of the events that it is called for.
    if let Some(hook) = hook {
        steps.push(site.heard(&*admin, hook).await);
    }
    let clean = steps.iter().all(|step| step.ok);
    output.result(&serde_json::json!({ "ok": clean, "steps": steps }), || {
        if clean { "all is set up" } else { "something is left to do: see above" }.to_owned()
    });
    Ok(if clean { Exit::Done } else { Exit::Attention })
}

/// A webhook that was made, and what was noted of it before.
struct MadeHook {
    id: u64,
    made: String,
    before: Option<Vec<u8>>,
}

/// Where it is done.
struct Site<'a> {
    home: &'a Home,
    config: &'a Config,
    spec: &'a ForgeSpec,
    output: &'a Output,
}

impl Site<'_> {
    /// Says what was done as soon as it is: a forge may be slow.
    fn tell(&self, what: &'static str, ok: bool, said: String) -> Step {
        let (tone, word) = if ok { (Tone::Good, "ok  ") } else { (Tone::Bad, "FAIL") };
        self.output.progress(&format!("{} {what}: {said}", self.output.paint(tone, word)));
        Step { what, ok, said }
    }

    async fn labels(&self, admin: &dyn Setup) -> Result<Step> {
        let all = crate::driver::all_labels();
        let made = admin.make_labels(&all).await?;
        let said = format!("{} of {} were made, the others were there", made, all.len());
        Ok(self.tell("labels", true, said))
    }

    /// Makes the webhook, where there is to be one.
    async fn hook(&self, args: &ForgeSetup, admin: &dyn Setup) -> Result<Option<MadeHook>> {
        let what = "webhook";
        let Some(file) = &self.spec.webhook_secret_file else {
            self.tell(
                what,
                true,
                "none: `forge.webhook_secret_file` names no secret, and polling is enough".to_owned(),
            );
            return Ok(None);
        };
        let Some(url) = args.hook.clone().or_else(|| self.hook_url()) else {
            bail!("say where the forge reaches Chiffon: `web.url` in chiffon.yaml, or --hook URL");
        };
        if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            bail!("`{}` is no address of a webhook: https://HOST/webhooks/…", crate::output::printable(&url));
        }
        if args.hook.is_none() && is_of_this_machine(&url) && !self.spec.url.as_deref().is_some_and(is_of_this_machine)
        {
            bail!("the forge can't reach {url}: set `web.url` in chiffon.yaml to where it can, or say --hook URL");
        }
        let path = self.home.folder().join(file);
        if chiffon_link::write_first_secret(&path, &crate::environment::secret())? {
            self.output.progress(&format!("made a secret: {}", path.display()));
        }
        let secret = chiffon_link::read_secret(&path).context("`forge.webhook_secret_file`")?;
        let (id, made) = admin.make_hook(&Hook { url, secret }).await?;
        Ok(Some(MadeHook { id, made: said(&made), before: self.noted() }))
    }

    /// Whether a webhook is heard by the `chiffon up` that runs here.
    async fn heard(&self, admin: &dyn Setup, hook: MadeHook) -> Step {
        let (what, made) = ("webhook", &hook.made);
        if !crate::up::is_running(self.home) {
            return self.tell(what, true, format!("{made}; not proved, since no `chiffon up` runs here"));
        }
        match self.is_heard(admin, &hook).await {
            Ok(true) => self.tell(what, true, format!("{made}; the forge called it, and `chiffon up` heard it")),
            Ok(false) => self.tell(what, false, format!("{made}; {}", self.not_heard())),
            Err(trouble) => self.tell(what, false, format!("{made}; not proved: {trouble}")),
        }
    }

    /// What was noted when a webhook was heard last.
    fn noted(&self) -> Option<Vec<u8>> {
        std::fs::read(self.home.heard()).ok()
    }

    fn hook_url(&self) -> Option<String> {
        let web = self.config.spec.web.as_ref()?;
        let scheme = if web.tls.is_some() { "https" } else { "http" };
        let base = web.url.clone().unwrap_or_else(|| format!("{scheme}://{}", web.listen));
        let kind = match self.spec.kind {
            ForgeKind::Gitea => "gitea",
            ForgeKind::Forgejo => "forgejo",
            ForgeKind::GitHub => "github",
        };
        Some(format!("{}/webhooks/{kind}", base.trim_end_matches('/')))
    }

    /// Whether `chiffon up` took in what the forge sent since, or sends now.
    async fn is_heard(&self, admin: &dyn Setup, hook: &MadeHook) -> Result<bool, Trouble> {
        if self.noted() != hook.before {
            return Ok(true);
        }
        for _ in 0..KNOCKS {
            let called = admin.call_hook(hook.id).await;
            let until = tokio::time::Instant::now() + KNOCK_WITHIN;
            while tokio::time::Instant::now() < until {
                if self.noted() != hook.before {
                    return Ok(true);
                }
                tokio::time::sleep(KNOCK_EVERY).await;
            }
            // Some can't be made to call it; what happened before may be under way still, and is waited for all the same.
            called?;
        }
        Ok(false)
    }

    fn not_heard(&self) -> String {
        let why = match self.spec.kind {
            ForgeKind::GitHub => "GitHub must reach that address from outside",
            ForgeKind::Gitea | ForgeKind::Forgejo => {
                "its `[webhook] ALLOWED_HOST_LIST` must name this machine, and `chiffon up` have the same secret"
            }
        };
        format!("the forge called it, and `chiffon up` did not hear it: {why}")
    }

    /// Makes the rule, and the branch that it is tried out on.
    async fn rule(
        &self,
        admin: &dyn Setup,
        bot: &dyn Forge,
        login: &str,
        upstream: chiffon_requests::Upstream,
    ) -> Result<Vec<Step>> {
        let what = "rule of main";
        let scratch = RefName::branch(SCRATCH)?;
        let made = tokio::task::spawn_blocking(move || {
            upstream.peek()?.map_or(Ok(()), |main| match upstream.make_branch(&scratch, &main) {
                Err(error) if error.is_stale() || error.is_refused_push() => Ok(()),
                done => done,
            })
        });
        made.await?.with_context(|| format!("making the branch {SCRATCH}"))?;
        let rule = Rule { base: crate::forge::BASE.to_owned(), scratch: SCRATCH.to_owned(), bot: login.to_owned() };
        let mut steps = Vec::new();
        match admin.protect(&rule).await? {
            Made::Theirs(name) => {
                let found = format!(
                    "a rule of yours, `{name}`, is there, and stays as it is: it must not let {login} push or merge. \
                     Where it is taken away, this makes one"
                );
                steps.push(self.tell(what, true, found));
            }
            made => steps.push(self.tell(what, true, said(&made))),
        }
        let guard = bot.guard(crate::forge::BASE).await?;
        let (ok, found) = judged(&guard, login);
        steps.push(self.tell("what it lets Chiffon's account do", ok, found));
        Ok(steps)
    }

    async fn proof(&self, bot: &dyn Forge, upstream: &chiffon_requests::Upstream) -> Result<Step> {
        let (ok, found) = proved(&proof::try_out(bot, upstream).await?);
        Ok(self.tell("proof", ok, found))
    }
}

/// Whether an address means the machine that asks for it, or none at all.
fn is_of_this_machine(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    ["127.", "localhost", "[::1]", "0.0.0.0", "[::]"].iter().any(|start| host.starts_with(start))
}

/// What the forge says that Chiffon's account may do on `main`, in words, and whether that is as it should be.
pub(super) fn judged(guard: &chiffon_forge::Guard, login: &str) -> (bool, String) {
    match (guard.protected, guard.may_merge) {
        (false, _) => (false, format!("main is not protected: {login} may merge into it")),
        (true, _) if guard.may_push == Some(true) => (
            false,
            format!(
                "main is protected, and {login} may push to it all the same: take it out of the rule's list, or administration from it"
            ),
        ),
        (true, Some(true)) => (
            false,
            format!(
                "main is protected, and {login} may merge into it all the same: take it out of the rule's list, or administration from it"
            ),
        ),
        (true, Some(false)) => (true, format!("main is protected: {login} may not merge into it")),
        (true, None) => (true, format!("main is protected; the forge does not say whether {login} may merge into it")),
    }
}

/// What came of trying, in words.
pub(super) fn proved(proof: &Proof) -> (bool, String) {
    match proof {
        Proof::Refused(said) => (true, format!("Chiffon's account tried to merge, and was refused: {said}")),
        Proof::Merged => (
            false,
            format!(
                "Chiffon's account merged a pull request into {SCRATCH}: give it no more than write access, and no right to go past the rule"
            ),
        ),
        Proof::Unclear(said) => (false, format!("nothing is proved: the merge was refused for another reason: {said}")),
        Proof::NoRule => (
            true,
            format!(
                "nothing is tried: your own rule is not for {SCRATCH}; what the forge says of main is all there is"
            ),
        ),
        Proof::Unprotected => {
            (false, format!("neither main nor {SCRATCH} has a rule: `chiffon forge setup` makes one for both"))
        }
        Proof::NoScratch => {
            (false, format!("there is no branch {SCRATCH} to try it on: `chiffon forge setup` makes it"))
        }
    }
}

fn said(made: &Made) -> String {
    match made {
        Made::New(what) => format!("made: {what}"),
        Made::Changed(what) => format!("was there, set again: {what}"),
        Made::Theirs(what) => what.clone(),
    }
}
