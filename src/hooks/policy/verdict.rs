//! The room policy's decision on a message.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use crate::config::Keep;
use crate::error::SendError;
use crate::hooks::policy::BoxFuture;
use crate::hooks::user::Denied;
use crate::protocol::host_frame;

/// What happens to a message. Returned by [`RoomPolicy::may_send`](crate::RoomPolicy::may_send).
#[derive(Debug)]
pub struct Verdict {
    pub(crate) decision: Decision,
    /// `None` for the default.
    pub(crate) keep: Option<Keep>,
}

pub(crate) enum Decision {
    Now(Ruling),
    Later(BoxFuture<'static, Verdict>),
}

pub(crate) enum Ruling {
    Allow,
    Replace(String),
    Drop,
    Refuse(Denied),
}

/// Leaves out the message.
impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Decision::Now(Ruling::Allow) => "Allow",
            Decision::Now(Ruling::Replace(_)) => "Replace",
            Decision::Now(Ruling::Drop) => "Drop",
            Decision::Now(Ruling::Refuse(_)) => "Refuse",
            Decision::Later(_) => "Later",
        })
    }
}

impl Verdict {
    /// Sends the message unchanged.
    pub fn allow() -> Verdict {
        Verdict::now(Ruling::Allow)
    }

    /// Sends another message instead. Like any other message, it gets `name` and `num`, and in `chat-rooms.v1` the
    /// original's `cid`. Its own event decides whether it is
    /// [transient](crate::ChatRoomsBuilder::transient_events).
    ///
    /// # Errors
    ///
    /// If the value does not serialize to a JSON object with a string `event`.
    pub fn replace(value: &impl Serialize) -> Result<Verdict, SendError> {
        Ok(Verdict::now(Ruling::Replace(host_frame::serialize(value)?)))
    }

    /// Drops the message without telling the sender.
    pub fn drop_silently() -> Verdict {
        Verdict::now(Ruling::Drop)
    }

    /// Drops the message and sends the sender an error `denied` with a reason.
    pub fn refuse(reason: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict::now(Ruling::Refuse(Denied::new(reason)))
    }

    /// Decides later, for example after a query. Meanwhile the connection's next messages wait, so that their order is
    /// kept. Other members are not delayed.
    ///
    /// If the client closes or loses its connection meanwhile, the message is published all the same, and the member leaves
    /// the room afterwards. If the session ends for another reason, for example because it is kicked, the future is
    /// dropped.
    ///
    /// If the future takes longer than [`hook_timeout`](crate::Timeouts::hook_timeout), it is dropped, and the sender gets
    /// an error `internal`.
    ///
    /// ```
    /// use tower_chat_rooms::{ChatRooms, MessageRequest, RoomPolicy, Verdict};
    ///
    /// struct Moderated;
    ///
    /// impl RoomPolicy for Moderated {
    ///     fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
    ///         let Some(text) = request.text() else { return Verdict::allow() };
    ///         let text = text.into_owned();
    ///         Verdict::later(async move {
    ///             if is_harmless(&text).await { Verdict::allow() } else { Verdict::refuse("rejected") }
    ///         })
    ///     }
    /// }
    ///
    /// async fn is_harmless(text: &str) -> bool {
    ///     !text.contains("spam")
    /// }
    ///
    /// ChatRooms::builder().policy(Moderated).build().unwrap();
    /// ```
    pub fn later(verdict: impl Future<Output = Verdict> + Send + 'static) -> Verdict {
        Verdict { decision: Decision::Later(Box::pin(verdict)), keep: None }
    }

    /// Chooses when the message is stored, instead of the builder's [`keep`](crate::ChatRoomsBuilder::keep). This has
    /// no effect without a [store](crate::ChatRoomsBuilder::store), and for direct messages and transient events.
    ///
    /// ```
    /// use tower_chat_rooms::{Keep, MessageRequest, RoomPolicy, Verdict};
    ///
    /// struct NoReactions;
    ///
    /// impl RoomPolicy for NoReactions {
    ///     fn may_send(&self, request: &MessageRequest<'_>) -> Verdict {
    ///         match request.event() {
    ///             "reaction" => Verdict::allow().keep(Keep::Never),
    ///             _ => Verdict::allow(),
    ///         }
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn keep(self, keep: Keep) -> Verdict {
        Verdict { keep: Some(keep), ..self }
    }

    fn now(ruling: Ruling) -> Verdict {
        Verdict { decision: Decision::Now(ruling), keep: None }
    }
}
