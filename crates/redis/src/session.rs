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
    /// Creates a session. A client that knows its token can resume it; `token` is a hash of the token. No other session
    /// of any node may ever have the same id. If the node that has the session is gone, the session's members stay in
    /// their rooms for the window.
    pub fn new(token: impl Into<Box<str>>, id: impl Into<Box<str>>, window: Duration) -> Session {
        Session { token: token.into(), id: id.into(), user: Box::default(), window, generation: 1 }
    }

    /// Sets the user. Only this user can resume the session.
    pub fn user(self, user: impl Into<Box<str>>) -> Session {
        Session { user: user.into(), ..self }
    }

    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the hash of its token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Sets how many times nodes have taken it over, plus one: [`Resumed::generation`]. Default: 1.
    pub fn taken_over(self, generation: u64) -> Session {
        Session { generation, ..self }
    }

    /// Returns the user, who alone can resume it; empty if it has none.
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
    /// What the other members may know about it.
    pub profile: Profile,
    /// Whether it is not in the roster.
    pub is_hidden: bool,
    /// The body of its enter.
    pub body: Bytes,
    /// The stamp of its enter.
    pub entered: Stamp,
    /// The room's position when the session was taken over. The node receives the events after it.
    pub stamp: Stamp,
}
