//! Processes without sockets that send to rooms.

use serde_json::{Value, json};
use tower_chat_rooms::{RedisPublisher, RedisSent, RedisSettings, SendError};

use super::Server;
use crate::nodes::{enter, expect};
use crate::support::{Client, Next, take_id, unlimited};

impl Server {
    async fn publisher(&self) -> RedisPublisher {
        RedisPublisher::connect(RedisSettings::new(self.url())).await.unwrap()
    }
}

/// The next frame is this one of the host. Returns its id.
async fn expect_notice(client: &mut Client, message: &str, seq: u64) -> u64 {
    let mut frame = client.next().await;
    let id = take_id(&mut frame);
    let want = json!({"event": "notice", "message": message, "roomId": "r", "seq": seq, "num": 2});
    assert_eq!(frame, want);
    id
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
    assert_eq!(publisher.send_once("r", "key", &notice("a")).await.unwrap(), RedisSent::NoMembers);
    let (mut ann, _) = enter(&one, "ann").await;
    let (mut bob, _) = enter(&other, "bob").await;
    expect(&mut ann, "enter", "bob", 2, 2).await;

    let mut ids = Vec::new();
    let mut note = |sent: Result<RedisSent, SendError>| match sent.unwrap() {
        RedisSent::Published { id, members: 2, .. } => ids.push(id),
        other => panic!("{other:?}"),
    };
    note(publisher.send("r", &notice("a")).await);
    note(publisher.send_once("r", "key", &notice("b")).await);
    let another = server.publisher().await;
    for publisher in [&publisher, &another] {
        assert_eq!(publisher.send_once("r", "key", &notice("not sent")).await.unwrap(), RedisSent::Repeated);
    }
    note(another.send("r", &notice("c")).await);
    // Nodes and publishers have the keys in common.
    let repeated = one.send_once("r", "key", &notice("not sent")).unwrap().await.unwrap();
    assert_eq!(repeated.id, Some(ids[1]));
    for client in [&mut ann, &mut bob] {
        for ((seq, message), id) in (3..).zip(["a", "b", "c"]).zip(&ids) {
            assert_eq!(expect_notice(client, message, seq).await, id.as_u64());
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
    let twice = serde_json::value::RawValue::from_string(r#"{"event":"x","event":"y"}"#.to_owned()).unwrap();
    let sent = publisher.send("r", &twice).await;
    assert!(matches!(sent, Err(SendError::DuplicateKey)), "{sent:?}");
}
