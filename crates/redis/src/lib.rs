//! The log of chat rooms in Redis or Valkey, for several processes that share rooms.
//!
//! A process is a [`Node`]. It enters members into rooms, publishes bodies, and receives the events of each room in
//! which it has members, including its own events. All nodes receive the same events in the same order, with the same
//! numbers of members. Bodies are opaque.
//!
//! ```no_run
//! use tower_chat_rooms_redis::{Event, NewMember, Node, Settings};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let (node, mut events) = Node::connect(Settings::new("redis://127.0.0.1")).await?;
//! node.enter("lobby", NewMember::new("session-7").body("Ann enters"), None).await?;
//! node.publish("lobby", Some("session-7"), Some("message-1"), b"Hello").await?;
//! while let Some(event) = events.recv().await {
//!     if let Event::Room(event) = event {
//!         println!("{:?} {}", event.stamp, String::from_utf8_lossy(&event.body));
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//!
//! A script in Redis stamps each event, adds it to the room's log and publishes it, in one step. A node delivers an
//! event only after the event before it. If events are missing, the node reads them from the log. If the log no longer
//! has them, or if the room has begun a new epoch, the node gets [`Event::Reset`].
//!
//! # Nodes that are gone
//!
//! Each node has a lease. A node whose lease has expired is fenced: it cannot publish, and the other nodes remove its
//! members. If the node is still running, it enters its members again. While no node can reach Redis, no lease can be
//! renewed. In this case, no members are removed.
//!
//! # Sessions
//!
//! A member can belong to a [`Session`]. If its client comes back on another node, that node takes over the session
//! with [`Node::resume`]. The client's members stay in their rooms, and the other members see no leave and no enter.
//!
//! # Users
//!
//! A session can belong to a user. [`Node::begin_user`] and [`Node::end_user`] return whether it is the user's first or
//! last session on any node. If a node is gone, its sessions end, and one of the other nodes gets
//! [`Event::UserOffline`].
//!
//! # Counts
//!
//! [`Stamp::num`] is the number of members right after an event. It is the same on all nodes. It may include members of
//! a node that is gone, for at most the lease and one second. In a room where this node had more than 100 members, this
//! takes longer, because each node removes at most 100 of them per second. Members of sessions stay for the resume
//! window. After Redis has lost its data, the number may be too low until all nodes have entered their members again.
//!
//! # Redis
//!
//! Redis 7.0, Valkey 7.2 or later: one server, a master that sentinels watch, or a Redis Cluster, in which one server
//! has all rooms of a prefix. Set `maxmemory-policy noeviction`, because rooms lose members if keys are evicted. Each
//! restart of the server and each failover begins a new epoch in every room, even if no data was lost, because the
//! server cannot know what nodes received before.

mod answers;
mod backoff;
mod batches;
mod codec;
mod connector;
mod error;
mod event;
mod hub;
mod inner;
mod keys;
mod lease;
mod link;
mod log_limit;
mod member;
mod membership;
mod node;
mod position;
mod probe;
mod profiles;
mod publisher;
mod queue;
mod random;
mod reader;
mod reaper;
mod reentry;
mod repairs;
mod reply;
mod resume;
mod room;
mod scripts;
mod servers;
mod session;
mod sessions;
mod settings;
mod stamp;
mod start;
mod status;
mod subscriber;
mod sync;
mod users;

pub use answers::{NodeStats, Published, RoomCount, RoomPlace, Roster, RosterEntry};
pub use batches::{BatchMessage, BatchOutcome, BatchStart};
pub use error::{ConnectError, ConnectErrorKind, EnterError, PublishError, ResumeError, Unavailable};
pub use event::{Event, EvictionReason, LoggedEvent, ResetReason, RoomEvent, State};
pub use member::{NewMember, Profile};
pub use node::{Events, Node};
pub use publisher::Publisher;
pub use session::{Resumed, ResumedMembership, Session};
pub use settings::{LogNeeds, Settings};
pub use stamp::{Epoch, EventKind, Stamp};
pub use status::Outage;
pub use users::UserSession;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// The clocks of nodes differ, so leases, windows and ages go by the server's time.
    #[test]
    fn time_comes_from_redis_only() {
        let clock = concat!("System", "Time");
        let mut files = 0;
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                files += 1;
                assert!(!fs::read_to_string(&path).unwrap().contains(clock), "{path:?}");
            }
        }
        assert!(files > 20, "{files}");
    }
}
