//! Attacks that the server does not withstand yet.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    Admission, ChatRooms, Denied, EnterRequest, Entered, History, Left, MessageRequest, RateLimits,
    ReadRequest, Recovery, RoomEvents, RoomPolicy, Timeouts, UniqueNames, User, UserOffline, UserOnline,
    Verdict, WeakChatRooms,
};

use crate::support::{
    Client, RESUME_WINDOW, SteppedConnection, TestIo, default_rooms, enter_frame, enter_with_token,
    leave_frame, message_frame, resume_frame, rooms_in, run_other_tasks, serve, v1_admission,
    with_expiring_tokens,
};

const SECOND: Duration = Duration::from_secs(1);

const KIB: u64 = 1024;

/// Bytes per second of one Mbit/s, without the headers of the network.
const MEGABIT: u64 = 119 * KIB;

type Ws = WebSocketStream<DuplexStream>;

// ---------------------------------------------------------------- deadlines and floods

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
    let rooms = ChatRooms::builder().timeouts(timeouts).build().unwrap();
    let (ann, _) = Client::enter_v1(&rooms, Admission::anonymous()).await;
    let (last, code) = flood(&rooms, ann).await;
    assert!(last < SECOND * 42, "the connection may last 40 s; a message was published after {last:?}");
    assert_eq!(code, Some(4003));
}

// ---------------------------------------------------------------- backpressure

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
    let rooms = ChatRooms::builder().recovery(recovery).build().unwrap();
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

/// A client that says goodbye.
#[tokio::test(start_paused = true)]
async fn the_last_message_before_a_close_is_published_as_those_before_it() {
    let rooms = ChatRooms::builder().policy(Later(SECOND / 5)).build().unwrap();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    assert_eq!(bob.next().await["name"], "ann");
    ann.send_at_once((0..3).map(|n| json!({"event": "message", "message": n}))).await;
    ann.ws.close(None).await.unwrap();
    tokio::spawn(async move { while let Some(Ok(_)) = ann.ws.next().await {} });
    for n in 0..3 {
        let frame = bob.next().await;
        assert_eq!(frame["message"], n, "{frame}");
    }
}

/// Censors every message.
struct Censor;

impl RoomPolicy for Censor {
    fn may_send(&self, _: &MessageRequest<'_>) -> Verdict {
        Verdict::replace(&json!({"event": "message", "message": "***"})).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn every_message_of_a_member_has_a_seq() {
    let rooms = ChatRooms::builder().transient_events(["typing"]).policy(Censor).build().unwrap();
    let (mut bob, _) = Client::enter_rooms(&rooms, "bob", &["r"]).await;
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["r"]).await;
    assert_eq!(bob.next().await["name"], "ann");
    ann.send(json!({"event": "typing", "roomId": "r"})).await;
    let frame = bob.next().await;
    assert!(frame["event"] != "message" || frame["seq"].is_u64(), "{frame}");
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_token_has_expired_gets_nothing_that_is_for_its_user() {
    let rooms = with_expiring_tokens().on_expiry(tower_chat_rooms::OnExpiry::WaitForAuth).build().unwrap();
    let (mut ann, _) = enter_with_token(&rooms, "u1:40").await;
    for event in ["expiring", "left", "noAuth"] {
        assert_eq!(ann.next().await["event"], event);
    }
    let reached = rooms.send_to_user("u1", &json!({"event": "direct", "message": "secret"})).unwrap();
    assert_eq!(reached, 0, "connections that have to authenticate first");
}

// ---------------------------------------------------------------- history

/// Nobody may read what was said before.
struct NoReading;

impl RoomPolicy for NoReading {
    async fn may_read(&self, _: &ReadRequest<'_>) -> Result<(), Denied> {
        Err(Denied::new("not for you"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_may_not_read_gets_nothing_from_before_its_enter() {
    let recovery = Recovery::default().history(History::last(100));
    let rooms = ChatRooms::builder().recovery(recovery).policy(NoReading).build().unwrap();
    let mut bob = SteppedConnection::connect(&rooms).await;
    bob.send(enter_frame("bob", "r")).await;
    bob.step().await;
    run_other_tasks().await;
    let mut eve = SteppedConnection::connect(&rooms).await;
    // Not delivered yet.
    bob.send(message_frame("r", "secret")).await;
    eve.send(json!({"event": "enter", "message": "eve", "roomId": "r", "last": 0})).await;
    eve.step().await;
    run_other_tasks().await;
    let entered = eve.next().await;
    assert_eq!(entered["event"], "entered", "{entered}");
    let first = eve.next().await;
    assert_eq!((&first["event"], &first["name"]), (&json!("enter"), &json!("eve")), "{entered} {first}");
}

// ---------------------------------------------------------------- rates

#[tokio::test(start_paused = true)]
async fn renaming_after_a_resume_is_limited_like_other_enters() {
    let rates = RateLimits::default().max_enters_per_minute(10).max_enters_per_minute_per_ip(10);
    let recovery = Recovery::default().resume_window(RESUME_WINDOW);
    let rooms = ChatRooms::builder().rate_limits(rates).recovery(recovery).build().unwrap();
    let peer: SocketAddr = "192.0.2.1:1".parse().unwrap();
    let connect = async || {
        let mut client = Client::connect_from(&rooms, v1_admission(), peer).await;
        let token = client.next().await["resume"].clone();
        (client, token)
    };
    let ids = ["a", "b", "c", "d", "e"];
    let (mut ann, mut token) = connect().await;
    for id in ids {
        ann.enter_another("ann", id).await;
    }
    for round in 0..10 {
        ann.disconnect().await;
        let (next, next_token) = connect().await;
        ann = next;
        ann.send(resume_frame([&token])).await;
        assert_eq!(rooms_in(&ann.next().await), ids);
        token = next_token;
        for id in ids {
            ann.send(enter_frame(&format!("ann {round}"), id)).await;
            for event in ["entered", "entered", "enter"] {
                let frame = ann.next().await;
                if frame["code"] == "rate_limited" {
                    return;
                }
                assert_eq!(frame["event"], event, "{frame}");
            }
        }
    }
    let entered = rooms.stats().entered;
    panic!("{entered} enters within a second; 10 a minute are allowed");
}

// ---------------------------------------------------------------- order

#[tokio::test(start_paused = true)]
async fn no_frame_of_a_room_follows_its_left() {
    let rooms = default_rooms();
    let mut bob = Client::enter(&rooms, "bob", "r").await;
    let (io, task) = serve(&rooms, v1_admission(), 256);
    let mut ann = Client::new(io, task).await;
    ann.send(enter_frame("ann", "r")).await;
    assert_eq!(bob.next().await["name"], "ann");
    for n in 0..60 {
        bob.send(json!({"event": "message", "message": n, "pad": "x".repeat(1000)})).await;
        assert_eq!(bob.next().await["message"], n);
    }
    // "A client that is not in the room gets the same answer, so it may repeat a `leave`."
    for _ in 0..2 {
        ann.send(leave_frame("r")).await;
    }
    assert_eq!(bob.next().await["event"], "out");
    let (mut lefts, mut after) = (0, 0);
    while lefts < 2 {
        let frame = ann.next().await;
        match frame["event"].as_str() {
            Some("left") => lefts += 1,
            Some("message") => after += lefts,
            _ => {}
        }
    }
    assert_eq!(after, 0, "frames of the room came after `left`");
}

// ---------------------------------------------------------------- names

/// Accepts names of users as their tokens.
async fn named(token: String) -> Result<User, Denied> {
    Ok(User::new(token.clone()).with_name(token))
}

#[tokio::test(start_paused = true)]
async fn a_member_that_authenticates_has_the_name_of_its_user() {
    let rooms = ChatRooms::builder().auth(named).build().unwrap();
    let (mut eve, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    eve.enter_another("admin", "r").await;
    eve.authenticate("eve").await;
    run_other_tasks().await;
    let members = rooms.members("r");
    let user = members[0].user.as_ref().unwrap();
    assert_eq!((user.id(), members[0].name.as_str()), ("eve", "eve"));
}

#[tokio::test(start_paused = true)]
async fn a_user_gets_its_name_although_another_user_has_taken_it_anonymously() {
    let rooms = ChatRooms::builder().auth(named).unique_names(UniqueNames::Exact).build().unwrap();
    let (mut eve, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    eve.enter_another("admin", "r").await;
    eve.authenticate("eve").await;
    let user = User::new("admin").with_name("admin");
    let (mut admin, _) = Client::connect_v1(&rooms, Admission::user(user)).await;
    admin.send(enter_frame("admin", "r")).await;
    let answer = admin.next().await;
    assert_eq!(answer["event"], "entered", "{answer}");
}

// ---------------------------------------------------------------- policy

/// Denies every enter once told so.
#[derive(Clone, Default)]
struct Bans(Arc<AtomicBool>);

impl RoomPolicy for Bans {
    async fn may_enter(&self, _: &EnterRequest<'_>) -> Result<(), Denied> {
        if self.0.load(Ordering::Relaxed) { Err(Denied::new("banned")) } else { Ok(()) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_banned_client_that_resumes_does_not_stay_a_member() {
    let bans = Bans::default();
    let recovery = Recovery::default().resume_window(RESUME_WINDOW);
    let rooms = ChatRooms::builder().recovery(recovery).policy(bans.clone()).build().unwrap();
    let (eve, token) = Client::enter_rooms(&rooms, "eve", &["r"]).await;
    eve.disconnect().await;
    bans.0.store(true, Ordering::Relaxed);
    let (mut eve, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    eve.resume([&token]).await;
    // It never enters the room again.
    let _ = tokio::time::timeout(SECOND * 3600, eve.next()).await;
    let members = rooms.members("r");
    assert!(members.is_empty(), "an hour after the resume window, still a member: {members:?}");
}

/// Drops each message, later.
struct DropsLater;

impl RoomPolicy for DropsLater {
    fn may_send(&self, _: &MessageRequest<'_>) -> Verdict {
        Verdict::later(async {
            sleep(SECOND).await;
            Verdict::drop_silently()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_to_a_room_that_was_closed_meanwhile_is_refused_like_any_other() {
    let rooms = ChatRooms::builder().policy(DropsLater).build().unwrap();
    let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &["r"]).await;
    ann.send(json!({"event": "message", "message": "hi", "roomId": "r", "cid": "c"})).await;
    run_other_tasks().await;
    rooms.close_room("r");
    assert_eq!(ann.next().await["event"], "left");
    let answer = ann.next().await;
    assert_eq!((&answer["event"], &answer["code"]), (&json!("error"), &json!("not_entered")), "{answer}");
}

// ---------------------------------------------------------------- hooks

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// When a member leaves, all others have to go.
#[derive(Clone)]
struct AllOrNothing {
    rooms: WeakChatRooms,
    max_depth: Arc<AtomicUsize>,
}

impl RoomEvents for AllOrNothing {
    fn left(&self, event: &Left) {
        let depth = DEPTH.get() + 1;
        DEPTH.set(depth);
        self.max_depth.fetch_max(depth, Ordering::Relaxed);
        if let Some(rooms) = self.rooms.upgrade() {
            for member in rooms.members(event.room.as_str()) {
                rooms.kick(member.connection);
            }
        }
        DEPTH.set(depth - 1);
    }

    fn entered(&self, _: &Entered) {}

    fn online(&self, _: &UserOnline) {}

    fn offline(&self, _: &UserOffline) {}
}

/// One stack frame for each absent member: with enough of them, the process ends.
#[tokio::test(start_paused = true)]
async fn a_callback_that_kicks_absent_members_does_not_recurse_once_for_each() {
    let members = std::env::var("BREAKER_MEMBERS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let builder = ChatRooms::builder().recovery(Recovery::default().resume_window(RESUME_WINDOW));
    let hook = AllOrNothing { rooms: builder.handle(), max_depth: Arc::default() };
    let rooms = builder.events(hook.clone()).build().unwrap();
    let (ann, _) = Client::enter_rooms(&rooms, "ann", &["r"]).await;
    for _ in 0..members {
        let (other, _) = Client::enter_rooms(&rooms, "other", &["r"]).await;
        other.disconnect().await;
    }
    ann.disconnect().await;
    sleep(RESUME_WINDOW * 2).await;
    assert!(rooms.members("r").is_empty());
    let depth = hook.max_depth.load(Ordering::Relaxed);
    assert!(depth < 10, "{depth} calls of `left` inside of each other");
}

/// Looks at the rooms when it is dropped, as a guard in a user's extensions might.
#[derive(Clone)]
struct Looks {
    _look: Arc<Look>,
}

struct Look(WeakChatRooms);

impl Drop for Look {
    fn drop(&mut self) {
        if let Some(rooms) = self.0.upgrade() {
            rooms.members("r");
        }
    }
}

#[test]
fn the_users_extensions_are_not_dropped_under_a_lock() {
    let (done, is_done) = std::sync::mpsc::channel();
    // Its own thread, because it never ends.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let builder = ChatRooms::builder();
            let handle = builder.handle();
            let auth = move |token: String| {
                let user = User::new(token).with(Looks { _look: Arc::new(Look(handle.clone())) });
                async move { Ok::<_, Denied>(user) }
            };
            let rooms = builder.auth(auth).build().unwrap();
            let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
            ann.enter_another("ann", "r").await;
            ann.authenticate("u").await;
            ann.authenticate("u").await;
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(SECOND * 20).expect("a deadlock");
}

// ---------------------------------------------------------------- limits

/// With default settings, a client may be in 64 rooms.
#[tokio::test(start_paused = true)]
async fn a_client_that_waits_as_long_as_it_is_told_enters_all_of_its_rooms() {
    let rooms = default_rooms();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let begin = Instant::now();
    let mut outside = ids(64);
    while !outside.is_empty() {
        ann.send_at_once(outside.iter().map(|id| enter_frame("ann", id))).await;
        let (mut answers, mut wait) = (0, Duration::ZERO);
        while answers < outside.len() {
            let frame = match ann.next_or_close().await {
                crate::support::Next::Frame(frame) => frame,
                closed => {
                    panic!("{closed:?} after {:?}, outside of {} rooms", begin.elapsed(), outside.len())
                }
            };
            match frame["event"].as_str() {
                Some("entered") => answers += 1,
                Some("error") => {
                    answers += 1;
                    wait = wait.max(Duration::from_millis(frame["retryAfter"].as_u64().unwrap()));
                }
                _ => {}
            }
        }
        outside.retain(|id| rooms.members(id).is_empty());
        sleep(wait).await;
    }
}

/// Denies every enter, later.
struct DeniesLater;

impl RoomPolicy for DeniesLater {
    async fn may_enter(&self, _: &EnterRequest<'_>) -> Result<(), Denied> {
        sleep(SECOND).await;
        Err(Denied::new("no"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_enters_no_room_in_time_is_closed_although_it_tries() {
    let rooms = ChatRooms::builder().policy(DeniesLater).build().unwrap();
    let (client, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let (mut sink, mut stream) = client.ws.split();
    tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    for n in 0..60 {
        let enter = enter_frame("eve", &format!("{n}"));
        if sink.send(Message::text(enter.to_string())).await.is_err() {
            break;
        }
        sleep(SECOND * 9 / 10).await;
    }
    let stats = rooms.stats();
    assert_eq!((stats.connections, stats.pending), (0, 0), "after 54 s; enter_timeout is 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_room_is_kept_no_longer_than_told() {
    let history = History::last(100).keep_for(SECOND * 10);
    let rooms = ChatRooms::builder().recovery(Recovery::default().history(history)).build().unwrap();
    let mut late = 0;
    for room in ids(20) {
        let (mut ann, _) = Client::enter_rooms(&rooms, "ann", &[&room]).await;
        ann.say(&room, "secret").await;
        ann.close().await;
        sleep(SECOND * 15).await;
        let (mut eve, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        eve.send(json!({"event": "enter", "message": "eve", "roomId": room, "last": 10})).await;
        late += eve.next().await["history"].as_u64().unwrap();
        eve.close().await;
    }
    assert_eq!(late, 0, "of 20 rooms, so many had frames after 15 s; they were to be kept for 10 s");
}

/// "The `left` of each room comes before the `noAuth`."
#[tokio::test(start_paused = true)]
async fn an_expired_client_is_told_of_its_rooms_before_it_has_to_authenticate() {
    let rooms = with_expiring_tokens().on_expiry(tower_chat_rooms::OnExpiry::WaitForAuth).build().unwrap();
    let user = User::new("u1").expires_in(SECOND * 10);
    let admission = Admission::user(user).with_protocol("chat-rooms.v1".parse().unwrap());
    let (io, task) = serve(&rooms, admission, 256);
    let mut ann = Client::new(io, task).await;
    ann.send(enter_frame("ann", "r")).await;
    while rooms.members("r").is_empty() {
        run_other_tasks().await;
    }
    for n in 0..60 {
        rooms.send("r", &json!({"event": "notice", "message": n, "pad": "x".repeat(1000)})).unwrap();
    }
    while !rooms.members("r").is_empty() {
        sleep(SECOND / 10).await;
    }
    let mut last = json!(null);
    loop {
        let frame = ann.next().await;
        match frame["event"].as_str() {
            Some("left") => return,
            Some("noAuth") => panic!("{frame} after {last}"),
            _ => last = frame,
        }
    }
}

/// Drops the oldest frames for slow clients in the room "r".
struct Lossy;

impl RoomPolicy for Lossy {
    fn slow_consumer(&self, room: &tower_chat_rooms::RoomId) -> Option<tower_chat_rooms::SlowConsumer> {
        (room.as_str() == "r").then_some(tower_chat_rooms::SlowConsumer::DropOldest)
    }
}

/// "The client's own `enter` … [is] never dropped."
#[tokio::test(start_paused = true)]
async fn the_own_enter_of_a_slow_client_is_not_dropped() {
    for last in [None, Some(0)] {
        let recovery = Recovery::default().history(History::last(100));
        let rooms = ChatRooms::builder().recovery(recovery).policy(Lossy).build().unwrap();
        let mut bob = SteppedConnection::connect(&rooms).await;
        bob.send(enter_frame("bob", "r")).await;
        bob.step().await;
        let mut eve = SteppedConnection::connect(&rooms).await;
        eve.send(enter_frame("eve", "other")).await;
        eve.step().await;
        run_other_tasks().await;
        let flood = |room: &'static str, n: usize| {
            for _ in 0..n {
                rooms.send(room, &json!({"event": "notice", "message": "x".repeat(1000)})).unwrap();
            }
        };
        // Its socket accepts nothing more.
        flood("other", 100);
        run_other_tasks().await;
        // This is not delivered when it enters.
        flood("r", 1);
        let mut enter = enter_frame("eve", "r");
        if let Some(last) = last {
            enter["last"] = last.into();
        }
        eve.send(enter).await;
        eve.step().await;
        for _ in 0..30 {
            flood("r", 100);
            run_other_tasks().await;
        }
        let mut seen = Vec::new();
        let has_entered = loop {
            let Ok(frame) = tokio::time::timeout(SECOND, async {
                eve.step().await;
                eve.next().await
            })
            .await
            else {
                break false;
            };
            if frame["roomId"] == "r" {
                if frame["event"] == "enter" {
                    break true;
                }
                seen.push((frame["event"].clone(), frame["seq"].clone(), frame["missed"].clone()));
            }
        };
        seen.truncate(5);
        assert!(has_entered, "with last: {last:?}: {seen:?}");
    }
}
