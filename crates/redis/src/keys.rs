//! Names of keys and channels. All keys have the same hash tag, so that a script finds them on one server.

/// Names of keys and channels.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// `{prefix}:`.
    tag: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Keys {
        Keys { tag: format!("{{{prefix}}}:") }
    }

    /// Sorted set: incarnation of a node to the deadline of its lease in ms, or to minus the time of its fence.
    pub(crate) fn nodes(&self) -> String {
        self.name("nodes")
    }

    /// String: when a reaper has last looked for nodes whose leases have run out.
    pub(crate) fn beat(&self) -> String {
        self.name("beat")
    }

    /// String: identifies the data. It is lost only together with the data.
    pub(crate) fn data(&self) -> String {
        self.name("data")
    }

    /// Set: rooms in which a node has members.
    pub(crate) fn node_rooms(&self, node: &str) -> String {
        self.name2("rooms", node)
    }

    /// Hash: a room's epoch, run of the server, event, seq, num, number of hidden members, when members of a lost node were
    /// removed last, and more for its log and roster.
    pub(crate) fn meta(&self, room: &str) -> String {
        self.name2("meta", room)
    }

    /// Hash: member to record, of a room's members on a node. The name of a node has no colon.
    pub(crate) fn members(&self, node: &str, room: &str) -> String {
        format!("{}{node}:{room}", self.members_prefix())
    }

    /// What [`Keys::members`] starts with; the node and `:room` follow.
    pub(crate) fn members_prefix(&self) -> String {
        self.name("members:")
    }

    /// Channel of a room's events.
    pub(crate) fn channel(&self, room: &str) -> String {
        self.name2("ch", room)
    }

    /// The room whose channel this is.
    pub(crate) fn room_of_channel<'a>(&self, channel: &'a str) -> Option<&'a str> {
        channel.strip_prefix(self.tag.as_str())?.strip_prefix("ch:")
    }

    /// Channel for all nodes.
    pub(crate) fn control(&self) -> String {
        self.name("ctl")
    }

    /// Channel for the nodes with a name, of which there should be one.
    pub(crate) fn node_channel(&self, node: &str) -> String {
        self.name2("node", node)
    }

    /// Channel for one node, by its number.
    pub(crate) fn numbered_channel(&self, number: u32) -> String {
        format!("{}{number:08x}", self.name("number:"))
    }

    /// Set: ids of the sessions of a node.
    pub(crate) fn node_sessions(&self, node: &str) -> String {
        self.name2("sessions", node)
    }

    /// Hash: a session's token, user, window in ms, node and generation, the token that it had before it was taken over, and
    /// `room:` and a room to the member there.
    pub(crate) fn session(&self, id: &str) -> String {
        self.name2("session", id)
    }

    /// Hash: session to its window in ms and its user, of the sessions of users on a node.
    pub(crate) fn node_users(&self, node: &str) -> String {
        self.name2("users", node)
    }

    /// Hash: session to whether it was the first one, and its node, of the sessions of a user.
    pub(crate) fn user(&self, user: &str) -> String {
        self.name2("user", user)
    }

    /// String: the process of the node that has ended a session, which was the last one of its user.
    pub(crate) fn user_ended(&self, session: &str) -> String {
        self.name2("ended", session)
    }

    /// What all names begin with.
    ///
    /// Scripts about sessions make the names of further keys of it: `token:` and a token, the id of the session with this
    /// token; `closed:` and an id, for some time the process of the node that has closed this session; `kept:` and a fenced
    /// node, for how long after its fence all of its sessions are kept. Scripts about batches
    /// make `batches:`, `missing:` and `late:`, each with a room, for a day after the room's latest batch.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// The keys of a room, in the order in which `lua/room.lua` takes them.
    pub(crate) fn of_room(&self, node: &str, room: &str) -> [String; 9] {
        [
            self.nodes(),
            self.node_rooms(node),
            self.meta(room),
            self.members(node, room),
            // Hash: name that is taken to how many members have it, the first of them, and the user who may.
            self.name2("names", room),
            // Sorted set: `node:member` to the place in the order in which the members entered.
            self.name2("roster", room),
            // Stream: the latest events. The id is the event's number.
            self.name2("log", room),
            // Hashes: message id to stamp; the newer and the older half.
            self.name2("ids", room),
            self.name2("ids-old", room),
        ]
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.tag)
    }

    fn name2(&self, name: &str, of: &str) -> String {
        format!("{}{name}:{of}", self.tag)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn rooms_with_odd_names_share_no_keys() {
        let keys = Keys::new("chat");
        let mut seen = HashSet::new();
        for (node, room) in [("n", "a"), ("n", "a:b"), ("n", ""), ("m", "a"), ("n", "{x}"), ("a", "n")] {
            assert!(seen.insert(keys.members(node, room)));
            assert_eq!(keys.room_of_channel(&keys.channel(room)), Some(room));
        }
        assert_eq!(keys.room_of_channel(&keys.control()), None);
    }

    #[test]
    fn all_keys_have_one_hash_tag() {
        let keys = Keys::new("chat");
        for key in keys.of_room("n", "{other}").into_iter().chain([keys.beat()]) {
            assert!(key.starts_with("{chat}:"), "{key}");
        }
    }
}
