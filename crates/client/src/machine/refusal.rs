//! What the server refuses, and which refusals pass.

use std::time::Duration;

use crate::error::ClientError;
use crate::incoming::{Removal, ServerError};

/// Refusals of an enter that no later attempt can change.
const PERMANENT: [&str; 7] =
    ["denied", "bad_name", "bad_room_id", "bad_json", "bad_shape", "not_an_object", "too_deep"];

/// Temporary refusals. So is any refusal that says when to try again.
const TEMPORARY: [&str; 3] = ["internal", "rate_limited", "unavailable"];

/// Refusals of a frame that the server could not read, so that it could not find the `cid`.
const UNREADABLE: [&str; 5] = ["bad_json", "bad_shape", "not_an_object", "too_deep", "reserved_event"];

/// Refusals of a frame that the server has read. Those of an enter or a message name it.
const OF_TRANSIENT: [&str; 5] = ["denied", "internal", "not_entered", "read_only", "too_big"];

/// Refusals of a member's state.
const OF_STATE: [&str; 5] = ["bad_shape", "denied", "internal", "too_big", "too_deep"];

/// The wait if a server says that a refusal is temporary, but not when to try again.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);

/// The server has refused something, or has removed the client from a room.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    code: String,
    message: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn of(error: ServerError) -> Refusal {
        let ServerError { code, message, retry_after, .. } = error;
        Refusal { code, message, retry_after }
    }

    pub(super) fn of_removal(removal: Removal) -> Refusal {
        let Removal { code, message } = removal;
        Refusal { code, message, retry_after: None }
    }

    pub(super) fn has_code(&self, code: &str) -> bool {
        self.code == code
    }

    /// The same refusal may not come again.
    pub(super) fn is_temporary(&self) -> bool {
        self.retry_after.is_some() || TEMPORARY.contains(&&*self.code)
    }

    /// The same refusal will come again.
    pub(super) fn is_permanent(&self) -> bool {
        !self.is_temporary() && PERMANENT.contains(&&*self.code)
    }

    /// The server could not read what it has refused.
    pub(super) fn is_of_unreadable(&self) -> bool {
        UNREADABLE.contains(&&*self.code)
    }

    /// It may be about a transient frame. The server does not say so, because the frame has no `cid`.
    pub(super) fn may_be_of_transient(&self) -> bool {
        self.retry_after.is_none() && OF_TRANSIENT.contains(&&*self.code)
    }

    /// It may be about a change of this member's state.
    pub(super) fn may_be_of_state(&self) -> bool {
        self.retry_after.is_none() && OF_STATE.contains(&&*self.code)
    }

    /// The server has not looked at what it has refused, or asks to send it again after a time.
    pub(super) fn is_postponement(&self) -> bool {
        self.retry_after.is_some() || self.code == "rate_limited"
    }

    /// When to try again, according to the server.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// When to try again.
    pub(super) fn wait(&self) -> Duration {
        self.retry_after.unwrap_or(DEFAULT_RETRY)
    }

    pub(super) fn error(self) -> ClientError {
        ClientError::Refused { code: self.code, message: self.message }
    }
}
