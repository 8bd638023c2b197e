//! Who is in a room, as far as a client knows.

use std::sync::Arc;

use serde_json::{Map, Value};

/// Who is in a room: see [`Client::presence`](crate::Client::presence). This is a snapshot that is cheap to clone.
///
/// ```
/// # fn show(client: &tower_chat_rooms_client::Client) {
/// let presence = client.presence();
/// println!("{} members, {} users", presence.num(), presence.users());
/// for member in presence.members().unwrap_or_default() {
///     println!("{} {:?}", member.name(), member.state());
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    mode: PresenceMode,
    num: u64,
    users: u64,
    members: Option<Arc<[Member]>>,
    is_complete: bool,
}

/// What the server tells the members of a room about each other. The host chooses it for each room, and it may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PresenceMode {
    /// Who enters and leaves. Members know each other and their states.
    Full,
    /// How many members there are, at most once a second.
    Count,
    /// How many members there are, but only in other frames of the room.
    Quiet,
}

/// A member of a room. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member(Arc<Data>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Data {
    id: Arc<str>,
    name: String,
    user: Option<String>,
    info: Option<Value>,
    state: Option<Value>,
    is_own: bool,
}

impl Presence {
    pub(crate) fn new(mode: PresenceMode, num: u64, users: u64) -> Presence {
        Presence { mode, num, users, members: None, is_complete: false }
    }

    pub(crate) fn with_members(self, members: Arc<[Member]>, is_complete: bool) -> Presence {
        Presence { members: Some(members), is_complete, ..self }
    }

    pub(crate) fn set_incomplete(&mut self) {
        self.is_complete = false;
    }

    /// What the server tells the members of this room about each other.
    pub fn mode(&self) -> PresenceMode {
        self.mode
    }

    /// Number of members in the room.
    pub fn num(&self) -> u64 {
        self.num
    }

    /// Number of different authenticated users among the members. If the client does not know the members, this is the
    /// number that the server sent last.
    pub fn users(&self) -> u64 {
        self.users
    }

    /// The members that the client knows, in the order in which they entered; `None` if the mode is not
    /// [`Full`](PresenceMode::Full), or the client does not know the members yet.
    pub fn members(&self) -> Option<&[Member]> {
        self.members.as_deref()
    }

    /// Whether [`members`](Presence::members) contains all members of the room. If not, the client is still requesting
    /// the others, it is not in the room, or there are more than the [`roster`](crate::ClientBuilder::roster) setting
    /// allows.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// This client among the members. `None` for a moment after it has entered, until its own
    /// [`Enter`](crate::ClientEvent::Enter) has come.
    pub fn own(&self) -> Option<&Member> {
        self.members()?.iter().find(|member| member.is_own())
    }

    /// The member with this [id](crate::RoomFrame::member).
    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members()?.iter().find(|member| member.id() == id)
    }
}

/// A room about which nothing is known.
impl Default for Presence {
    fn default() -> Presence {
        Presence::new(PresenceMode::Quiet, 0, 0)
    }
}

impl PresenceMode {
    pub(crate) fn parse(text: &str) -> Option<PresenceMode> {
        match text {
            "full" => Some(PresenceMode::Full),
            "count" => Some(PresenceMode::Count),
            "quiet" => Some(PresenceMode::Quiet),
            _ => None,
        }
    }
}

impl Member {
    /// A member of a roster, or that of an `enter` frame.
    pub(crate) fn of(object: &Map<String, Value>) -> Option<Member> {
        let text = |key| object.get(key).and_then(Value::as_str);
        let value = |key| object.get(key).filter(|value| !value.is_null()).cloned();
        Some(Member(Arc::new(Data {
            id: text("member")?.into(),
            name: text("name").unwrap_or_default().to_owned(),
            user: text("user").map(str::to_owned),
            info: value("info"),
            state: value("state"),
            is_own: false,
        })))
    }

    pub(crate) fn of_self(mut self) -> Member {
        Arc::make_mut(&mut self.0).is_own = true;
        self
    }

    pub(crate) fn shared_id(&self) -> &Arc<str> {
        &self.0.id
    }

    pub(crate) fn set_state(&mut self, state: Value) {
        Arc::make_mut(&mut self.0).state = Some(state).filter(|state| !state.is_null());
    }

    pub(crate) fn set_info(&mut self, info: Value) {
        Arc::make_mut(&mut self.0).info = Some(info).filter(|info| !info.is_null());
    }

    pub(crate) fn set_user(&mut self, user: &Value) {
        Arc::make_mut(&mut self.0).user = user.as_str().map(str::to_owned);
    }

    /// The member's id: that of [`RoomFrame::member`](crate::RoomFrame::member) in its frames.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The id of the user; `None` if the member is anonymous.
    pub fn user(&self) -> Option<&str> {
        self.0.user.as_deref()
    }

    /// The info that the host has set for the member.
    pub fn info(&self) -> Option<&Value> {
        self.0.info.as_ref()
    }

    /// The state that the member's client has set: see [`ClientSender::set_state`](crate::ClientSender::set_state).
    pub fn state(&self) -> Option<&Value> {
        self.0.state.as_ref()
    }

    /// Whether this member is the client itself.
    pub fn is_own(&self) -> bool {
        self.0.is_own
    }
}
