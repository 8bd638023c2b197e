//! Floods: deadlines and backpressure must hold while clients send as much as they can.

use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tower_chat_rooms::{
    Admission, ChatRooms, History, MessageRequest, Recovery, RoomPolicy, Timeouts, User, Verdict,
};

use crate::support::{
    Client, TestIo, builder, default_rooms, enter_frame, enter_with_token, message_frame, resume_frame,
    run_other_tasks, v1_admission, with_expiring_tokens,
};

const SECOND: Duration = Duration::from_secs(1);

const KIB: u64 = 1024;

/// Bytes per second of one Mbit/s, without the headers of the network.
const MEGABIT: u64 = 119 * KIB;

type Ws = WebSocketStream<DuplexStream>;

/// Decides about each message after some time.
struct Later(Duration);

impl RoomPolicy for Later {
    fn may_send(&self, _: &MessageRequest<'_>) -> Verdict {
        let time = self.0;
        Verdict::later(async move {
            sleep(time).await;
            Verdict::allow()
        })
    }
}

/// Sends messages for two minutes, one each interval, and reads everything. Returns when the last own message came back,
/// and the code with which the connection was closed.
async fn send_for_minutes(client: Client, interval: Duration, bytes: usize) -> (Duration, Option<u16>) {
    let begin = Instant::now();
    let (mut sink, mut stream) = client.ws.split();
    let reader = tokio::spawn(async move {
        let (mut last, mut code) = (Duration::ZERO, None);
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Text(text) if text.contains(r#""name":"ann""#) => last = begin.elapsed(),
                Message::Close(frame) => code = frame.map(|frame| frame.code.into()),
                _ => {}
            }
        }
        (last, code)
    });
    let text = "x".repeat(bytes);
    while begin.elapsed() < SECOND * 120 {
        let frame = json!({"event": "message", "message": text, "roomId": "r"});
        if sink.send(Message::text(frame.to_string())).await.is_err() {
            break;
        }
        sleep(interval).await;
    }
    let _ = sink.close().await;
    reader.await.unwrap()
}

/// Some members of the room send more than the rates allow. Each is kept waiting once, because they begin at the same
/// time, and never refused afterwards. Returns what has become of this one.
async fn flood(rooms: &ChatRooms, ann: Client) -> (Duration, Option<u16>) {
    let mut members = Vec::new();
    for n in 0..4 {
        let name = format!("member {n}");
        let (mut member, _) = Client::connect_v1(rooms, Admission::user(User::new(name.clone()))).await;
        member.send(enter_frame(&name, "r")).await;
        members.push(member);
    }
    members.push(ann);
    let members = members
        .into_iter()
        .map(|member| tokio::spawn(send_for_minutes(member, Duration::from_millis(1), 40_000)));
    let mut results = Vec::new();
    for member in members.collect::<Vec<_>>() {
        results.push(member.await.unwrap());
    }
    results[4]
}

#[tokio::test(start_paused = true)]
async fn a_token_expires_although_the_policy_is_busy_with_messages() {
    let rooms = with_expiring_tokens().policy(Later(SECOND / 5)).build().unwrap();
    let (ann, _) = enter_with_token(&rooms, "u1:40").await;
    let (last, code) = send_for_minutes(ann, SECOND / 10, 10).await;
    assert!(last < SECOND * 42, "the token expired after 40 s; a message was published after {last:?}");
    assert_eq!(code, Some(4504));
}

#[tokio::test(start_paused = true)]
async fn a_token_expires_although_the_client_sends_too_fast() {
    let rooms = with_expiring_tokens().build().unwrap();
    let (ann, _) = enter_with_token(&rooms, "u1:40").await;
    let (last, code) = flood(&rooms, ann).await;
    assert!(last < SECOND * 42, "the token expired after 40 s; a message was published after {last:?}");
    assert_eq!(code, Some(4504));
}

#[tokio::test(start_paused = true)]
async fn a_connection_reaches_its_maximum_age_although_the_client_sends_too_fast() {
    let timeouts = Timeouts::default().max_lifetime(SECOND * 40);
    let rooms = builder().timeouts(timeouts).build().unwrap();
    let (ann, _) = Client::enter_v1(&rooms, Admission::anonymous()).await;
    let (last, code) = flood(&rooms, ann).await;
    assert!(last < SECOND * 42, "the connection may last 40 s; a message was published after {last:?}");
    assert_eq!(code, Some(4003));
}

/// A `chat-rooms.v1` client over a line with this many bytes per second and this send buffer, which enters these rooms.
async fn over_line(
    rooms: &ChatRooms,
    name: &str,
    line: (u64, u64),
    ids: &[String],
) -> (SplitSink<Ws, Message>, SplitStream<Ws>) {
    let (server_io, client_io) = tokio::io::duplex(8 << 20);
    let io = TestIo::over_line(server_io, line.0, line.1);
    let serving = rooms.clone();
    tokio::spawn(async move { serving.serve(io, v1_admission()).await });
    let (mut sink, stream) = WebSocketStream::from_raw_socket(client_io, Role::Client, None).await.split();
    for id in ids {
        let members = rooms.members(id).len();
        sink.send(Message::text(enter_frame(name, id).to_string())).await.unwrap();
        while rooms.members(id).len() == members {
            sleep(Duration::from_millis(1)).await;
        }
    }
    (sink, stream)
}

/// A reader over a line of 1 Mbit/s is in all of these rooms. In each there are senders which send a burst at the same
/// time. Returns how many messages the reader receives, of how many, and the code with which it is closed.
async fn burst(
    rooms: &ChatRooms,
    ids: &[String],
    senders: usize,
    (bytes, messages): (usize, usize),
    pings: bool,
) -> (usize, usize, Option<u16>) {
    let (mut sink, mut stream) = over_line(rooms, "reader", (MEGABIT, 87 * KIB), ids).await;
    let expected = ids.len() * senders * messages;
    let reader = tokio::spawn(async move {
        let mut received = 0;
        while received < expected {
            match stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    received += usize::from(frame["event"] == "message");
                }
                Some(Ok(Message::Close(Some(frame)))) => return (received, Some(frame.code.into())),
                _ => return (received, Some(1006)),
            }
        }
        (received, None)
    });
    tokio::spawn(async move {
        loop {
            let kind = if pings { "ping" } else { "pong" };
            let frame = json!({"event": "heartbeat", "message": kind});
            if sink.send(Message::text(frame.to_string())).await.is_err() {
                return;
            }
            sleep(SECOND / 5).await;
        }
    });
    let mut members = Vec::new();
    for id in ids {
        for n in 0..senders {
            let name = format!("sender {n}");
            members.push((
                id.clone(),
                over_line(rooms, &name, (1 << 30, 1 << 20), std::slice::from_ref(id)).await,
            ));
        }
    }
    // Everybody has been quiet for a while.
    sleep(SECOND * 5).await;
    for (id, (mut sink, mut stream)) in members {
        tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
        let frame = message_frame(&id, "x".repeat(bytes)).to_string();
        tokio::spawn(async move {
            for _ in 0..messages {
                let _ = sink.send(Message::text(frame.clone())).await;
            }
            // Keeps the connection open.
            sleep(SECOND * 3600).await;
        });
    }
    let (received, closed) = reader.await.unwrap();
    (received, expected, closed)
}

fn ids(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("room {n}")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_steady_reader_of_one_room_is_not_closed_by_a_burst() {
    let rooms = default_rooms();
    let (received, expected, closed) = burst(&rooms, &ids(1), 8, (60_000, 8), false).await;
    assert_eq!((received, closed), (expected, None));
}

#[tokio::test(start_paused = true)]
async fn a_steady_reader_of_eight_rooms_is_not_closed_by_a_burst_of_eight_members() {
    let rooms = default_rooms();
    let (received, expected, closed) = burst(&rooms, &ids(8), 1, (60_000, 8), false).await;
    assert_eq!((received, closed), (expected, None));
}

/// Without the answers, this passes.
#[tokio::test(start_paused = true)]
async fn a_steady_reader_that_gets_answers_is_not_closed_by_a_burst_of_small_messages() {
    for asks in [false, true] {
        let rooms = default_rooms();
        let (received, expected, closed) = burst(&rooms, &ids(1), 8, (20, 400), asks).await;
        assert_eq!((received, closed), (expected, None), "asks: {asks}");
    }
}

/// "It may send the `resume` and all enters at once", and "the limits of the send queue do not apply" to a replay.
#[tokio::test(start_paused = true)]
async fn a_client_on_a_slow_network_recovers_all_of_its_rooms_at_once() {
    let recovery = Recovery::default().resume_window(SECOND * 60).history(History::last(100));
    let rooms = builder().recovery(recovery).build().unwrap();
    let ids = ids(16);
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let mut positions = Vec::new();
    for id in &names {
        let entered = ann.enter_another("ann", id).await;
        positions.push(json!({"epoch": entered["epoch"], "seq": entered["seq"].as_u64().unwrap() + 1}));
    }
    ann.disconnect().await;
    for id in &names {
        for _ in 0..90 {
            rooms.send(id, &json!({"event": "notice", "message": "x".repeat(900)})).unwrap();
        }
    }
    run_other_tasks().await;
    let (mut sink, mut stream) = over_line(&rooms, "ann", (MEGABIT, 87 * KIB), &[]).await;
    sink.send(Message::text(resume_frame([&welcome["resume"]]).to_string())).await.unwrap();
    for (id, since) in names.iter().zip(&positions) {
        let enter = crate::support::enter_since("ann", id, since);
        sink.send(Message::text(enter.to_string())).await.unwrap();
    }
    let mut missed = 0;
    while missed < 16 * 90 {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => missed += usize::from(text.contains(r#""event":"notice""#)),
            other => panic!("after {missed} of {} missed frames: {other:?}", 16 * 90),
        }
    }
}
