//! Rooms: whoever comes, goes, moves or closes, nothing stays, and nothing said is forgotten.

use std::sync::Arc;
use std::time::Duration;

use shuttle::thread;

use crate::Case;
use crate::config::UniqueNames;
use crate::ids::{ConnectionId, MaxLen, Name, RoomId};
use crate::protocol::outbound::Head;
use crate::protocol::wire::Wire;
use crate::room::registry::{Registry, SharedRoom};
use crate::room::room::Member;
use crate::sync::Mutex;

pub(crate) const CASES: [Case; 4] = [
    ("rooms_end_with_their_last_member", rooms_end_with_their_last_member),
    ("who_moves_finds_the_place_that_was_kept", who_moves_finds_the_place_that_was_kept),
    ("a_closed_room_is_forgotten_and_its_id_free", a_closed_room_is_forgotten_and_its_id_free),
    (
        "whatever_is_said_is_flushed_by_one_flusher_at_a_time",
        whatever_is_said_is_flushed_by_one_flusher_at_a_time,
    ),
];

const NOW: Duration = Duration::ZERO;
const HEAD: Head<'_> = Head { plain: "{", v1: "{", tail: "\"num\":" };
const OUT: &str = "{\"num\":";

type Rooms = Arc<Registry<u64>>;

fn rooms() -> Rooms {
    Arc::new(Registry::new(None, UniqueNames::Off))
}

fn member(who: u64) -> Member<u64> {
    let name = Name::parse(&format!("n{who}"), MaxLen { bytes: 10, chars: 10 }).unwrap();
    let wire = if who.is_multiple_of(2) { Wire::Plain } else { Wire::V1 };
    Member { id: ConnectionId(who), name, user: None, wire, link: who }
}

/// `None` if the room was just being closed.
fn enter(rooms: &Rooms, who: u64, id: &str) -> Option<Arc<SharedRoom<u64>>> {
    let entered = rooms.open(&RoomId::from(id), usize::MAX, |shared, room| {
        room.join(member(who), usize::MAX, &HEAD, NOW).map(|_| shared.clone())
    });
    entered.unwrap().ok()
}

fn leave(rooms: &Rooms, who: u64, room: &Arc<SharedRoom<u64>>) {
    assert!(rooms.visit(room, |_, room| room.leave(ConnectionId(who), OUT, NOW)));
}

/// Runs these at once, and waits for all.
fn at_once(parts: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = parts.into_iter().map(thread::spawn).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn assert_empty(rooms: &Rooms) {
    assert_eq!((rooms.len(), rooms.all().len()), (0, 0));
}

fn rooms_end_with_their_last_member() {
    let rooms = rooms();
    let visitor = |who| {
        let rooms = rooms.clone();
        let visit = move || {
            for _ in 0..2 {
                let room = enter(&rooms, who, "r").unwrap();
                assert!(rooms.get("r").is_some_and(|r| Arc::ptr_eq(&r, &room)), "it is there while he is");
                leave(&rooms, who, &room);
            }
        };
        Box::new(visit) as Box<dyn FnOnce() + Send>
    };
    at_once((0..3).map(visitor).collect());
    assert_empty(&rooms);
}

fn who_moves_finds_the_place_that_was_kept() {
    let rooms = rooms();
    let old = enter(&rooms, 1, "a").unwrap();
    let other = enter(&rooms, 2, "b").unwrap();
    let (mover, leaver) = (rooms.clone(), rooms.clone());
    at_once(vec![
        Box::new(move || {
            let kept = mover.open(&RoomId::from("b"), usize::MAX, |shared, room| {
                room.reserve(&member(1), usize::MAX).map(|()| shared.clone())
            });
            let kept = kept.unwrap().unwrap();
            leave(&mover, 1, &old);
            mover.visit(&kept, |_, room| room.join_reserved(member(1), &HEAD, NOW));
            assert!(mover.get("b").is_some_and(|room| Arc::ptr_eq(&room, &kept)));
            leave(&mover, 1, &kept);
        }),
        Box::new(move || leave(&leaver, 2, &other)),
    ]);
    assert_empty(&rooms);
}

fn a_closed_room_is_forgotten_and_its_id_free() {
    let rooms = rooms();
    let (first, second, closer) = (rooms.clone(), rooms.clone(), rooms.clone());
    at_once(vec![
        Box::new(move || {
            if let Some(room) = enter(&first, 1, "r") {
                leave(&first, 1, &room);
            }
        }),
        Box::new(move || {
            if let Some(room) = enter(&second, 2, "r") {
                leave(&second, 2, &room);
            }
        }),
        Box::new(move || {
            closer.close("r");
        }),
    ]);
    assert_empty(&rooms);
    let room = enter(&rooms, 3, "r").unwrap();
    leave(&rooms, 3, &room);
    assert_empty(&rooms);
}

/// The flusher as the engine leads it, one thread for a task.
fn flush(room: Arc<SharedRoom<u64>>, delivered: Arc<Mutex<Vec<u64>>>) {
    loop {
        thread::yield_now();
        let (_, batch) = room.lock().take();
        delivered.lock().unwrap().push(batch.end());
        let mut state = room.lock();
        if state.stream().finish_batch() {
            room.release_flush();
            return;
        }
    }
}

fn whatever_is_said_is_flushed_by_one_flusher_at_a_time() {
    let rooms = rooms();
    let room = enter(&rooms, 1, "r").unwrap();
    let delivered = Arc::new(Mutex::new(Vec::new()));
    let speaker = || {
        let (room, delivered) = (room.clone(), delivered.clone());
        let speak = move || {
            for _ in 0..2 {
                let mut state = room.lock();
                state.say(&HEAD, NOW);
                let is_claimed = room.claim_flush(&mut state);
                drop(state);
                if is_claimed {
                    let (room, delivered) = (room.clone(), delivered.clone());
                    thread::spawn(move || flush(room, delivered)).join().unwrap();
                }
            }
        };
        Box::new(speak) as Box<dyn FnOnce() + Send>
    };
    at_once(vec![speaker(), speaker()]);
    let mut state = room.lock();
    assert_eq!(state.stream().pending(), 0, "something waits, and nobody is at work");
    let ends = delivered.lock().unwrap();
    // Each batch goes further than the one before, to the last: his enter and four more.
    assert!(ends.windows(2).all(|pair| pair[0] < pair[1]), "{ends:?}");
    assert_eq!(ends.last(), Some(&5));
}
