//! Entering, moving, renaming, leaving: counts, order, and what each member receives.

use serde_json::json;
use tower_chat_rooms::Limits;

use crate::support::{Client, assert_empty, builder, default_rooms, events_arrive, rooms_with_log};

async fn enter(client: &mut Client, name: &str, room: &str) {
    client.send(json!({"event": "enter", "message": name, "roomId": room})).await;
}

#[tokio::test(start_paused = true)]
async fn a_move_is_an_out_and_an_enter() {
    let (rooms, log) = rooms_with_log();
    let mut ann = Client::enter(&rooms, "ann", "a").await;
    let mut bob = Client::enter(&rooms, "bob", "a").await;
    let mut carol = Client::enter(&rooms, "carol", "b").await;
    ann.next().await;
    log.take();
    ann.send(json!({"event": "message", "message": "bye"})).await;
    enter(&mut ann, "ann", "b").await;
    // The messages from before the move still arrive, and none from after it.
    assert_eq!(ann.next().await["message"], "bye");
    let hello = ann.next().await;
    assert_eq!((&hello["event"], &hello["num"]), (&json!("enter"), &json!(2)));
    assert_eq!(bob.next().await["message"], "bye");
    assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
    assert_eq!(carol.next().await["num"], 2);
    bob.send(json!({"event": "message", "message": "to a"})).await;
    events_arrive().await;
    carol.send(json!({"event": "message", "message": "to b"})).await;
    assert_eq!(ann.next().await["message"], "to b");
    assert_eq!(
        log.take(),
        [
            r#"ann a: {"event":"message","message":"bye"}"#,
            "- ann a 1 moved to another room",
            "+ ann b 2",
            r#"bob a: {"event":"message","message":"to a"}"#,
            r#"carol b: {"event":"message","message":"to b"}"#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_rename_is_an_out_and_an_enter() {
    let (rooms, log) = rooms_with_log();
    let mut ann = Client::enter(&rooms, "ann", "a").await;
    let mut bob = Client::enter(&rooms, "bob", "a").await;
    ann.next().await;
    enter(&mut ann, "anne", "a").await;
    assert_eq!(bob.next().await, json!({"event": "out", "name": "ann", "num": 1}));
    let hello = bob.next().await;
    assert_eq!((&hello["name"], &hello["num"]), (&json!("anne"), &json!(2)));
    assert_eq!(ann.next().await, hello);
    assert_eq!(rooms.rooms()[0].online, 2);
    let names: Vec<String> = rooms.members("a").iter().map(|m| m.name.to_string()).collect();
    assert_eq!(names, ["bob", "anne"]);
    assert_eq!(log.take()[2..], ["- ann a 1 renamed", "+ anne a 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_enter_is_answered_to_its_sender_only() {
    let (rooms, log) = rooms_with_log();
    let mut ann = Client::enter(&rooms, "ann", "a").await;
    let mut bob = Client::enter(&rooms, "bob", "a").await;
    ann.next().await;
    for _ in 0..3 {
        enter(&mut ann, "ann", "a").await;
        let again = ann.next().await;
        assert_eq!(
            (&again["event"], &again["name"], &again["num"]),
            (&json!("enter"), &json!("ann"), &json!(2))
        );
    }
    ann.send(json!({"event": "message", "message": "next"})).await;
    assert_eq!(bob.next().await["message"], "next");
    assert_eq!(log.take().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_cannot_move_stays_in_its_room() {
    let rooms = builder().limits(Limits::default().max_room_members(1).max_rooms(2)).build().unwrap();
    let mut ann = Client::enter(&rooms, "ann", "a").await;
    let _bob = Client::enter(&rooms, "bob", "b").await;
    enter(&mut ann, "ann", "b").await;
    assert_eq!(ann.next().await["code"], "room_full");
    enter(&mut ann, "ann", "c").await;
    assert_eq!(ann.next().await["code"], "too_many_rooms");
    enter(&mut ann, "", "b").await;
    assert_eq!(ann.next().await["code"], "bad_name");
    // A member of a full room can be renamed.
    enter(&mut ann, "anne", "a").await;
    assert_eq!(ann.next().await["num"], 1);
    ann.send(json!({"event": "message", "message": "still here"})).await;
    assert_eq!(ann.next().await["message"], "still here");
}

#[tokio::test(start_paused = true)]
async fn names_with_a_meaning_in_javascript_are_ordinary_names() {
    let rooms = default_rooms();
    for name in ["__proto__", "constructor", "toString", "undefined"] {
        let mut ann = Client::enter(&rooms, name, name).await;
        let mut bob = Client::enter(&rooms, name, name).await;
        assert_eq!(ann.next().await["num"], 2);
        bob.send(json!({"event": name, "__proto__": {"num": 7}})).await;
        let frame = ann.next().await;
        assert_eq!((&frame["name"], &frame["num"]), (&json!(name), &json!(2)));
        bob.close().await;
        assert_eq!(ann.next().await["num"], 1);
        ann.close().await;
    }
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn all_members_see_the_same_order_and_counts_change_by_one() {
    use std::collections::BTreeMap;
    let rooms = default_rooms();
    let mut observers = Vec::new();
    for n in 0..3 {
        observers.push(Client::enter(&rooms, &format!("observer{n}"), "r").await);
    }
    // Many clients enter, send and leave at once.
    let mut tasks = Vec::new();
    for n in 0..40 {
        let rooms = rooms.clone();
        tasks.push(tokio::spawn(async move {
            let name = format!("m{n}");
            let mut client = Client::enter(&rooms, &name, "r").await;
            for k in 0..3 {
                client.send(json!({"event": "message", "message": format!("{n}.{k}")})).await;
                // Its own messages arrive in order, among those of others.
                while client.next().await["message"] != format!("{n}.{k}") {}
            }
            if n % 2 == 0 { client.close().await } else { client.disconnect().await }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    rooms.send("r", &json!({"event": "end"})).unwrap();
    let mut seen = Vec::new();
    for observer in &mut observers {
        let mut frames = Vec::new();
        loop {
            let frame = observer.next().await;
            if frame["event"] == "end" {
                break;
            }
            frames.push(frame);
        }
        seen.push(frames);
    }
    let last = &seen[2];
    for frames in &seen {
        assert_eq!(frames[frames.len() - last.len()..], last[..]);
    }
    let mut num = 3i64;
    let mut present = BTreeMap::new();
    for frame in last {
        let now = frame["num"].as_i64().unwrap();
        let name = frame["name"].as_str().unwrap().to_owned();
        match frame["event"].as_str().unwrap() {
            "enter" => {
                num += 1;
                assert!(present.insert(name, ()).is_none());
            }
            "out" => {
                num -= 1;
                assert!(present.remove(&name).is_some());
            }
            _ => assert!(present.contains_key(&name)),
        }
        assert_eq!(now, num, "{frame}");
    }
    assert_eq!(num, 3);
    for observer in observers {
        observer.close().await;
    }
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn an_empty_room_is_removed() {
    let rooms = default_rooms();
    for round in 0..200 {
        let client = Client::enter(&rooms, "x", &format!("room{round}")).await;
        assert_eq!(rooms.stats().rooms, 1);
        if round % 2 == 0 {
            client.close().await
        } else {
            client.disconnect().await
        }
        assert_empty(&rooms);
    }
}
