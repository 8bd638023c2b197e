//! Backpressure with default settings, in paused time: senders wait for readers that make progress, and for no others.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::stream::SplitStream;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tower_chat_rooms::{Admission, ChatRooms};

use crate::support::{Client, TestIo, default_rooms, enter_frame, v1_admission};

const KIB: u64 = 1024;

/// Bytes per second of one Mbit/s, without the headers of the network.
const MEGABIT: u64 = 119 * KIB;

/// A network: bytes per second, and the size of the server's send buffer.
type Line = (u64, u64);

const FAST: Line = (1 << 30, 1 << 20);

/// What a member sends: a burst, and then further messages, one each interval.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    bytes: usize,
    burst: usize,
    more: usize,
    interval: Duration,
}

/// What a member has received.
#[derive(Debug, Default)]
struct Received {
    messages: usize,
    /// How long its own messages took at most.
    delay: Duration,
    /// The code with which it was closed, or 1006 without a close frame.
    closed: Option<u16>,
}

impl Traffic {
    fn messages(&self) -> usize {
        self.burst + self.more
    }
}

/// What the members have received in the end: first a reader over this line, then the senders.
async fn run(rooms: &ChatRooms, line: Line, senders: usize, traffic: Traffic) -> Vec<Received> {
    let messages = senders * traffic.messages();
    let begin = Instant::now();
    let mut members = Vec::new();
    for id in 0..=senders {
        let (outbox, stream) = enter(rooms, id, if id == 0 { line } else { FAST }).await;
        if id > 0 {
            tokio::spawn(send(outbox.clone(), id, traffic, begin));
        }
        members.push(tokio::spawn(receive(stream, outbox, id, messages, begin)));
    }
    let mut received = Vec::new();
    for member in members {
        received.push(member.await.unwrap());
    }
    received
}

/// A member of the room "r", and where to put what it sends. The reader, which has the id 0, speaks `chat-rooms.v1`: the
/// heartbeats of plain clients are too short for large send buffers.
async fn enter(
    rooms: &ChatRooms,
    id: usize,
    line: Line,
) -> (UnboundedSender<Value>, SplitStream<WebSocketStream<DuplexStream>>) {
    let (server_io, client_io) = tokio::io::duplex(8 << 20);
    let io = TestIo::over_line(server_io, line.0, line.1);
    let admission = if id == 0 { v1_admission() } else { Admission::anonymous() };
    let serving = rooms.clone();
    tokio::spawn(async move { serving.serve(io, admission).await });
    let (mut sink, stream) = WebSocketStream::from_raw_socket(client_io, Role::Client, None).await.split();
    let (outbox, mut frames) = mpsc::unbounded_channel::<Value>();
    tokio::spawn(async move {
        while let Some(frame) = frames.recv().await {
            let _ = sink.send(Message::text(frame.to_string())).await;
        }
    });
    outbox.send(json!({"event": "enter", "message": format!("m{id}"), "roomId": "r"})).unwrap();
    while rooms.members("r").len() <= id {
        sleep(Duration::from_millis(1)).await;
    }
    (outbox, stream)
}

async fn send(outbox: UnboundedSender<Value>, id: usize, traffic: Traffic, begin: Instant) {
    let text = "x".repeat(traffic.bytes);
    // All send at the same time, and have not sent anything for a while.
    sleep_until(begin + Duration::from_secs(5)).await;
    for n in 0..traffic.messages() {
        if n >= traffic.burst {
            sleep(traffic.interval).await;
        }
        let at = begin.elapsed().as_micros() as u64;
        let _ = outbox.send(json!({"event": "message", "from": id, "n": n, "at": at, "text": text}));
    }
}

/// Receives until there are this many messages, or until the connection is closed.
async fn receive(
    mut stream: SplitStream<WebSocketStream<DuplexStream>>,
    outbox: UnboundedSender<Value>,
    id: usize,
    messages: usize,
    begin: Instant,
) -> Received {
    let (mut received, mut next) = (Received::default(), HashMap::new());
    while received.messages < messages {
        let text = match stream.next().await {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(Some(frame)))) => {
                return Received { closed: Some(frame.code.into()), ..received };
            }
            _ => return Received { closed: Some(1006), ..received },
        };
        let frame: Value = serde_json::from_str(&text).unwrap();
        match frame["event"].as_str().unwrap() {
            "heartbeat" => drop(outbox.send(json!({"event": "heartbeat", "message": "pong"}))),
            "message" => {
                received.messages += 1;
                let from = frame["from"].as_u64().unwrap();
                let n = next.entry(from).or_insert(0);
                assert_eq!(frame["n"], *n, "from {from} to {id}");
                *n += 1;
                if from == id as u64 {
                    let at = Duration::from_micros(frame["at"].as_u64().unwrap());
                    received.delay = received.delay.max(begin.elapsed() - at);
                }
            }
            "error" => panic!("{id} received {text} after {received:?}"),
            _ => {}
        }
    }
    received
}

/// Nobody is closed and nothing is lost, although the members send more than the line carries.
async fn check_nobody_is_closed(line: Line, senders: usize, traffic: Traffic) {
    let rooms = default_rooms();
    for received in run(&rooms, line, senders, traffic).await {
        let expected = (senders * traffic.messages(), None);
        assert_eq!((received.messages, received.closed), expected, "{line:?} {senders} {traffic:?}");
    }
    assert_eq!((rooms.stats().slow, rooms.stats().rate_limited), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn bursts_of_eight_members_close_no_client_that_reads_steadily() {
    let large = Traffic { bytes: 60_000, burst: 8, ..Traffic::default() };
    for buffer in [87 * KIB, 500 * KIB, 2500 * KIB] {
        check_nobody_is_closed((MEGABIT, buffer), 8, large).await;
    }
    check_nobody_is_closed((MEGABIT * 6 / 10, 87 * KIB), 8, large).await;
    let small = Traffic { bytes: 2500, burst: 200, ..Traffic::default() };
    check_nobody_is_closed((MEGABIT, 87 * KIB), 8, small).await;
    // After a pause, a token bucket lets two bursts pass once.
    let twice = Traffic { burst: 16, ..large };
    check_nobody_is_closed((MEGABIT, 87 * KIB), 8, twice).await;
    check_nobody_is_closed((2 * MEGABIT, 500 * KIB), 8, twice).await;
}

/// More frames than a send queue may hold.
#[tokio::test(start_paused = true)]
async fn bursts_of_many_frames_close_no_client_that_reads_steadily() {
    let tiny = Traffic { bytes: 20, burst: 200, ..Traffic::default() };
    check_nobody_is_closed((MEGABIT, 87 * KIB), 40, tiny).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_sends_faster_than_a_reader_reads_waits() {
    let traffic = Traffic { bytes: 60_000, burst: 8, more: 100, interval: Duration::from_millis(250) };
    check_nobody_is_closed((MEGABIT, 87 * KIB), 1, traffic).await;
}

/// What a sender was kept from sending used to be refused afterwards, because it came faster than it was sent.
#[tokio::test(start_paused = true)]
async fn a_reader_that_accepts_too_little_delays_senders_for_a_bounded_time() {
    let large = Traffic { bytes: 60_000, burst: 8, more: 100, interval: Duration::from_millis(250) };
    let small = Traffic { bytes: 200, burst: 100, more: 2500, interval: Duration::from_millis(10) };
    for line in [(0, 87 * KIB), (10, 64), (KIB, 87 * KIB), (KIB, 500 * KIB), (32 * KIB, 87 * KIB)] {
        for (traffic, max_delay) in [(large, 12_000), (small, 100)] {
            let rooms = default_rooms();
            let received = run(&rooms, line, 1, traffic).await;
            let sender = &received[1];
            assert!(sender.delay < Duration::from_millis(max_delay), "{line:?} {traffic:?} {sender:?}");
            assert_eq!((sender.messages, sender.closed), (traffic.messages(), None));
            assert_eq!(rooms.stats().rate_limited, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_whose_room_sends_too_much_for_minutes_is_closed() {
    let rooms = default_rooms();
    let traffic = Traffic { bytes: 60_000, burst: 8, more: 600, interval: Duration::from_millis(250) };
    let received = run(&rooms, (MEGABIT, 87 * KIB), 2, traffic).await;
    assert_eq!((received[0].closed, rooms.stats().slow), (Some(4001), 1));
    let seconds = received[0].messages as u64 * 60_000 / MEGABIT;
    assert!((60..120).contains(&seconds), "closed after {seconds} s");
    for sender in &received[1..] {
        assert_eq!((sender.messages, sender.closed), (2 * traffic.messages(), None));
    }
    assert_eq!(rooms.stats().rate_limited, 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_message_of_a_client_that_closes_waits_for_the_room_too() {
    let rooms = default_rooms();
    let mut members = Vec::new();
    for name in ["bob", "ann"] {
        let mut member = Client::connect_as(&rooms, Admission::anonymous(), 1 << 20).await;
        member.send(enter_frame(name, "r")).await;
        assert_eq!(member.next().await["name"], name);
        members.push(member);
    }
    let [mut bob, mut ann]: [Client; 2] = members.try_into().ok().unwrap();
    assert_eq!(bob.next().await["name"], "ann");
    let text = "x".repeat(60_000);
    ann.send_at_once((0..3).map(|n| json!({"event": "message", "message": n, "text": text}))).await;
    ann.ws.close(None).await.unwrap();
    tokio::spawn(async move { while let Some(Ok(_)) = ann.ws.next().await {} });
    for n in 0..3 {
        assert_eq!(bob.next().await["message"], n);
    }
    assert_eq!(bob.next().await["event"], "out");
}
