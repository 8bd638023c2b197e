//! Runs one case many times, for `count-instructions` to see what one time costs.
//!
//! No case may look anything up by a hash within its loop: the seeds differ from run to run.

mod inside;

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use inside::*;

use config::{Config, SlowConsumer, UniqueNames};
use connection::reader::Inbox;
use connection::seat::{Seat, Turn};
use engine::engine::{Engine, Hooks};
use engine::outbox::{Bounds, Kind, Outbox};
use engine::recipient::Recipient;
use ids::{ConnectionId, RoomId};
use protocol::inbound::Inbound;
use protocol::outbound::{self, Head};
use protocol::wire::Wire;
use room::registry::Registry;
use samples::{MAX_DEPTH, MESSAGE, NOW, PONG, Socket};

const CASES: [&str; 6] = ["message", "pong", "join-leave", "leftover", "read", "deliver"];

fn main() {
    // `cargo bench` adds an option of its own.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // Without a case each is tried once.
        [] => CASES.iter().for_each(|case| run(case, 1)),
        ["--list"] => CASES.iter().for_each(|case| println!("{case}")),
        [case, times] => run(case, times.parse().expect("a number of times")),
        _ => panic!("give nothing, --list, or CASE TIMES"),
    }
}

fn run(case: &str, times: u64) {
    match case {
        "message" => message(times),
        "pong" => pong(times),
        "join-leave" => join_leave(times),
        "leftover" => leftover(times),
        "read" => read(times),
        "deliver" => deliver(times),
        _ => panic!("no such case: {case}"),
    }
}

/// A message from the client's text to the batch in which it goes out.
fn message(times: u64) {
    let (tail, mut room) = (samples::tail(), samples::room_of(10));
    for _ in 0..times {
        samples::relay(black_box(MESSAGE), &tail, &mut room);
        black_box(room.take());
    }
}

/// The answer to a heartbeat.
fn pong(times: u64) {
    for _ in 0..times {
        assert_eq!(black_box(Inbound::parse(black_box(PONG), MAX_DEPTH)), Ok(Inbound::Pong));
    }
}

/// Somebody comes into a room of 100 and leaves it.
fn join_leave(times: u64) {
    let (mut room, tail, out) = (samples::room_of(100), samples::tail(), outbound::out("Ann"));
    for _ in 0..times {
        samples::join(&mut room, samples::member(100, ()), &tail);
        assert!(room.leave(ConnectionId(100), black_box(&out), NOW));
        black_box(room.take());
    }
}

/// The room's batch is cut for a member whose socket took a part of it and then the rest.
fn leftover(times: u64) {
    let (tail, mut room) = (samples::tail(), samples::room_of(10));
    let position = room.stream().position();
    samples::relay(MESSAGE, &tail, &mut room);
    samples::relay(MESSAGE, &tail, &mut room);
    let batch = room.take().1;
    let mut outbox = Outbox::default();
    let bounds = Bounds { frames: 1024, bytes: 1 << 20, slow: SlowConsumer::Close, tells: false };
    for _ in 0..times {
        let (frames, skip) = black_box(&batch).frames(black_box(position), Wire::Plain);
        outbox.push(Kind::Room, frames.slice(skip..), 50, &bounds).expect("there is room");
        while !outbox.is_empty() {
            outbox.advance(outbox.next().len());
        }
    }
}

fn engine() -> Arc<Engine> {
    Arc::new(Engine::new(Config::default(), Hooks::default()))
}

fn seat(engine: &Arc<Engine>, gives: &[u8]) -> Seat<Socket> {
    Seat::new(engine.clone(), Socket::new(gives), Bytes::new(), Wire::Plain)
}

/// A message is read from the socket, tungstenite included.
fn read(times: u64) {
    let seat = seat(&engine(), &samples::from_client(MESSAGE));
    let (mut cx, mut inbox) = (Context::from_waker(Waker::noop()), Inbox::default());
    for _ in 0..times {
        assert_eq!(seat.poll_turn(&mut cx, &mut inbox), Poll::Ready(Turn::Messages));
        assert_eq!(inbox.texts.pop_front().map(|text| text.len()), Some(MESSAGE.len()));
    }
}

/// A message that was parsed goes to the sockets of 100 members, which take all of it.
fn deliver(times: u64) {
    let (tail, body) = (samples::tail(), &MESSAGE[..MESSAGE.len() - 1]);
    let engine = engine();
    let registry = Registry::<Arc<dyn Recipient>>::new(None, UniqueNames::Off);
    let room = registry.open(&RoomId::from("lobby"), 1, |shared, room| {
        for id in 0..100 {
            let seat = Arc::new(seat(&engine, b""));
            let position = samples::join(room, samples::member(id, seat.clone()), &tail);
            seat.attach(shared, position, SlowConsumer::Close);
        }
        shared.clone()
    });
    let room = room.expect("the first room");
    for _ in 0..times {
        let (members, batch) = {
            let mut room = room.lock();
            room.say(&Head { plain: body, v1: body, tail: &tail }, NOW);
            room.take()
        };
        for member in members.iter() {
            member.link.deliver(&room, black_box(&batch));
        }
        room.lock().stream().finish_batch();
    }
}
