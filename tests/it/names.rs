//! What may be a name and a room id, and whose a name is.

use std::time::Duration;

use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, ChatRoomsBuilder, Limits, Recovery, UniqueNames, User};

use crate::client::{Client, Log, assert_empty, default_rooms};

async fn enter(client: &mut Client, name: &str, room: &str) -> Value {
    client.say(json!({"event": "enter", "message": name, "roomId": room})).await;
    client.next().await
}

async fn connect(rooms: &ChatRooms, user: Option<&str>) -> Client {
    let admission = user.map_or(Admission::anonymous(), |id| Admission::user(User::new(id)));
    Client::connect_as(rooms, admission, 64 * 1024).await
}

/// Somebody who has entered the room "r".
async fn member(rooms: &ChatRooms, name: &str, user: Option<&str>) -> Client {
    let mut client = connect(rooms, user).await;
    assert_eq!(enter(&mut client, name, "r").await["event"], "enter");
    client
}

fn unique() -> ChatRoomsBuilder {
    ChatRooms::builder().unique_names(UniqueNames::Exact)
}

#[tokio::test(start_paused = true)]
async fn what_is_no_name_is_told_why() {
    let rooms = default_rooms();
    let mut ann = Client::connect(&rooms).await;
    let long = ["x".repeat(65), "x".repeat(129), "小".repeat(43)];
    for (text, why) in [
        ("a\u{202e}nna", "U+202E, which changes the direction of the text"),
        ("ann\u{200b}", "U+200B, which can't be seen there"),
        ("ann\u{2028}", "U+2028"),
        ("a\tb", "the control character U+0009"),
        ("ann ", "white space"),
        ("\u{feff}ann", "U+FEFF"),
        ("🏴\u{e0067}", "U+E0067"),
        (&long[0], "has 65 characters, at most 64"),
        (&long[1], "has 129 bytes, at most 128"),
        (&long[2], "has 129 bytes, at most 128"),
    ] {
        let answer = enter(&mut ann, text, "r").await;
        assert_eq!(answer["code"], "bad_name", "{text:?}");
        assert!(answer["message"].as_str().unwrap().contains(why), "{answer}");
        // A room id is checked in the same way, only that it may have more characters.
        if text.len() != 65 {
            let answer = enter(&mut ann, "ann", text).await;
            assert_eq!(answer["code"], "bad_room_id", "{text:?}");
            assert!(answer["message"].as_str().unwrap().contains(why), "{answer}");
        }
    }
    assert_eq!(enter(&mut ann, "", "r").await["code"], "bad_name");
    assert_eq!(enter(&mut ann, "ann", "").await["num"], 1);
    assert_eq!(enter(&mut ann, "علی\u{200c}رضا 👩\u{200d}💻", "r").await["num"], 1);
    // Malformed names are mistakes, not misbehaviour: it is still open.
    assert_eq!(rooms.stats().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn characters_are_bounded_as_bytes_are() {
    let rooms = ChatRooms::builder()
        .limits(Limits::default().max_name_chars(3).max_room_id_chars(2))
        .build()
        .unwrap();
    let mut ann = Client::connect(&rooms).await;
    let answer = enter(&mut ann, "小明小明", "r").await;
    assert!(answer["message"].as_str().unwrap().contains("4 characters, at most 3"), "{answer}");
    let answer = enter(&mut ann, "ann", "abc").await;
    assert!(answer["message"].as_str().unwrap().contains("3 characters, at most 2"), "{answer}");
    assert_eq!(enter(&mut ann, "小明小", "小明").await["num"], 1);
    assert!(
        ChatRooms::builder()
            .limits(Limits::default().max_name_chars(0))
            .build()
            .unwrap_err()
            .to_string()
            .contains("max_name_chars")
    );
}

#[tokio::test(start_paused = true)]
async fn names_may_be_shared_unless_the_host_says_no() {
    let rooms = default_rooms();
    let _ann = member(&rooms, "ann", None).await;
    let _other = member(&rooms, "ann", None).await;
    assert_eq!(rooms.members("r").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_there_once() {
    let rooms = unique().build().unwrap();
    let mut ann = member(&rooms, "ann", None).await;
    let mut eve = connect(&rooms, None).await;
    let taken = enter(&mut eve, "ann", "r").await;
    assert_eq!((taken["event"].as_str(), taken["code"].as_str()), (Some("error"), Some("name_taken")));
    assert_eq!(rooms.members("r").len(), 1);
    // In another room it is free, and from there he can't come either: he stays where he is.
    assert_eq!(enter(&mut eve, "ann", "s").await["num"], 1);
    assert_eq!(enter(&mut eve, "ann", "r").await["code"], "name_taken");
    assert_eq!(rooms.members("s").len(), 1);
    assert_eq!(enter(&mut eve, "Ann", "r").await["num"], 2);
    assert_eq!(ann.next().await["name"], "Ann");
    // Nor by a change of name.
    assert_eq!(enter(&mut eve, "ann", "r").await["code"], "name_taken");
    // One's own may be entered again, and changed, and is free then.
    assert_eq!(enter(&mut ann, "ann", "r").await["event"], "enter");
    assert_eq!(enter(&mut ann, "bob", "r").await["name"], "bob");
    for event in ["out", "enter"] {
        assert_eq!(eve.next().await["event"], event);
    }
    assert_eq!(enter(&mut eve, "ann", "r").await["name"], "ann");
    // Whoever goes leaves it behind.
    eve.leave().await;
    let mut cid = member(&rooms, "ann", None).await;
    assert_eq!(enter(&mut cid, "ann", "t").await["num"], 1);
    let dan = member(&rooms, "ann", None).await;
    dan.vanish().await;
    cid.leave().await;
    ann.leave().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn capitals_can_be_no_difference() {
    let rooms = ChatRooms::builder().unique_names(UniqueNames::AnyCase).build().unwrap();
    let mut ann = member(&rooms, "Straße", None).await;
    let mut eve = connect(&rooms, None).await;
    assert_eq!(enter(&mut eve, "STRASSE", "r").await["code"], "name_taken");
    // His own he may write as he likes.
    assert_eq!(enter(&mut ann, "STRASSE", "r").await["name"], "STRASSE");
    assert_eq!(enter(&mut eve, "Straße", "r").await["code"], "name_taken");
}

#[tokio::test(start_paused = true)]
async fn a_user_shares_his_name_with_himself_alone() {
    let rooms = unique().build().unwrap();
    let first = member(&rooms, "ann", Some("u1")).await;
    let second = member(&rooms, "ann", Some("u1")).await;
    for other in [Some("u2"), None] {
        let mut eve = connect(&rooms, other).await;
        assert_eq!(enter(&mut eve, "ann", "r").await["code"], "name_taken");
    }
    first.vanish().await;
    let mut eve = connect(&rooms, None).await;
    assert_eq!(enter(&mut eve, "ann", "r").await["code"], "name_taken");
    second.vanish().await;
    assert_eq!(enter(&mut eve, "ann", "r").await["num"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_kept_seat_keeps_its_name_for_who_comes_back() {
    let log = Log::default();
    let rooms = unique()
        .recovery(Recovery::default().resume_window(Duration::from_secs(20)))
        .events(log.hook())
        .build()
        .unwrap();
    let (mut ann, welcome) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    assert_eq!(enter(&mut ann, "ann", "r").await["event"], "entered");
    ann.vanish().await;
    let mut eve = connect(&rooms, None).await;
    assert_eq!(enter(&mut eve, "ann", "r").await["code"], "name_taken");
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.say(json!({"event": "enter", "message": "ann", "roomId": "r", "resume": welcome["resume"]})).await;
    assert_eq!(ann.next().await["resumed"], true);
    assert_eq!(enter(&mut eve, "ann", "r").await["code"], "name_taken");
    ann.vanish().await;
    assert_eq!(enter(&mut eve, "eve", "r").await["num"], 2);
    // The grace is over.
    assert_eq!(eve.next().await["event"], "out");
    assert_eq!(enter(&mut eve, "ann", "r").await["name"], "ann");
}
