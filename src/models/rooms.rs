//! Rooms: no matter how members enter, leave, move and are removed, nothing is left of an empty room.

use std::sync::Arc;

use super::check;
use super::world::{Client, World, at_once};
use crate::protocol::close::LeaveReason;
use crate::protocol::subprotocol::Subprotocol;

#[test]
fn a_room_ends_with_its_last_member() {
    check(|| {
        let world = World::new();
        let visitor = |client: Client| {
            let world = world.clone();
            let visit = move || {
                for _ in 0..2 {
                    assert!(client.enter("r"));
                    let (room, own) = (world.room("r").unwrap(), client.room().unwrap());
                    assert!(Arc::ptr_eq(&room, &own), "the room is there while a member is in it");
                    client.leave();
                }
                client.end(LeaveReason::Closed);
            };
            Box::new(visit) as Box<dyn FnOnce() + Send>
        };
        at_once((0..3).map(|_| visitor(world.connect())).collect());
        world.assert_empty();
    });
}

#[test]
fn a_member_that_moves_finds_its_reserved_place() {
    check(|| {
        let world = World::new();
        let [mover, other, third] = [Subprotocol::Plain; 3].map(|plain| world.connect_by(plain));
        assert!(mover.enter("a") && other.enter("b"));
        let moved = world.clone();
        at_once(vec![
            Box::new(move || {
                assert!(mover.enter("b"));
                let (room, own) = (moved.room("b").unwrap(), mover.room().unwrap());
                assert!(Arc::ptr_eq(&room, &own), "it is in the room that others find");
                mover.end(LeaveReason::Closed);
            }),
            // In the other direction, so that both hold one room and want the other.
            Box::new(move || {
                assert!(other.enter("a"));
                other.end(LeaveReason::Closed);
            }),
            Box::new(move || {
                assert!(third.enter("a"));
                third.end(LeaveReason::Closed);
            }),
        ]);
        world.assert_empty();
    });
}

#[test]
fn a_closed_room_is_forgotten_and_its_id_is_free() {
    check(|| {
        let world = World::new();
        let visitor = |client: Client| {
            let world = world.clone();
            let visit = move || {
                assert!(client.enter("r"));
                let own = client.room().unwrap();
                if world.room("r").is_some_and(|room| Arc::ptr_eq(&room, &own)) {
                    client.end(LeaveReason::Closed);
                } else {
                    // It is told, no matter when it entered.
                    assert_eq!(client.serve(), LeaveReason::RoomClosed);
                }
            };
            Box::new(visit) as Box<dyn FnOnce() + Send>
        };
        let [first, mover] = [Subprotocol::Plain; 2].map(|plain| world.connect_by(plain));
        assert!(mover.enter("a"));
        let several = world.connect();
        assert!(several.enter("a"));
        let closer = world.clone();
        let close = Box::new(move || {
            closer.engine().close_room("r");
        });
        let visit_too = Box::new(move || {
            // The client stays connected, and in its other room.
            assert!(several.enter("r"));
            assert_eq!(several.order(), None);
            several.end(LeaveReason::Closed);
        });
        at_once(vec![visitor(first), visitor(mover), visit_too, close]);
        world.assert_empty();
        let next = world.connect();
        assert!(next.enter("r"));
        next.end(LeaveReason::Closed);
        world.assert_empty();
    });
}
