//! Selects the messages among a room's earlier frames.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::protocol::frame::{frame_len, payload};
use crate::protocol::inbound::event_of;

/// Copies the last `n` messages from these chunks of whole frames, in order. Enters and leaves are not messages. Also
/// returns the number of copied messages.
pub(crate) fn last_messages(chunks: &[Bytes], n: usize) -> (Bytes, usize) {
    let mut last = VecDeque::new();
    for chunk in chunks.iter().rev() {
        let wanted = n - last.len();
        if wanted == 0 {
            break;
        }
        let messages = messages_in(chunk);
        for frame in messages.into_iter().rev().take(wanted) {
            last.push_front(frame);
        }
    }
    let mut copy = Vec::with_capacity(last.iter().map(|frame| frame.len()).sum());
    last.iter().for_each(|frame| copy.extend_from_slice(frame));
    (copy.into(), last.len())
}

fn messages_in(mut chunk: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while !chunk.is_empty() {
        let (frame, rest) = chunk.split_at(frame_len(chunk));
        if is_message(frame) {
            messages.push(frame);
        }
        chunk = rest;
    }
    messages
}

fn is_message(frame: &[u8]) -> bool {
    let event = std::str::from_utf8(payload(frame)).ok().and_then(event_of);
    event.is_some_and(|event| event != "enter" && event != "out")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::push_text;

    fn chunk(texts: &[&str]) -> Bytes {
        let mut bytes = Vec::new();
        texts.iter().for_each(|text| push_text(&mut bytes, &[text.as_bytes()]));
        bytes.into()
    }

    #[test]
    fn the_last_messages_without_enters_and_leaves() {
        let [a, b, c] = ["a", "b", "c"].map(|event| format!(r#"{{"event":"{event}","message":"enter"}}"#));
        let (enter, out) = (r#"{"message":"x","event":"enter"}"#, r#"{"event":"out"}"#);
        let chunks = [chunk(&[&a, enter]), chunk(&[enter, out, &b, &c, out])];
        for (n, want) in
            [(0, vec![]), (2, vec![&b, &c]), (3, vec![&a, &b, &c]), (usize::MAX, vec![&a, &b, &c])]
        {
            let (messages, len) = last_messages(&chunks, n);
            let texts: Vec<&str> = want.iter().map(|text| text.as_str()).collect();
            assert_eq!((messages, len), (chunk(&texts), want.len()));
        }
    }
}
