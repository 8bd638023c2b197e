//! Sessions: no matter which connections are lost, return, give up or are kicked at the same time, a session has
//! one connection at most and ends once.

use shuttle::thread;

use super::check;
use super::world::{World, at_once};
use crate::protocol::close::LeaveReason;

#[test]
fn a_session_is_resumed_or_ends_and_never_both() {
    check(|| {
        let world = World::new();
        let (first, mut second) = (world.connect(), world.connect());
        assert!(first.enter("r"));
        let (id, token) = (first.id(), first.token);
        let expirer = world.clone();
        let resuming = thread::spawn(move || (second.resume(token, None), second));
        at_once(vec![Box::new(move || first.lose()), Box::new(move || expirer.expire())]);
        let (has_resumed, second) = resuming.join().unwrap();
        if has_resumed {
            assert_eq!((second.id(), world.end_of(id)), (id, None));
            assert!(second.room().is_some() && second.order().is_none());
            assert!(second.publish("still here", None).is_some());
        } else {
            assert_eq!(world.end_of(id), Some(LeaveReason::Lost));
            assert!(second.room().is_none());
        }
        second.end(LeaveReason::Closed);
        assert!(world.end_of(id).is_some());
        world.assert_empty();
    });
}

#[test]
fn a_resume_token_works_once() {
    check(|| {
        let world = World::new();
        let first = world.connect();
        assert!(first.enter("r"));
        let (id, token) = (first.id(), first.token);
        let resuming: Vec<_> = [world.connect(), world.connect()]
            .into_iter()
            .map(|mut client| thread::spawn(move || (client.resume(token, None), client)))
            .collect();
        first.lose();
        let (winners, losers): (Vec<_>, Vec<_>) =
            resuming.into_iter().map(|thread| thread.join().unwrap()).partition(|(resumed, _)| *resumed);
        assert_eq!(winners.len(), 1);
        for (_, winner) in winners {
            assert_eq!((winner.id(), winner.order()), (id, None));
            winner.end(LeaveReason::Closed);
        }
        for (_, loser) in losers {
            assert_eq!((loser.room().is_none(), loser.order()), (true, None));
            loser.end(LeaveReason::Closed);
        }
        world.assert_empty();
    });
}

#[test]
fn a_kick_during_a_resume_ends_the_client() {
    check(|| {
        let world = World::new();
        let (first, mut second) = (world.connect(), world.connect());
        assert!(first.enter("r"));
        let (id, token) = (first.id(), first.token);
        let resuming = thread::spawn(move || (second.resume(token, None), second));
        let losing = thread::spawn(move || first.lose());
        assert!(world.kick(id), "the session is there, whichever connection it has");
        losing.join().unwrap();
        let (has_resumed, second) = resuming.join().unwrap();
        match has_resumed {
            true => assert_eq!(second.serve(), LeaveReason::Kicked),
            false => second.end(LeaveReason::Closed),
        }
        assert_eq!(world.end_of(id), Some(LeaveReason::Kicked));
        world.assert_empty();
    });
}

/// The host knows the new connection by the id that it had before it resumed.
#[test]
fn a_kick_of_a_connection_that_resumes_ends_what_it_resumes() {
    check(|| {
        let world = World::new();
        let (first, mut second) = (world.connect(), world.connect());
        assert!(first.enter("r"));
        let (id, own_id, token) = (first.id(), second.id(), first.token);
        first.lose();
        let resuming = thread::spawn(move || (second.resume(token, None), second));
        let was_there = world.kick(own_id);
        let (has_resumed, second) = resuming.join().unwrap();
        if was_there {
            assert_eq!(second.serve(), LeaveReason::Kicked);
            assert_eq!(world.end_of(id), has_resumed.then_some(LeaveReason::Kicked));
        } else {
            assert!(has_resumed, "it has another id");
            second.end(LeaveReason::Closed);
        }
        world.expire();
        world.assert_empty();
    });
}

#[test]
fn every_membership_ends_once_whatever_comes_together() {
    check(|| {
        let world = World::new();
        let (first, mut second, other) = (world.connect(), world.connect(), world.connect());
        assert!(first.enter("r") && other.enter("r"));
        let (id, token) = (first.id(), first.token);
        let [expirer, kicker, stopper] = [world.clone(), world.clone(), world.clone()];
        at_once(vec![
            Box::new(move || first.lose()),
            Box::new(move || {
                if !second.resume(token, None) {
                    second.enter("r");
                }
                second.serve();
            }),
            Box::new(move || {
                other.enter("q");
                other.serve();
            }),
            Box::new(move || expirer.expire()),
            Box::new(move || {
                kicker.kick(id);
            }),
            Box::new(move || stopper.shut_down()),
        ]);
        assert!(world.end_of(id).is_some());
        world.assert_empty();
    });
}

#[test]
fn a_message_that_a_new_connection_repeats_goes_out_once() {
    check(|| {
        let world = World::new();
        let (first, mut second, mut listener) = (world.connect(), world.connect(), world.connect());
        assert!(first.enter("r") && listener.enter("r"));
        let token = first.token;
        let publishing = thread::spawn(move || {
            let published =
                first.publish("hello", Some("c1")).map(|published| published.receipt.position.seq);
            first.lose();
            published
        });
        assert!(second.resume(token, None));
        let repeated = second.publish("hello", Some("c1")).unwrap();
        let published = publishing.join().unwrap();
        // If the message of the old connection came first, the new one is told of that one.
        assert_eq!(repeated.is_repeated, published.is_some());
        assert!(published.is_none_or(|seq| seq == repeated.receipt.position.seq));
        second.end(LeaveReason::Closed);
        listener.leave();
        let frames = listener.wire.arrived();
        assert_eq!(frames.iter().filter(|frame| frame["event"] == "message").count(), 1, "{frames:?}");
        listener.end(LeaveReason::Closed);
        world.assert_empty();
    });
}

/// Its task waits for a client that sends nothing more, so it has to be woken.
#[test]
fn a_replaced_connection_ends() {
    check(|| {
        let world = World::new();
        let (first, mut second) = (world.connect(), world.connect());
        assert!(first.enter("r"));
        let token = first.token;
        let serving = thread::spawn(move || first.serve());
        assert!(second.resume(token, None));
        assert_eq!(serving.join().unwrap(), LeaveReason::Replaced);
        assert!(second.room().is_some());
        second.end(LeaveReason::Closed);
        world.assert_empty();
    });
}

/// A client that has not heard the result of its last attempt sends the tokens of both sessions.
#[test]
fn a_connection_that_is_replaced_while_it_resumes_ends() {
    check(|| {
        let world = World::new();
        let (first, mut second, mut third) = (world.connect(), world.connect(), world.connect());
        assert!(first.enter("r"));
        let (token, own) = (first.token, second.token);
        first.lose();
        let resuming = thread::spawn(move || (second.resume(token, None), second));
        let has_resumed = third.resume_any(&[token, own], None);
        let (_, second) = resuming.join().unwrap();
        assert_eq!(second.serve(), LeaveReason::Replaced);
        assert_eq!((third.room().is_some(), third.order()), (has_resumed, None));
        third.end(LeaveReason::Closed);
        world.expire();
        world.assert_empty();
    });
}

#[test]
fn nothing_is_told_after_a_shutdown() {
    check(|| {
        let world = World::new();
        let client = world.connect();
        assert!(client.enter("r"));
        let id = client.id();
        client.lose();
        let [kicker, expirer, stopper] = [world.clone(), world.clone(), world.clone()];
        at_once(vec![
            Box::new(move || {
                kicker.kick(id);
            }),
            Box::new(move || expirer.expire()),
            Box::new(move || {
                stopper.shut_down();
                stopper.assert_empty();
                assert!(stopper.end_of(id).is_some());
            }),
        ]);
        world.assert_empty();
    });
}

/// The old connection's task is telling the host of the enter while others end the membership.
#[test]
fn a_left_follows_its_entered_whoever_calls_them() {
    check(|| {
        let world = World::new();
        let (first, mut second) = (world.connect(), world.connect());
        let (id, token, host) = (first.id(), first.token, world.clone());
        at_once(vec![
            Box::new(move || {
                first.enter("r");
                first.lose();
            }),
            Box::new(move || {
                if second.resume(token, None) {
                    second.leave();
                }
                second.end(LeaveReason::Closed);
            }),
            Box::new(move || host.remove_anonymous(id, "r")),
        ]);
        world.expire();
        assert!(world.end_of(id).is_some());
        world.assert_empty();
    });
}
