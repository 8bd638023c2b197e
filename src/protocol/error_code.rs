//! The table of codes in `{"event":"error","code":CODE,"message":TEXT}`.

use std::borrow::Cow;

/// What was wrong with something a client sent. The text of [`ErrorCode::as_str`] stands in
/// the `code` of the error frame and never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// `bad_json`: the frame is not valid JSON.
    BadJson,
    /// `not_an_object`: the frame is JSON, but not an object.
    NotAnObject,
    /// `bad_shape`: no `event`, one that is not a string, or a key of the protocol twice.
    BadShape,
    /// `too_deep`: arrays and objects are nested too deeply.
    TooDeep,
    /// `reserved_event`: the event's name belongs to the server.
    ReservedEvent,
    /// `not_entered`: only members of a room may send; enter first.
    NotEntered,
    /// `bad_name`: the name is empty, only white space, too long, or not a string, or it contains control
    /// characters or invisible characters.
    BadName,
    /// `bad_room_id`: the room id is too long, neither a string nor a number, starts or ends with white space, or
    /// contains control characters or invisible characters.
    BadRoomId,
    /// `denied`: the host's policy refused it. By `chat-rooms.v1` with a `roomId` if a member was put
    /// out of that room, for his user's rights have changed.
    Denied,
    /// `name_taken`: somebody else in the room has the name.
    NameTaken,
    /// `room_full`: the room has no free place.
    RoomFull,
    /// `too_many_rooms`: the server opens no further room.
    TooManyRooms,
    /// `rate_limited`: more than the client may send, enter or open in a time; it was dropped.
    RateLimited,
    /// `internal`: a hook of the host failed; try again later.
    Internal,
}

impl ErrorCode {
    /// The code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BadJson => "bad_json",
            ErrorCode::NotAnObject => "not_an_object",
            ErrorCode::BadShape => "bad_shape",
            ErrorCode::TooDeep => "too_deep",
            ErrorCode::ReservedEvent => "reserved_event",
            ErrorCode::NotEntered => "not_entered",
            ErrorCode::BadName => "bad_name",
            ErrorCode::BadRoomId => "bad_room_id",
            ErrorCode::Denied => "denied",
            ErrorCode::NameTaken => "name_taken",
            ErrorCode::RoomFull => "room_full",
            ErrorCode::TooManyRooms => "too_many_rooms",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::Internal => "internal",
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

/// A refusal that the offender is told.
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
