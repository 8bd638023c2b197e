//! Messages: order, acknowledgements, refusals, and what a restarted server receives again.

use std::time::Duration;

use serde_json::json;
use tower_chat_rooms::RoomId;
use tower_chat_rooms::store::{MemoryStore, StoreFault};
use tower_chat_rooms_client::{Client, ClientError, ClientEvent};

use crate::scripted_server::online;
use crate::support::{Replaceable, logged, unlimited};

#[tokio::test(start_paused = true)]
async fn a_message_is_sent_even_if_its_future_is_dropped() {
    let (client, mut connection, _server) = online().await;
    let sender = client.sender();
    drop(sender.send("first"));
    let mut second = Box::pin(sender.send_event("typing", &true));
    assert!(futures_util::FutureExt::now_or_never(&mut second).is_none());
    drop(second);
    let third = sender.send_object(&json!({"message": 3, "to": ["bob"]}));
    let mut cids = Vec::new();
    for expected in [
        json!({"event": "message", "message": "first", "roomId": "r"}),
        json!({"event": "typing", "message": true, "roomId": "r"}),
        json!({"event": "message", "message": 3, "to": ["bob"], "roomId": "r"}),
    ] {
        let mut frame = connection.frame().await;
        cids.push(frame.as_object_mut().unwrap().remove("cid").unwrap());
        assert_eq!(frame, expected);
    }
    for (n, cid) in cids.iter().enumerate() {
        connection.send(json!({"event": "ack", "cid": cid, "seq": n + 1}));
    }
    assert_eq!(third.await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn rejects_reserved_events_and_keys() {
    let (client, _connection, _server) = online().await;
    let sender = client.sender();
    for object in [
        json!({"event": "enter"}),
        json!({"event": 7}),
        json!({"cid": "x"}),
        json!({"roomId": "q"}),
        json!([]),
    ] {
        assert!(matches!(sender.send_object(&object).await, Err(ClientError::Value(_))), "{object}");
    }
    for event in ["ack", "auth", "expiring", "lagged", "leave", "left", "resume", "resumed"] {
        assert!(matches!(sender.send_event(event, &1).await, Err(ClientError::Value(_))), "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_server_cannot_read_is_refused() {
    let (rooms, _) = logged();
    let client = Replaceable::new(rooms).client().name("ann").await.unwrap();
    let sender = client.sender();
    let deep = (0..70).fold(json!(0), |inner, _| json!([inner]));
    for _ in 0..20 {
        let sendings = (sender.send("before"), sender.send(&deep), sender.send("behind"));
        assert!(sendings.0.await.is_ok());
        let refused = sendings.1.await;
        assert!(
            matches!(&refused, Err(ClientError::Refused { code, .. }) if code == "too_deep"),
            "{refused:?}"
        );
        assert!(sendings.2.await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_server_receives_what_was_not_acknowledged() {
    let (old, _) = logged();
    let (new, log) = logged();
    let server = Replaceable::new(old.clone());
    let mut client = server.client().name("ann").await.unwrap();
    let sender = client.sender();
    assert_eq!(sender.send("first").await, Ok(2));
    server.replace(new.clone());
    old.shutdown().await;
    // Sent while there is no server.
    assert_eq!(sender.send("second").await, Ok(2));
    let cid = cid_of_second(&mut client).await;
    let expected = format!(r#"ann r: {{"event":"message","message":"second","roomId":"r","cid":{cid}}}"#);
    assert_eq!(log.take()[1], expected);
    assert_eq!(new.members("r").len(), 1);
}

/// The id of the client's second message. The events of a restart must come before it.
async fn cid_of_second(client: &mut Client) -> String {
    let (mut gap, mut entered) = (false, false);
    loop {
        match client.recv().await.unwrap() {
            ClientEvent::Gap { missed, .. } => gap = missed.is_none(),
            ClientEvent::Entered { resumed, recovered, .. } => entered = !resumed && !recovered,
            ClientEvent::Message(frame) if frame.message() == "second" => {
                assert!(gap && entered && frame.is_own());
                return frame.object()["cid"].to_string();
            }
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_stored_is_sent_again_until_it_is() {
    for fault in [StoreFault::Fail, StoreFault::LoseAnswers, StoreFault::Hang] {
        let store = MemoryStore::new();
        let server = Replaceable::new(unlimited().store(store.clone()).build().unwrap());
        let mut client = server.client().name("ann").await.unwrap();
        store.set_fault(Some(fault));
        let sending = client.sender().send("hi");
        tokio::time::sleep(Duration::from_secs(20)).await;
        store.set_fault(None);
        let seq = sending.await.unwrap();
        let stored = store.messages(&RoomId::from("r"));
        assert_eq!(stored.len(), 1, "{fault:?}");
        let frame = loop {
            if let Some(ClientEvent::Message(frame)) = client.recv().await {
                break frame;
            }
        };
        assert_eq!((frame.seq(), frame.id()), (Some(seq), Some(stored[0].id().as_u64())), "{fault:?}");
        assert_eq!(frame.time(), Some(stored[0].time()));
        let next = client.sender().send("next").await.unwrap();
        assert_eq!(next, seq + 1, "{fault:?}: it goes out once");
    }
}
