//! A room's frames on their way to its members: those that wait for the flush task, and those that it
//! delivers. They are encoded once for each subprotocol that a member speaks.

use std::time::Duration;

use bytes::Bytes;

use crate::broker::Stamp;
use crate::ids::{MessageId, RoomId};
use crate::protocol::frame::{self, frame_len};
use crate::protocol::outbound::{self, RoomFrame};
use crate::protocol::subprotocol::Subprotocol;

/// Frames that are written to every member in one go.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    plain: Run<Bytes>,
    v1: Run<Bytes>,
    end: u64,
}

/// What is measured when a batch is delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// How many frames the batch has for all members together.
    pub(super) deliveries: u64,
    /// When the first message whose delivery is measured was received.
    pub(super) received: Option<Duration>,
}

/// Consecutive frames in one subprotocol.
#[derive(Debug, Clone, Default)]
struct Run<B> {
    /// The `seq` before the first of them.
    start: u64,
    bytes: B,
}

/// How many members speak which subprotocol. Frames are encoded only for the subprotocols that are in use.
#[derive(Debug, Default)]
struct Audience {
    plain: u32,
    v1: u32,
}

impl Audience {
    fn of(&mut self, subprotocol: Subprotocol) -> &mut u32 {
        match subprotocol {
            Subprotocol::Plain => &mut self.plain,
            Subprotocol::V1 => &mut self.v1,
        }
    }
}

impl Batch {
    /// The `seq` of its last frame.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.bytes.is_empty() && self.v1.bytes.is_empty()
    }

    /// Its frames in one subprotocol, and how many bytes of them come before a `seq`.
    pub(crate) fn frames(&self, seq: u64, subprotocol: Subprotocol) -> (&Bytes, usize) {
        let run = match subprotocol {
            Subprotocol::Plain => &self.plain,
            Subprotocol::V1 => &self.v1,
        };
        let mut skip = 0;
        for _ in run.start..seq {
            if skip == run.bytes.len() {
                break;
            }
            skip += frame_len(&run.bytes[skip..]);
        }
        (&run.bytes, skip)
    }

    /// All of its frames in `chat-rooms.v1`.
    pub(crate) fn v1(&self) -> &Bytes {
        &self.v1.bytes
    }
}

/// The frames of a room that are not delivered yet.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The `seq` of the latest frame.
    seq: u64,
    /// The `seq` of the latest frame that was taken.
    taken: u64,
    /// The `seq` of the latest frame that was delivered to all members.
    delivered: u64,
    audience: Audience,
    /// Frames are always encoded for `chat-rooms.v1`, for the replay buffer.
    keeps_v1: bool,
    plain: Run<Vec<u8>>,
    v1: Run<Vec<u8>>,
    in_flight: Option<Batch>,
    /// Waiting frames, each counted once for every member that it is sent to.
    deliveries: u64,
    /// When the first waiting message whose delivery is measured was received.
    received: Option<Duration>,
    /// The end of a frame in `chat-rooms.v1`, up to `seq`.
    room_and_seq: Box<str>,
}

impl Pending {
    pub(crate) fn new(room: &RoomId, keeps_v1: bool) -> Pending {
        Pending {
            room_and_seq: outbound::room_and_seq(room.as_str()),
            seq: 0,
            taken: 0,
            delivered: 0,
            audience: Audience::default(),
            keeps_v1,
            plain: Run::default(),
            v1: Run::default(),
            in_flight: None,
            deliveries: 0,
            received: None,
        }
    }

    /// Continues after this `seq`, without the frames that wait.
    pub(crate) fn restart(&mut self, seq: u64) {
        (self.seq, self.taken, self.delivered) = (seq, seq, seq);
        (self.plain, self.v1, self.in_flight) = (Run::default(), Run::default(), None);
        self.deliveries = 0;
    }

    /// The `seq` of the latest frame that was taken: the frames after it are still to be delivered.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The `seq` of the latest frame that was delivered to all members: [`Pending::undelivered`] holds those after it.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether all frames after this `seq` are waiting in `chat-rooms.v1` form. If no member spoke it, they were
    /// not encoded for it.
    pub(crate) fn has_v1_after(&self, seq: u64) -> bool {
        seq == self.seq || !self.v1.bytes.is_empty() && (self.v1.start..self.seq).contains(&seq)
    }

    /// Bytes that wait for the flush task.
    pub(crate) fn len(&self) -> usize {
        self.plain.bytes.len().max(self.v1.bytes.len())
    }

    /// A member that speaks this subprotocol has entered.
    pub(crate) fn add_listener(&mut self, subprotocol: Subprotocol) {
        *self.audience.of(subprotocol) += 1;
    }

    /// A member that speaks this subprotocol has left.
    pub(crate) fn remove_listener(&mut self, subprotocol: Subprotocol) {
        *self.audience.of(subprotocol) -= 1;
    }

    /// Queues one frame for all members. A message has an `id`.
    pub(crate) fn push(&mut self, stamp: Stamp, id: Option<MessageId>, frame: &RoomFrame<'_>) {
        let mut digits = [0; 20];
        let num = decimal(stamp.num, &mut digits);
        self.seq = stamp.seq;
        let before = stamp.seq - 1;
        // Counted here, because members that enter before the delivery do not get the frame.
        self.deliveries += u64::from(self.audience.plain) + u64::from(self.audience.v1);
        // A run has no holes: once begun, it continues until it is taken.
        if let Some(bytes) = self.plain.begin(before, self.audience.plain > 0) {
            frame::push_text(bytes, &[frame.plain.as_bytes(), frame.tail.as_bytes(), num, b"}"]);
        }
        if let Some(bytes) = self.v1.begin(before, self.keeps_v1 || self.audience.v1 > 0) {
            push_v1(bytes, &self.room_and_seq, stamp.seq, num, id, frame);
        }
    }

    /// Appends a frame as it would be delivered in `chat-rooms.v1`.
    pub(crate) fn encode_v1(
        &self,
        bytes: &mut Vec<u8>,
        stamp: Stamp,
        id: Option<MessageId>,
        frame: &RoomFrame<'_>,
    ) {
        push_v1(bytes, &self.room_and_seq, stamp.seq, decimal(stamp.num, &mut [0; 20]), id, frame);
    }

    /// Notes when a waiting message was received, if its delivery is measured.
    pub(crate) fn note_received(&mut self, received: Option<Duration>) {
        if received.is_some() {
            self.received = self.received.or(received);
        }
    }

    /// What is to be measured when the next batch is delivered.
    pub(crate) fn measure(&mut self) -> Measured {
        Measured { deliveries: std::mem::take(&mut self.deliveries), received: self.received.take() }
    }

    /// The batch that a flush task was dropped with. Some members may not have had it.
    pub(crate) fn interrupted(&self) -> Option<Batch> {
        self.in_flight.clone()
    }

    /// What is to be delivered next.
    pub(crate) fn take(&mut self) -> Batch {
        self.taken = self.seq;
        let batch = Batch { plain: self.plain.take(), v1: self.v1.take(), end: self.seq };
        self.in_flight = Some(batch.clone());
        batch
    }

    /// Notes that the batch is delivered. Returns whether nothing waits.
    pub(crate) fn finish(&mut self) -> bool {
        self.in_flight = None;
        self.delivered = self.taken;
        self.len() == 0
    }

    /// All frames that are in flight or wait, for a member that leaves or enters again.
    pub(crate) fn undelivered(&self) -> Vec<Batch> {
        let mut all: Vec<Batch> = self.in_flight.iter().cloned().collect();
        if self.len() > 0 {
            all.push(Batch { plain: self.plain.copy(), v1: self.v1.copy(), end: self.seq });
        }
        all
    }
}

impl Run<Vec<u8>> {
    /// Where to put the next frame, if a member hears it or the run has begun.
    fn begin(&mut self, before: u64, is_heard: bool) -> Option<&mut Vec<u8>> {
        if self.bytes.is_empty() {
            if !is_heard {
                return None;
            }
            self.start = before;
        }
        Some(&mut self.bytes)
    }

    fn take(&mut self) -> Run<Bytes> {
        if self.bytes.is_empty() {
            return Run::default();
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        // A slow consumer or the replay buffer may keep it for a long time.
        if bytes.capacity() - bytes.len() > bytes.len() / 4 + 1024 {
            bytes.shrink_to_fit();
        }
        Run { start: self.start, bytes: bytes.into() }
    }

    fn copy(&self) -> Run<Bytes> {
        Run { start: self.start, bytes: Bytes::copy_from_slice(&self.bytes) }
    }
}

#[inline]
fn push_v1(
    bytes: &mut Vec<u8>,
    room_and_seq: &str,
    seq: u64,
    num: &[u8],
    id: Option<MessageId>,
    frame: &RoomFrame<'_>,
) {
    let mut digits = [0; 20];
    let seq = decimal(seq, &mut digits);
    let mut digits = [0; 20];
    let (key, member, end): (&[u8], &[u8], &[u8]) = match frame.member {
        Some(id) => (b",\"member\":\"", decimal(id.0, &mut digits), b"\""),
        None => (b"", b"", b""),
    };
    let mut digits = [0; 20];
    let (id_key, id): (&[u8], &[u8]) = match id {
        Some(id) => (b",\"id\":", decimal(id.as_u64(), &mut digits)),
        None => (b"", b""),
    };
    let before_seq = if frame.has_room { ",\"seq\":" } else { room_and_seq };
    let (v1, tail) = (frame.v1.as_bytes(), frame.tail.as_bytes());
    frame::push_text(bytes, &[v1, tail, num, key, member, end, id_key, id, before_seq.as_bytes(), seq, b"}"]);
}

/// A number as decimal digits, without an allocation.
fn decimal(mut n: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConnectionId;
    use crate::protocol::position::Epoch;

    fn frame(text: &str) -> RoomFrame<'_> {
        RoomFrame { plain: text, v1: text.into(), has_room: false, tail: ":", member: None }
    }

    fn pending(plain: u32, v1: u32) -> Pending {
        let mut pending = Pending::new(&"r".into(), false);
        set_audience(&mut pending, plain, v1);
        pending
    }

    fn set_audience(pending: &mut Pending, plain: u32, v1: u32) {
        pending.audience = Audience { plain, v1 };
    }

    fn stamp(seq: u64, num: u64) -> Stamp {
        Stamp { epoch: Epoch(0), event: seq, seq, num }
    }

    fn push(pending: &mut Pending, text: &str, num: u64) {
        let seq = pending.seq + 1;
        pending.push(stamp(seq, num), None, &frame(text));
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        let (mut rest, mut texts) = (bytes, Vec::new());
        while !rest.is_empty() {
            let (frame, others) = rest.split_at(frame_len(rest));
            texts.push(String::from_utf8(frame[2..].to_vec()).unwrap());
            rest = others;
        }
        texts
    }

    fn after(batch: &Batch, seq: u64, subprotocol: Subprotocol) -> &[u8] {
        let (frames, skip) = batch.frames(seq, subprotocol);
        &frames[skip..]
    }

    #[test]
    fn a_frame_counts_once_for_each_member_that_is_there() {
        let mut pending = pending(3, 0);
        let secs = Duration::from_secs;
        push(&mut pending, "a", 3);
        pending.note_received(None);
        pending.remove_listener(Subprotocol::Plain);
        pending.add_listener(Subprotocol::V1);
        pending.add_listener(Subprotocol::V1);
        push(&mut pending, "b", 4);
        pending.note_received(Some(secs(1)));
        pending.note_received(Some(secs(2)));
        let Measured { deliveries, received } = pending.measure();
        assert_eq!((deliveries, received), (3 + 4, Some(secs(1))));
        pending.take();
        set_audience(&mut pending, 0, 1);
        push(&mut pending, "c", 1);
        let Measured { deliveries, received } = pending.measure();
        assert_eq!((deliveries, received), (1, None));
    }

    fn check(batch: &Batch, seq: u64, subprotocol: Subprotocol, want: &[&str]) {
        assert_eq!(texts(after(batch, seq, subprotocol)), want, "{subprotocol:?} after {seq}");
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for n in [0, 7, 10, 99, 1234, u64::MAX] {
            assert_eq!(decimal(n, &mut [0; 20]), n.to_string().as_bytes());
        }
    }

    #[test]
    fn a_batch_is_cut_at_a_members_seq() {
        let mut pending = pending(1, 1);
        push(&mut pending, "one", 7);
        push(&mut pending, "two", 7);
        let batch = pending.take();
        check(&batch, 0, Subprotocol::Plain, &["one:7}", "two:7}"]);
        check(&batch, 1, Subprotocol::Plain, &["two:7}"]);
        check(&batch, 1, Subprotocol::V1, &["two:7,\"roomId\":\"r\",\"seq\":2}"]);
        assert!(after(&batch, batch.end(), Subprotocol::Plain).is_empty());
        assert!(after(&batch, batch.end() + 9, Subprotocol::V1).is_empty());
        push(&mut pending, "three", 7);
        let ends: Vec<u64> = pending.undelivered().iter().map(Batch::end).collect();
        assert_eq!(ends, [2, 3]);
        assert_eq!(pending.taken(), 2);
        assert!(!pending.finish());
        assert_eq!(pending.take().end(), 3);
        assert!(pending.finish());
        assert!(pending.undelivered().is_empty());
    }

    #[test]
    fn frames_are_encoded_for_the_members_that_are_there_and_without_holes() {
        let mut pending = pending(1, 0);
        push(&mut pending, "a", 1);
        set_audience(&mut pending, 1, 1);
        push(&mut pending, "b", 1);
        set_audience(&mut pending, 1, 0);
        push(&mut pending, "c", 1);
        set_audience(&mut pending, 0, 1);
        push(&mut pending, "d", 1);
        let has_after: Vec<bool> = (0..6).map(|seq| pending.has_v1_after(seq)).collect();
        assert_eq!(has_after, [false, true, true, true, true, false]);
        let batch = pending.take();
        check(&batch, 0, Subprotocol::Plain, &["a:1}", "b:1}", "c:1}", "d:1}"]);
        check(
            &batch,
            1,
            Subprotocol::V1,
            &[
                "b:1,\"roomId\":\"r\",\"seq\":2}",
                "c:1,\"roomId\":\"r\",\"seq\":3}",
                "d:1,\"roomId\":\"r\",\"seq\":4}",
            ],
        );
        check(&batch, 3, Subprotocol::V1, &["d:1,\"roomId\":\"r\",\"seq\":4}"]);
        set_audience(&mut pending, 1, 0);
        push(&mut pending, "e", 1);
        check(&pending.take(), 4, Subprotocol::V1, &[]);
    }

    #[test]
    fn a_frame_says_in_v1_which_member_and_room_it_is_from() {
        let mut pending = pending(1, 1);
        let frame = RoomFrame { member: Some(ConnectionId(17)), ..frame("a") };
        pending.push(stamp(1, 2), None, &frame);
        let batch = pending.take();
        check(&batch, 0, Subprotocol::Plain, &["a:2}"]);
        check(&batch, 0, Subprotocol::V1, &["a:2,\"member\":\"17\",\"roomId\":\"r\",\"seq\":1}"]);
        let frame = RoomFrame { has_room: true, ..frame };
        pending.push(stamp(2, 2), None, &frame);
        check(&pending.take(), 1, Subprotocol::V1, &["a:2,\"member\":\"17\",\"seq\":2}"]);
    }

    #[test]
    fn a_message_has_an_id_in_v1() {
        let mut pending = pending(1, 1);
        let frame = RoomFrame { member: Some(ConnectionId(17)), ..frame("a") };
        pending.push(stamp(1, 2), MessageId::from_u64(70), &frame);
        let batch = pending.take();
        check(&batch, 0, Subprotocol::Plain, &["a:2}"]);
        let want = "a:2,\"member\":\"17\",\"id\":70,\"roomId\":\"r\",\"seq\":1}";
        check(&batch, 0, Subprotocol::V1, &[want]);
    }

    #[test]
    fn frames_are_kept_where_no_member_speaks_v1() {
        let mut pending = Pending::new(&"r".into(), true);
        set_audience(&mut pending, 1, 0);
        push(&mut pending, "a", 1);
        assert_eq!(texts(pending.take().v1()), ["a:1,\"roomId\":\"r\",\"seq\":1}"]);
    }
}
