//! Direct messages that a client has missed. When it resumes, it gets each of them once and in order, or is told of the
//! gap.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tower_chat_rooms::{Admission, ChatRooms, Heartbeat, OnExpiry, Recovery, Timeouts, User};

use crate::support::{
    Client, DirectClient, RESUME_WINDOW, assert_empty, builder, enter_frame, resume_frame, user_of,
    with_expiring_tokens,
};

const SECOND: Duration = Duration::from_secs(1);

fn rooms() -> ChatRooms {
    builder().recovery(Recovery::default().resume_window(RESUME_WINDOW)).build().unwrap()
}

/// Sends these messages to the user "u".
fn send(rooms: &ChatRooms, messages: impl IntoIterator<Item = u64>) {
    for message in messages {
        rooms.send_to_user("u", &json!({"event": "x", "message": message})).unwrap();
    }
}

fn numbers(messages: impl IntoIterator<Item = u64>) -> Vec<Value> {
    messages.into_iter().map(Value::from).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_follows_the_answer_to_the_resume() {
    let rooms = rooms();
    let mut client = DirectClient::connect(&rooms, "u").await;
    send(&rooms, 0..3);
    client.read().await;
    // Written, but never read.
    send(&rooms, 3..5);
    client.disconnect().await;
    send(&rooms, 5..7);
    client.open(&rooms).await;
    // The connection has a session of its own meanwhile.
    send(&rooms, 7..9);
    client.read().await;
    client.send_resume().await;
    send(&rooms, 9..11);
    client.read().await;
    send(&rooms, 11..13);
    client.read().await;
    assert_eq!(client.take(), numbers(0..13));
    assert!(client.others.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_client_has_had_is_not_sent_again() {
    let rooms = rooms();
    let (mut client, welcome) = Client::connect_v1(&rooms, Admission::user(User::new("u"))).await;
    send(&rooms, 0..3);
    for number in 1..=3 {
        assert_eq!(client.next().await["direct"], number);
    }
    client.disconnect().await;
    let (mut client, next) = Client::connect_v1(&rooms, Admission::user(User::new("u"))).await;
    client.send(json!({"event": "resume", "message": [welcome["resume"]], "direct": 2})).await;
    let member = &welcome["connection"];
    assert_eq!(client.next().await, json!({"event": "resumed", "member": member, "rooms": [], "direct": 2}));
    assert_eq!(client.next().await, json!({"event": "x", "message": 2, "direct": 3}));
    client.assert_quiet().await;
    client.disconnect().await;
    // The number is that of another session, as only the key `member` shows.
    let (mut client, _) = Client::connect_v1(&rooms, Admission::user(User::new("u"))).await;
    client
        .send(json!({"event": "resume", "message": [next["resume"]], "direct": 2, "member": next["connection"]}))
        .await;
    assert_eq!(client.next().await, json!({"event": "resumed", "member": member, "rooms": []}));
    for number in 1..=3 {
        assert_eq!(client.next().await["direct"], number);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_is_repeated() {
    for reads in 0..8 {
        let rooms = rooms();
        let mut client = DirectClient::connect(&rooms, "u").await;
        send(&rooms, 0..2);
        client.read().await;
        client.disconnect().await;
        for round in 0..4 {
            send(&rooms, 2 + 2 * round..4 + 2 * round);
            client.connect_again(&rooms).await;
            // Of the heartbeat, the answer and the frames, it reads only some.
            client.read_up_to(reads).await;
            client.disconnect().await;
        }
        client.connect_again(&rooms).await;
        client.read().await;
        assert_eq!(client.take(), numbers(0..10), "{reads}");
        client.connection.close().await;
        assert_empty(&rooms);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_that_the_server_believes_to_be_open_loses_nothing() {
    let rooms = rooms();
    let mut client = DirectClient::connect(&rooms, "u").await;
    send(&rooms, 0..1);
    client.read().await;
    let old = std::mem::replace(&mut client.connection, Client::disconnected().await);
    assert_eq!(rooms.send_to_user("u", &json!({"event": "x", "message": 1})).unwrap(), 1);
    client.connect_again(&rooms).await;
    send(&rooms, 2..3);
    client.read().await;
    assert_eq!(client.take(), numbers(0..3));
    drop(old);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_of_frames_that_are_not_kept() {
    let rooms = rooms();
    let mut client = DirectClient::connect(&rooms, "u").await;
    send(&rooms, 0..1);
    client.read().await;
    client.disconnect().await;
    // Too many.
    send(&rooms, 1..101);
    client.connect_again(&rooms).await;
    client.read().await;
    assert_eq!(client.take(), [numbers([0]), vec![json!({"gap": 36})], numbers(37..101)].concat());
    // Too long.
    client.disconnect().await;
    let long = json!({"event": "x", "message": "x".repeat(30_000)});
    for _ in 0..3 {
        assert_eq!(rooms.send_to_user("u", &long).unwrap(), 0);
    }
    client.connect_again(&rooms).await;
    client.read().await;
    assert_eq!(client.take(), [json!({"gap": 1}), long["message"].clone(), long["message"].clone()]);
}

/// A client may take until the server has noticed the loss of the connection, and then the resume window.
#[tokio::test(start_paused = true)]
async fn frames_are_kept_as_long_as_a_client_may_need_them() {
    let heartbeat = Heartbeat::every(10 * SECOND).with_timeout(5 * SECOND);
    let recovery = Recovery::default().resume_window(RESUME_WINDOW);
    let rooms = builder().v1_heartbeat(heartbeat).recovery(recovery).build().unwrap();
    let mut client = DirectClient::connect(&rooms, "u").await;
    // Both connections are lost, but only one of them breaks.
    let _lost = std::mem::replace(&mut client.connection, Client::disconnected().await);
    send(&rooms, 0..1);
    sleep(SECOND).await;
    send(&rooms, 1..2);
    let mut waited = Duration::ZERO;
    while rooms.stats().absent == 0 {
        sleep(SECOND / 10).await;
        waited += SECOND / 10;
    }
    assert!(waited <= 15 * SECOND, "{waited:?}");
    sleep(RESUME_WINDOW - SECOND / 5).await;
    client.connect_again(&rooms).await;
    client.read().await;
    assert_eq!(client.take(), numbers(0..2));
    // Later, nobody can need them.
    for _ in 0..5 {
        sleep(6 * SECOND).await;
        client.read().await;
    }
    send(&rooms, 2..3);
    let (mut other, _) = Client::connect_v1(&rooms, Admission::user(User::new("u"))).await;
    other.send(resume_frame([&client.tokens()[0]])).await;
    assert_eq!(other.next().await["direct"], 2);
    assert_eq!(other.next().await["direct"], 3);
    other.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_session_begins_with_number_one() {
    let rooms = rooms();
    let mut client = DirectClient::connect(&rooms, "u").await;
    send(&rooms, 0..3);
    client.read().await;
    client.disconnect().await;
    sleep(RESUME_WINDOW).await;
    client.open(&rooms).await;
    send(&rooms, 3..5);
    client.read().await;
    client.send_resume().await;
    client.read().await;
    send(&rooms, 5..6);
    client.read().await;
    assert_eq!(client.take(), [numbers(0..3), vec![json!("new session")], numbers(3..6)].concat());
}

/// The answers on the second connection are lost, and with it the session that began there.
#[tokio::test(start_paused = true)]
async fn the_session_of_a_connection_whose_answers_were_lost_is_continued() {
    let rooms = rooms();
    let mut client = DirectClient::connect(&rooms, "u").await;
    send(&rooms, 0..3);
    client.read().await;
    client.disconnect().await;
    sleep(RESUME_WINDOW).await;
    client.connect_again(&rooms).await;
    send(&rooms, 3..8);
    client.disconnect().await;
    client.connect_again(&rooms).await;
    client.read().await;
    assert_eq!(client.take(), [numbers(0..3), vec![json!("new session")], numbers(3..8)].concat());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_keeps_no_sessions_keeps_no_frames() {
    let rooms = builder().build().unwrap();
    let (mut client, welcome) = Client::connect_v1(&rooms, Admission::user(User::new("u"))).await;
    assert_eq!(welcome.get("resume"), None);
    send(&rooms, 0..2);
    for number in 1..=2 {
        assert_eq!(client.next().await["direct"], number);
    }
    // Its token is from before a restart of the server. It learns that two frames are lost if it has ignored them.
    let resumed = client.resume([&json!("0".repeat(32))]).await;
    assert_eq!((resumed.get("member"), &resumed["direct"]), (None, &json!(2)));
    client.assert_quiet().await;
}

/// The authentication of the old session had expired, so only the new session has got some of the frames.
#[tokio::test(start_paused = true)]
async fn frames_of_the_connections_own_session_are_taken_over() {
    let rooms = with_expiring_tokens()
        .on_expiry(OnExpiry::WaitForAuth)
        .timeouts(Timeouts::default().token_warning(Duration::ZERO))
        .recovery(Recovery::default().resume_window(RESUME_WINDOW))
        .build()
        .unwrap();
    let (mut old, welcome) = Client::connect_v1(&rooms, Admission::user(user_of("u:5"))).await;
    send(&rooms, 0..2);
    for number in 1..=2 {
        assert_eq!(old.next().await["direct"], number);
    }
    sleep(6 * SECOND).await;
    assert_eq!(old.next().await["event"], "noAuth");
    send(&rooms, 2..3);
    let (mut new, _) = Client::connect_v1(&rooms, Admission::user(user_of("u"))).await;
    send(&rooms, 3..5);
    new.send(json!({"event": "resume", "message": [welcome["resume"]], "direct": 2})).await;
    // These are its own, which it ignores.
    assert_eq!(new.next().await, json!({"event": "x", "message": 3, "direct": 1}));
    assert_eq!(new.next().await, json!({"event": "x", "message": 4, "direct": 2}));
    let resumed = new.next().await;
    assert_eq!((&resumed["member"], &resumed["direct"]), (&welcome["connection"], &json!(2)));
    send(&rooms, 5..6);
    for number in 3..=5 {
        assert_eq!(new.next().await, json!({"event": "x", "message": number, "direct": number}));
    }
    new.assert_quiet().await;
}

/// The session that is resumed is younger than the connection's own one.
#[tokio::test(start_paused = true)]
async fn an_older_connection_resumes_a_younger_session() {
    let rooms = rooms();
    let (mut older, _) = Client::connect_v1(&rooms, Admission::user(User::new("u"))).await;
    let (mut younger, welcome) = Client::connect_v1(&rooms, Admission::user(User::new("u"))).await;
    send(&rooms, 0..2);
    for client in [&mut older, &mut younger] {
        assert_eq!(client.next().await["direct"], 1);
        assert_eq!(client.next().await["direct"], 2);
    }
    older.send(json!({"event": "resume", "message": [welcome["resume"]], "direct": 1})).await;
    let resumed = older.next().await;
    assert_eq!((&resumed["member"], &resumed["direct"]), (&welcome["connection"], &json!(1)));
    assert_eq!(older.next().await, json!({"event": "x", "message": 1, "direct": 2}));
    assert_eq!(younger.close_code().await, 4503);
    older.assert_quiet().await;
    assert_eq!(rooms.sessions_of("u").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn rooms_and_direct_frames_are_resumed_together() {
    let rooms = rooms();
    let (mut client, welcome) = Client::connect_v1(&rooms, Admission::user(User::new("u"))).await;
    client.enter_another("ann", "r").await;
    client.disconnect().await;
    send(&rooms, 0..1);
    let (mut client, _) = Client::connect_v1(&rooms, Admission::user(User::new("u"))).await;
    client.send_at_once([resume_frame([&welcome["resume"]]), enter_frame("ann", "r")]).await;
    let resumed = client.next().await;
    assert_eq!(resumed["rooms"], json!([{"roomId": "r", "name": "ann"}]));
    assert_eq!(client.next().await, json!({"event": "x", "message": 0, "direct": 1}));
    let entered = client.next().await;
    assert_eq!((&entered["event"], &entered["resumed"]), (&json!("entered"), &json!(true)));
}

/// An anonymous session has no direct frames.
#[tokio::test(start_paused = true)]
async fn an_anonymous_session_is_resumed_as_before() {
    let rooms = rooms();
    let (client, welcome) = Client::enter_v1(&rooms, Admission::anonymous()).await;
    client.disconnect().await;
    let (mut client, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let resumed = client.resume([&welcome["resume"]]).await;
    assert_eq!((&resumed["direct"], &resumed["rooms"][0]["roomId"]), (&Value::Null, &json!("r")));
}
