//! Rooms with a store: what fails, ends or is replaced while messages are being stored.

use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use tower_chat_rooms::store::{MemoryStore, MessageStore, PageRange, StoreFault, StoredMessage};
use tower_chat_rooms::{
    Admission, ChatRooms, ChatRoomsBuilder, History, Keep, Limits, MessageId, MessageRequest, Recovery,
    RoomEvent, RoomId, RoomPolicy, SendError, User, Verdict,
};

use crate::support::{Client, V1Client, enter_frame, run_other_tasks, without_limits};

fn rooms_on(store: &MemoryStore) -> ChatRoomsBuilder {
    without_limits(ChatRooms::builder()).store(store.clone())
}

/// The texts of the messages that are stored, in the order of their ids.
fn stored(store: &MemoryStore) -> Vec<String> {
    let text = |message: &StoredMessage| {
        let body: Value = serde_json::from_str(message.body()).unwrap();
        body["message"].as_str().unwrap().to_owned()
    };
    store.messages(&RoomId::from("r")).iter().map(text).collect()
}

/// A member of the room "r" that has read the frames until its enter.
async fn enter(rooms: &ChatRooms, name: &'static str, admission: Admission) -> Client {
    let (mut client, _) = Client::connect_v1(rooms, admission).await;
    client.send(enter_frame(name, "r")).await;
    client.next_of("enter").await;
    client
}

/// A message with this `cid` and text.
fn message(cid: &str) -> Value {
    json!({"event": "message", "message": cid, "cid": cid, "roomId": "r"})
}

async fn expect_ack(client: &mut Client, cid: &str) {
    assert_eq!(client.next_of("ack").await["cid"], cid);
}

async fn expect_refused(client: &mut Client, cid: &str) {
    let error = client.next_of("error").await;
    assert_eq!((&error["code"], &error["cid"]), (&json!("unavailable"), &json!(cid)), "{error}");
}

/// Only messages with other events are stored, and before the members get them.
struct NeverByEvent;

impl RoomPolicy for NeverByEvent {
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        Verdict::allow().keep(if request.event() == "never" { Keep::Never } else { Keep::First })
    }
}

/// Asks for a room's members when it is dropped, and panics afterwards.
#[derive(Clone)]
struct AsksWhenDropped(Arc<OnceLock<ChatRooms>>, #[expect(dead_code, reason = "it is counted")] Arc<()>);

impl Drop for AsksWhenDropped {
    fn drop(&mut self) {
        if let Some(rooms) = self.0.get() {
            let _ = rooms.members("r");
            panic!("on purpose");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_user_of_a_stored_message_is_dropped_without_a_lock() {
    let (store, slot, count) = (MemoryStore::new(), Arc::new(OnceLock::new()), Arc::new(()));
    let rooms = rooms_on(&store).build().unwrap();
    let mut bob = enter(&rooms, "bob", Admission::anonymous()).await;
    let user = User::new("u-ann").with(AsksWhenDropped(slot.clone(), count.clone()));
    let mut ann = enter(&rooms, "ann", Admission::user(user)).await;
    bob.next_of("enter").await;
    store.set_fault(Some(StoreFault::Hang));
    ann.send(message("hi")).await;
    run_other_tasks().await;
    bob.send(message("later")).await;
    run_other_tasks().await;
    assert_eq!(rooms.kick_user("u-ann"), 1);
    bob.next_of("out").await;
    run_other_tasks().await;
    // Only the message has the user now.
    assert_eq!(Arc::strong_count(&count), 2);
    assert!(slot.set(rooms.clone()).is_ok());
    store.set_fault(None);
    assert_eq!(bob.next_of("message").await["message"], "hi");
    assert_eq!(bob.next_of("ack").await["cid"], "later");
    run_other_tasks().await;
    assert_eq!((stored(&store).len(), Arc::strong_count(&count)), (2, 1));
}
