//! A member that enters while it is in a room already: no frame of a room is lost or received twice.

use std::collections::VecDeque;

use futures_util::FutureExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, History, Recovery};

use crate::support::{Client, SteppedConnection, unlimited};

/// With more members than the flush task writes to in one turn, a batch can be on its way to the last of them.
const CROWD: usize = 256;

/// A step of a run.
#[derive(Debug, Clone)]
enum Step {
    /// Ann enters a room under a name, with the position of what it has read or without a position.
    Enter { room: &'static str, name: &'static str, has_since: bool },
    /// The host sends a message to a room.
    Publish(&'static str),
    /// The flush tasks get a turn.
    Turn,
    /// Ann reads what has arrived.
    Read,
}

fn any_step(sends_since: bool) -> impl Strategy<Value = Step> {
    let room = || prop_oneof![4 => Just("a"), 1 => Just("b")];
    let name = prop_oneof![2 => Just("ann"), 1 => Just("eve")];
    prop_oneof![
        3 => (room(), name, any::<bool>()).prop_map(move |(room, name, has_since)| {
            Step::Enter { room, name, has_since: has_since && sends_since }
        }),
        4 => room().prop_map(Step::Publish),
        3 => Just(Step::Turn),
        1 => Just(Step::Read),
    ]
}

fn any_history() -> impl Strategy<Value = Option<History>> {
    prop_oneof![Just(None), Just(Some(History::last(2))), Just(Some(History::last(100)))]
}

/// Ann, whose server side the test polls.
struct Ann {
    connection: SteppedConnection,
    room: String,
    epoch: Value,
    seq: u64,
    /// For each enter without an answer, whether it has sent a position.
    unanswered: VecDeque<bool>,
    messages: Vec<u64>,
}

impl Ann {
    async fn connect(rooms: &ChatRooms) -> Ann {
        let connection = SteppedConnection::connect(rooms).await;
        let (room, unanswered, messages) = (String::new(), VecDeque::new(), Vec::new());
        Ann { connection, room, epoch: Value::Null, seq: 0, unanswered, messages }
    }

    async fn enter(&mut self, room: &str, name: &str, has_since: bool) {
        let mut enter = json!({"event": "enter", "message": name, "roomId": room});
        if has_since && !self.epoch.is_null() {
            enter["since"] = json!({"epoch": self.epoch, "seq": self.seq});
        }
        self.unanswered.push_back(has_since);
        self.connection.send(enter).await;
    }

    fn read(&mut self) {
        while let Some(frame) = self.connection.next().now_or_never() {
            if frame["event"] == "entered" {
                self.on_entered(&frame);
            } else {
                assert_eq!(frame["seq"], self.seq + 1, "{frame}");
                self.seq += 1;
                self.messages.extend(frame["message"].as_u64());
            }
        }
    }

    fn on_entered(&mut self, entered: &Value) {
        let start = entered["seq"].as_u64().unwrap() - entered["replayed"].as_u64().unwrap();
        let has_since = self.unanswered.pop_front().unwrap();
        if entered["roomId"] == self.room.as_str() {
            // A member that changes its name does not get its own `out`.
            let expected = self.seq + u64::from(entered["resumed"] == false);
            assert_eq!(entered["epoch"], self.epoch);
            assert!(start == expected || has_since && start < expected, "{entered} after {}", self.seq);
        }
        self.room = entered["roomId"].as_str().unwrap().to_owned();
        (self.epoch, self.seq) = (entered["epoch"].clone(), start);
    }
}

/// Runs these steps. Returns the messages that were published where ann was, and those that it has received.
fn run(steps: Vec<Step>, history: Option<History>, crowd: usize) -> (Vec<u64>, Vec<u64>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let rooms = unlimited().recovery(Recovery::default().history(history)).build().unwrap();
        let mut others = Vec::new();
        for room in std::iter::repeat_n("a", crowd).chain(["b"]) {
            let mut client = Client::connect_as(&rooms, Admission::anonymous(), 1 << 20).await;
            client.send(json!({"event": "enter", "message": "bob", "roomId": room})).await;
            others.push(client);
        }
        while rooms.stats().entered < others.len() as u64 {
            tokio::task::yield_now().await;
        }
        let mut ann = Ann::connect(&rooms).await;
        ann.enter("a", "ann", false).await;
        let (mut is_in, mut published, mut expected) = ("a", 0, Vec::new());
        for step in steps {
            match step {
                Step::Enter { room, name, has_since } => {
                    ann.enter(room, name, has_since).await;
                    is_in = room;
                }
                Step::Publish(room) => {
                    rooms.send(room, &json!({"event": "notice", "message": published})).unwrap();
                    expected.extend((room == is_in).then_some(published));
                    published += 1;
                }
                Step::Turn => tokio::task::yield_now().await,
                Step::Read => ann.read(),
            }
        }
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        ann.read();
        assert!(ann.unanswered.is_empty());
        (expected, ann.messages)
    })
}

fn check_without_positions(steps: Vec<Step>, history: Option<History>, crowd: usize) {
    let (expected, received) = run(steps, history, crowd);
    assert_eq!(received, expected);
}

/// A client that sends a position before it has read everything gets some frames again, and the history of a room that
/// it moves to.
fn check_with_positions(steps: Vec<Step>, history: Option<History>, crowd: usize) {
    let (expected, mut received) = run(steps, history, crowd);
    let mut seen = std::collections::HashSet::new();
    received.retain(|message| expected.contains(message) && seen.insert(*message));
    assert_eq!(received, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_is_received_once_and_in_order(
        steps in prop::collection::vec(any_step(false), 1..40),
        history in any_history(),
    ) {
        check_without_positions(steps, history, 1);
    }

    #[test]
    fn a_position_loses_no_frame(
        steps in prop::collection::vec(any_step(true), 1..40),
        history in any_history(),
    ) {
        check_with_positions(steps, history, 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_is_received_once_and_in_order_in_a_large_room(
        steps in prop::collection::vec(any_step(false), 20..60),
        history in any_history(),
    ) {
        check_without_positions(steps, history, CROWD);
    }

    #[test]
    fn a_position_loses_no_frame_in_a_large_room(
        steps in prop::collection::vec(any_step(true), 20..60),
        history in any_history(),
    ) {
        check_with_positions(steps, history, CROWD);
    }
}
