//! What the benches measure of rooms.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::broker::{Broker, MemoryBroker, Stamp};
use crate::clock::Clock;
use crate::config::{Presence, UniqueNames};
use crate::delivery::batch::Batch;
use crate::delivery::live_room::{Handle, LiveRoom};
use crate::delivery::presence::PresenceBatch;
use crate::delivery::recipient::Recipient;
use crate::delivery::registry::Registry;
use crate::delivery::room_state::{RoomState, Start};
use crate::delivery::transient::TransientBatch;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, MaxLen, MessageId, Name, RoomId};
use crate::protocol::bench_cases::{ENTER, MESSAGE, parse_message};
use crate::protocol::outbound::{self, RoomFrame};
use crate::protocol::position::Epoch;
use crate::protocol::subprotocol::Subprotocol;
use crate::room::{Entrant, Profile};

/// Rooms without a history don't look at the time.
const NOW: Duration = Duration::ZERO;

/// A message goes from the client's text to the room's next batch.
pub fn message(text: &str) -> impl FnMut() {
    let broker = MemoryBroker::default();
    let (tail, mut room) = (outbound::name_and_num("Ann"), room_of(&broker, 10));
    move || {
        publish(&broker, &mut room, black_box(text), &tail);
        black_box(room.pending.measure());
        black_box(room.take(NOW));
    }
}

/// A member enters a room with this many members and leaves it.
pub fn join_leave(members: u64) -> impl FnMut() {
    let broker = MemoryBroker::default();
    let mut room = room_of(&broker, members);
    let (handle, enter, out) = (no_recipient(), enter(), outbound::out("Ann"));
    move || {
        join(&broker, &mut room, members, &handle, &enter);
        room.leave(&broker, ConnectionId(members), black_box(&out));
        black_box(room.take(NOW));
    }
}

/// The same while the flush task is at work, so that the members have to be copied.
pub fn join_leave_while_delivering(members: u64) -> impl FnMut() {
    let broker = MemoryBroker::default();
    let mut room = room_of(&broker, members);
    let (handle, enter, out) = (no_recipient(), enter(), outbound::out("Ann"));
    move || {
        let at_work = room.take(NOW);
        join(&broker, &mut room, members, &handle, &enter);
        room.leave(&broker, ConnectionId(members), black_box(&out));
        black_box(at_work);
    }
}

/// A member of a room of 10 changes its state, which is announced to the others.
pub fn change_state() -> impl FnMut() {
    let room = live_room((0..10).map(|_| no_recipient()));
    let name = Name::parse("Ann", MaxLen::ANY).expect("a good name");
    let mut states = [r#"{"typing":true}"#, r#"{"typing":false}"#].into_iter().cycle();
    let mut now = NOW;
    move || {
        // A room collects such changes and announces them at intervals.
        now += Duration::from_secs(1);
        let announcement = {
            let mut state = room.lock();
            let new = states.next().map(Into::into);
            state.change_profile(ConnectionId(3), &name, |profile| profile.state = new);
            room.take_announcement(&mut state, || now)
        };
        let announcement = announcement.expect("there is something to announce");
        black_box(announcement.encode(room.id().as_str()));
    }
}

/// A client opens a room and leaves it, which removes the room, among this many others.
pub fn open_and_leave(others: u64) -> impl FnMut() {
    let broker = Arc::new(MemoryBroker::default());
    let registry = Registry::new(usize::MAX, None, UniqueNames::Off, Clock::new(), false, Arc::default());
    let (handle, frame, out) = (no_recipient(), enter(), outbound::out("Ann"));
    let opener = broker.clone();
    let enter = move |registry: &Registry, id: &RoomId| {
        let room = registry.open(
            id,
            Presence::Full,
            || opener.open(),
            |room, state| {
                join(&opener, state, 0, &handle, &frame);
                room.clone()
            },
        );
        room.expect("there is no bound")
    };
    for id in 0..others {
        enter(&registry, &format!("other {id}").into());
    }
    let lobby = RoomId::from("lobby");
    move || {
        let room = enter(&registry, black_box(&lobby));
        registry.visit(&room, |_, state| state.leave(&*broker, ConnectionId(0), &out));
    }
}

/// This many messages in one batch.
pub(crate) fn batch_of(messages: usize) -> Batch {
    let broker = MemoryBroker::default();
    let (tail, mut room) = (outbound::name_and_num("Ann"), room_of(&broker, 10));
    for _ in 0..messages {
        publish(&broker, &mut room, MESSAGE, &tail);
    }
    room.take(NOW).1
}

/// A room with these members, which have subscribed to it.
pub(crate) fn live_room(members: impl Iterator<Item = Handle>) -> Arc<LiveRoom> {
    let broker = MemoryBroker::default();
    let (id, names, presence) = ("lobby".into(), UniqueNames::Off, Presence::Full);
    let room = Arc::new(LiveRoom::new(id, 0, start(), None, names, presence, false, Arc::default()));
    for (id, handle) in members.enumerate() {
        let mut state = room.lock();
        handle.subscribe(&room, state.seq());
        join(&broker, &mut state, id as u64, &handle, &enter());
    }
    room
}

/// A parsed message goes to all members of a room.
pub(crate) fn deliver(room: Arc<LiveRoom>) -> impl FnMut() {
    let broker = MemoryBroker::default();
    let (tail, body, clock) = (outbound::name_and_num("Ann"), parse_message(MESSAGE).body, Clock::new());
    move || {
        let (measured, members, batch) = {
            let mut state = room.lock();
            state.publish(&broker, &body.frame(&tail, ConnectionId(0), room.id()), SystemTime::now());
            let measured = state.pending.measure();
            let (members, batch) = state.take(NOW);
            (measured, members, batch)
        };
        for member in members.iter() {
            member.handle.deliver(&room, black_box(&batch));
        }
        room.note_delivered(measured, clock);
        room.lock().pending.finish();
    }
}

fn start() -> Start {
    Start { stamp: Stamp::start(Epoch(1)), last_id: MessageId::first_at(SystemTime::UNIX_EPOCH) }
}

/// A room in which nothing waits to be delivered.
fn room_of(broker: &MemoryBroker, members: u64) -> RoomState {
    let mut room = RoomState::new(&"lobby".into(), start(), None, UniqueNames::Off, Presence::Full, false);
    for id in 0..members {
        join(broker, &mut room, id, &no_recipient(), &enter());
    }
    room.take(NOW);
    room
}

fn join(broker: &MemoryBroker, room: &mut RoomState, id: u64, handle: &Handle, frame: &RoomFrame<'_>) {
    let name = Name::parse("Ann", MaxLen::ANY).expect("a good name");
    let id = ConnectionId(id);
    room.room.reserve(id, &name, None, usize::MAX).expect("the room takes everybody");
    let (handle, profile) = (handle.clone(), Profile::default());
    room.enter(broker, Entrant { id, name, handle, profile }, frame);
}

fn publish(broker: &MemoryBroker, room: &mut RoomState, text: &str, tail: &str) {
    let message = parse_message(text);
    room.publish(broker, &message.body.frame(tail, ConnectionId(0), &"lobby".into()), SystemTime::now());
}

fn enter() -> RoomFrame<'static> {
    let body = &ENTER[..ENTER.len() - 1];
    let (tail, member) = (r#","name":"Ann","num":"#, Some(ConnectionId(0)));
    RoomFrame { plain: body, v1: body.into(), has_room: false, tail, member }
}

fn no_recipient() -> Handle {
    Arc::new(NoRecipient)
}

/// A member that hears nothing.
struct NoRecipient;

impl Recipient for NoRecipient {
    fn subprotocol(&self) -> Subprotocol {
        Subprotocol::Plain
    }

    fn user(&self) -> Option<Arc<User>> {
        None
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn subscribe(&self, _: &Arc<LiveRoom>, _: u64) -> bool {
        false
    }

    fn pause(&self, _: &LiveRoom) -> bool {
        false
    }

    fn unsubscribe(&self, _: &LiveRoom) {}

    fn deliver(&self, _: &LiveRoom, _: &Batch) {}

    fn deliver_transients(&self, _: &LiveRoom, _: &TransientBatch) {}

    fn deliver_presence(&self, _: &LiveRoom, _: &PresenceBatch) {}

    fn send_away(&self) {}

    fn fail(&self) {}
}
