//! Users: when they are online, and what the host does with all of their connections.

use std::time::Duration;

use serde_json::json;
use tower_chat_rooms::{
    Admission, ChatRooms, ChatRoomsBuilder, Entered, Left, Limits, OnExpiry, Recovery, RoomEvents, SendError,
    Timeouts, User, UserOffline, UserOnline,
};

use crate::support::{
    Client, EventLog, RESUME_WINDOW, assert_empty, events_arrive, user_of, with_expiring_tokens,
};

const SECOND: Duration = Duration::from_secs(1);

/// Logs the callbacks: `online USER`, `offline USER`, `+ NAME ROOM`, `- NAME ROOM: REASON`, `ended`. Panics for some
/// users.
pub(crate) struct Recorder(pub(crate) EventLog);

impl RoomEvents for Recorder {
    fn entered(&self, event: &Entered) {
        self.0.push(format!("+ {} {}", event.name, event.room));
    }

    fn left(&self, event: &Left) {
        self.0.push(format!("- {} {}: {}", event.name, event.room, event.reason));
    }

    fn online(&self, event: &UserOnline) {
        self.0.push(format!("online {}", event.user.id()));
        assert_ne!(event.user.id(), "panics online", "on purpose");
    }

    fn offline(&self, event: &UserOffline) {
        self.0.push(format!("offline {}", event.user.id()));
        assert_ne!(event.user.id(), "panics offline", "on purpose");
    }

    fn ended(&self) {
        self.0.push("ended".into());
    }
}

/// Chat rooms that keep sessions, and accept the name of a user as its token.
pub(crate) fn builder(log: &EventLog) -> ChatRoomsBuilder {
    with_expiring_tokens()
        .recovery(Recovery::default().resume_window(RESUME_WINDOW))
        .timeouts(Timeouts::default().token_warning(Duration::ZERO))
        .events(Recorder(log.clone()))
}

pub(crate) fn rooms() -> (ChatRooms, EventLog) {
    let log = EventLog::default();
    (builder(&log).build().unwrap(), log)
}

/// Connects as a user without entering a room. Returns the resume token too.
pub(crate) async fn connect(rooms: &ChatRooms, user: &str) -> (Client, String) {
    let (client, welcome) = Client::connect_v1(rooms, Admission::user(user_of(user))).await;
    events_arrive().await;
    (client, welcome["resume"].as_str().unwrap().into())
}

/// Connects as a user and enters a room.
pub(crate) async fn enter(rooms: &ChatRooms, user: &str, room: &str) -> (Client, String) {
    let (mut client, token) = connect(rooms, user).await;
    client.send(json!({"event": "enter", "message": user, "roomId": room})).await;
    for event in ["entered", "enter"] {
        assert_eq!(client.next().await["event"], event);
    }
    (client, token)
}

/// Connects as a user and resumes the session of this token. Returns the session's member id and the new token.
pub(crate) async fn resume(rooms: &ChatRooms, user: &str, token: &str) -> (Client, String, String) {
    let (mut client, next) = connect(rooms, user).await;
    client.send(json!({"event": "resume", "message": [token]})).await;
    let resumed = client.next().await;
    assert_eq!(resumed["event"], "resumed");
    (client, resumed["member"].as_str().unwrap_or("none").into(), next)
}

#[tokio::test(start_paused = true)]
async fn a_user_is_online_from_its_first_session_to_its_last() {
    let (rooms, log) = rooms();
    assert!(!rooms.is_online("u"));
    let (first, _) = enter(&rooms, "u", "r").await;
    let (mut second, _) = connect(&rooms, "u").await;
    let third = Client::connect_as(&rooms, Admission::user(User::new("u")), 4096).await;
    let (other, _) = enter(&rooms, "other", "s").await;
    let anonymous = Client::enter(&rooms, "anonymous", "s").await;
    assert_eq!(log.take(), ["online u", "+ u r", "online other", "+ other s", "+ anonymous s"]);
    assert!(rooms.is_online("u") && rooms.is_online("other") && !rooms.is_online("anonymous"));
    let sessions = rooms.sessions_of("u");
    assert_eq!(sessions.len(), 3);
    assert!(sessions.is_sorted());
    assert_eq!(rooms.sessions_of("other"), [rooms.members("s")[0].connection]);
    first.close().await;
    third.disconnect().await;
    assert_eq!(
        (rooms.sessions_of("u"), log.take()),
        (vec![sessions[1]], vec![r"- u r: closed by the client".into()])
    );
    rooms.send_to(sessions[1], &json!({"event": "hint"})).unwrap();
    assert_eq!(second.next().await["event"], "hint");
    second.close().await;
    assert!(!rooms.is_online("u") && rooms.sessions_of("u").is_empty());
    assert_eq!(log.take(), ["offline u"]);
    for client in [other, anonymous] {
        client.close().await;
    }
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_to_a_user_reaches_its_open_connections() {
    let (rooms, _) = rooms();
    let (mut first, token) = enter(&rooms, "u", "r").await;
    let (mut second, _) = connect(&rooms, "u").await;
    let (mut other, _) = enter(&rooms, "other", "s").await;
    let frame = json!({"event": "direct", "message": "hi"});
    assert_eq!(rooms.send_to_user("u", &frame).unwrap(), 2);
    let numbered = |n: u64| json!({"event": "direct", "message": "hi", "direct": n});
    for client in [&mut first, &mut second] {
        assert_eq!(client.next().await, numbered(1));
    }
    first.disconnect().await;
    assert_eq!(rooms.send_to_user("u", &frame).unwrap(), 1);
    assert_eq!(second.next().await, numbered(2));
    second.close().await;
    // The session is kept, but nobody would read it.
    assert!(rooms.is_online("u"));
    assert_eq!(rooms.send_to_user("u", &frame).unwrap(), 0);
    assert_eq!(rooms.send_to_user("nobody", &frame).unwrap(), 0);
    let (mut first, _, _) = resume(&rooms, "u", &token).await;
    // The client has not said which frames it has had, so it gets all of them.
    for n in 1..=3 {
        assert_eq!(first.next().await, numbered(n));
    }
    assert_eq!(rooms.send_to_user("u", &frame).unwrap(), 1);
    assert_eq!(first.next().await, numbered(4));
    assert!(matches!(rooms.send_to_user("u", &json!({})), Err(SendError::NoEvent)));
    assert!(matches!(rooms.send_to_user("nobody", &json!([1])), Err(SendError::NotAnObject)));
    let long = json!({"event": "direct", "message": "x".repeat(2 << 20)});
    assert!(matches!(rooms.send_to_user("u", &long), Err(SendError::TooBig)));
    other.round_trip_in("s").await;
}

impl Client {
    /// Sends a message and receives it. Nothing else may have been sent to the client before.
    pub(crate) async fn round_trip_in(&mut self, room: &str) {
        self.send(json!({"event": "message", "message": "round trip", "roomId": room})).await;
        assert_eq!(self.next().await["message"], "round trip");
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_counts_each_user_once_and_no_anonymous_member() {
    let (rooms, _) = rooms();
    let users = |rooms: &ChatRooms| {
        let mut all = rooms.rooms();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all.iter().map(|room| (room.id.to_string(), room.online, room.users)).collect::<Vec<_>>()
    };
    let (first, _) = enter(&rooms, "u", "r").await;
    let (second, _) = enter(&rooms, "u", "r").await;
    let (_third, _) = enter(&rooms, "u2", "r").await;
    let _anonymous = Client::enter(&rooms, "ann", "r").await;
    let _alone = Client::enter(&rooms, "bob", "s").await;
    assert_eq!(users(&rooms), [("r".into(), 4, 2), ("s".into(), 1, 0)]);
    first.close().await;
    assert_eq!(users(&rooms)[0], ("r".into(), 3, 2));
    // It stays a member while its session is kept.
    second.disconnect().await;
    assert_eq!(users(&rooms)[0], ("r".into(), 3, 2));
    tokio::time::sleep(RESUME_WINDOW + SECOND).await;
    assert_eq!(users(&rooms)[0], ("r".into(), 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_authenticates_over_its_connection_is_online_from_then_on() {
    let (rooms, log) = rooms();
    let (mut pending, _) = Client::connect_v1(&rooms, Admission::pending_auth()).await;
    pending.send_token("wrong").await;
    assert_eq!(pending.next().await["event"], "noAuth");
    assert!(!rooms.is_online("u") && log.take().is_empty());
    pending.authenticate("u").await;
    events_arrive().await;
    assert_eq!((rooms.is_online("u"), log.take()), (true, vec!["online u".to_owned()]));
    // A new token is not a new session.
    pending.authenticate("u").await;
    // A member that was anonymous when it entered.
    let mut anonymous = Client::enter(&rooms, "ann", "r").await;
    anonymous.send_token("w").await;
    anonymous.round_trip_in("r").await;
    assert_eq!(log.take(), ["+ ann r", "online w"]);
    anonymous.close().await;
    pending.close().await;
    assert_eq!(log.take(), ["- ann r: closed by the client", "offline w", "offline u"]);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_user_that_resumes_in_time_stays_online() {
    for room in [None, Some("r")] {
        let (rooms, log) = rooms();
        let (mut client, mut token) = match room {
            None => connect(&rooms, "u").await,
            Some(room) => enter(&rooms, "u", room).await,
        };
        let sessions = rooms.sessions_of("u");
        let member = sessions[0].to_string();
        log.take();
        for _ in 0..3 {
            client.disconnect().await;
            tokio::time::sleep(RESUME_WINDOW - SECOND).await;
            assert!(rooms.is_online("u"));
            assert_eq!((rooms.sessions_of("u"), rooms.stats().absent), (sessions.clone(), 1));
            let id;
            (client, id, token) = resume(&rooms, "u", &token).await;
            assert_eq!((&id, rooms.sessions_of("u")), (&member, sessions.clone()));
        }
        // The old connection is still open for the server.
        let old = client;
        let (client, id, _) = resume(&rooms, "u", &token).await;
        assert_eq!((id, rooms.sessions_of("u").len()), (member, 1));
        old.disconnect().await;
        assert_eq!(log.take(), [""; 0], "{room:?}");
        client.disconnect().await;
        tokio::time::sleep(RESUME_WINDOW + SECOND).await;
        let left = room.map(|_| "- u r: connection lost".to_owned());
        assert_eq!(log.take(), left.into_iter().chain(["offline u".into()]).collect::<Vec<_>>());
        assert_empty(&rooms);
    }
}

/// A client that has lost its tokens, such as a page that was loaded anew.
#[tokio::test(start_paused = true)]
async fn a_user_that_connects_anew_within_the_resume_window_stays_online() {
    let (rooms, log) = rooms();
    let (old, _) = enter(&rooms, "u", "r").await;
    old.disconnect().await;
    let (new, _) = enter(&rooms, "u", "r").await;
    tokio::time::sleep(RESUME_WINDOW + SECOND).await;
    assert_eq!(log.take(), ["online u", "+ u r", "+ u r", "- u r: connection lost"]);
    new.close().await;
    assert_eq!(log.take(), ["- u r: closed by the client", "offline u"]);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_session_in_no_room_is_kept_only_for_a_user_whose_connection_is_lost() {
    let (rooms, log) = rooms();
    let (first, _) = connect(&rooms, "u").await;
    first.close_with(1000).await;
    assert_eq!(log.take(), ["online u", "offline u"]);
    // It need not enter a room: the host can reach it as a user.
    let (second, token) = connect(&rooms, "u").await;
    second.disconnect().await;
    let (mut second, _, _) = resume(&rooms, "u", &token).await;
    assert_eq!(rooms.stats().pending, 0);
    for _ in 0..30 {
        tokio::time::sleep(SECOND).await;
        second.answer_heartbeats().await;
    }
    assert_eq!(rooms.send_to_user("u", &json!({"event": "x"})).unwrap(), 1);
    second.close_with(1000).await;
    assert_eq!(log.take(), ["online u", "offline u"]);
    let (anonymous, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    anonymous.disconnect().await;
    let plain = Client::connect_as(&rooms, Admission::user(User::new("u")), 4096).await;
    plain.disconnect().await;
    assert_eq!(log.take(), ["online u", "offline u"]);
    assert_empty(&rooms);
}

/// Only the same user gets the session.
#[tokio::test(start_paused = true)]
async fn a_session_in_no_room_is_resumed_only_by_its_user() {
    let (rooms, log) = rooms();
    let (first, token) = connect(&rooms, "u").await;
    first.disconnect().await;
    let (other, member, _) = resume(&rooms, "other", &token).await;
    assert_eq!((&*member, rooms.sessions_of("u").len()), ("none", 1));
    other.close().await;
    tokio::time::sleep(RESUME_WINDOW + SECOND).await;
    assert_eq!(log.take(), ["online u", "online other", "offline other", "offline u"]);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_room_is_closed_while_it_is_away_stays_online() {
    let (rooms, log) = rooms();
    let (client, token) = enter(&rooms, "u", "r").await;
    client.disconnect().await;
    assert_eq!(rooms.close_room("r"), 1);
    assert_eq!(log.take(), ["online u", "+ u r", "- u r: room closed"]);
    let (client, member, _) = resume(&rooms, "u", &token).await;
    assert_eq!(member, rooms.sessions_of("u")[0].to_string());
    client.close().await;
    assert_eq!(log.take(), ["offline u"]);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_kept_session_ends_with_the_authentication_of_its_user() {
    let log = EventLog::default();
    let rooms = builder(&log).on_expiry(OnExpiry::WaitForAuth).build().unwrap();
    let (client, _) = connect(&rooms, "u:5").await;
    client.disconnect().await;
    tokio::time::sleep(SECOND * 4).await;
    assert!(rooms.is_online("u"));
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(log.take(), ["online u", "offline u"]);
    // One that waits for a new token when its connection is lost is not kept any longer.
    let (mut client, _) = enter(&rooms, "u:5", "r").await;
    for event in ["left", "noAuth"] {
        assert_eq!(client.next().await["event"], event);
    }
    assert!(!rooms.is_online("u"));
    client.disconnect().await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(log.take(), ["online u", "+ u:5 r", "- u:5 r: authentication expired", "offline u"]);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_token_has_expired_gets_nothing_that_is_for_its_user() {
    let log = EventLog::default();
    let rooms = builder(&log).on_expiry(OnExpiry::WaitForAuth).build().unwrap();
    let direct = json!({"event": "direct"});
    let (mut client, token) = connect(&rooms, "u:5").await;
    assert_eq!(rooms.send_to_user("u", &direct).unwrap(), 1);
    for event in ["direct", "noAuth"] {
        assert_eq!(client.next().await["event"], event);
    }
    assert_eq!((rooms.send_to_user("u", &direct).unwrap(), rooms.is_online("u")), (0, false));
    assert!(rooms.sessions_of("u").is_empty());
    events_arrive().await;
    assert_eq!(log.take(), ["online u", "offline u"]);
    client.authenticate("u:5").await;
    assert_eq!((rooms.send_to_user("u", &direct).unwrap(), rooms.is_online("u")), (1, true));
    for event in ["direct", "noAuth"] {
        assert_eq!(client.next().await["event"], event);
    }
    // It is resumed by another connection of the user.
    let (other, ..) = resume(&rooms, "u", &token).await;
    assert_eq!(client.close_code().await, 4503);
    assert_eq!(rooms.sessions_of("u").len(), 1);
    other.close().await;
    assert_eq!(log.take(), ["online u", "offline u", "online u", "offline u"]);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn no_more_sessions_in_no_room_are_kept_than_connections_are_allowed() {
    let log = EventLog::default();
    let limits = Limits::default().max_connections_per_ip(2);
    let rooms = builder(&log).limits(limits).build().unwrap();
    for user in ["u1", "u2", "u3"] {
        let admission = Admission::user(User::new(user)).with_protocol("chat-rooms.v1".parse().unwrap());
        let mut client = Client::connect_from(&rooms, admission, "192.0.2.1:1".parse().unwrap()).await;
        assert_eq!(client.next().await["event"], "welcome");
        client.disconnect().await;
    }
    events_arrive().await;
    assert_eq!(log.take(), ["online u1", "online u2", "online u3", "offline u3"]);
    assert_eq!(rooms.stats().absent, 2);
    rooms.shutdown().await;
    assert_eq!(log.take().last().unwrap(), "ended");
    assert_empty(&rooms);
}
