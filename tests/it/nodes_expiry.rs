//! Tokens of users that expire after their sessions have moved to another node.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower_chat_rooms::{Admission, ChatRooms, ChatRoomsBuilder, Recovery, SharedBroker, Timeouts};

use crate::nodes::{enter, stop};
use crate::support::{
    Client, EventLog, RESUME_WINDOW, enter_frame, enter_with_token, rooms_in, user_of, with_expiring_tokens,
};

const SECOND: Duration = Duration::from_secs(1);

/// Chat rooms whose sessions outlive a lost connection.
pub(crate) fn builder(log: &EventLog) -> ChatRoomsBuilder {
    let recovery = Recovery::default().resume_window(RESUME_WINDOW);
    let timeouts = Timeouts::default().token_warning(Duration::ZERO);
    with_expiring_tokens().recovery(recovery).timeouts(timeouts).events(log.hook())
}

fn nodes(log: &EventLog) -> [ChatRooms; 2] {
    let broker = SharedBroker::new();
    std::array::from_fn(|_| builder(log).broker(broker.node()).build().unwrap())
}

/// Moves the session of a client in the room "r" to another node, with a token of the same user.
async fn move_to(rooms: &ChatRooms, token: &str, resume: &Value) -> (Client, Value) {
    let (mut client, welcome) = Client::connect_v1(rooms, Admission::user(user_of(token))).await;
    assert_eq!(rooms_in(&client.resume([resume]).await), ["r"]);
    client.send(enter_frame("ann", "r")).await;
    assert_eq!(client.next_of("entered").await["resumed"], true);
    (client, welcome["resume"].clone())
}

/// The member "ann" is out, for this reason as the host is told.
async fn expect_out(bob: &mut Client, log: &EventLog, reason: &str) {
    let out = bob.next_of("out").await;
    assert_eq!((&out["name"], &out["num"]), (&json!("ann"), &json!(1)));
    let mut told = log.take_moves();
    while told.len() < 3 {
        sleep(Duration::from_millis(10)).await;
        told.extend(log.take_moves());
    }
    assert_eq!(told[2..], [format!("- ann r 1 {reason}")]);
}

/// The token of the connection on the new node counts, and no session is left anywhere.
pub(crate) async fn a_token_expires_on_the_new_node([one, other]: [ChatRooms; 2], log: EventLog) {
    let (mut bob, _) = enter(&one, "bob").await;
    let (ann, resume) = enter_with_token(&one, "u1:600").await;
    ann.disconnect().await;
    let (mut ann, resume) = move_to(&other, "u1:2", &resume).await;
    let (frames, code) = ann.frames_until_close().await;
    assert_eq!(code, 4504);
    assert_eq!(frames.last().unwrap()["event"], "noAuth");
    expect_out(&mut bob, &log, "authentication expired").await;
    for rooms in [&one, &other] {
        let (mut late, _) = Client::connect_v1(rooms, Admission::user(user_of("u1"))).await;
        assert_eq!(rooms_in(&late.resume([&resume]).await), [""; 0]);
        late.close().await;
    }
    bob.close().await;
    stop([one, other]).await;
}

/// The session does not outlive the token of the connection that has moved it.
pub(crate) async fn a_lost_connection_is_kept_until_the_token_expires(
    [one, other]: [ChatRooms; 2],
    log: EventLog,
) {
    let (mut bob, _) = enter(&one, "bob").await;
    let (ann, resume) = enter_with_token(&one, "u1:600").await;
    ann.disconnect().await;
    let (ann, _) = move_to(&other, "u1:2", &resume).await;
    let begin = Instant::now();
    ann.disconnect().await;
    expect_out(&mut bob, &log, "authentication expired").await;
    assert!(begin.elapsed() < RESUME_WINDOW, "{:?}", begin.elapsed());
    bob.close().await;
    stop([one, other]).await;
}

/// What the old node knows of the user's token does not count any more.
pub(crate) async fn the_token_of_the_old_node_does_not_count([one, other]: [ChatRooms; 2], log: EventLog) {
    let (mut bob, _) = enter(&one, "bob").await;
    let (ann, resume) = enter_with_token(&one, "u1:3").await;
    ann.disconnect().await;
    let (mut ann, _) = move_to(&other, "u1:600", &resume).await;
    // The old token expires meanwhile.
    sleep(SECOND * 4).await;
    ann.send(json!({"event": "message", "message": "still here"})).await;
    assert_eq!(bob.next_of("message").await["message"], "still here");
    ann.close().await;
    expect_out(&mut bob, &log, "closed by the client").await;
    bob.close().await;
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn the_token_of_the_connection_counts_after_a_move() {
    let log = EventLog::default();
    a_token_expires_on_the_new_node(nodes(&log), log).await;
    let log = EventLog::default();
    a_lost_connection_is_kept_until_the_token_expires(nodes(&log), log).await;
    let log = EventLog::default();
    the_token_of_the_old_node_does_not_count(nodes(&log), log).await;
}
