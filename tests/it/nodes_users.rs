//! Users that have sessions on several nodes.

use std::time::Duration;

use tower_chat_rooms::{Admission, ChannelEvent, ChatRooms, LeaveReason, SharedBroker, User, event_channel};

use crate::support::{Client, EventLog, RESUME_WINDOW, Random, assert_empty, enter_frame, run_other_tasks};
use crate::users::{builder, connect, enter, resume};

/// Nodes that log their callbacks together.
fn nodes<const N: usize>(broker: &SharedBroker) -> ([ChatRooms; N], EventLog) {
    let log = EventLog::default();
    (std::array::from_fn(|_| builder(&log).broker(broker.node()).build().unwrap()), log)
}

async fn settled(log: &EventLog) -> Vec<String> {
    run_other_tasks().await;
    log.take()
}

#[tokio::test(start_paused = true)]
async fn a_user_is_online_once_on_all_nodes() {
    let broker = SharedBroker::new();
    let ([one, other], log) = nodes(&broker);
    let (first, _) = enter(&one, "u", "r").await;
    assert_eq!(settled(&log).await, ["online u", "+ u r"]);
    let (second, _) = enter(&other, "u", "s").await;
    let (third, _) = connect(&other, "u").await;
    assert_eq!(settled(&log).await, ["+ u s"]);
    first.close().await;
    third.close().await;
    assert_eq!(settled(&log).await, ["- u r: closed by the client"]);
    second.close().await;
    assert_eq!(settled(&log).await, ["- u s: closed by the client", "offline u"]);
    let (again, _) = connect(&one, "u").await;
    assert_eq!(settled(&log).await, ["online u"]);
    again.close().await;
    assert_eq!(settled(&log).await, ["offline u"]);
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn users_authenticate_and_expire_on_several_nodes() {
    let broker = SharedBroker::new();
    let ([one, other], log) = nodes(&broker);
    let (mut in_band, _) = Client::connect_v1(&one, Admission::pending_auth()).await;
    in_band.authenticate("u").await;
    let (absent, token) = connect(&other, "u").await;
    assert_eq!(settled(&log).await, ["online u"]);
    // A session that is kept keeps the user online.
    absent.disconnect().await;
    in_band.close().await;
    assert_eq!(settled(&log).await, [] as [&str; 0]);
    let (back, _, _) = resume(&other, "u", &token).await;
    assert_eq!(settled(&log).await, [] as [&str; 0]);
    back.disconnect().await;
    tokio::time::sleep(RESUME_WINDOW).await;
    assert_eq!(settled(&log).await, ["offline u"]);
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn callbacks_wait_until_the_broker_knows_who_is_online() {
    let broker = SharedBroker::new();
    let ([one, other], log) = nodes(&broker);
    broker.set_available(false);
    let (first, _) = connect(&one, "u").await;
    let (second, _) = connect(&one, "u").await;
    let (third, _) = connect(&other, "u").await;
    second.close().await;
    assert_eq!(settled(&log).await, [] as [&str; 0]);
    broker.set_available(true);
    assert_eq!(settled(&log).await, ["online u"]);
    first.close().await;
    third.close().await;
    assert_eq!(settled(&log).await, ["offline u"]);
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_without_the_broker_members_that_cannot_resume_have_left() {
    let broker = SharedBroker::new();
    let ([one, other], log) = nodes(&broker);
    let (mut member, _) = enter(&one, "u", "r").await;
    let mut plain = Client::enter(&one, "plain", "r").await;
    assert_eq!(settled(&log).await, ["online u", "+ u r", "+ plain r"]);
    broker.set_available(false);
    let closing = tokio::spawn(async move { one.shutdown().await });
    assert_eq!((member.close_code().await, plain.close_code().await), (1012, 1012));
    closing.await.unwrap();
    assert_eq!(log.take(), ["- plain r: server shutdown", "ended"]);
    // Another node finds that the user is gone.
    broker.set_available(true);
    broker.end_resume_windows();
    assert_eq!(settled(&log).await, ["- u r: node lost", "offline u"]);
    assert_eq!((broker.members(), broker.sessions()), (0, 0));
    other.shutdown().await;
}

/// Rule: the host of the node that removes lost members and users is told, once for each.
#[tokio::test(start_paused = true)]
async fn the_host_is_told_of_members_and_users_of_a_crashed_node() {
    let broker = SharedBroker::new();
    let (events, mut receiver) = event_channel(64);
    let one = builder(&EventLog::default()).events(events).broker(broker.node()).build().unwrap();
    let ([two], log) = nodes(&broker);
    let crashing = broker.node();
    let number = crashing.number();
    let lost = builder(&EventLog::default()).broker(crashing).build().unwrap();
    let (ann, _) = enter(&one, "ann", "r").await;
    let (second_of_ann, _) = enter(&lost, "ann", "r").await;
    let (bob, _) = enter(&lost, "bob", "r").await;
    run_other_tasks().await;
    crash(&broker, number, lost, [second_of_ann, bob]).await;
    let mut lines = Vec::new();
    while let Some(Some(event)) = futures_util::FutureExt::now_or_never(receiver.recv()) {
        lines.push(match event {
            ChannelEvent::Left(left) => {
                assert_eq!((left.reason, left.peer, left.is_hidden), (LeaveReason::NodeLost, None, false));
                let user = left.user.unwrap();
                format!("- {} ({}) {} {}", left.name, user.id(), left.room, left.online)
            }
            ChannelEvent::Online(event) => format!("online {}", event.user.id()),
            ChannelEvent::Offline(event) => format!("offline {}", event.user.id()),
            ChannelEvent::Entered(event) => format!("+ {}", event.name),
            other => panic!("{other:?}"),
        });
    }
    let end = ["- ann (ann) r 2", "- bob (bob) r 1", "offline bob"];
    assert_eq!(lines, [&["online ann", "+ ann"], &end[..]].concat());
    assert_eq!(settled(&log).await, [] as [&str; 0], "one node tells its host");
    assert!(one.all_nodes().is_online("ann").await.unwrap());
    ann.close().await;
    for rooms in [one, two] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

/// Rule: each `left` has its `entered`, and each `offline` its `online`, also if the others have been wrong.
#[tokio::test(start_paused = true)]
async fn the_host_is_told_of_members_and_users_that_come_back() {
    let broker = SharedBroker::new();
    let ([one], log) = nodes(&broker);
    let node = broker.node();
    let number = node.number();
    let other = builder(&log).broker(node).build().unwrap();
    let (first_of_ann, _) = enter(&one, "ann", "r").await;
    let (ann, _) = enter(&other, "ann", "r").await;
    let (bob, _) = enter(&other, "bob", "s").await;
    settled(&log).await;
    broker.suspect_node(number);
    let mut lines = settled(&log).await;
    lines.sort();
    let lost = ["- ann r: node lost", "- bob s: node lost", "offline bob"];
    let back = ["+ ann r", "+ bob s", "online bob"];
    assert_eq!(lines, [&back[..2], &lost[..], &back[2..]].concat());
    bob.close().await;
    assert_eq!(settled(&log).await, ["- bob s: closed by the client", "offline bob"]);
    for client in [ann, first_of_ann] {
        client.close().await;
    }
    let left = "- ann r: closed by the client";
    assert_eq!(settled(&log).await, [left, left, "offline ann"]);
    for rooms in [one, other] {
        rooms.shutdown().await;
    }
}

/// Ends a node without telling anybody.
async fn crash<const N: usize>(broker: &SharedBroker, number: u32, rooms: ChatRooms, clients: [Client; N]) {
    for client in clients {
        client.task.abort();
    }
    broker.remove_node(number);
    broker.end_resume_windows();
    drop(rooms);
    run_other_tasks().await;
}

#[tokio::test(start_paused = true)]
async fn without_callbacks_users_are_counted_all_the_same() {
    let broker = SharedBroker::new();
    let [one, other] = std::array::from_fn(|_| ChatRooms::builder().broker(broker.node()).build().unwrap());
    let client = Client::connect_as(&one, Admission::user(User::new("u")), 4096).await;
    run_other_tasks().await;
    assert!(other.all_nodes().is_online("u").await.unwrap() && !other.is_online("u"));
    client.close().await;
    run_other_tasks().await;
    assert!(!other.all_nodes().is_online("u").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_online_ends_its_own_connection_only() {
    let broker = SharedBroker::new();
    let ([one, other], log) = nodes(&broker);
    let (mut client, _) = connect(&one, "panics online").await;
    assert_eq!(client.close_code().await, 1011);
    client.task.await.unwrap();
    assert_eq!(settled(&log).await, ["online panics online", "offline panics online"]);
    let (second, _) = connect(&other, "panics offline").await;
    second.close().await;
    assert_eq!(settled(&log).await, ["online panics offline", "offline panics offline"]);
    for rooms in [one, other] {
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
}

/// Sessions begin and end on all nodes. For each user, `online` and `offline` alternate, and all other callbacks come
/// between them.
#[tokio::test(start_paused = true)]
async fn users_come_and_go_at_random() {
    for seed in 0..20 {
        let broker = SharedBroker::new();
        let (nodes, log): ([ChatRooms; 3], _) = nodes(&broker);
        let mut random = Random::new(seed);
        let mut clients: Vec<(Client, bool)> = Vec::new();
        for _ in 0..60 {
            match random.below(10) {
                0..5 => {
                    let user = ["u", "v"][random.below(2) as usize];
                    let (mut client, _) = connect(&nodes[random.below(3) as usize], user).await;
                    if random.below(2) == 0 {
                        client.send(enter_frame(user, "r")).await;
                    }
                    clients.push((client, random.below(2) == 0));
                }
                5..9 if !clients.is_empty() => {
                    let (client, is_closed) =
                        clients.swap_remove(random.below(clients.len() as u64) as usize);
                    if is_closed { client.close().await } else { client.disconnect().await }
                }
                9 => {
                    broker.set_available(false);
                    tokio::time::sleep(Duration::from_millis(random.below(900))).await;
                    broker.set_available(true);
                }
                _ => tokio::time::sleep(RESUME_WINDOW / 3).await,
            }
        }
        for (client, _) in clients {
            client.disconnect().await;
        }
        tokio::time::sleep(RESUME_WINDOW).await;
        check(&settled(&log).await, seed);
        for rooms in nodes {
            assert_empty(&rooms);
            rooms.shutdown().await;
        }
    }
}

fn check(lines: &[String], seed: u64) {
    for user in ["u", "v"] {
        let mut is_online = false;
        for line in lines.iter().filter(|line| line.split([' ', ':']).nth(1) == Some(user)) {
            match line.split(' ').next() {
                Some("online") => {
                    assert!(!std::mem::replace(&mut is_online, true), "seed {seed}: {lines:#?}")
                }
                Some("offline") => assert!(std::mem::take(&mut is_online), "seed {seed}: {lines:#?}"),
                _ => assert!(is_online, "seed {seed}: {line} in {lines:#?}"),
            }
        }
        assert!(!is_online, "seed {seed}: {lines:#?}");
    }
}
