//! What is wrong with a broker, in words that say what to do.

use lapin::protocol::AMQPErrorKind;
use lapin::{Error, ErrorKind};
use rustls::CertificateError;

use super::Server;

/// The broker's own number and words, where it said something.
fn said(error: &Error) -> Option<(u16, String)> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    let code = match error.kind() {
        AMQPErrorKind::Soft(kind) => kind.get_id(),
        AMQPErrorKind::Hard(kind) => kind.get_id(),
    };
    Some((code, error.get_message().as_str().to_owned()))
}

/// Why no connection was made.
pub(super) fn connecting(server: &Server, error: &Error) -> String {
    let (user, vhost) = (server.user(), server.vhost());
    match said(error) {
        Some((403, _)) => format!(
            "the broker at {server} does not take the user {user}: wrong name or password, or the \
             broker was set up anew and needs `chiffon broker setup`"
        ),
        Some((530, _)) => format!(
            "the broker at {server} does not let the user {user} into the virtual host `{vhost}`: run `chiffon broker \
             setup`"
        ),
        Some((_, words)) => format!("the broker at {server} refuses the connection: {words}"),
        None => match tls(error) {
            Some(error) => encrypting(server, error),
            None => format!("the broker at {server} does not answer: {}", io(error)),
        },
    }
}

/// What TLS found wrong, where it did: somebody answered.
fn tls(error: &Error) -> Option<&rustls::Error> {
    let ErrorKind::IOError(error) = error.kind() else { return None };
    error.get_ref()?.downcast_ref()
}

/// Why no line with TLS was made.
fn encrypting(server: &Server, error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => format!(
            "the broker at {server} shows a certificate that no known authority vouches for: name its authority's \
             certificate as `ca_file`"
        ),
        rustls::Error::InvalidCertificate(reason) => {
            format!("the broker at {server} shows a certificate that can't be taken: {reason}")
        }
        rustls::Error::InvalidMessage(_) => {
            format!("the broker at {server} does not speak TLS at this port: amqps:// is mostly port 5671")
        }
        error => format!("the broker at {server} and this machine can't agree on TLS: {error}"),
    }
}

/// Why a connection could not be used.
pub(super) fn declaring(server: &Server, error: &Error) -> String {
    match said(error) {
        Some((404, words)) => {
            format!("something is missing on the broker at {server}: {words}: run `chiffon broker setup`")
        }
        Some((406, words)) => format!(
            "the broker at {server} holds a queue or exchange that is not as it should be: {words}. Let it run empty, \
             delete it (rabbitmqctl delete_queue NAME, or on the management page), and it is made anew"
        ),
        Some((403, words)) => {
            format!(
                "the user {} may not use the broker at {server}: {words}: run `chiffon broker setup`",
                server.user()
            )
        }
        Some((_, words)) => format!("the broker at {server} refuses: {words}"),
        None => broken(server, error),
    }
}

/// A queue that is there and does not answer.
pub(super) fn mute(server: &Server, queue: &str) -> String {
    format!(
        "the queue {queue} of the broker at {server} does not answer: it may have no leader since the broker crashed, see \
         \"A queue without a leader\" in docs/operations.md"
    )
}

/// Why a session ended.
pub(super) fn broken(server: &Server, error: &Error) -> String {
    match said(error) {
        Some((_, words)) => format!("the broker at {server} ended the session: {words}"),
        None => format!("the line to the broker at {server} broke: {}", io(error)),
    }
}

fn io(error: &Error) -> String {
    match error.kind() {
        ErrorKind::IOError(error) => error.to_string(),
        ErrorKind::MissingHeartbeatError => "no sign of life for too long".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_not_believed_did_answer() {
        let server = Server::new("amqps://c@broker.lan/v", "", None, false).unwrap();
        let says = |error: rustls::Error| {
            let error = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
            connecting(&server, &Error::from(ErrorKind::IOError(std::sync::Arc::new(error))))
        };
        let said = says(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert!(said.contains("no known authority") && said.contains("`ca_file`"), "{said}");
        let said = says(rustls::Error::InvalidCertificate(CertificateError::Expired));
        assert!(said.contains("shows a certificate that can't be taken"), "{said}");
        let said = says(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType));
        assert!(said.contains("does not speak TLS"), "{said}");
    }
}
