//! Several nodes that share their rooms and a store.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tower_chat_rooms::store::{MemoryStore, MessageStore, PageRange, StoreFault, StoredMessage};
use tower_chat_rooms::{
    Admission, ChatRooms, ChatRoomsBuilder, History, Keep, MessageId, MessageRequest, Recovery, RoomId,
    RoomPolicy, SendError, SharedBroker, Verdict,
};

use crate::nodes::{enter, stop};
use crate::support::{Client, enter_frame, message_with_cid, run_other_tasks, unlimited};

/// Nodes that share a broker and a store.
fn nodes<const N: usize>(
    broker: &SharedBroker,
    store: &MemoryStore,
    build: impl Fn(ChatRoomsBuilder) -> ChatRoomsBuilder,
) -> [ChatRooms; N] {
    crate::nodes::nodes(broker, |builder| build(builder.store(store.clone())))
}

fn message(cid: &str) -> Value {
    message_with_cid("r", cid, cid)
}

fn stored(store: &MemoryStore) -> Vec<StoredMessage> {
    store.messages(&RoomId::from("r"))
}

async fn close(members: impl IntoIterator<Item = Member>) {
    for member in members {
        member.client.close().await;
    }
}

fn ids(messages: &[StoredMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.id().as_u64()).collect()
}

/// A member of the room "r", with the messages that it has got: their ids and texts.
struct Member {
    client: Client,
    got: Vec<(u64, String)>,
}

impl Member {
    async fn enter(rooms: &ChatRooms, name: &str) -> Member {
        Member { client: enter(rooms, name).await.0, got: Vec::new() }
    }

    async fn send(&mut self, cid: &str) {
        self.client.send(message(cid)).await;
    }

    async fn next(&mut self) -> Value {
        let frame = self.client.next().await;
        if frame["event"] == "message" {
            self.got.push((frame["id"].as_u64().unwrap(), frame["message"].as_str().unwrap().to_owned()));
        }
        frame
    }

    /// Reads until it has got so many messages in all. Returns their texts.
    async fn until(&mut self, count: usize) -> Vec<&str> {
        while self.got.len() < count {
            self.next().await;
        }
        self.got.iter().map(|(_, text)| &**text).collect()
    }

    /// Reads until a message is acknowledged. Returns its id.
    async fn acknowledged(&mut self, cid: &str) -> u64 {
        loop {
            let frame = self.next().await;
            assert_ne!(frame["event"], "error", "{frame}");
            if frame["event"] == "ack" && frame["cid"] == cid {
                return frame["id"].as_u64().unwrap();
            }
        }
    }

    async fn refused(&mut self, cid: &str) {
        loop {
            let frame = self.next().await;
            if frame["event"] == "error" {
                assert_eq!((&frame["code"], &frame["cid"]), (&json!("unavailable"), &json!(cid)), "{frame}");
                return;
            }
        }
    }

    /// No frame is on its way to it.
    async fn expect_nothing(&mut self) {
        run_other_tasks().await;
        self.client.answer_heartbeats().await;
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_all_nodes_are_stored_in_the_order_in_which_members_get_them() {
    const ROUNDS: usize = 20;
    let (broker, store) = (SharedBroker::new(), MemoryStore::new());
    let nodes: [ChatRooms; 3] = nodes(&broker, &store, |builder| builder);
    let mut members = Vec::new();
    for (node, name) in nodes.iter().zip(["ann", "bob", "cat"]) {
        members.push(Member::enter(node, name).await);
    }
    for round in 0..ROUNDS {
        if round % 5 == 0 {
            store.set_fault(Some(StoreFault::Hang));
        }
        for (n, member) in members.iter_mut().enumerate() {
            member.send(&format!("{n}-{round}")).await;
        }
        run_other_tasks().await;
        store.set_fault(None);
        if round % 5 == 4 {
            sleep(Duration::from_millis(50)).await;
        }
    }
    for member in &mut members {
        member.until(3 * ROUNDS).await;
    }
    let got = members[0].got.clone();
    assert!(members.iter().all(|member| member.got == got), "all members get one order");
    assert!(got.is_sorted_by(|a, b| a.0 < b.0), "{got:?}");
    let got: Vec<u64> = got.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids(&stored(&store)), got);
    close(members).await;
    stop(nodes).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_a_message_before_it_is_stored() {
    let (broker, store) = (SharedBroker::new(), MemoryStore::new());
    let [one, other] = nodes(&broker, &store, |builder| builder);
    let mut ann = Member::enter(&one, "ann").await;
    let mut bob = Member::enter(&other, "bob").await;
    ann.client.next_of("enter").await;
    store.set_fault(Some(StoreFault::Hang));
    ann.send("first").await;
    bob.send("second").await;
    bob.expect_nothing().await;
    assert_eq!(stored(&store), []);
    // Enters do not wait.
    let cat = Member::enter(&other, "cat").await;
    store.set_fault(None);
    let mut want = vec![ann.acknowledged("first").await, bob.acknowledged("second").await];
    want.sort_unstable();
    assert_eq!(ids(&stored(&store)), want);
    close([ann, bob, cat]).await;
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_sent_again_on_another_node_goes_out_once() {
    for fault in [StoreFault::Fail, StoreFault::LoseAnswers, StoreFault::Hang] {
        let (broker, store) = (SharedBroker::new(), MemoryStore::new());
        let [one, other] = nodes(&broker, &store, |builder| builder);
        let mut ann = Member::enter(&one, "ann").await;
        let mut bob = Member::enter(&other, "bob").await;
        ann.send("first").await;
        ann.acknowledged("first").await;
        store.set_fault(Some(fault));
        ann.send("late").await;
        ann.refused("late").await;
        store.set_fault(None);
        bob.send("between").await;
        let between = bob.acknowledged("between").await;
        // Its client comes back on another node.
        let mut again = Member::enter(&other, "ann2").await;
        again.send("late").await;
        let late = again.acknowledged("late").await;
        again.send("late").await;
        assert_eq!(again.acknowledged("late").await, late);
        bob.send("last").await;
        bob.acknowledged("last").await;
        for member in [&mut ann, &mut bob] {
            assert_eq!(member.until(4).await, ["first", "between", "late", "last"], "{fault:?}");
            assert_eq!(member.got[2].0, late);
        }
        // The store had it before.
        assert_eq!(late < between, fault == StoreFault::LoseAnswers, "{fault:?}");
        assert_eq!(stored(&store).len(), 4);
        close([ann, bob, again]).await;
        stop([one, other]).await;
    }
}

/// Its batch ends by itself, and another node goes on.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_holds_up_no_other_node() {
    for fault in [StoreFault::Hang, StoreFault::LoseAnswers] {
        let (broker, store) = (SharedBroker::new(), MemoryStore::new());
        let node = broker.node();
        let number = node.number();
        let one = unlimited().broker(node).store(store.clone()).build().unwrap();
        let [other] = nodes(&broker, &store, |builder| builder);
        let mut ann = Member::enter(&one, "ann").await;
        let mut bob = Member::enter(&other, "bob").await;
        ann.send("first").await;
        ann.acknowledged("first").await;
        store.set_fault(Some(fault));
        ann.send("lost").await;
        store.until_appends(2).await;
        broker.remove_node(number);
        store.set_fault(None);
        bob.send("next").await;
        bob.acknowledged("next").await;
        // Its client comes back.
        let mut again = Member::enter(&other, "ann2").await;
        again.send("lost").await;
        let lost = again.acknowledged("lost").await;
        assert_eq!(bob.until(3).await, ["first", "next", "lost"], "{fault:?}");
        assert_eq!(bob.got[2].0, lost);
        assert_eq!(stored(&store).len(), 3);
        close([bob, again]).await;
        drop(ann);
        one.shutdown().await;
        stop([other]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_stored_while_the_broker_was_away_goes_out_once() {
    let (broker, store) = (SharedBroker::new(), MemoryStore::new());
    let [one, other] = nodes(&broker, &store, |builder| builder);
    let mut ann = Member::enter(&one, "ann").await;
    let mut bob = Member::enter(&other, "bob").await;
    ann.send("first").await;
    ann.acknowledged("first").await;
    store.set_fault(Some(StoreFault::Hang));
    ann.send("second").await;
    store.until_appends(2).await;
    broker.set_available(false);
    store.set_fault(None);
    ann.refused("second").await;
    assert_eq!(stored(&store).len(), 2);
    assert_eq!(bob.until(1).await, ["first"]);
    bob.expect_nothing().await;
    broker.set_available(true);
    ann.send("second").await;
    let second = ann.acknowledged("second").await;
    assert_eq!(bob.until(2).await, ["first", "second"]);
    bob.expect_nothing().await;
    assert_eq!(ids(&stored(&store))[1..], [second]);
    close([ann, bob]).await;
    stop([one, other]).await;
}

struct ByText;

impl RoomPolicy for ByText {
    fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
        let keep = match request.body() {
            body if body.contains("never") => Keep::Never,
            body if body.contains("behind") => Keep::Behind,
            _ => Keep::First,
        };
        Verdict::allow().keep(keep)
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_not_stored_first_overtake_none_that_are() {
    let (broker, store) = (SharedBroker::new(), MemoryStore::new());
    let [one, other] = nodes(&broker, &store, |builder| builder.policy(ByText));
    let mut ann = Member::enter(&one, "ann").await;
    let mut bob = Member::enter(&other, "bob").await;
    ann.send("first").await;
    ann.acknowledged("first").await;
    assert_eq!(bob.until(1).await, ["first"]);
    store.set_fault(Some(StoreFault::Hang));
    ann.send("second").await;
    store.until_appends(2).await;
    bob.send("never").await;
    bob.send("behind").await;
    bob.expect_nothing().await;
    store.set_fault(None);
    assert_eq!(bob.until(4).await, ["first", "second", "never", "behind"]);
    let got = bob.got.clone();
    assert!(got.is_sorted_by(|a, b| a.0 < b.0));
    run_other_tasks().await;
    assert_eq!(ids(&stored(&store)), [got[0].0, got[1].0, got[3].0]);
    // Without others that wait, they go out at once, even if the store fails.
    store.set_fault(Some(StoreFault::Fail));
    ann.send("behind-2").await;
    let behind = ann.acknowledged("behind-2").await;
    bob.until(5).await;
    assert_eq!((bob.got[4].0, stored(&store).len()), (behind, 3));
    store.set_fault(None);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(ids(&stored(&store)).last(), Some(&behind));
    close([ann, bob]).await;
    stop([one, other]).await;
}

/// Refuses some messages for good.
struct Refuses(MemoryStore);

impl MessageStore for Refuses {
    type Error = String;

    async fn append(&self, room: &RoomId, messages: &[StoredMessage]) -> Result<Vec<MessageId>, String> {
        match messages.iter().any(|message| message.body().contains("refused")) {
            true => Err("on purpose".to_owned()),
            false => self.0.append(room, messages).await.map_err(|error| error.to_string()),
        }
    }

    async fn page(
        &self,
        room: &RoomId,
        range: PageRange,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, String> {
        self.0.page(room, range, limit).await.map_err(|error| error.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_store_refuses_leaves_no_hole() {
    let (broker, store) = (SharedBroker::new(), MemoryStore::new());
    let [one, other] = crate::nodes::nodes(&broker, |builder| builder.store(Refuses(store.clone())));
    let mut ann = Member::enter(&one, "ann").await;
    let mut bob = Member::enter(&one, "bob").await;
    let mut cat = Member::enter(&other, "cat").await;
    store.set_fault(Some(StoreFault::Hang));
    ann.send("first").await;
    store.until_pages(1).await;
    bob.send("refused").await;
    cat.send("second").await;
    run_other_tasks().await;
    store.set_fault(None);
    ann.acknowledged("first").await;
    bob.refused("refused").await;
    cat.acknowledged("second").await;
    cat.until(2).await;
    assert_eq!(ids(&stored(&store)), cat.got.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    cat.expect_nothing().await;
    close([ann, bob, cat]).await;
    stop([one, other]).await;
}

#[tokio::test(start_paused = true)]
async fn the_host_sends_to_a_room_on_another_node() {
    let (broker, store) = (SharedBroker::new(), MemoryStore::new());
    let [one, other] = nodes(&broker, &store, |builder| builder);
    let mut ann = Member::enter(&one, "ann").await;
    let notice = json!({"event": "message", "message": "notice"});
    let once = other.send_once("r", "k", &notice).unwrap().await.unwrap();
    let again = one.send_once("r", "k", &notice).unwrap().await.unwrap();
    assert_eq!(once.id, again.id);
    let sent: Vec<_> = (0..3).map(|_| other.send("r", &notice).unwrap()).collect();
    let mut want = vec![once.id.unwrap().as_u64()];
    for sent in sent {
        want.push(sent.await.unwrap().id.unwrap().as_u64());
    }
    ann.until(4).await;
    let got: Vec<u64> = ann.got.iter().map(|(id, _)| *id).collect();
    assert_eq!((&got, &ids(&stored(&store))), (&want, &want));
    // Nobody is in this room.
    let nobody = other.send("s", &notice).unwrap().await;
    assert!(matches!(nobody, Err(SendError::Unavailable)));
    assert_eq!(store.messages(&RoomId::from("s")), []);
    close([ann]).await;
    stop([one, other]).await;
}

/// Which the node does not have in memory.
#[tokio::test(start_paused = true)]
async fn a_client_gets_the_messages_that_it_has_missed_on_another_node() {
    let (broker, store) = (SharedBroker::new(), MemoryStore::new());
    let recovery = Recovery::default().history(History::last(4));
    let [one, other, third] = nodes(&broker, &store, |builder| builder.recovery(recovery.clone()));
    let mut ann = Member::enter(&one, "ann").await;
    let mut bob = Member::enter(&other, "bob").await;
    bob.send("seen").await;
    ann.until(1).await;
    let seen = ann.got[0].0;
    close([ann]).await;
    let mut want = Vec::new();
    for n in 0..9 {
        bob.send(&format!("m{n}")).await;
        want.push((bob.acknowledged(&format!("m{n}")).await, json!(format!("m{n}"))));
    }
    for keys in [json!({"last": 9}), json!({"since": {"epoch": "ffffffffffffffff", "seq": 1, "id": seen}})] {
        let (mut cat, _) = Client::connect_v1(&third, Admission::anonymous()).await;
        let mut frame = enter_frame("cat", "r");
        frame.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        cat.send(frame).await;
        let entered = cat.next_of("entered").await;
        let mut got: HashMap<u64, Value> = HashMap::new();
        let from_store = entered["messages"].as_array().unwrap_or_else(|| panic!("{entered}"));
        for message in from_store {
            got.insert(message["id"].as_u64().unwrap(), message["message"].clone());
        }
        loop {
            let frame = cat.next().await;
            match frame["id"].as_u64() {
                Some(id) => drop(got.insert(id, frame["message"].clone())),
                None if frame["name"] == "cat" => break,
                None => {}
            }
        }
        let mut got: Vec<_> = got.into_iter().collect();
        got.sort_by_key(|(id, _)| *id);
        assert_eq!(got, want, "{keys}");
        cat.close().await;
        bob.client.next_of("out").await;
    }
    close([bob]).await;
    stop([one, other, third]).await;
}

/// Whenever the server reads messages for a client, the room gets another message before the answer.
#[derive(Clone)]
struct Busy {
    store: MemoryStore,
    rooms: Arc<OnceLock<ChatRooms>>,
}

impl MessageStore for Busy {
    type Error = String;

    async fn append(&self, room: &RoomId, messages: &[StoredMessage]) -> Result<Vec<MessageId>, String> {
        self.store.append(room, messages).await.map_err(|error| error.to_string())
    }

    async fn page(
        &self,
        room: &RoomId,
        range: PageRange,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, String> {
        let page = self.store.page(room, range, limit).await.map_err(|error| error.to_string());
        // The server asks for only one message when it does not read for a client.
        if let Some(rooms) = self.rooms.get().filter(|_| limit > 1) {
            let count = self.store.messages(room).len();
            let sent = rooms.send("r", &json!({"event": "message", "message": count})).unwrap();
            sent.await.unwrap();
        }
        page
    }
}

/// Enters, and returns the answer and the messages in it and after it, each once.
async fn enter_with(client: &mut Client, name: &str, keys: &Value) -> (Value, Vec<Value>) {
    let mut frame = enter_frame(name, "r");
    frame.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    client.send(frame).await;
    let entered = client.next_of("entered").await;
    let mut messages: Vec<Value> = entered["messages"].as_array().cloned().unwrap_or_default();
    run_other_tasks().await;
    client.send(json!({"event": "members", "roomId": "r"})).await;
    loop {
        let frame = client.next().await;
        match frame["event"].as_str() {
            Some("members") => break,
            Some("message") if messages.iter().all(|message| message["id"] != frame["id"]) => {
                messages.push(frame);
            }
            _ => {}
        }
    }
    (entered, messages.into_iter().map(|message| message["message"].clone()).collect())
}

/// Without a history, only the store has the messages.
#[tokio::test(start_paused = true)]
async fn a_client_gets_the_messages_of_a_room_in_which_others_are_sending() {
    let broker = SharedBroker::new();
    let store = Busy { store: MemoryStore::new(), rooms: Arc::default() };
    let [one, other] = crate::nodes::nodes(&broker, |builder| builder.store(store.clone()));
    let mut ann = Member::enter(&one, "ann").await;
    for n in 0..3 {
        one.send("r", &json!({"event": "message", "message": n})).unwrap().await.unwrap();
    }
    let mut first = None;
    for _ in 0..3 {
        let message = ann.client.next_of("message").await;
        first.get_or_insert(message["id"].clone());
    }
    store.rooms.set(one.clone()).unwrap();
    let since = json!({"since": {"epoch": "ffffffffffffffff", "seq": 1, "id": first}});
    // On a node with members of the room, on one without, and again as a member.
    for (keys, recovered, first) in [(json!({"last": 99}), json!(false), 0), (since, json!("store"), 1)] {
        for node in [&one, &other] {
            let mut client = Client::connect_v1(node, Admission::anonymous()).await.0;
            for times in 0..2 {
                let (entered, messages) = enter_with(&mut client, "cat", &keys).await;
                if times > 0 && keys.get("last").is_some() {
                    // It is already in the room, so it has everything.
                    continue;
                }
                let want: Vec<Value> =
                    (first..store.store.messages(&"r".into()).len()).map(Value::from).collect();
                assert_eq!((&entered["recovered"], messages), (&recovered, want), "{keys}: {entered}");
            }
            client.close().await;
        }
    }
    close([ann]).await;
    stop([one, other]).await;
}

/// Sends so many messages, each again until it is acknowledged, and reads until it has got all messages of all members.
async fn send_all(mut member: Member, number: u64, count: u64, total: usize) -> Member {
    for n in 0..count {
        let cid = format!("{number}-{n}");
        'sending: loop {
            member.send(&cid).await;
            loop {
                let frame = member.next().await;
                match frame["event"].as_str() {
                    Some("ack") if frame["cid"] == *cid => break 'sending,
                    Some("error") => {
                        assert_eq!((&frame["code"], &frame["cid"]), (&json!("unavailable"), &json!(cid)));
                        break;
                    }
                    _ => {}
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
    member.until(total).await;
    member
}

/// Whatever fails, each message is stored once and goes out once, under the same id.
#[tokio::test(start_paused = true)]
async fn faults_of_the_store_and_the_broker_lose_and_repeat_no_message() {
    const COUNT: u64 = 15;
    for seed in 0..12_u64 {
        let (broker, store) = (SharedBroker::new(), MemoryStore::new());
        let nodes: [ChatRooms; 3] = nodes(&broker, &store, |builder| builder);
        let mut members = Vec::new();
        for (node, number) in nodes.iter().chain(&nodes).zip(0..) {
            members.push((Member::enter(node, &format!("m{number}")).await, number));
        }
        let total = COUNT as usize * members.len();
        let sending: Vec<_> = members
            .into_iter()
            .map(|(member, number)| tokio::spawn(send_all(member, number, COUNT, total)))
            .collect();
        let mut random = seed;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        while stored(&store).len() < total / 2 {
            let fault = [StoreFault::Fail, StoreFault::Hang, StoreFault::LoseAnswers][next(3) as usize];
            store.set_fault((next(2) == 0).then_some(fault));
            broker.set_available(next(3) > 0);
            sleep(Duration::from_millis([1, 30, 300, 4000][next(4) as usize])).await;
            store.set_fault(None);
            broker.set_available(true);
            sleep(Duration::from_millis(next(30))).await;
        }
        let mut members = Vec::new();
        for sending in sending {
            members.push(sending.await.unwrap());
        }
        let got = members[0].got.clone();
        assert!(members.iter().all(|member| member.got == got), "{seed}: all members get one order");
        let mut got_ids: Vec<u64> = got.iter().map(|(id, _)| *id).collect();
        got_ids.sort_unstable();
        assert_eq!(ids(&stored(&store)), got_ids, "{seed}: what is stored goes out once");
        let texts: HashSet<&str> = got.iter().map(|(_, text)| &**text).collect();
        assert_eq!(texts.len(), total, "{seed}: each message once");
        close(members).await;
        stop(nodes).await;
    }
}

/// The members of other nodes get what a node has begun to store before its shutdown.
#[tokio::test(start_paused = true)]
async fn a_shutdown_finishes_what_a_node_is_storing() {
    let (broker, store) = (SharedBroker::new(), MemoryStore::new());
    let [one, other] = nodes(&broker, &store, |builder| builder);
    let mut ann = Member::enter(&one, "ann").await;
    let mut bob = Member::enter(&other, "bob").await;
    ann.send("first").await;
    ann.acknowledged("first").await;
    store.set_fault(Some(StoreFault::Hang));
    ann.send("last").await;
    store.until_appends(2).await;
    let shutdown = tokio::spawn({
        let one = one.clone();
        async move { one.shutdown().await }
    });
    run_other_tasks().await;
    assert!(!shutdown.is_finished());
    store.set_fault(None);
    shutdown.await.unwrap();
    assert_eq!(bob.until(2).await, ["first", "last"]);
    // A store or a broker that hangs does not hold up a shutdown.
    store.set_fault(Some(StoreFault::Hang));
    bob.send("never").await;
    store.until_appends(3).await;
    broker.set_available(false);
    timeout(Duration::from_secs(8), other.shutdown()).await.unwrap();
}
