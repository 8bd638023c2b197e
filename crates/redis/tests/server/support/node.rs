//! A node that remembers what it hears.

use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tower_chat_rooms_redis::{Event, NewMember, Node, Profile, RoomEvent, Settings, Stamp};

/// For what takes a moment, on a machine with much else to do.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A node that remembers what it hears.
pub(crate) struct TestNode {
    node: Node,
    heard: Arc<Mutex<Vec<Event>>>,
    count: watch::Receiver<usize>,
}

impl TestNode {
    pub(crate) async fn connect(settings: Settings) -> TestNode {
        let (node, mut events) = Node::connect(settings).await.unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (changed, count) = watch::channel(0);
        let list = heard.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let mut list = list.lock().unwrap();
                list.push(event);
                changed.send_replace(list.len());
            }
        });
        TestNode { node, heard, count }
    }

    pub(crate) async fn close(self) {
        self.node.close().await.unwrap();
    }

    /// Everything that it has heard.
    pub(crate) fn heard(&self) -> Vec<Event> {
        self.heard.lock().unwrap().clone()
    }

    /// The events of a room that it has heard.
    pub(crate) fn events(&self, room: &str) -> Vec<RoomEvent> {
        let of_room = |event| match event {
            Event::Room(event) if *event.room == *room => Some(event),
            _ => None,
        };
        self.heard().into_iter().filter_map(of_room).collect()
    }

    /// The bodies of a room's events that it has heard.
    pub(crate) fn bodies(&self, room: &str) -> Vec<String> {
        self.events(room).iter().map(|event| String::from_utf8_lossy(&event.body).into_owned()).collect()
    }

    /// Waits until what it has heard is as it should be.
    pub(crate) async fn until(&self, what: &str, is_true: impl Fn(&[Event]) -> bool) {
        let mut count = self.count.clone();
        let wait = async {
            while !is_true(&self.heard()) {
                count.changed().await.unwrap();
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("node {} has not heard {what}, but {:#?}", self.name(), self.heard());
        }
    }

    /// Waits until it has heard an event of a room.
    pub(crate) async fn until_heard(&self, room: &str, stamp: Stamp) {
        let is_it = |event: &Event| match event {
            Event::Room(event) => *event.room == *room && event.stamp == stamp,
            _ => false,
        };
        self.until(&format!("{stamp:?} in {room}"), |heard| heard.iter().any(is_it)).await;
    }

    /// Waits until it has heard an event of a room with this body.
    pub(crate) async fn until_body(&self, room: &str, body: &str) {
        let is_it = |event: &Event| match event {
            Event::Room(event) => *event.room == *room && event.body == body.as_bytes(),
            _ => false,
        };
        self.until(&format!("{body:?} in {room}"), |heard| heard.iter().any(is_it)).await;
    }

    /// Waits until it has heard that a member has this profile.
    pub(crate) async fn until_profile(&self, room: &str, member: &str, profile: &Profile) {
        let is_it = |event: &Event| match event {
            Event::Room(event) => {
                *event.room == *room
                    && event.member.as_deref() == Some(member)
                    && event.profile().as_ref() == Some(profile)
            }
            _ => false,
        };
        self.until(&format!("{profile:?} of {member}"), |heard| heard.iter().any(is_it)).await;
    }
}

impl Deref for TestNode {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

/// A member whose enter has the body `+id`, and its leave `-id`.
pub(crate) fn member(id: &str) -> NewMember {
    NewMember::new(id).body(format!("+{id}")).leave_body(format!("-{id}"))
}
