//! What is wrong with a broker, in words that say what to do.

use lapin::protocol::AMQPErrorKind;
use lapin::{Error, ErrorKind};

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
        None => format!("the broker at {server} does not answer: {}", io(error)),
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
