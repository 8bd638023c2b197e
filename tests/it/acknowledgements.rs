//! Messages with ids: deduplication, acknowledgements, and the policy's verdicts.

use std::sync::{Arc, OnceLock};

use serde_json::json;
use tower_chat_rooms::{
    Access, Admission, ChatRooms, Denied, EnterRequest, MessageRequest, RoomEvent, RoomPolicy, Verdict,
};

use crate::support::{
    Client, V1Client, builder, has_shared_broker, recovering_rooms, removed_frame, resumed_and_recovered,
    take_id,
};

#[tokio::test(start_paused = true)]
async fn a_message_sent_twice_goes_out_once() {
    let (rooms, log) = recovering_rooms();
    let mut bob = V1Client::enter(&rooms, "bob").await;
    let mut ann = V1Client::enter(&rooms, "ann").await;
    bob.expect_message("ann").await;
    let message = |n: u32| json!({"event": "message", "message": n, "cid": format!("c{n}")});
    let mut ids = Vec::new();
    for n in [1, 1, 2, 1, 2] {
        ann.connection.send(message(n)).await;
        let mut ack = ann.connection.next().await;
        let id = take_id(&mut ack);
        assert_eq!(ack, json!({"event": "ack", "cid": format!("c{n}"), "seq": n + 2}));
        // The message itself follows the first acknowledgement.
        if ann.position["seq"] == n + 1 {
            assert_eq!(take_id(&mut ann.next().await), id);
            ids.push(id);
        }
        assert_eq!(id, ids[n as usize - 1], "the id of the first time");
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    ann.disconnect().await;
    assert!(resumed_and_recovered(&ann.reconnect(&rooms).await).0);
    for n in [2, 3] {
        ann.connection.send(message(n)).await;
        assert_eq!(ann.connection.next().await["seq"], n + 2);
    }
    for n in [1, 2, 3] {
        let frame = bob.next().await;
        assert_eq!((&frame["message"], &frame["cid"]), (&json!(n), &json!(format!("c{n}"))));
    }
    assert_eq!(log.take().len(), 2 + 3, "two enters, and each message once");
    // An invalid id is an error. So is a message outside of a room, whose error has its id.
    ann.connection.send(json!({"event": "message", "cid": 7})).await;
    ann.expect_message(3).await;
    assert_eq!(ann.connection.next().await["code"], "bad_shape");
    let (mut outside, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    outside.send(message(1)).await;
    let error = outside.next().await;
    assert_eq!((&error["code"], &error["cid"]), (&json!("not_entered"), &json!("c1")));
}

struct MyPolicy;

impl RoomPolicy for MyPolicy {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<Access, Denied> {
        if request.name().as_str() == "eve" { Err(Denied::new("not you")) } else { Ok(Access::member()) }
    }

    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        match request.event() {
            "refuse" => Verdict::refuse("no"),
            "drop" => Verdict::drop_silently(),
            "replace" => Verdict::replace(&json!({"event": "message", "message": "nice"})).unwrap(),
            "replace cid" => Verdict::replace(&json!({"event": "message", "cid": "other"})).unwrap(),
            _ => Verdict::allow(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_policys_verdict_reaches_the_sender() {
    let rooms = builder().policy(MyPolicy).build().unwrap();
    let mut ann = V1Client::enter(&rooms, "ann").await;
    let mut ids = Vec::new();
    for (event, want) in [
        ("refuse", json!({"event": "error", "code": "denied", "message": "no", "cid": "c"})),
        ("drop", json!({"event": "ack", "cid": "c", "seq": 1})),
        ("drop", json!({"event": "ack", "cid": "c", "seq": 1})),
    ] {
        ann.connection.send(json!({"event": event, "cid": "c"})).await;
        let mut answer = ann.connection.next().await;
        if event == "drop" {
            ids.push(take_id(&mut answer));
        }
        assert_eq!(answer, want);
    }
    ann.connection.send(json!({"event": "replace", "cid": "d"})).await;
    let mut ack = ann.connection.next().await;
    let next = take_id(&mut ack);
    assert_eq!(ids[0], ids[1]);
    // A broker may give the id of a dropped message to another one.
    assert!(next > ids[0] || has_shared_broker(), "the dropped message has an id of its own: {ids:?}");
    assert_eq!(ack, json!({"event": "ack", "cid": "d", "seq": 2}));
    ann.expect_message("nice").await;
    ann.connection.send(json!({"event": "enter", "message": "eve", "roomId": "r"})).await;
    assert_eq!(ann.connection.next().await["code"], "denied");
    // A member that may not change its name stays in its room.
    ann.send_message("here").await;
    ann.expect_message("here").await;
}

/// Messages that no member could receive used to be acknowledged.
#[tokio::test(start_paused = true)]
async fn no_message_is_acknowledged_in_a_closed_room() {
    let host: Arc<OnceLock<ChatRooms>> = Arc::default();
    let hook = host.clone();
    let rooms = builder()
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Message(message) = event {
                assert_eq!(message.event, "close");
                hook.get().unwrap().close_room("r");
            }
        })
        .build()
        .unwrap();
    host.set(rooms.clone()).unwrap();
    let (mut ann, _) = Client::enter_v1(&rooms, Admission::anonymous()).await;
    ann.send_at_once([json!({"event": "close", "cid": "c1"}), json!({"event": "message", "cid": "c2"})])
        .await;
    let mut ack = ann.next().await;
    take_id(&mut ack);
    assert_eq!(ack, json!({"event": "ack", "cid": "c1", "seq": 2}));
    // With a broker, the room may be closed before the message itself has come back.
    if !has_shared_broker() {
        assert_eq!(ann.next().await["cid"], "c1", "the message itself");
    }
    assert_eq!(ann.next().await, removed_frame("r", "room_closed", "the room was closed"));
    let refused = ann.next().await;
    assert_eq!((&refused["code"], &refused["cid"]), (&json!("not_entered"), &json!("c2")));
    assert_eq!(rooms.stats().messages, 1);
}

/// A client used not to recognize its own message after the policy had replaced it, and sent it again.
#[tokio::test(start_paused = true)]
async fn a_message_keeps_its_cid_if_the_policy_replaces_it() {
    let rooms = builder().policy(MyPolicy).build().unwrap();
    let (mut ann, _) = Client::enter_v1(&rooms, Admission::anonymous()).await;
    for event in ["replace", "replace cid"] {
        ann.send(json!({"event": event, "cid": event})).await;
        let [_, message] = ann.next_acknowledged().await;
        assert_eq!(message["cid"], event);
    }
    // Without a cid of the client's, the replacement is unchanged.
    ann.send(json!({"event": "replace cid"})).await;
    assert_eq!(ann.next().await["cid"], "other");
}
