//! Direct messages, against a real server.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tower_chat_rooms::{ChatRooms, Denied, DirectRequest, Recovery, RoomPolicy, User, Verdict};
use tower_chat_rooms_client::{Chat, ChatEvent, ClientError, ClientEvent, RoomFrame};

use crate::random_flaps::{Random, flap};
use crate::scripted_server::PATIENCE;
use crate::support::{Replaceable, assert_empty, unlimited};

/// Users may send each other direct messages, but not to "nobody".
struct Direct;

impl RoomPolicy for Direct {
    fn may_send_direct(&self, request: &DirectRequest<'_>) -> Verdict {
        if request.to() == "nobody" { Verdict::refuse("no such user") } else { Verdict::allow() }
    }
}

/// Chat rooms that accept the id of a user as its token.
fn with_direct_messages() -> ChatRooms {
    unlimited()
        .auth(|token: String| async move { Ok::<_, Denied>(User::new(&*token).with_name(token.to_uppercase())) })
        .policy(Direct)
        .recovery(Recovery::default().resume_window(PATIENCE))
        .build()
        .unwrap()
}

/// A chat of this user, on a network of its own.
async fn chat(rooms: &ChatRooms, user: &str) -> (Chat, Replaceable) {
    let server = Replaceable::pending_auth(rooms.clone());
    let backoff = (Duration::from_millis(20), Duration::from_millis(200));
    (server.chat().token(user).backoff(backoff.0, backoff.1).await.unwrap(), server)
}

async fn next_event(chat: &mut Chat) -> ChatEvent {
    loop {
        let event = timeout(PATIENCE, chat.recv()).await.expect("no event").expect("the chat is over");
        if !matches!(event, ChatEvent::State(_)) {
            return event;
        }
    }
}

async fn next_direct(chat: &mut Chat) -> RoomFrame {
    match next_event(chat).await {
        ChatEvent::Direct(frame) => frame,
        event => panic!("{event:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn users_and_the_host_send_direct_messages() {
    let rooms = with_direct_messages();
    let (mut ann, _network) = chat(&rooms, "ann").await;
    let (mut bob, _network) = chat(&rooms, "bob").await;
    assert_eq!(ann.send_to_user("bob", "hi").await, Ok(1));
    let frame = next_direct(&mut bob).await;
    assert_eq!((frame.event(), frame.message(), frame.seq()), ("direct", &json!("hi"), None));
    assert_eq!((frame.user(), frame.name(), frame.is_own()), (Some("ann"), Some("ANN"), false));

    let object = json!({"message": "hello", "colour": "red"});
    assert_eq!(bob.handle().send_object_to_user("ann", &object).await, Ok(1));
    let frame = next_direct(&mut ann).await;
    assert_eq!((frame.message(), &frame.object()["colour"]), (&json!("hello"), &json!("red")));

    assert_eq!(rooms.send_to_user("ann", &json!({"event": "notice", "message": 7})).unwrap(), 1);
    let frame = next_direct(&mut ann).await;
    assert_eq!((frame.event(), frame.message(), frame.user()), ("notice", &json!(7), None));

    assert_eq!(ann.send_to_user("offline", "hi").await, Ok(0));
    let refused = ann.send_to_user("nobody", "hi").await;
    assert!(matches!(refused, Err(ClientError::Refused { code, .. }) if code == "denied"));
    for key in ["from", "to", "direct", "cid"] {
        let refused = ann.handle().send_object_to_user("bob", &json!({key: 1})).await;
        assert!(matches!(refused, Err(ClientError::Value(_))), "{key}: {refused:?}");
    }
    ann.close().await;
    bob.close().await;
    rooms.shutdown().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_client_in_one_room_has_direct_messages_too() {
    let rooms = with_direct_messages();
    let network = Replaceable::pending_auth(rooms.clone());
    let mut ann = network.client().token("ann").name("ann").await.unwrap();
    let sender = ann.sender();
    assert_eq!(sender.send_to_user("ann", "to myself").await, Ok(1));
    assert_eq!(sender.send_object_to_user("ann", &json!({"message": 2})).await, Ok(1));
    let mut received = Vec::new();
    while received.len() < 2 {
        if let ClientEvent::Direct(frame) = timeout(PATIENCE, ann.recv()).await.unwrap().unwrap() {
            received.push(frame.message().clone());
        }
    }
    assert_eq!(received, [json!("to myself"), json!(2)]);
    ann.leave().await;
    assert!(matches!(sender.send_to_user("ann", "hi").await, Err(ClientError::Closed { .. })));
    rooms.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn direct_messages_need_the_permission_of_the_policy_and_a_user() {
    let rooms = unlimited().build().unwrap();
    let ann = Replaceable::new(rooms.clone()).chat().await.unwrap();
    // The server closes a connection that is in no room. The message opens another one.
    for _ in 0..2 {
        let refused = ann.send_to_user("bob", "hi").await;
        assert!(matches!(refused, Err(ClientError::Refused { code, .. }) if code == "denied"));
        sleep(PATIENCE).await;
    }
    ann.close().await;
    rooms.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_nothing_is_lost_but_what_the_server_does_not_keep() {
    let rooms = with_direct_messages();
    let (mut ann, network) = chat(&rooms, "ann").await;
    let (bob, _network) = chat(&rooms, "bob").await;
    for (sent, missed) in [(3u64, 0), (70, 6)] {
        network.cut();
        // The server learns that the connection is lost.
        sleep(Duration::from_secs(1)).await;
        let queued = ann.send_to_user("ann", "queued");
        for n in 0..sent {
            assert_eq!(bob.send_to_user("ann", &n).await, Ok(0));
        }
        network.mend();
        if missed > 0 {
            let event = next_event(&mut ann).await;
            assert!(
                matches!(event, ChatEvent::DirectGap { missed: Some(n), .. } if n == missed),
                "{event:?}"
            );
        }
        for n in missed..sent {
            assert_eq!(next_direct(&mut ann).await.message(), &json!(n));
        }
        assert_eq!(next_direct(&mut ann).await.message(), &json!("queued"));
        assert_eq!(queued.await, Ok(1));
    }
    // The session is over.
    network.cut();
    sleep(PATIENCE + Duration::from_secs(60)).await;
    network.mend();
    assert!(matches!(next_event(&mut ann).await, ChatEvent::DirectGap { missed: None, .. }));
    assert_eq!(bob.send_to_user("ann", "again").await, Ok(1));
    assert_eq!(next_direct(&mut ann).await.message(), &json!("again"));
    ann.close().await;
    bob.close().await;
    rooms.shutdown().await;
    assert_empty(&rooms);
}

/// The last message from each sender.
const LAST: &str = "last";

/// Takes all events of a chat until it has received the last message of each sender. Returns the senders and the messages.
async fn collect(mut chat: Chat, senders: usize) -> (Chat, Vec<(String, Value)>) {
    let (mut received, mut last) = (Vec::new(), 0);
    while last < senders {
        let frame = next_direct(&mut chat).await;
        last += usize::from(frame.message() == LAST);
        received.push((frame.user().unwrap_or("host").to_owned(), frame.message().clone()));
    }
    (chat, received)
}

/// The server keeps more direct frames than a client misses while it is offline.
async fn run(seed: u64) {
    const USERS: [&str; 3] = ["ann", "bob", "cem"];
    const MESSAGES: u64 = 40;
    let rooms = with_direct_messages();
    let (mut collecting, mut sending, mut flapping) = (Vec::new(), Vec::new(), Vec::new());
    let mut chats = Vec::new();
    for user in USERS {
        chats.push(chat(&rooms, user).await);
    }
    for (n, (chat, network)) in chats.into_iter().enumerate() {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n as u64 + 1) << 32);
        flapping.push((tokio::spawn(flap(network.clone(), random.fork())), network));
        let handle = chat.handle();
        collecting.push(tokio::spawn(collect(chat, USERS.len() + 1)));
        sending.push(tokio::spawn(async move {
            let mut results = Vec::new();
            for n in 0..MESSAGES {
                random.pause(200).await;
                results.extend(USERS.map(|user| handle.send_to_user(user, &n)));
            }
            results.extend(USERS.map(|user| handle.send_to_user(user, LAST)));
            for result in results {
                assert!(
                    timeout(PATIENCE, result).await.expect("no result").is_ok_and(|reached| reached <= 1)
                );
            }
        }));
    }
    let host: JoinHandle<()> = tokio::spawn({
        let (rooms, mut random) = (rooms.clone(), Random::new(seed));
        let send = move |message: Value| {
            for user in USERS {
                rooms.send_to_user(user, &json!({"event": "notice", "message": message})).unwrap();
            }
        };
        async move {
            for n in 0..MESSAGES {
                random.pause(200).await;
                send(json!(n));
            }
            send(json!(LAST));
        }
    });
    host.await.unwrap();
    for task in sending {
        task.await.unwrap();
    }
    for (task, network) in flapping {
        task.abort();
        network.mend();
    }
    for (task, user) in collecting.into_iter().zip(USERS) {
        let (chat, received) = task.await.unwrap();
        for sender in USERS.into_iter().chain(["host"]) {
            let of_sender: Vec<&Value> =
                received.iter().filter(|(from, _)| from == sender).map(|(_, message)| message).collect();
            let expected: Vec<Value> = (0..MESSAGES).map(Value::from).chain([json!(LAST)]).collect();
            assert_eq!(of_sender, expected.iter().collect::<Vec<_>>(), "from {sender} to {user}");
        }
        chat.close().await;
    }
    rooms.shutdown().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn each_direct_message_arrives_once_and_in_order_over_connections_that_break() {
    for seed in 1..=20 {
        println!("seed {seed}");
        run(seed).await;
    }
}
