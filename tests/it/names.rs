//! Names and room ids, and unique names.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, ChatRoomsBuilder, Denied, Limits, Recovery, UniqueNames, User};

use crate::support::{Client, EventLog, assert_empty, builder, default_rooms, enter_frame};

async fn enter(client: &mut Client, name: &str, room: &str) -> Value {
    client.send(enter_frame(name, room)).await;
    client.next().await
}

async fn connect(rooms: &ChatRooms, user: Option<&str>) -> Client {
    let admission = user.map_or(Admission::anonymous(), |id| Admission::user(User::new(id)));
    Client::connect_as(rooms, admission, 64 * 1024).await
}

/// A client that has entered the room "r".
async fn member(rooms: &ChatRooms, name: &str, user: Option<&str>) -> Client {
    let mut client = connect(rooms, user).await;
    assert_eq!(enter(&mut client, name, "r").await["event"], "enter");
    client
}

fn unique() -> ChatRoomsBuilder {
    builder().unique_names(UniqueNames::Exact)
}

#[tokio::test(start_paused = true)]
async fn invalid_names_are_refused_with_the_reason() {
    let rooms = default_rooms();
    let mut ann = Client::connect(&rooms).await;
    let long = ["x".repeat(65), "x".repeat(129), "小".repeat(43)];
    for (text, why) in [
        ("a\u{202e}nna", "U+202E, which changes the direction of the text"),
        ("ann\u{200b}", "U+200B, which is invisible there"),
        ("ann\u{2028}", "U+2028"),
        ("a\tb", "the control character U+0009"),
        ("   ", "white space"),
        ("\u{feff}ann", "U+FEFF"),
        ("🏴\u{e0067}", "U+E0067"),
        (&long[0], "has 65 characters, at most 64"),
        (&long[1], "has 129 bytes, at most 128"),
        (&long[2], "has 129 bytes, at most 128"),
    ] {
        let answer = enter(&mut ann, text, "r").await;
        assert_eq!(answer["code"], "bad_name", "{text:?}");
        assert!(answer["message"].as_str().unwrap().contains(why), "{answer}");
        // A room id is checked in the same way, but may have more characters.
        if text.len() != 65 {
            let answer = enter(&mut ann, "ann", text).await;
            assert_eq!(answer["code"], "bad_room_id", "{text:?}");
            assert!(answer["message"].as_str().unwrap().contains(why), "{answer}");
        }
    }
    assert_eq!(enter(&mut ann, "", "r").await["code"], "bad_name");
    assert_eq!(enter(&mut ann, "ann", "").await["num"], 1);
    assert_eq!(enter(&mut ann, "علی\u{200c}رضا 👩\u{200d}💻", "r").await["num"], 1);
    // Invalid names do not count as malformed frames: the connection is still open.
    assert_eq!(rooms.stats().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn characters_are_limited_as_bytes_are() {
    let rooms = builder().limits(Limits::default().max_name_chars(3).max_room_id_chars(2)).build().unwrap();
    let mut ann = Client::connect(&rooms).await;
    let answer = enter(&mut ann, "小明小明", "r").await;
    assert!(answer["message"].as_str().unwrap().contains("4 characters, at most 3"), "{answer}");
    let answer = enter(&mut ann, "ann", "abc").await;
    assert!(answer["message"].as_str().unwrap().contains("3 characters, at most 2"), "{answer}");
    assert_eq!(enter(&mut ann, "小明小", "小明").await["num"], 1);
    assert!(
        builder()
            .limits(Limits::default().max_name_chars(0))
            .build()
            .unwrap_err()
            .to_string()
            .contains("max_name_chars")
    );
}

#[tokio::test(start_paused = true)]
async fn by_default_names_may_be_shared() {
    let rooms = default_rooms();
    let _ann = member(&rooms, "ann", None).await;
    let _other = member(&rooms, "ann", None).await;
    assert_eq!(rooms.members("r").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_unique_name_occurs_once() {
    let rooms = unique().build().unwrap();
    let mut ann = member(&rooms, "ann", None).await;
    let mut eve = connect(&rooms, None).await;
    let taken = enter(&mut eve, "ann", "r").await;
    assert_eq!((taken["event"].as_str(), taken["code"].as_str()), (Some("error"), Some("name_taken")));
    assert_eq!(rooms.members("r").len(), 1);
    // It is free in another room, but one cannot move with it: the connection stays where it is.
    assert_eq!(enter(&mut eve, "ann", "s").await["num"], 1);
    assert_eq!(enter(&mut eve, "ann", "r").await["code"], "name_taken");
    assert_eq!(rooms.members("s").len(), 1);
    assert_eq!(enter(&mut eve, "Ann", "r").await["num"], 2);
    assert_eq!(ann.next().await["name"], "Ann");
    // One cannot change to it either.
    assert_eq!(enter(&mut eve, "ann", "r").await["code"], "name_taken");
    // A member can enter with its own name again, and change it, which makes it free.
    assert_eq!(enter(&mut ann, "ann", "r").await["event"], "enter");
    assert_eq!(enter(&mut ann, "bob", "r").await["name"], "bob");
    for event in ["out", "enter"] {
        assert_eq!(eve.next().await["event"], event);
    }
    assert_eq!(enter(&mut eve, "ann", "r").await["name"], "ann");
    // Leaving makes it free.
    eve.close().await;
    let mut carol = member(&rooms, "ann", None).await;
    assert_eq!(enter(&mut carol, "ann", "t").await["num"], 1);
    let dan = member(&rooms, "ann", None).await;
    dan.disconnect().await;
    carol.close().await;
    ann.close().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn names_can_be_unique_in_any_case() {
    let rooms = builder().unique_names(UniqueNames::AnyCase).build().unwrap();
    let mut ann = member(&rooms, "Straße", None).await;
    let mut eve = connect(&rooms, None).await;
    assert_eq!(enter(&mut eve, "STRASSE", "r").await["code"], "name_taken");
    // A member can change the case of its own name.
    assert_eq!(enter(&mut ann, "STRASSE", "r").await["name"], "STRASSE");
    assert_eq!(enter(&mut eve, "Straße", "r").await["code"], "name_taken");
}

#[tokio::test(start_paused = true)]
async fn only_the_connections_of_one_user_share_a_name() {
    let rooms = unique().build().unwrap();
    let first = member(&rooms, "ann", Some("u1")).await;
    let second = member(&rooms, "ann", Some("u1")).await;
    for other in [Some("u2"), None] {
        let mut eve = connect(&rooms, other).await;
        assert_eq!(enter(&mut eve, "ann", "r").await["code"], "name_taken");
    }
    first.disconnect().await;
    let mut eve = connect(&rooms, None).await;
    assert_eq!(enter(&mut eve, "ann", "r").await["code"], "name_taken");
    second.disconnect().await;
    assert_eq!(enter(&mut eve, "ann", "r").await["num"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_kept_session_keeps_its_name() {
    let log = EventLog::default();
    let rooms = unique()
        .recovery(Recovery::default().resume_window(Duration::from_secs(20)))
        .events(log.hook())
        .build()
        .unwrap();
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    assert_eq!(enter(&mut ann, "ann", "r").await["event"], "entered");
    ann.disconnect().await;
    let mut eve = connect(&rooms, None).await;
    assert_eq!(enter(&mut eve, "ann", "r").await["code"], "name_taken");
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    let entered = ann.resume_and_enter([&welcome["resume"]], enter_frame("ann", "r")).await;
    assert_eq!(entered["resumed"], true);
    assert_eq!(enter(&mut eve, "ann", "r").await["code"], "name_taken");
    ann.disconnect().await;
    assert_eq!(enter(&mut eve, "eve", "r").await["num"], 2);
    // The resume window is over.
    assert_eq!(eve.next().await["event"], "out");
    assert_eq!(enter(&mut eve, "ann", "r").await["name"], "ann");
}

/// The tutorial's page sends names as typed and compares them literally.
#[tokio::test(start_paused = true)]
async fn names_keep_white_space_at_their_ends() {
    let rooms = default_rooms();
    let mut ann = connect(&rooms, None).await;
    let entered = enter(&mut ann, " ann  ", "r").await;
    assert_eq!((&entered["message"], &entered["name"]), (&json!(" ann  "), &json!(" ann  ")));
    assert_eq!(rooms.members("r")[0].name.as_str(), " ann  ");
    ann.send(json!({"event": "message", "message": "hi"})).await;
    assert_eq!(ann.next().await["name"], " ann  ");
    let mut bob = connect(&rooms, None).await;
    assert_eq!(enter(&mut bob, "ann", "r").await["num"], 2);
    assert_eq!(ann.next().await["name"], "ann");
    ann.close().await;
    assert_eq!(bob.next().await, json!({"event": "out", "name": " ann  ", "num": 1}));
}

#[tokio::test(start_paused = true)]
async fn unique_names_are_compared_without_white_space_at_their_ends() {
    for unique in [UniqueNames::Exact, UniqueNames::AnyCase] {
        let rooms = builder().unique_names(unique).build().unwrap();
        let ann = member(&rooms, "ann ", None).await;
        let mut eve = connect(&rooms, None).await;
        for name in ["ann", " ann", "\u{3000}ann\u{a0}", "\u{2800}ann"] {
            assert_eq!(enter(&mut eve, name, "r").await["code"], "name_taken", "{name:?}");
        }
        assert_eq!(enter(&mut eve, "a nn", "r").await["num"], 2);
        ann.close().await;
        assert_eq!(eve.next().await["name"], "ann ");
        assert_eq!(enter(&mut eve, "ann", "r").await["name"], "ann");
    }
}

#[tokio::test(start_paused = true)]
async fn flags_of_subdivisions_can_be_in_names() {
    let rooms = default_rooms();
    for tags in ["gbeng", "gbsct", "gbwls"] {
        let tags = tags.chars().map(|c| char::from_u32(0xe0000 + u32::from(c)).unwrap());
        let flag: String = std::iter::once('🏴').chain(tags).chain(['\u{e007f}']).collect();
        let mut ann = connect(&rooms, None).await;
        assert_eq!(enter(&mut ann, &format!("ann {flag}"), &flag).await["num"], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_takes_its_name_from_an_anonymous_member() {
    let log = EventLog::default();
    let rooms = builder().unique_names(UniqueNames::AnyCase).events(log.hook()).build().unwrap();
    let (mut eve, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    assert_eq!(enter(&mut eve, "ANN", "r").await["event"], "entered");
    assert_eq!(eve.next().await["event"], "enter");
    let ann = || Admission::user(User::new("u-1").with_name("Ann"));
    let mut first = Client::connect_as(&rooms, ann(), 64 * 1024).await;
    assert_eq!(enter(&mut first, "whatever", "r").await["name"], "Ann");
    let put_out = eve.next().await;
    assert_eq!(
        (&put_out["event"], &put_out["code"], &put_out["roomId"]),
        (&json!("left"), &json!("name_taken"), &json!("r"))
    );
    // Its connection stays open, and can enter under another name.
    assert_eq!(enter(&mut eve, "Ann", "r").await["code"], "name_taken");
    assert_eq!(enter(&mut eve, "Eve", "r").await["event"], "entered");
    // Another connection of the same user shares the name. Another user does not get it.
    let mut second = Client::connect_as(&rooms, ann(), 64 * 1024).await;
    assert_eq!(enter(&mut second, "", "r").await["name"], "Ann");
    let admission = Admission::user(User::new("u-2").with_name("ann"));
    let mut other = Client::connect_as(&rooms, admission, 64 * 1024).await;
    assert_eq!(enter(&mut other, "", "r").await["code"], "name_taken");
    assert_eq!(log.take()[..3], ["+ ANN r 1", "- ANN r 0 name taken by its user", "+ Ann r 1"]);
}

/// Accepts names of users as their tokens.
async fn on_token(token: String) -> Result<User, Denied> {
    Ok(User::new(token.clone()).with_name(token))
}

#[tokio::test(start_paused = true)]
async fn a_user_takes_its_name_from_another_user_that_has_another_name_of_its_own() {
    let rooms = unique().auth(on_token).build().unwrap();
    let (mut eve, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    eve.enter_another("admin", "r").await;
    eve.authenticate("eve").await;
    let user = User::new("admin").with_name("admin");
    let (mut admin, _) = Client::connect_v1(&rooms, Admission::user(user)).await;
    assert_eq!(enter(&mut admin, "admin", "r").await["event"], "entered");
    assert_eq!(eve.next().await["user"], "eve");
    let put_out = eve.next().await;
    assert_eq!((&put_out["event"], &put_out["code"]), (&json!("left"), &json!("name_taken")));
    assert_eq!(enter(&mut eve, "admin", "r").await["name"], "eve");
}

/// Such a client used to be in the room with the empty id, without knowing.
#[tokio::test(start_paused = true)]
async fn an_enter_with_room_instead_of_room_id_is_refused_with_a_hint() {
    let rooms = default_rooms();
    let mut ann = Client::connect(&rooms).await;
    for key in ["room", "room_id"] {
        ann.send(json!({"event": "enter", "message": "ann", key: "lobby"})).await;
        let error = ann.next().await;
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!("bad_room_id"), &json!("the room id is missing: its key is \"roomId\", not \"room\""))
        );
    }
    // With a `roomId`, it is a key of the application.
    ann.send(json!({"event": "enter", "message": "ann", "roomId": "r", "room": {"color": "red"}})).await;
    assert_eq!(ann.next().await["room"]["color"], "red");
    ann.send(json!({"event": "enter", "message": "ann"})).await;
    assert_eq!(ann.next().await["num"], 1);
    assert_eq!(rooms.members("").len(), 1);
    // The name has another key than in what the server sends.
    ann.send(json!({"event": "enter", "name": "ann", "roomId": "r"})).await;
    let error = ann.next().await;
    assert!(error["message"].as_str().unwrap().contains("\"message\":NAME"), "{error}");
}
