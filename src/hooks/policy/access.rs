//! The access that a connection gets when it enters a room.

use std::sync::Arc;

use serde::Serialize;

use crate::error::SendError;
use crate::protocol::host_frame;

/// The access that a connection gets when it enters a room: whether it may send messages, whether the other members see
/// it, and its info. Returned by [`RoomPolicy::may_enter`](crate::RoomPolicy::may_enter).
///
/// ```
/// use serde_json::json;
/// use tower_chat_rooms::{Access, ChatRooms, Denied, EnterRequest};
///
/// fn access(request: &EnterRequest<'_>) -> Result<Access, Denied> {
///     match request.user() {
///         Some(user) => Ok(Access::member().info(&json!({"avatar": format!("/avatars/{}.png", user.id())}))?),
///         None => Ok(Access::member().read_only()),
///     }
/// }
///
/// let rooms = ChatRooms::builder().policy(access).build().unwrap();
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
    /// The access of a member that may send messages and that the other members see.
    pub fn member() -> Access {
        Access::default()
    }

    /// Sets the member's info, which the members of the room see in addition to its name: a JSON value of your choice,
    /// for example with a role or the URL of a picture. It takes precedence over
    /// [`User::with_info`](crate::User::with_info). `null` means no info.
    ///
    /// Only clients of `chat-rooms.v1` get it, and only in a room with [`Presence::Full`](crate::Presence::Full).
    /// [`ChatRooms::set_info`](crate::ChatRooms::set_info) changes it later.
    ///
    /// # Errors
    ///
    /// If the value cannot be serialized, has more than 1,024 bytes of JSON, or is nested more than 124 deep.
    pub fn info(self, info: &impl Serialize) -> Result<Access, SendError> {
        Ok(Access { info: host_frame::info(info)?, ..self })
    }

    /// Lets the member only read: its messages and transient frames are refused with `read_only`. It may still set its
    /// state.
    pub fn read_only(self) -> Access {
        Access { is_read_only: true, ..self }
    }

    /// Hides the member from the others: they get no frame when it enters or leaves, and it is neither in their list of
    /// members nor in their number of members. A hidden member receives everything, and counts towards
    /// [`max_room_members`](crate::Limits::max_room_members).
    ///
    /// A hidden member may send messages, which show its name. To prevent that, combine this with
    /// [`Access::read_only`]. If names are unique, other clients can find out that its name is taken.
    ///
    /// A member stays hidden or visible as long as it is in the room.
    pub fn hidden(self) -> Access {
        Access { is_hidden: true, ..self }
    }

    /// An access that another node has sent.
    pub(crate) fn of(info: Option<Arc<str>>, is_read_only: bool, is_hidden: bool) -> Access {
        Access { info, is_read_only, is_hidden }
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
