//! Attach races: a session is resumed while something else happens to it. The tests choose the order of events with
//! connections whose server side they poll themselves.

use std::sync::{Arc, Mutex};
use std::task::Poll;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, ConnectionId, Denied, Limits, RoomEvent, User};

use crate::support::{
    Client, EventLog, Next, SteppedConnection, assert_empty, recovering, recovering_rooms, run_other_tasks,
};

fn enter(room: &str, resume_tokens: &[&Value]) -> Value {
    json!({"event": "enter", "message": "ann", "roomId": room, "resume": resume_tokens})
}

/// A member of the room "r" whose server side the test polls.
async fn stepped_member(rooms: &ChatRooms) -> SteppedConnection {
    let mut connection = SteppedConnection::connect(rooms).await;
    connection.send(enter("r", &[])).await;
    assert_eq!(connection.next().await["event"], "entered");
    connection
}

/// Connects, and sends an enter for the room "r" with these resume tokens.
async fn resume(rooms: &ChatRooms, resume_tokens: &[&Value]) -> Client {
    let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.send(enter("r", resume_tokens)).await;
    run_other_tasks().await;
    client
}

/// A member of the room "r" that is disconnected. Returns its resume token.
async fn disconnected_member(rooms: &ChatRooms) -> Value {
    let (mut client, welcome) = Client::connect_v1(rooms, Admission::anonymous()).await;
    client.send(enter("r", &[])).await;
    assert_eq!(client.next().await["event"], "entered");
    client.disconnect().await;
    welcome["resume"].clone()
}

fn first_member(rooms: &ChatRooms) -> ConnectionId {
    rooms.members("r")[0].connection
}

/// A kick used to reach the replaced connection, and to be lost with it.
#[tokio::test(start_paused = true)]
async fn a_kick_or_a_closed_room_ends_the_new_connection() {
    type Action = fn(&ChatRooms);
    let actions: [(Action, u16, &str); 2] = [
        (|rooms| assert!(rooms.kick(first_member(rooms))), 4500, "- ann r 0 kicked"),
        (|rooms| assert_eq!(rooms.close_room("r"), 1), 4501, "- ann r 0 room closed"),
    ];
    for (action, code, line) in actions {
        let (rooms, log) = recovering_rooms();
        let mut old = stepped_member(&rooms).await;
        let mut new = resume(&rooms, &[&old.resume_token]).await;
        action(&rooms);
        old.step().await;
        run_other_tasks().await;
        assert_eq!(log.take(), ["+ ann r 1", line], "{code}");
        assert_eq!(new.next().await["resumed"], true, "{code}");
        assert_eq!(new.next_or_close().await, Next::Closed(code));
        drop((old, new));
    }
}

#[tokio::test(start_paused = true)]
async fn a_kick_before_the_answer_ends_the_membership() {
    let (rooms, log) = recovering_rooms();
    let token = disconnected_member(&rooms).await;
    let mut new = SteppedConnection::connect(&rooms).await;
    new.send(enter("r", &[&token])).await;
    run_other_tasks().await;
    assert!(rooms.kick(first_member(&rooms)));
    new.step().await;
    assert_eq!(log.take(), ["+ ann r 1", "- ann r 0 kicked"]);
    drop(new);
    assert_empty(&rooms);
}

/// The room is closed before the other connection of the same client has ended.
#[tokio::test(start_paused = true)]
async fn a_room_that_closes_during_a_resume_closes_the_connection() {
    let (rooms, log) = recovering_rooms();
    let token = disconnected_member(&rooms).await;
    let mut other = SteppedConnection::connect(&rooms).await;
    let mut new = resume(&rooms, &[&token, &other.resume_token]).await;
    assert_eq!(rooms.stats().resumed, 1);
    assert_eq!(rooms.close_room("r"), 1);
    other.step().await;
    assert_eq!(new.next().await["resumed"], true);
    assert_eq!(new.next_or_close().await, Next::Closed(4501));
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
    second.send(enter("r", &[&first.resume_token])).await;
    let mut third = resume(&rooms, &[&second.resume_token]).await;
    first.step().await;
    run_other_tasks().await;
    second.step().await;
    run_other_tasks().await;
    assert_eq!(third.next().await["resumed"], true);
    let mut thief = resume(&rooms, &[&second.resume_token]).await;
    assert_eq!(thief.next().await["resumed"], false);
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
    assert_eq!(new.next().await["resumed"], true);
    let (mut user, _) = Client::connect_v1(&rooms, Admission::user(User::new("u-1"))).await;
    user.send(enter("r", &[&old.resume_token])).await;
    assert_eq!(user.next().await["resumed"], false);
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
    let entered = new.next().await;
    assert_eq!((&entered["resumed"], &entered["num"]), (&json!(true), &json!(1)));
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
    ann.send(enter("r", &[&welcome["resume"]])).await;
    assert_eq!(ann.next().await["resumed"], true);
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
    eve.send(enter("r", &[&ann.resume_token])).await;
    assert_eq!(eve.next().await["resumed"], false);
    ann.step().await;
    assert_eq!(ann.next().await["event"], "enter", "its own");
    ann.send(json!({"event": "still here"})).await;
    run_other_tasks().await;
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
