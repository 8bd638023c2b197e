//! What the host learns of the messages that it sends.

use serde_json::json;
use tower_chat_rooms::{Admission, ChatRooms, SendError, SharedBroker};

use crate::support::{Client, EventLog, enter_frame};

#[tokio::test(start_paused = true)]
async fn the_host_learns_the_id_and_the_position_of_its_message() {
    let rooms = ChatRooms::builder().transient_events(["typing"]).build().unwrap();
    assert_eq!(rooms.position("r"), None);
    let (mut ann, _) = Client::enter_v1(&rooms, Admission::anonymous()).await;
    let before = rooms.position("r").unwrap();
    assert_eq!(before.seq(), 1, "the enter");
    let sent = rooms.send("r", &json!({"event": "notice"})).unwrap().await.unwrap();
    let frame = ann.next().await;
    assert_eq!(json!(sent.id.unwrap()), frame["id"]);
    let position = sent.position.unwrap();
    assert_eq!((json!(position.seq()), position.epoch()), (frame["seq"].clone(), before.epoch()));
    assert_eq!(rooms.position("r"), Some(position));
    let typing = rooms.send("r", &json!({"event": "typing"})).unwrap().await.unwrap();
    assert_eq!((typing.id, typing.position), (None, None));
    assert!(matches!(rooms.send("s", &json!({"event": "notice"})), Err(SendError::NoSuchRoom)));
}

#[tokio::test(start_paused = true)]
async fn a_message_with_a_key_is_sent_once() {
    for broker in [None, Some(SharedBroker::new())] {
        let (is_shared, log) = (broker.is_some(), EventLog::default());
        let mut builder = ChatRooms::builder().events(log.hook());
        if let Some(broker) = &broker {
            builder = builder.broker(broker.node());
        }
        let rooms = builder.build().unwrap();
        let (mut ann, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
        ann.send(enter_frame("ann", "r")).await;
        ann.next_of("enter").await;
        let notice = |n: u32| json!({"event": "notice", "message": n});
        let first = rooms.send_once("r", "order 7", &notice(1)).unwrap().await.unwrap();
        let again = rooms.send_once("r", "order 7", &notice(2)).unwrap().await.unwrap();
        let other = rooms.send_once("r", "order 8", &notice(3)).unwrap().await.unwrap();
        let without_key = rooms.send("r", &notice(4)).unwrap().await.unwrap();
        assert_eq!(first, again, "shared: {is_shared}");
        let seqs = [first, other, without_key].map(|sent| sent.position.unwrap().seq());
        assert_eq!(seqs, [2, 3, 4]);
        for (n, sent) in [(1, first), (3, other), (4, without_key)] {
            let frame = ann.next().await;
            assert_eq!(
                (&frame["message"], &frame["id"]),
                (&json!(n), &json!(sent.id)),
                "shared: {is_shared}"
            );
        }
        rooms.shutdown().await;
    }
}
