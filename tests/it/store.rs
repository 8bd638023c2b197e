//! Rooms with a store: when messages are stored, published and acknowledged, and what happens if the store fails.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tower_chat_rooms::store::{MemoryStore, MessageStore, PageRange, StoreFault, StoredMessage};
use tower_chat_rooms::{
    Admission, ChatRooms, ChatRoomsBuilder, Keep, Message, MessageId, MessageRequest, RoomEvent, RoomId,
    RoomPolicy, SendError, User, Verdict,
};

use crate::support::{
    Client, builder, enter_frame, has_shared_broker, message_with_cid, run_other_tasks, take_id,
    without_limits,
};

fn rooms_on(store: &MemoryStore) -> ChatRoomsBuilder {
    without_limits(builder()).store(store.clone())
}

/// Members of the room "r", each of which has read all enters.
async fn members<const N: usize>(rooms: &ChatRooms, names: [&'static str; N]) -> [Client; N] {
    let mut clients: Vec<Client> = Vec::new();
    for name in names {
        let (mut client, _) = Client::connect_v1(rooms, Admission::anonymous()).await;
        client.send(enter_frame(name, "r")).await;
        assert_eq!(client.next().await["event"], "entered");
        clients.push(client);
        for client in &mut clients {
            assert_eq!(client.next().await["name"], name);
        }
    }
    clients.try_into().unwrap_or_else(|_| unreachable!())
}

/// A message with this `cid` and text.
fn message(cid: &str) -> Value {
    json!({"event": "message", "message": cid, "cid": cid, "roomId": "r"})
}

fn stored(store: &MemoryStore) -> Vec<StoredMessage> {
    store.messages(&RoomId::from("r"))
}

fn ids(messages: &[StoredMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.id().as_u64()).collect()
}

/// No frame is on its way to the client.
async fn expect_nothing(client: &mut Client) {
    run_other_tasks().await;
    client.answer_heartbeats().await;
}

/// The next two frames: the message with this text, and its acknowledgement, in any order. Returns their id.
async fn expect_own(client: &mut Client, cid: &str) -> u64 {
    let (one, other) = (client.next().await, client.next().await);
    let (mut ack, mut frame) = if one["event"] == "ack" { (one, other) } else { (other, one) };
    assert_eq!((&ack["event"], &ack["cid"]), (&json!("ack"), &json!(cid)), "{ack}");
    assert_eq!(frame["message"], cid);
    let id = take_id(&mut ack);
    assert_eq!((id, &ack["seq"]), (take_id(&mut frame), &frame["seq"]));
    id
}

async fn expect_refused(client: &mut Client, cid: &str) {
    let error = client.next().await;
    assert_eq!((&error["code"], &error["cid"]), (&json!("unavailable"), &json!(cid)), "{error}");
    assert!(error["retryAfter"].is_u64());
}

#[tokio::test(start_paused = true)]
async fn a_message_is_stored_then_published_and_acknowledged() {
    let (store, told): (_, Arc<Mutex<Vec<Message>>>) = (MemoryStore::new(), Arc::default());
    let hook = told.clone();
    let rooms = rooms_on(&store)
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Message(message) = event {
                hook.lock().unwrap().push(message.clone());
            }
        })
        .build()
        .unwrap();
    let [mut ann, mut bob] = members(&rooms, ["ann", "bob"]).await;
    store.set_fault(Some(StoreFault::Hang));
    ann.send(message("hi")).await;
    // Enters do not wait.
    let (mut cat, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    cat.send(enter_frame("cat", "r")).await;
    assert_eq!(bob.next().await["name"], "cat");
    assert_eq!(ann.next().await["name"], "cat");
    expect_nothing(&mut ann).await;
    expect_nothing(&mut bob).await;
    assert!(told.lock().unwrap().is_empty() && stored(&store).is_empty());
    store.set_fault(None);
    let id = expect_own(&mut ann, "hi").await;
    let frame = bob.next().await;
    assert_eq!((&frame["id"], &frame["name"], &frame["num"]), (&json!(id), &json!("ann"), &json!(3)));
    let messages = stored(&store);
    assert_eq!(ids(&messages), [id]);
    assert_eq!((messages[0].name(), messages[0].user()), (Some("ann"), None));
    assert_eq!(messages[0].body(), message("hi").to_string());
    run_other_tasks().await;
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].id.as_u64(), json!(told[0].position.seq())), (id, frame["seq"].clone()));
    assert_eq!(told[0].body, messages[0].body());
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_store_works_is_stored_together() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).build().unwrap();
    let mut clients = members(&rooms, ["ann", "bob", "cat", "dan"]).await;
    store.set_fault(Some(StoreFault::Hang));
    clients[0].send(message("0")).await;
    run_other_tasks().await;
    store.set_fault(None);
    expect_own(&mut clients[0], "0").await;
    for client in &mut clients[1..] {
        client.next().await;
    }
    store.set_fault(Some(StoreFault::Hang));
    let before = store.appends();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(message(&format!("m{n}"))).await;
        store.until_appends(before + 1).await;
        run_other_tasks().await;
    }
    assert_eq!(store.appends(), before + 1, "one at a time");
    store.set_fault(None);
    for (n, client) in clients.iter_mut().enumerate() {
        let ack = client.next_of("ack").await;
        assert_eq!(ack["cid"], format!("m{n}"));
    }
    assert_eq!(store.appends(), before + 2, "the others together");
    assert!(ids(&stored(&store)).is_sorted_by(|a, b| a < b));
    assert_eq!(stored(&store).len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_stored_is_refused_and_can_be_sent_again() {
    for fault in [StoreFault::Fail, StoreFault::Hang] {
        let store = MemoryStore::new();
        let rooms = rooms_on(&store).build().unwrap();
        let [mut ann, mut bob] = members(&rooms, ["ann", "bob"]).await;
        store.set_fault(Some(fault));
        let start = Instant::now();
        ann.send(message("hi")).await;
        expect_refused(&mut ann, "hi").await;
        assert!(start.elapsed() <= Duration::from_secs(6), "{fault:?}: {:?}", start.elapsed());
        expect_nothing(&mut bob).await;
        store.set_fault(None);
        ann.send(message("hi")).await;
        let id = expect_own(&mut ann, "hi").await;
        assert_eq!(bob.next().await["id"], id);
        assert_eq!(ids(&stored(&store)), [id]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_storing_was_not_confirmed_goes_out_once() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).build().unwrap();
    let [mut ann, mut bob] = members(&rooms, ["ann", "bob"]).await;
    // So that the room's latest id is known.
    ann.send(message("first")).await;
    expect_own(&mut ann, "first").await;
    bob.next().await;
    // One lost answer: the server asks again.
    store.set_fault(Some(StoreFault::LoseAnswers));
    ann.send(message("one")).await;
    store.until_appends(2).await;
    store.set_fault(None);
    let one = expect_own(&mut ann, "one").await;
    assert_eq!(bob.next().await["id"], one);
    // All answers are lost: the client has to ask again.
    store.set_fault(Some(StoreFault::LoseAnswers));
    ann.send(message("two")).await;
    expect_refused(&mut ann, "two").await;
    expect_nothing(&mut bob).await;
    assert_eq!(stored(&store).len(), 3);
    store.set_fault(None);
    ann.send(message("two")).await;
    let two = expect_own(&mut ann, "two").await;
    ann.send(message("two")).await;
    assert_eq!(ann.next().await["id"], two, "acknowledged again");
    assert_eq!(bob.next().await["id"], two);
    expect_nothing(&mut bob).await;
    assert_eq!(ids(&stored(&store))[1..], [one, two]);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_message_is_found_in_the_store() {
    let store = MemoryStore::new();
    let before = rooms_on(&store).build().unwrap();
    let [mut ann, mut bob] = members(&before, ["ann", "bob"]).await;
    ann.send(message("hi")).await;
    let id = expect_own(&mut ann, "hi").await;
    bob.next().await;
    before.shutdown().await;
    // Ids have milliseconds.
    std::thread::sleep(Duration::from_millis(2));
    let after = rooms_on(&store).build().unwrap();
    let [mut ann, mut bob] = members(&after, ["ann", "bob"]).await;
    // The acknowledgement was lost. These members may not have seen it.
    ann.send(message("hi")).await;
    assert_eq!(expect_own(&mut ann, "hi").await, id);
    assert_eq!(bob.next().await["id"], id);
    bob.send(message("next")).await;
    assert!(expect_own(&mut bob, "next").await > id);
    ann.next().await;
    // Now they have, even if the session is another one.
    let (mut cat, _) = Client::connect_v1(&after, Admission::anonymous()).await;
    cat.send(enter_frame("cat", "r")).await;
    cat.next_of("enter").await;
    bob.next().await;
    cat.send(message("hi")).await;
    assert_eq!(cat.next_of("ack").await["id"], id);
    expect_nothing(&mut bob).await;
    assert_eq!(stored(&store).len(), 2);
}

/// Hangs for one room.
struct HangsIn(&'static str, MemoryStore);

impl MessageStore for HangsIn {
    type Error = tower_chat_rooms::store::MemoryStoreError;

    async fn append(&self, room: &RoomId, messages: &[StoredMessage]) -> Result<Vec<MessageId>, Self::Error> {
        if room.as_str() == self.0 {
            std::future::pending::<()>().await;
        }
        self.1.append(room, messages).await
    }

    async fn page(
        &self,
        room: &RoomId,
        range: PageRange,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, Self::Error> {
        self.1.page(room, range, limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn rooms_do_not_wait_for_each_other() {
    let rooms = without_limits(builder()).store(HangsIn("s", MemoryStore::new())).build().unwrap();
    let [mut ann] = members(&rooms, ["ann"]).await;
    let (mut bob, _) = Client::connect_v1(&rooms, Admission::anonymous()).await;
    bob.send(enter_frame("bob", "s")).await;
    bob.next_of("enter").await;
    bob.send(message_with_cid("s", "hangs", "c")).await;
    run_other_tasks().await;
    let start = Instant::now();
    for n in 0..9 {
        ann.send(message(&n.to_string())).await;
        expect_own(&mut ann, &n.to_string()).await;
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    expect_refused(&mut bob, "c").await;
}

#[tokio::test(start_paused = true)]
async fn behind_the_members_get_the_message_at_once_and_the_store_later() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).keep(Keep::Behind).build().unwrap();
    let [mut ann, mut bob] = members(&rooms, ["ann", "bob"]).await;
    ann.send(message("first")).await;
    let first = expect_own(&mut ann, "first").await;
    bob.next().await;
    run_other_tasks().await;
    store.set_fault(Some(StoreFault::Fail));
    let mut out = vec![first];
    for cid in ["one", "two"] {
        let start = Instant::now();
        ann.send(message(cid)).await;
        out.push(expect_own(&mut ann, cid).await);
        assert_eq!(bob.next().await["message"], cid);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(stored(&store).len(), 1);
    store.set_fault(None);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(ids(&stored(&store)), out);
    rooms.shutdown().await;
}

struct ByEvent;

impl RoomPolicy for ByEvent {
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        match request.event() {
            "never" => Verdict::allow().keep(Keep::Never),
            "later" => Verdict::later(async { Verdict::allow().keep(Keep::Never) }),
            _ => Verdict::allow(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_stored_overtakes_none_that_is() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).policy(ByEvent).build().unwrap();
    let [mut ann, mut bob, mut cat] = members(&rooms, ["ann", "bob", "cat"]).await;
    for event in ["never", "later"] {
        ann.send(json!({"event": event})).await;
        for client in [&mut ann, &mut bob, &mut cat] {
            assert_eq!(client.next().await["event"], event);
        }
    }
    // A broker that several nodes share must know the ids in the store.
    assert_eq!((store.appends(), store.pages()), (0, u64::from(has_shared_broker())));
    store.set_fault(Some(StoreFault::Hang));
    ann.send(message("first")).await;
    run_other_tasks().await;
    bob.send(json!({"event": "never"})).await;
    expect_nothing(&mut cat).await;
    store.set_fault(None);
    let (first, never) = (cat.next().await, cat.next().await);
    assert_eq!((&first["message"], &never["event"]), (&json!("first"), &json!("never")));
    assert!(first["id"].as_u64() < never["id"].as_u64() && first["seq"].as_u64() < never["seq"].as_u64());
    assert_eq!(stored(&store).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_finishes_what_is_being_stored() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).build().unwrap();
    let [mut ann] = members(&rooms, ["ann"]).await;
    ann.send(message("first")).await;
    expect_own(&mut ann, "first").await;
    store.set_fault(Some(StoreFault::Hang));
    ann.send(message("hi")).await;
    store.until_appends(2).await;
    let shutdown = tokio::spawn({
        let rooms = rooms.clone();
        async move { rooms.shutdown().await }
    });
    run_other_tasks().await;
    assert!(!shutdown.is_finished());
    store.set_fault(None);
    shutdown.await.unwrap();
    assert_eq!(stored(&store).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_does_not_hold_up_a_shutdown() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).build().unwrap();
    let [mut ann] = members(&rooms, ["ann"]).await;
    store.set_fault(Some(StoreFault::Hang));
    ann.send(message("hi")).await;
    run_other_tasks().await;
    timeout(Duration::from_secs(4), rooms.shutdown()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn messages_of_the_host_are_stored_too() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).build().unwrap();
    let [mut ann] = members(&rooms, ["ann"]).await;
    let notice = json!({"event": "notice", "message": "hi"});
    let sent = rooms.send("r", &notice).unwrap().await.unwrap();
    let frame = ann.next().await;
    assert_eq!(
        (json!(sent.id.unwrap()), json!(sent.position.unwrap().seq())),
        (frame["id"].clone(), frame["seq"].clone())
    );
    let once = rooms.send_once("r", "k", &notice).unwrap().await.unwrap();
    let again = rooms.send_once("r", "k", &notice).unwrap().await.unwrap();
    assert_eq!(once.id, again.id);
    assert_eq!(json!(once.id.unwrap()), ann.next().await["id"]);
    expect_nothing(&mut ann).await;
    let messages = stored(&store);
    assert_eq!(messages.len(), 2);
    assert_eq!(
        (messages[0].connection(), messages[0].name(), messages[1].key()),
        (None, None, Some("host:k"))
    );
    store.set_fault(Some(StoreFault::Fail));
    let failed = rooms.send("r", &notice).unwrap().await;
    assert!(matches!(failed, Err(SendError::Unavailable)));
    let too_long = rooms.send_once("r", "k".repeat(251), &notice);
    assert!(matches!(too_long, Err(SendError::KeyTooLong)));
}

#[tokio::test(start_paused = true)]
async fn ids_are_above_those_in_the_store_whatever_the_clock_says() {
    let store = MemoryStore::new();
    let future = MessageId::first_at(SystemTime::now() + Duration::from_secs(86_400));
    store.append(&RoomId::from("r"), &[StoredMessage::new(future, "{}")]).await.unwrap();
    let rooms = rooms_on(&store).build().unwrap();
    let [mut ann] = members(&rooms, ["ann"]).await;
    for cid in ["one", "two"] {
        ann.send(message(cid)).await;
        assert!(expect_own(&mut ann, cid).await > future.as_u64());
    }
    assert_eq!(store.pages(), 1, "the store is asked once");
}

/// Two users may choose the same `cid`.
#[tokio::test(start_paused = true)]
async fn the_key_of_a_message_belongs_to_its_user() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).build().unwrap();
    for user in ["u-ann", "u-bob"] {
        let (mut client, _) = Client::enter_v1(&rooms, Admission::user(User::new(user))).await;
        client.send(message("same")).await;
        expect_own(&mut client, "same").await;
        client.close().await;
    }
    let users: Vec<_> = stored(&store).iter().map(|message| message.user().unwrap().to_owned()).collect();
    assert_eq!(users, ["u-ann", "u-bob"]);
    run_other_tasks().await;
    assert_eq!(rooms.stats().rooms, 0);
    assert!(rooms.check_consistency().faults.is_empty());
}

/// Panics in the first calls: as often as the server tries.
#[derive(Default)]
struct Panics(AtomicUsize);

impl MessageStore for Panics {
    type Error = String;

    async fn append(&self, _: &RoomId, messages: &[StoredMessage]) -> Result<Vec<MessageId>, String> {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) >= 3, "on purpose");
        Ok(messages.iter().map(StoredMessage::id).collect())
    }

    async fn page(&self, _: &RoomId, _: PageRange, _: usize) -> Result<Vec<StoredMessage>, String> {
        Ok(Vec::new())
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_store_is_a_failure() {
    let rooms = without_limits(builder()).store(Panics::default()).build().unwrap();
    let [mut ann] = members(&rooms, ["ann"]).await;
    ann.send(message("hi")).await;
    expect_refused(&mut ann, "hi").await;
    ann.send(message("hi")).await;
    expect_own(&mut ann, "hi").await;
}

#[test]
fn settings_that_do_not_fit_a_store_are_refused() {
    let error = ChatRooms::builder().keep(Keep::First).build().unwrap_err();
    assert!(error.to_string().contains("ChatRoomsBuilder::store"));
}
