//! Several lanes in one queue.

use super::*;
use crate::socket::send_queue::lanes::QUANTUM;

/// Queues frames of a room that has this policy.
fn push(
    queue: &mut SendQueue,
    room: char,
    slow: SlowConsumer,
    texts: &[&str],
    bounds: Size,
) -> Result<u64, Overflow> {
    queue.push(&lane(room, slow), Kind::Room, frames(texts), 0, bounds)
}

/// Queues frames that concern no room.
fn push_own(queue: &mut SendQueue, texts: &[&str], bounds: Size) -> Result<u64, Overflow> {
    queue.push(&Lane::own(), Kind::Own, frames(texts), 0, bounds)
}

/// A name of a frame for each number.
fn names(room: char, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|n| format!("{room}{n}")).collect()
}

fn refs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn lagged(room: &str, missed: u64) -> String {
    outbound::lagged(room, missed)
}

fn assert_consistent(queue: &SendQueue) {
    if let Some(lanes) = &queue.data {
        lanes.assert_consistent();
    }
}

fn assert_holds_no_memory(queue: &SendQueue) {
    assert!(queue.is_empty() && queue.data.is_none());
    assert_eq!(queue.control.capacity(), 0);
    assert_eq!((queue.size(), queue.replay_bytes()), (Size::default(), 0));
}

#[test]
fn lanes_are_served_in_turn() {
    let (mut queue, close) = (SendQueue::default(), SlowConsumer::Close);
    // A turn ends after two frames of 10,000 bytes.
    let long: Vec<String> = names('a', 0..5).into_iter().map(|name| format!("{name:9996}")).collect();
    push(&mut queue, 'a', close, &refs(&long), OPEN).unwrap();
    push(&mut queue, 'b', close, &["b0", "b1"], OPEN).unwrap();
    push_own(&mut queue, &["mine"], OPEN).unwrap();
    // A frame that is queued later keeps the place of its lane.
    push(&mut queue, 'b', close, &["b2"], OPEN).unwrap();
    let texts: Vec<String> = drain(&mut queue).iter().map(|text| text.trim_end().into()).collect();
    assert_eq!(texts, ["a0", "a1", "b0", "b1", "b2", "mine", "a2", "a3", "a4"]);
    assert_holds_no_memory(&queue);
}

#[test]
fn a_lane_that_waits_alone_is_written_at_once() {
    let mut queue = SendQueue::default();
    let long = "x".repeat(10_000);
    push(&mut queue, 'a', SlowConsumer::Close, &[&long[..]; 9], OPEN).unwrap();
    assert_eq!(queue.next().len(), 9 * 10_004);
    // The turn ends in the middle of a frame, which is finished first.
    queue.advance(25_000);
    push(&mut queue, 'b', SlowConsumer::Close, &["b"], OPEN).unwrap();
    queue.push_heartbeat(b"BEAT");
    assert_eq!(queue.next().len(), 3 * 10_004 - 25_000);
    queue.advance(queue.next().len());
    assert_eq!(queue.next(), b"BEAT");
    queue.advance(4);
    assert_eq!(queue.next(), b"\x81\x01b");
}

#[test]
fn a_busy_room_loses_frames_before_a_quiet_one() {
    for slow in [SlowConsumer::DropOldest, SlowConsumer::Latest] {
        let (mut queue, bounds) = (SendQueue::default(), bounds(20, 9999));
        push(&mut queue, 'q', slow, &["q0", "q1"], bounds).unwrap();
        push(&mut queue, 'b', slow, &refs(&names('b', 0..18)), bounds).unwrap();
        // Whichever of them does not fit.
        assert_eq!(push(&mut queue, 'q', slow, &["q2"], bounds), Ok(11), "{slow:?}");
        assert_consistent(&queue);
        let mut expected = vec!["q0".into(), "q1".into(), "q2".into(), lagged("b", 11)];
        expected.extend(names('b', 11..18));
        assert_eq!(drain(&mut queue), expected);
    }
}

#[test]
fn equally_full_rooms_lose_equally_many_frames() {
    let (mut queue, bounds) = (SendQueue::default(), bounds(32, 9999));
    for room in ['a', 'b', 'c', 'd'] {
        push(&mut queue, room, SlowConsumer::DropOldest, &refs(&names(room, 0..8)), bounds).unwrap();
    }
    assert_eq!(push(&mut queue, 'a', SlowConsumer::DropOldest, &["a8"], bounds), Ok(17));
    let mut expected = Vec::new();
    for (room, kept) in [("a", 5..9), ("b", 4..8), ("c", 4..8), ("d", 4..8)] {
        expected.push(lagged(room, kept.start as u64));
        expected.extend(names(room.chars().next().unwrap(), kept));
    }
    assert_eq!(drain(&mut queue), expected);
    assert_holds_no_memory(&queue);
}

#[test]
fn rooms_that_may_lose_frames_make_room_for_one_that_may_not() {
    let (mut queue, bounds) = (SendQueue::default(), bounds(16, 9999));
    let (close, drop) = (SlowConsumer::Close, SlowConsumer::DropOldest);
    push(&mut queue, 'd', drop, &refs(&names('d', 0..14)), bounds).unwrap();
    push(&mut queue, 'c', close, &["c0", "c1"], bounds).unwrap();
    // Half of the 16 - 2 - 2 that the room with `Close` leaves.
    assert_eq!(push(&mut queue, 'c', close, &["c2", "c3"], bounds), Ok(8));
    // The same for frames that are for this client only. One of the frames that wait is the notice.
    push(&mut queue, 'd', drop, &refs(&names('d', 14..19)), bounds).unwrap();
    assert_eq!(push_own(&mut queue, &["mine", "too"], bounds), Ok(7));
    assert_consistent(&queue);
    // The push fails when no more frames can be dropped.
    assert_eq!(push(&mut queue, 'c', close, &refs(&names('c', 4..13)), bounds), Ok(4));
    assert_eq!(push(&mut queue, 'c', close, &["c13"], bounds), Err(Overflow));
    assert_consistent(&queue);
    let mut expected = vec![lagged("d", 8), lagged("d", 11)];
    expected.extend(names('c', 0..13));
    expected.extend(["mine".into(), "too".into()]);
    assert_eq!(drain(&mut queue), expected);
}

#[test]
fn a_room_that_does_not_fit_does_not_cost_another_its_frames_unless_they_may_be_dropped() {
    let newest = SlowConsumer::DropNewest;
    for (first, second, fails) in [
        (SlowConsumer::Close, SlowConsumer::Close, true),
        (newest, SlowConsumer::Close, true),
        (SlowConsumer::Close, newest, false),
        (newest, newest, false),
        (SlowConsumer::Close, SlowConsumer::DropOldest, false),
    ] {
        let (mut queue, bounds) = (SendQueue::default(), bounds(8, 9999));
        // A burst, which is queued whatever its size.
        push(&mut queue, 'a', first, &refs(&names('a', 0..8)), bounds).unwrap();
        let pushed = push(&mut queue, 'b', second, &["b0"], bounds);
        assert_eq!(pushed, if fails { Err(Overflow) } else { Ok(1) }, "{first:?} {second:?}");
        assert_consistent(&queue);
        let mut expected = names('a', 0..8);
        expected.extend((!fails).then(|| lagged("b", 1)));
        assert_eq!(drain(&mut queue), expected, "{first:?} {second:?}");
    }
}

#[test]
fn new_frames_are_dropped_unless_another_room_has_more_in_the_queue() {
    let (newest, oldest) = (SlowConsumer::DropNewest, SlowConsumer::DropOldest);
    let bounds = bounds(16, 9999);
    // The busy room is the one that drops new frames.
    let mut queue = SendQueue::default();
    push(&mut queue, 'o', oldest, &["o0", "o1"], bounds).unwrap();
    assert_eq!(push(&mut queue, 'n', newest, &refs(&names('n', 0..13)), bounds), Ok(3));
    let mut expected = vec!["o0".into(), "o1".into()];
    expected.extend(names('n', 0..10));
    expected.push(lagged("n", 3));
    assert_eq!(drain(&mut queue), expected);
    // The busy room is the other one.
    let mut queue = SendQueue::default();
    push(&mut queue, 'o', oldest, &refs(&names('o', 0..16)), bounds).unwrap();
    assert_eq!(push(&mut queue, 'n', newest, &["n0", "n1"], bounds), Ok(11));
    assert_consistent(&queue);
    let mut expected = vec![lagged("o", 11)];
    expected.extend(names('o', 11..16));
    expected.extend(["n0".into(), "n1".into()]);
    assert_eq!(drain(&mut queue), expected);
}

#[test]
fn a_plain_client_is_told_nothing_when_a_lane_loses_all_of_its_frames() {
    let (mut queue, bounds) = (SendQueue::default(), bounds(4, 9999));
    let silent = |room, slow| Lane { room: None, ..lane(room, slow) };
    let (dropping, closing) = (silent('d', SlowConsumer::DropOldest), silent('c', SlowConsumer::Close));
    queue.push(&dropping, Kind::Room, frames(&["d0", "d1"]), 0, bounds).unwrap();
    queue.push(&closing, Kind::Room, frames(&["c0"]), 0, bounds).unwrap();
    let four = frames(&["c1", "c2", "c3"]);
    assert_eq!(queue.push(&closing, Kind::Room, four, 0, bounds), Ok(2));
    assert_consistent(&queue);
    assert_eq!(drain(&mut queue), ["c0", "c1", "c2", "c3"]);
    assert_holds_no_memory(&queue);
}

#[test]
fn the_last_frame_follows_all_lanes() {
    let mut queue = SendQueue::default();
    let long = "x".repeat(10_000);
    for room in ['a', 'b', 'c'] {
        push(&mut queue, room, SlowConsumer::Close, &[&long[..]; 5], OPEN).unwrap();
    }
    queue.push_last(frames(&["last"]).to_vec());
    let texts = drain(&mut queue);
    assert_eq!((texts.len(), texts.last().map(String::as_str)), (16, Some("last")));
    assert_holds_no_memory(&queue);
}

#[test]
fn all_lanes_are_dropped_except_a_frame_that_has_begun() {
    for begun in [false, true] {
        let (mut queue, close) = (SendQueue::default(), SlowConsumer::Close);
        push(&mut queue, 'a', close, &["a0", "a1"], OPEN).unwrap();
        push(&mut queue, 'b', close, &["b0"], OPEN).unwrap();
        let replay = frames(&["old"]);
        queue.push(&lane('c', close), Kind::Replay, replay.clone(), 0, OPEN).unwrap();
        queue.push(&lane('a', close), Kind::Replay, replay.clone(), 0, OPEN).unwrap();
        assert_eq!((queue.size().frames, queue.replay_bytes()), (3, 2 * replay.len()));
        queue.advance(usize::from(begun));
        queue.drop_data();
        assert_consistent(&queue);
        assert_eq!((queue.size().frames, queue.replay_bytes()), (usize::from(begun), 0));
        queue.push_last(frames(&["last"]).to_vec());
        if begun {
            assert_eq!(queue.next(), b"\x02a0");
            queue.advance(3);
        }
        assert_eq!(drain(&mut queue), ["last"]);
        assert_holds_no_memory(&queue);
    }
}

proptest! {
    /// A lane waits for another one no longer than a turn and a frame.
    #[test]
    fn a_backlog_does_not_delay_another_lane(
        sizes in prop::collection::vec(0usize..40_000, 1..20),
        written in 0usize..200_000,
        take in 1usize..70_000,
    ) {
        let mut queue = SendQueue::default();
        // About a mebibyte.
        let rounds = (1 << 20) / (sizes.iter().sum::<usize>() + 10_000) + 1;
        let texts: Vec<String> = sizes.repeat(rounds).into_iter().map(|size| "x".repeat(size)).collect();
        push(&mut queue, 'a', SlowConsumer::Close, &refs(&texts), OPEN).unwrap();
        let longest = texts.iter().map(|text| frame::text(text.as_bytes()).len()).max().unwrap();
        let mut left = written;
        while left > 0 && !queue.is_empty() {
            let n = queue.next().len().min(left);
            queue.advance(n);
            left -= n;
        }
        push(&mut queue, 'b', SlowConsumer::Close, &["mine"], OPEN).unwrap();
        let mut delay = 0;
        while queue.next() != b"\x81\x04mine" {
            let n = queue.next().len().min(take);
            queue.advance(n);
            delay += n;
        }
        prop_assert!(delay <= QUANTUM + longest, "{delay}");
    }
}

/// One step of a property test.
#[derive(Debug, Clone)]
enum Step {
    /// Queues frames of these sizes.
    Push {
        lane: usize,
        kind: Kind,
        sizes: Vec<usize>,
    },
    Control,
    /// The socket accepts this many bytes.
    Write(usize),
}

fn steps(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![4 => Just(Kind::Room), 1 => Just(Kind::Own), 1 => Just(Kind::Replay)];
    let sizes = prop::collection::vec(0..longest, 1..5);
    let push = (0usize..5, kind, sizes).prop_map(|(lane, kind, sizes)| Step::Push { lane, kind, sizes });
    let step = prop_oneof![6 => push, 1 => Just(Step::Control), 3 => (1..longest * 8).prop_map(Step::Write)];
    prop::collection::vec(step, 1..80)
}

/// The lanes of a property test: some rooms, and the client's own.
fn lanes(slow: [SlowConsumer; 4]) -> Vec<Lane> {
    let mut lanes: Vec<Lane> =
        ['0', '1', '2', '3'].into_iter().zip(slow).map(|(room, slow)| lane(room, slow)).collect();
    lanes.push(Lane::own());
    lanes
}

/// A queue, its input, and its output.
#[derive(Default)]
struct Bench {
    queue: SendQueue,
    wire: Vec<u8>,
    /// Frames of the room, own frames, and those of replays that were queued, for each lane.
    queued: [[u64; 3]; 5],
    controls: u64,
    lost: u64,
    /// Frames did not fit, although others were dropped for them. This would end the connection.
    has_overflowed: bool,
    /// Bytes of data that were queued and not written.
    waiting: usize,
}

impl Bench {
    /// Returns whether the frames were accepted.
    fn push(&mut self, at: usize, lane: &Lane, kind: Kind, sizes: &[usize], bounds: Size) -> bool {
        // The own lane has own frames only.
        let kind = if lane.room.is_none() { Kind::Own } else { kind };
        let mut queued = self.queued[at];
        let texts: Vec<String> = sizes
            .iter()
            .map(|size| {
                let n = &mut queued[kind as usize];
                *n += 1;
                // The frame that it follows: frames of the room keep their places among the others.
                let [room, own, replay] = queued;
                format!(
                    r#"{{"event":"e{}","kind":{},"lane":{at},"room":{room},"own":{own},"replay":{replay},"pad":"{}"}}"#,
                    size % 3,
                    kind as usize,
                    "x".repeat(*size)
                )
            })
            .collect();
        let frames = frames(&refs(&texts));
        let len = frames.len();
        match self.queue.push(lane, kind, frames, 0, bounds) {
            Ok(lost) => {
                self.lost += lost;
                self.queued[at] = queued;
                self.waiting += len;
                true
            }
            Err(Overflow) => {
                self.has_overflowed = true;
                false
            }
        }
    }

    fn control(&mut self) {
        self.queue.push_control(&frame::text(format!(r#"{{"control":{}}}"#, self.controls).as_bytes()));
        self.controls += 1;
    }

    fn write(&mut self, mut n: usize) {
        while n > 0 && !self.queue.is_empty() {
            let part = self.queue.next().len().min(n);
            self.wire.extend_from_slice(&self.queue.next()[..part]);
            let controls = self.queue.control_len();
            self.queue.advance(part);
            // `lagged` frames count as data, but the test has not queued them.
            self.waiting =
                self.waiting.saturating_sub(if self.queue.control_len() < controls { 0 } else { part });
            n -= part;
        }
    }

    /// Writes the rest. Checks that frames came whole, each lane in order, and that the gaps are exactly what the
    /// client is told. Returns how many frames it has missed.
    fn check(mut self) -> u64 {
        self.write(usize::MAX);
        assert_holds_no_memory(&self.queue);
        let (mut got, mut controls, mut told) = ([[0; 3]; 5], 0, 0);
        for text in texts(&self.wire) {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            if let Some(n) = value["control"].as_u64() {
                assert_eq!(n, controls);
                controls += 1;
            } else if let Some(missed) = value["missed"].as_u64() {
                assert!(missed > 0);
                let lane: usize = value["roomId"].as_str().unwrap().parse().unwrap();
                got[lane][Kind::Room as usize] += missed;
                told += missed;
            } else {
                let lane = &mut got[value["lane"].as_u64().unwrap() as usize];
                lane[value["kind"].as_u64().unwrap() as usize] += 1;
                assert_eq!(
                    ["room", "own", "replay"].map(|key| value[key].as_u64().unwrap()),
                    *lane,
                    "{text}"
                );
            }
        }
        assert_eq!((got, controls), (self.queued, self.controls));
        assert!(told == self.lost || self.has_overflowed && told > self.lost);
        told
    }
}

proptest! {
    /// Without bounds, nothing is lost, and the counts are exact.
    #[test]
    fn whole_frames_come_in_the_order_of_their_lane(steps in steps(8000)) {
        let (lanes, mut bench) = (lanes([SlowConsumer::Close; 4]), Bench::default());
        for step in steps {
            match step {
                Step::Push { lane, kind, sizes } => {
                    prop_assert!(bench.push(lane, &lanes[lane], kind, &sizes, OPEN));
                }
                Step::Control => bench.control(),
                Step::Write(n) => bench.write(n),
            }
            assert_consistent(&bench.queue);
            prop_assert_eq!(bench.queue.size().bytes + bench.queue.replay_bytes(), bench.waiting);
        }
        prop_assert_eq!(bench.check(), 0);
    }

    /// The client is told exactly how many frames of each room it has missed, and where. Only rooms with `Close` and own
    /// frames overflow the queue.
    #[test]
    fn each_lane_announces_its_own_gaps(
        slow in prop::array::uniform4(prop::sample::select(vec![
            SlowConsumer::Close, SlowConsumer::DropOldest, SlowConsumer::DropNewest, SlowConsumer::Latest,
        ])),
        steps in steps(200),
    ) {
        let (lanes, bounds, mut bench) = (lanes(slow), bounds(24, 4000), Bench::default());
        for step in steps {
            let was_empty = bench.queue.data.is_none();
            match step {
                Step::Push { lane, kind, sizes } => {
                    let of = &lanes[lane];
                    if !bench.push(lane, of, kind, &sizes, bounds) {
                        prop_assert!(of.slow == SlowConsumer::Close || kind == Kind::Own);
                        bench.check();
                        return Ok(());
                    }
                    // `lagged` frames come in addition.
                    let most = bounds + Size { bytes: 100, frames: 2 };
                    prop_assert!(was_empty || bench.queue.size().fits(most), "{:?}", bench.queue.size());
                }
                Step::Control => bench.control(),
                Step::Write(n) => bench.write(n),
            }
            assert_consistent(&bench.queue);
        }
        bench.check();
    }
}
