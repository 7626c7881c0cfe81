//! The infra agent's work: one `ansible-playbook` for one step, from a checkout of exactly what was approved.
//!
//! It trusts git and its own configuration, never the order alone (S1); what a playbook prints leaves only without
//! the vault's values (S13); and a run succeeds only where every planned host is seen to be well (N3). It never
//! rewrites an infra repository, and runs no Ansible program on content that nobody merged.

mod agree;
mod check;
mod config;
mod events;
mod forms;
mod output;
mod pump;
mod redact;
mod room;
mod run;
mod vars;
mod vaulted;
mod verdict;
mod version;
mod work;

pub use agree::{Disagreement, agree};
pub use check::{Refused, check};
pub use config::AnsibleConfig;
pub use redact::{Redactor, Secrets};
pub use run::{Playbook, PrepareError, run_playbook};
pub use vars::{VarsError, extra_vars};
pub use vaulted::first_vaulted;
pub use version::{ProbeError, major_minor, probe_version};
pub use work::Ansible;
