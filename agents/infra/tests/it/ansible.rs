//! Finds the two versions of ansible-core that the tests run.

use std::path::{Path, PathBuf};

/// A supported version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The oldest supported.
    V214,
    /// The main one.
    V219,
}

pub const BOTH: [Version; 2] = [Version::V214, Version::V219];

impl Version {
    /// Its `ansible-playbook`, from the folder that the environment names or that `make` lays down.
    #[expect(clippy::disallowed_methods, reason = "the one place where tests read the environment")]
    pub fn program(self) -> PathBuf {
        let (variable, folder) = match self {
            Self::V214 => ("CHIFFON_TEST_ANSIBLE_214", "ansible-2.14"),
            Self::V219 => ("CHIFFON_TEST_ANSIBLE", "ansible-2.19"),
        };
        let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv").join(folder).join("bin");
        let bin = std::env::var_os(variable).map_or(made, PathBuf::from);
        let program = std::path::absolute(bin.join("ansible-playbook")).unwrap();
        assert!(program.is_file(), "no ansible-playbook at {}: run `make test`, or set {variable}", program.display());
        program
    }
}
