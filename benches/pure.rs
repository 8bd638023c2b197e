//! Times the pure parts: what comes in, rooms, what goes out, leftovers.
//!
//! `cargo bench --bench pure [-- FILTER]`

mod inside;

use divan::{Bencher, black_box};
use inside::*;

use config::UniqueNames;
use engine::outbox::Outbox;
use ids::{ConnectionId, RoomId};
use protocol::frame::{Boundary, push_text};
use protocol::inbound::Inbound;
use protocol::outbound;
use protocol::wire::Wire;
use room::registry::Registry;
use room::room::Room;
use samples::{ENTER, FORGED, MAX_DEPTH, MESSAGE, NOW, PONG};

fn main() {
    divan::main();
}

fn frame(name: &str) -> String {
    match name {
        "message" => MESSAGE.into(),
        "enter" => ENTER.into(),
        "pong" => PONG.into(),
        "forged keys" => FORGED.into(),
        _ => samples::long_message(),
    }
}

#[divan::bench(args = ["message", "enter", "pong", "forged keys", "4 KiB"])]
fn parse(bencher: Bencher<'_, '_>, name: &str) {
    let text = frame(name);
    bencher.bench_local(|| Inbound::parse(black_box(&text), MAX_DEPTH).is_ok());
}

/// From the client's text to the room's next batch.
#[divan::bench(args = ["message", "forged keys", "4 KiB"])]
fn parse_and_say(bencher: Bencher<'_, '_>, name: &str) {
    let (text, tail, mut room) = (frame(name), samples::tail(), samples::room_of(10));
    bencher.bench_local(|| {
        samples::relay(black_box(&text), &tail, &mut room);
        room.take().1
    });
}

#[divan::bench(args = [10, 1_000, 10_000])]
fn join_and_leave(bencher: Bencher<'_, '_>, members: u64) {
    let (mut room, tail, out) = (samples::room_of(members), samples::tail(), outbound::out("Ann"));
    bencher.bench_local(|| {
        samples::join(&mut room, samples::member(members, ()), &tail);
        room.leave(ConnectionId(members), &out, NOW);
        room.take().1
    });
}

/// The flusher is at work, so that the members have to be copied.
#[divan::bench(args = [10, 1_000, 10_000])]
fn join_and_leave_while_delivering(bencher: Bencher<'_, '_>, members: u64) {
    let (mut room, tail, out) = (samples::room_of(members), samples::tail(), outbound::out("Ann"));
    bencher.bench_local(|| {
        let at_work = room.take();
        samples::join(&mut room, samples::member(members, ()), &tail);
        room.leave(ConnectionId(members), &out, NOW);
        at_work
    });
}

#[divan::bench(args = [64, 4096])]
fn encode(bencher: Bencher<'_, '_>, bytes: usize) {
    let (payload, mut out) = (vec![b'x'; bytes], Vec::new());
    bencher.bench_local(|| {
        out.clear();
        push_text(&mut out, &[black_box(&payload), b"7", b"}"]);
    });
}

/// A batch of which the socket took a few bytes at first, and the rest in two parts.
#[divan::bench(args = [1, 10, 100])]
fn push_and_advance_leftover(bencher: Bencher<'_, '_>, frames: usize) {
    let mut room = samples::room_of(10);
    for _ in 0..frames {
        samples::relay(MESSAGE, &samples::tail(), &mut room);
    }
    let batch = room.take().1;
    let start = batch.end() - frames as u64;
    let mut outbox = Outbox::default();
    bencher.bench_local(|| {
        let (frames, skip) = batch.frames(black_box(start), Wire::Plain);
        outbox.push(frames.slice(skip..), 5, usize::MAX, usize::MAX).expect("there is no bound");
        while !outbox.is_empty() {
            outbox.advance(outbox.next().len().div_ceil(2));
        }
    });
}

/// Somebody opens a room, and it is gone when he leaves, among so many others.
#[divan::bench(args = [0, 10_000])]
fn open_and_visit(bencher: Bencher<'_, '_>, others: u64) {
    let (registry, tail, out) =
        (Registry::new(None, UniqueNames::Off), samples::tail(), outbound::out("Ann"));
    let enter = |id: &RoomId| {
        let joined = registry.open(id, usize::MAX, |shared, room: &mut Room<()>| {
            samples::join(room, samples::member(0, ()), &tail);
            shared.clone()
        });
        joined.expect("there is no bound")
    };
    for id in 0..others {
        enter(&format!("other {id}").into());
    }
    let lobby = RoomId::from("lobby");
    bencher.bench_local(|| {
        let shared = enter(black_box(&lobby));
        registry.visit(&shared, |_, room| room.leave(ConnectionId(0), &out, NOW));
    });
}

#[divan::bench(args = ["message", "4 KiB"])]
fn boundary(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = samples::from_client(&frame(name));
    let mut boundary = Boundary::default();
    bencher.bench_local(|| {
        boundary.advance(black_box(&bytes));
        boundary.is_clean()
    });
}
