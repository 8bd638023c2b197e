//! A room's transient frames on their way to its members. They are not in the room log. They wait only for the flush
//! task, and are dropped if a member cannot accept them immediately.

use std::ops::Range;

use crate::ids::ConnectionId;
use crate::protocol::frame;
use crate::protocol::outbound::{self, RoomFrame};
use crate::protocol::subprotocol::Subprotocol;

/// Bytes that may wait for the flush task. Limited because the room's messages wait while these frames are delivered.
const MAX_WAITING: usize = 16 * 1024;

/// The transient frames that wait for the flush task: the newest of each member and event.
#[derive(Debug, Default)]
pub(crate) struct Transients {
    /// Sorted by sender, so that the frames of all other senders are at most two pieces. The frames of one sender are
    /// in order.
    frames: Vec<Waiting>,
    bytes: usize,
}

/// A frame without `num`, the number of members, which may change before the frame is delivered.
#[derive(Debug)]
struct Waiting {
    /// `None` for the host, whose frames do not replace each other: they may be about different members.
    sender: Option<ConnectionId>,
    event: Box<str>,
    /// The text before `num` and, for `chat-rooms.v1`, the text after it.
    plain: Box<str>,
    v1: [Box<str>; 2],
}

/// Transient frames that are delivered in one go.
#[derive(Debug)]
pub(crate) struct TransientBatch {
    /// The `seq` of the room's frame that they follow.
    seq: u64,
    plain: Vec<u8>,
    v1: Vec<u8>,
    /// Where each member's own frames are.
    own: Vec<Own>,
}

#[derive(Debug)]
struct Own {
    member: ConnectionId,
    plain: Range<usize>,
    v1: Range<usize>,
}

/// Too many transient frames wait already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Transients {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds a frame. It replaces an earlier one of the same member and event.
    pub(super) fn push(&mut self, room: &str, event: &str, frame: &RoomFrame<'_>) -> Result<(), TooMany> {
        let waiting = Waiting::new(room, event, frame);
        if waiting.sender.is_some() {
            self.remove_where(|other| other.sender == waiting.sender && *other.event == *event);
        }
        let len = waiting.len();
        if !self.is_empty() && self.bytes.saturating_add(len) > MAX_WAITING {
            return Err(TooMany);
        }
        self.bytes += len;
        let at = self.frames.partition_point(|other| other.sender <= waiting.sender);
        self.frames.insert(at, waiting);
        Ok(())
    }

    /// Drops the frames of a member.
    pub(super) fn remove(&mut self, member: ConnectionId) {
        if !self.is_empty() {
            self.remove_where(|frame| frame.sender == Some(member));
        }
    }

    /// Takes all frames and encodes them with `num`. They are delivered after the room's frame with this `seq`.
    pub(super) fn take(&mut self, seq: u64, num: u64) -> TransientBatch {
        let num = num.to_string();
        let mut batch = TransientBatch { seq, plain: Vec::new(), v1: Vec::new(), own: Vec::new() };
        for waiting in std::mem::take(self).frames {
            let (plain, v1) = (batch.plain.len(), batch.v1.len());
            frame::push_text(&mut batch.plain, &[waiting.plain.as_bytes(), num.as_bytes(), b"}"]);
            let [start, end] = &waiting.v1;
            frame::push_text(&mut batch.v1, &[start.as_bytes(), num.as_bytes(), end.as_bytes()]);
            let (plain, v1) = (plain..batch.plain.len(), v1..batch.v1.len());
            match (waiting.sender, batch.own.last_mut()) {
                (None, _) => {}
                (Some(member), Some(own)) if own.member == member => {
                    (own.plain.end, own.v1.end) = (plain.end, v1.end);
                }
                (Some(member), _) => batch.own.push(Own { member, plain, v1 }),
            }
        }
        batch
    }

    fn remove_where(&mut self, should_drop: impl Fn(&Waiting) -> bool) {
        self.frames.retain(|frame| !should_drop(frame));
        self.bytes = self.frames.iter().map(Waiting::len).sum();
    }
}

impl Waiting {
    fn new(room: &str, event: &str, frame: &RoomFrame<'_>) -> Waiting {
        let member = frame.member.map_or(String::new(), |id| format!(r#","member":"{id}""#));
        let room = if frame.has_room { String::new() } else { outbound::room_key(room) };
        Waiting {
            sender: frame.member,
            event: event.into(),
            plain: [frame.plain, frame.tail].concat().into(),
            v1: [[&*frame.v1, frame.tail].concat().into(), format!("{member}{room}}}").into()],
        }
    }

    fn len(&self) -> usize {
        self.plain.len().max(self.v1.iter().map(|part| part.len()).sum())
    }
}

impl TransientBatch {
    /// The `seq` of the room's frame that they follow.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// The frames of all members except this one, in two pieces of whole frames.
    pub(crate) fn for_member(&self, member: ConnectionId, subprotocol: Subprotocol) -> [&[u8]; 2] {
        let own = self.own.binary_search_by_key(&member, |own| own.member).ok().map(|at| &self.own[at]);
        let (all, own) = match subprotocol {
            Subprotocol::Plain => (&self.plain, own.map(|own| &own.plain)),
            Subprotocol::V1 => (&self.v1, own.map(|own| &own.v1)),
        };
        match own {
            None => [all, &[]],
            Some(own) => [&all[..own.start], &all[own.end..]],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::frame::{frame_len, payload};

    fn frame(text: &str, member: Option<u64>) -> RoomFrame<'_> {
        RoomFrame {
            plain: text,
            v1: text.into(),
            has_room: false,
            tail: ",\"num\":",
            member: member.map(ConnectionId),
        }
    }

    fn push(waiting: &mut Transients, member: u64, event: &str, text: &str) {
        waiting.push("r", event, &frame(text, Some(member))).unwrap();
    }

    /// The texts that a member gets.
    fn texts(batch: &TransientBatch, member: u64, subprotocol: Subprotocol) -> Vec<String> {
        let mut texts = Vec::new();
        for mut rest in batch.for_member(ConnectionId(member), subprotocol) {
            while !rest.is_empty() {
                let (frame, others) = rest.split_at(frame_len(rest));
                texts.push(String::from_utf8(payload(frame).to_vec()).unwrap());
                rest = others;
            }
        }
        texts
    }

    #[test]
    fn the_newest_frame_of_each_member_and_event_is_kept() {
        let mut waiting = Transients::default();
        for (member, event, text) in
            [(2, "a", "1"), (1, "a", "2"), (2, "b", "3"), (2, "a", "4"), (1, "a", "5")]
        {
            push(&mut waiting, member, event, text);
        }
        let batch = waiting.take(7, 3);
        assert!(waiting.is_empty());
        assert_eq!(batch.seq(), 7);
        assert_eq!(texts(&batch, 9, Subprotocol::Plain), ["5,\"num\":3}", "3,\"num\":3}", "4,\"num\":3}"]);
        assert_eq!(texts(&batch, 1, Subprotocol::Plain), ["3,\"num\":3}", "4,\"num\":3}"]);
        assert_eq!(texts(&batch, 2, Subprotocol::V1), ["5,\"num\":3,\"member\":\"1\",\"roomId\":\"r\"}"]);
    }

    #[test]
    fn the_frames_of_the_host_do_not_replace_each_other_and_go_to_everybody() {
        let mut waiting = Transients::default();
        push(&mut waiting, 0, "a", "1");
        for text in ["2", "3"] {
            waiting.push("r", "a", &RoomFrame { has_room: true, ..frame(text, None) }).unwrap();
        }
        let batch = waiting.take(0, 1);
        assert_eq!(texts(&batch, 0, Subprotocol::V1), ["2,\"num\":1}", "3,\"num\":1}"]);
        assert_eq!(texts(&batch, 1, Subprotocol::V1).len(), 3);
    }

    #[test]
    fn a_bounded_number_of_bytes_waits() {
        let mut waiting = Transients::default();
        let text = "x".repeat(1000);
        let pushed =
            (0..20).take_while(|member| waiting.push("r", "a", &frame(&text, Some(*member))).is_ok());
        assert_eq!(pushed.count(), 15);
        // A waiting frame can still be replaced.
        assert_eq!(waiting.push("r", "a", &frame(&text, Some(3))), Ok(()));
        assert_eq!(waiting.push("r", "b", &frame(&text, Some(3))), Err(TooMany));
        waiting.take(0, 0);
        // A single frame over the limit, for example a replacement by the policy, is accepted.
        let long = "x".repeat(MAX_WAITING + 1);
        assert_eq!(waiting.push("r", "a", &frame(&long, Some(0))), Ok(()));
        assert_eq!(waiting.push("r", "a", &frame("x", Some(1))), Err(TooMany));
    }

    proptest! {
        #[test]
        fn everybody_gets_the_newest_frames_of_all_others(
            steps in prop::collection::vec((0..5_u64, 0..4_usize), 0..60),
        ) {
            const EVENTS: [&str; 3] = ["a", "b", "c"];
            let (mut waiting, mut expected) = (Transients::default(), BTreeMap::new());
            for (n, (member, event)) in steps.into_iter().enumerate() {
                match EVENTS.get(event) {
                    Some(event) => {
                        push(&mut waiting, member, event, &n.to_string());
                        expected.insert((member, event), n);
                    }
                    None => {
                        waiting.remove(ConnectionId(member));
                        expected.retain(|(other, _), _| *other != member);
                    }
                }
            }
            let batch = waiting.take(1, 5);
            for reader in 0..6 {
                let mut others: Vec<_> =
                    expected.iter().filter(|((member, _), _)| *member != reader).map(|((m, _), n)| (*m, *n)).collect();
                others.sort_unstable();
                let plain: Vec<_> = others.iter().map(|(_, n)| format!("{n},\"num\":5}}")).collect();
                prop_assert_eq!(texts(&batch, reader, Subprotocol::Plain), plain);
                let v1: Vec<_> = others
                    .iter()
                    .map(|(member, n)| format!("{n},\"num\":5,\"member\":\"{member}\",\"roomId\":\"r\"}}"))
                    .collect();
                prop_assert_eq!(texts(&batch, reader, Subprotocol::V1), v1);
            }
        }
    }
}
