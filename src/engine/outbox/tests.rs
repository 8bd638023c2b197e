use proptest::prelude::*;

use super::*;
use crate::protocol::frame;

fn frames(texts: &[&str]) -> Bytes {
    let mut out = Vec::new();
    for text in texts {
        frame::push_text(&mut out, &[text.as_bytes()]);
    }
    out.into()
}

const OPEN: Bounds =
    Bounds { frames: usize::MAX, bytes: usize::MAX, slow: SlowConsumer::Close, tells: true };

fn bounds(frames: usize, bytes: usize) -> Bounds {
    Bounds { frames, bytes, ..OPEN }
}

#[test]
fn control_passes_data_at_the_next_frame() {
    let mut outbox = Outbox::default();
    outbox.push(Kind::Room, frames(&["one", "two", "three"]), 3, &bounds(9, 999)).unwrap();
    outbox.push_beat(b"BEAT");
    outbox.push_beat(b"BEAT");
    assert_eq!(outbox.next(), b"ne");
    outbox.advance(1);
    assert_eq!(outbox.next(), b"e");
    outbox.advance(1);
    assert_eq!(outbox.next(), b"BEAT");
    outbox.advance(2);
    assert_eq!(outbox.next(), b"AT");
    outbox.advance(2);
    assert_eq!(outbox.next(), b"\x81\x03two\x81\x05three");
    outbox.advance(6);
    outbox.push_beat(b"BEAT");
    assert_eq!(outbox.next(), b"\x05three");
    outbox.advance(6);
    assert_eq!(outbox.next(), b"BEAT");
    outbox.advance(4);
    assert!(outbox.is_empty());
}

#[test]
fn bounds_hold_in_frames_and_bytes_for_who_is_behind() {
    let mut outbox = Outbox::default();
    outbox.push(Kind::Room, frames(&["a", "b"]), 0, &bounds(3, 99)).unwrap();
    assert_eq!(outbox.push(Kind::Room, frames(&["c", "d"]), 0, &bounds(3, 99)), Err(Overflow));
    outbox.push(Kind::Room, frames(&["c"]), 0, &bounds(3, 99)).unwrap();
    assert_eq!(outbox.push(Kind::Room, frames(&["d"]), 0, &bounds(4, 11)), Err(Overflow));
    outbox.advance(6);
    outbox.push(Kind::Room, frames(&["d"]), 0, &bounds(3, 99)).unwrap();
    outbox.advance(3);
    outbox.advance(3);
    assert!(outbox.is_empty());
    // Who was not behind gets what was said at once, however many frames it is.
    outbox.push(Kind::Room, frames(&["a", "b", "c", "d", "e"]), 4, &bounds(3, 9)).unwrap();
    assert_eq!(outbox.push(Kind::Room, frames(&["f"]), 0, &bounds(3, 9)), Err(Overflow));
}

#[test]
fn a_frame_that_was_begun_is_finished_whatever_happens() {
    let mut outbox = Outbox::default();
    outbox.push(Kind::Room, frames(&["one", "two"]), 3, &bounds(9, 99)).unwrap();
    outbox.drop_data();
    outbox.push_last(b"LAST".to_vec());
    assert_eq!(outbox.next(), b"ne");
    outbox.advance(2);
    assert_eq!(outbox.next(), b"LAST");
}

proptest! {
    /// However the socket takes the bytes, whole frames come out: all data in order, and all
    /// control frames in order.
    #[test]
    fn any_cut_gives_whole_frames_in_order(
        sizes in prop::collection::vec((0usize..300, 1usize..4), 1..12),
        takes in prop::collection::vec((1usize..200, any::<bool>()), 1..60),
    ) {
        let mut outbox = Outbox::default();
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
            outbox.push(Kind::Room, batch.into(), 0, &OPEN).unwrap();
        }
        let mut turn = takes.iter().cycle();
        while !outbox.is_empty() {
            let &(take, control) = turn.next().unwrap();
            if control && controls < 20 {
                outbox.push_control(&frame::text(format!("C{controls}").as_bytes()));
                controls += 1;
            }
            let next = outbox.next();
            let n = take.min(next.len());
            wire.extend_from_slice(&next[..n]);
            outbox.advance(n);
        }
        prop_assert_eq!((outbox.bytes, outbox.frames, outbox.rest), (0, 0, 0));
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
