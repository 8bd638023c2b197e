//! Compares what clients know about the members of a room with the server's members.

use serde_json::Value;
use tower_chat_rooms_client::{Member, PresenceMode};

use crate::server::Server;
use crate::stay::Stay;

/// A member: its id, name, user, info and state.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    id: String,
    name: String,
    user: Option<String>,
    info: Option<Value>,
    state: Option<Value>,
}

/// The members of a room, as the server has them.
pub(crate) struct Roster {
    members: Vec<Known>,
    num: u64,
    users: u64,
}

impl Roster {
    pub(crate) fn of_server(server: &Server, room: usize) -> Roster {
        let room = room.to_string();
        let json = |text: Option<String>| text.and_then(|text| text.parse().ok());
        let members = server.rooms.members(&room).into_iter().map(|member| Known {
            id: member.connection.to_string(),
            name: member.name.to_string(),
            user: member.user.map(|user| user.id().to_owned()),
            info: json(member.info),
            state: json(member.state),
        });
        let members = members.collect();
        let info = server.rooms.rooms().into_iter().find(|info| info.id.as_str() == room);
        let (num, users) = info.map_or((0, 0), |info| (info.online as u64, info.users as u64));
        Roster { members, num, users }
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.members.iter().map(|member| &*member.name).collect();
        names.sort_unstable();
        names
    }

    /// Returns how a client's knowledge differs, if it does.
    pub(crate) fn compare(&self, stay: &Stay) -> Option<String> {
        let Some(presence) = stay.received().presence.clone() else {
            return Some("knows nothing about the members".into());
        };
        if (presence.num(), presence.users()) != (self.num, self.users) {
            let (num, users) = (presence.num(), presence.users());
            return Some(format!(
                "knows {num} members and {users} users instead of {} and {}",
                self.num, self.users
            ));
        }
        if presence.mode() != PresenceMode::Full {
            return presence.members().map(|_| format!("knows members in mode {:?}", presence.mode()));
        }
        let known: Vec<Known> = presence.members().unwrap_or_default().iter().map(Known::of_client).collect();
        let differs = !presence.is_complete() || known != self.members;
        differs.then(|| {
            format!("knows {known:?} (complete: {}) instead of {:?}", presence.is_complete(), self.members)
        })
    }
}

impl Known {
    fn of_client(member: &Member) -> Known {
        Known {
            id: member.id().into(),
            name: member.name().into(),
            user: member.user().map(Into::into),
            info: member.info().cloned(),
            state: member.state().cloned(),
        }
    }
}
