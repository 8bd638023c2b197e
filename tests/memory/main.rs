//! Memory: what a message allocates, what connections hold, and that nothing is left when all have ended.
//!
//! Only the server allocates while it is measured: connections and frames are prepared before. Allocations are counted
//! per thread and time is paused, so every run counts the same.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod client;
mod server;

use std::sync::Arc;

use allocation_counter::measure;
use tower_chat_rooms::{Admission, Limits, SlowConsumer, User};

use crate::client::{Client, clients, message};
use crate::server::{HOUR, Server};

/// What an idle member of a room holds: its task, session, membership and table entries. Measured: 1,722,
/// of which 10 are for what several nodes share.
const MAX_BYTES_PER_CONNECTION: i64 = 1_730;

/// What it holds in addition if its user expires. Measured: 185.
const MAX_BYTES_PER_EXPIRY: i64 = 240;

/// For a message in a room without other traffic. Measured: 7.
const MAX_ALLOCATIONS_PER_MESSAGE: u64 = 8;

const SLOW_CONSUMER_POLICIES: [SlowConsumer; 4] =
    [SlowConsumer::Close, SlowConsumer::DropOldest, SlowConsumer::DropNewest, SlowConsumer::Latest];

#[test]
fn a_message_costs_the_same_memory_in_every_room() {
    const TIMES: u64 = 100;
    let [two, twenty, two_hundred] = [2, 20, 200].map(|members| {
        let (server, clients, message) = (Server::new(), clients(members, members), message(100));
        server.connect(&clients);
        let send = |times| {
            for _ in 0..times {
                clients[0].send(&message);
                server.run();
            }
        };
        // Allocates what is allocated once.
        send(10);
        let before: Vec<usize> = clients.iter().map(Client::received).collect();
        let cost = measure(|| send(TIMES));
        for (client, before) in clients.iter().zip(before) {
            assert!(
                client.received() - before > TIMES as usize * message.len(),
                "not everything was received"
            );
        }
        (cost.count_total / TIMES, cost.bytes_total / TIMES)
    });
    let (allocations, bytes) = two;
    assert!(allocations <= MAX_ALLOCATIONS_PER_MESSAGE, "{allocations} allocations for one message");
    for (more, more_bytes) in [twenty, two_hundred] {
        assert!(more <= allocations + 1, "{more} allocations in a larger room, {allocations} in a small one");
        // Nothing with an entry per member is copied.
        assert!(more_bytes <= bytes + 64, "{more_bytes} bytes in a larger room, {bytes} in a small one");
    }
}

#[test]
fn an_idle_connection_holds_little() {
    let [few, many] = [10, 1_000].map(|messages| {
        let (server, clients) = (Server::new(), clients(100, 10));
        let (short, long) = (message(100), message(60 * 1024));
        let burst = Arc::from(short.repeat(20));
        let held = measure(|| {
            server.connect(&clients);
            for _ in 0..messages {
                clients.iter().for_each(|client| client.send(&short));
                server.run();
            }
            for client in &clients {
                client.send(&burst);
                server.run();
                client.send(&long);
                server.run();
            }
        });
        assert_eq!(server.rooms().stats().messages, (messages + 1 + 20) * clients.len() as u64);
        held.bytes_current / clients.len() as i64
    });
    assert!(few <= MAX_BYTES_PER_CONNECTION, "{few} bytes per connection");
    assert!((many - few).abs() <= 16, "{few} bytes after 10 messages, {many} after 1,000");
}

#[test]
fn a_user_that_expires_holds_little_more() {
    let [without, with] = [None, Some(10_000 * HOUR)].map(|time| {
        let (server, clients) = (Server::new(), clients(100, 10));
        let held = measure(|| {
            server.connect_as(&clients, || {
                let user = User::new("u-1");
                Admission::user(time.map_or(user.clone(), |time| user.expires_in(time)))
            });
        });
        held.bytes_current / clients.len() as i64
    });
    assert!(with > without, "{with} bytes with, {without} without");
    assert!(with - without <= MAX_BYTES_PER_EXPIRY, "{} bytes more", with - without);
}

/// Has one of two members stop reading, and sends this many messages at once to it until it has been slow for a while.
/// Returns the most bytes that it held.
fn held_by_slow_member(
    policy: SlowConsumer,
    limits: Limits,
    message: &[u8],
    at_once: usize,
    times: usize,
) -> i64 {
    let (server, clients) = (Server::with(policy, limits), clients(2, 2));
    let burst: Arc<[u8]> = message.repeat(at_once).into();
    let send = || {
        let sent = server.rooms().stats().messages;
        clients[0].send(&burst);
        server.run_until_sent(sent + at_once as u64);
    };
    server.connect(&clients);
    send();
    // Inside a frame.
    clients[1].stop_after(7);
    let (mut held, mut most) = (0, 0);
    for _ in 0..times {
        held += measure(send).bytes_current;
        most = most.max(held);
    }
    let stats = server.rooms().stats();
    match policy {
        SlowConsumer::Close => assert_eq!(stats.slow, 1, "it was not closed"),
        _ => assert!(stats.lagged > 0, "no frame was dropped: {policy:?}"),
    }
    // Then it reads everything, or its connection ends.
    let change = measure(|| {
        clients[1].resume_reading();
        (0..3).for_each(|_| send());
        server.wait(HOUR / 2);
    });
    assert!(held + change.bytes_current < 4096, "{} bytes are left: {policy:?}", held + change.bytes_current);
    most
}

#[test]
fn a_slow_member_holds_no_more_bytes_than_its_send_queue() {
    const QUEUE: usize = 256 * 1024;
    // What is allocated beside the frames. Measured: 17,728.
    const MAX_BYTES: i64 = QUEUE as i64 + 20 * 1024;
    let limits = Limits::default().max_queue_bytes(QUEUE).max_queue_frames(usize::MAX);
    for policy in SLOW_CONSUMER_POLICIES {
        for (length, at_once, times) in
            [(60 * 1024, 1, 40), (60 * 1024, 4, 10), (1000, 50, 40), (1000, 1, 600)]
        {
            let held = held_by_slow_member(policy, limits.clone(), &message(length), at_once, times);
            assert!(held <= MAX_BYTES, "{held} bytes: {policy:?}, {at_once} of {length}");
            assert!(held >= QUEUE as i64 / 4, "{held} bytes: the send queue was never full");
        }
    }
}

#[test]
fn a_slow_member_holds_no_more_frames_than_its_send_queue() {
    const FRAMES: usize = 1000;
    // A frame of 62 bytes, and what a batch of one frame allocates beside it. Measured: 138.
    const BYTES_PER_FRAME: i64 = 150;
    let limits = Limits::default().max_queue_bytes(1 << 30).max_queue_frames(FRAMES);
    for policy in SLOW_CONSUMER_POLICIES {
        for (at_once, times) in [(1, 1300), (100, 20)] {
            let held = held_by_slow_member(policy, limits.clone(), &message(10), at_once, times);
            assert!(held <= FRAMES as i64 * BYTES_PER_FRAME, "{held} bytes: {policy:?}, {at_once} at once");
        }
    }
}

#[test]
fn a_slow_member_keeps_only_the_frames_that_it_waits_for() {
    // The slow member, or the other one.
    for sender in [0, 1] {
        let (server, clients) = (Server::with(SlowConsumer::DropOldest, Limits::default()), clients(2, 2));
        server.connect(&clients);
        clients[1].stop_after(7);
        // After a large message, the sender enters again and again, each time after a small one. The answer to each
        // enter comes with the sender's frames that wait.
        let (small, mut burst) = (message(1), message(60 * 1024).to_vec());
        for _ in 0..7 {
            burst.extend_from_slice(&small);
            burst.extend_from_slice(clients[sender].enter_frame());
        }
        let burst = Arc::from(burst);
        let held = measure(|| {
            clients[sender].send(&burst);
            server.run();
        });
        assert_eq!((server.rooms().stats().messages, server.rooms().stats().lagged), (8, 0));
        assert!(held.bytes_current < 128 * 1024, "{} bytes for one message", held.bytes_current);
    }
}

#[test]
fn slow_members_of_a_room_share_the_frames_that_they_wait_for() {
    let (server, clients) = (Server::with(SlowConsumer::DropOldest, Limits::default()), clients(101, 101));
    server.connect(&clients);
    clients[1..].iter().for_each(|client| client.stop_after(1));
    let burst: Arc<[u8]> = message(1000).repeat(50).into();
    let held = measure(|| {
        // Less than a send queue, so that no frame is dropped.
        for _ in 0..4 {
            clients[0].send(&burst);
            server.run();
        }
    });
    assert_eq!(server.rooms().stats().lagged, 0);
    let each = held.bytes_current / 100;
    assert!(each < 8 * 1024, "{each} bytes for each of 100 slow members, which wait for 200 kB");
}

#[test]
fn nothing_is_left_after_all_connections_have_ended() {
    let (server, clients) = (Server::new(), clients(2_000, 2));
    let (message, close) = (message(100), Arc::from([0x88, 0x80, 0, 0, 0, 0]));
    let connect_and_end = || {
        server.connect(&clients);
        assert_eq!(server.rooms().stats().rooms, 1_000);
        clients.iter().for_each(|client| client.send(&message));
        server.run();
        for (n, client) in clients.iter().enumerate() {
            if n % 3 == 0 { client.disconnect() } else { client.send(&close) }
        }
        // The heartbeat sweep may take an interval to notice that no connection is left.
        server.wait(2 * HOUR);
        assert_eq!((server.rooms().stats().connections, server.rooms().stats().rooms), (0, 0));
        assert_eq!(server.tasks(), 0);
    };
    // The runtime's own queues grow at first, and keep their size.
    connect_and_end();
    let left = measure(connect_and_end).bytes_current;
    assert!(left.abs() <= 1024, "{left} bytes are left of 2,000 connections and 1,000 rooms");
}
