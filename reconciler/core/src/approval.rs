//! Whether a merge on a forge approves a plan. Pure: what the forge says comes in, and every reason of a no goes out.
//!
//! Forges' own rules have been got round again and again, so base, path, head and merger are judged here as well.

use std::collections::BTreeSet;

use chiffon_schemas::{Host, Plan, RiskLevel};

use crate::facts::{Pull, PullState};

/// Who may approve which plans.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApprovalPolicy {
    /// Each rule that is for a plan has to be kept. Where none is, anybody who may write, but the bot, is enough.
    pub rules: Vec<ApprovalRule>,
    /// Merges have to be signed by one of the listed keys (S3).
    pub signed: bool,
}

/// Who may approve plans of a kind, and how many of them it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRule {
    /// For plans of this risk or a higher one.
    pub risk: Option<RiskLevel>,
    /// For plans that touch one of these hosts.
    pub hosts: BTreeSet<Host>,
    /// For plans that touch one of these services.
    pub services: BTreeSet<String>,
    /// Who may, as the forge calls them; anybody who may write where it is empty.
    pub by: BTreeSet<String>,
    /// How many it takes, who merged included.
    pub count: usize,
}

impl ApprovalRule {
    /// Whether it is for a plan. What a rule does not name, it does not ask for; of what it names everything must fit.
    fn is_for(&self, plan: &Plan) -> bool {
        let touches = &plan.spec.touches;
        self.risk.is_none_or(|risk| plan.spec.risk.level >= risk)
            && (self.hosts.is_empty() || touches.hosts.iter().any(|host| self.hosts.contains(host)))
            && (self.services.is_empty() || touches.services.iter().any(|service| self.services.contains(service)))
    }
}

/// What a forge says of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// Who merged, where the forge knows.
    pub by: Option<String>,
    /// Who else approved the commit that was merged, and may write.
    pub approved_by: BTreeSet<String>,
    /// Whether who merged may write.
    pub may_write: bool,
    /// The branch that it went into.
    pub base: String,
    /// The branch that it came from.
    pub head: String,
    /// It came from a fork.
    pub foreign: bool,
    /// Whether the merge is signed by a listed key; why not, where it is not.
    pub signature: Result<(), String>,
}

impl Merge {
    /// What a forge said of a pull request, where that is a merge.
    pub fn of(pull: &Pull) -> Option<Self> {
        let PullState::Merged { by, .. } = &pull.state else { return None };
        Some(Self {
            by: by.clone(),
            approved_by: pull.approved_by.clone(),
            may_write: pull.may_write,
            base: pull.base.clone(),
            head: pull.head.clone(),
            foreign: pull.foreign,
            signature: pull.unsigned.clone().map_or(Ok(()), Err),
        })
    }
}

/// What must be so of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The branch that plans are merged into.
    pub base: String,
    /// The plan branch.
    pub head: String,
    /// The account that Chiffon speaks as.
    pub bot: String,
}

/// Why a merge approves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotApproved {
    /// It went elsewhere.
    #[error("it was merged into `{0}`")]
    Base(String),
    /// It came from elsewhere.
    #[error("it came from `{0}`, which is not its plan branch")]
    Head(String),
    /// It came from a fork.
    #[error("it came from a fork")]
    Fork,
    /// The forge does not say who merged.
    #[error("the forge does not say who merged it")]
    Nobody,
    /// Chiffon did, which never approves.
    #[error("`{0}` is the account that Chiffon itself uses, which may not approve")]
    Bot(String),
    /// Who merged may not write.
    #[error("`{0}` has no write access")]
    Stranger(String),
    /// A rule asks for others, or for more.
    #[error("{}", too_few(*.needs, .of, .had))]
    TooFew {
        /// How many it takes.
        needs: usize,
        /// Of whom; anybody who may write where it is empty.
        of: BTreeSet<String>,
        /// Who of them approved.
        had: BTreeSet<String>,
    },
    /// It is not signed as it must be.
    #[error("its merge is not signed by a listed key: {0}")]
    Unsigned(String),
}

fn too_few(needs: usize, of: &BTreeSet<String>, had: &BTreeSet<String>) -> String {
    let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let of = if of.is_empty() { "people who may write".to_owned() } else { list(of) };
    let had = if had.is_empty() { "none".to_owned() } else { list(had) };
    format!("it takes {needs} of {of}, and had {had}")
}

/// Whether a merge approves a plan: who approved it, or everything that speaks against it.
///
/// # Errors
/// See [`NotApproved`]; never empty.
pub fn approval(
    plan: &Plan,
    policy: &ApprovalPolicy,
    merge: &Merge,
    expected: &Expected,
) -> Result<BTreeSet<String>, Vec<NotApproved>> {
    let mut against = Vec::new();
    if merge.base != expected.base {
        against.push(NotApproved::Base(merge.base.clone()));
    }
    if merge.head != expected.head {
        against.push(NotApproved::Head(merge.head.clone()));
    }
    if merge.foreign {
        against.push(NotApproved::Fork);
    }
    let mut who: BTreeSet<String> =
        merge.approved_by.iter().filter(|login| !same(login, &expected.bot)).cloned().collect();
    match &merge.by {
        None => against.push(NotApproved::Nobody),
        Some(by) if same(by, &expected.bot) => against.push(NotApproved::Bot(by.clone())),
        Some(by) if !merge.may_write => against.push(NotApproved::Stranger(by.clone())),
        Some(by) => {
            who.insert(by.clone());
        }
    }
    for rule in policy.rules.iter().filter(|rule| rule.is_for(plan)) {
        let of = |login: &&String| rule.by.is_empty() || rule.by.iter().any(|known| same(known, login));
        let had: BTreeSet<String> = who.iter().filter(of).cloned().collect();
        if had.len() < rule.count.max(1) {
            against.push(NotApproved::TooFew { needs: rule.count.max(1), of: rule.by.clone(), had });
        }
    }
    if let Err(why) = &merge.signature
        && policy.signed
    {
        against.push(NotApproved::Unsigned(why.clone()));
    }
    if against.is_empty() { Ok(who) } else { Err(against) }
}

/// Whether two names are one account: forges tell no case apart.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}
