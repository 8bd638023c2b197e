use std::iter;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::stamp::{Epoch, EventKind};

fn stamp(epoch: u64, event: u64) -> Stamp {
    Stamp { epoch: Epoch::from_u64(epoch), event, seq: event, num: 1 }
}

fn event(epoch: u64, number: u64) -> RoomEvent {
    RoomEvent {
        room: "r".into(),
        stamp: stamp(epoch, number),
        kind: EventKind::Publish,
        member: None,
        id: Some(number),
        body: Bytes::new(),
        is_last: false,
        is_replaced: false,
    }
}

fn numbers(events: &[RoomEvent]) -> Vec<u64> {
    events.iter().map(|event| event.stamp.event).collect()
}

/// A room whose first member has entered with this event.
fn live(epoch: u64, number: u64) -> Room {
    let mut room = Room::new();
    room.begin_enter();
    room.add_member(Arc::new(NewMember::new("m")));
    let outcome = room.entered(stamp(epoch, number));
    assert_eq!(outcome, Outcome::default());
    assert_eq!(room.receive(event(epoch, number)), Received::Deliver(event(epoch, number)));
    room
}

#[test]
fn a_node_delivers_from_its_first_enter_on() {
    let mut room = Room::new();
    assert_eq!(room.receive(event(1, 3)), Received::Nothing, "before the enter was sent");
    room.begin_enter();
    for number in 4..=7 {
        assert_eq!(room.receive(event(1, number)), Received::Nothing);
    }
    let outcome = room.entered(stamp(1, 5));
    assert_eq!(numbers(&outcome.events), [5, 6, 7]);
    assert!(!outcome.must_read);
}

#[test]
fn a_gap_is_read_from_the_log() {
    let mut room = live(1, 1);
    assert_eq!(room.receive(event(1, 4)), Received::Read);
    assert_eq!(room.receive(event(1, 5)), Received::Nothing, "it will be in the log");
    assert_eq!(room.begin_read(), Some(Position::at(stamp(1, 1))));
    assert_eq!(room.receive(event(1, 6)), Received::Nothing);
    assert_eq!(room.receive(event(1, 7)), Received::Nothing);
    let outcome = room.read(Page { at: stamp(1, 6), events: (2..=6).map(|n| event(1, n)).collect() });
    assert_eq!(numbers(&outcome.events), [2, 3, 4, 5, 6, 7]);
    assert_eq!((outcome.reset, outcome.must_read), (None, false));
}

#[test]
fn a_gap_that_the_log_does_not_cover_resets_the_room() {
    let mut room = live(1, 1);
    room.receive(event(1, 9));
    room.begin_read();
    let outcome = room.read(Page { at: stamp(1, 9), events: vec![event(1, 8), event(1, 9)] });
    assert_eq!(outcome.reset, Some((stamp(1, 9), ResetReason::LogTrimmed)));
    assert_eq!(numbers(&outcome.events), [] as [u64; 0]);
    assert_eq!(room.receive(event(1, 10)), Received::Deliver(event(1, 10)));
}

#[test]
fn another_epoch_resets_the_room() {
    let mut room = live(1, 5);
    assert_eq!(room.receive(event(2, 6)), Received::Read, "not delivered as the next one");
    room.begin_read();
    room.receive(event(2, 7));
    let outcome = room.read(Page { at: stamp(2, 6), events: Vec::new() });
    assert_eq!(outcome.reset, Some((stamp(2, 6), ResetReason::EpochChanged)));
    assert_eq!(numbers(&outcome.events), [7]);
}

/// Otherwise, the node would take all that follows for older, until the room is again where it was.
#[test]
fn a_room_that_is_behind_in_the_same_epoch_is_reset() {
    let mut room = live(1, 5);
    assert!(room.set_stale());
    room.begin_read();
    let outcome = room.read(Page { at: stamp(1, 3), events: Vec::new() });
    assert_eq!(outcome.reset, Some((stamp(1, 3), ResetReason::EpochChanged)));
    assert_eq!(room.receive(event(1, 4)), Received::Deliver(event(1, 4)));
}

/// The last member left, and the first one entered, while this node had a call of `enter` under way.
#[test]
fn a_room_that_was_empty_needs_no_reset() {
    let last = RoomEvent { is_last: true, ..event(1, 2) };
    let mut room = live(1, 1);
    room.receive(last.clone());
    assert_eq!(room.receive(event(2, 1)), Received::Deliver(event(2, 1)));

    let mut room = live(1, 1);
    room.receive(last);
    assert_eq!(room.receive(event(2, 3)), Received::Read);
    room.begin_read();
    let outcome = room.read(Page { at: stamp(2, 3), events: Vec::new() });
    assert_eq!(outcome, Outcome { must_read: true, ..Outcome::default() });
    assert_eq!(room.begin_read(), Some(Position::start(Epoch::from_u64(2))));
    let outcome = room.read(Page { at: stamp(2, 3), events: (1..=3).map(|n| event(2, n)).collect() });
    assert_eq!((numbers(&outcome.events), outcome.reset), (vec![1, 2, 3], None));
}

/// An event of the earlier epoch that has been parked must not lead back to it.
#[test]
fn late_events_of_the_earlier_epoch_are_dropped() {
    let mut room = live(1, 5);
    room.receive(event(1, 7));
    room.begin_read();
    room.receive(event(1, 8));
    room.receive(event(2, 1));
    let outcome = room.read(Page { at: stamp(2, 1), events: Vec::new() });
    assert_eq!(numbers(&outcome.events), [] as [u64; 0]);
    assert!(outcome.must_read, "only the log can tell which epoch is the later one");
    assert_eq!(room.begin_read(), Some(Position::at(stamp(2, 1))));
    let outcome = room.read(Page { at: stamp(2, 1), events: Vec::new() });
    assert_eq!(outcome, Outcome::default());
    assert_eq!(room.receive(event(2, 2)), Received::Deliver(event(2, 2)));
}

/// The subscription was interrupted while the answer to the first enter was on its way.
#[test]
fn what_was_missed_while_entering_is_read() {
    let mut room = Room::new();
    room.begin_enter();
    assert!(!room.set_stale());
    let outcome = room.entered(stamp(1, 5));
    assert!(outcome.must_read);
    assert_eq!(room.begin_read(), Some(Position::before(stamp(1, 5))));
}

#[test]
fn too_many_parked_events_are_read_from_the_log() {
    let mut room = live(1, 1);
    room.set_stale();
    room.begin_read();
    for number in 2..3000 {
        room.receive(event(1, number));
    }
    let outcome = room.read(Page { at: stamp(1, 1), events: Vec::new() });
    assert_eq!(outcome.events.len(), Parked::MAX_EVENTS);
    assert!(outcome.must_read);
}

#[test]
fn a_room_stays_until_the_last_leave_is_delivered() {
    let mut room = live(1, 1);
    assert!(room.remove_member("m", 0));
    room.left(Some(stamp(1, 2)));
    assert!(!room.is_done());
    room.receive(event(1, 2));
    assert!(room.is_done());
}

#[test]
fn a_room_stays_for_an_enter_that_is_under_way() {
    let mut room = live(1, 1);
    let other = Arc::new(NewMember::new("other"));
    room.add_pending(other.clone());
    room.remove_member("m", 0);
    room.left(Some(stamp(1, 2)));
    room.receive(event(1, 2));
    assert!(!room.is_done());
    room.remove_pending(other.id());
    assert!(room.is_done());
}

/// A room's order over several epochs, as Redis has it.
#[derive(Debug, Clone)]
struct Broker {
    /// Events of each epoch.
    epochs: Vec<u64>,
    log_length: u64,
}

impl Broker {
    fn at(&self) -> Stamp {
        stamp(self.epochs.len() as u64, *self.epochs.last().unwrap())
    }

    fn append(&mut self) -> RoomEvent {
        *self.epochs.last_mut().unwrap() += 1;
        let at = self.at();
        event(at.epoch.as_u64(), at.event)
    }

    fn page(&self, from: Option<Position>) -> Page {
        let at = self.at();
        let events = match from {
            Some(from) if from.epoch() == at.epoch => {
                let oldest = (at.event + 1).saturating_sub(self.log_length).max(1);
                let first = from.next_event().max(oldest);
                // In pages, as the script reads it.
                (first..=at.event).take(3).map(|number| event(at.epoch.as_u64(), number)).collect()
            }
            _ => Vec::new(),
        };
        Page { at, events }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// An event is published and arrives; the node is told of it as soon as it can be.
    Publish,
    /// The subscription loses an event, and notices later.
    Lose,
    Stale,
    NewEpoch,
    BeginRead,
    /// The answer to the read arrives.
    EndRead,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Publish),
        1 => Just(Step::Lose),
        1 => Just(Step::Stale),
        1 => Just(Step::NewEpoch),
        4 => Just(Step::BeginRead),
        4 => Just(Step::EndRead),
    ];
    prop::collection::vec(step, 0..80)
}

/// Checks what a node delivers: each event follows from the one before, or a reset lies between.
struct Checker {
    position: Position,
    delivered: Vec<RoomEvent>,
}

impl Checker {
    fn deliver(&mut self, event: RoomEvent) {
        assert_eq!(self.position.place(event.stamp), Place::Next, "{event:?} after {:?}", self.position);
        self.position = Position::at(event.stamp);
        self.delivered.push(event);
    }

    fn outcome(&mut self, outcome: Outcome) {
        if let Some((stamp, _)) = outcome.reset {
            self.position = Position::at(stamp);
        }
        for event in outcome.events {
            self.deliver(event);
        }
    }
}

proptest! {
    /// Whatever is lost and read in whatever order, a node delivers every event in order or a reset, and gets to the
    /// end.
    #[test]
    fn a_node_follows_the_order(steps in steps(), log_length in 1u64..20) {
        let mut broker = Broker { epochs: vec![1], log_length };
        let mut room = live(1, 1);
        let mut checker = Checker { position: Position::at(stamp(1, 1)), delivered: Vec::new() };
        let mut answer = None;
        let finish = [Step::Publish, Step::Stale].into_iter();
        let finish = finish.chain(iter::repeat_n([Step::BeginRead, Step::EndRead], 60).flatten());
        for step in steps.into_iter().chain(finish) {
            match step {
                Step::Publish => {
                    if let Received::Deliver(event) = room.receive(broker.append()) {
                        checker.deliver(event);
                    }
                }
                Step::Lose => {
                    broker.append();
                }
                Step::Stale => {
                    room.set_stale();
                }
                Step::NewEpoch => broker.epochs.push(0),
                Step::BeginRead if answer.is_none() => {
                    if let Some(from) = room.begin_read() {
                        answer = Some(broker.page(Some(from)));
                    }
                }
                Step::BeginRead => {}
                Step::EndRead => {
                    if let Some(page) = answer.take() {
                        checker.outcome(room.read(page));
                    }
                }
            }
        }
        prop_assert_eq!(checker.position, Position::at(broker.at()));
        prop_assert!(room.is_live());
    }
}
