//! As what a connection enters a room.

use std::sync::Arc;

use serde::Serialize;

use crate::error::SendError;
use crate::protocol::host_frame;

/// As what a connection enters a room. Returned by [`RoomPolicy::may_enter`](crate::RoomPolicy::may_enter).
///
/// ```
/// use serde_json::json;
/// use tower_chat_rooms::{Access, ChatRooms, Denied, EnterRequest};
///
/// let rooms = ChatRooms::builder()
///     .policy(|request: &EnterRequest<'_>| match request.user() {
///         Some(user) => Access::member()
///             .info(&json!({"avatar": format!("/avatars/{}.png", user.id())}))
///             .map_err(|_| Denied::new("the profile is too big")),
///         None => Ok(Access::member().read_only()),
///     })
///     .build()
///     .unwrap();
/// # drop(rooms);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "an access has an effect only if the policy returns it"]
pub struct Access {
    info: Option<Arc<str>>,
    is_read_only: bool,
    is_hidden: bool,
}

impl Access {
    /// A member that may send messages, and that the others see.
    pub fn member() -> Access {
        Access::default()
    }

    /// Sets what the other members learn about this one in addition to its name: a JSON value of your choice, for
    /// example with a role or the URL of a picture. It takes precedence over
    /// [`User::with_info`](crate::User::with_info). `null` is no info.
    ///
    /// Only clients of `chat-rooms.v1` get it, and only in a room with [`Presence::Full`](crate::Presence::Full).
    /// [`ChatRooms::set_info`](crate::ChatRooms::set_info) changes it later.
    ///
    /// # Errors
    ///
    /// If the value does not serialize to JSON, or to more than 1,024 bytes, or if it is nested more than 124 deep.
    pub fn info(self, info: &impl Serialize) -> Result<Access, SendError> {
        Ok(Access { info: host_frame::info(info)?, ..self })
    }

    /// The member may not send messages and transient frames: they are refused with `read_only`. It may still set its
    /// state.
    pub fn read_only(self) -> Access {
        Access { is_read_only: true, ..self }
    }

    /// The others do not see the member: they get no frame when it enters or leaves, it is not in the roster, and it
    /// does not count as one of the members. It receives everything, and counts towards
    /// [`max_room_members`](crate::Limits::max_room_members).
    ///
    /// A hidden member may send messages, which show its name. To prevent that, combine this with
    /// [`Access::read_only`]. If names are unique, the others can notice that its name is taken.
    ///
    /// Whether a member is hidden does not change while it stays in the room.
    pub fn hidden(self) -> Access {
        Access { is_hidden: true, ..self }
    }

    pub(crate) fn info_text(&self) -> Option<&Arc<str>> {
        self.info.as_ref()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    pub(crate) fn is_hidden(&self) -> bool {
        self.is_hidden
    }
}

/// The same as [`Access::member`].
impl From<()> for Access {
    fn from((): ()) -> Access {
        Access::member()
    }
}
