//! What can go wrong.

use std::error::Error;
use std::fmt;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why [`Node::connect`](crate::Node::connect) has failed. Its message says what to do.
#[derive(Debug)]
pub struct ConnectError {
    kind: ConnectErrorKind,
    message: String,
    source: Option<RedisError>,
}

/// The kinds of [`ConnectError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// The settings cannot work.
    Settings,
    /// The server cannot be reached. Waiting may help.
    Unreachable,
    /// The server refuses the user, the password or a command.
    Refused,
    /// The server is too old.
    TooOld,
}

impl ConnectError {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ConnectErrorKind {
        self.kind
    }

    pub(crate) fn settings(message: String) -> ConnectError {
        ConnectError { kind: ConnectErrorKind::Settings, message, source: None }
    }

    pub(crate) fn too_old(version: &str) -> ConnectError {
        let message = format!("the server has version {version}; use Redis 7.0, Valkey 7.2 or later");
        ConnectError { kind: ConnectErrorKind::TooOld, message, source: None }
    }

    pub(crate) fn refused() -> ConnectError {
        let message = "Redis refuses a command; check that its user may publish, and use scripts and keys with the prefix";
        ConnectError { kind: ConnectErrorKind::Refused, message: message.to_owned(), source: None }
    }

    pub(crate) fn unreachable(message: String) -> ConnectError {
        ConnectError { kind: ConnectErrorKind::Unreachable, message, source: None }
    }

    /// An error at a server.
    pub(crate) fn at(server: &str, error: RedisError) -> ConnectError {
        let (kind, message) = explain(server, &error);
        ConnectError { kind, message, source: Some(error) }
    }

    /// The message with its cause.
    pub(crate) fn full_text(&self) -> String {
        match &self.source {
            Some(source) => format!("{self} ({source})"),
            None => self.to_string(),
        }
    }

    /// Returns whether trying again may help.
    pub(crate) fn is_temporary(&self) -> bool {
        self.kind == ConnectErrorKind::Unreachable
    }
}

/// What an error at a server means, and what to do.
fn explain(server: &str, error: &RedisError) -> (ConnectErrorKind, String) {
    if let Some(text) = explain_tls(server, error) {
        return (ConnectErrorKind::Refused, text);
    }
    let is_login = matches!(error.code(), Some("WRONGPASS" | "NOAUTH"));
    let text = match error.kind() {
        _ if error.detail().is_some_and(|text| text.contains("cluster support disabled")) => {
            format!("Redis at {server} belongs to no cluster; use a URL like `redis://host:6379`")
        }
        kind if is_login || kind == ErrorKind::AuthenticationFailed => format!(
            "Redis at {server} refuses the user or the password; write them into the URL like \
             `redis://user:password@host`, with special characters percent-encoded"
        ),
        ErrorKind::Server(ServerErrorKind::NoPerm) => format!(
            "the user may do too little in Redis at {server}; it needs scripts, streams, Pub/Sub, INFO, CLIENT, and \
             the keys and channels of the prefix"
        ),
        _ if Severity::of(error) == Severity::Permanent => format!(
            "Redis at {server} refuses the connection; check user, password, the number of the database, and that the \
             user may use scripts, streams, Pub/Sub and INFO"
        ),
        _ => {
            let text = format!(
                "Redis at {server} cannot be reached; check the URL, that it runs, and whether it wants TLS"
            );
            return (ConnectErrorKind::Unreachable, text);
        }
    };
    (ConnectErrorKind::Refused, text)
}

/// TLS errors that no waiting helps against.
#[cfg(feature = "tls")]
fn explain_tls(server: &str, error: &RedisError) -> Option<String> {
    use tokio_rustls::rustls::{self, AlertDescription};
    let cause = error.source()?.downcast_ref::<std::sync::Arc<dyn Error + Send + Sync>>()?;
    let text = match cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(_) => format!(
            "the certificate of Redis at {server} is not accepted; if a CA of your own has signed it, pass that with \
             `ca_certificate`, and use the name of the certificate in the URL"
        ),
        rustls::Error::InvalidMessage(_) => {
            format!("Redis at {server} does not speak TLS; use its TLS port, or `redis` instead of `rediss`")
        }
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::HandshakeFailure,
        ) => format!(
            "Redis at {server} wants a certificate that it trusts; pass one with `client_certificate`"
        ),
        _ => return None,
    };
    Some(text)
}

#[cfg(not(feature = "tls"))]
fn explain_tls(_: &str, _: &RedisError) -> Option<String> {
    None
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|error| error as &(dyn Error + 'static))
    }
}

/// Redis could not be reached in time, or the node is entering its members again. Try again later. The call may have
/// had its effect. In this case, a repeated call has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis is unavailable; try again later")
    }
}

impl Error for Unavailable {}

/// Why a member cannot enter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnterError {
    /// A member with this unique name is in the room.
    NameTaken {
        /// That member, unless it has an [`owner`](crate::NewMember::owner).
        without_owner: Option<Box<str>>,
    },
    /// The room has as many members as it may have.
    RoomFull,
    /// The member's id is empty, or one of its texts is longer than 65,535 bytes.
    InvalidMember,
    /// The member's session is not open on this node, or another node has taken it over.
    NoSession,
    /// See [`Unavailable`]. If the member has entered, the node removes it.
    Unavailable,
}

impl From<Unavailable> for EnterError {
    fn from(_: Unavailable) -> EnterError {
        EnterError::Unavailable
    }
}

impl fmt::Display for EnterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EnterError::NameTaken { .. } => f.write_str("the name is taken; choose another one"),
            EnterError::RoomFull => f.write_str("the room is full; try again later"),
            EnterError::NoSession => {
                f.write_str("the session is not open on this node; open or resume it first")
            }
            EnterError::InvalidMember => {
                f.write_str("the member needs an id, and its texts must be shorter than 64 KiB")
            }
            EnterError::Unavailable => Unavailable.fmt(f),
        }
    }
}

impl Error for EnterError {}

/// Why a body cannot be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The room has no members.
    NoRoom,
    /// The member is not in the room on this node.
    NotMember,
    /// See [`Unavailable`]. The message may have been published. Repeat the call under the same key.
    Unavailable,
}

impl From<Unavailable> for PublishError {
    fn from(_: Unavailable) -> PublishError {
        PublishError::Unavailable
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishError::NoRoom => f.write_str("nobody is in the room"),
            PublishError::NotMember => f.write_str("the member is not in the room; enter it first"),
            PublishError::Unavailable => Unavailable.fmt(f),
        }
    }
}

impl Error for PublishError {}

/// Why a session cannot be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResumeError {
    /// There is no such session: it has ended, or it was resumed with this token before.
    Unknown,
    /// The session belongs to another user.
    OtherUser,
    /// See [`Unavailable`]. Repeat the call with the same tokens.
    Unavailable,
}

impl From<Unavailable> for ResumeError {
    fn from(_: Unavailable) -> ResumeError {
        ResumeError::Unavailable
    }
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResumeError::Unknown => f.write_str("there is no session with this token; begin a new one"),
            ResumeError::OtherUser => f.write_str("the session belongs to another user; begin a new one"),
            ResumeError::Unavailable => Unavailable.fmt(f),
        }
    }
}

impl Error for ResumeError {}

/// What an error of Redis says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The connection is of no use any more.
    Broken,
    /// The server cannot do it now.
    Busy,
    /// It will not help to try again.
    Permanent,
}

impl Severity {
    pub(crate) fn of(error: &RedisError) -> Severity {
        match error.kind() {
            // A demoted master is read-only, and another server of a cluster may have the slot: another connection may
            // lead to the right one.
            ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::Server(
                ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown
                | ServerErrorKind::Moved
                | ServerErrorKind::ClusterDown,
            ) => Severity::Broken,
            // While a slot moves, some of its keys are there and some are here.
            ErrorKind::Server(
                ServerErrorKind::BusyLoading | ServerErrorKind::TryAgain | ServerErrorKind::Ask,
            ) => Severity::Busy,
            _ if error.is_unrecoverable_error() || error.is_timeout() => Severity::Broken,
            // Out of memory, too many clients, a long script of somebody else, not enough replicas.
            _ => match error.code() {
                Some("OOM" | "BUSY" | "NOREPLICAS" | "MISCONF") => Severity::Busy,
                // A script in a cluster, while the slot moves.
                _ if error.detail().is_some_and(|text| text.contains("non local key")) => Severity::Busy,
                _ => Severity::Permanent,
            },
        }
    }
}
