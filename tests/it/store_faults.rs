//! Rooms with a store: what fails, ends or is replaced while messages are being stored.

use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use tower_chat_rooms::store::{MemoryStore, MessageStore, PageRange, StoreFault, StoredMessage};
use tower_chat_rooms::{
    Admission, ChatRooms, ChatRoomsBuilder, Health, History, Keep, Limits, MessageId, MessageRequest,
    Recovery, RoomEvent, RoomId, RoomPolicy, SendError, User, Verdict,
};

use crate::support::{
    Client, LogCapture, V1Client, enter_frame, run_other_tasks, with_expiring_tokens, without_limits,
};

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

/// The client's message and its acknowledgement, in any order.
async fn expect_own(client: &mut Client, cid: &str) {
    let (mut is_acknowledged, mut is_out) = (false, false);
    while !(is_acknowledged && is_out) {
        let frame = client.next().await;
        is_acknowledged |= frame["event"] == "ack" && frame["cid"] == cid;
        is_out |= frame["message"] == cid;
    }
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
    ann.close_code().await;
    run_other_tasks().await;
    // Only the message has the user now.
    assert_eq!(Arc::strong_count(&count), 2);
    assert!(slot.set(rooms.clone()).is_ok());
    store.set_fault(None);
    expect_own(&mut bob, "later").await;
    run_other_tasks().await;
    assert_eq!((stored(&store).len(), Arc::strong_count(&count)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_closed_room_stores_nothing_while_a_new_one_does() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).build().unwrap();
    let mut ann = enter(&rooms, "ann", Admission::anonymous()).await;
    let mut bob = enter(&rooms, "bob", Admission::anonymous()).await;
    ann.send(message("first")).await;
    expect_ack(&mut ann, "first").await;
    store.set_fault(Some(StoreFault::Hang));
    ann.send(message("a")).await;
    store.until_appends(2).await;
    bob.send(message("b")).await;
    run_other_tasks().await;
    assert_eq!(rooms.close_room("r"), 2);
    expect_refused(&mut bob, "b").await;
    let mut cat = enter(&rooms, "cat", Admission::anonymous()).await;
    cat.send(message("c")).await;
    run_other_tasks().await;
    assert_eq!((store.appends(), store.pages()), (2, 1), "the new room waits for the batch of the old one");
    store.set_fault(None);
    // No member has got it.
    expect_refused(&mut ann, "a").await;
    expect_own(&mut cat, "c").await;
    assert_eq!(stored(&store), ["first", "a", "c"]);
    ann.send(enter_frame("ann", "r")).await;
    ann.next_of("enter").await;
    ann.send(message("a")).await;
    expect_ack(&mut ann, "a").await;
    assert_eq!(cat.next_of("message").await["message"], "a");
    assert_eq!(stored(&store), ["first", "a", "c"]);
}

/// Refuses messages with the text "poison".
struct Refuses {
    store: MemoryStore,
    panics: bool,
}

impl MessageStore for Refuses {
    type Error = String;

    async fn append(&self, room: &RoomId, messages: &[StoredMessage]) -> Result<Vec<MessageId>, String> {
        if messages.iter().any(|message| message.body().contains("poison")) {
            assert!(!self.panics, "on purpose");
            return Err("on purpose".to_owned());
        }
        self.store.append(room, messages).await.map_err(|error| error.to_string())
    }

    async fn page(
        &self,
        room: &RoomId,
        range: PageRange,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, String> {
        self.store.page(room, range, limit).await.map_err(|error| error.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_store_refuses_does_not_prevent_others_from_being_stored() {
    for (keep, panics) in
        [(Keep::First, false), (Keep::Behind, false), (Keep::First, true), (Keep::Behind, true)]
    {
        let store = MemoryStore::new();
        let refuses = Refuses { store: store.clone(), panics };
        let builder = without_limits(ChatRooms::builder()).store(refuses).keep(keep);
        let rooms = builder.build().unwrap();
        let mut ann = enter(&rooms, "ann", Admission::anonymous()).await;
        let mut bob = enter(&rooms, "bob", Admission::anonymous()).await;
        let mut cat = enter(&rooms, "cat", Admission::anonymous()).await;
        ann.send(message("first")).await;
        expect_ack(&mut ann, "first").await;
        store.set_fault(Some(StoreFault::Hang));
        ann.send(message("one")).await;
        store.until_appends(2).await;
        // They are in one batch.
        bob.send(message("poison")).await;
        run_other_tasks().await;
        cat.send(message("two")).await;
        run_other_tasks().await;
        store.set_fault(None);
        expect_ack(&mut ann, "one").await;
        expect_ack(&mut cat, "two").await;
        match keep {
            Keep::First => expect_refused(&mut bob, "poison").await,
            _ => expect_ack(&mut bob, "poison").await,
        }
        cat.send(message("three")).await;
        expect_ack(&mut cat, "three").await;
        rooms.shutdown().await;
        assert_eq!(stored(&store), ["first", "one", "two", "three"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_up_a_shutdown_once() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).build().unwrap();
    let mut ann = enter(&rooms, "ann", Admission::anonymous()).await;
    let mut bob = enter(&rooms, "bob", Admission::anonymous()).await;
    ann.send(message("first")).await;
    expect_ack(&mut ann, "first").await;
    store.set_fault(Some(StoreFault::Hang));
    ann.send(message("a")).await;
    store.until_appends(2).await;
    bob.send(message("b")).await;
    run_other_tasks().await;
    // `Timeouts::shutdown_timeout` is one second.
    timeout(Duration::from_millis(1500), rooms.shutdown()).await.unwrap();
}

/// Messages that cannot be stored for as long as the server tries do not prevent later ones from being stored.
#[tokio::test(start_paused = true)]
async fn messages_behind_are_given_up_no_matter_how_many_others_wait() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).keep(Keep::Behind).policy(FirstByEvent).build().unwrap();
    let mut clients = [
        enter(&rooms, "ann", Admission::anonymous()).await,
        enter(&rooms, "bob", Admission::anonymous()).await,
    ];
    let ann = &mut clients[0];
    ann.send(message("zero")).await;
    expect_ack(ann, "zero").await;
    store.set_fault(Some(StoreFault::Hang));
    ann.send(message("behind")).await;
    expect_ack(ann, "behind").await;
    store.until_appends(2).await;
    let first = |cid: &str| json!({"event": "first", "message": cid, "cid": cid, "roomId": "r"});
    ann.send(first("0")).await;
    store.until_appends(3).await;
    // Each batch takes five seconds, and the next message comes meanwhile.
    for n in 1..=70 {
        clients[n % 2].send(first(&n.to_string())).await;
        expect_refused(&mut clients[(n - 1) % 2], &(n - 1).to_string()).await;
    }
    store.set_fault(None);
    expect_ack(&mut clients[0], "70").await;
    assert_eq!(stored(&store), ["zero", "70"]);
}

struct FirstByEvent;

impl RoomPolicy for FirstByEvent {
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        match request.event() {
            "first" => Verdict::allow().keep(Keep::First),
            _ => Verdict::allow(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_waits_while_its_sender_reconnects_goes_out_once() {
    // In the second case, it gets a user meanwhile, and with it other keys.
    for event in ["never", "message"] {
        let store = MemoryStore::new();
        let recovery = Recovery::default().resume_window(Duration::from_secs(10)).history(History::last(100));
        let builder = with_expiring_tokens().store(store.clone()).recovery(recovery);
        let rooms = builder.policy(NeverByEvent).build().unwrap();
        let mut bob = V1Client::enter(&rooms, "bob").await;
        let mut ann = V1Client::enter(&rooms, "ann").await;
        bob.next().await;
        bob.connection.send(message("first")).await;
        expect_ack(&mut bob.connection, "first").await;
        store.set_fault(Some(StoreFault::Hang));
        bob.connection.send(message("second")).await;
        store.until_appends(2).await;
        let waiting = json!({"event": event, "message": "waits", "cid": "w", "roomId": "r"});
        ann.connection.send(waiting.clone()).await;
        run_other_tasks().await;
        assert_eq!(ann.reconnect(&rooms).await["resumed"], true);
        if event == "message" {
            ann.connection.send(json!({"event": "auth", "message": "u-ann"})).await;
        }
        ann.connection.send(waiting).await;
        run_other_tasks().await;
        store.set_fault(None);
        expect_ack(&mut ann.connection, "w").await;
        bob.connection.send(message("last")).await;
        let mut seen = Vec::new();
        while seen.last() != Some(&json!("last")) {
            let frame = bob.connection.next().await;
            seen.extend(frame.get("message").cloned());
        }
        assert_eq!(seen.iter().filter(|text| **text == "waits").count(), 1, "{event}: {seen:?}");
        assert_eq!(
            stored(&store).iter().filter(|text| *text == "waits").count(),
            usize::from(event == "message")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_host_sends_a_stored_message_once_even_over_a_restart() {
    let store = MemoryStore::new();
    let notice = json!({"event": "notice", "message": "hi"});
    let before = rooms_on(&store).build().unwrap();
    let mut ann = enter(&before, "ann", Admission::anonymous()).await;
    let sent = before.send_once("r", "k", &notice).unwrap().await.unwrap();
    ann.next_of("notice").await;
    before.shutdown().await;
    // Ids have milliseconds.
    std::thread::sleep(Duration::from_millis(2));
    let after = rooms_on(&store).build().unwrap();
    let mut ann = enter(&after, "ann", Admission::anonymous()).await;
    assert_eq!(after.send_once("r", "k", &notice).unwrap().await.unwrap().id, sent.id);
    run_other_tasks().await;
    ann.answer_heartbeats().await;
    assert_eq!(stored(&store), ["hi"]);
}

#[tokio::test(start_paused = true)]
async fn the_host_sends_a_waiting_message_once() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).keep(Keep::Never).policy(NeverByEvent).build().unwrap();
    let mut ann = enter(&rooms, "ann", Admission::anonymous()).await;
    store.set_fault(Some(StoreFault::Hang));
    ann.send(message("first")).await;
    run_other_tasks().await;
    let notice = json!({"event": "notice", "message": "hi"});
    let sent = [(); 2].map(|()| rooms.send_once("r", "k", &notice).unwrap());
    store.set_fault(None);
    let [one, other] = sent;
    let one = one.await.unwrap();
    assert_eq!(one, other.await.unwrap());
    assert_eq!(one, rooms.send_once("r", "k", &notice).unwrap().await.unwrap());
    ann.next_of("notice").await;
    run_other_tasks().await;
    ann.answer_heartbeats().await;
    assert_eq!(stored(&store), ["first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn waiting_callbacks_for_messages_of_the_host_take_bounded_memory() {
    let (end, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let rooms = without_limits(ChatRooms::builder())
        .limits(Limits::default().max_message_bytes(8 * 1024).max_queue_bytes(64 * 1024))
        .events(move |event: RoomEvent<'_>| {
            if let RoomEvent::Message(_) = event {
                // Without the worker of the runtime.
                let _ = tokio::task::block_in_place(|| wait.lock().unwrap().recv());
            }
        })
        .build()
        .unwrap();
    let mut ann = enter(&rooms, "ann", Admission::anonymous()).await;
    let notice = json!({"event": "notice", "message": "x".repeat(4 * 1024)});
    let mut sent = 0;
    let last = loop {
        match rooms.send("r", &notice) {
            Ok(_) if sent < 100 => sent += 1,
            last => break last,
        }
        ann.next_of("notice").await;
    };
    assert!(matches!(last, Err(SendError::Busy)), "{last:?} after {sent}");
    assert!(sent >= 8, "{sent}");
    drop(end);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

#[test]
fn messages_are_stored_after_the_runtime_of_an_earlier_one_has_ended() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).build().unwrap();
    let (first, second) = (runtime(), runtime());
    let mut bob = first.block_on(enter(&rooms, "bob", Admission::anonymous()));
    let mut ann = second.block_on(enter(&rooms, "ann", Admission::anonymous()));
    store.set_fault(Some(StoreFault::Hang));
    first.block_on(async {
        bob.send(message("hi")).await;
        store.until_pages(1).await;
    });
    drop(first);
    store.set_fault(None);
    second.block_on(async {
        for cid in ["one", "two"] {
            ann.send(message(cid)).await;
            expect_own(&mut ann, cid).await;
        }
    });
}

#[test]
fn callbacks_go_on_after_the_runtime_of_earlier_ones_has_ended() {
    let rooms = without_limits(ChatRooms::builder()).events(|_: RoomEvent<'_>| {}).build().unwrap();
    let (first, second) = (runtime(), runtime());
    let _bob = first.block_on(enter(&rooms, "bob", Admission::anonymous()));
    let mut ann = second.block_on(enter(&rooms, "ann", Admission::anonymous()));
    // Their callbacks are called by tasks of the first runtime, which never run.
    let notice = json!({"event": "notice"});
    drop([(); 2].map(|()| rooms.send("r", &notice).unwrap()));
    drop(first);
    second.block_on(async {
        for cid in ["one", "two"] {
            ann.send(message(cid)).await;
            expect_ack(&mut ann, cid).await;
        }
    });
}

#[tokio::test(start_paused = true)]
async fn the_health_says_why_messages_cannot_be_stored() {
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).build().unwrap();
    let mut ann = enter(&rooms, "ann", Admission::anonymous()).await;
    let faults = [(StoreFault::Fail, "has failed"), (StoreFault::Hang, "did not answer within")];
    for (fault, expected) in faults {
        assert_eq!(rooms.health(), Health::Healthy);
        store.set_fault(Some(fault));
        let [refused, early, late] = ["refused", "early", "late"].map(|cid| format!("{cid} {fault:?}"));
        ann.send(message(&refused)).await;
        expect_refused(&mut ann, &refused).await;
        let Health::Degraded { since, reason } = rooms.health() else { panic!("{:?}", rooms.health()) };
        assert!(reason.contains(expected), "{reason}");
        store.set_fault(None);
        for cid in [early, late] {
            let Health::Degraded { since: now, .. } = rooms.health() else { panic!("{:?}", rooms.health()) };
            assert_eq!(now, since);
            ann.send(message(&cid)).await;
            expect_own(&mut ann, &cid).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }
    assert_eq!(rooms.health(), Health::Healthy);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_long_does_not_fill_the_log() {
    let capture = LogCapture::default();
    let _guard = capture.listen("info");
    let store = MemoryStore::new();
    let rooms = rooms_on(&store).build().unwrap();
    for outages in 1..3 {
        let mut ann = enter(&rooms, "ann", Admission::anonymous()).await;
        store.set_fault(Some(StoreFault::Fail));
        for n in 0..20 {
            let cid = format!("{outages}-{n}");
            ann.send(message(&cid)).await;
            expect_refused(&mut ann, &cid).await;
        }
        store.set_fault(None);
        for n in 0..3 {
            // Only then is it sure that the store works again.
            assert_eq!(capture.count("works again"), outages - usize::from(n < 2), "{}", capture.text());
            if n == 1 {
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            let cid = format!("{outages}-{n}");
            ann.send(message(&cid)).await;
            expect_own(&mut ann, &cid).await;
        }
        let lines = ["has failed", "works again"].map(|text| capture.count(text));
        assert_eq!(lines, [outages; 2], "{}", capture.text());
        assert!(capture.count("trying again") <= outages, "{}", capture.text());
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}
