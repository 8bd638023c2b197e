//! A room's earlier messages, from its frames and from the store.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::ids::{ConnectionId, MessageId, RoomId};
use crate::protocol::frame::{frame_len, payload};
use crate::protocol::inbound::{Body, event_of};
use crate::protocol::json::quote;
use crate::protocol::outbound::room_key;

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

/// The messages in these chunks that have an id, each as an object.
pub(crate) fn messages_with_ids(chunks: &[Bytes]) -> impl Iterator<Item = (MessageId, Box<str>)> {
    chunks.iter().flat_map(|chunk| messages_in(chunk)).filter_map(|frame| {
        let text = std::str::from_utf8(payload(frame)).ok()?;
        Some((id_of(text)?, text.into()))
    })
}

/// The ids of the messages in these chunks.
pub(crate) fn ids(chunks: &[Bytes]) -> impl Iterator<Item = MessageId> {
    let texts = chunks.iter().flat_map(|chunk| messages_in(chunk)).map(payload);
    texts.filter_map(|text| id_of(std::str::from_utf8(text).ok()?))
}

fn id_of(text: &str) -> Option<MessageId> {
    let keys: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).ok()?;
    MessageId::from_u64(keys.get("id")?.get().parse().ok()?)
}

/// A message that was stored, as an object of `chat-rooms.v1`, without `num` and `seq`, which are not stored. `None` if the
/// body is not an object with an event.
pub(crate) fn encode(
    room: &RoomId,
    id: MessageId,
    name: Option<&str>,
    member: Option<ConnectionId>,
    body: &str,
) -> Option<Box<str>> {
    event_of(body)?;
    let body = Body::of_host_for_member(body)?.in_room(room);
    let name = name.map_or(String::new(), |name| format!(r#","name":{}"#, quote(name)));
    let member = member.map_or(String::new(), |id| format!(r#","member":"{id}""#));
    Some(format!(r#"{body}{name}{member},"id":{id}}}"#).into())
}

/// `{"event":"history",...}`: the answer to a request for messages, each of which is an object.
pub(crate) fn answer<'a>(
    room: &str,
    cid: Option<&str>,
    messages: impl Iterator<Item = &'a str>,
    has_more: bool,
) -> String {
    let cid = cid.map_or(String::new(), |cid| format!(r#","cid":{}"#, quote(cid)));
    let list = list(messages);
    format!(r#"{{"event":"history"{}{cid}{list},"more":{has_more}}}"#, room_key(room))
}

/// `,"messages":[...]`
pub(crate) fn list<'a>(messages: impl Iterator<Item = &'a str>) -> String {
    let mut list = String::from(r#","messages":["#);
    for (n, message) in messages.enumerate() {
        if n > 0 {
            list.push(',');
        }
        list.push_str(message);
    }
    list.push(']');
    list
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
