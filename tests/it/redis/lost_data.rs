//! Redis loses its data while members are in rooms.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tower_chat_rooms::{Admission, BrokerNode, History, Recovery, UniqueNames};

use super::proxy::{COMMANDS, Proxy, SUBSCRIBER};
use super::{Server, come_back, redis_cli, resumable};
use crate::support::{
    Client, EventLog, RESUME_WINDOW, V1Client, assert_empty, enter_frame, resumed_and_recovered, unlimited,
};

impl V1Client {
    /// Reads up to this message. Frames of the room must come in order and without a gap.
    async fn until_message(&mut self, message: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["message"] == message {
                return frame;
            }
        }
    }
}

/// Clients come back and are told that they have missed something; the host is told of nothing.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn members_are_still_there_after_all_data_of_redis_was_deleted() {
    let (server, log) = (Server::start().await, EventLog::default());
    let node = async || {
        let recovery = Recovery::default().resume_window(RESUME_WINDOW).history(History::last(100));
        let builder = unlimited().unique_names(UniqueNames::AnyCase).recovery(recovery);
        server.node(builder.events(log.hook())).await
    };
    let (one, other) = (node().await, node().await);
    let mut ann = V1Client::enter(&one, "ann").await;
    let mut bob = V1Client::enter(&other, "bob").await;
    assert_eq!(ann.next().await["name"], "bob");
    ann.send_message("before").await;
    for client in [&mut ann, &mut bob] {
        client.expect_message("before").await;
    }
    redis_cli(&server.directory.join("socket"), &["FLUSHALL"]);
    for client in [&mut ann, &mut bob] {
        client.connection.frames_until_close().await;
    }
    for (client, node) in [(&mut ann, &one), (&mut bob, &other)] {
        assert_eq!(resumed_and_recovered(&client.reconnect(node).await), (true, false));
    }
    // Until both nodes have entered their members again, the count is too low.
    while one.all_nodes().members("r").await.map_or(0, |members| members.len()) < 2 {
        sleep(Duration::from_millis(10)).await;
    }
    ann.send_message("after").await;
    for client in [&mut ann, &mut bob] {
        let after = client.until_message("after").await;
        assert_eq!(after["num"], 2);
    }
    for rooms in [&one, &other] {
        assert_eq!((rooms.members("r").len(), rooms.rooms()[0].online), (1, 2));
    }
    assert_eq!(log.take_moves(), ["+ ann r 1", "+ bob r 2"]);
    // Their names are taken still, and their sessions can move.
    let (mut thief, _) = Client::connect_v1(&one, Admission::anonymous()).await;
    thief.send(enter_frame("BOB", "r")).await;
    assert_eq!(thief.next_of("error").await["code"], "name_taken");
    thief.close().await;
    ann.disconnect().await;
    assert_eq!(resumed_and_recovered(&ann.reconnect(&other).await), (true, true));
    let cid = come_back(&one, "cid").await;
    assert_eq!(bob.next().await["num"], 3);
    cid.close().await;
    for client in [ann, bob] {
        client.connection.close().await;
    }
    for rooms in [one, other] {
        while rooms.check_consistency().sessions > 0 {
            sleep(Duration::from_millis(10)).await;
        }
        assert_empty(&rooms);
        rooms.shutdown().await;
    }
    assert_eq!(server.lasting_keys().await, [""; 0]);
}

/// The other nodes heard the body of the first enter again. The node of the member told them of its state only when it had
/// heard that, too: never if the session was on another node by then.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_state_is_not_lost_if_a_session_moves_when_all_data_was_deleted() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server, "one");
    let settings = proxy.settings().node_name("one").lease(Duration::from_secs(1));
    let one = resumable().broker(BrokerNode::redis(settings).await.unwrap()).build().unwrap();
    let (other, third) = (server.node(resumable()).await, server.node(resumable()).await);
    let mut ann = V1Client::enter(&one, "ann").await;
    let mut bob = V1Client::enter(&third, "bob").await;
    ann.connection.send(json!({"event": "state", "state": "away", "roomId": "r"})).await;
    assert_eq!(bob.connection.next_of("state").await["state"], "away");
    for connection in [COMMANDS, SUBSCRIBER] {
        proxy.set_held(connection, true);
    }
    let socket = server.directory.join("socket");
    redis_cli(&socket, &["FLUSHALL"]);
    bob.connection.frames_until_close().await;
    assert_eq!(resumed_and_recovered(&bob.reconnect(&third).await), (true, false));
    // Now the node enters its member again, but does not hear it.
    proxy.set_held(COMMANDS, false);
    while bob.next().await["name"] != "ann" {}
    ann.disconnect().await;
    assert_eq!(ann.reconnect(&other).await["resumed"], true);
    proxy.set_held(SUBSCRIBER, false);
    ann.send_message("moved").await;
    bob.until_message("moved").await;
    for client in [&mut ann, &mut bob] {
        client.connection.send(json!({"event": "members", "roomId": "r"})).await;
        let page = client.connection.next_of("members").await;
        let states: Vec<_> =
            page["members"].as_array().unwrap().iter().map(|member| &member["state"]).collect();
        assert!(states.contains(&&json!("away")), "{page}");
    }
    for client in [ann, bob] {
        client.connection.close().await;
    }
    for rooms in [one, other, third] {
        rooms.shutdown().await;
    }
}
