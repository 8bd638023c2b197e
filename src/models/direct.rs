//! Direct messages: no matter when a client resumes, it gets each of them once and in order.

use std::sync::Arc;

use serde_json::{Value, json};
use shuttle::thread;

use super::check;
use super::world::{Client, World, at_once};
use crate::protocol::close::LeaveReason;
use crate::protocol::direct::DirectFrame;

const COUNT: u64 = 3;

fn frame(message: u64) -> Arc<DirectFrame> {
    Arc::new(DirectFrame::of_host(&json!({"event": "x", "message": message}).to_string()))
}

/// The numbers and the messages that a client has got since it resumed.
fn received(client: &mut Client) -> Vec<(u64, u64)> {
    let frames = client.wire.arrived();
    let resumed = frames.iter().position(|frame| frame["event"] == "resumed").unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    frames[resumed + 1..].iter().map(|frame| (number(&frame["direct"]), number(&frame["message"]))).collect()
}

#[test]
fn a_client_that_resumes_gets_each_direct_message_once_and_in_order() {
    check(|| {
        let world = World::new();
        let first = world.connect_user("u");
        let token = first.token;
        let mut second = world.connect_user("u");
        let sender = world.clone();
        let resuming = thread::spawn(move || {
            assert!(second.resume_with_answer(token));
            second
        });
        at_once(vec![
            Box::new(move || first.lose()),
            Box::new(move || {
                for message in 1..=COUNT {
                    sender.engine().sessions.send_direct("u", &frame(message));
                }
            }),
        ]);
        let mut second = resuming.join().unwrap();
        assert_eq!(received(&mut second), (1..=COUNT).map(|n| (n, n)).collect::<Vec<_>>());
        second.end(LeaveReason::Closed);
        world.assert_empty();
    });
}

/// Only one of them can. The other must neither wait for it forever nor end its session.
#[test]
fn two_connections_that_resume_each_others_sessions_do_not_hang() {
    check(|| {
        let world = World::new();
        let (mut one, mut other) = (world.connect_user("u"), world.connect_user("u"));
        let (of_one, of_other) = (one.token, other.token);
        let sender = world.clone();
        at_once(vec![
            Box::new(move || {
                one.resume_with_answer(of_other);
                one.lose();
            }),
            Box::new(move || {
                other.resume_with_answer(of_one);
                other.lose();
            }),
            Box::new(move || {
                sender.engine().sessions.send_direct("u", &frame(1));
            }),
        ]);
        world.expire();
        world.assert_empty();
    });
}

/// The first connection is lost while it sends, and the client sends the message again.
#[test]
fn a_direct_message_that_a_new_connection_repeats_is_sent_once() {
    check(|| {
        let world = World::new();
        let (first, mut recipient) = (world.connect_user("a"), world.connect_user("b"));
        let token = first.token;
        let mut second = world.connect_user("a");
        at_once(vec![
            Box::new(move || {
                first.send_direct("b", &frame(1), "c");
                first.lose();
            }),
            Box::new(move || {
                assert!(second.resume_with_answer(token));
                assert!(second.send_direct("b", &frame(1), "c"));
                second.end(LeaveReason::Closed);
            }),
        ]);
        let frames = recipient.wire.arrived();
        assert_eq!(frames, [json!({"event": "x", "message": 1, "direct": 1})]);
        recipient.end(LeaveReason::Closed);
        world.assert_empty();
    });
}
