//! The table of codes in `{"event":"error","code":CODE,"message":TEXT}`.

use std::borrow::Cow;

/// What was wrong with something that a client sent: the `code` of an error frame.
///
/// Codes do not change their meaning between versions.
///
/// ```
/// use tower_chat_rooms::ErrorCode;
///
/// assert_eq!(ErrorCode::RoomFull.as_str(), "room_full");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// `bad_json`: the frame is not valid JSON, or not every client could read it (lone surrogates, numbers beyond the
    /// range of a double).
    BadJson,
    /// `not_an_object`: the frame is JSON, but not an object.
    NotAnObject,
    /// `bad_shape`: the frame has no `event` that is a string, a key of the protocol occurs twice or has a wrong value,
    /// or an enter is longer than [`max_enter_bytes`](crate::Limits::max_enter_bytes).
    BadShape,
    /// `too_deep`: arrays and objects are nested too deeply.
    TooDeep,
    /// `too_big`: a transient frame or a state has more than 1,024 bytes, or a direct message is too long to be sent.
    TooBig,
    /// `reserved_event`: only the server or the host sends this event.
    ReservedEvent,
    /// `not_entered`: the client is not in the room, or in no room, and has to enter one first.
    NotEntered,
    /// `bad_name`: the name is empty, only white space, too long, or not a string, or it contains control
    /// characters or invisible characters.
    BadName,
    /// `bad_room_id`: the room id is too long, neither a string nor a number, starts or ends with white space, or
    /// contains control characters or invisible characters, or the client has sent `room` instead of `roomId`.
    BadRoomId,
    /// `denied`: the policy refused the request, or the room was closed.
    Denied,
    /// `read_only`: the member may not send messages ([`Access::read_only`](crate::Access::read_only)).
    ReadOnly,
    /// `name_taken`: another member of the room has the name.
    NameTaken,
    /// `room_full`: the room has [`max_room_members`](crate::Limits::max_room_members) members.
    RoomFull,
    /// `too_many_rooms`: there are [`max_rooms`](crate::Limits::max_rooms) rooms.
    TooManyRooms,
    /// `too_many_memberships`: the client is in [`max_memberships`](crate::Limits::max_memberships) rooms.
    TooManyMemberships,
    /// `rate_limited`: a message, an enter or a token exceeded a [rate](crate::RateLimits) and was dropped.
    RateLimited,
    /// `internal`: a hook gave no usable answer. The client may try again later.
    Internal,
    /// `unavailable`: the [broker](crate::ChatRoomsBuilder::broker) cannot be reached. The client may try again later.
    Unavailable,
}

impl ErrorCode {
    /// Returns the code as it is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BadJson => "bad_json",
            ErrorCode::NotAnObject => "not_an_object",
            ErrorCode::BadShape => "bad_shape",
            ErrorCode::TooDeep => "too_deep",
            ErrorCode::TooBig => "too_big",
            ErrorCode::ReservedEvent => "reserved_event",
            ErrorCode::NotEntered => "not_entered",
            ErrorCode::BadName => "bad_name",
            ErrorCode::BadRoomId => "bad_room_id",
            ErrorCode::Denied => "denied",
            ErrorCode::ReadOnly => "read_only",
            ErrorCode::NameTaken => "name_taken",
            ErrorCode::RoomFull => "room_full",
            ErrorCode::TooManyRooms => "too_many_rooms",
            ErrorCode::TooManyMemberships => "too_many_memberships",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::Internal => "internal",
            ErrorCode::Unavailable => "unavailable",
        }
    }

    /// Whether a frame with this fault is malformed, so that repeating it ends the connection.
    pub(crate) fn is_malformed(self) -> bool {
        matches!(
            self,
            ErrorCode::BadJson
                | ErrorCode::NotAnObject
                | ErrorCode::BadShape
                | ErrorCode::TooDeep
                | ErrorCode::ReservedEvent
        )
    }
}

/// A refusal that is sent to the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PeerError {
    pub(crate) code: ErrorCode,
    pub(crate) text: Cow<'static, str>,
}

impl PeerError {
    pub(crate) fn new(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> PeerError {
        PeerError { code, text: text.into() }
    }
}
