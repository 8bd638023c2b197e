//! So many clients enter at once that Redis needs more than a few seconds to answer them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::sleep;
use tower_chat_rooms::{Admission, BrokerNode};

use super::Server;
use super::proxy::{COMMANDS, Proxy, SUBSCRIBER};
use crate::nodes::enter;
use crate::support::{Client, enter_frame, leave_frame, unlimited};

const CLIENTS: usize = 3000;
const CLIENTS_PER_ROOM: usize = 50;

/// Clients wait while Redis answers others. Messages do not wait for them.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn many_clients_enter_at_once_over_redis() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server, "proxy");
    let settings = proxy.settings().lease(Duration::from_secs(10));
    let rooms = unlimited().broker(BrokerNode::redis(settings).await.unwrap()).build().unwrap();
    let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    ann.send(enter_frame("ann", "other room")).await;
    for event in ["entered", "enter"] {
        ann.next_of(event).await;
    }

    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect_v1(&rooms, Admission::anonymous()).await.0);
    }
    proxy.set_slow(COMMANDS);
    let begin = Instant::now();
    let entered = AtomicUsize::new(0);
    let enters = clients.iter_mut().enumerate().map(async |(n, client)| {
        client.send(enter_frame(&format!("m{n}"), &format!("r{}", n / CLIENTS_PER_ROOM))).await;
        client.next_of("entered").await;
        entered.fetch_add(1, Ordering::Relaxed);
    });
    let most_are_waiting = || entered.load(Ordering::Relaxed) < CLIENTS / 2;
    let message = async {
        while entered.load(Ordering::Relaxed) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        while most_are_waiting() {
            ann.send(json!({"event": "message", "message": "hello"})).await;
            // On a machine with much other work, a message may be refused.
            if ann.next().await["event"] == "message" {
                return most_are_waiting();
            }
        }
        false
    };
    let (_, is_published) = tokio::join!(join_all(enters), message);
    assert!(begin.elapsed() > Duration::from_secs(5), "the clients have not waited: {:?}", begin.elapsed());
    assert!(is_published, "a message waits behind the enters");
    let stats = rooms.stats();
    assert_eq!(stats.entered - stats.left, CLIENTS as u64 + 1);
    rooms.shutdown().await;
}

/// More enters wait for subscriptions to their rooms than may be under way at once.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_member_leaves_while_enters_wait() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server, "proxy");
    let settings = proxy.settings().lease(Duration::from_secs(10));
    let rooms = unlimited().broker(BrokerNode::redis(settings).await.unwrap()).build().unwrap();
    let other = server.node(unlimited()).await;
    let (mut ann, _) = enter(&rooms, "ann").await;
    let (mut bob, _) = enter(&other, "bob").await;
    ann.next_of("enter").await;
    proxy.set_held(SUBSCRIBER, true);
    let mut clients = Vec::new();
    for n in 0..200 {
        let (mut client, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        client.send(enter_frame("m", &format!("r{n}"))).await;
        clients.push(client);
    }
    // If not all enters are on their way by then, the test is easier to pass, but does not fail.
    sleep(Duration::from_millis(300)).await;
    ann.send(leave_frame("r")).await;
    bob.next_of("out").await;
    assert_eq!(rooms.stats().entered, 1, "no other client has entered by now");
    assert_eq!(rooms.stats().connections, 201, "no other client was refused by now");
    proxy.set_held(SUBSCRIBER, false);
    rooms.shutdown().await;
    other.shutdown().await;
}
