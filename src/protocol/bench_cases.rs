//! What the benches measure of the wire.

use std::hint::black_box;

use crate::protocol::frame::{self, Boundary};
use crate::protocol::inbound::{Inbound, Publish};
use crate::protocol::subprotocol::Subprotocol;

const MAX_DEPTH: usize = 64;

/// A message with 64 bytes of text.
pub const MESSAGE: &str =
    r#"{"event":"message","message":"The quick brown fox jumps over the lazy dog and over the cat ..."}"#;

/// A client enters a room.
pub const ENTER: &str = r#"{"event":"enter","message":"Ann","roomId":"lobby"}"#;

/// The answer to a heartbeat.
pub const PONG: &str = r#"{"event":"heartbeat","message":"pong"}"#;

/// A message whose last two keys have to be cut out.
pub const FORGED: &str = r#"{"event":"message","message":"It was not me","name":"Bob","num":1}"#;

/// A message with 4 KiB of text.
pub fn long_message() -> String {
    format!(r#"{{"event":"message","message":"{}"}}"#, "x".repeat(4096))
}

/// The answer to a heartbeat is parsed.
pub fn pong() -> impl FnMut() {
    || {
        assert_eq!(
            black_box(Inbound::parse(black_box(PONG), Subprotocol::Plain, MAX_DEPTH)),
            Ok(Inbound::Pong)
        )
    }
}

/// A frame is parsed.
pub fn parse(text: &str) -> impl FnMut() {
    move || assert!(black_box(Inbound::parse(black_box(text), Subprotocol::Plain, MAX_DEPTH)).is_ok())
}

/// A payload of this many bytes is put in a frame.
pub fn encode(bytes: usize) -> impl FnMut() {
    let (payload, mut out) = (vec![b'x'; bytes], Vec::new());
    move || {
        out.clear();
        frame::push_text(&mut out, &[black_box(&payload), b"7", b"}"]);
    }
}

/// The headers of a client's frame are followed.
pub fn boundary(text: &str) -> impl FnMut() {
    let (bytes, mut boundary) = (masked(text), Boundary::default());
    move || {
        boundary.advance(black_box(&bytes));
        assert!(boundary.is_clean());
    }
}

pub(crate) fn parse_message(text: &str) -> Publish<'_> {
    match Inbound::parse(text, Subprotocol::Plain, MAX_DEPTH) {
        Ok(Inbound::Publish(message)) => message,
        _ => panic!("not a message: {text}"),
    }
}

/// A text frame as a client sends it, masked.
pub(crate) fn masked(text: &str) -> Vec<u8> {
    let key = [0x12, 0x34, 0x56, 0x78];
    let plain = frame::text(text.as_bytes());
    let (header, payload) = plain.split_at(plain.len() - text.len());
    let mut bytes = header.to_vec();
    bytes[1] |= 0x80;
    bytes.extend(key);
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}
