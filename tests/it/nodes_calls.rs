//! The host's calls that ask all nodes, and wait for the answers.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tower_chat_rooms::{
    Access, Admission, ChatRooms, ChatRoomsBuilder, Recovery, RoomCount, SendError, SharedBroker,
    Unavailable, User,
};

use crate::support::{Client, RESUME_WINDOW, assert_empty, run_other_tasks, unlimited};
use crate::users::{connect, enter};

fn nodes<const N: usize>(broker: &SharedBroker) -> [ChatRooms; N] {
    std::array::from_fn(|_| resuming().broker(broker.node()).build().unwrap())
}

/// Chat rooms that keep sessions.
fn resuming() -> ChatRoomsBuilder {
    unlimited().recovery(Recovery::default().resume_window(RESUME_WINDOW))
}

fn notice(n: u64) -> Value {
    json!({"event": "notice", "n": n})
}

fn only<T: Copy>(all: Vec<T>) -> T {
    assert_eq!(all.len(), 1);
    all[0]
}

async fn shut_down<const N: usize>(nodes: [ChatRooms; N]) {
    run_other_tasks().await;
    for rooms in nodes {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_host_sees_users_rooms_and_members_of_all_nodes() {
    let nodes @ [one, two, three] = &nodes(&SharedBroker::new());
    let (mut ann, _) = enter(one, "ann", "r").await;
    let (bob, _) = enter(two, "bob", "r").await;
    let (second_of_bob, _) = enter(one, "bob", "s").await;
    run_other_tasks().await;
    ann.send(json!({"event": "state", "state": {"mood": "fine"}, "roomId": "r"})).await;
    one.all_nodes().set_info("r", only(one.sessions_of("ann")), &"info of ann").await.unwrap();
    run_other_tasks().await;
    for rooms in nodes {
        let all = rooms.all_nodes();
        for (user, is_online) in [("ann", true), ("bob", true), ("cid", false)] {
            assert_eq!(all.is_online(user).await, Ok(is_online));
        }
        let mut expected = [two.sessions_of("bob"), one.sessions_of("bob")].concat();
        expected.sort();
        assert_eq!(all.sessions_of("bob").await.unwrap(), expected);
        let mut ids: Vec<_> = all.rooms_of("bob").await.unwrap().iter().map(ToString::to_string).collect();
        ids.sort();
        assert_eq!(ids, ["r", "s"]);
        let counts: Vec<RoomCount> = all.rooms().await.unwrap();
        let mut counts: Vec<_> = counts.iter().map(|room| (room.id.as_str(), room.online)).collect();
        counts.sort();
        assert_eq!(counts, [("r", 2), ("s", 1)]);
        let members = all.members("r").await.unwrap();
        let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["ann", "bob"]);
        assert_eq!(members[0].connection, only(one.sessions_of("ann")));
        assert_eq!(members[0].user_id.as_deref(), Some("ann"));
        assert_eq!(members[0].info.as_deref(), Some(r#""info of ann""#));
        assert_eq!(members[0].state.as_deref(), Some(r#"{"mood":"fine"}"#));
        assert_eq!(all.members("none").await, Ok(vec![]));
    }
    assert!(three.rooms().is_empty() && !three.is_online("ann"));
    for client in [ann, bob, second_of_bob] {
        client.close().await;
    }
    shut_down(nodes.clone()).await;
}

#[tokio::test(start_paused = true)]
async fn the_host_learns_what_has_become_of_its_calls() {
    let nodes @ [one, two, three] = &nodes(&SharedBroker::new());
    let all = one.all_nodes();
    let (mut ann, _) = enter(two, "ann", "r").await;
    let (mut other, _) = connect(three, "ann").await;
    let id = only(two.sessions_of("ann"));
    all.send_to(id, &notice(1)).await.unwrap();
    assert_eq!(all.broadcast(&notice(2)).await.unwrap(), 2);
    assert_eq!(all.send_to_user("ann", &notice(3)).await.unwrap(), 2);
    assert_eq!(all.send_to_user("nobody", &notice(4)).await.unwrap(), 0);
    for n in 1..=3 {
        assert_eq!(ann.next_of("notice").await["n"], n);
    }
    assert_eq!(other.next_of("notice").await["n"], 2);
    let direct = other.next_of("notice").await;
    assert_eq!((&direct["n"], &direct["direct"]), (&json!(3), &json!(1)));

    all.set_info("r", id, &"vip").await.unwrap();
    assert_eq!(ann.next_of("state").await["info"], "vip");
    all.set_access("r", id, &Access::member().read_only()).await.unwrap();
    ann.send(json!({"event": "message", "message": "x", "cid": "c"})).await;
    assert_eq!(ann.next_of("error").await["code"], "read_only");
    for result in
        [all.set_info("none", id, &"vip").await, all.set_access("none", id, &Access::member()).await]
    {
        assert!(matches!(result, Err(SendError::NoSuchRoom)), "{result:?}");
    }

    assert_eq!(all.close_room("r").await, Ok(1));
    assert_eq!(all.close_room("r").await, Ok(0));
    assert_eq!(ann.next_of("left").await["code"], "room_closed");
    assert_eq!(all.kick(id).await, Ok(true));
    assert_eq!(ann.close_code().await, 4500);
    run_other_tasks().await;
    assert_eq!(all.kick(id).await, Ok(false));
    for result in [
        all.send_to(id, &notice(5)).await,
        all.set_info("r", id, &"vip").await,
        all.set_access("r", id, &Access::member()).await,
    ] {
        assert!(matches!(result, Err(SendError::NoSuchConnection)), "{result:?}");
    }
    assert_eq!(all.kick_user("ann").await, Ok(1));
    assert_eq!(other.close_code().await, 4500);
    shut_down(nodes.clone()).await;
}

/// Rule: an answer is true or there is none, and a call does not wait for ever.
#[tokio::test(start_paused = true)]
async fn a_call_fails_if_the_broker_or_a_node_is_away() {
    let broker = SharedBroker::new();
    let nodes @ [one, two] = &nodes(&broker);
    let all = one.all_nodes();
    let (ann, _) = enter(two, "ann", "r").await;
    let id = only(two.sessions_of("ann"));
    run_other_tasks().await;
    broker.set_delivering(false);
    let since = Instant::now();
    assert_eq!(all.kick(id).await, Err(Unavailable));
    assert_eq!(all.rooms_of("ann").await, Err(Unavailable));
    assert!(matches!(all.send_to_user("ann", &notice(1)).await, Err(SendError::Unavailable)));
    assert_eq!(all.is_online("ann").await, Ok(true), "no node is asked");
    assert!(since.elapsed() <= Duration::from_secs(9), "{:?}", since.elapsed());
    broker.set_available(false);
    assert_eq!(all.is_online("ann").await, Err(Unavailable));
    assert_eq!(all.sessions_of("ann").await, Err(Unavailable));
    assert_eq!(all.rooms().await, Err(Unavailable));
    assert_eq!(all.members("r").await, Err(Unavailable));
    assert_eq!(all.kick_user("ann").await, Err(Unavailable));
    broker.set_available(true);
    broker.set_delivering(true);
    ann.close().await;
    shut_down(nodes.clone()).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_broker_the_calls_have_the_same_results() {
    let rooms = resuming().build().unwrap();
    let all = rooms.all_nodes();
    let (mut ann, _) = enter(&rooms, "ann", "r").await;
    let id = only(all.sessions_of("ann").await.unwrap());
    assert_eq!(all.is_online("ann").await, Ok(true));
    assert_eq!(only(all.rooms_of("ann").await.unwrap().iter().collect()).as_str(), "r");
    assert_eq!(all.rooms().await.unwrap()[0].online, 1);
    assert_eq!(all.members("r").await.unwrap()[0].user_id.as_deref(), Some("ann"));
    assert_eq!(all.broadcast(&notice(1)).await.unwrap(), 1);
    assert_eq!(all.send_to_user("ann", &notice(2)).await.unwrap(), 1);
    all.send_to(id, &notice(3)).await.unwrap();
    for n in 1..=3 {
        assert_eq!(ann.next_of("notice").await["n"], n);
    }
    all.set_info("r", id, &1).await.unwrap();
    all.set_access("r", id, &Access::member()).await.unwrap();
    assert_eq!(all.close_room("r").await, Ok(1));
    assert_eq!(all.kick(id).await, Ok(true));
    run_other_tasks().await;
    assert_eq!((all.kick(id).await, all.kick_user("ann").await), (Ok(false), Ok(0)));
    assert!(matches!(all.send_to(id, &notice(4)).await, Err(SendError::NoSuchConnection)));
    let plain = Client::connect_as(&rooms, Admission::user(User::new("u")), 4096).await;
    run_other_tasks().await;
    assert_eq!(all.kick_user("u").await, Ok(1));
    drop((ann, plain));
    shut_down([rooms.clone()]).await;
}
