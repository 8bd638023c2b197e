//! Direct messages between clients, and their numbers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{
    Admission, ChannelEvent, ChatRooms, ChatRoomsBuilder, DirectRequest, Limits, RateLimits, Recovery,
    RoomEvent, RoomPolicy, SendError, User, Verdict, event_channel,
};

use crate::support::{Client, RESUME_WINDOW, enter_frame, events_arrive, resume_frame, run_other_tasks};

const SECOND: Duration = Duration::from_secs(1);

/// Decides by the text of the message, and records the requests.
#[derive(Clone, Default)]
pub(crate) struct ByMessage(Arc<Mutex<Vec<String>>>);

impl RoomPolicy for ByMessage {
    fn may_send_direct(&self, request: &DirectRequest<'_>) -> Verdict {
        let line =
            format!("{} to {}: {} {:?}", request.user().id(), request.to(), request.body(), request.cid());
        self.0.lock().unwrap().push(line);
        assert!(!format!("{request:?}").contains("message"), "messages are not logged");
        decide(request.text().as_deref().unwrap_or_default())
    }
}

fn decide(text: &str) -> Verdict {
    match text {
        "refuse" => Verdict::refuse("no"),
        "drop" => Verdict::drop_silently(),
        "replace" => {
            Verdict::replace(&json!({"event": "direct", "message": "other", "from": 1, "cid": "x"})).unwrap()
        }
        "replace by too much" => {
            Verdict::replace(&json!({"event": "direct", "message": "x".repeat(2 << 20)})).unwrap()
        }
        "later" => Verdict::later(async {
            tokio::time::sleep(SECOND).await;
            decide("replace")
        }),
        "never" => Verdict::later(std::future::pending()),
        "panic" => panic!("on purpose"),
        _ => Verdict::allow(),
    }
}

pub(crate) fn builder() -> ChatRoomsBuilder {
    crate::support::builder().recovery(Recovery::default().resume_window(RESUME_WINDOW))
}

/// Chat rooms that allow direct messages.
pub(crate) fn rooms() -> ChatRooms {
    builder().policy(ByMessage::default()).build().unwrap()
}

pub(crate) async fn connect(rooms: &ChatRooms, user: &str) -> Client {
    connect_user(rooms, User::new(user)).await
}

async fn connect_user(rooms: &ChatRooms, user: User) -> Client {
    Client::connect_v1(rooms, Admission::user(user)).await.0
}

pub(crate) fn direct_frame(to: &str, message: &str, cid: &str) -> Value {
    json!({"event": "direct", "message": message, "to": to, "cid": cid})
}

pub(crate) fn ack(cid: &str, reached: u64) -> Value {
    json!({"event": "ack", "cid": cid, "reached": reached})
}

impl Client {
    /// Sends a direct message, and returns the answer.
    pub(crate) async fn send_direct(&mut self, to: &str, message: &str, cid: &str) -> Value {
        self.send(direct_frame(to, message, cid)).await;
        self.next().await
    }

    /// The code of the error that answers a direct message.
    async fn refused_direct(&mut self, to: &str, message: &str, cid: &str) -> String {
        let error = self.send_direct(to, message, cid).await;
        assert_eq!(
            (&error["event"], &error["cid"], &error["roomId"]),
            (&json!("error"), &json!(cid), &Value::Null)
        );
        error["code"].as_str().unwrap().into()
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_reaches_all_sessions_of_the_user() {
    let rooms = rooms();
    let mut ann = connect_user(&rooms, User::new("a").with_name("Ann")).await;
    let (mut phone, mut laptop) = (connect(&rooms, "b").await, connect(&rooms, "b").await);
    let mut plain = Client::connect_as(&rooms, Admission::user(User::new("b")), 4096).await;
    let mut other = connect(&rooms, "c").await;
    assert_eq!(ann.send_direct("b", "hi", "c1").await, ack("c1", 3));
    let mut frame = json!({
        "event": "direct", "message": "hi", "from": {"user": "a", "name": "Ann"}, "cid": "c1", "direct": 1,
    });
    assert_eq!(phone.next().await, frame);
    assert_eq!(laptop.next().await, frame);
    // To a plain client, the key `direct` has no meaning.
    frame.as_object_mut().unwrap().remove("direct");
    assert_eq!(plain.next().await, frame);
    // Without a cid there is no answer.
    phone.send(json!({"event": "direct", "message": [1], "to": "a"})).await;
    let frame = ann.next().await;
    assert_eq!(frame, json!({"event": "direct", "message": [1], "from": {"user": "b"}, "direct": 1}));
    // The user is offline.
    assert_eq!(ann.send_direct("nobody", "hi", "c2").await, ack("c2", 0));
    // To the user's own sessions, including this one.
    ann.send(direct_frame("a", "note", "c3")).await;
    assert_eq!(ann.next().await["message"], "note");
    assert_eq!(ann.next().await, ack("c3", 1));
    for client in [&mut phone, &mut laptop, &mut plain, &mut other] {
        client.assert_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_server_sets_the_sender_and_the_number() {
    let rooms = rooms();
    let (mut ann, mut bob) = (connect(&rooms, "a").await, connect(&rooms, "b").await);
    ann.send(json!({
        "event": "direct", "message": "hi", "to": "b", "from": {"user": "boss"}, "direct": 99, "roomId": "r",
        "name": "Boss", "num": 1, "seq": 2, "member": "3", "extra": {"to": 1},
    }))
    .await;
    let frame = bob.next().await;
    let want =
        json!({"event": "direct", "message": "hi", "from": {"user": "a"}, "direct": 1, "extra": {"to": 1}});
    assert_eq!(frame, want);
    // Members and the host cannot set the number in other frames either.
    for client in [&mut ann, &mut bob] {
        client.send(enter_frame("n", "r")).await;
        assert_eq!(client.next().await["event"], "entered");
        assert_eq!(client.next().await["event"], "enter");
    }
    assert_eq!(ann.next().await["event"], "enter");
    let forged = json!({"event": "x", "direct": 2, "message": 1, "roomId": "r"});
    ann.send(forged.clone()).await;
    rooms.send("r", &forged).unwrap();
    rooms.send_to(rooms.sessions_of("b")[0], &forged).unwrap();
    rooms.broadcast(&forged).await.unwrap();
    for _ in 0..4 {
        let frame = bob.next().await;
        assert_eq!(
            (&frame["event"], &frame["message"], &frame["direct"]),
            (&json!("x"), &json!(1), &Value::Null)
        );
    }
    rooms.send_to_user("b", &forged).unwrap();
    assert_eq!(bob.next().await, forged, "it is the second direct frame");
    // Plain clients get what was sent.
    let mut plain = Client::connect(&rooms).await;
    run_other_tasks().await;
    rooms.broadcast(&forged).await.unwrap();
    assert_eq!(plain.next().await, forged);
}

#[tokio::test(start_paused = true)]
async fn direct_messages_are_refused_by_default() {
    struct NoOpinion;
    impl RoomPolicy for NoOpinion {}
    for rooms in [builder().build().unwrap(), builder().policy(NoOpinion).build().unwrap()] {
        let (mut ann, mut bob) = (connect(&rooms, "a").await, connect(&rooms, "b").await);
        assert_eq!(ann.refused_direct("b", "hi", "c").await, "denied");
        bob.assert_quiet().await;
        assert_eq!(rooms.send_to_user("b", &json!({"event": "direct"})).unwrap(), 1, "the host always may");
        assert_eq!(bob.next().await, json!({"event": "direct", "direct": 1}));
    }
}

#[tokio::test(start_paused = true)]
async fn only_users_of_v1_can_send_direct_messages() {
    let policy = ByMessage::default();
    let rooms = builder().policy(policy.clone()).build().unwrap();
    let mut bob = connect(&rooms, "b").await;
    let (mut anonymous, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    assert_eq!(anonymous.refused_direct("b", "hi", "c").await, "denied");
    let mut plain = Client::connect_as(&rooms, Admission::user(User::new("a")), 4096).await;
    plain.send(direct_frame("b", "hi", "c")).await;
    assert_eq!(plain.next().await["code"], "reserved_event");
    bob.assert_quiet().await;
    assert!(policy.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_policy_decides() {
    let policy = ByMessage::default();
    let log = Arc::new(Mutex::new(Vec::new()));
    let events = log.clone();
    let rooms = builder()
        .policy(policy.clone())
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Direct(e) = event {
                assert!(!format!("{e:?}").contains("message"), "messages are not logged");
                events.lock().unwrap().push(format!("{} to {}: {} {}", e.user.id(), e.to, e.body, e.reached));
            }
        })
        .build()
        .unwrap();
    let (mut ann, mut bob) = (connect(&rooms, "a").await, connect(&rooms, "b").await);
    assert_eq!(ann.refused_direct("b", "refuse", "c1").await, "denied");
    // It looks as if the message had been sent.
    assert_eq!(ann.send_direct("b", "drop", "c2").await, ack("c2", 1));
    assert_eq!(ann.send_direct("b", "drop", "c2").await, ack("c2", 1));
    assert_eq!(ann.refused_direct("b", "replace by too much", "c3").await, "internal");
    assert_eq!(ann.send_direct("b", "replace", "c4").await, ack("c4", 1));
    let other = |n: u64, cid: &str| json!({"event": "direct", "message": "other", "from": {"user": "a"}, "cid": cid, "direct": n});
    assert_eq!(bob.next().await, other(1, "c4"));
    // Later messages wait.
    ann.send_at_once([direct_frame("b", "later", "c5"), direct_frame("b", "hi", "c6")]).await;
    assert_eq!((ann.next().await, ann.next().await), (ack("c5", 1), ack("c6", 1)));
    assert_eq!(bob.next().await, other(2, "c5"));
    assert_eq!(bob.next().await["message"], "hi");
    assert_eq!(ann.refused_direct("b", "never", "c7").await, "internal");
    // The answer was known already.
    assert_eq!(policy.0.lock().unwrap().iter().filter(|line| line.contains("c2")).count(), 1);
    assert_eq!(
        policy.0.lock().unwrap()[0],
        r#"a to b: {"cid":"c1","event":"direct","message":"refuse"} Some("c1")"#
    );
    let line = |message: &str, cid: &str| {
        let body = match message {
            "other" => format!(r#"{{"event":"direct","message":"other","cid":"{cid}"}}"#),
            _ => format!(r#"{{"cid":"{cid}","event":"direct","message":"{message}"}}"#),
        };
        format!("a to b: {body} 1")
    };
    assert_eq!(*log.lock().unwrap(), [line("other", "c4"), line("other", "c5"), line("hi", "c6")]);
    // A panic ends the sender's connection only.
    ann.send(direct_frame("b", "panic", "c8")).await;
    assert_eq!(ann.close_code().await, 1011);
    bob.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_channel_gets_direct_messages() {
    let (sender, mut receiver) = event_channel(16);
    let events = sender.without_messages();
    let rooms = builder().policy(ByMessage::default()).events(events).build().unwrap();
    let mut ann = connect(&rooms, "a").await;
    events_arrive().await;
    assert_eq!(ann.send_direct("b", "hi", "c").await, ack("c", 0));
    assert!(matches!(receiver.recv().await, Some(ChannelEvent::Online(_))));
    let event = receiver.recv().await.unwrap();
    assert!(!format!("{event:?}").contains("hi"), "messages are not logged");
    let ChannelEvent::Direct { user, to, body, reached, .. } = event else { panic!("{event:?}") };
    assert_eq!((user.id(), &*to, reached), ("a", "b", 0));
    assert_eq!(body, r#"{"cid":"c","event":"direct","message":"hi"}"#);
}

#[tokio::test(start_paused = true)]
async fn malformed_direct_messages_are_refused() {
    let rooms = rooms();
    let mut ann = connect(&rooms, "a").await;
    for to in [json!(null), json!(7), json!(["b"])] {
        ann.send(json!({"event": "direct", "message": "hi", "to": to, "cid": "c"})).await;
        let error = ann.next().await;
        assert_eq!((&error["code"], &error["cid"]), (&json!("bad_shape"), &Value::Null), "{to}");
    }
    ann.send(json!({"event": "direct", "message": "hi"})).await;
    assert_eq!(ann.next().await["code"], "bad_shape");
    ann.send(direct_frame("b", "hi", &"c".repeat(65))).await;
    assert_eq!(ann.next().await["code"], "bad_shape");
    assert_eq!(ann.send_direct("b", "hi", "c").await, ack("c", 0));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_fit_a_send_queue_is_refused() {
    let limits = Limits::default().max_message_bytes(2048).max_queue_bytes(8 * 1024);
    let rates = RateLimits::default().max_bytes_per_second(2048);
    let rooms = builder().policy(ByMessage::default()).limits(limits).rate_limits(rates).build().unwrap();
    let mut ann = connect_user(&rooms, User::new("a").with_name("n".repeat(8 * 1024))).await;
    let mut bob = connect(&rooms, "b").await;
    assert_eq!(ann.refused_direct("b", "hi", "c").await, "too_big");
    bob.assert_quiet().await;
    let long = json!({"event": "direct", "message": "x".repeat(8 * 1024)});
    assert!(matches!(rooms.send_to_user("b", &long), Err(SendError::TooBig)));
}

#[tokio::test(start_paused = true)]
async fn the_rates_of_messages_apply() {
    let rates = RateLimits::default().max_messages_per_second(2);
    let rooms = builder().policy(ByMessage::default()).rate_limits(rates).build().unwrap();
    let mut ann = connect(&rooms, "a").await;
    for n in 0..4 {
        let cid = n.to_string();
        assert_eq!(ann.send_direct("b", "hi", &cid).await, ack(&cid, 0));
    }
    let error = ann.send_direct("b", "hi", "5").await;
    assert_eq!((&error["code"], &error["cid"]), (&json!("rate_limited"), &json!("5")));
    tokio::time::sleep(Duration::from_millis(error["retryAfter"].as_u64().unwrap())).await;
    assert_eq!(ann.send_direct("b", "hi", "5").await, ack("5", 0));
}

#[tokio::test(start_paused = true)]
async fn a_repeated_message_is_sent_once_even_after_a_resumption() {
    let rooms = rooms();
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::user(User::new("a"))).await;
    let (mut phone, mut laptop) = (connect(&rooms, "b").await, connect(&rooms, "b").await);
    assert_eq!(ann.send_direct("b", "hi", "c").await, ack("c", 2));
    phone.next().await;
    phone.close().await;
    assert_eq!(ann.send_direct("b", "hi", "c").await, ack("c", 2));
    // Lost before the answer.
    ann.send(direct_frame("b", "lost", "d")).await;
    ann.disconnect().await;
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::user(User::new("a"))).await;
    ann.send_at_once([
        resume_frame([&welcome["resume"]]),
        direct_frame("b", "hi", "c"),
        direct_frame("b", "lost", "d"),
        direct_frame("b", "new", "e"),
    ])
    .await;
    assert_eq!(ann.next().await["event"], "resumed");
    for (cid, reached) in [("c", 2), ("d", 1), ("e", 1)] {
        assert_eq!(ann.next().await, ack(cid, reached));
    }
    for message in ["hi", "lost", "new"] {
        assert_eq!(laptop.next().await["message"], message);
    }
    laptop.assert_quiet().await;
    // The ids of messages to rooms are separate.
    ann.send(enter_frame("ann", "r")).await;
    assert_eq!(
        (ann.next().await["event"].clone(), ann.next().await["event"].clone()),
        (json!("entered"), json!("enter"))
    );
    ann.send(json!({"event": "message", "message": "hi", "roomId": "r", "cid": "c"})).await;
    let mut frames = [ann.next().await, ann.next().await];
    frames.sort_by_key(|frame| frame["event"].to_string());
    assert_eq!((&frames[0]["seq"], &frames[1]["message"]), (&json!(2), &json!("hi")));
}
