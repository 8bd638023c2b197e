//! What a client may not do: come back without being asked about, hold a user's name, cost without a rate.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tower_chat_rooms::{
    Admission, ChatRooms, Denied, EnterRequest, History, Limits, MessageRequest, RateLimits, Recovery,
    RoomEvent, RoomPolicy, UniqueNames, User, Verdict,
};

use crate::client::{Client, Log, Next, assert_empty, default_rooms};

fn v1() -> Admission {
    Admission::anonymous().with_protocol("chat-rooms.v1".parse().unwrap())
}

fn enter(name: &str, room: &str) -> Value {
    json!({"event": "enter", "message": name, "roomId": room})
}

/// Refuses everybody once it is told to, and notes what it is asked.
#[derive(Clone, Default)]
struct Gate {
    is_closed: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl RoomPolicy for Gate {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<(), Denied> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.bodies.lock().unwrap().extend(request.body().map(str::to_owned));
        if self.is_closed.load(Ordering::SeqCst) { Err(Denied::new("banned")) } else { Ok(()) }
    }
}

/// A banned client that resumed its session and asked for another room or name got its old membership back.
#[tokio::test(start_paused = true)]
async fn a_ban_is_not_bypassed_by_resuming() {
    for (name, room) in [("ann", "r"), ("ann", "other"), ("anna", "r")] {
        let (gate, log) = (Gate::default(), Log::default());
        let rooms = ChatRooms::builder()
            .policy(gate.clone())
            .events(log.hook())
            .recovery(Recovery::default().resume_window(Duration::from_secs(10)).history(History::last(10)))
            .build()
            .unwrap();
        let mut bob = Client::enter(&rooms, "bob", "r").await;
        let (mut ann, welcome) = Client::connect_v1(&rooms, v1()).await;
        ann.say(enter("ann", "r")).await;
        let entered = ann.next().await;
        assert_eq!(bob.next().await["name"], "ann");
        ann.vanish().await;
        gate.is_closed.store(true, Ordering::SeqCst);
        rooms.send("r", &json!({"event": "secret"})).unwrap();
        assert_eq!(bob.next().await["event"], "secret");

        let (mut back, _) = Client::connect_v1(&rooms, v1()).await;
        let mut again = enter(name, room);
        again["resume"] = welcome["resume"].clone();
        again["since"] = json!({"epoch": entered["epoch"], "seq": 2});
        back.say(again).await;
        let answer = back.next().await;
        assert_eq!((&answer["event"], &answer["code"]), (&json!("error"), &json!("denied")), "{name} {room}");
        assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
        rooms.send("r", &json!({"event": "secret"})).unwrap();
        assert_eq!(bob.next().await["event"], "secret");
        back.say(json!({"event": "message", "message": "?"})).await;
        loop {
            match back.next().await {
                frame if frame["code"] == "not_entered" => break,
                frame => assert_eq!(frame["code"], "denied", "{name} {room}: {frame}"),
            }
        }
        assert_eq!(log.take().last().unwrap(), "- ann r 1 denied by the policy");
    }
}

/// A client whose connection ends while the policy is asked entered and left.
#[tokio::test(start_paused = true)]
async fn a_client_that_goes_while_the_policy_is_asked_does_not_enter() {
    struct Slow;
    impl RoomPolicy for Slow {
        async fn may_enter(&self, _: &EnterRequest<'_>) -> Result<(), Denied> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        }
    }
    let log = Log::default();
    let rooms = ChatRooms::builder().policy(Slow).events(log.hook()).build().unwrap();
    let mut ann = Client::connect(&rooms).await;
    ann.say(enter("ann", "r")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    ann.vanish().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(log.take().is_empty());
    assert_empty(&rooms);
}

/// An enter may carry keys of the client's own; they had no bound, and the policy did not see them.
#[tokio::test(start_paused = true)]
async fn what_an_enter_carries_is_bounded_and_shown_to_the_policy() {
    let gate = Gate::default();
    let rooms = ChatRooms::builder().policy(gate.clone()).build().unwrap();
    let mut ann = Client::connect(&rooms).await;
    let mut large = enter("ann", "r");
    large["avatar"] = "x".repeat(3000).into();
    ann.say(large).await;
    assert_eq!(ann.next().await["code"], "bad_shape");
    assert_eq!(gate.asked.load(Ordering::SeqCst), 0);
    let mut small = enter("ann", "r");
    small["avatar"] = "cat".into();
    ann.say(small.clone()).await;
    assert_eq!(ann.next().await["avatar"], "cat");
    let bodies = gate.bodies.lock().unwrap();
    let body: Value = serde_json::from_str(&bodies[0]).unwrap();
    assert_eq!(body, small);
}

/// What resumes a session does not count against that bound.
#[tokio::test(start_paused = true)]
async fn resume_tokens_do_not_count_as_part_of_an_enter() {
    let rooms = ChatRooms::builder().limits(Limits::default().max_enter_bytes(64)).build().unwrap();
    let (mut ann, _) = Client::connect_v1(&rooms, v1()).await;
    let mut first = enter("ann", "r");
    first["resume"] = vec!["x".repeat(32); 8].into();
    ann.say(first).await;
    assert_eq!(ann.next().await["event"], "entered");
}

/// Each token is checked by two hooks: 190 at once had the policy asked 190 times.
#[tokio::test(start_paused = true)]
async fn tokens_have_a_rate() {
    let gate = Gate::default();
    let rooms = ChatRooms::builder()
        .policy(gate.clone())
        .auth(|token: String| async move { Ok::<_, Denied>(User::new(token)) })
        .rate_limits(RateLimits::default().max_auths_per_minute(5))
        .build()
        .unwrap();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    for _ in 0..50 {
        ann.say(json!({"event": "auth", "message": "u-1"})).await;
    }
    for _ in 5..50 {
        assert_eq!(ann.next().await["code"], "rate_limited");
    }
    assert_eq!(gate.asked.load(Ordering::SeqCst), 1 + 5);
}

/// An answer to a heartbeat costs nothing, so it may not carry anything.
#[tokio::test(start_paused = true)]
async fn a_padded_heartbeat_is_charged_as_a_message() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    let pong = json!({"event": "heartbeat", "message": "pong", "pad": "x".repeat(60_000)});
    for _ in 0..40 {
        ann.say(pong.clone()).await;
    }
    let refused = ann.next().await;
    assert_eq!(refused["code"], "rate_limited", "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_client_may_ask_whether_its_connection_works() {
    let rooms = default_rooms();
    let (mut ann, _) = Client::connect_v1(&rooms, v1()).await;
    ann.say(json!({"event": "heartbeat", "message": "ping"})).await;
    // The server's own heartbeats are in between.
    while ann.ws.next().await.unwrap().unwrap() != Message::text(r#"{"event":"heartbeat","message":"pong"}"#)
    {
    }
    // Plain clients have no such frame.
    let mut bob = Client::connect(&rooms).await;
    bob.say(json!({"event": "heartbeat", "message": "ping"})).await;
    assert_eq!(bob.next().await["code"], "reserved_event");
}

#[tokio::test(start_paused = true)]
async fn a_users_own_name_comes_before_an_anonymous_member() {
    let log = Log::default();
    let rooms = ChatRooms::builder().unique_names(UniqueNames::AnyCase).events(log.hook()).build().unwrap();
    let (mut thief, _) = Client::connect_v1(&rooms, v1()).await;
    thief.say(enter("ANN", "r")).await;
    assert_eq!(thief.next().await["event"], "entered");
    assert_eq!(thief.next().await["event"], "enter");
    let ann = || Admission::user(User::new("u-1").with_name("Ann"));
    let mut first = Client::connect_as(&rooms, ann(), 64 * 1024).await;
    first.say(enter("whatever", "r")).await;
    assert_eq!(first.next().await["name"], "Ann");
    let put_out = thief.next().await;
    assert_eq!((&put_out["code"], &put_out["roomId"]), (&json!("name_taken"), &json!("r")));
    // Its connection stays, and may enter under another name.
    thief.say(enter("Ann", "r")).await;
    assert_eq!(thief.next().await["code"], "name_taken");
    thief.say(enter("Eve", "r")).await;
    assert_eq!(thief.next().await["event"], "entered");
    // Another connection of the same user shares the name; another user does not get it.
    let mut second = Client::connect_as(&rooms, ann(), 64 * 1024).await;
    second.say(enter("", "r")).await;
    assert_eq!(second.next().await["name"], "Ann");
    let mut other =
        Client::connect_as(&rooms, Admission::user(User::new("u-2").with_name("ann")), 1 << 16).await;
    other.say(enter("", "r")).await;
    assert_eq!(other.next().await["code"], "name_taken");
    assert_eq!(log.take()[..3], ["+ ANN r 1", "- ANN r 0 name taken by its user", "+ Ann r 1"]);
}

/// Some clients can't read such a frame, and took it for a hole.
#[tokio::test(start_paused = true)]
async fn what_some_clients_cannot_read_is_not_relayed() {
    let rooms = default_rooms();
    let mut ann = Client::enter(&rooms, "ann", "r").await;
    for text in [
        r#"{"event":"message","message":"\ud83d"}"#.to_owned(),
        r#"{"event":"message","message":[1e400]}"#.to_owned(),
        format!(r#"{{"event":"message","message":{}{}}}"#, "[".repeat(200), "]".repeat(200)),
    ] {
        ann.text(text.as_str()).await;
        let answer = ann.next().await;
        assert!(answer["code"] == "bad_json" || answer["code"] == "too_deep", "{text}: {answer}");
    }
}

/// Hooks that look at the sender's name in the body were fooled.
#[tokio::test(start_paused = true)]
async fn hooks_see_no_forged_name() {
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<String>>>);
    impl RoomPolicy for Seen {
        fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
            self.0.lock().unwrap().push(request.body().to_owned());
            Verdict::allow()
        }
    }
    let seen = Seen::default();
    let told = seen.0.clone();
    let rooms = ChatRooms::builder()
        .policy(seen.clone())
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Message(message) = event {
                told.lock().unwrap().push(message.body.to_owned());
            }
        })
        .build()
        .unwrap();
    let mut eve = Client::enter(&rooms, "eve", "r").await;
    eve.text(r#"{"name":"ann","event":"message","message":"It was me","num":9}"#).await;
    assert_eq!(eve.next().await["name"], "eve");
    let clean = r#"{"event":"message","message":"It was me"}"#;
    assert_eq!(*seen.0.lock().unwrap(), [clean, clean]);
}

/// A client that was closed as slow never got what it had missed: the history had to be smaller than its queue.
#[tokio::test(start_paused = true)]
async fn a_slow_client_gets_what_it_missed_however_much_that_is() {
    let history = History::last(10_000).max_bytes(8 * 1024 * 1024);
    let rooms = ChatRooms::builder()
        .limits(Limits::default().max_queue_bytes(64 * 1024).max_message_bytes(16 * 1024))
        .rate_limits(RateLimits::default().max_bytes_per_second(16 * 1024))
        .recovery(Recovery::default().resume_window(Duration::from_secs(60)).history(history))
        .build()
        .unwrap();
    // A pipe that takes little.
    let mut ann = Client::connect_as(&rooms, v1(), 4096).await;
    let welcome = ann.next().await;
    ann.say(enter("ann", "r")).await;
    let entered = ann.next().await;
    let text = "x".repeat(8000);
    let mut sent = 0;
    while rooms.stats().slow == 0 {
        rooms.send("r", &json!({"event": "notice", "n": sent, "text": text})).unwrap();
        sent += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(sent < 500, "it is never slow");
    }
    let (mut since, mut heard) = (json!({"epoch": entered["epoch"], "seq": entered["seq"]}), 0);
    loop {
        match ann.next_or_end().await {
            Next::Frame(frame) => {
                since["seq"] = frame["seq"].clone();
                heard += u64::from(frame["event"] == "notice");
            }
            Next::End(code) => break assert_eq!(code, 4001),
        }
    }
    for n in sent..sent + 100 {
        rooms.send("r", &json!({"event": "notice", "n": n, "text": text})).unwrap();
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(sent - heard + 100 > 64 * 1024 / 8000 * 2, "the replay is larger than the queue");
    let mut back = Client::connect_as(&rooms, v1(), 4096).await;
    assert_eq!(back.next().await["event"], "welcome");
    let mut again = enter("ann", "r");
    (again["resume"], again["since"]) = (welcome["resume"].clone(), since);
    back.say(again).await;
    let entered = back.next().await;
    assert_eq!((&entered["resumed"], &entered["recovered"]), (&json!(true), &json!(true)));
    for n in heard..sent + 100 {
        assert_eq!(back.next().await["n"], n);
    }
}

/// What was published right after a restart was lost to the members that came back later.
#[tokio::test(start_paused = true)]
async fn a_client_of_an_earlier_epoch_gets_what_the_new_one_holds() {
    let rooms =
        || ChatRooms::builder().recovery(Recovery::default().history(History::last(100))).build().unwrap();
    let (old, new) = (rooms(), rooms());
    let (mut ann, _) = Client::connect_v1(&old, v1()).await;
    ann.say(enter("ann", "r")).await;
    let entered = ann.next().await;
    let since = json!({"epoch": entered["epoch"], "seq": 17});
    drop((ann, old));
    let (mut bob, _) = Client::connect_v1(&new, v1()).await;
    bob.say(enter("bob", "r")).await;
    bob.say(json!({"event": "message", "message": "anybody here?"})).await;
    for event in ["entered", "enter", "message"] {
        assert_eq!(bob.next().await["event"], event);
    }
    let (mut ann, _) = Client::connect_v1(&new, v1()).await;
    let mut back = enter("ann", "r");
    back["since"] = since;
    ann.say(back).await;
    let entered = ann.next().await;
    assert_eq!(
        (&entered["recovered"], &entered["seq"], &entered["replayed"]),
        (&json!(false), &json!(2), &json!(2))
    );
    for (seq, event) in [(1, "enter"), (2, "message"), (3, "enter")] {
        let frame = ann.next().await;
        assert_eq!((&frame["seq"], &frame["event"]), (&json!(seq), &json!(event)));
    }
    // Without a position it is a newcomer, and hears what comes from now on.
    let (mut cid, _) = Client::connect_v1(&new, v1()).await;
    cid.say(enter("cid", "r")).await;
    assert_eq!(cid.next().await["replayed"], 0);
    assert_eq!(cid.next().await["name"], "cid");
}

/// Reconnecting refilled every token bucket.
#[tokio::test(start_paused = true)]
async fn rates_do_not_end_with_the_connection() {
    let rooms = ChatRooms::builder()
        .rate_limits(
            RateLimits::default().max_new_rooms_per_minute_per_ip(30).max_failed_auths_per_minute_per_ip(3),
        )
        .auth(|token: String| async move {
            if token == "right" { Ok(User::new("u-1")) } else { Err(Denied::new("wrong")) }
        })
        .build()
        .unwrap();
    let peer = |n: u8| format!("192.0.2.{n}:999").parse().unwrap();
    let mut opened = 0;
    for n in 0..100 {
        let mut client = Client::connect_from(&rooms, Admission::anonymous(), peer(1)).await;
        client.say(enter("ann", &format!("r{n}"))).await;
        opened += u32::from(client.next().await["event"] == "enter");
        client.leave().await;
    }
    assert_eq!(opened, 30);
    // Another address is not affected; guessing tokens ends soon, over all connections.
    for _ in 0..3 {
        let mut client = Client::connect_from(&rooms, Admission::pending_auth(), peer(2)).await;
        client.say(json!({"event": "auth", "message": "guess"})).await;
        assert_eq!(client.next().await["event"], "noAuth");
        client.leave().await;
    }
    assert_eq!(Client::connect_from(&rooms, Admission::pending_auth(), peer(2)).await.closed().await, 1006);
    assert_eq!(rooms.stats().refused_per_ip, 1);
    // So does connecting again and again.
    let accepted = rooms.stats().accepted;
    for _ in 0..650 {
        Client::connect_from(&rooms, Admission::anonymous(), peer(3)).await.vanish().await;
    }
    assert_eq!(rooms.stats().accepted - accepted, 600);
}
