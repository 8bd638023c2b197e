//! A member that enters and leaves rooms while it is in rooms already: no frame of a room is lost or received twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::FutureExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower_chat_rooms::{Admission, ChatRooms, History, Recovery};

use crate::support::{
    Client, SteppedConnection, enter_frame, enter_since, leave_frame, skip_with_broker, unlimited,
};

/// With more members than the flush task writes to in one turn, a batch can be on its way to the last of them.
const CROWD: usize = 256;

const ROOMS: [&str; 2] = ["a", "b"];

/// A step of a run.
#[derive(Debug, Clone)]
enum Step {
    /// Ann enters a room under a name, with the position of what it has read or without a position.
    Enter { room: &'static str, name: &'static str, has_since: bool },
    /// Ann leaves a room, whether it is in there or not.
    Leave(&'static str),
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
        1 => room().prop_map(Step::Leave),
        4 => room().prop_map(Step::Publish),
        3 => Just(Step::Turn),
        1 => Just(Step::Read),
    ]
}

fn any_history() -> impl Strategy<Value = Option<History>> {
    prop_oneof![Just(None), Just(Some(History::last(2))), Just(Some(History::last(100)))]
}

/// What ann knows of a room.
#[derive(Default)]
struct Room {
    /// Present while ann is a member.
    position: Option<Position>,
    /// For each enter without an answer, whether it has sent a position.
    unanswered: VecDeque<bool>,
    messages: Vec<u64>,
}

/// An epoch and the `seq` of the last frame received.
type Position = (Value, u64);

/// Ann, whose server side the test polls.
struct Ann {
    connection: SteppedConnection,
    rooms: BTreeMap<&'static str, Room>,
}

impl Ann {
    async fn connect(rooms: &ChatRooms) -> Ann {
        let rooms_of_ann = ROOMS.map(|id| (id, Room::default()));
        Ann { connection: SteppedConnection::connect(rooms).await, rooms: rooms_of_ann.into() }
    }

    async fn enter(&mut self, id: &'static str, name: &str, has_since: bool) {
        let room = self.rooms.get_mut(id).unwrap();
        let enter = match &room.position {
            Some((epoch, seq)) if has_since => enter_since(name, id, &json!({"epoch": epoch, "seq": seq})),
            _ => enter_frame(name, id),
        };
        room.unanswered.push_back(has_since);
        self.connection.send(enter).await;
    }

    async fn leave(&mut self, id: &str) {
        self.connection.send(leave_frame(id)).await;
    }

    fn read(&mut self) {
        while let Some(frame) = self.connection.next().now_or_never() {
            let room = self.rooms.get_mut(frame["roomId"].as_str().unwrap()).unwrap();
            match frame["event"].as_str() {
                Some("entered") => room.on_entered(&frame),
                Some("left") => {
                    assert_eq!(frame.as_object().unwrap().len(), 2, "{frame}");
                    room.position = None;
                }
                _ => room.on_frame(&frame),
            }
        }
    }
}

impl Room {
    fn on_frame(&mut self, frame: &Value) {
        let Some((_, seq)) = &mut self.position else { panic!("{frame} of a room that ann is not in") };
        assert_eq!(frame["seq"], *seq + 1, "{frame}");
        *seq += 1;
        self.messages.extend(frame["message"].as_u64());
    }

    fn on_entered(&mut self, entered: &Value) {
        let start = entered["seq"].as_u64().unwrap() - entered["replayed"].as_u64().unwrap();
        let has_since = self.unanswered.pop_front().unwrap();
        if let Some((epoch, seq)) = &self.position {
            // A member that changes its name does not get its own `out`.
            let expected = seq + u64::from(entered["resumed"] == false);
            assert_eq!(entered["epoch"], *epoch);
            assert!(start == expected || has_since && start < expected, "{entered} after {seq}");
        }
        self.position = Some((entered["epoch"].clone(), start));
    }
}

/// For each room, the numbers of its messages.
type Messages = BTreeMap<&'static str, Vec<u64>>;

/// Runs these steps. Returns the messages that were published while ann was in their room, and those that it has
/// received.
fn run(steps: Vec<Step>, history: Option<History>, crowd: usize) -> (Messages, Messages) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let rooms = unlimited().recovery(Recovery::default().history(history)).build().unwrap();
        let mut others = Vec::new();
        for room in std::iter::repeat_n("a", crowd).chain(["b"]) {
            let mut client = Client::connect_as(&rooms, Admission::anonymous(), 1 << 20).await;
            client.send(enter_frame("bob", room)).await;
            others.push(client);
        }
        while rooms.stats().entered < others.len() as u64 {
            tokio::task::yield_now().await;
        }
        let mut ann = Ann::connect(&rooms).await;
        ann.enter("a", "ann", false).await;
        let (mut is_in, mut published) = (BTreeSet::from(["a"]), 0);
        let mut expected = Messages::from(ROOMS.map(|id| (id, Vec::new())));
        for step in steps {
            match step {
                Step::Enter { room, name, has_since } => {
                    ann.enter(room, name, has_since).await;
                    is_in.insert(room);
                }
                Step::Leave(room) => {
                    ann.leave(room).await;
                    is_in.remove(room);
                }
                Step::Publish(room) => {
                    rooms.send(room, &json!({"event": "notice", "message": published})).unwrap();
                    if is_in.contains(room) {
                        expected.get_mut(room).unwrap().push(published);
                    }
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
        assert!(ann.rooms.values().all(|room| room.unanswered.is_empty()));
        (expected, ann.rooms.into_iter().map(|(id, room)| (id, room.messages)).collect())
    })
}

fn check_without_positions(steps: Vec<Step>, history: Option<History>, crowd: usize) {
    skip_with_broker!("an enter needs more turns than the test gives it, because the broker has to answer");
    let (expected, received) = run(steps, history, crowd);
    assert_eq!(received, expected);
}

/// A client that sends a position before it has read everything gets some frames again, and what was published while it
/// was not in the room.
fn check_with_positions(steps: Vec<Step>, history: Option<History>, crowd: usize) {
    skip_with_broker!("an enter needs more turns than the test gives it, because the broker has to answer");
    let (expected, mut received) = run(steps, history, crowd);
    for (id, messages) in &mut received {
        let mut seen = BTreeSet::new();
        messages.retain(|message| expected[id].contains(message) && seen.insert(*message));
    }
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
