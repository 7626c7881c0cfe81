//! What the owner allows, as `chiffon.yaml` says it under `policy`.

use std::collections::BTreeSet;

use chiffon_schemas::{Host, RepoPath};

/// What the owner allows. Read from configuration; its digest is in each approval's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Hosts that no plan may touch.
    pub deny_hosts: BTreeSet<Host>,
    /// Playbooks that no plan may run.
    pub deny_playbooks: BTreeSet<RepoPath>,
    /// The most hosts that one plan may touch.
    pub max_hosts: usize,
    /// The longest that one step may take, in seconds.
    pub max_timeout_secs: u32,
    /// Days until an offer expires.
    pub offer_days: u32,
    /// Seconds of an agent's silence after which its granted attempts are lost.
    pub agent_silence_secs: u32,
    /// Plans in mode `check` begin without an approval, where [`chiffon_schemas::Plan::may_be_exempt`] says so.
    pub exempt_check_runs: bool,
    /// Whose merges approve what, on a forge.
    pub approval: crate::ApprovalPolicy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            deny_hosts: BTreeSet::new(),
            deny_playbooks: BTreeSet::new(),
            max_hosts: 50,
            max_timeout_secs: 4 * 3_600,
            // DESIGN: snapshot time + 14 days.
            offer_days: 14,
            agent_silence_secs: 90,
            exempt_check_runs: false,
            approval: crate::ApprovalPolicy::default(),
        }
    }
}
