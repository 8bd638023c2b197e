//! The rooms of this node: takes what arrives in channels and logs, and gives the host what it has not had.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc, oneshot, watch};
use tracing::warn;

use crate::codec::{self, Message};
use crate::event::{Event, RoomEvent};
use crate::keys::Keys;
use crate::member::{NewMember, Profile};
use crate::position::Position;
use crate::queue::Queue;
use crate::room::{Outcome, Page, Received, Room};
use crate::stamp::Stamp;
use crate::status::Status;
use crate::sync::{Mutex, lock};

/// The rooms of this node.
#[derive(Debug)]
pub(crate) struct Hub {
    keys: Keys,
    rooms: Mutex<HashMap<Arc<str>, Entry>>,
    queue: Arc<Queue>,
    status: Arc<Status>,
    /// Rooms whose logs have to be read.
    reads: mpsc::UnboundedSender<Arc<str>>,
    subscriptions: mpsc::UnboundedSender<Subscription>,
    /// The latest probe that has come back.
    probe: watch::Sender<u64>,
    /// Messages that have arrived.
    heard: AtomicU64,
    /// Messages that could not be read.
    dropped: AtomicU64,
    /// Members of nodes that are gone, which this node has removed.
    lost_members: AtomicU64,
    /// Notified when a room's log has been read.
    has_read: Notify,
}

#[derive(Debug)]
struct Entry {
    room: Room,
    gate: Gate,
}

impl Entry {
    fn new() -> Entry {
        Entry { room: Room::new(), gate: Arc::new(AsyncMutex::new(false)) }
    }
}

/// Held by the first member that enters a room; the others wait for it. Whether the node is subscribed.
pub(crate) type Gate = Arc<AsyncMutex<bool>>;

/// What the subscriber is to do.
#[derive(Debug)]
pub(crate) enum Subscription {
    /// To subscribe to a room's channel, and to tell when that is confirmed.
    Begin(Arc<str>, oneshot::Sender<()>),
    /// To unsubscribe from it.
    End(Arc<str>),
}

/// What the hub asks others to do.
pub(crate) struct Requests {
    pub(crate) reads: mpsc::UnboundedReceiver<Arc<str>>,
    pub(crate) subscriptions: mpsc::UnboundedReceiver<Subscription>,
}

impl Hub {
    pub(crate) fn new(keys: Keys, queue: Arc<Queue>, status: Arc<Status>) -> (Hub, Requests) {
        let (reads, wanted_reads) = mpsc::unbounded_channel();
        let (subscriptions, wanted_subscriptions) = mpsc::unbounded_channel();
        let probe = watch::Sender::new(0);
        let rooms = Mutex::default();
        let (heard, dropped, lost_members) = <(AtomicU64, AtomicU64, AtomicU64)>::default();
        let has_read = Notify::new();
        let hub = Hub {
            keys,
            rooms,
            queue,
            status,
            reads,
            subscriptions,
            probe,
            heard,
            dropped,
            lost_members,
            has_read,
        };
        (hub, Requests { reads: wanted_reads, subscriptions: wanted_subscriptions })
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(crate) fn lost_members(&self) -> u64 {
        self.lost_members.load(Ordering::Relaxed)
    }

    /// This node has removed a member of a node that is gone.
    pub(crate) fn member_lost(
        &self,
        room: &Arc<str>,
        member: Box<str>,
        profile: Profile,
        is_hidden: bool,
        stamp: Stamp,
    ) {
        self.lost_members.fetch_add(1, Ordering::Relaxed);
        self.queue.push(Event::MemberLost { room: room.clone(), member, profile, is_hidden, stamp });
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn probe(&self) -> watch::Receiver<u64> {
        self.probe.subscribe()
    }

    /// A message has arrived in a channel. Returns it if it is about a session.
    pub(crate) fn receive(&self, channel: &str, payload: Bytes) -> Option<Message> {
        let mut rooms = lock(&self.rooms);
        let name = match self.keys.room_of_channel(channel) {
            Some(room) => match rooms.get_key_value(room) {
                Some((name, _)) => name.clone(),
                // It was left meanwhile.
                None => return None,
            },
            None => "".into(),
        };
        let message = codec::decode(&name, payload);
        if !matches!(message, Ok(Message::Probe(_))) {
            self.heard.fetch_add(1, Ordering::Relaxed);
        }
        match message {
            Ok(Message::Event(event)) => self.receive_event(&mut rooms, event),
            Ok(Message::Transient(_)) if self.queue.is_full() => {}
            Ok(Message::Transient(body)) => self.queue.push(Event::Transient { room: name, body }),
            Ok(Message::CloseRoom(room)) => self.queue.push(Event::CloseRoom { room }),
            Ok(Message::Command(body)) => self.queue.push(Event::Command { body }),
            Ok(Message::Probe(number)) => {
                self.probe.send_replace(number);
            }
            Ok(message @ (Message::SessionTaken { .. } | Message::Unannounced { .. })) => {
                return Some(message);
            }
            Err(error) => {
                // Another version may send thousands, so only the first, the second, the fourth and so on are logged.
                let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
                if dropped.is_power_of_two() {
                    warn!(channel, dropped, "dropped a message: {error}");
                }
            }
        }
        None
    }

    fn receive_event(&self, rooms: &mut HashMap<Arc<str>, Entry>, event: RoomEvent) {
        let name = event.room.clone();
        let Some(Entry { room, .. }) = rooms.get_mut(&name) else { return };
        // The host is too slow. The rest will be read from the log.
        if self.queue.is_full() && room.set_stale() {
            self.request_read(name);
            return;
        }
        match room.receive(event) {
            Received::Deliver(event) => self.queue.push(Event::Room(event)),
            Received::Nothing => {}
            Received::Read => self.request_read(name.clone()),
        }
        self.remove_if_done(rooms, &name);
    }

    /// Events of any room may have been missed.
    pub(crate) fn set_all_stale(&self) {
        for (name, entry) in &mut *lock(&self.rooms) {
            if entry.room.set_stale() {
                self.request_read(name.clone());
            }
        }
    }

    /// All rooms that need a subscription.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        lock(&self.rooms).keys().cloned().collect()
    }

    /// A call of `enter` begins.
    pub(crate) fn add_pending(&self, name: &Arc<str>, member: &Arc<NewMember>) -> Gate {
        let mut rooms = lock(&self.rooms);
        let entry = rooms.entry(name.clone()).or_insert_with(Entry::new);
        entry.room.add_pending(member.clone());
        entry.gate.clone()
    }

    /// A call of `enter` ends. `is_member` tells whether the member has entered.
    pub(crate) fn remove_pending(&self, name: &Arc<str>, member: &Arc<NewMember>, is_member: bool) {
        let mut rooms = lock(&self.rooms);
        if let Some(Entry { room, .. }) = rooms.get_mut(name) {
            let entered = room.remove_pending(member.id());
            if let Some(entered) = entered.filter(|_| is_member) {
                room.add_member(entered);
                room.replace_member(member.replaced());
            }
        }
        self.remove_if_done(&mut rooms, name);
    }

    pub(crate) fn is_live(&self, name: &str) -> bool {
        lock(&self.rooms).get(name).is_some_and(|entry| entry.room.is_live())
    }

    /// Has the subscriber subscribe to a room. The answer comes when that is confirmed.
    pub(crate) fn subscribe(&self, name: &Arc<str>) -> oneshot::Receiver<()> {
        let (done, is_done) = oneshot::channel();
        // The subscriber ends only with the node.
        let _ = self.subscriptions.send(Subscription::Begin(name.clone(), done));
        is_done
    }

    pub(crate) fn begin_enter(&self, name: &str) {
        if let Some(Entry { room, .. }) = lock(&self.rooms).get_mut(name) {
            room.begin_enter();
        }
    }

    pub(crate) fn enter_failed(&self, name: &str) {
        if let Some(Entry { room, .. }) = lock(&self.rooms).get_mut(name) {
            room.enter_failed();
        }
    }

    pub(crate) fn entered(&self, name: &Arc<str>, stamp: Stamp) {
        let mut rooms = lock(&self.rooms);
        let outcome = rooms.get_mut(name).map(|entry| entry.room.entered(stamp));
        self.deliver(&mut rooms, name, outcome.unwrap_or_default());
    }

    /// A member was taken over. The caller must see to it that the room is heard.
    pub(crate) fn add_taken(&self, name: &Arc<str>, member: &Arc<NewMember>) -> Gate {
        let mut rooms = lock(&self.rooms);
        let entry = rooms.entry(name.clone()).or_insert_with(Entry::new);
        entry.room.add_member(member.clone());
        entry.gate.clone()
    }

    /// Members were taken over: the room is heard from here on.
    pub(crate) fn resumed(&self, name: &Arc<str>, stamp: Stamp) {
        if let Some(Entry { room, .. }) = lock(&self.rooms).get_mut(name) {
            room.resumed(stamp);
            self.request_read(name.clone());
        }
    }

    /// Removes the members of a session, which are not this node's any more.
    pub(crate) fn remove_session(&self, session: &str) {
        let mut rooms = lock(&self.rooms);
        let names: Vec<_> = rooms.keys().cloned().collect();
        for name in names {
            if let Some(Entry { room, .. }) = rooms.get_mut(&name) {
                room.remove_session(session);
            }
            self.remove_if_done(&mut rooms, &name);
        }
    }

    pub(crate) fn begin_read(&self, name: &str) -> Option<Position> {
        lock(&self.rooms).get_mut(name)?.room.begin_read()
    }

    /// The log could not be read.
    pub(crate) fn read_failed(&self, name: &Arc<str>) {
        if let Some(Entry { room, .. }) = lock(&self.rooms).get_mut(name) {
            room.read_failed();
            self.request_read(name.clone());
        }
    }

    /// Redis does not have the room.
    pub(crate) fn room_missing(&self, name: &Arc<str>) {
        let mut rooms = lock(&self.rooms);
        let Some(Entry { room, .. }) = rooms.get_mut(name) else { return };
        room.read_failed();
        room.give_up_last_leave();
        self.remove_if_done(&mut rooms, name);
        if rooms.contains_key(name) {
            self.request_read(name.clone());
        }
        self.has_read.notify_waiters();
    }

    pub(crate) fn read(&self, name: &Arc<str>, page: Page) {
        let mut rooms = lock(&self.rooms);
        let outcome = rooms.get_mut(name).map(|entry| entry.room.read(page));
        self.deliver(&mut rooms, name, outcome.unwrap_or_default());
        self.has_read.notify_waiters();
    }

    /// Waits until the host has all events of a room up to this one, if the node hears the room.
    pub(crate) async fn until_delivered(&self, name: &Arc<str>, stamp: Stamp) {
        let with_room = |look: fn(&mut Room, Stamp) -> bool| {
            lock(&self.rooms).get_mut(name).is_some_and(|entry| look(&mut entry.room, stamp))
        };
        if !with_room(|room, stamp| room.is_behind(stamp)) {
            return;
        }
        // The room may be in another epoch already, so only its log can tell.
        if with_room(|room, _| room.set_stale()) {
            self.request_read(name.clone());
        }
        loop {
            let has_read = self.has_read.notified();
            if !with_room(|room, _| !room.is_up_to_date()) {
                return;
            }
            has_read.await;
        }
    }

    /// Waits until no log has to be read.
    pub(crate) async fn until_read(&self) {
        loop {
            let has_read = self.has_read.notified();
            if !lock(&self.rooms).values().any(|entry| entry.room.has_to_be_read()) {
                return;
            }
            has_read.await;
        }
    }

    fn deliver(&self, rooms: &mut HashMap<Arc<str>, Entry>, name: &Arc<str>, outcome: Outcome) {
        if let Some((stamp, reason)) = outcome.reset {
            self.status.room_reset(name, reason);
            self.queue.push(Event::Reset { room: name.clone(), stamp, reason });
        }
        for event in outcome.events {
            self.queue.push(Event::Room(event));
        }
        if outcome.must_read {
            self.request_read(name.clone());
        }
        self.remove_if_done(rooms, name);
    }

    /// Removes a member, if its session has this generation; any, if it is 0. Returns whether the member was there. If so,
    /// [`Hub::left`] must follow.
    pub(crate) fn remove_member(&self, name: &str, member: &str, generation: u64) -> bool {
        lock(&self.rooms).get_mut(name).is_some_and(|entry| entry.room.remove_member(member, generation))
    }

    /// A member that was removed has left.
    pub(crate) fn left(&self, name: &Arc<str>, stamp: Option<Stamp>) {
        let mut rooms = lock(&self.rooms);
        if let Some(Entry { room, .. }) = rooms.get_mut(name) {
            room.left(stamp);
        }
        self.remove_if_done(&mut rooms, name);
    }

    pub(crate) fn has_member(&self, name: &str, member: &str) -> bool {
        lock(&self.rooms).get(name).is_some_and(|entry| entry.room.has_member(member))
    }

    /// Whether the member has entered on this node, or is about to.
    pub(crate) fn knows(&self, name: &str, member: &str) -> bool {
        lock(&self.rooms).get(name).is_some_and(|entry| entry.room.knows(member))
    }

    pub(crate) fn set_profile(&self, name: &str, member: &str, profile: Profile) {
        if let Some(Entry { room, .. }) = lock(&self.rooms).get_mut(name) {
            room.update_member(member, |member| member.set_profile(profile));
        }
    }

    /// The profile of a member that has entered on this node.
    pub(crate) fn profile(&self, name: &str, member: &str) -> Option<Profile> {
        let rooms = lock(&self.rooms);
        Some(rooms.get(name)?.room.member(member)?.known_profile().clone())
    }

    pub(crate) fn set_owner(&self, name: &str, member: &str, owner: &str) {
        if let Some(Entry { room, .. }) = lock(&self.rooms).get_mut(name) {
            room.update_member(member, |member| member.set_owner(owner));
        }
    }

    /// All members of this node.
    pub(crate) fn members(&self) -> Vec<(Arc<str>, Arc<NewMember>)> {
        let rooms = lock(&self.rooms);
        let of_room = |(name, entry): (&Arc<str>, &Entry)| {
            let name = name.clone();
            let members: Vec<_> = entry.room.members().cloned().collect();
            members.into_iter().map(move |member| (name.clone(), member))
        };
        rooms.iter().flat_map(of_room).collect()
    }

    fn remove_if_done(&self, rooms: &mut HashMap<Arc<str>, Entry>, name: &Arc<str>) {
        if rooms.get(name).is_some_and(|entry| entry.room.is_done()) {
            rooms.remove(name);
            let _ = self.subscriptions.send(Subscription::End(name.clone()));
        }
    }

    fn request_read(&self, name: Arc<str>) {
        // The reader ends only with the node.
        let _ = self.reads.send(name);
    }
}
