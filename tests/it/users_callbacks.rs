//! What the host does with users, and its callbacks for them.

use std::sync::{Arc, OnceLock};

use serde_json::json;
use tower_chat_rooms::{Admission, ChannelEvent, ChatRooms, User, event_channel};

use crate::support::{Client, EventLog, assert_empty, builder, events_arrive, has_redis, skip_with_broker};
use crate::users::{connect, enter, resume, rooms};

#[tokio::test(start_paused = true)]
async fn a_kick_of_a_user_ends_all_of_its_sessions() {
    let (rooms, log) = rooms();
    let (member, _) = enter(&rooms, "u", "r").await;
    // It has not entered a room.
    let (outside, _) = connect(&rooms, "u").await;
    let (mut in_band, _) = Client::connect_v1(&rooms, Admission::pending_auth()).await;
    in_band.authenticate("u").await;
    let plain = Client::connect_as(&rooms, Admission::user(User::new("u")), 4096).await;
    let (absent, token) = enter(&rooms, "u", "r2").await;
    absent.disconnect().await;
    let (absent_outside, _) = connect(&rooms, "u").await;
    absent_outside.disconnect().await;
    let (other, _) = enter(&rooms, "other", "r2").await;
    let (pending, _) = Client::connect_v1(&rooms, Admission::pending_auth()).await;
    log.take();
    assert_eq!(rooms.kick_user("u"), 6);
    let mut told = log.take();
    // With Redis, the sessions without a connection have ended a moment later.
    if !has_redis() {
        assert_eq!((&*told, rooms.stats().absent), (&["- u r2: kicked".to_owned()][..], 0));
    }
    for mut client in [member, outside, in_band, plain] {
        assert_eq!(client.close_code().await, 4500);
        client.task.await.unwrap();
    }
    told.append(&mut log.take());
    assert_eq!(told, ["- u r2: kicked", "- u r: kicked", "offline u"]);
    assert_eq!(rooms.stats().absent, 0);
    assert!(!rooms.is_online("u"));
    assert_eq!((rooms.kick_user("u"), rooms.kick_user("nobody")), (0, 0));
    let (again, member, _) = resume(&rooms, "u", &token).await;
    assert_eq!((&*member, log.take()), ("none", vec!["online u".to_owned()]));
    for client in [again, other, pending] {
        client.close().await;
    }
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_ends_its_own_connection_only() {
    let (rooms, log) = rooms();
    let (mut calm, _) = enter(&rooms, "calm", "r").await;
    let (mut first, _) = connect(&rooms, "panics online").await;
    assert_eq!(first.close_code().await, 1011);
    first.task.await.unwrap();
    let (mut in_band, _) = Client::connect_v1(&rooms, Admission::pending_auth()).await;
    in_band.authenticate("panics online").await;
    assert_eq!(in_band.close_code().await, 1011);
    in_band.task.await.unwrap();
    let (second, _) = connect(&rooms, "panics offline").await;
    second.close().await;
    assert_eq!(
        log.take(),
        [
            "online calm",
            "+ calm r",
            "online panics online",
            "offline panics online",
            "online panics online",
            "offline panics online",
            "online panics offline",
            "offline panics offline",
        ]
    );
    calm.round_trip_in("r").await;
    calm.close().await;
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_each_user_is_offline() {
    skip_with_broker!("sessions in rooms are left to other nodes");
    let (rooms, log) = rooms();
    let (member, _) = enter(&rooms, "u", "r").await;
    let (outside, _) = connect(&rooms, "u2").await;
    let (absent, _) = connect(&rooms, "u3").await;
    absent.disconnect().await;
    log.take();
    let handle = rooms.clone();
    let down = tokio::spawn(async move { handle.shutdown().await });
    for mut client in [member, outside] {
        assert_eq!(client.close_code().await, 1012);
    }
    down.await.unwrap();
    let mut lines = log.take();
    assert_eq!(lines.pop().unwrap(), "ended");
    let of_u = lines.iter().filter(|line| line.ends_with(" u") || line.starts_with('-')).collect::<Vec<_>>();
    assert_eq!(of_u, ["- u r: server shutdown", "offline u"]);
    lines.sort();
    assert_eq!(lines, ["- u r: server shutdown", "offline u", "offline u2", "offline u3"]);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn a_callback_can_ask_for_the_user_and_remove_it() {
    let (handle, log) = (Arc::new(OnceLock::<ChatRooms>::new()), EventLog::default());
    let (inside, lines) = (handle.clone(), log.clone());
    let rooms = builder()
        .events(move |event: tower_chat_rooms::RoomEvent<'_>| {
            let rooms = inside.get().unwrap();
            match event {
                tower_chat_rooms::RoomEvent::Online(e) => {
                    let id = e.user.id();
                    let sent = rooms.send_to_user(id, &json!({"event": "hint"})).unwrap();
                    lines.push(format!("{id} {} {sent} {}", rooms.is_online(id), rooms.kick_user(id)));
                }
                tower_chat_rooms::RoomEvent::Offline(e) => {
                    lines.push(format!("{} {}", e.user.id(), rooms.is_online(e.user.id())));
                }
                other => panic!("{other:?}"),
            }
        })
        .build()
        .unwrap();
    handle.set(rooms.clone()).unwrap();
    let mut client = Client::connect_as(&rooms, Admission::user(User::new("u")), 4096).await;
    assert_eq!(client.frames_until_close().await, (vec![json!({"event": "hint"})], 4500));
    client.task.await.unwrap();
    events_arrive().await;
    assert_eq!(log.take(), ["u true 1 1", "u false"]);
    assert_empty(&rooms);
}

#[tokio::test(start_paused = true)]
async fn the_channel_has_the_users() {
    let (events, mut receiver) = event_channel(8);
    let rooms = builder().events(events).build().unwrap();
    let user = User::new("u").with_name("Ann").with("a secret");
    let client = Client::connect_as(&rooms, Admission::user(user), 4096).await;
    let Some(ChannelEvent::Online(online)) = receiver.recv().await else { panic!() };
    assert_eq!(online.user.get::<&str>(), Some(&"a secret"));
    assert!(!format!("{:?}", ChannelEvent::Online(online)).contains("secret"));
    client.close().await;
    let Some(ChannelEvent::Offline(offline)) = receiver.recv().await else { panic!() };
    assert_eq!((offline.user.id(), offline.user.name()), ("u", Some("Ann")));
    assert!(!format!("{:?}", ChannelEvent::Offline(offline)).contains("secret"));
    drop(rooms);
    assert!(receiver.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_rooms_of_a_user_are_those_of_all_its_sessions() {
    let (rooms, _) = rooms();
    let (mut one, _) = connect(&rooms, "u").await;
    let (mut two, _) = connect(&rooms, "u").await;
    assert!(rooms.rooms_of("u").is_empty());
    for (client, ids) in [(&mut one, ["a", "b"]), (&mut two, ["b", "c"])] {
        for id in ids {
            client.send(json!({"event": "enter", "message": "x", "roomId": id})).await;
            while client.next().await["event"] != "entered" {}
        }
    }
    let sorted = || {
        let mut ids: Vec<String> = rooms.rooms_of("u").iter().map(|id| id.as_str().into()).collect();
        ids.sort();
        ids
    };
    assert_eq!(sorted(), ["a", "b", "c"]);
    one.send(json!({"event": "leave", "roomId": "a"})).await;
    while one.next().await["event"] != "left" {}
    assert_eq!(sorted(), ["b", "c"]);
}
