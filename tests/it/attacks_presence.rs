//! Attacks on presence: rosters and states, with the limits that hold by default.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use tower_chat_rooms::{
    Access, Admission, ChatRooms, Denied, DirectRequest, EnterRequest, History, MessageRequest, Presence,
    ReadRequest, Recovery, RoomEvent, RoomId, RoomPolicy, SlowConsumer, User, Verdict,
};

use crate::support::{
    Client, Next, TestIo, assert_empty, builder, enter_frame, resume_frame, rooms_in, user_of, v1_admission,
};

const SECOND: Duration = Duration::from_secs(1);

/// Rooms whose members have an info of almost the size that is allowed.
fn rooms_with_infos() -> ChatRooms {
    let policy = |_: &EnterRequest<'_>| {
        Access::member().info(&"x".repeat(1_000)).map_err(|_| Denied::new("the info is too big"))
    };
    let recovery = Recovery::default().resume_window(10 * SECOND);
    builder().recovery(recovery).policy(policy).build().unwrap()
}

/// Members that are in all of these rooms, and read everything.
async fn fill(rooms: &ChatRooms, ids: &[String], members: usize) {
    for n in 0..members {
        let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
        for id in ids {
            client.send(enter_frame(&format!("m{n}"), id)).await;
            while client.next().await["event"] != "entered" {}
        }
        tokio::spawn(async move { while let Next::Frame(_) = client.next_or_close().await {} });
    }
}

/// Connects over a network that transports this many bytes per second.
async fn connect_over_line(rooms: &ChatRooms, bytes_per_second: u64) -> Client {
    let (server_io, client_io) = tokio::io::duplex(8 << 20);
    let (rooms, io) = (rooms.clone(), TestIo::over_line(server_io, bytes_per_second, 87 * 1024));
    let task = tokio::spawn(async move { rooms.serve(io, v1_admission()).await });
    Client::new(client_io, task).await
}

async fn next_of(client: &mut Client, event: &str) -> Result<Value, u16> {
    loop {
        match client.next_or_close().await {
            Next::Frame(frame) if frame["event"] == event => return Ok(frame),
            Next::Frame(_) => {}
            Next::Closed(code) => return Err(code),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_on_a_slow_network_can_enter_many_rooms_with_long_rosters_at_once() {
    let rooms = rooms_with_infos();
    let ids: Vec<String> = (0..64).map(|n| format!("room {n}")).collect();
    fill(&rooms, &ids, 35).await;
    // 4 Mbit/s.
    let mut ann = connect_over_line(&rooms, 500_000).await;
    assert_eq!(ann.next().await["event"], "welcome");
    ann.send_at_once(ids.iter().map(|id| enter_frame("ann", id))).await;
    let mut bytes = 0;
    for n in 0..64 {
        let entered = next_of(&mut ann, "entered").await.unwrap_or_else(|code| panic!("{code} after {n}"));
        bytes += entered.to_string().len();
    }
    assert!(bytes > 64 * 30_000, "{bytes}");
    // The first page of each room, and the next one.
    ann.send_at_once(ids.iter().map(|id| json!({"event": "members", "roomId": id}))).await;
    for n in 0..64 {
        next_of(&mut ann, "members").await.unwrap_or_else(|code| panic!("{code} after {n} pages"));
    }
}

/// A policy that takes its time.
struct Slow;

impl RoomPolicy for Slow {
    async fn may_enter(&self, _: &EnterRequest<'_>) -> Result<Access, Denied> {
        sleep(SECOND / 3).await;
        Ok(Access::member())
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_policy_does_not_cost_a_returning_client_its_rooms() {
    let recovery = Recovery::default().resume_window(10 * SECOND);
    let rooms = builder().recovery(recovery).policy(Slow).build().unwrap();
    let ids: Vec<String> = (0..64).map(|n| format!("room {n}")).collect();
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    for id in &ids {
        ann.enter_another("ann", id).await;
    }
    ann.disconnect().await;
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let enters = ids.iter().map(|id| enter_frame("ann", id));
    ann.send_at_once([resume_frame([&welcome["resume"]])].into_iter().chain(enters)).await;
    assert_eq!(rooms_in(&ann.next().await).len(), 64);
    for id in &ids {
        let entered = ann.next().await;
        assert_eq!((&entered["roomId"], &entered["resumed"]), (&json!(id), &json!(true)), "{entered}");
    }
}

/// A policy and callbacks that do everything with the handle, whenever they are called.
#[derive(Clone, Default)]
struct Meddler {
    rooms: Arc<OnceLock<ChatRooms>>,
    calls: Arc<Mutex<BTreeSet<&'static str>>>,
    is_over: Arc<AtomicBool>,
}

impl Meddler {
    fn meddle(&self, from: &'static str) {
        let Some(rooms) = self.rooms.get() else { return };
        self.calls.lock().unwrap().insert(from);
        for room in rooms.rooms().into_iter().map(|room| room.id).collect::<Vec<_>>() {
            for member in rooms.members(&room) {
                let _ = rooms.set_info(&room, member.connection, &json!(from));
                let _ = rooms.send_to(member.connection, &json!({"event": "notice"}));
            }
            let _ = rooms.send(&room, &json!({"event": "notice"}));
        }
        for user in ["ann", "bob"] {
            let _ = rooms.send_to_user(user, &json!({"event": "notice"}));
            rooms.is_online(user);
            rooms.sessions_of(user);
        }
        rooms.check_consistency();
        let _ = rooms.broadcast(&json!({"event": "notice"})).now_or_never();
        if self.is_over.load(Ordering::Relaxed) {
            rooms.close_room("r");
            rooms.kick_user("ann");
            rooms.kick_user("bob");
        }
    }
}

impl RoomPolicy for Meddler {
    async fn may_enter(&self, _: &EnterRequest<'_>) -> Result<Access, Denied> {
        self.meddle("may_enter");
        Ok(Access::member())
    }

    async fn may_read(&self, _: &ReadRequest<'_>) -> Result<(), Denied> {
        self.meddle("may_read");
        Ok(())
    }

    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        self.meddle(if request.event() == "state" { "may_send a state" } else { "may_send" });
        Verdict::allow()
    }

    fn may_send_direct(&self, _: &DirectRequest<'_>) -> Verdict {
        self.meddle("may_send_direct");
        Verdict::allow()
    }

    fn slow_consumer(&self, _: &RoomId) -> Option<SlowConsumer> {
        self.meddle("slow_consumer");
        None
    }

    fn presence(&self, _: &RoomId) -> Option<Presence> {
        self.meddle("presence");
        Some(Presence::auto(2, 1).unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_may_do_everything_with_the_handle() {
    for is_over in [false, true] {
        let meddler = Meddler { is_over: Arc::new(is_over.into()), ..Meddler::default() };
        let events = meddler.clone();
        let rooms = builder()
            .policy(meddler.clone())
            .recovery(Recovery::default().history(History::last(10)).resume_window(SECOND))
            .transient_events(["typing"])
            .events(move |event: RoomEvent<'_>| {
                if matches!(&event, RoomEvent::Message(message) if message.sender.is_none()) {
                    // Otherwise, each of the host's messages would cause another one.
                    return;
                }
                events.meddle(match event {
                    RoomEvent::Entered(_) => "entered",
                    RoomEvent::Left(_) => "left",
                    RoomEvent::Message(_) => "message",
                    RoomEvent::Direct(_) => "direct",
                    RoomEvent::Online(_) => "online",
                    _ => "offline",
                });
            })
            .build()
            .unwrap();
        meddler.rooms.set(rooms.clone()).ok().unwrap();
        let mut clients = Vec::new();
        for user in ["ann", "bob", "ann"] {
            let (mut client, _) = Client::connect_v1(&rooms, Admission::user(User::new(user))).await;
            let frames = [
                json!({"event": "enter", "message": user, "roomId": "r", "last": 3}),
                json!({"event": "state", "roomId": "r", "state": 1}),
                json!({"event": "message", "roomId": "r", "message": 1}),
                json!({"event": "typing", "roomId": "r", "message": 1}),
                json!({"event": "direct", "to": "ann", "message": 1}),
                json!({"event": "members", "roomId": "r"}),
                json!({"event": "enter", "message": "x", "roomId": "r"}),
            ];
            client.send_at_once(frames).await;
            clients.push(client);
            sleep(SECOND).await;
        }
        if !is_over {
            assert_eq!(rooms.stats().connections, 3);
        }
        for client in clients {
            drop(client);
            sleep(SECOND).await;
        }
        sleep(10 * SECOND).await;
        let calls = std::mem::take(&mut *meddler.calls.lock().unwrap());
        if !is_over {
            assert_eq!(calls.len(), 13, "{calls:?}");
        }
        rooms.shutdown().await;
        assert_empty(&rooms);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_on_a_slow_network_has_the_time_to_return_to_many_rooms_with_long_rosters() {
    let rooms = rooms_with_infos();
    let ids: Vec<String> = (0..64).map(|n| format!("room {n}")).collect();
    fill(&rooms, &ids, 35).await;
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    for id in &ids {
        ann.send(enter_frame("ann", id)).await;
        next_of(&mut ann, "entered").await.unwrap();
    }
    ann.disconnect().await;
    // 512 kbit/s.
    let mut ann = connect_over_line(&rooms, 64_000).await;
    assert_eq!(ann.next().await["event"], "welcome");
    let enters = ids.iter().map(|id| enter_frame("ann", id));
    ann.send_at_once([resume_frame([&welcome["resume"]])].into_iter().chain(enters)).await;
    assert_eq!(rooms_in(&next_of(&mut ann, "resumed").await.unwrap()).len(), 64);
    let mut back = 0;
    while back < 64 {
        match ann.next_or_close().await {
            Next::Frame(frame) if frame["event"] == "entered" => {
                assert_eq!(frame["resumed"], true, "{} after {back}", frame["roomId"]);
                back += 1;
            }
            Next::Frame(frame) => assert_ne!(frame["event"], "left", "after {back}: {frame}"),
            Next::Closed(code) => panic!("{code} after {back}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_on_a_slow_network_gets_messages_in_time_although_states_are_more_than_it_can_read() {
    let rooms = builder().build().unwrap();
    let mut ann = connect_over_line(&rooms, 100_000).await;
    ann.next().await;
    ann.send(enter_frame("ann", "r")).await;
    let mut others = Vec::new();
    for n in 0..40 {
        let (mut client, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        client.send(enter_frame(&format!("m{n}"), "r")).await;
        next_of(&mut client, "entered").await.unwrap();
        others.push(tokio::spawn(async move {
            for turn in 0..40 {
                let state = format!("{turn}{}", "x".repeat(990));
                client.send(json!({"event": "state", "roomId": "r", "state": state})).await;
                let until = Instant::now() + SECOND / 10;
                while let Ok(Next::Frame(_)) = timeout_at(until, client.next_or_close()).await {}
            }
        }));
    }
    let (mut bob, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    bob.enter_another("bob", "r").await;
    let mut counts = BTreeMap::<String, usize>::new();
    let mut latest = Duration::ZERO;
    for turn in 0..4 {
        bob.send(json!({"event": "message", "roomId": "r", "message": turn})).await;
        let (sent, until) = (Instant::now(), Instant::now() + SECOND);
        let mut has_message = false;
        loop {
            tokio::select! {
                frame = ann.next_or_close() => {
                    let Next::Frame(frame) = frame else { panic!("closed in turn {turn}: {counts:?}") };
                    let event = frame["event"].as_str().unwrap().to_owned();
                    if event == "presence" {
                        ann.send(json!({"event": "members", "roomId": "r"})).await;
                    }
                    if event == "message" {
                        assert_eq!(frame["message"], turn);
                        has_message = true;
                        latest = latest.max(sent.elapsed());
                    }
                    *counts.entry(event).or_default() += 1;
                }
                _ = bob.next_or_close() => {}
                () = tokio::time::sleep_until(until) => break,
            }
        }
        assert!(has_message, "turn {turn}: {counts:?}");
    }
    // It has missed states, and is told so.
    assert!(latest < SECOND && counts["presence"] > 1, "{counts:?} {latest:?}");
}

/// Decides about states by their text, and about nothing else.
struct StateFilter;

impl RoomPolicy for StateFilter {
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        let frame: Value = serde_json::from_str(request.body()).unwrap();
        assert_eq!(
            (&frame["event"], &frame["roomId"], request.event(), request.room().as_str()),
            (&json!("state"), &json!("r\""), "state", "r\"")
        );
        match frame["state"].as_str().unwrap() {
            "bad" => Verdict::refuse("not here"),
            "drop" => Verdict::drop_silently(),
            "replace" => Verdict::replace(&json!({"event": "state", "state": "better"})).unwrap(),
            "wrong" => Verdict::replace(&json!({"event": "state", "state": "x".repeat(2_000)})).unwrap(),
            "later" => Verdict::later(async { Verdict::allow() }),
            "never" => Verdict::later(std::future::pending()),
            _ => Verdict::allow(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_is_asked_about_the_state_of_an_enter_too() {
    let rooms = builder().policy(StateFilter).build().unwrap();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.enter_another("ann", "r\"").await;
    let (mut eve, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    for (n, (state, seen, error)) in [
        ("good", Some("good"), None),
        ("bad", None, Some("denied")),
        ("drop", None, None),
        ("replace", Some("better"), None),
        ("wrong", None, Some("internal")),
        ("later", Some("later"), None),
        ("never", None, Some("internal")),
    ]
    .into_iter()
    .enumerate()
    {
        // Each enter under another name makes a new membership.
        let name = format!("eve{n}");
        eve.send(json!({"event": "enter", "message": name, "roomId": "r\"", "state": state})).await;
        next_of(&mut eve, "entered").await.unwrap();
        if let Some(code) = error {
            let error = next_of(&mut eve, "error").await.unwrap();
            assert_eq!((&error["code"], &error["roomId"]), (&json!(code), &json!("r\"")), "{state}");
        }
        let enter = next_of(&mut ann, "enter").await.unwrap();
        assert_eq!((enter["name"].as_str(), enter["state"].as_str()), (Some(&*name), seen), "{state}");
        assert_eq!(rooms.members("r\"")[1].state, seen.map(|seen| json!(seen).to_string()), "{state}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_no_rosters_gets_no_more_of_them() {
    let rooms = rooms_with_infos();
    fill(&rooms, &["r".to_owned()], 35).await;
    let mut eve = Client::connect_as(&rooms, v1_admission(), 16 * 1024).await;
    eve.send(enter_frame("eve", "r")).await;
    for _ in 0..100 {
        eve.send(json!({"event": "members", "roomId": "r"})).await;
    }
    sleep(SECOND).await;
    // A client that is kicked still gets what waits for it.
    assert!(rooms.kick(rooms.members("r").last().unwrap().connection));
    let (frames, code) = eve.frames_until_close().await;
    let bytes: usize = frames.iter().map(|frame| frame.to_string().len()).sum();
    assert!((200_000..400_000).contains(&bytes), "{bytes}");
    assert_eq!(code, 4500);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_rosters_slowly_cannot_outstay_its_token() {
    let rooms = rooms_with_infos();
    fill(&rooms, &["r".to_owned()], 35).await;
    let (server_io, client_io) = tokio::io::duplex(8 << 20);
    let io = TestIo::over_line(server_io, 1_000, 16 * 1024);
    let admission = Admission::user(user_of("eve:30")).with_protocol("chat-rooms.v1".parse().unwrap());
    let serving = rooms.clone();
    let mut eve =
        Client::new(client_io, tokio::spawn(async move { serving.serve(io, admission).await })).await;
    eve.send(enter_frame("eve", "r")).await;
    for _ in 0..40 {
        eve.send(json!({"event": "members", "roomId": "r"})).await;
    }
    let until = Instant::now() + 29 * SECOND;
    while let Ok(Next::Frame(_)) = timeout_at(until, eve.next_or_close()).await {}
    assert_eq!(rooms.members("r").len(), 36);
    sleep(2 * SECOND).await;
    assert_eq!(rooms.members("r").len(), 35);
}
