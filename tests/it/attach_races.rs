//! Attach races: a session is resumed while something else happens to it. The tests choose the order of events with
//! connections whose server side they poll themselves.

use std::sync::{Arc, Mutex};
use std::task::Poll;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, ConnectionId, Denied, Limits, RoomEvent, User};

use crate::support::{
    Client, EventLog, Next, SteppedConnection, assert_empty, enter_frame, events_arrive, has_shared_broker,
    recovering, recovering_rooms, removed_frame, resume_frame, run_other_tasks,
};

fn enter() -> Value {
    enter_frame("ann", "r")
}

/// A member of the room "r" whose server side the test polls.
async fn stepped_member(rooms: &ChatRooms) -> SteppedConnection {
    let mut connection = SteppedConnection::connect(rooms).await;
    connection.send(enter()).await;
    if has_shared_broker() {
        connection.run().await;
    }
    assert_eq!(connection.next().await["event"], "entered");
    connection
}

/// Connects, and sends a resume with these tokens and an enter for the room "r".
async fn resume(rooms: &ChatRooms, resume_tokens: &[&Value]) -> Client {
    let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.send_at_once([resume_frame(resume_tokens.iter().copied()), enter()]).await;
    run_other_tasks().await;
    client
}

/// Whether the client's enter of the room "r" has continued its membership, according to the next two frames.
async fn is_back(client: &mut Client) -> bool {
    client.next_return(&json!("r")).await["resumed"].as_bool().unwrap()
}

/// A member of the room "r" that is disconnected. Returns its resume token.
async fn disconnected_member(rooms: &ChatRooms) -> Value {
    let (mut client, welcome) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.send(enter()).await;
    assert_eq!(client.next().await["event"], "entered");
    client.disconnect().await;
    welcome["resume"].clone()
}

fn first_member(rooms: &ChatRooms) -> ConnectionId {
    rooms.members("r")[0].connection
}

/// A kick used to reach the replaced connection, and to be lost with it.
#[tokio::test(start_paused = true)]
async fn a_kick_or_a_closed_room_reaches_the_new_connection() {
    type Action = fn(&ChatRooms);
    let closed = removed_frame("r", "room_closed", "the room was closed");
    let actions: [(Action, Next, &str); 2] = [
        (|rooms| assert!(rooms.kick(first_member(rooms))), Next::Closed(4500), "- ann r 0 kicked"),
        (|rooms| assert_eq!(rooms.close_room("r"), 1), Next::Frame(closed), "- ann r 0 room closed"),
    ];
    for (action, next, line) in actions {
        let (rooms, log) = recovering_rooms();
        let mut old = stepped_member(&rooms).await;
        let mut new = resume(&rooms, &[&old.resume_token]).await;
        action(&rooms);
        old.step().await;
        run_other_tasks().await;
        assert_eq!(log.take(), ["+ ann r 1", line]);
        assert!(is_back(&mut new).await, "{line}");
        assert_eq!(new.next_or_close().await, next);
        drop((old, new));
    }
}

#[tokio::test(start_paused = true)]
async fn a_kick_before_the_answer_ends_the_membership() {
    let (rooms, log) = recovering_rooms();
    let token = disconnected_member(&rooms).await;
    let mut new = SteppedConnection::connect(&rooms).await;
    new.send(resume_frame([&token])).await;
    run_other_tasks().await;
    assert!(rooms.kick(first_member(&rooms)));
    new.step().await;
    events_arrive().await;
    assert_eq!(log.take(), ["+ ann r 1", "- ann r 0 kicked"]);
    drop(new);
    assert_empty(&rooms);
}

/// The room is closed before the other connection of the same client has ended.
#[tokio::test(start_paused = true)]
async fn a_room_that_closes_during_a_resume_ends_the_membership() {
    let (rooms, log) = recovering_rooms();
    let token = disconnected_member(&rooms).await;
    let mut other = SteppedConnection::connect(&rooms).await;
    let mut new = resume(&rooms, &[&token, &other.resume_token]).await;
    assert_eq!(rooms.stats().resumed, 1);
    assert_eq!(rooms.close_room("r"), 1);
    other.step().await;
    assert!(is_back(&mut new).await);
    assert_eq!(new.next().await, removed_frame("r", "room_closed", "the room was closed"));
    drop((new, other));
    run_other_tasks().await;
    assert_eq!(log.take(), ["+ ann r 1", "- ann r 0 room closed"]);
    assert_empty(&rooms);
}

/// The token of a connection that was resumed while it was itself resuming used to become valid again.
#[tokio::test(start_paused = true)]
async fn a_resume_token_works_once_in_a_chain_of_resumes() {
    let (rooms, log) = recovering_rooms();
    let mut first = stepped_member(&rooms).await;
    let mut second = SteppedConnection::connect(&rooms).await;
    second.send(resume_frame([&first.resume_token])).await;
    if has_shared_broker() {
        // The server asks the broker before it resumes the session. Only then is the token of `second` the session's.
        second.run().await;
    }
    second.send(enter()).await;
    let mut third = resume(&rooms, &[&second.resume_token]).await;
    first.step().await;
    run_other_tasks().await;
    second.step().await;
    run_other_tasks().await;
    assert!(is_back(&mut third).await);
    let mut thief = resume(&rooms, &[&second.resume_token]).await;
    assert!(!is_back(&mut thief).await);
    assert_eq!(third.next().await["event"], "enter", "the thief enters as a new member");
    assert_eq!(log.take(), ["+ ann r 1", "+ ann r 2"]);
}

/// An authentication that was accepted after the session had been resumed used to give the session to the user, and
/// to make the used token valid again.
#[tokio::test(start_paused = true)]
async fn an_authentication_on_a_replaced_connection_does_not_change_the_session() {
    let rooms = recovering(&EventLog::default())
        .auth(|token: String| {
            // Answers when it is polled for the second time.
            let mut polled = false;
            std::future::poll_fn(move |_| match std::mem::replace(&mut polled, true) {
                true => Poll::Ready(Ok::<_, Denied>(User::new(token.clone()))),
                false => Poll::Pending,
            })
        })
        .build()
        .unwrap();
    let mut old = stepped_member(&rooms).await;
    old.send(json!({"event": "auth", "message": "u-1"})).await;
    let mut new = resume(&rooms, &[&old.resume_token]).await;
    old.step().await;
    run_other_tasks().await;
    assert!(is_back(&mut new).await);
    let (mut user, _) = Client::connect_v1(&rooms, Admission::user(User::new("u-1"))).await;
    assert_eq!(user.resume_and_enter([&old.resume_token], enter()).await["resumed"], false);
    user.close().await;
    new.close().await;
    drop(old);
    assert_empty(&rooms);
}

/// A session whose token was offered, but which was not resumed, used to be kept for the rest of its resume window,
/// and before that for another one.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_resumed_is_not_kept() {
    let (rooms, log) = recovering_rooms();
    let (one, other) = (disconnected_member(&rooms).await, disconnected_member(&rooms).await);
    let mut new = resume(&rooms, &[&one, &other]).await;
    let entered = new.next_return(&json!("r")).await;
    assert_eq!(entered["resumed"], true);
    // With a broker, the other session leaves a moment later.
    if !has_shared_broker() {
        assert_eq!(entered["num"], 1);
    }
    assert_eq!(rooms.stats().absent, 0);
    assert_eq!(log.take(), ["+ ann r 1", "+ ann r 2", "- ann r 1 replaced by another connection"]);
}

#[tokio::test(start_paused = true)]
async fn a_resumed_session_has_the_user_that_authenticated_last() {
    let versions = Arc::new(Mutex::new(Vec::new()));
    let hook = versions.clone();
    let rooms = recovering(&EventLog::default())
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Left(left) = event {
                hook.lock().unwrap().extend(left.user.as_ref().and_then(|user| user.get::<u8>().copied()));
            }
        })
        .build()
        .unwrap();
    let admission = |version: u8| Admission::user(User::new("u-1").with(version));
    let (ann, welcome) = Client::enter_v1(&rooms, admission(1)).await;
    ann.disconnect().await;
    let (mut ann, _) = Client::connect_v1(&rooms, admission(2)).await;
    assert_eq!(ann.resume_and_enter([&welcome["resume"]], enter()).await["resumed"], true);
    let user = rooms.members("r")[0].user.clone().unwrap();
    assert_eq!(user.get::<u8>(), Some(&2));
    ann.close().await;
    assert_eq!(*versions.lock().unwrap(), [2]);
}

#[tokio::test(start_paused = true)]
async fn another_user_with_the_resume_token_does_not_disturb_the_session() {
    let (rooms, _) = recovering_rooms();
    let mut ann = stepped_member(&rooms).await;
    let (mut eve, _) = Client::connect_v1(&rooms, Admission::user(User::new("eve"))).await;
    assert_eq!(eve.resume_and_enter([&ann.resume_token], enter()).await["resumed"], false);
    ann.step().await;
    assert_eq!(ann.next().await["event"], "enter", "its own");
    ann.send(json!({"event": "still here"})).await;
    ann.run().await;
    assert_eq!(ann.next().await["event"], "enter", "eve's");
    assert_eq!(ann.next().await["event"], "still here");
}

#[tokio::test(start_paused = true)]
async fn as_many_sessions_are_kept_as_connections_are_allowed() {
    let rooms =
        recovering(&EventLog::default()).limits(Limits::default().max_connections(2)).build().unwrap();
    for absent in [1, 2, 2] {
        disconnected_member(&rooms).await;
        assert_eq!((rooms.stats().absent, rooms.members("r").len()), (absent, absent));
    }
}
