//! Frames, rooms and a socket as the benches need them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::config::{Limits, UniqueNames};
use super::ids::{ConnectionId, Name};
use super::protocol::inbound::Inbound;
use super::protocol::outbound::Head;
use super::protocol::wire::{Epoch, Wire};
use super::protocol::{frame, outbound};
use super::room::room::{Member, Room};

/// Rooms without a history don't look at the time.
pub(crate) const NOW: Duration = Duration::ZERO;

pub(crate) const MAX_DEPTH: usize = 64;

/// 64 bytes of text, as in the yardstick.
pub(crate) const MESSAGE: &str =
    r#"{"event":"message","message":"The quick brown fox jumps over the lazy dog and over the cat ..."}"#;
pub(crate) const ENTER: &str = r#"{"event":"enter","message":"Ann","roomId":"lobby"}"#;
pub(crate) const PONG: &str = r#"{"event":"heartbeat","message":"pong"}"#;
/// The keys that are the server's have to be cut out of it.
pub(crate) const FORGED: &str = r#"{"event":"message","message":"It was not me","name":"Bob","num":1}"#;

/// A message with 4 KiB of text.
pub(crate) fn long_message() -> String {
    format!(r#"{{"event":"message","message":"{}"}}"#, "x".repeat(4096))
}

/// A text frame as a client sends it, masked.
pub(crate) fn from_client(text: &str) -> Vec<u8> {
    let key = [0x12, 0x34, 0x56, 0x78];
    let plain = frame::text(text.as_bytes());
    let (header, payload) = plain.split_at(plain.len() - text.len());
    let mut bytes = header.to_vec();
    bytes[1] |= 0x80;
    bytes.extend(key);
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// What each frame of a member gets appended.
pub(crate) fn tail() -> Box<str> {
    outbound::name_and_num("Ann")
}

/// Parses a message and queues it for its room.
pub(crate) fn relay<L>(text: &str, tail: &str, room: &mut Room<L>) {
    match Inbound::parse(text, MAX_DEPTH) {
        Ok(Inbound::Say(say)) => room.say(&say.body.head(tail), NOW),
        _ => panic!("not a message: {text}"),
    }
}

pub(crate) fn member<L>(id: u64, link: L) -> Member<L> {
    let name = Name::parse("Ann", Limits::default().name()).expect("a good name");
    Member { id: ConnectionId(id), name, user: None, wire: Wire::Plain, link }
}

/// Takes somebody in, as his enter does.
pub(crate) fn join<L>(room: &mut Room<L>, member: Member<L>, tail: &str) -> u64 {
    let body = &ENTER[..ENTER.len() - 1];
    room.join(member, usize::MAX, &Head { plain: body, v1: body, tail }, NOW)
        .expect("the room takes everybody")
}

/// A room in which nothing waits to be delivered.
pub(crate) fn room_of(members: u64) -> Room<()> {
    let (mut room, tail) = (Room::new(Epoch(1), None, UniqueNames::Off), tail());
    for id in 0..members {
        join(&mut room, member(id, ()), &tail);
    }
    room.take();
    room
}

/// A socket that takes everything and gives the same bytes at each second read.
pub(crate) struct Socket {
    gives: Arc<[u8]>,
    has_given: bool,
}

impl Socket {
    pub(crate) fn new(gives: &[u8]) -> Socket {
        Socket { gives: gives.into(), has_given: false }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.has_given = !self.has_given;
        if !self.has_given {
            return Poll::Pending;
        }
        buf.put_slice(&self.gives);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
