mod lanes;

use proptest::prelude::*;

use super::*;
use crate::config::SlowConsumer;
use crate::protocol::frame::{self, frame_len};
use crate::protocol::outbound;

fn frames(texts: &[&str]) -> Bytes {
    let mut out = Vec::new();
    for text in texts {
        frame::push_text(&mut out, &[text.as_bytes()]);
    }
    out.into()
}

const OPEN: Size = Size { frames: usize::MAX, bytes: usize::MAX };

fn bounds(frames: usize, bytes: usize) -> Size {
    Size { frames, bytes }
}

/// The lane of a room whose id is a letter.
fn lane(room: char, slow: SlowConsumer) -> Lane {
    let id = String::from(room).into();
    Lane { key: LaneKey::of_room(room.into()), room: Some(id), slow }
}

#[test]
fn control_frames_overtake_data_between_frames() {
    let (mut queue, room) = (SendQueue::default(), lane('r', SlowConsumer::Close));
    queue.push(&room, Kind::Room, frames(&["one", "two", "three"]), 3, bounds(9, 999)).unwrap();
    queue.push_heartbeat(b"BEAT");
    queue.push_heartbeat(b"BEAT");
    assert_eq!(queue.next(), b"ne");
    queue.advance(1);
    assert_eq!(queue.next(), b"e");
    queue.advance(1);
    assert_eq!(queue.next(), b"BEAT");
    queue.advance(2);
    assert_eq!(queue.next(), b"AT");
    queue.advance(2);
    assert_eq!(queue.next(), b"\x81\x03two\x81\x05three");
    queue.advance(6);
    queue.push_heartbeat(b"BEAT");
    assert_eq!(queue.next(), b"\x05three");
    queue.advance(6);
    assert_eq!(queue.next(), b"BEAT");
    queue.advance(4);
    assert!(queue.is_empty());
}

#[test]
fn frames_and_bytes_are_bounded_for_a_client_that_is_behind() {
    let (mut queue, room) = (SendQueue::default(), lane('r', SlowConsumer::Close));
    queue.push(&room, Kind::Room, frames(&["a", "b"]), 0, bounds(3, 99)).unwrap();
    assert_eq!(queue.push(&room, Kind::Room, frames(&["c", "d"]), 0, bounds(3, 99)), Err(Overflow));
    queue.push(&room, Kind::Room, frames(&["c"]), 0, bounds(3, 99)).unwrap();
    assert_eq!(queue.push(&room, Kind::Room, frames(&["d"]), 0, bounds(4, 11)), Err(Overflow));
    queue.advance(6);
    queue.push(&room, Kind::Room, frames(&["d"]), 0, bounds(3, 99)).unwrap();
    queue.advance(3);
    queue.advance(3);
    assert!(queue.is_empty());
    // A client that was up to date gets a whole burst, however many frames it has.
    queue.push(&room, Kind::Room, frames(&["a", "b", "c", "d", "e"]), 4, bounds(3, 9)).unwrap();
    assert_eq!(queue.push(&room, Kind::Room, frames(&["f"]), 0, bounds(3, 9)), Err(Overflow));
}

#[test]
fn a_frame_that_has_begun_is_finished() {
    let (mut queue, room) = (SendQueue::default(), lane('r', SlowConsumer::Close));
    queue.push(&room, Kind::Room, frames(&["one", "two"]), 3, bounds(9, 99)).unwrap();
    queue.drop_data();
    queue.push_last(b"LAST".to_vec());
    assert_eq!(queue.next(), b"ne");
    queue.advance(2);
    assert_eq!(queue.next(), b"LAST");
}

fn frame_of(event: &str) -> String {
    format!(r#"{{"event":"{event}"}}"#)
}

/// Payloads of all that waits.
fn drain(queue: &mut SendQueue) -> Vec<String> {
    let mut wire = Vec::new();
    while !queue.is_empty() {
        wire.extend_from_slice(queue.next());
        queue.advance(queue.next().len());
    }
    texts(&wire)
}

fn texts(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let (frame, others) = bytes.split_at(frame_len(bytes));
        texts.push(String::from_utf8(frame::payload(frame).to_vec()).unwrap());
        bytes = others;
    }
    texts
}

#[test]
fn the_older_half_is_dropped_but_not_a_frame_that_has_begun() {
    let (mut queue, room) = (SendQueue::default(), lane('r', SlowConsumer::DropOldest));
    let bounds = bounds(6, 999);
    queue.push(&room, Kind::Room, frames(&["a", "b", "c"]), 1, bounds).unwrap();
    queue.push(&room, Kind::Own, frames(&["mine"]), 0, bounds).unwrap();
    queue.push(&room, Kind::Room, frames(&["d", "e"]), 0, bounds).unwrap();
    assert_eq!(queue.push(&room, Kind::Room, frames(&["f"]), 0, bounds), Ok(4));
    // The rest of "a", and then what is left.
    queue.advance(2);
    let lagged = |n| outbound::lagged("r", n);
    assert_eq!(drain(&mut queue), [lagged(2), "mine".into(), lagged(2), "f".into()]);
}

#[test]
fn what_does_not_fit_is_dropped() {
    let (mut queue, room) = (SendQueue::default(), lane('r', SlowConsumer::DropNewest));
    let bounds = bounds(8, 999);
    queue.push(&room, Kind::Room, frames(&["a", "b", "c"]), 0, bounds).unwrap();
    assert_eq!(queue.push(&room, Kind::Room, frames(&["d", "e", "f", "g", "h"]), 0, bounds), Ok(2));
    assert_eq!(queue.push(&room, Kind::Room, frames(&["i"]), 0, bounds), Ok(1));
    // There is room left for the client's own frames, but not for more than that.
    queue.push(&room, Kind::Own, frames(&["mine", "too"]), 0, bounds).unwrap();
    assert_eq!(queue.push(&room, Kind::Own, frames(&["more"]), 0, bounds), Err(Overflow));
    assert_eq!(drain(&mut queue), ["a", "b", "c", "d", "e", "f", &outbound::lagged("r", 3), "mine", "too"]);
}

#[test]
fn the_latest_of_each_event_is_kept() {
    let (mut queue, room) = (SendQueue::default(), lane('r', SlowConsumer::Latest));
    let bounds = bounds(6, 999);
    let [tea, oil] = [frame_of("tea"), frame_of("oil")];
    queue.push(&room, Kind::Room, frames(&[&tea, &oil, &tea, &oil, "no JSON"]), 0, bounds).unwrap();
    assert_eq!(queue.push(&room, Kind::Room, frames(&[&oil, &oil]), 0, bounds), Ok(4));
    let lagged = |n| outbound::lagged("r", n);
    assert_eq!(drain(&mut queue), [lagged(2), tea, lagged(1), "no JSON".into(), lagged(1), oil.clone()]);
    // Where all differ, the older ones go.
    let many: Vec<String> = (0..9).map(|n| frame_of(&format!("e{n}"))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    queue.push(&room, Kind::Room, frames(&many), 0, bounds).unwrap();
    assert_eq!(queue.push(&room, Kind::Room, frames(&[&oil]), 0, bounds), Ok(7));
    assert_eq!(drain(&mut queue), [&lagged(7), many[7], many[8], &oil]);
}

#[test]
fn gaps_are_not_announced_to_plain_clients() {
    let mut queue = SendQueue::default();
    let room = Lane { slow: SlowConsumer::DropOldest, ..Lane::own() };
    let bounds = bounds(2, 999);
    queue.push(&room, Kind::Room, frames(&["a", "b"]), 0, bounds).unwrap();
    assert_eq!(queue.push(&room, Kind::Room, frames(&["c"]), 0, bounds), Ok(2));
    assert_eq!(drain(&mut queue), ["c"]);
}

#[test]
fn the_clients_own_frames_can_be_too_much() {
    for slow in [SlowConsumer::DropOldest, SlowConsumer::DropNewest, SlowConsumer::Latest] {
        let (mut queue, room) = (SendQueue::default(), lane('r', slow));
        let bounds = bounds(3, 999);
        queue.push(&room, Kind::Own, frames(&["a", "b", "c"]), 0, bounds).unwrap();
        assert_eq!(queue.push(&room, Kind::Own, frames(&["d"]), 0, bounds), Err(Overflow), "{slow:?}");
    }
}

proptest! {
    /// Whatever is dropped, frames come whole and in order, all of the client's own come, and the
    /// gaps are exactly what the client is told.
    #[test]
    fn a_gap_counts_what_was_dropped(
        slow in prop::sample::select(vec![
            SlowConsumer::DropOldest, SlowConsumer::DropNewest, SlowConsumer::Latest,
        ]),
        steps in prop::collection::vec(
            (any::<bool>(), prop::collection::vec((0usize..200, 0u8..4), 1..6), 0usize..600),
            1..60,
        ),
    ) {
        let (bounds, most) = (bounds(20, 2000), bounds(21, 2050));
        let (mut queue, room) = (SendQueue::default(), lane('r', slow));
        let (mut seq, mut lost, mut own, mut wire) = (0u64, 0u64, 0u64, Vec::new());
        let mut failed = false;
        let mut take = |queue: &mut SendQueue, mut n: usize| {
            while n > 0 && !queue.is_empty() {
                let part = queue.next().len().min(n);
                wire.extend_from_slice(&queue.next()[..part]);
                queue.advance(part);
                n -= part;
            }
        };
        for (is_own, sizes, n) in steps {
            let (mut texts, begin) = (Vec::new(), seq);
            for (size, event) in sizes {
                let pad = "x".repeat(size);
                let text = if is_own {
                    format!(r#"{{"own":{},"after":{seq},"pad":"{pad}"}}"#, own + texts.len() as u64)
                } else {
                    seq += 1;
                    format!(r#"{{"event":"e{event}","seq":{seq},"pad":"{pad}"}}"#)
                };
                texts.push(text);
            }
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let (was_empty, kind) =
                (queue.data.is_none(), if is_own { Kind::Own } else { Kind::Room });
            match queue.push(&room, kind, frames(&texts), 0, bounds) {
                Ok(n) => lost += n,
                Err(Overflow) => {
                    prop_assert!(is_own);
                    (seq, failed) = (begin, true);
                    break;
                }
            }
            own += texts.len() as u64 * u64::from(is_own);
            // Notices come on top.
            prop_assert!(was_empty || queue.size().fits(most));
            take(&mut queue, n);
        }
        take(&mut queue, usize::MAX);
        prop_assert!(queue.data.is_none());
        let (mut at, mut told, mut owns) = (0u64, 0u64, 0u64);
        for text in texts(&wire) {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            if let Some(missed) = value["missed"].as_u64() {
                at += missed;
                told += missed;
            } else if let Some(n) = value["own"].as_u64() {
                prop_assert_eq!((n, value["after"].as_u64()), (owns, Some(at)));
                owns += 1;
            } else {
                at += 1;
                prop_assert_eq!(value["seq"].as_u64(), Some(at));
            }
        }
        // Of a push that failed, and ends the connection, a part may have been queued.
        if failed {
            prop_assert!(told >= lost && at >= seq && owns >= own);
        } else {
            prop_assert_eq!((told, at, owns), (lost, seq, own));
        }
    }
}

proptest! {
    /// However the socket takes the bytes, whole frames come out: all data in order, and all
    /// control frames in order.
    #[test]
    fn any_cut_gives_whole_frames_in_order(
        sizes in prop::collection::vec((0usize..300, 1usize..4), 1..12),
        takes in prop::collection::vec((1usize..200, any::<bool>()), 1..60),
    ) {
        let (mut queue, room) = (SendQueue::default(), lane('r', SlowConsumer::Close));
        let (mut sent, mut controls, mut wire) = (Vec::new(), 0u8, Vec::new());
        let mut id = 0u32;
        for (size, n) in sizes {
            let mut batch = Vec::new();
            for _ in 0..n {
                let text = format!("D{id}{}", "x".repeat(size));
                frame::push_text(&mut batch, &[text.as_bytes()]);
                sent.push(text);
                id += 1;
            }
            queue.push(&room, Kind::Room, batch.into(), 0, OPEN).unwrap();
        }
        let mut turn = takes.iter().cycle();
        while !queue.is_empty() {
            let &(take, control) = turn.next().unwrap();
            if control && controls < 20 {
                queue.push_control(&frame::text(format!("C{controls}").as_bytes()));
                controls += 1;
            }
            let next = queue.next();
            let n = take.min(next.len());
            wire.extend_from_slice(&next[..n]);
            queue.advance(n);
        }
        prop_assert!(queue.data.is_none());
        let (mut data, mut got_controls) = (Vec::new(), 0);
        let mut bytes = &wire[..];
        while !bytes.is_empty() {
            let len = frame_len(bytes);
            let head = if len > 127 { 4 } else { 2 };
            let text = String::from_utf8(bytes[head..len].to_vec()).unwrap();
            match text.as_bytes()[0] {
                b'D' => data.push(text),
                _ => {
                    prop_assert_eq!(text, format!("C{got_controls}"));
                    got_controls += 1;
                }
            }
            bytes = &bytes[len..];
        }
        prop_assert_eq!(data, sent);
        prop_assert_eq!(got_controls, controls);
    }
}
