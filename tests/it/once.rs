//! A message sent twice goes out once, and whoever waits for its fate hears of it.

use serde_json::json;
use tower_chat_rooms::{Admission, ChatRooms, Denied, EnterRequest, MessageRequest, RoomPolicy, Verdict};

use crate::client::Client;
use crate::comer::{Comer, kept, resumed};

#[tokio::test(start_paused = true)]
async fn a_message_sent_twice_goes_out_once() {
    let (rooms, log) = kept();
    let mut bob = Comer::enter(&rooms, "bob").await;
    let mut ann = Comer::enter(&rooms, "ann").await;
    bob.hears("ann").await;
    let say = |n: u32| json!({"event": "message", "message": n, "cid": format!("c{n}")});
    for n in [1, 1, 2, 1, 2] {
        ann.client.say(say(n)).await;
        let ack = ann.client.next().await;
        assert_eq!(ack, json!({"event": "ack", "cid": format!("c{n}"), "seq": n + 2}));
        // Its own message follows the first time.
        if ann.since["seq"] == n + 1 {
            ann.hears(n).await;
        }
    }
    ann.lose().await;
    assert!(resumed(&ann.back(&rooms).await).0);
    for n in [2, 3] {
        ann.client.say(say(n)).await;
        assert_eq!(ann.client.next().await["seq"], n + 2);
    }
    for n in [1, 2, 3] {
        let frame = bob.next().await;
        assert_eq!((&frame["message"], &frame["cid"]), (&json!(n), &json!(format!("c{n}"))));
    }
    assert_eq!(log.take().len(), 2 + 3, "the host hears of each once");
    // A bad one is told, and so is what is said outside of a room, by its id.
    ann.client.say(json!({"event": "message", "cid": 7})).await;
    ann.hears(3).await;
    assert_eq!(ann.client.next().await["code"], "bad_shape");
    let (mut stranger, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    stranger.say(say(1)).await;
    let error = stranger.next().await;
    assert_eq!((&error["code"], &error["cid"]), (&json!("not_entered"), &json!("c1")));
}

struct House;

impl RoomPolicy for House {
    async fn may_enter(&self, request: &EnterRequest<'_>) -> Result<(), Denied> {
        if request.name().as_str() == "eve" { Err(Denied::new("not you")) } else { Ok(()) }
    }

    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        match request.event() {
            "refuse" => Verdict::refuse("no"),
            "drop" => Verdict::drop_silently(),
            "replace" => Verdict::replace(&json!({"event": "message", "message": "nice"})).unwrap(),
            _ => Verdict::allow(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_policys_word_reaches_who_waits_for_it() {
    let rooms = ChatRooms::builder().policy(House).build().unwrap();
    let mut ann = Comer::enter(&rooms, "ann").await;
    for (event, want) in [
        ("refuse", json!({"event": "error", "code": "denied", "message": "no", "cid": "c"})),
        ("drop", json!({"event": "ack", "cid": "c", "seq": 1})),
        ("drop", json!({"event": "ack", "cid": "c", "seq": 1})),
    ] {
        ann.client.say(json!({"event": event, "cid": "c"})).await;
        assert_eq!(ann.client.next().await, want);
    }
    ann.client.say(json!({"event": "replace", "cid": "d"})).await;
    assert_eq!(ann.client.next().await, json!({"event": "ack", "cid": "d", "seq": 2}));
    ann.hears("nice").await;
    ann.client.say(json!({"event": "enter", "message": "eve", "roomId": "r"})).await;
    assert_eq!(ann.client.next().await["code"], "denied");
    // A refused move leaves him where he is.
    ann.say("here").await;
    ann.hears("here").await;
}
