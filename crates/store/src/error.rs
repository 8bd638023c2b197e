//! The errors of the stores.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use tower_chat_rooms::MessageId;

/// The error of a failed call. Its text says what to do. Its [source](std::error::Error::source) is sqlx's error.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    text: Cow<'static, str>,
    source: Option<Arc<sqlx::Error>>,
}

/// The kinds of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The database cannot be reached, or cannot do the work at the moment. Repeat the call later.
    Unavailable,
    /// The URL or the settings are wrong, or the database refuses the user.
    Refused,
    /// The tables do not exist: call `migrate`.
    NotMigrated,
    /// Another message has the id of one of the messages.
    IdTaken,
    /// The database cannot store one of the messages.
    Invalid,
}

impl Error {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn id_taken(id: MessageId) -> Error {
        let text = format!(
            "another message of the room has the id {id}; processes that append to the same room must share a broker"
        );
        Error { kind: ErrorKind::IdTaken, text: text.into(), source: None }
    }

    pub(crate) fn scheme(schemes: &str) -> Error {
        let text = format!("the URL must begin with {schemes}");
        Error { kind: ErrorKind::Refused, text: text.into(), source: None }
    }

    /// Returns whether the database has answered, so that its connection can be used again.
    #[cfg(feature = "postgres")]
    pub(crate) fn is_answer(&self) -> bool {
        self.source.as_ref().is_none_or(|error| matches!(**error, sqlx::Error::Database(_)))
    }

    pub(crate) fn unreadable(id: i64) -> Error {
        let text = format!(
            "the row with the id {id} is not a message of this crate; restore or delete it in the table"
        );
        Error { kind: ErrorKind::Invalid, text: text.into(), source: None }
    }

    /// The error if messages are deleted while they are appended again.
    #[cfg(feature = "postgres")]
    pub(crate) fn deleted_meanwhile() -> Error {
        let text = "messages were deleted while they were appended again; repeat the call";
        Error { kind: ErrorKind::Unavailable, text: text.into(), source: None }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Error {
        let kind = match &error {
            sqlx::Error::Configuration(_) | sqlx::Error::Tls(_) => ErrorKind::Refused,
            sqlx::Error::Database(database) => kind_of_code(&database.code().unwrap_or_default()),
            _ => ErrorKind::Unavailable,
        };
        let is_missing_table =
            matches!(&error, sqlx::Error::Database(e) if e.message().starts_with("no such table"));
        let kind = if is_missing_table { ErrorKind::NotMigrated } else { kind };
        let text = match &error {
            sqlx::Error::PoolTimedOut => NO_CONNECTION,
            sqlx::Error::Database(database) if kind == ErrorKind::Refused => {
                if is_of_sqlite(&database.code().unwrap_or_default()) { NO_FILE } else { advice(kind) }
            }
            _ => advice(kind),
        };
        Error { kind, text: text.into(), source: Some(Arc::new(error)) }
    }
}

/// No connection to the database was available in time.
const NO_CONNECTION: &str = "the database cannot be reached, or all connections to it are in use; check that it runs, and repeat the call";

/// SQLite refuses the file.
const NO_FILE: &str = "the database's file cannot be opened or written; check the URL, that the directory exists, and the permissions of both";

/// Codes of Postgres have five characters; those of SQLite are numbers.
fn is_of_sqlite(code: &str) -> bool {
    code.len() < 5 && code.parse::<u32>().is_ok()
}

/// The lowest byte of a code of SQLite is the primary one.
fn kind_of_code(code: &str) -> ErrorKind {
    if let (true, Ok(code)) = (is_of_sqlite(code), code.parse::<u32>()) {
        return match code & 0xff {
            // PERM, READONLY, CANTOPEN, AUTH, NOTADB.
            3 | 8 | 14 | 23 | 26 => ErrorKind::Refused,
            // TOOBIG, CONSTRAINT, MISMATCH.
            18..=20 => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        };
    }
    match code {
        // undefined_table
        "42P01" => ErrorKind::NotMigrated,
        // program_limit_exceeded, for example a room id that is too long for an index; and data exceptions.
        _ if code.starts_with("54") || code.starts_with("22") || code.starts_with("23") => ErrorKind::Invalid,
        // Unknown user, password, database or schema, missing privileges, read-only transactions.
        _ if ["28", "3D", "3F", "42"].iter().any(|class| code.starts_with(class)) || code == "25006" => {
            ErrorKind::Refused
        }
        _ => ErrorKind::Unavailable,
    }
}

fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unavailable => {
            "the database cannot do this now; check that it runs and has disk space, and repeat the call"
        }
        ErrorKind::Refused => {
            "the database refuses the connection or the statement; check the URL, the password, and the privileges"
        }
        ErrorKind::NotMigrated => "the table of messages does not exist; call `migrate` first",
        ErrorKind::IdTaken => "another message of the room has this id",
        ErrorKind::Invalid => {
            "the database cannot store a message; check the lengths of room ids and the size of messages"
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|error| &**error as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_databases_are_known() {
        for (code, kind) in [
            ("5", ErrorKind::Unavailable),
            ("517", ErrorKind::Unavailable),
            ("13", ErrorKind::Unavailable),
            ("14", ErrorKind::Refused),
            ("1032", ErrorKind::Refused),
            ("2067", ErrorKind::Invalid),
            ("42P01", ErrorKind::NotMigrated),
            ("42501", ErrorKind::Refused),
            ("28P01", ErrorKind::Refused),
            ("54000", ErrorKind::Invalid),
            ("22021", ErrorKind::Invalid),
            ("40P01", ErrorKind::Unavailable),
            ("57P01", ErrorKind::Unavailable),
            ("53100", ErrorKind::Unavailable),
            ("", ErrorKind::Unavailable),
        ] {
            assert_eq!(kind_of_code(code), kind, "{code}");
        }
    }
}
