//! Sessions that clients can resume on any node.

#![cfg_attr(not(feature = "redis"), allow(dead_code, reason = "only Redis needs all of it"))]

use std::time::Duration;

use bytes::Bytes;

use crate::broker::{RemoteMember, Stamp};
use crate::ids::{ConnectionId, RoomId};

/// A resume token as other processes know it: its hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash(Box<str>);

impl TokenHash {
    pub(crate) fn new(text: impl Into<Box<str>>) -> TokenHash {
        TokenHash(text.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A session that is to be kept in the broker.
#[derive(Debug, Clone)]
pub(crate) struct NewSession {
    pub(crate) id: ConnectionId,
    pub(crate) token: TokenHash,
    /// The user, who alone can resume it.
    pub(crate) user: Option<Box<str>>,
    /// How long it is kept once its node is gone.
    pub(crate) window: Duration,
}

/// The session that a member belongs to.
#[derive(Debug, Clone)]
pub(crate) struct MemberSession {
    pub(crate) token: TokenHash,
    pub(crate) window: Duration,
    pub(crate) generation: u64,
}

/// A session of this node as the broker keeps it.
#[derive(Debug, Clone)]
pub(crate) struct KeptSession {
    pub(crate) id: ConnectionId,
    pub(crate) token: TokenHash,
    /// How many times nodes have taken it over, plus one. What a node says has no effect if it has heard of another
    /// number, even if the session is on this node again.
    pub(crate) generation: u64,
}

/// A session that this node has taken over, from another one or from itself.
#[derive(Debug, Clone)]
pub(crate) struct TakenSession {
    pub(crate) id: ConnectionId,
    /// Its new token.
    pub(crate) token: TokenHash,
    /// How many times it was taken over, plus one.
    pub(crate) generation: u64,
    pub(crate) user: Option<Box<str>>,
    pub(crate) members: Vec<TakenMember>,
}

/// A member of a session that was taken over.
#[derive(Debug, Clone)]
pub(crate) struct TakenMember {
    pub(crate) room: RoomId,
    pub(crate) member: RemoteMember,
    /// The body of its enter.
    pub(crate) body: Bytes,
    /// That of its enter.
    pub(crate) entered: Stamp,
    /// Where the room was when the session was taken over.
    pub(crate) stamp: Stamp,
}

/// Why a session was not taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// There is no such session, or its token has changed.
    Unknown,
    OtherUser,
    /// The broker cannot be reached.
    Unavailable,
}
