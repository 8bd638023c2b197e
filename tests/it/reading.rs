//! Earlier messages: pages of a room's history, and what a client gets from the store when it enters.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tower_chat_rooms::store::{MemoryStore, MessageStore, StoreFault, StoredMessage};
use tower_chat_rooms::{
    Admission, ChatRooms, ChatRoomsBuilder, Denied, History, Keep, MessageId, ReadRequest, Recovery, RoomId,
    RoomPolicy,
};

use crate::support::{
    Client, builder, enter_frame, message_frame, message_with_cid, take_id, without_limits,
};

fn rooms_on(store: &MemoryStore) -> ChatRoomsBuilder {
    without_limits(builder()).store(store.clone())
}

/// A store with this many messages in the room "r", from a minute ago. The message is its number.
async fn store_with(messages: u64) -> MemoryStore {
    let store = MemoryStore::new();
    let first = MessageId::first_at(SystemTime::now() - Duration::from_secs(60)).as_u64();
    let messages: Vec<StoredMessage> = (0..messages)
        .map(|n| {
            let body = json!({"event": "message", "message": n, "roomId": "r", "cid": format!("c{n}")});
            let id = MessageId::from_u64(first + n).unwrap();
            StoredMessage::new(id, body.to_string()).with_connection("7".parse().unwrap()).with_name("old")
        })
        .collect();
    for batch in messages.chunks(1000) {
        store.append(&RoomId::from("r"), batch).await.unwrap();
    }
    store
}

async fn connect(rooms: &ChatRooms) -> Client {
    Client::connect_v1(rooms, Admission::anonymous()).await.0
}

/// Enters the room "r" with further keys. Returns the answer.
async fn enter(client: &mut Client, name: &str, keys: Value) -> Value {
    let mut frame = enter_frame(name, "r");
    frame.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    client.send(frame).await;
    client.next_of("entered").await
}

/// Asks for messages, and returns the answer without what it always has.
async fn read(client: &mut Client, keys: Value) -> (Vec<Value>, bool) {
    let mut frame = json!({"event": "history", "roomId": "r", "cid": "h"});
    frame.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    client.send(frame).await;
    let answer = client.next_of("history").await;
    assert_eq!((&answer["roomId"], &answer["cid"]), (&json!("r"), &json!("h")), "{answer}");
    (answer["messages"].as_array().unwrap().clone(), answer["more"].as_bool().unwrap())
}

fn texts(messages: &[Value]) -> Vec<Value> {
    messages.iter().map(|message| message["message"].clone()).collect()
}

fn range(from: u64, to: u64) -> Vec<Value> {
    (from..to).map(Value::from).collect()
}

#[tokio::test(start_paused = true)]
async fn a_client_pages_through_the_store() {
    let store = store_with(120).await;
    let rooms = rooms_on(&store).build().unwrap();
    let mut ann = connect(&rooms).await;
    enter(&mut ann, "ann", json!({})).await;
    ann.next_of("enter").await;
    let (page, has_more) = read(&mut ann, json!({})).await;
    assert_eq!((texts(&page), has_more), (range(70, 120), true), "50 by default");
    let mut message = page[0].clone();
    let id = take_id(&mut message);
    assert_eq!(id, store.messages(&RoomId::from("r"))[70].id().as_u64());
    let want =
        json!({"event": "message", "message": 70, "cid": "c70", "name": "old", "member": "7", "roomId": "r"});
    assert_eq!(message, want);
    let (page, has_more) = read(&mut ann, json!({"before": id, "limit": 69})).await;
    assert_eq!((texts(&page), has_more), (range(1, 70), true));
    let (page, has_more) = read(&mut ann, json!({"before": page[0]["id"], "limit": 5})).await;
    assert_eq!((texts(&page), has_more), (range(0, 1), false));
    assert_eq!(read(&mut ann, json!({"before": page[0]["id"]})).await, (vec![], false));
    let (page, has_more) = read(&mut ann, json!({"after": page[0]["id"], "limit": 3})).await;
    assert_eq!((texts(&page), has_more), (range(1, 4), true));
    let (page, has_more) = read(&mut ann, json!({"after": id, "limit": 1000})).await;
    assert_eq!((texts(&page), has_more), (range(71, 120), false));
}

#[tokio::test(start_paused = true)]
async fn without_a_store_a_client_pages_through_the_rooms_memory() {
    let rooms =
        without_limits(builder()).recovery(Recovery::default().history(History::last(4))).build().unwrap();
    let mut ann = connect(&rooms).await;
    enter(&mut ann, "ann", json!({})).await;
    ann.next_of("enter").await;
    assert_eq!(read(&mut ann, json!({})).await, (vec![], false));
    let mut sent = Vec::new();
    for n in 0..6 {
        ann.send(message_frame("r", n)).await;
        sent.push(ann.next_of("message").await);
    }
    assert_eq!(read(&mut ann, json!({"limit": 9})).await, (sent[2..].to_vec(), false), "with their `seq`");
    assert_eq!(read(&mut ann, json!({"limit": 1})).await, (sent[5..].to_vec(), true));
    let before = json!({"before": sent[5]["id"], "limit": 2});
    assert_eq!(read(&mut ann, before).await, (sent[3..5].to_vec(), true));
    assert_eq!(read(&mut ann, json!({"after": sent[3]["id"]})).await, (sent[4..].to_vec(), false));
}

#[tokio::test(start_paused = true)]
async fn messages_in_memory_and_in_the_store_are_put_together() {
    let store = store_with(10).await;
    let rooms = rooms_on(&store).recovery(Recovery::default().history(History::last(4))).build().unwrap();
    let mut ann = connect(&rooms).await;
    enter(&mut ann, "ann", json!({})).await;
    ann.next_of("enter").await;
    for n in 10..20 {
        ann.send(message_frame("r", n)).await;
        ann.next_of("message").await;
    }
    let (page, has_more) = read(&mut ann, json!({"limit": 15})).await;
    assert_eq!((texts(&page), has_more), (range(5, 20), true));
    let with_seq = page.iter().filter(|message| message["seq"].is_u64()).count();
    assert_eq!(with_seq, 4, "those in memory are as they were sent");
    let (page, _) = read(&mut ann, json!({"after": page[2]["id"], "limit": 10})).await;
    assert_eq!(texts(&page), range(8, 18));
    // A member that enters gets the older ones with the answer.
    let mut bob = connect(&rooms).await;
    let entered = enter(&mut bob, "bob", json!({"last": 12})).await;
    assert_eq!((&entered["history"], &entered["more"]), (&json!(4), &json!(true)));
    assert_eq!(texts(entered["messages"].as_array().unwrap()), range(8, 16));
    for n in 16..20 {
        assert_eq!(bob.next_of("message").await["message"], n);
    }
    assert_eq!(bob.next().await["event"], "enter");
}

struct NoReading;

impl RoomPolicy for NoReading {
    async fn may_read(&self, _: &ReadRequest<'_>) -> Result<(), Denied> {
        Err(Denied::new("not yours"))
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_decides_who_may_read() {
    let store = store_with(5).await;
    let rooms = rooms_on(&store).policy(NoReading).build().unwrap();
    let mut ann = connect(&rooms).await;
    let since = json!({"epoch": "0000000000000001", "seq": 7, "id": 0});
    for keys in [json!({"last": 5}), json!({"since": since})] {
        let entered = enter(&mut ann, "ann", keys).await;
        assert_eq!((&entered["messages"], &entered["recovered"]), (&Value::Null, &json!(false)));
        ann.send(json!({"event": "leave", "roomId": "r"})).await;
        ann.next_of("left").await;
    }
    enter(&mut ann, "ann", json!({})).await;
    ann.send(json!({"event": "history", "cid": "h"})).await;
    let error = ann.next_of("error").await;
    assert_eq!(error, json!({"event": "error", "code": "denied", "message": "not yours", "cid": "h"}));
}

#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_answered_are_refused() {
    let store = store_with(5).await;
    let rooms = rooms_on(&store).build().unwrap();
    let mut ann = connect(&rooms).await;
    ann.send(json!({"event": "history", "roomId": "r", "cid": "h"})).await;
    let error = ann.next_of("error").await;
    assert_eq!((&error["code"], &error["cid"]), (&json!("not_entered"), &json!("h")));
    enter(&mut ann, "ann", json!({})).await;
    for keys in
        [json!({"before": 1, "after": 1}), json!({"before": "x"}), json!({"limit": 0}), json!({"cid": 7})]
    {
        let mut frame = json!({"event": "history", "roomId": "r"});
        frame.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        ann.send(frame).await;
        assert_eq!(ann.next_of("error").await["code"], "bad_shape", "{keys}");
    }
    for fault in [StoreFault::Fail, StoreFault::Hang] {
        store.set_fault(Some(fault));
        ann.send(json!({"event": "history", "cid": "h"})).await;
        let error = ann.next_of("error").await;
        assert_eq!((&error["code"], &error["cid"]), (&json!("unavailable"), &json!("h")), "{fault:?}");
        assert!(error["retryAfter"].is_u64());
        // A client enters nevertheless.
        let mut bob = connect(&rooms).await;
        let entered = enter(&mut bob, "bob", json!({"last": 5})).await;
        assert_eq!(entered["messages"], Value::Null);
        bob.disconnect().await;
    }
    store.set_fault(None);
    assert_eq!(read(&mut ann, json!({})).await.0.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_client_gets_the_messages_that_it_has_missed() {
    for history in [None, Some(History::last(100))] {
        let store = store_with(3).await;
        let recovery = Recovery::default().history(history);
        let before = rooms_on(&store).recovery(recovery.clone()).build().unwrap();
        let (mut ann, mut bob) = (connect(&before).await, connect(&before).await);
        let entered = enter(&mut ann, "ann", json!({})).await;
        enter(&mut bob, "bob", json!({})).await;
        bob.send(message_frame("r", "seen")).await;
        let seen = ann.next_of("message").await;
        assert!(entered["id"].as_u64() < seen["id"].as_u64(), "{entered}, {seen}");
        ann.disconnect().await;
        bob.send(message_frame("r", "missed")).await;
        bob.next_of("message").await;
        let missed = bob.next_of("message").await;
        assert_eq!(missed["message"], "missed");
        before.shutdown().await;
        // The ids of messages and connections have milliseconds.
        std::thread::sleep(Duration::from_millis(2));
        let after = rooms_on(&store).recovery(recovery).build().unwrap();
        let mut cat = connect(&after).await;
        enter(&mut cat, "cat", json!({})).await;
        cat.send(message_frame("r", "new")).await;
        cat.next_of("message").await;

        let mut ann = connect(&after).await;
        let since = json!({"epoch": entered["epoch"], "seq": seen["seq"], "id": seen["id"]});
        let again = enter(&mut ann, "ann", json!({"since": since})).await;
        assert_eq!((&again["recovered"], &again["more"]), (&json!("store"), &json!(false)), "{again}");
        let stored = again["messages"].as_array().unwrap();
        let mut got = texts(stored);
        assert_eq!(stored[0]["member"], missed["member"], "no id of a member is used again");
        assert_ne!(again["member"], entered["member"]);
        for _ in 0..again["replayed"].as_u64().unwrap() {
            let frame = ann.next().await;
            // The replay may repeat messages from the store.
            let is_new =
                frame.get("id").is_some() && stored.iter().all(|message| message["id"] != frame["id"]);
            got.extend(is_new.then(|| frame["message"].clone()));
        }
        assert_eq!(got, ["missed", "new"]);
        assert_eq!(ann.next().await["name"], "ann", "its own enter");
        // It has nothing to catch up on now.
        let since = json!({"epoch": "ffffffffffffffff", "seq": 0, "id": again["id"]});
        ann.disconnect().await;
        let mut ann = connect(&after).await;
        let again = enter(&mut ann, "ann", json!({"since": since})).await;
        assert_eq!((&again["recovered"], &again["messages"]), (&json!("store"), &json!([])), "{again}");
        after.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_missed_too_much_gets_the_latest_messages() {
    let store = store_with(700).await;
    let rooms = rooms_on(&store).build().unwrap();
    // The epoch of another server may be any string.
    for epoch in ["0000000000000001", "0000000000000001x", "another server", ""] {
        let mut ann = connect(&rooms).await;
        let since = json!({"epoch": epoch, "seq": 7, "id": 0});
        let entered = enter(&mut ann, "ann", json!({"since": since})).await;
        assert_eq!((&entered["recovered"], &entered["more"]), (&json!(false), &json!(true)), "{epoch}");
        assert_eq!(texts(entered["messages"].as_array().unwrap()), range(200, 700));
        // With a broker, the leave may arrive while the next client enters.
        ann.close().await;
    }
    // Without an id, the server cannot know what the client has.
    let mut bob = connect(&rooms).await;
    let since = json!({"epoch": "0000000000000001", "seq": 7});
    let entered = enter(&mut bob, "bob", json!({"since": since})).await;
    assert_eq!((&entered["recovered"], &entered["messages"]), (&json!(false), &Value::Null));
}

/// Its id is chosen before it is stored. A client that enters meanwhile used to take it for one that it had.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_being_stored_is_later_than_an_enter() {
    let store = store_with(0).await;
    let rooms = rooms_on(&store).build().unwrap();
    let mut ann = connect(&rooms).await;
    enter(&mut ann, "ann", json!({})).await;
    ann.send(message_frame("r", "first")).await;
    let first = ann.next_of("message").await;
    store.set_fault(Some(StoreFault::Hang));
    ann.send(message_frame("r", "second")).await;
    store.until_appends(2).await;
    let mut bob = connect(&rooms).await;
    let entered = enter(&mut bob, "bob", json!({})).await;
    store.set_fault(None);
    let second = bob.next_of("message").await;
    assert!(first["id"].as_u64() <= entered["id"].as_u64(), "{entered}");
    assert!(entered["id"].as_u64() < second["id"].as_u64(), "{entered}, {second}");
}

/// Members of an earlier process have had only message 0 of these. Its sender has not learned that, and sends it again.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_published_again_does_not_hide_later_ones_in_the_store() {
    let (old, store) = (store_with(3).await, MemoryStore::new());
    let messages = old.messages(&RoomId::from("r"));
    let keys = ["cid:c0", "cid:c1", "cid:c2"];
    let with_keys: Vec<_> =
        messages.iter().zip(keys).map(|(message, key)| message.clone().with_key(key)).collect();
    store.append(&RoomId::from("r"), &with_keys).await.unwrap();
    let rooms = rooms_on(&store).recovery(Recovery::default().history(History::last(9))).build().unwrap();
    let mut ann = connect(&rooms).await;
    enter(&mut ann, "ann", json!({})).await;
    // Two of them, with one in between that the room does not have in memory.
    for n in [0, 2] {
        ann.send(message_with_cid("r", n, &format!("c{n}"))).await;
        assert_eq!(ann.next_of("message").await["id"], messages[n].id().as_u64());
    }
    let mut bob = connect(&rooms).await;
    let since = json!({"epoch": "0000000000000001", "seq": 7, "id": messages[0].id()});
    let entered = enter(&mut bob, "bob", json!({"since": since})).await;
    assert_eq!(entered["recovered"], "store");
    let mut missed = texts(entered["messages"].as_array().unwrap());
    missed.retain(|message| *message != 0);
    assert_eq!(missed, range(1, 3), "{entered}");
    let (page, has_more) = read(&mut ann, json!({"after": messages[0].id()})).await;
    assert_eq!((texts(&page), has_more), (range(1, 3), false));
    let (page, has_more) = read(&mut ann, json!({"limit": 1})).await;
    assert_eq!((texts(&page), has_more), (range(2, 3), true));
    ann.send(message_frame("r", 3)).await;
    ann.next_of("message").await;
    let (page, has_more) = read(&mut ann, json!({"limit": 2})).await;
    assert_eq!((texts(&page), has_more), (range(2, 4), true));
    let (page, has_more) = read(&mut ann, json!({"limit": 3})).await;
    assert_eq!((texts(&page), has_more), (range(1, 4), true));
}

/// The store had it, although it said that it had failed. A client is away when it goes out, after later ones.
#[tokio::test(start_paused = true)]
async fn a_client_gets_a_message_that_went_out_later_than_its_id_says() {
    for history in [None, Some(History::last(3))] {
        let store = MemoryStore::new();
        let rooms = rooms_on(&store).recovery(Recovery::default().history(history)).build().unwrap();
        let (mut ann, mut bob) = (connect(&rooms).await, connect(&rooms).await);
        let entered = enter(&mut ann, "ann", json!({})).await;
        enter(&mut bob, "bob", json!({})).await;
        ann.send(message_frame("r", "first")).await;
        assert_eq!(bob.next_of("message").await["message"], "first");
        store.set_fault(Some(StoreFault::LoseAnswers));
        ann.send(message_with_cid("r", "late", "c")).await;
        assert_eq!(ann.next_of("error").await["code"], "unavailable");
        store.set_fault(None);
        ann.send(message_frame("r", "seen")).await;
        let seen = bob.next_of("message").await;
        assert_eq!(seen["message"], "seen");
        bob.close().await;
        ann.send(message_with_cid("r", "late", "c")).await;
        ann.next_of("ack").await;
        for n in 0..5 {
            ann.send(message_frame("r", n)).await;
            while ann.next_of("message").await["message"] != n {}
        }
        let mut bob = connect(&rooms).await;
        let since = json!({"epoch": entered["epoch"], "seq": seen["seq"], "id": seen["id"]});
        let again = enter(&mut bob, "bob", json!({"since": since})).await;
        assert_eq!(again["recovered"], "store", "{again}");
        let mut want = vec![json!("late")];
        want.extend(range(0, 5));
        assert_eq!(texts(again["messages"].as_array().unwrap()), want);
        // It is not sent again to a client that has had later ones.
        let mut cat = connect(&rooms).await;
        let since = json!({"epoch": "0000000000000001", "seq": 0, "id": again["id"]});
        let entered = enter(&mut cat, "cat", json!({"since": since})).await;
        assert_eq!((&entered["recovered"], &entered["messages"]), (&json!("store"), &json!([])));
        ann.close().await;
    }
}

/// Its members have had it before the store has.
#[tokio::test(start_paused = true)]
async fn a_client_gets_a_message_that_the_store_does_not_have_yet() {
    let store = store_with(1).await;
    let rooms =
        rooms_on(&store).keep(Keep::Behind).recovery(Recovery::default().history(None)).build().unwrap();
    let mut ann = connect(&rooms).await;
    enter(&mut ann, "ann", json!({})).await;
    ann.send(message_frame("r", "first")).await;
    ann.next_of("message").await;
    store.until_appends(2).await;
    store.set_fault(Some(StoreFault::Fail));
    ann.send(message_frame("r", "second")).await;
    ann.next_of("message").await;
    let mut bob = connect(&rooms).await;
    let since = json!({"epoch": "0000000000000001", "seq": 7, "id": 0});
    let entered = enter(&mut bob, "bob", json!({"since": since})).await;
    assert_eq!(entered["messages"], Value::Null, "the store fails: {entered}");
    store.set_fault(Some(StoreFault::Hang));
    let mut cat = connect(&rooms).await;
    let mut frame = enter_frame("cat", "r");
    frame["since"] = since;
    cat.send(frame).await;
    store.set_fault(None);
    let entered = cat.next_of("entered").await;
    let messages = texts(entered["messages"].as_array().unwrap());
    assert_eq!(messages, [json!(0), json!("first"), json!("second")]);
}

#[tokio::test(start_paused = true)]
async fn a_page_is_bounded_in_bytes() {
    let store = MemoryStore::new();
    let first = MessageId::first_at(SystemTime::now()).as_u64();
    let messages: Vec<StoredMessage> = (0..20)
        .map(|n| {
            let body = json!({"event": "message", "message": "x".repeat(30_000), "n": n});
            StoredMessage::new(MessageId::from_u64(first + n).unwrap(), body.to_string())
        })
        .collect();
    store.append(&RoomId::from("r"), &messages).await.unwrap();
    let rooms = rooms_on(&store).build().unwrap();
    let mut ann = connect(&rooms).await;
    enter(&mut ann, "ann", json!({})).await;
    let (page, has_more) = read(&mut ann, json!({})).await;
    assert_eq!((page.len(), has_more, &page[0]["n"]), (8, true, &json!(12)));
    let (page, has_more) = read(&mut ann, json!({"after": page[0]["id"].as_u64().unwrap() - 12})).await;
    assert_eq!((page.len(), has_more, &page[0]["n"]), (8, true, &json!(1)));
}
