//! A RabbitMQ or PostgreSQL of a test's own, to do harm to. Those of a test run are shared, and stay whole.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::root;

/// Services made by this process so far.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A service in a folder of its own. Stopped and removed when dropped; where a test is killed before that, by the
/// `tests/tools/services.sh` that started it.
#[derive(Debug)]
pub struct Service {
    kind: &'static str,
    folder: PathBuf,
    addresses: BTreeMap<String, String>,
}

impl Service {
    /// A PostgreSQL that serves; with TLS where `cert.pem` and `key.pem` are among the files.
    ///
    /// # Panics
    /// It does not start, or no `tests/tools/services.sh` stands behind this test.
    pub fn postgres(files: &[(&str, &str)]) -> Self {
        Self::begin("postgres", files)
    }

    /// A RabbitMQ that serves, with files of its configuration beside it: `more.conf`, `advanced.config`;
    /// with TLS beside the line in the clear where `cert.pem` and `key.pem` are among them.
    ///
    /// # Panics
    /// As [`Service::postgres`].
    pub fn rabbitmq(files: &[(&str, &str)]) -> Self {
        Self::begin("rabbitmq", files)
    }

    #[expect(clippy::disallowed_methods, reason = "where services are put, their starter says in the environment")]
    fn begin(kind: &'static str, files: &[(&str, &str)]) -> Self {
        let place = std::env::var_os("CHIFFON_TEST_SERVICES");
        let place = PathBuf::from(place.expect("CHIFFON_TEST_SERVICES is not set: run `make test`"));
        let number = MADE.fetch_add(1, Ordering::SeqCst);
        let folder = place.join(format!("{kind}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let mut service = Self { kind, folder, addresses: BTreeMap::new() };
        service.start();
        service
    }

    /// Starts it, and waits until it serves: at the same addresses as before.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(&mut self) {
        let said = self.does(&["start"]);
        let pairs = said.lines().filter_map(|line| line.split_once('='));
        self.addresses = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    }

    /// An address, by the name that a test run's own have in the environment.
    ///
    /// # Panics
    /// It has none of that name.
    pub fn address(&self, name: &str) -> &str {
        &self.addresses[name]
    }

    /// Stops it as if the power had gone, and waits until it is gone.
    ///
    /// # Panics
    /// It can't be stopped.
    pub fn cut(&self) {
        self.does(&[if self.kind == "postgres" { "immediate" } else { "kill" }]);
    }

    /// Does what its script does: `start`, `stop`, `wipe`, `ctl …`; what that said.
    ///
    /// # Panics
    /// It fails.
    pub fn does(&self, what: &[&str]) -> String {
        let script = root().join(format!("tests/tools/{}.sh", self.kind));
        let mut command = Command::new("sh");
        command.arg(script).arg(what[0]).arg(&self.folder).args(&what[1..]);
        let output = command.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {what:?}: {err}", self.kind);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.does(&["stop"]))).is_ok() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
