//! Nodes while everything works.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use tower_chat_rooms_redis::{Event, EventKind, Profile, PublishError, Settings};

use crate::support::{Server, TestNode, member};

pub(crate) async fn nodes<const N: usize>(server: &Server) -> [TestNode; N] {
    let mut nodes = Vec::new();
    for number in 0..N {
        let settings = Settings::new(server.url()).node_name(format!("node-{number}"));
        nodes.push(TestNode::connect(settings).await);
    }
    nodes.try_into().ok().unwrap()
}

#[tokio::test]
async fn all_nodes_hear_the_same() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    let first = a.enter("r", member("ann"), None).await.unwrap();
    assert_eq!((first.event, first.seq, first.num), (1, 1, 1));
    b.enter("r", member("bob"), None).await.unwrap();
    let hello = a.publish("r", Some("ann"), None, b"hello").await.unwrap();
    b.publish("r", Some("bob"), None, b"hi").await.unwrap();
    assert_eq!((hello.stamp.event, hello.stamp.num, hello.is_repeat), (3, 2, false));
    let last = b.leave("r", "bob", Some("-bob".into())).await.unwrap();
    assert_eq!(last.num, 1);
    a.until_heard("r", last).await;
    b.until_heard("r", last).await;
    assert_eq!(a.bodies("r"), ["+ann", "+bob", "hello", "hi", "-bob"]);
    assert_eq!(b.events("r"), a.events("r")[1..], "from its own member's enter to its leave");
    assert_eq!(a.events("r")[2].member.as_deref(), Some("ann"));
}

#[tokio::test]
async fn the_ids_of_messages_rise_and_contain_the_time() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    let (mut answered, mut last) = (Vec::new(), None);
    for _ in 0..2 {
        a.enter("r", member("ann"), None).await.unwrap();
        b.enter("r", member("bob"), None).await.unwrap();
        for (node, sender) in [(&a, Some("ann")), (&b, None), (&b, Some("bob"))] {
            let key = sender.map(|sender| format!("{sender} {}", answered.len()));
            for is_repeat in [false, true].into_iter().filter(|is_repeat| key.is_some() || !is_repeat) {
                let published = node.publish("r", sender, key.as_deref(), b"hi").await.unwrap();
                assert_eq!(published.is_repeat, is_repeat);
                answered.push(published.id);
            }
        }
        answered.dedup();
        a.leave("r", "ann", None).await.unwrap();
        last = b.leave("r", "bob", None).await;
    }
    b.until_heard("r", last.unwrap()).await;
    let ids: Vec<u64> = b.events("r").iter().filter_map(|event| event.id).collect();
    assert_eq!(ids, answered);
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let since_2020 = UNIX_EPOCH.elapsed().unwrap() - Duration::from_secs(1_577_836_800);
    assert!(since_2020.abs_diff(Duration::from_millis(ids[0] >> 12)) < Duration::from_secs(60));
}

#[tokio::test]
async fn a_room_that_was_empty_begins_anew_and_leaves_no_key() {
    let server = Server::start().await;
    let [a] = nodes(&server).await;
    let mut epochs = Vec::new();
    for n in 0..3 {
        let id = format!("m{n}");
        let stamp = a.enter("r", member(&id).unique_as("ann"), None).await.unwrap();
        assert_eq!((stamp.event, stamp.num), (1, 1));
        epochs.push(stamp.epoch);
        let published = a.publish("r", None, Some("id"), b"host").await.unwrap();
        assert_eq!(published.is_repeat, n > 0, "messages are known for longer than the room");
        let last = a.leave("r", &id, None).await.unwrap();
        a.until_heard("r", last).await;
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 3);
    assert_eq!(a.publish("r", None, None, b"").await, Err(PublishError::NoRoom));
    a.close().await;
    assert_eq!(server.lasting_keys().await, [] as [&str; 0]);
}

#[tokio::test]
async fn silent_members_change_only_the_count() {
    let server = Server::start().await;
    let [a] = nodes(&server).await;
    a.enter("r", member("ann"), None).await.unwrap();
    let silent = a.enter("r", member("spy").silent(), None).await.unwrap();
    assert_eq!((silent.event, silent.seq, silent.num), (2, 1, 2));
    a.publish("r", Some("spy"), None, b"boo").await.unwrap();
    let last = a.leave("r", "spy", None).await.unwrap();
    a.until_heard("r", last).await;
    let kinds: Vec<_> = a.events("r").iter().map(|event| event.kind).collect();
    use EventKind::{Enter, Publish, SilentEnter, SilentLeave};
    assert_eq!(kinds, [Enter, SilentEnter, Publish, SilentLeave]);
}

/// Without ids in Redis, a client that repeats a message on another node has it published twice.
#[tokio::test]
async fn a_message_that_is_repeated_on_another_node_goes_out_once() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    a.enter("r", member("ann"), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    let first = a.publish("r", Some("ann"), Some("ann-1"), b"once").await.unwrap();
    let again = b.publish("r", None, Some("ann-1"), b"once").await.unwrap();
    assert_eq!((again.stamp, again.is_repeat), (first.stamp, true));
    let end = a.publish("r", None, None, b"end").await.unwrap();
    a.until_heard("r", end.stamp).await;
    assert_eq!(a.bodies("r"), ["+ann", "+bob", "once", "end"]);
}

#[tokio::test]
async fn only_members_of_the_node_publish() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    a.enter("r", member("ann"), None).await.unwrap();
    assert_eq!(b.publish("r", Some("ann"), None, b"x").await, Err(PublishError::NotMember));
    b.publish("r", None, None, b"from the host").await.unwrap();
    a.until_body("r", "from the host").await;
}

#[tokio::test]
async fn the_roster_has_profiles_of_all_nodes_in_pages() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    let profile = |name: &str| Profile {
        name: name.to_owned(),
        user: Some(format!("user of {name}")),
        info: Some(Bytes::from_static(b"{}")),
        state: None,
    };
    for n in 0..5 {
        let node = if n % 2 == 0 { &a } else { &b };
        let member = member(&format!("m{n}:x")).profile(profile(&format!("n{n}")));
        node.enter("r", member, None).await.unwrap();
    }
    a.enter("r", member("hidden").hidden(), None).await.unwrap();
    let changed = Profile { state: Some(Bytes::from_static(b"away")), ..profile("n1") };
    b.set_profile("r", "m1:x", changed.clone());
    a.until_profile("r", "m1:x", &changed).await;
    let stamp = a.events("r").last().unwrap().stamp;
    assert_eq!((stamp.event, stamp.seq), (7, 5), "the change has no frame");
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = a.roster("r", after, 2).await.unwrap();
        assert_eq!(page.stamp.unwrap().num, 5);
        let Some(last) = page.members.last() else { break };
        after = last.place;
        found.extend(page.members);
    }
    let ids: Vec<_> = found.iter().map(|entry| &*entry.member).collect();
    assert_eq!(ids, ["m0:x", "m1:x", "m2:x", "m3:x", "m4:x", "hidden"]);
    assert!(found.iter().all(|entry| entry.is_hidden == (&*entry.member == "hidden")));
    assert_eq!(found[1].profile, changed);
    assert!(found.iter().all(|entry| entry.epoch == stamp.epoch));
    // It is not a member of this node.
    a.set_profile("r", "m1:x", Profile::default());
    a.publish("r", None, None, b"after that").await.unwrap();
    a.until_body("r", "after that").await;
    assert_eq!(a.events("r").last().unwrap().stamp.event, 8);
    assert_eq!(a.roster("empty", 0, 2).await.unwrap().stamp, None);
}

#[tokio::test]
async fn the_log_has_what_was_missed_or_says_that_it_has_not() {
    let server = Server::start().await;
    let settings = Settings::new(server.url()).log_length(300);
    let a = TestNode::connect(settings).await;
    let first = a.enter("r", member("ann"), None).await.unwrap();
    a.enter("r", member("spy").silent(), None).await.unwrap();
    for n in 0..280 {
        a.publish("r", None, None, format!("{n}").as_bytes()).await.unwrap();
    }
    let log = a.log_after("r", first.epoch, 1, 1000).await.unwrap().unwrap();
    assert_eq!(log.len(), 280);
    assert!(log.iter().enumerate().all(|(n, event)| event.body == n.to_string()));
    assert_eq!(a.log_after("r", first.epoch, 270, 5).await.unwrap().unwrap().len(), 5);
    assert_eq!(a.log_after("r", first.epoch, 281, 5).await.unwrap(), Some(Vec::new()));
    assert_eq!(a.log_after("r", first.epoch, 282, 5).await.unwrap(), None, "beyond the end");
    let other = tower_chat_rooms_redis::Epoch::from_u64(first.epoch.as_u64() + 1);
    assert_eq!(a.log_after("r", other, 1, 5).await.unwrap(), None);
    for _ in 0..300 {
        a.publish("r", None, None, b"").await.unwrap();
    }
    assert_eq!(a.log_after("r", first.epoch, 1, 1000).await.unwrap(), None, "trimmed");
}

#[tokio::test]
async fn commands_reach_one_node_or_all() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    a.send_to_node("node-1", b"for b").await.unwrap();
    a.send_to_all(b"for all").await.unwrap();
    b.close_room("r").await.unwrap();
    let for_all = Event::Command { body: "for all".into() };
    let close = Event::CloseRoom { room: "r".into() };
    a.until("two commands", |heard| heard == [for_all.clone(), close.clone()]).await;
    let for_b = Event::Command { body: "for b".into() };
    b.until("three commands", |heard| heard == [for_b.clone(), for_all.clone(), close.clone()]).await;
}

#[tokio::test]
async fn transient_bodies_are_in_no_log() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    let first = a.enter("r", member("ann"), None).await.unwrap();
    b.enter("r", member("bob"), None).await.unwrap();
    a.send_transient("r", b"typing").await.unwrap();
    let typing = Event::Transient { room: "r".into(), body: "typing".into() };
    for node in [&a, &b] {
        node.until("a transient body", |heard| heard.contains(&typing)).await;
    }
    assert_eq!(a.log_after("r", first.epoch, 0, 10).await.unwrap().unwrap().len(), 2);
}

#[tokio::test]
async fn a_node_that_is_closed_removes_its_members_at_once() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    a.enter("r", member("ann"), None).await.unwrap();
    for n in 0..250 {
        b.enter("r", member(&format!("m{n}")), None).await.unwrap();
    }
    b.close().await;
    a.until("all leaves", |_| a.events("r").last().unwrap().stamp.num == 1).await;
    assert_eq!(a.events("r").last().unwrap().stamp.event, 501);
}

#[tokio::test]
async fn connecting_can_fail() {
    let settings = Settings::new("redis+unix:///nowhere").wait_for_redis(false);
    let error = tower_chat_rooms_redis::Node::connect(settings).await.unwrap_err();
    assert_eq!(error.kind(), tower_chat_rooms_redis::ConnectErrorKind::Unreachable);
    let server = Server::start().await;
    let _: () = server.command(&["CONFIG", "SET", "requirepass", "secret"]).await;
    let error = tower_chat_rooms_redis::Node::connect(Settings::new(server.url())).await.unwrap_err();
    assert_eq!(error.kind(), tower_chat_rooms_redis::ConnectErrorKind::Refused);
}

#[tokio::test]
async fn connections_have_names() {
    let server = Server::start().await;
    let [a] = nodes(&server).await;
    assert_eq!(a.degraded_since(), None);
    let names: String = server.command(&["CLIENT", "LIST"]).await;
    for part in ["commands", "subscriber"] {
        assert!(names.contains(&format!("name=tower-chat-rooms:node-0:{part}")), "{names}");
    }
}

#[tokio::test]
async fn rooms_are_listed_with_their_counts() {
    let server = Server::start().await;
    let [a, b] = nodes(&server).await;
    for n in 0..5 {
        a.enter(&format!("room {n}"), member(&format!("a{n}")), None).await.unwrap();
    }
    b.enter("room 1", member("bob"), None).await.unwrap();
    a.leave("room 2", "a2", None).await.unwrap();
    let rooms = b.rooms().await.unwrap();
    let rooms: Vec<_> = rooms.iter().map(|count| (&*count.room, count.num)).collect();
    assert_eq!(rooms, [("room 0", 1), ("room 1", 2), ("room 3", 1), ("room 4", 1)]);
}

/// During an upgrade, nodes of a later version may write what this one cannot read.
#[tokio::test]
async fn messages_of_a_later_version_are_dropped_and_counted() {
    let server = Server::start().await;
    let [a] = nodes(&server).await;
    a.enter("r", member("ann"), None).await.unwrap();
    for channel in ["{chat}:ch:r", "{chat}:ctl", "{chat}:ch:no members"] {
        let _: u32 = server.command(&["PUBLISH", channel, "\u{2}from the future"]).await;
    }
    a.publish("r", None, None, b"end").await.unwrap();
    a.until_body("r", "end").await;
    assert_eq!(a.bodies("r"), ["+ann", "end"]);
    assert_eq!(a.dropped_messages(), 2);
}
