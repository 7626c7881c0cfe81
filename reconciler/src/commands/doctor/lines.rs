//! What leaves this process: the line to the database, and what is answered over HTTP.

use chiffon_schemas::{TracesSpec, WebSpec};
use chiffon_web::Listen;

use super::{Check, bad, good};
use crate::commands::chain;
use crate::config::Config;
use crate::home::Home;

/// Whether the line to the database can be listened to (S14).
pub(super) fn database(home: &Home, config: &Config) -> Option<Check> {
    let what = "line to the database";
    let spec = config.spec.store.postgres.as_ref()?;
    let remote = crate::store::server(home, spec).map(|server| server.is_remote());
    Some(match remote {
        Ok(Ok(true)) if spec.insecure_tls => bad(
            what,
            "insecure: whoever sits between may read and change everything",
            "give the server a certificate and take `insecure_tls` out of chiffon.yaml",
        ),
        Ok(Ok(true)) => good(what, "TLS; a server whose certificate can't be verified is refused"),
        Ok(Ok(false)) => good(what, "does not leave this machine"),
        Ok(Err(error)) => bad(what, chain(&error), "mend `store.postgres.url` in chiffon.yaml"),
        Err(error) => {
            bad(what, chain(error.as_ref()), "mend `store.postgres` in chiffon.yaml: the files that it names")
        }
    })
}

/// Whether `chiffon up` can listen where it should.
pub(super) async fn web(home: &Home, spec: &WebSpec) -> Check {
    let what = "web";
    let listen = match Listen::of(spec, home.folder()) {
        Ok(listen) => listen,
        Err(error) => return bad(what, chain(&error), "mend `web` in chiffon.yaml"),
    };
    if let Err(error) = listen.check_certificate().await {
        return bad(what, chain(&error), "mend `web.tls` in chiffon.yaml: both files, in PEM, readable by this user");
    }
    // A `chiffon up` that runs has the address itself.
    if !crate::up::is_running(home)
        && let Err(error) = listen.check_address()
    {
        return bad(what, chain(&error), "mend `web.listen` in chiffon.yaml, or stop what listens there");
    }
    let how = if spec.tls.is_some() { "TLS" } else { "for this machine alone" };
    good(what, format!("{} ({how})", spec.listen))
}

/// The line to the collector of traces.
pub(super) fn traces(home: &Home, spec: &TracesSpec) -> Check {
    let what = "line to the collector of traces";
    match chiffon_trace::check(spec, home.folder()) {
        Err(error) => bad(what, error.to_string(), "mend `traces` in chiffon.yaml"),
        Ok(()) if chiffon_trace::is_open(spec) => bad(
            what,
            "insecure: whoever sits between reads names of hosts and steps",
            "write https:// and take `insecure_tls` out",
        ),
        Ok(()) => good(what, "does not leave this machine, or speaks TLS"),
    }
}
