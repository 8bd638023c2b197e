//! Processes without sockets that send to rooms.

use serde_json::{Value, json};
use tower_chat_rooms::{RedisPublisher, RedisSettings, SendError, Sent};

use super::Server;
use crate::nodes::{enter, expect};
use crate::support::{Client, Next, unlimited};

impl Server {
    async fn publisher(&self) -> RedisPublisher {
        RedisPublisher::connect(RedisSettings::new(self.url())).await.unwrap()
    }
}

/// The next frame is this one of the host.
async fn expect_notice(client: &mut Client, message: &str, seq: u64) {
    let frame = client.next().await;
    let want = json!({"event": "notice", "message": message, "roomId": "r", "seq": seq, "num": 2});
    assert_eq!(frame, want);
}

fn notice(message: &str) -> Value {
    json!({"event": "notice", "message": message})
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_publisher_sends_once_to_the_members_of_all_nodes() {
    let server = Server::start().await;
    let (one, other) = (server.node(unlimited()).await, server.node(unlimited()).await);
    let publisher = server.publisher().await;
    assert_eq!(publisher.send_once("r", "key", &notice("a")).await.unwrap(), Sent::NoMembers);
    let (mut ann, _) = enter(&one, "ann").await;
    let (mut bob, _) = enter(&other, "bob").await;
    expect(&mut ann, "enter", "bob", 2, 2).await;

    let published = Sent::Published { members: 2 };
    assert_eq!(publisher.send("r", &notice("a")).await.unwrap(), published);
    assert_eq!(publisher.send_once("r", "key", &notice("b")).await.unwrap(), published);
    let another = server.publisher().await;
    for publisher in [&publisher, &another] {
        assert_eq!(publisher.send_once("r", "key", &notice("not sent")).await.unwrap(), Sent::Repeated);
    }
    assert_eq!(another.send("r", &notice("c")).await.unwrap(), published);
    for client in [&mut ann, &mut bob] {
        for (seq, message) in (3..).zip(["a", "b", "c"]) {
            expect_notice(client, message, seq).await;
        }
    }

    publisher.send_transient("r", &json!({"event": "progress", "message": 7})).await.unwrap();
    for client in [&mut ann, &mut bob] {
        let frame = client.next_of("progress").await;
        assert_eq!((&frame["message"], &frame["seq"]), (&json!(7), &Value::Null));
    }
    publisher.broadcast(&json!({"event": "maintenance"})).await.unwrap();
    for client in [&mut ann, &mut bob] {
        client.next_of("maintenance").await;
    }
    publisher.close_room("r").await.unwrap();
    for client in [&mut ann, &mut bob] {
        client.next_of("left").await;
    }
    for client in [ann, bob] {
        client.disconnect().await;
    }
    for rooms in [one, other] {
        rooms.shutdown().await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_publisher_removes_connections_of_any_node() {
    let server = Server::start().await;
    let rooms = server.node(unlimited()).await;
    let (mut ann, _) = enter(&rooms, "ann").await;
    let id = rooms.members("r").first().unwrap().connection;
    server.publisher().await.kick(id).await.unwrap();
    assert!(matches!(ann.next_or_close().await, Next::Closed(4500)));
    ann.disconnect().await;
    rooms.shutdown().await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_publisher_refuses_what_clients_cannot_handle() {
    let server = Server::start().await;
    let publisher = server.publisher().await;
    let sent = publisher.send("r", &json!({"message": "x"})).await;
    assert!(matches!(sent, Err(SendError::NoEvent)), "{sent:?}");
    let sent = publisher.send("r", &json!(["event"])).await;
    assert!(matches!(sent, Err(SendError::NotAnObject)), "{sent:?}");
    let sent = publisher.send("r", &notice(&"x".repeat(1 << 16))).await;
    assert!(matches!(sent, Err(SendError::TooBig)), "{sent:?}");
}
