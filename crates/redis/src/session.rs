//! Resumable sessions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::member::Profile;
use crate::stamp::Stamp;

/// A session that can be resumed on any node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Session {
    token: Box<str>,
    id: Box<str>,
    user: Box<str>,
    window: Duration,
    generation: u64,
}

impl Session {
    /// A session that whoever knows the token can resume: `token` is a hash of it. No other session of any node may ever
    /// have the same id. If the node that has the session is gone, its members stay in their rooms for the window.
    pub fn new(token: impl Into<Box<str>>, id: impl Into<Box<str>>, window: Duration) -> Session {
        Session { token: token.into(), id: id.into(), user: Box::default(), window, generation: 1 }
    }

    /// The user, who alone can resume it.
    pub fn user(self, user: impl Into<Box<str>>) -> Session {
        Session { user: user.into(), ..self }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The hash of its token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Sets how many times nodes have taken it over, plus one: [`Resumed::generation`]. Default: 1.
    pub fn taken_over(self, generation: u64) -> Session {
        Session { generation, ..self }
    }

    /// The user, who alone can resume it; empty if it has none.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn set_user(&mut self, user: Box<str>) {
        self.user = user;
    }

    pub(crate) fn set_token(&mut self, token: Box<str>) {
        self.token = token;
    }

    pub(crate) fn window(&self) -> Duration {
        self.window
    }
}

/// A session that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// The session, with its new token.
    pub session: Session,
    /// How many times nodes have taken it over, plus one.
    pub generation: u64,
    /// Its members.
    pub memberships: Vec<ResumedMembership>,
}

/// A member that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResumedMembership {
    /// The room.
    pub room: Arc<str>,
    /// The member.
    pub member: Box<str>,
    /// What the others may know of it.
    pub profile: Profile,
    /// Whether it is not in the roster.
    pub is_hidden: bool,
    /// The body of its enter.
    pub body: Bytes,
    /// That of its enter.
    pub entered: Stamp,
    /// Where the room was when the session was taken over. The node hears what follows.
    pub stamp: Stamp,
}
