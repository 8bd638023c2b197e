//! Delivery: everything that is published reaches every member once and in order.

use serde_json::Value;
use shuttle::future::block_on;
use shuttle::thread;

use super::check;
use super::wire::Wire;
use super::world::{Client, World, at_once};
use crate::config::History;
use crate::protocol::close::LeaveReason;
use crate::protocol::position::{Epoch, Position};
use crate::protocol::subprotocol::Subprotocol;

/// Reads a room's frames up to the last of this many messages, and checks that each is the next one after a
/// `seq`. A frame that is not delivered keeps it waiting, which shuttle reports as a deadlock.
fn read_messages(wire: &mut Wire, mut seq: u64, messages: usize) {
    for _ in 0..messages {
        loop {
            let frame = block_on(wire.next()).unwrap();
            seq += 1;
            assert_eq!(frame["seq"], seq, "{frame}");
            if frame["event"] == "message" {
                break;
            }
        }
    }
}

fn position(entered: &Value) -> Position {
    let epoch = Epoch::parse(entered["epoch"].as_str().unwrap()).unwrap();
    Position { epoch, seq: entered["seq"].as_u64().unwrap() }
}

/// Reads the answer to an enter, which comes before anything else of the room.
fn read_entered(wire: &mut Wire) -> Value {
    let entered = block_on(wire.next()).unwrap();
    assert_eq!(entered["event"], "entered");
    entered
}

#[test]
fn everything_published_is_delivered_once_and_in_order() {
    check(|| {
        let world = World::new();
        let mut listener = world.connect();
        assert!(listener.enter("r"));
        let speaker = |client: Client| {
            let speak = move || {
                assert!(client.enter("r"));
                for _ in 0..2 {
                    assert!(client.publish("hello", None).is_some());
                }
                client.end(LeaveReason::Closed);
            };
            Box::new(speak) as Box<dyn FnOnce() + Send>
        };
        at_once(vec![speaker(world.connect()), speaker(world.connect())]);
        let seq = position(&read_entered(&mut listener.wire)).seq;
        read_messages(&mut listener.wire, seq, 4);
        listener.end(LeaveReason::Closed);
        world.assert_empty();
    });
}

fn frames_wait_for_the_answer_to_an_enter(history: Option<History>) {
    let world = World::with_history(history);
    let speaker = world.connect();
    assert!(speaker.enter("r"));
    let mut entrant = world.connect();
    let speaking = thread::spawn(move || {
        for _ in 0..3 {
            assert!(speaker.publish("hello", None).is_some());
        }
        speaker
    });
    assert!(entrant.enter("r"));
    let speaker = speaking.join().unwrap();
    assert!(speaker.publish("the last", None).is_some());
    let seq = position(&read_entered(&mut entrant.wire)).seq;
    let frame = block_on(entrant.wire.next()).unwrap();
    assert_eq!((frame["event"].as_str(), frame["seq"].as_u64()), (Some("enter"), Some(seq + 1)));
    let mut next = seq + 2;
    loop {
        let frame = block_on(entrant.wire.next()).unwrap();
        assert_eq!(frame["seq"], next);
        next += 1;
        if frame["message"] == "the last" {
            break;
        }
    }
    [speaker, entrant].into_iter().for_each(|client| client.end(LeaveReason::Closed));
    world.assert_empty();
}

#[test]
fn frames_wait_for_the_answer_to_an_enter_without_a_history() {
    check(|| frames_wait_for_the_answer_to_an_enter(None));
}

#[test]
fn frames_wait_for_the_answer_to_an_enter_with_a_history() {
    check(|| frames_wait_for_the_answer_to_an_enter(Some(History::last(100))));
}

#[test]
fn a_member_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    check(|| {
        let world = World::with_history(Some(History::last(100)));
        let (mut first, mut second, speaker) = (world.connect(), world.connect(), world.connect());
        assert!(speaker.enter("r") && first.enter("r"));
        let since = position(&read_entered(&mut first.wire));
        let token = first.token;
        let speaking = thread::spawn(move || {
            for _ in 0..3 {
                assert!(speaker.publish("hello", None).is_some());
            }
            speaker
        });
        let losing = thread::spawn(move || first.lose());
        assert!(second.resume(token, Some(since)));
        losing.join().unwrap();
        let speaker = speaking.join().unwrap();
        let entered = read_entered(&mut second.wire);
        assert_eq!((&entered["resumed"], &entered["recovered"]), (&true.into(), &true.into()));
        assert_eq!(entered["replayed"], position(&entered).seq - since.seq);
        read_messages(&mut second.wire, since.seq, 3);
        [speaker, second].into_iter().for_each(|client| client.end(LeaveReason::Closed));
        world.assert_empty();
    });
}

/// Whether or not any member speaks the subprotocol in which the room is recovered.
#[test]
fn a_member_that_enters_again_is_recovered_or_told_that_it_is_not() {
    check(|| {
        let world = World::new();
        let (mut client, speaker) = (world.connect(), world.connect_by(Subprotocol::Plain));
        assert!(speaker.enter("r") && client.enter("r"));
        let mut since = position(&read_entered(&mut client.wire));
        since.seq += 1;
        client.leave();
        client.wire.arrived();
        since.seq += 1;
        let speaking = thread::spawn(move || {
            for _ in 0..2 {
                assert!(speaker.publish("hello", None).is_some());
            }
            speaker
        });
        assert!(client.enter_since("r", Some(since)));
        let speaker = speaking.join().unwrap();
        assert!(speaker.publish("the last", None).is_some());
        let entered = read_entered(&mut client.wire);
        let seq = if entered["recovered"] == true { since.seq } else { position(&entered).seq };
        let mut next = seq + 1;
        loop {
            let frame = block_on(client.wire.next()).unwrap();
            assert_eq!(frame["seq"], next, "{entered}");
            next += 1;
            if frame["message"] == "the last" {
                break;
            }
        }
        [speaker, client].into_iter().for_each(|client| client.end(LeaveReason::Closed));
        world.assert_empty();
    });
}

/// A member enters again while frames wait for delivery, and gets each of them once, in order.
fn nothing_is_missed_when_a_member_enters_again(
    history: Option<History>,
    has_since: bool,
    enter_again: impl FnOnce(&Client, Option<Position>) + Send + 'static,
) {
    let world = World::with_history(history);
    let (mut client, speaker) = (world.connect(), world.connect());
    assert!(client.enter("r") && speaker.enter("r"));
    let entered = read_entered(&mut client.wire);
    let mut seq = position(&entered).seq;
    let speaking = thread::spawn(move || {
        for _ in 0..3 {
            assert!(speaker.publish("hello", None).is_some());
        }
        speaker
    });
    enter_again(&client, has_since.then(|| position(&entered)));
    let speaker = speaking.join().unwrap();
    assert!(speaker.publish("the last", None).is_some());
    loop {
        let frame = block_on(client.wire.next()).unwrap();
        if frame["event"] == "entered" {
            let start = position(&frame).seq - frame["replayed"].as_u64().unwrap();
            // A member that changes its name does not get its own `out`.
            let expected = seq + u64::from(frame["resumed"] == false);
            assert!(start == expected || has_since && start < expected, "{frame} after {seq}");
            seq = start;
            continue;
        }
        seq += 1;
        assert_eq!(frame["seq"], seq, "{frame}");
        if frame["message"] == "the last" {
            break;
        }
    }
    [speaker, client].into_iter().for_each(|client| client.end(LeaveReason::Closed));
    world.assert_empty();
}

fn with_all_histories(enter_again: fn(&Client, Option<Position>)) {
    for history in [None, Some(History::last(1)), Some(History::last(100))] {
        for has_since in [false, true] {
            check(move || nothing_is_missed_when_a_member_enters_again(history, has_since, enter_again));
        }
    }
}

#[test]
fn a_member_that_enters_again_while_it_is_connected_misses_nothing() {
    with_all_histories(|client, since| client.enter_again(since));
}

#[test]
fn a_member_that_changes_its_name_misses_nothing() {
    with_all_histories(|client, since| assert!(client.enter_as("r", "another name", since)));
}

/// If `entered` came last, the client would wait for frames that never come.
#[test]
fn a_member_that_is_removed_while_it_enters_again_is_told_so_last() {
    check(|| {
        let world = World::new();
        let mut client = world.connect();
        assert!(client.enter("r"));
        let (id, host) = (client.id(), world.clone());
        let removing = thread::spawn(move || host.remove_anonymous(id, "r"));
        client.enter_again(None);
        removing.join().unwrap();
        assert_eq!(client.wire.arrived().last().unwrap()["event"], "error");
        client.end(LeaveReason::Closed);
        world.assert_empty();
    });
}

/// A user enters whose name the member had. The member must stay in the room if it has another name by then.
#[test]
fn a_member_that_changes_its_name_is_not_removed_for_the_old_one() {
    check(|| {
        let world = World::new();
        let client = world.connect();
        assert!(client.enter("r"));
        let (id, host) = (client.id(), world.clone());
        let removing = thread::spawn(move || host.remove_anonymous(id, "r"));
        assert!(client.enter_as("r", "another name", None));
        removing.join().unwrap();
        assert!(client.room().is_some());
        client.end(LeaveReason::Closed);
        world.assert_empty();
    });
}

/// Another client's task ends the membership. It must not end the one that follows.
#[test]
fn a_member_that_is_removed_while_it_moves_hears_its_new_room() {
    check(|| {
        let world = World::new();
        let (mut client, speaker) = (world.connect(), world.connect());
        assert!(client.enter("r") && speaker.enter("q"));
        read_entered(&mut client.wire);
        let (id, host) = (client.id(), world.clone());
        let removing = thread::spawn(move || host.remove_anonymous(id, "r"));
        assert!(client.enter("q"));
        removing.join().unwrap();
        assert!(speaker.publish("hello", None).is_some());
        while block_on(client.wire.next()).unwrap()["message"] != "hello" {}
        [speaker, client].into_iter().for_each(|client| client.end(LeaveReason::Closed));
        world.assert_empty();
    });
}

/// A frame that is not delivered keeps the reader waiting, which shuttle reports as a deadlock.
#[test]
fn a_transient_frame_is_delivered_while_others_publish() {
    check(|| {
        let world = World::new();
        let (mut reader, typist, speaker) = (world.connect(), world.connect(), world.connect());
        assert!(typist.enter("r") && speaker.enter("r") && reader.enter("r"));
        let mut seq = position(&read_entered(&mut reader.wire)).seq;
        let speaking = thread::spawn(move || {
            for _ in 0..2 {
                assert!(speaker.publish("hello", None).is_some());
            }
            speaker
        });
        assert!(typist.send_transient());
        let speaker = speaking.join().unwrap();
        let (mut messages, mut transients) = (0, 0);
        while (messages, transients) != (2, 1) {
            let frame = block_on(reader.wire.next()).unwrap();
            if frame["event"] == "typing" {
                transients += 1;
                continue;
            }
            seq += 1;
            assert_eq!(frame["seq"], seq, "{frame}");
            messages += u32::from(frame["event"] == "message");
        }
        [reader, typist, speaker].into_iter().for_each(|client| client.end(LeaveReason::Closed));
        world.assert_empty();
    });
}

#[test]
fn transient_frames_come_between_their_readers_enter_and_their_senders_leave() {
    check(|| {
        let world = World::new();
        let (mut reader, typist, speaker) = (world.connect(), world.connect(), world.connect());
        assert!(typist.enter("r") && speaker.enter("r") && reader.enter("r"));
        let typing = thread::spawn(move || {
            for _ in 0..2 {
                assert!(typist.send_transient());
            }
            typist.end(LeaveReason::Closed);
        });
        assert!(reader.enter_as("r", "another name", None));
        typing.join().unwrap();
        assert!(speaker.publish("the last", None).is_some());
        let (mut has_entered, mut is_out) = (false, false);
        loop {
            let frame = block_on(reader.wire.next()).unwrap();
            match frame["event"].as_str().unwrap() {
                "entered" => has_entered = false,
                "enter" => has_entered = true,
                "out" => is_out = true,
                "typing" => assert!(has_entered && !is_out, "{frame}"),
                _ => break,
            }
        }
        assert!(is_out);
        [reader, speaker].into_iter().for_each(|client| client.end(LeaveReason::Closed));
        world.assert_empty();
    });
}
