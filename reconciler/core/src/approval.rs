//! Whether a merge on a forge approves a plan. Pure: what the forge says comes in, and every reason of a no goes out.
//!
//! Forges' own rules have been got round again and again, so base, path, head and merger are judged here as well.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chiffon_schemas::{Host, Plan, RiskLevel};

use crate::facts::{Pull, PullState};

/// Who may approve which plans.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApprovalPolicy {
    /// Each rule that is for a plan has to be kept. Where none is, anybody who may write, but the bot, is enough.
    pub rules: Vec<ApprovalRule>,
    /// The commit that puts a plan on `main` has to be signed by a key that this file lists (S3); who reads it judges
    /// that, since only git can.
    pub signers: Option<PathBuf>,
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

impl ApprovalPolicy {
    /// What a plan's approval takes beyond anybody who may write, for people, and whether those who approved so far are
    /// enough but for who merges.
    pub fn wants(&self, plan: &Plan, approved: &BTreeSet<String>) -> Option<(String, bool)> {
        let rules: Vec<&ApprovalRule> = self.rules.iter().filter(|rule| rule.is_for(plan)).collect();
        let words: Vec<String> = rules
            .iter()
            .map(|rule| {
                let had = rule.had(approved);
                format!("{} of {} ({} so far)", rule.count.max(1), of(&rule.by), had.len())
            })
            .collect();
        let enough = rules.iter().all(|rule| rule.had(approved).len() + 1 >= rule.count.max(1));
        (!words.is_empty()).then(|| (words.join("; "), enough))
    }
}

impl ApprovalRule {
    /// Who of those who approved counts for it.
    fn had(&self, who: &BTreeSet<String>) -> BTreeSet<String> {
        let counts = |login: &&String| self.by.is_empty() || self.by.iter().any(|known| same(known, login));
        who.iter().filter(counts).cloned().collect()
    }

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
    /// Whether its head, and what the merge made, hold the plan.
    pub carried: bool,
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
            carried: pull.carried,
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
    /// What was merged is not the plan.
    #[error("what was merged is not the plan that it showed")]
    Other,
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
}

fn too_few(needs: usize, by: &BTreeSet<String>, had: &BTreeSet<String>) -> String {
    let had = if had.is_empty() { "none".to_owned() } else { list(had) };
    format!("it takes {needs} of {}, and had {had}", of(by))
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Whom a rule takes, in words.
fn of(by: &BTreeSet<String>) -> String {
    if by.is_empty() { "people who may write".to_owned() } else { list(by) }
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
    if !merge.carried {
        against.push(NotApproved::Other);
    }
    let mut who: BTreeSet<String> =
        merge.approved_by.iter().filter(|login| !same(login, &expected.bot)).cloned().collect();
    match &merge.by {
        None => against.push(NotApproved::Nobody),
        Some(by) if same(by, &expected.bot) => against.push(NotApproved::Bot(by.clone())),
        Some(by) if !merge.may_write => against.push(NotApproved::Stranger(by.clone())),
        Some(by) if who.iter().any(|known| same(known, by)) => {}
        Some(by) => {
            who.insert(by.clone());
        }
    }
    for rule in policy.rules.iter().filter(|rule| rule.is_for(plan)) {
        let had = rule.had(&who);
        if had.len() < rule.count.max(1) {
            against.push(NotApproved::TooFew { needs: rule.count.max(1), of: rule.by.clone(), had });
        }
    }
    if against.is_empty() { Ok(who) } else { Err(against) }
}

/// Whether two names are one account: forges tell no case apart.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}
