//! The bed of the end-to-end tests: a home, an infra repository and a person with a clone, all in a temporary folder,
//! driven through the real `chiffon` and the real `git`. Nothing here knows the program's inside.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod authority;
mod background;
mod bed;
pub mod blow;
mod broker;
mod cast;
mod collector;
pub mod crash;
pub mod forge;
pub mod http;
mod infra;
mod postgres;
mod service;
mod wire;

pub use authority::Authority;
pub use background::Background;
pub use bed::{Bed, Merge, Said};
pub use broker::Broker;
pub use cast::{Cast, News};
pub use collector::{Collector, Seen};
pub use infra::{Infra, homelab, is_alive};
pub use postgres::{attempt_states, new_database, new_database_at};
pub use service::Service;

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The built program, in the folder that this test itself was built into.
///
/// # Panics
/// It was not built: `make test` does.
pub fn chiffon() -> PathBuf {
    built("chiffon")
}

/// The built program of agents in processes of their own.
///
/// # Panics
/// It was not built: `make test` does.
pub fn chiffon_agent() -> PathBuf {
    built("chiffon-agent")
}

fn built(program: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().find(|folder| folder.join(program).is_file());
    let folder = folder.unwrap_or_else(|| panic!("{program} is not built beside {}: run `make test`", test.display()));
    folder.join(program)
}

/// The `ansible-playbook` that tests run.
///
/// # Panics
/// It is not there: `make test` makes it.
pub fn ansible_playbook() -> PathBuf {
    let path = root().join(".venv/ansible-2.19/bin/ansible-playbook");
    assert!(path.is_file(), "{} is missing: run `make test`", path.display());
    path
}

/// The folders that programs are found in.
#[expect(clippy::disallowed_methods, reason = "the one place of the end-to-end tests that reads the environment")]
pub(crate) fn programs() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}
